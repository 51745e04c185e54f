"""What tests on several nodes share: networks and VMs of a laboratory, its flows, and sockets inside its namespaces."""

from __future__ import annotations

import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from controller.client import Object
from etc.lab import netns
from etc.lab.capture import ETHERTYPE_IPV4, ICMP, Capture, Seen
from etc.lab.fabric import EXTERNAL_NETWORK, OUTSIDE_ROUTER, QUIET
from etc.lab.lab import Lab
from etc.lab.node import Node
from etc.lab.openvswitch import datapath_type
from etc.lab.probes import LAST_ANSWER
from etc.lab.processes import in_parallel, wait_until
from etc.lab.vm import Vm
from flows.pipeline import GATEWAY_MAC, Table
from flows.rules import Rule, decode_cookie

SHORT_LEASE = 20 if datapath_type() == "netdev" else 60
"""Seconds: a controller starts within half of them, which takes it longer in a guest. dhcpcd takes no less for good."""

LEARNED = (Table.REMOTE_NEXT_HOP, Table.EXTERNAL_NEIGHBOUR, Table.AWAKE)
ANYCAST_MAC = GATEWAY_MAC.to_bytes(6).hex(":")
_ETH_P_ALL = 3  # packet(7)
_FLOW = re.compile(r"cookie=(0x[0-9a-f]+), .*table=(\d+), n_packets=(\d+), .*?priority=(\d+)(\S*) actions=(.*)")


# the model


def make_network(lab: Lab, name: str, cidr: str, gateway: str | None = None, **fields: object) -> Object:
    """A network of project blue on physnet1, unless `fields` say otherwise; VLAN if they name a segment."""
    defaults: dict[str, object] = {
        "name": name,
        "project_id": "blue",
        "kind": "vlan" if "segment" in fields else "flat",
        "physical_network": "physnet1",
        "subnets": [{"cidr": cidr, **({"gateway": gateway} if gateway else {})}],
    }
    written = lab.client.create_network(defaults | fields)
    assert written.object
    return written.object


def make_outside(lab: Lab) -> Object:
    """The external network of the laboratory's outside world."""
    pool = {"first": str(EXTERNAL_NETWORK[100]), "last": str(EXTERNAL_NETWORK[199])}
    subnets = [{"cidr": str(EXTERNAL_NETWORK), "gateway": str(OUTSIDE_ROUTER.ip), "allocation_ranges": [pool]}]
    return make_network(
        lab,
        "outside",
        "",
        project_id=None,
        external=True,
        dhcp=False,
        physical_network=lab.fabric.external,
        subnets=subnets,
    )


@dataclass(frozen=True)
class Wanted:
    """A VM to be made. `fields` are more of its port's."""

    name: str
    node: Node
    network: Object
    fields: Object


def want(name: str, node: Node, network: Object, **fields: object) -> Wanted:
    return Wanted(name, node, network, fields)


def make_vms(lab: Lab, *wanted: Wanted, client: str | None = "udhcpc") -> dict[str, Vm]:
    """VMs by name, all with their leases, and confirmed by their nodes. Without a `client` they have no addresses."""
    in_parallel(partial(_make_vm, lab, each, client) for each in wanted)
    vms = {each.name: lab.vms[each.name] for each in wanted}
    if client:
        for each in wanted:
            vms[each.name].wait_configured(router=each.network["gateway_mode"] != "none")
    wait_until(lambda: all(status(lab, vm) == "active" for vm in vms.values()), 20, "VMs are not served")
    return vms


def _make_vm(lab: Lab, wanted: Wanted, client: str | None) -> None:
    namespace = f"{lab.prefix}-{wanted.name}"
    netns.create(namespace)
    netns.set_sysctl(namespace, QUIET)  # nothing of its own accord, so that what a counter shows is the test's
    fields = {"project_id": wanted.network["project_id"] or "blue", **wanted.fields}
    lab.create_vm(wanted.name, wanted.node, wanted.network["id"], client=client, **fields)


def status(lab: Lab, vm: Vm) -> str:
    return str(lab.client.get_port(vm.port["id"])["status"])


def gateway_of(lab: Lab, node: Node, network: Object) -> str | None:
    """The address that a node holds as the gateway of a network."""
    held = {each["network_id"]: str(each["address"]) for each in lab.client.get_node(node.name)["gateways"]}
    return held.get(network["id"])


def wait_reached(vm: Vm, address: object, deadline: float = 20) -> None:
    """Wait until a VM gets an answer from an address."""
    wait_until(lambda: vm.ping(address, count=1, wait=0.3).answered, deadline, f"{vm.name} does not reach {address}")


