"""Storms (threat 7): a VM sends as much as it can of what is flooded, answered in place or dropped.

A VM of another project on the same node hears none of it and loses nothing, and the controller is handed no more than
the port's share. The number is that of the project's list of threats. What the controller answers is flooded in
test_floods.py, IPv6 in test_threats_ipv6.py, the relay in test_threats_slow_clients.py.
"""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

import pytest

from controller.packet_in import frames as product
from etc.lab.processes import wait_until
from flows.pipeline import PORT_PACKET_INS
from flows.protocols import PROTO_TCP
from flows.rules import Rule
from tests.netns import frames
from tests.netns.cloud import metric
from tests.netns.floating import at, far, talk
from tests.netns.flooding import flooding
from tests.netns.frames import GATEWAY, IPV4, arp, mac_of, raw, udp
from tests.netns.hostile import COUNTED, Scene

SECONDS, RATE = 2.0, 5_000
"""Of a storm, and frames a second."""
FAST = 10_000
"""Of a scan, which is to come to its end."""
FEWEST = 1_000
"""Frames without which it was none."""

PROTO_IGMP = 2
IGMP_QUERY, IGMP_REPORT, IGMP_LEAVE = 0x11, 0x16, 0x17  # RFC 2236
ALL_HOSTS, ALL_ROUTERS = IPv4Address("224.0.0.1"), IPv4Address("224.0.0.2")
SYN = 0x02
SCANNED = IPv4Network("10.10.0.0/16")


def group_mac(group: IPv4Address) -> bytes:
    """RFC 1112, 6.4."""
    return b"\x01\x00\x5e" + bytes((group.packed[1] & 0x7F,)) + group.packed[2:]


def igmp(scene: Scene, kind: int, to: IPv4Address, group: IPv4Address, eth_dst: bytes | None = None) -> bytes:
    """With a TTL of 1, as they all have."""
    body = struct.pack("!BBH4s", kind, 10, 0, group.packed)
    body = body[:2] + product.checksum(body).to_bytes(2) + body[4:]
    frame = frames.packet(scene.attacker, to, PROTO_IGMP, body, eth_dst=eth_dst or group_mac(to))
    return last_hop(frame)


def last_hop(frame: bytes) -> bytes:
    """The same with a TTL of 1, with room for no more."""
    return frames.sound(frame[:22] + b"\1" + frame[23:])


def igmp_storm(scene: Scene) -> list[bytes]:
    groups = [IPv4Address("239.0.0.0") + number * 257 for number in range(200)]
    reports = [igmp(scene, IGMP_REPORT, group, group) for group in groups]
    leaves = [igmp(scene, IGMP_LEAVE, ALL_ROUTERS, group) for group in groups]
    return [*reports, *leaves, igmp(scene, IGMP_QUERY, ALL_HOSTS, IPv4Address(0))]


def last_hops(scene: Scene) -> list[bytes]:
    """To hosts outside, of other networks and of none, and to groups: all of them end at the gateway."""
    groups = [IPv4Address("239.0.0.0") + number for number in range(200)]
    hosts = [scene.lab.fabric.far_host, scene.public, scene.stranger.address, IPv4Address("198.18.0.9")]
    targets = itertools.product(hosts, range(33434, 33484))  # as traceroute does
    traced = [last_hop(udp(scene.attacker, host, (9, port), eth_dst=GATEWAY)) for host, port in targets]
    return traced + [igmp(scene, IGMP_REPORT, group, group, GATEWAY) for group in groups]


def arp_scan(scene: Scene) -> list[bytes]:
    """Every address of a /16."""
    return [arp(scene.attacker, 1, scene.attacker.address, target) for target in SCANNED]


def syn(scene: Scene, to: IPv4Address, source: int, port: int) -> bytes:
    head = struct.pack("!HHIIBBHHH", source, port, 1, 0, 5 << 4, SYN, 65535, 0, 0)
    ends = scene.attacker.address.packed + to.packed
    total = product.checksum(ends + struct.pack("!HH", PROTO_TCP, len(head)) + head)
    return frames.packet(scene.attacker, to, PROTO_TCP, head[:16] + total.to_bytes(2) + head[18:], eth_dst=GATEWAY)


def syn_flood(scene: Scene) -> list[bytes]:
    """To ports of the gateway's at which nothing listens."""
    gateway = scene.gateway
    return [syn(scene, gateway, source, port) for source in range(1024, 1524) for port in (22, 80, 179, 443)]


