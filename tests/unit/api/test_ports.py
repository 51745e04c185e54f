from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest

from controller.store.specs import Unavailable
from tests.unit.api.world import World

WANTED_ID = "7d5ea0a2-5a55-4bd2-b1e0-0d63a3b0a0ef"


def test_created_port_is_answered_whole(world: World) -> None:
    network = world.network(project_id="a")
    body = {
        "network_id": network["id"],
        "name": "vm1-eth0",
        "hostname": "vm1",
        "device_id": "i-17",
        "mac": "02:00:00:AA:BB:CC",
        "fixed_ips": [{"address": "10.0.0.77"}],
        "dhcp_options": [{"code": 67, "value": "/boot/x"}],
    }
    reply = world.call("POST", "/v1/ports", body)
    assert reply.status == 201
    port = reply.json["port"]
    assert reply.json["revision"] == port["revision"]
    assert port["mac"] == "02:00:00:aa:bb:cc"
    assert port["fixed_ips"] == [{"subnet_id": network["subnets"][0]["id"], "address": "10.0.0.77"}]
    assert (port["status"], port["binding"], port["project_id"]) == ("unbound", None, "a")
    assert world.ok("GET", f"/v1/ports/{port['id']}")["port"] == port
    assert world.ok("GET", f"/v1/ports?network_id={network['id']}&name=vm1-eth0")["ports"] == [port]
    assert world.ok("GET", "/v1/ports?device_id=i-18")["ports"] == []


def test_update_and_delete(world: World) -> None:
    port = world.port(world.network()["id"], name="one", hostname="vm1")
    changed = world.ok("PATCH", f"/v1/ports/{port['id']}", {"name": "two", "fixed_ips": [{"address": "10.0.0.50"}]})
    assert changed["port"]["name"] == "two"
    assert changed["port"]["hostname"] == "vm1"
    assert changed["port"]["fixed_ips"][0]["address"] == "10.0.0.50"
    assert world.ok("DELETE", f"/v1/ports/{port['id']}")["revision"] > changed["revision"]
    assert world.call("DELETE", f"/v1/ports/{port['id']}").refusal == (404, "port_unknown", None)


def test_bulk_is_all_or_none(world: World) -> None:
    network_id = world.network()["id"]
    made = world.call("POST", "/v1/ports", {"ports": [{"network_id": network_id, "name": f"p{n}"} for n in range(20)]})
    assert made.status == 201
    assert [port["name"] for port in made.json["ports"]] == [f"p{n}" for n in range(20)]
    assert len({port["fixed_ips"][0]["address"] for port in made.json["ports"]}) == 20
    address = made.json["ports"][0]["fixed_ips"][0]
    wanted = [{"network_id": network_id}, {"network_id": network_id, "fixed_ips": [{"address": address["address"]}]}]
    reply = world.call("POST", "/v1/ports", {"ports": wanted})
    assert reply.refusal == (409, "address_in_use", "ports.1.fixed_ips.0.address")
    assert len(world.ok("GET", "/v1/ports")["ports"]) == 20
    assert world.commits == 2  # the network and one bulk


@pytest.mark.parametrize(
    ("ports", "field"),
    [
        ([], "ports"),
        ({}, "ports"),
        ([{"network_id": "x"}] * 1001, "ports"),
        ([{"network_id": "x"}, {}], "ports.1.network_id"),
        ([{"network_id": "x", "mac": "no"}], "ports.0.mac"),
    ],
)
def test_bulk_names_the_port(shared_world: World, ports: Any, field: str) -> None:
    reply = shared_world.call("POST", "/v1/ports", {"ports": ports})
    assert (reply.status, reply.error["field"]) == (400, field)


