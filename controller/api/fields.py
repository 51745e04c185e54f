"""What request bodies are made of: the types of their fields (what a name, an address, a MAC may look like), and what
is the same for all of them. Values are checked, not repaired.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    StringConstraints,
    TypeAdapter,
    WithJsonSchema,
)

from controller.bounds import FIRST_VLAN, LAST_VLAN, LEAST_LEASE_TIME, LEAST_MTU, MOST_LEASE_TIME, MOST_MTU
from controller.store.ipv6_specs import Ipv6Range
from controller.store.specs import AddressRange, HostAddress, SnatChoice

_ADDRESS = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){3}")
_CIDR = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){3}/(0|[1-9][0-9]?)")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]{2,45}")
_IPV6_CIDR = re.compile(r"([0-9A-Fa-f:.]{2,45})/(0|[1-9][0-9]{0,2})")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(\.{_LABEL})*")
# a machine is given whatever name its user likes, and DHCP makes a host name of it
_LONG_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
_MACHINE = re.compile(rf"{_LONG_LABEL}(\.{_LONG_LABEL})*")


# How the OpenAPI document puts it. A pattern says what it can; formats that JSON Schema does not know are told of in
# `openapi`.
_OCTET = r"(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4_TEXT = rf"{_OCTET}(\.{_OCTET}){{3}}"
_OF_IPV4 = {"type": "string", "format": "ipv4"}
_OF_IPV6 = {"type": "string", "format": "ipv6"}
_OF_ANY = {"anyOf": [_OF_IPV4, _OF_IPV6]}
OF_CIDR = {"type": "string", "pattern": rf"^{_IPV4_TEXT}/(3[0-2]|[12]?[0-9])$", "format": "ipv4-cidr"}
OF_IPV6_CIDR = {
    "type": "string",
    "pattern": r"^[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*/(12[0-8]|1[01][0-9]|[1-9]?[0-9])$",
    "format": "ipv6-cidr",
}
_OF_SPAN = {
    "type": "string",
    "pattern": rf"^{_IPV4_TEXT}(-{_IPV4_TEXT}|/(3[0-2]|[12]?[0-9]))?$",
    "format": "ipv4-range",
}
_OF_SNAT = {
    "type": "string",
    "pattern": rf"^(host:{_IPV4_TEXT}|{_IPV4_TEXT}(-{_IPV4_TEXT}|/(3[0-2]|[12]?[0-9]))?)$",
    "format": "ipv4-range",
}
_OF_MAC = {"type": "string", "pattern": r"^(?!00(:00){5}$)[0-9a-fA-F][02468aceACE](:[0-9a-fA-F]{2}){5}$"}
_OF_HOST = {"type": "string", "maxLength": 253, "pattern": rf"^({_LABEL}(\.{_LABEL})*)?$"}
_OF_MACHINE = {"type": "string", "maxLength": 253, "pattern": rf"^({_LONG_LABEL}(\.{_LONG_LABEL})*)?$"}


class RequestModel(BaseModel):
    """No unknown fields, no conversions ("1" is not 1, 1 is not true)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class UpdateModel(RequestModel):
    """What of an object can be changed. A field that was left out is not one that was sent with its default."""

    conversions: ClassVar[Mapping[str, Callable[[Any], Any]]] = {}
    """How a field becomes what the store takes; the others go through as they are."""

    def changes(self) -> dict[str, Any]:
        """What was sent, typed as in the store's spec."""
        sent = {name: value for name, value in self if name in self.model_fields_set}
        return {
            name: self.conversions[name](value) if name in self.conversions else value for name, value in sent.items()
        }


def printable(text: str) -> str:
    # also keeps NUL (which PostgreSQL refuses) and line breaks (which would forge log lines) out
    if not text.isprintable():
        raise ValueError("must not hold control characters or line breaks")
    return text


Printable = Annotated[str, AfterValidator(printable), Field(json_schema_extra={"format": "printable"})]


def _text(text: str) -> str:
    # no table and no log would show the difference between " web" and "web"
    if text != text.strip():
        raise ValueError("must not begin or end with a blank")
    return printable(text)


def _address(value: object) -> IPv4Address:
    if not isinstance(value, str) or not _ADDRESS.fullmatch(value):
        raise ValueError("must be an IPv4 address such as 192.0.2.1")
    return IPv4Address(value)


def _any_address(value: object) -> IPv4Address | IPv6Address:
    if not isinstance(value, str) or ":" not in value:
        return _address(value)
    if not _IPV6.fullmatch(value):
        raise ValueError("must be an IPv6 address such as 2001:db8::1")
    return IPv6Address(value)


def _any_cidr(value: object) -> IPv4Network | IPv6Network:
    if not isinstance(value, str) or ":" not in value:
        return _cidr(value)
    if not _IPV6_CIDR.fullmatch(value):
        raise ValueError("must be an IPv6 range such as 2001:db8:1::/64")
    return IPv6Network(value)


def _unicast(address: IPv4Address) -> IPv4Address:
    if address.is_multicast or address.is_unspecified or address.is_loopback or int(address) >> 28 == 15:
        raise ValueError(f"{address} is not the address of a host")
    return address


