"""What switches answer to questions about what they count: asked once for all who want to know, and read."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

from eventlet.event import Event

from controller.session_questions import NoAnswer

ANSWER_TIMEOUT: Final = 2.0
"""Seconds that a switch has for an answer; a silent one must not hold up the metrics of the others."""

Ask = Callable[[str, Callable[[int], bytes], float], list[bytes]]
"""Of a node, a question by its number, for so many seconds. Raises NoAnswer."""

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")


class _Asked(Generic[_V]):
    """A question: `at` is None until there is an answer."""

    def __init__(self) -> None:
        self.at: float | None = None
        self._answered = Event()

    def answer(self, value: _V, at: float) -> None:
        self.at = at
        self._answered.send(value)

    def fail(self, error: NoAnswer) -> None:
        self._answered.send_exception(error)

    def wait(self) -> _V:
        value: _V = self._answered.wait()
        return value


class Answers(Generic[_K, _V]):
    """An answer is good for `fresh` seconds; who wants to know while it is asked for waits with the asker."""

    def __init__(self, fresh: float, clock: Callable[[], float]) -> None:
        self._fresh = fresh
        self._clock = clock
        self._asked: dict[_K, _Asked[_V]] = {}

    def get(self, key: _K, ask: Callable[[], _V]) -> _V:
        """Raises NoAnswer as `ask` does."""
        now = self._clock()
        self._asked = {
            known: asked for known, asked in self._asked.items() if asked.at is None or now - asked.at < self._fresh
        }
        found = self._asked.get(key)
        if found is not None:
            return found.wait()
        asked = self._asked[key] = _Asked()
        try:
            value = ask()
        except BaseException as error:
            self._asked.pop(key, None)
            asked.fail(error if isinstance(error, NoAnswer) else NoAnswer("the question was given up"))
            raise
        asked.answer(value, self._clock())
        return value


_T = TypeVar("_T")


def parsed(parse: Callable[[bytes], _T], part: bytes) -> _T:
    try:
        return parse(part)
    except ValueError as error:
        raise NoAnswer(str(error)) from error
