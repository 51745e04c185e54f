"""What the controller does without is named, with why."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace

from prometheus_client import CollectorRegistry

from controller.api.gate import make_app
from flows.segments import Kind
from tests.unit.api.world import World


def test_threat_29_what_is_in_quarantine_is_named(world: World) -> None:
    net = world.network()
    ports = [world.port(net["id"], name=name) for name in ("good", "bad", "broken")]
    assert world.ok("GET", "/v1/quarantine") == {"quarantine": []}
    with closing(sqlite3.connect(world.store._database.url.removeprefix("sqlite:///"))) as database, database:
        database.execute("UPDATE ports SET mac = 'zz' WHERE id = ?", (ports[1]["id"],))
    world.store.load_snapshot()
    broken = ("n1", (Kind.PORT, ports[2]["id"]), "KeyError: 'x'")
    services = replace(world.services, not_compiled=lambda: [broken], registry=CollectorRegistry())
    world.app = make_app(services)
    why = "port: mac: 'zz' is no MAC address of an interface"
    assert world.ok("GET", "/v1/quarantine", token="reader")["quarantine"] == [
        {"kind": "port", "id": ports[1]["id"], "name": "bad", "node": None, "why": why},
        {"kind": "port", "id": ports[2]["id"], "name": "broken", "node": "n1", "why": "KeyError: 'x'"},
    ]
    metrics = world.call("GET", "/metrics").data.decode()
    assert 'trunkline_quarantined_objects{kind="port"} 1.0' in metrics
    assert 'trunkline_segments_not_compiled{node="n1"} 1.0' in metrics
    # in a list it is left out, and alone it says why
    assert [port["name"] for port in world.ok("GET", "/v1/ports")["ports"]] == ["good", "broken"]
    reply = world.call("GET", f"/v1/ports/{ports[1]['id']}")
    assert reply.refusal[:2] == (409, "object_unreadable") and why in reply.error["message"]


def test_there_is_nothing_to_be_filtered_by(world: World) -> None:
    assert world.call("GET", "/v1/quarantine?limit=1").refusal == (400, "unknown_field", "limit")
