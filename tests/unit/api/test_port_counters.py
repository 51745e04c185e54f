"""GET /v1/ports/{id}/counters"""

from __future__ import annotations

from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from controller.api.gate import make_app
from controller.port_counters import PortCounts, Traffic
from controller.session_questions import NoAnswer
from flows.model import Port
from tests.unit.api.world import World

COUNTS = PortCounts("n1", Traffic(1, 2, 3), Traffic(4, 5, 6), {"drop_spoofed": 7}, {"packet_in": 8})


def answering(world: World, counts: PortCounts | None, error: NoAnswer | None = None) -> None:
    def counters(port: Port) -> PortCounts | None:
        if error is not None:
            raise error
        return counts

    world.services = replace(
        world.services,
        port_counters=counters,
        port_mutes=lambda node, key: {"punt_dhcp": 9},
        registry=CollectorRegistry(),
    )
    world.app = make_app(world.services)


def bound_port(world: World) -> str:
    world.node("n1")
    port = world.port(world.network(project_id="a")["id"], project_id="a")
    seen = {"serial": 1, "interfaces": [{"iface_id": port["id"], "ofport": 100}]}
    world.ok("PUT", "/v1/nodes/n1/interfaces", seen, "agent")
    return str(port["id"])


def test_counters(world: World) -> None:
    port_id = bound_port(world)
    answering(world, COUNTS)
    wanted = {
        "port_id": port_id,
        "node": "n1",
        "received": {"packets": 1, "bytes": 2, "dropped": 3},
        "sent": {"packets": 4, "bytes": 5, "dropped": 6},
        "drops": {"drop_spoofed": 7},
        "exceeded": {"packet_in": 8},
        "muted": {"punt_dhcp": 9},
    }
    for who in ("admin", "member-a", "reader"):
        assert world.ok("GET", f"/v1/ports/{port_id}/counters", token=who)["counters"] == wanted
    assert world.call("GET", f"/v1/ports/{port_id}/counters", token="member-b").refusal[:2] == (404, "port_unknown")


def test_a_port_shows_that_it_is_muted(world: World) -> None:
    port_id = bound_port(world)
    assert world.ok("GET", f"/v1/ports/{port_id}")["port"]["muted"] == {}
    answering(world, COUNTS)
    for shown in (
        world.ok("GET", f"/v1/ports/{port_id}")["port"],
        world.ok("GET", "/v1/ports")["ports"][0],
        world.ok("PATCH", f"/v1/ports/{port_id}", {"name": "x"})["port"],
    ):
        assert shown["muted"] == {"punt_dhcp": 9}
    assert world.port(shown["network_id"])["muted"] == {}, "on no node"
    assert world.call("PATCH", f"/v1/ports/{port_id}", {"muted": {}}).refusal == (400, "immutable", "muted")


@pytest.mark.parametrize(("error", "refusal"), [(None, (409, "not_bound")), (NoAnswer("x"), (503, "node_silent"))])
def test_no_counters(world: World, error: NoAnswer | None, refusal: tuple[int, str]) -> None:
    port_id = bound_port(world)
    answering(world, None, error)
    assert world.call("GET", f"/v1/ports/{port_id}/counters").refusal[:2] == refusal
    network_id = world.ok("GET", f"/v1/ports/{port_id}")["port"]["network_id"]
    unbound = world.port(network_id)["id"]
    assert world.call("GET", f"/v1/ports/{unbound}/counters").refusal[:2] == (409, "not_bound")
