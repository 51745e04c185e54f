"""`trunkline address`: what is sent, what is printed, and plans as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from controller.cli import address_plan
from controller.cli.address_plan import PlanFormat
from tests.unit.cli.stub import NETWORK_ID, Request, Stub, refusal

CSV = """\
# the office
kind,network,address,mac,name,hostname,project,device_id

reserved,blue,10.0.0.1-10.0.0.9,,,,,
port,blue,10.0.0.20,02:00:00:00:00:01,"web, one",web1,p1,vm1
port,green,10.1.0.20,,,,,
"""
YAML = """\
networks:
  blue:
    reserved:
      - 10.0.0.1-10.0.0.9
    ports:
      - {address: 10.0.0.20, mac: 02:00:00:00:00:01, name: "web, one", hostname: web1, project: p1, device_id: vm1}
  green:
    ports:
      - address: 10.1.0.20
        name: ~
"""
ENTRIES = [
    {"kind": "reserved", "network": "blue", "address": "10.0.0.1-10.0.0.9"},
    {
        "kind": "port",
        "network": "blue",
        "address": "10.0.0.20",
        "mac": "02:00:00:00:00:01",
        "name": "web, one",
        "hostname": "web1",
        "project_id": "p1",
        "device_id": "vm1",
    },
    {"kind": "port", "network": "green", "address": "10.1.0.20"},
]


@pytest.mark.parametrize(
    ("text", "format_", "lines"), [(CSV, PlanFormat.CSV, [4, 5, 6]), (YAML, PlanFormat.YAML, [4, 6, 9])]
)
def test_both_forms_say_the_same(text: str, format_: PlanFormat, lines: list[int]) -> None:
    plan = address_plan.read(text, format_)
    assert plan.mistakes == []
    assert [entry.fields for entry in plan.entries] == ENTRIES
    assert [entry.line for entry in plan.entries] == lines


@pytest.mark.parametrize("format_", PlanFormat)
def test_what_is_written_is_read(format_: PlanFormat) -> None:
    network = {"name": "blue", "subnets": [{"reserved": [{"first": "10.0.0.1", "last": "10.0.0.1"}]}]}
    port = {
        "mac": "02:00:00:00:00:01",
        "name": "=1+1",
        "hostname": "",
        "project_id": None,
        "device_id": "123",
        "fixed_ips": [{"address": "10.0.0.20"}, {"address": "10.0.0.21"}],
    }
    text = address_plan.write(address_plan.entries_of(network, [port]), format_)
    plan = address_plan.read(text, format_)
    assert plan.mistakes == []
    both = {"kind": "port", "network": "blue", "mac": "02:00:00:00:00:01", "name": "=1+1", "device_id": "123"}
    assert [entry.fields for entry in plan.entries] == [
        {"kind": "reserved", "network": "blue", "address": "10.0.0.1"},
        both | {"address": "10.0.0.20"},
        both | {"address": "10.0.0.21"},
    ]


@pytest.mark.parametrize(
    ("text", "format_", "mistakes"),
    [
        ("", "csv", [(1, "there is no line of titles")]),
        ("kind,network,adress\n", "csv", [(1, "unknown: adress")]),
        ("kind,network\n", "csv", [(1, "missing: address")]),
        ("kind,network,address,kind\n", "csv", [(1, "twice")]),
        (
            "kind,network,address\nport,,\n\nvm,a,b\nport,a\n",
            "csv",
            [(2, "network, address"), (4, "'vm'"), (5, "2 fields")],
        ),
        ('kind,network,address\nport,"a,b\n', "csv", [(2, "unexpected end of data")]),
        ("networks: [", "yaml", [(1, "")]),
        ("", "yaml", [(1, "networks")]),
        ("net: {}\nnetworks: 3\n", "yaml", [(1, "only 'networks'"), (2, "networks by name")]),
        (
            "networks:\n  a:\n    ports:\n    - {address: 10.0.0.1, mac: [1]}\n    - 7\n",
            "yaml",
            [(4, "mac"), (5, "a port")],
        ),
        ("networks:\n  a:\n    prots: []\n    reserved:\n    - [1]\n", "yaml", [(3, "prots"), (5, "FIRST-LAST")]),
        ("networks:\n  a: {}\n  a: {}\n", "yaml", [(3, "twice")]),
        (
            "networks:\n  ? {a: b}\n  : {}\n  ? [c]\n  : {}\n",
            "yaml",
            [(2, "networks by name"), (4, "networks by name")],
        ),
        (
            "networks:\n  a:\n    ports:\n    - {name: x}\n    - {address: 10.0.0.1, nmae: x}\n",
            "yaml",
            [(4, "address"), (5, "nmae")],
        ),
    ],
)
def test_every_mistake_has_its_line(text: str, format_: str, mistakes: list[tuple[int, str]]) -> None:
    found = address_plan.read(text, PlanFormat(format_)).mistakes
    assert [mistake.line for mistake in found] == [line for line, _ in mistakes]
    assert all(part in mistake.message for mistake, (_, part) in zip(found, mistakes, strict=True)), found


def test_import(stub: Stub, run: Any, tmp_path: Path) -> None:
    file = tmp_path / "plan.csv"
    file.write_text(CSV)
    outcome = {"actions": ["reserve", "create", "keep"], "problems": []}
    stub.on("POST /v1/address-plans", (200, {"address_plan": outcome, "revision": 7}))
    stub.on("GET /v1/revisions/7", (200, {"revision": 7}))
    checked = run("address", "import", str(file), "--check", "--wait")
    assert checked.exit_code == 0 and stub.requests[-1].body == {"entries": ENTRIES, "check": True}
    assert [line.split()[:2] for line in checked.stdout.splitlines()[2:]] == [
        ["4", "reserve"],
        ["5", "create"],
        ["6", "keep"],
    ]
    run("address", "import", str(file), "--wait")
    assert stub.requests[-1].path == "/v1/revisions/7"
    assert stub.last("POST").body["check"] is False


def test_import_names_each_mistake_with_its_line(stub: Stub, run: Any, tmp_path: Path) -> None:
    file = tmp_path / "plan.csv"
    file.write_text(CSV)
    problems = [{"entry": 2, "code": "network_unknown", "message": "there is no network green"}]
    replies = (
        (409, refusal("plan_refused", "no", "entries.2", problems=problems), "6: there is no network green"),
        (200, {"address_plan": {"actions": [], "problems": problems}, "revision": 1}, "6: there is no network green"),
        (400, refusal("invalid_field", "entries.1.mac: must be a MAC", "entries.1.mac"), "5: mac: must be a MAC"),
    )
    for status, body, line in replies:
        stub.on("POST /v1/address-plans", (status, body))
        result = run("address", "import", str(file))
        assert result.exit_code == 1
        assert result.stderr.splitlines()[0] == f"{file}:{line}"
        assert "nothing was done" in result.stderr
    before = len(stub.requests)
    file.write_text(CSV + "port\nvm,a,b,,,,,\n")
    result = run("address", "import", str(file))
    assert [line.split(":")[1] for line in result.stderr.splitlines()[:2]] == ["7", "8"]
    assert len(stub.requests) == before  # not even asked


def test_export(stub: Stub, run: Any) -> None:
    network = {"id": NETWORK_ID, "name": "blue", "subnets": [{"reserved": [{"first": "10.0.0.1", "last": "10.0.0.9"}]}]}
    port = {"id": "p", "mac": "02:00:00:00:00:01", "name": "web", "fixed_ips": [{"address": "10.0.0.20"}]}
    stub.on("GET /v1/networks", (200, {"networks": [network]}))
    stub.on("GET /v1/ports", (200, {"ports": [port]}))
    assert run("address", "export").stdout.splitlines()[1:] == [
        "reserved,blue,10.0.0.1-10.0.0.9,,,,,",
        "port,blue,10.0.0.20,02:00:00:00:00:01,web,,,",
    ]
    assert "reserved:" in run("address", "export", "blue", "--format", "yaml").stdout
    stub.on("GET /v1/networks", (200, {"networks": [network, network]}))
    assert NETWORK_ID in run("address", "export").stdout
    stub.on(f"GET /v1/networks/{NETWORK_ID}", (200, {"network": network}))
    assert f"reserved,{NETWORK_ID},10.0.0.1-10.0.0.9," in run("address", "export", NETWORK_ID).stdout


def test_list_history_and_reservations(stub: Stub, run: Any) -> None:
    stub.on("GET /v1/networks", (200, {"networks": [{"id": NETWORK_ID, "name": "blue"}]}))
    path = f"/v1/networks/{NETWORK_ID}/addresses"
    one = {"address": "10.0.0.5", "state": "held", "leased": True, "held_until": "2026-11-25T10:00:00Z"}
    stub.on(f"GET {path}", (200, {"addresses": [one]}))
    assert json.loads(run("address", "list", "blue", "-o", "json").stdout) == [one]
    assert "2026-11-25T10:00:00Z" in run("address", "list", "blue").stdout
    for method, name in (("PUT", "reserve"), ("DELETE", "unreserve")):
        stub.on(f"{method} {path}/10.0.0.5/reservation", (200, {"network": {"id": NETWORK_ID}, "revision": 3}))
        assert run("address", name, "blue", "10.0.0.5").exit_code == 0
    stub.on(f"DELETE {path}/10.0.0.5/hold", (200, {"address": {"address": "10.0.0.5"}, "revision": 3}))
    assert run("address", "release", "blue", "10.0.0.5").exit_code == 0
    record = {"from": "2026-11-25T10:00:00Z", "until": None, "port_name": "web", "network_name": "blue", "kind": "port"}
    asked: list[Request] = []
    stub.on("GET /v1/address-history", lambda request: (asked.append(request), (200, {"address_history": [record]}))[1])
    result = run("address", "history", "10.0.0.5", "--network", NETWORK_ID, "--at", "2026-11-25T10:00")
    assert "web" in result.stdout
    assert asked[0].query == {"address": "10.0.0.5", "network_id": NETWORK_ID, "at": "2026-11-25T10:00"}
    stub.on("GET /v1/ports", (200, {"ports": []}))
    run("port", "list", "--address", r"^10\.0\.0\.1")
    assert stub.last("GET").query["address"] == r"^10\.0\.0\.1"
    stub.on("PATCH /v1/quotas/p", (200, {"quota": {}, "revision": 4}))
    run("quota", "set", "p", "--fixed-ips", "5", "--ports", "none")
    assert stub.last("PATCH").body == {"fixed_ips": 5, "ports": None}
