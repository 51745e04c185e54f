from __future__ import annotations

import random
import threading
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any

import pytest
from sqlalchemy import event

from controller.store import Store
from controller.store.specs import AddressRange, Conflict, Exhausted, FixedIpSpec, Invalid, PortSpec


def address_of(port: Any) -> str:
    return str(port.port.fixed_ips[0].address)


def wanted(address: str) -> tuple[FixedIpSpec, ...]:
    return (FixedIpSpec(IPv4Address(address)),)


def span(first: str, last: str) -> AddressRange:
    return AddressRange(IPv4Address(first), IPv4Address(last))


def test_lowest_never_used_first_then_longest_released(world: Any) -> None:
    network = world.network("10.0.0.0/29")
    ports = [world.port(network) for _ in range(3)]
    assert [address_of(port) for port in ports] == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    for index in (1, 0):
        world.store.delete_port(ports[index].port.id, "tester")
    assert [address_of(world.port(network)) for _ in range(5)] == [
        *("10.0.0.4", "10.0.0.5", "10.0.0.6"),
        *("10.0.0.2", "10.0.0.1"),
    ]
    with pytest.raises(Exhausted) as full:
        world.port(network)
    assert full.value.code == "subnet_full"


def test_released_addresses_come_back_in_the_order_of_their_release(world: Any) -> None:
    network = world.network("10.0.0.0/28")
    ports = [world.port(network) for _ in range(14)]
    random.Random(4).shuffle(ports)
    for port in ports:
        world.store.delete_port(port.port.id, "tester")
    assert [address_of(world.port(network)) for _ in ports] == [address_of(port) for port in ports]


def test_reserved_and_requested(world: Any) -> None:
    network = world.network("10.0.0.0/29", reserved=(span("10.0.0.1", "10.0.0.2"),))
    for address in ("10.0.0.0", "10.0.0.2", "10.0.0.7"):
        with pytest.raises(Invalid) as refused:
            world.port(network, fixed_ips=wanted(address))
        assert (refused.value.code, refused.value.field) == ("address_reserved", "fixed_ips.0.address")
    with pytest.raises(Invalid) as outside:
        world.port(network, fixed_ips=wanted("10.0.1.1"))
    assert outside.value.code == "address_outside_subnet"
    world.port(network, fixed_ips=wanted("10.0.0.4"))
    with pytest.raises(Conflict) as taken:
        world.port(network, fixed_ips=wanted("10.0.0.4"))
    assert taken.value.code == "address_in_use"
    assert [address_of(world.port(network)) for _ in range(3)] == ["10.0.0.3", "10.0.0.5", "10.0.0.6"]


def test_allocation_ranges_bind_choice_but_not_requests(world: Any) -> None:
    ranges = (span("10.0.0.20", "10.0.0.21"), span("10.0.0.10", "10.0.0.10"))
    network = world.network(allocation_ranges=ranges)
    outside = world.port(network, fixed_ips=wanted("10.0.0.99"))
    assert [address_of(world.port(network)) for _ in range(3)] == ["10.0.0.10", "10.0.0.20", "10.0.0.21"]
    world.store.delete_port(outside.port.id, "tester")
    with pytest.raises(Exhausted):
        world.port(network)


def test_a_released_address_may_be_requested(world: Any) -> None:
    network = world.network()
    port = world.port(network)
    world.store.delete_port(port.port.id, "tester")
    assert address_of(world.port(network, fixed_ips=wanted("10.0.0.1"))) == "10.0.0.1"


def test_a_batch_gives_requested_addresses_before_it_chooses(world: Any) -> None:
    network = world.network()
    specs = [PortSpec(network.id), PortSpec(network.id, fixed_ips=wanted("10.0.0.1")), PortSpec(network.id)]
    made = world.store.create_ports(specs, "tester").value
    assert [address_of(port) for port in made] == ["10.0.0.2", "10.0.0.1", "10.0.0.3"]


def test_changed_ranges_apply_to_the_next_choice(world: Any) -> None:
    network = world.network("10.0.0.0/24")
    for _ in range(3):
        world.port(network)
    subnet = network.spec.subnets[0]
    for reserved, expected in (((span("10.0.0.4", "10.0.0.9"),), "10.0.0.10"), ((), "10.0.0.4")):
        changes = {"subnets": (type(subnet)(subnet.cidr, reserved=reserved),)}
        world.store.update_network(network.id, changes, "tester")
        assert address_of(world.port(network)) == expected


@pytest.mark.parametrize("stores", [1, 4])
def test_threat_33_threads_fill_a_subnet_to_the_end(make_world: Callable[..., Any], url: str, stores: int) -> None:
    """With one store its lock orders the writers; with four there is only the database between them."""
    first = make_world()
    network = first.network("10.0.0.0/24")
    workers = [first.store, *(make_world().store for _ in range(stores - 1))]
    got: list[str] = []
    errors: list[Exception] = []

    def allocate(store: Store) -> None:
        while True:
            try:
                got.extend(address_of(port) for port in store.create_ports([PortSpec(network.id)], "t").value)
            except Exception as error:
                errors.append(error)
                return

    threads = [threading.Thread(target=allocate, args=(workers[index % stores],)) for index in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(IPv4Address, got)) == [IPv4Address("10.0.0.0") + offset for offset in range(1, 255)]
    assert [getattr(error, "code", error) for error in errors] == ["subnet_full"] * 16


def test_a_choice_in_a_large_subnet_is_as_cheap_as_in_a_small_one(world: Any) -> None:
    network = world.network("10.0.0.0/16")
    for _ in range(3):
        world.store.create_ports([PortSpec(network.id)] * 1000, "tester")
    read = 0

    def count(cursor: Any, *_: Any) -> None:
        nonlocal read
        read += 1

    event.listen(world.store._database._writer, "before_cursor_execute", count)
    port = world.port(network)
    event.remove(world.store._database._writer, "before_cursor_execute", count)
    assert address_of(port) == "10.0.11.185"  # the 3001st
    assert read < 30
