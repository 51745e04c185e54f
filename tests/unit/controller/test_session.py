"""The session as a state machine, against a switch in memory."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import eventlet
import pytest

from controller import receive, session_bundle, session_registry
from controller.events.ring import Kind as EventKind
from controller.forgetting import End, Forget, Owed
from controller.packet_in.outputs import Output, Outputs
from controller.session import State
from controller.session_bundle import Conversation, SessionEnd
from controller.session_counters import Counters, NodeCounters
from controller.session_mailbox import Work
from controller.session_questions import NoAnswer, Questions
from controller.session_registry import MAX_PARKED, SessionRegistry
from flows import wire
from flows.compile import Program, Segment
from flows.diff import Delta
from flows.digest import digest, flow_digest
from flows.ir import Flow, Goto, MeterConfig, drop, flow, matching
from flows.pipeline import Priority, Table
from flows.rules import Rule
from flows.segments import Kind
from tests.unit.controller.fake_switch import FakeSwitch, key_of


def output(key: int, variant: int = 0) -> Flow:
    return flow(
        Rule.CLASSIFY_PORT, Priority.NORMAL + variant, matching(in_port=key), Goto(Table.PORT_SECURITY), key=key
    )


def program(*flows: Flow, meters: tuple[MeterConfig, ...] = ()) -> Program:
    value = digest(flows, meters)
    return Program({(Kind.STATIC, ""): Segment(flows, value, meters)}, value, len(flows))


class FakePrograms:
    def __init__(self) -> None:
        self.datapath_ids = {1: "n1"}
        self.program = program(output(1), output(2))
        self.revision = 5
        self.confirmations: list[tuple[str, int]] = []
        self.unclaimed: list[int | None] = []
        self.whole: list[bool] = []
        self.owed = Owed()

    def node_of(self, datapath_id: int) -> str | None:
        return self.datapath_ids.get(datapath_id)

    def wanted(self, node: str) -> tuple[Program, int]:
        return self.program, self.revision

    def confirmed(self, node: str, revision: int, unclaimed: int | None = None, *, whole: bool = False) -> None:
        self.confirmations.append((node, revision))
        self.unclaimed.append(unclaimed)
        self.whole.append(whole)

    def to_forget(self, node: str, revision: int) -> list[Forget]:
        return self.owed.due(node, revision)

    def forgotten(self, node: str, what: Sequence[Forget], revision: int) -> None:
        self.owed.done(node, what, revision)


class FakeDispatcher:
    def __init__(self, node: str) -> None:
        self.node = node

    def handle(self, cookie: int, in_port: int, frame: bytes) -> Outputs:
        return Output(in_port, frame[::-1]), Output(in_port + 1, frame)


class World:
    def __init__(self) -> None:
        self.programs = FakePrograms()
        self.counters = Counters()
        self.told: list[str] = []
        self.registry = SessionRegistry(self.programs, FakeDispatcher, self.counters, tell=self.tell)  # type: ignore[arg-type]

    def tell(self, kind: EventKind, node: str, what: str) -> None:
        self.told.append(f"{kind}: {node} {what}")

    def connect(self, switch: FakeSwitch) -> FakeSwitch:
        self.registry.connected(switch)  # type: ignore[arg-type]
        return switch

    def live(self, switch: FakeSwitch) -> FakeSwitch:
        """The only one with its datapath_id, or the one that those with it make room for."""
        self.connect(switch)
        until(lambda: self.session is not None and self.session.connection is switch)
        until(lambda: self.session.state is State.LIVE)
        return switch

    @property
    def session(self) -> Any:
        return self.registry.of_node("n1")

    def change(
        self,
        upserts: tuple[Flow, ...] = (),
        deletes: tuple[Flow, ...] = (),
        forget: Sequence[Forget] = (),
        unclaimed: int | None = None,
        meters: tuple[MeterConfig, ...] = (),
        gone_meters: tuple[int, ...] = (),
    ) -> int:
        gone = {each.key for each in (*upserts, *deletes)}
        kept = tuple(each for each in self.programs.program.flows() if each.key not in gone)
        changed = {*gone_meters, *(meter.id for meter in meters)}
        left = tuple(meter for meter in self.programs.program.meters() if meter.id not in changed)
        self.programs.program = program(*kept, *upserts, meters=left + meters)
        self.programs.revision += 1
        delta = Delta(upserts, deletes, self.programs.program.digest, meters, gone_meters)
        self.programs.owed.add("n1", forget, self.programs.revision)
        self.registry.deliver("n1", 1, Work(delta, self.programs.revision, unclaimed))
        return self.programs.revision

    def confirmed(self, revision: int) -> None:
        until(lambda: ("n1", revision) in self.programs.confirmations)


def until(condition: Callable[[], object], deadline: float = 30.0) -> None:
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end, "not in time"
        eventlet.sleep(0)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    for session in made.registry:
        session.stop()
    eventlet.sleep(0)


def wanted(world: World) -> set[Any]:
    return {key_of(each) for each in world.programs.program.flows()}


def test_what_becomes_of_a_session_is_told(world: World) -> None:
    switch = world.live(FakeSwitch())
    switch.refuse_add |= {key_of(output(13)), key_of(output(14))}
    world.confirmed(world.change((output(13), output(14), output(15))))
    world.registry.disconnected(switch)  # type: ignore[arg-type]
    assert world.told == [
        "node: n1 is connected",
        "node: n1 is live: it holds the flows that it should",
        "quarantine: n1 refuses 2 flows of classify_port",
        "node: n1 is disconnected",
    ]


def test_an_empty_switch_gets_everything_in_one_bundle(world: World) -> None:
    switch = world.live(FakeSwitch())
    assert switch.commits == 1 and switch.computed() == wanted(world)
    assert switch.stamp == world.programs.program.digest
    assert world.programs.confirmations == [("n1", 5)]
    assert world.counters.node("n1").flow_mods == 2 + 2 + 1  # two deletes, two flows, the stamp


def test_an_equal_stamp_means_no_flow_mod(world: World) -> None:
    first = world.live(FakeSwitch())
    first.closed = True
    again = world.live(FakeSwitch(flows=first.flows))
    assert world.programs.confirmations == [("n1", 5)] * 2
    assert again.flow_mods() == 0 and world.programs.whole == [True, False]
    assert world.counters.node("n1").flow_mods == 5


def test_an_unequal_stamp_replaces_what_is_ours_and_nothing_else(world: World) -> None:
    foreign, stale = (4, 7, b""), key_of(output(9))
    switch = world.live(FakeSwitch(flows={foreign: 0x4C << 56, stale: output(9).cookie}))
    assert foreign in switch.flows and stale not in switch.flows and switch.computed() == wanted(world)


def test_a_change_is_one_bundle_of_its_delta(world: World) -> None:
    switch = world.live(FakeSwitch())
    switch.kinds.clear()
    world.confirmed(world.change(upserts=(output(3),), deletes=(output(1),)))
    assert switch.flow_mods() == 3 and switch.computed() == wanted(world)
    assert switch.stamp == world.programs.program.digest


def test_changes_that_wait_become_one_bundle(world: World) -> None:
    switch = world.live(FakeSwitch())
    for key in range(10, 60):
        world.change(upserts=(output(key),))
        if key % 2:
            world.change(deletes=(output(key),))
    world.confirmed(world.change(upserts=(output(100),)))
    assert switch.commits == 2 and switch.computed() == wanted(world)


def test_threat_34_a_change_while_syncing_is_not_lost(world: World) -> None:
    switch = world.connect(FakeSwitch())
    until(lambda: switch.kinds)
    world.change(upserts=(output(3),))
    until(lambda: switch.commits)
    world.confirmed(world.change(upserts=(output(4),)))
    assert switch.computed() == wanted(world)


FORGET = [Forget(17), Forget(65001, End.ORIGINAL_SOURCE, 0x0A000001)]


def test_conntrack_forgets_after_the_commit_and_before_the_confirmation(world: World) -> None:
    switch = world.live(FakeSwitch())
    switch.kinds.clear()
    revision = world.change(deletes=(output(1),), forget=FORGET)
    until(lambda: switch.flushed)
    assert ("n1", revision) not in world.programs.confirmations
    world.confirmed(revision)
    assert switch.flushed == [each.message()[8:] for each in FORGET]
    assert switch.kinds[-4:] == [33, 4, 4, 20]  # the commit, then what to forget, then a barrier
    world.confirmed(world.change(upserts=(output(1),)))
    assert len(switch.flushed) == 2 and world.counters.node("n1").zones_flushed == 1


def test_what_a_node_owes_is_done_when_it_comes_back(world: World) -> None:
    first = world.live(FakeSwitch())
    world.registry.disconnected(first)  # type: ignore[arg-type]
    world.change(deletes=(output(1),), forget=FORGET[:1])
    world.change(forget=FORGET)
    again = world.live(FakeSwitch(flows=first.flows))
    assert again.flushed == [each.message()[8:] for each in FORGET]
    assert again.kinds.index(33) < again.kinds.index(4), "first the flows: else the old ones track again"
    world.registry.disconnected(again)  # type: ignore[arg-type]
    once_more = world.live(FakeSwitch(flows=again.flows))
    assert once_more.flushed == []


def test_what_a_dying_connection_has_not_done_is_still_owed(world: World) -> None:
    class Dying(FakeSwitch):
        def _receive(self, message: bytes) -> None:
            self.silent = self.silent or message[1] == 4
            super()._receive(message)

    first = world.live(Dying())
    world.change(deletes=(output(1),), forget=FORGET)
    until(lambda: 4 in first.kinds)
    first.closed = True
    again = world.live(FakeSwitch(flows=first.flows))
    assert len(again.flushed) == len(FORGET)


def test_a_switch_that_cannot_forget_is_not_asked_for_ever(world: World) -> None:
    switch = world.live(FakeSwitch(refuse_forget=True))
    world.confirmed(world.change(forget=FORGET))
    assert world.programs.to_forget("n1", 99) == [] and world.counters.node("n1").errors == len(FORGET)
    assert not switch.closed


def test_a_confirmation_says_which_claims_are_left_out_and_what_was_sent_whole(world: World) -> None:
    world.live(FakeSwitch())
    assert world.programs.whole == [True]
    world.confirmed(world.change(upserts=(output(3),), unclaimed=6))
    world.confirmed(world.change(upserts=(output(4),)))
    assert world.programs.unclaimed == [None, 6, None] and world.programs.whole == [True, False, False]
    assert world.registry.serves("n1", 1) and not world.registry.serves("n2", 1) and not world.registry.serves("n1", 2)


@pytest.mark.parametrize("at", ["refuse_add", "refuse_commit"])
def test_threat_24_one_bad_flow_goes_into_quarantine_alone(world: World, at: str) -> None:
    switch = world.live(FakeSwitch())
    bad, good = output(13), tuple(output(key) for key in range(20, 27))
    {"refuse_add": switch.refuse_add, "refuse_commit": switch.refuse_commit}[at].add(key_of(bad))
    world.confirmed(world.change(upserts=(*good[:4], bad, *good[4:])))
    assert switch.computed() == wanted(world) - {key_of(bad)}
    assert world.session.describe()["quarantined"] == [
        {"table": 0, "priority": 100, "rule": "classify_port", "port_key": 13}
    ]
    assert list(world.registry.quarantined()) == [("n1", "classify_port", 1)]
    # what lacks is not stamped as installed
    assert switch.stamp == world.programs.program.digest ^ flow_digest(bad)


def test_quarantine_ends_with_the_next_change_of_the_object(world: World) -> None:
    switch = world.live(FakeSwitch())
    switch.refuse_add.add(key_of(output(13)))
    world.confirmed(world.change(upserts=(output(13),)))
    world.confirmed(world.change(upserts=(output(14),)))  # of another object
    assert len(world.session.quarantine) == 1
    switch.refuse_add.clear()
    world.confirmed(world.change(upserts=(output(13, variant=1),)))  # another flow of port 13
    assert len(world.session.quarantine) == 0
    assert switch.computed() == wanted(world) and switch.stamp == world.programs.program.digest


def test_a_deleted_flow_leaves_quarantine(world: World) -> None:
    switch = world.live(FakeSwitch())
    switch.refuse_add.add(key_of(output(13)))
    world.confirmed(world.change(upserts=(output(13),)))
    world.confirmed(world.change(deletes=(output(13),)))
    assert len(world.session.quarantine) == 0 and switch.stamp == world.programs.program.digest


def test_a_bad_flow_in_the_first_bundle(world: World) -> None:
    switch = world.live(FakeSwitch(refuse_commit={key_of(output(2))}))
    assert switch.computed() == {key_of(output(1))}


def test_silence_ends_the_session(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_bundle, "ANSWER_TIMEOUT", 0.01)
    switch = world.connect(FakeSwitch(silent=True))
    until(lambda: switch.closed)


def test_an_unknown_switch_is_parked_and_adopted(world: World) -> None:
    switch = world.connect(FakeSwitch(id=7))
    eventlet.sleep(0)
    assert switch.kinds == [] and world.registry.parked() == 1
    world.programs.datapath_ids = {7: "n1"}
    world.registry.nodes_changed()
    until(lambda: world.session.state is State.LIVE)
    assert switch.computed() == wanted(world) and world.registry.parked() == 0


def test_threat_22_a_connection_whose_end_is_told_first_gets_no_session(world: World) -> None:
    """Where hundreds come and go at once, Ryu's queue is full, and who waits for a place in it may be overtaken."""
    for switch in (FakeSwitch(id=7, closed=True), FakeSwitch(closed=True)):
        world.registry.disconnected(switch)  # type: ignore[arg-type]
        world.connect(switch)
        assert world.registry.parked() == 0 and world.session is None


