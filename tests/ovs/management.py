"""OpenFlow messages to a switch by its management socket, beside any controller."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

from flows.ir import Flow, MeterConfig
from flows.wire import barrier_request, encode_add, encode_meter, with_xid

_HELLO, _ERROR, _BARRIER_REPLY = 0, 1, 21
_PATIENCE = 20.0


class Refused(Exception):
    """`index` is that of the message."""

    def __init__(self, index: int, error: tuple[int, int]) -> None:
        super().__init__(f"message {index}: error {error}")
        self.index = index


def send(path: Path, messages: Sequence[bytes]) -> None:
    """Sends messages and waits until the switch has done what they say. Raises Refused."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_PATIENCE)
        connection.connect(str(path))
        connection.sendall(struct.pack("!BBHI", 5, _HELLO, 8, 0))
        connection.sendall(b"".join(with_xid(message, xid) for xid, message in enumerate(messages, start=1)))
        connection.sendall(barrier_request(len(messages) + 1))
        with connection.makefile("rb") as stream:
            while True:
                _, kind, length, xid = struct.unpack("!BBHI", stream.read(8))
                body = stream.read(length - 8)
                if kind == _ERROR:
                    raise Refused(xid - 1, struct.unpack_from("!HH", body))
                if kind == _BARRIER_REPLY:
                    return


def load(path: Path, flows: Iterable[Flow], meters: Iterable[MeterConfig] = ()) -> None:
    """Adds meters, then flows. Raises ValueError with the flow that the switch refuses."""
    sent = [*flows]
    first = [encode_meter(meter) for meter in meters]
    try:
        send(path, [*first, *map(encode_add, sent)])
    except Refused as refused:
        index = refused.index - len(first)
        raise ValueError(f"{sent[index] if index >= 0 else 'a meter'}: {refused}") from refused
