"""Which nodes are lost, from what is heard of them. Nothing here waits or sends.

It must be quick, because traffic waits for it, and must not take for a dead node what is another's fault: a controller
that was held up or has just started, its own network, a switch that restarts or is busy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

SUSPECT: Final = 1.0
"""Seconds of silence after which the node's host is asked, too."""

SILENT: Final = 2.5
"""Seconds of silence after which a node is lost whose host does not answer either."""

HUNG: Final = 10.0
"""The same where the host answers: its switch is busy, or hangs."""

RECONNECT: Final = 3.0
"""Seconds that a switch that has hung up may take to come back."""

START: Final = 20.0
"""Seconds that a node may take to connect to a controller that has just started."""

LATE: Final = 1.5
"""Seconds between two looks from which on the controller itself was held up: what came meanwhile is yet unread."""

MEMORY: Final = 600.0
"""Seconds for which a lost node counts among those that were lost with it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`suspects` are the nodes whose hosts are to be asked. `held`: more are lost than left, so it may be our own
    fault, and none is called lost.
    """

    lost: frozenset[str] = frozenset()
    suspects: frozenset[str] = frozenset()
    held: bool = False


class Liveness:
    """Times are those of one clock that only goes forward."""

    def __init__(self, now: float) -> None:
        self._began = now
        self._looked_at = now
        self._reliable_from = now
        self._hung_up: dict[str, float] = {}
        self._alive_at: dict[str, float] = {}
        self._host_heard: dict[str, float] = {}

    def host_answered(self, node: str, now: float) -> None:
        self._host_heard[node] = now

    def judge(self, heard: Mapping[str, float | None], now: float) -> Verdict:
        """`heard` is when the switch of each node was last heard, None for one that is not connected."""
        if now - self._looked_at > LATE:
            self._reliable_from = now
        self._looked_at = now
        self._forget(heard)
        lost, suspects = set(), set()
        for node, at in heard.items():
            if at is None:
                if self._is_gone(node, now):
                    lost.add(node)
                continue
            self._hung_up.pop(node, None)
            silence = now - max(at, self._reliable_from)
            if silence < SUSPECT:
                self._alive_at[node] = now
                continue
            suspects.add(node)
            host = now - self._host_heard.get(node, self._began - SILENT)
            if silence >= HUNG or (silence >= SILENT and host >= SILENT - SUSPECT):
                lost.add(node)
        alive = sum(at == now for at in self._alive_at.values())
        of_late = sum(now - self._alive_at.get(node, self._began) < MEMORY for node in lost)
        held = of_late > alive
        return Verdict(frozenset() if held else frozenset(lost), frozenset(suspects), held)

    def _is_gone(self, node: str, now: float) -> bool:
        since = self._hung_up.setdefault(node, now)
        if node not in self._alive_at:
            return now - self._began >= START
        return now - max(since, self._reliable_from) >= RECONNECT

    def _forget(self, known: Iterable[str]) -> None:
        for of_nodes in (self._hung_up, self._alive_at, self._host_heard):
            for node in of_nodes.keys() - set(known):
                del of_nodes[node]
