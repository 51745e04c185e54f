"""What the agent logs of the answers to its reports."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

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
TRUTH = _Truth(NodeReport("0000020000000001", (), (), "1", "3.5.0"), InterfacesReport())


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
