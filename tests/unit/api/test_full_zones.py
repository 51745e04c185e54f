"""Ports that have used up their connections: told by agents, shown as problems, drops, events and figures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from controller.api.gate import make_app
from controller.events.feed import Feed
from controller.events.ring import Events
from controller.full_zones import STALE, FullZones, FullZonesCollector
from flows.pipeline import CtZone, nat_zone
from tests.unit.api.world import World


@pytest.fixture
def port(world: World) -> dict[str, Any]:
    """On node n1, whose agent reports to a controller with events."""
    network = world.network(name="a", project_id="a", subnets=[{"cidr": "10.0.0.0/24"}])
    made = world.port(network["id"], project_id="a", name="web")
    world.node("n1", 1)
    events = Events()
    feed = Feed(events, world.services.snapshot, lambda _: True)
    zones = FullZones(feed.full)
    registry = CollectorRegistry()
    registry.register(FullZonesCollector(zones, world.services.snapshot))
    world.services = replace(world.services, full_zones=zones, events=events, registry=registry)
    world.app = make_app(world.services)
    report(world, made, 1)
    return dict(world.ok("GET", f"/v1/ports/{made['id']}")["port"])


def report(world: World, port: dict[str, Any], serial: int, *zones: int) -> dict[str, Any]:
    full = {"full_zones": [{"zone": zone, "limit": 500} for zone in zones]} if zones else {}
    interfaces = [{"iface_id": port["id"], "ofport": 7}]
    body = {"serial": serial, "uplinks": {"physnet1": 65001}, "interfaces": interfaces, **full}
    return dict(world.ok("PUT", "/v1/nodes/n1/interfaces", body, "agent"))


def figures(world: World, port: dict[str, Any]) -> float | None:
    labels = {"port": port["id"], "node": "n1"}
    return world.services.registry.get_sample_value("trunkline_port_connections_used_up", labels)


def told(world: World) -> list[str]:
    return [event["text"] for event in world.ok("GET", "/v1/events")["events"] if event["kind"] == "drop"]


@pytest.mark.parametrize(
    ("zone_of", "has_way_out", "rule", "where"),
    [
        (int, False, "drop_connections", ""),
        (int, True, "drop_connections", ""),
        (nat_zone, True, "drop_snat_share", " through the node's SNAT address"),
        (nat_zone, False, "drop_connections", ""),  # through floating IPs
    ],
    ids=["own", "own_snat", "translated", "translated_no_snat"],
)
def test_a_port_that_has_used_up_its_connections_is_named_until_it_has_not(
    world: World, port: dict[str, Any], zone_of: Any, has_way_out: bool, rule: str, where: str
) -> None:
    if has_way_out:
        external = world.external(physical_network="physnet1")
        world.ok("PATCH", f"/v1/networks/{port['network_id']}", {"external_network_id": external["id"]}, "admin")
    zone = zone_of(port["binding"]["zone"])
    report(world, port, 2, zone)
    (problem,) = world.ok("GET", "/v1/nodes/n1")["node"]["problems"]
    assert problem == f"port web ({port['id']}) has used up its 500 connections{where}: no more begin until some end"
    (drop,) = world.ok("GET", "/v1/drops")["drops"]
    assert (drop["rule"], drop["port_id"], drop["node"], drop["packets"]) == (rule, port["id"], "n1", 0)
    assert figures(world, port) == 500
    report(world, port, 3, zone)
    report(world, port, 4)
    assert world.ok("GET", "/v1/nodes/n1")["node"]["problems"] == []
    assert world.ok("GET", "/v1/drops")["drops"] == [] and figures(world, port) is None
    assert told(world) == [
        "web has used up its 500 connections: no more begin (n1)",
        "web may begin connections again (n1)",
    ]


def test_a_port_with_both_zones_full_is_named_once_until_neither_is(world: World, port: dict[str, Any]) -> None:
    own = port["binding"]["zone"]
    for serial, zones in enumerate([(own, nat_zone(own)), (nat_zone(own),)], start=2):
        report(world, port, serial, *zones)
        assert len(world.ok("GET", "/v1/nodes/n1")["node"]["problems"]) == 1
        assert len(world.ok("GET", "/v1/drops")["drops"]) == 1 and len(told(world)) == 1
    report(world, port, 4)
    assert told(world)[1:] == ["web may begin connections again (n1)"]


def test_the_zone_that_all_ports_share_is_a_problem_of_the_node(world: World, port: dict[str, Any]) -> None:
    report(world, port, 2, CtZone.SNAT)
    (problem,) = world.ok("GET", "/v1/nodes/n1")["node"]["problems"]
    assert "through SNAT addresses are used up" in problem and world.ok("GET", "/v1/drops")["drops"] == []


def test_zones_of_no_port_say_nothing(world: World, port: dict[str, Any]) -> None:
    report(world, port, 2, 17)
    assert world.ok("GET", "/v1/nodes/n1")["node"]["problems"] == []


def test_agents_hear_which_zones_there_are_and_which_use_no_snat_address(world: World, port: dict[str, Any]) -> None:
    zone = port["binding"]["zone"]
    answer = report(world, port, 2)
    # its network has no way out
    assert (answer["zones"], answer["wide_zones"]) == ([zone], [zone])


def test_what_an_agent_has_said_is_good_for_a_while() -> None:
    now = [0.0]
    zones = FullZones(clock=lambda: now[0])
    zones.reported("n1", {1: 500})
    now[0] = STALE - 1
    assert zones.of("n1") == {1: 500} and zones.nodes() == ["n1"]
    now[0] = STALE
    assert zones.of("n1") == {} and zones.nodes() == []
