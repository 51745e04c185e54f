"""Which frames a capture is about: by IP protocol, address and port, all of which must fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from types import MappingProxyType
from typing import Final

from flows.protocols import ETH_ARP, ETH_IP, ETH_IPV6, PROTO_TCP, PROTO_UDP

LOOKED_AT: Final = 128
"""Bytes of a frame that are enough to tell: two tags, IPv6, and some of its extension headers."""

_TAGS: Final = frozenset({0x8100, 0x88A8})
_EXTENSIONS: Final = frozenset({0, 43, 60})  # hop by hop, routing, destination (RFC 8200, 4)
_FRAGMENT: Final = 44
_PORTS: Final = frozenset({PROTO_TCP, PROTO_UDP, 132})
_MOST_EXTENSIONS: Final = 8


class BadFilter(ValueError):
    """It cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class _Facts:
    """`protocol` None: neither IPv4 nor IPv6. `ports` are of TCP, UDP and SCTP, and none of a later fragment."""

    protocol: int | None
    addresses: tuple[bytes, ...]
    ports: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class FrameFilter:
    """None: any. An address is also that of an ARP packet."""

    protocol: int | None = None
    address: bytes | None = None
    port: int | None = None

    @staticmethod
    def parse(given: object) -> FrameFilter:
        """What a controller has asked for. Raises BadFilter."""
        if not isinstance(given, Mapping) or not given.keys() <= {"protocol", "address", "port"}:
            raise BadFilter("a filter has a protocol, an address and a port, or some of these")
        for name, most in (("protocol", 255), ("port", 65535)):
            value = given.get(name)
            if value is not None and (type(value) is not int or not 0 <= value <= most):
                raise BadFilter(f"{name} is a number from 0 to {most}")
        address = given.get("address")
        if address is not None and not isinstance(address, str):
            raise BadFilter("address is an IP address")
        try:
            packed = None if address is None else ip_address(address).packed
        except ValueError:
            raise BadFilter("address is an IP address") from None
        return FrameFilter(given.get("protocol"), packed, given.get("port"))

    @property
    def takes_all(self) -> bool:
        return self == FrameFilter()

    def takes(self, frame: bytes) -> bool:
        """Whether a frame, or its first LOOKED_AT bytes, is such a one. What is cut short or malformed is none."""
        try:
            facts = _facts(frame)
        except IndexError:
            return False
        return (
            (self.protocol is None or facts.protocol == self.protocol)
            and (self.address is None or self.address in facts.addresses)
            and (self.port is None or self.port in facts.ports)
        )


def _facts(frame: bytes) -> _Facts:
    """Raises IndexError for what ends too early."""
    at = 12
    while (ethertype := _number(frame, at)) in _TAGS:
        at += 4
    reader = _READERS.get(ethertype)
    return _Facts(None, ()) if reader is None else reader(frame, at + 2)


def _number(frame: bytes, at: int) -> int:
    return frame[at] << 8 | frame[at + 1]


def _arp(frame: bytes, at: int) -> _Facts:
    return _Facts(None, (frame[at + 14 : at + 18], frame[at + 24 : at + 28]))


def _ipv4(frame: bytes, at: int) -> _Facts:
    protocol, addresses = frame[at + 9], (frame[at + 12 : at + 16], frame[at + 16 : at + 20])
    later = _number(frame, at + 6) & 0x1FFF
    return _Facts(protocol, addresses, () if later else _ports(frame, at + (frame[at] & 15) * 4, protocol))


def _ipv6(frame: bytes, at: int) -> _Facts:
    protocol, addresses = frame[at + 6], (frame[at + 8 : at + 24], frame[at + 24 : at + 40])
    at += 40
    for _ in range(_MOST_EXTENSIONS):
        if protocol in _EXTENSIONS:
            protocol, at = frame[at], at + (frame[at + 1] + 1) * 8
        elif protocol == _FRAGMENT:
            later = _number(frame, at + 2) & 0xFFF8
            protocol, at = frame[at], at + 8
            if later:
                return _Facts(protocol, addresses)
        else:
            break
    return _Facts(protocol, addresses, _ports(frame, at, protocol))


def _ports(frame: bytes, at: int, protocol: int) -> tuple[int, ...]:
    return (_number(frame, at), _number(frame, at + 2)) if protocol in _PORTS else ()


_READERS: Final[Mapping[int, Callable[[bytes, int], _Facts]]] = MappingProxyType(
    {ETH_ARP: _arp, ETH_IP: _ipv4, ETH_IPV6: _ipv6}
)
