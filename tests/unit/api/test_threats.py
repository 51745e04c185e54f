"""What others' APIs have been attacked with: numbers and sources are those of docs/security.md."""

from __future__ import annotations

import io
import json
import tracemalloc
from typing import Any

import pytest
import structlog
from prometheus_client import CollectorRegistry
from ryu.app.wsgi import WSGIApplication

from controller import logs
from controller.api import auth
from controller.api.auth import Resource, Verb
from controller.api.declared import shown
from controller.api.gate import Gate, ResourceController
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.metrics import RequestMetrics
from controller.api.services import Services
from flows.model import SecurityGroupChange
from tests.unit.api.test_auth import MATRIX, Furnished, furnished  # noqa: F401  (a fixture)
from tests.unit.api.world import World, network_body

OF_A = ("own", "spare", "port", "moving", "floating", "forwarding", "group", "rule", "zone", "record")
PUBLIC = {"/v1/health", "/healthz", "/readyz"}
LINES = [(method, path, body) for method, path, body, allowed in MATRIX if "member-a" in allowed and path not in PUBLIC]


@pytest.mark.parametrize("token", [None, "Bearer wrong", "Bearer "])
def test_threat_27_nothing_without_a_good_token(shared_world: World, token: str | None) -> None:
    for path, methods in shared_world.ok("GET", "/v1")["paths"].items():
        for method in methods:
            if path not in PUBLIC:
                assert shared_world.call(method, path, token=token).refusal == (401, "unauthorized", None)


def test_threat_27_what_is_anothers_is_not_there(furnished: Furnished) -> None:  # noqa: F811
    """Whatever a project may do with its own, in the path, the query and the body, done with what is another's."""
    names, world = furnished.names, furnished.world
    before = world.store.revision()
    tried = 0
    for method, path, body in LINES:
        named = json.dumps([path, body])
        if not any(f"{{{name}}}" in named for name in OF_A) and not path.endswith("/a"):
            continue
        tried += 1
        filled = json.loads(json.dumps(body))
        if isinstance(filled, dict):
            filled = {key: value.format(**names) if isinstance(value, str) else value for key, value in filled.items()}
        reply = world.call(method, path.format(**names), filled, "member-b")
        assert reply.status in (403, 404), (method, path, reply.data)
    assert tried > 30
    assert world.store.revision() == before
    for kind in ("ports", "networks", "floating-ips", "security-groups", "security-group-rules", "dns-zones", "leases"):
        for query in ("", "?project_id=a"):
            reply = world.call("GET", f"/v1/{kind}{query}", token="member-b")
            assert reply.status in (200, 400)
            assert not any(names[name] in reply.data.decode() for name in OF_A)


def test_threat_27_who_may_what_is_not_written_is_refused(world: World) -> None:
    """Elsewhere an action without a policy was everybody's."""

    def handler(_services: Services, _request: Request) -> Answer:
        raise AssertionError("nobody is let in")

    assert (Resource.QUOTA, Verb.DELETE) not in auth.PERMISSIONS
    inner = WSGIApplication()
    inner.register(ResourceController)
    route = Route("/v1/new", Resource.QUOTA, {"DELETE": Endpoint(Verb.DELETE, handler, shown())})
    requests = RequestMetrics(CollectorRegistry())
    world.app = Gate(world.services, (route,), inner, requests, lambda: None)
    for token in ("admin", "reader", "member-a", "agent"):
        assert world.call("DELETE", "/v1/new", token=token).refusal[:2] == (403, "forbidden")


def test_threat_27_no_field_of_a_user_turns_protection_off(world: World) -> None:
    network = world.network("member-a")
    for number, owner in enumerate(("network:dhcp", "network:router_interface", "compute:nova", "neutron:trusted")):
        fields = {"device_id": owner, "name": owner, "hostname": f"h{number}"}
        port = world.port(network["id"], "member-a", **fields)
        reply = world.call("POST", "/v1/ports", {"network_id": network["id"], "device_owner": owner}, "member-a")
        assert reply.refusal == (400, "unknown_field", "device_owner")
        known = world.services.snapshot().ports[port["id"]]
        assert known.port_security and known.security_groups
    for value in (False, True, None):
        body = {"network_id": network["id"], "port_security": value}
        assert world.call("POST", "/v1/ports", body, "member-a").status in (400, 403)


DEFAULTS: dict[str, Any] = {
    "shared": False,
    "external": False,
    "segment": None,
    "snat_exempt": [],
    "own_snat_address": False,
    "dhcp_relays": [],
    "dns_upstreams": [],
    "filtering": True,
    "gateway_node": None,
    "assignable": False,
    "id": None,
    "node": None,
    "port_security": True,
    "qos": None,
    "vendor_data": None,
    "scope": "private",
    "interface_name": None,
    "project_id": None,
}


