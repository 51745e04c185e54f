"""The cloud of tests/world.py to send packets through, and the packets that its VMs send."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address

from flows.fabric import Fabric, Journey
from flows.packet import Packet, packet
from flows.pipeline import GATEWAY_MAC
from flows.protocols import ETH_ARP, ETH_IP, PROTO_ICMP, PROTO_UDP
from flows.snapshot import Snapshot
from flows.view import mac_to_int
from tests.world import NEXT_HOP_MAC, cloud

BROADCAST = 0xFFFFFFFFFFFF
SERVER = int(IPv4Address("198.51.100.7"))
PHYSNET, EXTERNAL_PHYSNET = "physnet1", "physnet-ext"
UPLINK, EXTERNAL_UPLINK = 65001, 65002
NEXT_HOP = mac_to_int(NEXT_HOP_MAC)


@dataclass(frozen=True)
class Vm:
    """A port of the cloud as its VM knows it."""

    key: int
    node: str
    ofport: int
    mac: int
    ip: int
    network: str

    def udp(self, to: int, mac: int = GATEWAY_MAC, source_port: int = 4000, port: int = 7, **fields: int) -> Packet:
        return packet(
            **{"eth_src": self.mac, "eth_dst": mac, "eth_type": ETH_IP, "ip_proto": PROTO_UDP}
            | {"ip_src": self.ip, "ip_dst": to, "udp_src": source_port, "udp_dst": port}
            | fields
        )

    def echo(self, to: int, mac: int = GATEWAY_MAC, id_: int = 1, **fields: int) -> Packet:
        return packet(
            **{"eth_src": self.mac, "eth_dst": mac, "eth_type": ETH_IP, "ip_proto": PROTO_ICMP, "icmp_type": 8}
            | {"ip_src": self.ip, "ip_dst": to, "icmp_id": id_}
            | fields
        )

    def arp(self, target: int, **fields: int) -> Packet:
        """A request, unless `fields` say otherwise."""
        return packet(
            **{"eth_src": self.mac, "eth_dst": BROADCAST, "eth_type": ETH_ARP, "arp_op": 1}
            | {"arp_sha": self.mac, "arp_spa": self.ip, "arp_tpa": target}
            | fields
        )

    def dhcp(self, **fields: int) -> Packet:
        return self.udp(0xFFFFFFFF, BROADCAST, 68, 67, ip_src=0, **fields)


@cache
def world() -> Snapshot:
    return cloud()


@cache
def fabric(*, userspace: bool = False) -> Fabric:
    return Fabric.of(world(), userspace=userspace)


def vm(key: int, snapshot: Snapshot | None = None) -> Vm:
    snapshot = snapshot or world()
    port = snapshot.ports[f"port-{key}"]
    assert port.binding is not None
    address = int(port.fixed_ips[0].address)
    return Vm(key, port.binding.node, port.binding.ofport, mac_to_int(port.mac), address, port.network_id)


def send(sender: Vm, sent: Packet, through: Fabric | None = None) -> Journey:
    return (through or fabric()).send(sender.node, sender.ofport, sent)


def reply_to(seen: Packet, **fields: int) -> Packet:
    """What who got a packet sends back."""
    back = {"eth_src": seen["eth_dst"], "eth_dst": seen["eth_src"], "ip_src": seen["ip_dst"], "ip_dst": seen["ip_src"]}
    if seen["ip_proto"] == PROTO_UDP:
        back |= {"udp_src": seen["udp_dst"], "udp_dst": seen["udp_src"]}
    if seen["ip_proto"] == PROTO_ICMP:
        back["icmp_type"] = 0
    return seen.but(**back | {"nw_ttl": 64} | fields)


def error_about(seen: Packet) -> Packet:
    """What a router on the way says when the TTL ends there."""
    link = {"eth_src": seen["eth_dst"], "eth_dst": seen["eth_src"], "eth_type": ETH_IP, "ip_proto": PROTO_ICMP}
    return packet(seen, **link, icmp_type=11, ip_src=ip("192.0.2.1"), ip_dst=seen["ip_src"])


def ip(text: str) -> int:
    return int(IPv4Address(text))


# key 10 * n: host 10 on n1; key 10 * n + 1: host 11 on n2
FLAT_1, FLAT_2, BLUE_1, BLUE_2, BLUE2_1, BLUE2_2, RED_1, RED_2 = VMS = tuple(
    vm(key) for key in (10, 11, 20, 21, 30, 31, 40, 41)
)
