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


def test_status_and_node_follow_report_and_confirmation(world: World, port: dict[str, Any]) -> None:
    made = world.floating_ip(port_id=port["id"])
    path = f"/v1/floating-ips/{made['id']}"
    assert (made["project_id"], made["node"], made["status"]) == ("a", None, "down")
    world.node()
    report = {"serial": 1, "uplinks": {"physnet1": 65001}, "interfaces": [{"iface_id": port["id"], "ofport": 100}]}
    world.ok("PUT", "/v1/nodes/n1/interfaces", report, "agent")

    def seen() -> tuple[str, str]:
        shown = world.ok("GET", path)["floating_ip"]
        return shown["node"], shown["status"]

    assert seen() == ("n1", "down")
    world.active.add(port["id"])
    assert seen() == ("n1", "active")
    world.confirmed.behind = ["n2"]
    assert seen() == ("n1", "active")
    world.confirmed.behind = ["n1"]
    assert seen() == ("n1", "down")
    world.confirmed.behind = []
    world.following = False
    world.ok("PATCH", path, {"port_id": None})
    assert world.ok("PATCH", path, {"port_id": port["id"]})["floating_ip"]["status"] == "down"
    assert [found["id"] for found in world.ok("GET", "/v1/floating-ips?node=n1")["floating_ips"]] == [made["id"]]
    assert world.call("GET", "/v1/floating-ips?node=n1", token="member-a").refusal == (403, "forbidden", "node")


def test_who_leads_one_to_a_port_on_no_node_is_warned(world: World, port: dict[str, Any]) -> None:
    world.ok("PATCH", f"/v1/ports/{port['id']}", {"name": "web"})
    nowhere = ["port web is on no node: none answers for 203.0.113.200 before it is plugged in"]
    made = world.ok("POST", "/v1/floating-ips", {"pool": "public", "port_id": port["id"]})
    assert made["warnings"] == nowhere
    path, lead_here = f"/v1/floating-ips/{made['floating_ip']['id']}", {"port_id": port["id"]}
    assert world.ok("PATCH", path, {"port_id": None})["warnings"] == []
    assert world.ok("PATCH", path, lead_here)["warnings"] == nowhere
    world.node()
    report = {"serial": 1, "uplinks": {"physnet1": 65001}, "interfaces": [{"iface_id": port["id"], "ofport": 100}]}
    world.ok("PUT", "/v1/nodes/n1/interfaces", report, "agent")
    assert world.ok("PATCH", path, lead_here)["warnings"] == []
    assert world.ok("DELETE", path)["warnings"] == []


def test_the_owner_of_the_node_may_object(world: World, port: dict[str, Any]) -> None:
    object.__setattr__(world.services, "floating_ip_active", lambda floating_ip: False)
    made = world.floating_ip(port_id=port["id"])
    world.node()
    report = {"serial": 1, "uplinks": {"physnet1": 65001}, "interfaces": [{"iface_id": port["id"], "ofport": 100}]}
    world.ok("PUT", "/v1/nodes/n1/interfaces", report, "agent")
    world.active.add(port["id"])
    assert world.ok("GET", f"/v1/floating-ips/{made['id']}")["floating_ip"]["status"] == "down"


