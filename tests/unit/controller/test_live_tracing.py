"""What a switch is said to say, by an agent that may be anybody's."""

from __future__ import annotations

from typing import Any

import pytest

from controller.errands import Errands
from controller.live_tracing import MOST, LiveTracing
from controller.session_questions import NoAnswer


class Agent(Errands):
    def __init__(self, result: dict[str, Any]) -> None:
        super().__init__()
        self._result = result

    def ask(self, *_what: Any, **_how: Any) -> dict[str, Any]:
        return self._result


def test_no_more_is_taken_than_an_agent_takes() -> None:
    assert LiveTracing(Agent({"output": "x" * MOST}))("n1", 1, {}) == "x" * MOST
    for result in ({}, {"output": None}, {"output": ["x"]}, {"output": "x" * (MOST + 1)}):
        with pytest.raises(NoAnswer):
            LiveTracing(Agent(result))("n1", 1, {})
