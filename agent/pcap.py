"""Files of libpcap's format with microseconds, as tcpdump and Wireshark read them (draft-ietf-opsawg-pcap)."""

from __future__ import annotations

import struct
from typing import Final

_HEADER: Final = struct.Struct("<IHHiIII")
_RECORD: Final = struct.Struct("<IIII")
_MAGIC: Final = 0xA1B2C3D4
_ETHERNET: Final = 1


def header(snaplen: int) -> bytes:
    """What a file begins with."""
    return _HEADER.pack(_MAGIC, 2, 4, 0, 0, snaplen, _ETHERNET)


def record(at: int, length: int, data: bytes) -> bytes:
    """A frame of `length` bytes, of which `data` was kept; `at` in nanoseconds since 1970."""
    seconds, nanoseconds = divmod(at, 1_000_000_000)
    return _RECORD.pack(seconds & 0xFFFFFFFF, nanoseconds // 1000, len(data), length) + data
