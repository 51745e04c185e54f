"""What the agent's loop survives."""

from __future__ import annotations

import logging

import pytest

from agent import loop
from agent.config import AgentConfig
from agent.ovsdb import OvsdbError
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
