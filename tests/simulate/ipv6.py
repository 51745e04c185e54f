"""The VMs of tests/ipv6_world.py, and the IPv6 packets that they send."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from ipaddress import IPv6Address

from flows.fabric import Fabric, Journey
from flows.ipv6 import LINK_LOCAL, eui64
from flows.packet import Packet, packet
from flows.pipeline import GATEWAY_LINK_LOCAL, GATEWAY_MAC
from flows.protocols import (
    ETH_IPV6,
    ICMPV6_ECHO_REPLY,
    ICMPV6_ECHO_REQUEST,
    ND_ADVERTISEMENT,
    ND_OVERRIDE,
    ND_SOLICITATION,
    ND_SOLICITED,
    PROTO_ICMPV6,
    PROTO_TCP,
    PROTO_UDP,
)
from flows.snapshot import Snapshot
from flows.view import mac_to_int
from tests.ipv6_world import ROUTER_MAC, ipv6_cloud

ROUTER = mac_to_int(ROUTER_MAC)
SERVER6 = int(IPv6Address("2001:db8:f::7"))
ALL_NODES = int(IPv6Address("ff02::1"))
ALL_ROUTERS = int(IPv6Address("ff02::2"))
DHCP_SERVERS = int(IPv6Address("ff02::1:2"))
_SOLICITED_NODE = int(IPv6Address("ff02::1:ff00:0"))


def ip6(text: str) -> int:
    return int(IPv6Address(text))


def group_mac(address: int) -> int:
    """RFC 2464, 7."""
    return 0x3333_0000_0000 | address & 0xFFFFFFFF


@dataclass(frozen=True)
class Host:
    """A port of the cloud as its VM knows it over IPv6."""

    key: int
    node: str
    ofport: int
    mac: int
    ip: int
    local: int
    network: str

    def frame(self, to: int, mac: int, **fields: int) -> Packet:
        link = {"eth_src": self.mac, "eth_dst": mac, "eth_type": ETH_IPV6}
        return packet(**link | {"ipv6_src": self.ip, "ipv6_dst": to} | fields)

    def udp(self, to: int, mac: int = GATEWAY_MAC, source_port: int = 4000, port: int = 7, **fields: int) -> Packet:
        return self.frame(to, mac, **{"ip_proto": PROTO_UDP, "udp_src": source_port, "udp_dst": port} | fields)

    def tcp(self, to: int, port: int, mac: int = GATEWAY_MAC, **fields: int) -> Packet:
        return self.frame(to, mac, **{"ip_proto": PROTO_TCP, "tcp_src": 4000, "tcp_dst": port} | fields)

    def icmp(self, kind: int, to: int, mac: int = GATEWAY_MAC, **fields: int) -> Packet:
        return self.frame(to, mac, **{"ip_proto": PROTO_ICMPV6, "icmpv6_type": kind} | fields)

    def echo(self, to: int, mac: int = GATEWAY_MAC, id_: int = 1, **fields: int) -> Packet:
        return self.icmp(ICMPV6_ECHO_REQUEST, to, mac, **{"icmp_id": id_} | fields)

    def solicits(self, target: int, **fields: int) -> Packet:
        """To the target's solicited-node group."""
        group = _SOLICITED_NODE | target & 0xFFFFFF
        said = {"nw_ttl": 255, "nd_target": target, "nd_sll": self.mac, "nd_options_type": 1}
        return self.icmp(ND_SOLICITATION, group, group_mac(group), **said | fields)

    def probes(self, target: int, **fields: int) -> Packet:
        """Duplicate address detection (RFC 4862, 5.4)."""
        return self.solicits(target, **{"ipv6_src": 0, "nd_sll": 0, "nd_options_type": 0} | fields)

    def advertises(self, target: int, **fields: int) -> Packet:
        said = {
            "nw_ttl": 255,
            "nd_target": target,
            "nd_tll": self.mac,
            "nd_options_type": 2,
            "nd_reserved": ND_OVERRIDE,
        }
        return self.icmp(ND_ADVERTISEMENT, ALL_NODES, group_mac(ALL_NODES), **said | fields)


@cache
def world6() -> Snapshot:
    return ipv6_cloud()


@cache
def fabric6() -> Fabric:
    return Fabric.of(world6())


def host(key: int, snapshot: Snapshot | None = None) -> Host:
    snapshot = snapshot or world6()
    port = snapshot.ports[f"port-{key}"]
    assert port.binding is not None
    address = int(port.ipv6_addresses[0].address)
    local = int(eui64(LINK_LOCAL, port.mac))
    return Host(key, port.binding.node, port.binding.ofport, mac_to_int(port.mac), address, local, port.network_id)


def send6(sender: Host, sent: Packet, through: Fabric | None = None) -> Journey:
    return (through or fabric6()).send(sender.node, sender.ofport, sent)


def answer_to(seen: Packet, **fields: int) -> Packet:
    """What who got a packet sends back."""
    back = {"eth_src": seen["eth_dst"], "eth_dst": seen["eth_src"]}
    back |= {"ipv6_src": seen["ipv6_dst"], "ipv6_dst": seen["ipv6_src"]}
    if seen["ip_proto"] == PROTO_UDP:
        back |= {"udp_src": seen["udp_dst"], "udp_dst": seen["udp_src"]}
    if seen["ip_proto"] == PROTO_ICMPV6:
        back["icmpv6_type"] = ICMPV6_ECHO_REPLY
    return seen.but(**back | {"nw_ttl": 64} | fields)


def advertisement_to(asker: Host, mac: int, target: int, flags: int = ND_SOLICITED | ND_OVERRIDE) -> Packet:
    """What a solicitation of `asker` is answered with."""
    said = {"nw_ttl": 255, "nd_target": target, "nd_tll": mac, "nd_options_type": 2, "nd_reserved": flags}
    link = {"eth_src": mac, "eth_dst": asker.mac, "eth_type": ETH_IPV6, "ip_proto": PROTO_ICMPV6}
    return packet(**link | {"ipv6_src": target, "ipv6_dst": asker.ip, "icmpv6_type": ND_ADVERTISEMENT} | said)


GATEWAY = GATEWAY_LINK_LOCAL
BLUE_1, BLUE_2, BLUE2_1, BLUE2_2, RED_1, RED_2 = HOSTS = tuple(host(key) for key in (20, 21, 30, 31, 40, 41))
