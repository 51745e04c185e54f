"""IPv6 at the command: what is sent, and what is printed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from controller.cli import address_plan
from controller.cli.address_plan import PlanFormat
from tests.unit.cli.stub import NETWORK_ID, Stub, network

CREATE = ("network", "create", "blue", "--cidr", "10.0.1.0/24")
RANGE = "2001:db8:1::/64"
OTHER_ID = "44444444-4444-4444-8444-444444444444"


@pytest.mark.parametrize(
    ("arguments", "subnets"),
    [
        (("--ipv6", RANGE), [{"cidr": RANGE}]),
        (("--ipv6", RANGE, "--ipv6-mode", "slaac"), [{"cidr": RANGE, "ipv6_mode": "slaac"}]),
        (
            ("--ipv6", RANGE, "--ipv6-mode", "dhcpv6-stateful", "--ipv6-gateway", "2001:db8:1::1"),
            [{"cidr": RANGE, "ipv6_mode": "dhcpv6-stateful", "gateway": "2001:db8:1::1"}],
        ),
        (
            ("--subnet", f"{RANGE},ipv6-mode=dhcpv6-stateless,dns-server=2001:db8::53"),
            [{"cidr": RANGE, "ipv6_mode": "dhcpv6-stateless", "dns_servers": ["2001:db8::53"]}],
        ),
    ],
)
def test_a_network_with_an_ipv6_subnet(stub: Stub, run: Any, arguments: tuple[str, ...], subnets: Any) -> None:
    stub.on("POST /v1/networks", (201, {"network": network(), "revision": 12}))
    result = run(*CREATE, *arguments)
    assert result.exit_code == 0, result.stderr
    assert stub.last("POST").body == {"name": "blue", "subnets": [{"cidr": "10.0.1.0/24"}, *subnets]}


def test_the_mode_is_of_a_subnet(stub: Stub, run: Any) -> None:
    for option in (("--ipv6-mode", "slaac"), ("--ipv6-gateway", "2001:db8:1::1")):
        result = run(*CREATE, *option)
        assert result.exit_code == 2 and "--ipv6" in result.stderr


@pytest.fixture
def dual(stub: Stub) -> Stub:
    found = network()
    ipv6 = {"id": OTHER_ID, "cidr": RANGE, "gateway": None, "ipv6_mode": "dhcpv6-stateless", "dns_servers": []}
    ipv6 |= {"allocation_ranges": [], "reserved": [], "host_routes": []}
    found["subnets"] = [{**found["subnets"][0], "ipv6_mode": None}, ipv6]
    stub.on("GET /v1/networks", (200, {"networks": [found]}))
    stub.on(f"PATCH /v1/networks/{NETWORK_ID}", (200, {"network": found, "revision": 13}))
    return stub


def test_subnets_come_change_and_go_with_their_mode(dual: Stub, run: Any) -> None:
    assert run("subnet", "add", "blue", "2001:db8:9::/64", "--ipv6-mode", "dhcpv6-stateful").exit_code == 0
    first, second, new = dual.last("PATCH").body["subnets"]
    assert new == {"cidr": "2001:db8:9::/64", "ipv6_mode": "dhcpv6-stateful"}
    assert (first["ipv6_mode"], second["ipv6_mode"]) == (None, "dhcpv6-stateless")
    assert run("subnet", "set", "blue", RANGE, "--dns-server", "2001:db8::53").exit_code == 0
    assert dual.last("PATCH").body["subnets"][1] == second | {"dns_servers": ["2001:db8::53"]}
    assert run("subnet", "delete", "blue", OTHER_ID).exit_code == 0
    assert dual.last("PATCH").body["subnets"] == [first]
    assert "dhcpv6-stateless" in run("subnet", "list", "blue").stdout


def test_rules_of_a_family(stub: Stub, run: Any) -> None:
    rule = {"id": "r", "direction": "ingress", "family": "ipv6", "protocol": "icmpv6"}
    stub.on("POST /v1/security-group-rules", (201, {"security_group_rule": rule, "revision": 9}))
    stub.on("POST /v1/default-security-group-rules", (201, {"default_security_group_rule": rule, "revision": 9}))
    stub.on("GET /v1/security-group-rules", (200, {"security_group_rules": [rule]}))
    group = {"id": OTHER_ID, "name": "web", "rules": [rule]}
    stub.on("GET /v1/security-groups", (200, {"security_groups": [group]}))
    stub.on(f"GET /v1/security-groups/{OTHER_ID}", (200, {"security_group": group}))
    options = ("--direction", "ingress", "--family", "ipv6", "--protocol", "icmpv6", "--icmp-type", "128")
    result = run("security-group", "rule", "create", "web", *options)
    assert result.exit_code == 0, result.stderr
    sent = {"direction": "ingress", "family": "ipv6", "protocol": "icmpv6", "icmp_type": 128}
    assert stub.last("POST").body == sent | {"security_group_id": OTHER_ID}
    assert run("default-rule", "create", *options).exit_code == 0
    assert stub.last("POST").body == sent
    assert "ipv6" in run("security-group", "rule", "list", "web").stdout
    assert run("security-group", "rule", "create", "web", "--direction", "ingress", "--family", "4").exit_code == 2


def test_an_exported_plan_leaves_out_what_follows_from_macs() -> None:
    subnets = [
        {"id": "4", "ipv6_mode": None, "reserved": [{"first": "10.0.0.1", "last": "10.0.0.1"}]},
        {"id": "6", "ipv6_mode": "slaac", "reserved": []},
        {"id": "7", "ipv6_mode": "dhcpv6-stateful", "reserved": [{"first": "2001:db8::1", "last": "2001:db8::1"}]},
    ]
    fixed_ips = [
        {"subnet_id": "4", "address": "10.0.0.7"},
        {"subnet_id": "6", "address": "2001:db8:1::7"},
        {"subnet_id": "7", "address": "2001:db8:2::7"},
    ]
    port = {"mac": "02:00:00:00:00:01", "name": "one", "fixed_ips": fixed_ips}
    entries = address_plan.entries_of({"name": "blue", "subnets": subnets}, [port])
    assert [entry["address"] for entry in entries] == ["10.0.0.1", "10.0.0.7", "2001:db8:2::7"]
    for format_ in PlanFormat:
        read = address_plan.read(address_plan.write(entries, format_), format_)
        assert read.mistakes == [] and [entry.fields["address"] for entry in read.entries] == [
            entry["address"] for entry in entries
        ]
    assert json.dumps(entries)
