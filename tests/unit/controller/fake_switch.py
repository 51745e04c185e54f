"""A switch in memory: it keeps flows, knows bundles, and refuses what it is told to refuse."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import eventlet

from controller import receive
from flows.ir import Flow
from flows.pipeline import Table
from flows.roles import IS_SLAVE, STALE, Role
from flows.rules import COOKIE_OURS, COOKIE_OURS_MASK
from flows.wire import encode_match

FLOW_MOD, STATS_REQUEST, EXPERIMENTER, PACKET_OUT, BARRIER, BUNDLE_CONTROL, BUNDLE_ADD = 14, 18, 4, 13, 20, 33, 34
METER_MOD, METER_CONFIG = 29, 10
ROLE_REQUEST, CHANGES = 24, (FLOW_MOD, EXPERIMENTER, PACKET_OUT, BUNDLE_CONTROL, BUNDLE_ADD, METER_MOD)
METER_ADD, METER_MODIFY, METER_DELETE = 0, 1, 2
EXISTS, UNKNOWN, INVALID = (12, 2), (12, 3), (12, 1)
ADD, DELETE, DELETE_STRICT = 0, 3, 4

Key = tuple[int, int, bytes]


def key_of(flow: Flow) -> Key:
    return flow.table, flow.priority, encode_match(flow.match)


@dataclass
class FakeSwitch:
    """Stands for the connection too. `refuse_add`: error when added; `refuse_commit`: error at the commit, unnamed.
    `meters`: (rate, burst) by id; `users`: the meter of a flow. `dies_at`: the kind of message that it does not get.
    `role` is that of this connection, `generation` the newest that any has named. `replaced_after`: so many more
    changes it takes before another controller becomes master.
    """

    id: int = 1
    address: tuple[str, int] = ("192.0.2.11", 40000)
    flows: dict[Key, int] = field(default_factory=dict)
    refuse_add: set[Key] = field(default_factory=set)
    refuse_commit: set[Key] = field(default_factory=set)
    silent: bool = False
    closed: bool = False
    certified: str | None = None
    probes: int = 0
    receiver: Any = None
    kinds: list[int] = field(default_factory=list)
    commits: int = 0
    refuse_forget: bool = False
    meters: dict[int, tuple[int, int]] = field(default_factory=dict)
    refuse_meters: set[int] = field(default_factory=set)
    users: dict[Key, int] = field(default_factory=dict)
    dies_at: int | None = None
    flushed: list[bytes] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    role: Role = Role.EQUAL
    generation: int | None = None
    replaced_after: int | None = None
    trusted: bool = False
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

    def trust(self) -> None:
        self.trusted = True

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

    @property
    def outbox(self) -> FakeSwitch:
        return self  # of which only `closed` is asked

    def answers(self, timeout_s: float) -> bool:
        self.probes += 1
        if self.silent and not self.closed:
            eventlet.sleep(timeout_s)
        return not self.silent and not self.closed

    # the switch

    def _receive(self, message: bytes) -> None:
        kind, xid = message[1], int.from_bytes(message[4:8])
        self.kinds.append(kind)
        if self.silent or self.closed:
            return
        if kind in CHANGES and self.replaced_after is not None:
            if self.replaced_after == 0:
                self.demote()
            self.replaced_after = self.replaced_after - 1 if self.replaced_after else None
        if kind == self.dies_at:
            self.close()
        elif kind == ROLE_REQUEST:
            self._role(xid, message)
        elif kind in CHANGES and self.role is Role.SLAVE:
            self._error(xid, *IS_SLAVE)
        elif kind == STATS_REQUEST and int.from_bytes(message[8:10]) == METER_CONFIG:
            self._meter_config(xid)
        elif kind == METER_MOD:
            self._meter_mod(xid, message)
        elif kind == FLOW_MOD:
            self._flow_mod(message)
        elif kind == STATS_REQUEST:
            self._answer(receive.MULTIPART_REPLY, xid, struct.pack("!HH4x", 1, 0) + self._stamp_stats())
        elif kind == BARRIER:
            self._answer(receive.BARRIER_REPLY, xid, b"")
        elif kind == BUNDLE_CONTROL:
            self._control(xid, int.from_bytes(message[12:14]))
        elif kind == BUNDLE_ADD:
            inner = message[16:]
            assert self._bundle is not None and inner[4:8] == message[4:8]
            meter = self._meter(inner)
            if self._key(inner) in self.refuse_add and inner[25] == ADD:
                self._error(xid, 2, 4)
            elif inner[25] == ADD and meter is not None and meter not in self.meters:
                self._error(xid, *INVALID)
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

    def demote(self) -> None:
        """Another controller becomes master."""
        self.role, self.generation = Role.SLAVE, (self.generation or 0) + 1
        body = struct.pack("!IB3xQ", Role.SLAVE, 0, self.generation)
        self._answer(receive.ROLE_STATUS, 0, body)

    def _role(self, xid: int, message: bytes) -> None:
        role, generation = struct.unpack_from("!I4xQ", message, 8)
        if role != Role.NOCHANGE:
            if generation < (self.generation or 0):
                self._error(xid, *STALE)
                return
            self.role, self.generation = Role(role), generation
        seen = 2**64 - 1 if self.generation is None else self.generation
        self._answer(receive.ROLE_REPLY, xid, struct.pack("!I4xQ", self.role, seen))

    def _control(self, xid: int, request: int) -> None:
        if request == 0:
            assert self._bundle is None, "two bundles in flight"
            self._bundle = []
        elif self._bundle is None:
            assert request == 6, "no bundle"
            self._error(xid, 17, 3)
            return
        else:
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
            self.users.pop(key, None)
            meter = self._meter(message)
            if meter is not None:
                self.users[key] = meter
        elif command == DELETE_STRICT:
            self.flows.pop(key, None)
        else:
            assert command == DELETE
            for other in [k for k, c in self.flows.items() if table in (0xFF, k[0]) and c & mask == cookie & mask]:
                del self.flows[other]
        self.users = {key: meter for key, meter in self.users.items() if key in self.flows}

    def _meter_config(self, xid: int) -> None:
        """In two parts."""
        entries = [struct.pack("!HHI", 24, 5, id_) + bytes(16) for id_ in sorted(self.meters)]
        half = len(entries) // 2
        for flags, part in ((1, entries[:half]), (0, entries[half:])):
            self._answer(receive.MULTIPART_REPLY, xid, struct.pack("!HH4x", METER_CONFIG, flags) + b"".join(part))

    def _meter_mod(self, xid: int, message: bytes) -> None:
        command, _flags, id_ = struct.unpack_from("!HHI", message, 8)
        if command == METER_DELETE:
            self.meters.pop(id_, None)
            for key in [key for key, meter in self.users.items() if meter == id_]:
                self.flows.pop(key, None)
                del self.users[key]
        elif id_ in self.refuse_meters:
            self._error(xid, 12, 9)
        elif (command == METER_ADD) == (id_ in self.meters):
            self._error(xid, *(EXISTS if command == METER_ADD else UNKNOWN))
        else:
            rate, burst = struct.unpack_from("!II", message, 20)
            self.meters[id_] = rate, burst

    @staticmethod
    def _meter(flow_mod: bytes) -> int | None:
        (length,) = struct.unpack_from("!H", flow_mod, 50)
        instructions = flow_mod[48 + length + (-length % 8) :]
        return int.from_bytes(instructions[4:8]) if instructions[:2] == bytes.fromhex("0006") else None

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
