"""Ports by part of an address, as nova-network's `servers?ip=REGEX` found them."""

from __future__ import annotations

import time
from ipaddress import IPv4Address
from typing import Any

import pytest

from controller.store.specs import FixedIpSpec, Invalid, PortSpec
from tests.unit.store.floating import lead, make_pool, take

ADDRESSES = ("10.0.0.1", "10.0.0.10", "10.0.0.19", "10.0.0.2", "10.0.0.100", "10.0.0.210")


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("10.0.0.1", ["10.0.0.1"]),
        ("10.0.0.16/30", ["10.0.0.19"]),
        ("10.0.0.17/30", ["10.0.0.19"]),
        ("10.0.0.1*", ["10.0.0.1", "10.0.0.10", "10.0.0.19", "10.0.0.100"]),
        ("10.0.0.1?", ["10.0.0.10", "10.0.0.19"]),
        ("*.210", ["10.0.0.210"]),
        (r"^10\.0\.0\.1", ["10.0.0.1", "10.0.0.10", "10.0.0.19", "10.0.0.100"]),
        (r"^10\.0\.0\.1$", ["10.0.0.1"]),
        (r"\.2", ["10.0.0.2", "10.0.0.210"]),
        (r"^10.*10$", ["10.0.0.10", "10.0.0.210"]),
        (r"^10\.0\.0\.1.$", ["10.0.0.10", "10.0.0.19"]),
        (r"^11", []),
        ("10.0.1.0/24", []),
    ],
)
def test_b28_patterns(world: Any, pattern: str, found: list[str]) -> None:
    network = world.network()
    for address in ADDRESSES:
        world.port(network, fixed_ips=(FixedIpSpec(IPv4Address(address)),))
    records = world.store.list_ports(address=pattern)
    assert [str(record.port.fixed_ips[0].address) for record in records] == found
    assert world.store.list_ports(address=pattern, project_id="red") == []
    if len(records) > 1:
        (second,) = world.store.list_ports(address=pattern, limit=1, marker=records[0].port.id)
        assert second == records[1]


def test_b28_floating_ips_count_too(world: Any) -> None:
    make_pool(world)
    port = world.port(world.network())
    world.port(world.network("10.1.0.0/24", name="other"))
    (given,) = take(world)
    lead(world, given, port)
    for pattern in (str(given.floating_ip.address), "203.0.113.0/24", "203.*", r"^203\."):
        assert [record.port.id for record in world.store.list_ports(address=pattern)] == [port.port.id]


@pytest.mark.parametrize(
    "pattern", ["", "10.0.0.256", "10.0.0.1/33", "(1+)+$", "^[0-9]+$", "a", "%", "_", "^10|11", "1" * 65, "\\d", "^1%"]
)
def test_b28_what_is_no_pattern(world: Any, pattern: str) -> None:
    with pytest.raises(Invalid) as refused:
        world.store.list_ports(address=pattern)
    assert (refused.value.code, refused.value.field) == ("address_pattern_invalid", "address")


def test_b28_no_pattern_takes_long(world: Any) -> None:
    network = world.network("10.0.0.0/16")
    for _ in range(2):
        world.store.create_ports([PortSpec(network.id)] * 1000, "tester")
    began = time.monotonic()
    assert world.store.list_ports(address="*?" * 31) == []
    assert world.store.list_ports(address="^" + ".*1" * 20 + "$") == []
    assert time.monotonic() - began < 2
