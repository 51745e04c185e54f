"""One bundle at a time: send it, hear what the switch says about each of its messages, commit or throw it away.

OpenFlow 1.4 §7.3.9. Open vSwitch reports a message that it refuses when it is added, with the message's xid, but would
still commit the others; hence the barrier before the commit. Checked on Open vSwitch 3.5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import eventlet
from eventlet.event import Event

from controller import receive
from controller.connection import SESSION_XIDS
from controller.forgetting import End, Forget
from controller.session_counters import NodeCounters
from controller.session_outbox import SEND_SIZE
from controller.session_questions import QUESTION_XIDS
from flows import roles, wire
from flows.ir import Flow, Stamp, stamp_flows
from flows.roles import Role

ANSWER_TIMEOUT: Final = 30.0
"""Seconds until a switch that does not answer is given up."""


class SessionEnd(Exception):
    """The connection is of no more use. The text says why."""


class Demoted(Exception):
    """Another controller has become the switch's master: nothing of what was being sent has been done."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """`wipe`: everything that is ours goes first. Then the deletes, the adds, the stamp. `restamp`: the stamp before it
    named other refused flows.
    """

    deletes: tuple[Flow, ...]
    adds: tuple[Flow, ...]
    stamp: Stamp | None
    wipe: bool = False
    restamp: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a bundle was not applied: each flow that the switch named with (error type, code), and the commit's error."""

    named: tuple[tuple[Flow, tuple[int, int]], ...] = ()
    error: tuple[int, int] | None = None


@dataclass(slots=True)
class _Exchange:
    """What is being waited for. Errors with an xid from `first` to `last` are about the messages before it. `parts`:
    those of a multipart reply that have come before its last.
    """

    awaited: int
    first: int = 0
    last: int = -1
    errors: dict[int, tuple[int, int]] = field(default_factory=dict)
    parts: list[bytes] = field(default_factory=list)
    size: int = 0  # of the parts, in bytes
    done: Event = field(default_factory=Event)


