"""`trunkline plan`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from typer.testing import Result

from tests.unit.cli.stub import OTHER_PORT_ID, PORT_ID, Request, Stub, port, refusal

NODE = {
    "node": "n1",
    "adds": 2,
    "deletes": 1,
    "changes": 1,
    "add": ["table=54 new # why"],
    "delete": ["table=54 old\x1b[2J"],
    "change": [{"before": "table=8 was", "after": "table=8 is"}],
    "meters": ["+ meter=7"],
    "problems": [],
}


def planning(stub: Stub, *answers: dict[str, Any], nodes: Any = (NODE,)) -> list[list[dict[str, Any]]]:
    """The server plans; returns what it is asked."""
    asked: list[list[dict[str, Any]]] = []

    def answer(request: Request) -> tuple[int, Any]:
        asked.append(request.body["requests"])
        return 200, {"answers": answers[: len(asked[-1])], "nodes": list(nodes), "revision": 5}

    stub.on("POST /v1/plan", answer)
    return asked


def test_a_write_becomes_a_plan(stub: Stub, run: Callable[..., Result]) -> None:
    stub.on("GET /v1/ports", (200, {"ports": [port(name="vm1")]}))
    asked = planning(stub, {"status": 200, "body": {"port": port(name="other"), "revision": 9}})
    result = run("plan", "port", "set", "vm1", "--name", "other", "--wait")
    assert result.exit_code == 0, result.stderr
    assert asked == [[{"method": "PATCH", "path": f"/v1/ports/{PORT_ID}", "body": {"name": "other"}}]]
    assert [request.method for request in stub.requests] == ["GET", "POST"], "nothing else is written, or waited for"
    assert result.stdout.splitlines() == [
        "n1: 2 to add, 1 to delete, 1 to change",
        "  - table=54 old\\x1b[2J",
        "  ~ table=8 was",
        "    table=8 is",
        "  + table=54 new # why",
        "  + meter=7",
        "  and 1 more",
    ]


def test_as_data_and_in_short(stub: Stub, run: Callable[..., Result]) -> None:
    planning(stub, {"status": 200, "body": {"port": port(), "revision": 9}})
    change = ("port", "set", PORT_ID, "--name", "x")
    assert json.loads(run("plan", "-o", "json", *change).stdout)["nodes"] == [NODE]
    assert run("plan", "--summary", *change, "-o", "yaml").stdout == "n1: 2 to add, 1 to delete, 1 to change\n"
    planning(stub, {"status": 200, "body": {"port": port(), "revision": 9}}, nodes=())
    assert run("plan", *change).stdout == "no flow changes on any node\n"


def test_several_writes_are_one_plan(stub: Stub, run: Callable[..., Result]) -> None:
    gone = {"status": 200, "body": {"port": port(), "revision": 9}}
    asked = planning(stub, gone, gone)
    result = run("plan", "port", "delete", PORT_ID, OTHER_PORT_ID)
    assert result.exit_code == 0 and result.stdout.count("n1: ") == 1
    assert [[one["path"] for one in requests] for requests in asked] == [
        [f"/v1/ports/{PORT_ID}"],
        [f"/v1/ports/{PORT_ID}", f"/v1/ports/{OTHER_PORT_ID}"],
    ]


def test_a_refusal_is_the_commands_own(stub: Stub, run: Callable[..., Result]) -> None:
    planning(stub, {"status": 409, "body": refusal("network_in_use", "it has ports")})
    result = run("plan", "network", "delete", PORT_ID)
    assert result.exit_code == 1 and "it has ports (409 network_in_use)" in result.stderr and not result.stdout


def test_what_cannot_be_planned_is_not_done(stub: Stub, run: Callable[..., Result]) -> None:
    for command in (("plug", "web1"), ("token", "create", "x"), ("plan", "port", "list"), ("nothing",)):
        result = run("plan", *command)
        assert result.exit_code == 2 and "cannot be planned" in result.stderr
    stub.on("GET /v1/ports", (200, {"ports": []}))
    result = run("plan", "port", "list")
    assert result.exit_code == 2 and "writes nothing" in result.stderr and not result.stdout
    assert run("plan").exit_code == run("plan", "port", "set").exit_code == 2
    assert [request.method for request in stub.requests] == ["GET"]
