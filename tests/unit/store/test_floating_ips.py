from __future__ import annotations

import random
import threading
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any

import pytest
from sqlalchemy import event

from controller.store import Store
from controller.store.floating_ip_specs import FloatingIpPoolSpec, FloatingIpRecord, FloatingIpSpec
from controller.store.quota_specs import Limits
from controller.store.specs import (
    AddressRange,
    Conflict,
    Exhausted,
    FixedIpSpec,
    Forbidden,
    Invalid,
    NetworkRecord,
    NotFound,
    PortSpec,
    StoreError,
    SubnetSpec,
)
from flows.model import GatewayMode, NetworkKind


def span(first: str, last: str) -> AddressRange:
    return AddressRange(IPv4Address(first), IPv4Address(last))


def make_pool(world: Any, *parts: AddressRange, name: str = "public", network: NetworkRecord | None = None) -> Any:
    network = network or world.external()
    spec = FloatingIpPoolSpec(name, network.id, parts or (span("203.0.113.200", "203.0.113.203"),))
    return world.store.create_floating_ip_pool(spec, "tester").value


def take(world: Any, count: int = 1, **fields: Any) -> list[FloatingIpRecord]:
    spec = FloatingIpSpec("public", count=count, **({"project_id": "blue"} | fields))
    found: list[FloatingIpRecord] = world.store.allocate_floating_ips(spec, "tester").value
    return found


def lead(world: Any, floating_ip: FloatingIpRecord, port: Any, fixed_ip: str | None = None, **more: Any) -> Any:
    address = None if fixed_ip is None else IPv4Address(fixed_ip)
    id_ = floating_ip.floating_ip.id
    return world.store.associate_floating_ip(id_, port.port.id, address, "tester", **more)


def give_back(world: Any, *floating_ips: FloatingIpRecord) -> None:
    world.store.release_floating_ips([record.floating_ip.id for record in floating_ips], "tester")


def again(world: Any, floating_ip: FloatingIpRecord) -> FloatingIpRecord:
    found: FloatingIpRecord = world.store.get_floating_ip(floating_ip.floating_ip.id)
    return found


def addresses_of(records: list[FloatingIpRecord]) -> list[int]:
    """Their last bytes."""
    return [int(record.floating_ip.address) & 0xFF for record in records]


def events(world: Any, floating_ip: FloatingIpRecord) -> list[Any]:
    entries = world.store.journal(kind="floating_ip", object_id=floating_ip.floating_ip.id)
    return [entry.payload["events"] for entry in entries]


# -- pools


def test_pools_come_back_as_they_were_given(world: Any) -> None:
    parts = (span("203.0.113.200", "203.0.113.200"), span("203.0.113.210", "203.0.113.219"))
    pool = make_pool(world, *parts)
    assert (pool.spec.name, pool.spec.ranges, pool.used) == ("public", parts, 0)
    assert world.store.get_floating_ip_pool("public") == world.store.get_floating_ip_pool(pool.id) == pool


def test_pools_are_listed_by_name_a_page_at_a_time(world: Any) -> None:
    external = world.external()
    for number, name in enumerate("bac"):
        make_pool(world, span(f"203.0.113.{10 + number}", f"203.0.113.{10 + number}"), name=name, network=external)
    pools = world.store.list_floating_ip_pools
    assert [pool.spec.name for pool in pools()] == ["a", "b", "c"]
    assert [pool.spec.name for pool in pools(limit=2)] == ["a", "b"]
    assert [pool.spec.name for pool in pools(marker=pools()[1].id)] == ["c"]
    assert [pool.spec.name for pool in pools(name="b")] == ["b"]
    assert pools(network_id="other") == []


