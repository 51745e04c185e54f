from __future__ import annotations

from typing import Any

import pytest

from controller.bounds import LEAST_LEASE_TIME, MOST_LEASE_TIME
from tests.unit.api.world import World, network_body

SUBNET = {"cidr": "10.0.0.0/24"}


def test_created_network_is_answered_whole(world: World) -> None:
    body = network_body(
        project_id="a",
        mtu=9000,
        gateway_mode="shared",
        dns_domain="lab.example",
        arp_responder=True,
        lease_time=600,
        dhcp_options=[{"code": 66, "value": "tftp.lab.example"}, {"code": 200, "value": "1", "type": "u8"}],
        ntp_servers=["10.0.0.9"],
        subnets=[
            {
                "cidr": "10.0.0.0/24",
                "gateway": "10.0.0.1",
                "allocation_ranges": [{"first": "10.0.0.10", "last": "10.0.0.99"}],
                "reserved": ["10.0.0.20", {"first": "10.0.0.30", "last": "10.0.0.39"}],
                "dns_servers": ["10.0.0.53", "192.0.2.53"],
                "host_routes": [{"destination": "198.51.100.0/24", "next_hop": "10.0.0.2"}],
            }
        ],
    )
    reply = world.call("POST", "/v1/networks", body)
    assert reply.status == 201
    assert set(reply.json) == {"network", "warnings", "revision"}
    network = reply.json["network"]
    subnet = network["subnets"][0]
    assert network["segment"] == 100
    assert subnet["reserved"][0] == {"first": "10.0.0.20", "last": "10.0.0.20"}
    assert {name: network[name] for name in body if name not in ("subnets", "dhcp_options")} == {
        name: value for name, value in body.items() if name not in ("subnets", "dhcp_options")
    }
    assert subnet["host_routes"] == body["subnets"][0]["host_routes"]
    assert [option["code"] for option in network["dhcp_options"]] == [66, 200]
    assert world.commits == 1
    assert world.ok("GET", f"/v1/networks/{network['id']}")["network"] == network
    assert world.ok("GET", "/v1/networks?name=blue")["networks"] == [network]
    assert world.ok("GET", "/v1/networks?name=red")["networks"] == []


def test_lease_time_defaults_to_the_configured_one(world: World) -> None:
    assert world.network()["lease_time"] == 7200


def test_a_change_made_from_an_old_state_undoes_nothing(world: World) -> None:
    network = world.network()
    path, seen = f"/v1/networks/{network['id']}", network["revision"]
    first, second, third = ({"cidr": f"10.{number}.0.0/24"} for number in (0, 8, 9))
    changed = world.ok("PATCH", path, {"subnets": [first, second], "expected_revision": seen})
    refused = world.call("PATCH", path, {"subnets": [first, third], "expected_revision": seen})
    assert (refused.status, refused.json["error"]["code"]) == (409, "network_changed")
    assert refused.json["error"]["details"] == {"revision": changed["revision"]}
    assert world.ok("GET", path)["network"] == changed["network"]
    assert world.call("PATCH", path, {"name": "red", "expected_revision": -1}).status == 400
    assert (
        world.ok("PATCH", path, {"name": "red", "expected_revision": changed["revision"]})["network"]["name"] == "red"
    )
    assert world.call("PATCH", "/v1/networks/none", {"name": "red", "expected_revision": 1}).status == 404


def test_update_changes_only_what_was_sent(world: World) -> None:
    network = world.network(dns_domain="lab.example", mtu=9000)
    changed = world.ok("PATCH", f"/v1/networks/{network['id']}", {"name": "red", "dhcp": False})
    assert changed["revision"] > network["revision"]
    assert changed["network"] == {**network, "name": "red", "dhcp": False, "revision": changed["revision"]}


