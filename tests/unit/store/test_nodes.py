from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest

from controller.store.specs import AddressRange, Conflict, FixedIpSpec, InterfaceReport, Invalid, NotFound
from flows.model import DatapathType, Neighbour, NetworkAddress, NetworkKind, Node, SnatAddress, Uplink

HOP = IPv4Address("203.0.113.1")


def snat(world: Any, name: str) -> list[str]:
    return [str(held.address) for held in world.store.get_node(name).node.snat_addresses]


def problems(world: Any, name: str) -> list[str]:
    return list(world.store.node_problems(name))


def within(first: str, last: str) -> AddressRange:
    return AddressRange(IPv4Address(first), IPv4Address(last))


def test_put_is_idempotent(world: Any) -> None:
    spec = world.node(versions={"agent": "1"}, tunnel_address=IPv4Address("192.0.2.1"))
    assert world.store.get_node("n1").spec == spec
    revision = world.store.revision()
    assert world.store.put_node(spec, "n1").revision == revision
    newer = world.store.put_node(replace(spec, versions={"agent": "2"}), "n1")
    assert newer.revision == newer.value.revision == revision + 1


def test_a_datapath_id_is_one_nodes(world: Any) -> None:
    spec = world.node("n1")
    with pytest.raises(Conflict) as refused:
        world.node("n2", datapath_id=spec.datapath_id)
    assert refused.value.code == "datapath_id_in_use"
    for bad in (0, 2**64):
        with pytest.raises(Invalid):
            world.node("n2", datapath_id=bad)
    world.node("n2", datapath_id=2**64 - 1)
    assert world.store.load_snapshot().nodes["n2"].datapath_id == 2**64 - 1


def test_a_reinstalled_node_starts_afresh_under_its_key(world: Any) -> None:
    external = world.external()
    port = world.port(world.network())
    before = world.node(physical_networks=("physnet1", "physnet-ext"))
    world.report("n1", port)
    for hop in (HOP, IPv6Address("2001:db8::1")):
        world.store.learn_neighbour("n1", external.id, hop, "aa:bb:cc:00:00:01")
    address = snat(world, "n1")
    world.store.put_node(replace(before, datapath_id=0xABC), "n1")
    after = world.store.get_node("n1").node
    assert (after.key, after.datapath_id, after.neighbours, after.uplinks) == (1, 0xABC, (), ())
    assert snat(world, "n1") == address
    assert world.again(port).port.binding is None


def test_snat_addresses_follow_nodes_and_external_networks(world: Any) -> None:
    world.node("n1", physical_networks=("physnet1", "physnet-ext"))
    world.node("n2", physical_networks=("physnet1",))
    n3 = world.node(
        "n3",
        physical_networks=("physnet-ext",),
        snat_addresses={"physnet-ext": IPv4Address("203.0.113.2")},
    )
    revision = world.store.revision()
    external = world.external()
    assert world.store.revision() == revision + 3  # the network and two nodes, in one transaction
    assert (snat(world, "n1"), snat(world, "n2"), snat(world, "n3")) == (["203.0.113.3"], [], ["203.0.113.2"])
    world.store.put_node(replace(n3, snat_addresses={"physnet-ext": IPv4Address("203.0.113.9")}), "n3")
    assert snat(world, "n3") == ["203.0.113.9"]
    world.store.put_node(replace(n3, physical_networks=("physnet1",)), "n3")
    assert snat(world, "n3") == []
    world.store.delete_network(external.id, "tester")
    assert snat(world, "n1") == []


def test_a_configured_snat_address_may_be_reserved_but_not_taken(world: Any) -> None:
    reserved = (AddressRange(IPv4Address("203.0.113.2"), IPv4Address("203.0.113.250")),)
    external = world.external(reserved=reserved)
    world.port(external, fixed_ips=(FixedIpSpec(IPv4Address("203.0.113.251")),))
    configured = {"physnet-ext": IPv4Address("203.0.113.10")}
    world.node("n1", physical_networks=("physnet-ext",), snat_addresses=configured)
    assert snat(world, "n1") == ["203.0.113.10"]
    for address, why in (
        ("203.0.113.10", "is in use by node n1"),
        ("203.0.113.251", "is in use by a port"),
        ("203.0.113.1", "is in use by a gateway"),
        ("203.0.113.255", "is reserved in 203.0.113.0/24"),
    ):
        wanted = {"physnet-ext": IPv4Address(address)}
        world.node("n2", physical_networks=("physnet-ext",), snat_addresses=wanted)
        assert (snat(world, "n2"), problems(world, "n2")) == (
            [],
            [f"no SNAT on network 'ext': snat_address {address} {why}"],
        )


