"""`trunkline trace`."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.cli.stub import Stub


def answer(verdict: str, *, arrives: bool = True, **more: Any) -> dict[str, Any]:
    step = {"table": 4, "table_name": "port_security", "rule": "allow_ip", "object": None, "text": "it may"}
    hop = {
        "node": "n1",
        "in": {"kind": "port", "name": "web1\x1b[2J", "id": "p1"},
        "steps": [step],
        "out": [{"kind": "physical_network", "name": "physnet1", "id": None}],
        "drop": None,
    }
    whole = {"arrives": arrives, "verdict": verdict, "summary": f"{verdict} it is", "packet": {}, "findings": []}
    return {**whole, "hops": [hop], "reply": None, "live": None, **more}


STEP = {"table": 4, "table_name": "port_security", "rule": "allow_ip", "object": None, "text": "it may"}
OTHER = {"table": 44, "table_name": "l2_forward", "rule": "not_ours", "object": None, "text": "none of ours\x1b[2J"}
LIVE = {
    "node": "n1",
    "agrees": False,
    "text": "decides otherwise: so\x1b[2J",
    "steps": [STEP, OTHER],
    "alike": 1,
    "actions": ["ct", "drop"],
    "outputs": ["Flow: x", "Flow: y"],
}
SAME = {**LIVE, "agrees": True, "text": "decides the same", "steps": [STEP], "alike": 1}
VAIN = {
    **LIVE,
    "agrees": None,
    "text": "was asked in vain: busy",
    "steps": [],
    "alike": 0,
    "actions": [],
    "outputs": [],
}


def dropped() -> dict[str, Any]:
    hop = answer("dropped")["hops"][0]
    return {**hop, "node": "n2", "out": [], "drop": {"rule": "drop_ingress", "text": "no group", "object": None}}


def test_the_request(stub: Stub, run: Any) -> None:
    stub.on("POST /v1/trace", (200, answer("delivered")))
    assert run("trace", "web1", "--to", "db1").exit_code == 0
    assert stub.last("POST").body == {"port": "web1", "to": "db1", "reply": True, "live": False}
    options = [
        "--proto",
        "tcp",
        "--dport",
        "80",
        "--sport",
        "7",
        "--size",
        "1500",
        "--ttl",
        "3",
        "--live",
        "--no-reply",
    ]
    run("trace", "web1", "--to", "192.0.2.1", *options, "--from-address", "10.0.0.9", "--from-mac", "02:00:00:00:00:01")
    assert stub.last("POST").body == {
        "port": "web1",
        "to": "192.0.2.1",
        "protocol": "tcp",
        "destination_port": 80,
        "source_port": 7,
        "size": 1500,
        "ttl": 3,
        "from_address": "10.0.0.9",
        "from_mac": "02:00:00:00:00:01",
        "reply": False,
        "live": True,
    }
    run("trace", "--from-outside", "198.51.100.9", "--to", "203.0.113.7", "--proto", "47")
    assert stub.last("POST").body["from_address"] == "198.51.100.9" and stub.last("POST").body["protocol"] == 47


@pytest.mark.parametrize(
    "wrong", [("--to", "x"), ("web1",), ("web1", "--to", "x", "--from-outside", "192.0.2.1")], ids=str
)
def test_what_is_no_question(stub: Stub, run: Any, wrong: tuple[str, ...]) -> None:
    assert run("trace", *wrong).exit_code == 2
    assert not stub.requests


def test_the_text(stub: Stub, run: Any) -> None:
    findings = [{"severity": "error", "text": "port db1 is on no node"}, {"severity": "note", "text": "by the way"}]
    whole = answer("dropped", arrives=False, findings=findings, live=[LIVE, VAIN])
    whole["hops"].append(dropped())
    whole["reply"] = answer("delivered", live=[SAME])
    stub.on("POST /v1/trace", (200, whole))
    result = run("trace", "web1", "--to", "db1")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "dropped it is",
        "",
        "error  port db1 is on no node",
        "note   by the way",
        "",
        "n1, from port web1\\x1b[2J",
        "    4  port_security  it may",
        "  ->  physnet1",
        "  Open vSwitch decides otherwise: so\\x1b[2J",
        "   44  l2_forward     none of ours\\x1b[2J",
        "  ->  drop",
        "",
        "n2, from port web1\\x1b[2J",
        "    4  port_security  it may",
        "   x  dropped: drop_ingress",
        "  Open vSwitch was asked in vain: busy",
        "",
        "the answer",
        "delivered it is",
        "",
        "n1, from port web1\\x1b[2J",
        "    4  port_security  it may",
        "  ->  physnet1",
        "  Open vSwitch decides the same",
    ]


def test_the_forms_of_the_answer(stub: Stub, run: Any) -> None:
    stub.on("POST /v1/trace", (200, answer("answered")))
    asked = ("trace", "web1", "--to", "db1", "-o")
    assert json.loads(run(*asked, "json").stdout) == answer("answered") == yaml.safe_load(run(*asked, "yaml").stdout)


def test_the_exit_status(stub: Stub, run: Any) -> None:
    for arrives in (True, False):
        stub.on("POST /v1/trace", (200, answer("delivered", arrives=arrives)))
        assert run("trace", "web1", "--to", "db1").exit_code == (0 if arrives else 1)


def test_each_line_of_the_documents_is_taken(stub: Stub, run: Any) -> None:
    stub.on("POST /v1/trace", (200, answer("delivered")))
    docs = Path(__file__).parents[3] / "docs"
    lines = re.findall(r"trunkline (trace [^`\n]*--to [^`\n]*)", (docs / "troubleshooting.md").read_text())
    assert len(lines) > 10
    for line in lines:
        assert run(*shlex.split(line)).exit_code == 0, line


def test_who_may_not_be_named_is_no_port_of_that_name(stub: Stub, run: Any) -> None:
    whole = answer("delivered")
    whole["hops"][0]["out"] = [{"kind": "port", "name": "a port of another project", "id": None}]
    stub.on("POST /v1/trace", (200, whole))
    assert "  ->  a port of another project" in run("trace", "web1", "--to", "db1").stdout.splitlines()