def test_delete_answers_the_object_and_its_revision(world: World) -> None:
    network = world.network()
    gone = world.ok("DELETE", f"/v1/networks/{network['id']}")
    assert gone["network"]["id"] == network["id"]
    assert gone["revision"] > network["revision"]
    assert world.call("GET", f"/v1/networks/{network['id']}").refusal == (404, "network_unknown", None)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 256}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"name": 7}, "name"),
        ({"name": None}, "name"),
        ({"kind": "vxlan"}, "kind"),
        ({"kind": 1}, "kind"),
        ({"physical_network": ""}, "physical_network"),
        ({"physical_network": "a b"}, "physical_network"),
        ({"physical_network": "../x"}, "physical_network"),
        ({"project_id": ""}, "project_id"),
        ({"project_id": "a\n"}, "project_id"),
        ({"shared": "true"}, "shared"),
        ({"shared": 1}, "shared"),
        ({"external": None}, "external"),
        ({"segment": 0}, "segment"),
        ({"segment": 4095}, "segment"),
        ({"segment": "100"}, "segment"),
        ({"segment": 100.5}, "segment"),
        ({"mtu": 67}, "mtu"),
        ({"mtu": 9217}, "mtu"),
        ({"mtu": True}, "mtu"),
        ({"gateway_mode": "sometimes"}, "gateway_mode"),
        ({"dhcp": "no"}, "dhcp"),
        ({"dns_domain": "a b"}, "dns_domain"),
        ({"dns_domain": "-a.example"}, "dns_domain"),
        ({"dns_domain": "a..b"}, "dns_domain"),
        ({"arp_responder": 0}, "arp_responder"),
        ({"external_network_id": "../etc"}, "external_network_id"),
        ({"lease_time": 0}, "lease_time"),
        ({"lease_time": 1 << 31}, "lease_time"),
        ({"lease_time": 10**400}, "lease_time"),
        ({"ntp_servers": ["224.0.1.1"]}, "ntp_servers.0"),
        ({"ntp_servers": ["10.0.0.1"] * 17}, "ntp_servers"),
        ({"ntp_servers": "10.0.0.1"}, "ntp_servers"),
        ({"dhcp_options": [{"code": 53, "value": "1"}]}, "dhcp_options.0.code"),
        ({"dhcp_options": [{"code": 66, "value": "a\nb"}]}, "dhcp_options.0.value"),
        ({"dhcp_options": [{"code": 26, "value": "1500\n"}]}, "dhcp_options.0.value"),
        ({"dhcp_options": [{"code": 200, "value": "7"}]}, "dhcp_options.0.type"),
        ({"dhcp_options": [{"code": 26, "value": "05dc", "type": "hex"}]}, "dhcp_options.0.type"),
        ({"name": " blue"}, "name"),
        ({"name": " "}, "name"),
        ({"dhcp_options": [{"code": 256, "value": "a"}]}, "dhcp_options.0.code"),
        ({"dhcp_options": [{"code": 66, "value": 7}]}, "dhcp_options.0.value"),
        ({"dhcp_options": [{"code": 66, "value": "a", "type": "float"}]}, "dhcp_options.0.type"),
        ({"dhcp_options": [{"code": 66, "value": "a"}] * 2}, "dhcp_options"),
        ({"dhcp_options": [{"code": 66, "value": "a"}] * 65}, "dhcp_options"),
        ({"subnets": []}, "subnets"),
        ({"subnets": [{"cidr": f"10.9.{index}.0/24"} for index in range(9)]}, "subnets"),
        ({"subnets": None}, "subnets"),
        ({"subnets": [{}]}, "subnets.0.cidr"),
        ({"subnets": [{"cidr": "10.0.0.1/24"}]}, "subnets.0.cidr"),
        ({"subnets": [{"cidr": "10.0.0.0/33"}]}, "subnets.0.cidr"),
        ({"subnets": [{"cidr": "10.0.0.0"}]}, "subnets.0.cidr"),
        ({"subnets": [{"cidr": "10.0.0.0/255.255.255.0"}]}, "subnets.0.cidr"),
        ({"subnets": [{"cidr": "010.0.0.0/24"}]}, "subnets.0.cidr"),
        ({"subnets": [{"cidr": "fd00::1/64"}]}, "subnets.0.cidr"),
        ({"subnets": [{"cidr": 167772160}]}, "subnets.0.cidr"),
        ({"subnets": [{**SUBNET, "gateway": "10.0.0.256"}]}, "subnets.0.gateway"),
        ({"subnets": [{**SUBNET, "gateway": 167772161}]}, "subnets.0.gateway"),
        ({"subnets": [{**SUBNET, "gateway": "0.0.0.0"}]}, "subnets.0.gateway"),
        ({"subnets": [{**SUBNET, "dns_servers": ["localhost"]}]}, "subnets.0.dns_servers.0"),
        ({"subnets": [{**SUBNET, "dns_servers": ["127.0.0.1"]}]}, "subnets.0.dns_servers.0"),
        ({"subnets": [{**SUBNET, "dns_servers": ["255.255.255.255"]}]}, "subnets.0.dns_servers.0"),
        ({"subnets": [{**SUBNET, "reserved": ["10.0.0.x"]}]}, "subnets.0.reserved.0.first"),
        ({"subnets": [{**SUBNET, "reserved": [7]}]}, "subnets.0.reserved.0"),
        (
            {"subnets": [{**SUBNET, "allocation_ranges": [{"first": "10.0.0.9", "last": "10.0.0.1"}]}]},
            "subnets.0.allocation_ranges.0",
        ),
        (
            {"subnets": [{**SUBNET, "host_routes": [{"destination": "10.9.0.0/16"}]}]},
            "subnets.0.host_routes.0.next_hop",
        ),
    ],
)
def test_each_wrong_field_is_named(shared_world: World, fields: dict[str, Any], field: str) -> None:
    status, code, named = shared_world.call("POST", "/v1/networks", network_body(**fields)).refusal
    assert (status, named) == (400, field)
    assert code in ("invalid_field", "missing_field")
    assert shared_world.ok("GET", "/v1/networks")["networks"] == []


