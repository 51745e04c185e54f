from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from controller.store.specs import (
    AddressRange,
    Conflict,
    DhcpOptionSpec,
    Exhausted,
    FixedIpSpec,
    Invalid,
    NotFound,
    SubnetSpec,
)
from flows.model import DhcpOption, GatewayMode, HostRoute, NetworkKind


def test_a_network_comes_back_as_it_was_given(world: Any) -> None:
    made = world.network(
        name="web",
        mtu=9000,
        dhcp_options=(DhcpOptionSpec(66, b"boot", "boot", "string"),),
        ntp_servers=(IPv4Address("192.0.2.1"),),
        allocation_ranges=(AddressRange(IPv4Address("10.0.0.10"), IPv4Address("10.0.0.20")),),
    )
    assert world.store.get_network(made.id) == made
    assert (made.key, made.router_key, made.spec.gateway_mode) == (1, 1, GatewayMode.PER_HOST)
    network = world.store.load_snapshot().networks[made.id]
    assert network.dhcp_options == (DhcpOption(42, bytes([192, 0, 2, 1])), DhcpOption(66, b"boot"))
    assert network.segment == 100


def test_networks_of_a_project_share_a_router_and_others_do_not(world: Any) -> None:
    first, second = world.network("10.0.0.0/24"), world.network("10.0.1.0/24")
    other = world.network("10.0.2.0/24", project_id="red")
    shared = world.network("10.0.3.0/24", shared=True)
    nobodys = world.network("10.0.4.0/24", project_id=None)
    assert second.router_key == first.router_key == first.key
    assert [made.router_key for made in (other, shared, nobodys)] == [other.key, shared.key, nobodys.key]


def test_a_router_key_outlives_the_network_that_gave_it(world: Any) -> None:
    first, second = world.network("10.0.0.0/24"), world.network("10.0.1.0/24")
    world.store.delete_network(first.id, "tester")
    third = world.network("10.0.2.0/24")
    assert third.router_key == second.router_key != third.key


def test_two_projects_may_use_one_range(world: Any) -> None:
    assert not world.network(project_id="blue").carrier_nat
    assert world.network("10.0.0.128/25", project_id="red").carrier_nat


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {}),
        ({"shared": True}, {"project_id": "red"}),
        ({}, {"project_id": "red", "shared": True}),
        ({"project_id": None}, {"project_id": "red"}),
        ({"external": True, "gateway": IPv4Address("10.0.0.1")}, {"project_id": "red"}),
    ],
)
def test_overlap_that_cannot_be_told_apart_is_refused(world: Any, first: dict, second: dict) -> None:
    world.network(**first)
    with pytest.raises(Conflict) as refused:
        world.network("10.0.0.0/16", **second)
    assert (refused.value.code, refused.value.field) == ("cidr_overlap", "subnets.0.cidr")


def test_an_overlap_does_not_tell_of_foreign_networks(world: Any) -> None:
    world.network(name="secret", project_id="red")
    world.network("10.0.0.0/24", project_id="blue")
    with pytest.raises(Conflict, match="another project") as refused:
        world.network("10.0.0.0/24", project_id="green", shared=True)
    assert refused.value.details == {}


def test_an_overlap_does_not_tell_of_networks_without_a_project(world: Any) -> None:
    hidden = world.network(name="secret", project_id=None)
    with pytest.raises(Conflict) as refused:
        world.network("10.0.0.0/16", project_id="blue")
    assert "secret" not in refused.value.message and refused.value.details == {}
    with pytest.raises(Conflict, match="secret") as refused:
        world.network("10.0.0.0/16", project_id=None)
    assert refused.value.details == {"network_id": hidden.id}