@pytest.mark.parametrize(
    ("ports", "refusal"),
    [
        ([{}, {"network_id": "nothing"}], (404, "network_unknown", "ports.1.network_id")),
        ([{}, {"id": WANTED_ID}], (409, "port_exists", "ports.1.id")),
        ([{"id": WANTED_ID[:-1] + "0"}] * 2, (409, "port_exists", "ports.1.id")),
        ([{}, {}, {"mac": "02:00:00:00:00:09"}], (409, "mac_in_use", "ports.2.mac")),
        ([{"mac": "02:00:00:00:00:08"}] * 2, (409, "mac_in_use", "ports.1.mac")),
        ([{}, {"mac": "02:54:4c:00:00:01"}], (400, "mac_invalid", "ports.1.mac")),
        (
            [{}, {"fixed_ips": [{}, {"address": "10.9.9.9"}]}],
            (400, "address_outside_subnet", "ports.1.fixed_ips.1.address"),
        ),
        ([{}, {"fixed_ips": [{"subnet_id": "x"}]}], (400, "subnet_unknown", "ports.1.fixed_ips.0.subnet_id")),
        ([{}, {"node": "n7"}], (404, "node_unknown", "ports.1.node")),
        ([{}] * 6, (409, "subnet_full", None)),
    ],
)
def test_bulk_names_the_port_that_the_store_refuses(world: World, ports: list[Any], refusal: Any) -> None:
    network_id = world.network(subnets=[{"cidr": "10.0.0.0/29", "reserved": ["10.0.0.6"]}])["id"]
    world.port(network_id, id=WANTED_ID, mac="02:00:00:00:00:09")
    reply = world.call("POST", "/v1/ports", {"ports": [{"network_id": network_id, **port} for port in ports]})
    assert reply.refusal == refusal


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"network_id": None}, "network_id"),
        ({"network_id": 1}, "network_id"),
        ({"network_id": "x" * 65}, "network_id"),
        ({"name": "x" * 256}, "name"),
        ({"name": "a\u2028b"}, "name"),
        ({"hostname": "a b"}, "hostname"),
        ({"hostname": "vm/../1"}, "hostname"),
        ({"hostname": "x" * 254}, "hostname"),
        ({"device_id": "\x7f"}, "device_id"),
        ({"mac": "02:00:00:00:00"}, "mac"),
        ({"mac": "01:00:00:00:00:01"}, "mac"),
        ({"mac": "ff:ff:ff:ff:ff:ff"}, "mac"),
        ({"mac": "00:00:00:00:00:00"}, "mac"),
        ({"mac": 2}, "mac"),
        ({"fixed_ips": [{"address": "10.0.0"}]}, "fixed_ips.0.address"),
        ({"fixed_ips": [{"address": "::1"}]}, "fixed_ips.0.address"),
        ({"fixed_ips": [{}] * 17}, "fixed_ips"),
        ({"fixed_ips": ["10.0.0.5"]}, "fixed_ips.0"),
        ({"node": "n 1"}, "node"),
        ({"id": "not-a-uuid"}, "id"),
        ({"dhcp_options": [{"code": 82, "value": "00", "type": "hex"}]}, "dhcp_options.0.code"),
        ({"device_owner": "network:dhcp"}, "device_owner"),
        ({"status": "active"}, "status"),
        ({"binding": {"node": "n1"}}, "binding"),
        ({"key": 1}, "key"),
    ],
)
def test_each_wrong_field_is_named(
    shared_world: World, shared_network: str, fields: dict[str, Any], field: str
) -> None:
    reply = shared_world.call("POST", "/v1/ports", {"network_id": shared_network, **fields})
    assert (reply.status, reply.error["field"]) == (400, field)
    assert shared_world.ok("GET", "/v1/ports")["ports"] == []


@pytest.mark.parametrize("field", ["network_id", "mac", "project_id", "id", "key", "binding", "status"])
def test_what_cannot_change_says_so(world: World, field: str) -> None:
    port = world.port(world.network()["id"])
    assert world.call("PATCH", f"/v1/ports/{port['id']}", {field: "x"}).refusal == (400, "immutable", field)


def test_store_refusals_come_through(world: World) -> None:
    network_id = world.network(subnets=[{"cidr": "10.0.0.0/29", "gateway": "10.0.0.1"}], gateway_mode="shared")["id"]
    outside = world.call("POST", "/v1/ports", {"network_id": network_id, "fixed_ips": [{"address": "10.9.9.9"}]})
    assert outside.refusal[:2] == (400, "address_outside_subnet")
    unknown = world.call("POST", "/v1/ports", {"network_id": "nothing"})
    assert unknown.refusal == (404, "network_unknown", "network_id")
    replies = [world.call("POST", "/v1/ports", {"network_id": network_id}) for _ in range(7)]
    assert [reply.status for reply in replies] == [201] * 5 + [409] * 2
    assert replies[-1].error["code"] == "subnet_full"
    mac = replies[0].json["port"]["mac"]
    other = world.network(subnets=[{"cidr": "10.1.0.0/24"}])["id"]
    world.port(other, mac=mac)
    assert world.call("POST", "/v1/ports", {"network_id": other, "mac": mac}).refusal[:2] == (409, "mac_in_use")


def test_a_port_is_scheduled_on_a_registered_node_only(world: World) -> None:
    """A misspelt name would leave it unbound for ever."""
    network_id, refusal = world.network()["id"], (404, "node_unknown", "node")
    assert world.call("POST", "/v1/ports", {"network_id": network_id, "node": "n1"}).refusal == refusal
    world.node()
    path = f"/v1/ports/{world.port(network_id, node='n1')['id']}"
    assert world.call("PATCH", path, {"node": "n2"}).refusal == refusal
    world.ok("DELETE", "/v1/nodes/n1")
    # what was right once may be sent again
    assert world.ok("PATCH", path, {"node": "n1", "name": "web"})["port"]["node"] == "n1"


