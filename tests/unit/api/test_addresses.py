"""Addresses in the API: the list, reservations, holds, history, plans, search, and many clients at once."""

from __future__ import annotations

import threading
from collections import Counter
from ipaddress import IPv4Address
from typing import Any

import pytest

from controller.api.address_models import MAX_ENTRIES
from controller.store import Store
from controller.store.specs import PortSpec
from tests.unit.api.world import World


def addresses(
    world: World, network: dict[str, Any], token: str = "admin", query: str = ""
) -> dict[str, dict[str, Any]]:
    found = world.ok("GET", f"/v1/networks/{network['id']}/addresses{query}", token=token)["addresses"]
    return {one["address"]: one for one in found}


def test_the_states_of_addresses(world: World) -> None:
    network = world.network(project_id="a")
    port = world.port(network["id"], name="web", fixed_ips=[{"address": "10.0.0.7"}])
    world.hold(network["id"], "10.0.0.9")
    world.ok("PUT", f"/v1/networks/{network['id']}/addresses/10.0.0.3/reservation")
    shown = addresses(world, network, "member-a")
    assert {at: (it["state"], it["associated"], it["leased"]) for at, it in shown.items()} == {
        "10.0.0.3": ("reserved", False, False),
        "10.0.0.7": ("allocated", True, False),
        "10.0.0.9": ("held", True, True),
    }
    assert shown["10.0.0.7"] | {"port_id": port["id"], "owner": "port", "mac": port["mac"]} == shown["10.0.0.7"]
    assert shown["10.0.0.9"]["held_until"] and shown["10.0.0.9"]["port_id"] is None
    assert list(addresses(world, network, query="?limit=1&marker=10.0.0.3")) == ["10.0.0.7"]
    assert world.call("GET", f"/v1/networks/{network['id']}/addresses?marker=x").refusal[1:] == (
        "marker_unknown",
        "marker",
    )
    assert world.call("GET", f"/v1/networks/{network['id']}/addresses", token="member-b").status == 404
    ended = world.ok("DELETE", f"/v1/networks/{network['id']}/addresses/10.0.0.9/hold")
    assert ended["address"] == {"address": "10.0.0.9"}
    assert addresses(world, network)["10.0.0.9"]["state"] == "free"


def test_on_a_network_of_others_a_member_sees_what_its_ports_have(world: World) -> None:
    network = world.network(shared=True)
    for project in ("a", "b"):
        world.port(network["id"], project_id=project)
    assert list(addresses(world, network, "member-a")) == ["10.0.0.1"]
    assert list(addresses(world, network, "member-b")) == ["10.0.0.2"]
    assert list(addresses(world, network, "reader")) == ["10.0.0.1", "10.0.0.2"]
    reply = world.call("PUT", f"/v1/networks/{network['id']}/addresses/10.0.0.9/reservation", token="member-a")
    assert reply.refusal[:2] == (403, "forbidden")


def test_b15_reservations(world: World) -> None:
    network = world.network(project_id="a")
    path = f"/v1/networks/{network['id']}/addresses"
    made = world.ok("PUT", f"{path}/10.0.0.1/reservation", token="member-a")
    one = {"first": "10.0.0.1", "last": "10.0.0.1"}
    assert made["network"]["subnets"][0]["reserved"] == [one]
    assert world.ok("PUT", f"{path}/10.0.0.1/reservation")["revision"] == made["revision"]  # no news
    assert world.port(network["id"])["fixed_ips"][0]["address"] == "10.0.0.2"
    assert world.ok("DELETE", f"{path}/10.0.0.1/reservation")["network"]["subnets"][0]["reserved"] == []
    assert world.port(network["id"])["fixed_ips"][0]["address"] == "10.0.0.1"
    assert world.call("PUT", f"{path}/10.9.0.1/reservation").refusal[:2] == (400, "address_outside_subnet")
    assert world.call("PUT", f"{path}/ten/reservation").refusal == (400, "invalid_field", "address")


