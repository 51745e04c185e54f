"""What a rule is about, as a check and as columns. All kinds of rules have the same."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Final

from controller.store.engine import AnyRow
from controller.store.specs import Invalid
from flows.fields import FIELDS
from flows.model import Direction, Family, Service
from flows.protocols import PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP, PROTOCOL_NAMES

LAST_PORT: Final = 2**16 - 1
LAST_PROTOCOL: Final = 2**8 - 1
LAST_TYPE: Final = 2**8 - 1

_PROTO_SCTP: Final = 132  # RFC 9260
# a protocol with ports -> its name, and the field of flows that its destination port is in
_PORTED: Final[Mapping[int, tuple[str, str]]] = {
    PROTO_TCP: ("tcp", "tcp_dst"),
    PROTO_UDP: ("udp", "udp_dst"),
    _PROTO_SCTP: ("sctp", "sctp_dst"),
}
WITH_PORTS: Final = {number: name for number, (name, field) in _PORTED.items() if field in FIELDS}
_NAMES: Final = " and ".join(WITH_PORTS.values())
_ICMP: Final[Mapping[Family, int]] = {Family.IPV4: PROTO_ICMP, Family.IPV6: PROTO_ICMPV6}


def family_of(given: Family | None, service: Service, cidr: IPv4Network | IPv6Network | None) -> Family:
    """What a rule is about packets of: as given, else as its range or its protocol says, else IPv4. Raises Invalid
    `rule_invalid` where they differ.
    """
    of_cidr = None if cidr is None else Family(cidr.version)
    if given is None:
        by_protocol = Family.IPV6 if service.protocol == PROTO_ICMPV6 else Family.IPV4
        return of_cidr or by_protocol
    if of_cidr not in (None, given):
        raise _invalid("remote_cidr", f"{cidr} is no range of IPv{given}")
    return given


def check(service: Service, family: Family = Family.IPV4) -> None:
    """Raises Invalid `rule_invalid` that names the field of the API."""
    protocol, first, last = service.protocol, service.first, service.last
    for other, icmp in _ICMP.items():
        if protocol == icmp and other is not family:
            raise _invalid("protocol", f"{PROTOCOL_NAMES[icmp]} is of IPv{other}, the rule of IPv{family}")
    if protocol is not None and not 0 <= protocol <= LAST_PROTOCOL:
        raise _invalid("protocol", f"{protocol} is no IP protocol: 0 to {LAST_PROTOCOL}")
    if (first is None) != (last is None):
        raise _invalid("ports", "a range needs both ends")
    if first is not None and last is not None:
        if protocol not in WITH_PORTS:
            whose = "a rule for all protocols" if protocol is None else _called(protocol)
            raise _invalid("ports", f"{whose} cannot have ports: {_NAMES} have")
        if first > last:
            raise _invalid("ports", f"{first} is behind {last}")
        if not (first >= 1 and last <= LAST_PORT):
            raise _invalid("ports", f"{first}-{last} is not within 1..{LAST_PORT}")
    for name, value in (("icmp_type", service.icmp_type), ("icmp_code", service.icmp_code)):
        if value is None:
            continue
        if protocol != _ICMP[family]:
            raise _invalid(name, f"only a rule for protocol {PROTOCOL_NAMES[_ICMP[family]]} can have it")
        if not 0 <= value <= LAST_TYPE:
            raise _invalid(name, f"{value} is not within 0..{LAST_TYPE}")
    if service.icmp_code is not None and service.icmp_type is None:
        raise _invalid("icmp_code", "means nothing without icmp_type")


def _called(protocol: int) -> str:
    name = PROTOCOL_NAMES.get(protocol)
    return f"protocol {protocol}" if name is None else f"protocol {name} ({protocol})"


def _invalid(field: str, why: str) -> Invalid:
    return Invalid("rule_invalid", why, field)


def remote(cidr: IPv4Network | IPv6Network | None) -> IPv4Network | IPv6Network | None:
    """0.0.0.0/0 and ::/0 are anybody, and anybody is None."""
    return None if cidr is not None and cidr.prefixlen == 0 else cidr


TOLD = (
    *("applies_to", "direction", "protocol", "first", "last", "icmp_type", "icmp_code", "cidr", "remote_cidr"),
    *("own_group", "family", "description"),
)
"""Columns of the tables of rules that the journal is told of."""


def dump(service: Service) -> dict[str, Any]:
    return {
        "protocol": service.protocol,
        "first": service.first,
        "last": service.last,
        "icmp_type": service.icmp_type,
        "icmp_code": service.icmp_code,
    }


def load(row: AnyRow) -> Service:
    return Service(row.protocol, row.first, row.last, row.icmp_type, row.icmp_code)


def matches(direction: Direction | None, service: Service, of: object, family: Family = Family.IPV4) -> str:
    """All of it in one text, the same for two rules that let in or out the same. `of`: the other side, None: anybody.

    Revisions 0002 and 0011 of the schema write such texts themselves.
    """
    protocol = "any" if service.protocol is None else service.protocol
    numbers = (service.first, service.last, service.icmp_type, service.icmp_code)
    shown = ("-" if number is None else str(number) for number in numbers)
    apart = () if family is Family.IPV4 else ("ipv6",)
    return " ".join((direction or "both", str(protocol), *shown, "any" if of is None else str(of), *apart))


def most_specific(service: Service, **remotes: object) -> str:
    """The field of the API that says most of a rule: what to look at where two are the same. `remotes`: by field."""
    given = {
        "ports": service.first,
        "icmp_code": service.icmp_code,
        "icmp_type": service.icmp_type,
        **{name: remote or None for name, remote in remotes.items()},
        "protocol": service.protocol,
    }
    return next((name for name, value in given.items() if value is not None), "direction")