def test_a_choice_outside_the_network_gives_no_address(world: Any) -> None:
    """Not another one either: what is outside may let pass only what was chosen."""
    world.external()
    spec = world.node(physical_networks=("physnet-ext", "physnet1"))
    assert (snat(world, "n1"), problems(world, "n1")) == (["203.0.113.2"], [])
    for choice in (IPv4Address("192.0.2.1"), within("192.0.2.1", "192.0.2.9")):
        world.store.put_node(replace(spec, snat_addresses={"physnet-ext": choice}), "n1")
        line = f"no SNAT on network 'ext': snat_address {choice} is outside 203.0.113.0/24"
        assert (snat(world, "n1"), problems(world, "n1")) == ([], [line])
    port = world.port(world.network())
    assert world.report("n1", port) == {port.port.id: "bound"}
    second = world.external("192.0.2.0/24", "192.0.2.254", kind=NetworkKind.VLAN, segment=7)
    world.report("n1", port)
    # the choice was meant for the other network of the same physical network
    assert problems(world, "n1") == []
    assert sorted(snat(world, "n1")) == ["192.0.2.1", "203.0.113.3"]
    world.store.delete_network(second.id, "tester")
    world.report("n1", port)
    assert (snat(world, "n1"), problems(world, "n1")) == ([], [line])


def test_a_pool_gives_what_is_free_in_it_and_nothing_else(world: Any) -> None:
    reserved = (AddressRange(IPv4Address("203.0.113.64"), IPv4Address("203.0.113.65")),)
    allocation = (AddressRange(IPv4Address("203.0.113.100"), IPv4Address("203.0.113.199")),)
    external = world.external(reserved=reserved, allocation_ranges=allocation)
    world.port(external, fixed_ips=(FixedIpSpec(IPv4Address("203.0.113.66")),))
    pool = {"physnet-ext": within("203.0.113.60", "203.0.113.68")}
    names = [f"n{number}" for number in range(1, 8)]
    specs = [world.node(name, physical_networks=("physnet-ext",), snat_addresses=pool) for name in names]
    held = [snat(world, name) for name in names]
    assert held == [[f"203.0.113.{last}"] for last in (60, 61, 62, 63, 67, 68)] + [[]]
    line = "no SNAT on network 'ext': no address is left in snat_address 203.0.113.60-203.0.113.68"
    assert [problems(world, name) for name in names] == [[]] * 6 + [[line]]
    world.store.put_node(replace(specs[0], versions={"agent": "2"}), "n1")
    assert snat(world, "n1") == ["203.0.113.60"]  # it keeps what it has
    for name in ("n3", "n1"):
        world.store.delete_node(name, "tester")
    revision = world.store.revision()
    world.report("n7")
    assert (snat(world, "n7"), problems(world, "n7")) == (["203.0.113.62"], [])  # released longest ago
    assert world.store.revision() == revision + 1
    world.report("n7")
    assert world.store.revision() == revision + 1
    # an address of the allocation range that the pool reaches into is given once
    wide = {"physnet-ext": within("203.0.113.99", "203.0.113.101")}
    world.store.put_node(replace(specs[1], snat_addresses=wide), "n2")
    world.store.put_node(replace(specs[3], snat_addresses=wide), "n4")
    world.node("n8", physical_networks=("physnet-ext",))
    assert [snat(world, name) for name in ("n2", "n4", "n8")] == [
        ["203.0.113.99"],
        ["203.0.113.100"],
        ["203.0.113.101"],
    ]


def test_two_nodes_swap_their_addresses(world: Any) -> None:
    world.external()
    one, two = ({"physnet-ext": IPv4Address(f"203.0.113.{last}")} for last in (10, 11))
    specs = [
        world.node(name, physical_networks=("physnet-ext",), snat_addresses=choice)
        for name, choice in (("n1", one), ("n2", two))
    ]
    world.store.put_node(replace(specs[0], snat_addresses=two), "n1")
    assert (snat(world, "n1"), len(problems(world, "n1"))) == ([], 1)
    world.store.put_node(replace(specs[1], snat_addresses=one), "n2")
    world.report("n1")
    assert (snat(world, "n1"), snat(world, "n2"), problems(world, "n1")) == (["203.0.113.11"], ["203.0.113.10"], [])