@pytest.mark.parametrize("fields", [{"project_id": "blue"}, {"shared": True}, {"external": True}])
def test_an_overlap_names_networks_that_may_be_seen(world: Any, fields: dict) -> None:
    gateway = {"gateway": IPv4Address("10.0.0.1")} if "external" in fields else {}
    seen = world.network(name="seen", **({"project_id": "red"} | fields | gateway))
    with pytest.raises(Conflict, match="seen") as refused:
        world.network("10.0.0.0/16", project_id="blue")
    assert refused.value.details == {"network_id": seen.id}


@pytest.mark.parametrize("cidr", ["100.64.1.0/24", "127.0.0.0/24", "169.254.169.0/24", "224.0.0.0/8", "0.0.0.0/8"])
def test_ranges_that_mean_something_else_are_refused(world: Any, cidr: str) -> None:
    with pytest.raises(Invalid) as refused:
        world.network(cidr)
    assert refused.value.code == "cidr_reserved"


@pytest.mark.parametrize("cidr", ["10.0.0.0/31", "10.0.0.0/32", "8.0.0.0/7"])
def test_prefix_lengths_have_bounds(world: Any, cidr: str) -> None:
    with pytest.raises(Invalid) as refused:
        world.network(cidr)
    assert refused.value.code == "cidr_invalid"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"gateway_mode": GatewayMode.EXTERNAL}, "gateway_missing"),
        ({"gateway_mode": GatewayMode.NONE, "gateway": IPv4Address("10.0.0.1")}, "gateway_invalid"),
        ({"gateway_mode": GatewayMode.PER_HOST, "gateway": IPv4Address("10.0.0.1")}, "gateway_invalid"),
        ({"gateway_mode": GatewayMode.SHARED, "gateway": IPv4Address("10.0.1.1")}, "gateway_outside_subnet"),
        ({"gateway_mode": GatewayMode.SHARED, "gateway": IPv4Address("10.0.0.255")}, "gateway_invalid"),
        ({"external": True}, "gateway_missing"),
        (
            {"external": True, "gateway_mode": GatewayMode.SHARED, "gateway": IPv4Address("10.0.0.1")},
            "gateway_mode_invalid",
        ),
        ({"segment": 4095}, "segment_invalid"),
        ({"segment": 0}, "segment_invalid"),
        ({"kind": NetworkKind.FLAT, "segment": 5}, "segment_invalid"),
        ({"external_network_id": "nowhere"}, "external_network_unknown"),
        ({"reserved": (AddressRange(IPv4Address("10.0.1.0"), IPv4Address("10.0.1.9")),)}, "range_invalid"),
        ({"allocation_ranges": (AddressRange(IPv4Address("10.0.0.9"), IPv4Address("10.0.0.1")),)}, "range_invalid"),
    ],
)
def test_bad_networks(world: Any, fields: dict, code: str) -> None:
    with pytest.raises(Invalid) as refused:
        world.network(**fields)
    assert refused.value.code == code
    assert world.store.revision() == 0


def test_a_shared_gateway_takes_the_first_address(world: Any) -> None:
    network = world.network(gateway_mode=GatewayMode.SHARED)
    assert network.spec.subnets[0].gateway == IPv4Address("10.0.0.1")
    with pytest.raises(Invalid, match=r"10\.0\.0\.1 is reserved"):
        world.port(network, fixed_ips=(FixedIpSpec(IPv4Address("10.0.0.1")),))


def test_vlans(make_world: Any) -> None:
    world = make_world(vlan_range=(7, 9))
    assert world.network("10.0.0.0/24").spec.segment == 7
    assert world.network("10.0.1.0/24", segment=8).spec.segment == 8
    with pytest.raises(Conflict) as refused:
        world.network("10.0.2.0/24", segment=8)
    assert (refused.value.code, refused.value.field) == ("vlan_in_use", "segment")
    assert world.network("10.0.2.0/24", segment=8, physical_network="physnet2").spec.segment == 8
    assert world.network("10.0.3.0/24").spec.segment == 9
    with pytest.raises(Exhausted) as full:
        world.network("10.0.4.0/24")
    assert full.value.code == "no_free_vlan"
    assert world.network("10.0.4.0/24", segment=4094).spec.segment == 4094


