"""What becomes of an address when its port goes: allocated, leased and associated are three things."""

from __future__ import annotations

import random
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any

import pytest

from controller.store.address_specs import HoldPolicy
from controller.store.specs import Conflict, Exhausted, FixedIpSpec, Invalid, LeaseRecord, NotFound
from flows.model import NetworkKind

FOUR = "10.0.0.0/29"  # its addresses are 1 to 6
UNFORCED = HoldPolicy(force=False, timeout=600)
UNTIL_LEASE_END = HoldPolicy(force=False, timeout=-1)


def address_of(port: Any) -> str:
    return str(port.port.fixed_ips[0].address)


def lease(world: Any, port: Any, seconds: float, state: str = "bound") -> None:
    """The port's client has, or has given back, a lease of its first address."""
    now = world.clock()
    record = LeaseRecord(port.port.id, port.port.fixed_ips[0].address, state, now, now + seconds)
    assert world.store.record_leases([record]) == 1


def drop(world: Any, port: Any) -> None:
    world.store.delete_port(port.port.id, "tester")


def fill(world: Any, network: Any) -> list[str]:
    """The addresses that can be had."""
    given = []
    with pytest.raises(Exhausted) as full:
        while True:
            given.append(address_of(world.port(network)))
    assert full.value.code == "subnet_full"
    return given


def states(world: Any, network: Any) -> dict[str, tuple[str, bool, bool]]:
    """(state, associated, leased) by address."""
    return {
        str(one.address): (one.state.value, one.associated, one.leased)
        for one in world.store.list_addresses(network.id)
    }


def test_b12_whatever_the_order_the_address_released_longest_ago_is_next(world: Any) -> None:
    dice = random.Random(12)
    network = world.network("10.0.0.0/28", allocation_ranges=())
    held = [world.port(network) for _ in range(14)]
    released: list[str] = []
    for _ in range(200):
        if held and (not released or dice.random() < 0.5):
            port = held.pop(dice.randrange(len(held)))
            drop(world, port)
            released.append(address_of(port))
        else:
            port = world.port(network)
            assert address_of(port) == released.pop(0)
            held.append(port)


def test_b12_b22_a_released_address_with_a_live_lease_is_skipped_until_the_lease_ends(
    make_world: Callable[..., Any],
) -> None:
    world = make_world(holds=UNTIL_LEASE_END)
    network = world.network(FOUR)
    leased, other = world.port(network), world.port(network)
    lease(world, leased, 3600)
    assert states(world, network)["10.0.0.1"] == ("allocated", True, True)
    drop(world, leased)
    drop(world, other)
    assert states(world, network)["10.0.0.1"] == ("held", True, True)
    assert fill(world, network) == ["10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.2"]
    with pytest.raises(Conflict, match="kept until the lease") as taken:
        world.port(network, fixed_ips=(FixedIpSpec(IPv4Address("10.0.0.1")),))
    assert taken.value.code == "address_in_use"
    world.clock.now += 3599
    assert world.store.end_holds() == 0
    world.clock.now += 1
    assert world.store.end_holds() == 1
    assert states(world, network)["10.0.0.1"] == ("free", False, False)
    assert fill(world, network) == ["10.0.0.1"]


def test_b19_c11_a_forced_release_ends_the_lease_with_the_port(world: Any) -> None:
    network = world.network(FOUR)
    port = world.port(network)
    lease(world, port, 86400)
    drop(world, port)
    assert states(world, network)["10.0.0.1"] == ("free", False, False)
    assert world.store.list_leases() == []
    assert fill(world, network)[-1] == "10.0.0.1"


def test_b22_a_running_vm_whose_lease_ends_keeps_its_address(make_world: Callable[..., Any]) -> None:
    world = make_world(holds=UNFORCED)
    network = world.network(FOUR)
    port = world.port(network)
    lease(world, port, 100)
    world.clock.now += 101
    world.store.end_holds()
    assert states(world, network)["10.0.0.1"] == ("allocated", True, False)
    assert "10.0.0.1" not in fill(world, network)
    lease(world, port, 100)
    assert states(world, network)["10.0.0.1"] == ("allocated", True, True)


