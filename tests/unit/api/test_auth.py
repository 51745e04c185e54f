from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from controller.api.auth import PERMISSIONS, SCOPES, Identity, Resource, Role, Verb, allowed_by
from controller.api.credentials import Authenticator, parse_credentials
from tests.unit.api.world import TOKENS, World, make_app, network_body

QUESTION = bytes.fromhex("0001010000010000000000000377656200") + b"\0\1\0\1"

# what each role gets: method, path, body, then who is let through; all others must get 403
MATRIX: list[tuple[str, str, Any, set[str]]] = [
    ("GET", "/v1/networks", None, {"admin", "member-a", "reader"}),
    ("GET", "/v1/networks/{own}", None, {"admin", "member-a", "reader"}),
    ("POST", "/v1/networks", network_body(subnets=[{"cidr": "10.7.0.0/24"}]), {"admin", "member-a"}),
    ("PATCH", "/v1/networks/{own}", {"name": "x"}, {"admin", "member-a"}),
    ("DELETE", "/v1/networks/{spare}", None, {"admin", "member-a"}),
    ("PUT", "/v1/networks/{free}/project", {"project_id": "a"}, {"admin"}),
    ("DELETE", "/v1/networks/{free}/project", None, {"admin"}),
    ("POST", "/v1/projects/a/networks", {"network_id": "{free}"}, {"admin"}),
    ("POST", "/v1/projects/b/scrub", None, {"admin"}),
    ("GET", "/v1/networks/{own}/addresses", None, {"admin", "member-a", "reader"}),
    ("PUT", "/v1/networks/{own}/addresses/10.0.0.77/reservation", None, {"admin", "member-a"}),
    ("DELETE", "/v1/networks/{own}/addresses/10.0.0.77/reservation", None, {"admin", "member-a"}),
    ("DELETE", "/v1/networks/{own}/addresses/10.0.0.99/hold", None, {"admin"}),
    ("GET", "/v1/address-history?address=10.0.0.1", None, {"admin", "member-a", "reader"}),
    (
        "POST",
        "/v1/address-plans",
        {"entries": [{"kind": "reserved", "network": "ext", "address": "203.0.113.99"}]},
        {"admin"},
    ),
    ("GET", "/v1/ports", None, {"admin", "member-a", "reader"}),
    ("GET", "/v1/ports/{port}", None, {"admin", "member-a", "reader"}),
    ("POST", "/v1/ports", {"network_id": "{own}"}, {"admin", "member-a"}),
    ("PATCH", "/v1/ports/{port}", {"name": "x"}, {"admin", "member-a"}),
    ("DELETE", "/v1/ports/{port}", None, {"admin", "member-a"}),
    ("GET", "/v1/ports/{moving}/bindings", None, {"admin", "reader"}),
    ("POST", "/v1/ports/{moving}/bindings", {"node": "n3"}, {"admin"}),
    ("PUT", "/v1/ports/{moving}/bindings/n3/activate", None, {"admin"}),
    ("DELETE", "/v1/ports/{moving}/bindings/n3", None, {"admin"}),
    ("GET", "/v1/ports/{port}/metadata", None, {"admin", "member-a", "reader"}),
    ("PATCH", "/v1/ports/{port}/metadata", {"availability_zone": "x"}, {"admin", "member-a"}),
    ("GET", "/v1/nodes/n2/metadata/{moving_key}/latest", None, {"admin", "agent"}),
    ("POST", "/v1/nodes/n2/metadata/{moving_key}/openstack/latest/password", {"any": "thing"}, {"agent"}),
    ("GET", "/v1/controllers", None, {"admin", "reader"}),
    ("GET", "/v1/events", None, {"admin", "member-a", "reader"}),
    ("GET", "/v1/drops", None, {"admin", "member-a", "reader"}),
    ("POST", "/v1/plan", {"requests": [{"method": "DELETE", "path": "/v1/ports/{port}"}]}, {"admin"}),
    ("GET", "/v1/nodes", None, {"admin", "reader"}),
    ("GET", "/v1/nodes/n1", None, {"admin", "reader"}),
    ("DELETE", "/v1/nodes/n1", None, {"admin"}),
    ("PUT", "/v1/nodes/n1", {"datapath_id": "0000000000000001"}, {"agent", "agent-n1"}),
    ("PUT", "/v1/nodes/n2", {"datapath_id": "0000000000000002"}, {"agent"}),
    ("PUT", "/v1/nodes/n1/interfaces", {"serial": 5}, {"agent", "agent-n1"}),
    ("GET", "/v1/nodes/n1/ports?name=x", None, {"agent", "agent-n1"}),
    ("GET", "/v1/nodes/n1/ports/{port}", None, {"agent", "agent-n1"}),
    ("GET", "/v1/nodes/n1/revisions/1", None, {"agent", "agent-n1"}),
    ("POST", "/v1/nodes/n2/dns/{moving_key}", QUESTION, {"agent"}),
    ("GET", "/v1/nodes/n1/errands", None, {"agent", "agent-n1"}),
    ("POST", "/v1/ports/{moving}/captures", {}, {"admin", "member-a"}),
    ("GET", "/v1/ports/{moving}/captures/{capture}", None, {"admin", "member-a"}),
    ("GET", "/v1/floating-ip-pools", None, {"admin", "member-a", "reader"}),
    ("GET", "/v1/floating-ip-pools/public", None, {"admin", "member-a", "reader"}),
    (
        "POST",
        "/v1/floating-ip-pools",
        {"name": "new", "network_id": "{external}", "ranges": ["203.0.113.64/28"]},
        {"admin"},
    ),
    ("DELETE", "/v1/floating-ip-pools/idle", None, {"admin"}),
    ("GET", "/v1/floating-ips", None, {"admin", "member-a", "reader"}),
    ("GET", "/v1/floating-ips/{floating}", None, {"admin", "member-a", "reader"}),
    ("POST", "/v1/floating-ips", {"pool": "public"}, {"admin", "member-a"}),
    ("PATCH", "/v1/floating-ips/{floating}", {"port_id": None}, {"admin", "member-a"}),
    ("DELETE", "/v1/floating-ips/{floating}", None, {"admin", "member-a"}),
    ("GET", "/v1/floating-ips/{floating}/port-forwardings", None, {"admin", "member-a", "reader"}),
    ("GET", "/v1/floating-ips/{floating}/port-forwardings/{forwarding}", None, {"admin", "member-a", "reader"}),
    (
        "POST",
        "/v1/floating-ips/{floating}/port-forwardings",
        {"protocol": "tcp", "ports": "80", "port_id": "{port}"},
        {"admin", "member-a"},
    ),
    ("DELETE", "/v1/floating-ips/{floating}/port-forwardings/{forwarding}", None, {"admin", "member-a"}),
    ("GET", "/v1/leases", None, {"admin", "member-a", "reader"}),
    ("GET", "/v1/problems", None, {"admin", "member-a", "reader"}),
    ("GET", "/v1/quarantine", None, {"admin", "reader"}),
    ("POST", "/v1/trace", {"port": "{port}", "to": "192.0.2.1"}, {"admin", "member-a", "reader"}),
    ("GET", "/v1/quotas/a", None, {"admin", "member-a", "reader"}),
    ("PATCH", "/v1/quotas/a", {"floating_ips": 5}, {"admin"}),
    ("GET", "/v1/security-groups", None, {"admin", "member-a", "reader"}),
    ("POST", "/v1/security-groups", {"name": "new"}, {"admin", "member-a"}),
    ("GET", "/v1/security-groups/{group}", None, {"admin", "member-a", "reader"}),
    ("PATCH", "/v1/security-groups/{group}", {"name": "new"}, {"admin", "member-a"}),
    ("DELETE", "/v1/security-groups/{group}", None, {"admin", "member-a"}),
    ("GET", "/v1/security-group-rules", None, {"admin", "member-a", "reader"}),
    (
        "POST",
        "/v1/security-group-rules",
        {"security_group_id": "{group}", "direction": "ingress"},
        {"admin", "member-a"},
    ),
    ("GET", "/v1/security-group-rules/{rule}", None, {"admin", "member-a", "reader"}),
    ("DELETE", "/v1/security-group-rules/{rule}", None, {"admin", "member-a"}),
    ("GET", "/v1/default-security-group-rules", None, {"admin", "reader"}),
    ("POST", "/v1/default-security-group-rules", {"direction": "ingress"}, {"admin"}),
    ("GET", "/v1/default-security-group-rules/{template}", None, {"admin", "reader"}),
    ("DELETE", "/v1/default-security-group-rules/{template}", None, {"admin"}),
    ("GET", "/v1/provider-rules", None, {"admin", "reader"}),
    ("POST", "/v1/provider-rules", {"cidr": "198.51.100.0/24"}, {"admin"}),
    ("GET", "/v1/provider-rules/{dropped}", None, {"admin", "reader"}),
    ("DELETE", "/v1/provider-rules/{dropped}", None, {"admin"}),
    ("GET", "/v1/dns-zones", None, {"admin", "member-a", "reader"}),
    ("POST", "/v1/dns-zones", {"name": "new.example"}, {"admin", "member-a"}),
    ("GET", "/v1/dns-zones/{zone}", None, {"admin", "member-a", "reader"}),
    ("PATCH", "/v1/dns-zones/{zone}", {"ttl": 5}, {"admin", "member-a"}),
    ("DELETE", "/v1/dns-zones/{zone}", None, {"admin", "member-a"}),
    ("GET", "/v1/dns-records", None, {"admin", "member-a", "reader"}),
    (
        "POST",
        "/v1/dns-records",
        {"zone_id": "{zone}", "name": "ftp", "type": "A", "data": "192.0.2.7"},
        {"admin", "member-a"},
    ),
    ("GET", "/v1/dns-records/{record}", None, {"admin", "member-a", "reader"}),
    ("PATCH", "/v1/dns-records/{record}", {"ttl": 5}, {"admin", "member-a"}),
    ("DELETE", "/v1/dns-records/{record}", None, {"admin", "member-a"}),
    ("GET", "/v1/tokens", None, {"admin"}),
    ("GET", "/v1/tokens/{token}", None, {"admin"}),
    ("POST", "/v1/tokens", {"name": "new", "role": "reader"}, {"admin"}),
    ("POST", "/v1/tokens/{token}/rotate", None, {"admin"}),
    ("DELETE", "/v1/tokens/{token}", None, {"admin"}),
    ("GET", "/v1/audit", None, {"admin", "reader"}),
    ("GET", "/v1/revisions/1", None, {"admin", "member-a", "reader"}),
    ("GET", "/v1/topology", None, {"admin", "member-a", "reader"}),
    ("GET", "/v1", None, set(TOKENS)),
    ("GET", "/metrics", None, {"admin", "reader"}),
    ("GET", "/stats/switches", None, {"admin", "reader"}),
    ("GET", "/v1/health", None, set(TOKENS)),
    ("GET", "/healthz", None, set(TOKENS)),
    ("GET", "/readyz", None, set(TOKENS)),
]


