"""How many floating IPs a project may have, and those that come with its ports."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any

import pytest
from sqlalchemy import event

from controller.store import Store
from controller.store.floating_ip_specs import FloatingIpSpec
from controller.store.quota_specs import Limits
from controller.store.specs import (
    Exhausted,
    FixedIpSpec,
    Forbidden,
    NotFound,
    PortSpec,
)
from flows.model import GatewayMode
from tests.unit.store.floating import events, give_back, in_parallel, lead, make_pool, span, take

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
