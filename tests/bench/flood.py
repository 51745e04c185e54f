"""What a VM that floods costs another VM of its node: round trips to a third one, and the answer of DHCP.

Quiet and flooded take turns. With fewer cores than the datapath, the flooder, the others and the controller want, the
flooder's own work is part of what is measured.
"""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from dnslib import DNSRecord

from etc.lab import netns
from etc.lab.lab import Lab
from etc.lab.processes import wait_until
from etc.lab.vm import INTERFACE, Vm
from flows.ipv6 import LINK_LOCAL, eui64
from flows.protocols import DNS_PORT, ND_HOP_LIMIT, ND_ROUTER_SOLICITATION
from flows.rules import Rule
from flows.view import mac_to_int
from tests.bench.dhcp import XID, discover
from tests.bench.echo import Echo
from tests.bench.figures import Figure, median_ms, percentile_ms
from tests.bench.ports import make_network
from tests.netns import frames
from tests.netns.flooding import flooding
from tests.ovs.frames import encode
from tests.simulate.ipv6 import GATEWAY, Host, group_mac, ip6

RATE = 30_000
SECONDS = 4.0
ROUNDS = 3
INTERVAL_S = 0.01
DHCP_EVERY = 10  # echo requests
LOST_AFTER_S = 0.5
UNKNOWN = bytes.fromhex("fa163effff01")
CLOSED_PORT = 9
DOMAIN = "bench.example"
TAKEN = 0.5
"""Of the frames that are sent: with fewer the switch was not flooded, and nothing was measured."""


@dataclass(frozen=True)
class Scene:
    attacker: Vm
    neighbour: Vm
    observer: Vm
    peer: Vm
    gateway: IPv4Address


@dataclass
class Seen:
    """Seconds; what did not come back is counted as if it had come when it was given up."""

    pings: list[float] = field(default_factory=list)
    dhcp: list[float] = field(default_factory=list)
    lost: int = 0


@dataclass(frozen=True)
class Compared:
    """`dhcp`: seconds, while there was a flood; `sent`: frames of it."""

    ping_ratio: float
    dhcp: list[float]
    sent: int


def _closed_port(scene: Scene) -> list[bytes]:
    return [_datagram(scene, 40000)]


def _connections(scene: Scene) -> list[bytes]:
    """Each is another connection to conntrack."""
    return [_datagram(scene, port) for port in range(20000, 60000)]


def _datagram(scene: Scene, port: int) -> bytes:
    to = frames.mac_of(scene.neighbour)
    return frames.udp(scene.attacker, scene.neighbour.address, (port, CLOSED_PORT), eth_dst=to)


def _arp(scene: Scene) -> list[bytes]:
    return [frames.arp(scene.attacker, 1, scene.attacker.address, scene.gateway)]


def _dhcp(scene: Scene) -> list[bytes]:
    return [bytes(discover(frames.mac_of(scene.attacker)))]


def _last_hop(scene: Scene) -> list[bytes]:
    sent = frames.udp(scene.attacker, "198.51.100.9", eth_dst=frames.GATEWAY)
    return [frames.sound(sent[:22] + b"\1" + sent[23:])]


def _unknown_unicast(scene: Scene) -> list[bytes]:
    return [frames.udp(scene.attacker, scene.neighbour.address, eth_dst=UNKNOWN)]


def _dns(scene: Scene) -> list[bytes]:
    """For a name that is known here, and each for another one."""
    names = [f"n{number}.{DOMAIN}" for number in range(500)]
    asked = [bytes(DNSRecord.question(name).pack()) for name in names]
    return [
        frames.udp(scene.attacker, scene.gateway, (40000, DNS_PORT), message, eth_dst=frames.GATEWAY)
        for message in asked
    ]


def _neighbour_solicitation(scene: Scene) -> list[bytes]:
    """For the gateway, and for nobody in particular."""
    sender = _ipv6(scene.attacker)
    return [encode(sender.solicits(target)) for target in (GATEWAY, *(sender.ip ^ number for number in range(1, 200)))]


def _router_solicitation(scene: Scene) -> list[bytes]:
    sender = _ipv6(scene.attacker)
    routers, mac = ip6("ff02::2"), group_mac(ip6("ff02::2"))
    return [encode(sender.icmp(ND_ROUTER_SOLICITATION, routers, mac, nw_ttl=ND_HOP_LIMIT, ipv6_src=sender.local))]


def _ipv6(vm: Vm) -> Host:
    (address,) = vm.ipv6_addresses
    local = int(eui64(LINK_LOCAL, vm.mac))
    network = str(vm.port["network_id"])
    return Host(int(vm.port["key"]), vm.node.name, 0, mac_to_int(vm.mac), int(address), local, network)


KINDS: Mapping[str, Callable[[Scene], Sequence[bytes]]] = {
    "closed_port": _closed_port,
    "connections": _connections,
    "arp": _arp,
    "dhcp": _dhcp,
    "ttl": _last_hop,
    "unknown_unicast": _unknown_unicast,
    "dns": _dns,
    "nd": _neighbour_solicitation,
    "rs": _router_solicitation,
}
VICTIMS = frozenset({"dhcp", "dns", "arp", "nd", "rs"})
"""What is asked of the node itself, or of the controller."""


