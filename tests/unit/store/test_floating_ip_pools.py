"""Pools of floating IPs, and which address of them is given."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any

import pytest

from controller.store import Store
from controller.store.floating_ip_specs import FloatingIpSpec
from controller.store.specs import (
    Conflict,
    Exhausted,
    FixedIpSpec,
    Invalid,
    NotFound,
    StoreError,
    SubnetSpec,
)
from tests.unit.store.floating import addresses_of, give_back, in_parallel, make_pool, span, take

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
