from __future__ import annotations

from typing import Any

import pytest

from tests.unit.api.world import World


def make(world: World, name: str = "web", token: str = "member-a", **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = world.ok("POST", "/v1/security-groups", {"name": name, **fields}, token)["security_group"]
    return made


def test_a_member_sees_what_is_its_projects(world: World) -> None:
    assert world.ok("GET", "/v1/security-groups", token="reader")["security_groups"] == []  # who only reads makes none
    (default,) = world.ok("GET", "/v1/security-groups", token="member-a")["security_groups"]
    assert (default["name"], default["project_id"]) == ("default", "a")
    assert world.ok("GET", "/v1/security-groups?project_id=b", token="member-a")["security_groups"] == []
    foreign = make(world, token="member-b")
    path = f"/v1/security-groups/{foreign['id']}"
    gone = (404, "security_group_unknown", None)
    for method, body in (("GET", None), ("PATCH", {"name": "x"}), ("DELETE", None)):
        assert world.call(method, path, body, "member-a").refusal == gone
    path = f"/v1/security-group-rules/{foreign['rules'][0]['id']}"
    for method in ("GET", "DELETE"):
        assert world.call(method, path, token="member-a").refusal == (404, "security_group_rule_unknown", None)
    rule = {"security_group_id": foreign["id"], "direction": "ingress"}
    refusal = (404, "security_group_unknown", "security_group_id")
    assert world.call("POST", "/v1/security-group-rules", rule, "member-a").refusal == refusal
    rule = {"security_group_id": default["id"], "direction": "ingress", "remote_group_id": foreign["id"]}
    refusal = (404, "security_group_unknown", "remote_group_id")
    assert world.call("POST", "/v1/security-group-rules", rule, "member-a").refusal == refusal
    world.ok("POST", "/v1/security-group-rules", rule)  # an administrator may
    found = world.ok("GET", f"/v1/security-group-rules?security_group_id={foreign['id']}", token="member-a")
    assert found["security_group_rules"] == []
    refusal = (403, "forbidden", "project_id")
    assert world.call("POST", "/v1/security-groups", {"name": "x", "project_id": "b"}, "member-a").refusal == refusal


def test_who_uses_a_group_of_ones_own_is_not_told_of_other_projects(world: World) -> None:
    web, own, foreign = make(world), make(world, "db"), make(world, "secret", "member-b")
    path = f"/v1/security-groups/{web['id']}"

    def about(group: dict[str, Any]) -> dict[str, Any]:
        body = {"security_group_id": group["id"], "direction": "ingress", "remote_group_id": web["id"]}
        made: dict[str, Any] = world.ok("POST", "/v1/security-group-rules", body)["security_group_rule"]
        return made

    def refused(token: str) -> tuple[str, list[str]]:
        reply = world.call("DELETE", path, token=token)
        assert reply.refusal == (409, "security_group_in_use", None)
        assert token == "admin" or foreign["id"] not in str(reply.error)
        return reply.error["message"], reply.error["details"]["security_groups"]

    about(foreign)
    assert refused("member-a") == ("rules of another project are about its members", [])
    named = about(own)
    message = "rules of group db and of another project are about its members"
    assert refused("member-a") == (message, [own["id"]])
    message = "rules of groups db, secret are about its members"
    assert refused("admin") == (message, [own["id"], foreign["id"]])
    world.ok("DELETE", f"/v1/security-group-rules/{named['id']}")
    assert refused("admin") == ("rules of group secret are about its members", [foreign["id"]])


def test_rules_are_answered_as_they_were_written(world: World) -> None:
    group = make(world)
    written = [
        {"direction": "ingress", "protocol": "tcp", "ports": "80-89", "remote_cidr": "192.0.2.0/24"},
        {"direction": "egress", "protocol": 200},
        {"direction": "ingress", "protocol": "icmp", "icmp_type": 8, "icmp_code": 0, "log": True},
        {"direction": "ingress", "protocol": 6, "ports": "22", "remote_group_id": group["id"], "description": "ssh"},
    ]
    rules = [{"security_group_id": group["id"], **one} for one in written]
    answer = world.ok("POST", "/v1/security-group-rules", {"security_group_rules": rules}, "member-a")
    shown = world.ok("GET", f"/v1/security-groups/{group['id']}", token="member-a")["security_group"]
    assert shown["rules"][2:] == answer["security_group_rules"]
    assert shown["revision"] == answer["revision"]
    for sent, got in zip(rules, answer["security_group_rules"], strict=True):
        assert {name: got[name] for name in sent} == sent | ({"protocol": "tcp"} if sent.get("protocol") == 6 else {})
    again = {"security_group_rules": [rules[0] | {"ports": "443"}, rules[0]]}
    reply = world.call("POST", "/v1/security-group-rules", again, "member-a")
    assert reply.refusal == (409, "rule_exists", "security_group_rules.1.ports")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"protocol": "tcp", "ports": "80", "remote_cidr": "192.0.2.0/24"}, "ports"),
        ({"protocol": "icmp", "icmp_type": 8, "icmp_code": 0}, "icmp_code"),
        ({"protocol": "icmp", "icmp_type": 8}, "icmp_type"),
        ({"protocol": "udp", "remote_cidr": "192.0.2.0/24"}, "remote_cidr"),
        ({"protocol": "udp", "remote_cidr": "0.0.0.0/0"}, "remote_cidr"),
        ({"protocol": 47}, "protocol"),
        ({}, "direction"),
    ],
)
def test_a_rule_that_is_there_already_is_named_by_what_says_most(
    world: World, fields: dict[str, Any], named: str
) -> None:
    group = make(world)
    rule = {"security_group_id": group["id"], "direction": "ingress", **fields}
    world.ok("POST", "/v1/security-group-rules", rule, "member-a")
    again = world.call("POST", "/v1/security-group-rules", rule, "member-a")
    assert again.refusal == (409, "rule_exists", named)
    provider = {"direction": "ingress", **fields} | {"cidr": fields.get("remote_cidr", "192.0.2.0/24")}
    provider.pop("remote_cidr", None)
    world.ok("POST", "/v1/provider-rules", provider)
    named_there = named if named not in ("remote_cidr", "protocol", "direction") else "cidr"
    assert world.call("POST", "/v1/provider-rules", provider).refusal == (409, "rule_exists", named_there)
    default = {"direction": "ingress", "protocol": "sctp", **fields}
    world.ok("POST", "/v1/default-security-group-rules", default)
    by_default = "protocol" if named == "direction" else named
    assert world.call("POST", "/v1/default-security-group-rules", default).refusal == (409, "rule_exists", by_default)