@pytest.mark.parametrize(
    ("parts", "code", "field"),
    [
        ((span("203.0.113.203", "203.0.113.210"),), "pool_overlap", "ranges.0"),
        ((span("203.0.113.10", "203.0.113.20"), span("203.0.113.20", "203.0.113.21")), "pool_overlap", "ranges.1"),
        ((span("203.0.113.10", "203.0.113.20"), span("203.0.114.0", "203.0.114.1")), "range_invalid", "ranges.1"),
        ((span("203.0.113.250", "203.0.114.1"),), "range_invalid", "ranges.0"),
        ((span("203.0.113.20", "203.0.113.10"),), "range_invalid", "ranges.0"),
    ],
)
def test_ranges_lie_in_the_network_and_no_two_overlap(world: Any, parts: Any, code: str, field: str) -> None:
    external = world.external()
    make_pool(world, network=external)
    with pytest.raises(StoreError) as refused:
        make_pool(world, *parts, name="other", network=external)
    assert (refused.value.code, refused.value.field) == (code, field)
    assert [pool.spec.name for pool in world.store.list_floating_ip_pools()] == ["public"]


def test_a_pool_is_of_an_external_network_and_its_name_its_own(world: Any) -> None:
    external = world.external()
    make_pool(world, network=external)
    with pytest.raises(Conflict) as taken:
        make_pool(world, span("203.0.113.9", "203.0.113.9"), network=external)
    assert (taken.value.code, taken.value.field) == ("pool_exists", "name")
    with pytest.raises(Invalid) as refused:
        make_pool(world, name="other", network=world.network())
    assert (refused.value.code, refused.value.field) == ("external_network_unknown", "network_id")


def test_neither_pool_nor_network_go_while_they_are_used(world: Any) -> None:
    external = world.external()
    pool = make_pool(world, network=external)
    (floating_ip,) = take(world)
    assert world.store.get_floating_ip_pool("public").used == 1
    with pytest.raises(Conflict) as used:
        world.store.delete_floating_ip_pool("public", "tester")
    assert (used.value.code, used.value.details) == ("pool_in_use", {"floating_ips": 1})
    give_back(world, floating_ip)
    with pytest.raises(Conflict) as held:
        world.store.delete_network(external.id, "tester")
    assert (held.value.code, held.value.details) == ("network_in_use", {"floating_ip_pools": 1})
    world.store.delete_floating_ip_pool(pool.id, "tester")
    world.store.delete_network(external.id, "tester")
    with pytest.raises(NotFound) as gone:
        world.store.get_floating_ip_pool("public")
    assert gone.value.code == "floating_ip_pool_unknown"


# -- which address


def test_lowest_never_used_first_then_longest_released(world: Any) -> None:
    make_pool(world, span("203.0.113.200", "203.0.113.201"), span("203.0.113.210", "203.0.113.210"))
    first, second = take(world, 2)
    give_back(world, second)
    give_back(world, first)
    taken = [*take(world), *take(world), *take(world)]
    assert addresses_of(taken) == [210, 201, 200]
    with pytest.raises(Exhausted, match="No more floating IPs in pool public") as empty:
        take(world)
    assert (empty.value.code, empty.value.status) == ("pool_exhausted", 409)


def test_what_others_have_or_nobody_may_have_is_left_out(world: Any) -> None:
    """The network's own address, its gateway, what is reserved, and what a node and a port have."""
    external = world.external(
        "203.0.113.0/28",
        "203.0.113.3",
        allocation_ranges=(span("203.0.113.1", "203.0.113.2"),),
        reserved=(span("203.0.113.5", "203.0.113.6"),),
    )
    world.node(physical_networks=("physnet-ext",))
    world.port(external, fixed_ips=(FixedIpSpec(IPv4Address("203.0.113.4")),))
    make_pool(world, span("203.0.113.0", "203.0.113.8"), span("203.0.113.14", "203.0.113.15"), network=external)
    assert addresses_of(take(world, 4)) == [2, 7, 8, 14]
    with pytest.raises(Exhausted):
        take(world)


def test_what_is_reserved_no_longer_is_given(world: Any) -> None:
    external = world.external(reserved=(span("203.0.113.200", "203.0.113.202"),))
    make_pool(world, network=external)
    assert addresses_of(take(world)) == [203]
    subnet = SubnetSpec(external.spec.subnets[0].cidr)
    world.store.update_network(external.id, {"subnets": (subnet,)}, "tester")
    assert addresses_of(take(world, 3)) == [200, 201, 202]