@pytest.mark.parametrize("state", ["released", "declined"])
def test_b22_a_lease_that_was_given_back_holds_nothing(make_world: Callable[..., Any], state: str) -> None:
    world = make_world(holds=UNTIL_LEASE_END)
    network = world.network(FOUR)
    port = world.port(network)
    lease(world, port, 3600)
    lease(world, port, 0, state)
    drop(world, port)
    assert states(world, network)["10.0.0.1"] == ("free", False, False)


def test_b23_without_force_an_address_is_back_after_the_timeout_and_not_before(make_world: Callable[..., Any]) -> None:
    world = make_world(holds=UNFORCED)
    network = world.network(FOUR)
    port = world.port(network)
    lease(world, port, 86400)
    drop(world, port)
    world.clock.now += 599
    assert world.store.end_holds() == 0
    assert "10.0.0.1" not in fill(world, network)
    world.clock.now += 1
    assert world.store.end_holds() == 1
    assert fill(world, network) == ["10.0.0.1"]
    world.clock.now += 10_000
    assert world.store.end_holds() == 0  # it has an owner again


def test_b23_a_timeout_of_nothing(make_world: Callable[..., Any]) -> None:
    world = make_world(holds=HoldPolicy(force=False, timeout=0))
    network = world.network(FOUR)
    port = world.port(network)
    lease(world, port, 86400)
    drop(world, port)
    world.store.end_holds()
    assert states(world, network)["10.0.0.1"] == ("free", False, False)


def test_b23_an_administrator_frees_one_at_once(make_world: Callable[..., Any]) -> None:
    world = make_world(holds=UNFORCED)
    network = world.network(FOUR)
    port, other = world.port(network), world.port(network)
    lease(world, port, 86400)
    drop(world, port)
    one = IPv4Address("10.0.0.1")
    world.store.end_hold(network.id, one, "tester")
    assert states(world, network)["10.0.0.1"] == ("free", False, False)
    for address, code in ((one, "address_unknown"), (other.port.fixed_ips[0].address, "address_in_use")):
        with pytest.raises((NotFound, Conflict)) as refused:
            world.store.end_hold(network.id, address, "tester")
        assert refused.value.code == code


def test_b12_what_is_kept_is_chosen_again_in_the_order_in_which_it_was_freed(make_world: Callable[..., Any]) -> None:
    """Also when nothing else is written in between, and one that is freed by hand."""
    world = make_world(holds=UNTIL_LEASE_END)
    network = world.network(FOUR)
    ports = [world.port(network) for _ in range(6)]
    order = [ports[4], ports[1], ports[5], ports[0]]
    for seconds, port in enumerate(order, start=1):
        lease(world, port, seconds * 100)
        drop(world, port)
    for _ in order[:3]:
        world.clock.now += 100
        assert world.store.end_holds() == 1
    world.store.end_hold(network.id, order[3].port.fixed_ips[0].address, "ann")
    told = world.store.journal(kind="held_addresses")
    assert [(entry.object_id, entry.actor, entry.payload) for entry in told] == [
        (network.id, "ann" if port is order[3] else "controller", {"released": [address_of(port)]}) for port in order
    ]
    assert fill(world, network) == [address_of(port) for port in order]
    assert world.replayed().networks.keys() == world.store.load_snapshot().networks.keys()


@pytest.mark.parametrize("holds", [HoldPolicy(), UNTIL_LEASE_END])
def test_b17_the_lease_of_an_address_ends_when_it_is_not_the_ports_any_more(
    make_world: Callable[..., Any], holds: HoldPolicy
) -> None:
    world = make_world(holds=holds)
    network = world.network(FOUR)
    port = world.port(network)
    lease(world, port, 3600)
    moved = {"fixed_ips": (FixedIpSpec(IPv4Address("10.0.0.6")),)}
    changed = world.store.update_port(port.port.id, moved, "tester").value
    assert world.store.list_leases() == []
    with pytest.raises(AssertionError):
        lease(world, port, 3600)  # said a moment before, and written late
    lease(world, changed, 3600)
    assert [str(one.address) for one in world.store.list_leases()] == ["10.0.0.6"]


def test_b23_a_clock_that_jumps_frees_nothing_early(make_world: Callable[..., Any]) -> None:
    world = make_world(holds=UNFORCED)
    network = world.network(FOUR)
    port = world.port(network)
    lease(world, port, 86400)
    drop(world, port)
    world.clock.now += 7200  # nobody waited so long
    assert world.store.shift_holds(7200) == 1
    assert world.store.end_holds() == 0
    world.clock.now += 600
    assert world.store.end_holds() == 1