def test_the_oldest_parked_switch_makes_room(world: World) -> None:
    switches = [world.connect(FakeSwitch(id=100 + index)) for index in range(MAX_PARKED + 1)]
    assert [switch.closed for switch in switches] == [True] + [False] * MAX_PARKED


def test_the_oldest_parked_switch_of_the_address_that_has_most_makes_room(world: World) -> None:
    first = world.connect(FakeSwitch(id=99, address=("198.51.100.7", 1)))
    switches = [world.connect(FakeSwitch(id=100 + index)) for index in range(MAX_PARKED)]
    assert not first.closed and switches[0].closed and not any(switch.closed for switch in switches[1:])


def test_a_switch_whose_node_is_gone_is_hung_up_on(world: World) -> None:
    switch = world.live(FakeSwitch())
    world.programs.datapath_ids = {}
    world.registry.nodes_changed()
    assert switch.closed and world.registry.describe("n1") == {"state": "disconnected"}
    assert switch.computed() == wanted(world)


def test_threat_23_who_answers_keeps_its_datapath_id(world: World) -> None:
    first = world.live(FakeSwitch())
    second = world.connect(FakeSwitch(flows=first.flows))
    until(lambda: second.closed)
    assert world.session.connection is first and not first.closed and first.probes == 1
    assert world.counters.events == {"refused_datapath_id_in_use": 1}
    assert second.kinds == []
    world.registry.disconnected(second)  # type: ignore[arg-type]
    assert world.session.connection is first and world.session.state is State.LIVE


