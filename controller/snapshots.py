"""The current snapshot, the program of every node, and which revisions the nodes have confirmed."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import eventlet
import structlog

from controller.green import Signal
from controller.session_counters import Counters
from controller.session_mailbox import Work
from flows.compile import Program, compile_node, recompile
from flows.diff import Delta, diff
from flows.model import Change, NodeChange, Port, PortChange
from flows.pipeline import carrier_address
from flows.snapshot import Snapshot

LONGEST_TURN: Final = 0.01
"""Seconds of compiling after which others get a turn."""

_DESCRIBED: Final = 20
"""Failures that `describe` names."""

RETRY_DELAY: Final = 1.0
"""Seconds until the store is asked again when it could not answer."""


class Journal(Protocol):
    """The part of the store that is needed here."""

    def load_snapshot(self) -> Snapshot: ...

    def changes_since(self, revision: int) -> tuple[int, tuple[Change, ...]]:
        """The last revision, and each object that has changed since `revision` as it is now."""
        ...


class Sessions(Protocol):
    def deliver(self, node: str, datapath_id: int, work: Work) -> None: ...

    def nodes_changed(self) -> None: ...


@dataclass(slots=True)
class _NodeState:
    """`oldest` to `newest` are the revisions that the switch has not confirmed; none when `oldest` is None.

    `broken`: the program is that of an older snapshot, because compiling failed.
    """

    program: Program = field(default_factory=Program)
    oldest: int | None = None
    newest: int = 0
    broken: bool = False


class SnapshotKeeper:
    """Only `follow`, and so one green thread, changes anything but confirmations."""

    def __init__(self, store: Journal, counters: Counters) -> None:
        self._store = store
        self._counters = counters
        self._nodes: dict[str, _NodeState] = {}
        self._by_datapath_id: dict[int, str] = {}
        self._port_revision: dict[str, int] = {}
        self._sessions: Sessions | None = None
        self._wake = Signal()
        self._asked = False
        self._changed = Signal()
        self._log = structlog.get_logger()
        self.current = store.load_snapshot()
        self._index_nodes()
        for name in self.current.nodes:
            self._nodes[name] = self._new_node(self.current, name)

    def attach(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def snapshot(self) -> Snapshot:
        return self.current

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
            try:
                self.follow()
            except Exception:
                self._counters.count("follow_failures")
                self._log.exception("follow_failed", revision=self.current.revision)
                self._asked = True
                eventlet.sleep(RETRY_DELAY)

    def follow(self) -> int:
        """Takes in what the journal has new, and hands each node what changes for it. Returns the revision."""
        before = self.current
        revision, changes = self._store.changes_since(before.revision)
        if revision == before.revision:
            return revision
        after = before.apply(revision, changes)
        started = turn = time.monotonic()
        left = _left_behind(before, changes)
        work: list[tuple[str, int, Work]] = []
        for name in {*before.nodes, *after.nodes}:
            delta = self._recompile(name, before, after, changes)
            if name not in after.nodes:
                continue
            state = self._nodes[name]
            if delta or name in left:
                self._pending(state, before.revision + 1, revision)
            if state.oldest is not None:  # work without a change confirms what waits, once what is before it is done
                zones, addresses = left.get(name, ((), ()))
                item = Work(delta, revision, tuple(sorted(zones)), tuple(sorted(addresses)))
                work.append((name, after.nodes[name].datapath_id, item))
            if time.monotonic() - turn > LONGEST_TURN:
                eventlet.sleep(0)
                turn = time.monotonic()
        for change in changes:
            if isinstance(change, PortChange):
                self._port_revision[change.id] = revision
                if change.new is None:
                    del self._port_revision[change.id]
        # from here on nothing waits: sessions, packet_in handlers and waiters see one and the same revision
        self.current = after
        if any(isinstance(change, NodeChange) for change in changes):
            self._index_nodes()
            if self._sessions is not None:
                self._sessions.nodes_changed()
        if self._sessions is not None:
            for name, datapath_id, item in work:
                self._sessions.deliver(name, datapath_id, item)
        self._changed.send()
        self._log.debug(
            "followed",
            revision=revision,
            changes=len(changes),
            nodes=len(work),
            milliseconds=round((time.monotonic() - started) * 1000, 1),
        )
        return revision

    def _index_nodes(self) -> None:
        self._by_datapath_id = {node.datapath_id: name for name, node in self.current.nodes.items()}

    def _new_node(self, snapshot: Snapshot, name: str) -> _NodeState:
        """Nothing is known of what its switch holds, so it has confirmed nothing."""
        state = _NodeState(oldest=1, newest=snapshot.revision)
        try:
            state.program = compile_node(snapshot, name)
            self._report_failures(name, Program(), state.program)
        except Exception:
            self._compile_failed(state, name)
        return state

    def _recompile(self, name: str, before: Snapshot, after: Snapshot, changes: Iterable[Change]) -> Delta:
        """The next program of a node. A fault of the compiler leaves this node as it is, and no other."""
        if name not in after.nodes:
            self._nodes.pop(name, None)
            return Delta((), (), 0)
        state = self._nodes.get(name)
        if state is None:
            state = self._nodes[name] = self._new_node(after, name)
            return Delta(tuple(state.program.flows()), (), state.program.digest)
        try:
            if not state.broken:
                old = state.program
                state.program, delta = recompile(old, before, after, changes, name)
                self._report_failures(name, old, state.program)
            else:
                whole = compile_node(after, name)
                delta = diff(state.program.flows(), whole.flows(), whole.digest)
                state.program, state.broken = whole, False
        except Exception:
            self._compile_failed(state, name)
            self._pending(state, before.revision + 1, after.revision)
            return Delta((), (), state.program.digest)
        return delta

    def _report_failures(self, name: str, old: Program, new: Program) -> None:
        for key, why in new.failures.items():
            if old.failures.get(key) != why:
                kind, id_ = key
                self._counters.count("compile_failures")
                self._log.error("segment_not_compiled", node=name, segment=kind.name.lower(), id=id_, why=why)

    def _compile_failed(self, state: _NodeState, name: str) -> None:
        state.broken = True
        self._counters.count("compile_failures")
        self._log.exception("compile_failed", node=name)

    # what sessions ask (controller.session.Programs)

    def node_of(self, datapath_id: int) -> str | None:
        return self._by_datapath_id.get(datapath_id)

    def wanted(self, node: str) -> tuple[Program, int]:
        state = self._nodes[node]
        if state.broken and not state.program:
            raise KeyError(node)  # better what the switch holds now than nothing
        return state.program, self.current.revision

    def confirmed(self, node: str, revision: int) -> None:
        state = self._nodes.get(node)
        if state is None or state.oldest is None or state.broken:
            return
        state.oldest = None if revision >= state.newest else max(state.oldest, revision + 1)
        self._changed.send()

    @staticmethod
    def _pending(state: _NodeState, oldest: int, newest: int) -> None:
        if state.oldest is None:
            state.oldest = oldest
        state.newest = newest

    # what the API asks (controller.api.services.Confirmations)

    def missing(self, revision: int) -> list[str]:
        """The nodes that have an unconfirmed change of this revision or an older one; all, if we are not there yet."""
        if revision > self.current.revision:
            return sorted(self.current.nodes)
        return sorted(
            name for name, state in self._nodes.items() if state.oldest is not None and state.oldest <= revision
        )

    def wait(self, revision: int, timeout_s: float) -> list[str]:
        """`missing`, as soon as it is empty or after `timeout_s` seconds."""
        deadline = time.monotonic() + timeout_s
        while True:
            missing = self.missing(revision)
            left = deadline - time.monotonic()
            if left <= 0 or (not missing and revision <= self.current.revision):
                return missing
            self._changed.wait(left)

    def port_active(self, port: Port) -> bool:
        """True when the port's node has confirmed the last change of the port."""
        state = self._nodes.get(port.binding.node) if port.binding is not None else None
        if state is None:
            return False
        return state.oldest is None or state.oldest > self._port_revision.get(port.id, 1)

    def describe(self, node: str) -> dict[str, Any]:
        """For people, in JSON values."""
        state = self._nodes.get(node)
        if state is None:
            return {}
        failures = [f"{kind.name.lower()} {id_}: {why}" for (kind, id_), why in state.program.failures.items()]
        return {"flows": len(state.program), "unconfirmed_since": state.oldest, "not_compiled": failures[:_DESCRIBED]}

    def unconfirmed(self) -> Mapping[str, int]:
        """Node -> first revision that it has not confirmed."""
        return {name: state.oldest for name, state in self._nodes.items() if state.oldest is not None}