def _id(value: object) -> str:
    """The same in every worker: a set has no order."""
    return str(sorted(value) if isinstance(value, set) else value)[:40]


@dataclass(frozen=True)
class Furnished:
    """A database with one of each, their ids by the names in MATRIX, and a world that nobody changes."""

    database: Path
    names: dict[str, str]
    world: World

    @contextmanager
    def copy(self, path: Path) -> Iterator[World]:
        world = World(f"sqlite:///{shutil.copy(self.database, path)}")
        yield world
        world.close()


@pytest.fixture(scope="module")
def furnished(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Furnished]:
    directory = tmp_path_factory.mktemp("furnished")
    path = Path(shutil.copy(empty_database, directory / "trunkline.db"))
    world = World(f"sqlite:///{path}")
    names = furnish(world)
    world.close()
    unchanged = World(f"sqlite:///{shutil.copy(path, directory / 'unchanged.db')}")
    names["capture"] = unchanged.call("POST", f"/v1/ports/{names['moving']}/captures", {}).headers["X-Capture-Id"]
    yield Furnished(path, names, unchanged)
    unchanged.close()


def furnish(world: World) -> dict[str, str]:
    own = world.network(project_id="a")["id"]
    moving = world.moving(own, "n2", "n3")
    names = {
        "own": own,
        "spare": world.network(project_id="a", subnets=[{"cidr": "10.8.0.0/24"}])["id"],
        "free": world.network(assignable=True, subnets=[{"cidr": "10.9.0.0/24"}])["id"],
        "port": world.port(own)["id"],
        "moving": moving["id"],
        "moving_key": moving["key"],
    }
    world.node()
    external = world.external()["id"]
    for pool, part in (("public", "203.0.113.32/28"), ("idle", "203.0.113.48/28")):
        world.ok("POST", "/v1/floating-ip-pools", {"name": pool, "network_id": external, "ranges": [part]})
    floating = world.floating_ip("public", "member-a")["id"]
    forwarding = {"protocol": "udp", "ports": "53", "port_id": names["port"]}
    made = world.ok("POST", f"/v1/floating-ips/{floating}/port-forwardings", forwarding)
    names |= {"external": external, "floating": floating, "forwarding": made["port_forwarding"]["id"]}
    group = world.ok("POST", "/v1/security-groups", {"name": "web", "project_id": "a"})["security_group"]
    template = world.ok("GET", "/v1/default-security-group-rules")["default_security_group_rules"][0]
    dropped = world.ok("POST", "/v1/provider-rules", {"cidr": "192.0.2.0/24"})["provider_rule"]
    names |= {"group": group["id"], "rule": group["rules"][0]["id"]}
    zone = world.ok("POST", "/v1/dns-zones", {"name": "lab.example", "project_id": "a"})["dns_zone"]["id"]
    record = {"zone_id": zone, "name": "www", "type": "A", "data": "192.0.2.1"}
    names |= {"zone": zone, "record": world.ok("POST", "/v1/dns-records", record)["dns_record"]["id"]}
    names["token"] = world.ok("POST", "/v1/tokens", {"name": "old", "role": "reader"})["token"]["id"]
    world.hold(own, "10.0.0.99")
    return names | {"template": template["id"], "dropped": dropped["id"]}