def test_who_does_not_answer_is_replaced(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_registry, "PROBE", 0.05)
    old = world.live(FakeSwitch())
    old.silent = True
    new, third = world.connect(FakeSwitch(flows=old.flows)), world.connect(FakeSwitch(flows=old.flows))
    assert third.closed, "one at a time"
    until(lambda: world.session is not None and world.session.connection is new)
    until(lambda: world.session.state is State.LIVE)
    assert old.closed and world.counters.events["sessions_replaced"] == 1
    world.registry.disconnected(old)  # type: ignore[arg-type]
    assert world.session.connection is new
    world.registry.disconnected(new)  # type: ignore[arg-type]
    assert world.session is None


def test_a_newcomer_that_has_left_replaces_nobody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_registry, "PROBE", 0.05)
    old = world.live(FakeSwitch())
    old.silent = True
    new = world.connect(FakeSwitch())
    new.close()
    until(lambda: not world.registry._contested)
    assert world.session.connection is old and not old.closed


def test_threat_23_a_datapath_id_is_that_of_its_nodes_certificate(world: World) -> None:
    evil = world.connect(FakeSwitch(certified="n2"))
    assert evil.closed and evil.kinds == [] and world.session is None
    good = world.live(FakeSwitch(certified="n1"))
    assert world.connect(FakeSwitch(certified="n2")).closed
    assert world.session.connection is good and good.probes == 0, "not even asked"
    assert world.counters.events == {"refused_datapath_id_of_another_node": 2}


