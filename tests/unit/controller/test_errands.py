"""Errands: handed to who asks for them, bounded, and an end to each wait."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import eventlet
import pytest

from agent.errands import _MOST as AGENTS_KINDS
from controller import errands
from controller.errands import Errand, Errands, Kind, NotAsking, Refused, TimedOut, TooMany, Unknown


@pytest.fixture
def held() -> Iterator[Errands]:
    yield Errands()


def serve(held: Errands, node: str, result: dict[str, Any] | None, refusal: str | None = None) -> Any:
    """An agent that does one errand, and says which."""

    def run() -> list[Errand]:
        found = held.fetch(node, 5.0)
        for errand in found:
            held.answer(node, errand.id, result, refusal)
        return found

    thread = eventlet.spawn(run)
    eventlet.sleep(0)
    return thread


def test_both_sides_have_the_same_kinds() -> None:
    assert {kind.value for kind in Kind} == set(AGENTS_KINDS)


def test_an_errand_goes_to_its_node_and_its_answer_back(held: Errands) -> None:
    other = serve(held, "n2", {"from": "n2"})
    agent = serve(held, "n1", {"from": "n1"})
    assert held.ask("n1", Kind.OFPROTO_TRACE, {"in_port": 1}, 5.0) == {"from": "n1"}
    (errand,) = agent.wait()
    assert (errand.kind, errand.arguments, errand.timeout) == (Kind.OFPROTO_TRACE, {"in_port": 1}, 5.0)
    assert held.asking("n2") and not held.asking("n1")
    other.kill()


def test_a_refusal_has_the_agents_text(held: Errands) -> None:
    serve(held, "n1", None, "there is no bridge")
    with pytest.raises(Refused, match="there is no bridge"):
        held.ask("n1", Kind.CAPTURE, {}, 5.0)


def test_who_never_asked_gets_none(held: Errands) -> None:
    with pytest.raises(NotAsking, match="n1"):
        held.ask("n1", Kind.CAPTURE, {}, 5.0)


def test_who_is_about_to_ask_again_gets_it() -> None:
    now = 100.0
    held = Errands(clock=lambda: now)
    assert held.fetch("n1", 0.0) == []
    thread = eventlet.spawn(held.ask, "n1", Kind.CAPTURE, {}, 5.0)
    eventlet.sleep(0)
    serve(held, "n1", {"done": True})
    assert thread.wait() == {"done": True}
    now += errands.GRACE
    held.fetch("n1", 0.0)
    now += errands.GRACE
    with pytest.raises(NotAsking):
        held.ask("n1", Kind.CAPTURE, {}, 5.0)


def test_no_answer_in_time(held: Errands) -> None:
    agent = eventlet.spawn(held.fetch, "n1", 5.0)
    eventlet.sleep(0)
    with pytest.raises(TimedOut, match="n1"):
        held.ask("n1", Kind.CAPTURE, {}, 0.01)
    (errand,) = agent.wait()
    with pytest.raises(Unknown):
        held.answer("n1", errand.id, {}, None)


def test_what_nobody_waits_for_any_more_is_not_handed_out(held: Errands) -> None:
    held.fetch("n1", 0.0)
    with pytest.raises(TimedOut):
        held.ask("n1", Kind.CAPTURE, {}, 0.01)
    assert held.fetch("n1", 0.0) == []


def test_a_poll_ends_in_time(held: Errands) -> None:
    assert held.fetch("n1", 0.01) == [] and not held.asking("n1")
    assert Errands(longest_poll=0.01).fetch("n1", 60.0) == []


def test_one_whose_agent_has_gone_gets_none(held: Errands) -> None:
    """Of an agent that was killed the poll is left until its time is over."""
    gone = eventlet.spawn(held.fetch, "n1", 5.0, lambda: True)
    eventlet.sleep(0)
    with pytest.raises(NotAsking):
        held.ask("n1", Kind.CAPTURE, {}, 5.0)
    older = eventlet.spawn(held.fetch, "n1", 5.0)
    eventlet.sleep(0)
    serve(held, "n1", {"newest": True})
    assert held.ask("n1", Kind.CAPTURE, {}, 5.0) == {"newest": True}
    gone.kill()
    older.kill()


def test_another_node_cannot_answer(held: Errands) -> None:
    agent = eventlet.spawn(held.fetch, "n1", 5.0)
    eventlet.sleep(0)
    asker = eventlet.spawn(held.ask, "n1", Kind.CAPTURE, {}, 5.0)
    (errand,) = agent.wait()
    with pytest.raises(Unknown):
        held.answer("n2", errand.id, {"forged": True}, None)
    held.answer("n1", errand.id, {"true": 1}, None)
    with pytest.raises(Unknown):
        held.answer("n1", errand.id, {"twice": True}, None)
    assert asker.wait() == {"true": 1}


def test_it_is_bounded(held: Errands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errands, "MOST_OF_NODE", 3)
    monkeypatch.setattr(errands, "MOST", 4)
    held.fetch("n1", 0.0)
    held.fetch("n2", 0.0)
    waiting = [eventlet.spawn(held.ask, "n1", Kind.CAPTURE, {}, 5.0) for _ in range(3)]
    eventlet.sleep(0)
    with pytest.raises(TooMany, match="n1"):
        held.ask("n1", Kind.CAPTURE, {}, 5.0)
    waiting.append(eventlet.spawn(held.ask, "n2", Kind.CAPTURE, {}, 5.0))
    eventlet.sleep(0)
    with pytest.raises(TooMany):
        held.ask("n2", Kind.CAPTURE, {}, 5.0)
    found = [held.fetch("n1", 0.0)[0].id for _ in range(3)]
    assert len(set(found)) == 3 and held.fetch("n1", 0.0) == []
    for thread in waiting:
        thread.kill()
    assert held._asked == {} and held._queued == {} and held._polls == {}


def test_polls_of_a_node_are_bounded(held: Errands) -> None:
    polls = [eventlet.spawn(held.fetch, "n1", 5.0) for _ in range(errands.MOST_POLLS + 1)]
    eventlet.sleep(0)
    assert polls[0].wait() == []
    assert held.asking("n1")
    for thread in polls:
        thread.kill()
    assert held._polls == {}


def test_who_has_gone_is_forgotten() -> None:
    now = 100.0
    held = Errands(clock=lambda: now)
    for number in range(20):
        held.fetch(f"gone-{number}", 0.0)
    now += errands.GRACE
    held.fetch("n1", 0.0)
    assert list(held._last_poll) == ["n1"]


def test_who_asks_no_more_is_said_to_be_missing() -> None:
    now = 100.0
    held = Errands(longest_poll=0.01, clock=lambda: now)
    assert not held.silent("n1"), "nobody has ever asked"
    polling = eventlet.spawn(held.fetch, "n1", 1.0, lambda: True)  # it is killed while it waits, for the first time
    eventlet.sleep(0)
    now += errands.SILENCE - 1
    assert not held.silent("n1")
    polling.wait()
    now += 1
    assert held.silent("n1")
    held.fetch("n1", 1.0)
    assert not held.silent("n1")
    now += errands.SILENCE
    held.forget("n1")
    assert not held.silent("n1")