@pytest.mark.parametrize(("method", "path", "body", "allowed"), MATRIX, ids=_id)
@pytest.mark.parametrize("token", [name for name in TOKENS if name != "member-b"])
def test_matrix(
    furnished: Furnished, tmp_path: Path, method: str, path: str, body: Any, allowed: set[str], token: str
) -> None:
    """Who may write, does so in a copy. All others leave no trace, or they would be seen by those after them."""
    names = furnished.names
    if isinstance(body, dict):
        body = {name: value.format(**names) if isinstance(value, str) else value for name, value in body.items()}
    raw = body if isinstance(body, bytes) else None
    changes = token in allowed and method != "GET"
    with furnished.copy(tmp_path / "trunkline.db") if changes else nullcontext(furnished.world) as world:
        commits = world.commits
        reply = world.call(method, path.format(**names), body, token, raw)
        if token in allowed:
            assert reply.status in (200, 201), reply.data
        else:
            assert reply.refusal[:2] == (403, "forbidden")
            assert world.commits == commits


def test_matrix_covers_every_permission() -> None:
    # one permission twice (another node), and the three of health, which need none
    assert len(MATRIX) == len(PERMISSIONS) + 4


@pytest.mark.parametrize(("resource", "verb"), [(resource, verb) for resource in Resource for verb in Verb])
def test_what_is_not_in_the_table_is_refused(resource: Resource, verb: Verb) -> None:
    for role in Role:
        allowed = role in PERMISSIONS.get((resource, verb), ())
        assert Identity(role).may(resource, verb) is allowed


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Bearer admin-toke",
        "Bearer admin-token2",
        "Bearer ADMIN-TOKEN",
        "Basic admin-token",
        "admin-token",
        "Bearer admin-token x",
        "Bearer \u00e9\u00ff",
    ],
)
@pytest.mark.parametrize("path", ["/v1/networks", "/metrics", "/stats/switches", "/nothing", "/v1/topology", "/v1/x"])
def test_without_a_good_token_nothing_is_told(shared_world: World, header: str | None, path: str) -> None:
    for method in ("GET", "POST", "BREW"):
        reply = shared_world.call(method, path, token=header)
        assert reply.refusal == (401, "unauthorized", None)
        assert reply.headers["WWW-Authenticate"].startswith("Bearer")