@pytest.mark.parametrize("jump", [86400.0, -86400.0])
def test_a_clock_that_jumps_ends_no_lease(make_world: Callable[..., Any], jump: float) -> None:
    """Nor a hold of a port that goes afterwards. What was said just now was said by the new clock."""
    world = make_world(holds=UNTIL_LEASE_END)
    network = world.network(FOUR)
    before, after = world.port(network), world.port(network)
    lease(world, before, 3600)
    world.clock.now += 600 + jump
    lease(world, after, 3600)
    assert world.store.shift_holds(jump) == 1
    ends = {str(one.address): one.expires_at - world.clock.now for one in world.store.list_leases(state="bound")}
    assert ends == {"10.0.0.1": 3000, "10.0.0.2": 3600}
    drop(world, before)
    assert states(world, network)["10.0.0.1"] == ("held", True, True)
    world.clock.now += 3001
    assert world.store.end_holds() == 1


def test_b17_an_address_that_is_taken_off_a_port_is_free_unless_it_is_leased(make_world: Callable[..., Any]) -> None:
    world = make_world(holds=UNFORCED)
    network = world.network(FOUR)
    port = world.port(network, fixed_ips=(FixedIpSpec(), FixedIpSpec()))
    assert [str(fixed.address) for fixed in port.port.fixed_ips] == ["10.0.0.1", "10.0.0.2"]
    lease(world, port, 3600)
    only_second = (FixedIpSpec(IPv4Address("10.0.0.2")),)
    world.store.update_port(port.port.id, {"fixed_ips": only_second}, "tester")
    assert states(world, network)["10.0.0.1"] == ("held", True, True)
    world.store.update_port(port.port.id, {"fixed_ips": (FixedIpSpec(IPv4Address("10.0.0.3")),)}, "tester")
    assert states(world, network)["10.0.0.2"] == ("free", False, False)


def test_b15_one_address_is_reserved_and_given_back(world: Any) -> None:
    network = world.network(FOUR)
    for port in [world.port(network) for _ in range(6)]:
        drop(world, port)
    one, two = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")
    reserved = world.store.reserve_address(network.id, one, "tester").value.spec.subnets[0].reserved
    assert [(span.first, span.last) for span in reserved] == [(one, one)]
    user = world.port(network)
    assert address_of(user) == "10.0.0.2"  # the next after it
    world.store.reserve_address(network.id, two, "tester")
    assert world.again(user) == user  # not evicted
    assert [entry.reserved for entry in world.store.list_addresses(network.id)][:3] == [True, True, False]
    with pytest.raises(Invalid) as refused:
        world.port(network, fixed_ips=(FixedIpSpec(one),))
    assert refused.value.code == "address_reserved"
    world.store.unreserve_address(network.id, one, "tester")
    assert address_of(world.port(network)) == "10.0.0.1"
    with pytest.raises(Invalid):
        world.store.reserve_address(network.id, IPv4Address("10.0.1.1"), "tester")
    with pytest.raises(NotFound):
        world.store.reserve_address("nothing", one, "tester")


def test_addresses_are_listed_page_by_page(world: Any) -> None:
    network = world.network("10.0.0.0/28", gateway_mode=None)
    for address in (2, 5, 7):
        world.port(network, fixed_ips=(FixedIpSpec(IPv4Address("10.0.0.0") + address),), name=f"p{address}")
    for address in (3, 4, 5, 12):
        world.store.reserve_address(network.id, IPv4Address("10.0.0.0") + address, "tester")
    whole = world.store.list_addresses(network.id)
    assert [int(one.address) & 15 for one in whole] == [2, 3, 4, 5, 7, 12]
    assert [one.port_name for one in whole] == ["p2", None, None, "p5", "p7", None]
    for limit in (1, 2, 3, 10):
        paged: list[Any] = []
        while page := world.store.list_addresses(
            network.id, limit=limit, marker=str(paged[-1].address) if paged else None
        ):
            paged += page
        assert paged == whole
    flat = world.network("10.9.0.0/24", name="flat", kind=NetworkKind.FLAT)
    assert world.store.list_addresses(flat.id) == []
