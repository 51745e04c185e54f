"""Routes, NAT exemptions and routers of networks: what is sent, shown and refused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.api.world import World, network_body

OPTIONS = {
    "routes": [{"destination": "10.9.0.0/16", "next_hop": "10.0.0.9"}],
    "snat_exempt": ["192.0.2.0/24"],
    "own_snat_address": True,
    "router": "isolated",
}


def test_they_are_shown_as_they_were_sent(world: World) -> None:
    made = world.network(**OPTIONS)
    assert {name: made[name] for name in OPTIONS} == OPTIONS
    path = f"/v1/networks/{made['id']}"
    empty = {"routes": [], "snat_exempt": [], "own_snat_address": False, "router": "project"}
    for sent in (empty, OPTIONS):
        changed = world.ok("PATCH", path, sent)["network"]
        assert {name: changed[name] for name in OPTIONS} == sent
        assert world.ok("GET", path)["network"] == changed


def test_force_snat_is_for_networks_with_a_router_of_their_own(world: World) -> None:
    subnets = [{"cidr": "10.0.0.0/24", "gateway": "10.0.0.1"}]
    made = world.network(gateway_mode="external", subnets=subnets, force_snat=["192.0.2.0/24", "198.51.100.7/32"])
    assert made["force_snat"] == ["192.0.2.0/24", "198.51.100.7/32"]
    path = f"/v1/networks/{made['id']}"
    assert world.call("PATCH", path, {"routes": OPTIONS["routes"]}).refusal == (400, "option_unfit", "routes")
    assert world.call("PATCH", path, {"force_snat": ["192.0.2.1/24"]}).refusal[::2] == (400, "force_snat.0")


def test_relays_are_for_networks_that_the_nodes_do_not_route(world: World) -> None:
    subnets = [{"cidr": "10.99.0.0/24", "gateway": "10.99.0.1"}]
    made = world.network(gateway_mode="external", subnets=subnets, dhcp_relays=["10.99.0.1", "203.0.113.1"])
    assert made["dhcp_relays"] == ["10.99.0.1", "203.0.113.1"]
    path = f"/v1/networks/{made['id']}"
    assert world.ok("PATCH", path, {"dhcp_relays": []})["network"]["dhcp_relays"] == []
    assert world.call("PATCH", path, {"dhcp_relays": ["0.0.0.0"]}).refusal[::2] == (400, "dhcp_relays.0")
    routed = world.network(subnets=[{"cidr": "10.98.0.0/24"}])
    refused = world.call("PATCH", f"/v1/networks/{routed['id']}", {"dhcp_relays": ["203.0.113.1"]})
    assert refused.refusal == (400, "option_unfit", "dhcp_relays")


def test_upstreams_of_a_network(world: World) -> None:
    made = world.network(dns_upstreams=["192.0.2.53", "192.0.2.54"])
    assert made["dns_upstreams"] == ["192.0.2.53", "192.0.2.54"]
    (network,) = world.store.load_snapshot().networks.values()
    assert [str(address) for address in network.dns_upstreams] == ["192.0.2.53", "192.0.2.54"]
    path = f"/v1/networks/{made['id']}"
    assert world.ok("PATCH", path, {"dns_upstreams": []})["network"]["dns_upstreams"] == []
    assert world.call("PATCH", path, {"dns_upstreams": ["127.0.0.1"]}).refusal[::2] == (400, "dns_upstreams.0")


@pytest.mark.parametrize("field", ["snat_exempt", "own_snat_address", "dhcp_relays", "dns_upstreams"])
def test_what_reaches_beyond_the_project_is_for_administrators(world: World, field: str) -> None:
    refusal = (403, "forbidden", field)
    wanted = {**OPTIONS, "dhcp_relays": ["203.0.113.1"], "dns_upstreams": ["192.0.2.53"]}[field]
    body = network_body(**{field: wanted})
    assert world.call("POST", "/v1/networks", body, "member-a").refusal == refusal
    path = f"/v1/networks/{world.network(project_id='a')['id']}"
    assert world.call("PATCH", path, {field: wanted}, "member-a").refusal == refusal
    assert world.call("PATCH", path, {"routes": OPTIONS["routes"]}, "member-a").status == 200


def range_(number: int) -> list[dict[str, Any]]:
    return [{"cidr": f"10.0.{number}.0/24"}]


def test_a_network_is_routed_with_one_of_its_own_project(world: World) -> None:
    own = world.network(project_id="a", name="own", subnets=range_(0), router="isolated")
    foreign = world.network(project_id="b", name="foreign", subnets=range_(1))
    shared = world.network(project_id="b", name="shared", shared=True, subnets=range_(2))
    made = world.network(token="member-a", name="new", subnets=range_(3))
    path = f"/v1/networks/{made['id']}"
    for name in ("own", own["id"]):
        world.ok("PATCH", path, {"router": name}, "member-a")
        joined = world.ok("GET", path)["network"]  # the key is shown to operators only
        assert (joined["router"], joined["router_key"]) == (own["id"], own["router_key"])
    for name in ("foreign", foreign["id"], "nothing"):
        refusal = world.call("PATCH", path, {"router": name}, "member-a").refusal
        assert refusal == (404, "network_unknown", "router")
    assert world.call("PATCH", path, {"router": shared["id"]}, "member-a").refusal == (403, "forbidden", "router")
    body = network_body(name="newer", subnets=range_(4), router="own")
    newer = world.ok("POST", "/v1/networks", body, "member-a")["network"]["id"]
    assert world.ok("GET", f"/v1/networks/{newer}")["network"]["router_key"] == own["router_key"]
    assert world.ok("PATCH", path, {"router": "foreign"})["network"]["router_key"] == foreign["router_key"]


def test_whom_an_administrator_joined_a_network_to_is_not_told_to_strangers(world: World) -> None:
    """As where ranges overlap: that there is one, and not which."""
    foreign = world.network(project_id="b", name="foreign", subnets=range_(1))
    path = f"/v1/networks/{world.network(token='member-a', name='new', subnets=range_(3))['id']}"
    assert world.ok("PATCH", path, {"router": foreign["id"]})["network"]["router"] == foreign["id"]
    shown = [world.call("GET", path, token="member-a"), world.call("GET", "/v1/networks", token="member-a")]
    shown.append(world.call("PATCH", path, {"mtu": 1400}, "member-a"))
    assert [reply.status for reply in shown] == [200] * 3
    assert all(foreign["id"].encode() not in reply.data for reply in shown)
    assert shown[0].json["network"]["router"] is None


def test_a_name_that_several_have_is_no_name(world: World) -> None:
    twins = [world.network(name="twin", subnets=range_(number)) for number in range(2)]
    path = f"/v1/networks/{world.network(subnets=range_(2))['id']}"
    assert world.call("PATCH", path, {"router": "twin"}).refusal == (400, "invalid_field", "router")
    assert world.ok("PATCH", path, {"router": twins[1]["id"]})["network"]["router"] == twins[1]["id"]


def test_a_gateway_node_is_shown_pinned_and_let_go(world: World) -> None:
    world.node("n1")
    world.node("n2", 2)
    made = world.network(gateway_mode="single")
    assert (made["gateway_node"], made["gateway_node_pinned"], made["problems"]) == (None, False, [])
    assert made["subnets"][0]["gateway"] is not None
    path = f"/v1/networks/{made['id']}"
    for sent, pinned in (("n2", True), (None, False)):
        changed = world.ok("PATCH", path, {"gateway_node": sent})["network"]
        assert (changed["gateway_node"], changed["gateway_node_pinned"]) == ("n2", pinned)
    assert world.call("PATCH", path, {"gateway_node": "n9"}).refusal == (404, "node_unknown", "gateway_node")
    assert world.call("PATCH", path, {"gateway_node_pinned": True}).refusal[:2] == (400, "immutable")
    body = network_body(gateway_mode="single", gateway_node="n1")
    assert world.call("POST", "/v1/networks", body, "member-a").refusal == (403, "forbidden", "gateway_node")


def test_a_gateway_node_that_is_away_is_a_problem(world: World) -> None:
    world.node("n1")
    made = world.network(gateway_mode="single", gateway_node="n1")
    world.disconnected = {"n1"}
    (line,) = world.ok("GET", f"/v1/networks/{made['id']}")["network"]["problems"]
    assert line == "its gateway node n1 is not connected (pinned, so none takes over)"