def test_one_flat_network_for_a_physical_network(world: Any) -> None:
    flat = world.network("10.0.0.0/24", kind=NetworkKind.FLAT)
    assert flat.spec.segment is None
    world.network("10.0.1.0/24", kind=NetworkKind.FLAT, physical_network="physnet2")
    world.network("10.0.2.0/24")  # tagged ones may be beside it
    with pytest.raises(Conflict) as refused:
        world.network("10.0.3.0/24", kind=NetworkKind.FLAT)
    assert refused.value.code == "physical_network_in_use"


def test_a_network_in_use_stays(world: Any) -> None:
    network = world.network()
    port = world.port(network)
    with pytest.raises(Conflict) as refused:
        world.store.delete_network(network.id, "tester")
    assert refused.value.code == "network_in_use"
    world.store.delete_port(port.port.id, "tester")
    world.store.delete_network(network.id, "tester")
    with pytest.raises(NotFound):
        world.store.delete_network(network.id, "tester")
    world.network()  # the range is free again


def test_an_external_network_that_others_leave_through_stays(world: Any) -> None:
    external = world.external()
    inner = world.network(external_network_id=external.id)
    with pytest.raises(Conflict, match="leave through"):
        world.store.delete_network(external.id, "tester")
    world.store.update_network(inner.id, {"external_network_id": None}, "tester")
    world.store.delete_network(external.id, "tester")


def test_update(world: Any) -> None:
    network = world.network()
    route = HostRoute(IPv4Network("192.0.2.0/24"), IPv4Address("10.0.0.9"))
    reserved = AddressRange(IPv4Address("10.0.0.1"), IPv4Address("10.0.0.4"))
    subnet = SubnetSpec(IPv4Network("10.0.0.0/24"), reserved=(reserved,), host_routes=(route,))
    written = world.store.update_network(network.id, {"name": "new", "subnets": (subnet,)}, "tester")
    assert (written.value.spec.name, written.value.revision) == ("new", written.revision)
    assert written.value.spec.subnets[0].host_routes == (route,)
    assert str(world.port(network).port.fixed_ips[0].address) == "10.0.0.5"
    same = world.store.update_network(network.id, {"name": "new", "subnets": (subnet,)}, "tester")
    assert same.revision == written.revision + 2  # of the port and its group: the same content is no change


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"segment": 5}, "immutable"),
        ({"project_id": "red"}, "immutable"),
        ({"colour": "red"}, "unknown_field"),
        ({"subnets": ()}, "subnets_invalid"),
        ({"external_network_id": "nowhere"}, "external_network_unknown"),
    ],
)
def test_bad_updates(world: Any, changes: dict, code: str) -> None:
    network = world.network()
    with pytest.raises(Invalid) as refused:
        world.store.update_network(network.id, changes, "tester")
    assert refused.value.code == code


def test_lists(world: Any) -> None:
    names = [world.network(f"10.0.{index}.0/24", name=f"net{index}", project_id="blue").id for index in range(3)]
    foreign = world.network("10.1.0.0/24", name="foreign", project_id="red")
    shared = world.network("10.2.0.0/24", name="shared", project_id="red", shared=True)

    def ids(**filters: Any) -> list[str]:
        return [record.id for record in world.store.list_networks(**filters)]

    assert ids() == [*names, foreign.id, shared.id]
    assert ids(limit=2) == names[:2]
    assert ids(limit=2, marker=names[1]) == [names[2], foreign.id]
    assert ids(name="net1") == [names[1]]
    assert ids(project_id="red") == [foreign.id, shared.id]
    assert ids(visible_to="blue") == [*names, shared.id]
    with pytest.raises(Invalid) as refused:
        ids(marker="nobody")
    assert refused.value.code == "marker_unknown"
