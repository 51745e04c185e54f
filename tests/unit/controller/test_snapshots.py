"""The keeper: from the journal to deltas, and who has confirmed what."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import eventlet
import pytest

from controller import snapshots
from controller.session_counters import Counters
from controller.session_mailbox import Work
from controller.snapshots import SnapshotKeeper
from flows.compile import compile_node
from flows.ir import Flow, FlowKey
from flows.model import Change, NodeChange, PortChange
from flows.snapshot import Snapshot
from tests import world as cloud_of


class FakeStore:
    def __init__(self, snapshot: Snapshot) -> None:
        self.start = snapshot
        self.revision = snapshot.revision
        self.log: list[tuple[int, Change]] = []
        self.failures = 0

    def load_snapshot(self) -> Snapshot:
        return self.start

    def commit(self, *changes: Change) -> int:
        for change in changes:
            self.revision += 1
            self.log.append((self.revision, change))
        return self.revision

    def changes_since(self, revision: int) -> tuple[int, tuple[Change, ...]]:
        if self.failures:
            self.failures -= 1
            raise OSError("database away")
        latest = {(type(change), change.id): change for number, change in self.log if number > revision}
        return self.revision, tuple(latest.values())


class FakeSessions:
    """Applies what it is given, like switches that never refuse."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.tables: dict[str, dict[FlowKey, Flow]] = {
            name: {flow.key: flow for flow in compile_node(snapshot, name).flows()} for name in snapshot.nodes
        }
        self.work: list[tuple[str, Work]] = []
        self.node_changes = 0

    def deliver(self, node: str, datapath_id: int, work: Work) -> None:
        self.work.append((node, work))
        table = self.tables.setdefault(node, {})
        for flow in work.delta.deletes:
            del table[flow.key]
        table.update((flow.key, flow) for flow in work.delta.upserts)

    def nodes_changed(self) -> None:
        self.node_changes += 1


class World:
    def __init__(self) -> None:
        self.store = FakeStore(cloud_of.cloud())
        self.counters = Counters()
        self.keeper = SnapshotKeeper(self.store, self.counters)
        self.sessions = FakeSessions(self.store.start)
        self.keeper.attach(self.sessions)

    def confirm_all(self) -> None:
        for name in self.keeper.current.nodes:
            self.keeper.confirmed(name, self.keeper.wanted(name)[1])

    def follow(self, *changes: Change) -> int:
        revision = self.store.commit(*changes)
        assert self.keeper.follow() == revision
        return revision

    def check(self) -> None:
        for name in self.keeper.current.nodes:
            program, _ = self.keeper.wanted(name)
            assert self.sessions.tables[name] == {flow.key: flow for flow in program.flows()}
            assert program.digest == compile_node(self.keeper.current, name).digest


@pytest.fixture
def world() -> World:
    return World()


def unbound(world: World, port_id: str) -> PortChange:
    return PortChange(port_id, replace(world.store.start.ports[port_id], binding=None))


def nodes_of(work: Iterable[tuple[str, Work]]) -> set[str]:
    return {name for name, _ in work}


def test_nobody_has_confirmed_anything_at_the_start(world: World) -> None:
    assert world.keeper.missing(1) == ["n1", "n2", "n3"]
    world.keeper.confirmed("n2", 1)
    assert world.keeper.missing(1) == ["n1", "n3"]


def test_only_affected_nodes_get_work_and_are_missing(world: World) -> None:
    world.confirm_all()
    revision = world.follow(unbound(world, "port-10"))
    assert nodes_of(world.sessions.work) == {"n1"} == set(world.keeper.missing(revision))
    assert world.keeper.missing(revision - 1) == []
    world.keeper.confirmed("n1", revision)
    assert world.keeper.missing(revision) == []
    world.check()


def test_a_port_that_leaves_has_its_zone_flushed(world: World) -> None:
    zone = world.keeper.current.ports["port-10"].binding.zone  # type: ignore[union-attr]
    world.follow(unbound(world, "port-10"))
    world.follow(PortChange("port-11", None))
    assert [(name, work.flush_zones) for name, work in world.sessions.work if work.flush_zones] == [
        ("n1", (zone,)),
        ("n2", (11,)),
    ]


def test_revisions_taken_in_together_are_all_unconfirmed(world: World) -> None:
    world.confirm_all()
    world.store.commit(unbound(world, "port-10"))
    last = world.follow(unbound(world, "port-20"))
    assert world.keeper.missing(last - 1) == ["n1"] == world.keeper.missing(last)


def test_an_older_confirmation_does_not_confirm_newer_work(world: World) -> None:
    world.confirm_all()
    first = world.follow(unbound(world, "port-10"))
    second = world.follow(unbound(world, "port-20"))
    world.keeper.confirmed("n1", first)
    assert world.keeper.missing(first) == [] and world.keeper.missing(second) == ["n1"]


