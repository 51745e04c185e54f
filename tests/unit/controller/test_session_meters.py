"""Meters in a session: before the flows that use them, and gone after them; against a switch in memory."""

from __future__ import annotations

from collections.abc import Iterator

import eventlet
import pytest

from controller.session import State
from flows.digest import flow_digest, meter_digest
from flows.ir import Flow, Goto, Meter, MeterConfig, flow, matching
from flows.pipeline import METERS, Priority, Table
from flows.rules import Rule
from tests.unit.controller.fake_switch import BUNDLE_ADD, FLOW_MOD, METER_MOD, FakeSwitch, key_of
from tests.unit.controller.test_session import World, until

METER = MeterConfig(30_001, 10_000, 4000)


def metered(key: int, meter: int = METER.id) -> Flow:
    actions = Meter(meter), Goto(Table.SERVICES)
    return flow(Rule.ALLOW_IP, Priority.NORMAL, matching(reg6=key), *actions, key=key)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    for session in made.registry:
        session.stop()
    eventlet.sleep(0)


def changed_meters(switch: FakeSwitch) -> int:
    return switch.kinds.count(METER_MOD)


def again(world: World, old: FakeSwitch, **values: object) -> FakeSwitch:
    """The same switch connects anew."""
    world.registry.disconnected(old)  # type: ignore[arg-type]
    switch = FakeSwitch(flows=old.flows, meters=old.meters, users=old.users, **values)  # type: ignore[arg-type]
    return world.live(switch)


def test_a_meter_is_there_before_its_flows_and_goes_after_them(world: World) -> None:
    switch = world.live(FakeSwitch())
    world.confirmed(world.change(upserts=(metered(7),), meters=(METER,)))
    assert switch.meters == {METER.id: (10_000, 4000)} and key_of(metered(7)) in switch.computed()
    assert switch.kinds.index(METER_MOD) < max(at for at, kind in enumerate(switch.kinds) if kind == BUNDLE_ADD)
    switch.kinds.clear()
    world.confirmed(world.change(deletes=(metered(7),), gone_meters=(METER.id,)))
    assert switch.meters == {} and switch.kinds.index(METER_MOD) > switch.kinds.index(BUNDLE_ADD)
    assert switch.stamp == world.programs.program.digest and world.counters.node("n1").meter_mods == 2


def test_a_flow_that_needs_its_meter_no_more_stays(world: World) -> None:
    """Deleting a meter deletes the flows that use it."""
    switch = world.live(FakeSwitch())
    world.confirmed(world.change(upserts=(metered(7),), meters=(METER,)))
    unlimited = flow(Rule.ALLOW_IP, Priority.NORMAL, matching(reg6=7), Goto(Table.SERVICES), key=7)
    world.confirmed(world.change(upserts=(unlimited,), gone_meters=(METER.id,)))
    assert key_of(unlimited) in switch.computed() and not switch.meters


def test_a_new_rate_takes_no_flow_but_the_stamp(world: World) -> None:
    switch = world.live(FakeSwitch())
    world.confirmed(world.change(upserts=(metered(7),), meters=(METER,)))
    switch.kinds.clear()
    world.confirmed(world.change(meters=(MeterConfig(METER.id, 20_000, 5000),)))
    assert switch.meters == {METER.id: (20_000, 5000)} and changed_meters(switch) == 1
    assert switch.kinds.count(BUNDLE_ADD) == 1 and switch.kinds.count(FLOW_MOD) == 1  # the new stamp, and no old one
    assert switch.stamp == world.programs.program.digest


def test_an_equal_stamp_means_no_message_about_meters(world: World) -> None:
    first = world.live(FakeSwitch())
    world.confirmed(world.change(upserts=(metered(7),), meters=(METER,)))
    first.closed = True
    second = again(world, first)
    assert changed_meters(second) == second.flow_mods() == 0
    # and it is known what is there
    world.confirmed(world.change(meters=(MeterConfig(METER.id, 1, 1),)))
    assert second.meters == {METER.id: (1, 1)} and changed_meters(second) == 1