def test_an_id_can_be_chosen_once(world: World) -> None:
    network_id = world.network()["id"]
    assert world.port(network_id, id=WANTED_ID.upper())["id"] == WANTED_ID
    reply = world.call("POST", "/v1/ports", {"network_id": network_id, "id": WANTED_ID})
    assert reply.refusal[:2] == (409, "port_exists")


def test_status_follows_report_and_confirmation(world: World) -> None:
    port = world.port(world.network()["id"])
    world.node()
    report = {"serial": 1, "uplinks": {"physnet1": 65001}, "interfaces": [{"iface_id": port["id"], "ofport": 100}]}
    assert world.ok("PUT", "/v1/nodes/n1/interfaces", report, "agent")["ports"] == {port["id"]: "bound"}
    bound = world.ok("GET", f"/v1/ports/{port['id']}")["port"]
    assert (bound["status"], bound["binding"]["node"], bound["binding"]["ofport"]) == ("bound", "n1", 100)
    world.active.add(port["id"])
    assert world.ok("GET", "/v1/ports?node=n1")["ports"][0]["status"] == "active"


def test_nothing_is_active_before_the_snapshot_has_followed(world: World) -> None:
    port = world.port(world.network()["id"])
    world.node()
    world.active.add(port["id"])
    world.following = False
    report = {"serial": 1, "uplinks": {"physnet1": 65001}, "interfaces": [{"iface_id": port["id"], "ofport": 100}]}
    world.ok("PUT", "/v1/nodes/n1/interfaces", report, "agent")
    assert world.ok("GET", f"/v1/ports/{port['id']}")["port"]["status"] == "bound"
    world.following = True
    world.follow()
    assert world.ok("GET", f"/v1/ports/{port['id']}")["port"]["status"] == "active"


def test_a_port_shows_which_addresses_it_holds_and_a_floating_ip_goes_there(world: World) -> None:
    """Led there by any port that may have the address; nobody writes what is held."""
    world.pool()
    network_id = world.network(project_id="a")["id"]
    pairs = [{"cidr": "10.0.0.200"}]
    holder, other = (world.port(network_id, "member-a", address_pairs=pairs) for _ in range(2))
    assert holder["held_addresses"] == []
    world.store.hold_address(holder["id"], IPv4Address("10.0.0.200"), holder["mac"])
    assert world.ok("GET", f"/v1/ports/{holder['id']}", token="member-a")["port"]["held_addresses"] == ["10.0.0.200"]
    made = world.floating_ip(token="member-a", port_id=other["id"], fixed_ip="10.0.0.200")
    assert (made["port_id"], made["fixed_ip"]) == (holder["id"], "10.0.0.200")
    refused = world.call("PATCH", f"/v1/ports/{holder['id']}", {"held_addresses": []}, "member-a")
    assert refused.refusal == (400, "immutable", "held_addresses")
    body = {"network_id": network_id, "fixed_ips": [{"address": "10.0.0.200"}]}
    assert world.call("POST", "/v1/ports", body, "member-a").status == 201  # the project's own, to reserve it


def test_the_writer_of_a_name_that_is_there_is_warned(world: World) -> None:
    network = world.network(shared=True)["id"]
    named = ["another port is called 'web', too: commands need their ids"]

    def create(project: str, name: str, token: str = "admin") -> dict[str, Any]:
        body = {"network_id": network, "project_id": project, "name": name}
        return world.ok("POST", "/v1/ports", body, token)

    assert create("a", "web")["warnings"] == create("a", "")["warnings"] == create("a", "")["warnings"] == []
    second = create("b", "web")
    assert second["warnings"] == named
    place = f"/v1/ports/{second['port']['id']}"
    assert world.ok("PATCH", place, {"name": "web"})["warnings"] == named
    assert world.ok("PATCH", place, {"hostname": "x"})["warnings"] == []
    assert world.ok("PATCH", place, {"name": "web"}, "member-b")["warnings"] == []  # what others have is not told
    assert create("b", "web", "member-b")["warnings"] == named


def test_what_is_written_is_answered_when_the_database_goes_away_behind_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(**_filters: object) -> list[object]:
        raise Unavailable("database_unavailable", "gone")

    network = world.network()["id"]
    monkeypatch.setattr(world.store, "list_ports", away)
    assert world.ok("POST", "/v1/ports", {"network_id": network, "name": "web"})["warnings"] == []
