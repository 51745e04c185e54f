"""A DHCP client's half of the wire, written apart from the server's: messages out, replies taken to pieces."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

Option = tuple[int, bytes]
COOKIE = bytes.fromhex("63825363")
DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE, INFORM = range(1, 9)
ZERO = IPv4Address("0.0.0.0")
EVERYBODY = IPv4Address("255.255.255.255")


def ip(text: str) -> bytes:
    return IPv4Address(text).packed


def internet_sum(data: bytes) -> int:
    """RFC 1071 as the RFC writes it: word by word, with the carries added back."""
    total = 0
    for at in range(0, len(data) - 1, 2):
        total += data[at] << 8 | data[at + 1]
    if len(data) % 2:
        total += data[-1] << 8
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@dataclass(frozen=True)
class Message:
    """A client's message; `change` (dataclasses.replace) makes the wrong ones."""

    type: int | None = DISCOVER
    mac: bytes = bytes.fromhex("fa163e000001")
    eth_source: bytes | None = None
    chaddr: bytes | None = None
    xid: int = 0x12345678
    secs: int = 3
    flags: int = 0
    ciaddr: IPv4Address = ZERO
    giaddr: IPv4Address = ZERO
    source: IPv4Address = ZERO
    destination: IPv4Address = EVERYBODY
    op: int = 1
    htype: int = 1
    hlen: int = 6
    ports: tuple[int, int] = (68, 67)
    options: tuple[Option, ...] = ()
    tail: bytes = b"\xff"
    sname: bytes = b""
    file: bytes = b""
    cookie: bytes = COOKIE
    ip_options: bytes = b""

    def change(self, **fields: object) -> Message:
        return replace(self, **fields)  # type: ignore[arg-type]

    def frame(self) -> bytes:
        first = () if self.type is None else ((53, bytes((self.type,))),)
        body = b"".join(bytes((code, len(value))) + value for code, value in (*first, *self.options)) + self.tail
        bootp = struct.pack(
            ">BBBBIHH4s4s4s4s16s64s128s4s",
            *(self.op, self.htype, self.hlen, 0, self.xid, self.secs, self.flags),
            *(self.ciaddr.packed, bytes(4), bytes(4), self.giaddr.packed),
            *(self.chaddr or self.mac, self.sname, self.file, self.cookie),
        )
        message = bootp + body
        udp = struct.pack(">HHHH", *self.ports, 8 + len(message), 0) + message
        words = 5 + len(self.ip_options) // 4
        ipv4 = struct.pack(">BBHHHBBH", 0x40 | words, 0, words * 4 + len(udp), 1, 0, 64, 17, 0)
        ipv4 += self.source.packed + self.destination.packed + self.ip_options
        return b"\xff" * 6 + (self.eth_source or self.mac) + b"\x08\x00" + ipv4 + udp


@dataclass(frozen=True)
class Reply:
    eth_destination: bytes
    eth_source: bytes
    source: IPv4Address
    destination: IPv4Address
    ports: tuple[int, int]
    head: bytes
    xid: int
    secs: int
    flags: int
    ciaddr: IPv4Address
    yiaddr: IPv4Address
    siaddr: IPv4Address
    giaddr: IPv4Address
    chaddr: bytes
    sname: bytes
    file: bytes
    options: tuple[Option, ...]
    message_size: int
    datagram_size: int

    @property
    def codes(self) -> list[int]:
        return [code for code, _ in self.options]

    def option(self, code: int) -> bytes:
        """The pieces joined, as RFC 3396 wants."""
        return b"".join(value for code_, value in self.options if code_ == code)

    @property
    def type(self) -> int:
        return self.option(53)[0]


def take_apart(frame: bytes | None) -> Reply:
    """Asserts that every length and checksum of a reply is right."""
    assert frame is not None
    assert frame[12:14] == b"\x08\x00" and frame[14] == 0x45 and frame[23] == 17
    total = int.from_bytes(frame[16:18], "big")
    assert total == len(frame) - 14
    assert internet_sum(frame[14:34]) == 0xFFFF
    udp = frame[34:]
    assert int.from_bytes(udp[4:6], "big") == len(udp)
    assert udp[6:8] != b"\0\0"
    assert internet_sum(frame[26:34] + b"\0\x11" + udp[4:6] + udp) == 0xFFFF
    bootp = udp[8:]
    assert len(bootp) >= 300 and bootp[236:240] == COOKIE
    xid, secs, flags = struct.unpack_from(">IHH", bootp, 4)
    return Reply(
        frame[0:6],
        frame[6:12],
        IPv4Address(frame[26:30]),
        IPv4Address(frame[30:34]),
        (int.from_bytes(udp[0:2], "big"), int.from_bytes(udp[2:4], "big")),
        bootp[0:4],
        xid,
        secs,
        flags,
        IPv4Address(bootp[12:16]),
        IPv4Address(bootp[16:20]),
        IPv4Address(bootp[20:24]),
        IPv4Address(bootp[24:28]),
        bootp[28:44],
        bootp[44:108].rstrip(b"\0"),
        bootp[108:236].rstrip(b"\0"),
        tuple(_options(bootp[240:])),
        len(bootp),
        total,
    )


def _options(data: bytes) -> Iterable[Option]:
    at = 0
    while data[at] != 255:
        code, size = data[at], data[at + 1]
        value = data[at + 2 : at + 2 + size]
        assert code and len(value) == size
        yield code, value
        at += 2 + size
    assert not any(data[at + 1 :])
