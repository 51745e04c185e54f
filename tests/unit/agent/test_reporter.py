"""What the agent logs of the answers to its reports."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from agent.client import Answer, ClientError
from agent.config import AgentConfig
from agent.report import InterfacesReport, NodeReport
from agent.reporter import Reporter, _Truth

CONFIG = AgentConfig(
    node="n1",
    datapath_id="0000020000000001",
    controllers=("tcp:192.0.2.1:6653",),
    api_urls=("http://192.0.2.1:8080",),
    api_token="t",
)
TRUTH = _Truth(NodeReport("0000020000000001", (), (), "1", "3.5.0", "system"), InterfacesReport())


class FakeClient:
    def __init__(self) -> None:
        self.problems: Any = []

    async def put(self, path: str, body: object) -> dict[str, object]:
        return {"serial": 1, "ports": {}, "problems": self.problems}


def test_a_problem_is_logged_once_and_its_end(caplog: pytest.LogCaptureFixture) -> None:
    reporter, client = Reporter(CONFIG), FakeClient()
    reporter._client = client  # type: ignore[assignment]

    def logged(*problems: str) -> list[tuple[str, str]]:
        client.problems = list(problems)
        caplog.clear()
        asyncio.run(reporter._send(TRUTH))
        return [(record.levelname, record.getMessage()) for record in caplog.records]

    caplog.set_level(logging.INFO)
    assert logged("no SNAT on network 'a'") == [("WARNING", "no SNAT on network 'a'")]
    assert logged("no SNAT on network 'a'") == []
    assert logged("no SNAT on network 'b'") == [
        ("WARNING", "no SNAT on network 'b'"),
        ("INFO", "no longer: no SNAT on network 'a'"),
    ]
    client.problems = None  # an older controller
    asyncio.run(reporter._send(TRUTH))
    assert reporter._problems == frozenset()


@pytest.mark.parametrize(("code", "hinted"), [("unknown_field", True), ("invalid_field", False)])
def test_a_controller_that_is_older_than_the_agent_is_told(
    caplog: pytest.LogCaptureFixture, code: str, hinted: bool
) -> None:
    async def ask(*_: object) -> Answer:
        refusal = {"error": {"code": code, "message": "colour: no such field"}}
        return Answer(400, "application/json", json.dumps(refusal).encode())

    reporter = Reporter(CONFIG)
    reporter._client.ask = ask  # type: ignore[method-assign, assignment]
    with pytest.raises(ClientError) as refused:
        asyncio.run(reporter._send(TRUTH))
    for _ in range(2):
        reporter._failed(refused.value)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "400 colour: no such field" in line
    assert ("the controller is older than this agent: upgrade controllers first" in line) == hinted