@pytest.mark.parametrize("where", ["tenant", "id", "key", "router_key", "carrier_nat", "status", "x" * 300])
def test_unknown_fields_are_refused(shared_world: World, where: str) -> None:
    status, code, field = shared_world.call("POST", "/v1/networks", network_body(**{where: 1})).refusal
    assert (status, code, field) == (400, "unknown_field", where[:200])


@pytest.mark.parametrize(
    ("method", "path", "body", "known"),
    [
        ("POST", "ports", {"network_id": "x", "qos": {"egress": {"kbps": 1}}}, "rate_kbps, burst_kbits"),
        ("POST", "ports", {"ports": [{"network_id": "x", "address_pairs": [{"ip": "x"}]}]}, "cidr, mac"),
        ("POST", "floating-ips", {"pool_id": "x"}, "pool, address, project_id, port_id, fixed_ip"),
        ("PATCH", "security-groups/x", {"x": 1}, "name, description, stateful, log_accepted, log_dropped"),
        ("POST", "networks", {"subnets": [{"range": "x"}]}, "cidr, gateway, allocation_ranges, reserved"),
        ("POST", "security-group-rules", {"port": 80}, "protocol, ports, icmp_type, icmp_code, security_group_id"),
    ],
)
def test_an_unknown_field_is_answered_with_the_known_ones(
    shared_world: World, method: str, path: str, body: Any, known: str
) -> None:
    errors = shared_world.call(method, f"/v1/{path}", body).error
    messages = [errors["message"], *(one["message"] for one in errors["details"].get("errors", ()))]
    assert any(f"there is no such field (known: {known}" in message for message in messages)


def test_unknown_field_of_a_subnet(shared_world: World) -> None:
    body = network_body(subnets=[{**SUBNET, "ip_version": 4}])
    assert shared_world.call("POST", "/v1/networks", body).refusal == (400, "unknown_field", "subnets.0.ip_version")


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        ({"cidr": "10.0.0.0/31"}, (400, "cidr_invalid", "subnets.0.cidr")),
        ({"cidr": "127.0.0.0/24"}, (400, "cidr_reserved", "subnets.0.cidr")),
        ({"gateway": "10.0.0.1"}, (400, "gateway_invalid", "subnets.0.gateway")),
        ({"reserved": ["10.0.0.9", "10.0.1.9"]}, (400, "range_invalid", "subnets.0.reserved.1")),
        (
            {"allocation_ranges": [{"first": "10.0.0.9", "last": "10.0.1.9"}]},
            (400, "range_invalid", "subnets.0.allocation_ranges.0"),
        ),
    ],
)
def test_the_store_names_a_field_as_the_models_do(
    shared_world: World, fields: dict[str, Any], refusal: tuple[int, str, str]
) -> None:
    assert shared_world.call("POST", "/v1/networks", network_body(subnets=[{**SUBNET, **fields}])).refusal == refusal


