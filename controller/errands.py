"""What a controller asks of the agents of nodes. Agents ask for it, so that a node listens to nobody.

An agent has a request waiting here all the time ("poll", `fetch`). An errand goes to the newest of its node whose
connection is there still, or waits a moment for the next one. All is in memory, and bounded; nothing here polls.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from eventlet.event import Event

GRACE: Final = 5.0
"""Seconds between two polls of an agent that is well: it may be about to ask from the beginning after an answer."""

SILENCE: Final = 15.0
"""Seconds after which an agent that asks no more is said to be missing: a restart is shorter."""

LONGEST_POLL: Final = 25.0
"""Seconds. So long a token that has been revoked may still wait for errands."""

MOST_OF_NODE: Final = 16
MOST: Final = 256
"""Errands that are not answered yet, of one node and of all."""

MOST_POLLS: Final = 8
"""Of one node: who asks more often has left the oldest ones."""


class Kind(StrEnum):
    """All that there is. The agent has the same table (`agent.errands`), and does nothing else."""

    OFPROTO_TRACE = "ofproto_trace"
    CAPTURE = "capture"


class ErrandError(Exception):
    """It was not done; the text says why, for people."""


class NotAsking(ErrandError):
    """No agent of the node asks this controller for errands."""


class TooMany(ErrandError):
    """So many wait for an answer that this one was not even asked."""


class TimedOut(ErrandError):
    """The agent has it, or should have, and has not answered in time."""


class Refused(ErrandError):
    """The agent has said no, or has tried in vain. The text is the agent's."""


class Unknown(Exception):
    """There is no such errand of that node, or nobody waits for its answer any more."""


@dataclass(frozen=True, slots=True)
class Errand:
    """`timeout`: seconds in which it is to be answered."""

    id: str
    kind: Kind
    arguments: Mapping[str, Any]
    timeout: float


@dataclass(eq=False, slots=True)
class _Asked:
    errand: Errand
    node: str
    result: Mapping[str, Any] | None = None
    refusal: str | None = None
    answered: Event = field(default_factory=Event)


@dataclass(eq=False, slots=True)
class _Poll:
    is_gone: Callable[[], bool]
    errand: Errand | None = None
    woken: Event = field(default_factory=Event)


def _stays() -> bool:
    return False


class Errands:
    """`longest_poll`: seconds that `fetch` waits at most."""

    def __init__(self, longest_poll: float = LONGEST_POLL, clock: Callable[[], float] = time.monotonic) -> None:
        self._longest_poll = longest_poll
        self._clock = clock
        self._asked: dict[str, _Asked] = {}
        self._queued: dict[str, list[Errand]] = {}
        self._polls: dict[str, list[_Poll]] = {}
        # of those who have asked within GRACE, in the order in which they did
        self._last_poll: dict[str, float] = {}
        self._heard: dict[str, float] = {}

    # for who wants something done

    def ask(self, node: str, kind: Kind, arguments: Mapping[str, Any], timeout: float) -> Mapping[str, Any]:
        """What the agent of a node answers, within `timeout` seconds. Raises ErrandError."""
        if len(self._asked) >= MOST or sum(one.node == node for one in self._asked.values()) >= MOST_OF_NODE:
            raise TooMany(f"node {node} has too much to do")
        poll = self._poll_of(node)
        if poll is None and self._clock() - self._last_poll.get(node, -GRACE) >= GRACE:
            raise NotAsking(f"the agent of node {node} does not ask this controller for errands")
        asked = _Asked(Errand(secrets.token_hex(16), kind, arguments, timeout), node)
        self._asked[asked.errand.id] = asked
        try:
            if poll is None:
                self._queued.setdefault(node, []).append(asked.errand)
            else:
                self._hand(node, poll, asked.errand)
            asked.answered.wait(timeout)
        finally:
            del self._asked[asked.errand.id]
            self._unqueue(node, asked.errand)
        if asked.refusal is not None:
            raise Refused(asked.refusal)
        if asked.result is None:
            raise TimedOut(f"node {node} has not answered within {timeout:g} s")
        return asked.result

    def asking(self, node: str) -> bool:
        """Whether an agent of the node waits for errands now."""
        return self._poll_of(node) is not None

    def silent(self, node: str) -> bool:
        """Whether an agent of the node has asked before, and none for SILENCE seconds."""
        heard = self._heard.get(node)
        return heard is not None and not self.asking(node) and self._clock() - heard >= SILENCE

    def forget(self, node: str) -> None:
        """The node has been deleted."""
        self._heard.pop(node, None)

    # for agents

    def fetch(self, node: str, wait: float, is_gone: Callable[[], bool] = _stays) -> list[Errand]:
        """What is to be done: one errand, or none when there is none within `wait` seconds. `is_gone`: whether the
        agent that asks has gone.
        """
        self._heard[node] = self._clock()
        queued = self._queued.get(node)
        if queued:
            found = queued.pop(0)
            self._forget_queue(node)
            self._polled(node)
            return [found]
        poll = _Poll(is_gone)
        polls = self._polls.setdefault(node, [])
        polls.append(poll)
        if len(polls) > MOST_POLLS:
            polls.pop(0).woken.send()
        try:
            poll.woken.wait(max(0.0, min(wait, self._longest_poll)))
        finally:
            self._drop(node, poll)
            if not is_gone():
                self._polled(node)
        return [] if poll.errand is None else [poll.errand]

    def answer(self, node: str, errand_id: str, result: Mapping[str, Any] | None, refusal: str | None) -> None:
        """Either of both. Raises Unknown."""
        asked = self._asked.get(errand_id)
        if asked is None or asked.node != node or asked.answered.ready():
            raise Unknown(errand_id)
        asked.result, asked.refusal = (result or {}, None) if refusal is None else (None, refusal)
        asked.answered.send()

    def _polled(self, node: str) -> None:
        now = self._clock()
        self._heard[node] = now
        self._last_poll.pop(node, None)
        self._last_poll[node] = now
        # the oldest first: what is older than that says nothing, and nodes go
        while now - next(iter(self._last_poll.values())) >= GRACE:
            del self._last_poll[next(iter(self._last_poll))]

    def _poll_of(self, node: str) -> _Poll | None:
        """The newest: of an agent that was killed a poll may be left whose end nobody has told."""
        for poll in reversed(self._polls.get(node, ())):
            if not poll.is_gone():
                return poll
        return None

    def _hand(self, node: str, poll: _Poll, errand: Errand) -> None:
        self._drop(node, poll)
        poll.errand = errand
        poll.woken.send()

    def _drop(self, node: str, poll: _Poll) -> None:
        polls = self._polls.get(node, [])
        if poll in polls:
            polls.remove(poll)
        if not polls:
            self._polls.pop(node, None)

    def _unqueue(self, node: str, errand: Errand) -> None:
        queued = self._queued.get(node, [])
        if errand in queued:
            queued.remove(errand)
        self._forget_queue(node)

    def _forget_queue(self, node: str) -> None:
        if not self._queued.get(node):
            self._queued.pop(node, None)
