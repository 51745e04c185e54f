"""Whether the switches still hold what they have confirmed: asked for now and then, and put right.

A session asks once, when it begins (by the stamp), and then trusts what it has sent. Somebody may have deleted a flow
by hand since, or put in one that carries our mark. What is in the database and what the agents report meet in
`store.bindings`, with every report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, Protocol

import eventlet
import structlog

from controller.events.drop_watch import WATCHED, Dropping, DropWatch
from controller.session_counters import Counters
from controller.session_questions import NoAnswer
from flows import statistics
from flows.compile import Program
from flows.ir import Flow
from flows.pipeline import Table
from flows.rules import decode_cookie, dropping

AUDIT_PERIOD: Final = 60.0
ANSWER_TIMEOUT: Final = 10.0
NAMED: Final = 20
"""Differences that a log line names."""

Place = tuple[int, int, int]
"""Table, priority and cookie: what says of a flow which one it is without decoding its match."""

_WATCHED_TABLES: Final = frozenset(rule.table for rule in WATCHED)

Ask = Callable[[str, Callable[[int], bytes], float], list[bytes]]


class Session(Protocol):
    """A live session."""

    @property
    def node(self) -> str | None: ...

    @property
    def quarantine(self) -> Iterable[Flow]:
        """What the switch refuses."""
        ...

    def distrust(self) -> None:
        """Sends everything anew. Never waits."""
        ...


class FlowAudit:
    """`settled` is what a node has confirmed to hold, or None while something is on its way. `ask` raises NoAnswer.
    `drops` hears what rules that are watched have dropped.
    """

    def __init__(
        self,
        live: Callable[[], Iterable[Session]],
        settled: Callable[[str], Program | None],
        ask: Ask,
        counters: Counters,
        drops: DropWatch,
    ) -> None:
        self._drops = drops
        self._live = live
        self._settled = settled
        self._ask = ask
        self._counters = counters

    def run(self) -> None:
        """Looks at each switch once."""
        for session in list(self._live()):
            if session.node is not None:
                try:
                    self._look(session.node, session)
                except NoAnswer as error:
                    structlog.get_logger().warning("audit_unanswered", node=session.node, why=str(error))

    def _look(self, node: str, session: Session) -> None:
        program = self._settled(node)
        if program is None:
            return
        found = self._held(node)
        # what has changed meanwhile is no difference
        if self._settled(node) is not program:
            return
        wanted = Counter(place(flow) for flow in program.flows()) - Counter(place(it) for it in session.quarantine)
        lacking, foreign = wanted - found, found - wanted
        if not lacking and not foreign:
            return
        self._counters.node(node).flows_differing += lacking.total() + foreign.total()
        structlog.get_logger().error(
            "flows_differ",
            node=node,
            lacking=lacking.total(),
            foreign=foreign.total(),
            examples=[_name(one) for one in [*lacking, *foreign][:NAMED]],
        )
        session.distrust()

    def _held(self, node: str) -> Counter[Place]:
        found: Counter[Place] = Counter()
        dropped: Counter[Dropping] = Counter()
        for part in self._ask(node, statistics.ours_request, ANSWER_TIMEOUT):
            try:
                held = statistics.parse_places(part)
            except ValueError as error:
                raise NoAnswer(str(error)) from error
            found.update(it for it, _ in held if it[0] != Table.STAMP)
            for (table, _, cookie), packets in held:
                if packets and table in _WATCHED_TABLES and (of := dropping(cookie)) and of[0] in WATCHED:
                    dropped[of] += packets
            eventlet.sleep(0)  # others get their turn
        self._drops.counted(node, dropped)
        return found


def place(flow: Flow) -> Place:
    return flow.table, flow.priority, flow.cookie


def _name(it: Place) -> str:
    table, priority, cookie = it
    rule, key = decode_cookie(cookie) or (None, 0)
    return f"table {table} priority {priority} {'unknown' if rule is None else rule.name.lower()} {key}"
