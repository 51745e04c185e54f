"""ICMP errors that a gateway owes a sender (RFC 792, RFC 1191, RFC 1812)."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address
from typing import Final

from controller.packet_in import frames
from controller.packet_in.fragments import with_ttl

_TTL: Final = 64
_UNREACHABLE: Final = 3
_FRAGMENTATION_NEEDED: Final = 4
_TIME_EXCEEDED: Final = 11
_HEADER = struct.Struct(">BBHI")
_MAX_DATAGRAM: Final = 576  # RFC 1812, 4.3.2.3: quote as much as fits into this
_QUERIES: Final = frozenset({0, 8, 13, 14, 15, 16, 17, 18})  # every other type is, or may be, an error


def time_exceeded(frame: bytes, source: IPv4Address, gateway_mac: int) -> bytes | None:
    """The frame that tells the sender of an IPv4 frame that its TTL ran out; None where a gateway must keep silent.

    `source` is the gateway's address on the sender's network. Silent for ICMP errors, fragments but the first, and
    frames from or to more than one host (RFC 1812, 4.3.2.7), and for a packet whose lengths are untrue.
    """
    asked = _answerable(frame)
    if asked is None or asked[1].ttl > 1:
        return None
    return _error(frame, *asked, source, frames.mac_bytes(gateway_mac), _TIME_EXCEEDED, 0, 0)


def fragmentation_needed(frame: bytes, source: IPv4Address, mtu: int) -> bytes | None:
    """The same for an IPv4 frame that is larger than the `mtu` of its next hop (RFC 1191).

    It comes from the very MAC that the frame was sent to: where a router of the operator's is the gateway, from its.
    """
    asked = _answerable(frame)
    if asked is None:
        return None
    return _error(frame, *asked, source, asked[0].destination, _UNREACHABLE, _FRAGMENTATION_NEEDED, mtu)


def echo_reply(datagram: bytes, header_size: int) -> bytes:
    """The answer to a sound datagram that holds an echo request (RFC 792), from the address that it was sent to."""
    # the sum of the header stays what it is when the addresses change places
    header = datagram[:12] + datagram[16:20] + datagram[12:16] + datagram[20:header_size]
    message = bytes(4) + datagram[header_size + 4 :]
    message = message[:2] + frames.checksum(message).to_bytes(2, "big") + message[4:]
    return with_ttl(header + message, _TTL)


def _answerable(frame: bytes) -> tuple[frames.Ethernet, frames.Ipv4] | None:
    ethernet = frames.parse_ethernet(frame)
    if ethernet is None or ethernet.ethertype != frames.ETHERTYPE_IPV4 or ethernet.vlan is not None:
        return None
    packet = frames.parse_ipv4(frame, ethernet.offset)
    if packet is None or packet.fragment:
        return None
    if (ethernet.source[0] | ethernet.destination[0]) & 1:
        return None
    if not frames.is_host(packet.source) or not frames.is_host(packet.destination):
        return None
    if packet.protocol == frames.PROTOCOL_ICMP and (
        packet.offset == packet.end or frame[packet.offset] not in _QUERIES
    ):
        return None
    return ethernet, packet


def _error(
    frame: bytes,
    ethernet: frames.Ethernet,
    packet: frames.Ipv4,
    source: IPv4Address,
    mac: bytes,
    type_: int,
    code: int,
    rest: int,
) -> bytes:
    quote = frame[ethernet.offset : min(packet.end, ethernet.offset + _MAX_DATAGRAM - 20 - _HEADER.size)]
    message = _HEADER.pack(type_, code, 0, rest) + quote
    message = message[:2] + frames.checksum(message).to_bytes(2, "big") + message[4:]
    datagram = frames.ipv4(source.packed, packet.source, frames.PROTOCOL_ICMP, message)
    return frames.ethernet(ethernet.source, mac, frames.ETHERTYPE_IPV4, datagram)
