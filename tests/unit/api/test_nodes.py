from __future__ import annotations

from typing import Any

import pytest

from tests.unit.api.world import World

NODE = {
    "datapath_id": "0000020000000001",
    "physical_networks": ["physnet1", "physnet-ext"],
    "snat_addresses": {"physnet-ext": "203.0.113.11"},
    "tunnel_address": None,
    "versions": {"agent": "0.1.0", "ovs": "3.5.0"},
}


def test_put_is_idempotent(world: World) -> None:
    first = world.ok("PUT", "/v1/nodes/n1", NODE, "agent")
    again = world.ok("PUT", "/v1/nodes/n1", NODE, "agent")
    assert again["revision"] == first["revision"]
    node = first["node"]
    assert {name: node[name] for name in NODE} == NODE
    assert (node["name"], node["state"]) == ("n1", "live")  # the session's state is added and hides nothing
    assert world.ok("GET", "/v1/nodes")["nodes"] == [world.ok("GET", "/v1/nodes/n1")["node"]]
    assert world.ok("GET", "/v1/nodes?name=n1")["nodes"][0]["name"] == "n1"
    assert world.ok("GET", "/v1/nodes?name=n2")["nodes"] == []


def test_what_an_agent_says_of_its_node_is_shown_until_it_says_so_no_more(world: World) -> None:
    said = ["Open vSwitch cannot make bridge br-int: ...", "device eth1 of physical network physnet1 cannot be used"]
    first = world.ok("PUT", "/v1/nodes/n1", {**NODE, "problems": said}, "agent")
    assert first["node"]["problems"] == said == world.ok("GET", "/v1/nodes/n1")["node"]["problems"]
    again = world.ok("PUT", "/v1/nodes/n1", {**NODE, "problems": said}, "agent")
    assert again["revision"] == first["revision"], "what is said again is no news"
    snapshot = world.services.snapshot().nodes["n1"]
    gone = world.ok("PUT", "/v1/nodes/n1", NODE, "agent")
    assert gone["revision"] > first["revision"] and gone["node"]["problems"] == []
    assert world.services.snapshot().nodes["n1"] == snapshot, "no flow depends on it"
    for wrong in (["two\nlines"], ["x" * 1001], ["x"] * 65):
        assert world.call("PUT", "/v1/nodes/n1", {**NODE, "problems": wrong}, "agent").refusal[0] == 400


def test_the_node_of_an_agent_that_does_not_tell_its_datapath_keeps_its_flows(world: World) -> None:
    """An older agent does not: controllers are upgraded before agents."""
    kernel = {**NODE, "datapath_type": "system"}
    for body, told in ((NODE, "netdev"), (kernel, "system")):
        assert world.ok("PUT", "/v1/nodes/n1", body, "agent")["node"]["datapath_type"] == told
        assert world.services.snapshot().nodes["n1"].on_kernel == (told == "system")


def test_an_agent_waits_for_its_own_node(world: World) -> None:
    for name in ("n1", "n2"):
        world.ok("PUT", f"/v1/nodes/{name}", {**NODE, "datapath_id": f"000000000000000{name[1]}"}, "agent")
    world.confirmed.behind = ["n2"]
    assert world.ok("GET", "/v1/nodes/n1/revisions/7?wait=2.5", token="agent") == {"revision": 7, "confirmed": True}
    assert world.ok("GET", "/v1/nodes/n2/revisions/7", token="agent") == {"revision": 7, "confirmed": False}
    assert world.confirmed.waited == [2.5, 0.0]
    assert world.call("GET", "/v1/nodes/n3/revisions/7", token="agent").refusal[:2] == (404, "node_unknown")
    assert world.call("GET", "/v1/nodes/n1/revisions/x", token="agent").refusal[0] == 400
    assert world.call("GET", "/v1/nodes/n1/revisions/7", token="admin").refusal[0] == 403


@pytest.mark.parametrize("sent", ["203.0.113.64-203.0.113.95", "203.0.113.64/27"])
def test_a_pool_of_snat_addresses(world: World, sent: str) -> None:
    subnets = [{"cidr": "203.0.113.0/24", "gateway": "203.0.113.1"}]
    network = world.network(kind="flat", physical_network="physnet-ext", external=True, subnets=subnets)
    node = world.ok("PUT", "/v1/nodes/n1", {**NODE, "snat_addresses": {"physnet-ext": sent}}, "agent")["node"]
    assert node["snat_addresses"] == {"physnet-ext": "203.0.113.64-203.0.113.95"}
    held = {"network_id": network["id"], "address": "203.0.113.64", "for_network_id": None, "host": False}
    assert node["external_addresses"] == [held]
    assert node["problems"] == []


