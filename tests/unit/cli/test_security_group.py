"""`trunkline security-group`, `default-rule`, `provider-rule`, and what ports and networks have of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import Result

from tests.unit.cli.stub import NETWORK_ID, PORT_ID, Stub, network, port, refusal

GROUP_ID = "77777777-7777-4777-8777-777777777777"
RULE_ID = "88888888-8888-4888-8888-888888888888"
PATH = f"/v1/security-groups/{GROUP_ID}"

Run = Callable[..., Result]


def group(**fields: Any) -> dict[str, Any]:
    return {"id": GROUP_ID, "name": "web", "project_id": "p1", "stateful": True} | fields


@pytest.fixture
def known(stub: Stub) -> Stub:
    whole = group(rules=[])
    stub.on("GET /v1/networks", (200, {"networks": [network()]}))
    stub.on("GET /v1/ports", (200, {"ports": [port(qos={"dscp": 46, "egress": None, "ingress": {"rate_kbps": 64}})]}))
    stub.on("POST /v1/ports", (201, {"port": port(), "revision": 9}))
    stub.on(f"PATCH /v1/ports/{PORT_ID}", (200, {"port": port(), "revision": 9}))
    stub.on("GET /v1/security-groups", (200, {"security_groups": [group()]}))
    stub.on("POST /v1/security-groups", (201, {"security_group": whole, "revision": 9}))
    for method in ("GET", "PATCH", "DELETE"):
        stub.on(f"{method} {PATH}", (200, {"security_group": whole, "revision": 9}))
    stub.on("GET /v1/revisions/9", (200, {"revision": 9, "confirmed": True, "missing": []}))
    return stub


def test_groups(known: Stub, run: Run) -> None:
    options = ("--project", "p1", "--stateless", "--log-dropped", "--description", "servers")
    assert run("security-group", "create", "web", *options, "--wait").exit_code == 0
    body = {"name": "web", "project_id": "p1", "stateful": False, "log_dropped": True, "description": "servers"}
    assert known.last("POST").body == body
    assert [one.path for one in known.requests][-2:] == ["/v1/revisions/9", PATH]
    assert "web" in run("security-group", "list").stdout
    assert json.loads(run("security-group", "show", "web", "-o", "json").stdout) == group(rules=[])
    assert run("security-group", "set", "web", "--project", "p1", "--name", "www").exit_code == 0
    assert known.last("PATCH").body == {"name": "www"}
    assert [one.query.get("project_id") for one in known.requests if one.path == "/v1/security-groups"][-1] == "p1"
    assert run("security-group", "set", "web").exit_code == 2
    assert run("security-group", "delete", "web", "--wait").exit_code == 0
    known.on(f"DELETE {PATH}", (409, refusal("security_group_in_use", "port vm1 is in the group")))
    refused = run("security-group", "delete", "web")
    assert (refused.exit_code, "port vm1 is in the group" in refused.stderr) == (1, True)


def test_the_rules_of_a_group_are_a_table(known: Stub, run: Run) -> None:
    rule = {"id": RULE_ID, "direction": "ingress", "protocol": "tcp", "ports": "80", "remote_cidr": None}
    known.on(f"GET {PATH}", (200, {"security_group": group(rules=[rule])}))
    before, _, after = run("security-group", "show", "web").stdout.partition("\nrules:\n")
    assert GROUP_ID in before and RULE_ID not in before
    titles = ("id", "direction", "protocol", "ports", "icmp type", "remote cidr", "remote group")
    assert all(title in after.splitlines()[0] for title in titles)
    assert after.splitlines()[2].split() == [RULE_ID, "ingress", "tcp", "80"]


def test_several_groups_of_one_name(known: Stub, run: Run) -> None:
    other = RULE_ID  # any other id
    known.on("GET /v1/security-groups", (200, {"security_groups": [group(), group(id=other, project_id="p2")]}))
    result = run("security-group", "show", "web")
    ids = f"{GROUP_ID} (project p1), {other} (project p2)"
    says = f"trunkline: 2 security groups are called 'web', give an id or --project: {ids}\n"
    assert (result.exit_code, result.stderr) == (2, says)


def test_rules(known: Stub, run: Run) -> None:
    path = "/v1/security-group-rules"
    rule = {"id": RULE_ID, "direction": "ingress", "protocol": "tcp", "ports": "80"}
    known.on(f"POST {path}", (201, {"security_group_rule": rule, "revision": 9}))
    known.on(f"GET {path}", (200, {"security_group_rules": [rule]}))
    known.on(f"DELETE {path}/{RULE_ID}", (200, {"security_group_rule": rule, "revision": 9}))
    what = ("--direction", "ingress", "--protocol", "tcp", "--ports", "80", "--remote-group", "web", "--log")
    assert run("security-group", "rule", "create", "web", *what, "--wait").exit_code == 0
    body = {"direction": "ingress", "protocol": "tcp", "ports": "80", "log": True}
    assert known.last("POST").body == body | {"security_group_id": GROUP_ID, "remote_group_id": GROUP_ID}
    ping = ("--direction", "egress", "--protocol", "1", "--icmp-type", "8", "--remote-cidr", "192.0.2.0/24")
    assert run("security-group", "rule", "create", GROUP_ID, *ping).exit_code == 0
    assert known.last("POST").body["protocol"] == 1
    assert json.loads(run("security-group", "rule", "list", "web", "-o", "json").stdout) == [rule]
    assert known.last("GET").query["security_group_id"] == GROUP_ID
    assert run("security-group", "rule", "delete", RULE_ID).exit_code == 0
    assert run("security-group", "rule", "create", "web").exit_code == 2
    known.on(f"POST {path}", (400, refusal("rule_invalid", "81 is behind 80", "ports")))
    refused = run("security-group", "rule", "create", "web", *what)
    assert "81 is behind 80 (400 rule_invalid, field ports)" in refused.stderr


def test_what_operators_write(known: Stub, run: Run) -> None:
    for name, path, kind in (
        ("default-rule", "/v1/default-security-group-rules", "default_security_group_rule"),
        ("provider-rule", "/v1/provider-rules", "provider_rule"),
    ):
        known.on(f"POST {path}", (201, {kind: {"id": RULE_ID}, "revision": 9}))
        known.on(f"GET {path}", (200, {f"{kind}s": [{"id": RULE_ID}]}))
        known.on(f"DELETE {path}/{RULE_ID}", (200, {kind: {"id": RULE_ID}, "revision": 9}))
        assert RULE_ID in run(name, "list").stdout
        assert run(name, "delete", RULE_ID, "--wait").exit_code == 0
    own = ("--direction", "ingress", "--own-group", "--applies-to", "default")
    assert run("default-rule", "create", *own, "--wait").exit_code == 0
    assert known.last("POST").body == {"direction": "ingress", "own_group": True, "applies_to": "default"}
    dropped = ("198.51.100.0/24", "--protocol", "tcp", "--ports", "25", "--description", "spam")
    assert run("provider-rule", "create", *dropped, "--wait").exit_code == 0
    body = {"cidr": "198.51.100.0/24", "protocol": "tcp", "ports": "25", "description": "spam"}
    assert known.last("POST").body == body


def test_ports(known: Stub, run: Run) -> None:
    options = ("--security-group", "web", "--security-group", "db", "--qos-egress", "10000:4000", "--dscp", "46")
    pairs = ("--address-pair", "10.0.1.9", "--address-pair", "10.0.1.64/28,00:00:5e:00:01:07")
    assert run("port", "create", "vm2", "--network", "blue", *options, *pairs).exit_code == 0
    assert known.last("POST").body == {
        "name": "vm2",
        "network_id": NETWORK_ID,
        "security_groups": ["web", "db"],
        "address_pairs": [{"cidr": "10.0.1.9"}, {"cidr": "10.0.1.64/28", "mac": "00:00:5e:00:01:07"}],
        "qos": {"egress": {"rate_kbps": 10000, "burst_kbits": 4000}, "dscp": 46},
    }
    for options, body in (
        (("--security-group", "none"), {"security_groups": []}),
        (("--no-port-security",), {"security_groups": [], "address_pairs": [], "port_security": False}),
        # the rest of the field stays as it is
        (("--qos-egress", "500"), {"qos": {"egress": {"rate_kbps": 500}, "ingress": {"rate_kbps": 64}, "dscp": 46}}),
        (("--qos-ingress", "none"), {"qos": {"dscp": 46}}),
        (("--qos-ingress", "none", "--dscp", "none"), {"qos": None}),
    ):
        assert run("port", "set", "vm1", *options).exit_code == 0
        assert known.last("PATCH").body == body
    mixed = run("port", "set", "vm1", "--security-group", "none", "--security-group", "web")
    assert mixed.exit_code == 2 and "'none' stands alone" in mixed.stderr
    for wrong in (("--qos-egress", "fast"), ("--dscp", "x"), ("--qos-ingress", "1:")):
        assert run("port", "set", "vm1", *wrong).exit_code == 2


def test_networks(known: Stub, run: Run) -> None:
    known.on("POST /v1/networks", (201, {"network": network(), "revision": 9}))
    what = ("--cidr", "10.0.0.0/24", "--physical-network", "physnet1", "--flat")
    assert run("network", "create", "red", *what, "--no-filtering", "--no-allow-same-net").exit_code == 0
    body = known.last("POST").body
    assert (body["filtering"], body["allow_same_net_traffic"]) == (False, False)


def test_quota(known: Stub, run: Run) -> None:
    known.on("PATCH /v1/quotas/p1", (200, {"quota": {"project_id": "p1"}, "revision": 9}))
    options = ("--security-groups", "20", "--security-group-rules", "-1", "--address-pairs", "none")
    assert run("quota", "set", "p1", *options).exit_code == 0
    assert known.last("PATCH").body == {"security_groups": 20, "security_group_rules": -1, "address_pairs": None}
    assert run("quota", "set", "p1").exit_code == 2