@pytest.mark.parametrize("next_hop", ["10.0.1.1", "10.0.0.0", "10.0.0.255", "192.0.2.1"])
def test_a_route_leads_to_a_host_of_the_subnet(world: World, next_hop: str) -> None:
    """A client has no way to any other, and dhclient's script fails as a whole on such a route."""
    routes = [{"destination": "10.9.0.0/16", "next_hop": hop} for hop in ("10.0.0.2", next_hop)]
    refusal = (400, "next_hop_invalid", "subnets.0.host_routes.1.next_hop")
    body = network_body(subnets=[{**SUBNET, "host_routes": routes}])
    assert world.call("POST", "/v1/networks", body).refusal == refusal
    path = f"/v1/networks/{world.network()['id']}"
    assert world.call("PATCH", path, {"subnets": body["subnets"]}).refusal == refusal
    assert world.ok("GET", path)["network"]["subnets"][0]["host_routes"] == []


def test_what_cannot_change_of_a_subnet_says_so(world: World) -> None:
    path = f"/v1/networks/{world.network()['id']}"
    reply = world.call("PATCH", path, {"subnets": [{**SUBNET, "gateway": "10.0.0.7"}]})
    assert reply.refusal == (400, "immutable", "subnets.0.gateway")


def test_subnets_that_are_listed_come_and_those_that_are_missing_go(world: World) -> None:
    second = {"cidr": "10.9.0.0/24", "dns_servers": ["10.9.0.53"], "reserved": ["10.9.0.5"]}
    network = world.network(subnets=[SUBNET, second])
    path = f"/v1/networks/{network['id']}"
    assert [subnet["cidr"] for subnet in network["subnets"]] == [SUBNET["cidr"], "10.9.0.0/24"]
    assert network["subnets"][1]["dns_servers"] == ["10.9.0.53"]
    changed = world.ok("PATCH", path, {"subnets": [SUBNET, second, {"cidr": "10.8.0.0/24"}]})["network"]
    assert changed["subnets"][:2] == network["subnets"]
    port = world.port(network["id"], fixed_ips=[{"subnet_id": network["subnets"][1]["id"]}, {"address": "10.8.0.7"}])
    assert [ip["subnet_id"] for ip in port["fixed_ips"]] == [subnet["id"] for subnet in changed["subnets"][1:]]
    reply = world.call("PATCH", path, {"subnets": [SUBNET, second]})
    assert reply.refusal == (409, "subnet_in_use", "subnets")
    assert reply.error["details"] == {"cidr": "10.8.0.0/24", "addresses": 1}
    world.ok("PATCH", f"/v1/ports/{port['id']}", {"fixed_ips": [{}]})
    assert world.ok("PATCH", path, {"subnets": [SUBNET, second]})["network"]["subnets"] == network["subnets"]


def test_a_network_that_no_node_reaches_says_so(world: World) -> None:
    network = world.network()
    assert network["problems"] == ["no registered node has the physical network 'physnet1'"]
    assert world.ok("GET", "/v1/networks")["networks"] == [network]
    world.node(physical_networks=["physnet2"])
    assert world.ok("GET", f"/v1/networks/{network['id']}")["network"] == network
    world.node()
    assert world.ok("GET", f"/v1/networks/{network['id']}")["network"] == {**network, "problems": []}


@pytest.mark.parametrize("seconds", [LEAST_LEASE_TIME - 1, MOST_LEASE_TIME + 1])
def test_lease_time_has_bounds(world: World, seconds: int) -> None:
    assert world.call("POST", "/v1/networks", network_body(lease_time=seconds)).refusal[2] == "lease_time"
    network = world.network(lease_time=LEAST_LEASE_TIME)
    assert world.call("PATCH", f"/v1/networks/{network['id']}", {"lease_time": seconds}).refusal[2] == "lease_time"


def test_every_wrong_field_is_listed(shared_world: World) -> None:
    error = shared_world.call("POST", "/v1/networks", network_body(mtu=1, segment=0)).error
    assert {item["field"] for item in error["details"]["errors"]} == {"mtu", "segment"}