def test_the_address_of_a_nodes_host(world: World) -> None:
    world.external()
    body = {**NODE, "physical_networks": ["physnet-ext"], "snat_addresses": {"physnet-ext": "host:203.0.113.9"}}
    node = world.ok("PUT", "/v1/nodes/n1", body, "agent")["node"]
    assert node["snat_addresses"] == {"physnet-ext": "host:203.0.113.9"}
    assert [(held["address"], held["host"]) for held in node["external_addresses"]] == [("203.0.113.9", True)]
    assert world.services.snapshot().nodes["n1"].snat_addresses[0].host
    body["snat_addresses"] = {"physnet-ext": "203.0.113.9"}
    node = world.ok("PUT", "/v1/nodes/n1", body, "agent")["node"]
    assert [(held["address"], held["host"]) for held in node["external_addresses"]] == [("203.0.113.9", False)]
    assert not world.services.snapshot().nodes["n1"].snat_addresses[0].host
    for wrong in ("host:", "host:203.0.113.9-203.0.113.10", "host:224.0.0.1", "Host:203.0.113.9"):
        body["snat_addresses"] = {"physnet-ext": wrong}
        assert world.call("PUT", "/v1/nodes/n1", body, "agent").refusal[::2] == (400, "snat_addresses.physnet-ext")


@pytest.mark.parametrize("then", [{}, {"physnet-ext": "203.0.113.2-203.0.113.99"}])
def test_the_address_of_a_nodes_host_is_given_back_with_the_option(world: World, then: dict[str, str]) -> None:
    world.external()
    body = {**NODE, "physical_networks": ["physnet-ext"], "snat_addresses": {"physnet-ext": "host:203.0.113.77"}}
    world.ok("PUT", "/v1/nodes/n1", body, "agent")
    node = world.ok("PUT", "/v1/nodes/n1", {**body, "snat_addresses": then}, "agent")["node"]
    (held,) = node["external_addresses"]
    assert held["address"] != "203.0.113.77" and not held["host"]


def test_what_a_node_cannot_have_is_shown_and_told_its_agent(world: World) -> None:
    subnets = [{"cidr": "203.0.113.0/24", "gateway": "203.0.113.1"}]
    world.network(name="outside", kind="flat", physical_network="physnet-ext", external=True, subnets=subnets)
    body = {**NODE, "snat_addresses": {"physnet-ext": "192.0.2.7"}}
    line = "no SNAT on network 'outside': snat_address 192.0.2.7 is outside 203.0.113.0/24"
    assert world.ok("PUT", "/v1/nodes/n1", body, "agent")["node"]["problems"] == [line]
    assert world.ok("PUT", "/v1/nodes/n1/interfaces", {"serial": 1}, "agent")["problems"] == [line]
    assert world.ok("GET", "/v1/nodes/n1")["node"]["problems"] == [line]
    assert world.ok("GET", "/v1/nodes")["nodes"][0]["problems"] == [line]
    world.ok("PUT", "/v1/nodes/n1", NODE, "agent")
    assert world.ok("PUT", "/v1/nodes/n1/interfaces", {"serial": 1}, "agent")["problems"] == []


def test_delete(world: World) -> None:
    world.node()
    assert world.ok("DELETE", "/v1/nodes/n1")["node"]["name"] == "n1"
    assert world.call("GET", "/v1/nodes/n1").refusal == (404, "node_unknown", None)
    assert world.call("PUT", "/v1/nodes/n1/interfaces", {"serial": 1}, "agent").refusal[:2] == (404, "node_unknown")


def test_a_node_that_serves_ports_is_not_deleted(world: World) -> None:
    """Its agent would register it again at once, with other gateway addresses than its VMs have."""
    world.node()
    network = world.network()
    port = world.port(network["id"])
    interface = {"iface_id": port["id"], "name": "vm", "ofport": 5, "mac": port["mac"]}
    report = {"serial": 1, "uplinks": {}, "interfaces": [interface]}
    world.ok("PUT", "/v1/nodes/n1/interfaces", report, "agent")
    assert world.call("DELETE", "/v1/nodes/n1").refusal[:2] == (409, "node_in_use")
    assert world.ok("GET", "/v1/nodes/n1")["node"]["name"] == "n1"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"datapath_id": "1"}, "datapath_id"),
        ({"datapath_id": "0x00000000000001"}, "datapath_id"),
        ({"datapath_id": 1}, "datapath_id"),
        ({"datapath_id": "0" * 16}, "datapath_id"),
        ({"physical_networks": ["a b"]}, "physical_networks.0"),
        ({"physical_networks": ["p"] * 65}, "physical_networks"),
        ({"snat_addresses": {"physnet1": "nowhere"}}, "snat_addresses.physnet1"),
        ({"snat_addresses": {"a b": "203.0.113.1"}}, "snat_addresses.a b"),
        ({"snat_addresses": {"physnet1": 7}}, "snat_addresses.physnet1"),
        ({"snat_addresses": {"physnet1": "203.0.113.9-203.0.113.1"}}, "snat_addresses.physnet1"),
        ({"snat_addresses": {"physnet1": "203.0.113.1-203.0.113.2-203.0.113.3"}}, "snat_addresses.physnet1"),
        ({"snat_addresses": {"physnet1": "203.0.113.1-"}}, "snat_addresses.physnet1"),
        ({"snat_addresses": {"physnet1": "203.0.113.1/24"}}, "snat_addresses.physnet1"),
        ({"snat_addresses": {"physnet1": "224.0.0.0/24"}}, "snat_addresses.physnet1"),
        ({"snat_addresses": {"physnet1": "127.0.0.1"}}, "snat_addresses.physnet1"),
        ({"tunnel_address": "::1"}, "tunnel_address"),
        ({"versions": {"agent": 1}}, "versions.agent"),
        ({"name": "n2"}, "name"),
    ],
)
def test_each_wrong_field_is_named(shared_world: World, fields: dict[str, Any], field: str) -> None:
    reply = shared_world.call("PUT", "/v1/nodes/n1", {**NODE, **fields}, "agent")
    assert (reply.status, reply.error["field"]) == (400, field)