def test_nothing_else_gets_a_floating_ip(world: Any) -> None:
    external = world.external(allocation_ranges=(span("203.0.113.200", "203.0.113.201"),))
    make_pool(world, network=external)
    assert addresses_of(take(world)) == [200]
    world.node(physical_networks=("physnet-ext",))
    assert str(world.store.get_node("n1").node.snat_addresses[0].address) == "203.0.113.201"
    with pytest.raises(Conflict) as taken:
        world.port(external, fixed_ips=(FixedIpSpec(IPv4Address("203.0.113.200")),))
    assert taken.value.code == "address_in_use"


@pytest.mark.parametrize(
    ("wanted", "code", "field"),
    [
        (["203.0.113.199"], "address_outside_pool", "address"),
        (["203.0.113.200"], "address_in_use", "address"),
        (["203.0.113.202", "203.0.113.200"], "address_in_use", "addresses.1"),
        (["203.0.113.203"], "address_reserved", "address"),
    ],
)
def test_chosen_addresses(world: Any, wanted: list[str], code: str, field: str) -> None:
    make_pool(world, network=world.external(reserved=(span("203.0.113.203", "203.0.113.203"),)))
    take(world, addresses=(IPv4Address("203.0.113.201"), IPv4Address("203.0.113.200")))
    with pytest.raises(StoreError) as refused:
        take(world, addresses=tuple(map(IPv4Address, wanted)))
    assert (refused.value.code, refused.value.field) == (code, field)
    assert addresses_of(world.store.list_floating_ips()) == [201, 200]
    assert addresses_of(take(world)) == [202]


def test_many_are_all_or_none(world: Any) -> None:
    make_pool(world)
    before = world.store.revision()
    with pytest.raises(Exhausted):
        take(world, 5)
    assert (world.store.list_floating_ips(), world.store.revision()) == ([], before)
    made = take(world, 4)
    with pytest.raises(NotFound):
        world.store.release_floating_ips([made[0].floating_ip.id, "nothing"], "tester")
    assert world.store.list_floating_ips() == made
    give_back(world, *made)
    assert world.store.list_floating_ips() == []


@pytest.mark.parametrize("stores", [1, 4])
def test_a_hundred_at_once_of_fifty(make_world: Callable[..., Any], stores: int) -> None:
    first = make_world()
    make_pool(first, span("203.0.113.100", "203.0.113.149"))
    workers = [first.store, *(make_world().store for _ in range(stores - 1))]
    got: list[IPv4Address] = []
    errors: list[Any] = []

    def allocate(store: Store) -> None:
        try:
            made = store.allocate_floating_ips(FloatingIpSpec("public"), "tester").value
            got.extend(record.floating_ip.address for record in made)
        except Exception as error:
            errors.append(getattr(error, "code", error))

    in_parallel(allocate, [workers[index % stores] for index in range(100)])
    assert sorted(got) == [IPv4Address("203.0.113.100") + offset for offset in range(50)]
    assert errors == ["pool_exhausted"] * 50