@pytest.mark.parametrize("field", ["cidr", "kind", "physical_network", "segment", "project_id", "shared", "id", "key"])
def test_what_cannot_change_says_so(world: World, field: str) -> None:
    network = world.network()
    status, code, named = world.call("PATCH", f"/v1/networks/{network['id']}", {field: "x"}).refusal
    expected = "unknown_field" if field == "cidr" else "immutable"
    assert (status, code, named) == (400, expected, field)


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        ({}, {"name": "red"}, "cidr_overlap"),
        ({"segment": 105}, {"segment": 105, "subnets": [{"cidr": "10.1.0.0/24"}]}, "vlan_in_use"),
        (
            {"kind": "flat"},
            {"kind": "flat", "subnets": [{"cidr": "10.1.0.0/24"}]},
            "physical_network_in_use",
        ),
    ],
)
def test_conflicts(world: World, first: dict[str, Any], second: dict[str, Any], code: str) -> None:
    world.network(project_id="a", **first)
    reply = world.call("POST", "/v1/networks", network_body(project_id="a", **second))
    assert reply.status == 409
    assert reply.error["code"] == code


def test_network_in_use_is_not_deleted(world: World) -> None:
    network = world.network()
    world.port(network["id"])
    assert world.call("DELETE", f"/v1/networks/{network['id']}").refusal[:2] == (409, "network_in_use")


def test_vlans_run_out(world: World) -> None:
    for number in range(10):
        world.network(subnets=[{"cidr": f"10.{number}.0.0/24"}])
    reply = world.call("POST", "/v1/networks", network_body(subnets=[{"cidr": "10.99.0.0/24"}]))
    assert reply.refusal[:2] == (409, "no_free_vlan")


@pytest.mark.parametrize("kind", ["networks", "ports", "nodes"])
def test_a_list_without_a_limit_is_one_page(world: World, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr("controller.api.http.MAX_PAGE", 2)
    for index in range(3):
        network_id = world.network(subnets=[{"cidr": f"10.{index}.0.0/24"}])["id"]
        world.port(network_id)
        world.node(f"n{index}", index + 1)
    first = world.ok("GET", f"/v1/{kind}")[kind]
    marker = first[-1]["name" if kind == "nodes" else "id"]
    assert (len(first), len(world.ok("GET", f"/v1/{kind}?marker={marker}")[kind])) == (2, 1)


def test_pages(world: World) -> None:
    ids = [world.network(subnets=[{"cidr": f"10.{number}.0.0/24"}])["id"] for number in range(5)]
    first = world.ok("GET", "/v1/networks?limit=2")["networks"]
    rest = world.ok("GET", f"/v1/networks?limit=10&marker={first[-1]['id']}")["networks"]
    assert [network["id"] for network in first + rest] == ids
    assert world.call("GET", "/v1/networks?limit=0").refusal == (400, "invalid_field", "limit")
    assert world.call("GET", "/v1/networks?limit=1001").refusal == (400, "invalid_field", "limit")
    assert world.call("GET", "/v1/networks?limit=two").refusal == (400, "invalid_field", "limit")
    assert world.call("GET", "/v1/networks?marker=nothing").error["code"] == "marker_unknown"


def test_the_writer_is_warned(world: World) -> None:
    """Of a name that is there already, as far as the caller sees it, and of a physical network that no node has."""
    absent = "no registered node has the physical network 'physnet1'"
    named = "another network is called 'blue', too: commands need their ids"

    def warned(method: str, path: str, body: dict[str, Any], token: str = "admin") -> list[str]:
        found: list[str] = world.ok(method, path, body, token)["warnings"]
        return found

    assert warned("POST", "/v1/networks", network_body(name="blue", project_id="a")) == [absent]
    world.node(physical_networks=["physnet1"])
    assert warned("POST", "/v1/networks", network_body(name="blue", project_id="b")) == [named]
    made = world.ok("GET", "/v1/networks?name=blue&project_id=b")["networks"][0]
    blue = f"/v1/networks/{made['id']}"
    assert warned("PATCH", blue, {"mtu": 1400}) == []
    assert warned("PATCH", blue, {"name": "blue"}) == [named]
    assert warned("PATCH", blue, {"name": "blue"}, "member-b") == []  # what others have is not told
    made = world.network(name="green", project_id="b", subnets=[{"cidr": "10.77.0.0/24"}])
    green = f"/v1/networks/{made['id']}"
    assert warned("PATCH", green, {"name": "blue"}, "member-b") == [named]
    assert warned("DELETE", green, {}) == []
