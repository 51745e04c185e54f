"""Who had this address at that time?"""

from __future__ import annotations

import runpy
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from controller.background import DAY, forget_older
from controller.store import migrations
from controller.store.specs import FixedIpSpec
from flows.model import GatewayMode
from tests.unit.store import raw
from tests.unit.store.floating import give_back, lead, make_pool, take

ONE = IPv4Address("10.0.0.1")


def who(world: Any, address: IPv4Address = ONE, **filters: Any) -> list[str | None]:
    return [record.port_name for record in world.store.address_history(address=address, **filters)]


def test_it_outlives_ports_and_networks(world: Any) -> None:
    network = world.network("10.0.0.0/30", name="old")
    first = world.port(network, name="first", device_id="vm1", project_id="red")
    world.clock.now += 100
    world.store.delete_port(first.port.id, "tester")
    world.clock.now += 100
    other = world.port(network, name="other")
    second = world.port(network, name="second")  # 10.0.0.1 again
    assert world.store.address_history(address=ONE)[0].ended_at is None
    assert who(world) == ["second", "first"]
    assert who(world, at=world.clock() - 200) == ["first"]
    assert who(world, at=world.clock() - 150) == ["first"]
    assert who(world, at=world.clock() - 50) == []
    assert who(world, at=world.clock() + 1) == ["second"]
    for port in (second, other):
        world.store.delete_port(port.port.id, "tester")
    world.store.delete_network(network.id, "tester")
    last, oldest = world.store.address_history(address=ONE)
    assert (oldest.network_name, oldest.project_id, oldest.device_id, oldest.mac) == (
        "old",
        "red",
        "vm1",
        first.port.mac,
    )
    assert (oldest.began_at, oldest.ended_at) == (world.clock() - 200, world.clock() - 100)
    assert (last.began_at, last.ended_at) == (world.clock(), world.clock())


def test_two_networks_with_one_range(world: Any) -> None:
    blue, red = world.network(), world.network(name="other", project_id="red")
    world.port(blue, name="of-blue")
    world.port(red, name="of-red")
    assert sorted(who(world)) == ["of-blue", "of-red"]  # type: ignore[type-var]
    assert who(world, network_id=red.id) == ["of-red"]
    assert who(world, project_id="blue") == ["of-blue"]


def test_a_new_name_a_new_address_and_what_is_no_change(world: Any) -> None:
    network = world.network()
    port = world.port(network, name="a")
    world.clock.now += 1
    world.store.update_port(port.port.id, {"name": "b"}, "tester")
    world.node("n1")
    world.report("n1", port)
    world.store.update_port(port.port.id, {"hostname": "h"}, "tester")
    world.clock.now += 1
    world.store.update_port(port.port.id, {"fixed_ips": (FixedIpSpec(IPv4Address("10.0.0.9")),)}, "tester")
    assert who(world) == ["b", "a"]
    assert all(record.ended_at for record in world.store.address_history(address=ONE))
    assert who(world, IPv4Address("10.0.0.9")) == ["b"]


def test_floating_ips_with_the_port_they_led_to(world: Any) -> None:
    make_pool(world)
    port = world.port(world.network(), name="web")
    (given,) = take(world)
    address = given.floating_ip.address
    world.clock.now += 1
    lead(world, given, port)
    world.clock.now += 1
    world.store.delete_port(port.port.id, "tester")
    world.clock.now += 1
    give_back(world, given)
    found = world.store.address_history(address=address)
    assert [(record.kind, record.port_name, record.project_id) for record in found] == [
        ("floating_ip", None, "blue"),
        ("floating_ip", "web", "blue"),
        ("floating_ip", None, "blue"),
    ]
    assert [record.ended_at for record in found] == [world.clock(), world.clock() - 1, world.clock() - 2]


def test_what_is_old_is_forgotten_when_it_is_over(world: Any) -> None:
    network = world.network(gateway_mode=GatewayMode.SHARED, gateway=IPv4Address("10.0.0.9"))
    world.port(network, name="stays", fixed_ips=(FixedIpSpec(ONE + 1),))
    for name in "abc":
        port = world.port(network, name=name, fixed_ips=(FixedIpSpec(ONE),))
        world.clock.now += 50
        world.store.delete_port(port.port.id, "tester")
        world.clock.now += 50
    assert world.store.forget_history(250) == 0
    assert world.store.forget_history(100, most=1) == 1
    assert who(world) == ["c", "b"]
    assert [world.store.forget_history(100) for _ in range(2)] == [1, 0]
    assert who(world) == ["c"]
    world.clock.now += 1000
    assert forget_older(world.store.forget_history, 0) == 0
    world.clock.now += DAY
    assert forget_older(world.store.forget_history, 1) == 1
    assert who(world) == [] and who(world, ONE + 1) == ["stays"]  # who has it is not forgotten


def test_a_clock_that_was_set_back_ends_nothing_before_it_began(world: Any) -> None:
    port = world.port(world.network())
    world.clock.now -= 1000
    world.store.delete_port(port.port.id, "tester")
    (record,) = world.store.address_history(address=ONE)
    assert record.began_at == record.ended_at


def test_an_upgrade_begins_it_with_what_is_there(world: Any) -> None:
    make_pool(world)
    port = world.port(world.network(), name="web", device_id="vm1", fixed_ips=(FixedIpSpec(), FixedIpSpec()))
    given, spare = take(world, 2)
    lead(world, given, port)
    wanted = [ONE, IPv4Address("10.0.0.2"), given.floating_ip.address, spare.floating_ip.address]
    before = [world.store.address_history(address=address)[0] for address in wanted]
    path = Path(migrations.__file__).parent / "versions" / "0009_addresses.py"
    statements = runpy.run_path(str(path))["_WHO_HAS_WHAT"]
    raw.execute(world.url, "DELETE FROM address_history", *statements)
    assert [world.store.address_history(address=address) for address in wanted] == [[record] for record in before]
    world.store.delete_port(port.port.id, "tester")
    assert world.store.address_history(address=ONE)[0].ended_at == world.clock()
