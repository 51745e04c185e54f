"""Simulated packets as frames on the wire and back, with right checksums."""

from __future__ import annotations

import struct

from flows.packet import Packet, packet
from flows.protocols import ETH_ARP, ETH_IP, ETH_IPV6, ETH_RARP, PROTO_ICMP, PROTO_TCP, PROTO_UDP
from tests.ovs import ipv6_frames
from tests.ovs.ipv6_frames import checksum

_TAG = 0x8100
_SYN = 0x02
_ICMP_ERRORS = (3, 11)
_UDP_HEADERS = 14 + 20 + 8  # a packet's size is that of its whole frame
_MORE_FRAGMENTS, _LATER = 0x2000, 0x00B9


def encode(made: Packet) -> bytes:
    """TCP is a SYN: the simulator knows no other."""
    header = made["eth_dst"].to_bytes(6) + made["eth_src"].to_bytes(6)
    if made["vlan_vid"]:
        header += struct.pack("!HH", _TAG, made["vlan_vid"] & 0xFFF)
    header += struct.pack("!H", made["eth_type"])
    if made["eth_type"] in (ETH_ARP, ETH_RARP):
        body = struct.pack("!HHBBH", 1, ETH_IP, 6, 4, made["arp_op"])
        body += made["arp_sha"].to_bytes(6) + made["arp_spa"].to_bytes(4)
        body += made["arp_tha"].to_bytes(6) + made["arp_tpa"].to_bytes(4)
    elif made["eth_type"] == ETH_IP:
        body = _ip(made)
    elif made["eth_type"] == ETH_IPV6 and made["ip_proto"]:
        body = ipv6_frames.encode(made)
    else:
        body = b""
    return (header + body).ljust(60, b"\0")


def _ip(made: Packet) -> bytes:
    body = bytes(32) if made["ip_frag"] & 1 else _layer4(made)
    fragment = (0, _MORE_FRAGMENTS, 0, _LATER)[made["ip_frag"]]
    ends = struct.pack("!II", made["ip_src"], made["ip_dst"])
    header = (
        struct.pack(
            "!BBHHHBBH", 0x45, made["ip_dscp"] << 2, 20 + len(body), 1, fragment, made["nw_ttl"], made["ip_proto"], 0
        )
        + ends
    )
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + body


def _layer4(made: Packet) -> bytes:
    payload = made["payload"].to_bytes(8).ljust(made["size"] - _UDP_HEADERS, b"\0")
    ends = struct.pack("!II", made["ip_src"], made["ip_dst"])
    if made["ip_proto"] == PROTO_UDP:
        data = struct.pack("!HHHH", made["udp_src"], made["udp_dst"], 8 + len(payload), 0) + payload
        pseudo = ends + struct.pack("!HH", PROTO_UDP, len(data))
        return data[:6] + struct.pack("!H", checksum(pseudo + data) or 0xFFFF) + data[8:]
    if made["ip_proto"] == PROTO_TCP:
        data = struct.pack("!HHIIBBHHH", made["tcp_src"], made["tcp_dst"], 1, 0, 0x50, _SYN, 0x2000, 0, 0) + payload
        pseudo = ends + struct.pack("!HH", PROTO_TCP, len(data))
        return data[:16] + struct.pack("!H", checksum(pseudo + data)) + data[18:]
    if made["ip_proto"] == PROTO_ICMP:
        if made["icmp_type"] in _ICMP_ERRORS:
            quoted = b"" if made.inner is None or made.inner["eth_type"] != ETH_IP else _ip(made.inner)[:28]
            data = struct.pack("!BBHI", made["icmp_type"], made["icmp_code"], 0, 0) + quoted
        else:
            data = struct.pack("!BBHHH", made["icmp_type"], made["icmp_code"], 0, made["icmp_id"], 1) + payload
        return data[:2] + struct.pack("!H", checksum(data)) + data[4:]
    return payload


def decode(frame: bytes) -> Packet:
    """What `encode` made, or Open vSwitch out of it. An AssertionError says that a checksum is wrong."""
    fields = {"eth_dst": int.from_bytes(frame[:6]), "eth_src": int.from_bytes(frame[6:12])}
    at = 12
    (kind,) = struct.unpack_from("!H", frame, at)
    if kind == _TAG:
        fields["vlan_vid"] = 0x1000 | struct.unpack_from("!H", frame, at + 2)[0] & 0xFFF
        at += 4
        (kind,) = struct.unpack_from("!H", frame, at)
    fields["eth_type"] = kind
    body = frame[at + 2 :]
    if kind in (ETH_ARP, ETH_RARP):
        fields["arp_op"] = struct.unpack_from("!H", body, 6)[0]
        for name, start, end in (("arp_sha", 8, 14), ("arp_spa", 14, 18), ("arp_tha", 18, 24), ("arp_tpa", 24, 28)):
            fields[name] = int.from_bytes(body[start:end])
    elif kind == ETH_IP:
        return _decode_ip(body, fields)
    elif kind == ETH_IPV6 and any(body):
        return ipv6_frames.decode(body, fields)
    return packet(**fields)


def _decode_ip(body: bytes, fields: dict[str, int], *, quoted: bool = False) -> Packet:
    assert checksum(body[:20]) == 0
    fields["ip_dscp"] = body[1] >> 2
    total, _, fragment, fields["nw_ttl"], protocol, _, source, target = struct.unpack_from("!HHHBBHII", body, 2)
    fields |= {"eth_type": ETH_IP, "ip_proto": protocol, "ip_src": source, "ip_dst": target}
    fields["ip_frag"] = 3 if fragment & 0x1FFF else 1 if fragment & _MORE_FRAGMENTS else 0
    data = body[20:total]
    if fields["ip_frag"]:
        return packet(**fields)
    first, second = struct.unpack_from("!HH", data)
    if protocol == PROTO_UDP:
        fields |= {"udp_src": first, "udp_dst": second}
    elif protocol == PROTO_TCP:
        fields |= {"tcp_src": first, "tcp_dst": second}
    elif protocol == PROTO_ICMP:
        fields |= {"icmp_type": data[0], "icmp_code": data[1]}
        assert quoted or checksum(data) == 0
        if data[0] in _ICMP_ERRORS:
            return packet(_decode_ip(data[8:], {}, quoted=True) if len(data) > 8 else None, **fields)
        fields["icmp_id"] = struct.unpack_from("!H", data, 4)[0]
    if protocol in (PROTO_UDP, PROTO_TCP) and not quoted:
        pseudo = body[12:20] + struct.pack("!HH", protocol, len(data))
        assert checksum(pseudo + data) == 0
    if not quoted and protocol not in (PROTO_TCP, PROTO_UDP, PROTO_ICMP):
        fields["payload"] = int.from_bytes(data[:8])
    elif not quoted and len(data) >= 8:
        fields["payload"] = int.from_bytes(data[-8:])
    return packet(**fields)