class Conversation:
    """Requests and their answers. `write` may wait and returns False when the connection is gone."""

    def __init__(self, write: Callable[[bytes], bool], counters: NodeCounters) -> None:
        self._write = write
        self.counters = counters
        self._xid = SESSION_XIDS
        self._exchange: _Exchange | None = None
        self._open = False  # a bundle was begun, and neither committed nor thrown away

    # the receive loop calls this

    def answer(self, kind: int, xid: int, message: bytes) -> tuple[int, int] | None:
        """Returns the error if it is one that nobody here waits for."""
        exchange = self._exchange
        error = receive.error_of(message) if kind == receive.ERROR else None
        if error is not None:
            self.counters.errors += 1
        if exchange is None:
            return error
        if error is not None and exchange.first <= xid <= exchange.last:
            exchange.errors[xid] = error
        elif xid == exchange.awaited and not exchange.done.ready():
            if kind == receive.MULTIPART_REPLY and receive.more_follows(message):
                exchange.size += len(message)
                if exchange.size > receive.MOST_ANSWER:
                    exchange.done.send_exception(SessionEnd("an answer without end"))
                else:
                    exchange.parts.append(message)
            else:
                exchange.done.send((kind, message))
        else:
            return error
        return None

    # the session's own green thread calls these

    def role(self, role: Role, generation: int = 0) -> roles.Held | None:
        """Asks for a role; the one that the switch has given. None when it has seen a later generation. Raises
        SessionEnd.
        """
        xid = self._next_xids(1)
        kind, message = self._ask(_Exchange(xid), [roles.request(role, generation, xid)])
        if kind == receive.ERROR:
            if receive.error_of(message) == roles.STALE:
                return None
            raise SessionEnd(f"role refused: error {receive.error_of(message)}")
        try:
            return roles.parse(message)
        except ValueError as error:
            raise SessionEnd(f"role: {error}") from error

    def stamp(self) -> Stamp | None:
        """Return what the switch says that it holds, or None. Raises SessionEnd."""
        xid = self._next_xids(1)
        kind, message = self._ask(_Exchange(xid), [wire.stamp_request(xid)])
        if kind != receive.MULTIPART_REPLY:
            raise SessionEnd(f"stamp refused: error {receive.error_of(message)}")
        try:
            return wire.parse_stamp_reply(message)
        except ValueError as error:
            raise SessionEnd(f"stamp: {error}") from error

    def meters(self) -> set[int]:
        """The ids of the meters that the switch holds. Raises SessionEnd."""
        exchange = _Exchange(self._next_xids(1))
        kind, message = self._ask(exchange, [wire.meters_request(exchange.awaited)])
        if kind != receive.MULTIPART_REPLY:
            raise SessionEnd(f"meters refused: error {receive.error_of(message)}")
        try:
            return {id_ for part in (*exchange.parts, message) for id_ in wire.parse_meters_reply(part)}
        except ValueError as error:
            raise SessionEnd(f"meters: {error}") from error

    def meter_mods(
        self, ids: Sequence[int], messages: Sequence[bytes], *, unstamp: bool = False
    ) -> dict[int, tuple[int, int]]:
        """Sends a message about each meter, and waits until the switch has done it. Returns the errors by id. With
        `unstamp` the stamp goes first. Raises SessionEnd.
        """
        self.counters.meter_mods += len(messages)
        self.counters.flow_mods += unstamp
        stamp = [wire.delete_stamp()] if unstamp else []
        errors = self._all([*stamp, *messages])
        if unstamp and 0 in errors:
            raise SessionEnd(f"stamp not deleted: error {errors[0]}")
        return {ids[index - len(stamp)]: error for index, error in errors.items()}

    def apply(self, bundle: Bundle) -> Refusal | None:
        """None when it is committed; else nothing has changed on the switch. Raises SessionEnd and Demoted."""
        if self._open:
            # Open vSwitch keeps what a master began, also when it is one no more, and then refuses to begin anew
            self._throw_away()
        flows: Sequence[Flow] = (*bundle.deletes, *bundle.adds)
        wipes = [wire.delete_ours(), wire.delete_stamp()] if bundle.wipe else []
        stamps = [wire.delete_stamp()] if bundle.restamp and not bundle.wipe else []
        if bundle.stamp is not None:
            stamps += map(wire.encode_add, stamp_flows(bundle.stamp))
        messages = len(wipes) + len(flows) + len(stamps)
        start = self._next_xids(messages + 3)
        exchange = _Exchange(start + messages + 1, start, start + messages)
        self._exchange = exchange
        self.counters.flow_mods += messages
        self._open = True
        self._send([wire.bundle_open(start)])
        self._send_flows(wipes, bundle, stamps, start + 1)
        kind, message = self._ask(exchange, [wire.barrier_request(exchange.awaited)])
        if kind == receive.ERROR:
            raise SessionEnd(f"barrier refused: error {receive.error_of(message)}")
        _require_master(exchange.errors.values())
        if not exchange.errors:
            commit = _Exchange(start + messages + 2, exchange.first, exchange.last)
            kind, message = self._ask(commit, [wire.bundle_commit(commit.awaited)])
            _require_master(commit.errors.values())
            if kind == receive.ERROR:
                _require_master([receive.error_of(message)])
            self._open = False
            if kind != receive.ERROR:
                self.counters.bundles += 1
                return None
            self.counters.bundle_failures += 1
            return _refusal(commit, flows, start + 1 + len(wipes), receive.error_of(message))
        self.counters.bundle_failures += 1
        self._throw_away()
        return _refusal(exchange, flows, start + 1 + len(wipes), None)

    def _throw_away(self) -> None:
        """Whatever the switch says to that: it may have done so long ago."""
        discard = _Exchange(self._next_xids(1))
        self._ask(discard, [wire.bundle_discard(discard.awaited)])
        self._open = False

    def forget(self, what: Sequence[Forget]) -> list[tuple[int, int]]:
        """Has conntrack forget connections, and waits until it has. Returns the errors. Raises SessionEnd, Demoted."""
        self.counters.zones_flushed += sum(each.end is End.ALL for each in what)
        return list(self._all([each.message() for each in what]).values())

    def _all(self, messages: Sequence[bytes]) -> dict[int, tuple[int, int]]:
        """Sends messages that have no answer, and a barrier. The errors by the message's index."""
        start = self._next_xids(len(messages) + 1)
        exchange = _Exchange(start + len(messages), start, start + len(messages) - 1)
        numbered = [wire.with_xid(message, xid) for xid, message in enumerate(messages, start)]
        self._ask(exchange, [*numbered, wire.barrier_request(exchange.awaited)])
        _require_master(exchange.errors.values())
        return {xid - start: error for xid, error in exchange.errors.items()}

    def _send_flows(self, wipes: Sequence[bytes], bundle: Bundle, stamps: Sequence[bytes], xid: int) -> None:
        """In pieces, so that the switch works while we encode, and other green threads get their turn."""
        pieces: list[bytes] = []
        size = 0
        bundle_add, encode_delete, encode_add = wire.bundle_add, wire.encode_delete, wire.encode_add
        plan: tuple[tuple[Callable[[Any], bytes], Sequence[Any]], ...] = (
            (bytes, wipes),
            (encode_delete, bundle.deletes),
            (encode_add, bundle.adds),
            (bytes, stamps),
        )
        for encode, items in plan:
            for item in items:
                piece = bundle_add(encode(item), xid)
                xid += 1
                size += len(piece)
                pieces.append(piece)
                if size > SEND_SIZE - 1024:
                    self._send(pieces)
                    pieces, size = [], 0
                    eventlet.sleep(0)
        self._send(pieces)

    def _ask(self, exchange: _Exchange, messages: Sequence[bytes]) -> tuple[int, bytes]:
        self._exchange = exchange
        try:
            self._send(messages)
            answer: tuple[int, bytes] | None = exchange.done.wait(ANSWER_TIMEOUT)
        finally:
            self._exchange = None
        if answer is None:
            raise SessionEnd(f"no answer in {ANSWER_TIMEOUT:.0f} s")
        return answer

    def _send(self, messages: Sequence[bytes]) -> None:
        if messages and not self._write(b"".join(messages)):
            raise SessionEnd("connection closed")

    def _next_xids(self, count: int) -> int:
        """The first of `count` transaction ids in a row."""
        if self._xid + count > QUESTION_XIDS:
            self._xid = SESSION_XIDS
        first = self._xid
        self._xid += count
        return first


def _require_master(errors: Iterable[tuple[int, int]]) -> None:
    """Raises Demoted."""
    if roles.IS_SLAVE in errors:
        raise Demoted


def _refusal(
    exchange: _Exchange, flows: Sequence[Flow], first_flow: int, commit_error: tuple[int, int] | None
) -> Refusal:
    named = []
    for xid, reason in sorted(exchange.errors.items()):
        index = xid - first_flow
        if not 0 <= index < len(flows):
            raise SessionEnd(f"bundle refused: error {reason}")
        named.append((flows[index], reason))
    return Refusal(tuple(named), commit_error)
