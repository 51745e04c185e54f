"""Many networks of one range, what stands in their way, and which addresses and VLANs a network has."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from controller.store import Store
from controller.store.network_specs import Carving
from controller.store.specs import AddressRange, Conflict, Exhausted, Invalid, NetworkRecord, NetworkSpec, SubnetSpec
from flows.model import GatewayMode, NetworkKind
from tests.unit.store.floating import in_parallel


def carve(world: Any, cidr: str, count: int = 1, size: int | None = None, **fields: Any) -> list[NetworkRecord]:
    subnet = {name: fields.pop(name) for name in ("gateway", "allocation_ranges", "reserved") if name in fields}
    values = {"kind": NetworkKind.VLAN, "physical_network": "physnet1", "name": "x"} | fields
    spec = NetworkSpec(subnets=(SubnetSpec(IPv4Network(cidr), **subnet),), **values)
    made: list[NetworkRecord] = world.store.create_networks(spec, Carving(count, size), "tester").value
    return made


def cidrs(made: list[NetworkRecord]) -> list[str]:
    return [str(record.spec.subnets[0].cidr) for record in made]


def issued(world: Any, network: NetworkRecord) -> list[IPv4Address]:
    """All addresses that its ports can have."""
    got: list[IPv4Address] = []
    while True:
        try:
            got.append(world.port(network).port.fixed_ips[0].address)
        except Exhausted:
            return got


def test_b1_three_networks_of_one_range(world: Any) -> None:
    made = carve(world, "10.0.0.0/16", 3, 64, gateway_mode=GatewayMode.SHARED, assignable=True, mtu=1400)
    shown = [
        (record.spec.name, str(subnet.cidr), str(subnet.gateway), record.spec.segment)
        for record in made
        for subnet in record.spec.subnets
    ]
    assert shown == [
        ("x_0", "10.0.0.0/26", "10.0.0.1", 100),
        ("x_1", "10.0.0.64/26", "10.0.0.65", 101),
        ("x_2", "10.0.0.128/26", "10.0.0.129", 102),
    ]
    common = {(record.spec.mtu, record.spec.assignable, record.spec.project_id, record.spec.kind) for record in made}
    assert common == {(1400, True, None, NetworkKind.VLAN)}
    assert len({record.router_key for record in made}) == 3
    assert [world.store.get_network(record.id) for record in made] == made


@pytest.mark.parametrize(
    ("cidr", "count", "size", "expected"),
    [
        ("10.0.0.0/16", 3, None, "/24"),  # 21845 addresses each, but 256 at most
        ("10.0.0.0/24", 3, None, "/26"),  # rounded down, so that they fit
        ("10.0.0.0/24", 2, 100, "/25"),  # a size that is asked for is rounded up
        ("10.0.0.0/28", 4, 4, "/30"),
    ],
)
def test_b1_sizes(world: Any, cidr: str, count: int, size: int | None, expected: str) -> None:
    made = cidrs(carve(world, cidr, count, size))
    assert len(made) == count and all(text.endswith(expected) for text in made)


def test_b1_one_keeps_its_name(world: Any) -> None:
    (one,) = carve(world, "10.0.0.0/16", size=64, gateway_mode=GatewayMode.SHARED, gateway=IPv4Address("10.0.0.9"))
    assert (one.spec.name, cidrs([one]), one.spec.subnets[0].gateway) == ("x", ["10.0.0.0/26"], IPv4Address("10.0.0.9"))


@pytest.mark.parametrize(
    ("cidr", "count", "size", "fields", "refusal"),
    [
        ("10.0.0.0/30", 2, None, {}, ("carving_invalid", "count")),
        ("10.0.0.0/26", 2, 128, {}, ("carving_invalid", "network_size")),
        ("10.0.0.0/24", 3, 128, {}, ("no_free_cidr", "subnets.0.cidr")),
        ("10.0.0.0/16", 2, 64, {"gateway": IPv4Address("10.0.0.1")}, ("carving_invalid", "subnets.0.gateway")),
        (
            "10.0.0.0/16", 2, 64, {"reserved": (AddressRange(IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")),)},
            ("carving_invalid", "subnets.0.reserved"),
        ),
        ("10.0.0.0/16", 2, 64, {"name": "x" * 254}, ("carving_invalid", "name")),
        ("10.0.0.0/16", 2, 64, {"kind": NetworkKind.FLAT}, ("physical_network_in_use", "physical_network")),
        ("10.0.0.0/16", 2, 64, {"segment": 4094}, ("no_free_vlan", "segment")),
        ("10.0.0.0/16", 2, 64, {"segment": 4095}, ("segment_invalid", "segment")),
        ("100.64.0.0/16", 2, 64, {}, ("cidr_reserved", "subnets.0.cidr")),
        ("10.0.0.0/16", 2, 64, {"assignable": True, "shared": True}, ("assignable_invalid", "assignable")),
    ],
)  # fmt: skip
def test_b1_all_or_none(
    world: Any, cidr: str, count: int, size: int | None, fields: dict[str, Any], refusal: tuple[str, str]
) -> None:
    with pytest.raises((Invalid, Conflict, Exhausted)) as refused:
        carve(world, cidr, count, size, **fields)
    assert (refused.value.code, refused.value.field) == refusal
    assert (world.store.list_networks(), world.store.revision()) == ([], 0)


def test_b2_what_is_in_use_is_passed_over(world: Any) -> None:
    world.network("10.0.1.0/24")
    world.network("10.0.5.64/26")  # a part of one of the candidates
    assert cidrs(carve(world, "10.0.0.0/16", 4, 256)) == [f"10.0.{number}.0/24" for number in (0, 2, 3, 4)]
    assert cidrs(carve(world, "10.0.0.0/16", 2, 256)) == ["10.0.6.0/24", "10.0.7.0/24"]


@pytest.mark.parametrize(("cidr", "count"), [("10.0.1.128/25", 1), ("10.0.1.0/24", 1), ("10.0.0.0/16", 1024)])
def test_b2_inside_of_what_is_in_use_or_without_room_it_is_refused(world: Any, cidr: str, count: int) -> None:
    used = world.network("10.0.1.0/24", name="used", project_id=None)
    size = 64 if count > 1 else None
    with pytest.raises((Conflict, Exhausted)) as refused:
        carve(world, cidr, count, size)
    assert refused.value.status == 409 and refused.value.field == "subnets.0.cidr"
    assert refused.value.code == ("no_free_cidr" if cidr == "10.0.1.0/24" else "cidr_overlap")
    assert [record.id for record in world.store.list_networks()] == [used.id]
    # and without being carved, as ever
    with pytest.raises(Conflict, match=r"overlaps network used"):
        world.network("10.0.1.128/25", project_id=None)


def test_b2_ranges_of_other_projects_are_free_unless_somebody_else_is_there(world: Any) -> None:
    world.network("10.0.0.0/24", project_id="red")
    (own, *_) = carve(world, "10.0.0.0/16", 2, 256, project_id="blue")
    assert (cidrs([own]), own.carrier_nat) == (["10.0.0.0/24"], True)
    # one that can be given to anybody is in the way of everybody
    pooled = carve(world, "10.0.0.0/16", 2, 256, assignable=True)
    assert cidrs(pooled) == ["10.0.2.0/24", "10.0.3.0/24"]
    # whoever has it now
    assert cidrs(carve(world, "10.0.0.0/16", size=256, assignable=True, project_id="green")) == ["10.0.4.0/24"]
    with pytest.raises(Conflict, match="another project"):
        world.network("10.0.2.0/24", project_id="green")
    world.store.associate_network(pooled[0].id, "red", "tester")
    with pytest.raises(Conflict, match="another project"):
        world.network("10.0.2.0/24", project_id="green")


# -- which addresses


def test_b3_network_gateway_and_broadcast_are_never_handed_out(world: Any) -> None:
    flat = world.network("10.0.0.0/28", kind=NetworkKind.FLAT, gateway_mode=GatewayMode.SHARED)
    got = issued(world, flat)
    assert got == [IPv4Address(f"10.0.0.{last}") for last in range(2, 15)]
    assert len(got) == 13


def test_b3_with_a_gateway_on_each_node_each_takes_one(world: Any) -> None:
    world.node("n1"), world.node("n2")
    network = world.network("10.0.0.0/28")
    got = []
    for node in ("n1", "n2"):
        port = world.port(network)
        world.report(node, port)
        got.append(port.port.fixed_ips[0].address)
    got += issued(world, network)
    gateways = [held.address for node in world.store.list_nodes() for held in node.node.gateways]
    assert (len(got), len(gateways), len({*got, *gateways})) == (12, 2, 14)


def test_b3_a_small_range_is_not_kept_for_all_nodes_of_a_large_cloud(world: Any) -> None:
    """Each port is left a gateway for its node, wherever that is, and ports have the rest."""
    for number in range(20):
        world.node(f"n{number}")
    network = world.network("10.0.0.0/28")
    ports = [world.port(network) for _ in range(7)]
    with pytest.raises(Exhausted, match="kept for the gateways of 8 nodes"):
        world.port(network)
    for number, port in enumerate(ports):
        assert world.report(f"n{number}", port) == {port.port.id: "bound"}
    assert len(world.store.list_addresses(network.id)) == 14


def test_b4_addresses_of_a_part_of_the_range_only(world: Any) -> None:
    part = IPv4Network("10.0.20.0/24")
    network = world.network("10.0.0.0/16", allocation_ranges=(AddressRange(part[0], part[-1]),))
    got = issued(world, network)
    assert got == list(part)
    assert str(world.store.load_snapshot().networks[network.id].subnets[0].cidr) == "10.0.0.0/16"


@pytest.mark.parametrize(("gateway", "first"), [("10.0.0.1", 5), ("10.0.0.5", 6)])
def test_b5_from_one_address_to_another(world: Any, gateway: str, first: int) -> None:
    network = world.network(
        gateway_mode=GatewayMode.SHARED,
        gateway=IPv4Address(gateway),
        allocation_ranges=(AddressRange(IPv4Address("10.0.0.5"), IPv4Address("10.0.0.250")),),
    )
    assert issued(world, network) == [IPv4Address(f"10.0.0.{last}") for last in range(first, 251)]


# -- which VLAN


@pytest.mark.parametrize("stores", [1, 4])
def test_b6_fifty_at_once_have_fifty_tags(make_world: Callable[..., Any], stores: int) -> None:
    first = make_world()
    workers = [first.store, *(make_world().store for _ in range(stores - 1))]
    tags: list[int] = []

    def make(item: tuple[Store, int]) -> None:
        store, number = item
        subnets = (SubnetSpec(IPv4Network(f"10.0.{number}.0/24")),)
        spec = NetworkSpec("net", NetworkKind.VLAN, "physnet1", subnets)
        tag = store.create_network(spec, "tester").value.spec.segment
        assert tag is not None
        tags.append(tag)

    in_parallel(make, [(workers[number % stores], number) for number in range(50)])
    assert sorted(tags) == list(range(100, 150))


def test_b6_many_begin_with_the_wanted_one_and_pass_over_what_is_taken(world: Any) -> None:
    world.network("10.9.0.0/24", segment=4001)
    made = carve(world, "10.0.0.0/16", 3, 64, segment=4000)
    assert [record.spec.segment for record in made] == [4000, 4002, 4003]