def test_threat_23_a_datapath_id_that_was_claimed_before_it_was_registered(world: World) -> None:
    """The thief waits, unknown as it is, until the node registers."""
    evil = world.connect(FakeSwitch(id=7, certified="n2"))
    eventlet.sleep(0)
    assert not evil.closed and world.registry.parked() == 1
    world.programs.datapath_ids = {7: "n1"}
    world.registry.nodes_changed()
    assert evil.closed and evil.kinds == [] and world.registry.parked() == 0
    assert world.live(FakeSwitch(id=7, certified="n1")).kinds


def test_packet_in_from_bytes_to_bytes(world: World) -> None:
    world.live(FakeSwitch())
    match = bytes.fromhex("0001000c80000004") + (11).to_bytes(4) + bytes(4)
    body = b"\xff" * 4 + bytes.fromhex("00020000") + bytes(8) + match + b"\0\0ab"
    message = bytes.fromhex("050a") + (8 + len(body)).to_bytes(2) + bytes(4) + body
    answer = world.session.packet_in(message)
    assert answer == wire.packet_out(11, b"ba") + wire.packet_out(12, b"ab")
    assert world.session.packet_in(message[:41]) is None
    assert world.counters.node("n1").packet_ins_malformed == 1


def test_an_error_nobody_waits_for_changes_nothing(world: World) -> None:
    switch = world.live(FakeSwitch())
    world.session.answer(1, 0x80000001, bytes.fromhex("0501000c8000000100020004"))
    world.confirmed(world.change(upserts=(drop(Rule.DROP_SPOOFED, Priority.LOW, key=3),)))
    assert switch.computed() == wanted(world)


def test_threat_24_an_answer_without_end_is_not_kept() -> None:
    """Each part says that more follows."""
    part = struct.pack("!BBHIHH4x", 5, receive.MULTIPART_REPLY, 65528, 0, 0, 1).ljust(65528, b"\0")
    asked: list[int] = []

    def write(request: bytes) -> bool:
        asked.append(int.from_bytes(request[4:8]))
        return True

    talk, questions = Conversation(write, NodeCounters()), Questions(write)
    cases: tuple[tuple[Callable[[], Any], Callable[[int, int, bytes], Any], type[Exception]], ...] = (
        (talk.meters, talk.answer, SessionEnd),
        (lambda: questions.ask(wire.meters_request, 60), questions.answer, NoAnswer),
    )
    for ask, answer, why in cases:
        waiting = eventlet.spawn(ask)
        eventlet.sleep(0)
        for _ in range(receive.MOST_ANSWER // len(part) + 2):
            answer(receive.MULTIPART_REPLY, asked[-1], part)
        with pytest.raises(why, match="without end"), eventlet.Timeout(10):
            waiting.wait()
