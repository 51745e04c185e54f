"""What tests with several controllers share: traffic that must not notice, and what is cut, stopped or killed."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address

from controller.client import ClientError, Object
from etc.lab import netns
from etc.lab.control import DATABASE_ADDRESS, Control
from etc.lab.lab import Lab
from etc.lab.node import Node
from etc.lab.probes import PingStream, into
from etc.lab.processes import in_parallel, wait_until
from etc.lab.vm import Vm
from tests.netns.cloud import make_network, make_outside, make_vms, program, wait_outside, wait_reached, want
from tests.unit.packet_in.wire import ACK, REQUEST, Message, take_apart

NAMES = ("bob", "pam", "dora")
"""By rendezvous bob has n1 and n3, pam n2; once dora is there she has n3."""

TWO: Mapping[str, str] = {"n1": "bob", "n2": "pam", "n3": "bob"}
THREE: Mapping[str, str] = {"n1": "bob", "n2": "pam", "n3": "dora"}

DEADLINE = 30.0
_RENEW_EVERY = 0.1


@dataclass
class Cloud:
    """`east` on n1 talks to `west` on n2, `snat` on n3 to the outside, and so does `floating` on n1, as `public`."""

    lab: Lab
    network: Object
    vms: dict[str, Vm]
    public: IPv4Address
    floating_ip: Object

    def control(self, name: str) -> Control:
        return next(control for control in self.lab.controls if control.name == name)

    def node(self, name: str) -> Node:
        return self.lab.node(name)

    # what the controllers know

    def living(self) -> Control:
        return next(control for control in self.lab.controls if control.process and control.process.alive())

    def masters(self, control: Control) -> dict[str, str]:
        """Node -> controller, of the nodes that are served, as one controller knows it; none without its database."""
        try:
            nodes = control.client().list_nodes()
        except ClientError:
            return {}
        return {node["name"]: node["controller"] for node in nodes if node["state"] == "live"}

    def wait_masters(self, wanted: Mapping[str, str], *asked: Control, deadline: float = DEADLINE) -> None:
        """Wait until these controllers say so, or all that are alive."""
        alive = [control for control in self.lab.controls if control.process and control.process.alive()]
        for control in asked or alive:
            wait_until(
                lambda: self.masters(control) == wanted,  # noqa: B023
                deadline,
                lambda: f"{control.name} knows {self.masters(control)}",  # noqa: B023
            )

    def flow_mods(self, *controls: Control) -> int:
        """All that these controllers, or those that live, have sent to any node."""
        return sum(int(metric(one, "of_flowmsgs_sent_total")) for one in controls or self.lab.controls if _alive(one))

    # what goes on all the time

    def start_traffic(self) -> list[PingStream]:
        """100 packets a second, or what the machine gives, east-west, by SNAT, and from and to the floating IP."""
        vms, far = self.vms, self.lab.fabric.far_host
        paths: list[tuple[list[str], object, str]] = [
            (into(vms["east"].namespace), vms["west"].address, "east"),
            (into(vms["snat"].namespace), far, "snat"),
            (into(vms["floating"].namespace), far, "from-floating"),
            (into(self.lab.fabric.far), self.public, "to-floating"),
        ]
        wait_reached(vms["east"], vms["west"].address)
        wait_outside(self.lab, vms["snat"], vms["floating"])
        return [PingStream(enter, to, self.lab.directory / f"ping-{name}.log") for enter, to, name in paths]

    @contextmanager
    def traffic(self) -> Iterator[None]:
        """None of it may be lost."""
        streams = self.start_traffic()
        try:
            yield
        finally:
            counts = in_parallel(stream.stop for stream in streams)
        assert all(count.unbroken for count in counts), counts

    @contextmanager
    def unchanged(self, *nodes: Node) -> Iterator[None]:
        """What is installed on the nodes stays as it is, and nobody sends anything to be installed."""
        before = {node.name: program(node) for node in nodes or self.lab.nodes}
        sent = {_process(control): self.flow_mods(control) for control in self.lab.controls if _alive(control)}
        yield
        assert {node.name: program(node) for node in nodes or self.lab.nodes} == before
        for control in self.lab.controls:
            if _alive(control):  # who has begun anew counts from 0
                assert self.flow_mods(control) == sent.get(_process(control), 0), control.name

    # what is done to them

    def start(self, name: str) -> Control:
        control = self.control(name)
        control.start()
        return control

    @contextmanager
    def cut(self, *ends: tuple[str, object]) -> Iterator[None]:
        """Nothing passes from a namespace to an address: (namespace, address) of each direction."""
        for namespace, address in ends:
            netns.configure(namespace, f"route add blackhole {address}/32")
        try:
            yield
        finally:
            for namespace, address in ends:
                netns.configure(namespace, f"route del blackhole {address}/32")

    def between(self, control: Control, node: Node) -> list[tuple[str, object]]:
        return [(control.namespace, node.management.ip), (node.namespace, control.address.ip)]

    def database_of(self, control: Control) -> list[tuple[str, object]]:
        return [(control.namespace, DATABASE_ADDRESS.ip), (f"{self.lab.prefix}-db", control.address.ip)]

    @contextmanager
    def stopped(self, control: Control) -> Iterator[None]:
        assert control.process
        control.process.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            control.process.signal(signal.SIGCONT)


def _alive(control: Control) -> bool:
    return control.process is not None and control.process.alive()


def _process(control: Control) -> int:
    assert control.process
    return control.process.pid


def metric(control: Control, name: str, label: str = "") -> float:
    """The sum of a metric over its labels, or over those whose text holds `label`; 0 while there is none."""
    status, text = control.request("GET", "/metrics")
    assert status == 200, text
    lines = [line for line in str(text).splitlines() if line.startswith((f"{name}{{", f"{name} "))]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if label in line)


def build(lab: Lab) -> Cloud:
    make_outside(lab)
    network = make_network(lab, "net", "10.1.0.0/24", segment=101)
    places = {"east": "n1", "west": "n2", "snat": "n3", "floating": "n1"}
    vms = make_vms(lab, *(want(name, lab.node(node), network) for name, node in places.items()))
    lab.client.create_floating_ip_pool({"name": "public", "network_id": _outside(lab), "ranges": [POOL]})
    port = vms["floating"].port["id"]
    made = lab.client.create_floating_ip({"pool": "public", "project_id": "blue", "port_id": port}).object
    assert made
    public = IPv4Address(made["address"])
    wait_until(
        lambda: lab.client.get_floating_ip(made["id"])["status"] == "active", DEADLINE, "the floating IP is not served"
    )
    return Cloud(lab, network, vms, public, made)


POOL = "203.0.113.150-203.0.113.159"


def _outside(lab: Lab) -> str:
    return next(str(network["id"]) for network in lab.client.list_networks() if network["external"])


class Renewals:
    """A client that renews its lease ten times a second: the longest time without an answer."""

    def __init__(self, vm: Vm) -> None:
        self._vm = vm
        self._stopping = threading.Event()
        self._longest = 0.0
        self._answered = 0
        self._thread = threading.Thread(target=self._run)

    @contextmanager
    def running(self) -> Iterator[Renewals]:
        self._thread.start()
        try:
            yield self
        finally:
            self._stopping.set()
            self._thread.join()

    @property
    def answered(self) -> int:
        return self._answered

    @property
    def longest_gap_s(self) -> float:
        return self._longest

    def wait_answered(self, more: int = 3, deadline: float = DEADLINE) -> None:
        wanted = self._answered + more
        wait_until(lambda: self._answered >= wanted, deadline, "no answer of DHCP")

    def _run(self) -> None:
        with netns.inside(self._vm.namespace):
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        with raw:
            raw.bind(("eth0", 0x0800))
            mac = bytes.fromhex(self._vm.mac.replace(":", ""))
            xid, answered_at = 1, time.monotonic()
            while not self._stopping.is_set():
                xid += 1
                own = self._vm.address
                raw.send(Message(type=REQUEST, mac=mac, xid=xid, ciaddr=own, source=own).frame())
                end = time.monotonic() + _RENEW_EVERY
                while (left := end - time.monotonic()) > 0:
                    if self._acknowledged(raw, left):
                        now = time.monotonic()
                        self._longest = max(self._longest, now - answered_at)
                        answered_at = now
                        self._answered += 1
            self._longest = max(self._longest, time.monotonic() - answered_at)

    @staticmethod
    def _acknowledged(raw: socket.socket, timeout: float) -> bool:
        raw.settimeout(timeout)
        try:
            frame, (_, _, direction, *_) = raw.recvfrom(4096)
        except TimeoutError:
            return False
        is_dhcp = direction != socket.PACKET_OUTGOING and frame[23] == 17 and frame[34:38] == b"\0\x43\0\x44"
        return is_dhcp and take_apart(frame).type == ACK