def test_what_is_of_others_is_not_there(world: World, port: dict[str, Any]) -> None:
    foreign = world.floating_ip(token="member-b")
    own = world.floating_ip(token="member-a")
    foreign_port = world.port(world.network(project_id="b", subnets=[{"cidr": "10.2.0.0/24"}])["id"])
    path = f"/v1/floating-ips/{foreign['id']}"
    forwarding = {"protocol": "tcp", "ports": "80", "port_id": port["id"]}
    for method, where, body in (
        ("GET", path, None),
        ("PATCH", path, {"port_id": port["id"]}),
        ("DELETE", path, None),
        ("GET", f"{path}/port-forwardings", None),
        ("POST", f"{path}/port-forwardings", forwarding),
    ):
        assert world.call(method, where, body, "member-a").refusal == (404, "floating_ip_unknown", None)
    refusal = (404, "port_unknown", "port_id")
    assert lead(world, own, foreign_port["id"], "member-a").refusal == refusal
    body = {"pool": "public", "port_id": foreign_port["id"]}
    assert world.call("POST", "/v1/floating-ips", body, "member-a").refusal == refusal
    forwarding["port_id"] = foreign_port["id"]
    reply = world.call("POST", f"/v1/floating-ips/{own['id']}/port-forwardings", forwarding, "member-a")
    assert reply.refusal == refusal
    listed = world.ok("GET", "/v1/floating-ips", token="member-a")["floating_ips"]
    assert [found["id"] for found in listed] == [own["id"]]
    assert world.ok("GET", "/v1/floating-ips?project_id=b", token="member-a")["floating_ips"] == []
    assert len(world.ok("GET", "/v1/floating-ips")["floating_ips"]) == 2


def test_a_member_takes_for_its_project_an_administrator_for_any(world: World, port: dict[str, Any]) -> None:
    body = {"pool": "public", "project_id": "b"}
    assert world.call("POST", "/v1/floating-ips", body, "member-a").refusal == (403, "forbidden", "project_id")
    assert world.floating_ip(project_id="b")["project_id"] == "b"
    assert world.floating_ip()["project_id"] is None


def test_one_of_a_project_leads_to_its_own_ports_whoever_asks(world: World, port: dict[str, Any]) -> None:
    foreign_port = world.port(world.network(project_id="b", subnets=[{"cidr": "10.2.0.0/24"}])["id"], project_id="b")
    own, nobodys = world.floating_ip(project_id=port["project_id"]), world.floating_ip()
    refusal = (409, "projects_differ", "port_id")
    reply = lead(world, own, foreign_port["id"])
    assert reply.refusal == refusal
    assert reply.error["message"] == f"{own['address']} is of project a, but the port is of project b"
    body = {"pool": "public", "port_id": port["id"], "project_id": "b"}
    assert world.call("POST", "/v1/floating-ips", body).refusal == refusal
    forwarding = {"protocol": "tcp", "ports": "80", "port_id": foreign_port["id"]}
    assert world.call("POST", f"/v1/floating-ips/{own['id']}/port-forwardings", forwarding).refusal == refusal
    assert lead(world, own, port["id"]).status == 200
    assert lead(world, nobodys, foreign_port["id"]).status == 200  # the operator's own leads anywhere


def test_refusals_of_the_store_come_through(world: World, port: dict[str, Any]) -> None:
    for body, refusal in (
        ({"pool": "none"}, (404, "floating_ip_pool_unknown", "pool")),
        ({"pool": "public", "address": "203.0.113.9"}, (400, "address_outside_pool", "address")),
        ({"pool": "public", "port_id": "nothing"}, (404, "port_unknown", "port_id")),
        ({"pool": "public", "port_id": port["id"], "fixed_ip": "10.0.0.9"}, (400, "fixed_ip_unknown", "fixed_ip")),
        ({"pool": "public", "fixed_ip": "10.0.0.9"}, (400, "invalid_field", "fixed_ip")),
    ):
        assert world.call("POST", "/v1/floating-ips", body).refusal == refusal
    made = [world.floating_ip() for _ in range(4)]
    reply = world.call("POST", "/v1/floating-ips", {"pool": "public"})
    assert reply.refusal == (409, "pool_exhausted", "pool")
    assert reply.error["message"] == "No more floating IPs in pool public"
    lead(world, made[0], port["id"])
    assert lead(world, made[0], None, expected_port_id="other").refusal == (
        409,
        "floating_ip_elsewhere",
        "expected_port_id",
    )
    # asked again, because the answer was lost
    assert [lead(world, made[0], None, expected_port_id=port["id"]).status for _ in range(2)] == [200, 200]
    path = f"/v1/floating-ips/{made[0]['id']}"
    assert world.call("PATCH", path, {}).refusal == (400, "missing_field", "port_id")


