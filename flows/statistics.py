"""What a switch has counted: requests and their answers, as OpenFlow 1.4 bytes (§7.3.5)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from flows import wire
from flows.rules import COOKIE_MUTED, COOKIE_OURS, COOKIE_OURS_MASK
from flows.wire import encode_match, entries, multipart_request

_FLOW: Final = struct.Struct("!HBxIIHHHH4xQQQ")
_PORT: Final = struct.Struct("!H2xI8x8Q")
_METER: Final = struct.Struct("!IH6xIQQII")
_BAND: Final = struct.Struct("!QQ")
_OF_KEY: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class PortStats:
    """As the switch sees it: `received` is what has come in by the port. `dropped` are packets, too."""

    received_packets: int
    sent_packets: int
    received_bytes: int
    sent_bytes: int
    received_dropped: int
    sent_dropped: int


def ports_request(xid: int) -> bytes:
    """Asks for the counters of all ports."""
    return multipart_request(wire.PORT_STATS, struct.pack("!I4x", wire.ANY_PORT), xid)


def parse_ports(message: bytes) -> dict[int, PortStats]:
    """By port number, from one part of a reply. Raises ValueError for a message that is cut or of another kind."""
    found = {}
    for offset in entries(message, wire.PORT_STATS, _PORT.size):
        _length, number, *counts, _, _ = _PORT.unpack_from(message, offset)
        # a counter that the port does not have is all ones
        found[number] = PortStats(*(0 if count == 0xFFFFFFFFFFFFFFFF else count for count in counts))
    return found


@dataclass(frozen=True, slots=True)
class FlowStats:
    """How many packets, and bytes, have met a flow."""

    table: int
    cookie: int
    packets: int
    bytes: int


def flows_request(key: int, xid: int) -> bytes:
    """Asks for the flows whose cookie has this key of an object, of whatever rule and mark."""
    return _by_cookie(key, _OF_KEY, xid)


def parse_flows(message: bytes) -> list[FlowStats]:
    """From one part of a reply. Raises ValueError as parse_ports does."""
    found = []
    for offset in entries(message, wire.FLOW_STATS, _FLOW.size):
        _length, table, *_, cookie, packets, octets = _FLOW.unpack_from(message, offset)
        found.append(FlowStats(table, cookie, packets, octets))
    return found


def ours_request(xid: int) -> bytes:
    """Asks for the flows that carry our mark."""
    return _by_cookie(COOKIE_OURS, COOKIE_OURS_MASK, xid)


def muted_request(xid: int) -> bytes:
    """Asks for the flows that do not let a port be heard for a while."""
    return _by_cookie(COOKIE_MUTED, COOKIE_OURS_MASK, xid)


def _by_cookie(cookie: int, mask: int, xid: int) -> bytes:
    body = struct.pack("!B3xII4xQQ", wire.ALL_TABLES, wire.ANY_PORT, wire.ANY_GROUP, cookie, mask)
    return multipart_request(wire.FLOW_STATS, body + encode_match(()), xid)


def parse_places(message: bytes) -> list[tuple[tuple[int, int, int], int]]:
    """(table, priority, cookie) of each flow, and how many packets have met it, from one part of a reply. Raises
    ValueError as parse_ports does.
    """
    found = []
    for offset in entries(message, wire.FLOW_STATS, _FLOW.size):
        _length, table, _seconds, _nanoseconds, priority, *_, cookie, packets, _bytes = _FLOW.unpack_from(
            message, offset
        )
        found.append(((table, priority, cookie), packets))
    return found


def meters_request(xid: int) -> bytes:
    """Asks for the counters of all meters."""
    return multipart_request(wire.METER_STATS, struct.pack("!I4x", wire.ALL_METERS), xid)


def parse_meters(message: bytes) -> dict[int, int]:
    """Packets that exceeded each meter, by its id, from one part of a reply. Raises ValueError as parse_ports does."""
    found = {}
    for offset in entries(message, wire.METER_STATS, _METER.size + _BAND.size, length_at=4):
        packets, _bytes = _BAND.unpack_from(message, offset + _METER.size)
        found[int.from_bytes(message[offset : offset + 4])] = packets
    return found
