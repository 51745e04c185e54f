"""Ethernet, ARP, IPv4, UDP: build and checked parse, with slices and bounds only.

A parser answers None for anything that is not exactly right and never raises. Addresses are packed (4, 6 or 16 bytes).
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

ETHERTYPE_IPV4: Final = 0x0800
ETHERTYPE_ARP: Final = 0x0806
ETHERTYPE_VLAN: Final = 0x8100
ETHERTYPE_IPV6: Final = 0x86DD
PROTOCOL_ICMP: Final = 1
PROTOCOL_TCP: Final = 6
PROTOCOL_UDP: Final = 17
PROTOCOL_ICMPV6: Final = 58
ARP_REQUEST: Final = 1
ARP_REPLY: Final = 2
BROADCAST_MAC: Final = b"\xff" * 6
BROADCAST_IP: Final = b"\xff" * 4
NO_MAC: Final = bytes(6)
NO_IP: Final = bytes(4)
NO_IPV6: Final = bytes(16)
SUM_RIGHT: Final = 0xFFFF  # `checksum` over what holds its own right one
MIN_FRAME: Final = 60  # IEEE 802.3, without the checksum that the hardware adds

_ETHERNET = struct.Struct(">6s6sH")
_TAG = struct.Struct(">HHH")
_ARP = struct.Struct(">HHBBH6s4s6s4s")
_ARP_IPV4_OVER_ETHERNET = (1, ETHERTYPE_IPV4, 6, 4)
_IPV4 = struct.Struct(">BBHHHBBH4s4s")
_IPV6 = struct.Struct(">IHBB16s16s")
_UDP = struct.Struct(">HHHH")
_DONT_FRAGMENT = 0x4000
_TTL = 64
_IPV6_VERSION = 6 << 28


class Ethernet(NamedTuple):
    """`offset` is where the payload starts; `vlan` is the VLAN id of one 802.1Q tag, or None."""

    destination: bytes
    source: bytes
    ethertype: int
    vlan: int | None
    offset: int


class Arp(NamedTuple):
    operation: int
    sender_mac: bytes
    sender_ip: bytes
    target_mac: bytes
    target_ip: bytes


class Ipv4(NamedTuple):
    """`fragment` is the fragment offset in 8-byte units; `offset` is where the payload starts, `end` where it ends."""

    source: bytes
    destination: bytes
    protocol: int
    ttl: int
    fragment: int
    more_fragments: bool
    offset: int
    end: int
    dont_fragment: bool = False


class Ipv6(NamedTuple):
    """`protocol` is the header behind the fixed one; `offset` is where that begins, `end` where the packet ends."""

    source: bytes
    destination: bytes
    protocol: int
    hop_limit: int
    offset: int
    end: int


def mac_bytes(mac: str | int) -> bytes:
    """A MAC as text (aa:bb:cc:dd:ee:ff) or number, packed. Raises ValueError for text that is no MAC."""
    packed = mac.to_bytes(6, "big") if isinstance(mac, int) else bytes.fromhex(mac.replace(":", ""))
    if len(packed) != 6:
        raise ValueError(f"not a MAC address: {mac}")
    return packed


def mac_text(mac: bytes) -> str:
    return mac.hex(":")


def is_host(address: bytes) -> bool:
    """True for an address that one host can have: not 0/8, loopback, multicast, reserved or broadcast (RFC 1122)."""
    return 0 < address[0] < 224 and address[0] != 127


def ones_sum(data: bytes) -> int:
    """The one's complement sum (RFC 1071) of data of even length, 0..65534.

    2^16 is 1 modulo 65535, so the sum of the 16-bit words is the whole number modulo 65535: one division in C.
    """
    return int.from_bytes(data, "big") % 0xFFFF


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071), 1..65535: 65535 stands for 0, which is the same in one's complement."""
    return 0xFFFF - ones_sum(data + b"\0" if len(data) & 1 else data)


def ethernet(destination: bytes, source: bytes, ethertype: int, payload: bytes, vlan: int | None = None) -> bytes:
    tag = b"" if vlan is None else struct.pack(">HH", ETHERTYPE_VLAN, vlan)
    return destination + source + tag + ethertype.to_bytes(2, "big") + payload


def readdressed(frame: bytes, destination: bytes, vlan: int | None) -> bytes:
    """An untagged frame to another MAC and, where there is one, under a VLAN id."""
    tag = b"" if vlan is None else struct.pack(">HH", ETHERTYPE_VLAN, vlan)
    return destination + frame[6:12] + tag + frame[12:]


def parse_ethernet(frame: bytes) -> Ethernet | None:
    if len(frame) < _ETHERNET.size:
        return None
    destination, source, ethertype = _ETHERNET.unpack_from(frame)
    if ethertype != ETHERTYPE_VLAN:
        return Ethernet(destination, source, ethertype, None, _ETHERNET.size)
    if len(frame) < _ETHERNET.size + 4:
        return None
    _, tag, ethertype = _TAG.unpack_from(frame, 12)
    return Ethernet(destination, source, ethertype, tag & 0xFFF, _ETHERNET.size + 4)


def arp(arp_: Arp) -> bytes:
    """RFC 826, IPv4 over Ethernet."""
    hardware, protocol, hardware_size, protocol_size = _ARP_IPV4_OVER_ETHERNET
    return _ARP.pack(hardware, protocol, hardware_size, protocol_size, *arp_)


