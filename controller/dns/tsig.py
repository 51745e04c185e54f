"""Signatures of messages between us and a secondary by a shared key (TSIG, RFC 8945)."""

from __future__ import annotations

import hmac
import struct
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from controller.dns import domain
from controller.dns.message import Kind
from controller.dns.transfer_request import HEADER, Request
from controller.store.dns_names import zone_name

FUDGE: Final = 300
"""Seconds by which clocks may differ (RFC 8945, 10)."""

LEAST_SECRET: Final = 16
ALGORITHMS: Final[Mapping[str, str]] = {"hmac-sha256": "sha256", "hmac-sha384": "sha384", "hmac-sha512": "sha512"}
"""Name -> hashlib's."""

_CLASS_ANY: Final = 255
_ADDITIONAL_AT: Final = 10


class BadSignature(Exception):
    """It is not what the key's owner has said, or not now."""


@dataclass(frozen=True, slots=True)
class Key:
    """`name` in wire form and lower case; `algorithm` is one of ALGORITHMS."""

    name: bytes
    algorithm: str
    secret: bytes = field(repr=False)


def parse_key(text: str) -> Key:
    """Of `NAME:ALGORITHM:BASE64`. Raises ValueError, with a message that does not hold the secret."""
    name, _, rest = text.strip().partition(":")
    algorithm, _, secret = rest.partition(":")
    if algorithm.lower() not in ALGORITHMS:
        raise ValueError(f"the algorithm of a key must be one of {', '.join(ALGORITHMS)} (NAME:ALGORITHM:BASE64)")
    try:
        octets = b64decode(secret, validate=True)
    except ValueError:
        octets = b""
    if len(octets) < LEAST_SECRET:
        raise ValueError(f"the secret of a key must be base64 of {LEAST_SECRET} bytes or more")
    return Key(domain.wire(zone_name(name)), algorithm.lower(), octets)


def verify(message: bytes, request: Request, key: Key, now: float, prior: bytes = b"") -> bytes:
    """The MAC of a message, for its answers. `prior`: that of the message which it answers. Raises BadSignature."""
    signature = request.signature
    if signature is None:
        raise BadSignature("not signed")
    if (signature.key, signature.algorithm) != (key.name, domain.wire(key.algorithm)):
        raise BadSignature("by another key")
    header = bytearray(message[: HEADER.size])
    header[:2] = signature.original_id.to_bytes(2)
    additional = int.from_bytes(header[_ADDITIONAL_AT:]) - 1
    header[_ADDITIONAL_AT:] = additional.to_bytes(2)
    signed = bytes(header) + message[HEADER.size : signature.at]
    variables = _variables(key, signature.time, signature.fudge, signature.error, signature.other)
    wanted = _mac(key, _before(prior) + signed + variables)
    if not hmac.compare_digest(wanted, signature.mac):
        raise BadSignature("not by this key")
    if abs(now - signature.time) > signature.fudge:
        raise BadSignature(f"at another time: the clocks differ by {round(abs(now - signature.time))} s")
    return signature.mac


def sign(message: bytes, key: Key, now: float, prior: bytes = b"", *, following: bool = False) -> tuple[bytes, bytes]:
    """The message with its signature, and its MAC. `prior`: the MAC of the request, or, `following` within one
    transfer, of the message before.
    """
    time = int(now)
    times = _times(time, FUDGE)
    tail = times if following else _variables(key, time, FUDGE, 0, b"")
    mac = _mac(key, _before(prior) + message + tail)
    data = domain.wire(key.algorithm) + times + _with_length(mac) + message[:2] + bytes(4)
    record = key.name + struct.pack(">HHIH", Kind.TSIG, _CLASS_ANY, 0, len(data)) + data
    counted = bytearray(message)
    additional = int.from_bytes(counted[_ADDITIONAL_AT : _ADDITIONAL_AT + 2]) + 1
    counted[_ADDITIONAL_AT : _ADDITIONAL_AT + 2] = additional.to_bytes(2)
    return bytes(counted) + record, mac


def _variables(key: Key, time: int, fudge: int, error: int, other: bytes) -> bytes:
    """RFC 8945, 4.3.3."""
    head = key.name + struct.pack(">HI", _CLASS_ANY, 0) + domain.wire(key.algorithm) + _times(time, fudge)
    return head + error.to_bytes(2) + _with_length(other)


def _times(time: int, fudge: int) -> bytes:
    return time.to_bytes(6) + fudge.to_bytes(2)


def _before(prior: bytes) -> bytes:
    return _with_length(prior) if prior else b""


def _with_length(octets: bytes) -> bytes:
    return len(octets).to_bytes(2) + octets


def _mac(key: Key, octets: bytes) -> bytes:
    return hmac.new(key.secret, octets, ALGORITHMS[key.algorithm]).digest()
