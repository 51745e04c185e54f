"""A switch in memory: it keeps flows, knows bundles, and refuses what it is told to refuse."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import eventlet

from controller import receive
from flows.ir import Flow
from flows.pipeline import Table
from flows.rules import COOKIE_OURS, COOKIE_OURS_MASK
from flows.wire import encode_match

FLOW_MOD, STATS_REQUEST, EXPERIMENTER, PACKET_OUT, BARRIER, BUNDLE_CONTROL, BUNDLE_ADD = 14, 18, 4, 13, 20, 33, 34
ADD, DELETE, DELETE_STRICT = 0, 3, 4

Key = tuple[int, int, bytes]


def key_of(flow: Flow) -> Key:
    return flow.table, flow.priority, encode_match(flow.match)


@dataclass
class FakeSwitch:
    """Stands for the connection too. `refuse_add`: error when added; `refuse_commit`: error at the commit, unnamed."""

    id: int = 1
    address: tuple[str, int] = ("192.0.2.11", 40000)
    flows: dict[Key, int] = field(default_factory=dict)
    refuse_add: set[Key] = field(default_factory=set)
    refuse_commit: set[Key] = field(default_factory=set)
    silent: bool = False
    closed: bool = False
    receiver: Any = None
    kinds: list[int] = field(default_factory=list)
    commits: int = 0
    refuse_forget: bool = False
    flushed: list[bytes] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    _bundle: list[bytes] | None = None

    @property
    def stamp(self) -> int | None:
        return next((cookie for (table, _, _), cookie in self.flows.items() if table == Table.STAMP), None)

    def computed(self) -> set[Key]:
        return {
            key
            for key, cookie in self.flows.items()
            if cookie & COOKIE_OURS_MASK == COOKIE_OURS and key[0] != Table.STAMP
        }

    def flow_mods(self) -> int:
        return sum(kind in (FLOW_MOD, BUNDLE_ADD) for kind in self.kinds)

    # what the session sees of a Connection

    def write(self, data: bytes) -> bool:
        return self.send(data)

    def send(self, data: bytes) -> bool:
        if self.closed:
            return False
        offset = 0
        while offset < len(data):
            (length,) = struct.unpack_from("!H", data, offset + 2)
            self._receive(data[offset : offset + length])
            offset += length
        assert offset == len(data), "a message was cut"
        return True

    def close(self) -> None:
        self.closed = True

    # the switch

    def _receive(self, message: bytes) -> None:
        kind, xid = message[1], int.from_bytes(message[4:8])
        self.kinds.append(kind)
        if self.silent:
            return
        if kind == STATS_REQUEST:
            self._answer(receive.MULTIPART_REPLY, xid, struct.pack("!HH4x", 1, 0) + self._stamp_stats())
        elif kind == BARRIER:
            self._answer(receive.BARRIER_REPLY, xid, b"")
        elif kind == BUNDLE_CONTROL:
            self._control(xid, int.from_bytes(message[12:14]))
        elif kind == BUNDLE_ADD:
            inner = message[16:]
            assert self._bundle is not None and inner[4:8] == message[4:8]
            if self._key(inner) in self.refuse_add and inner[25] == ADD:
                self._error(xid, 2, 4)
            else:
                self._bundle.append(inner)
        elif kind == EXPERIMENTER:
            self.flushed.append(message[8:])
            if self.refuse_forget:
                self._error(xid, 1, 1)
        elif kind == PACKET_OUT:
            self.sent.append(message)
        else:
            raise AssertionError(f"unexpected message type {kind}")

    def _control(self, xid: int, request: int) -> None:
        if request == 0:
            assert self._bundle is None, "two bundles in flight"
            self._bundle = []
        else:
            assert self._bundle is not None
            bundle, self._bundle = self._bundle, None
            if request == 4:
                if any(self._key(message) in self.refuse_commit for message in bundle):
                    self._error(xid, 17, 14)
                    return
                self.commits += 1
                for message in bundle:
                    self._flow_mod(message)
        self._answer(receive.BUNDLE_CONTROL, xid, struct.pack("!IHH", 1, request + 1, 3))

    def _flow_mod(self, message: bytes) -> None:
        cookie, mask, table, command = struct.unpack_from("!QQBB", message, 8)
        key = self._key(message)
        if command == ADD:
            self.flows[key] = cookie
        elif command == DELETE_STRICT:
            self.flows.pop(key, None)
        else:
            assert command == DELETE
            for other in [k for k, c in self.flows.items() if table in (0xFF, k[0]) and c & mask == cookie & mask]:
                del self.flows[other]

    @staticmethod
    def _key(message: bytes) -> Key:
        (priority,) = struct.unpack_from("!H", message, 30)
        (length,) = struct.unpack_from("!H", message, 50)
        return message[24], priority, message[48 : 48 + length + (-length % 8)]

    def _stamp_stats(self) -> bytes:
        if self.stamp is None:
            return b""
        body = struct.pack("!HBxIIHHHH4xQQQ", 56, Table.STAMP, 0, 0, 0, 0, 0, 0, self.stamp, 0, 0)
        return body + encode_match(())

    def _error(self, xid: int, kind: int, code: int) -> None:
        self._answer(receive.ERROR, xid, struct.pack("!HH", kind, code))

    def _answer(self, kind: int, xid: int, body: bytes) -> None:
        message = receive.HEADER.pack(5, kind, 8 + len(body), xid) + body
        eventlet.spawn_n(self.receiver.answer, kind, xid, message)
