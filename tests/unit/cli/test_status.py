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
    for path in ("nodes", "quarantine"):
        stub.on(f"GET /v1/{path}", (403, refusal("forbidden", "the role of this token may not list these")))
    status = json.loads(run("status", "-o", "json").stdout)
    assert (status["nodes"], status["counts"]["nodes"], status["counts"]["ports"]) == ([], None, 2)
    text = run("status").stdout
    assert "0 nodes" not in text and "2 ports (1 active, 1 unbound); nodes are shown to administrators" in text