def in_parallel(work: Callable[[Any], None], arguments: list[Any]) -> None:
    threads = [threading.Thread(target=work, args=(argument,)) for argument in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# -- where it leads


def test_a_floating_ip_leads_to_the_first_address_or_the_one_asked_for(world: Any) -> None:
    make_pool(world)
    ips = (FixedIpSpec(IPv4Address("10.0.0.9")), FixedIpSpec(IPv4Address("10.0.0.5")))
    port = world.port(world.network(), fixed_ips=ips)
    first, second = take(world, 2)
    lead(world, first, port)
    lead(world, second, port, "10.0.0.5")
    assert [str(again(world, one).floating_ip.fixed_ip) for one in (first, second)] == ["10.0.0.9", "10.0.0.5"]
    shown = world.again(port).floating_ips
    assert shown == (again(world, first).floating_ip, again(world, second).floating_ip)
    with pytest.raises(Invalid) as refused:
        lead(world, first, port, "10.0.0.6")
    assert (refused.value.code, refused.value.field) == ("fixed_ip_unknown", "fixed_ip")


def test_each_transition_is_told_once(world: Any) -> None:
    make_pool(world)
    network = world.network()
    one, two = world.port(network), world.port(network)
    (floating_ip,) = take(world)
    for port in (one, one, two, two):  # every other one changes nothing
        lead(world, floating_ip, port)
    id_ = floating_ip.floating_ip.id
    for _ in range(2):
        world.store.disassociate_floating_ip(id_, "tester")
    lead(world, floating_ip, one)
    give_back(world, floating_ip)
    assert events(world, floating_ip) == [
        ["allocate"],
        ["associate"],
        ["disassociate", "associate"],
        ["disassociate"],
        ["associate"],
        ["disassociate", "release"],
    ]
    moved = world.store.journal(kind="floating_ip", object_id=id_)[2].payload
    assert (moved["from_port_id"], moved["port_id"]) == (one.port.id, two.port.id)
    assert (moved["address"], moved["project_id"], moved["fixed_ip"]) == ("203.0.113.200", "blue", "10.0.0.2")


def test_the_revision_of_the_row_is_that_of_its_last_change(world: Any) -> None:
    make_pool(world)
    (floating_ip,) = take(world)
    assert floating_ip.revision == world.store.revision()
    written = lead(world, floating_ip, world.port(world.network()))
    assert written.value.revision == written.revision == world.store.revision()


@pytest.mark.parametrize(
    "fields",
    [
        {"gateway_mode": GatewayMode.NONE},
        {"external": True, "gateway": IPv4Address("10.0.0.1"), "kind": NetworkKind.FLAT},
    ],
)
def test_a_network_that_nobody_translates_for_has_none(world: Any, fields: dict[str, Any]) -> None:
    make_pool(world)
    port = world.port(world.network(**fields))
    with pytest.raises(Invalid) as refused:
        lead(world, take(world)[0], port)
    assert (refused.value.code, refused.value.field) == ("network_not_translated", "port_id")


def test_a_router_of_the_operators_is_no_obstacle(world: Any) -> None:
    make_pool(world)
    port = world.port(world.network(gateway_mode=GatewayMode.EXTERNAL, gateway=IPv4Address("10.0.0.1")))
    assert lead(world, take(world)[0], port).value.floating_ip.port_id == port.port.id


def test_who_expects_another_port_is_refused(world: Any) -> None:
    make_pool(world)
    network = world.network()
    one, two = world.port(network), world.port(network)
    (floating_ip,) = take(world)
    id_ = floating_ip.floating_ip.id
    lead(world, floating_ip, one, expected_port_id=two.port.id)  # it led nowhere
    for attempt in (
        lambda: world.store.disassociate_floating_ip(id_, "tester", expected_port_id=two.port.id),
        lambda: lead(world, floating_ip, two, expected_port_id=two.port.id),
    ):
        with pytest.raises(Conflict) as refused:
            attempt()
        assert (refused.value.code, refused.value.field) == ("floating_ip_elsewhere", "expected_port_id")
    world.store.disassociate_floating_ip(id_, "tester", expected_port_id=one.port.id)
    # asked again, because the answer was lost
    world.store.disassociate_floating_ip(id_, "tester", expected_port_id=one.port.id)


def test_allocated_and_associated_in_one(world: Any) -> None:
    make_pool(world)
    port = world.port(world.network())
    (floating_ip,) = take(world, port_id=port.port.id)
    assert floating_ip.floating_ip.port_id == port.port.id
    assert events(world, floating_ip) == [["allocate", "associate"]]
    with pytest.raises(NotFound) as unknown:
        take(world, port_id="nothing")
    assert (unknown.value.code, unknown.value.field) == ("port_unknown", "port_id")
    assert world.store.list_floating_ips() == [floating_ip]


def test_a_port_that_goes_leaves_its_floating_ips_to_the_project(world: Any) -> None:
    make_pool(world)
    port = world.port(world.network())
    (floating_ip,) = take(world, port_id=port.port.id)
    world.store.delete_port(port.port.id, "tester")
    left = again(world, floating_ip)
    assert (left.floating_ip.port_id, left.floating_ip.fixed_ip, left.floating_ip.project_id) == (None, None, "blue")
    assert events(world, floating_ip)[-1] == ["disassociate"]


def test_an_address_that_a_port_loses_takes_what_led_to_it(world: Any) -> None:
    make_pool(world)
    ips = (FixedIpSpec(IPv4Address("10.0.0.9")), FixedIpSpec(IPv4Address("10.0.0.5")))
    port = world.port(world.network(), fixed_ips=ips)
    first, second = take(world, 2)
    lead(world, first, port, "10.0.0.9")
    lead(world, second, port, "10.0.0.5")
    world.store.update_port(port.port.id, {"fixed_ips": (ips[1], FixedIpSpec(IPv4Address("10.0.0.7")))}, "tester")
    assert again(world, first).floating_ip.port_id is None
    assert again(world, second) == world.store.list_floating_ips(port_id=port.port.id)[0]


def test_lists(world: Any) -> None:
    make_pool(world, network=(external := world.external()))
    make_pool(world, span("203.0.113.90", "203.0.113.99"), name="other", network=external)
    port = world.port(world.network())
    one, two = take(world, port_id=port.port.id), take(world, project_id="red")
    three = world.store.allocate_floating_ips(FloatingIpSpec("other"), "tester").value
    listed = world.store.list_floating_ips
    assert listed() == one + two + three
    assert listed(limit=1, marker=one[0].floating_ip.id) == two
    assert listed(project_id="red") == two
    assert listed(pool="other") == three
    assert listed(address=IPv4Address("203.0.113.201")) == two
    assert listed(port_id=port.port.id) == one
    assert listed(node="n1") == []
    world.node()
    world.report("n1", port)
    assert listed(node="n1") == one
    with pytest.raises(NotFound):
        listed(pool="nothing")


# -- how many


def test_a_project_has_as_many_as_it_may(make_world: Callable[..., Any]) -> None:
    world = make_world(limits=Limits(floating_ips=2))
    make_pool(world)
    made = take(world, 2)
    with pytest.raises(Exhausted) as full:
        take(world)
    assert (full.value.code, full.value.details) == ("quota_exceeded", {"limit": 2, "used": 2})
    take(world, project_id="red")
    take(world, project_id=None)
    give_back(world, made[0])
    assert world.store.get_quota("blue").floating_ips_used == 1
    take(world)


def test_a_quota_of_ones_own(make_world: Callable[..., Any]) -> None:
    world = make_world(limits=Limits(floating_ips=0))
    make_pool(world)
    for limit, count in ((1, 1), (-1, 2)):
        quota = world.store.set_quota("blue", {"floating_ips": limit}, "tester").value
        assert (quota.limits.floating_ips, quota.own) == (limit, ("floating_ips",))
        take(world, count)
    quota = world.store.set_quota("blue", {"floating_ips": None}, "tester").value
    assert (quota.limits.floating_ips, quota.own, quota.floating_ips_used) == (0, (), 3)
    revision = world.store.revision()
    assert world.store.set_quota("blue", {"floating_ips": None}, "tester").revision == revision


@pytest.mark.parametrize("stores", [1, 4])
def test_a_quota_is_exact_whoever_asks_at_once(make_world: Callable[..., Any], stores: int) -> None:
    first = make_world(limits=Limits(floating_ips=7))
    make_pool(first, span("203.0.113.100", "203.0.113.149"))
    workers = [first.store, *(make_world(limits=Limits(floating_ips=7)).store for _ in range(stores - 1))]
    errors: list[Any] = []

    def allocate(store: Store) -> None:
        try:
            store.allocate_floating_ips(FloatingIpSpec("public", "blue"), "tester")
        except Exception as error:
            errors.append(getattr(error, "code", error))

    in_parallel(allocate, [workers[index % stores] for index in range(20)])
    assert errors == ["quota_exceeded"] * 13
    assert first.store.get_quota("blue").floating_ips_used == 7


# -- those that come with a port


def test_a_port_comes_and_goes_with_a_floating_ip(make_world: Callable[..., Any]) -> None:
    world = make_world(auto_assign_pool="public", limits=Limits(floating_ips=0))
    make_pool(world)
    port = world.port(world.network())
    (given,) = port.floating_ips
    record = world.store.get_floating_ip(given.id)
    assert (given.port_id, str(given.fixed_ip), given.project_id) == (port.port.id, "10.0.0.1", "blue")
    assert (record.auto, events(world, record)) == (True, [["allocate", "associate"]])
    assert world.store.get_quota("blue").floating_ips_used == 0
    for attempt in (
        lambda: lead(world, record, port),
        lambda: world.store.disassociate_floating_ip(given.id, "tester"),
        lambda: give_back(world, record),
    ):
        with pytest.raises(Forbidden) as refused:
            attempt()
        assert (refused.value.code, refused.value.status) == ("floating_ip_auto", 403)
    ips = (FixedIpSpec(IPv4Address("10.0.0.77")),)
    world.store.update_port(port.port.id, {"fixed_ips": ips}, "tester")
    assert str(world.again(port).floating_ips[0].fixed_ip) == "10.0.0.77"
    world.store.delete_port(port.port.id, "tester")
    assert world.store.list_floating_ips() == []
    assert events(world, record)[-1] == ["disassociate", "release"]
    assert world.replayed() == world.store.load_snapshot()


def test_without_a_floating_ip_left_there_is_no_port(make_world: Callable[..., Any]) -> None:
    world = make_world(auto_assign_pool="public")
    with pytest.raises(NotFound) as unknown:
        world.port(network := world.network())
    assert unknown.value.code == "floating_ip_pool_unknown"
    make_pool(world, span("203.0.113.200", "203.0.113.200"))
    world.port(network)
    revision = world.store.revision()
    with pytest.raises(Exhausted, match="No more floating IPs in pool public"):
        world.port(network)
    assert (len(world.store.list_ports()), world.store.revision()) == (1, revision)


def test_only_ports_that_can_have_one_get_one(make_world: Callable[..., Any]) -> None:
    world = make_world(auto_assign_pool="public")
    external = world.external()
    assert world.port(external).floating_ips == ()
    assert world.port(world.network(gateway_mode=GatewayMode.NONE)).floating_ips == ()


def test_a_thousand_ports_get_theirs_in_a_few_statements(make_world: Callable[..., Any]) -> None:
    world = make_world(auto_assign_pool="public")
    make_pool(world, span("198.18.0.0", "198.18.7.255"), network=world.external("198.18.0.0/16", "198.18.255.1"))
    network, statements = world.network("10.0.0.0/16"), 0

    def count(*_: Any) -> None:
        nonlocal statements
        statements += 1

    event.listen(world.store._database._writer, "before_cursor_execute", count)
    made = world.store.create_ports([PortSpec(network.id)] * 1000, "tester").value
    event.remove(world.store._database._writer, "before_cursor_execute", count)
    assert len({port.floating_ips[0].address for port in made}) == 1000
    assert statements < 60


# -- races


def test_whoever_moves_and_deletes_at_once_it_leads_to_one_place_that_there_is(world: Any) -> None:
    make_pool(world)
    network = world.network()
    (floating_ip,) = take(world)
    id_ = floating_ip.floating_ip.id
    wrong: list[Any] = []

    def wander(seed: int) -> None:
        rng, port = random.Random(seed), world.port(network)
        for _ in range(60):
            try:
                match rng.randrange(3):
                    case 0:
                        lead(world, floating_ip, port)
                    case 1:
                        world.store.disassociate_floating_ip(id_, "tester")
                    case 2:
                        world.store.delete_port(port.port.id, "tester")
                        port = world.port(network)
            except Exception as error:
                wrong.append(error)

    in_parallel(wander, [1, 2, 3])
    assert wrong == []
    told = [name for names in events(world, floating_ip) for name in names]
    assert told[0] == "allocate" and len(told) > 20
    # never two of one kind in a row: it leads to one port or to none
    assert all(now != before for before, now in zip(told[1:], told[2:], strict=False))
