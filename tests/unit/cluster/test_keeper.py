"""A controller among others: what it makes of what is in the database, which is a fake here."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import eventlet
import pytest

from controller.cluster import keeper
from controller.cluster.keeper import Cluster
from controller.cluster.reach import Reach
from controller.cluster.state import ClusterState, Member, NodeLease
from controller.session_counters import Counters
from controller.store.cluster import Confirmation, NameInUse, Own
from tests.unit.controller.test_session import until

ME = Own("a", "1", "http://a:8080")


def member(name: str, instance: str = "1", expires_at: float = 1.0) -> Member:
    return Member(name, instance, f"http://{name}:8080", 0.0, expires_at)


def state(*names: str, leases: Mapping[str, NodeLease] | None = None, **connections: Collection[str]) -> ClusterState:
    connected = {name: frozenset(nodes) for name, nodes in connections.items()}
    return ClusterState({name: member(name) for name in names}, connected, leases or {})


class FakeStore:
    def __init__(self) -> None:
        self.state = state("a")
        self.error: Exception | None = None
        self.replaced: Collection[str] = ()
        self.confirmed: list[Confirmation] = []
        self.raised: list[tuple[str, int]] = []
        self.ticks = 0

    def tick(self, own: Own, connected: Collection[str], replaced: Collection[str] = ()) -> ClusterState:
        self.ticks += 1
        self.replaced = replaced
        return self.read()

    def read(self) -> ClusterState:
        if self.error is not None:
            raise self.error
        return self.state

    def resign(self, own: Own) -> ClusterState:
        return self.read()

    def raise_generation(self, own: Own, node: str, seen: int) -> bool:
        self.raised.append((node, seen))
        self.read()
        return True

    def confirm(self, own: Own, confirmations: Sequence[Confirmation]) -> None:
        self.read()
        self.confirmed += confirmations


class FakeSessions:
    def __init__(self) -> None:
        self.changes = 0
        self.own: dict[str, dict[str, Any]] = {}

    def leases_changed(self) -> None:
        self.changes += 1

    def mastered(self) -> list[str]:
        return list(self.own)

    def describe_own(self, node: str) -> dict[str, Any] | None:
        return self.own.get(node)


class World:
    def __init__(self) -> None:
        self.now = 100.0
        self.store = FakeStore()
        self.sessions = FakeSessions()
        self.elsewhere: dict[str, tuple[int, int | None]] = {}
        self.counters = Counters()
        self.cluster = Cluster(ME, self.store, 2.0, frozenset, self.counters, lambda: self.now)
        self.cluster.attach(self.sessions, self.heard)

    def heard(self, confirmed: Mapping[str, tuple[int, int | None]]) -> None:
        self.elsewhere = dict(confirmed)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(keeper, "PAUSE", 0.001)
    yield World()


def test_leases_become_known(world: World) -> None:
    cluster, store = world.cluster, world.store
    leases = {"n1": NodeLease("n1", "a", 4), "n2": NodeLease("n2", "b", 2, 9, 7, {"state": "live"})}
    store.state = state("a", "b", leases=leases, a=["n1", "n2"], b=["n2"])
    cluster.tick()
    assert (cluster.generation("n1"), cluster.generation("n2"), cluster.generation("n3")) == (4, None, None)
    assert not cluster.masters("n1") and cluster.masters("n2") and world.elsewhere == {"n2": (9, 7)}
    assert cluster.describe("n1") is None and cluster.describe("n2") == {"state": "live"}
    assert not cluster.connected_elsewhere("n1") and cluster.connected_elsewhere("n2")
    assert world.sessions.changes == 1
    cluster.tick()
    assert world.sessions.changes == 1
    store.state = state("a", leases=leases, a=["n1", "n2"])  # b is dead, and n2 not given away yet
    cluster.tick()
    assert not cluster.masters("n2") and cluster.describe("n2") is None


def test_who_comes_and_goes_is_told(world: World) -> None:
    told: list[tuple[set[str], set[str]]] = []
    world.cluster.tell_members(lambda came, went: told.append((set(came), set(went))))
    for names in (("a", "b"), ("a", "b"), ("a", "c")):
        world.store.state = state(*names)
        world.cluster.tick()
    assert told == [({"a", "b"}, set()), ({"c"}, {"b"})]


def test_without_the_database_it_keeps_what_it_masters_and_does_not_lead(world: World) -> None:
    cluster, store = world.cluster, world.store
    store.state = state("a", leases={"n1": NodeLease("n1", "a", 4)}, a=["n1"])
    cluster.tick()
    assert cluster.is_leader
    store.error = OSError("away")
    world.now += 2.5
    thread = eventlet.spawn(cluster.run)
    until(lambda: world.counters.events.get("cluster_failures", 0) > 0)
    assert cluster.generation("n1") == 4 and not cluster.is_leader
    cluster.overtaken("n1", 9)
    assert cluster.generation("n1") == 4, "nobody has said otherwise"
    store.error = None
    until(lambda: cluster.is_leader)
    thread.kill()


def test_one_that_is_not_the_first_does_not_lead(world: World) -> None:
    others = [f"other{number}" for number in range(20)]
    world.store.state = state("a", *others)
    world.cluster.tick()
    assert not world.cluster.is_leader and world.store.state.leader in others


def test_a_later_generation_is_asked_for(world: World) -> None:
    world.store.state = state("a", leases={"n1": NodeLease("n1", "a", 41)}, a=["n1"])
    world.cluster.overtaken("n1", 40)
    assert world.store.raised == [("n1", 40)] and world.cluster.generation("n1") == 41


def test_confirmations_are_told_once_and_again_to_who_comes(world: World) -> None:
    cluster, store = world.cluster, world.store
    lease = {"n1": NodeLease("n1", "a", 4), "n2": NodeLease("n2", "b", 1)}
    world.sessions.own["n1"] = {"state": "live", "peer": "p", "more": 1}
    world.sessions.own["n2"] = {"state": "live", "peer": "p"}
    store.state = state("a", leases=lease, a=["n1"])
    cluster.tick()
    cluster.confirmed("n1", 7, None)
    cluster.confirmed("n2", 7, None)  # another's by now
    cluster.write_confirmations()
    assert store.confirmed == [], "nobody is there to know"
    store.state = state("a", "b", leases=lease, a=["n1"])
    cluster.tick()
    expected = Confirmation("n1", 4, 7, None, {"state": "live", "peer": "p"})
    cluster.write_confirmations()
    cluster.write_confirmations()
    assert store.confirmed == [expected]
    store.error = OSError("away")
    cluster.confirmed("n1", 8, 8)
    with pytest.raises(OSError):
        cluster.write_confirmations()
    store.error = None
    cluster.write_confirmations()
    assert store.confirmed[1:] == [Confirmation("n1", 4, 8, 8, {"state": "live", "peer": "p"})]
    store.state = state("a", "b", "c", leases=lease, a=["n1"])
    cluster.tick()
    cluster.write_confirmations()
    assert store.confirmed[2:] == store.confirmed[1:2]


def test_a_controller_comes_back_under_its_name(world: World) -> None:
    """The one before was killed, and its sign of life is not over yet."""
    world.store.error = NameInUse(member("a", "dead", 50.0))
    thread = eventlet.spawn(world.cluster.run)
    until(lambda: world.store.ticks > 0)
    world.now += keeper.STILL + 0.1
    until(lambda: world.store.replaced == ("dead",))
    world.store.error = None
    until(lambda: world.cluster.state.members)
    assert not thread.dead
    thread.kill()


def test_it_ends_when_another_one_of_its_name_lives(world: World) -> None:
    world.store.error = NameInUse(member("a", "living", 50.0))
    thread = eventlet.spawn(world.cluster.run)
    until(lambda: world.store.ticks > 0)
    world.store.error = NameInUse(member("a", "living", 50.4))
    until(lambda: thread.dead)


def test_it_ends_when_another_one_takes_its_name(world: World) -> None:
    world.cluster.tick()
    world.store.error = NameInUse(member("a", "newer", 50.0))
    thread = eventlet.spawn(world.cluster.run)
    until(lambda: thread.dead)


def test_who_resigns_waits_until_others_have_its_nodes(world: World) -> None:
    leases = {"n1": NodeLease("n1", "a", 4)}
    world.store.state = state("a", "b", leases=leases, a=["n1"], b=["n1"])
    world.cluster.tick()
    world.sessions.own["n1"] = {"state": "live"}
    thread = eventlet.spawn(world.cluster.resign)
    eventlet.sleep(0.01)
    assert not thread.dead
    world.sessions.own.clear()
    until(lambda: thread.dead)
    ticks = world.store.ticks
    world.cluster.tick()
    assert world.store.ticks == ticks, "it must not come back"


def test_a_silent_switch_is_out_of_reach() -> None:
    class Switch:
        def __init__(self) -> None:
            self.node, self.connection, self.heard_at, self.asked = "n1", self, 0.0, 0

        def send(self, buf: bytes) -> bool:
            self.asked += 1
            return True

    now, switch = [0.0], Switch()
    reach = Reach(lambda: [switch], lambda: now[0])

    def after(seconds: float) -> frozenset[str]:
        while seconds > 0:
            now[0] += 0.4
            seconds -= 0.4
            found = reach.nodes()
        return found

    assert after(0.8) == {"n1"} and switch.asked == 0
    assert after(1.6) == {"n1"} and switch.asked > 1
    assert after(1.2) == frozenset()
    switch.heard_at = now[0]
    assert after(0.4) == {"n1"}
    now[0] += 60  # we were held up: nothing is known of the switch
    assert reach.nodes() == {"n1"}
    assert after(4) == frozenset()