def wait_outside(lab: Lab, *vms: Vm) -> None:
    """Wait until the VMs' nodes have resolved their next hop."""
    for vm in vms:
        wait_reached(vm, lab.fabric.far_host)


@contextmanager
def unbroken(*paths: tuple[Vm, object]) -> Iterator[None]:
    """100 packets a second, or what the machine gives, from each VM to its address: none may be lost."""
    for vm, address in paths:
        wait_reached(vm, address)
    streams = [vm.ping_stream(address) for vm, address in paths]
    try:
        yield
    finally:
        counts = in_parallel(stream.stop for stream in streams)
    assert all(count.unbroken for count in counts), counts


def reset_address(vm: Vm, address: object, router: object) -> None:
    """Give a guest whose interface is new what it had before, without asking anybody."""
    vm.stop_client()
    vm.set_address(str(address), router)


def metric(lab: Lab, name: str, label: str = "") -> float:
    """The sum of a metric over its labels, or over those whose text holds `label`."""
    status, text = lab.control.request("GET", "/metrics")
    assert status == 200, text
    lines = [line for line in str(text).splitlines() if line.startswith((f"{name}{{", f"{name} "))]
    assert lines, f"there is no metric {name}: 0 would mean nothing"
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if label in line)


# flows


@dataclass(frozen=True)
class Installed:
    """A flow as a switch shows it."""

    cookie: int
    table: int
    packets: int
    priority: int
    match: str
    actions: str


def installed(node: Node) -> list[Installed]:
    """The flows of a node, without those learned from traffic."""
    dump = node.ovs.ofctl("dump-flows", "br-int")
    found = [_FLOW.search(line) for line in dump.splitlines() if "actions=" in line]
    assert found and all(found), dump
    flows = [
        Installed(int(it[1], 16), int(it[2]), int(it[3]), int(it[4]), it[5].strip(","), it[6]) for it in found if it
    ]
    return [flow for flow in flows if flow.table not in LEARNED]


def program(node: Node) -> list[str]:
    """What is installed, cookies and the stamp included, but for what was learned from traffic."""
    return [line for line in node.ovs.flows() if not any(f", table={table}," in line for table in LEARNED)]


def delete_flow(node: Node, rule: Rule, text: str) -> str:
    """As somebody may by hand: the first flow of that rule whose line has the text. Returns the line."""
    (line, *_) = [line for line in program(node) if text in line and _rule_of(line) is rule]
    node.ovs.ofctl("del-flows", "br-int", f"{line.partition(',')[0]}/-1")
    return line


def _rule_of(line: str) -> Rule | None:
    decoded = decode_cookie(int(line.partition(",")[0].partition("=")[2], 16))
    return None if decoded is None else decoded[0]


def wait_revalidated(node: Node) -> None:
    """Until all that the datapath has cached agrees with the flows that are there now."""
    for _ in range(2):  # the first look at the cache may have begun before
        node.ovs.appctl("revalidator/wait")


def drops(node: Node) -> Counter[tuple[Rule, int]]:
    """Packets dropped so far, by rule and key of the object. Also those that only the datapath has counted yet."""
    node.ovs.appctl("revalidator/wait")
    counts: Counter[tuple[Rule, int]] = Counter()
    for flow in installed(node):
        rule = decode_cookie(flow.cookie)
        if flow.actions == "drop" and rule and rule[0] is not Rule.STAMP:
            counts[rule] += flow.packets
    return counts


def wait_dropped(
    node: Node, before: Counter[tuple[Rule, int]], rule: Rule, packets: int, key: int | None = None
) -> None:
    """Wait until a drop, of one object or of any, has counted so many more."""

    def counted() -> int:
        more = drops(node) - before
        return sum(count for (name, of), count in more.items() if name is rule and key in (None, of))

    wait_until(
        lambda: counted() >= packets,
        20,
        lambda: f"{packets} x {rule.name} {key or ''}; what was dropped: {drops(node) - before}",
        interval=0.1,
    )


# captures


def saw(watched: Capture, condition: Callable[[Seen], bool], count: int = 1) -> list[Seen]:
    """At least `count` such frames. What passed before them has been seen as well by then."""
    return wait_until(
        lambda: found if len(found := watched.seen(condition)) >= count else None,
        20,
        lambda: f"{count} frames; those seen: {watched.seen()}",
    )


def echo(frame: Seen) -> bool:
    return frame.protocol == ICMP and frame.ethertype == ETHERTYPE_IPV4 and frame.icmp_type in (0, 8)


def request(frame: Seen) -> bool:
    return echo(frame) and frame.icmp_type == 8


