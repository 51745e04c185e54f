"""What switches are said to say, by agents that may be anybody's."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import eventlet
import pytest

from agent.ofproto_trace import MOST, MOST_PACKETS
from controller import live_tracing
from controller.errands import Errands, Kind
from controller.live_tracing import MOST_LINES, LiveTracing
from controller.session_questions import NoAnswer
from flows.explain.probe import Probe

PROBE = Probe(54, 7, {"eth_type": 0x0800, "reg7": 3}, (), 0, frozenset(), frozenset(), {})
PACKET = {"in_port": 7, "table": 54, "fields": {"eth_type": 0x0800, "reg7": 3}}


class Agents(Errands):
    def __init__(self, result: dict[str, Any]) -> None:
        super().__init__()
        self._result = result
        self.asked: list[tuple[str, Kind, Mapping[str, Any], float]] = []

    def ask(self, node: str, kind: Kind, arguments: Mapping[str, Any], timeout: float) -> Mapping[str, Any]:
        self.asked.append((node, kind, arguments, timeout))
        return self._result


def test_each_node_is_asked_once() -> None:
    agents = Agents({"outputs": ["x", "y"]})
    assert LiveTracing(agents)({"n1": [PROBE, PROBE], "n2": [PROBE, PROBE]}) == {"n1": ["x", "y"], "n2": ["x", "y"]}
    expected = (Kind.OFPROTO_TRACE, {"packets": [PACKET, PACKET]}, live_tracing.TIMEOUT)
    assert sorted(agents.asked, key=lambda one: one[0]) == [("n1", *expected), ("n2", *expected)]
    assert LiveTracing(agents)({}) == {}


def test_no_more_is_asked_than_an_agent_does() -> None:
    agents = Agents({"outputs": ["x"] * MOST_PACKETS})
    assert LiveTracing(agents)({"n1": [PROBE] * (MOST_PACKETS + 1)}) == {"n1": ["x"] * MOST_PACKETS}
    assert len(agents.asked[0][2]["packets"]) == MOST_PACKETS


def test_no_more_is_taken_than_an_agent_takes() -> None:
    assert LiveTracing(Agents({"outputs": ["x" * MOST]}))({"n1": [PROBE]}) == {"n1": ["x" * MOST]}
    lines = "\n" * (MOST_LINES // 2)
    assert LiveTracing(Agents({"outputs": [lines, lines]}))({"n1": [PROBE] * 2}) == {"n1": [lines, lines]}
    assert isinstance(LiveTracing(Agents({"outputs": [lines, lines + "\n"]}))({"n1": [PROBE] * 2})["n1"], NoAnswer)
    wrong = ({}, {"outputs": None}, {"outputs": [None]}, {"outputs": "x"}, {"outputs": []}, {"outputs": ["x", "y"]})
    for result in (*wrong, {"outputs": ["x" * (MOST + 1)]}):
        assert isinstance(LiveTracing(Agents(result))({"n1": [PROBE]})["n1"], NoAnswer)


def test_nodes_that_are_silent_cost_their_time_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that answers is heard all the same."""
    monkeypatch.setattr(live_tracing, "TIMEOUT", 0.5)
    errands = Errands()
    silent = [f"n{number}" for number in range(2, 12)]

    def agent() -> None:
        (errand,) = errands.fetch("n1", 5)
        errands.answer("n1", errand.id, {"outputs": ["x"]}, None)

    polls = [eventlet.spawn(agent), *(eventlet.spawn(errands.fetch, node, 5) for node in silent)]
    eventlet.sleep(0)
    began = time.monotonic()
    answers = LiveTracing(errands)({node: [PROBE] for node in ("n1", *silent, "n99")})
    took = time.monotonic() - began
    for poll in polls:
        poll.wait()
    assert answers["n1"] == ["x"]
    assert all("has not answered within" in str(answers[node]) for node in silent)
    assert "does not ask" in str(answers["n99"])
    assert took < 0.5 * 4