def test_scheme_is_not_case_sensitive(shared_world: World) -> None:
    assert shared_world.call("GET", "/v1/networks", token="bearer admin-token").status == 200


@pytest.mark.parametrize("path", ["/v1/health", "/healthz"])
def test_health_needs_no_token(shared_world: World, path: str) -> None:
    reply = shared_world.call("GET", path, token=None)
    assert (reply.status, reply.json) == (200, {"status": "ok"})


def test_readiness_says_what_is_wrong_and_nothing_about_the_cloud(world: World) -> None:
    checks = {"database": "ok", "flows": "ok"}
    world.app = make_app(replace(world.services, ready=lambda: checks, registry=CollectorRegistry()))
    assert world.call("GET", "/readyz", token=None).json == {"status": "ok", "checks": checks}
    checks["database"] = "database_away"
    reply = world.call("GET", "/readyz", token=None)
    assert reply.refusal == (503, "not_ready", None)
    assert reply.error["message"] == "database: database_away" and reply.error["details"] == {"checks": checks}


def test_member_cannot_tell_what_is_not_its_own_from_what_is_not(world: World) -> None:
    network = world.network(project_id="b")
    port = world.port(network["id"])
    pairs = [("networks", network["id"]), ("ports", port["id"])]
    for kind, identity in pairs:
        for method, body in (("GET", None), ("PATCH", {"name": "x"}), ("DELETE", None)):
            hidden = world.call(method, f"/v1/{kind}/{identity}", body, "member-a")
            absent = world.call(method, f"/v1/{kind}/{identity[::-1]}", body, "member-a")
            assert hidden.status == 404
            assert hidden.data.replace(identity.encode(), b"") == absent.data.replace(identity[::-1].encode(), b"")
    hidden = world.call("POST", "/v1/ports", {"network_id": network["id"]}, "member-a")
    absent = world.call("POST", "/v1/ports", {"network_id": "nothing"}, "member-a")
    assert hidden.refusal == absent.refusal == (404, "network_unknown", "network_id")
    bulk = world.call("POST", "/v1/ports", {"ports": [{"network_id": network["id"]}]}, "member-a")
    assert bulk.refusal == (404, "network_unknown", "ports.0.network_id")
    assert world.ok("GET", f"/v1/ports/{port['id']}")["port"]["name"] == port["name"]