def unknown_unicast(scene: Scene) -> list[bytes]:
    """To MAC addresses that no port has, each as good as another."""
    macs = (b"\x02\x66" + os.urandom(4) for _ in range(1000))
    return [raw(scene.attacker, IPV4, udp(scene.attacker, scene.remote.address)[14:], eth_dst=mac) for mac in macs]


def forged(scene: Scene) -> list[bytes]:
    """By MACs and addresses that are not the port's own, each another one: none has a flow of the datapath already."""
    target = scene.remote.address
    macs = (b"\x02\x67" + os.urandom(4) for _ in range(5000))
    sources = (IPv4Address("198.18.0.0") + number * 13 for number in range(5000))
    return [
        *(udp(scene.attacker, target, eth_src=mac) for mac in macs),
        *(udp(scene.attacker, target, source=source, eth_dst=mac_of(scene.remote)) for source in sources),
    ]


def port_scan(scene: Scene) -> list[bytes]:
    """Of a neighbour behind the router. With the scan of hosts these are fewer connections than a port may have."""
    return [udp(scene.attacker, scene.stranger.address, (9, port), eth_dst=GATEWAY) for port in range(1, 6_000)]


def host_scan(scene: Scene) -> list[bytes]:
    """Of the world."""
    hosts = (IPv4Address("198.18.0.0") + number * 11 for number in range(6_000))
    return [udp(scene.attacker, host, (9, 9), eth_dst=GATEWAY) for host in hosts]


@dataclass(frozen=True)
class Storm:
    """What becomes of it: `rule` counts it, by the key that `key` finds; the port's meter drops it, which the port's
    counters show; or it is flooded in its network.
    """

    frames: Callable[[Scene], Sequence[bytes]]
    rule: Rule | None = None
    key: Callable[[Scene], int] = lambda _: 0
    metered: bool = False
    seconds: float = SECONDS
    rate: float = RATE


STORMS = {
    "igmp": Storm(igmp_storm),
    "ttl of 1": Storm(last_hops, metered=True),
    "arp scan": Storm(arp_scan, seconds=SCANNED.num_addresses / FAST, rate=FAST),
    "syn": Storm(syn_flood, Rule.DROP_GATEWAY, lambda scene: scene.network_key),
    "forged": Storm(forged, Rule.DROP_SPOOFED, lambda scene: scene.key, rate=FAST),
    "port scan": Storm(port_scan, rate=FAST),
    "host scan": Storm(host_scan, rate=FAST),
    "unknown unicast": Storm(unknown_unicast, Rule.DROP_UNKNOWN_UNICAST),
}


@pytest.mark.parametrize("name", STORMS)
def test_threat_07_a_storm_stays_in_its_network(scene: Scene, name: str) -> None:
    storm, victim = STORMS[name], scene.foreigner
    attack = storm.frames(scene)
    exceeded, handed = over(scene), metric(scene.lab, "trunkline_packet_ins_total")
    dropped = counted(scene, storm)
    scene.clear()
    with flooding(scene.attacker, attack, storm.seconds, storm.rate) as flood:
        pinged = victim.ping(scene.lab.fabric.far_host, count=20)
        # what is new to the switch has its turn, too
        seen = {talk(at(victim), far(scene.lab), scene.lab.fabric.far_host, "udp", 7300 + n) for n in range(10)}
    assert flood.sent >= FEWEST and pinged.lost == 0 and seen == {str(scene.public)}
    heard = [frame for frame in scene.taps["foreigner"].frames() if frame[6:12] == mac_of(scene.attacker)]
    assert not heard, frames.describe(heard)
    rate, burst = PORT_PACKET_INS
    assert metric(scene.lab, "trunkline_packet_ins_total") - handed < burst + rate * (storm.seconds + 2)
    if storm.rule is not None:
        wait_until(
            lambda: counted(scene, storm) - dropped >= flood.sent / 2,
            COUNTED,
            lambda: f"{counted(scene, storm) - dropped} of {flood.sent} frames",
        )
    if storm.metered:
        wait_until(lambda: over(scene) - exceeded >= flood.sent / 2, COUNTED, "what was too much is counted")
    scene.answered()


def counted(scene: Scene, storm: Storm) -> int:
    """By the storm's drop, on all nodes."""
    if storm.rule is None:
        return 0
    return sum(frames.drops(node)[storm.rule, storm.key(scene)] for node in scene.lab.nodes)


def over(scene: Scene) -> int:
    """Packets beyond the attacker's share of the controller."""
    return int(scene.lab.client.get_port_counters(scene.attacker.port["id"])["exceeded"]["packet_in"])
