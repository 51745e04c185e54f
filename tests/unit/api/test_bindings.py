from __future__ import annotations

from typing import Any

import pytest

from tests.unit.api.world import World


@pytest.fixture
def path(world: World) -> str:
    """The bindings of a port that is bound to n1 and expected by n2."""
    return f"/v1/ports/{world.moving(world.network(project_id='a')['id'], 'n1', 'n2')['id']}/bindings"


def shown(world: World, path: str) -> list[tuple[str, str]]:
    return [(one["node"], one["status"]) for one in world.ok("GET", path)["bindings"]]


def test_a_move(world: World, path: str) -> None:
    assert shown(world, path) == [("n1", "active"), ("n2", "prepared")]
    answer = world.ok("PUT", f"{path}/n2/activate")
    assert answer["binding"] == {"node": "n2", "status": "active", "ofport": 100}
    assert shown(world, path) == [("n2", "active"), ("n1", "moved")]
    left = world.ok("DELETE", f"{path}/n1")
    assert left["binding"]["node"] == "n2" and left["revision"] > answer["revision"]
    assert shown(world, path) == [("n2", "active")]


def test_a_rollback(world: World, path: str) -> None:
    assert world.ok("DELETE", f"{path}/n2")["binding"]["node"] == "n1"
    assert shown(world, path) == [("n1", "active")]


def test_expected_and_not_seen_yet(world: World) -> None:
    port = world.port(world.network()["id"])
    path = f"/v1/ports/{port['id']}/bindings"
    assert shown(world, path) == []
    world.node("n1"), world.node("n2", 2)
    assert world.call("POST", path, {"node": "n2"}).refusal == (409, "port_unbound", "node")
    interfaces = [{"iface_id": port["id"], "ofport": 100}]
    world.ok("PUT", "/v1/nodes/n1/interfaces", {"serial": 1, "interfaces": interfaces}, "agent")
    made = world.call("POST", path, {"node": "n2"})
    assert (made.status, made.json["binding"]) == (201, {"node": "n2", "status": "prepared", "ofport": None})
    assert world.call("PUT", f"{path}/n2/activate").refusal == (409, "binding_unseen", "node")


@pytest.mark.parametrize(
    ("method", "tail", "body", "refusal"),
    [
        ("POST", "", {"node": "n1"}, (409, "binding_exists", "node")),
        ("POST", "", {"node": "n9"}, (404, "node_unknown", "node")),
        ("POST", "", {}, (400, "missing_field", "node")),
        ("POST", "", {"node": "n2", "x": 1}, (400, "unknown_field", "x")),
        ("DELETE", "/n1", None, (409, "binding_active", None)),
        ("DELETE", "/n3", None, (404, "binding_unknown", None)),
        ("PUT", "/n3/activate", None, (404, "binding_unknown", None)),
    ],
)
def test_refusals(world: World, path: str, method: str, tail: str, body: Any, refusal: tuple[int, str, str]) -> None:
    status, code, field = world.call(method, path + tail, body).refusal
    assert (status, code) == refusal[:2]
    assert field in (refusal[2], "node")


def test_an_unknown_port(world: World) -> None:
    path = "/v1/ports/7d5ea0a2-5a55-4bd2-b1e0-0d63a3b0a0ef/bindings"
    for method, tail, body in (("GET", "", None), ("POST", "", {"node": "n1"}), ("PUT", "/n1/activate", None)):
        assert world.call(method, path + tail, body).refusal[:2] == (404, "port_unknown")