def test_member_lists_only_its_own(world: World) -> None:
    own = world.network(project_id="a")
    shared = world.network(shared=True, subnets=[{"cidr": "10.1.0.0/24"}])
    other = world.network(project_id="b", subnets=[{"cidr": "10.2.0.0/24"}])
    mine = world.port(own["id"], "member-a")
    on_shared = world.port(shared["id"], "member-a")
    world.port(other["id"])
    world.port(shared["id"], "member-b")

    def ids(path: str, kind: str) -> list[str]:
        return [item["id"] for item in world.ok("GET", path, token="member-a")[kind]]

    assert ids("/v1/networks", "networks") == [own["id"], shared["id"]]
    assert ids("/v1/networks?project_id=b", "networks") == []
    assert ids("/v1/ports", "ports") == [mine["id"], on_shared["id"]]
    assert ids("/v1/ports?project_id=b", "ports") == []
    assert ids(f"/v1/ports?network_id={other['id']}", "ports") == []
    assert ids(f"/v1/ports?network_id={shared['id']}", "ports") == [on_shared["id"]]


def test_member_may_see_a_shared_network_and_no_more(world: World) -> None:
    network = world.network(shared=True)
    for method, body in (("PATCH", {"name": "x"}), ("DELETE", None)):
        assert world.call(method, f"/v1/networks/{network['id']}", body, "member-a").status == 403