def test_what_came_with_a_port_is_not_for_users(world: World, port: dict[str, Any]) -> None:
    world.store._auto_assign_pool = "public"
    own = world.port(port["network_id"], "member-a")
    assert own["floating_ips"][0]["address"] == "203.0.113.200"
    path = f"/v1/floating-ips/{own['floating_ips'][0]['id']}"
    assert world.ok("GET", path, token="member-a")["floating_ip"]["auto"] is True
    for method, body in (("DELETE", None), ("PATCH", {"port_id": None}), ("PATCH", {"port_id": port["id"]})):
        for token in ("member-a", "admin"):
            assert world.call(method, path, body, token).refusal == (403, "floating_ip_auto", None)
    for _ in range(3):
        world.port(port["network_id"])
    reply = world.call("POST", "/v1/ports", {"network_id": port["network_id"]})
    assert reply.refusal[:2] == (409, "pool_exhausted")


def test_many_at_once(world: World, port: dict[str, Any]) -> None:
    made = world.ok("POST", "/v1/floating-ips", {"pool": "public", "count": 2, "project_id": "a"})["floating_ips"]
    assert [(found["address"], found["project_id"]) for found in made] == [
        ("203.0.113.200", "a"),
        ("203.0.113.201", "a"),
    ]
    wanted = {"pool": "public", "addresses": ["203.0.113.203", "203.0.113.200"]}
    reply = world.call("POST", "/v1/floating-ips", wanted)
    assert reply.refusal == (409, "address_in_use", "addresses.1")
    assert len(world.ok("GET", "/v1/floating-ips")["floating_ips"]) == 2
    wanted["addresses"] = ["203.0.113.203", "203.0.113.202"]
    made += world.ok("POST", "/v1/floating-ips", wanted)["floating_ips"]
    for wrong in ({"count": 1, "addresses": ["203.0.113.203"]}, {"addresses": ["203.0.113.203"] * 2}):
        assert world.call("POST", "/v1/floating-ips", {"pool": "public"} | wrong).refusal[::2] == (400, "addresses")
    lead(world, made[0], port["id"])
    ids = [found["id"] for found in made]
    path = "/v1/floating-ips/bulk-delete"
    assert world.call("POST", path, {"ids": [*ids, "none"]}).refusal == (404, "floating_ip_unknown", "ids")
    assert len(world.ok("GET", "/v1/floating-ips")["floating_ips"]) == 4
    for field, value in {"count": 1, "addresses": ["203.0.113.203"]}.items():
        refusal = world.call("POST", "/v1/floating-ips", {"pool": "public", field: value}, "member-a").refusal
        assert refusal == (403, "forbidden", field)
    assert world.call("POST", path, {"ids": ids}, "member-a").refusal == (403, "forbidden", None)
    gone = world.ok("POST", path, {"ids": [*ids, ids[0]]})
    assert [found["id"] for found in gone["floating_ips"]] == ids
    assert world.ok("GET", "/v1/floating-ips")["floating_ips"] == []


def test_pools_are_known_by_id_and_name(world: World) -> None:
    made = world.pool("203.0.113.64/30", "203.0.113.80-203.0.113.81", "203.0.113.90")
    assert made["ranges"] == [
        "203.0.113.64-203.0.113.67",
        "203.0.113.80-203.0.113.81",
        "203.0.113.90-203.0.113.90",
    ]
    for name in (made["id"], "public"):
        assert world.ok("GET", f"/v1/floating-ip-pools/{name}", token="member-a")["floating_ip_pool"] == made
    assert world.floating_ip(made["id"])["pool"] == "public"
    assert world.call("DELETE", "/v1/floating-ip-pools/public").refusal[:2] == (409, "pool_in_use")
    found = world.ok("GET", f"/v1/floating-ip-pools?network_id={made['network_id']}", token="member-b")
    assert [pool["used"] for pool in found["floating_ip_pools"]] == [1]
    reply = world.call("DELETE", f"/v1/networks/{made['network_id']}")
    assert (reply.refusal[:2], reply.error["details"]) == ((409, "network_in_use"), {"floating_ip_pools": 1})