def test_b15_a_subnet_has_so_many_reserved_ranges_as_its_update_takes(world: World) -> None:
    network = world.network(name="wide", subnets=[{"cidr": "10.6.0.0/16"}])
    first = IPv4Address("10.6.1.0")
    entries = [{"kind": "reserved", "network": "wide", "address": str(first + 2 * index)} for index in range(257)]
    refused = world.call("POST", "/v1/address-plans", plan(*entries))
    assert refused.error["details"]["problems"][0]["code"] == "range_invalid"
    world.ok("POST", "/v1/address-plans", plan(*entries[:256]))
    (subnet,) = world.ok("GET", f"/v1/networks/{network['id']}")["network"]["subnets"]
    subnets = [{"cidr": subnet["cidr"], "reserved": subnet["reserved"]}]
    world.ok("PATCH", f"/v1/networks/{network['id']}", {"subnets": subnets})


def test_the_history_of_an_address(world: World) -> None:
    network = world.network(shared=True, name="office")
    for project in ("a", "b", "a"):
        port = world.port(network["id"], project_id=project, name=f"of-{project}", fixed_ips=[{"address": "10.0.0.5"}])
        world.ok("DELETE", f"/v1/ports/{port['id']}")
    path = "/v1/address-history?address=10.0.0.5"
    found = world.ok("GET", path)["address_history"]
    assert [one["port_name"] for one in found] == ["of-a", "of-b", "of-a"]
    assert found[0] | {"network_name": "office", "kind": "port", "id": port["id"], "mac": port["mac"]} == found[0]
    assert found[0]["until"].endswith("Z")
    assert len(world.ok("GET", f"{path}&limit=2")["address_history"]) == 2
    assert [one["project_id"] for one in world.ok("GET", path, token="member-b")["address_history"]] == ["b"]
    for at in ("2001-01-01", "2001-01-01T00:00", "2001-01-01T00:00:00Z", "2001-01-01T01:00%2B01:00"):
        assert world.ok("GET", f"{path}&at={at}")["address_history"] == []
    world.port(network["id"], name="has-it", fixed_ips=[{"address": "10.0.0.5"}])
    found = world.ok("GET", f"{path}&at=2100-01-01T00:00&network_id={network['id']}")["address_history"]
    assert [(one["port_name"], one["until"]) for one in found] == [("has-it", None)]
    assert world.call("GET", f"{path}&at=noon").refusal == (400, "invalid_field", "at")
    assert world.call("GET", "/v1/address-history").refusal == (400, "missing_field", "address")
    assert world.call("GET", "/v1/address-history?address=ten").refusal == (400, "invalid_field", "address")


def plan(*entries: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"entries": list(entries), **more}


def test_plans(world: World) -> None:
    world.network(name="net", project_id="a")
    entries = (
        {"kind": "reserved", "network": "net", "address": "10.0.0.1-10.0.0.9"},
        {"kind": "port", "network": "net", "address": "10.0.0.20", "name": "web"},
    )
    checked = world.ok("POST", "/v1/address-plans", plan(*entries, check=True))
    assert checked["address_plan"] == {"actions": ["reserve", "create"], "problems": []}
    assert world.ok("GET", "/v1/ports")["ports"] == []
    world.ok("POST", "/v1/address-plans", plan(*entries))
    assert [port["name"] for port in world.ok("GET", "/v1/ports")["ports"]] == ["web"]
    again = world.ok("POST", "/v1/address-plans", plan(*entries))
    assert again["address_plan"]["actions"] == ["keep", "keep"]
    bad = plan(*entries, entries[1] | {"address": "10.0.0.5"}, entries[1] | {"network": "other"})
    reply = world.call("POST", "/v1/address-plans", bad)
    assert reply.refusal == (409, "plan_refused", "entries.2")
    assert [one["entry"] for one in reply.error["details"]["problems"]] == [2, 3]
    checked = world.ok("POST", "/v1/address-plans", bad | {"check": True})["address_plan"]
    assert (checked["actions"], len(checked["problems"])) == (["keep", "keep", None, None], 2)
    for wrong, field in (
        (entries[1] | {"address": "10.0.0.1-10.0.0.2"}, "entries.0"),
        (entries[0] | {"mac": "02:00:00:00:00:01"}, "entries.0"),
    ):
        assert world.call("POST", "/v1/address-plans", plan(wrong)).refusal == (400, "invalid_field", field)


