from __future__ import annotations

from typing import Any

import pytest

from controller.store import audit
from tests.unit.api.world import World, network_body


def trail(world: World, **filters: Any) -> list[dict[str, Any]]:
    query = "&".join(f"{name}={value}" for name, value in filters.items())
    found: list[dict[str, Any]] = world.ok("GET", f"/v1/audit?{query}")["audit"]
    return found


def test_who_when_and_from_what_to_what(world: World) -> None:
    secret = world.ok("POST", "/v1/tokens", {"name": "alice", "role": "member", "project_id": "a"})["token"]["secret"]
    network = world.network(project_id="a")
    port = world.port(network["id"], name="old")
    reply = world.call("PATCH", f"/v1/ports/{port['id']}", {"name": "new"}, secret, REMOTE_ADDR="192.0.2.7")
    entry = trail(world, kind="port", object=port["id"])[0]
    at = entry.pop("at")
    assert at.endswith("Z") and at >= port["created_at"]
    assert entry == {
        "revision": reply.json["revision"],
        "kind": "port",
        "object": port["id"],
        "action": "update",
        "actor": "member:a",
        "token": "alice",
        "address": "192.0.2.7",
        "request_id": reply.headers["X-Request-Id"],
        "old": {"name": "old"},
        "new": {"name": "new"},
    }
    (made,) = trail(world, kind="port", object=port["id"])[1:]
    assert (made["actor"], made["token"], made["old"]) == ("admin", None, None)


def change(world: World, method: str, path: str, body: Any = None) -> dict[str, Any]:
    """What the trail says of the last change."""
    reply = world.call(method, path, body)
    assert reply.status == 200, reply.data
    return trail(world, limit=1)[0]


def test_each_kind_of_change_tells_what_was_before(world: World) -> None:
    world.node()
    network = world.network(project_id="a", name="n", subnets=[{"cidr": "10.0.0.0/24", "dns_servers": ["10.0.0.9"]}])
    path = f"/v1/networks/{network['id']}"
    assert change(world, "PATCH", path, {"name": "m", "mtu": 1400})["old"] == {"name": "n", "mtu": network["mtu"]}
    subnets = [{"cidr": "10.0.0.0/24", "dns_servers": ["10.0.0.8"]}, {"cidr": "10.1.0.0/24"}]
    told = change(world, "PATCH", path, {"subnets": subnets})
    assert told["old"] == {"subnets": {"10.0.0.0/24": {"dns_servers": ["10.0.0.9"]}}}
    gone = change(world, "PATCH", path, {"subnets": subnets[:1]})
    assert gone["new"] == {"subnets": {"10.1.0.0/24": None}}
    assert gone["old"]["subnets"].keys() == {"10.1.0.0/24"} and gone["old"]["subnets"]["10.1.0.0/24"]["ranges"] == []
    group = world.ok("POST", "/v1/security-groups", {"name": "web", "project_id": "a"})["security_group"]
    port = world.port(network["id"])
    default = port["security_groups"][0]["id"]
    at = f"/v1/ports/{port['id']}"
    told = change(world, "PATCH", at, {"security_groups": [group["id"]], "hostname": "h"})
    assert told["old"] == {"hostname": "", "security_groups": [default]}
    told = change(world, "PATCH", at, {"fixed_ips": [{"address": "10.0.0.77"}]})
    assert told["old"] == {"fixed_ips": [port["fixed_ips"][0]["address"]]} and told["new"] == {
        "fixed_ips": ["10.0.0.77"]
    }
    at = f"/v1/security-groups/{group['id']}"
    assert change(world, "PATCH", at, {"name": "www"})["old"] == {"name": "web"}
    rule = group["rules"][0]
    told = change(world, "DELETE", f"/v1/security-group-rules/{rule['id']}")
    assert told["old"]["rules_deleted"][0]["direction"] == rule["direction"]
    assert change(world, "PATCH", "/v1/quotas/a", {"ports": 5})["old"] == {"ports": None}
    assert change(world, "PATCH", "/v1/quotas/a", {"ports": 6})["old"] == {"ports": 5}
    zone = world.ok("POST", "/v1/dns-zones", {"name": "lab.example", "project_id": "a"})["dns_zone"]
    assert change(world, "PATCH", f"/v1/dns-zones/{zone['id']}", {"ttl": 5})["old"] == {"ttl": zone["ttl"]}
    record = {"zone_id": zone["id"], "name": "www", "type": "A", "data": "192.0.2.1"}
    made = world.ok("POST", "/v1/dns-records", record)["dns_record"]
    told = change(world, "PATCH", f"/v1/dns-records/{made['id']}", {"data": "192.0.2.2"})
    assert told["old"] == {"www.lab.example A": {"data": "192.0.2.1"}}
    world.node(physical_networks=["physnet1", "physnet2"])
    assert trail(world, kind="node", limit=1)[0]["old"] == {"physical_networks": ["physnet1"]}
    told = change(world, "DELETE", f"/v1/dns-zones/{zone['id']}")
    assert told["old"]["name"] == "lab.example"
    world.ok("DELETE", f"/v1/ports/{port['id']}")
    told = trail(world, kind="port", limit=1)[0]
    assert (told["action"], told["old"]["mac"], told["old"]["fixed_ips"]) == ("delete", port["mac"], ["10.0.0.77"])
    assert change(world, "DELETE", path)["old"]["name"] == "m"


