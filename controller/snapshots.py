"""The current snapshot, and the program of every node."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

import eventlet
import structlog

from controller.claims import Claim, Claims
from controller.confirmations import Confirmations
from controller.forgetting import Debt, Forget, Owed
from controller.green import Signal
from controller.node_compiler import Known, Next, NodeCompiler
from controller.session_counters import Counters
from controller.session_mailbox import Work
from controller.store.specs import Gap, Unavailable
from flows.compile import Program
from flows.diff import Delta
from flows.model import Change, NodeChange
from flows.segments import SegmentKey
from flows.snapshot import Snapshot

_DESCRIBED: Final = 20
"""Failures that `describe` names."""

RETRY_DELAY: Final = 1.0
"""Seconds until the store is asked again when it could not answer."""

CATCH_UP: Final = 5.0
"""Seconds until a node's new master gives up waiting for what others have written, to ask again."""


class Journal(Protocol):
    """The part of the store that is needed here."""

    def load_snapshot(self) -> Snapshot: ...

    def changes_since(self, revision: int) -> tuple[int, tuple[Change, ...]]:
        """The last revision, and each object that has changed since `revision` as it is now. Raises Gap when that is
        not known any more.
        """
        ...

    def owed_since(self, revision: int) -> list[Debt]:
        """What nodes have owed to forget since a revision, and still do."""
        ...

    def settle(self, paid: Sequence[Debt]) -> int:
        """It is forgotten, and need not be known any more."""
        ...


class Sessions(Protocol):
    def deliver(self, node: str, datapath_id: int, work: Work) -> None: ...

    def serves(self, node: str, datapath_id: int) -> bool:
        """The node is connected: what is delivered will be installed, if nothing goes wrong."""
        ...

    def nodes_changed(self) -> None: ...


@dataclass(slots=True)
class _NodeState:
    """`broken`: the program is that of an older snapshot, because compiling failed."""

    program: Program = field(default_factory=Program)
    broken: bool = False