# sockets in a namespace, used by the test itself


@contextmanager
def udp(namespace: str, address: object = "0.0.0.0", port: int = 0) -> Iterator[socket.socket]:
    with netns.inside(namespace):
        it = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with it:
        it.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        it.settimeout(5)
        it.bind((str(address), port))
        yield it


@contextmanager
def tcp(namespace: str, address: object = "0.0.0.0", port: int = 0) -> Iterator[socket.socket]:
    with netns.inside(namespace):
        it = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with it:
        it.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        it.settimeout(10)
        it.bind((str(address), port))
        yield it


def send_frames(vm: Vm, frame: bytes, count: int = 1) -> None:
    """Put raw Ethernet frames on a VM's interface."""
    with netns.inside(vm.namespace):
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    with raw:
        raw.bind(("eth0", 0))
        for _ in range(count):
            raw.send(frame)


def resolve(vm: Vm, *addresses: object, patience: float = LAST_ANSWER) -> dict[str, list[str]]:
    """Return the MAC addresses that answer ARP for each address. `patience` as in `who_has`; 0: no answer may come."""
    return who_has(vm.namespace, "eth0", vm.mac, vm.address, *addresses, patience=patience)


def who_has(
    namespace: str,
    interface: str,
    own_mac: str,
    own_address: object,
    *addresses: object,
    silence: float = 0.3,
    patience: float = 0.0,
) -> dict[str, list[str]]:
    """Return the MAC addresses that answer ARP for each address, until `silence` seconds after the last answer; while
    an address has none, until `patience` seconds. Answers to others do not count, nor one answer for each time that the
    kernel of the namespace itself asks meanwhile.
    """
    answers: dict[str, list[str]] = {str(address): [] for address in addresses}
    asked_by_kernel: Counter[str] = Counter()
    with netns.inside(namespace):
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    with raw, suppress(TimeoutError):
        raw.bind((interface, _ETH_P_ALL))
        for address in addresses:
            raw.send(_arp_request(own_mac, own_mac, own_address, address))
        end = time.monotonic() + max(silence, patience)
        while (left := end - time.monotonic()) > 0:
            raw.settimeout(left)
            frame, (_, protocol, direction, *_) = raw.recvfrom(2048)
            if protocol != 0x0806:
                continue
            if direction == socket.PACKET_OUTGOING:  # not what this socket sent
                asked_by_kernel[socket.inet_ntoa(frame[38:42])] += frame[20:22] == b"\0\1"
                continue
            sender = socket.inet_ntoa(frame[28:32])
            if frame[20:22] == b"\0\2" and frame[32:38] == mac(own_mac) and sender in answers:
                answers[sender].append(frame[22:28].hex(":"))
                quiet = time.monotonic() + silence
                end = quiet if all(answers.values()) else max(end, quiet)
    return {address: macs[: max(1, len(macs) - asked_by_kernel[address])] for address, macs in answers.items()}


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def packed(address: Any) -> bytes:
    return socket.inet_aton(str(address))


def udp_frame(
    vm: Vm, target: object, *, eth_dst: str = ANYCAST_MAC, eth_src: str | None = None, source: object = None
) -> bytes:
    """A UDP datagram from a VM to port 9, to send as a raw frame; without a UDP checksum, which may be zero."""
    payload = b"to be dropped, or not"
    header = bytearray(b"\x45\0" + (28 + len(payload)).to_bytes(2) + b"\0\0\0\0\x40\x11\0\0")
    header += packed(source or vm.address) + packed(target)
    header[10:12] = (0xFFFF - _ones_sum(header)).to_bytes(2)
    datagram = b"\x30\x39\0\x09" + (8 + len(payload)).to_bytes(2) + b"\0\0" + payload
    return mac(eth_dst) + mac(eth_src or vm.mac) + b"\x08\0" + bytes(header) + datagram


def arp_frame(vm: Vm, target: object, *, sender: object = None, sender_mac: str | None = None) -> bytes:
    """An ARP request from a VM (RFC 826), to send as a raw frame."""
    return _arp_request(vm.mac, sender_mac or vm.mac, sender or vm.address, target)


def _arp_request(eth_src: str, sender_mac: str, sender: object, target: object) -> bytes:
    body = b"\0\1\x08\0\x06\x04\0\1" + mac(sender_mac) + packed(sender) + bytes(6)
    return b"\xff" * 6 + mac(eth_src) + b"\x08\x06" + body + packed(target)


def _ones_sum(data: bytes | bytearray) -> int:
    total = sum(int.from_bytes(data[index : index + 2]) for index in range(0, len(data), 2))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total
