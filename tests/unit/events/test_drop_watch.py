"""What ports begin to send that is not their own: told once, and again after a while without."""

from __future__ import annotations

from collections.abc import Mapping

from controller.events.drop_watch import MOST_AT_ONCE, QUIET, Dropping, DropWatch
from flows.rules import Rule

ONE, OTHER = (Rule.DROP_SPOOFED, 1), (Rule.DROP_ND_SPOOFED, 2)
LOOK = 60.0


class World:
    def __init__(self) -> None:
        self.now = 0.0
        self.told: list[object] = []
        self.watch = DropWatch(lambda *what: self.told.append(what), lambda *what: self.told.append(what), self.clock)

    def clock(self) -> float:
        return self.now

    def look(self, packets: Mapping[Dropping, int], node: str = "n1") -> list[object]:
        """What is told at the next look."""
        self.now += LOOK
        self.told = []
        self.watch.counted(node, packets)
        return self.told


def test_the_beginning_is_told_once() -> None:
    world = World()
    assert world.look({ONE: 500}) == []  # nobody knows since when
    assert world.look({ONE: 500, OTHER: 7}) == [("n1", *OTHER, 7)]
    assert world.look({ONE: 501, OTHER: 8}) == [("n1", *ONE, 1)]
    assert world.look({ONE: 900, OTHER: 9}) == []
    assert world.look({ONE: 900, OTHER: 9}, "n2") == []


def test_what_has_stopped_begins_anew() -> None:
    world = World()
    world.look({})
    assert world.look({ONE: 1}) == [("n1", *ONE, 1)]
    for count in range(2, 2 + int(2 * QUIET / LOOK)):  # it goes on for long
        assert world.look({ONE: count}) == []
    world.now += QUIET - 2 * LOOK
    assert world.look({ONE: 100}) == []
    world.now += QUIET
    assert world.look({ONE: 103}) == [("n1", *ONE, 3)]


def test_a_switch_that_begins_anew_is_no_beginning() -> None:
    world = World()
    world.look({ONE: 100})
    assert world.look({ONE: 20}) == [] and world.look({}) == []
    assert world.look({ONE: 3}) == [("n1", *ONE, 3)]


def test_many_at_once_are_told_by_their_number() -> None:
    world = World()
    world.look({})
    told = world.look({(Rule.DROP_SPOOFED, key): 1 for key in range(1, MOST_AT_ONCE + 6)})
    assert len(told) == MOST_AT_ONCE + 1 and told[-1] == ("n1", 5)
