"""What security rules and the operator's drop list look at in a packet: its own header, or how its connection began.

Conntrack says of every packet that it knows who began the connection, and with what (ovs-fields(7), "ct_nw_src" and
on): of replies, errors and fragments as well. The header says it only of the packet itself, and of a fragment neither
ports nor an ICMP type: there it shows 0, which no rule may take for a port or a type.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from flows.model import Direction, Family, Service
from flows.protocols import (
    CT_INVALID,
    CT_TRACKED,
    ETH_IP,
    ETH_IPV6,
    NO_FRAGMENT,
    PROTO_ICMP,
    PROTO_ICMPV6,
    PROTO_TCP,
    PROTO_UDP,
)
from flows.view import port_matches

Fields = dict[str, int | tuple[int, int]]


@dataclass(frozen=True, slots=True)
class RuleFields:
    """`always` is in each match, `named` in those that name a port or an ICMP type. `remote` is by who began."""

    eth_type: int
    always: tuple[tuple[str, int | tuple[int, int]], ...]
    named: tuple[tuple[str, int], ...]
    remote: Mapping[Direction, str]
    protocol: str
    ports: Mapping[int, str]
    icmp: int
    icmp_type: str
    icmp_code: str

    def any_packet(self) -> Fields:
        return dict(self.always)


HEADER = RuleFields(
    eth_type=ETH_IP,
    always=(("eth_type", ETH_IP),),
    named=(("ip_frag", NO_FRAGMENT),),
    remote={Direction.EGRESS: "ip_dst", Direction.INGRESS: "ip_src"},
    protocol="ip_proto",
    ports={PROTO_TCP: "tcp_dst", PROTO_UDP: "udp_dst"},
    icmp=PROTO_ICMP,
    icmp_type="icmp_type",
    icmp_code="icmp_code",
)
CONNECTION = RuleFields(
    eth_type=ETH_IP,
    # what conntrack finds invalid has no connection to look at
    always=(("eth_type", ETH_IP), ("ct_state", (CT_TRACKED, CT_TRACKED | CT_INVALID))),
    named=(),
    remote={Direction.EGRESS: "ct_nw_dst", Direction.INGRESS: "ct_nw_src"},
    protocol="ct_nw_proto",
    ports={PROTO_TCP: "ct_tp_dst", PROTO_UDP: "ct_tp_dst"},
    icmp=PROTO_ICMP,
    icmp_type="ct_tp_src",
    icmp_code="ct_tp_dst",
)
HEADER_IPV6 = replace(
    HEADER,
    eth_type=ETH_IPV6,
    always=(("eth_type", ETH_IPV6),),
    remote={Direction.EGRESS: "ipv6_dst", Direction.INGRESS: "ipv6_src"},
    icmp=PROTO_ICMPV6,
    icmp_type="icmpv6_type",
    icmp_code="icmpv6_code",
)
CONNECTION_IPV6 = replace(
    CONNECTION,
    eth_type=ETH_IPV6,
    always=(("eth_type", ETH_IPV6), CONNECTION.always[1]),
    remote={Direction.EGRESS: "ct_ipv6_dst", Direction.INGRESS: "ct_ipv6_src"},
    icmp=PROTO_ICMPV6,
)
UNTRACKED_FIELDS: Mapping[Family, RuleFields] = {Family.IPV4: HEADER, Family.IPV6: HEADER_IPV6}
TRACKED_FIELDS: Mapping[Family, RuleFields] = {Family.IPV4: CONNECTION, Family.IPV6: CONNECTION_IPV6}


def service_matches(services: Iterable[Service], fields: RuleFields) -> list[Fields]:
    """What the services match, together, in as few matches as the fields of a flow allow."""
    by_protocol: dict[int, list[Service]] = {}
    for service in services:
        if service.protocol is None:
            return [fields.any_packet()]
        by_protocol.setdefault(service.protocol, []).append(service)
    found: list[Fields] = []
    for protocol, wanted in sorted(by_protocol.items()):
        whole: Fields = {**fields.any_packet(), fields.protocol: protocol}
        parts = _icmp(wanted, fields) if protocol == fields.icmp else _ports(protocol, wanted, fields)
        found += [whole] if parts is None else [{**whole, **dict(fields.named), **part} for part in parts]
    return found


def _icmp(services: list[Service], fields: RuleFields) -> list[Fields] | None:
    """None: all of it."""
    if any(service.icmp_type is None for service in services):
        return None
    whole = {service.icmp_type for service in services if service.icmp_code is None}
    pairs = sorted({(one.icmp_type or 0, one.icmp_code or 0) for one in services if one.icmp_type not in whole})
    types: list[Fields] = [{fields.icmp_type: icmp_type} for icmp_type in sorted(type_ or 0 for type_ in whole)]
    return types + [{fields.icmp_type: icmp_type, fields.icmp_code: code} for icmp_type, code in pairs]


def _ports(protocol: int, services: list[Service], fields: RuleFields) -> list[Fields] | None:
    name = fields.ports.get(protocol)
    if name is None or any(service.first is None for service in services):
        return None
    ranges = sorted((one.first or 0, one.last if one.last is not None else one.first or 0) for one in services)
    merged = [ranges[0]]
    for first, last in ranges[1:]:
        if first <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(merged[-1][1], last)
        else:
            merged.append((first, last))
    return [{name: ports} for first, last in merged for ports in port_matches(first, last)]
