"""What a change would do to the flows of nodes, worked out without making it.

The change is written in a transaction that is never committed. What it makes of the model is compiled beside what is in
force.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import eventlet
from eventlet.semaphore import Semaphore

from controller.green import Turns
from controller.store import Store
from flows.compile import Program, Shared, recompile
from flows.diff import Delta
from flows.ir import Flow, FlowKey, MeterConfig
from flows.snapshot import Snapshot

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NodePlan:
    """What a node's switch would be sent. `changes`: flows that stay in their place, as they are and as they would be.
    `problems`: what could not be computed.
    """

    node: str
    adds: tuple[Flow, ...] = ()
    deletes: tuple[Flow, ...] = ()
    changes: tuple[tuple[Flow, Flow], ...] = ()
    meters: tuple[MeterConfig, ...] = ()
    gone_meters: tuple[int, ...] = ()
    problems: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.adds or self.deletes or self.changes or self.meters or self.gone_meters or self.problems)


@dataclass(frozen=True, slots=True)
class Plan(Generic[T]):
    """`value` is what the change has answered. It begins at a revision, of which `before` is the model; `after` is that
    of the model then. `nodes`: those for which something changes.
    """

    value: T
    revision: int
    before: Snapshot
    after: Snapshot
    nodes: tuple[NodePlan, ...]


class Planner:
    """One plan at a time. `in_force`: a snapshot and the programs of the nodes that were compiled of it."""

    def __init__(self, store: Store, in_force: Callable[[], tuple[Snapshot, Mapping[str, Program]]]) -> None:
        self._store = store
        self._in_force = in_force
        self._turn = Semaphore()

    def plan(self, change: Callable[[Store], T]) -> Plan[T]:
        """`change` is to write by the store that it is given, and nothing else; it may be called again. Raises what it
        raises, and what the store raises.
        """
        with self._turn:
            known, programs = self._in_force()
            rehearsed = self._store.rehearse(known.revision, change)
            eventlet.sleep(0)
            before = known.apply(rehearsed.begin, rehearsed.before) if rehearsed.before else known
            after = before.apply(rehearsed.end, rehearsed.after)
            shared: tuple[Shared, Shared] = {}, {}
            found = []
            turns = Turns()
            for name in sorted(before.nodes.keys() | after.nodes.keys()):
                program = programs.get(name)
                if program is None and name in known.nodes:
                    found.append(NodePlan(name, problems=("its flows cannot be computed",)))
                    continue
                program = program or Program()
                if rehearsed.before:
                    program, _ = recompile(program, known, before, rehearsed.before, name, shared[0], turns)
                new, delta = recompile(program, before, after, rehearsed.after, name, shared[1], turns)
                if of_node := _plan(name, program, new, delta):
                    found.append(of_node)
                turns()
            return Plan(rehearsed.value, rehearsed.begin, before, after, tuple(found))


def _plan(name: str, old: Program, new: Program, delta: Delta) -> NodePlan:
    changed = {flow.key for flow in delta.upserts}
    was: dict[FlowKey, Flow] = {flow.key: flow for flow in old.flows() if flow.key in changed} if changed else {}
    failures = (
        f"{kind.name.lower()} {id_}: {why}"
        for (kind, id_), why in new.failures.items()
        if old.failures.get((kind, id_)) != why
    )
    return NodePlan(
        name,
        tuple(flow for flow in delta.upserts if flow.key not in was),
        delta.deletes,
        tuple((was[flow.key], flow) for flow in delta.upserts if flow.key in was),
        delta.meters,
        delta.gone_meters,
        tuple(failures),
    )
