"""What an outside name server is given."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network

import pytest

from controller.dns.zone_export import Content, Export, reverse_zones
from flows.model import Ipv6FixedIp, Ipv6Subnet
from tests.unit.dns.cloud import BLUE, BLUE2, RED, port, snapshot, zone


def shown(content: Content) -> dict[str, list[str]]:
    return {name: [f"{one.type} {one.data} {one.ttl}" for one in entries] for name, entries in content.items()}


def test_public_zones_alone() -> None:
    there = snapshot(
        zone(1, "pub.example", "www.pub.example A 192.0.2.1 30", "www.pub.example A 192.0.2.2 20", public=True),
        zone(2, "lab.example", "www.lab.example A 10.0.0.1"),
    )
    zones = Export().zones(there)
    assert list(zones) == ["pub.example"]
    # one TTL for all of a set, RFC 2181
    assert shown(zones["pub.example"]) == {"www.pub.example": ["A 192.0.2.1 20", "A 192.0.2.2 20"]}


def test_with_the_names_of_ports_as_a_vm_is_told() -> None:
    ports = (port(5, BLUE, "web", device_id="i-5"), port(6, BLUE, "web"), port(7, BLUE, "own"), port(8, RED, "red"))
    made = zone(1, "pub.example", "own.pub.example TXT mine", public=True, on=(BLUE, RED))
    assert shown(Export().zones(snapshot(made, ports=ports))["pub.example"]) == {
        "own.pub.example": ["TXT mine 60"],
        "web.pub.example": ["A 10.20.0.5 60"],
        "i-5.pub.example": ["A 10.20.0.5 60"],
    }


def test_the_domains_of_networks_and_their_ranges() -> None:
    six = Ipv6Subnet("six", IPv6Network("2001:db8:0:1::/64"))
    blue = replace(BLUE, dns_domain="Lab.example.", ipv6_subnets=(six,))
    blue2 = replace(BLUE2, dns_domain="lab.example")
    address = (Ipv6FixedIp("six", IPv6Address("2001:db8:0:1::5")),)
    ports = (
        port(5, blue, "web", ipv6_addresses=address),
        port(6, blue2, "WEB", device_id="i-6"),
        port(7, blue2, ""),
        port(8, blue2, "db"),
        port(9, RED, "red"),
    )
    pointers = zone(1, "21.10.in-addr.arpa", "8.0.21.10.in-addr.arpa PTR mine.example", public=True)
    zones = Export(networks=True).zones(snapshot(pointers, ports=ports, networks=(blue, blue2, RED)))
    arpa6 = "1.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
    assert set(zones) == {"lab.example", "0.20.10.in-addr.arpa", "0.21.10.in-addr.arpa", "21.10.in-addr.arpa", arpa6}
    assert shown(zones["lab.example"]) == {
        "web.lab.example": ["A 10.20.0.5 60", "AAAA 2001:db8:0:1::5 60"],
        "db.lab.example": ["A 10.21.0.8 60"],
    }
    assert shown(zones["0.20.10.in-addr.arpa"]) == {"5.0.20.10.in-addr.arpa": ["PTR web.lab.example 60"]}
    assert set(zones["0.21.10.in-addr.arpa"]) == {"6.0.21.10.in-addr.arpa", "8.0.21.10.in-addr.arpa"}
    assert list(zones[arpa6]) == [f"5.{'0.' * 15}{arpa6}"]
    assert list(Export().zones(snapshot(pointers, ports=ports, networks=(blue,)))) == ["21.10.in-addr.arpa"]


def test_the_catalog_names_all_others() -> None:
    there = snapshot(zone(1, "a.example", public=True), zone(2, "b.example", public=True))
    catalog = Export(catalog="catalog.invalid").zones(there)["catalog.invalid"]
    assert shown(catalog)["version.catalog.invalid"] == ["TXT 2 0"]
    members = {name: entries[0].data for name, entries in catalog.items() if name.endswith(".zones.catalog.invalid")}
    assert sorted(members.values()) == ["a.example", "b.example"]
    # a member keeps its label, or it would be taken for another one
    more = Export(catalog="catalog.invalid").zones(
        snapshot(zone(3, "c.example", public=True), *there.dns_zones.values())
    )
    assert members.items() < {name: entries[0].data for name, entries in more["catalog.invalid"].items()}.items()


@pytest.mark.parametrize(
    ("cidr", "zones"),
    [
        ("10.20.1.0/24", ["1.20.10.in-addr.arpa"]),
        ("10.20.1.128/25", ["1.20.10.in-addr.arpa"]),
        ("10.20.1.4/31", ["1.20.10.in-addr.arpa"]),
        ("10.20.2.0/23", ["2.20.10.in-addr.arpa", "3.20.10.in-addr.arpa"]),
        ("10.20.0.0/16", ["20.10.in-addr.arpa"]),
        ("10.20.0.0/15", ["20.10.in-addr.arpa", "21.10.in-addr.arpa"]),
        ("10.0.0.0/8", ["10.in-addr.arpa"]),
        ("2001:db8::/32", ["8.b.d.0.1.0.0.2.ip6.arpa"]),
        ("2001:db8:0:10::/60", ["1.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"]),
        ("2001:db8::/127", [f"{'0.' * 23}8.b.d.0.1.0.0.2.ip6.arpa"]),
    ],
)
def test_reverse_zones(cidr: str, zones: list[str]) -> None:
    network = ip_network(cidr)
    assert isinstance(network, IPv4Network | IPv6Network)
    assert reverse_zones(network) == zones
