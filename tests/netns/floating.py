"""What tests of floating IPs share: pools, association, and conversations in which each side says whom it saw."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import IPv4Address
from typing import NamedTuple

from controller.client import Object
from etc.lab import netns
from etc.lab.access import access_port
from etc.lab.fabric import OUTSIDE_INTERFACE, OUTSIDE_ROUTER
from etc.lab.lab import Lab
from etc.lab.node import Node
from etc.lab.processes import wait_until
from etc.lab.vm import Vm
from flows.pipeline import node_mac
from flows.rules import Rule, decode_cookie
from tests.netns.cloud import installed, make_network, status, who_has

POOL = "203.0.113.150-203.0.113.179"
SECOND_VLAN = 200
SECOND_INTERFACE = "ext1"
SECOND_ROUTER = "198.18.64.1"
SECOND_CIDR = "198.18.64.0/24"
SECOND_POOL = "198.18.64.100-198.18.64.119"

STATES = ("running", "stopped", "restarted")
"""What a data plane must not notice of its controller."""

DEADLINE = 30.0
_ANSWERED = 10.0
_WATCHER = ("02:00:00:00:77:01", "203.0.113.99")
_BIG = 4000
GRE, ESP = 47, 50
_IP_HEADER = 20

KINDS = ("tcp", "udp", "icmp", "fragments", "gre", "esp")


class Place(NamedTuple):
    """Where a conversation begins or ends."""

    namespace: str
    address: IPv4Address


def at(vm: Vm) -> Place:
    return Place(vm.namespace, vm.address)


def far(lab: Lab) -> Place:
    """The host behind the outside router."""
    return Place(lab.fabric.far, lab.fabric.far_host)


def router(lab: Lab) -> Place:
    """The outside router itself."""
    return Place(lab.fabric.outside, OUTSIDE_ROUTER.ip)


def put_controller(lab: Lab, state: str) -> None:
    if state == "stopped":
        lab.control.stop()
        assert not lab.control.healthy()
    elif not lab.control.healthy() or state == "restarted":
        lab.control.restart(kill=True)
        lab.wait_connected()


# the model


def make_pool(lab: Lab, network: Object, name: str = "public", span: str = POOL) -> Object:
    fields = {"name": name, "network_id": network["id"], "ranges": [span]}
    made = lab.client.create_floating_ip_pool(fields).object
    assert made
    return made


@contextmanager
def second_outside(lab: Lab) -> Iterator[Object]:
    """Another external network, on a VLAN of the same wire; the outside router is the router there, too."""
    subnet = {"cidr": SECOND_CIDR, "gateway": SECOND_ROUTER}
    fields = {"project_id": None, "external": True, "dhcp": False, "subnets": [subnet]}
    with access_port(lab, lab.fabric.outside, SECOND_INTERFACE, lab.fabric.external, SECOND_VLAN):
        netns.configure(lab.fabric.outside, f"address add {SECOND_ROUTER}/24 dev {SECOND_INTERFACE}")
        place = {"segment": SECOND_VLAN, "physical_network": lab.fabric.external}
        yield make_network(lab, "second", "", **fields, **place)


def give(lab: Lab, vm: Vm, pool: str = "public", **fields: object) -> Object:
    """A new floating IP that leads to a VM, and that its node has confirmed."""
    written = lab.client.create_floating_ip({"pool": pool, "port_id": vm.port["id"], **fields})
    assert written.object
    lab.confirm(written.revision)
    return written.object


def take(lab: Lab, pool: str = "public", project: str = "blue", **fields: object) -> Object:
    """A new floating IP that leads nowhere."""
    made = lab.client.create_floating_ip({"pool": pool, "project_id": project, **fields}).object
    assert made
    return made


def lead(lab: Lab, floating_ip: Object, vm: Vm | None, *, confirm: bool = True, **fields: object) -> Object:
    written = lab.client.update_floating_ip(
        floating_ip["id"], {"port_id": None if vm is None else vm.port["id"], **fields}
    )
    if confirm:
        lab.confirm(written.revision)
    assert written.object
    return written.object


def mac_of(lab: Lab, node: Node) -> str:
    """A node's MAC on the wire."""
    return node_mac(lab.client.get_node(node.name)["key"]).to_bytes(6).hex(":")


