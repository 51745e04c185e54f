"""Frames that a VM might send, most of them hostile: for hypothesis, and by dice for the many."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from flows.packet import Packet, packet
from flows.pipeline import GATEWAY_MAC, METADATA_ADDRESS, ROUTED_GROUP_MAC, carrier_address, node_mac
from flows.protocols import ETH_ARP, ETH_IP, PROTO_ICMP, PROTO_TCP, PROTO_UDP
from tests.simulate.cloud import BROADCAST, NEXT_HOP, SERVER, VMS, Vm, ip, world

Pick = Callable[[Sequence[int], int], int]
"""One of some interesting values, or any of so many bits (0: none but those)."""

_MACS = [vm.mac for vm in VMS]
_MACS += [
    node_mac(1),
    node_mac(2),
    GATEWAY_MAC,
    ROUTED_GROUP_MAC,
    BROADCAST,
    NEXT_HOP,
    0x01005E000001,
    0x0180C200000E,
    0,
]
_ADDRESSES = [vm.ip for vm in VMS] + [carrier_address(vm.key) for vm in VMS]
_ADDRESSES += [SERVER, ip("203.0.113.11"), ip("203.0.113.12")]
_ADDRESSES += [int(held.address) for node in world().nodes.values() for held in node.gateways]
_ADDRESSES += [ip(text) for text in ("0.0.0.0", "255.255.255.255", "10.20.0.255", "10.21.0.99", "224.0.0.1")]
_ADDRESSES.append(METADATA_ADDRESS)
_L4 = [0, 53, 67, 68, 80, 4000]
# field -> interesting values, bits
_FIELDS: dict[str, tuple[list[int], int]] = {
    "eth_src": (_MACS, 48),
    "eth_dst": (_MACS, 48),
    "vlan_vid": ([0, 0, 0, 0, 0, 0, 0, 0, 0x1000, 0x1066, 0x1068], 0),
    "eth_type": ([ETH_IP, ETH_IP, ETH_IP, ETH_ARP, ETH_ARP, 0x86DD, 0x8100], 0),
    "arp_op": ([1, 1, 2, 0, 3], 0),
    "arp_sha": (_MACS, 48),
    "arp_tha": (_MACS, 48),
    "arp_spa": (_ADDRESSES, 32),
    "arp_tpa": (_ADDRESSES, 32),
    "ip_src": (_ADDRESSES, 32),
    "ip_dst": (_ADDRESSES, 32),
    "nw_ttl": ([64, 64, 64, 0, 1, 2, 255], 0),
    "ip_frag": ([0, 0, 0, 0, 1, 3], 0),
    "ip_proto": ([PROTO_UDP, PROTO_UDP, PROTO_TCP, PROTO_ICMP, 47], 0),
    "icmp_type": ([8, 8, 0, 3, 11], 0),
    **dict.fromkeys(("tcp_src", "tcp_dst", "udp_src", "udp_dst", "icmp_id"), (_L4, 16)),
}
_ARP_FIELDS = ("arp_op", "arp_sha", "arp_tha", "arp_spa", "arp_tpa")
_PORTS = {
    PROTO_UDP: ("udp_src", "udp_dst"),
    PROTO_TCP: ("tcp_src", "tcp_dst"),
    PROTO_ICMP: ("icmp_type", "icmp_id"),
}


def frame(pick: Pick, sender: Vm) -> Packet:
    """Mostly honest in what port security looks at: else hardly any frame would get further."""
    own = {"eth_src": sender.mac, "arp_sha": sender.mac, "arp_spa": sender.ip, "ip_src": sender.ip}
    fields: dict[str, int] = {}

    def add(*names: str) -> None:
        for name in names:
            lies = name in own and pick([0, 0, 0, 0, 1], 0)
            fields[name] = own[name] if name in own and not lies else pick(*_FIELDS[name])

    add("eth_src", "eth_dst", "vlan_vid", "eth_type")
    if fields["eth_type"] == ETH_ARP:
        add(*_ARP_FIELDS)
    elif fields["eth_type"] == ETH_IP:
        add("ip_src", "ip_dst", "nw_ttl", "ip_frag", "ip_proto")
        if not fields["ip_frag"] & 1:
            add(*_PORTS.get(fields["ip_proto"], ()))
    quotes = fields.get("icmp_type") in (3, 11) and pick([0, 1], 0)
    return packet(frame(pick, sender) if quotes else None, **fields)


def rolling(dice: random.Random) -> Pick:
    def pick(values: Sequence[int], bits: int) -> int:
        return dice.getrandbits(bits) if bits and dice.random() < 0.1 else dice.choice(values)

    return pick
