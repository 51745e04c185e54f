"""Between values and what a JSON column holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import Any

from controller.store.specs import AddressRange, DhcpOptionSpec, HostAddress, SnatChoice
from flows.model import HostRoute, StaticRoute


def dump_options(options: Iterable[DhcpOptionSpec]) -> list[dict[str, Any]]:
    return [
        {"code": option.code, "payload": option.payload.hex(), "value": option.value, "type": option.type}
        for option in options
    ]


def load_options(rows: Iterable[Mapping[str, Any]]) -> tuple[DhcpOptionSpec, ...]:
    return tuple(DhcpOptionSpec(row["code"], bytes.fromhex(row["payload"]), row["value"], row["type"]) for row in rows)


def dump_addresses(addresses: Iterable[IPv4Address | IPv6Address]) -> list[str]:
    return [str(address) for address in addresses]


def load_addresses(rows: Iterable[str]) -> tuple[IPv4Address, ...]:
    return tuple(IPv4Address(row) for row in rows)


def load_ipv6_addresses(rows: Iterable[str]) -> tuple[IPv6Address, ...]:
    return tuple(IPv6Address(row) for row in rows)


def load_snat_choice(text: str) -> SnatChoice:
    """Of what `str` of one says."""
    if text.startswith("host:"):
        return HostAddress(IPv4Address(text.removeprefix("host:")))
    first, dash, last = text.partition("-")
    return AddressRange(IPv4Address(first), IPv4Address(last)) if dash else IPv4Address(first)


def dump_ranges(ranges: Iterable[IPv4Network]) -> list[str]:
    return [str(part) for part in ranges]


def load_ranges(rows: Iterable[str]) -> tuple[IPv4Network, ...]:
    return tuple(IPv4Network(row) for row in rows)


def load_static_routes(rows: Iterable[list[str]]) -> tuple[StaticRoute, ...]:
    return tuple(StaticRoute(route.destination, route.next_hop) for route in load_routes(rows))


def dump_routes(routes: Iterable[HostRoute | StaticRoute]) -> list[list[str]]:
    return [[str(route.destination), str(route.next_hop)] for route in routes]


def load_routes(rows: Iterable[list[str]]) -> tuple[HostRoute, ...]:
    return tuple(HostRoute(IPv4Network(destination), IPv4Address(next_hop)) for destination, next_hop in rows)