def test_member_creates_for_its_project(world: World) -> None:
    network = world.network("member-a")
    assert network["project_id"] == "a"
    assert world.port(network["id"], "member-a", project_id="a")["project_id"] == "a"
    assert world.store.journal(limit=1)[0].actor == "member:a"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"shared": True}, "shared"),
        ({"shared": False}, "shared"),
        ({"external": True}, "external"),
        ({"segment": 105}, "segment"),
        ({"segment": None}, "segment"),
        ({"kind": "flat"}, "kind"),
        ({"project_id": "b"}, "project_id"),
    ],
)
def test_member_cannot_set_what_reaches_others(world: World, fields: dict[str, Any], field: str) -> None:
    reply = world.call("POST", "/v1/networks", network_body(**fields), "member-a")
    assert reply.refusal == (403, "forbidden", field)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"node": "n1"}, "node"),
        ({"node": None}, "node"),
        ({"id": "7d5ea0a2-5a55-4bd2-b1e0-0d63a3b0a0ef"}, "id"),
        ({"project_id": "b"}, "project_id"),
    ],
)
def test_member_cannot_place_ports(world: World, fields: dict[str, Any], field: str) -> None:
    network_id = world.network("member-a")["id"]
    one = world.call("POST", "/v1/ports", {"network_id": network_id, **fields}, "member-a")
    assert one.refusal == (403, "forbidden", field)
    bulk = world.call("POST", "/v1/ports", {"ports": [{"network_id": network_id, **fields}]}, "member-a")
    assert bulk.refusal == (403, "forbidden", f"ports.0.{field}")


def test_member_cannot_schedule_by_update(world: World) -> None:
    port = world.port(world.network("member-a")["id"], "member-a")
    reply = world.call("PATCH", f"/v1/ports/{port['id']}", {"node": "n1"}, "member-a")
    assert reply.refusal == (403, "forbidden", "node")


@pytest.mark.parametrize("project_id", [None, "a"])
def test_member_has_no_port_on_an_external_network(world: World, project_id: str | None) -> None:
    subnets = [{"cidr": "203.0.113.0/24", "gateway": "203.0.113.1"}]
    external = world.network(external=True, project_id=project_id, subnets=subnets)["id"]
    own = world.network("member-a")["id"]
    one = world.call("POST", "/v1/ports", {"network_id": external, "mac": "00:00:5e:00:01:01"}, "member-a")
    assert one.refusal == (403, "forbidden", "network_id")
    bulk = world.call("POST", "/v1/ports", {"ports": [{"network_id": own}, {"network_id": external}]}, "member-a")
    assert bulk.refusal == (403, "forbidden", "ports.1.network_id")
    given = world.port(external, project_id="a", mac="02:00:00:00:00:09", fixed_ips=[{"address": "203.0.113.9"}])
    moved = world.call("PATCH", f"/v1/ports/{given['id']}", {"fixed_ips": [{"address": "203.0.113.10"}]}, "member-a")
    assert moved.refusal == (403, "forbidden", "fixed_ips.0.address")


@pytest.mark.parametrize("project_id", [None, "b"])
def test_member_chooses_no_address_on_a_network_of_others(world: World, project_id: str | None) -> None:
    shared = world.network(shared=True, project_id=project_id)["id"]
    for fields, field in (
        ({"mac": "02:00:00:00:00:09"}, "mac"),
        ({"fixed_ips": [{}, {"address": "10.0.0.77"}]}, "fixed_ips.1.address"),
    ):
        one = world.call("POST", "/v1/ports", {"network_id": shared, **fields}, "member-a")
        assert one.refusal == (403, "forbidden", field)
        bulk = world.call("POST", "/v1/ports", {"ports": [{"network_id": shared, **fields}]}, "member-a")
        assert bulk.refusal == (403, "forbidden", f"ports.0.{field}")
    port = world.port(shared, "member-a", mac=None, fixed_ips=[{}])
    path = f"/v1/ports/{port['id']}"
    moved = world.call("PATCH", path, {"fixed_ips": [{"address": "10.0.0.77"}]}, "member-a")
    assert moved.refusal == (403, "forbidden", "fixed_ips.0.address")
    assert world.ok("PATCH", path, {"name": "x", "fixed_ips": [{}]}, "member-a")["port"]["mac"] == port["mac"]
    world.ok("PATCH", path, {"fixed_ips": [{"address": "10.0.0.77"}]})


