"""Statistics that others ask a switch for, beside what its session says to it: any number of questions at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from eventlet.event import Event

from controller import receive

QUESTION_XIDS: Final = 0xF0000000
"""Transaction ids from here up are of these questions."""

_MOST: Final = 64
"""Questions that may wait for their answers."""


class NoAnswer(Exception):
    """The switch has not answered, or not in time. The text says why."""


@dataclass(slots=True)
class _Question:
    parts: list[bytes] = field(default_factory=list)
    size: int = 0  # of the parts, in bytes
    done: Event = field(default_factory=Event)  # None, or why there is no answer


class Questions:
    """`send` does not wait and returns False when the connection is gone."""

    def __init__(self, send: Callable[[bytes], bool]) -> None:
        self._send = send
        self._xid = QUESTION_XIDS
        self._open: dict[int, _Question] = {}

    def ask(self, request: Callable[[int], bytes], timeout_s: float) -> list[bytes]:
        """All parts of the reply to the multipart request that `request` makes with a transaction id.

        Raises NoAnswer.
        """
        if len(self._open) >= _MOST:
            raise NoAnswer("too many questions")
        xid = self._xid
        self._xid = QUESTION_XIDS if xid == 0xFFFFFFFF else xid + 1
        question = self._open[xid] = _Question()
        try:
            if not self._send(request(xid)):
                raise NoAnswer("connection closed")
            why = question.done.wait(timeout_s)
            if not question.done.ready():
                raise NoAnswer(f"no answer in {timeout_s:g} s")
        finally:
            del self._open[xid]
        if why is not None:
            raise NoAnswer(why)
        return question.parts

    def answer(self, kind: int, xid: int, message: bytes) -> bool:
        """True when it belongs to a question, open or given up. The receive loop calls this."""
        if xid < QUESTION_XIDS:
            return False
        question = self._open.get(xid)
        if question is not None and not question.done.ready():
            if kind == receive.MULTIPART_REPLY:
                question.size += len(message)
                if question.size > receive.MOST_ANSWER:
                    question.parts.clear()
                    question.done.send("an answer without end")
                    return True
                question.parts.append(message)
                if not receive.more_follows(message):
                    question.done.send(None)
            else:
                question.done.send(f"refused: {receive.error_of(message)}")
        return True

    def close(self) -> None:
        """Nothing will be answered any more."""
        for question in self._open.values():
            if not question.done.ready():
                question.done.send("connection closed")