# who has it


def answering(lab: Lab, *addresses: object, interface: str = OUTSIDE_INTERFACE, patience: float = 0.0) -> list[str]:
    """Return the MACs that answer for addresses, asked for by the outside router. `patience` as in `who_has`."""
    own = netns.query(lab.fabric.outside, "address", "show", "dev", interface)[0]
    source = own["addr_info"][0]["local"]
    answers = who_has(lab.fabric.outside, interface, own["address"], source, *addresses, patience=patience)
    return [mac for macs in answers.values() for mac in macs]


def claimants(lab: Lab, floating_ip: Object) -> list[str]:
    """The nodes whose flows answer for a floating IP."""
    wanted = (Rule.FLOATING_ARP, floating_ip["key"])
    return [node.name for node in lab.nodes if any(decode_cookie(flow.cookie) == wanted for flow in installed(node))]


def wait_owner(lab: Lab, floating_ip: Object, node: Node | None) -> None:
    """Wait until one node, or none, answers for a floating IP."""
    macs = [] if node is None else [mac_of(lab, node)]
    wait_until(
        lambda: answering(lab, floating_ip["address"]) == macs,
        DEADLINE,
        lambda: f"{floating_ip['address']} is answered for by {answering(lab, floating_ip['address'])}, not {macs}",
    )


class Watched:
    """Who has answered for an address, again and again."""

    def __init__(self) -> None:
        self.answers: list[tuple[float, frozenset[str]]] = []

    def macs(self) -> set[str]:
        return {mac for _, macs in self.answers for mac in macs}

    def longest_double(self) -> float:
        """Seconds for which two nodes answered without a break."""
        longest, since = 0.0, None
        for at, macs in self.answers:
            since = None if len(macs) < 2 else at if since is None else since
            longest = max(longest, 0.0 if since is None else at - since)
        return longest


@contextmanager
def watch_owners(lab: Lab, address: object) -> Iterator[Watched]:
    """Ask all the time who has an address."""
    watched, over = Watched(), threading.Event()

    def ask() -> None:
        while not over.is_set():
            answers = who_has(lab.fabric.outside, OUTSIDE_INTERFACE, *_WATCHER, address, silence=0.05)
            watched.answers.append((time.monotonic(), frozenset(answers[str(address)])))

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            yield watched
        finally:
            over.set()
        asking.result()


def wait_active(lab: Lab, *vms: Vm) -> None:
    wait_until(lambda: all(status(lab, vm) == "active" for vm in vms), DEADLINE, "VMs are not served")


def connections(node: Node, *addresses: object) -> list[str]:
    """What a node's conntrack knows about all these addresses together."""
    dump = node.ovs.appctl("dpctl/dump-conntrack")
    return [line for line in dump.splitlines() if all(f"={address}," in line for address in addresses)]


# conversations


def talk(client: Place, server: Place, target: object, kind: str, port: int = 0) -> str:
    """Say something to `target` and be answered by it: the address from which the server has heard it.

    `port` is the server's, and the one that the client asks unless `target` is an (address, port).
    """
    address, asked = target if isinstance(target, tuple) else (target, None)
    with ExitStack() as stack:
        if kind == "tcp":
            return _by_tcp(stack, client, server, str(address), port, asked)
        if kind in ("udp", "fragments"):
            return _by_udp(stack, client, server, str(address), port, asked, _BIG if kind == "fragments" else 16)
        return _by_raw(stack, client, server, str(address), kind)


