"""Captures that pass through a controller: the agent of a node sends what it has seen in parts, a client takes them.

What is held of one is bounded: a client that reads slowly has the agent wait, which leaves out what it has no room
for, and counts it. Who goes ends it for both.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import eventlet
from eventlet.semaphore import Semaphore

from controller.green import Signal

MOST_HELD: Final = 256 << 10
"""Bytes of one capture that wait for its client."""

RATE: Final = 4 << 20
"""Bytes a second that all captures of a controller have together: DHCP and the rest must not wait for them."""

MOST: Final = 32
MOST_OF_NODE: Final = 4
MOST_ENDED: Final = 256
"""Captures that go on, on one controller and of one node, and those that are over and can be asked for."""

MOST_OF_PROJECT: Final = 8
MOST_OF_PROJECT_ON_NODE: Final = 2
"""Of one project, so that another finds a place, too."""

SILENCE: Final = 5.0
"""Seconds without a word of the agent, which says something every second."""

ROOM_WAIT: Final = 4.0
"""Seconds that an agent waits for room at most, until it is told that there is none."""

NODE_SILENT: Final = "node_silent"
CLIENT_GONE: Final = "client_gone"


class Busy(Exception):
    """Too many captures go on; the text says where."""


class Unknown(Exception):
    """There is no such capture, or it is none of that node or port."""


@dataclass(frozen=True, slots=True)
class Summary:
    """`packets` and `bytes` are what was sent, `dropped` the packets that were left out. `reason`: why it has ended."""

    packets: int
    bytes: int
    dropped: int
    reason: str


class Capture:
    """One that goes on. `put` and `end` are for the agent, `take` is for the client."""

    def __init__(
        self,
        port_id: str,
        node: str,
        clock: Callable[[], float],
        pace: Callable[[int], float],
        project: str | None = None,
    ) -> None:
        """`pace`: the seconds until so many bytes have their turn."""
        self.project = project
        self._pace = pace
        self.id = secrets.token_hex(16)
        self.port_id = port_id
        self.node = node
        self.ended: Summary | None = None
        self.sent = 0
        self._clock = clock
        self._parts: deque[bytes] = deque()
        self._held = 0
        self._heard = clock()
        self._changed = Signal()
        self._closed = False
        self._turn = Semaphore()

    def put(self, part: bytes) -> tuple[bool, bool]:
        """Whether more is wanted, and whether this part was taken. May wait for ROOM_WAIT seconds and its turn: an
        agent that sends many parts at once has one of them wait for that, and others get no less.
        """
        self._heard = self._clock()
        with self._turn:
            return self._put(part)

    def _put(self, part: bytes) -> tuple[bool, bool]:
        if self._closed or self.ended is not None:
            return False, False
        wait = self._pace(len(part))
        if wait > 0:
            eventlet.sleep(wait)
        until = self._clock() + ROOM_WAIT
        while not self._closed and self._held and self._held + len(part) > MOST_HELD:
            left = until - self._clock()
            if left <= 0 or not self._changed.wait(left):
                break
        self._heard = self._clock()
        if self._closed:
            return False, False
        if self._held and self._held + len(part) > MOST_HELD:
            return True, False
        if part:
            self._parts.append(part)
            self._held += len(part)
            self._changed.send()
        return True, True

    def end(self, summary: Summary) -> None:
        """The agent has nothing more to send."""
        if self.ended is None:
            self.ended = summary
        self._changed.send()

    def take(self, wait: float) -> bytes | None:
        """The next part; None when there is none within `wait` seconds, or none any more."""
        if not self._parts and self.ended is None:
            self._changed.wait(wait)
        if not self._parts:
            return None
        part = self._parts.popleft()
        self._held -= len(part)
        self.sent += len(part)
        self._changed.send()
        return part

    @property
    def over(self) -> bool:
        """All has been taken, and no more comes."""
        return not self._parts and (self.ended is not None or self._clock() - self._heard > SILENCE)

    def close(self) -> Summary:
        """Nobody takes anything any more: the agent is told when it next says something."""
        self._closed = True
        if self.ended is None:
            silent = self._clock() - self._heard > SILENCE
            self.ended = Summary(0, self.sent, 0, NODE_SILENT if silent else CLIENT_GONE)
        self._parts.clear()
        self._held = 0
        self._changed.send()
        return self.ended


class Captures:
    """All of this controller."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: dict[str, Capture] = {}
        self._ended: OrderedDict[str, tuple[str, Summary]] = OrderedDict()
        self._busy_until = 0.0

    def open(self, port_id: str, node: str, project: str | None = None) -> Capture:
        """`project`: whose capture it is, None for an operator's. Raises Busy. Close it."""
        if len(self._open) >= MOST:
            raise Busy(f"{MOST} captures go on already")
        if sum(one.node == node for one in self._open.values()) >= MOST_OF_NODE:
            raise Busy(f"{MOST_OF_NODE} captures go on already on node {node}")
        own = [one for one in self._open.values() if project is not None and one.project == project]
        if len(own) >= MOST_OF_PROJECT or sum(one.node == node for one in own) >= MOST_OF_PROJECT_ON_NODE:
            raise Busy(f"the project has as many captures as it may: {MOST_OF_PROJECT_ON_NODE} on a node")
        capture = Capture(port_id, node, self._clock, self._pace, project)
        self._open[capture.id] = capture
        return capture

    def close(self, capture: Capture) -> Summary:
        """It is remembered for a while how it was."""
        summary = capture.close()
        if self._open.pop(capture.id, None) is not None:
            self._ended[capture.id] = (capture.port_id, summary)
            while len(self._ended) > MOST_ENDED:
                self._ended.popitem(last=False)
        return summary

    def forget(self, capture: Capture) -> None:
        """It has never begun."""
        capture.close()
        self._open.pop(capture.id, None)

    def of_node(self, node: str, capture_id: str) -> Capture:
        """One that goes on. Raises Unknown."""
        found = self._open.get(capture_id)
        if found is None or found.node != node:
            raise Unknown(capture_id)
        return found

    def summary(self, port_id: str, capture_id: str) -> Summary:
        """Of one that is over. Raises Unknown."""
        port, summary = self._ended.get(capture_id, ("", None))
        if summary is None or port != port_id:
            raise Unknown(capture_id)
        return summary

    def _pace(self, size: int) -> float:
        now = self._clock()
        wait = max(0.0, self._busy_until - now)
        self._busy_until = max(now, self._busy_until) + size / RATE
        return wait
