"""Addresses in the order of things: what is checked before anything is written, and what a failure leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any

import pytest

from controller.store import (
    Store,
    address_history,
    bindings,
    debts,
    floating_ips,
    ipam,
    lease_holds,
    memberships,
    ports,
    quotas,
    security_groups,
)
from controller.store.address_specs import HoldPolicy
from controller.store.journal import Transaction
from controller.store.quota_specs import Limits
from controller.store.specs import Exhausted, FixedIpSpec, InterfaceReport, PortSpec, ReportedInterface
from flows.model import GatewayMode
from tests.unit.store import raw
from tests.unit.store.floating import in_parallel, lead, make_pool, take


def wanted(address: str) -> tuple[FixedIpSpec, ...]:
    return (FixedIpSpec(IPv4Address(address)),)


def test_b14_ports_come_in_the_order_they_were_asked_for(world: Any) -> None:
    a, b = world.network(), world.network("10.1.0.0/24", name="b")
    made = world.store.create_ports([PortSpec(b.id), PortSpec(a.id), PortSpec(b.id, fixed_ips=wanted("10.1.0.7"))], "t")
    assert [record.port.network_id for record in made.value] == [b.id, a.id, b.id]
    assert [record.port.key for record in made.value] == [1, 2, 3]


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("10.1.0.5", "address_reserved"),
        ("10.1.0.9", "address_in_use"),
        ("10.9.0.1", "address_outside_subnet"),
        ("10.1.0.255", "address_reserved"),
    ],
)
def test_b14_a_request_that_cannot_be_met_writes_nothing(world: Any, address: str, code: str) -> None:
    a, b = world.network(), world.network("10.1.0.0/24", name="b")
    world.port(b, fixed_ips=wanted("10.1.0.9"))
    world.store.reserve_address(b.id, IPv4Address("10.1.0.5"), "tester")
    before = raw.contents(world.url)
    with pytest.raises(Exception) as refused:
        world.store.create_ports([PortSpec(a.id), PortSpec(b.id, fixed_ips=wanted(address))], "tester")
    assert getattr(refused.value, "code", refused.value) == code
    assert getattr(refused.value, "index", None) == 1
    assert raw.contents(world.url) == before


class Injected(Exception):
    pass


ALLOCATING = [
    (quotas, "require_ports"),
    (ports, "_give_macs"),
    (security_groups, "defaults"),
    (ipam, "_never_used"),
    (ipam, "allocate"),
    (memberships, "join"),
    (floating_ips, "assign"),
    (bindings, "bind_new"),
    (address_history, "follow"),
    (Transaction, "finish"),
    (debts, "incur"),
]
FREEING = [
    (floating_ips, "leave_port"),
    (ipam, "release"),
    (lease_holds, "keep"),
    (bindings, "unbind"),
    (memberships, "leave"),
    (address_history, "follow"),
    (Transaction, "finish"),
    (debts, "incur"),
]


def fail_after(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    """The step is done, and then something goes wrong."""
    real = vars(owner)[name]

    def step(*args: Any, **extra: Any) -> Any:
        real(*args, **extra)
        raise Injected

    monkeypatch.setattr(owner, name, step)


@pytest.mark.parametrize(("owner", "name"), ALLOCATING)
def test_b18_a_failure_at_any_step_of_an_allocation_leaves_nothing(
    make_world: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    world = make_world(auto_assign_pool="public", limits=Limits(fixed_ips=5))
    make_pool(world)
    network = world.network(gateway_mode=GatewayMode.SHARED)
    world.node("n1")
    before, revision = raw.contents(world.url), world.store.revision()
    with monkeypatch.context() as patch:
        fail_after(patch, owner, name)
        with pytest.raises(Injected):
            world.port(network)
    assert raw.contents(world.url) == before
    assert (world.store.revision(), world.store.get_quota("blue").fixed_ips_used) == (revision, 0)
    port = world.port(network)
    assert str(port.port.fixed_ips[0].address) == "10.0.0.2" and port.floating_ips
    assert world.replayed() == world.store.load_snapshot()


@pytest.mark.parametrize(("owner", "name"), FREEING)
def test_b19_a_failure_at_any_step_of_a_release_leaves_the_port_whole(
    make_world: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    world = make_world(holds=HoldPolicy(force=False))
    make_pool(world)
    world.node("n1")
    port = world.port(world.network())
    world.report("n1", port)
    lead(world, take(world)[0], port)
    before = raw.contents(world.url)
    with monkeypatch.context() as patch:
        fail_after(patch, owner, name)
        with pytest.raises(Injected):
            world.store.delete_port(port.port.id, "tester")
    assert raw.contents(world.url) == before
    world.store.delete_port(port.port.id, "tester")
    assert world.store.get_quota("blue").fixed_ips_used == 0
    assert world.replayed() == world.store.load_snapshot()


def test_b20_ten_first_boots_at_once_on_a_node_take_one_gateway(make_world: Callable[..., Any]) -> None:
    first = make_world()
    network = first.network("10.0.0.0/24")  # gateway mode per_host
    first.node("n1")
    first.node("n2")
    ids = [f"00000000-0000-4000-8000-0000000000{number:02}" for number in range(20)]
    for serial, (node, part) in enumerate((("n1", ids[:10]), ("n2", ids[10:])), 1):
        shown = tuple(ReportedInterface(id_, 100 + index) for index, id_ in enumerate(part))
        first.store.report_interfaces(node, InterfaceReport(serial, {}, shown))
    stores = [first.store, *(make_world().store for _ in range(3))]
    errors: list[Exception] = []

    def boot(work: tuple[Store, str]) -> None:
        try:
            work[0].create_ports([PortSpec(network.id, id=work[1])], "tester")
        except Exception as error:
            errors.append(error)

    in_parallel(boot, [(stores[index % 4], id_) for index, id_ in enumerate(ids)])
    assert errors == []
    assert len([record for record in first.store.list_ports() if record.port.binding]) == 20
    gateways = [one for one in first.store.list_addresses(network.id) if one.owner == "gateway"]
    assert sorted(str(one.node) for one in gateways) == ["n1", "n2"]
    assert len({one.address for one in gateways}) == 2


def test_b13_two_hundred_at_once_of_a_hundred_and_fifty(make_world: Callable[..., Any]) -> None:
    first = make_world()
    span = ipam.AddressRange(IPv4Address("10.0.0.50"), IPv4Address("10.0.0.199"))
    network = first.network("10.0.0.0/24", allocation_ranges=(span,))
    stores = [first.store, *(make_world().store for _ in range(2))]  # as many processes
    got: list[IPv4Address] = []
    errors: list[Any] = []

    def allocate(store: Store) -> None:
        try:
            (record,) = store.create_ports([PortSpec(network.id)], "tester").value
            got.append(record.port.fixed_ips[0].address)
        except Exception as error:
            errors.append(getattr(error, "code", error))

    in_parallel(allocate, [stores[index % 3] for index in range(200)])
    assert errors == ["subnet_full"] * 50
    assert sorted(got) == [IPv4Address("10.0.0.50") + offset for offset in range(150)]
    assert len(first.store.list_ports()) == 150


# B26


def test_b26_a_project_has_as_many_fixed_ips_and_ports_as_it_may(make_world: Callable[..., Any]) -> None:
    world = make_world(limits=Limits(fixed_ips=3))
    network = world.network(shared=True, project_id=None)
    port = world.port(network, project_id="blue", fixed_ips=(FixedIpSpec(), FixedIpSpec()))
    with pytest.raises(Exhausted) as full:
        world.store.create_ports([PortSpec(network.id, project_id="blue")] * 2, "tester")
    assert (full.value.code, full.value.details) == ("quota_exceeded", {"limit": 3, "used": 2})
    world.port(network, project_id="blue")
    with pytest.raises(Exhausted):
        world.store.update_port(port.port.id, {"fixed_ips": (FixedIpSpec(),) * 3}, "tester")
    world.store.update_port(port.port.id, {"fixed_ips": (FixedIpSpec(),)}, "tester")
    world.store.update_port(port.port.id, {"fixed_ips": (FixedIpSpec(),) * 2}, "tester")
    for other in ("red", None):
        world.port(network, project_id=other)
    quota = world.store.get_quota("blue")
    assert (quota.ports_used, quota.fixed_ips_used) == (2, 3)
    world.store.set_quota("blue", {"fixed_ips": -1, "ports": 3}, "tester")
    world.port(network, project_id="blue")
    with pytest.raises(Exhausted, match="may have 3 ports"):
        world.port(network, project_id="blue")
    world.store.delete_port(port.port.id, "tester")
    world.port(network, project_id="blue")


@pytest.mark.parametrize("limits", [Limits(fixed_ips=7), Limits(ports=7)])
def test_b26_a_quota_is_exact_whoever_asks_at_once(make_world: Callable[..., Any], limits: Limits) -> None:
    first = make_world(limits=limits)
    network = first.network()
    stores = [first.store, *(make_world(limits=limits).store for _ in range(3))]
    errors: list[Any] = []

    def allocate(store: Store) -> None:
        try:
            store.create_ports([PortSpec(network.id)], "tester")
        except Exception as error:
            errors.append(getattr(error, "code", error))

    in_parallel(allocate, [stores[index % 4] for index in range(20)])
    assert errors == ["quota_exceeded"] * 13
    assert first.store.get_quota("blue").ports_used == 7
