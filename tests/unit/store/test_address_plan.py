"""Address plans: all or nothing, every mistake named, and once more changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any

from controller.store.address_specs import HoldPolicy, PlanEntry, PlanKind
from controller.store.quota_specs import Limits
from controller.store.specs import AddressRange, FixedIpSpec, LeaseRecord
from tests.unit.store import raw


def at(first: str, last: str | None = None) -> AddressRange:
    return AddressRange(IPv4Address(first), IPv4Address(last or first))


def port(address: str, network: str = "net", **fields: Any) -> PlanEntry:
    return PlanEntry(PlanKind.PORT, network, at(address), **fields)


def reserved(first: str, last: str | None = None, network: str = "net") -> PlanEntry:
    return PlanEntry(PlanKind.RESERVED, network, at(first, last))


PLAN = [
    reserved("10.0.0.1", "10.0.0.9"),
    port("10.0.0.20", mac="02:00:00:00:00:01", name="web", hostname="web1", device_id="vm1"),
    port("10.0.0.21", mac="02:00:00:00:00:01", name="web", hostname="web1", device_id="vm1"),
    port("10.0.0.30", name="db", project_id="red"),
    reserved("10.0.0.250"),
]


def apply(world: Any, plan: list[PlanEntry], check: bool = False) -> Any:
    return world.store.apply_plan(plan, check, "tester").value


def problems(outcome: Any) -> list[tuple[int, str]]:
    return [(problem.entry, problem.code) for problem in outcome.problems]


def test_a_plan_is_put_into_force_and_once_more_changes_nothing(world: Any) -> None:
    network = world.network()
    before = raw.contents(world.url)
    dry = apply(world, PLAN, check=True)
    assert (dry.actions, dry.problems) == (("reserve", "create", "create", "create", "reserve"), ())
    assert raw.contents(world.url) == before
    assert apply(world, PLAN).actions == dry.actions
    web, db = world.store.list_ports()
    assert [str(fixed.address) for fixed in web.port.fixed_ips] == ["10.0.0.20", "10.0.0.21"]
    assert (web.port.mac, web.port.hostname, web.device_id) == ("02:00:00:00:00:01", "web1", "vm1")
    assert (db.port.project_id, str(db.port.fixed_ips[0].address)) == ("red", "10.0.0.30")
    spans = world.store.get_network(network.id).spec.subnets[0].reserved
    assert spans == (at("10.0.0.1", "10.0.0.9"), at("10.0.0.250"))
    revision = world.store.revision()
    assert apply(world, PLAN).actions == ("keep",) * 5
    assert world.store.revision() == revision
    renamed = [port("10.0.0.30", name="db2", project_id="red")]
    assert apply(world, renamed).actions == ("update",)
    assert world.store.get_port(db.port.id).port.name == "db2"


def test_every_mistake_is_named_and_nothing_is_written(world: Any) -> None:
    network = world.network()
    for name in ("twice", "twice"):
        world.network("10.7.0.0/24" if not world.store.list_networks(name="twice") else "10.8.0.0/24", name=name)
    taken = world.port(
        network, name="there", mac="02:00:00:00:00:09", fixed_ips=(FixedIpSpec(IPv4Address("10.0.0.9")),)
    )
    before = raw.contents(world.url)
    plan = [
        *PLAN,
        port("10.0.0.5"),  # 5: reserved by the plan itself
        port("10.0.0.9"),  # 6: held by a port, but without its name or MAC that is the same port
        port("10.0.0.40", mac="02:00:00:00:00:09"),  # 7: another port's MAC
        port("10.9.0.1"),  # 8
        port("10.0.0.1", network="nothing"),  # 9
        port("10.0.0.1", network="twice"),  # 10
        port("10.0.0.30"),  # 11: twice
        port("10.0.0.41", mac="03:00:00:00:00:01"),  # 12: a group's MAC
        reserved("10.0.0.200", "10.0.1.5"),  # 13
        port("10.0.0.42", mac="02:00:00:00:00:01", name="another"),  # 14
        port("10.0.0.9", mac="02:00:00:00:00:77", name="x"),  # 15: twice with 6
        port("10.0.0.255"),  # 16
    ]
    outcome = apply(world, plan)
    assert problems(outcome) == [
        (5, "address_reserved"),
        (7, "mac_in_use"),
        (8, "address_outside_subnet"),
        (9, "network_unknown"),
        (10, "network_ambiguous"),
        (11, "address_in_use"),
        (12, "mac_invalid"),
        (13, "address_outside_subnet"),
        (14, "mac_in_use"),
        (15, "address_in_use"),
        (16, "address_reserved"),
    ]
    assert all(outcome.actions[index] is None for index, _ in problems(outcome))
    assert raw.contents(world.url) == before
    assert world.again(taken) == taken


def test_what_others_have_stays_theirs(world: Any) -> None:
    network = world.network()
    world.port(network, name="there", mac="02:00:00:00:00:09", fixed_ips=(FixedIpSpec(IPv4Address("10.0.0.9")),))
    (problem,) = apply(world, [port("10.0.0.9", mac="02:00:00:00:00:10")]).problems
    assert problem.message == "10.0.0.9 is in use by port there (02:00:00:00:00:09)"
    (problem,) = apply(world, [port("10.0.0.9", mac="02:00:00:00:00:09", project_id="red")]).problems
    assert problem.code == "project_differs"


def test_quotas_and_kept_addresses_count(make_world: Callable[..., Any]) -> None:
    world = make_world(limits=Limits(ports=1), holds=HoldPolicy(force=False))
    network = world.network()
    gone = world.port(network)
    lease = LeaseRecord(gone.port.id, gone.port.fixed_ips[0].address, "bound", world.clock(), world.clock() + 99)
    world.store.record_leases([lease])
    world.store.delete_port(gone.port.id, "tester")
    before = raw.contents(world.url)
    assert problems(apply(world, [port("10.0.0.2"), port("10.0.0.3")])) == [
        (0, "quota_exceeded"),
        (1, "quota_exceeded"),
    ]
    assert problems(apply(world, [port("10.0.0.1")])) == [(0, "address_in_use")]
    assert raw.contents(world.url) == before


def test_a_thousand_at_once(world: Any) -> None:
    world.network("10.0.0.0/16")
    base = IPv4Address("10.0.1.0")
    plan = [port(str(base + index), name=f"p{index}") for index in range(1000)]
    assert set(apply(world, plan).actions) == {"create"}
    assert set(apply(world, plan).actions) == {"keep"}
