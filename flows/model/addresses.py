"""Addresses, and whose they are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address


class Family(IntEnum):
    """The IP version."""

    IPV4 = 4
    IPV6 = 6


@dataclass(frozen=True, slots=True)
class FixedIp:
    subnet_id: str
    address: IPv4Address


@dataclass(frozen=True, slots=True)
class Ipv6FixedIp:
    subnet_id: str
    address: IPv6Address


@dataclass(frozen=True, slots=True)
class AddressPair:
    """An address, or a range, that a port may use beside its own, with its own MAC or another (VRRP, RFC 5798)."""

    cidr: IPv4Network
    mac: str


@dataclass(frozen=True, slots=True)
class OwnAddress:
    """An address that is sent to a port, and the port's MAC for it."""

    address: IPv4Address
    mac: str