class SnapshotKeeper:
    """Only `follow`, and so one green thread, changes anything but confirmations and the claims that wait for them."""

    def __init__(self, store: Journal, counters: Counters, *, drop_private: bool = False) -> None:
        self._store = store
        self._counters = counters
        self._compiler = NodeCompiler(counters)
        self._nodes: dict[str, _NodeState] = {}
        self._by_datapath_id: dict[int, str] = {}
        self._owed = Owed()
        self._claims = Claims()
        self.confirmations = Confirmations(self.snapshot, self.holds)
        self._alarm_set = False
        self._sessions: Sessions | None = None
        self._claimed: Callable[[str, Sequence[Claim]], None] = lambda node, claims: None
        self._followed: Callable[[Snapshot, Snapshot, Sequence[Change]], None] = lambda before, after, changes: None
        self._confirmed_here: Callable[[str, int, int | None], None] = lambda node, revision, unclaimed: None
        self._elsewhere: Mapping[str, tuple[int, int | None]] = {}
        self._last_elsewhere: dict[str, int] = {}
        self._mastered: dict[str, int] = {}
        self._wake = Signal()
        self._asked = False
        self._looks = 0
        self._looked = 0
        self._looked_again = Signal()
        self._log = structlog.get_logger()
        self.current = replace(store.load_snapshot(), drop_private=drop_private)
        self._owe(store.owed_since(0))
        self._index_nodes()
        for name, first in self._compiler.first_programs(self.current):
            self._nodes[name] = _NodeState(first.program, first.broken)
            self.confirmations.begin(name, self.current.revision)
            self._claims.begin(name, first.program.flows())

    def attach(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def announce_by(self, claimed: Callable[[str, Sequence[Claim]], None]) -> None:
        """Who hears, without waiting, which claims a node has just been confirmed to hold."""
        self._claimed = claimed

    def tell(self, followed: Callable[[Snapshot, Snapshot, Sequence[Change]], None]) -> None:
        """Who hears, without waiting, what has changed from one snapshot to the next, which is in force."""
        self._followed = followed

    def tell_others(self, confirmed: Callable[[str, int, int | None], None]) -> None:
        """Who hears, without waiting, which revision a node has confirmed to this controller."""
        self._confirmed_here = confirmed

    def snapshot(self) -> Snapshot:
        return self.current

    def programs(self) -> tuple[Snapshot, Mapping[str, Program]]:
        """What is in force; without the nodes whose program could not be computed."""
        return self.current, {name: state.program for name, state in self._nodes.items() if not state.broken}

    # following the journal

    def wake(self) -> None:
        """There is something new in the journal. Never waits."""
        self._asked = True
        self._wake.send()

    def run(self) -> None:
        """Follows for ever. The store may fail, for as long as it likes: what is known stays in force."""
        while True:
            while not self._asked:
                self._wake.wait()
            self._asked = False
            self._looks += 1
            try:
                self.follow()
                self._looked = self._looks
                self._looked_again.send()
            except Unavailable:  # the store has said so
                self._counters.count("follow_failures")
                self._asked = True
                eventlet.sleep(RETRY_DELAY)
            except Exception:
                self._counters.count("follow_failures")
                self._log.exception("follow_failed", revision=self.current.revision)
                self._asked = True
                eventlet.sleep(RETRY_DELAY)

    def follow(self) -> int:
        """Takes in what the journal has new, and hands each node what changes for it. Returns the revision."""
        before = self.current
        try:
            revision, changes = self._store.changes_since(before.revision)
        except Gap:  # the database was away from us for longer than the journal is kept
            found = self._store.load_snapshot()
            revision, changes = found.revision, before.changes_to(found)
            self._log.warning("journal_gap", known=before.revision, revision=revision, changes=len(changes))
        if revision == before.revision:
            return revision
        after = before.apply(revision, changes)
        started = time.monotonic()
        computed = self._compiler.next_programs(self._known, before, after, changes)
        owed = self._store.owed_since(before.revision)
        # from here on nothing waits and nothing fails: sessions, packet_in handlers and waiters see one revision
        work = self._take_over(before, after, changes, computed, owed)
        self._deliver(work)
        self._confirm_elsewhere()
        self._followed(before, after, changes)
        self.confirmations.in_force()
        self._log.debug(
            "followed",
            revision=revision,
            changes=len(changes),
            nodes=len(work),
            milliseconds=round((time.monotonic() - started) * 1000, 1),
        )
        if self._sessions is not None and any(isinstance(change, NodeChange) for change in changes):
            self._sessions.nodes_changed()
        return revision

    def _known(self, node: str) -> Known | None:
        state = self._nodes.get(node)
        return None if state is None else Known(state.program, state.broken)

    def _take_over(
        self,
        before: Snapshot,
        after: Snapshot,
        changes: Iterable[Change],
        computed: Mapping[str, Next],
        owed: Sequence[Debt],
    ) -> dict[str, Work]:
        """Puts what is computed in force. Returns what each node is to be sent."""
        first, revision = before.revision + 1, after.revision
        self.current = after
        if after.nodes is not before.nodes:
            self._index_nodes()
        for name in before.nodes.keys() - after.nodes.keys():
            self._nodes.pop(name, None)
            self.confirmations.drop(name)
            self._claims.drop(name)
            self._owed.drop(name)
            self._mastered.pop(name, None)  # generations of a node begin anew when it is made again
            self._last_elsewhere.pop(name, None)
        self.confirmations.followed(changes, revision)
        indebted = {debt.node for debt in owed}
        for name, new in computed.items():
            state = self._nodes.get(name)
            if state is None:
                state = self._nodes[name] = _NodeState()
                self.confirmations.begin(name, revision)
            state.program, state.broken = new.program, new.broken
            if new.delta or new.broken or name in indebted:
                self.confirmations.pending(name, first, revision)
        self._owe(debt for debt in owed if debt.node in computed)
        deltas = {name: new.delta for name, new in computed.items() if new.delta}
        sent = self._claims.change(deltas, self._serves, first, revision, time.monotonic(), self._elsewhere)
        work = {}
        for name, new in computed.items():
            if self.confirmations.oldest(name) is not None:
                # work without a change confirms what waits, once what is before it is done
                delta = sent.get(name) or Delta((), (), self._claims.digest(name, new.delta.digest))
                work[name] = Work(delta, revision, self._claims.unclaimed(name))
        return work

    def _deliver(self, work: Mapping[str, Work]) -> None:
        if self._sessions is not None:
            for name, item in work.items():
                self._sessions.deliver(name, self.current.nodes[name].datapath_id, item)
        self._set_alarm()

    # claims that wait for another node

    def _serves(self, node: str) -> bool:
        known = self.current.nodes.get(node)
        return self._sessions is not None and known is not None and self._sessions.serves(node, known.datapath_id)

    def _hand_over(self) -> None:
        """Sends the claims that nothing stands against any more."""
        revision = self.current.revision
        freed = self._claims.free(revision, time.monotonic())
        if freed:
            work = {}
            for name, flows in freed.items():
                digest = self._claims.digest(name, self._nodes[name].program.digest)
                work[name] = Work(Delta(flows, (), digest), revision, self._claims.unclaimed(name))
            self._deliver(work)

    def _set_alarm(self) -> None:
        deadline = self._claims.deadline()
        if deadline is not None and not self._alarm_set:
            self._alarm_set = True
            eventlet.spawn_after(max(deadline - time.monotonic(), 0.001), self._alarm)

    def _alarm(self) -> None:
        self._alarm_set = False
        self._hand_over()
        self._set_alarm()

    def _index_nodes(self) -> None:
        self._by_datapath_id = {node.datapath_id: name for name, node in self.current.nodes.items()}

    # what sessions ask (controller.session.Programs)

    def node_of(self, datapath_id: int) -> str | None:
        return self._by_datapath_id.get(datapath_id)

    def wanted(self, node: str) -> tuple[Program, int]:
        state = self._nodes[node]
        if state.broken and not state.program:
            raise KeyError(node)  # better what the switch holds now than nothing
        self._claims.whole(node, self.current.revision)
        return state.program, self.current.revision

    def settled(self, node: str) -> Program | None:
        """What a node has confirmed to hold; None while something is on its way to it."""
        state = self._nodes.get(node)
        waits = self.confirmations.oldest(node) is not None
        return None if state is None or state.broken or waits else state.program

    def catch_up(self, node: str, generation: int) -> bool:
        if self._mastered.get(node) == generation:
            return True  # nobody else was, in between
        try:
            if not self._look_again():
                return False
            debts = [debt for debt in self._store.owed_since(0) if debt.node == node]
        except Exception:
            self._counters.count("catch_up_failures")
            self._log.exception("catch_up_failed", node=node)
            return False
        self._owed.drop(node)
        self._owe(debts)
        # whoever was master has done these before he said so, but may not have come to write them down
        done = self._last_elsewhere.get(node, 0)
        self._owed.done(node, self._owed.due(node, done), done)
        self._mastered[node] = generation
        return True

    def _look_again(self) -> bool:
        """Waits until all is known that was written before this call. False when it takes too long."""
        wanted, deadline = self._looks + 1, time.monotonic() + CATCH_UP
        while self._looked < wanted:
            self.wake()
            left = deadline - time.monotonic()
            if left <= 0 or not self._looked_again.wait(left):
                return False
        return True

    def confirmed(self, node: str, revision: int, unclaimed: int | None = None, *, whole: bool = False) -> None:
        if node in self._nodes:
            claims = self._claims.confirmed(node, revision, whole=whole)
            if claims:
                self._claimed(node, claims)
        self._progress(node, revision, unclaimed)
        self._confirmed_here(node, revision, unclaimed)

    def confirmed_elsewhere(self, confirmed: Mapping[str, tuple[int, int | None]]) -> None:
        """What the nodes that other controllers master have confirmed to those: (revision, unclaimed) of each. Never
        waits.
        """
        self._elsewhere = confirmed
        self._last_elsewhere.update((node, revision) for node, (revision, _) in confirmed.items())
        self._confirm_elsewhere()

    def _confirm_elsewhere(self) -> None:
        for node, (revision, unclaimed) in self._elsewhere.items():
            if node in self._nodes:
                self._claims.confirmed(node, revision)
                self._owed.forget(node, revision)
                self._progress(node, revision, unclaimed)

    def _progress(self, node: str, revision: int, unclaimed: int | None) -> None:
        self._hand_over()
        state = self._nodes.get(node)
        if state is not None and not state.broken:
            self.confirmations.progress(node, revision if unclaimed is None else min(revision, unclaimed - 1))

    def to_forget(self, node: str, revision: int) -> list[Forget]:
        return self._owed.due(node, revision)

    def forgotten(self, node: str, what: Sequence[Forget], revision: int) -> None:
        self._owed.done(node, what, revision)

    def _owe(self, debts: Iterable[Debt]) -> None:
        for node, what, revision in debts:
            self._owed.add(node, [what], revision)

    def settle(self) -> None:
        """Takes off the store's list what is forgotten. What cannot be written now stays for the next time."""
        paid = self._owed.paid
        if paid:
            self._store.settle(paid)
            self._owed.settled(paid)

    # what people are told

    def holds(self, node: str, claim: Claim) -> bool:
        """The node's switch answers for an address on the wire, as far as it is known."""
        return self._claims.holds(node, claim)

    def describe(self, node: str) -> dict[str, Any]:
        """For people, in JSON values."""
        state = self._nodes.get(node)
        if state is None:
            return {}
        failures = [f"{kind.name.lower()} {id_}: {why}" for (kind, id_), why in state.program.failures.items()]
        return {
            "flows": len(state.program),
            "unconfirmed_since": self.confirmations.oldest(node),
            "not_compiled": failures[:_DESCRIBED],
        }

    def not_compiled(self) -> Iterator[tuple[str, SegmentKey, str]]:
        """Node, segment, and why that could not be made."""
        for name, state in sorted(self._nodes.items()):
            for key, why in state.program.failures.items():
                yield name, key, why