@pytest.mark.parametrize(
    ("cidr", "why"),
    [
        ("10.0.0.1/24", "10.0.0.0/24 is the one"),
        ("10.0.0.0/0", "0.0.0.0/0 is the one"),  # CVE-2015-3221
        ("010.0.0.0/8", "Leading zeros"),
        ("10.0.0.0/08", "must be an IPv4 range"),
        ("10.0.0.0/33", "33"),
        ("10.0.0.0", "must be an IPv4 range"),
        ("2001:db8::1/32", "2001:db8::/32 is the one"),
        ("2001:db8::/129", "129"),
        ("2001:db8::%1/64", "must be an IPv6 range"),
        ("10.0.0.0/255.0.0.0", "must be an IPv4 range"),
    ],
)
def test_ranges_that_are_none(world: World, cidr: str, why: str) -> None:
    body = {"security_group_id": make(world)["id"], "direction": "ingress", "remote_cidr": cidr}
    reply = world.call("POST", "/v1/security-group-rules", body, "member-a")
    assert reply.refusal == (400, "invalid_field", "remote_cidr")
    assert why in reply.error["message"]


def test_only_administrators_switch_security_off(world: World) -> None:
    network = world.network(project_id="a")
    port = world.port(network["id"], "member-a")
    for name, value in (("port_security", True), ("port_security", False), ("qos", None), ("qos", {"dscp": 1})):
        for method, path in (("POST", "/v1/ports"), ("PATCH", f"/v1/ports/{port['id']}")):
            body = {name: value} | ({"network_id": network["id"]} if method == "POST" else {})
            assert world.call(method, path, body, "member-a").refusal == (403, "forbidden", name)
    for value in (True, False):
        reply = world.call("PATCH", f"/v1/networks/{network['id']}", {"filtering": value}, "member-a")
        assert reply.refusal == (403, "forbidden", "filtering")
    same = {"allow_same_net_traffic": False}
    assert world.ok("PATCH", f"/v1/networks/{network['id']}", same, "member-a")["network"]["filtering"] is True
    shared = world.network(project_id="a", shared=True, subnets=[{"cidr": "10.9.0.0/24"}])
    reply = world.call("PATCH", f"/v1/networks/{shared['id']}", {"allow_same_net_traffic": True}, "member-a")
    assert reply.refusal == (403, "forbidden", "allow_same_net_traffic")


