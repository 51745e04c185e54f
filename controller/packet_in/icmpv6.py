"""ICMPv6 errors that a gateway owes a sender (RFC 4443)."""

from __future__ import annotations

import struct
from ipaddress import IPv6Address
from typing import Final

from controller.packet_in import frames

_PACKET_TOO_BIG: Final = 2
_TIME_EXCEEDED: Final = 3
_FIRST_QUERY: Final = 128  # lower types are errors
_REDIRECT: Final = 137
_HEADER = struct.Struct(">BBHI")
_LONGEST: Final = 1280  # RFC 4443, 2.4: quote as much as fits into what every link takes
_MULTICAST: Final = 0xFF
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION = 0, 43, 44, 60
_EXTENSIONS: Final = frozenset({_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION})


def time_exceeded(frame: bytes, source: IPv6Address, gateway_mac: int) -> bytes | None:
    """The frame that tells the sender of an IPv6 frame that its hop limit was used up; None where a gateway must keep
    silent (RFC 4443, 2.4). `source` is the gateway's address.
    """
    asked = _answerable(frame)
    if asked is None or asked[1].hop_limit > 1:
        return None
    return _error(frame, *asked, source, frames.mac_bytes(gateway_mac), _TIME_EXCEEDED, 0)


def packet_too_big(frame: bytes, source: IPv6Address, mtu: int) -> bytes | None:
    """The same for a frame that is larger than the `mtu` of its next hop, from the MAC that it was sent to."""
    asked = _answerable(frame)
    if asked is None or len(frame) - asked[0].offset <= mtu:
        return None
    return _error(frame, *asked, source, asked[0].destination, _PACKET_TOO_BIG, mtu)


def _answerable(frame: bytes) -> tuple[frames.Ethernet, frames.Ipv6] | None:
    ethernet = frames.parse_ethernet(frame)
    if ethernet is None or ethernet.ethertype != frames.ETHERTYPE_IPV6 or ethernet.vlan is not None:
        return None
    packet = frames.parse_ipv6(frame, ethernet.offset)
    if packet is None or (ethernet.source[0] | ethernet.destination[0]) & 1:
        return None
    if _MULTICAST in (packet.source[0], packet.destination[0]) or packet.source == frames.NO_IPV6:
        return None
    kind = _icmpv6_type(frame, packet)
    return None if kind is not None and (kind < _FIRST_QUERY or kind == _REDIRECT) else (ethernet, packet)


def _icmpv6_type(frame: bytes, packet: frames.Ipv6) -> int | None:
    """Behind extension headers, too. Of a later fragment, and of what is cut, it is taken for an error."""
    protocol, at = packet.protocol, packet.offset
    while protocol in _EXTENSIONS:
        if at + 8 > packet.end:
            return 0
        if protocol == _FRAGMENT:
            if int.from_bytes(frame[at + 2 : at + 4], "big") & 0xFFF8:
                return 0
            size = 8
        else:
            size = (frame[at + 1] + 1) * 8
        protocol, at = frame[at], at + size
    if protocol != frames.PROTOCOL_ICMPV6:
        return None
    return frame[at] if at < packet.end else 0


def _error(
    frame: bytes,
    ethernet: frames.Ethernet,
    packet: frames.Ipv6,
    source: IPv6Address,
    mac: bytes,
    type_: int,
    rest: int,
) -> bytes:
    quote = frame[ethernet.offset : min(packet.end, ethernet.offset + _LONGEST - 40 - _HEADER.size)]
    message = frames.icmpv6(source.packed, packet.source, _HEADER.pack(type_, 0, 0, rest) + quote)
    datagram = frames.ipv6(source.packed, packet.source, frames.PROTOCOL_ICMPV6, message)
    return frames.ethernet(ethernet.source, mac, frames.ETHERTYPE_IPV6, datagram)