def test_no_secret_is_in_it(world: World) -> None:
    port = world.port(world.network(project_id="a")["id"])
    secrets = {"user_data": "aHVzaC1odXNo", "password": "hunter2-hunter2", "vendor_data": {"k": "hush-vendor"}}
    for body in ({**secrets, "meta": {"m": "hush-meta"}}, {"user_data": None, "vendor_data": {"k": "hush-2"}}):
        body = {name: value for name, value in body.items() if name != "password"}
        world.ok("PATCH", f"/v1/ports/{port['id']}/metadata", body)
    told = world.call("GET", "/v1/audit").data
    assert b"hush" not in told and b"aHVzaC" not in told and b"user_data" in told


def test_filters_and_pages(world: World) -> None:
    for number in range(7):
        world.network("member-a" if number % 2 else "admin", subnets=[{"cidr": f"10.{number}.0.0/24"}])
    assert len(trail(world, actor="member:a", kind="network")) == 3
    assert trail(world, since="2999-01-01T00:00Z") == []
    assert len(trail(world, since="2000-01-01T00:00Z", kind="network")) == 7
    seen, marker = [], ""
    while True:
        page = world.ok("GET", f"/v1/audit?kind=network&limit=2{marker}")
        seen += [entry["revision"] for entry in page["audit"]]
        if page["marker"] is None:
            break
        marker = f"&marker={page['marker']}"
    assert len(seen) == 7 and seen == sorted(seen, reverse=True)
    for query in ("since=soon", "marker=x", "marker=0", "limit=0", "limit=1001", "colour=red"):
        assert world.call("GET", f"/v1/audit?{query}").status == 400


def test_one_question_looks_at_a_part_of_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the trail: whoever looks for what is rare goes on where the last page has ended."""
    monkeypatch.setattr(audit, "WINDOW", 2)
    wanted = world.network(name="first")
    for number in range(1, 6):
        world.ok("PATCH", f"/v1/networks/{wanted['id']}", {"name": f"name {number}"})
    world.node()
    pages, marker = 0, ""
    found: list[Any] = []
    while True:
        page = world.ok("GET", f"/v1/audit?kind=node{marker}")
        pages, found = pages + 1, found + page["audit"]
        assert len(page["audit"]) <= 2
        if page["marker"] is None:
            break
        marker = f"&marker={page['marker']}"
    assert len(found) >= 1 and pages >= 3


def test_what_is_refused_is_logged_and_counted(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.call("POST", "/v1/networks", network_body(), "reader", REMOTE_ADDR="192.0.2.7")
    world.call("GET", "/v1/ports", token="Bearer wrong-secret", REMOTE_ADDR="192.0.2.8")
    logged = capsys.readouterr().out
    assert "192.0.2.7" in logged and "status=403" in logged and "actor=reader" in logged
    assert "192.0.2.8" in logged and "status=401" in logged and "wrong-secret" not in logged
    metrics = world.call("GET", "/metrics").data.decode()
    assert 'trunkline_api_requests_total{method="POST",resource="network",status="403"} 1.0' in metrics
    assert 'trunkline_api_requests_total{method="GET",resource="none",status="401"} 1.0' in metrics


def test_what_is_old_is_forgotten_in_its_order(world: World) -> None:
    network = world.network()
    path = f"/v1/networks/{network['id']}"
    world.ok("PATCH", path, {"name": "two"})
    world.ahead = 100
    world.ok("PATCH", path, {"name": "three"})
    assert world.store.forget_audit(1000) == 0
    assert world.store.forget_audit(50) == 2
    assert [entry["new"] for entry in trail(world)] == [{"name": "three"}]
    world.ahead = 500
    assert world.store.forget_audit(50) == 0  # the newest says where the journal is
    assert world.ok("GET", path)["network"]["name"] == "three"


def test_whoever_is_behind_what_is_forgotten_is_told(world: World) -> None:
    network = world.network()
    for name in ("two", "three"):
        world.ok("PATCH", f"/v1/networks/{network['id']}", {"name": name})
    newest = world.store.revision()
    world.ahead = 100
    assert world.store.forget_audit(50) == newest - 1
    assert world.store.changes_since(newest - 1)[0] == newest
    with pytest.raises(Exception, match="not known any more"):
        world.store.changes_since(newest - 2)
