"""`trunkline subnet`: what is sent, and what is printed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.cli.stub import NETWORK_ID, Stub, network, refusal

SECOND_ID = "44444444-4444-4444-8444-444444444444"
FIRST = {"cidr": "10.0.1.0/24", "allocation_ranges": [], "reserved": [], "dns_servers": ["9.9.9.9"], "host_routes": []}
SECOND = {"cidr": "10.9.0.0/24", "allocation_ranges": [], "reserved": [], "dns_servers": [], "host_routes": []}

OVERTAKEN = 409, refusal("network_changed", "the network has changed meanwhile")


@pytest.fixture
def two(stub: Stub) -> Stub:
    """A network of two subnets."""
    found = network()
    found["subnets"] = [{**found["subnets"][0], **FIRST}, {**SECOND, "id": SECOND_ID, "gateway": "10.9.0.1"}]
    stub.on("GET /v1/networks", (200, {"networks": [found]}))
    stub.on(f"PATCH /v1/networks/{NETWORK_ID}", (200, {"network": found, "revision": 13}))
    return stub


def test_add_sends_those_that_are_there_and_the_new_one(two: Stub, run: Any) -> None:
    result = run("subnet", "add", "blue", "10.8.0.0/24", "--gateway", "10.8.0.9", "--reserve", "10.8.0.5")
    assert result.exit_code == 0, result.stderr
    new = {"cidr": "10.8.0.0/24", "gateway": "10.8.0.9", "reserved": ["10.8.0.5"]}
    assert two.last("PATCH").body == {"subnets": [FIRST, SECOND, new]}


@pytest.mark.parametrize("reference", ["10.9.0.0/24", SECOND_ID])
def test_set_and_delete_by_range_and_id(two: Stub, run: Any, reference: str) -> None:
    assert run("subnet", "set", "blue", reference, "--dns-server", "1.1.1.1").exit_code == 0
    assert two.last("PATCH").body == {"subnets": [FIRST, SECOND | {"dns_servers": ["1.1.1.1"]}]}
    assert run("subnet", "delete", "blue", reference).exit_code == 0
    assert two.last("PATCH").body == {"subnets": [FIRST]}


def test_what_somebody_else_has_added_meanwhile_stays(stub: Stub, run: Any) -> None:
    """The change is made anew from what is there by now."""
    states = [network(revision=7, subnets=[FIRST]), network(revision=9, subnets=[FIRST, SECOND])]
    shown = iter(states)
    answers = iter([OVERTAKEN, (200, {"network": states[1], "revision": 10})])
    stub.on("GET /v1/networks", lambda _: (200, {"networks": [next(shown)]}))
    stub.on(f"PATCH /v1/networks/{NETWORK_ID}", lambda _: next(answers))
    result = run("subnet", "add", "blue", "10.8.0.0/24")
    assert result.exit_code == 0, result.stderr
    assert [asked.body for asked in stub.requests if asked.method == "PATCH"] == [
        {"subnets": [FIRST, {"cidr": "10.8.0.0/24"}], "expected_revision": 7},
        {"subnets": [FIRST, SECOND, {"cidr": "10.8.0.0/24"}], "expected_revision": 9},
    ]


def test_a_change_that_is_always_overtaken_is_given_up(stub: Stub, run: Any) -> None:
    stub.on("GET /v1/networks", (200, {"networks": [network(revision=7)]}))
    stub.on(f"PATCH /v1/networks/{NETWORK_ID}", OVERTAKEN)
    result = run("network", "set", "blue", "--dns-server", "1.1.1.1")
    assert result.exit_code != 0
    assert "changed meanwhile" in result.stderr
    assert len([asked for asked in stub.requests if asked.method == "PATCH"]) == 5


def test_list(two: Stub, run: Any) -> None:
    assert [one["cidr"] for one in json.loads(run("subnet", "list", "blue", "-o", "json").stdout)] == [
        "10.0.1.0/24",
        "10.9.0.0/24",
    ]
    assert "10.9.0.1" in run("subnet", "list", "blue").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("add", "blue", "10.9.0.0/24"), "has a subnet 10.9.0.0/24 already"),
        (("set", "blue", "10.9.0.0/24"), "nothing to change"),
        (("set", "blue", "10.7.0.0/24", "--reserve", "none"), "has no subnet 10.7.0.0/24"),
        (("delete", "blue", "10.7.0.0/24"), "has no subnet 10.7.0.0/24"),
    ],
)
def test_refusals(two: Stub, run: Any, arguments: tuple[str, ...], said: str) -> None:
    result = run("subnet", *arguments)
    assert result.exit_code != 0 and said in result.stderr


def test_a_network_of_several_is_set_subnet_by_subnet(two: Stub, run: Any) -> None:
    result = run("network", "set", "blue", "--dns-server", "1.1.1.1")
    assert result.exit_code == 2 and "trunkline subnet set" in result.stderr


def test_the_last_subnet_stays(stub: Stub, run: Any) -> None:
    stub.on("GET /v1/networks", (200, {"networks": [network()]}))
    result = run("subnet", "delete", "blue", "10.0.1.0/24")
    assert result.exit_code == 1 and "only subnet" in result.stderr