def _any_unicast(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(address, IPv4Address):
        return _unicast(address)
    if address.is_multicast or address.is_unspecified or address.is_loopback:
        raise ValueError(f"{address} is not the address of a host")
    return address


def _cidr(value: object) -> IPv4Network:
    if not isinstance(value, str) or not _CIDR.fullmatch(value):
        raise ValueError("must be an IPv4 range such as 192.0.2.0/24")
    return IPv4Network(value)


def _snat_choice(value: object) -> SnatChoice:
    """ADDRESS, FIRST-LAST, CIDR, or `host:` and the address of the node's host."""
    if isinstance(value, str) and value.startswith("host:"):
        return HostAddress(_unicast(_address(value.removeprefix("host:"))))
    return _address_or_range(value)


def _address_or_range(value: object) -> IPv4Address | AddressRange:
    if isinstance(value, str) and "/" in value:
        cidr = _cidr(value)
        first, last = cidr[0], cidr[-1]
    elif isinstance(value, str) and "-" in value:
        first, last = (_address(part) for part in value.split("-", 1))
    else:
        return _unicast(_address(value))
    if first > last:
        raise ValueError(f"{first} is behind {last}")
    return AddressRange(_unicast(first), _unicast(last))


def _span(value: object) -> AddressRange:
    """ADDRESS, FIRST-LAST or CIDR."""
    choice = _address_or_range(value)
    return choice if isinstance(choice, AddressRange) else AddressRange(choice, choice)


def _any_span(value: object) -> AddressRange | Ipv6Range:
    if not isinstance(value, str) or ":" not in value:
        return _span(value)
    address = _any_unicast(_any_address(value))
    assert isinstance(address, IPv6Address)
    return Ipv6Range(address, address)


def _mac(value: str) -> str:
    mac = value.lower()
    if not _MAC.fullmatch(mac):
        raise ValueError("must be a MAC such as 02:00:00:12:34:56")
    if int(mac[1], 16) & 1 or mac == "00:00:00:00:00:00":
        raise ValueError("must be the MAC of one host, not a group or zero")
    return mac


def _host_name(value: str) -> str:
    if value and not _HOST.fullmatch(value):
        raise ValueError("must be labels of letters, digits and hyphens joined by dots (RFC 1123)")
    return value


def _machine_name(value: str) -> str:
    if value and not _MACHINE.fullmatch(value):
        raise ValueError("must be letters, digits and hyphens, joined by dots")
    return value


Text = Annotated[
    str, StringConstraints(max_length=255), AfterValidator(_text), Field(json_schema_extra={"format": "printable"})
]
Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=255),
    AfterValidator(_text),
    Field(json_schema_extra={"format": "printable"}),
]
ObjectId = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[0-9A-Za-z-]+$")]
Uuid = Annotated[
    str,
    StringConstraints(to_lower=True, pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"),
]
ProjectId = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]*$")]
PhysicalNetwork = Annotated[
    str, StringConstraints(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
]
NodeName = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
InterfaceName = Annotated[
    str, StringConstraints(min_length=1, max_length=15, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.@-]*$")
]  # of a network device: IFNAMSIZ in linux/if.h, with its final zero
HostName = Annotated[str, StringConstraints(max_length=253), AfterValidator(_host_name), WithJsonSchema(_OF_HOST)]
MachineName = Annotated[
    str, StringConstraints(max_length=253), AfterValidator(_machine_name), WithJsonSchema(_OF_MACHINE)
]
Mac = Annotated[str, StringConstraints(max_length=17), AfterValidator(_mac), WithJsonSchema(_OF_MAC)]
Address = Annotated[IPv4Address, PlainValidator(_address), WithJsonSchema(_OF_IPV4)]
UnicastAddress = Annotated[Address, AfterValidator(_unicast)]
AnyAddress = Annotated[IPv4Address | IPv6Address, PlainValidator(_any_address), WithJsonSchema(_OF_ANY)]
AnyUnicastAddress = Annotated[AnyAddress, AfterValidator(_any_unicast)]
AnyCidr = Annotated[
    IPv4Network | IPv6Network, PlainValidator(_any_cidr), WithJsonSchema({"anyOf": [OF_CIDR, OF_IPV6_CIDR]})
]
SnatAddress = Annotated[SnatChoice, PlainValidator(_snat_choice), WithJsonSchema(_OF_SNAT)]
AddressSpan = Annotated[AddressRange, PlainValidator(_span), WithJsonSchema(_OF_SPAN)]
AnyAddressSpan = Annotated[
    AddressRange | Ipv6Range, PlainValidator(_any_span), WithJsonSchema({"anyOf": [_OF_SPAN, _OF_IPV6]})
]
Cidr = Annotated[IPv4Network, PlainValidator(_cidr), WithJsonSchema(OF_CIDR)]
Mtu = Annotated[int, Field(ge=LEAST_MTU, le=MOST_MTU)]
Segment = Annotated[int, Field(ge=FIRST_VLAN, le=LAST_VLAN)]
LeaseTime = Annotated[int, Field(ge=LEAST_LEASE_TIME, le=MOST_LEASE_TIME)]

# for what stands in a query
ADDRESS: TypeAdapter[IPv4Address] = TypeAdapter(Address)
ANY_ADDRESS: TypeAdapter[IPv4Address | IPv6Address] = TypeAdapter(AnyAddress)
