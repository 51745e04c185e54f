"""What nodes owe to forget is written with the change that makes them owe it, and stays until it is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from controller.forgetting import Debt, End, Forget, left_behind
from controller.store import debts
from controller.store.floating_ip_specs import FloatingIpPoolSpec, FloatingIpSpec
from controller.store.specs import AddressRange, Invalid, PortSpec
from flows.model import StaticRoute
from flows.pipeline import CtZone, carrier_address, nat_zone

ROUTE = StaticRoute(IPv4Network("10.99.0.0/16"), IPv4Address("10.0.0.50"))


@dataclass
class Cloud:
    """Two ports on n1, the first with a floating IP, and one that is on no node."""

    world: Any
    network: Any
    ports: list[Any]
    spare: Any
    floating_ip: Any
    second_outside: Any

    def owed_by(self, step: Callable[[], object]) -> list[Debt]:
        """What is owed from a step on: what the snapshots before and after it say."""
        store = self.world.store
        before, known = store.load_snapshot(), store.owed_since(0)
        step()
        revision, changes = store.changes_since(before.revision)
        found: list[Debt] = store.owed_since(before.revision)
        left = left_behind(before, changes)
        nodes = store.load_snapshot().nodes
        assert {(debt.node, debt.what) for debt in found} == {(n, w) for n in left if n in nodes for w in left[n]}
        assert {debt.revision for debt in found} <= {revision}
        gone = {(debt.node, debt.what) for debt in found}
        assert [one for one in store.owed_since(0) if one not in found] == [
            one for one in known if one.node in nodes and one[:2] not in gone
        ]
        return found


@pytest.fixture
def cloud(world: Any) -> Cloud:
    outside = world.external()
    other = world.external("198.51.100.0/24", "198.51.100.1", physical_network="physnet-other")
    world.node("n1", physical_networks=("physnet1", "physnet-ext", "physnet-other"))
    network = world.network(routes=(ROUTE,))
    specs = [PortSpec(network.id, fixed_ips=()) for _ in range(3)]
    *ports, spare = world.store.create_ports(specs, "tester").value
    world.report("n1", *ports)
    part = AddressRange(IPv4Address("203.0.113.200"), IPv4Address("203.0.113.203"))
    world.store.create_floating_ip_pool(FloatingIpPoolSpec("public", outside.id, (part,)), "tester")
    (floating_ip,) = world.store.allocate_floating_ips(FloatingIpSpec("public", project_id="blue"), "tester").value
    world.store.associate_floating_ip(floating_ip.floating_ip.id, ports[0].port.id, None, "tester")
    return Cloud(world, network, [world.again(port) for port in ports], spare, floating_ip, other)


def zone_of(port: Any) -> int:
    zone: int = port.port.binding.zone
    return zone


def of_address(cloud: Cloud) -> list[Debt]:
    """All that a floating IP leaves with its port."""
    ends = (End.ORIGINAL_DESTINATION, End.REPLY_DESTINATION)
    zone, address = nat_zone(zone_of(cloud.ports[0])), int(cloud.floating_ip.floating_ip.address)
    revision = cloud.world.store.revision()
    return [Debt("n1", Forget(zone, end, address), revision) for end in ends]


def test_nothing_is_owed_for_what_comes(cloud: Cloud) -> None:
    assert cloud.world.store.owed_since(0) == []


def test_a_floating_ip_that_is_led_nowhere(cloud: Cloud) -> None:
    store, id_ = cloud.world.store, cloud.floating_ip.floating_ip.id
    found = cloud.owed_by(lambda: store.disassociate_floating_ip(id_, "tester"))
    assert found == of_address(cloud)
    assert cloud.owed_by(lambda: store.release_floating_ips([id_], "tester")) == []


def test_a_port_that_goes_and_one_that_was_nowhere(cloud: Cloud) -> None:
    store, port = cloud.world.store, cloud.ports[0]
    assert cloud.owed_by(lambda: store.delete_port(cloud.spare.port.id, "tester")) == []
    found = cloud.owed_by(lambda: store.delete_port(port.port.id, "tester"))
    assert {debt.what for debt in found} >= {Forget(zone_of(port)), Forget(nat_zone(zone_of(port)))}
    found = cloud.owed_by(lambda: cloud.world.report("n1"))
    assert Forget(zone_of(cloud.ports[1])) in {debt.what for debt in found}


def test_a_network_that_leaves_elsewhere_or_loses_a_route(cloud: Cloud) -> None:
    store, network, (first, second) = cloud.world.store, cloud.network, cloud.ports

    def update(**changes: Any) -> list[Debt]:
        return cloud.owed_by(lambda: store.update_network(network.id, changes, "tester"))

    assert update(name="other", dhcp=False) == []
    sources = {int(port.port.fixed_ips[0].address) for port in (first, second)}
    sources |= {carrier_address(port.port.key) for port in (first, second)}
    everything = {Forget(CtZone.SNAT, End.ORIGINAL_SOURCE, address) for address in sources}
    assert {debt.what for debt in update(external_network_id=cloud.second_outside.id)} == everything
    assert {debt.what for debt in update(own_snat_address=True)} == everything
    store.update_network(
        network.id, {"routes": (StaticRoute(ROUTE.destination, first.port.fixed_ips[0].address),)}, "t"
    )
    carrier = carrier_address(first.port.key)
    assert {debt.what for debt in update(routes=(ROUTE,))} == {
        Forget(CtZone.SNAT, End.ORIGINAL_SOURCE, carrier),
        Forget(nat_zone(zone_of(first)), End.REPLY_DESTINATION, carrier),
    }


def test_of_a_network_that_leaves_nothing_the_ports_are_not_looked_at(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object) -> None:
        raise AssertionError("there may be thousands")

    monkeypatch.setattr(debts, "load_ports", asked)
    cloud.world.store.update_network(cloud.network.id, {"mtu": 1400}, "tester")
    with pytest.raises(AssertionError, match="thousands"):
        cloud.world.store.update_network(cloud.network.id, {"own_snat_address": True}, "tester")


def test_what_is_refused_leaves_no_debt(cloud: Cloud) -> None:
    with pytest.raises(Invalid):
        cloud.world.store.update_network(cloud.network.id, {"own_snat_address": True, "cidr": "x"}, "tester")
    assert cloud.world.store.owed_since(0) == []


def test_what_is_paid_is_gone_unless_it_is_owed_again(cloud: Cloud) -> None:
    store, id_ = cloud.world.store, cloud.floating_ip.floating_ip.id
    store.disassociate_floating_ip(id_, "tester")
    first = store.owed_since(0)
    store.associate_floating_ip(id_, cloud.ports[0].port.id, None, "tester")
    store.disassociate_floating_ip(id_, "tester")
    second = store.owed_since(0)
    assert [debt[:2] for debt in first] == [debt[:2] for debt in second] and first != second
    store.settle(first)
    assert store.owed_since(0) == second
    store.settle(second[:1])
    assert store.owed_since(0) == second[1:]
    zone = second[0].what.zone
    store.settle([Debt("n1", Forget(zone), second[0].revision)])  # a zone pays all that was owed of it
    assert store.owed_since(0) == [] and store.settle([]) == 0


def test_a_node_that_goes_takes_its_debts_along(cloud: Cloud) -> None:
    store = cloud.world.store
    store.delete_port(cloud.ports[0].port.id, "tester")
    assert store.owed_since(0)
    assert cloud.owed_by(lambda: store.delete_node("n1", "tester")) == []
    assert store.owed_since(0) == []
