"""Many networks of one range, networks that are given to projects, and the ports of a machine."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.cli.stub import NETWORK_ID, OTHER_NETWORK_ID, Stub, network, port

MANY = ("network", "create", "pool", "--cidr", "10.0.0.0/16", "--physical-network", "physnet1", "--vlan", "auto")
ONE = ("network", "create", "one", "--cidr", "10.0.0.0/16", "--physical-network", "physnet1", "--flat")


@pytest.fixture
def known(stub: Stub) -> Stub:
    stub.on("GET /v1/networks", (200, {"networks": [network()]}))
    return stub


def test_b1_many_networks(stub: Stub, run: Any) -> None:
    made = [network(name="pool_0"), network(name="pool_1", id=OTHER_NETWORK_ID)]
    stub.on("POST /v1/networks", (201, {"networks": made, "revision": 12}))
    stub.on("GET /v1/revisions/12", (200, {"revision": 12}))
    result = run(*MANY, "--count", "2", "--network-size", "64", "--assignable", "--wait")
    assert result.exit_code == 0, result.stderr
    assert [line.split()[1] for line in result.stdout.splitlines()[2:]] == ["pool_0", "pool_1"]
    assert stub.last("POST").body == {
        "name": "pool",
        "kind": "vlan",
        "physical_network": "physnet1",
        "subnets": [{"cidr": "10.0.0.0/16"}],
        "assignable": True,
        "count": 2,
        "network_size": 64,
    }
    assert json.loads(run(*MANY, "--network-size", "64", "-o", "json").stdout) == made


NARROWED: list[tuple[list[str], dict[str, Any]]] = [
    (["--fixed-cidr=10.0.20.0/24"], {"allocation_ranges": [{"first": "10.0.20.0", "last": "10.0.20.255"}]}),
    (
        ["--allowed-start=10.0.0.5", "--allowed-end=10.0.0.250"],
        {"allocation_ranges": [{"first": "10.0.0.5", "last": "10.0.0.250"}]},
    ),
    (
        ["--allowed-start=10.0.0.5", "--gateway-mode=shared"],
        {"allocation_ranges": [{"first": "10.0.0.5", "last": "10.0.255.254"}], "gateway": "10.0.0.5"},
    ),
    (
        ["--allowed-start=10.0.0.5", "--gateway-mode=shared", "--gateway=10.0.0.1"],
        {"allocation_ranges": [{"first": "10.0.0.5", "last": "10.0.255.254"}], "gateway": "10.0.0.1"},
    ),
    (["--allowed-end=10.0.0.9"], {"allocation_ranges": [{"first": "10.0.0.1", "last": "10.0.0.9"}]}),
]


@pytest.mark.parametrize(("arguments", "sent"), NARROWED)
def test_b4_b5_the_words_of_nova_network(stub: Stub, run: Any, arguments: list[str], sent: dict[str, Any]) -> None:
    stub.on("POST /v1/networks", (201, {"network": network(), "revision": 12}))
    assert run(*ONE, *arguments).exit_code == 0
    assert stub.last("POST").body["subnets"] == [{"cidr": "10.0.0.0/16"} | sent]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--fixed-cidr=x"], "--fixed-cidr"),
        (["--fixed-cidr=10.0.20.1/24"], "--fixed-cidr"),
        (["--allowed-start=first"], "--allowed-start"),
        (["--allowed-end=10.0.0"], "--allowed-end"),
        (["--fixed-cidr=10.0.20.0/24", "--allowed-end=10.0.20.9"], "give one of --allocation-range"),
        (["--fixed-cidr=10.0.20.0/24", "--allocation-range=10.0.0.1-10.0.0.9"], "give one of --allocation-range"),
        (["--count=0"], "--count"),
        (["--count=257"], "--count"),
        (["--network-size=3"], "--network-size"),
    ],
)
def test_wrong_values_are_usage_errors(stub: Stub, run: Any, arguments: list[str], complaint: str) -> None:
    result = run(*ONE, *arguments)
    assert result.exit_code == 2 and complaint in result.stderr
    assert stub.requests == []


def test_b11_a_users_own_network_is_placed_by_the_operator(stub: Stub, run: Any) -> None:
    stub.on("POST /v1/networks", (201, {"network": network(), "revision": 12}))
    assert run("network", "create", "mine", "--cidr", "10.0.0.0/24").exit_code == 0
    assert stub.last("POST").body == {"name": "mine", "subnets": [{"cidr": "10.0.0.0/24"}]}


def test_b8_associate(known: Stub, run: Any) -> None:
    known.on(f"PUT /v1/networks/{NETWORK_ID}/project", (200, {"network": network(), "revision": 12}))
    known.on("POST /v1/projects/p1/networks", (200, {"network": network(), "revision": 12}))
    result = run("network", "associate", "blue", "--project", "p1", "-o", "json")
    assert json.loads(result.stdout) == network() | {"revision": 12}
    assert known.last("PUT").body == {"project_id": "p1"}
    assert run("network", "associate", "--project", "p1").exit_code == 0
    assert known.last("POST").body == {}
    assert run("network", "associate", "blue").exit_code == 2


def test_b8_disassociate_and_scrub(known: Stub, run: Any) -> None:
    known.on(f"DELETE /v1/networks/{NETWORK_ID}/project", (200, {"network": network(), "revision": 12}))
    assert run("network", "disassociate", "blue").exit_code == 0
    scrubbed = {"project_id": "p1", "networks": [NETWORK_ID], "security_groups": []}
    known.on("POST /v1/projects/p1/scrub", (200, {"scrubbed": scrubbed, "revision": 13}))
    result = run("project", "scrub", "p1", "-o", "json")
    assert json.loads(result.stdout) == scrubbed | {"revision": 13}


def test_a_machine_that_names_no_network(known: Stub, run: Any) -> None:
    made = [port(name="web1"), port(name="web1-2", network_id=OTHER_NETWORK_ID)]
    known.on("POST /v1/ports", (201, {"ports": made, "revision": 12}))
    result = run("port", "create", "web1", "--project", "p1", "--hostname", "web1")
    assert [line.split()[1] for line in result.stdout.splitlines()[2:]] == ["web1", "web1-2"]
    assert known.last("POST").body == {"name": "web1", "device_id": "web1", "project_id": "p1", "hostname": "web1"}
    assert run("port", "create", "web1", "--device-id", "i-7", "--no-port-security").exit_code == 0
    assert known.last("POST").body == {
        "name": "web1", "device_id": "i-7", "port_security": False, "security_groups": []
    }  # fmt: skip


@pytest.mark.parametrize(
    "option", ["--mac=02:00:00:00:00:01", "--fixed-ip=10.0.0.9", "--address-pair=10.0.0.9", "--id=x"]
)
def test_what_one_port_has_needs_a_network(stub: Stub, run: Any, option: str) -> None:
    result = run("port", "create", "web1", option)
    assert result.exit_code == 2 and "need --network" in result.stderr
    assert stub.requests == []


def test_the_quota_of_networks(stub: Stub, run: Any) -> None:
    stub.on("PATCH /v1/quotas/p1", (200, {"quota": {"project_id": "p1"}, "revision": 9}))
    assert run("quota", "set", "p1", "--networks", "5").exit_code == 0
    assert stub.last("PATCH").body == {"networks": 5}
