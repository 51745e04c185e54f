"""DNS by UDP: the question out of a frame, and the frame that takes the answer back. For IPv4 and IPv6.

The answer goes to whoever the frame says it is from, and only out of the interface that it came by: who lies about
that tells itself.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from controller.dns.message import UNFRAGMENTED
from controller.packet_in import frames

PORT: Final = 53
MOST: Final = UNFRAGMENTED
IPV4_HEADERS: Final = 28
IPV6_HEADERS: Final = 48
"""Bytes of a packet, of IP and UDP."""

# version/IHL; total length; flags/fragment; protocol; addresses
_IPV4 = struct.Struct(">BxHxxHxBxx4s4s")
# version; payload length; next header; addresses
_IPV6 = struct.Struct(">BxxxHBx16s16s")
_UDP = struct.Struct(">HHH")
_UDP_SIZE = 8
_FRAGMENT_BITS = 0x3FFF


class Datagram(NamedTuple):
    """A question and its way back. `headers`: bytes of IP and UDP."""

    message: bytes
    source_mac: bytes
    target_mac: bytes
    source: bytes
    target: bytes
    source_port: int
    headers: int


def read(frame: bytes) -> Datagram | None:
    """None for what is no whole datagram to port 53. The checksum is not looked at: guests leave it to hardware."""
    ethernet = frames.parse_ethernet(frame)
    if ethernet is None or ethernet.vlan is not None:
        return None
    at, size = ethernet.offset, len(frame)
    if ethernet.ethertype == frames.ETHERTYPE_IPV4 and size >= at + IPV4_HEADERS:
        version, total, fragment, protocol, source, target = _IPV4.unpack_from(frame, at)
        header = (version & 0xF) * 4
        start, end, headers = at + header, at + total, IPV4_HEADERS
        if version >> 4 != 4 or header < _IPV4.size or fragment & _FRAGMENT_BITS:
            return None
    elif ethernet.ethertype == frames.ETHERTYPE_IPV6 and size >= at + IPV6_HEADERS:
        version, length, protocol, source, target = _IPV6.unpack_from(frame, at)
        start, headers = at + _IPV6.size, IPV6_HEADERS
        end = start + length
        if version >> 4 != 6:
            return None
    else:
        return None
    if protocol != frames.PROTOCOL_UDP or end > size or start + _UDP_SIZE > end:
        return None
    source_port, target_port, length = _UDP.unpack_from(frame, start)
    if target_port != PORT or not source_port or length < _UDP_SIZE or start + length > end:
        return None
    message = frame[start + _UDP_SIZE : start + length]
    return Datagram(message, ethernet.source, ethernet.destination, source, target, source_port, headers)


def reply(question: Datagram, message: bytes) -> bytes:
    """The frame with the answer."""
    source, target = question.target, question.source
    datagram = frames.udp(source, target, PORT, question.source_port, message)
    if len(source) == 4:
        ethertype, packet = frames.ETHERTYPE_IPV4, frames.ipv4(source, target, frames.PROTOCOL_UDP, datagram)
    else:
        ethertype, packet = frames.ETHERTYPE_IPV6, frames.ipv6(source, target, frames.PROTOCOL_UDP, datagram)
    return frames.ethernet(question.source_mac, question.target_mac, ethertype, packet)