def test_a_new_external_network_is_not_refused_for_a_nodes_configuration(world: Any) -> None:
    choices = [within("203.0.113.2", "203.0.113.2"), IPv4Address("203.0.113.2"), None, IPv4Address("203.0.113.2")]
    for number, choice in enumerate(choices, 1):
        wanted = {} if choice is None else {"physnet-ext": choice}
        world.node(f"n{number}", physical_networks=("physnet-ext",), snat_addresses=wanted)
    world.external()
    assert [snat(world, f"n{number}") for number in range(1, 5)] == [[], ["203.0.113.2"], ["203.0.113.3"], []]
    assert [len(record.problems) for record in world.store.list_nodes()] == [1, 0, 0, 1]


def test_a_node_registers_even_where_no_snat_address_is_left(world: Any) -> None:
    world.external("203.0.113.0/30")
    specs = [world.node(name, physical_networks=("physnet-ext",)) for name in ("n1", "n2")]
    assert (snat(world, "n1"), snat(world, "n2")) == (["203.0.113.2"], [])
    why = "no SNAT on network 'ext': no address is left in the allocation ranges of 203.0.113.0/30"
    assert (problems(world, "n1"), problems(world, "n2")) == ([], [why])
    world.store.delete_node("n1", "tester")
    world.store.put_node(specs[1], "n2")
    assert (snat(world, "n2"), problems(world, "n2")) == (["203.0.113.2"], [])


@pytest.mark.parametrize("hop", [HOP, IPv6Address("2001:db8::1"), IPv6Address("fe80::1")], ids=str)
def test_neighbours(world: Any, hop: IPv4Address | IPv6Address) -> None:
    external = world.external()
    world.node(physical_networks=("physnet-ext",))
    assert world.store.learn_neighbour("n1", external.id, hop, "aa:bb:cc:00:00:01").value
    revision = world.store.revision()
    known = world.store.learn_neighbour("n1", external.id, hop, "aa:bb:cc:00:00:01")
    assert (known.value, known.revision) == (False, revision)
    assert world.store.learn_neighbour("n1", external.id, hop, "aa:bb:cc:00:00:02").value
    expected = (Neighbour(external.id, hop, "aa:bb:cc:00:00:02"),)
    assert world.store.load_snapshot().nodes["n1"].neighbours == expected
    assert world.store.get_node("n1").node.neighbours == expected
    for node, network_id in (("n9", external.id), ("n1", "nowhere")):
        with pytest.raises(NotFound):
            world.store.learn_neighbour(node, network_id, hop, "aa:bb:cc:00:00:01")
    world.store.delete_network(external.id, "tester")
    assert world.store.get_node("n1").node.neighbours == ()


def test_everything_a_node_holds_is_in_the_model(world: Any) -> None:
    external, network = world.external(), world.network()
    spec = world.node(physical_networks=("physnet-ext", "physnet1"), datapath_type=DatapathType.SYSTEM)
    port = world.port(network)
    world.report("n1", port)
    uplinks = {"physnet1": 65002, "physnet-ext": 65001}
    world.store.report_interfaces("n1", InterfaceReport(9, uplinks, ()))
    assert world.store.load_snapshot().nodes["n1"] == Node(
        name="n1",
        key=1,
        datapath_id=spec.datapath_id,
        uplinks=(Uplink("physnet-ext", 65001), Uplink("physnet1", 65002)),
        gateways=(NetworkAddress(network.id, IPv4Address("10.0.0.2")),),
        snat_addresses=(SnatAddress(external.id, IPv4Address("203.0.113.2")),),
        datapath_type=DatapathType.SYSTEM,
    )


def test_a_deleted_node_leaves_its_ports_and_frees_its_addresses(world: Any) -> None:
    network = world.network()
    port = world.port(network)
    world.node("n1")
    world.report("n1", port)
    world.store.delete_node("n1", "tester")
    assert world.again(port).port.binding is None
    assert world.store.list_nodes() == []
    with pytest.raises(NotFound):
        world.store.delete_node("n1", "tester")
    world.node("n1")
    assert world.report("n1", port) == {port.port.id: "bound"}
    assert world.store.get_node("n1").node.key == 2


def test_lists(world: Any) -> None:
    for name in ("c", "a", "b"):
        world.node(name)
    assert [record.node.name for record in world.store.list_nodes()] == ["c", "a", "b"]
    assert [record.node.name for record in world.store.list_nodes(limit=1, marker="c")] == ["a"]