def run() -> Iterator[Figure]:
    with Lab("bench", nodes=1, open_groups=True) as lab:
        lab.wait_connected()
        scene = _scene(lab)
        observe(scene, 1.0)
        victims: list[float] = []
        for kind, make in KINDS.items():
            before = _taken(scene)
            compared = _compared(kind, scene, make(scene))
            _require_flooded(kind, scene, before, compared.sent)
            yield Figure(f"flood_ping_p99_ratio_{kind}", compared.ping_ratio, "ratio")
            yield Figure(f"flood_dhcp_ms_{kind}", median_ms(compared.dhcp), "ms")
            if kind in VICTIMS:
                victims.append(percentile_ms(compared.dhcp, 99))
        if victims:
            yield Figure("flood_victim_dhcp_p99_ms", max(victims), "ms")


def _taken(scene: Scene) -> int:
    """Frames of the attacker's port that have come to the switch's tables so far."""
    return frames.packets(scene.attacker.node)[Rule.CLASSIFY_PORT, int(scene.attacker.port["key"])]


def _require_flooded(kind: str, scene: Scene, before: int, sent: int) -> None:
    def taken() -> float:
        return (_taken(scene) - before) / sent

    wait_until(lambda: taken() > TAKEN, 5, lambda: f"{kind}: the switch took only {taken():.0%} of {sent} frames")
    print(f"   {kind}: {sent} frames, of which the switch took about {taken():.0%}")


def _compared(kind: str, scene: Scene, attack: Sequence[bytes]) -> Compared:
    quiet, flooded, sent = [], [], []
    for _ in range(ROUNDS):
        for seen, what in ((quiet, nullcontext()), (flooded, flooding(scene.attacker, attack, SECONDS + 1, RATE))):
            with what as flood:
                seen.append(observe(scene, SECONDS))
            if flood is not None:
                sent.append(flood.sent)
    ratios = [
        percentile_ms(there.pings, 99) / percentile_ms(base.pings, 99)
        for base, there in zip(quiet, flooded, strict=True)
    ]
    rate = statistics.median(sent) / (SECONDS + 1)
    for name, all_seen in (("quiet", quiet), (f"{rate:.0f} frames a second", flooded)):
        p50, p99 = (statistics.median(percentile_ms(seen.pings, part) for seen in all_seen) for part in (50, 99))
        answers = [took for seen in all_seen for took in seen.dhcp]
        print(
            f"   {kind}, {name}: ping p50 {p50:.2f} p99 {p99:.2f} ms; DHCP p50 {median_ms(answers):.2f} "
            f"p99 {percentile_ms(answers, 99):.2f} ms; lost {sum(seen.lost for seen in all_seen)}"
        )
    print(f"   {kind}: p99 ratios {', '.join(f'{ratio:.2f}' for ratio in ratios)}")
    answers = [took for seen in flooded for took in seen.dhcp]
    return Compared(statistics.median(ratios), answers, sum(sent))


def observe(scene: Scene, seconds: float) -> Seen:
    """Pings all the time, and a DISCOVER now and then, well within what a port may ask."""
    seen = Seen()
    frame = discover(frames.mac_of(scene.observer))
    with netns.inside(scene.observer.namespace):
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(frames.IPV4))
    with raw, Echo(scene.observer.namespace, scene.peer.address) as echo:
        raw.bind((INTERFACE, frames.IPV4))
        end = time.perf_counter() + seconds
        number = 0
        while (began := time.perf_counter()) < end:
            number += 1
            echo.send(number)
            seen.lost += not echo.answered(LOST_AFTER_S)
            seen.pings.append(time.perf_counter() - began)
            if number % DHCP_EVERY == 0:
                began = time.perf_counter()
                seen.lost += not _offered(raw, frame, number)
                seen.dhcp.append(time.perf_counter() - began)
            time.sleep(max(0.0, INTERVAL_S - (time.perf_counter() - began)))
    return seen


def _offered(raw: socket.socket, frame: bytearray, xid: int) -> bool:
    frame[XID : XID + 4] = xid.to_bytes(4)
    raw.send(frame)
    end = time.perf_counter() + LOST_AFTER_S
    while (left := end - time.perf_counter()) > 0:
        raw.settimeout(left)
        try:
            reply = raw.recv(2048)
        except TimeoutError:
            return False
        if frames.is_dhcp(reply, 67, 68) and reply[XID : XID + 4] == frame[XID : XID + 4]:
            return True
    return False


def _scene(lab: Lab) -> Scene:
    subnets = [{"cidr": "10.215.0.0/16"}, {"cidr": "2001:db8:215::/64", "ipv6_mode": "slaac"}]
    network = make_network(lab, "flood", 215, subnets=subnets, dns_domain=DOMAIN)
    names = ("attacker", "neighbour", "observer", "peer")
    vms = [lab.create_vm(name, lab.nodes[0], network, project_id="bench") for name in names]
    routers = [vm.wait_configured().router for vm in vms]
    assert routers[0]
    for vm in vms:
        vm.stop_client()
    return Scene(*vms, routers[0])
