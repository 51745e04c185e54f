"""The packet and metadata fields that flows may match or set, as one table.

Class and number are those of the wire: OXM basic (OpenFlow 1.4 §7.2.3) where the field has one, else Nicira's NXM
or Ericsson's (ovs-fields(7)). A field's position in the table is its position in an encoded match, so prerequisites
come first.
"""

from __future__ import annotations

from dataclasses import dataclass

OXM = 0x8000
NXM1 = 0x0001
ERICOXM = 0x1000


@dataclass(frozen=True, slots=True)
class Field:
    """`size` is the length on the wire in bytes, `bits` how many of them count, `ovs` the name in ovs-ofctl(8)."""

    name: str
    oxm_class: int
    number: int
    size: int
    bits: int
    ovs: str
    rank: int = 0

    @property
    def header(self) -> int:
        """The OXM header without mask."""
        return self.oxm_class << 16 | self.number << 9 | self.size


_TABLE: tuple[tuple[str, int, int, int, int, str], ...] = (
    ("in_port", OXM, 0, 4, 32, "in_port"),
    ("metadata", OXM, 2, 8, 64, "metadata"),
    *((f"reg{index}", NXM1, index, 4, 32, f"reg{index}") for index in range(16)),
    ("eth_dst", OXM, 3, 6, 48, "dl_dst"),
    ("eth_src", OXM, 4, 6, 48, "dl_src"),
    ("vlan_vid", OXM, 6, 2, 13, "vlan_vid"),
    ("eth_type", OXM, 5, 2, 16, "eth_type"),
    ("ip_frag", NXM1, 26, 1, 2, "ip_frag"),
    ("nw_ttl", NXM1, 29, 1, 8, "nw_ttl"),
    ("ip_dscp", OXM, 8, 1, 6, "ip_dscp"),
    ("ip_proto", OXM, 10, 1, 8, "nw_proto"),
    ("ip_src", OXM, 11, 4, 32, "nw_src"),
    ("ip_dst", OXM, 12, 4, 32, "nw_dst"),
    ("ipv6_src", OXM, 26, 16, 128, "ipv6_src"),
    ("ipv6_dst", OXM, 27, 16, 128, "ipv6_dst"),
    ("tcp_src", OXM, 13, 2, 16, "tcp_src"),
    ("tcp_dst", OXM, 14, 2, 16, "tcp_dst"),
    ("udp_src", OXM, 15, 2, 16, "udp_src"),
    ("udp_dst", OXM, 16, 2, 16, "udp_dst"),
    ("icmp_type", OXM, 19, 1, 8, "icmp_type"),
    ("icmp_code", OXM, 20, 1, 8, "icmp_code"),
    ("icmpv6_type", OXM, 29, 1, 8, "icmpv6_type"),
    ("icmpv6_code", OXM, 30, 1, 8, "icmpv6_code"),
    ("nd_target", OXM, 31, 16, 128, "nd_target"),
    ("nd_sll", OXM, 32, 6, 48, "nd_sll"),
    ("nd_tll", OXM, 33, 6, 48, "nd_tll"),
    ("nd_reserved", ERICOXM, 1, 4, 32, "nd_reserved"),
    ("nd_options_type", ERICOXM, 2, 1, 8, "nd_options_type"),
    ("arp_op", OXM, 21, 2, 16, "arp_op"),
    ("arp_spa", OXM, 22, 4, 32, "arp_spa"),
    ("arp_tpa", OXM, 23, 4, 32, "arp_tpa"),
    ("arp_sha", OXM, 24, 6, 48, "arp_sha"),
    ("arp_tha", OXM, 25, 6, 48, "arp_tha"),
    ("ct_state", NXM1, 105, 4, 32, "ct_state"),
    ("ct_zone", NXM1, 106, 2, 16, "ct_zone"),
    ("ct_mark", NXM1, 107, 4, 32, "ct_mark"),
    ("ct_nw_proto", NXM1, 119, 1, 8, "ct_nw_proto"),
    ("ct_nw_src", NXM1, 120, 4, 32, "ct_nw_src"),
    ("ct_nw_dst", NXM1, 121, 4, 32, "ct_nw_dst"),
    ("ct_ipv6_src", NXM1, 122, 16, 128, "ct_ipv6_src"),
    ("ct_ipv6_dst", NXM1, 123, 16, 128, "ct_ipv6_dst"),
    ("ct_tp_src", NXM1, 124, 2, 16, "ct_tp_src"),
    ("ct_tp_dst", NXM1, 125, 2, 16, "ct_tp_dst"),
    ("conj_id", NXM1, 37, 4, 32, "conj_id"),
)

# what conntrack says of a packet: after its state how its connection began (the tuple of the original direction)
CT_FIELDS = (
    *("ct_state", "ct_zone", "ct_mark", "ct_nw_proto"),
    *("ct_nw_src", "ct_nw_dst", "ct_ipv6_src", "ct_ipv6_dst", "ct_tp_src", "ct_tp_dst"),
)

FIELDS: dict[str, Field] = {row[0]: Field(*row, rank=rank) for rank, row in enumerate(_TABLE)}
