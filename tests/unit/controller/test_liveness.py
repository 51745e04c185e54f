"""When a node is taken for lost, and when the fault may be the controller's own."""

from __future__ import annotations

import pytest

from controller.liveness import HUNG, LATE, MEMORY, RECONNECT, SILENT, START, SUSPECT, Liveness, Verdict

STEP = 0.5
NAMES = ("n1", "n2", "n3")


class World:
    """Nodes that are heard at each look, but for those that are `silent` or have `hung_up`."""

    def __init__(self, names: tuple[str, ...] = NAMES) -> None:
        self.now = 1000.0
        self.liveness = Liveness(self.now)
        self.heard: dict[str, float | None] = dict.fromkeys(names, self.now)
        self.silent: set[str] = set()
        self.answering: set[str] = set()

    def look(self, seconds: float) -> Verdict:
        """Looks again and again for so long; the last verdict."""
        verdict = Verdict()
        for _ in range(round(seconds / STEP)):
            self.now += STEP
            for name, at in self.heard.items():
                if at is not None and name not in self.silent:
                    self.heard[name] = self.now
            verdict = self.liveness.judge(self.heard, self.now)
            for name in verdict.suspects & self.answering:
                self.liveness.host_answered(name, self.now)
        return verdict

    def hang_up(self, *names: str) -> None:
        self.heard |= dict.fromkeys(names)


@pytest.fixture
def world() -> World:
    made = World()
    assert made.look(5) == Verdict()
    return made


def test_one_that_is_silent_is_lost_in_time(world: World) -> None:
    world.silent = {"n2"}
    assert world.look(SILENT - STEP) == Verdict(suspects=frozenset({"n2"}))
    assert world.look(STEP).lost == {"n2"}
    world.silent = set()
    assert world.look(STEP) == Verdict()


def test_one_whose_host_answers_may_be_busy_for_longer(world: World) -> None:
    world.silent = world.answering = {"n2"}
    assert not world.look(HUNG - STEP).lost
    assert world.look(STEP).lost == {"n2"}


def test_one_whose_host_stops_to_answer_is_lost(world: World) -> None:
    world.silent = world.answering = {"n2"}
    assert not world.look(SILENT).lost
    world.answering = set()
    assert world.look(SILENT - SUSPECT).lost == {"n2"}


def test_one_that_hangs_up_may_come_back(world: World) -> None:
    world.hang_up("n2")
    assert not world.look(RECONNECT).lost
    world.heard["n2"] = world.now
    assert not world.look(STEP).lost
    world.hang_up("n2")
    assert not world.look(RECONNECT).lost
    assert world.look(STEP).lost == {"n2"}


def test_a_controller_that_was_held_up_begins_to_wait_anew(world: World) -> None:
    world.now += LATE + 10
    assert world.liveness.judge(world.heard, world.now) == Verdict()
    world.silent = {"n2"}
    assert not world.look(SILENT - STEP).lost
    assert world.look(STEP).lost == {"n2"}


def test_a_controller_that_has_just_started_waits_for_nodes_to_connect() -> None:
    world = World()
    world.hang_up("n2")
    assert not world.look(START - STEP).lost
    assert world.look(STEP).lost == {"n2"}


def test_where_more_are_lost_than_left_none_is() -> None:
    for count, held in ((1, False), (2, False), (3, True), (4, True)):
        world = World(("n1", "n2", "n3", "n4"))
        world.look(5)
        world.silent = {f"n{number}" for number in range(1, count + 1)}
        verdict = world.look(SILENT)
        assert (verdict.held, verdict.lost) == (held, set() if held else world.silent)


def test_what_has_been_lost_for_long_does_not_count(world: World) -> None:
    world.hang_up("n1", "n2")
    assert world.look(RECONNECT + STEP).held
    assert world.look(MEMORY).lost == {"n1", "n2"}


def test_two_nodes_can_stand_in_for_each_other() -> None:
    world = World(("n1", "n2"))
    world.look(5)
    world.silent = {"n1"}
    assert world.look(SILENT).lost == {"n1"}
