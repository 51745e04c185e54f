"""Captures that pass through: bounded, and over when one of both has gone."""

from __future__ import annotations

import eventlet
import pytest

from controller import captures
from controller.captures import Busy, Captures, Summary, Unknown

END = Summary(3, 300, 1, "seconds")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_parts_come_in_order_and_the_end_after_them() -> None:
    held = Captures()
    capture = held.open("p", "n1")
    assert held.of_node("n1", capture.id) is capture
    assert [capture.put(part) for part in (b"a", b"", b"b")] == [(True, True)] * 3
    capture.end(END)
    assert not capture.over
    assert [capture.take(0.0) for _ in range(3)] == [b"a", b"b", None]
    assert capture.over and held.close(capture) == END and capture.sent == 2
    assert held.summary("p", capture.id) == END
    with pytest.raises(Unknown):
        held.of_node("n1", capture.id)
    with pytest.raises(Unknown):
        held.summary("another port", capture.id)


def test_who_takes_waits_for_a_part() -> None:
    capture = Captures().open("p", "n1")
    taker = eventlet.spawn(capture.take, 5.0)
    eventlet.sleep(0)
    capture.put(b"x")
    assert taker.wait() == b"x"


def test_a_slow_reader_has_the_agent_wait_and_nothing_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captures, "ROOM_WAIT", 0.01)
    capture = Captures().open("p", "n1")
    part = bytes(captures.MOST_HELD // 4)
    assert [capture.put(part) for _ in range(5)] == [(True, True)] * 4 + [(True, False)]
    assert capture._held == captures.MOST_HELD
    monkeypatch.setattr(captures, "ROOM_WAIT", 5.0)
    agent = eventlet.spawn(capture.put, part)
    eventlet.sleep(0)
    assert capture.take(0.0) == part
    assert agent.wait() == (True, True)


def test_an_agent_that_waits_is_told_when_the_client_goes() -> None:
    held = Captures()
    capture = held.open("p", "n1")
    part = bytes(captures.MOST_HELD)
    capture.put(part)
    agent = eventlet.spawn(capture.put, part)
    eventlet.sleep(0)
    assert held.close(capture).reason == captures.CLIENT_GONE
    assert agent.wait() == (False, False)
    assert capture.put(b"") == (False, False) and capture._held == 0


def test_an_agent_that_says_nothing_has_gone() -> None:
    clock = Clock()
    held = Captures(clock)
    capture = held.open("p", "n1")
    clock.now += captures.SILENCE
    assert not capture.over
    capture.put(b"")
    clock.now += captures.SILENCE + 1
    assert capture.over and held.close(capture).reason == captures.NODE_SILENT


def test_there_are_not_more_than_there_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captures, "MOST", captures.MOST_OF_NODE + 1)
    monkeypatch.setattr(captures, "MOST_ENDED", 2)
    held = Captures()
    first = held.open("p", "n1")
    others = [held.open("p", "n1") for _ in range(captures.MOST_OF_NODE - 1)]
    with pytest.raises(Busy, match="n1"):
        held.open("p", "n1")
    others.append(held.open("p", "n2"))
    with pytest.raises(Busy):
        held.open("p", "n3")
    for capture in (first, *others):
        held.close(capture)
    with pytest.raises(Unknown):
        held.summary("p", first.id)
    assert len(held._ended) == 2 and held._open == {}
    begun = held.open("p", "n1")
    held.forget(begun)
    with pytest.raises(Unknown):
        held.summary("p", begun.id)


def test_all_together_are_no_faster_than_they_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    clock = Clock()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.now += seconds

    monkeypatch.setattr(captures.eventlet, "sleep", sleep)
    held = Captures(clock)
    both = held.open("p", "n1"), held.open("q", "n2")
    part = bytes(32 << 10)
    for number in range(128):
        assert both[number % 2].put(part) == (True, True)
        assert both[number % 2].take(0.0) == part
    assert sum(slept) == pytest.approx(127 * len(part) / captures.RATE)
    clock.now += 60
    slept.clear()
    assert both[0].put(part) == (True, True) and not slept, "who comes now and then does not wait"


def test_an_agent_that_sends_many_parts_at_once_takes_no_time_of_other_captures() -> None:
    held = Captures(Clock())
    greedy, modest = held.open("p", "n1"), held.open("q", "n2")
    rush = [eventlet.spawn(greedy.put, bytes(32 << 10)) for _ in range(100)]
    eventlet.sleep(0)
    assert held._pace(0) < 3 * (32 << 10) / captures.RATE
    held.close(greedy)
    assert [one.wait() for one in rush][2:] == [(False, False)] * 98
    assert modest.put(b"x") == (True, True)


def test_nothing_comes_after_the_end() -> None:
    capture = Captures().open("p", "n1")
    capture.put(b"x")
    capture.end(END)
    assert capture.put(b"y") == (False, False)
    assert (capture.take(0.0), capture.take(0.0), capture.over) == (b"x", None, True)


def test_one_project_leaves_places_to_others() -> None:
    held = Captures()
    first = [held.open("p", "n1", "a") for _ in range(captures.MOST_OF_PROJECT_ON_NODE)]
    with pytest.raises(Busy, match="the project"):
        held.open("p", "n1", "a")
    held.open("q", "n1", "b")
    held.open("q", "n1")  # an operator's
    nodes = [f"m{number}" for number in range(captures.MOST_OF_PROJECT - len(first))]
    for node in nodes:
        held.open("p", node, "a")
    with pytest.raises(Busy, match="the project"):
        held.open("p", "n9", "a")
    held.close(first[0])
    held.open("p", "n9", "a")
