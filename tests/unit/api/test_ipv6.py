"""IPv6 by the API: subnets and addresses are what those of IPv4 are."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.api.world import World

V4 = {"cidr": "10.0.0.0/24"}
SLAAC = {"cidr": "2001:db8:1::/64"}
STATEFUL = {
    "cidr": "2001:db8:2::/64",
    "gateway": "2001:db8:2::1",
    "ipv6_mode": "dhcpv6-stateful",
    "allocation_ranges": [{"first": "2001:db8:2::10", "last": "2001:db8:2::1f"}],
    "reserved": ["2001:db8:2::10", {"first": "2001:db8:2::18", "last": "2001:db8:2::19"}],
    "dns_servers": ["2001:db8::53"],
}
MAC = "02:00:00:00:00:05"
EUI64 = "2001:db8:1::ff:fe00:5"


def shown(subnet: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in subnet.items() if name != "id"}


def test_subnets_are_answered_those_of_ipv4_first(world: World) -> None:
    network = world.network(subnets=[SLAAC, V4, STATEFUL], project_id="a")
    assert [shown(subnet) for subnet in network["subnets"]] == [
        {
            **V4,
            "gateway": None,
            "allocation_ranges": [],
            "reserved": [],
            "dns_servers": [],
            "host_routes": [],
            "ipv6_mode": None,
        },
        {
            **SLAAC,
            "gateway": None,
            "allocation_ranges": [],
            "reserved": [],
            "dns_servers": [],
            "host_routes": [],
            "ipv6_mode": "slaac",
        },
        {
            **STATEFUL,
            "reserved": [
                {"first": "2001:db8:2::10", "last": "2001:db8:2::10"},
                {"first": "2001:db8:2::18", "last": "2001:db8:2::19"},
            ],
            "host_routes": [],
        },
    ]
    port = world.port(network["id"], mac=MAC)
    ids = [subnet["id"] for subnet in network["subnets"]]
    expected = list(zip(ids, ["10.0.0.1", EUI64, "2001:db8:2::11"], strict=True))
    assert [(one["subnet_id"], one["address"]) for one in port["fixed_ips"]] == expected
    path = f"/v1/networks/{network['id']}"
    asked = [{"address": "10.0.0.9"}, {"address": "2001:db8:2::1a"}, {"subnet_id": ids[2]}]
    changed = world.ok("PATCH", f"/v1/ports/{port['id']}", {"fixed_ips": asked}, "member-a")["port"]
    addresses = [one["address"] for one in changed["fixed_ips"]]
    assert addresses == ["10.0.0.9", EUI64, "2001:db8:2::1a", "2001:db8:2::11"]
    again = [shown(subnet) for subnet in network["subnets"]]
    assert world.ok("PATCH", path, {"subnets": again})["network"]["revision"] == network["revision"]
    reply = world.call("PATCH", path, {"subnets": [V4]})
    assert reply.refusal == (409, "subnet_in_use", "subnets")


@pytest.mark.parametrize(
    ("subnet", "field"),
    [
        ({"cidr": "2001:db8:1::1/64"}, "subnets.1.cidr"),
        ({"cidr": "2001:db8:1::/129"}, "subnets.1.cidr"),
        ({"cidr": "2001:db8:1::"}, "subnets.1.cidr"),
        ({"cidr": "2001:db8:1::%eth0/64"}, "subnets.1.cidr"),
        ({**SLAAC, "gateway": "10.0.0.1"}, "subnets.1.gateway"),
        ({**SLAAC, "gateway": "ff02::1"}, "subnets.1.gateway"),
        ({**SLAAC, "gateway": "::"}, "subnets.1.gateway"),
        ({**SLAAC, "gateway": "fe80::1%eth0"}, "subnets.1.gateway"),
        ({**SLAAC, "dns_servers": ["192.0.2.53"]}, "subnets.1.dns_servers"),
        ({**SLAAC, "ipv6_mode": "ra"}, "subnets.1.ipv6_mode"),
        ({**SLAAC, "host_routes": [{"destination": "10.9.0.0/16", "next_hop": "10.0.0.2"}]}, "subnets.1.host_routes"),
        ({**STATEFUL, "reserved": ["10.0.0.1"]}, "subnets.1.reserved"),
        ({**STATEFUL, "reserved": [{"first": "::1", "last": "10.0.0.1"}]}, "subnets.1.reserved.0"),
        ({"cidr": "10.1.0.0/24", "ipv6_mode": "slaac"}, "subnets.1.ipv6_mode"),
        ({"cidr": "10.1.0.0/24", "dns_servers": ["2001:db8::53"]}, "subnets.1.dns_servers"),
    ],
)
def test_each_wrong_field_is_named(world: World, subnet: dict[str, Any], field: str) -> None:
    body = {"name": "n", "kind": "vlan", "physical_network": "physnet1", "subnets": [V4, subnet]}
    assert world.call("POST", "/v1/networks", body).refusal == (400, "invalid_field", field)


def test_a_refusal_names_the_place_in_the_request(world: World) -> None:
    body = {"name": "n", "kind": "vlan", "physical_network": "physnet1"}
    for subnets, code, field in (
        ([{"cidr": "2001:db8:1::/80"}, V4], "cidr_invalid", "subnets.0.cidr"),
        ([SLAAC, V4, {"cidr": "fe80::/64"}], "cidr_reserved", "subnets.2.cidr"),
        ([SLAAC, V4, {"cidr": "127.0.0.0/24"}], "cidr_reserved", "subnets.2.cidr"),
        ([V4, STATEFUL, SLAAC, {"cidr": "10.0.0.0/25"}], "subnets_invalid", "subnets.3.cidr"),
        ([SLAAC], "subnets_invalid", "subnets"),
    ):
        assert world.call("POST", "/v1/networks", body | {"subnets": subnets}).refusal == (400, code, field)
    network = world.network(subnets=[V4])
    reply = world.call("PATCH", f"/v1/networks/{network['id']}", {"subnets": [{"cidr": "2001:db8:1::/80"}, V4]})
    assert reply.refusal == (400, "cidr_invalid", "subnets.0.cidr")


def test_only_who_owns_a_network_chooses_addresses(world: World) -> None:
    network = world.network(subnets=[V4, STATEFUL], shared=True)
    body = {"network_id": network["id"], "fixed_ips": [{"address": "2001:db8:2::11"}]}
    assert world.call("POST", "/v1/ports", body, "member-a").refusal == (403, "forbidden", "fixed_ips.0.address")
    port = world.port(network["id"], "member-a", fixed_ips=[{"subnet_id": network["subnets"][1]["id"]}])
    assert port["fixed_ips"][1]["address"] == "2001:db8:2::11"


def test_what_is_of_ipv4_alone_says_so(world: World) -> None:
    network = world.network(subnets=[V4, SLAAC], project_id="a")
    port = world.port(network["id"])
    for method, path, body, field in (
        (
            "POST",
            "/v1/ports",
            {"network_id": network["id"], "address_pairs": [{"cidr": EUI64}]},
            "address_pairs.0.cidr",
        ),
        ("POST", "/v1/provider-rules", {"cidr": "2001:db8::/32"}, "cidr"),
        ("POST", "/v1/floating-ips", {"pool": "p", "port_id": port["id"], "fixed_ip": EUI64}, "fixed_ip"),
        ("PUT", f"/v1/networks/{network['id']}/addresses/{EUI64}/reservation", None, "address"),
    ):
        reply = world.call(method, path, body)
        assert reply.refusal == (400, "invalid_field", field) and "IPv4" in reply.error["message"]


def test_leases_history_and_search_know_ipv6(world: World) -> None:
    network = world.network(subnets=[V4, SLAAC], project_id="a")
    port = world.port(network["id"], mac=MAC)
    found = world.ok("GET", f"/v1/address-history?address={EUI64}", token="member-a")["address_history"]
    assert [(one["address"], one["port_id"]) for one in found] == [(EUI64, port["id"])]
    assert [one["id"] for one in world.ok("GET", f"/v1/ports?address={EUI64}")["ports"]] == [port["id"]]
    assert world.ok("GET", f"/v1/leases?address={EUI64}")["leases"] == []
    listed = world.ok("GET", f"/v1/networks/{network['id']}/addresses")["addresses"]
    assert [(one["address"], one["owner"]) for one in listed] == [("10.0.0.1", "port"), (EUI64, "port")]


def test_rules_have_a_family(world: World) -> None:
    group = world.ok("POST", "/v1/security-groups", {"name": "web"}, "member-a")["security_group"]
    assert [rule["family"] for rule in group["rules"]] == ["ipv4", "ipv6"]

    def rule(**fields: Any) -> Any:
        body = {"security_group_id": group["id"], "direction": "ingress", **fields}
        return world.call("POST", "/v1/security-group-rules", body, "member-a")

    def made(**fields: Any) -> tuple[str, str, str | None]:
        one = rule(**fields).json["security_group_rule"]
        return one["family"], one["protocol"], one["remote_cidr"]

    web = {"protocol": "tcp", "ports": "80"}
    assert made(**web) == ("ipv4", "tcp", None)
    assert made(**web, family="ipv6") == ("ipv6", "tcp", None)
    assert made(**web, remote_cidr="2001:db8::/32") == ("ipv6", "tcp", "2001:db8::/32")
    assert made(protocol="icmpv6", icmp_type=128, icmp_code=0) == ("ipv6", "icmpv6", None)
    assert rule(**web, remote_cidr="::/0").refusal == (409, "rule_exists", "ports")
    assert rule(protocol=58, icmp_type=128, icmp_code=0).refusal == (409, "rule_exists", "icmp_code")
    for fields, field in (
        ({"family": "ipv4", "remote_cidr": "2001:db8::/32"}, "remote_cidr"),
        ({"family": "ipv6", "remote_cidr": "192.0.2.0/24"}, "remote_cidr"),
        ({"family": "ipv6", "protocol": "icmp"}, "protocol"),
        ({"family": "ipv4", "protocol": "icmpv6"}, "protocol"),
        ({"protocol": "icmpv6", "remote_cidr": "192.0.2.0/24"}, "protocol"),
        ({"protocol": "tcp", "family": "ipv6", "icmp_type": 128}, "icmp_type"),
    ):
        assert rule(**fields).refusal == (400, "rule_invalid", field)
    template = {"direction": "ingress", "own_group": True, "family": "ipv6"}
    default = world.ok("POST", "/v1/default-security-group-rules", template)["default_security_group_rule"]
    assert default["family"] == "ipv6"
    later = world.ok("POST", "/v1/security-groups", {"name": "later"}, "member-a")["security_group"]
    assert [(one["family"], one["remote_group_id"]) for one in later["rules"]][2:] == [("ipv6", later["id"])]


def test_what_a_machine_is_configured_with(world: World) -> None:
    network = world.network(subnets=[V4, SLAAC, STATEFUL])
    port = world.port(network["id"], mac=MAC)
    answer = world.ok("GET", f"/v1/ports/{port['id']}/network-data")
    entries = [(one["id"], one["type"]) for one in answer["network_data"]["networks"]]
    assert entries == [("eth0-0", "ipv4_dhcp"), ("eth0-1", "ipv6_slaac"), ("eth0-2", "ipv6_dhcpv6-stateful")]
    ethernet = answer["network_config"]["ethernets"]["eth0"]
    assert (ethernet["dhcp4"], ethernet["dhcp6"], ethernet["accept-ra"]) == (True, True, True)


def test_what_a_machine_is_configured_with_where_there_is_no_dhcp(world: World) -> None:
    network = world.network(
        dhcp=False, gateway_mode="shared", subnets=[V4, {**SLAAC, "dns_servers": ["2001:db8::53"]}, STATEFUL]
    )
    port = world.port(network["id"], mac=MAC)
    answer = world.ok("GET", f"/v1/ports/{port['id']}/network-data")
    by_mac, chosen = answer["network_data"]["networks"][1:]
    assert (by_mac["id"], by_mac["type"], by_mac["ip_address"], by_mac["netmask"]) == (
        "eth0-1",
        "ipv6",
        EUI64,
        "ffff:ffff:ffff:ffff::",
    )
    assert by_mac["routes"] == [{"network": "::", "netmask": "::", "gateway": "fe80::54:4cff:fe00:1"}]
    assert (chosen["ip_address"], chosen["routes"]) == ("2001:db8:2::11", [])
    services = [{"type": "dns", "address": address} for address in ("10.0.0.1", "2001:db8::53")]
    assert answer["network_data"]["services"] == services
    ethernet = answer["network_config"]["ethernets"]["eth0"]
    assert ethernet["addresses"] == ["10.0.0.2/24", f"{EUI64}/64", "2001:db8:2::11/64"]
    assert {"to": "::/0", "via": "fe80::54:4cff:fe00:1"} in ethernet["routes"]
    assert ethernet["nameservers"]["addresses"] == ["10.0.0.1", "2001:db8::53"]


def test_a_plan_has_the_addresses_that_are_chosen(world: World) -> None:
    world.network(name="blue", subnets=[V4, SLAAC, STATEFUL], project_id="a")
    one = {"kind": "port", "network": "blue", "mac": MAC, "name": "one"}
    entries = [{**one, "address": "10.0.0.7"}, {**one, "address": "2001:db8:2::1b"}]

    def plan(*entries: dict[str, Any]) -> Any:
        return world.ok("POST", "/v1/address-plans", {"entries": list(entries)})["address_plan"]["actions"]

    assert plan(*entries) == ["create", "create"]
    (port,) = world.ok("GET", "/v1/ports")["ports"]
    assert [fixed_ip["address"] for fixed_ip in port["fixed_ips"]] == ["10.0.0.7", EUI64, "2001:db8:2::1b"]
    assert plan(*entries) == ["keep", "keep"]
    assert plan(entries[1]) == ["keep"]
    for entry, code in (
        ({"kind": "port", "network": "blue", "address": "2001:db8:2::1b"}, "address_in_use"),
        ({**one, "address": "2001:db8:2::1c"}, "mac_in_use"),
        ({"kind": "reserved", "network": "blue", "address": "2001:db8:2::1c"}, "range_invalid"),
    ):
        reply = world.call("POST", "/v1/address-plans", {"entries": [entry]})
        assert [problem["code"] for problem in reply.error["details"]["problems"]] == [code]
