"""Routes, NAT exemptions, routers, and SNAT addresses of a network's own."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from controller.store.network_options import TAKEN_RANGES
from controller.store.specs import AddressRange, Conflict, FixedIpSpec, HostAddress, Invalid, NetworkRecord, StoreError
from flows.features import routing
from flows.model import GatewayMode, NetworkKind, SnatAddress, StaticRoute
from flows.pipeline import CARRIER_BASE, CARRIER_MASK

EXTERNAL = {"gateway_mode": GatewayMode.EXTERNAL, "gateway": IPv4Address("10.0.0.1")}
RANGES = (IPv4Network("192.0.2.0/24"),)
RELAYS = (IPv4Address("203.0.113.1"), IPv4Address("10.99.0.1"))


def route(destination: str, next_hop: str = "10.0.0.9") -> StaticRoute:
    return StaticRoute(IPv4Network(destination), IPv4Address(next_hop))


def update(world: Any, network: NetworkRecord, **changes: Any) -> NetworkRecord:
    changed: NetworkRecord = world.store.update_network(network.id, changes, "tester").value
    return changed


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({}, {"routes": (route("10.9.0.0/16"),), "snat_exempt": RANGES, "own_snat_address": True}),
        (EXTERNAL, {"force_snat": RANGES, "snat_exempt": RANGES, "dhcp_relays": RELAYS}),
        ({"gateway_mode": GatewayMode.NONE}, {"dhcp_relays": RELAYS}),
    ],
)
def test_options_are_given_at_first_or_later(world: Any, fields: Any, options: Any) -> None:
    made = world.network(**fields, **options)
    model = world.store.load_snapshot().networks[made.id]
    for name, value in options.items():
        assert getattr(made.spec, name) == getattr(model, name) == value
    none = {name: type(value)() for name, value in options.items()}
    assert all(not getattr(update(world, made, **none).spec, name) for name in options)
    assert update(world, made, **options).spec == made.spec


@pytest.mark.parametrize(
    ("fields", "unfit"),
    [
        ({}, {"force_snat", "dhcp_relays"}),
        ({"gateway_mode": GatewayMode.SHARED}, {"force_snat", "dhcp_relays"}),
        (EXTERNAL, {"routes", "own_snat_address"}),
        ({"gateway_mode": GatewayMode.NONE}, {"routes", "snat_exempt", "force_snat", "own_snat_address"}),
        (EXTERNAL | {"external": True}, {"routes", "snat_exempt", "force_snat", "own_snat_address", "dhcp_relays"}),
    ],
)
def test_each_option_has_its_gateway_modes(world: Any, fields: Any, unfit: set[str]) -> None:
    options = {
        "routes": (route("10.9.0.0/16"),),
        "snat_exempt": RANGES,
        "force_snat": RANGES,
        "own_snat_address": True,
        "dhcp_relays": RELAYS,
    }
    network = world.network(**fields)
    refused = set()
    for name, value in options.items():
        try:
            update(world, network, **{name: value})
        except Invalid as error:
            assert (error.code, error.field) == ("option_unfit", name)
            refused.add(name)
        with pytest.raises(StoreError) as again:  # the range is in use, if nothing else is wrong
            world.network(**fields, **{name: value})
        assert (again.value.code == "option_unfit") == (name in unfit)
    assert refused == unfit


@pytest.mark.parametrize(
    ("routes", "field"),
    [
        ([route("10.9.0.0/16", "10.0.1.9")], "routes.0.next_hop"),
        ([route("10.9.0.0/16", "10.0.0.0")], "routes.0.next_hop"),
        ([route("10.9.0.0/16", "10.0.0.255")], "routes.0.next_hop"),
        ([route("10.9.0.0/16", "10.0.0.1")], "routes.0.next_hop"),
        ([route("0.0.0.0/0")], "routes.0.destination"),
        ([route("10.0.0.128/25")], "routes.0.destination"),
        ([route("10.0.0.0/8")], "routes.0.destination"),
        ([route("127.0.0.0/8")], "routes.0.destination"),
        ([route("169.254.169.254/32")], "routes.0.destination"),
        ([route("224.0.0.0/4")], "routes.0.destination"),
        ([route("10.9.0.0/16"), route("10.9.0.0/16", "10.0.0.8")], "routes.1.destination"),
    ],
)
def test_routes_that_lead_nowhere(world: Any, routes: list[StaticRoute], field: str) -> None:
    network = world.network(gateway_mode=GatewayMode.SHARED)
    with pytest.raises(Invalid) as refused:
        update(world, network, routes=tuple(routes))
    assert (refused.value.code, refused.value.field) == ("route_invalid", field)
    update(world, network, routes=(route("10.9.0.0/16"), route("10.9.1.0/24")))


# -- routers


def test_a_network_is_routed_alone_or_with_another(world: Any) -> None:
    one, two = world.network("10.0.0.0/24"), world.network("10.0.1.0/24")
    alone = world.network("10.0.2.0/24", router="isolated")
    foreign = world.network("10.0.3.0/24", project_id="red", router=one.id)
    assert one.router_key == two.router_key == foreign.router_key != alone.router_key
    # the next one of the other project is not drawn along
    assert world.network("10.0.4.0/24", project_id="red").router_key not in (one.router_key, alone.router_key)
    assert world.network("10.0.5.0/24").router_key == one.router_key


def test_the_router_can_be_changed_and_back(world: Any) -> None:
    one, two = world.network("10.0.0.0/24"), world.network("10.0.1.0/24")
    assert one.router_key == one.key
    left = update(world, one, router="isolated")  # the others keep its key as theirs
    assert left.router_key not in (one.router_key, one.key, two.key)
    assert update(world, left, router="isolated").revision == left.revision
    model = world.store.load_snapshot()
    assert model.networks[one.id].router_key == left.router_key
    joined = update(world, two, router=one.id)
    assert joined.router_key == left.router_key
    with pytest.raises(Conflict) as named:
        update(world, one, router="project")
    assert (named.value.code, named.value.details) == ("network_in_use", {"networks": 1})
    update(world, two, router="project")
    assert update(world, one, router="project").router_key == world.store.get_network(two.id).router_key


def test_one_that_others_joined_stays(world: Any) -> None:
    one = world.network("10.0.0.0/24")
    world.network("10.0.1.0/24", project_id="red", router=one.id)
    with pytest.raises(Conflict) as refused:
        world.store.delete_network(one.id, "tester")
    assert (refused.value.code, refused.value.details) == ("network_in_use", {"networks": 1})


@pytest.mark.parametrize("what", ["nothing", "external", "itself"])
def test_what_cannot_be_joined(world: Any, what: str) -> None:
    network = world.network("10.0.0.0/24")
    wanted = {"nothing": "nothing", "external": world.external().id, "itself": network.id}[what]
    with pytest.raises(Invalid) as refused:
        update(world, network, router=wanted)
    assert (refused.value.code, refused.value.field) == ("router_invalid", "router")


def test_an_external_network_has_no_router(world: Any) -> None:
    with pytest.raises(Invalid) as refused:
        world.external(router="isolated")
    assert refused.value.code == "router_invalid"


def test_no_two_ranges_overlap_in_one_router(world: Any) -> None:
    one = world.network("10.0.0.0/24", name="secret")
    same = world.network("10.0.0.128/25", project_id="red")
    with pytest.raises(Conflict, match="of another project") as refused:
        update(world, same, router=one.id)
    assert (refused.value.code, refused.value.field) == ("cidr_overlap", "router")
    with pytest.raises(Conflict):
        world.network("10.0.0.0/25", project_id="green", router=one.id)
    world.network("10.0.1.0/24", project_id="red", router=one.id)
    with pytest.raises(Conflict):
        world.network("10.0.1.0/24", project_id="blue")  # would be routed with it
    world.network("10.0.1.0/24", project_id="blue", router="isolated")


# -- SNAT addresses of a network's own


@pytest.fixture
def nodes(world: Any) -> None:
    world.external(allocation_ranges=(AddressRange(IPv4Address("203.0.113.100"), IPv4Address("203.0.113.109")),))
    for name in ("n1", "n2"):
        world.node(name, physical_networks=("physnet1", "physnet-ext"))


def snat(world: Any, node: str) -> list[tuple[int, str | None]]:
    """Last byte, and the network that it is for."""
    held: tuple[SnatAddress, ...] = world.store.load_snapshot().nodes[node].snat_addresses
    assert world.replayed().nodes[node].snat_addresses == held
    return [(int(one.address) & 0xFF, one.for_network_id) for one in held]


def test_a_node_holds_one_more_while_it_has_ports(world: Any, nodes: None) -> None:
    network = world.network(own_snat_address=True)
    port = world.port(network)
    assert snat(world, "n1") == [(100, None)]
    world.report("n1", port)
    assert snat(world, "n1") == [(100, None), (102, network.id)]
    world.report("n1")
    world.store.release_idle_gateways(1.0)
    assert len(snat(world, "n1")) == 2
    world.report("n1", port)  # back in time
    world.clock.now += 2
    world.store.release_idle_gateways(1.0)
    assert len(snat(world, "n1")) == 2
    world.report("n1")
    world.clock.now += 2
    world.store.release_idle_gateways(1.0)
    assert snat(world, "n1") == [(100, None)]
    assert snat(world, "n2") == [(101, None)]


def test_it_comes_and_goes_with_the_option(world: Any, nodes: None) -> None:
    network = world.network()
    world.report("n1", world.port(network))
    world.report("n2", world.port(network))
    update(world, network, own_snat_address=True)
    assert (snat(world, "n1")[1:], snat(world, "n2")[1:]) == ([(102, network.id)], [(103, network.id)])
    update(world, network, own_snat_address=False)
    assert (snat(world, "n1"), snat(world, "n2")) == ([(100, None)], [(101, None)])


def test_it_is_where_the_network_leaves(world: Any, nodes: None) -> None:
    network = world.network(own_snat_address=True)
    world.report("n1", world.port(network))
    other = world.external("198.51.100.0/24", "198.51.100.1", physical_network="physnet-two")
    assert snat(world, "n1")[1:] == [(102, network.id)]
    update(world, network, external_network_id=other.id)
    assert snat(world, "n1") == [(100, None)]  # which does not reach it
    world.node("n1", physical_networks=("physnet1", "physnet-ext", "physnet-two"), datapath_id=0x101)
    held = world.store.load_snapshot().nodes["n1"].snat_addresses
    assert [(one.network_id, one.for_network_id) for one in held if one.for_network_id] == [(other.id, network.id)]
    update(world, network, external_network_id=None)
    assert (102, network.id) not in snat(world, "n1") and len(snat(world, "n1")) == 3


def test_where_none_is_left_the_node_says_so_and_tries_again(world: Any) -> None:
    world.external("203.0.113.0/30")
    world.node(physical_networks=("physnet1", "physnet-ext"))
    network = world.network(own_snat_address=True)
    port = world.port(network)
    assert world.report("n1", port) == {port.port.id: "bound"}
    line = "no SNAT address of its own for network 'net': none is left"
    assert world.store.node_problems("n1") == (line,)
    assert snat(world, "n1") == [(2, None)]
    update(world, network, own_snat_address=False)
    assert world.store.node_problems("n1") == ()


def test_it_is_of_the_pool_that_the_nodes_agent_names(world: Any) -> None:
    world.external()
    pool = AddressRange(IPv4Address("203.0.113.64"), IPv4Address("203.0.113.65"))
    world.node(physical_networks=("physnet1", "physnet-ext"), snat_addresses={"physnet-ext": pool})
    networks = [world.network(f"10.0.{index}.0/24", own_snat_address=True) for index in range(2)]
    world.report("n1", *(world.port(network) for network in networks))
    assert snat(world, "n1") == [(64, None), (65, networks[0].id)]
    assert len(world.store.node_problems("n1")) == 1


def test_it_goes_with_the_network(world: Any, nodes: None) -> None:
    network = world.network(own_snat_address=True)
    port = world.port(network)
    world.report("n1", port)
    world.store.delete_port(port.port.id, "tester")
    world.store.delete_network(network.id, "tester")
    assert snat(world, "n1") == [(100, None)]
    world.node("n3", physical_networks=("physnet-ext",))
    assert snat(world, "n3") == [(103, None)]  # released last, so used last


def test_it_waits_for_an_external_network(world: Any) -> None:
    world.node(physical_networks=("physnet1", "physnet-ext"))
    network = world.network(own_snat_address=True)
    world.report("n1", world.port(network))
    assert snat(world, "n1") == []
    world.external()
    assert snat(world, "n1") == [(2, None), (3, network.id)]


def test_it_comes_with_a_port_whose_interface_was_there_before(world: Any, nodes: None) -> None:
    network, id_ = world.network(own_snat_address=True), "7d5ea0a2-5a55-4bd2-b1e0-0d63a3b0a077"
    world.report("n1", id_)
    world.port(network, id=id_)
    assert snat(world, "n1") == [(100, None), (102, network.id)]


def test_it_does_not_stand_in_for_the_one_that_all_share(world: Any) -> None:
    external, wanted = world.external(), IPv4Address("203.0.113.50")
    taken = world.port(external, fixed_ips=(FixedIpSpec(wanted),))
    world.node(physical_networks=("physnet1", "physnet-ext"), snat_addresses={"physnet-ext": wanted})
    network = world.network(own_snat_address=True)
    port = world.port(network)
    world.report("n1", port)
    assert snat(world, "n1") == [(2, network.id)]
    assert world.store.node_problems("n1") == (
        "no SNAT on network 'ext': snat_address 203.0.113.50 is in use by a port",
    )
    world.store.delete_port(taken.port.id, "tester")
    world.report("n1", port)
    assert snat(world, "n1") == [(50, None), (2, network.id)]


def test_an_external_network_that_goes_leaves_it_to_the_next_one(world: Any, nodes: None) -> None:
    network = world.network(own_snat_address=True)
    world.report("n1", world.port(network))
    world.external("198.51.100.0/24", "198.51.100.1", physical_network="physnet-ext", kind=NetworkKind.VLAN)
    first = next(one for one in world.store.list_networks() if one.spec.external)
    world.store.delete_network(first.id, "tester")
    held = world.store.load_snapshot().nodes["n1"].snat_addresses
    assert [str(one.address) for one in held] == ["198.51.100.2", "198.51.100.4"]
    assert world.replayed() == world.store.load_snapshot()


def test_the_address_of_the_nodes_host(world: Any) -> None:
    external = world.external()
    choice = HostAddress(IPv4Address("203.0.113.9"))
    spec = world.node(physical_networks=("physnet-ext",), snat_addresses={"physnet-ext": choice})
    record = world.store.get_node("n1")
    assert record.spec.snat_addresses == spec.snat_addresses
    assert record.node.snat_addresses == (SnatAddress(external.id, choice.address, host=True),)
    other = world.node("n2", physical_networks=("physnet-ext",), snat_addresses={"physnet-ext": choice})
    assert world.store.get_node("n2").problems == (
        f"no SNAT on network 'ext': snat_address {other.snat_addresses['physnet-ext']} is in use by node n1",
    )


def test_what_no_router_forwards_is_no_networks_range() -> None:
    carriers = IPv4Network((CARRIER_BASE, str(IPv4Address(CARRIER_MASK))))
    assert set(TAKEN_RANGES) == {*routing.MARTIANS, routing.MULTICAST, carriers}
