"""The keeper: from the journal to deltas, and who has confirmed what."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import eventlet
import pytest

from controller import claims, node_compiler, snapshots
from controller.claims import Claim
from controller.forgetting import Debt, End, Forget, left_behind
from controller.session_counters import Counters
from controller.session_mailbox import Work
from controller.snapshots import SnapshotKeeper
from controller.store.specs import Gap
from flows.compile import compile_node
from flows.ir import Flow, FlowKey
from flows.model import Change, FloatingIp, FloatingIpChange, NetworkChange, NodeChange, PortChange
from flows.pipeline import CtZone, carrier_address, nat_zone
from flows.snapshot import Snapshot
from tests import world as cloud_of


class FakeStore:
    def __init__(self, snapshot: Snapshot) -> None:
        self.start = snapshot
        self.revision = snapshot.revision
        self.log: list[tuple[int, Change]] = []
        self.failures = 0
        self.forgotten = 0
        self._now = snapshot
        self.owed: dict[tuple[str, Forget], int] = {}

    def load_snapshot(self) -> Snapshot:
        return self.start

    def forget(self) -> None:
        """The journal, all of it; what there is now is loaded."""
        self.start, self.forgotten = self._now, self.revision

    def commit(self, *changes: Change) -> int:
        left = left_behind(self._now, changes)
        for change in changes:
            self.revision += 1
            self.log.append((self.revision, change))
        self._now = self._now.apply(self.revision, changes)
        self.owed.update(((node, what), self.revision) for node in left for what in left[node])
        return self.revision

    def changes_since(self, revision: int) -> tuple[int, tuple[Change, ...]]:
        if self.failures:
            self.failures -= 1
            raise OSError("database away")
        if revision < self.forgotten:
            raise Gap("journal_gap", "not known any more")
        latest = {(type(change), change.id): change for number, change in self.log if number > revision}
        return self.revision, tuple(latest.values())

    def owed_since(self, revision: int) -> list[Debt]:
        return [Debt(*key, since) for key, since in self.owed.items() if since > revision]

    def settle(self, paid: Sequence[Debt]) -> int:
        if self.failures:
            self.failures -= 1
            raise OSError("database away")
        for node, what, revision in paid:
            if self.owed.get((node, what), revision + 1) <= revision:
                del self.owed[node, what]
        return len(paid)


class FakeSessions:
    """Applies what it is given, like switches that never refuse."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.tables: dict[str, dict[FlowKey, Flow]] = {
            name: {flow.key: flow for flow in compile_node(snapshot, name).flows()} for name in snapshot.nodes
        }
        self.work: list[tuple[str, Work]] = []
        self.node_changes = 0
        self.away: set[str] = set()

    def deliver(self, node: str, datapath_id: int, work: Work) -> None:
        self.work.append((node, work))
        table = self.tables.setdefault(node, {})
        for flow in work.delta.deletes:
            del table[flow.key]
        table.update((flow.key, flow) for flow in work.delta.upserts)

    def serves(self, node: str, datapath_id: int) -> bool:
        return node not in self.away

    def nodes_changed(self) -> None:
        self.node_changes += 1


class World:
    def __init__(self) -> None:
        self.store = FakeStore(cloud_of.cloud())
        self.counters = Counters()
        self.keeper = SnapshotKeeper(self.store, self.counters)
        self.confirmations = self.keeper.confirmations
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
    assert world.confirmations.missing(1) == ["n1", "n2", "n3"]
    world.keeper.confirmed("n2", 1)
    assert world.confirmations.missing(1) == ["n1", "n3"]


def test_only_affected_nodes_get_work_and_are_missing(world: World) -> None:
    world.confirm_all()
    revision = world.follow(unbound(world, "port-10"))
    assert nodes_of(world.sessions.work) == {"n1"} == set(world.confirmations.missing(revision))
    assert world.confirmations.missing(revision - 1) == []
    world.keeper.confirmed("n1", revision)
    assert world.confirmations.missing(revision) == []
    world.check()


