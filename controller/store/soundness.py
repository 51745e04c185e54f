"""Whether a value that came from rows is what its class says. The API lets nothing else in, but a database may also be
written by hand, restored in part, or damaged, and SQLite keeps any text in a column of numbers.

`check` is called for every object that is read, so each class is looked at once and becomes a function.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

from controller.dns.domain import wire
from controller.dns.zone_wire import rdata
from controller.store import service_rows
from flows.host_name import host_name
from flows.model import (
    Binding,
    DhcpOption,
    DnsRecord,
    DnsZone,
    FloatingIp,
    Neighbour,
    Network,
    NetworkKind,
    Node,
    Port,
    PortForwarding,
    ProviderRule,
    SecurityGroup,
    SecurityRule,
    Uplink,
)

_MAC: Final = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")
_SHOWN: Final = 60
_LONGEST_TEXT: Final = 1024
_LARGEST_KEY: Final = 2**31 - 1
_LARGEST_OFPORT: Final = 0xFFFFFEFF  # OpenFlow 1.4.0, OFPP_MAX is 0xffffff00
_VLANS: Final = range(1, 4095)
_MTUS: Final = range(68, 65536)  # RFC 791

_Check = Callable[[Any], None]


def check(value: object) -> None:
    """Raises ValueError that names the field: a wrong type anywhere in a dataclass, or what cannot be (`_RULES`)."""
    class_: Any = type(value)
    _checker(class_)(value)


@cache
def _checker(class_: Any) -> _Check:
    """For a class, or for what an annotation says."""
    origin, arguments = get_origin(class_), get_args(class_)
    if is_dataclass(class_):
        return _of_dataclass(class_)
    if origin in (types.UnionType, Union):
        return _of_union(arguments)
    if origin is tuple:
        return _of_items(arguments)
    if origin is not None and issubclass(origin, Mapping):
        return _of_mapping(*map(_checker, arguments))
    accepted: Any = (int, float) if class_ is float else class_
    text = class_ is str

    def is_one(value: Any) -> None:
        if not isinstance(value, accepted):
            raise ValueError(f"{str(value)[:_SHOWN]!r} is no {getattr(class_, '__name__', class_)}")
        if text and len(value) > _LONGEST_TEXT:
            raise ValueError(f"{len(value)} characters")

    return is_one


def _of_dataclass(class_: Any) -> _Check:
    hints = get_type_hints(class_)
    parts = [(field.name, _checker(hints[field.name])) for field in fields(class_)]
    rule = _RULES.get(class_)

    def all_fields(value: Any) -> None:
        if type(value) is not class_:
            raise ValueError(f"{str(value)[:_SHOWN]!r} is no {class_.__name__}")
        for name, part in parts:
            try:
                part(getattr(value, name))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        if rule is not None:
            rule(value)

    return all_fields


def _of_union(members: Iterable[Any]) -> _Check:
    known = tuple(members)
    if all(isinstance(member, type) and not is_dataclass(member) for member in known):
        texts = str in known

        def is_one(value: Any) -> None:
            if not isinstance(value, known):
                names = " or ".join(member.__name__ for member in known)
                raise ValueError(f"{str(value)[:_SHOWN]!r} is no {names}")
            if texts and isinstance(value, str) and len(value) > _LONGEST_TEXT:
                raise ValueError(f"{len(value)} characters")

        return is_one
    by_class = {get_origin(member) or member: _checker(member) for member in known}

    def is_of_its_class(value: Any) -> None:
        if type(value) not in by_class:
            raise ValueError(f"{str(value)[:_SHOWN]!r} is none of {', '.join(one.__name__ for one in by_class)}")
        by_class[type(value)](value)

    return is_of_its_class


def _of_items(arguments: tuple[Any, ...]) -> _Check:
    item = _checker(arguments[0])  # tuple[X, ...] is all that the model has

    def each(value: Any) -> None:
        if not isinstance(value, tuple):
            raise ValueError(f"{str(value)[:_SHOWN]!r} is no list")
        for one in value:
            item(one)

    return each


def _of_mapping(key: _Check, item: _Check) -> _Check:
    def each(value: Any) -> None:
        if not isinstance(value, Mapping):
            raise ValueError(f"{str(value)[:_SHOWN]!r} is no mapping")
        for name, one in value.items():
            key(name)
            item(one)

    return each


# what no type says


def _within(name: str, value: int, most: int, least: int = 1) -> None:
    if not least <= value <= most:
        raise ValueError(f"{name}: {value} is not within {least}..{most}")


def _mac(name: str, mac: str) -> None:
    if not _MAC.fullmatch(mac) or int(mac[:2], 16) & 1:
        raise ValueError(f"{name}: {mac[:_SHOWN]!r} is no MAC address of an interface")


def _network(network: Network) -> None:
    _within("key", network.key, 2**16 - 1)
    tagged = network.kind is NetworkKind.VLAN
    if tagged != (network.segment is not None) or (tagged and network.segment not in _VLANS):
        raise ValueError(f"segment: {network.segment} of kind {network.kind}")
    if network.mtu not in _MTUS:
        raise ValueError(f"mtu: {network.mtu}")
    _within("lease_time", network.lease_time, 2**32 - 1)
    wire(network.dns_domain)


def _option(option: DhcpOption) -> None:
    _within("code", option.code, 254)


def _binding(binding: Binding) -> None:
    _within("ofport", binding.ofport, _LARGEST_OFPORT)
    _within("zone", binding.zone, 2**16 - 1)


def _port(port: Port) -> None:
    _within("key", port.key, 2**22 - 1)
    _mac("mac", port.mac)
    for pair in port.address_pairs:
        _mac("address_pairs", pair.mac)
    for own in port.held:
        _mac("held", own.mac)
    wire(host_name(port.hostname))


def _node(node: Node) -> None:
    _within("key", node.key, 2**16 - 1)
    _within("datapath_id", node.datapath_id, 2**64 - 1)


def _uplink(uplink: Uplink) -> None:
    _within("ofport", uplink.ofport, _LARGEST_OFPORT)


def _neighbour(neighbour: Neighbour) -> None:
    _mac("mac", neighbour.mac)


def _floating_ip(floating_ip: FloatingIp) -> None:
    _within("key", floating_ip.key, 2**22 - 1)
    if (floating_ip.port_id is None) != (floating_ip.fixed_ip is None):
        raise ValueError("an association needs a port and an address")


def _forwarding(forwarding: PortForwarding) -> None:
    _within("key", forwarding.key, 2**22 - 1)
    if forwarding.protocol not in service_rows.WITH_PORTS:
        raise ValueError(f"protocol: {forwarding.protocol} has no ports")
    _within("first", forwarding.first, forwarding.last)
    _within("last", forwarding.last, service_rows.LAST_PORT)
    _within("to", forwarding.to, service_rows.LAST_PORT - (forwarding.last - forwarding.first))


def _rule(rule: SecurityRule) -> None:
    _within("key", rule.key, 2**22 - 1)
    service_rows.check(rule.service, rule.family)
    if rule.remote_cidr is not None and rule.remote_cidr.version != rule.family:
        raise ValueError(f"remote_cidr: {rule.remote_cidr} of a rule for IPv{rule.family.value}")


def _group(group: SecurityGroup) -> None:
    _within("key", group.key, 2**22 - 1)


def _provider_rule(rule: ProviderRule) -> None:
    _within("key", rule.key, 2**16 - 1)
    service_rows.check(rule.service)


def _zone(zone: DnsZone) -> None:
    _within("key", zone.key, _LARGEST_KEY)
    wire(zone.name)
    _within("ttl", zone.ttl, _LARGEST_KEY, 0)


def _record(record: DnsRecord) -> None:
    wire(record.name)
    _within("ttl", record.ttl, _LARGEST_KEY, 0)
    rdata(record.type, record.data)


_RULES: Final[Mapping[Any, _Check]] = {
    Network: _network,
    DhcpOption: _option,
    Binding: _binding,
    Port: _port,
    Node: _node,
    Uplink: _uplink,
    Neighbour: _neighbour,
    FloatingIp: _floating_ip,
    PortForwarding: _forwarding,
    SecurityRule: _rule,
    SecurityGroup: _group,
    ProviderRule: _provider_rule,
    DnsZone: _zone,
    DnsRecord: _record,
}
