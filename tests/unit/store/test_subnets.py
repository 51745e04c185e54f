"""Several subnets of a network: which addresses ports get, who is the gateway where, how a subnet comes and goes."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from controller.bounds import MOST_SUBNETS
from controller.store.address_specs import HoldPolicy
from controller.store.floating_ip_specs import FloatingIpPoolSpec
from controller.store.specs import (
    AddressRange,
    Conflict,
    Exhausted,
    FixedIpSpec,
    Invalid,
    LeaseRecord,
    NetworkRecord,
    NetworkSpec,
    PortSpec,
    StoreError,
    SubnetSpec,
)
from flows.model import GatewayMode, HostRoute, NetworkKind, StaticRoute

FIRST, SECOND, THIRD = "10.0.0.0/29", "10.9.0.0/24", "10.7.0.0/24"


def subnet(cidr: str, **fields: Any) -> SubnetSpec:
    return SubnetSpec(IPv4Network(cidr), **fields)


def make(world: Any, *cidrs: str, name: str = "net", **fields: Any) -> NetworkRecord:
    values = {"kind": NetworkKind.VLAN, "physical_network": "physnet1", "project_id": "blue"} | fields
    spec = NetworkSpec(name=name, subnets=tuple(map(subnet, cidrs)), **values)
    return world.store.create_network(spec, "tester").value


def put(world: Any, network: NetworkRecord, *wanted: SubnetSpec | str) -> NetworkRecord:
    listed = tuple(subnet(one) if isinstance(one, str) else one for one in wanted)
    return world.store.update_network(network.id, {"subnets": listed}, "tester").value


def cidrs(record: NetworkRecord) -> list[str]:
    return [str(one.cidr) for one in record.spec.subnets]


def addresses(record: Any) -> list[str]:
    return [str(fixed_ip.address) for fixed_ip in record.port.fixed_ips]


def gateways(world: Any, node: str) -> list[str]:
    return sorted(str(held.address) for held in world.store.get_node(node).node.gateways)


def fixed(*wanted: str | None) -> tuple[FixedIpSpec, ...]:
    return tuple(FixedIpSpec(IPv4Address(one) if one else None) for one in wanted)


# -- what a port gets


def test_the_first_subnet_with_room_gives_the_address(world: Any) -> None:
    network = make(world, FIRST, SECOND)
    given = [addresses(world.port(network))[0] for _ in range(8)]
    assert given == [*(f"10.0.0.{host}" for host in range(1, 7)), "10.9.0.1", "10.9.0.2"]
    world.store.delete_port(world.store.list_ports()[2].port.id, "tester")
    assert addresses(world.port(network)) == ["10.0.0.3"]


def test_the_ports_of_a_batch_are_spread_and_none_too_many(world: Any) -> None:
    network = make(world, FIRST, "10.9.0.0/29")
    first_id = network.spec.subnets[0].id
    wanted = [PortSpec(network.id) for _ in range(9)]
    wanted += [PortSpec(network.id, fixed_ips=(FixedIpSpec(subnet_id=first_id),)) for _ in range(3)]
    made = world.store.create_ports(wanted, "tester").value
    given = [addresses(port)[0] for port in made]
    assert len(set(given)) == 12
    assert all(address.startswith("10.0.0.") for address in given[9:])  # whoever wants a subnet has it
    with pytest.raises(Exhausted) as refused:
        world.port(network)
    assert refused.value.code == "subnet_full"
    assert len(world.store.list_ports()) == 12


def test_each_node_is_left_a_gateway_in_each_subnet(world: Any) -> None:
    for name in ("n1", "n2"):
        world.node(name)
    network = make(world, FIRST, SECOND)
    given = [addresses(world.port(network))[0] for _ in range(5)]
    assert given == ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.9.0.1"]


def test_in_a_large_cloud_each_port_is_left_a_gateway_in_its_subnet(world: Any) -> None:
    for number in range(20):
        world.node(f"n{number}")
    network = make(world, FIRST, "10.9.0.0/29")  # six addresses each
    given = [addresses(world.port(network))[0] for _ in range(6)]
    assert given == [f"10.{net}.0.{last}" for net in (0, 9) for last in (1, 2, 3)]
    with pytest.raises(Exhausted) as refused:
        world.port(network)
    assert refused.value.code == "subnet_full"


def test_a_port_with_several_addresses(world: Any) -> None:
    network = make(world, FIRST, SECOND)
    first, second = (one.id for one in network.spec.subnets)
    port = world.port(network, fixed_ips=(*fixed("10.9.0.50", None), FixedIpSpec(subnet_id=second)))
    assert addresses(port) == ["10.9.0.50", "10.0.0.1", "10.9.0.1"]
    assert [fixed_ip.subnet_id for fixed_ip in port.port.fixed_ips] == [second, first, second]
    changed = world.store.update_port(port.port.id, {"fixed_ips": fixed(None, "10.0.0.1")}, "tester").value
    assert addresses(changed) == ["10.9.0.50", "10.0.0.1"]


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        (FixedIpSpec(IPv4Address("10.8.0.1")), "address_outside_subnet"),
        (FixedIpSpec(subnet_id="elsewhere"), "subnet_unknown"),
    ],
)
def test_what_is_in_none_of_the_subnets(world: Any, wanted: FixedIpSpec, code: str) -> None:
    network = make(world, FIRST, SECOND)
    with pytest.raises(Invalid) as refused:
        world.port(network, fixed_ips=(wanted,))
    assert refused.value.code == code


def test_an_address_of_another_subnet_than_the_one_named(world: Any) -> None:
    network = make(world, FIRST, SECOND)
    wanted = FixedIpSpec(IPv4Address("10.0.0.3"), network.spec.subnets[1].id)
    with pytest.raises(Invalid, match="10.0.0.3 is not in 10.9.0.0/24"):
        world.port(network, fixed_ips=(wanted,))


# -- gateways of nodes


def test_a_node_is_the_gateway_in_those_subnets_that_its_ports_are_of(world: Any) -> None:
    for name in ("n1", "n2"):
        world.node(name)
    network = make(world, FIRST, SECOND)
    one, other = world.port(network), world.port(network, fixed_ips=fixed("10.9.0.50"))
    world.report("n1", one)
    world.report("n2", other)
    assert gateways(world, "n1") == ["10.0.0.2"]
    assert gateways(world, "n2") == ["10.9.0.1"]
    world.report("n2", one, other)
    world.report("n1")
    world.report("n2", one, other)
    assert gateways(world, "n2") == ["10.0.0.3", "10.9.0.1"]
    node = world.store.get_node("n2").node
    found = [
        str(node.gateway(network.id, one.cidr)) for one in world.store.load_snapshot().networks[network.id].subnets
    ]
    assert found == ["10.0.0.3", "10.9.0.1"]


def test_the_gateway_follows_the_addresses_of_a_port(world: Any) -> None:
    world.node("n1")
    network = make(world, FIRST, SECOND)
    port = world.port(network)
    world.report("n1", port)
    world.store.update_port(port.port.id, {"fixed_ips": fixed("10.0.0.1", "10.9.0.50")}, "tester")
    assert gateways(world, "n1") == ["10.0.0.2", "10.9.0.1"]
    world.store.update_port(port.port.id, {"fixed_ips": fixed("10.9.0.50")}, "tester")
    world.clock.now += 601
    assert world.store.release_idle_gateways(600).value == 1
    assert gateways(world, "n1") == ["10.9.0.1"]
    world.store.update_port(port.port.id, {"fixed_ips": fixed("10.0.0.1", "10.9.0.50")}, "tester")
    world.store.delete_port(port.port.id, "tester")
    world.clock.now += 601
    assert world.store.release_idle_gateways(600).value == 2


def test_a_vm_that_moves_finds_its_gateways(world: Any) -> None:
    for name in ("n1", "n2"):
        world.node(name)
    network = make(world, FIRST, SECOND)
    port = world.port(network, fixed_ips=fixed("10.0.0.1", "10.9.0.50"))
    world.report("n1", port)
    world.store.prepare_binding(port.port.id, "n2", "tester")
    assert gateways(world, "n2") == ["10.0.0.3", "10.9.0.2"]


def test_ports_of_a_subnet_that_is_full_wait_and_the_others_do_not(world: Any) -> None:
    network = make(world, "10.0.0.0/30", SECOND)
    ports = [world.port(network) for _ in range(3)]
    world.node("n1")
    said = world.report("n1", *ports)
    assert [said[port.port.id] for port in ports][2] == "bound"
    assert all("no address left" in said[port.port.id] for port in ports[:2])


# -- subnets that come and go


def test_a_subnet_comes_and_goes(world: Any) -> None:
    network = make(world, FIRST)
    route = HostRoute(IPv4Network("192.0.2.0/24"), IPv4Address("10.9.0.9"))
    more = subnet(SECOND, dns_servers=(IPv4Address("10.9.0.53"),), host_routes=(route,))
    grown = put(world, network, FIRST, more, THIRD)
    assert cidrs(grown) == [FIRST, SECOND, THIRD]
    assert grown.spec.subnets[0] == network.spec.subnets[0]
    assert grown.spec.subnets[1].host_routes == (route,)
    assert put(world, network, FIRST, more, THIRD).revision == grown.revision  # the same is no change
    port = world.port(network, fixed_ips=fixed("10.7.0.5"))
    with pytest.raises(Conflict, match="the first is 10.7.0.5") as refused:
        put(world, network, FIRST)
    assert refused.value.code == "subnet_in_use"
    assert cidrs(world.store.get_network(network.id)) == [FIRST, SECOND, THIRD]
    world.store.delete_port(port.port.id, "tester")
    assert cidrs(put(world, network, THIRD, FIRST)) == [FIRST, THIRD]  # in order of creation
    # one that comes again is the last one
    assert cidrs(put(world, network, SECOND, FIRST, THIRD)) == [FIRST, THIRD, SECOND]
    world.store.delete_network(network.id, "tester")


def test_an_address_that_is_kept_keeps_its_subnet(make_world: Any) -> None:
    world = make_world(holds=HoldPolicy(force=False, timeout=600))
    network = make(world, FIRST, SECOND)
    port = world.port(network, fixed_ips=fixed("10.9.0.5"))
    now = world.clock()
    world.store.record_leases([LeaseRecord(port.port.id, IPv4Address("10.9.0.5"), "bound", now, now + 3600)])
    world.store.delete_port(port.port.id, "tester")
    with pytest.raises(Conflict, match="the first is 10.9.0.5") as refused:
        put(world, network, FIRST)
    assert refused.value.code == "subnet_in_use"
    world.clock.now += 601
    world.store.end_holds()
    assert cidrs(put(world, network, FIRST)) == [FIRST]


def test_a_subnet_that_goes_takes_the_nodes_gateways_with_it(world: Any) -> None:
    world.node("n1")
    network = make(world, FIRST, SECOND)
    ports = [world.port(network), world.port(network, fixed_ips=fixed("10.9.0.50"))]
    world.report("n1", *ports)
    world.store.delete_port(ports[1].port.id, "tester")
    assert gateways(world, "n1") == ["10.0.0.2", "10.9.0.1"]
    before = world.store.revision()
    put(world, network, FIRST)
    assert gateways(world, "n1") == ["10.0.0.2"]
    told = {change.id for change in world.store.changes_since(before)[1]}
    assert told == {network.id, "n1"}


def test_ranges_of_a_subnet_change_beside_the_others(world: Any) -> None:
    network = make(world, FIRST, SECOND)
    reserved = AddressRange(IPv4Address("10.9.0.1"), IPv4Address("10.9.0.99"))
    put(world, network, FIRST, subnet(SECOND, reserved=(reserved,)))
    wanted = (FixedIpSpec(subnet_id=network.spec.subnets[1].id),)
    assert addresses(world.port(network, fixed_ips=wanted)) == ["10.9.0.100"]
    outside = AddressRange(IPv4Address("10.0.0.1"), IPv4Address("10.0.0.1"))
    with pytest.raises(Invalid) as refused:
        put(world, network, FIRST, subnet(SECOND, reserved=(outside,)))
    assert refused.value.field == "subnets.1.reserved.0"


def test_each_subnet_has_its_gateway(world: Any) -> None:
    network = make(world, FIRST, SECOND, gateway_mode=GatewayMode.SHARED)
    grown = put(world, network, FIRST, SECOND, subnet(THIRD, gateway=IPv4Address("10.7.0.254")))
    assert [str(one.gateway) for one in grown.spec.subnets] == ["10.0.0.1", "10.9.0.1", "10.7.0.254"]
    with pytest.raises(Invalid) as refused:
        put(world, network, FIRST, subnet(SECOND, gateway=IPv4Address("10.9.0.2")), THIRD)
    assert (refused.value.code, refused.value.field) == ("immutable", "subnets.1.gateway")
    routed = make(world, "10.20.0.0/24", gateway_mode=GatewayMode.PER_HOST, name="other")
    with pytest.raises(Invalid) as refused:
        put(world, routed, "10.20.0.0/24", subnet("10.21.0.0/24", gateway=IPv4Address("10.21.0.1")))
    assert (refused.value.code, refused.value.field) == ("gateway_invalid", "subnets.1.gateway")


@pytest.mark.parametrize(
    ("wanted", "code", "field"),
    [
        ((), "subnets_invalid", "subnets"),
        (tuple(f"10.{index}.0.0/24" for index in range(MOST_SUBNETS + 1)), "subnets_invalid", "subnets"),
        ((FIRST, "10.0.0.0/16"), "subnets_invalid", "subnets.1.cidr"),
        ((SECOND, SECOND), "subnets_invalid", "subnets.1.cidr"),
        ((FIRST, "127.0.0.0/24"), "cidr_reserved", "subnets.1.cidr"),
        ((FIRST, "10.9.0.0/31"), "cidr_invalid", "subnets.1.cidr"),
        ((FIRST, "10.30.0.128/25"), "cidr_overlap", "subnets.1.cidr"),
    ],
)
def test_what_cannot_be(world: Any, wanted: tuple[str, ...], code: str, field: str) -> None:
    """When a network is made, and later."""
    make(world, "10.29.0.0/24", "10.30.0.0/24", name="sibling")
    with pytest.raises(StoreError) as refused:
        make(world, *wanted)
    assert (refused.value.code, refused.value.field) == (code, field)
    network = make(world, FIRST)
    with pytest.raises(StoreError) as refused:
        put(world, network, *wanted)
    assert (refused.value.code, refused.value.field) == (code, field)


def test_a_static_route_holds_its_subnet(world: Any) -> None:
    network = make(world, FIRST, SECOND)
    route = StaticRoute(IPv4Network("192.168.0.0/16"), IPv4Address("10.9.0.9"))
    world.store.update_network(network.id, {"routes": (route,)}, "tester")
    with pytest.raises(Invalid) as refused:
        put(world, network, FIRST)
    assert refused.value.code == "route_invalid"
    with pytest.raises(Invalid) as refused:
        put(world, network, FIRST, SECOND, "192.168.7.0/24")
    assert (refused.value.code, refused.value.field) == ("route_invalid", "routes.0.destination")
    world.store.update_network(network.id, {"routes": (), "subnets": (subnet(FIRST),)}, "tester")


def test_a_range_that_another_project_uses(world: Any) -> None:
    """Its ports are translated to carrier addresses if the network was made so; a network is not made so later."""
    make(world, SECOND, THIRD, name="red", project_id="red")
    plain = make(world, FIRST)
    with pytest.raises(Conflict) as refused:
        put(world, plain, FIRST, THIRD)
    assert (refused.value.code, refused.value.field) == ("cidr_overlap", "subnets.1.cidr")
    sharing = make(world, "10.50.0.0/24", SECOND, name="sharing")
    assert sharing.carrier_nat
    assert cidrs(put(world, sharing, "10.50.0.0/24", SECOND, THIRD))[2] == THIRD
    make(world, "10.50.0.0/24", name="later", project_id="green")
    assert put(world, sharing, "10.50.0.0/24").carrier_nat


def test_a_network_that_joins_a_router_must_fit_with_each_subnet(world: Any) -> None:
    make(world, FIRST, SECOND, name="red", project_id="red")
    one = make(world, "10.60.0.0/24", THIRD, name="one", router="isolated")
    with pytest.raises(Conflict) as refused:
        make(world, "10.61.0.0/24", SECOND, name="two", router=world.store.list_networks(name="red")[0].id)
    assert (refused.value.code, refused.value.field) == ("cidr_overlap", "router")
    joined = make(world, "10.62.0.0/24", name="three", router=one.id)
    assert joined.router_key == one.router_key
    with pytest.raises(Conflict) as refused:
        put(world, joined, "10.62.0.0/24", "10.7.0.0/25")
    assert refused.value.code == "cidr_overlap"


# -- external networks


def external(world: Any, *wanted: SubnetSpec) -> NetworkRecord:
    spec = NetworkSpec(
        name="ext", kind=NetworkKind.FLAT, physical_network="physnet-ext", external=True, dhcp=False, subnets=wanted
    )
    return world.store.create_network(spec, "tester").value


def outside(cidr: str, **fields: Any) -> SubnetSpec:
    return subnet(cidr, gateway=IPv4Network(cidr)[1], **fields)


def test_a_node_leaves_an_external_network_by_one_address(world: Any) -> None:
    """Of the first subnet that has room; a node whose address is chosen has it, of whichever subnet it is."""
    for name in ("n1", "n2"):
        world.node(name, physical_networks=("physnet1", "physnet-ext"))
    chosen = {"physnet-ext": IPv4Address("198.51.100.77")}
    world.node("n3", physical_networks=("physnet1", "physnet-ext"), snat_addresses=chosen)
    one = AddressRange(IPv4Address("203.0.113.9"), IPv4Address("203.0.113.9"))
    network = external(world, outside("203.0.113.0/24", allocation_ranges=(one,)), outside("198.51.100.0/24"))
    held = {record.node.name: record.node.snat_addresses for record in world.store.list_nodes()}
    assert {name: [str(one.address) for one in own] for name, own in held.items()} == {
        "n1": ["203.0.113.9"],
        "n2": ["198.51.100.2"],
        "n3": ["198.51.100.77"],
    }
    assert not any(world.store.node_problems(name) for name in held)
    with pytest.raises(Conflict):
        put(world, network, outside("203.0.113.0/24", allocation_ranges=(one,)))


def test_a_node_without_an_address_has_one_of_a_new_subnet(world: Any) -> None:
    one = AddressRange(IPv4Address("203.0.113.9"), IPv4Address("203.0.113.9"))
    first = outside("203.0.113.0/24", allocation_ranges=(one,))
    network = external(world, first)
    for name in ("n1", "n2"):
        world.node(name, physical_networks=("physnet1", "physnet-ext"))
    assert world.store.get_node("n2").node.snat_addresses == ()
    own = make(world, FIRST, own_snat_address=True)
    world.report("n2", world.port(own))
    put(world, network, first, outside("198.51.100.0/24"))
    held = world.store.get_node("n2").node.snat_addresses
    assert [(str(one.address), one.for_network_id) for one in held] == [
        ("198.51.100.2", None),
        ("198.51.100.3", own.id),
    ]


def test_a_pool_holds_its_subnet(world: Any) -> None:
    network = external(world, outside("203.0.113.0/24"), outside("198.51.100.0/24"))
    part = AddressRange(IPv4Address("198.51.100.10"), IPv4Address("198.51.100.20"))
    world.store.create_floating_ip_pool(FloatingIpPoolSpec("public", network.id, (part,)), "tester")
    with pytest.raises(Conflict) as refused:
        put(world, network, outside("203.0.113.0/24"))
    assert refused.value.code == "subnet_in_use"