def test_what_a_port_leaves_behind_is_owed_until_it_is_done(world: World) -> None:
    first = world.follow(unbound(world, "port-10"))
    sources = (0x0A0A000A, carrier_address(10))
    owed = [Forget(10), Forget(nat_zone(10)), *(Forget(CtZone.SNAT, End.ORIGINAL_SOURCE, one) for one in sources)]
    assert sorted(world.keeper.to_forget("n1", first)) == sorted(owed)
    assert world.keeper.to_forget("n1", first - 1) == []  # the flows are not there yet
    world.follow(PortChange("port-11", None))
    assert Forget(nat_zone(11)) in world.keeper.to_forget("n2", 99)
    world.keeper.forgotten("n1", owed, first)
    assert world.keeper.to_forget("n1", 99) == []
    world.confirm_all()
    last = world.follow(NodeChange("n2", None))
    assert world.keeper.to_forget("n2", last) == []


def test_a_restart_does_not_pay_what_is_owed(world: World) -> None:
    """A node is away when a port goes, and the controller is another one when it comes back."""
    first = world.follow(unbound(world, "port-10"))
    world.store.start = world.keeper.current
    restarted = SnapshotKeeper(world.store, Counters())
    owed = world.keeper.to_forget("n1", first)
    assert len(owed) == 4 and sorted(restarted.to_forget("n1", first)) == sorted(owed)
    restarted.forgotten("n1", owed, first)
    world.store.failures = 1
    with pytest.raises(OSError, match="away"):
        restarted.settle()
    assert len(world.store.owed) == 4
    restarted.settle()
    assert world.store.owed == {}
    assert SnapshotKeeper(world.store, Counters()).to_forget("n1", first) == []


def test_what_the_journal_has_forgotten_is_found_by_reading_everything(world: World) -> None:
    """Nodes are sent what differs, and no more."""
    world.confirm_all()
    world.store.commit(unbound(world, "port-10"))
    gone = world.store.commit(PortChange("port-11", None))
    world.store.forget()
    assert world.keeper.follow() == gone
    assert nodes_of(world.sessions.work) == {"n1", "n2"} == set(world.confirmations.missing(gone))
    assert all(len(work.delta.upserts) + len(work.delta.deletes) < 100 for _, work in world.sessions.work)
    assert Forget(10) in world.keeper.to_forget("n1", gone)
    world.check()
    last = world.follow(unbound(world, "port-20"))
    assert world.confirmations.missing(last) == ["n1", "n2"]
    world.check()


def test_revisions_taken_in_together_are_all_unconfirmed(world: World) -> None:
    world.confirm_all()
    world.store.commit(unbound(world, "port-10"))
    last = world.follow(unbound(world, "port-20"))
    assert world.confirmations.missing(last - 1) == ["n1"] == world.confirmations.missing(last)


def test_an_older_confirmation_does_not_confirm_newer_work(world: World) -> None:
    world.confirm_all()
    first = world.follow(unbound(world, "port-10"))
    second = world.follow(unbound(world, "port-20"))
    world.keeper.confirmed("n1", first)
    assert world.confirmations.missing(first) == [] and world.confirmations.missing(second) == ["n1"]


def test_a_revision_that_is_not_here_yet_is_confirmed_by_nobody(world: World) -> None:
    world.confirm_all()
    assert world.confirmations.missing(99) == ["n1", "n2", "n3"]


def test_a_new_node_is_compiled_and_missing(world: World) -> None:
    world.confirm_all()
    node = replace(cloud_of.node("n3"), name="n4", key=4, datapath_id=4)
    revision = world.follow(NodeChange("n4", node))
    assert world.keeper.node_of(4) == "n4" and "n4" in world.confirmations.missing(revision)
    assert world.sessions.node_changes == 1
    world.check()
    world.follow(NodeChange("n4", None))
    assert world.keeper.node_of(4) is None and "n4" not in world.confirmations.missing(revision)
    with pytest.raises(KeyError):
        world.keeper.wanted("n4")


def test_port_active_means_its_own_change_is_confirmed(world: World) -> None:
    port = world.keeper.current.ports["port-10"]
    assert not world.confirmations.port_active(port)
    world.confirm_all()
    assert world.confirmations.port_active(port)
    world.follow(unbound(world, "port-20"))
    assert world.confirmations.port_active(port)  # what happens to another port is not its business
    revision = world.follow(PortChange(port.id, replace(port, mac="fa:16:3e:99:99:99")))
    assert not world.confirmations.port_active(world.keeper.current.ports[port.id])
    world.keeper.confirmed("n1", revision)
    assert world.confirmations.port_active(world.keeper.current.ports[port.id])


def test_wait_returns_at_the_confirmation(world: World) -> None:
    world.confirm_all()
    revision = world.store.commit(unbound(world, "port-10"))
    waiter = eventlet.spawn(world.confirmations.wait, revision, 30)
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
    assert world.confirmations.wait(revision, 0.02) == ["n1"]


