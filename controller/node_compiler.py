"""The program of every node, of a snapshot or from the one before. What cannot be compiled leaves its node as it is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import structlog

from controller.green import Turns
from controller.session_counters import Counters
from flows.compile import Program, Shared, compile_node, recompile
from flows.diff import Delta, diff
from flows.model import Change
from flows.snapshot import Snapshot
from flows.turns import no_turn


@dataclass(frozen=True, slots=True)
class Known:
    """A node's program that is in force. `broken`: it is that of an older snapshot, because compiling failed."""

    program: Program
    broken: bool = False


@dataclass(frozen=True, slots=True)
class Next:
    """A node's next program, not in force yet. `broken`: it could not be compiled, and the old one stays."""

    program: Program
    delta: Delta
    broken: bool = False


class NodeCompiler:
    """Counts and logs what cannot be compiled."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._log = structlog.get_logger()

    def first_programs(self, snapshot: Snapshot) -> Iterator[tuple[str, Next]]:
        """Of all nodes: nothing is known of what their switches hold."""
        shared: Shared = {}
        for name in snapshot.nodes:
            yield name, self._first(snapshot, name, shared)

    def next_programs(
        self, known: Callable[[str], Known | None], before: Snapshot, after: Snapshot, changes: Collection[Change]
    ) -> dict[str, Next]:
        """Of all nodes, `known` being what is in force. Others get their turn meanwhile."""
        computed = {}
        shared: Shared = {}
        turns = Turns()
        for name in after.nodes:
            now = known(name)
            if now is None:
                computed[name] = self._first(after, name, shared, turns)
            else:
                computed[name] = self._recompile(name, now, before, after, changes, shared, turns)
            turns()
        return computed

    def _first(self, snapshot: Snapshot, name: str, shared: Shared, turn: Callable[[], None] = no_turn) -> Next:
        try:
            program = compile_node(snapshot, name, shared, turn)
        except Exception:
            self._failed(name)
            return Next(Program(), Delta((), (), 0), broken=True)
        self._report_failures(name, Program(), program)
        return Next(program, Delta(tuple(program.flows()), (), program.digest, tuple(program.meters())))

    def _recompile(
        self,
        name: str,
        known: Known,
        before: Snapshot,
        after: Snapshot,
        changes: Collection[Change],
        shared: Shared,
        turn: Callable[[], None],
    ) -> Next:
        """A fault of the compiler leaves this node as it is, and no other."""
        old = known.program
        try:
            if known.broken:
                program = compile_node(after, name, shared, turn)
                delta = diff(
                    old.flows(),
                    program.flows(),
                    program.digest,
                    meters_installed=old.meters(),
                    meters_desired=program.meters(),
                )
            else:
                program, delta = recompile(old, before, after, changes, name, shared, turn)
        except Exception:
            self._failed(name)
            return Next(old, Delta((), (), old.digest), broken=True)
        self._report_failures(name, old, program)
        return Next(program, delta)

    def _report_failures(self, name: str, old: Program, new: Program) -> None:
        for key, why in new.failures.items():
            if old.failures.get(key) != why:
                kind, id_ = key
                self._counters.count("compile_failures")
                self._log.error("segment_not_compiled", node=name, segment=kind.name.lower(), id=id_, why=why)

    def _failed(self, name: str) -> None:
        self._counters.count("compile_failures")
        self._log.exception("compile_failed", node=name)
