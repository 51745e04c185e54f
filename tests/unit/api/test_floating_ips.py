from __future__ import annotations

from typing import Any

import pytest

from tests.unit.api.world import World


@pytest.fixture
def port(world: World) -> dict[str, Any]:
    """Of project a, in a world with a pool of four addresses."""
    world.pool()
    return world.port(world.network(project_id="a")["id"])


def lead(world: World, floating_ip: dict[str, Any], port_id: str | None, token: str = "admin", **more: Any) -> Any:
    return world.call("PATCH", f"/v1/floating-ips/{floating_ip['id']}", {"port_id": port_id, **more}, token)


def test_a_floating_ip_from_beginning_to_end(world: World, port: dict[str, Any]) -> None:
    made = world.floating_ip(token="member-a")
    path = f"/v1/floating-ips/{made['id']}"
    shown = {name: made[name] for name in ("address", "pool", "project_id", "port_id", "fixed_ip", "status", "auto")}
    assert shown == {
        "address": "203.0.113.200",
        "pool": "public",
        "project_id": "a",
        "port_id": None,
        "fixed_ip": None,
        "status": "down",
        "auto": False,
    }
    fixed_ip = port["fixed_ips"][0]["address"]
    led = world.ok("PATCH", path, {"port_id": port["id"]}, "member-a")
    assert (led["floating_ip"]["port_id"], led["floating_ip"]["fixed_ip"]) == (port["id"], fixed_ip)
    assert led["revision"] == world.services.snapshot().revision
    assert world.services.snapshot().floating_ips_of(port["id"])[0].id == made["id"]
    assert world.ok("GET", f"/v1/ports/{port['id']}")["port"]["floating_ips"] == [
        {"id": made["id"], "address": "203.0.113.200", "fixed_ip": fixed_ip}
    ]
    assert world.ok("GET", path)["floating_ip"] == led["floating_ip"]
    world.ok("PATCH", path, {"port_id": None}, "member-a")
    assert world.ok("GET", f"/v1/ports/{port['id']}")["port"]["floating_ips"] == []
    gone = world.ok("DELETE", path, token="member-a")
    assert gone["floating_ip"]["id"] == made["id"]
    assert world.call("GET", path).refusal == (404, "floating_ip_unknown", None)
    assert world.call("DELETE", path).refusal[:2] == (404, "floating_ip_unknown")
    events = [entry.payload["events"] for entry in world.store.journal(kind="floating_ip")]
    assert events == [["allocate"], ["associate"], ["disassociate"], ["release"]]