def test_a_node_is_waited_for_alone(world: World) -> None:
    world.confirm_all()
    revision = world.store.commit(unbound(world, "port-10"))
    waiter = eventlet.spawn(world.confirmations.wait_node, "n1", revision, 30)
    eventlet.sleep(0)
    world.keeper.follow()
    eventlet.sleep(0)
    assert not waiter.dead
    assert world.confirmations.wait_node("n2", revision, 0) and not world.confirmations.wait_node("n1", revision, 0.02)
    assert not world.confirmations.wait_node("nobody", revision, 0)
    world.keeper.confirmed("n1", revision)
    assert waiter.wait() is True


def test_run_follows_when_woken_and_outlives_the_database(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "RETRY_DELAY", 0.01)
    runner = eventlet.spawn(world.keeper.run)
    world.store.failures = 3
    revision = world.store.commit(unbound(world, "port-10"))
    world.keeper.wake()
    with eventlet.Timeout(30):
        while world.keeper.current.revision < revision:
            eventlet.sleep(0.001)
    assert world.counters.events["follow_failures"] == 3
    runner.kill()


def test_a_compiler_fault_stays_with_its_node(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.confirm_all()
    real: Any = node_compiler.recompile  # type: ignore[attr-defined]

    def broken(program: Any, before: Snapshot, after: Snapshot, changes: Any, node: str, *more: Any) -> Any:
        if node == "n1":
            raise ValueError("no such field")
        return real(program, before, after, changes, node, *more)

    with monkeypatch.context() as patch:
        patch.setattr(node_compiler, "recompile", broken)
        first = world.follow(unbound(world, "port-10"), unbound(world, "port-11"))
    world.keeper.confirmed("n2", first)
    world.keeper.confirmed("n1", first)
    assert world.confirmations.missing(first) == ["n1"]  # its switch cannot have confirmed what was never compiled
    assert world.counters.events["compile_failures"] == 1
    second = world.follow(unbound(world, "port-21"))
    world.keeper.confirmed("n1", second)
    world.keeper.confirmed("n2", second)
    assert world.confirmations.missing(second) == []
    world.check()


def test_a_node_that_never_compiled_keeps_what_its_switch_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(snapshot: Snapshot, node: str, *more: Any) -> Any:
        raise ValueError(node)

    monkeypatch.setattr(node_compiler, "compile_node", broken)
    keeper = SnapshotKeeper(FakeStore(cloud_of.cloud()), Counters())
    with pytest.raises(KeyError):
        keeper.wanted("n1")


def test_others_get_their_turn_within_a_node(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.confirm_all()
    turns: list[None] = []
    monkeypatch.setattr(node_compiler, "Turns", lambda: lambda: turns.append(None))
    network = world.keeper.current.networks["net-blue"]
    world.follow(NetworkChange(network.id, replace(network, mtu=1400)))
    assert len(turns) > len(world.keeper.current.nodes) + len(world.keeper.current.ports_by_network[network.id])
    world.check()


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


ADDRESS = IPv4Address("203.0.113.50")
CLAIM = Claim(9, int(ADDRESS))


def led_to(world: World, port_id: str) -> FloatingIpChange:
    port = world.store.start.ports[port_id]
    held = FloatingIp("fip", 1, cloud_of.EXTERNAL, ADDRESS, port_id=port_id, fixed_ip=port.fixed_ips[0].address)
    return FloatingIpChange("fip", held)


def active(world: World) -> bool:
    return world.confirmations.floating_ip_active(world.keeper.current.floating_ips["fip"])


def claimants(world: World) -> set[str]:
    return {
        name for name, table in world.sessions.tables.items() if any(claims.claim_of(each) for each in table.values())
    }


@pytest.fixture
def floating(world: World) -> World:
    """A floating IP on n1, confirmed."""
    world.confirm_all()
    world.keeper.confirmed("n1", world.follow(led_to(world, "port-10")))
    assert active(world)
    return world


def test_a_floating_ip_changes_its_node_when_the_old_one_has_confirmed(floating: World) -> None:
    told: list[tuple[str, Claim]] = []
    floating.keeper.announce_by(lambda node, new: told.extend((node, claim) for claim in new))
    floating.sessions.work.clear()
    revision = floating.follow(led_to(floating, "port-11"))
    assert claimants(floating) == set() and not active(floating)
    unclaimed = {name: work.unclaimed for name, work in floating.sessions.work}
    assert unclaimed == {"n1": None, "n2": revision}
    floating.keeper.confirmed("n2", revision, revision)
    assert floating.confirmations.missing(revision) == ["n1", "n2"]
    floating.keeper.confirmed("n1", revision)
    assert claimants(floating) == {"n2"} and floating.confirmations.missing(revision) == ["n2"] and told == []
    floating.keeper.confirmed("n2", revision)
    assert floating.confirmations.missing(revision) == [] and active(floating) and told == [("n2", CLAIM)]
    floating.check()
    assert floating.sessions.work[-1][1].delta.digest == floating.keeper.wanted("n2")[0].digest


def test_a_floating_ip_changes_its_node_though_the_old_one_is_silent(
    floating: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "HANDOVER", 0.05)
    revision = floating.follow(led_to(floating, "port-11"))
    floating.keeper.confirmed("n2", revision, revision)
    assert claimants(floating) == set()
    with eventlet.Timeout(30):
        while claimants(floating) != {"n2"}:
            eventlet.sleep(0.001)
    floating.keeper.confirmed("n2", revision)
    assert floating.confirmations.missing(revision) == ["n1"] and active(floating)


def test_a_floating_ip_waits_for_nobody_who_is_away(floating: World) -> None:
    floating.sessions.away.add("n1")
    floating.follow(led_to(floating, "port-11"))
    assert claimants(floating) >= {"n2"}


def test_a_session_that_begins_meanwhile_gets_everything(floating: World) -> None:
    revision = floating.follow(led_to(floating, "port-11"))
    program, wanted = floating.keeper.wanted("n2")
    assert any(claims.claim_of(each) for each in program.flows()) and wanted == revision
    floating.keeper.confirmed("n2", revision, whole=True)
    assert active(floating) and floating.confirmations.missing(revision) == ["n1"]
    floating.sessions.work.clear()
    floating.keeper.confirmed("n1", revision)
    assert floating.sessions.work == []  # nothing waits any more


def test_a_whole_program_tells_of_all_its_claims(floating: World) -> None:
    told: list[tuple[str, Claim]] = []
    floating.keeper.announce_by(lambda node, new: told.extend((node, claim) for claim in new))
    revision = floating.keeper.wanted("n1")[1]
    floating.keeper.confirmed("n1", revision)
    assert told == []  # its switch had everything
    floating.keeper.confirmed("n1", revision, whole=True)
    assert told == [("n1", CLAIM)]


def test_what_leads_nowhere_is_not_active(floating: World) -> None:
    held = floating.keeper.current.floating_ips["fip"]
    floating.follow(FloatingIpChange("fip", replace(held, port_id=None, fixed_ip=None)))
    floating.confirm_all()
    assert not active(floating)
    restarted = SnapshotKeeper(FakeStore(cloud_of.cloud().apply(2, [led_to(floating, "port-10")])), Counters())
    again = restarted.current.floating_ips["fip"]
    assert not restarted.confirmations.floating_ip_active(again)
    restarted.confirmed("n1", 2)
    assert restarted.confirmations.floating_ip_active(again)


@pytest.mark.parametrize("at", ["owed_since", "recompile", "apply"])
def test_a_failure_half_way_changes_nothing(floating: World, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    """Else the switches would never be sent what was already taken for theirs."""
    before, programs = floating.keeper.current, {name: floating.keeper.wanted(name)[0] for name in cloud_of.NODES}
    floating.sessions.work.clear()
    floating.store.commit(unbound(floating, "port-20"), led_to(floating, "port-11"))
    calls = 0

    def broken(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if at != "recompile" or calls == 2:
            raise BaseException("out of memory")
        return real(*args)

    where: Any = {"owed_since": FakeStore, "recompile": node_compiler, "apply": Snapshot}[at]
    real = getattr(where, at)
    with monkeypatch.context() as patch:
        patch.setattr(where, at, broken)
        with pytest.raises(BaseException, match="out of memory"):
            floating.keeper.follow()
    assert floating.keeper.current is before and floating.sessions.work == []
    assert {name: floating.keeper.wanted(name)[0] for name in cloud_of.NODES} == programs
    floating.keeper.follow()
    floating.confirm_all()
    floating.keeper.confirmed("n2", floating.store.revision)
    floating.check()