@pytest.mark.parametrize("name", ["n 1", "-n1", "x" * 256, "n1;rm"])
def test_bad_name(shared_world: World, name: str) -> None:
    reply = shared_world.call("PUT", "/", NODE, "agent", PATH_INFO=f"/v1/nodes/{name}")
    assert (reply.status, reply.error["field"]) == (400, "name")


def test_two_nodes_with_one_datapath_id(world: World) -> None:
    world.node("n1", 1)
    reply = world.call("PUT", "/v1/nodes/n2", {"datapath_id": f"{1:016x}"}, "agent")
    assert reply.refusal[:2] == (409, "datapath_id_in_use")


def test_serial_does_not_go_back(world: World) -> None:
    world.node()
    world.ok("PUT", "/v1/nodes/n1/interfaces", {"serial": 7}, "agent")
    assert world.call("PUT", "/v1/nodes/n1/interfaces", {"serial": 6}, "agent").refusal[:2] == (409, "serial_stale")
    world.node()
    world.ok("PUT", "/v1/nodes/n1/interfaces", {"serial": 1}, "agent")


@pytest.mark.parametrize(
    "broken",
    [{"ofport": -1}, {"ofport": None}, {"ofport": 0}, {"ofport": 1 << 40}, {"iface_id": "a\nb"}, {"iface_id": ""}],
)
def test_one_bad_interface_does_not_stop_the_others(world: World, broken: dict[str, Any]) -> None:
    port = world.port(world.network()["id"])
    world.node()
    bad = {"iface_id": "other", "ofport": 101, "name": "vm2", "mac": "", **broken}
    report = {"serial": 1, "uplinks": {"physnet1": 65001}, "interfaces": [bad, {"iface_id": port["id"], "ofport": 100}]}
    answer = world.ok("PUT", "/v1/nodes/n1/interfaces", report, "agent")
    assert answer["serial"] == 1
    assert answer["ports"][port["id"]] == "bound"
    assert answer["ports"][bad["iface_id"]].startswith("refused: ")


def test_a_port_says_why_its_node_refuses_it(world: World) -> None:
    port = world.port(world.network()["id"])
    assert port["binding_error"] is None
    world.node(physical_networks=["physnet2"])
    report = {"serial": 1, "interfaces": [{"iface_id": port["id"], "ofport": 100}]}
    why = "node n1 has no physical network 'physnet1'"
    assert world.ok("PUT", "/v1/nodes/n1/interfaces", report, "agent")["ports"] == {port["id"]: f"refused: {why}"}
    shown = world.ok("GET", f"/v1/ports/{port['id']}")["port"]
    assert (shown["status"], shown["binding"], shown["binding_error"]) == ("unbound", None, why)
    world.node(physical_networks=["physnet1"])
    assert world.ok("GET", f"/v1/ports/{port['id']}")["port"]["binding_error"] is None


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"serial": -1}, "serial"),
        ({"serial": "7"}, "serial"),
        ({"serial": 1 << 63}, "serial"),
        ({"uplinks": {"physnet1": 0}}, "uplinks.physnet1"),
        ({"uplinks": []}, "uplinks"),
        ({"interfaces": [{"ofport": 1}]}, "interfaces.0.iface_id"),
        ({"interfaces": [{"iface_id": "x", "ofport": "1"}]}, "interfaces.0.ofport"),
        ({"interfaces": [{"iface_id": "x"}] * 4097}, "interfaces"),
        ({"interfaces": [{"iface_id": "x", "vlan": 1}]}, "interfaces.0.vlan"),
    ],
)
def test_bad_reports(shared_world: World, fields: dict[str, Any], field: str) -> None:
    reply = shared_world.call("PUT", "/v1/nodes/n1/interfaces", {"serial": 1, **fields}, "agent")
    assert (reply.status, reply.error["field"]) == (400, field)
