"""What requests about security have in common: protocols, ranges, and what ports have beside their addresses."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Annotated

from pydantic import Field, PlainValidator, WithJsonSchema

from controller.api.fields import OF_CIDR, OF_IPV6_CIDR, Mac, Name, RequestModel
from controller.api.floating_ip_models import Ports
from controller.store.policy_specs import AddressPairSpec
from controller.store.service_rows import LAST_PROTOCOL
from flows.model import Bandwidth, Family, Qos, Service
from flows.protocols import PROTOCOL_NUMBERS

MAX_GROUPS = 64
MAX_PAIRS = 256
MAX_RATE = 100_000_000
MIN_RATE = 64
MIN_BURST = 600  # kbit; less would drop each frame of 64 KiB, which a guest leaves to its card to cut
MAX_BURST = 2**31 - 1
LEAST_BURST = 4000
"""kbit: what a pause lets a slow port send at once. A fast one gets what it sends in 0.4 s: with less, one TCP
connection stays well below its rate, since a meter drops and does not delay.
"""

_CIDR = re.compile(r"([0-9.]{7,15})/(0|[1-9][0-9]?)")
_IPV6_CIDR = re.compile(r"([0-9A-Fa-f:.]{2,45})/(0|[1-9][0-9]{0,2})")
_FAMILIES = {"ipv4": Family.IPV4, "ipv6": Family.IPV6}


def _protocol(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LAST_PROTOCOL:
        return value
    if isinstance(value, str) and value in PROTOCOL_NUMBERS:
        return PROTOCOL_NUMBERS[value]
    raise ValueError(f"must be a number from 0 to {LAST_PROTOCOL} or one of {', '.join(PROTOCOL_NUMBERS)}")


def _range(value: object) -> IPv4Network:
    match = _CIDR.fullmatch(value) if isinstance(value, str) and value.isascii() else None
    if match is None:
        if isinstance(value, str) and ":" in value:
            raise ValueError("it is for IPv4 alone: give a range such as 192.0.2.0/24")
        raise ValueError("must be an IPv4 range such as 192.0.2.0/24")
    given = IPv4Address(match[1])
    network = IPv4Network(f"{given}/{match[2]}", strict=False)
    if network.network_address != given:
        raise ValueError(f"{value} is not the begin of a range: {network} is the one that it is in")
    return network


def _any_range(value: object) -> IPv4Network | IPv6Network:
    if not isinstance(value, str) or ":" not in value:
        return _range(value)
    match = _IPV6_CIDR.fullmatch(value)
    if match is None:
        raise ValueError("must be an IPv6 range such as 2001:db8::/32")
    given = IPv6Address(match[1])
    network = IPv6Network(f"{given}/{match[2]}", strict=False)
    if network.network_address != given:
        raise ValueError(f"{value} is not the begin of a range: {network} is the one that it is in")
    return network


def _address_or_range(value: object) -> IPv4Network:
    return _range(f"{value}/32" if isinstance(value, str) and "/" not in value and ":" not in value else value)


def _family(value: object) -> Family:
    if isinstance(value, str) and value in _FAMILIES:
        return _FAMILIES[value]
    raise ValueError(f"must be one of {', '.join(_FAMILIES)}")


def family_name(family: Family) -> str:
    return next(name for name, known in _FAMILIES.items() if known is family)


_OF_PROTOCOL = {
    "anyOf": [
        {"type": "integer", "minimum": 0, "maximum": LAST_PROTOCOL},
        {"type": "string", "enum": [*PROTOCOL_NUMBERS]},
    ]
}
_OF_ADDRESS_OR_RANGE = {"anyOf": [{"type": "string", "format": "ipv4"}, OF_CIDR]}
Protocol = Annotated[int, PlainValidator(_protocol), WithJsonSchema(_OF_PROTOCOL)]
Range = Annotated[IPv4Network, PlainValidator(_range), WithJsonSchema(OF_CIDR)]
AnyRange = Annotated[
    IPv4Network | IPv6Network, PlainValidator(_any_range), WithJsonSchema({"anyOf": [OF_CIDR, OF_IPV6_CIDR]})
]
AddressOrRange = Annotated[IPv4Network, PlainValidator(_address_or_range), WithJsonSchema(_OF_ADDRESS_OR_RANGE)]
FamilyName = Annotated[Family, PlainValidator(_family), WithJsonSchema({"type": "string", "enum": [*_FAMILIES]})]
Byte = Annotated[int, Field(ge=0, le=255)]


class ServiceIn(RequestModel):
    """`ports` as of port forwardings. What does not go together is refused by the store (`service_rows.check`)."""

    protocol: Protocol | None = None
    ports: Ports | None = None
    icmp_type: Byte | None = None
    icmp_code: Byte | None = None

    def service(self) -> Service:
        first, last = (None, None) if self.ports is None else self.ports
        return Service(self.protocol, first, last, self.icmp_type, self.icmp_code)


class AddressPairIn(RequestModel):
    """`cidr` may be a single address. `mac` null: the port's own."""

    cidr: AddressOrRange
    mac: Mac | None = None

    def spec(self) -> AddressPairSpec:
        return AddressPairSpec(self.cidr, self.mac)


class BandwidthIn(RequestModel):
    rate_kbps: Annotated[int, Field(ge=MIN_RATE, le=MAX_RATE)]
    burst_kbits: Annotated[int, Field(ge=MIN_BURST, le=MAX_BURST)] | None = None

    def limit(self) -> Bandwidth:
        usual = max(LEAST_BURST, self.rate_kbps * 2 // 5)
        return Bandwidth(self.rate_kbps, usual if self.burst_kbits is None else self.burst_kbits)


class QosIn(RequestModel):
    egress: BandwidthIn | None = None
    ingress: BandwidthIn | None = None
    dscp: Annotated[int, Field(ge=0, le=63)] | None = None


def qos(given: QosIn | None) -> Qos:
    if given is None:
        return Qos()
    egress, ingress = (None if way is None else way.limit() for way in (given.egress, given.ingress))
    return Qos(egress, ingress, given.dscp)


def pairs(given: list[AddressPairIn]) -> tuple[AddressPairSpec, ...]:
    return tuple(pair.spec() for pair in given)


def groups(given: list[str] | None) -> tuple[str, ...] | None:
    return None if given is None else tuple(given)


SecurityGroups = Annotated[list[Name], Field(max_length=MAX_GROUPS)] | None
AddressPairs = Annotated[list[AddressPairIn], Field(max_length=MAX_PAIRS)]
