"""Two controllers, each with a node of its own: what one's node has confirmed the other one acts on."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import eventlet
import pytest

from controller import claims
from controller.forgetting import Forget
from controller.session_counters import Counters
from controller.session_registry import SessionRegistry
from controller.snapshots import SnapshotKeeper
from flows.ir import matching
from flows.model import FloatingIp, FloatingIpChange, PortChange
from flows.pipeline import Priority, Table
from flows.wire import encode_match
from tests import world as cloud_of
from tests.unit.controller.test_handover import ADDRESSES, PORTS, SlowSwitch, until
from tests.unit.controller.test_session import FakeDispatcher
from tests.unit.controller.test_snapshots import FakeStore

Confirmed = Mapping[str, tuple[int, int | None]]


class Controller:
    """Masters one node, and believes the other one to be the other controller's. What it has to tell waits in `news`
    until it is `told`.
    """

    def __init__(self, store: FakeStore, own: str) -> None:
        self.own = own
        self.leases: dict[str, int] = {own: 1}
        self.news: dict[str, tuple[int, int | None]] = {}
        self.keeper = SnapshotKeeper(store, Counters())
        self.registry = SessionRegistry(self.keeper, FakeDispatcher, Counters(), self)  # type: ignore[arg-type]
        self.keeper.attach(self.registry)
        self.keeper.tell_others(self.confirmed)
        self.following = eventlet.spawn(self.keeper.run)

    def confirmed(self, node: str, revision: int, unclaimed: int | None) -> None:
        self.news[node] = revision, unclaimed

    def generation(self, node: str) -> int | None:
        return self.leases.get(node)

    def overtaken(self, node: str, seen: int) -> None:
        raise AssertionError("nobody else is here")

    def masters(self, node: str) -> bool:
        return node not in self.leases

    def connections_changed(self) -> None: ...

    def describe(self, node: str) -> dict[str, Any] | None:
        return None


class World:
    def __init__(self) -> None:
        self.store = FakeStore(cloud_of.cloud())
        self.switches = {name: SlowSwitch(id=number) for number, name in enumerate(cloud_of.NODES, 1)}
        self.x, self.y = Controller(self.store, "n1"), Controller(self.store, "n2")
        for controller in (self.x, self.y):
            controller.registry.connected(self.switches[controller.own])  # type: ignore[arg-type]
        until(lambda: self.x.news and self.y.news)
        self.exchange()

    def exchange(self) -> None:
        """Each hears what the other's node has confirmed."""
        for controller, other in ((self.x, self.y), (self.y, self.x)):
            controller.keeper.confirmed_elsewhere(dict(other.news))

    def lead(self, number: int, node: str) -> int:
        port = self.store.start.ports[PORTS[node]]
        held = FloatingIp(
            f"f{number}",
            number + 1,
            cloud_of.EXTERNAL,
            ADDRESSES[number],
            None,
            port.id,
            port.fixed_ips[0].address,
        )
        return self.store.commit(FloatingIpChange(held.id, held))

    def holders(self, number: int) -> list[str]:
        match = matching(metadata=9, eth_type=0x0806, arp_op=1, arp_tpa=int(ADDRESSES[number]))
        key = Table.EXTERNAL_IN, Priority.HIGH, encode_match(match)
        return [name for name, switch in self.switches.items() if key in switch.flows]

    def follow(self, *controllers: Controller) -> None:
        for controller in controllers or (self.x, self.y):
            controller.keeper.wake()
            until(lambda: controller.keeper.current.revision == self.store.revision)  # noqa: B023

    def settle(self) -> None:
        def settled() -> bool:
            self.exchange()
            revision = self.store.revision
            mine = {"n1", "n2"}
            return not any(mine & set(one.keeper.confirmations.missing(revision)) for one in (self.x, self.y))

        until(settled)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for name in ("HANDOVER", "HANDOVER_ELSEWHERE"):
        monkeypatch.setattr(claims, name, 3600.0)  # nobody may need to wait that long
    made = World()
    yield made
    for controller in (made.x, made.y):
        controller.following.kill()
        for session in controller.registry:
            session.stop()
    eventlet.sleep(0)


@pytest.mark.parametrize("first", ["x", "y"])
def test_the_new_owner_waits_for_another_controllers_node(world: World, first: str) -> None:
    world.lead(0, "n1")
    world.follow()
    world.settle()
    assert world.holders(0) == ["n1"]
    revision = world.lead(0, "n2")
    for controller in (world.x, world.y) if first == "x" else (world.y, world.x):
        world.follow(controller)
        world.exchange()
        assert len(world.holders(0)) <= 1
        if controller is world.y and first == "y":
            eventlet.sleep(0.05)
            assert world.holders(0) == ["n1"], "the old owner has not heard of it"
    until(lambda: world.x.news["n1"][0] == revision)
    if first == "y":
        assert world.holders(0) == [] and world.y.keeper.confirmations.missing(revision)[:2] == ["n1", "n2"]
    world.settle()
    assert world.holders(0) == ["n2"]
    assert not {"n1", "n2"} & set(world.x.keeper.confirmations.missing(revision)), (
        "it can be waited for at either controller"
    )


def test_never_two_owners(world: World) -> None:
    rng = random.Random(7)
    for _ in range(60):
        world.lead(rng.randrange(3), rng.choice(["n1", "n2"]))
        switch = world.switches[rng.choice(["n1", "n2"])]
        for step in rng.sample(range(5), 4):
            match step:
                case 0:
                    world.follow(world.x)
                case 1:
                    world.follow(world.y)
                case 2:
                    world.exchange()
                case 3:
                    switch.held = True
                case 4:
                    switch.let_go()
            eventlet.sleep(0.002)
            assert max(len(world.holders(number)) for number in range(3)) <= 1
    for switch in world.switches.values():
        switch.let_go()
    world.follow()
    world.settle()
    for number in range(3):
        floating_ip = world.store._now.floating_ips.get(f"f{number}")
        if floating_ip is not None:
            assert world.holders(number) == [world.store._now.floating_ip_node(floating_ip)]


def test_what_the_one_before_has_had_forgotten_is_not_forgotten_again(world: World) -> None:
    """x has it done, and dies before it can write that down; y has the rest done."""
    port = world.store.start.ports[PORTS["n1"]]
    assert port.binding is not None
    world.store.commit(PortChange(port.id, None))
    world.follow()
    until(lambda: world.x.news["n1"][0] == world.store.revision)
    first = len(world.switches["n1"].flushed)
    assert first and world.store.owed
    world.exchange()
    later = Forget(65001)
    world.store.owed["n1", later] = world.store.revision + 1
    world.y.leases["n1"] = 2
    switch = SlowSwitch(id=1, flows=dict(world.switches["n1"].flows))
    world.y.keeper.confirmed_elsewhere({})
    world.y.registry.connected(switch)  # type: ignore[arg-type]
    until(lambda: "n1" in world.y.registry.mastered() and "n1" in world.y.news)
    assert switch.flushed == [] and switch.flow_mods() == 0
    assert {debt.what for debt in world.y.keeper._owed.paid} == {what for _, what in world.store.owed} - {later}
    world.y.keeper.settle()
    assert list(world.store.owed) == [("n1", later)]