def test_address_pairs_stay_within_ones_own_network(world: World) -> None:
    own = world.network(project_id="a")
    shared = world.network(shared=True, subnets=[{"cidr": "10.9.0.0/24"}])
    of_project = world.network(project_id="a", shared=True, subnets=[{"cidr": "10.8.0.0/24"}])
    for network, cidr, taken in (
        (own, "10.0.0.200", True),
        (own, "10.0.0.192/26", True),
        (own, "192.0.2.1", False),
        (own, "10.0.0.0/23", False),
        (own, "0.0.0.0/0", False),
        (shared, "10.9.0.200", False),
        (of_project, "10.8.0.200", False),
    ):
        port = world.port(network["id"], "member-a")
        body = {"address_pairs": [{"cidr": cidr}]}
        for method, path, fields in (
            ("PATCH", f"/v1/ports/{port['id']}", {}),
            ("POST", "/v1/ports", {"network_id": network["id"]}),
        ):
            reply = world.call(method, path, body | fields, "member-a")
            if taken:
                assert reply.status in (200, 201), reply.data
                assert reply.json["port"]["address_pairs"][0]["mac"] == reply.json["port"]["mac"]
            else:
                assert reply.refusal == (403, "forbidden", "address_pairs.0.cidr")
        world.ok("PATCH", f"/v1/ports/{port['id']}", body)  # an administrator knows what it does
        world.ok("PATCH", f"/v1/ports/{port['id']}", {"address_pairs": []}, "member-a")


def test_a_port_shows_its_groups_and_limits(world: World) -> None:
    network = world.network(project_id="a")
    group = make(world)
    qos = {"egress": {"rate_kbps": 20000}, "ingress": {"rate_kbps": 64, "burst_kbits": 700}}
    port = world.port(network["id"], security_groups=["web", "default"], qos=qos)
    assert {one["name"]: one["id"] for one in port["security_groups"]}["web"] == group["id"]
    assert port["qos"] == {
        "egress": {"rate_kbps": 20000, "burst_kbits": 8000},
        "ingress": {"rate_kbps": 64, "burst_kbits": 700},
        "dscp": None,
    }
    path = f"/v1/ports/{port['id']}"
    assert world.ok("PATCH", path, {"qos": None})["port"]["qos"] is None
    changed = world.ok("PATCH", path, {"security_groups": []}, "member-a")["port"]
    assert (changed["security_groups"], changed["port_security"]) == ([], True)
    reply = world.call("PATCH", path, {"security_groups": ["none"]}, "member-a")
    assert reply.refusal == (404, "security_group_unknown", "security_groups.0")
    bulk = {"ports": [{"network_id": network["id"]}, {"network_id": network["id"], "security_groups": ["none"]}]}
    reply = world.call("POST", "/v1/ports", bulk, "member-a")
    assert reply.refusal == (404, "security_group_unknown", "ports.1.security_groups.0")


def test_what_operators_write(world: World) -> None:
    made = world.ok("POST", "/v1/provider-rules", {"cidr": "198.51.100.0/24", "protocol": "udp", "ports": "53"})
    assert (made["provider_rule"]["direction"], made["provider_rule"]["ports"]) == (None, "53")
    assert world.ok("GET", "/v1/provider-rules", token="reader")["provider_rules"] == [made["provider_rule"]]
    body = {"direction": "ingress", "own_group": True, "applies_to": "default"}
    rule = world.ok("POST", "/v1/default-security-group-rules", body)["default_security_group_rule"]
    listed = world.ok("GET", "/v1/default-security-group-rules")["default_security_group_rules"]
    assert [one["direction"] for one in listed] == ["egress", "egress", "ingress"] and listed[2] == rule
    (default,) = world.ok("GET", "/v1/security-groups", token="member-a")["security_groups"]
    shown = world.ok("GET", f"/v1/security-groups/{default['id']}")["security_group"]
    assert shown["rules"][2]["remote_group_id"] == default["id"]
