"""Simulated IPv6 packets as they are on the wire (RFC 8200, 4443, 4861) and back, with right checksums."""

from __future__ import annotations

import struct

from flows.packet import Packet, packet
from flows.protocols import (
    ETH_IPV6,
    ICMPV6_ERRORS,
    ND_ADVERTISEMENT,
    ND_SOLICITATION,
    PROTO_ICMPV6,
    PROTO_IPV6_FRAGMENT,
    PROTO_TCP,
    PROTO_UDP,
)

_SYN = 0x02
_HEADERS = 14 + 40 + 8  # a packet's size is that of its whole frame
_MORE, _LATER = 0x0001, 0x00B8
_ECHO = (128, 129)
_ND = (ND_SOLICITATION, ND_ADVERTISEMENT)
_FIRST = 1240  # bytes of the first part: conntrack takes none smaller than 1280 for one


def checksum(data: bytes) -> int:
    """RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def encode(made: Packet) -> bytes:
    """What follows the Ethernet header. TCP is a SYN: the simulator knows no other."""
    ends = made["ipv6_src"].to_bytes(16) + made["ipv6_dst"].to_bytes(16)
    protocol = made["ip_proto"]
    if made["ip_frag"] & 1:
        inner = PROTO_UDP if protocol == PROTO_IPV6_FRAGMENT else protocol
        offset = _LATER if made["ip_frag"] & 2 else _MORE
        body, protocol = struct.pack("!BBHI", inner, 0, offset, 1) + bytes(32), PROTO_IPV6_FRAGMENT
    else:
        body = _layer4(made, ends)
    first = 6 << 28 | made["ip_dscp"] << 22
    return struct.pack("!IHBB", first, len(body), protocol, made["nw_ttl"]) + ends + body


def _summed(ends: bytes, protocol: int, data: bytes, at: int) -> bytes:
    pseudo = ends + struct.pack("!II", len(data), protocol)
    return data[:at] + struct.pack("!H", checksum(pseudo + data) or 0xFFFF) + data[at + 2 :]


def _layer4(made: Packet, ends: bytes) -> bytes:
    payload = made["payload"].to_bytes(8).ljust(made["size"] - _HEADERS, b"\0")
    protocol = made["ip_proto"]
    if protocol == PROTO_UDP:
        data = struct.pack("!HHHH", made["udp_src"], made["udp_dst"], 8 + len(payload), 0) + payload
        return _summed(ends, protocol, data, 6)
    if protocol == PROTO_TCP:
        data = struct.pack("!HHIIBBHHH", made["tcp_src"], made["tcp_dst"], 1, 0, 0x50, _SYN, 0x2000, 0, 0) + payload
        return _summed(ends, protocol, data, 16)
    if protocol == PROTO_ICMPV6:
        kind = made["icmpv6_type"]
        data = bytes((kind, made["icmpv6_code"], 0, 0))
        if "nd_target" in made:
            data += struct.pack("!I", made["nd_reserved"]) + made["nd_target"].to_bytes(16)
            address = made["nd_sll" if kind == ND_SOLICITATION else "nd_tll"]
            if address:
                data += bytes((kind - ND_SOLICITATION + 1, 1)) + address.to_bytes(6)
        elif kind in ICMPV6_ERRORS:
            data += bytes(4) + (b"" if made.inner is None else encode(made.inner)[:48])
        elif kind in _ECHO:
            data += struct.pack("!HH", made["icmp_id"], 1) + payload
        else:
            data += bytes(4) + payload
        return _summed(ends, protocol, data, 2)
    return payload


def decode(body: bytes, fields: dict[str, int], *, quoted: bool = False) -> Packet:
    """An AssertionError says that a checksum is wrong."""
    first, length, protocol, fields["nw_ttl"] = struct.unpack_from("!IHBB", body)
    ends = body[8:40]
    fields |= {"eth_type": ETH_IPV6, "ip_dscp": first >> 22 & 0x3F, "ip_proto": protocol}
    fields |= {"ipv6_src": int.from_bytes(ends[:16]), "ipv6_dst": int.from_bytes(ends[16:])}
    data = body[40 : 40 + length]
    if protocol == PROTO_IPV6_FRAGMENT:
        later = struct.unpack_from("!H", data, 2)[0] & 0xFFF8
        return packet(**fields | {"ip_frag": 3 if later else 1, "ip_proto": protocol if later else data[0]})
    if not quoted and protocol in (PROTO_UDP, PROTO_TCP, PROTO_ICMPV6):
        assert checksum(ends + struct.pack("!II", len(data), protocol) + data) == 0
    first_port, second_port = struct.unpack_from("!HH", data)
    if protocol == PROTO_UDP:
        fields |= {"udp_src": first_port, "udp_dst": second_port}
    elif protocol == PROTO_TCP:
        fields |= {"tcp_src": first_port, "tcp_dst": second_port}
    elif protocol == PROTO_ICMPV6:
        return _decode_icmp(data, fields, quoted=quoted)
    if not quoted:
        fields["payload"] = int.from_bytes(data[-8:] if protocol in (PROTO_UDP, PROTO_TCP) else data[:8])
    return packet(**fields)


def _decode_icmp(data: bytes, fields: dict[str, int], *, quoted: bool) -> Packet:
    kind = data[0]
    fields |= {"icmpv6_type": kind, "icmpv6_code": data[1]}
    discovery = kind in _ND and not data[1]
    if discovery:
        fields |= {"nd_reserved": int.from_bytes(data[4:8]), "nd_target": int.from_bytes(data[8:24])}
        if len(data) >= 32:
            fields["nd_options_type"] = data[24]
            fields["nd_sll" if data[24] == 1 else "nd_tll"] = int.from_bytes(data[26:32])
    elif kind in ICMPV6_ERRORS:
        return packet(decode(data[8:], {}, quoted=True) if len(data) > 8 else None, **fields)
    elif kind in _ECHO:
        fields["icmp_id"] = int.from_bytes(data[4:6])
    if not quoted and not discovery:
        fields["payload"] = int.from_bytes(data[-8:])
    return packet(**fields)


# number of the extension header, and the header itself behind "next header" (RFC 8200, 4): 8 bytes each
HIDING = {
    "hop-by-hop options": [(0, bytes((0, 1, 4, 0, 0, 0, 0)))],
    "destination options": [(60, bytes((0, 1, 4, 0, 0, 0, 0)))],
    "both": [(0, bytes((0, 1, 4, 0, 0, 0, 0))), (60, bytes((0, 1, 4, 0, 0, 0, 0)))],
    "a routing header": [(43, bytes((0, 0, 0, 0, 0, 0, 0)))],
    "the only fragment": [(PROTO_IPV6_FRAGMENT, bytes((0, 0, 0, 0, 0, 0, 7)))],
    "options in the only fragment": [
        (PROTO_IPV6_FRAGMENT, bytes((0, 0, 0, 0, 0, 0, 7))),
        (60, bytes((0, 1, 4, 0, 0, 0, 0))),
    ],
}


def hidden(frame: bytes, behind: str) -> bytes:
    """A frame whose payload stands behind one of HIDING."""
    header, body, protocol = frame[:54], frame[54:], frame[20]
    for number, extension in reversed(HIDING[behind]):
        body, protocol = bytes((protocol,)) + extension + body, number
    return header[:18] + len(body).to_bytes(2) + bytes((protocol,)) + header[21:] + body


def in_two(frame: bytes, id_: int, first: int = _FIRST) -> list[bytes]:
    """RFC 8200, 4.5. `first`: bytes of the first part, a multiple of 8."""
    link, header, body = frame[:14], frame[14:54], frame[54:]
    parts = []
    for offset, data in ((0, body[:first]), (first, body[first:])):
        more = int(offset == 0)  # bit 0; the offset is in units of 8 bytes, which are bits 3 and up
        extension = bytes((header[6], 0)) + (offset | more).to_bytes(2) + id_.to_bytes(4)
        length = (8 + len(data)).to_bytes(2)
        parts.append(link + header[:4] + length + bytes((PROTO_IPV6_FRAGMENT,)) + header[7:] + extension + data)
    return parts
