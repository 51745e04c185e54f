"""A packet as a value, for the simulator: the header fields that Open vSwitch would extract from the frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from flows.fields import CT_FIELDS, FIELDS
from flows.protocols import (
    ETH_ARP,
    ETH_IP,
    ETH_IPV6,
    ETH_RARP,
    ND_ADVERTISEMENT,
    ND_SOLICITATION,
    PROTO_ICMP,
    PROTO_ICMPV6,
    PROTO_TCP,
    PROTO_UDP,
)

PIPELINE_FIELDS = frozenset({"in_port", "metadata", *CT_FIELDS, "conj_id", *(f"reg{index}" for index in range(16))})
"""Fields of flows that are of no packet: what a switch knows of it while it goes through its tables."""

# the ports of a fragment, or its ICMP type and code, as conntrack sees them when it has all parts
_OF_FRAGMENTS = {"part_src": 16, "part_dst": 16}
# what no flow can match but conntrack looks at, or a test wants to recognise a packet by
_UNMATCHED = {"icmp_id": 16, "size": 16, "payload": 64, **_OF_FRAGMENTS}
# field -> the field and value that a packet must have for it to exist (ovs-fields(7), "Prerequisites")
PREREQUISITES: dict[str, tuple[str, int]] = {
    **dict.fromkeys(("ip_frag", "nw_ttl", "ip_dscp", "ip_proto", "ip_src", "ip_dst"), ("eth_type", ETH_IP)),
    **dict.fromkeys(("arp_op", "arp_spa", "arp_tpa", "arp_sha", "arp_tha"), ("eth_type", ETH_ARP)),
    **dict.fromkeys(("ct_nw_proto", "ct_nw_src", "ct_nw_dst", "ct_tp_src", "ct_tp_dst"), ("eth_type", ETH_IP)),
    **dict.fromkeys(("ipv6_src", "ipv6_dst", "ct_ipv6_src", "ct_ipv6_dst"), ("eth_type", ETH_IPV6)),
    **dict.fromkeys(("tcp_src", "tcp_dst"), ("ip_proto", PROTO_TCP)),
    **dict.fromkeys(("udp_src", "udp_dst"), ("ip_proto", PROTO_UDP)),
    **dict.fromkeys(("icmp_type", "icmp_code", "icmp_id"), ("ip_proto", PROTO_ICMP)),
    **dict.fromkeys(("icmpv6_type", "icmpv6_code"), ("ip_proto", PROTO_ICMPV6)),
    **dict.fromkeys(("nd_target", "nd_sll", "nd_reserved", "nd_options_type"), ("icmpv6_type", ND_SOLICITATION)),
    "nd_tll": ("icmpv6_type", ND_ADVERTISEMENT),
}
# what another kind of packet has, too, or must have beside: what it must have there
_ALSO: dict[tuple[str, int], dict[str, tuple[str, int]]] = {
    ("eth_type", ETH_RARP): dict.fromkeys(
        ("arp_op", "arp_spa", "arp_tpa", "arp_sha", "arp_tha"), ("eth_type", ETH_RARP)
    ),
    ("eth_type", ETH_IPV6): {
        **dict.fromkeys(("ip_frag", "nw_ttl", "ip_dscp", "ip_proto"), ("eth_type", ETH_IPV6)),
        **dict.fromkeys(("ct_nw_proto", "ct_tp_src", "ct_tp_dst"), ("eth_type", ETH_IPV6)),
        "icmp_id": ("ip_proto", PROTO_ICMPV6),
    },
    # with another code it is no neighbour discovery
    ("icmpv6_type", ND_SOLICITATION): dict.fromkeys(
        ("nd_target", "nd_sll", "nd_reserved", "nd_options_type"), ("icmpv6_code", 0)
    ),
    ("icmpv6_type", ND_ADVERTISEMENT): dict.fromkeys(
        ("nd_target", "nd_tll", "nd_reserved", "nd_options_type"), ("icmpv6_code", 0)
    ),
}


def prerequisite(name: str, fields: Mapping[str, int]) -> tuple[str, int] | None:
    """The field and value that a packet must have for `name` to exist, when it has these fields already."""
    for kind in ("icmpv6_type", "eth_type"):
        needs = _ALSO.get((kind, fields.get(kind, -1)), {}).get(name)
        if needs is not None:
            return needs
    return PREREQUISITES.get(name)


_BITS = {name: field.bits for name, field in FIELDS.items() if name not in PIPELINE_FIELDS} | _UNMATCHED
_DEFAULTS = {"nw_ttl": 64}


class Packet(Mapping[str, int]):
    """Immutable. It has every field that its kind has, and no other. Made by `packet()`.

    `inner` is the packet that an ICMP error quotes.
    """

    __slots__ = ("_fields", "inner")

    def __init__(self, fields: dict[str, int], inner: Packet | None = None) -> None:
        self._fields = fields
        self.inner = inner

    def __getitem__(self, name: str) -> int:
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Packet) and self._fields == other._fields and self.inner == other.inner

    def __hash__(self) -> int:
        return hash((frozenset(self._fields.items()), self.inner))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value:#x}" for name, value in self._fields.items())
        return f"Packet({shown})" if self.inner is None else f"Packet({shown}, inner={self.inner!r})"

    def but(self, **changes: int) -> Packet:
        """The packet with other values in some fields. Raises ValueError as `packet()` does."""
        return packet(self.inner, **(self._fields | changes))


def packet(inner: Packet | None = None, /, **fields: int) -> Packet:
    """A packet from the fields of flows.fields; those left out are 0, the TTL 64.

    vlan_vid is 0 without a tag, else 0x1000 plus the VLAN id. A fragment (ip_frag bit 0) has no ports: Open vSwitch
    shows 0 in all fragments, and in those of IPv6 but the first also protocol 44. Raises ValueError for a field that is
    unknown, too large, or not of this kind of packet.
    """
    made: dict[str, int] = {}
    for name, bits in _BITS.items():
        value = fields.pop(name, None)
        needs = prerequisite(name, made)
        ports_hidden = made.get("ip_frag", 0) & 1 and needs is not None and needs[0] == "ip_proto"
        whole = name in _OF_FRAGMENTS and not made.get("ip_frag", 0) & 1
        if whole or (needs is not None and (made.get(needs[0]) != needs[1] or ports_hidden)):
            if value:
                raise ValueError(f"{name}: not a field of this packet")
            continue
        if value is None:
            value = _DEFAULTS.get(name, 0)
        if value < 0 or value >> bits:
            raise ValueError(f"{name}={value:#x} does not fit {bits} bits")
        made[name] = value
    if fields:
        raise ValueError(f"no such field: {', '.join(fields)}")
    return Packet(made, inner)