def _left_behind(before: Snapshot, changes: Collection[Change]) -> dict[str, tuple[set[int], set[int]]]:
    """Node -> zones and source addresses of ports that have left it: their connections must not meet the next owner."""
    left: dict[str, tuple[set[int], set[int]]] = {}
    for change in changes:
        if not isinstance(change, PortChange) or change.id not in before.ports:
            continue
        old = before.ports[change.id]
        if old.binding is None:
            continue
        new = change.new
        zones, addresses = left.get(old.binding.node, (set(), set()))
        kept: set[int] = set()
        kept_zone = None
        if new is not None and new.binding is not None and new.binding.node == old.binding.node:
            kept, kept_zone = _sources(before, new), new.binding.zone
        if old.binding.zone != kept_zone:
            zones.add(old.binding.zone)
        addresses |= _sources(before, old) - kept
        if zones or addresses:
            left[old.binding.node] = (zones, addresses)
    return left


def _sources(snapshot: Snapshot, port: Port) -> set[int]:
    """The addresses from which a port's connections enter the SNAT zone of its node."""
    network = snapshot.networks.get(port.network_id)
    if network is not None and network.carrier_nat:
        return {carrier_address(port.key)}
    return {int(fixed_ip.address) for fixed_ip in port.fixed_ips}
