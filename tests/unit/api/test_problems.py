"""GET /v1/problems: what is wrong, how bad that is, and who is told."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from controller.api.gate import make_app
from controller.api.nodes import AGENT_SILENT
from controller.errands import Errands
from controller.store.specs import Unavailable
from flows.segments import Kind
from tests.unit.api.world import World

HEALTHY = {"health": "ok", "problems": []}


def serve(world: World, **services: Any) -> None:
    world.app = make_app(replace(world.services, registry=CollectorRegistry(), **services))


def told(world: World, token: str = "admin") -> list[tuple[str, str, str, str]]:
    """Severity, kind, name and text of each; ids lead to what they are of."""
    found = world.ok("GET", "/v1/problems", token=token)
    severities = [one["severity"] for one in found["problems"]]
    assert found["health"] == (severities[0] if severities else "ok")
    for one in found["problems"]:
        if one["id"] is not None:
            world.ok("GET", f"/v1/{one['kind']}s/{one['id']}")
    return [(one["severity"], one["kind"], one["name"], one["text"]) for one in found["problems"]]


@pytest.fixture
def cloud(world: World) -> World:
    """Healthy: a node, a network of project a with a port there, and one that is plugged in nowhere."""
    world.node("n1", 1)
    blue = world.network(name="blue", project_id="a")
    plugged = world.port(blue["id"], name="web", project_id="a")
    world.port(blue["id"], name="spare", project_id="a")
    seen = {"serial": 1, "uplinks": {"physnet1": 65001}, "interfaces": [{"iface_id": plugged["id"], "ofport": 100}]}
    world.ok("PUT", "/v1/nodes/n1/interfaces", seen, "agent")
    return world


def test_a_healthy_cloud_has_none(cloud: World) -> None:
    for token in ("admin", "reader", "member-a"):
        assert cloud.ok("GET", "/v1/problems", token=token) == HEALTHY
    assert cloud.call("GET", "/v1/problems", token="agent").status == 403


def test_of_nodes(cloud: World) -> None:
    cloud.disconnected.add("n1")
    away = [("warning", "node", "n1", "its switch is not connected: VMs go on there, without new leases")]
    assert told(cloud) == told(cloud, "reader") == away
    assert told(cloud, "member-a") == []
    serve(cloud, node_state=lambda name: {"state": "syncing", "quarantined_flows": 2})
    assert [text for *_, text in told(cloud)] == [
        "its switch is being brought up to date (syncing)",
        "its switch has refused 2 flows",
    ]
    errands = Errands(longest_poll=0.0, clock=lambda: cloud.now)
    errands.fetch("n1", 0.0)
    cloud.now += 60
    serve(cloud, errands=errands)
    cloud.disconnected.clear()
    assert told(cloud) == [("warning", "node", "n1", AGENT_SILENT)]


def test_of_networks(cloud: World) -> None:
    cloud.network(name="far", project_id="a", physical_network="physnet9", subnets=[{"cidr": "10.9.0.0/24"}])
    nowhere = ("warning", "network", "far", "no registered node has the physical network 'physnet9'")
    assert told(cloud) == [nowhere]
    assert told(cloud, "member-a") == []  # how the cloud is built is the operator's
    single = cloud.network(name="one", gateway_mode="single", subnets=[{"cidr": "10.8.0.0/24"}])
    assert told(cloud) == [nowhere]
    port = cloud.port(single["id"])
    seen = {"serial": 2, "uplinks": {"physnet1": 65001}, "interfaces": [{"iface_id": port["id"], "ofport": 101}]}
    cloud.ok("PUT", "/v1/nodes/n1/interfaces", seen, "agent")
    assert told(cloud) == [nowhere]
    cloud.disconnected.add("n1")
    lost = "its gateway node n1 is not connected (none has taken over)"
    assert told(cloud)[1:] == [nowhere, ("warning", "network", "one", lost)]


def test_of_ports(cloud: World) -> None:
    far = cloud.network(name="far", physical_network="physnet9", subnets=[{"cidr": "10.9.0.0/24"}])
    port = cloud.port(far["id"], name="lost", project_id="b")
    seen = {"serial": 2, "uplinks": {"physnet1": 65001}, "interfaces": [{"iface_id": port["id"], "ofport": 101}]}
    cloud.ok("PUT", "/v1/nodes/n1/interfaces", seen, "agent")
    why = cloud.ok("GET", f"/v1/ports/{port['id']}")["port"]["binding_error"]
    assert "physnet9" in why
    assert told(cloud, "member-b") == [("warning", "port", "lost", why)] == told(cloud)[1:]
    assert told(cloud, "member-a") == []


def test_what_is_left_out_is_counted(cloud: World) -> None:
    port = cloud.ok("GET", "/v1/ports?name=spare")["ports"][0]["id"]
    with closing(sqlite3.connect(cloud.store._database.url.removeprefix("sqlite:///"))) as database, database:
        database.execute("UPDATE ports SET mac = 'zz' WHERE id = ?", (port,))
    cloud.store.load_snapshot()
    serve(cloud, not_compiled=lambda: [("n1", (Kind.PORT, port), "KeyError: 'x'")])
    assert [(severity, name, text[:9]) for severity, _, name, text in told(cloud)] == [
        ("warning", "quarantine", "2 objects")
    ]
    assert told(cloud, "member-a") == []


def test_a_controller_that_cannot_do_its_work_is_the_worst(cloud: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is known without a database is told without one."""

    def away(**_filters: object) -> list[object]:
        raise Unavailable("database_unavailable", "gone")

    cloud.disconnected.add("n1")
    for name in ("list_nodes", "list_networks", "list_ports"):
        monkeypatch.setattr(cloud.store, name, away)
    serve(cloud, ready=lambda: {"database": "database_unavailable", "flows": "ok"})
    found = cloud.ok("GET", "/v1/problems", token="reader")
    assert found["health"] == "critical"
    assert [(one["severity"], one["kind"], one["name"]) for one in found["problems"]] == [
        ("critical", "controller", "database"),
        ("warning", "node", "n1"),
    ]
    assert cloud.ok("GET", "/v1/problems", token="member-a")["health"] == "critical"


def test_a_token_for_metrics_is_enough(cloud: World) -> None:
    made = cloud.ok("POST", "/v1/tokens", {"name": "nagios", "role": "reader", "scopes": ["metrics:read"]})["token"]
    bearer = f"Bearer {made['secret']}"
    assert cloud.ok("GET", "/v1/problems", token=bearer) == HEALTHY
    assert cloud.call("GET", "/v1/ports", token=bearer).status == 403
