"""`trunkline network`: what is sent, and what is printed."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from controller.bounds import LEAST_LEASE_TIME, MOST_LEASE_TIME
from tests.unit.cli.stub import NETWORK_ID, OTHER_NETWORK_ID, TOKEN, Request, Stub, network, refusal

CREATE = ("network", "create", "blue", "--cidr", "10.0.1.0/24", "--physical-network", "physnet1")
MINIMAL = {"name": "blue", "physical_network": "physnet1", "subnets": [{"cidr": "10.0.1.0/24"}]}


def lists_by_name(*networks: dict[str, Any]) -> Any:
    def reply(request: Request) -> tuple[int, Any]:
        wanted = request.query.get("name")
        return 200, {"networks": [one for one in networks if wanted in (None, one["name"])]}

    return reply


def test_create_sends_only_what_was_given(stub: Stub, run: Any) -> None:
    stub.on("POST /v1/networks", (201, {"network": network(), "revision": 12}))
    assert run(*CREATE, "--vlan", "101").exit_code == 0
    request = stub.last("POST")
    assert request.body == MINIMAL | {"kind": "vlan", "segment": 101}
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert request.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("arguments", "expected"), [(["--flat"], {"kind": "flat"}), (["--vlan", "auto"], {"kind": "vlan"})]
)
def test_create_kinds(stub: Stub, run: Any, arguments: list[str], expected: dict[str, Any]) -> None:
    stub.on("POST /v1/networks", (201, {"network": network(), "revision": 12}))
    assert run(*CREATE, *arguments).exit_code == 0
    assert stub.last("POST").body == MINIMAL | expected


def test_create_with_everything(stub: Stub, run: Any) -> None:
    stub.on("POST /v1/networks", (201, {"network": network(), "revision": 12}))
    stub.on("GET /v1/networks", lists_by_name(network(name="out", id=OTHER_NETWORK_ID)))
    result = run(
        *CREATE, "--vlan=101", "--gateway=10.0.1.254", "--gateway-mode=shared", "--external", "--shared",
        "--project=p1", "--dns-server=9.9.9.9", "--dns-server=1.1.1.1", "--allocation-range=10.0.1.10-10.0.1.99",
        "--allocation-range=10.0.1.120-10.0.1.130", "--reserve=10.0.1.11", "--reserve=10.0.1.20-10.0.1.22",
        "--host-route=10.9.0.0/16,10.0.1.7", "--dhcp-option=66=10.0.0.2", "--dhcp-option=200:hex=0a=b", "--mtu=1450",
        "--no-dhcp", "--domain=blue.example", "--external-network=out", "--ntp-server=10.0.1.3", "--lease-time=600",
        "--arp-responder",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert stub.last("POST").body == {
        "name": "blue",
        "kind": "vlan",
        "physical_network": "physnet1",
        "segment": 101,
        "gateway_mode": "shared",
        "external": True,
        "shared": True,
        "project_id": "p1",
        "dhcp": False,
        "dhcp_options": [{"code": 66, "value": "10.0.0.2"}, {"code": 200, "value": "0a=b", "type": "hex"}],
        "ntp_servers": ["10.0.1.3"],
        "lease_time": 600,
        "dns_domain": "blue.example",
        "mtu": 1450,
        "arp_responder": True,
        "external_network_id": OTHER_NETWORK_ID,
        "subnets": [
            {
                "cidr": "10.0.1.0/24",
                "gateway": "10.0.1.254",
                "dns_servers": ["9.9.9.9", "1.1.1.1"],
                "allocation_ranges": [
                    {"first": "10.0.1.10", "last": "10.0.1.99"},
                    {"first": "10.0.1.120", "last": "10.0.1.130"},
                ],
                "reserved": ["10.0.1.11", {"first": "10.0.1.20", "last": "10.0.1.22"}],
                "host_routes": [{"destination": "10.9.0.0/16", "next_hop": "10.0.1.7"}],
            }
        ],
    }


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "give one of --flat and --vlan"),
        (["--flat", "--vlan", "5"], "give one of --flat and --vlan"),
        (["--vlan", "4095"], "--vlan: '4095' is neither"),
        (["--flat", "--allocation-range", "10.0.1.1"], "--allocation-range: '10.0.1.1': not of the form FIRST-LAST"),
        (["--flat", "--reserve", "-10.0.1.1"], "--reserve: '-10.0.1.1': not of the form FIRST-LAST"),
        (["--flat", "--host-route", "10.9.0.0/16"], "--host-route: '10.9.0.0/16': not of the form"),
        (["--flat", "--dhcp-option", "tftp=x"], "--dhcp-option: 'tftp=x': not of the form CODE=VALUE"),
        (["--flat", "--dhcp-option", "66"], "--dhcp-option: '66': not of the form CODE=VALUE"),
        (["--flat", "--mtu", "60"], "--mtu"),
        (["--flat", "--lease-time", str(LEAST_LEASE_TIME - 1)], "--lease-time"),
        (["--flat", "--lease-time", str(MOST_LEASE_TIME + 1)], "--lease-time"),
        (["--flat", "--gateway-mode", "double"], "--gateway-mode"),
    ],
)
def test_wrong_values_are_usage_errors(stub: Stub, run: Any, arguments: list[str], complaint: str) -> None:
    result = run(*CREATE, *arguments)
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert stub.requests == []


def test_problems_of_a_network(stub: Stub, run: Any) -> None:
    """They are shown by every command that shows the network: nothing was refused."""
    troubled = network(problems=["no registered node has the physical network 'physnet1'"])
    stub.on("POST /v1/networks", (201, {"network": troubled, "revision": 12}))
    stub.on("GET /v1/networks", (200, {"networks": [troubled]}))
    for command in ((*CREATE, "--flat"), ("network", "show", "blue"), ("network", "list")):
        assert troubled["problems"][0] in run(*command).stdout


def test_list_in_three_formats(stub: Stub, run: Any) -> None:
    networks = [network(), network(id=OTHER_NETWORK_ID, name="red", segment=None, kind="flat")]
    stub.on("GET /v1/networks", (200, {"networks": networks}))
    assert json.loads(run("network", "list", "-o", "json").stdout) == networks
    assert yaml.safe_load(run("network", "list", "--output", "yaml").stdout) == networks
    lines = run("network", "list").stdout.splitlines()
    assert lines[0].split() == [
        "id", "name", "kind", "physical", "network", "segment", "cidr", "gateway", "mode", "project", "shared",
        "external", "assignable", "problems",
    ]  # fmt: skip
    rows = [line.split() for line in lines[2:]]
    assert rows[0] == [NETWORK_ID, "blue", "vlan", "physnet1", "101", "10.0.1.0/24", "per_host", "p1", "no", "no"]
    assert rows[1] == [OTHER_NETWORK_ID, "red", "flat", "physnet1", "10.0.1.0/24", "per_host", "p1", "no", "no"]


def test_empty_list_is_a_list(stub: Stub, run: Any) -> None:
    stub.on("GET /v1/networks", (200, {"networks": []}))
    assert json.loads(run("network", "list", "-o", "json").stdout) == []


def test_list_filters_and_pages(stub: Stub, run: Any) -> None:
    everything = [network(id=f"{number:08x}-0000-4000-8000-000000000000") for number in range(1200)]

    def page(request: Request) -> tuple[int, Any]:
        ids = [one["id"] for one in everything]
        start = ids.index(request.query["marker"]) + 1 if "marker" in request.query else 0
        return 200, {"networks": everything[start : start + int(request.query["limit"])]}

    stub.on("GET /v1/networks", page)
    result = run("network", "list", "--name", "blue", "--project", "p1", "-o", "json")
    assert json.loads(result.stdout) == everything
    assert len(stub.requests) == 3
    assert all(request.query["name"] == "blue" and request.query["project_id"] == "p1" for request in stub.requests)


@pytest.mark.parametrize("format_", ["json", "yaml"])
def test_show_by_name_and_by_id(stub: Stub, run: Any, format_: str) -> None:
    stub.on("GET /v1/networks", lists_by_name(network()))
    stub.on(f"GET /v1/networks/{NETWORK_ID}", (200, {"network": network()}))
    for reference in ("blue", NETWORK_ID, NETWORK_ID.upper()):
        result = run("network", "show", reference, "-o", format_)
        assert yaml.safe_load(result.stdout) == network()  # JSON is YAML
    assert "segment" in run("network", "show", "blue").stdout


def test_set_sends_only_changes(stub: Stub, run: Any) -> None:
    stub.on("GET /v1/networks", lists_by_name(network()))
    stub.on(f"PATCH /v1/networks/{NETWORK_ID}", (200, {"network": network(mtu=1400), "revision": 13}))
    result = run("network", "set", "blue", "--mtu", "1400", "--ntp-server", "none", "--external-network", "none",
                 "-o", "json")  # fmt: skip
    assert stub.last("PATCH").body == {"mtu": 1400, "ntp_servers": [], "external_network_id": None}
    assert json.loads(result.stdout) == network(mtu=1400) | {"revision": 13}


def test_set_keeps_the_rest_of_the_subnet(stub: Stub, run: Any) -> None:
    found = network()
    found["subnets"][0] |= {"dns_servers": ["9.9.9.9"], "reserved": [{"first": "10.0.1.2", "last": "10.0.1.3"}]}
    stub.on("GET /v1/networks", lists_by_name(found))
    stub.on(f"PATCH /v1/networks/{NETWORK_ID}", (200, {"network": found, "revision": 13}))
    assert run("network", "set", "blue", "--host-route", "10.9.0.0/16,10.0.1.7", "--reserve", "none").exit_code == 0
    assert stub.last("PATCH").body == {
        "subnets": [
            {
                "cidr": "10.0.1.0/24",
                "dns_servers": ["9.9.9.9"],
                "allocation_ranges": [],
                "reserved": [],
                "host_routes": [{"destination": "10.9.0.0/16", "next_hop": "10.0.1.7"}],
            }
        ]
    }


def test_create_with_more_subnets(stub: Stub, run: Any) -> None:
    stub.on("POST /v1/networks", (201, {"network": network(), "revision": 12}))
    more = "10.9.0.0/24,gateway=10.9.0.254,dns-server=9.9.9.9,dns-server=1.1.1.1,reserve=10.9.0.5"
    assert run(*CREATE, "--flat", "--subnet", more, "--subnet", "10.8.0.0/24").exit_code == 0
    assert stub.last("POST").body["subnets"] == [
        {"cidr": "10.0.1.0/24"},
        {
            "cidr": "10.9.0.0/24",
            "gateway": "10.9.0.254",
            "dns_servers": ["9.9.9.9", "1.1.1.1"],
            "reserved": ["10.9.0.5"],
        },
        {"cidr": "10.8.0.0/24"},
    ]
    refused = run(*CREATE, "--flat", "--subnet", "10.9.0.0/24,colour=red")
    assert refused.exit_code == 2 and "colour=red" in refused.stderr


def test_set_nothing(stub: Stub, run: Any) -> None:
    result = run("network", "set", "blue")
    assert (result.exit_code, result.stderr) == (2, "trunkline: nothing to change\n")


def test_delete_shows_what_is_gone_even_when_the_next_is_refused(stub: Stub, run: Any) -> None:
    stub.on("GET /v1/networks", lists_by_name(network()))
    stub.on(f"DELETE /v1/networks/{NETWORK_ID}", (200, {"network": network(), "revision": 14}))
    stub.on(
        f"DELETE /v1/networks/{OTHER_NETWORK_ID}",
        (409, refusal("network_in_use", "network red has 3 ports")),
    )
    result = run("network", "delete", "blue", OTHER_NETWORK_ID, "-o", "json")
    assert json.loads(result.stdout) == [{"deleted": "blue", "id": NETWORK_ID, "revision": 14}]
    assert result.exit_code == 1
    assert result.stderr == "trunkline: network red has 3 ports (409 network_in_use)\n"


def test_ambiguous_name_lists_the_ids(stub: Stub, run: Any) -> None:
    stub.on("GET /v1/networks", lists_by_name(network(), network(id=OTHER_NETWORK_ID, project_id=None)))
    result = run("network", "delete", "blue")
    assert result.exit_code == 2
    ids = f"{NETWORK_ID} (project p1), {OTHER_NETWORK_ID} (of no project)"
    assert result.stderr == f"trunkline: 2 networks are called 'blue', give an id: {ids}\n"
    assert not any(request.method == "DELETE" for request in stub.requests)


def test_unknown_name(stub: Stub, run: Any) -> None:
    stub.on("GET /v1/networks", lists_by_name())
    result = run("network", "show", "blue")
    assert (result.exit_code, result.stderr) == (1, "trunkline: no network is called 'blue' (404 network_unknown)\n")


OPTIONS = {
    "--route=10.9.0.0/16,10.0.1.9": {"routes": [{"destination": "10.9.0.0/16", "next_hop": "10.0.1.9"}]},
    "--snat-exempt=192.0.2.0/24": {"snat_exempt": ["192.0.2.0/24"]},
    "--force-snat=192.0.2.0/24": {"force_snat": ["192.0.2.0/24"]},
    "--own-snat-address": {"own_snat_address": True},
    "--dhcp-relay=203.0.113.1": {"dhcp_relays": ["203.0.113.1"]},
    "--dns-upstream=192.0.2.53": {"dns_upstreams": ["192.0.2.53"]},
    "--router=isolated": {"router": "isolated"},
    "--gateway-node=n2": {"gateway_node": "n2"},
}


@pytest.mark.parametrize(("option", "sent"), OPTIONS.items())
def test_options_of_routing_and_nat(stub: Stub, run: Any, option: str, sent: dict[str, Any]) -> None:
    stub.on("POST /v1/networks", (201, {"network": network(), "revision": 12}))
    stub.on(f"PATCH /v1/networks/{NETWORK_ID}", (200, {"network": network(), "revision": 13}))
    assert run(*CREATE, "--flat", option).exit_code == 0
    assert stub.last("POST").body == MINIMAL | {"kind": "flat"} | sent
    assert run("network", "set", NETWORK_ID, option).exit_code == 0
    assert stub.last("PATCH").body == sent


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        (("--route", "none"), {"routes": []}),
        (("--snat-exempt", "none"), {"snat_exempt": []}),
        (("--dhcp-relay", "none"), {"dhcp_relays": []}),
        (("--dns-upstream", "none"), {"dns_upstreams": []}),
        (("--no-own-snat-address",), {"own_snat_address": False}),
        (("--gateway-node", "auto"), {"gateway_node": None}),
    ],
)
def test_options_of_routing_and_nat_are_taken_back(stub: Stub, run: Any, arguments: Any, sent: Any) -> None:
    stub.on(f"PATCH /v1/networks/{NETWORK_ID}", (200, {"network": network(), "revision": 13}))
    assert run("network", "set", NETWORK_ID, *arguments).exit_code == 0
    assert stub.last("PATCH").body == sent


def test_a_route_needs_a_next_hop(run: Any) -> None:
    result = run("network", "set", NETWORK_ID, "--route", "10.9.0.0/16")
    assert (result.exit_code, "--route: '10.9.0.0/16': not of the form" in result.stderr) == (2, True)
