"""What the API says of networks to whom, and how projects get theirs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.api.world import World, network_body

MANY = {"name": "pool", "subnets": [{"cidr": "10.8.0.0/24"}], "count": 3, "network_size": 16, "assignable": True}
OWN = {"name": "mine", "subnets": [{"cidr": "10.0.0.0/24"}]}


def pool(world: World, **fields: Any) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = world.ok("POST", "/v1/networks", network_body(**MANY | fields))["networks"]
    return made


def boot(world: World, project: str, token: str = "admin", **fields: Any) -> list[dict[str, Any]]:
    body = {"device_id": "vm", "name": "vm", **fields} | ({"project_id": project} if token == "admin" else {})
    made: list[dict[str, Any]] = world.ok("POST", "/v1/ports", body, token)["ports"]
    return made


def own(number: int, **fields: Any) -> dict[str, Any]:
    return {"name": f"own{number}", "subnets": [{"cidr": f"10.0.{number}.0/24"}], **fields}


# -- visibility

MEMBERS_VIEW = {
    "name": "blue",
    "project_id": "a",
    "shared": False,
    "external": False,
    "kind": "vlan",
    "mtu": 1500,
    "gateway_mode": "shared",
    "dhcp": True,
    "dns_domain": "",
    "arp_responder": False,
    "external_network_id": None,
    "lease_time": 7200,
    "dhcp_options": [],
    "ntp_servers": [],
    "routes": [],
    "snat_exempt": [],
    "force_snat": [],
    "own_snat_address": False,
    "dhcp_relays": [],
    "dns_upstreams": [],
    "router": "project",
    "allow_same_net_traffic": True,
    "filtering": True,
    "subnets": [
        {
            "cidr": "10.0.0.0/24",
            "gateway": "10.0.0.1",
            "allocation_ranges": [],
            "reserved": [],
            "dns_servers": [],
            "host_routes": [],
            "ipv6_mode": None,
        }
    ],
}
OPERATORS_VIEW = MEMBERS_VIEW | {
    "key": 1,
    "router_key": 1,
    "physical_network": "physnet1",
    "segment": 100,
    "carrier_nat": False,
    "assignable": False,
    "gateway_node": None,
    "gateway_node_pinned": False,
    "problems": ["no registered node has the physical network 'physnet1'"],
}


def without_ids(network: dict[str, Any]) -> dict[str, Any]:
    left = {name: value for name, value in network.items() if name not in ("id", "created_at", "revision")}
    return left | {"subnets": [{k: v for k, v in subnet.items() if k != "id"} for subnet in left["subnets"]]}


def test_b10_what_each_role_is_shown(world: World) -> None:
    made = world.network(project_id="a", gateway_mode="shared")
    path = f"/v1/networks/{made['id']}"
    for token, expected in (("admin", OPERATORS_VIEW), ("reader", OPERATORS_VIEW), ("member-a", MEMBERS_VIEW)):
        shown = world.ok("GET", path, token=token)["network"]
        assert without_ids(shown) == expected
        assert world.ok("GET", "/v1/networks", token=token)["networks"] == [shown]
    assert world.call("GET", path, token="member-b").refusal == (404, "network_unknown", None)
    changed = world.ok("PATCH", path, {"name": "blue"}, "member-a")["network"]
    assert without_ids(changed) == MEMBERS_VIEW


def test_b10_which_networks_each_role_is_shown(world: World) -> None:
    made = {
        "own": world.network(project_id="a", subnets=[{"cidr": "10.1.0.0/24"}]),
        "anothers": world.network(project_id="b", subnets=[{"cidr": "10.2.0.0/24"}]),
        "nobodys": world.network(subnets=[{"cidr": "10.3.0.0/24"}]),
        "shared": world.network(shared=True, kind="flat", subnets=[{"cidr": "10.4.0.0/24"}]),
        "external": world.external(),
        "free": world.network(assignable=True, subnets=[{"cidr": "10.5.0.0/24"}]),
    }
    names = {network["id"]: name for name, network in made.items()}

    def seen(token: str) -> list[str]:
        return [names[network["id"]] for network in world.ok("GET", "/v1/networks", token=token)["networks"]]

    assert seen("admin") == seen("reader") == list(made)
    assert seen("member-a") == ["own", "shared", "external"]
    assert seen("member-b") == ["anothers", "shared", "external"]
    # a free one is nobody's business until it is given
    path = f"/v1/networks/{made['free']['id']}"
    assert world.call("GET", path, token="member-a").status == 404
    world.ok("PUT", f"{path}/project", {"project_id": "a"})
    assert seen("member-a") == ["own", "shared", "external", "free"]
    world.ok("DELETE", f"{path}/project")
    assert seen("member-a") == ["own", "shared", "external"]


# -- many at once


def test_b1_many_are_answered_as_a_list(world: World) -> None:
    reply = world.call("POST", "/v1/networks", network_body(**MANY))
    assert (reply.status, set(reply.json)) == (201, {"networks", "revision"})
    shown = [(one["name"], one["subnets"][0]["cidr"], one["segment"]) for one in reply.json["networks"]]
    assert shown == [
        ("pool_0", "10.8.0.0/28", 100), ("pool_1", "10.8.0.16/28", 101), ("pool_2", "10.8.0.32/28", 102)
    ]  # fmt: skip
    assert world.ok("GET", "/v1/networks")["networks"] == reply.json["networks"]
    (one,) = pool(world, network_size=16, count=1, name="one")
    assert (one["name"], one["subnets"][0]["cidr"]) == ("one", "10.8.0.48/28")


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        ({"count": 0}, (400, "invalid_field", "count")),
        ({"count": 257}, (400, "invalid_field", "count")),
        ({"network_size": 3}, (400, "invalid_field", "network_size")),
        ({"network_size": 512}, (400, "carving_invalid", "network_size")),
        ({"count": 17}, (409, "no_free_cidr", "subnets.0.cidr")),
        ({"count": 11}, (409, "no_free_vlan", "segment")),
    ],
)
def test_b1_what_cannot_be_is_named(shared_world: World, fields: dict[str, Any], refusal: Any) -> None:
    assert shared_world.call("POST", "/v1/networks", network_body(**MANY | fields)).refusal == refusal
    assert shared_world.ok("GET", "/v1/networks")["networks"] == []


# -- given to projects


def test_b8_the_verbs(world: World) -> None:
    free, second, _ = pool(world)
    path = f"/v1/networks/{free['id']}"
    given = world.ok("PUT", f"{path}/project", {"project_id": "a"})
    assert given["network"] == free | {"project_id": "a", "revision": given["revision"]}
    assert world.call("PUT", f"{path}/project", {"project_id": "b"}).refusal[:2] == (409, "network_has_project")
    body = {"network_id": free["id"]}
    assert world.call("POST", "/v1/projects/b/networks", body).refusal[:2] == (409, "network_has_project")
    assert world.ok("POST", "/v1/projects/b/networks", {})["network"]["id"] == second["id"]
    unknown = world.call("POST", "/v1/projects/b/networks", {"network_id": "nothing"}).refusal
    assert unknown == (404, "network_unknown", "network_id")
    assert world.call("POST", "/v1/projects/-/networks", {}).refusal[:2] == (400, "invalid_field")
    assert world.ok("DELETE", f"{path}/project")["network"]["project_id"] is None


def test_b8_a_project_is_scrubbed(world: World) -> None:
    free, *_ = pool(world)
    (port,) = boot(world, "a")
    assert world.call("POST", "/v1/projects/a/scrub").refusal[:2] == (409, "network_in_use")
    world.ok("DELETE", f"/v1/ports/{port['id']}")
    done = world.ok("POST", "/v1/projects/a/scrub")["scrubbed"]
    assert (done["project_id"], done["networks"], len(done["security_groups"])) == ("a", [free["id"]], 1)


def test_b7_what_is_lent_is_neither_deleted_nor_changed_by_who_has_it(world: World) -> None:
    free, *_ = pool(world)
    path = f"/v1/networks/{free['id']}"
    (port,) = boot(world, "a", "member-a")
    for method, body in (("DELETE", None), ("PATCH", {"dns_domain": "a.example"})):
        assert world.call(method, path, body, "member-a").refusal[:2] == (403, "forbidden")
    before = world.ok("GET", path)
    assert world.call("DELETE", path).refusal[:2] == (409, "network_has_project")
    assert world.call("DELETE", f"{path}/project").refusal[:2] == (409, "network_in_use")
    assert world.ok("GET", path) == before
    world.ok("DELETE", f"/v1/ports/{port['id']}", token="member-a")
    world.ok("DELETE", f"{path}/project")
    world.ok("DELETE", path)
    world.network(subnets=[{"cidr": free["subnets"][0]["cidr"]}])


# -- the ports of a machine


def test_a3_a_user_gets_a_network_with_the_first_machine(world: World) -> None:
    free = pool(world, count=1)
    (port,) = boot(world, "a", "member-a", hostname="web")
    assert (port["network_id"], port["project_id"], port["device_id"], port["hostname"]) == (
        free[0]["id"], "a", "vm", "web"
    )  # fmt: skip
    assert world.ok("GET", "/v1/ports?device_id=vm")["ports"] == [port]
    reply = world.call("POST", "/v1/ports", {"device_id": "vm"}, "member-b")
    assert reply.refusal[:2] == (409, "no_free_network")
    assert len(world.ok("GET", "/v1/ports")["ports"]) == 1


@pytest.mark.parametrize(
    ("fields", "token", "refusal"),
    [
        ({}, "admin", (400, "missing_field", "project_id")),
        ({"device_id": ""}, "admin", (400, "invalid_field", "device_id")),
        ({"project_id": "b"}, "member-a", (403, "forbidden", "project_id")),
        ({"node": "n1"}, "member-a", (403, "forbidden", "node")),
        ({"mac": "02:00:00:00:00:01", "project_id": "a"}, "admin", (400, "unknown_field", "mac")),
        ({"project_id": "a"}, "admin", (409, "no_network", "network_id")),
    ],
)
def test_a3_what_cannot_be_is_named(shared_world: World, fields: dict[str, Any], token: str, refusal: Any) -> None:
    assert shared_world.call("POST", "/v1/ports", {"device_id": "vm", **fields}, token).refusal == refusal


# -- networks of a project's own


def test_b11_a_project_makes_networks_within_its_quota(world: World) -> None:
    made = world.ok("POST", "/v1/networks", own(0), "member-a")["network"]
    assert (made["kind"], made["project_id"]) == ("vlan", "a")
    whole = world.ok("GET", f"/v1/networks/{made['id']}")["network"]
    assert (whole["physical_network"], whole["segment"], whole["assignable"]) == ("physnet1", 100, False)
    for number in (1, 2):
        world.ok("POST", "/v1/networks", own(number), "member-a")
    assert world.call("POST", "/v1/networks", own(3), "member-a").refusal[:2] == (409, "quota_exceeded")
    world.ok("POST", "/v1/networks", own(4), "member-b")
    port = world.port(made["id"], "member-a")
    path = f"/v1/networks/{made['id']}"
    assert world.call("DELETE", path, token="member-a").refusal[:2] == (409, "network_in_use")
    world.ok("DELETE", f"/v1/ports/{port['id']}", token="member-a")
    world.ok("DELETE", path, token="member-a")
    world.ok("POST", "/v1/networks", own(3), "member-a")


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        ({"subnets": [{"cidr": "10.0.0.0/31"}]}, (400, "cidr_invalid", "subnets.0.cidr")),
        ({"subnets": [{"cidr": "10.0.0.0/32"}]}, (400, "cidr_invalid", "subnets.0.cidr")),
        ({"segment": 105}, (403, "forbidden", "segment")),
        ({"physical_network": "physnet2"}, (403, "forbidden", "physical_network")),
        ({"kind": "flat"}, (403, "forbidden", "kind")),
        ({"assignable": True}, (403, "forbidden", "assignable")),
        ({"count": 2}, (403, "forbidden", "count")),
        ({"network_size": 64}, (403, "forbidden", "network_size")),
        ({"project_id": "b"}, (403, "forbidden", "project_id")),
    ],
)
def test_b11_what_is_not_for_projects(shared_world: World, fields: dict[str, Any], refusal: Any) -> None:
    assert shared_world.call("POST", "/v1/networks", OWN | fields, "member-a").refusal == refusal


def test_b11_by_default_projects_make_none(world: World) -> None:
    world.forbid_own_networks()
    assert world.call("POST", "/v1/networks", OWN, "member-a").refusal == (403, "forbidden", None)
    world.network(project_id="a")


@pytest.mark.parametrize("field", ["kind", "physical_network"])
def test_an_administrator_says_where(shared_world: World, field: str) -> None:
    body = network_body()
    del body[field]
    assert shared_world.call("POST", "/v1/networks", body).refusal == (400, "missing_field", field)
