"""Cuts an IPv4 datagram into fragments (RFC 791, 3.2)."""

from __future__ import annotations

from typing import Final

from controller.packet_in import frames

_FIXED: Final = 20
_END: Final = 0
_NO_OPERATION: Final = 1
_COPIED: Final = 0x80
_MORE: Final = 0x2000
_OFFSET: Final = 0x1FFF


def fragments(datagram: bytes, mtu: int) -> list[bytes]:
    """The parts of a sound datagram, none longer than `mtu` (68 at least), and as few as possible.

    It may be a fragment itself. One that others follow is cut into equal parts: what puts them together again may
    refuse small ones, all but the last of a datagram.
    """
    header_size = (datagram[0] & 0xF) * 4
    header, data = datagram[:header_size], datagram[header_size:]
    offset = int.from_bytes(header[6:8], "big")
    more_follow = offset & _MORE
    first, at = offset & _OFFSET, 0
    even = _even(len(data), mtu - header_size & ~7) if more_follow else mtu
    parts: list[bytes] = []
    while at < len(data) or not parts:
        room = mtu - len(header)
        end = len(data) if len(data) - at <= min(room, even) else at + min(room & ~7, even)
        more = more_follow if end == len(data) else _MORE
        parts.append(_datagram(header, more | (first + at // 8) & _OFFSET, data[at:end]))
        if at == 0:
            header = header[:_FIXED] + _copied(header[_FIXED:])
        at = end
    return parts


def _even(size: int, room: int) -> int:
    """The size, in whole units of a fragment offset, of each of as few parts as there is room for."""
    count = max(-(-size // room), 1)
    return -(-size // count) + 7 & ~7


def with_ttl(datagram: bytes, ttl: int) -> bytes:
    """A sound datagram with another time to live."""
    size = (datagram[0] & 0xF) * 4
    return _summed(datagram[:8] + bytes((ttl,)) + datagram[9:size]) + datagram[size:]


def without_fragment(datagram: bytes) -> bytes:
    """A sound datagram as if it were not a fragment."""
    size = (datagram[0] & 0xF) * 4
    return _summed(datagram[:6] + bytes(2) + datagram[8:size]) + datagram[size:]


def _copied(options: bytes) -> bytes:
    """Those options that every fragment carries, padded. Ends at the first that is not sound."""
    copied, at = b"", 0
    while at < len(options) and options[at] != _END:
        if options[at] == _NO_OPERATION:
            at += 1
            continue
        length = options[at + 1] if at + 1 < len(options) else 0
        if length < 2 or at + length > len(options):
            break
        if options[at] & _COPIED:
            copied += options[at : at + length]
        at += length
    return copied + bytes(-len(copied) % 4)


def _datagram(header: bytes, fragment: int, data: bytes) -> bytes:
    words = len(header) // 4
    length = len(header) + len(data)
    header = (
        bytes((0x40 | words, header[1]))
        + length.to_bytes(2, "big")
        + header[4:6]
        + fragment.to_bytes(2, "big")
        + (header[8:])
    )
    return _summed(header) + data


def _summed(header: bytes) -> bytes:
    header = header[:10] + b"\0\0" + header[12:]
    return header[:10] + frames.checksum(header).to_bytes(2, "big") + header[12:]
