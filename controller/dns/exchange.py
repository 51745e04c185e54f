"""One question to one server: from a port of the kernel's choice, with an id that cannot be guessed (RFC 5452).

The socket is connected, so that the kernel lets in nothing that comes from elsewhere, and says when nobody is there.
"""

from __future__ import annotations

import secrets
import struct
import time
from typing import Final

from eventlet.green import socket

from controller.dns.message import MAX_MESSAGE, UNFRAGMENTED, Kind, Query
from controller.dns.reply import Reply, Truncated, Unusable, belongs, parse
from controller.dns.upstreams import Upstream

_HEADER = struct.Struct(">2sHHHHH")
_OPT = struct.Struct(">BHHIH")
_LENGTH = struct.Struct(">H")
_RECURSION_DESIRED = 0x0100
_CHECKING_DISABLED = 0x0010
_DNSSEC_OK = 0x8000
_MOST_WRONG: Final = 64
"""Datagrams that are no answer until nobody believes that one will come."""


def encode(query: Query, id_: bytes) -> bytes:
    """The question as it is passed on, with nothing of the client's but the question itself."""
    flags = _RECURSION_DESIRED | (_CHECKING_DISABLED if query.unchecked else 0)
    options = _OPT.pack(0, Kind.OPT, UNFRAGMENTED, _DNSSEC_OK if query.dnssec else 0, 0)
    return _HEADER.pack(id_, flags, 1, 0, 0, 1) + query.name + query.asked[-4:] + options


def ask(server: Upstream, query: Query, timeout: float) -> Reply:
    """By UDP, and again by TCP where that was not enough. `timeout` in seconds, for each.

    Raises TimeoutError, other OSErrors, and Unusable.
    """
    id_ = secrets.token_bytes(2)
    try:
        return parse(_by_udp(server, query, id_, timeout), query)
    except Truncated:
        pass
    try:
        return parse(_by_tcp(server, query, id_, timeout), query)
    except Truncated:
        raise Unusable("truncated by TCP") from None


def _by_udp(server: Upstream, query: Query, id_: bytes, timeout: float) -> bytes:
    end = time.monotonic() + timeout
    with socket.socket(_family(server), socket.SOCK_DGRAM) as udp:
        udp.connect((server.address, server.port))
        udp.send(encode(query, id_))
        for _ in range(_MOST_WRONG):
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError
            udp.settimeout(left)
            message: bytes = udp.recv(MAX_MESSAGE)
            if belongs(message, id_, query):
                return message
    raise Unusable("answers to other questions")


def _by_tcp(server: Upstream, query: Query, id_: bytes, timeout: float) -> bytes:
    end = time.monotonic() + timeout
    question = encode(query, id_)
    with socket.socket(_family(server), socket.SOCK_STREAM) as tcp:
        tcp.settimeout(timeout)
        tcp.connect((server.address, server.port))
        tcp.sendall(_LENGTH.pack(len(question)) + question)
        (length,) = _LENGTH.unpack(_receive(tcp, _LENGTH.size, end))
        message = _receive(tcp, length, end)
    if not belongs(message, id_, query):
        raise Unusable("an answer to another question")
    return message


def _receive(tcp: socket.socket, size: int, end: float) -> bytes:
    data = bytearray()
    while len(data) < size:
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        tcp.settimeout(left)
        piece = tcp.recv(size - len(data))
        if not piece:
            raise Unusable("the connection was closed")
        data += piece
    return bytes(data)


def _family(server: Upstream) -> int:
    return int(socket.AF_INET6 if ":" in server.address else socket.AF_INET)
