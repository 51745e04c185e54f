"""Addresses of pairs: who holds them, what follows them, and that nobody is given one."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
import sqlalchemy as sa

from controller.forgetting import End, Forget
from controller.store import Store
from controller.store.floating_ip_specs import PortForwardingSpec
from controller.store.policy_specs import AddressPairSpec
from controller.store.specs import Conflict, FixedIpSpec, Invalid, NotFound
from flows.model import OwnAddress
from flows.pipeline import CtZone, nat_zone
from tests.unit.store import raw
from tests.unit.store.floating import again, events, lead, make_pool, take

VIP = IPv4Address("10.0.0.5")
VIRTUAL_MAC = "00:00:5e:00:01:07"
PAIR = (AddressPairSpec(IPv4Network(VIP)),)


@pytest.fixture
def network(world: Any) -> Any:
    world.node("n1", physical_networks=("physnet1", "physnet-ext"))
    world.node("n2", physical_networks=("physnet1", "physnet-ext"))
    return world.network()


@pytest.fixture
def two(world: Any, network: Any) -> tuple[Any, Any]:
    """On a node each, and both may have the address."""
    made = world.port(network, address_pairs=PAIR), world.port(network, address_pairs=PAIR)
    for name, port in zip(("n1", "n2"), made, strict=True):
        world.report(name, port)
    return made


def claim(world: Any, port: Any, mac: str | None = None) -> bool:
    found: bool = world.store.hold_address(port.port.id, VIP, mac or port.port.mac).value
    return found


def held(world: Any, port: Any) -> tuple[OwnAddress, ...]:
    found: tuple[OwnAddress, ...] = world.again(port).port.held
    return found


def led_to(world: Any, floating_ip: Any) -> tuple[str | None, IPv4Address | None]:
    now = again(world, floating_ip).floating_ip
    return now.port_id, now.fixed_ip


def test_the_last_to_say_so_has_it(world: Any, network: Any, two: tuple[Any, Any]) -> None:
    first, second = two
    assert claim(world, first) and held(world, first) == (OwnAddress(VIP, first.port.mac),)
    revision = world.store.revision()
    assert not claim(world, first) and world.store.revision() == revision  # it was known
    assert claim(world, second)
    assert not held(world, first) and held(world, second) == (OwnAddress(VIP, second.port.mac),)
    snapshot = world.store.load_snapshot()
    assert snapshot.holder(network.id, VIP).id == snapshot.port_with(network.id, VIP).id == second.port.id
    told = [world.store.journal(kind="port", object_id=one.port.id)[-1].payload for one in two]
    assert told == [{"held_addresses": []}, {"held_addresses": [str(VIP)]}]


def test_only_what_a_pair_allows(world: Any, network: Any, two: tuple[Any, Any]) -> None:
    third = world.port(network)
    for port, mac in ((third, None), (two[0], VIRTUAL_MAC), (two[0], two[1].port.mac)):
        with pytest.raises(NotFound) as refused:
            claim(world, port, mac)
        assert refused.value.code == "address_pair_unknown"
    both = (*PAIR, AddressPairSpec(IPv4Network(VIP), VIRTUAL_MAC))
    world.store.update_port(two[0].port.id, {"address_pairs": both}, "tester")
    assert claim(world, two[0]) and claim(world, two[0], VIRTUAL_MAC)
    assert held(world, two[0]) == (OwnAddress(VIP, VIRTUAL_MAC),)
    world.store.update_port(two[0].port.id, {"address_pairs": both[:1]}, "tester")
    assert not held(world, two[0])


@pytest.mark.parametrize("cidr", ["10.0.0.0/28", "10.0.1.5/32"])
def test_ranges_and_what_is_elsewhere_belong_to_nobody(world: Any, network: Any, cidr: str) -> None:
    range_ = IPv4Network(cidr)
    port = world.port(network, fixed_ips=(FixedIpSpec(IPv4Address("10.0.0.9")),))
    world.store.update_port(port.port.id, {"address_pairs": (AddressPairSpec(range_),)}, "tester")
    with pytest.raises(NotFound):
        world.store.hold_address(port.port.id, range_.network_address, port.port.mac)


def test_a_floating_ip_follows(world: Any, two: tuple[Any, Any]) -> None:
    """Led there by either port; two events for each move, and the old node forgets what came by it."""
    first, second = two
    make_pool(world)
    (floating_ip,) = take(world)
    claim(world, first)
    lead(world, floating_ip, second, str(VIP))
    assert led_to(world, floating_ip) == (first.port.id, VIP)
    seen = len(events(world, floating_ip))
    before = world.store.revision()
    claim(world, second)
    assert led_to(world, floating_ip) == (second.port.id, VIP)
    assert events(world, floating_ip)[seen:] == [["disassociate", "associate"]]
    owed = {(debt.node, debt.what) for debt in world.store.owed_since(before)}
    zone = nat_zone(world.again(first).port.binding.zone)
    address = int(floating_ip.floating_ip.address)
    assert owed == {
        ("n1", Forget(zone, End.ORIGINAL_DESTINATION, address)),
        ("n1", Forget(zone, End.REPLY_DESTINATION, address)),
        ("n1", Forget(CtZone.SNAT, End.ORIGINAL_SOURCE, int(VIP))),
    }
    with pytest.raises(Invalid) as refused:
        lead(world, floating_ip, world.port(world.network("10.1.0.0/24", name="b")), str(VIP))
    assert refused.value.code == "fixed_ip_unknown"


def test_forwarded_ports_follow(world: Any, two: tuple[Any, Any]) -> None:
    first, second = two
    make_pool(world)
    (floating_ip,) = take(world)
    spec = PortForwardingSpec(6, 80, 80, first.port.id, VIP)
    world.store.create_port_forwarding(floating_ip.floating_ip.id, spec, "tester")
    for port in (second, first):
        claim(world, port)
        (one,) = again(world, floating_ip).floating_ip.port_forwardings
        assert (one.port_id, one.fixed_ip) == (port.port.id, VIP)
    world.store.delete_port(first.port.id, "tester")
    (one,) = again(world, floating_ip).floating_ip.port_forwardings
    assert one.port_id == second.port.id
    world.store.delete_port(second.port.id, "tester")
    assert not again(world, floating_ip).floating_ip.port_forwardings


@pytest.mark.parametrize("how", ["deleted", "without the pair", "without port security"])
def test_without_its_holder_it_leads_to_another_that_may_have_it(world: Any, two: tuple[Any, Any], how: str) -> None:
    first, second = two
    make_pool(world)
    (floating_ip,) = take(world)
    claim(world, first)
    lead(world, floating_ip, first, str(VIP))
    bare = {"security_groups": (), "port_security": False} if how == "without port security" else {}
    for port, next_one in ((first, (second.port.id, VIP)), (second, (None, None))):
        if how == "deleted":
            world.store.delete_port(port.port.id, "tester")
        else:
            world.store.update_port(port.port.id, {"address_pairs": (), **bare}, "tester")
        assert led_to(world, floating_ip) == next_one
    assert world.store.load_snapshot().holders == {}


def test_other_addresses_of_the_port_may_change(world: Any, two: tuple[Any, Any]) -> None:
    make_pool(world)
    (floating_ip,) = take(world)
    lead(world, floating_ip, two[0], str(VIP))
    world.store.update_port(two[0].port.id, {"fixed_ips": (FixedIpSpec(IPv4Address("10.0.0.77")),)}, "tester")
    assert led_to(world, floating_ip) == (two[0].port.id, VIP)


def test_nobody_is_given_it(world: Any) -> None:
    """Until no pair names it any more."""
    network = world.network("10.0.0.0/28")
    one, other = world.port(network, address_pairs=PAIR), world.port(network, address_pairs=PAIR)
    given = {str(world.port(network).port.fixed_ips[0].address) for _ in range(8)}
    assert "10.0.0.4" in given and str(VIP) not in given
    world.store.delete_port(one.port.id, "tester")
    given |= {str(world.port(network).port.fixed_ips[0].address) for _ in range(3)}
    assert len(given) == 11 and str(VIP) not in given
    world.store.update_port(other.port.id, {"address_pairs": ()}, "tester")
    found = (world.port(network).port.fixed_ips[0].address for _ in range(2))
    assert VIP in found


def test_a_project_may_reserve_it_by_a_port_that_is_never_plugged(world: Any, network: Any) -> None:
    """Before or after its pairs; its floating IP goes to whoever has the address, and back to it."""
    make_pool(world)
    wanted = (FixedIpSpec(VIP),)
    user = world.port(network, address_pairs=PAIR)
    with pytest.raises(Conflict) as refused:
        world.port(network, fixed_ips=wanted, project_id="red")
    assert refused.value.code == "address_in_use"
    reserving = world.port(network, fixed_ips=wanted)
    later = world.port(network, address_pairs=PAIR)
    with pytest.raises(Conflict) as refused:
        world.port(network, address_pairs=PAIR, project_id="red")
    assert refused.value.code == "address_pair_in_use"
    (floating_ip,) = take(world)
    lead(world, floating_ip, reserving)
    world.report("n1", user, later)
    assert claim(world, user) and led_to(world, floating_ip) == (user.port.id, VIP)
    for port, next_one in ((user, later), (later, reserving)):
        world.store.delete_port(port.port.id, "tester")
        assert led_to(world, floating_ip) == (next_one.port.id, VIP)


def test_the_address_of_a_port_on_a_node_is_its_own(world: Any, network: Any, two: tuple[Any, Any]) -> None:
    make_pool(world)
    (floating_ip,) = take(world)
    claim(world, two[0])
    lead(world, floating_ip, two[0], str(VIP))
    reserving = world.port(network, fixed_ips=(FixedIpSpec(VIP),))
    assert held(world, two[0])
    world.report("n1", two[0], reserving)
    assert not held(world, two[0]) and led_to(world, floating_ip) == (reserving.port.id, VIP)
    with pytest.raises(Conflict) as refused:
        claim(world, two[1])
    assert refused.value.code == "address_in_use"
    world.report("n1", two[0])
    assert claim(world, two[1])
    world.store.delete_port(reserving.port.id, "tester")
    assert held(world, two[1])
    with pytest.raises(Conflict) as refused:  # it is kept for the pairs again
        world.port(network, fixed_ips=(FixedIpSpec(VIP),), project_id="red")
    assert refused.value.code == "address_in_use"


def test_pairs_that_are_there_already_are_kept_from_allocation(new_url: str) -> None:
    """By the migration."""
    raw.upgrade_to(new_url, "0003")
    known = ("port-1", "net-1", "subnet-1")
    with raw.transaction(new_url) as connection:
        for table, values in _ROWS.items():
            raw.insert(connection, table, values)
    raw.upgrade_to(new_url, "head")
    with raw.transaction(new_url) as connection:
        rows = connection.execute(
            sa.text("SELECT port_id, network_id, address, mac, held FROM virtual_addresses")
        ).all()
        owner = connection.execute(
            sa.text("SELECT subnet_id, owner FROM addresses WHERE address = :a"), {"a": int(VIP)}
        )
        assert [tuple(row) for row in rows] == [(known[0], known[1], int(VIP), "02:00:00:00:00:01", 0)]
        assert [tuple(row) for row in owner] == [(known[2], "pair")]
    store = Store(new_url)
    assert store.get_port(known[0]).port.address_pairs
    store.close()


_NETWORK = {
    **{"id": "net-1", "key": 1, "name": "net", "kind": "vlan", "physical_network": "physnet1", "segment": 100},
    **{"router_key": 1, "project_id": "blue", "shared": False, "external": False, "mtu": 1500},
    **{"dhcp": True, "dns_domain": "", "arp_responder": False, "carrier_nat": False, "lease_time": 86400},
    **{"ntp_servers": "[]", "routes": "[]", "snat_exempt": "[]", "force_snat": "[]", "own_snat_address": False},
    **{"router": "project", "created_at": 0.0, "revision": 1, "dhcp_options": "[]", "gateway_mode": "per_host"},
}
_ROWS: dict[str, dict[str, Any]] = {
    "networks": _NETWORK,
    "subnets": {
        **{"id": "subnet-1", "network_id": "net-1", "cidr": "10.0.0.0/24", "first": 167772160, "last": 167772415},
        **{"dns_servers": "[]", "host_routes": "[]"},
    },
    "ports": {
        **{"id": "port-1", "key": 1, "network_id": "net-1", "mac": "02:00:00:00:00:01", "name": "", "hostname": ""},
        **{"device_id": "", "dhcp_options": "[]", "created_at": 0.0, "revision": 1},
        "address_pairs": '[{"cidr": "10.0.0.5/32", "mac": "02:00:00:00:00:01"}, '
        '{"cidr": "10.0.0.0/28", "mac": "02:00:00:00:00:02"}]',
    },
}
