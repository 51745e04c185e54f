"""What a rule is about, as a check and as columns. All kinds of rules have the same."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network
from typing import Any, Final

from controller.store.engine import AnyRow
from controller.store.specs import Invalid
from flows.fields import FIELDS
from flows.model import Direction, Service
from flows.protocols import PROTO_ICMP, PROTO_TCP, PROTO_UDP, PROTOCOL_NAMES

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
_ANYWHERE: Final = IPv4Network("0.0.0.0/0")


def check(service: Service) -> None:
    """Raises Invalid `rule_invalid` that names the field of the API."""
    protocol, first, last = service.protocol, service.first, service.last
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
        if protocol != PROTO_ICMP:
            raise _invalid(name, "only a rule for protocol icmp can have it")
        if not 0 <= value <= LAST_TYPE:
            raise _invalid(name, f"{value} is not within 0..{LAST_TYPE}")
    if service.icmp_code is not None and service.icmp_type is None:
        raise _invalid("icmp_code", "means nothing without icmp_type")


def _called(protocol: int) -> str:
    name = PROTOCOL_NAMES.get(protocol)
    return f"protocol {protocol}" if name is None else f"protocol {name} ({protocol})"


def _invalid(field: str, why: str) -> Invalid:
    return Invalid("rule_invalid", why, field)


def remote(cidr: IPv4Network | None) -> IPv4Network | None:
    """0.0.0.0/0 is anybody, and anybody is None."""
    return None if cidr == _ANYWHERE else cidr


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


def matches(direction: Direction | None, service: Service, of: object) -> str:
    """All of it in one text, the same for two rules that let in or out the same. `of`: the other side, None: anybody.

    Revision 0002 of the schema writes one of these itself.
    """
    protocol = "any" if service.protocol is None else service.protocol
    numbers = (service.first, service.last, service.icmp_type, service.icmp_code)
    shown = ("-" if number is None else str(number) for number in numbers)
    return " ".join((direction or "both", str(protocol), *shown, "any" if of is None else str(of)))
