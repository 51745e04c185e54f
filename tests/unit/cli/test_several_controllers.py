"""The command, and the client that it stands on, where there are several controllers."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable

import pytest
from typer.testing import Result

from controller.client import ApiError, Client, Unreachable
from tests.unit.cli.stub import TOKEN, Stub


@pytest.fixture
def dead() -> str:
    """An address that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


def test_the_first_that_answers_is_asked(stub: Stub, dead: str) -> None:
    client = Client(f"{dead}, {stub.url}/", TOKEN)
    stub.on("GET /v1/controllers", (200, {"controllers": [{"name": "c1"}]}))
    assert client.list_controllers() == [{"name": "c1"}] and client.url == stub.url
    stub.on("POST /v1/ports", (201, {"port": {"id": "p"}, "revision": 7}))
    assert client.create_port({}).revision == 7


def test_a_write_goes_on_only_where_nothing_can_have_been_done(stub: Stub, dead: str) -> None:
    refusal = {"error": {"code": "database_unavailable", "message": "later"}}
    client = Client(f"{stub.url},{dead}", TOKEN)
    stub.on("POST /v1/ports", (503, refusal))
    with pytest.raises(Unreachable, match=dead):
        client.create_port({})
    stub.on("POST /v1/ports", (201, {"port": {"id": "p"}, "revision": 7}))
    assert client.create_port({}).revision == 7, "it turns in a circle"
    client = Client(f"{stub.url},{dead}", TOKEN)
    stub.on("POST /v1/ports", (503, {"error": {"code": "outcome_unknown", "message": "look"}}))
    with pytest.raises(ApiError, match="look"):
        client.create_port({})
    assert client.url == stub.url


def test_nobody_answers(dead: str) -> None:
    with pytest.raises(Unreachable):
        Client(f"{dead},{dead}", TOKEN).list_nodes()


def test_list(stub: Stub, run: Callable[..., Result], dead: str) -> None:
    found = {
        "name": "c1",
        "api_url": "http://192.0.2.1:8080",
        "leader": True,
        "nodes": ["n1", "n2"],
        "connected_nodes": 3,
        "started_at": "2026-11-25T10:00:00Z",
    }
    stub.on("GET /v1/controllers", (200, {"controllers": [found]}))
    shown = run("--url", f"{dead},{stub.url}", "controller", "list")
    assert shown.exit_code == 0
    assert shown.stdout.split("\n")[2].split() == ["c1", found["api_url"], "yes", "2", "3", found["started_at"]]
    stub.on("GET /v1/controllers", (200, {"controllers": [found]}))
    assert json.loads(run("controller", "list", "-o", "json").stdout) == [found]
    assert run("--url", f"{stub.url},nonsense", "controller", "list").exit_code == 2
