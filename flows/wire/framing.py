"""What all messages, and all of Nicira's actions, begin and end with."""

from __future__ import annotations

import struct

from ryu.ofproto import ofproto_v1_4 as ofp

NICIRA = 0x00002320

_HEADER = struct.Struct("!BBHI")
_NX_ACTION = struct.Struct("!HHIH")


def pad(data: bytes, to: int = 8) -> bytes:
    return data + bytes(-len(data) % to)


def header(kind: int, body_size: int, xid: int) -> bytes:
    """The first 8 bytes of a message."""
    return _HEADER.pack(ofp.OFP_VERSION, kind, 8 + body_size, xid)


def framed(kind: int, body: bytes, xid: int = 0) -> bytes:
    return header(kind, len(body), xid) + body


def nicira(subtype: int, body: bytes) -> bytes:
    length = 10 + len(body) + (-(10 + len(body)) % 8)
    return pad(_NX_ACTION.pack(ofp.OFPAT_EXPERIMENTER, length, NICIRA, subtype) + body)