@pytest.mark.parametrize("shared", [False, True])
def test_member_chooses_addresses_on_its_own_network(world: World, shared: bool) -> None:
    own = world.network(project_id="a", shared=shared)["id"]
    port = world.port(own, "member-a", mac="02:00:00:00:00:09", fixed_ips=[{"address": "10.0.0.77"}])
    assert port["mac"] == "02:00:00:00:00:09"
    world.ok("PATCH", f"/v1/ports/{port['id']}", {"fixed_ips": [{"address": "10.0.0.78"}]}, "member-a")


def test_member_needs_to_see_the_external_network(world: World) -> None:
    hidden = world.network(project_id="b", subnets=[{"cidr": "10.5.0.0/24"}])["id"]
    own = world.network("member-a")["id"]
    expected = (404, "network_unknown", "external_network_id")
    body = network_body(subnets=[{"cidr": "10.6.0.0/24"}], external_network_id=hidden)
    assert world.call("POST", "/v1/networks", body, "member-a").refusal == expected
    update = {"external_network_id": hidden}
    assert world.call("PATCH", f"/v1/networks/{own}", update, "member-a").refusal == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "role"),
        ("root:token", "role"),
        ("admin", "token"),
        ("admin:", "token"),
        ("admin:abc", "token"),
        ("admin:to ken", "token"),
        ("admin:token:project", "scope"),
        ("reader:token:x", "scope"),
        ("member:token", "project"),
        ("member:token:", "scope"),
        ("member:token:a:b", "scope"),
        ("agent:token:", "scope"),
        ("admin:sha256=", "SHA-256"),
        ("admin:sha256=abc", "SHA-256"),
        ("admin:sha256=" + "A" * 64, "SHA-256"),
        ("member:sha256=" + "a" * 64, "project"),
    ],
)
def test_bad_credentials(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        parse_credentials(["admin:first-token", text])
    assert str(caught.value).startswith("token number 2: ")


def test_a_credential_does_not_show_its_token() -> None:
    assert "secret" not in repr(parse_credentials(["admin:secret"]))
    with pytest.raises(ValueError, match="twice") as caught:
        parse_credentials(["admin:secret", "reader:secret"])
    assert "secret" not in str(caught.value)


def test_authenticator_without_tokens_knows_nobody() -> None:
    assert Authenticator(()).identify("Bearer ", 0) is None


def test_a_token_may_be_configured_by_its_hash() -> None:
    digest = hashlib.sha256(b"a-long-token").hexdigest()
    known = Authenticator(parse_credentials([f"member:sha256={digest}:a", "admin:other"]))
    found = known.identify("Bearer a-long-token", 0)
    assert found is not None and found.identity == Identity(Role.MEMBER, "a")
    assert known.identify(f"Bearer {digest}", 0) is None  # whoever has read the file has no token
    with pytest.raises(ValueError, match="twice"):
        parse_credentials([f"admin:sha256={digest}", "reader:a-long-token"])


@pytest.mark.parametrize("resource", Resource)
def test_each_resource_is_of_one_scope(resource: Resource) -> None:
    told = {Resource.INDEX, Resource.REVISION, Resource.HEALTH, Resource.TOPOLOGY, Resource.PAGE}
    always = told | {Resource.TOKEN, Resource.PLAN}
    assert sum(resource in members for members in SCOPES.values()) == (resource not in always)


@pytest.mark.parametrize("scope", ["", "ports", "ports:", "ports:delete", "port:read", "all", ":read", "ports:read:x"])
def test_there_is_no_such_scope(scope: str) -> None:
    with pytest.raises(ValueError, match="no such scope"):
        allowed_by([scope])


def test_a_scope_allows_nothing_that_the_role_does_not() -> None:
    for role in Role:
        for scopes in ([], ["ports:write"], ["all:read"], ["all:write"], ["nodes:write", "audit:read"]):
            narrowed = Identity(role, allowed=allowed_by(scopes))
            for resource in Resource:
                for verb in Verb:
                    assert not narrowed.may(resource, verb) or Identity(role).may(resource, verb)
                    assert not narrowed.may(Resource.TOKEN, verb)
