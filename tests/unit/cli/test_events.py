"""`trunkline events`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from typer.testing import Result

from tests.unit.cli.stub import PORT_ID, Request, Stub

EVENT = {"id": 17, "at": "2026-11-25T21:00:00Z", "kind": "lease", "text": "web1 got 10.40.0.5 on green (n2)\x1b[2J"}


def test_latest(stub: Stub, run: Callable[..., Result]) -> None:
    stub.on("GET /v1/events", (200, {"events": [EVENT], "last": 17, "missed": False}))
    result = run("events", "--port", PORT_ID, "--kind", "lease")
    assert result.exit_code == 0
    assert stub.last("GET").query == {"port_id": PORT_ID, "kind": "lease"}
    assert "web1 got 10.40.0.5 on green (n2)" in result.stdout and "\x1b" not in result.stdout


def test_follow(stub: Stub, run: Callable[..., Result]) -> None:
    asked: list[dict[str, str]] = []

    def answer(request: Request) -> tuple[int, Any]:
        asked.append(request.query)
        match len(asked):
            case 1:
                return 200, {"events": [EVENT], "last": 17, "missed": False}
            case 2:
                return 200, {"events": [{**EVENT, "id": 30}], "last": 30, "missed": True}
        return 400, {"error": {"code": "x", "message": "enough", "field": None, "details": {}}}

    stub.on("GET /v1/events", answer)
    result = run("events", "--follow", "-o", "json")
    assert asked == [{}, {"after": "17", "wait": "25"}, {"after": "30", "wait": "25"}]
    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == [17, 30]
    assert "some events are missing" in result.stderr and "enough" in result.stderr and result.exit_code == 1
