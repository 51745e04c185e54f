"""The few messages that we read."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ryu.ofproto import ofproto_v1_4 as ofp

from flows.fields import FIELDS
from flows.ir import Stamp
from flows.pipeline import Priority, Table

_FLOW_STATS = struct.Struct("!HBxIIHHHH4xQQQ")


def parse_stamp_reply(message: bytes) -> Stamp | None:
    """Return the stamp in a reply to stamp_request; None when there is no stamp.

    Raises ValueError for a message that is cut or of another kind.
    """
    digest = None
    lacking = set()
    for offset in entries(message, ofp.OFPMP_FLOW, _FLOW_STATS.size):
        _, table, _, _, priority, _, _, _, cookie, _, _ = _FLOW_STATS.unpack_from(message, offset)
        if table == Table.STAMP and priority == Priority.MISS:
            digest = cookie
        elif table == Table.STAMP:
            lacking.add(cookie)
    return None if digest is None else Stamp(digest, frozenset(lacking))


_METER_CONFIG = struct.Struct("!HHI")


def parse_meters_reply(message: bytes) -> list[int]:
    """The meters in one part of a reply to meters_request. Raises ValueError as parse_stamp_reply does."""
    found = []
    for offset in entries(message, ofp.OFPMP_METER_CONFIG, _METER_CONFIG.size):
        _length, _flags, id_ = _METER_CONFIG.unpack_from(message, offset)
        found.append(id_)
    return found


def entries(message: bytes, wanted: int, size: int, *, length_at: int = 0) -> Iterator[int]:
    """Where the entries of a multipart reply begin, each of at least `size` bytes and with its length at `length_at`.

    Raises ValueError for a message that is cut or of another kind.
    """
    if len(message) < 16:
        raise ValueError("multipart reply is cut")
    if message[1] != ofp.OFPT_MULTIPART_REPLY or int.from_bytes(message[8:10]) != wanted:
        raise ValueError("another kind of reply")
    offset = 16
    while offset < len(message):
        length = int.from_bytes(message[offset + length_at : offset + length_at + 2])
        if length < size or length > len(message) - offset:
            raise ValueError(f"an entry of {length} bytes")
        yield offset
        offset += length


@dataclass(frozen=True, slots=True)
class PacketIn:
    cookie: int
    in_port: int
    reason: int
    frame: bytes


_PACKET_IN = struct.Struct("!IHBBQHH")
_IN_PORT_HEADER = FIELDS["in_port"].header.to_bytes(4)


def parse_packet_in(message: bytes) -> PacketIn | None:
    """A packet_in (OpenFlow 1.4 §7.4.1), or None when it is cut or carries no in_port."""
    if len(message) < 42:
        return None
    _buffer, total, reason, _table, cookie, match_type, match_length = _PACKET_IN.unpack_from(message, 8)
    match_end = 24 + match_length + (-match_length % 8)
    start = match_end + 2
    if match_type != ofp.OFPMT_OXM or match_length < 12 or start > len(message):
        return None
    # Open vSwitch puts in_port first
    if message[28:32] != _IN_PORT_HEADER:
        return None
    in_port = int.from_bytes(message[32:36])
    return PacketIn(cookie, in_port, reason, message[start : start + total])
