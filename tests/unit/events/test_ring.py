"""The ring of events: what is given to whom, and who waits."""

from __future__ import annotations

import eventlet
import pytest

from controller.events import ring
from controller.events.ring import Event, Events, Kind, TooManyWaiting


def everything(event: Event) -> bool:
    return True


def texts(page: ring.Page) -> list[str]:
    return [event.text for event in page.events]


@pytest.fixture
def events() -> Events:
    made = Events(capacity=4, clock=lambda: 100.0)
    for text in "abcd":
        made.note(Kind.PORT, text, project_id="odd" if text in "ac" else None)
    return made


def test_one_after_the_other(events: Events) -> None:
    page = events.since(0, 3, everything)
    assert (texts(page), page.last, page.missed) == (["a", "b", "c"], 100003, False)
    page = events.since(page.last, 3, everything)
    assert (texts(page), page.last, page.missed) == (["d"], 100004, False)
    assert events.since(page.last, 3, everything) == ring.Page((), 100004, False)


def test_what_is_not_wanted_is_passed_over(events: Events) -> None:
    page = events.since(0, 9, lambda event: event.project_id == "odd")
    assert (texts(page), page.last) == (["a", "c"], events.last)


def test_the_latest(events: Events) -> None:
    page = events.latest(2, everything)
    assert (texts(page), page.last) == (["c", "d"], events.last)


@pytest.mark.parametrize("after", [99003, 100001 - 1, 10**12])
def test_what_is_remembered_no_more_or_is_of_another_is_missed(events: Events, after: int) -> None:
    events.note(Kind.PORT, "e")
    page = events.since(after, 9, everything)
    assert (texts(page), page.missed) == (["b", "c", "d", "e"], True)
    assert not events.since(100001, 9, everything).missed


def test_who_waits_is_woken_by_what_it_wants(events: Events) -> None:
    got: list[ring.Page] = []

    def wait() -> None:
        got.append(events.wait(events.last, 9, lambda event: event.project_id == "odd", 5, "me"))

    thread = eventlet.spawn(wait)
    eventlet.sleep(0)
    events.note(Kind.PORT, "not mine")
    eventlet.sleep(0.01)
    assert not got
    events.note(Kind.PORT, "mine", project_id="odd")
    thread.wait()
    assert texts(got[0]) == ["mine"] and got[0].last == events.last


def test_nothing_comes(events: Events) -> None:
    assert events.wait(events.last, 9, everything, 0.01, "me") == ring.Page((), events.last)


def test_few_may_wait(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring, "MAX_WAITING", 3)
    monkeypatch.setattr(ring, "MAX_WAITING_OF_ONE", 2)
    for who in ("a", "a"):
        eventlet.spawn(events.wait, events.last, 9, everything, 5, who)
    eventlet.sleep(0)
    with pytest.raises(TooManyWaiting, match="this token"):
        events.wait(events.last, 9, everything, 5, "a")
    eventlet.spawn(events.wait, events.last, 9, everything, 5, "b")
    eventlet.sleep(0)
    with pytest.raises(TooManyWaiting, match="too many"):
        events.wait(events.last, 9, everything, 5, "c")
    events.note(Kind.PORT, "e")
    eventlet.sleep(0.01)
    assert texts(events.wait(events.last - 1, 9, everything, 5, "a")) == ["e"]
    assert not events._waiting


def test_who_is_woken_by_what_it_does_not_want_looks_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    events = Events()
    looks = []
    since = events.since

    def counted(*given: object) -> ring.Page:
        looks.append(given)
        return since(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(events, "since", counted)
    waiting = eventlet.spawn(events.wait, events.last, 9, lambda event: event.text == "mine", 30.0, "a")
    for _ in range(300):
        events.note(Kind.PORT, "another's")
        eventlet.sleep(0)
    assert len(looks) < 10
    events.note(Kind.PORT, "mine")
    with eventlet.Timeout(10):
        page = waiting.wait()
    assert texts(page) == ["mine"] and not page.missed