def parse_arp(frame: bytes, offset: int) -> Arp | None:
    if len(frame) < offset + _ARP.size:
        return None
    hardware, protocol, hardware_size, protocol_size, *rest = _ARP.unpack_from(frame, offset)
    if (hardware, protocol, hardware_size, protocol_size) != _ARP_IPV4_OVER_ETHERNET:
        return None
    return Arp(*rest)


def ipv4(source: bytes, destination: bytes, protocol: int, payload: bytes) -> bytes:
    """A whole datagram, not to be fragmented (RFC 791; its identification may then be 0, RFC 6864)."""
    length = _IPV4.size + len(payload)
    header = _IPV4.pack(0x45, 0, length, 0, _DONT_FRAGMENT, _TTL, protocol, 0, source, destination)
    return header[:10] + checksum(header).to_bytes(2, "big") + header[12:] + payload


def parse_ipv4(frame: bytes, offset: int) -> Ipv4 | None:
    """None also when a length in the header is not covered by the frame (never copy by what a header says)."""
    packet = parse_ipv4_header(frame, offset)
    return None if packet is None or len(frame) < packet.end else packet


def parse_ipv4_header(frame: bytes, offset: int) -> Ipv4 | None:
    """Also of a frame of which only the beginning is there: `end` may lie behind it."""
    if len(frame) < offset + _IPV4.size:
        return None
    version, _, length, _, fragment, ttl, protocol, _, source, destination = _IPV4.unpack_from(frame, offset)
    header = (version & 0xF) * 4
    if version >> 4 != 4 or header < _IPV4.size or length < header:
        return None
    return Ipv4(
        *(source, destination, protocol, ttl, fragment & 0x1FFF, bool(fragment & 0x2000)),
        *(offset + header, offset + length, bool(fragment & _DONT_FRAGMENT)),
    )


def ipv4_addresses(frame: bytes, offset: int) -> tuple[bytes, bytes] | None:
    """Source and destination of an IPv4 packet of which the end may be cut off."""
    if len(frame) < offset + _IPV4.size or frame[offset] >> 4 != 4:
        return None
    return frame[offset + 12 : offset + 16], frame[offset + 16 : offset + 20]


def ipv6(source: bytes, destination: bytes, protocol: int, payload: bytes, hop_limit: int = _TTL) -> bytes:
    """A whole packet without extension headers (RFC 8200)."""
    return _IPV6.pack(_IPV6_VERSION, len(payload), protocol, hop_limit, source, destination) + payload


def parse_ipv6(frame: bytes, offset: int) -> Ipv6 | None:
    """The fixed header. None also when its length is not covered by the frame, or is that of a jumbogram (0)."""
    packet = parse_ipv6_header(frame, offset)
    return None if packet is None or packet.end == packet.offset or len(frame) < packet.end else packet


def parse_ipv6_header(frame: bytes, offset: int) -> Ipv6 | None:
    """Also of a frame of which only the beginning is there: `end` may lie behind it."""
    if len(frame) < offset + _IPV6.size:
        return None
    first, length, protocol, hop_limit, source, destination = _IPV6.unpack_from(frame, offset)
    start = offset + _IPV6.size
    return None if first >> 28 != 6 else Ipv6(source, destination, protocol, hop_limit, start, start + length)


def ipv6_sum(source: bytes, destination: bytes, protocol: int, payload: bytes) -> int:
    """The checksum of a payload behind the pseudo header (RFC 8200, 8.1), as `checksum`."""
    pseudo = source + destination + struct.pack(">II", len(payload), protocol)
    return checksum(pseudo + payload)


def icmpv6(source: bytes, destination: bytes, message: bytes) -> bytes:
    """A message whose checksum field, bytes 2 and 3, is filled in (RFC 4443, 2.3)."""
    empty = message[:2] + b"\0\0" + message[4:]
    return message[:2] + ipv6_sum(source, destination, PROTOCOL_ICMPV6, empty).to_bytes(2, "big") + message[4:]


def ip_addresses(frame: bytes, ethernet_: Ethernet) -> tuple[bytes, bytes] | None:
    """Source and destination of an untagged packet of either family, of which the end may be cut off."""
    if ethernet_.vlan is not None:
        return None
    if ethernet_.ethertype == ETHERTYPE_IPV4:
        return ipv4_addresses(frame, ethernet_.offset)
    at = ethernet_.offset
    if ethernet_.ethertype != ETHERTYPE_IPV6 or len(frame) < at + _IPV6.size or frame[at] >> 4 != 6:
        return None
    return frame[at + 8 : at + 24], frame[at + 24 : at + 40]


def udp(source: bytes, destination: bytes, source_port: int, destination_port: int, payload: bytes) -> bytes:
    """A UDP datagram (RFC 768) with its checksum over the pseudo header. Never 0, which would mean "none".

    Addresses of IPv6, too: its pseudo header (RFC 8200, 8.1) holds the same words and zeros.
    """
    length = _UDP.size + len(payload)
    header = _UDP.pack(source_port, destination_port, length, 0)
    pseudo = source + destination + struct.pack(">HH", PROTOCOL_UDP, length)
    return header[:6] + checksum(pseudo + header + payload).to_bytes(2, "big") + payload