def test_a_revision_that_is_not_here_yet_is_confirmed_by_nobody(world: World) -> None:
    world.confirm_all()
    assert world.keeper.missing(99) == ["n1", "n2", "n3"]


def test_a_new_node_is_compiled_and_missing(world: World) -> None:
    world.confirm_all()
    node = replace(cloud_of.node("n3"), name="n4", key=4, datapath_id=4)
    revision = world.follow(NodeChange("n4", node))
    assert world.keeper.node_of(4) == "n4" and "n4" in world.keeper.missing(revision)
    assert world.sessions.node_changes == 1
    world.check()
    world.follow(NodeChange("n4", None))
    assert world.keeper.node_of(4) is None and "n4" not in world.keeper.missing(revision)
    with pytest.raises(KeyError):
        world.keeper.wanted("n4")


def test_port_active_means_its_own_change_is_confirmed(world: World) -> None:
    port = world.keeper.current.ports["port-10"]
    assert not world.keeper.port_active(port)
    world.confirm_all()
    assert world.keeper.port_active(port)
    world.follow(unbound(world, "port-20"))
    assert world.keeper.port_active(port)  # what happens to another port is not its business
    revision = world.follow(PortChange(port.id, replace(port, mac="fa:16:3e:99:99:99")))
    assert not world.keeper.port_active(world.keeper.current.ports[port.id])
    world.keeper.confirmed("n1", revision)
    assert world.keeper.port_active(world.keeper.current.ports[port.id])


def test_wait_returns_at_the_confirmation(world: World) -> None:
    world.confirm_all()
    revision = world.store.commit(unbound(world, "port-10"))
    waiter = eventlet.spawn(world.keeper.wait, revision, 30)
    eventlet.sleep(0)
    world.keeper.follow()
    eventlet.sleep(0)
    assert not waiter.dead
    started = time.monotonic()
    world.keeper.confirmed("n1", revision)
    assert waiter.wait() == [] and time.monotonic() - started < 5


def test_wait_gives_up_with_the_names(world: World) -> None:
    world.confirm_all()
    revision = world.follow(unbound(world, "port-10"))
    assert world.keeper.wait(revision, 0.02) == ["n1"]


def test_run_follows_when_woken_and_outlives_the_database(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "RETRY_DELAY", 0.01)
    runner = eventlet.spawn(world.keeper.run)
    world.store.failures = 3
    revision = world.store.commit(unbound(world, "port-10"))
    world.keeper.wake()
    with eventlet.Timeout(5):
        while world.keeper.current.revision < revision:
            eventlet.sleep(0.001)
    assert world.counters.events["follow_failures"] == 3
    runner.kill()


def test_a_compiler_fault_stays_with_its_node(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.confirm_all()
    real = snapshots.recompile

    def broken(program: Any, before: Snapshot, after: Snapshot, changes: Any, node: str) -> Any:
        if node == "n1":
            raise ValueError("no such field")
        return real(program, before, after, changes, node)

    with monkeypatch.context() as patch:
        patch.setattr(snapshots, "recompile", broken)
        first = world.follow(unbound(world, "port-10"), unbound(world, "port-11"))
    world.keeper.confirmed("n2", first)
    world.keeper.confirmed("n1", first)
    assert world.keeper.missing(first) == ["n1"]  # its switch cannot have confirmed what was never compiled
    assert world.counters.events["compile_failures"] == 1
    second = world.follow(unbound(world, "port-21"))
    world.keeper.confirmed("n1", second)
    world.keeper.confirmed("n2", second)
    assert world.keeper.missing(second) == []
    world.check()


def test_a_node_that_never_compiled_keeps_what_its_switch_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(snapshot: Snapshot, node: str) -> Any:
        raise ValueError(node)

    monkeypatch.setattr(snapshots, "compile_node", broken)
    keeper = SnapshotKeeper(FakeStore(cloud_of.cloud()), Counters())
    with pytest.raises(KeyError):
        keeper.wanted("n1")


@pytest.mark.parametrize("seed", range(20))
def test_random_changes_end_where_a_fresh_start_would(world: World, seed: int) -> None:
    import random

    rng = random.Random(seed)
    actions: list[Callable[[str], PortChange]] = [
        lambda port_id: unbound(world, port_id),
        lambda port_id: PortChange(port_id, world.store.start.ports[port_id]),
        lambda port_id: PortChange(port_id, None),
    ]
    for _ in range(30):
        port_id = rng.choice(sorted(world.store.start.ports))
        world.follow(*(rng.choice(actions)(port_id) for _ in range(rng.randint(1, 2))))
    world.check()
