"""/v1/dns-zones and /v1/dns-records: who may do what, and what comes back."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.api.world import World

WHO = ("admin", "member-a", "member-b", "reader", "agent")


def zone(world: World, token: str = "member-a", name: str = "lab.example", **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = world.ok("POST", "/v1/dns-zones", {"name": name, **fields}, token)["dns_zone"]
    return made


def record(world: World, of: dict[str, Any], name: str = "www", token: str = "member-a", **fields: Any) -> Any:
    body = {"zone_id": of["id"], "name": name, "type": "A"} | ({"data": "192.0.2.1"} if not fields else {}) | fields
    return world.ok("POST", "/v1/dns-records", body, token)["dns_record"]


def test_a_zone_and_its_records(world: World) -> None:
    network = world.network("admin", project_id="a")
    made = zone(world, ttl=30, network_ids=[network["id"]])
    assert (made["scope"], made["project_id"], made["network_ids"]) == ("private", "a", [network["id"]])
    one = record(world, made, data="192.0.2.7", ttl=5)
    assert (one["name"], one["fqdn"], one["zone"]) == ("www", "www.lab.example", "lab.example")
    apex = record(world, made, "@", type="MX", data="10 WWW.lab.example.")
    assert (apex["name"], apex["fqdn"], apex["data"]) == ("@", "lab.example", "10 www.lab.example")
    path = f"/v1/dns-records/{one['id']}"
    changed = world.ok("PATCH", path, {"data": "192.0.2.8", "ttl": None}, "member-a")["dns_record"]
    assert (changed["data"], changed["ttl"]) == ("192.0.2.8", None)
    assert world.ok("GET", f"/v1/dns-zones/{made['id']}")["dns_zone"]["records"] == 2
    found = world.ok("GET", "/v1/dns-records?fqdn=WWW.lab.example.")["dns_records"]
    assert [each["id"] for each in found] == [one["id"]]
    assert world.ok("GET", "/v1/dns-records?data=192.0.2.8&type=a")["dns_records"] == found
    assert world.ok("DELETE", path, token="member-a")["dns_record"]["fqdn"] == "www.lab.example"
    world.ok("DELETE", f"/v1/dns-zones/{made['id']}", token="member-a")
    assert world.ok("GET", "/v1/dns-records")["dns_records"] == []


def test_d10_nobody_writes_into_the_zone_of_another_project(world: World) -> None:
    private = zone(world)
    public = zone(world, "admin", "pub.example", scope="public", project_id="a")
    for of, refusal in ((private, 404), (public, 403)):
        one = record(world, of)
        body = {"zone_id": of["id"], "name": "evil", "type": "A", "data": "192.0.2.66"}
        assert world.call("POST", "/v1/dns-records", body, "member-b").status == refusal
        path = f"/v1/dns-records/{one['id']}"
        assert world.call("PATCH", path, {"data": "192.0.2.66"}, "member-b").status == refusal
        assert world.call("DELETE", path, token="member-b").status == refusal
        for method, body in (("PATCH", {"ttl": 5}), ("DELETE", None)):
            assert world.call(method, f"/v1/dns-zones/{of['id']}", body, "member-b").status == refusal
        assert world.call("GET", path, token="member-b").status == (404 if of is private else 200)
    listed = world.ok("GET", "/v1/dns-zones", token="member-b")["dns_zones"]
    assert [each["name"] for each in listed] == ["pub.example"] and "network_ids" not in listed[0]
    seen = world.ok("GET", "/v1/dns-records", token="member-b")["dns_records"]
    assert [each["fqdn"] for each in seen] == ["www.pub.example"]
    assert world.ok("GET", "/v1/dns-zones?project_id=a&scope=private", token="member-b")["dns_zones"] == []
    # the project itself writes, in both
    assert record(world, private, "ftp")["fqdn"] == "ftp.lab.example"
    assert record(world, public, "ftp")["fqdn"] == "ftp.pub.example"


def test_d10_public_zones_are_the_administrators(world: World) -> None:
    body = {"name": "pub.example", "scope": "public"}
    assert world.call("POST", "/v1/dns-zones", body, "member-a").refusal == (403, "forbidden", "scope")
    body = {"name": "pub.example", "project_id": "b"}
    assert world.call("POST", "/v1/dns-zones", body, "member-a").refusal == (403, "forbidden", "project_id")
    public = zone(world, "admin", "pub.example", scope="public", project_id="a")
    path = f"/v1/dns-zones/{public['id']}"
    assert world.call("DELETE", path, token="member-a").status == 403
    for changes in ({"scope": "private"}, {"project_id": "b"}):
        assert world.call("PATCH", path, changes, "member-a").refusal == (403, "forbidden", next(iter(changes)))
    assert world.ok("PATCH", path, {"ttl": 5}, "member-a")["dns_zone"]["ttl"] == 5
    assert world.ok("PATCH", path, {"project_id": "b"})["dns_zone"]["project_id"] == "b"
    assert world.call("PATCH", path, {"ttl": 6}, "member-a").status == 403
    for token in ("reader", "agent"):
        assert world.call("POST", "/v1/dns-zones", {"name": "x.example"}, token).status == 403
        assert world.call("DELETE", path, token=token).status == 403
    assert world.ok("GET", path, token="reader")["dns_zone"]["name"] == "pub.example"


def test_one_of_its_own_networks_alone(world: World) -> None:
    network = world.network("admin", project_id="b")
    body = {"name": "lab.example", "network_ids": [network["id"]]}
    refused = (404, "network_unknown", "network_ids.0")
    assert world.call("POST", "/v1/dns-zones", body, "member-a").refusal == refused
    made = zone(world)
    changes = {"network_ids": [network["id"]]}
    assert world.call("PATCH", f"/v1/dns-zones/{made['id']}", changes, "member-a").refusal == refused


def test_d9_names_of_floating_ips(world: World) -> None:
    world.pool()
    mine = world.floating_ip(token="member-a")
    theirs = world.floating_ip(token="member-b")
    made = zone(world)
    one = record(world, made, floating_ip_id=mine["id"])
    other = record(world, made, "ftp", data=mine["address"])
    assert one["data"] == other["data"] == mine["address"]
    assert one["floating_ip_id"] == other["floating_ip_id"] == mine["id"]
    again = {"zone_id": made["id"], "name": "www", "type": "A", "floating_ip_id": mine["id"]}
    assert world.call("POST", "/v1/dns-records", again, "member-a").refusal == (409, "dns_record_exists", "data")
    stolen = again | {"name": "evil", "floating_ip_id": theirs["id"]}
    refused = (404, "floating_ip_unknown", "floating_ip_id")
    assert world.call("POST", "/v1/dns-records", stolen, "member-a").refusal == refused
    change = {"floating_ip_id": theirs["id"]}
    assert world.call("PATCH", f"/v1/dns-records/{one['id']}", change, "member-a").refusal == refused
    by_address = world.ok("GET", f"/v1/dns-records?data={mine['address']}", token="member-a")["dns_records"]
    assert [each["name"] for each in by_address] == ["www", "ftp"]
    world.ok("DELETE", f"/v1/floating-ips/{mine['id']}", token="member-a")
    assert world.ok("GET", "/v1/dns-records", token="member-a")["dns_records"] == []


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        ({"name": "a..b"}, (400, "dns_name_invalid", "name")),
        ({"name": "_x"}, (400, "dns_name_invalid", "name")),
        ({"data": "nowhere"}, (400, "dns_data_invalid", "data")),
        ({"data": None}, (400, "dns_data_invalid", "data")),
        ({"type": "NS"}, (400, "invalid_field", "type")),
        ({"ttl": -1}, (400, "invalid_field", "ttl")),
        ({"ttl": 2**31}, (400, "invalid_field", "ttl")),
        ({"name": "@", "type": "CNAME", "data": "www.example.net"}, (400, "dns_cname_invalid", "name")),
        ({"zone_id": "nothing"}, (404, "dns_zone_unknown", "zone_id")),
        ({"fqdn": "x"}, (400, "unknown_field", "fqdn")),
    ],
)
def test_refusals(world: World, fields: dict[str, Any], refusal: tuple[int, str, str]) -> None:
    made = zone(world)
    body = {"zone_id": made["id"], "name": "www", "type": "A", "data": "192.0.2.1"} | fields
    assert world.call("POST", "/v1/dns-records", body, "member-a").refusal == refusal


def test_what_cannot_change(world: World) -> None:
    made = zone(world)
    one = record(world, made)
    for path, field in ((f"dns-zones/{made['id']}", "name"), (f"dns-records/{one['id']}", "type")):
        assert world.call("PATCH", f"/v1/{path}", {field: "x"}).refusal == (400, "immutable", field)


def test_quota(world: World) -> None:
    world.ok("PATCH", "/v1/quotas/a", {"dns_zones": 1, "dns_records": 1})
    made = zone(world)
    body = {"name": "other.example"}
    assert world.call("POST", "/v1/dns-zones", body, "member-a").status == 409
    record(world, made)
    body = {"zone_id": made["id"], "name": "ftp", "type": "A", "data": "192.0.2.1"}
    assert world.call("POST", "/v1/dns-records", body, "member-a").refusal == (409, "quota_exceeded", None)
    assert world.ok("GET", "/v1/quotas/a", token="member-a")["quota"]["dns_zones_used"] == 1


def test_threat_31_a_zone_that_is_full_is_its_own_projects_affair(world: World) -> None:
    """Another project goes on, and so does what is there already; what is deleted makes room."""
    for project in ("a", "b"):
        world.ok("PATCH", f"/v1/quotas/{project}", {"dns_zones": 1, "dns_records": 3})
    full, others = zone(world), zone(world, "member-b", "other.example")
    held = [record(world, full, f"host{number}") for number in range(3)]
    more = {"zone_id": full["id"], "name": "more", "type": "A", "data": "192.0.2.1"}
    for _ in range(20):
        assert world.call("POST", "/v1/dns-records", more, "member-a").refusal == (409, "quota_exceeded", None)
    assert [record(world, others, f"host{number}", "member-b")["name"] for number in range(3)]
    assert world.ok("GET", f"/v1/dns-zones/{full['id']}", token="member-a")["dns_zone"]["records"] == 3
    changed = world.ok("PATCH", f"/v1/dns-records/{held[0]['id']}", {"data": "192.0.2.9"}, "member-a")
    assert changed["dns_record"]["data"] == "192.0.2.9"
    world.ok("DELETE", f"/v1/dns-records/{held[1]['id']}", token="member-a")
    assert world.ok("POST", "/v1/dns-records", more, "member-a")["dns_record"]["name"] == "more"