def test_a_plan_has_as_many_entries_as_is_said(world: World) -> None:
    """Each with all of its fields."""
    world.network(name="net", project_id="a", subnets=[{"cidr": "10.0.0.0/16"}])
    entries = [
        {
            "kind": "port",
            "network": "net",
            "address": str(IPv4Address("10.0.1.0") + number),
            "mac": f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}",
            "name": f"machine-{number}",
            "hostname": f"machine-{number}",
            "project_id": "a",
            "device_id": f"3ab2d0a2-5a55-4bd2-b1e0-{number:012x}",
        }
        for number in range(MAX_ENTRIES + 1)
    ]
    checked = world.ok("POST", "/v1/address-plans", plan(*entries[:MAX_ENTRIES], check=True))["address_plan"]
    assert checked == {"actions": ["create"] * MAX_ENTRIES, "problems": []}
    assert world.call("POST", "/v1/address-plans", plan(*entries)).status in (400, 413)


def test_a_plan_takes_every_host_name_that_a_port_may_have(world: World) -> None:
    """Else what was exported could not be imported."""
    network, name = world.network(name="net", project_id="a"), "a" * 80 + ".lab"
    port = world.port(network["id"], hostname=name)
    address = port["fixed_ips"][0]["address"]
    entry = {"kind": "port", "network": "net", "address": address, "mac": port["mac"], "hostname": name}
    done = world.ok("POST", "/v1/address-plans", plan(entry | {"project_id": "a"}))
    assert done["address_plan"] == {"actions": ["keep"], "problems": []}


def test_b28_ports_by_address(world: World) -> None:
    network = world.network(shared=True)
    ports = [world.port(network["id"], project_id=project) for project in ("a", "b", "a")]
    for query in ("10.0.0.0%2F30", "10.0.0.*", "%5E10%5C.0%5C.0"):
        assert len(world.ok("GET", f"/v1/ports?address={query}")["ports"]) == 3
        found = world.ok("GET", f"/v1/ports?address={query}", token="member-a")["ports"]
        assert [port["id"] for port in found] == [ports[0]["id"], ports[2]["id"]]
    assert world.call("GET", "/v1/ports?address=(a%2B)%2B").refusal == (400, "address_pattern_invalid", "address")


def test_leases_are_written_down_before_a_port_goes_where_they_count(world: World) -> None:
    settled: list[int] = []
    object.__setattr__(world.services, "settle_leases", lambda: settled.append(1))
    network = world.network()
    world.ok("DELETE", f"/v1/ports/{world.port(network['id'])['id']}")
    assert settled == []
    object.__setattr__(world.services.config.holds, "force", False)
    port = world.port(network["id"])
    world.ok("PATCH", f"/v1/ports/{port['id']}", {"name": "x"})
    assert settled == []
    world.ok("PATCH", f"/v1/ports/{port['id']}", {"fixed_ips": [{"address": "10.0.0.77"}]})
    world.ok("DELETE", f"/v1/ports/{port['id']}")
    assert settled == [1, 1]


@pytest.mark.parametrize("way", ["store", "api"])
def test_b13_sixteen_clients_fill_a_network_to_the_last_address(world: World, way: str) -> None:
    """By stores as several processes have them, and through the API: no error but that it is full."""
    network = world.network(name="full")
    stores = [Store(world.store._database.url) for _ in range(3)]
    got: list[str] = []
    errors: list[Any] = []

    def client(number: int) -> None:
        while True:
            if way == "api":
                reply = world.call("POST", "/v1/ports", {"network_id": network["id"]})
                if reply.status != 201:
                    errors.append(reply.refusal[:2])
                    return
                got.append(reply.json["port"]["fixed_ips"][0]["address"])
            else:
                try:
                    made = stores[number % 3].create_ports([PortSpec(network["id"])], "t")
                    got.append(str(made.value[0].port.fixed_ips[0].address))
                except Exception as error:
                    errors.append((getattr(error, "status", 500), getattr(error, "code", str(error))))
                    return

    threads = [threading.Thread(target=client, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in stores:
        store.close()
    assert errors == [(409, "subnet_full")] * 16
    assert Counter(got) == Counter(str(IPv4Address("10.0.0.0") + offset) for offset in range(1, 255))
