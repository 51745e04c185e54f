from __future__ import annotations

from copy import deepcopy
from ipaddress import IPv4Address
from typing import Any

import pytest

from controller.nova.convert import convert, spans
from controller.nova.dump import DumpError, Tables, read
from controller.nova.model import TABLES, Choices, Cloud
from tests.unit.nova.test_dump import DUMP

CHOICES = Choices({"": "physnet1", "eth2": "physnet2"}, "novalocal")
WEB, SECOND, DB, LONE = (f"222{number}222{number}-0000-4000-8000-000000000001" for number in (1, 2, 3, 5))


@pytest.fixture(scope="module")
def tables() -> Tables:
    return read(DUMP, TABLES)


@pytest.fixture(scope="module")
def cloud(tables: Tables) -> Cloud:
    return convert(tables, CHOICES)


def changed(tables: Tables, table: str, index: int, **values: Any) -> Tables:
    copy = deepcopy(tables)
    copy[table][index] = {**copy[table][index], **values}
    return copy


def test_networks(cloud: Cloud) -> None:
    flat, vlan, spare = (network.body for network in cloud.networks)
    assert flat["kind"] == "flat" and flat["shared"] and flat["physical_network"] == "physnet1"
    assert (flat["mtu"], flat["dhcp"], flat["gateway_mode"], flat["dns_domain"]) == (1450, True, "shared", "novalocal")
    assert flat["subnets"] == [
        {
            "cidr": "10.0.0.0/24",
            "dns_servers": ["8.8.4.4"],
            # Nova's own, its hosts', and one that the operator reserved
            "reserved": [{"first": "10.0.0.2", "last": "10.0.0.4"}, {"first": "10.0.0.9", "last": "10.0.0.9"}],
            "gateway": "10.0.0.1",
        },
        {"cidr": "fd00:10::/64", "ipv6_mode": "slaac"},
    ]
    assert (vlan["name"], vlan["segment"], vlan["project_id"]) == ("vlan-2", 101, "p1")
    assert vlan["physical_network"] == "physnet2" and "shared" not in vlan and "assignable" not in vlan
    assert (spare["name"], spare["assignable"], spare["dhcp"]) == ("vlan-3", True, False)


def test_ports_are_novas_interfaces_with_their_ids_and_addresses(cloud: Cloud) -> None:
    ports = {port.body["id"]: port for port in cloud.ports}
    assert set(ports) == {WEB, SECOND, DB, LONE}
    web = ports[WEB].body
    assert web["mac"] == "fa:16:3e:00:00:01" and web["fixed_ips"] == [{"address": "10.0.0.5"}]
    assert web["device_id"] == ports[SECOND].body["device_id"] == "11111111-0000-4000-8000-000000000001"
    assert (web["hostname"], web["project_id"], ports[WEB].host) == ("web", "p1", "n1")
    assert web["security_groups"] == ["default", "web"] and ports[DB].body["security_groups"] == ["default"]


def test_groups_and_rules(cloud: Cloud) -> None:
    default, web, other = cloud.groups
    assert [(group.name, group.project_id) for group in cloud.groups] == [
        ("default", "p1"),
        ("web", "p1"),
        ("default", "p2"),
    ]
    assert default.rules == (
        {"direction": "ingress", "remote_cidr": "0.0.0.0/0", "protocol": "icmp"},
        {"direction": "ingress", "remote_cidr": "198.51.100.7/32", "protocol": "tcp", "ports": "22-22"},
    )
    assert web.rules == (
        {"direction": "ingress", "remote_cidr": "0.0.0.0/0", "protocol": "tcp", "ports": "80-443"},
        {"direction": "ingress", "remote_group": 1, "protocol": "udp"},
        {
            "direction": "ingress",
            "remote_cidr": "::/0",
            "family": "ipv6",
            "protocol": "icmpv6",
            "icmp_type": 8,
            "icmp_code": 0,
        },
        {"direction": "ingress", "remote_group": 2},
    )
    assert other.rules == ()


def test_floating_ips(cloud: Cloud) -> None:
    assert [(pool.name, spans(pool.addresses)) for pool in cloud.pools] == [
        ("nova", ["203.0.113.64-203.0.113.66"]),
        ("special", ["203.0.113.80"]),
    ]
    used, spare = cloud.floating_ips
    assert (str(used.address), used.project_id, used.port_id, str(used.fixed_ip)) == (
        "203.0.113.64",
        "p1",
        WEB,
        "10.0.0.5",
    )
    assert (str(spare.address), spare.project_id, spare.port_id) == ("203.0.113.65", "p1", None)


def test_what_is_not_the_same_is_said(cloud: Cloud) -> None:
    gateways, vpn, lost = cloud.notes
    assert "private" in gateways and "10.0.0.1" in gateways
    assert "vlan-2" in vpn and "VPN" in vpn
    assert "lone" in lost and "no address" in lost


def test_a_rule_of_a_protocol_that_nova_could_not_have(tables: Tables) -> None:
    cloud = convert(changed(tables, "security_group_rules", 0, protocol="gre"), CHOICES)
    assert len(cloud.groups[0].rules) == 1 and any("gre" in note for note in cloud.notes)


def test_a_machine_in_no_group_is_in_default(tables: Tables) -> None:
    copy = {**tables, "security_group_instance_association": []}
    assert {tuple(port.body["security_groups"]) for port in convert(copy, CHOICES).ports} == {("default",)}


@pytest.mark.parametrize("missing", ["networks", "fixed_ips", "virtual_interfaces", "instances"])
def test_no_nova_network(tables: Tables, missing: str) -> None:
    with pytest.raises(DumpError, match=f"no table {missing}"):
        convert({name: rows for name, rows in tables.items() if name != missing}, CHOICES)


def test_a_cloud_without_floating_ips_and_groups(tables: Tables) -> None:
    needed = ("networks", "fixed_ips", "virtual_interfaces", "instances")
    cloud = convert({name: tables[name] for name in needed}, CHOICES)
    assert len(cloud.ports) == 4 and not cloud.pools and not cloud.groups


@pytest.mark.parametrize(
    ("table", "values", "complaint"),
    [
        ("networks", {"cidr": "10.0.0.0/33"}, "not as Nova makes them"),
        ("networks", {"id": None}, "not as Nova makes them"),
        ("networks", {"vlan": float("inf")}, "not as Nova makes them"),
        ("fixed_ips", {"address": "nothing"}, "not as Nova makes them"),
        ("floating_ips", {"address": None}, "not as Nova makes them"),
    ],
)
def test_rows_that_make_no_sense(tables: Tables, table: str, values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(DumpError, match=complaint):
        convert(changed(tables, table, 0, **values), CHOICES)


def test_which_physical_network_must_be_known(tables: Tables) -> None:
    with pytest.raises(DumpError, match="network private was on eth1: which physical network"):
        convert(tables, Choices({"eth2": "physnet2"}))
    by_bridge = convert(tables, Choices({"br100": "a", "eth2": "b"}))
    assert [network.body["physical_network"] for network in by_bridge.networks] == ["a", "b", "b"]


def test_spans() -> None:
    assert spans([]) == []
    assert spans(map(IPv4Address, ("10.0.0.3", "10.0.0.1", "10.0.0.2", "10.0.0.9"))) == [
        "10.0.0.1-10.0.0.3",
        "10.0.0.9",
    ]