def test_threat_27_names_of_another_project_are_not_to_be_had(world: World) -> None:
    """By a network's domain, a zone and a host name, made or changed; the administrator may give them."""
    shared = world.network(name="shared", shared=True, subnets=[{"cidr": "10.70.0.0/24"}])
    theirs = world.network(name="b-net", project_id="b", dns_domain="b.example", subnets=[{"cidr": "10.71.0.0/24"}])
    world.port(shared["id"], project_id="b", hostname="web")
    mine = {"name": "m", "subnets": [{"cidr": "10.72.0.0/24"}]}
    domain, host = (409, "dns_domain_in_use", "dns_domain"), (409, "hostname_in_use", "hostname")
    for taken in ("b.example", "x.b.example", "example"):
        body = {**mine, "dns_domain": taken}
        assert world.call("POST", "/v1/networks", body, "member-a").refusal == domain
    network = world.ok("POST", "/v1/networks", {**mine, "dns_domain": "a.example"}, "member-a")["network"]
    path = f"/v1/networks/{network['id']}"
    assert world.call("PATCH", path, {"dns_domain": "b.example"}, "member-a").refusal == domain
    refused = world.call("POST", "/v1/dns-zones", {"name": "b.example"}, "member-a")
    assert refused.refusal == (409, "dns_domain_in_use", "name")
    named = {"network_id": shared["id"], "hostname": "WEB"}
    assert world.call("POST", "/v1/ports", named, "member-a").refusal == host
    many = world.call("POST", "/v1/ports", {"ports": [{"network_id": shared["id"]}, named]}, "member-a")
    assert many.refusal == (409, "hostname_in_use", "ports.1.hostname")
    port = world.ok("POST", "/v1/ports", {**named, "hostname": "web2"}, "member-a")["port"]
    assert world.call("PATCH", f"/v1/ports/{port['id']}", {"hostname": "web"}, "member-a").refusal == host
    told = refused.data.decode()
    assert theirs["id"] not in told and "b-net" not in told
    world.ok("PATCH", path, {"dns_domain": "b.example"})
    world.ok("PATCH", f"/v1/ports/{port['id']}", {"hostname": "web"})
    world.ok("POST", "/v1/dns-zones", {"name": "b.example", "project_id": "a"})


def test_threat_28_what_is_for_administrators_is_not_reset_by_its_default(world: World) -> None:
    network = world.network("member-a")
    port = world.port(network["id"], "member-a")
    zone = world.ok("POST", "/v1/dns-zones", {"name": "lab.example"}, "member-a")["dns_zone"]
    places = [
        (auth.ADMIN_NETWORK_FIELDS, "POST", "/v1/networks", network_body(subnets=[{"cidr": "10.5.0.0/24"}])),
        (auth.ADMIN_NETWORK_FIELDS, "PATCH", f"/v1/networks/{network['id']}", {}),
        (auth.ADMIN_PORT_FIELDS, "POST", "/v1/ports", {"network_id": network["id"]}),
        (auth.ADMIN_PORT_FIELDS, "PATCH", f"/v1/ports/{port['id']}", {}),
        (auth.ADMIN_METADATA_FIELDS, "PATCH", f"/v1/ports/{port['id']}/metadata", {}),
        (auth.ADMIN_DNS_ZONE_FIELDS, "PATCH", f"/v1/dns-zones/{zone['id']}", {}),
    ]
    assert DEFAULTS.keys() == {field for fields, *_ in places for field in fields}
    before = world.store.revision()
    for fields, method, path, body in places:
        for field in sorted(fields):
            reply = world.call(method, path, {**body, field: DEFAULTS[field]}, "member-a")
            # what can never be changed is refused as that
            assert reply.refusal in ((403, "forbidden", field), (400, "immutable", field)), (path, field, reply.data)
    assert world.store.revision() == before


FORGED = ("a\nb", "a\r\nb", "a\0b", "a\x1b[2Jb", "a\u2028b", "a\u202eb")


@pytest.mark.parametrize("text", FORGED, ids=ascii)
def test_threat_30_no_line_break_gets_in(world: World, text: str) -> None:
    """Each field of each body, with these and more, is in test_sweep; here is what others' options have let through."""
    network = world.network()
    zone = world.ok("POST", "/v1/dns-zones", {"name": "lab.example"})["dns_zone"]
    bodies: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/v1/ports", {"network_id": network["id"], "dhcp_options": [{"code": 66, "value": text}]}),
        ("POST", "/v1/ports", {"network_id": network["id"], "hostname": text}),
        ("POST", "/v1/ports", {"network_id": network["id"], "name": text}),
        ("POST", "/v1/ports", {"network_id": network["id"], "device_id": text}),
        ("PATCH", f"/v1/networks/{network['id']}", {"dns_domain": text}),
        ("POST", "/v1/dns-records", {"zone_id": zone["id"], "name": text, "type": "A", "data": "192.0.2.1"}),
        ("POST", "/v1/dns-records", {"zone_id": zone["id"], "name": "x", "type": "CNAME", "data": text}),
        ("POST", "/v1/security-groups", {"name": text}),
        ("POST", "/v1/tokens", {"name": text, "role": "admin"}),
    ]
    before = world.store.revision()
    for method, path, body in bodies:
        assert world.call(method, path, body).status == 400, (path, body)
    assert world.store.revision() == before