@pytest.mark.parametrize(
    "wrong", ["203.0.113.9-203.0.113.8", "203.0.113.1/24", "host:203.0.113.9", "203.0.113", 7, {"first": "203.0.113.9"}]
)
def test_a_range_is_a_cidr_or_two_addresses(world: World, wrong: Any) -> None:
    body = {"name": "public", "network_id": world.external()["id"], "ranges": [wrong]}
    assert world.call("POST", "/v1/floating-ip-pools", body).refusal == (400, "invalid_field", "ranges.0")


def test_port_forwardings(world: World, port: dict[str, Any]) -> None:
    made = world.floating_ip(token="member-a")
    path = f"/v1/floating-ips/{made['id']}/port-forwardings"
    body = {"protocol": "udp", "ports": "5000-5100", "port_id": port["id"]}
    created = world.ok("POST", path, body, "member-a")
    forwarding = created["port_forwarding"]
    assert forwarding == body | {
        "id": forwarding["id"],
        "key": 1,
        "fixed_ip": port["fixed_ips"][0]["address"],
        "to": 5000,
    }
    assert created["revision"] == world.services.snapshot().revision
    other = world.ok("POST", path, {**body, "protocol": "tcp", "ports": "2201", "to": 22})["port_forwarding"]
    assert (other["ports"], other["to"]) == ("2201", 22)
    assert world.ok("GET", path)["port_forwardings"] == [forwarding, other]
    shown = world.ok("GET", f"/v1/floating-ips/{made['id']}")["floating_ip"]
    assert shown["port_forwardings"] == [forwarding, other]
    assert world.ok("GET", f"{path}/{other['id']}")["port_forwarding"] == other
    assert world.call("POST", path, body).refusal == (409, "ports_in_use", "ports")
    assert lead(world, made, port["id"]).refusal == (409, "floating_ip_forwarded", "port_id")
    world.ok("DELETE", f"{path}/{other['id']}")
    assert world.call("DELETE", f"{path}/{other['id']}").refusal == (404, "port_forwarding_unknown", None)
    world.ok("DELETE", f"/v1/ports/{port['id']}")
    assert world.ok("GET", path)["port_forwardings"] == []


@pytest.mark.parametrize("ports", ["", "80-", "-80", "80:90", "80-90-100", "123456", " 80", 80, "0", "90-80", "65536"])
def test_ports_are_a_number_or_a_range(world: World, port: dict[str, Any], ports: Any) -> None:
    path = f"/v1/floating-ips/{world.floating_ip()['id']}/port-forwardings"
    body = {"protocol": "tcp", "ports": ports, "port_id": port["id"]}
    assert world.call("POST", path, body).refusal[::2] == (400, "ports")


def test_quotas(world: World, port: dict[str, Any]) -> None:
    quota = {"project_id": "a", "floating_ips": 10, "floating_ips_used": 0, "own": []}
    quota |= {"security_groups": 10, "security_groups_used": 0, "security_group_rules": 100, "address_pairs": 10}
    quota |= {"networks": 3, "networks_used": 1}
    quota |= {"ports": -1, "ports_used": 1, "fixed_ips": -1, "fixed_ips_used": 1}
    quota |= {"dns_zones": 10, "dns_zones_used": 0, "dns_records": 500}
    assert world.ok("GET", "/v1/quotas/a", token="member-a")["quota"] == quota
    assert world.call("GET", "/v1/quotas/b", token="member-a").refusal == (404, "project_unknown", None)
    world.ok("PATCH", "/v1/quotas/a", {"floating_ips": 1})
    world.floating_ip(token="member-a")
    reply = world.call("POST", "/v1/floating-ips", {"pool": "public"}, "member-a")
    assert (reply.refusal, reply.error["details"]) == ((409, "quota_exceeded", None), {"limit": 1, "used": 1})
    changed = world.ok("PATCH", "/v1/quotas/a", {"floating_ips": None})["quota"]
    assert changed == quota | {"floating_ips_used": 1}
    assert world.call("GET", "/v1/quotas/a b").refusal == (400, "invalid_field", "project")
