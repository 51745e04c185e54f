"""`trunkline node` and `trunkline status`."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from tests.unit.cli.stub import OTHER_PORT_ID, Stub, network, node, port, refusal


@pytest.fixture(autouse=True)
def objects(stub: Stub) -> None:
    lost = port(id=OTHER_PORT_ID, name="vm2", binding=None, status="unbound", binding_error="no place for it")
    stub.on("GET /v1/nodes", (200, {"nodes": [node(), node(name="n2", state="disconnected", unconfirmed_since=None)]}))
    stub.on("GET /v1/nodes/n1", (200, {"node": node()}))
    stub.on("DELETE /v1/nodes/n1", (200, {"node": node(), "revision": 30}))
    stub.on("GET /v1/quarantine", (200, {"quarantine": []}))
    stub.on("GET /v1/problems", (200, {"health": "ok", "problems": []}))
    stub.on("GET /v1/networks", (200, {"networks": [network()]}))
    stub.on("GET /v1/ports", (200, {"ports": [port(), lost]}))


def test_nodes(stub: Stub, run: Any) -> None:
    assert [one["name"] for one in json.loads(run("node", "list", "-o", "json").stdout)] == ["n1", "n2"]
    lines = run("node", "list").stdout.splitlines()
    assert lines[2].split()[:6] == ["n1", "live", "12", "40", "0", "0000020000000001"]
    assert lines[3].split()[:3] == ["n2", "disconnected", "all"]
    assert yaml.safe_load(run("node", "show", "n1", "-o", "yaml").stdout) == node()
    assert "physnet1=203.0.113.11" in run("node", "show", "n1").stdout
    assert json.loads(run("node", "delete", "n1", "-o", "json").stdout) == [
        {"deleted": "n1", "id": "n1", "revision": 30}
    ]


def test_snat_addresses_are_those_in_use(stub: Stub, run: Any) -> None:
    for command in (("node", "list"), ("status",)):
        text = run(*command).stdout
        assert "203.0.113.57" in text and "203.0.113.11" not in text
    rows = [line.split(maxsplit=1) for line in run("node", "show", "n1").stdout.splitlines()]
    assert ["snat_addresses", "203.0.113.57"] in rows
    stub.on("GET /v1/nodes", (200, {"nodes": [node(external_addresses=[])]}))
    assert "203.0.113" not in run("node", "list").stdout


def test_problems_of_a_node(stub: Stub, run: Any) -> None:
    troubled = node(problems=["no SNAT on network 'out': it is outside", "and another"])
    stub.on("GET /v1/nodes", (200, {"nodes": [troubled]}))
    stub.on("GET /v1/nodes/n1", (200, {"node": troubled}))
    for command in (("node", "list"), ("node", "show", "n1"), ("status",)):
        text = run(*command).stdout
        assert all(line in text for line in troubled["problems"])


def test_a_name_cannot_leave_its_place_in_the_path(stub: Stub, run: Any) -> None:
    assert run("node", "delete", "../ports/x?y").exit_code == 1
    assert stub.last("DELETE").path == "/v1/nodes/..%2Fports%2Fx%3Fy"


@pytest.mark.parametrize("format_", ["json", "yaml"])
def test_status_for_programs(stub: Stub, run: Any, format_: str) -> None:
    status = yaml.safe_load(run("status", "-o", format_).stdout)
    assert status["counts"] == {
        "nodes": 2, "networks": 1, "ports": 2, "ports_by_status": {"active": 1, "unbound": 1}
    }  # fmt: skip
    assert [(one["name"], one["state"], one["ports"]) for one in status["nodes"]] == [
        ("n1", "live", 1),
        ("n2", "disconnected", 0),
    ]
    assert [one["name"] for one in status["unbound_ports"]] == ["vm2"]


def test_status_for_people(stub: Stub, run: Any) -> None:
    text = run("status").stdout
    assert "2 nodes, 1 networks, 2 ports (1 active, 1 unbound)" in text
    before, after = text.split("unbound ports:")
    assert "n2" in before and "vm2" in after and "blue" in after and "no place for it" in after


def test_status_names_what_is_in_quarantine(stub: Stub, run: Any) -> None:
    row = {"kind": "port", "id": OTHER_PORT_ID, "name": "vm2", "node": None, "why": "mac: 'zz' is no MAC address"}
    stub.on("GET /v1/quarantine", (200, {"quarantine": [row]}))
    assert json.loads(run("status", "-o", "json").stdout)["quarantine"] == [row]
    shown = run("status").stdout.partition("quarantine")[2]
    assert "vm2" in shown and "is no MAC address" in shown


def test_status_for_a_member_who_may_not_see_nodes(stub: Stub, run: Any) -> None:
    for path in ("nodes", "quarantine", "problems"):
        stub.on(f"GET /v1/{path}", (403, refusal("forbidden", "the role of this token may not list these")))
    status = json.loads(run("status", "-o", "json").stdout)
    assert (status["nodes"], status["counts"]["nodes"], status["counts"]["ports"]) == ([], None, 2)
    text = run("status").stdout
    assert "0 nodes" not in text and "2 ports (1 active, 1 unbound); nodes are shown to administrators" in text


def problem(severity: str, kind: str, name: str, text: str) -> dict[str, Any]:
    return {
        "severity": severity,
        "kind": kind,
        "id": None if kind == "controller" else f"{name}-id",
        "name": name,
        "text": text,
    }


SILENT = problem("warning", "node", "n1", "its agent is silent")
NAMELESS = problem("warning", "port", "", "no place for it\x1b[2J")
AWAY = problem("critical", "controller", "database", "database: gone")


def test_status_names_what_is_wrong(stub: Stub, run: Any) -> None:
    stub.on("GET /v1/problems", (200, {"health": "warning", "problems": [SILENT, NAMELESS]}))
    assert json.loads(run("status", "-o", "json").stdout)["problems"] == [SILENT, NAMELESS]
    result = run("status")
    shown = result.stdout.partition("\nproblems:")[2].splitlines()
    assert shown[3].split() == ["warning", "node", "n1", "its", "agent", "is", "silent"]
    assert shown[4].split()[:3] == ["warning", "port", "-id"] and "\x1b" not in result.stdout
    assert result.exit_code == 0  # that is for --check
    stub.on("GET /v1/problems", (200, {"health": "ok", "problems": []}))
    assert "problems:" not in run("status").stdout


@pytest.mark.parametrize(
    ("health", "problems", "code", "lines"),
    [
        ("ok", [], 0, ["OK: nothing is wrong"]),
        ("warning", [SILENT], 1, ["WARNING: node n1: its agent is silent"]),
        (
            "critical",
            [AWAY, NAMELESS],
            2,
            ["CRITICAL: 2 problems", "controller database: database: gone", "port -id: no place for it\\x1b[2J"],
        ),
        ("never heard of", [], 3, ["NEVER HEARD OF: nothing is wrong"]),
    ],
)
def test_the_check_exits_by_health(
    stub: Stub, run: Any, health: str, problems: list[Any], code: int, lines: list[str]
) -> None:
    stub.on("GET /v1/problems", (200, {"health": health, "problems": problems}))
    result = run("status", "--check")
    assert (result.exit_code, result.stdout.splitlines(), result.stderr) == (code, lines, "")
    result = run("status", "--check", "-o", "json")
    assert (result.exit_code, json.loads(result.stdout)) == (code, {"health": health, "problems": problems})
    # a token that is for this alone is enough
    assert {request.path for request in stub.requests} == {"/v1/problems"}


def test_the_check_says_that_it_cannot_be_made(stub: Stub, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def made() -> tuple[int, str, str, str]:
        result, data = run("status", "--check"), run("status", "--check", "-o", "yaml")
        assert result.exit_code == data.exit_code
        assert len(result.stdout.splitlines()) == 1 and result.stderr == data.stderr == ""
        health = yaml.safe_load(data.stdout)
        return result.exit_code, result.stdout.partition(":")[0], health["health"], health["problems"][0]["text"]

    stub.on("GET /v1/problems", (401, refusal("unauthorized", "who are you")))
    assert made() == (3, "UNKNOWN", "unknown", "who are you (401 unauthorized)")
    monkeypatch.setenv("TRUNKLINE_URL", "http://127.0.0.1:1")
    assert made() == (2, "CRITICAL", "critical", "no answer from http://127.0.0.1:1: Connection refused")
    monkeypatch.delenv("TRUNKLINE_TOKEN")
    assert made()[:3] == (3, "UNKNOWN", "unknown")
