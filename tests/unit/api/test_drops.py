"""GET /v1/drops"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from controller.api.gate import make_app
from controller.drops import Drops
from controller.session_questions import NoAnswer
from flows.rules import Rule, cookie
from tests.unit.api.world import World
from tests.unit.flows.test_statistics import reply, struct


@pytest.fixture
def ports(world: World) -> dict[str, Any]:
    """Of two projects on one node, whose switch has dropped of both. A second node does not answer."""
    made = {}
    for number, project in enumerate("ab"):
        network = world.network(name=project, project_id=project, subnets=[{"cidr": f"10.{number}.0.0/24"}])
        made[project] = world.port(network["id"], project_id=project, name=f"web-{project}")
    world.node("n1", 1)
    world.node("n2", 2)
    seen = [{"iface_id": made[project]["id"], "ofport": 100 + ord(project)} for project in "ab"]
    world.ok("PUT", "/v1/nodes/n1/interfaces", {"serial": 1, "interfaces": seen}, "agent")
    network_key = world.ok("GET", f"/v1/networks/{made['a']['network_id']}")["network"]["key"]
    counted = {
        cookie(Rule.DROP_SPOOFED, made["a"]["key"]): 3,
        cookie(Rule.DROP_SPOOFED, made["b"]["key"]): 4,
        cookie(Rule.DROP_UPLINK_GATEWAY, network_key): 5,
        cookie(Rule.DROP_EXTERNAL): 6,
    }

    def ask(node: str, request: Callable[[int], bytes], timeout_s: float) -> list[bytes]:
        if node != "n1":
            raise NoAnswer("silence")
        wanted, mask = struct.unpack_from("!QQ", request(0), 16 + 16)
        return [
            reply(1, struct.pack("!HBxIIHHHH4xQQQ", 56, 4, 0, 0, 0, 0, 0, 0, value, packets, packets * 9) + bytes(8))
            for value, packets in counted.items()
            if value & mask == wanted
        ]

    world.services = replace(world.services, drops=Drops(ask), registry=CollectorRegistry())
    world.app = make_app(world.services)
    return made


def told(world: World, query: str = "", token: str = "admin") -> list[tuple[str, str | None, int]]:
    found = world.ok("GET", f"/v1/drops{query}", token=token)["drops"]
    return [(drop["rule"], drop["port_name"], drop["packets"]) for drop in found]


EVERYTHING = [
    ("drop_uplink_gateway", None, 5),
    ("drop_spoofed", "web-b", 4),
    ("drop_spoofed", "web-a", 3),
    ("drop_external", None, 6),
]
"""Most first, and what is normal last."""


def test_everything(world: World, ports: dict[str, Any]) -> None:
    assert told(world) == told(world, "?node=n1") == told(world, token="reader") == EVERYTHING
    answer = world.ok("GET", "/v1/drops")
    assert answer["silent"] == ["n2"]
    assert [drop["normal"] for drop in answer["drops"]] == [False, False, False, True]
    assert answer["drops"][0] == {
        "rule": "drop_uplink_gateway",
        "text": Rule.DROP_UPLINK_GATEWAY.doc,
        "normal": False,
        "port_id": None,
        "port_name": None,
        "network_id": ports["a"]["network_id"],
        "network_name": "a",
        "node": "n1",
        "packets": 5,
        "bytes": 45,
    }


def test_of_a_port(world: World, ports: dict[str, Any]) -> None:
    one = f"?port_id={ports['a']['id']}"
    assert told(world, one) == told(world, one, "member-a") == [("drop_spoofed", "web-a", 3)]
    assert told(world, f"{one}&node=n1") == [("drop_spoofed", "web-a", 3)]
    assert told(world, f"{one}&node=n2") == []
    unbound = world.port(ports["a"]["network_id"])["id"]
    assert told(world, f"?port_id={unbound}") == []


def test_a_project_sees_its_own_ports(world: World, ports: dict[str, Any]) -> None:
    for query in ("", "?node=n1"):
        assert told(world, query, "member-a") == [("drop_spoofed", "web-a", 3)]
    assert told(world, "?node=n2", "member-a") == told(world, "?node=n9", "member-a") == []
    refused = world.call("GET", f"/v1/drops?port_id={ports['a']['id']}", token="member-b")
    assert refused.refusal[:2] == (404, "port_unknown")
    assert world.call("GET", "/v1/drops", token="agent").status == 403


def test_no_answer(world: World, ports: dict[str, Any]) -> None:
    assert world.call("GET", "/v1/drops?node=n9").refusal == (404, "node_unknown", "node")
    assert world.ok("GET", "/v1/drops?node=n2") == {"drops": [], "silent": ["n2"]}
    moving = world.port(ports["a"]["network_id"])["id"]
    seen = {"serial": 1, "interfaces": [{"iface_id": moving, "ofport": 100}]}
    world.ok("PUT", "/v1/nodes/n2/interfaces", seen, "agent")
    assert world.call("GET", f"/v1/drops?port_id={moving}").refusal[:2] == (503, "node_silent")
