"""What the agent's loop survives."""

from __future__ import annotations

import logging

import pytest

from agent import loop
from agent.config import AgentConfig
from agent.connections import FullZone
from agent.ovsdb import OvsdbError
from agent.report import InterfacesReport, NodeReport
from agent.state import OvsState
from agent.waker import Waker

CONFIG = AgentConfig(
    node="n1",
    datapath_id="0000020000000001",
    controllers=("tcp:192.0.2.1:6653",),
    api_urls=("http://192.0.2.1:8080",),
    api_token="t",
    physical_networks=(),
    snat_addresses=(),
)


@pytest.mark.parametrize("error", [OvsdbError("not there"), OSError(24, "Too many open files")])
def test_a_round_that_fails_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    agent = loop.Agent(CONFIG, Waker(), None, None)  # type: ignore[arg-type]
    rounds: list[float] = []

    def step(self: loop.Agent) -> float:
        rounds.append(len(rounds))
        if len(rounds) == 1:
            raise error
        self.stop()
        return 0.0

    monkeypatch.setattr(loop.Agent, "step", step)
    monkeypatch.setattr(loop, "_RETRY_S", 0.001)
    with caplog.at_level(logging.WARNING):
        agent.run()
    assert len(rounds) == 2 and str(error) in caplog.text


class Told:
    """The problems of each report of the node."""

    def __init__(self) -> None:
        self.problems: list[list[str]] = []

    def submit(self, node: NodeReport, interfaces: InterfacesReport, full: tuple[FullZone, ...]) -> None:
        self.problems.append(sorted(node.problems))


def test_a_failure_that_lasts_is_reported_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    told, now = Told(), [0.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
    agent = loop.Agent(CONFIG, Waker(), told, None)  # type: ignore[arg-type]
    rounds: list[float] = []

    def step(self: loop.Agent) -> float:
        self._state = OvsState()
        self._report_problems(OvsState(), frozenset({"other"}))
        rounds.append(now[0])
        now[0] += loop._FAILING_S / 2
        if len(rounds) <= 4:
            raise OvsdbError("refused")
        self.stop()
        return 0.0

    monkeypatch.setattr(loop.Agent, "step", step)
    monkeypatch.setattr(loop.Agent, "_wait", lambda *_: None)
    agent.run()
    assert ["other", "refused"] in told.problems[2:]
    assert told.problems[0] == told.problems[1] == told.problems[-1] == ["other"]


def test_nothing_is_reported_before_a_first_look_has_found_the_nodes_problems() -> None:
    told = Told()
    agent = loop.Agent(CONFIG, Waker(), told, None)  # type: ignore[arg-type]
    agent._report(OvsState())
    assert told.problems == []
    agent._report_problems(OvsState(), frozenset())
    assert told.problems == [[]]