def test_an_unequal_stamp_changes_adds_and_removes_meters_of_ours(world: World) -> None:
    world.change(upserts=(metered(7), metered(8, 5)), meters=(METER, MeterConfig(5, 50, 100, packets=True)))
    foreign, stale = METERS.stop, 60_001
    there = dict.fromkeys((METER.id, stale, foreign), (1, 1))
    old = metered(9, stale)
    switch = world.live(FakeSwitch(meters=there, flows={key_of(old): old.cookie}, users={key_of(old): stale}))
    assert switch.meters == {METER.id: (10_000, 4000), 5: (50, 100), foreign: (1, 1)}
    assert key_of(old) not in switch.flows
    assert {key_of(metered(7)), key_of(metered(8, 5))} <= switch.computed()


def test_a_meter_that_the_switch_knows_better_about(world: World) -> None:
    switch = world.live(FakeSwitch())
    switch.meters[METER.id] = 1, 1  # left by a change that was interrupted before the commit
    world.confirmed(world.change(upserts=(metered(7),), meters=(METER,)))
    assert switch.meters == {METER.id: (10_000, 4000)}
    del switch.meters[METER.id]  # by hand
    world.confirmed(world.change(upserts=(metered(8),), meters=(MeterConfig(METER.id, 2, 2),)))
    assert switch.meters == {METER.id: (2, 2)} and not len(world.session.quarantine)


def test_a_refused_meter_puts_its_flows_into_quarantine_and_no_other(world: World) -> None:
    switch = world.live(FakeSwitch(refuse_meters={METER.id}))
    revision = world.change(upserts=(metered(7), metered(8, 5)), meters=(METER, MeterConfig(5, 50, 100)))
    world.confirmed(revision)
    assert key_of(metered(7)) not in switch.computed() and key_of(metered(8, 5)) in switch.computed()
    assert [one["port_key"] for one in world.session.describe()["quarantined"]] == [7]
    lacking = flow_digest(metered(7)) ^ meter_digest(METER)
    assert switch.stamp == world.programs.program.digest ^ lacking and not switch.closed
    switch.refuse_meters.clear()
    other = flow(Rule.ALLOW_IP, Priority.HIGH, matching(reg6=7), Goto(Table.SERVICES), key=7)
    world.confirmed(world.change(upserts=(other,)))  # another flow of the port
    assert switch.meters[METER.id] == (10_000, 4000) and key_of(metered(7)) in switch.computed()
    assert switch.stamp == world.programs.program.digest


def test_a_change_of_rate_that_is_cut_off_and_taken_back_is_noticed(world: World) -> None:
    first = world.live(FakeSwitch())
    world.confirmed(world.change(upserts=(metered(7),), meters=(METER,)))
    first.dies_at = 33  # after the meter has changed, before the bundle
    world.change(meters=(MeterConfig(METER.id, 20_000, 5000),))
    until(lambda: first.closed)
    assert first.meters == {METER.id: (20_000, 5000)}
    world.registry.disconnected(first)  # type: ignore[arg-type]
    world.change(meters=(METER,))
    second = again(world, first)
    assert second.meters == {METER.id: (10_000, 4000)}


def test_meters_of_changes_that_wait_are_merged(world: World) -> None:
    switch = world.live(FakeSwitch())
    world.change(upserts=(metered(7),), meters=(METER,))
    world.change(deletes=(metered(7),), gone_meters=(METER.id,))
    world.change(upserts=(metered(8),), meters=(MeterConfig(METER.id, 3, 3),))
    world.change(upserts=(metered(9, 5),), meters=(MeterConfig(5, 1, 1),))
    world.confirmed(world.change(deletes=(metered(9, 5),), gone_meters=(5,)))
    assert switch.meters == {METER.id: (3, 3)} and changed_meters(switch) == 1
    assert world.session.state is State.LIVE and key_of(metered(8)) in switch.computed()