def wait_talk(client: Place, server: Place, target: object, kind: str, seen: object) -> None:
    """Wait until a conversation works and the server hears it from `seen`: what is confirmed is installed, but the
    cache of the datapath may know the old way for a moment longer.
    """

    def heard() -> str:
        with suppress(OSError, AssertionError):
            return talk(client, server, target, kind)
        return ""

    wait_until(lambda: heard() == str(seen), 20, f"not heard from {seen}")


def talks(*each: tuple[Place, Place, object, str]) -> list[str]:
    """Conversations, all at once."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda one: talk(*one), each))


def _socket(stack: ExitStack, place: Place, kind: int, protocol: int = 0, port: int = 0) -> socket.socket:
    with netns.inside(place.namespace):
        it = stack.enter_context(socket.socket(socket.AF_INET, kind, protocol))
    it.settimeout(_ANSWERED)
    it.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    it.bind((str(place.address), port))
    return it


def _by_tcp(stack: ExitStack, client: Place, server: Place, target: str, port: int, asked: int | None) -> str:
    listener = _socket(stack, server, socket.SOCK_STREAM, port=port)
    listener.listen(1)
    connection = _socket(stack, client, socket.SOCK_STREAM)
    connection.connect((target, asked or listener.getsockname()[1]))
    served, (seen, _) = listener.accept()
    stack.enter_context(served)
    served.settimeout(_ANSWERED)
    connection.sendall(b"question")
    assert served.recv(100) == b"question"
    served.sendall(b"answer")
    assert connection.recv(100) == b"answer"
    return str(seen)


def _by_udp(
    stack: ExitStack, client: Place, server: Place, target: str, port: int, asked: int | None, size: int
) -> str:
    question = os.urandom(size)
    listener = _socket(stack, server, socket.SOCK_DGRAM, port=port)
    asking = _socket(stack, client, socket.SOCK_DGRAM)
    asking.connect((target, asked or listener.getsockname()[1]))  # so it hears this one only
    asking.send(question)
    data, peer = listener.recvfrom(65535)
    assert data == question
    listener.sendto(data[::-1], peer)
    assert asking.recv(65535) == question[::-1]
    return str(peer[0])


def _by_raw(stack: ExitStack, client: Place, server: Place, target: str, kind: str) -> str:
    """ICMP echo, which the server's kernel answers, or another IP protocol, which is answered here."""
    protocol = {"icmp": socket.IPPROTO_ICMP, "gre": GRE, "esp": ESP}[kind]
    token = os.urandom(16)
    question, answer = {
        "icmp": (echo_message(8, token), lambda: echo_message(0, token)),
        "gre": (b"\0\0\x08\0" + token, lambda: b"\0\0\x08\0" + token[::-1]),
        "esp": (token, lambda: token[::-1]),
    }[kind]
    heard, asking = (_socket(stack, place, socket.SOCK_RAW, protocol) for place in (server, client))
    asking.sendto(question, (target, 0))
    # the kernel's conntrack translates the id of an echo as it does a port
    same = slice(8, None) if kind == "icmp" else slice(None)
    seen = _receive(heard, lambda data: data[:1] == question[:1] and data[same] == question[same])
    if kind != "icmp":
        heard.sendto(answer(), (seen, 0))
    assert _receive(asking, lambda data: data == answer()) == target
    return seen


def _receive(heard: socket.socket, is_it: Callable[[bytes], bool]) -> str:
    """The source of the packet that is meant, whatever else there is."""
    end = time.monotonic() + _ANSWERED
    while True:
        ready, _, _ = select.select([heard], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            raise TimeoutError("it did not come")
        data, (source, _) = heard.recvfrom(65535)
        if is_it(data[_IP_HEADER:]):
            return str(source)


def echo_message(kind: int, token: bytes) -> bytes:
    """An ICMP message of a type. With the first bytes of the token as id, so that no two conversations share one."""
    body = token[:2] + b"\0\1" + token
    total = sum(int.from_bytes(part) for part in (bytes([kind, 0]), *(body[i : i + 2] for i in range(0, len(body), 2))))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return bytes([kind, 0]) + (0xFFFF - total).to_bytes(2) + body
