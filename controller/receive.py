"""Cuts a stream into OpenFlow 1.4 messages and refuses what could hurt. No I/O, no Ryu.

OpenFlow Switch Specification 1.4.0: header §7.1, hello §7.5.1, error §7.5.4, bundle control §7.3.9.
"""

from __future__ import annotations

import struct
from typing import Final

HEADER: Final = struct.Struct("!BBHI")
HEADER_SIZE: Final = 8
VERSION: Final = 0x05
READ_SIZE: Final = 65536

HELLO: Final = 0
ERROR: Final = 1
ECHO_REQUEST: Final = 2
ECHO_REPLY: Final = 3
FEATURES_REPLY: Final = 6
PACKET_IN: Final = 10
MULTIPART_REPLY: Final = 19
BARRIER_REPLY: Final = 21
ROLE_REPLY: Final = 25
ROLE_STATUS: Final = 30
BUNDLE_CONTROL: Final = 33

# the shortest that each may be; what is not here is dropped unread
MINIMUM: Final = {
    HELLO: 8,
    ERROR: 12,
    ECHO_REQUEST: 8,
    ECHO_REPLY: 8,
    FEATURES_REPLY: 32,
    PACKET_IN: 34,
    MULTIPART_REPLY: 16,
    BARRIER_REPLY: 8,
    ROLE_REPLY: 24,
    ROLE_STATUS: 24,
    BUNDLE_CONTROL: 16,
}

MOST_ANSWER: Final = 1 << 25
"""Bytes of a multipart reply in all its parts: a hundred thousand flows have less. One without end would fill us."""

MULTIPART_PORT_DESC: Final = 13
BUNDLE_OPEN_REPLY: Final = 1

_HELLO_ELEMENT: Final = struct.Struct("!HH")
_HELLO_VERSION_BITMAP: Final = 1
# 1.0, 1.2, 1.3, 1.4, 1.5: the versions that Ryu can read, and answer a hello of with a refusal that says why
VERSIONS: Final = frozenset({1, 3, 4, 5, 6})


class BadMessage(Exception):
    """The peer is not a switch that we could talk to. The text says why."""


class Splitter:
    """Collects what was read until a whole message is there."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._needed = 0

    def feed(self, data: bytes) -> bytes:
        """Whole messages, or nothing yet. Raises BadMessage for a length below 8, or when it is not OpenFlow at all."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return b""
            data = bytes(self._rest)
        end, size = 0, len(data)
        self._needed = HEADER_SIZE
        while size - end >= HEADER_SIZE:
            length = data[end + 2] << 8 | data[end + 3]
            if length < HEADER_SIZE:
                raise BadMessage(f"message length {length}")
            if length > size - end:
                if data[end] not in VERSIONS:
                    raise BadMessage(f"version {data[end]:#04x}")  # do not wait for the rest of something else
                self._needed = length
                break
            end += length
        if end == size:
            if self._rest:
                self._rest = bytearray()
            return data
        self._rest = bytearray(data[end:])
        return data[:end]


def check_length(kind: int, length: int) -> None:
    """Raises BadMessage when the message is too short for its type."""
    if length < MINIMUM[kind]:
        raise BadMessage(f"message type {kind} of {length} bytes")


def clean_hello(message: bytes) -> bytes:
    """The same hello with nothing but its version bitmap, for Ryu, which loops for ever on an element of length 0.

    Raises BadMessage for a version that Ryu cannot read and for elements that do not fill the message.
    """
    if message[0] not in VERSIONS:
        raise BadMessage(f"hello of version {message[0]:#04x}")
    bitmap = b""
    offset, size = HEADER_SIZE, len(message)
    while offset < size:
        if size - offset < _HELLO_ELEMENT.size:
            raise BadMessage("hello element cut short")
        kind, length = _HELLO_ELEMENT.unpack_from(message, offset)
        if length < _HELLO_ELEMENT.size or length > size - offset:
            raise BadMessage(f"hello element of length {length}")
        if kind == _HELLO_VERSION_BITMAP and length >= 8 and not bitmap:
            bitmap = _HELLO_ELEMENT.pack(_HELLO_VERSION_BITMAP, 8) + message[offset + 4 : offset + 8]
        offset += length + (-length % 8)
    return HEADER.pack(message[0], HELLO, HEADER_SIZE + len(bitmap), int.from_bytes(message[4:8])) + bitmap


def clean_features(message: bytes) -> bytes:
    """The same reply with no more than OpenFlow 1.4 has there, in its header, too: Ryu raises where that says more."""
    return HEADER.pack(VERSION, FEATURES_REPLY, 32, int.from_bytes(message[4:8])) + message[8:32]


def empty_port_desc(message: bytes) -> bytes:
    """The same reply without its ports. Ryu wants the reply to finish its handshake; nobody here wants the ports."""
    return HEADER.pack(VERSION, MULTIPART_REPLY, 16, int.from_bytes(message[4:8])) + message[8:16]


def echo_reply(message: bytes) -> bytes:
    return HEADER.pack(VERSION, ECHO_REPLY, len(message), int.from_bytes(message[4:8])) + message[8:]


def error_of(message: bytes) -> tuple[int, int]:
    """Type and code of an OFPT_ERROR."""
    return int.from_bytes(message[8:10]), int.from_bytes(message[10:12])


def more_follows(message: bytes) -> bool:
    """Of a multipart reply: it is not the last of its parts."""
    return bool(message[11] & 1)


def bundle_control_type(message: bytes) -> int:
    return int.from_bytes(message[12:14])
