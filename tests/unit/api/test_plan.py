"""POST /v1/plan: what would be, compared with what then is; and nothing is left of it."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from controller import planning
from controller.api import plan
from controller.api.auth import Resource, Verb
from controller.api.gate import routes
from controller.store import Store
from controller.store.engine import make_engine
from flows.compile import compile_node
from flows.ir import Flow
from flows.snapshot import Snapshot
from flows.spelling import flow_text, meter_text
from tests.unit.api.test_auth import MATRIX, furnish
from tests.unit.api.world import World, WSGIApplication, network_body


def dump(world: World) -> str:
    """The whole database, with its schema."""
    connection = sqlite3.connect(Path(make_engine(world.store.url).url.database or ""))
    try:
        return "\n".join(connection.iterdump())
    finally:
        connection.close()


def request(method: str, path: str, body: Any = None) -> dict[str, Any]:
    return {"method": method, "path": path, "body": body}


def planned(world: World, *requests: dict[str, Any], limit: int = 1000) -> dict[str, Any]:
    """The plan. Nothing is changed by it."""
    before, commits, snapshot = dump(world), world.commits, world.services.snapshot()
    answer: dict[str, Any] = world.ok("POST", "/v1/plan", {"requests": requests, "limit": limit})
    assert dump(world) == before
    assert (world.commits, world.services.snapshot()) == (commits, snapshot)
    assert answer["revision"] == world.store.revision()
    return answer


def flows_of(snapshot: Snapshot) -> dict[str, dict[Any, Flow]]:
    return {name: {flow.key: flow for flow in compile_node(snapshot, name).flows()} for name in snapshot.nodes}


def spelled(flows: Sequence[Flow]) -> Counter[str]:
    return Counter(map(flow_text, flows))


def plain(lines: Sequence[str]) -> Counter[str]:
    """Without the words behind."""
    return Counter(line.partition(" # ")[0] for line in lines)


def apply_as_planned(world: World, *requests: dict[str, Any]) -> dict[str, Any]:
    """Plans, then does it, and compares."""
    answer = planned(world, *requests)
    before = flows_of(world.services.snapshot())
    for one, told in zip(requests, answer["answers"], strict=True):
        reply = world.call(one["method"], one["path"], one["body"])
        assert reply.status == told["status"]
        assert reply.json.keys() == told["body"].keys()
    after = flows_of(world.services.snapshot())
    seen = set()
    for node in answer["nodes"]:
        seen.add(node["node"])
        was, now = before.get(node["node"], {}), after.get(node["node"], {})
        assert plain(node["add"]) == spelled([flow for key, flow in now.items() if key not in was])
        assert plain(node["delete"]) == spelled([flow for key, flow in was.items() if key not in now])
        changed = [(was[key], flow) for key, flow in now.items() if key in was and was[key] != flow]
        assert plain([one["before"] for one in node["change"]]) == spelled([old for old, _ in changed])
        assert plain([one["after"] for one in node["change"]]) == spelled([new for _, new in changed])
        counted = node["adds"], node["deletes"], node["changes"]
        assert counted == (len(node["add"]), len(node["delete"]), len(node["change"]))
        assert node["problems"] == []
    for name in before.keys() | after.keys():
        assert name in seen or before.get(name) == after.get(name)
    return answer


@pytest.fixture
def cloud(world: World) -> Iterator[dict[str, Any]]:
    """Two VMs on n1, one on n2, all on one network, and a group `web` that none of them is in."""
    for number in (1, 2, 3):
        world.node(f"n{number}", number)
    network = world.network(project_id="a", name="green")
    ports = [world.port(network["id"], name=f"web{index}") for index in range(3)]
    for node, part in (("n1", ports[:2]), ("n2", ports[2:])):
        seen = [{"iface_id": port["id"], "ofport": 100 + index} for index, port in enumerate(part)]
        uplinks = {"physnet1": 65001}
        world.ok("PUT", f"/v1/nodes/{node}/interfaces", {"serial": 1, "uplinks": uplinks, "interfaces": seen}, "agent")
    group = world.ok("POST", "/v1/security-groups", {"name": "web", "project_id": "a"})["security_group"]
    rule = {"security_group_id": group["id"], "direction": "ingress", "protocol": "tcp", "ports": "80"}
    world.ok("POST", "/v1/security-group-rules", rule)
    yield {"network": network, "ports": ports, "group": group}


def test_a_ports_groups(world: World, cloud: dict[str, Any]) -> None:
    port = cloud["ports"][0]
    answer = apply_as_planned(world, request("PATCH", f"/v1/ports/{port['id']}", {"security_groups": ["web"]}))
    (node,) = [one for one in answer["nodes"] if one["node"] == "n1"]
    assert node["adds"] and "n3" not in [one["node"] for one in answer["nodes"]]
    assert any("ct_nw_proto=6,ct_tp_dst=80 " in line for line in node["add"])
    lines = [*node["add"], *(one["after"] for one in node["change"])]
    assert any(" of port web0: " in line for line in lines), lines
    assert any(" of rule of group web (lets in tcp 80 from anybody): " in line for line in lines), lines


def test_a_rule_beside_another_about_the_same_others(world: World, cloud: dict[str, Any]) -> None:
    """They share a key, and what is told of it is not only about the other."""
    world.ok("PATCH", f"/v1/ports/{cloud['ports'][0]['id']}", {"security_groups": ["web"]})
    rule = {"security_group_id": cloud["group"]["id"], "direction": "ingress", "protocol": "tcp", "ports": "443"}
    (node,) = apply_as_planned(world, request("POST", "/v1/security-group-rules", rule))["nodes"]
    (line,) = [line for line in node["add"] if "ct_tp_dst=443" in line]
    both = "one of the rules of group web (lets in tcp 80 from anybody; lets in tcp 443 from anybody)"
    assert f" of {both}: " in line


def test_several_that_build_on_each_other(world: World, cloud: dict[str, Any]) -> None:
    first, second, other = cloud["ports"]
    answer = apply_as_planned(
        world,
        request("DELETE", f"/v1/ports/{first['id']}"),
        request("PATCH", f"/v1/networks/{cloud['network']['id']}", {"mtu": 1400, "dhcp": False}),
        request("PATCH", f"/v1/ports/{other['id']}", {"fixed_ips": [{"address": first["fixed_ips"][0]["address"]}]}),
        request("PATCH", f"/v1/ports/{second['id']}", {"qos": {"egress": {"rate_kbps": 5000}}}),
        request("POST", "/v1/provider-rules", {"cidr": "198.51.100.0/24"}),
    )
    assert [one["node"] for one in answer["nodes"]] == ["n1", "n2", "n3"]
    meters = answer["nodes"][0]["meters"]
    limits = [meter for meter in compile_node(world.services.snapshot(), "n1").meters() if meter.rate == 5000]
    assert [f"+ {meter_text(meter)}" for meter in limits] == [line for line in meters if ",rate=5000," in line]
    assert any(line.startswith("- meter=") for line in meters)
    added = answer["nodes"][0]["add"]
    assert any(" of provider rule everything 198.51.100.0/24 both ways: " in line for line in added), added


def test_others_get_their_turn_within_a_node(
    world: World, cloud: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[None] = []
    monkeypatch.setattr(planning, "Turns", lambda: lambda: turns.append(None))
    node = planned(world, request("PATCH", f"/v1/networks/{cloud['network']['id']}", {"mtu": 1400}))["nodes"][0]
    assert node["node"] == "n1" and len(turns) > len(world.services.snapshot().nodes) + len(cloud["ports"])


def test_a_networks_own_rule_is_named_by_the_network(world: World, cloud: dict[str, Any]) -> None:
    change = request("PATCH", f"/v1/networks/{cloud['network']['id']}", {"allow_same_net_traffic": False})
    nodes = planned(world, change)["nodes"]
    told = [line for line in nodes[0]["delete"] if ", same_network " in line]
    assert told and all(" of network green: " in line for line in told), nodes[0]


def test_a_node_goes(world: World, cloud: dict[str, Any]) -> None:
    world.disconnected.add("n2")
    answer = apply_as_planned(world, request("DELETE", "/v1/nodes/n2"))
    (gone,) = [one for one in answer["nodes"] if one["node"] == "n2"]
    assert gone["adds"] == gone["changes"] == 0 and gone["deletes"] > 100


def test_nothing_changes(world: World, cloud: dict[str, Any]) -> None:
    answer = planned(world, request("PATCH", f"/v1/ports/{cloud['ports'][0]['id']}", {"name": "other"}))
    assert answer["nodes"] == []
    assert answer["answers"][0]["body"]["port"]["name"] == "other"


def test_what_is_refused_ends_it(world: World, cloud: dict[str, Any]) -> None:
    port = f"/v1/ports/{cloud['ports'][0]['id']}"
    network = f"/v1/networks/{cloud['network']['id']}"
    answer = planned(world, request("DELETE", port), request("DELETE", network), request("DELETE", port))
    assert [one["status"] for one in answer["answers"]] == [200, 409]
    assert answer["answers"][1]["body"]["error"]["code"] == "network_in_use"
    assert answer["nodes"][0]["deletes"], "of what comes before"
    for one, status, code in (
        (request("DELETE", port + "x"), 404, "port_unknown"),
        (request("PUT", port), 405, "method_not_allowed"),
        (request("PATCH", port, {"colour": "red"}), 400, "unknown_field"),
        (request("PATCH", port), 400, "bad_json"),
        (request("DELETE", f"{port}?x=1"), 400, "unknown_field"),
        (request("PATCH", port, {"name": ["x"] * 5000}), 413, "body_too_large"),
    ):
        (told,) = planned(world, one)["answers"]
        assert (told["status"], told["body"]["error"]["code"]) == (status, code)


def test_it_goes_on_and_refers_to_what_it_has_made(world: World, cloud: dict[str, Any]) -> None:
    requests = [
        request("POST", "/v1/networks", network_body(name="x", project_id="a", subnets=[{"cidr": "10.9.0.0/24"}])),
        request("POST", "/v1/ports", {"network_id": cloud["network"]["id"], "fixed_ips": [{"address": "192.0.2.1"}]}),
        request("POST", "/v1/ports", {"ports": [{"network_id": "@0", "name": "@0"}]}),
        request("POST", "/v1/ports", {"network_id": "@1"}),
        request("POST", "/v1/ports", {"network_id": "@0", "name": "last"}),
    ]
    answers = world.ok("POST", "/v1/plan", {"requests": requests, "go_on": True})["answers"]
    assert [one["status"] for one in answers] == [201, 400, 201, 400, 201]
    made = answers[0]["body"]["network"]["id"]
    (port,) = answers[2]["body"]["ports"]
    assert (port["network_id"], port["name"], answers[4]["body"]["port"]["network_id"]) == (made, "@0", made)
    assert [one["status"] for one in planned(world, *requests)["answers"]] == [201, 400]


def test_what_is_no_plan(world: World) -> None:
    def refusal(*requests: dict[str, Any], **fields: Any) -> tuple[int, str, str | None]:
        return world.call("POST", "/v1/plan", {"requests": requests, **fields}).refusal

    sound = request("DELETE", "/v1/ports/x")
    assert refusal(request("POST", "/v1/tokens", {"name": "x"})) == (400, "not_planned", "requests.0.path")
    assert refusal(sound, request("POST", "/v1/plan", {})) == (404, "path_unknown", "requests.1.path")
    assert refusal(request("PUT", "/v1/nodes/n1/interfaces", {})) == (400, "not_planned", "requests.0.path")
    assert refusal(request("DELETE", "/v1/nothing")) == (404, "path_unknown", "requests.0.path")
    assert refusal(request("DELETE", "/v1/ports/%ff")) == (400, "invalid_field", "requests.0.path")
    assert refusal(request("DELETE", "/v1/ports/%00")) == (400, "invalid_field", "requests.0.path")
    assert refusal(request("DELETE", "http://x/v1/ports/x"))[:2] == (400, "invalid_field")
    assert refusal(request("GET", "/v1/ports/x"))[:2] == (400, "invalid_field")
    assert refusal()[:2] == (400, "invalid_field")
    assert refusal(*[sound] * (plan.MOST + 1))[:2] == (400, "invalid_field")
    assert refusal(sound, limit=1001)[:2] == (400, "invalid_field")
    for token in ("member-a", "reader", "agent"):
        assert world.call("POST", "/v1/plan", {"requests": [sound]}, token).status == 403


def test_each_request_needs_its_own_permission(world: World, cloud: dict[str, Any]) -> None:
    made = world.ok("POST", "/v1/tokens", {"name": "ci", "role": "admin", "scopes": ["ports:write"]})["token"]["secret"]
    delete = request("DELETE", f"/v1/ports/{cloud['ports'][0]['id']}")
    network = request("DELETE", f"/v1/networks/{cloud['network']['id']}")
    answer = world.ok("POST", "/v1/plan", {"requests": [delete, network]}, made)
    assert [one["status"] for one in answer["answers"]] == [200, 403]


def test_counts_are_right_whatever_is_told(
    world: World, cloud: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    delete = request("DELETE", f"/v1/ports/{cloud['ports'][0]['id']}")
    whole = planned(world, delete)["nodes"]
    for limit, most in ((2, plan.MOST_LINES), (1000, 2)):
        monkeypatch.setattr(plan, "MOST_LINES", most)
        some = planned(world, delete, limit=limit)["nodes"]
        counts = [(one["node"], one["adds"], one["deletes"], one["changes"]) for one in whole]
        assert [(one["node"], one["adds"], one["deletes"], one["changes"]) for one in some] == counts
        assert some[0]["delete"] == whole[0]["delete"][:2]


def test_it_does_not_take_for_ever(world: World, cloud: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "LONGEST", 0.0)
    path = f"/v1/ports/{cloud['ports'][0]['id']}"
    requests = [request("PATCH", path, {"name": name}) for name in ("x", "y")]
    assert world.call("POST", "/v1/plan", {"requests": requests}).refusal[:2] == (503, "plan_too_long")
    assert world.ok("PATCH", path, {"name": "z"})["port"]["name"] == "z"


def test_the_snapshot_may_lag_behind(world: World, cloud: dict[str, Any]) -> None:
    world.following = False
    world.ok("PATCH", f"/v1/networks/{cloud['network']['id']}", {"mtu": 1400})
    delete = request("DELETE", f"/v1/ports/{cloud['ports'][0]['id']}")
    told = planned(world, delete)["nodes"]
    world.following = True
    world.follow()
    assert planned(world, delete)["nodes"] == told


WRITES = [
    (method, path, body)
    for method, path, body, allowed in MATRIX
    if method != "GET"
    and "admin" in allowed
    and not path.startswith(("/v1/tokens", "/v1/plan", "/v1/trace"))
    and not path.endswith("/captures")
]


@pytest.fixture(scope="module")
def furnished(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, dict[str, str]]]:
    path = tmp_path_factory.mktemp("planned") / "trunkline.db"
    path.write_bytes(empty_database.read_bytes())
    world = World(f"sqlite:///{path}")
    yield world, furnish(world)
    world.close()


@pytest.mark.parametrize(("method", "path", "body"), WRITES, ids=str)
def test_whatever_an_administrator_writes_can_be_planned(
    furnished: tuple[World, dict[str, str]], method: str, path: str, body: Any
) -> None:
    world, names = furnished
    if isinstance(body, dict):
        body = {name: value.format(**names) if isinstance(value, str) else value for name, value in body.items()}
    (told,) = planned(world, request(method, path.format(**names), body))["answers"]
    assert told["status"] in (200, 201), told


def test_only_what_writes_by_its_store_is_planned() -> None:
    """Whatever is new has to be looked at, and be put into one of the two."""
    elsewhere = {Resource.TOKEN, Resource.PLAN, Resource.INTERFACES, Resource.MACHINE_METADATA, Resource.DNS}
    elsewhere |= {Resource.ERRAND, Resource.CAPTURE}
    reads = {Verb.LIST, Verb.SHOW}
    known = routes(WSGIApplication())
    writing = {route.resource for route in known if any(it.verb not in reads for it in route.endpoints.values())}
    assert writing == plan.PLANNED | elsewhere and not plan.PLANNED & elsewhere


def test_a_store_within_a_rehearsal_tells_nobody(world: World) -> None:
    told: list[Store] = []
    world.store.rehearse(0, told.append)
    assert told[0]._on_commit is None and told[0] is not world.store
