"""GET /v1/leases"""

from __future__ import annotations

import time
from ipaddress import IPv4Address
from typing import Any

import pytest

from controller.store.specs import LeaseRecord
from tests.unit.api.world import World


def addresses(world: World, query: str = "", token: str = "admin") -> list[str]:
    return [lease["address"] for lease in world.ok("GET", f"/v1/leases{query}", token=token)["leases"]]


def record(world: World, port: dict[str, Any], state: str, ends_in: float) -> None:
    address, now = IPv4Address(port["fixed_ips"][0]["address"]), time.time()
    assert world.store.record_leases([LeaseRecord(port["id"], address, state, now, now + ends_in)]) == 1


@pytest.fixture
def ports(world: World) -> dict[str, dict[str, Any]]:
    """One port for each live state; the released one is of another project and another network."""
    ours, theirs = world.network(project_id="a"), world.network(project_id="b", subnets=[{"cidr": "10.9.0.0/24"}])
    made = {state: world.port(ours["id"], project_id="a", hostname=state) for state in ("bound", "expired", "declined")}
    made["released"] = world.port(theirs["id"], project_id="b", hostname="released")
    for state, port in made.items():
        record(world, port, "bound" if state == "expired" else state, 100 if state == "bound" else -1)
    return made


def test_each_state_is_that_of_now(world: World, ports: dict[str, dict[str, Any]]) -> None:
    listed = {lease["hostname"]: lease for lease in world.ok("GET", "/v1/leases")["leases"]}
    assert {name: lease["state"] for name, lease in listed.items()} == {name: name for name in ports}
    bound, port = listed["bound"], ports["bound"]
    assert {name: bound[name] for name in ("port_id", "network_id", "project_id", "mac", "node")} == {
        "port_id": port["id"], "network_id": port["network_id"], "project_id": "a", "mac": port["mac"], "node": None,
    }  # fmt: skip
    assert bound["expires_at"] > bound["updated_at"]


def test_filters_and_pages(world: World, ports: dict[str, dict[str, Any]]) -> None:
    held = {state: port["fixed_ips"][0]["address"] for state, port in ports.items()}
    released = ports["released"]
    for state in ports:
        assert addresses(world, f"?state={state}") == [held[state]]
        assert addresses(world, f"?address={held[state]}") == [held[state]]
        assert addresses(world, f"?port_id={ports[state]['id']}") == [held[state]]
    assert addresses(world, f"?network_id={released['network_id']}") == [held["released"]]
    assert addresses(world, "?project_id=b") == [held["released"]]
    everything = addresses(world)
    assert set(everything) == set(held.values())
    first = world.ok("GET", "/v1/leases?limit=3")["leases"]
    assert [lease["address"] for lease in first] == everything[:3]
    assert addresses(world, f"?limit=3&marker={first[-1]['id']}") == everything[3:]


def test_a_member_sees_those_of_its_project(world: World, ports: dict[str, dict[str, Any]]) -> None:
    released = ports["released"]["fixed_ips"][0]["address"]
    assert addresses(world, token="member-b") == [released]
    assert addresses(world, "?project_id=a", token="member-b") == []
    assert addresses(world, f"?port_id={ports['bound']['id']}", token="member-b") == []
    assert len(addresses(world, token="reader")) == 4
    assert world.call("GET", "/v1/leases", token="agent").status == 403


@pytest.mark.parametrize(
    ("query", "field"), [("state=offered", "state"), ("address=10.0.0.x", "address"), ("marker=nobody", "marker")]
)
def test_nonsense_is_refused(world: World, query: str, field: str) -> None:
    reply = world.call("GET", f"/v1/leases?{query}")
    assert (reply.status, reply.error["field"]) == (400, field)


def test_a_lease_outlives_the_store(world: World, ports: dict[str, dict[str, Any]]) -> None:
    """The database is closed and opened again."""
    before = world.ok("GET", "/v1/leases")
    again = World(world.services.config.database_url)
    try:
        assert again.ok("GET", "/v1/leases") == before
    finally:
        again.close()