@pytest.mark.parametrize("text", FORGED, ids=ascii)
def test_threat_30_no_request_forges_a_log_line(world: World, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    written = io.StringIO()
    form = [logs.one_line, structlog.dev.ConsoleRenderer(colors=False)]
    logger = structlog.wrap_logger(structlog.PrintLogger(written), processors=form)
    monkeypatch.setattr(world.app, "_log", logger)
    raw = text.encode().decode("latin-1")
    for environ in (
        {"PATH_INFO": f"/v1/{raw}"},
        {"REQUEST_METHOD": f"PUT{raw}"},
        {"HTTP_AUTHORIZATION": f"Bearer {raw}"},
        {"HTTP_X_REQUEST_ID": raw},
    ):
        world.call("POST", "/v1/networks", {"name": text}, **environ)
    lines = written.getvalue().split("\n")
    assert len(lines) == 5 and lines.pop() == ""
    for line in lines:
        assert "api_request" in line and line.isprintable()


def test_threat_31_how_much_one_project_may_have(world: World) -> None:
    network = world.network("member-a")["id"]
    group = world.ok("POST", "/v1/security-groups", {"name": "web"}, "member-a")["security_group"]
    world.ok("PATCH", "/v1/quotas/a", {"security_group_rules": 20, "address_pairs": 3, "fixed_ips": 4, "ports": 3})
    rules = [
        {"security_group_id": group["id"], "direction": "ingress", "protocol": "tcp", "ports": str(number)}
        for number in range(1, 30)
    ]
    over = (409, "quota_exceeded")
    assert (
        world.call("POST", "/v1/security-group-rules", {"security_group_rules": rules}, "member-a").refusal[:2] == over
    )
    pairs = [{"cidr": f"10.0.0.{number}/32"} for number in range(100, 104)]
    port = world.port(network, "member-a")
    assert world.call("PATCH", f"/v1/ports/{port['id']}", {"address_pairs": pairs}, "member-a").refusal[:2] == over
    assert world.call("PATCH", f"/v1/ports/{port['id']}", {"fixed_ips": [{}] * 6}, "member-a").refusal[:2] == over
    many = {"ports": [{"network_id": network}] * 3}
    assert world.call("POST", "/v1/ports", many, "member-a").refusal[:2] == over


def test_threat_31_a_list_has_an_end(world: World) -> None:
    for query in ("limit=0", "limit=1001", "limit=999999999999"):
        for kind in ("ports", "networks", "security-group-rules", "audit", "tokens"):
            assert world.call("GET", f"/v1/{kind}?{query}").status == 400


def test_threat_31_a_rule_costs_the_same_however_many_members_its_group_has(world: World) -> None:
    network = world.network(project_id="a")["id"]
    group = world.ok("POST", "/v1/security-groups", {"name": "web", "project_id": "a"})["security_group"]["id"]
    template = {"network_id": network, "project_id": "a", "security_groups": [group]}
    world.ok("POST", "/v1/ports", {"ports": [template] * 50})
    before = world.store.revision()
    body = {"security_group_id": group, "direction": "ingress", "remote_group_id": group, "protocol": "tcp"}
    world.ok("POST", "/v1/security-group-rules", body)
    revision, changes = world.store.changes_since(before)
    assert revision == before + 1
    assert [type(change) for change in changes] == [SecurityGroupChange]


def test_threat_32_unknown_paths_leave_nothing_behind(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(count: int) -> None:
        for number in range(count):
            world.call("GET", f"/v1/{number}/{'x' * 100}")
            world.call(f"BREW{number}", "/v1/networks", token=f"Bearer {number:0100}")
            world.call("GET", f"/v1/ports/{number}?name={number}")

    def drop(*_: Any) -> Any:
        raise structlog.DropEvent

    monkeypatch.setattr(world.app, "_log", structlog.wrap_logger(None, processors=[drop]))  # what is logged stays here
    ask(50)
    world.call("GET", "/metrics")
    lines = len(world.call("GET", "/metrics").data.splitlines())
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    ask(1000)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 300_000  # of three thousand requests, not a hundred bytes each
    assert len(world.call("GET", "/metrics").data.splitlines()) == lines
