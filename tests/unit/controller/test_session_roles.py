"""A session where there are several controllers, against a switch in memory."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import eventlet
import pytest

from controller import session as sessions
from controller.forgetting import Forget
from controller.packet_in.outputs import Output
from controller.session import State
from controller.session_registry import SessionRegistry
from flows.roles import Role
from tests.unit.controller.fake_switch import BUNDLE_CONTROL, FakeSwitch
from tests.unit.controller.test_session import FakeDispatcher, FakePrograms, World, output, until, wanted


def packet_in_message() -> bytes:
    frame = bytes(range(64))
    match = struct.pack("!HHII", 1, 12, 0x80000004, 9) + bytes(4)
    body = struct.pack("!IHBBQ", 0xFFFFFFFF, 64, 0, 0, 0) + match + bytes(2) + frame
    return struct.pack("!BBHI", 5, 10, 8 + len(body), 0) + body


class FakeOthers:
    """`lease` is ours, or None; `stored` what the database says when it is asked."""

    def __init__(self) -> None:
        self.lease: int | None = None
        self.stored: int | None = None
        self.asked: list[int] = []
        self.changes = 0

    def generation(self, node: str) -> int | None:
        return self.lease

    def overtaken(self, node: str, seen: int) -> None:
        self.asked.append(seen)
        self.lease = None if self.stored is None else max(self.stored, seen) + 1

    def masters(self, node: str) -> bool:
        return self.lease is None

    def connections_changed(self) -> None:
        self.changes += 1

    def describe(self, node: str) -> dict[str, Any] | None:
        return {"state": "live"} if self.lease is None else None


class Programs(FakePrograms):
    def __init__(self) -> None:
        super().__init__()
        self.answers = True
        self.caught_up: list[tuple[str, int]] = []

    def catch_up(self, node: str, generation: int) -> bool:
        self.caught_up.append((node, generation))
        return self.answers


class ClusterWorld(World):
    programs: Programs

    def __init__(self) -> None:
        super().__init__()
        self.programs = Programs()
        self.others = FakeOthers()
        self.registry = SessionRegistry(
            self.programs,
            FakeDispatcher,  # type: ignore[arg-type]
            self.counters,
            self.others,
            self.tell,
        )
        self.switch = FakeSwitch()

    def lend(self, generation: int | None) -> None:
        self.others.lease = generation
        self.registry.leases_changed()

    def master(self, generation: int = 1) -> None:
        self.lend(generation)
        until(lambda: self.session.state is State.LIVE)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[ClusterWorld]:
    monkeypatch.setattr(sessions, "RETRY", 0.01)
    made = ClusterWorld()
    yield made
    for session in made.registry:
        session.stop()
    eventlet.sleep(0)


def standby(world: ClusterWorld) -> FakeSwitch:
    world.connect(world.switch)
    until(lambda: world.switch.role is Role.SLAVE)
    return world.switch


def test_who_has_no_lease_is_a_slave_and_changes_nothing(world: ClusterWorld) -> None:
    world.switch.generation = 7  # another controller's
    switch = standby(world)
    world.change((output(3),))
    assert not world.registry.send("n1", Output(1, b"frame"))
    assert world.session.packet_in(packet_in_message()) is None
    assert world.session.state is State.STANDBY and switch.generation == 7
    assert switch.flow_mods() == 0 and not switch.sent and not world.programs.confirmations
    assert world.registry.mastered() == [] and world.registry.describe("n1") == {"state": "live"}
    assert world.registry.serves("n1", 1), "another controller does"
    assert world.others.changes == 1


def test_a_lease_makes_a_master_that_sends_nothing_where_nothing_differs(world: ClusterWorld) -> None:
    first = World()
    first.programs = world.programs
    first.registry = SessionRegistry(world.programs, FakeDispatcher, world.counters)  # type: ignore[arg-type]
    first.live(world.switch)
    sent = world.switch.flow_mods()
    switch = standby(world)
    world.master(3)
    assert (switch.role, switch.generation) == (Role.MASTER, 3)
    assert world.programs.caught_up == [("n1", 3)]
    assert switch.flow_mods() == sent and switch.computed() == wanted(world)
    assert world.session.packet_in(packet_in_message()) is not None
    assert world.registry.send("n1", Output(1, b"frame")) and world.registry.mastered() == ["n1"]
    world.confirmed(world.change((output(3),)))
    assert switch.computed() == wanted(world)


def test_what_others_have_written_is_known_before_the_stamp_is_asked_for(world: ClusterWorld) -> None:
    world.programs.answers = False
    standby(world)
    world.lend(1)
    until(lambda: len(world.programs.caught_up) > 2)
    assert world.session.state is State.SYNCING and world.switch.flow_mods() == 0
    assert world.session.packet_in(packet_in_message()) is not None, "the master answers meanwhile"
    world.programs.program = FakePrograms().program
    world.programs.answers = True
    until(lambda: world.session.state is State.LIVE)


def test_whose_a_node_is_is_told(world: ClusterWorld) -> None:
    switch = standby(world)
    world.master()
    world.others.stored = None
    switch.demote()
    until(lambda: world.session.state is State.STANDBY)
    assert [line for line in world.told if line.startswith("controller: ")] == [
        "controller: n1 is this controller's now",
        "controller: n1 is another controller's now",
    ]


def test_the_switch_demotes(world: ClusterWorld) -> None:
    switch = standby(world)
    world.master()
    world.others.stored = None
    switch.demote()
    until(lambda: world.session.state is State.STANDBY)
    until(lambda: world.others.asked == [2], 5)  # it knew of no other lease, and asked
    until(lambda: switch.role is Role.SLAVE)
    assert world.session.packet_in(packet_in_message()) is None
    world.master(3)
    assert switch.generation == 3 and switch.computed() == wanted(world)


def test_a_lease_that_goes_changes_nothing_before_the_switch_says_so(world: ClusterWorld) -> None:
    standby(world)
    world.master()
    world.lend(None)
    world.confirmed(world.change((output(3),)))
    assert world.session.state is State.LIVE and world.switch.role is Role.MASTER


@pytest.mark.parametrize("after", range(6))
def test_who_is_replaced_in_the_middle_of_a_change_quarantines_nothing(world: ClusterWorld, after: int) -> None:
    switch = standby(world)
    world.master()
    world.others.stored = 5
    switch.replaced_after = after
    world.change((output(3), output(4)), forget=[Forget(10)])
    until(lambda: world.others.asked == [2])
    until(lambda: world.session.state is State.LIVE)
    assert switch.generation == 6 and switch.role is Role.MASTER
    assert switch.computed() == wanted(world) and switch.stamp == world.programs.program.digest
    assert world.session.describe()["quarantined_flows"] == 0
    assert len(switch.flushed) >= 1 and not world.programs.owed.due("n1", 99)
    revision = world.change((output(5),))
    world.confirmed(revision)
    assert switch.computed() == wanted(world) and not switch.closed


def test_a_restored_database_heals(world: ClusterWorld) -> None:
    """The generation that it knows is older than that of the switch."""
    world.switch.generation = 40
    world.others.stored = 2
    standby(world)
    world.master(2)
    assert world.others.asked == [40] and world.switch.generation == 41


def test_a_stale_master_stays_out(world: ClusterWorld) -> None:
    world.switch.generation = 9
    world.others.lease, world.others.stored = 4, None  # what it believes, and what is true
    standby(world)
    assert world.others.asked == [9] and world.session.state is State.STANDBY
    assert world.switch.flow_mods() == 0


def test_a_new_generation_is_made_known_to_the_switch(world: ClusterWorld) -> None:
    switch = standby(world)
    world.master(1)
    sent = switch.flow_mods()
    world.lend(3)
    until(lambda: switch.generation == 3)
    until(lambda: world.session.state is State.LIVE)
    assert switch.flow_mods() == sent and world.programs.caught_up[-1] == ("n1", 3)


def test_alone_nothing_is_said_of_roles() -> None:
    alone = World()
    switch = alone.live(FakeSwitch())
    assert 24 not in switch.kinds and BUNDLE_CONTROL in switch.kinds
    for session in alone.registry:
        session.stop()
