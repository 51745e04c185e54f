"""What ports and floating IPs leave behind in conntrack, and how long a node owes it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from controller import forgetting
from controller.forgetting import End, Forget, Owed, left_behind
from flows.model import (
    Binding,
    Change,
    FixedIp,
    FloatingIp,
    FloatingIpChange,
    NetworkChange,
    OwnAddress,
    PortChange,
    PortForwarding,
    StaticRoute,
)
from flows.pipeline import CtZone, carrier_address, nat_zone
from flows.protocols import PROTO_TCP
from flows.snapshot import Snapshot
from tests import world

ADDRESS = IPv4Address("203.0.113.50")
SECOND = IPv4Address("203.0.113.51")
FIXED = IPv4Address("10.10.0.10")  # port-10's, on n1; port-11 has .11, on n2


def floating(**values: object) -> FloatingIp:
    defaults: dict[str, object] = {"port_id": "port-10", "fixed_ip": FIXED}
    return FloatingIp("fip-1", 1, world.EXTERNAL, ADDRESS, **(defaults | values))  # type: ignore[arg-type]


def forwarding(key: int, port: str = "port-10", first: int = 8000) -> PortForwarding:
    return PortForwarding(f"pf-{key}", key, PROTO_TCP, first, first + 9, port, FIXED, 80)


def cloud(*floating_ips: FloatingIp) -> Snapshot:
    return world.cloud().apply(2, [FloatingIpChange(each.id, each) for each in floating_ips])


def of_address(zone: int, address: IPv4Address = ADDRESS) -> set[Forget]:
    """What came to the address, and what left from it."""
    ends = (End.ORIGINAL_DESTINATION, End.REPLY_DESTINATION)
    return {Forget(nat_zone(zone), end, int(address)) for end in ends}


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (None, {"n1": of_address(10)}),
        (floating(port_id=None, fixed_ip=None), {"n1": of_address(10)}),
        (floating(port_id="port-11", fixed_ip=FIXED + 1), {"n1": of_address(10)}),
        (floating(fixed_ip=FIXED + 5), {"n1": of_address(10)}),
        (floating(), {}),
        (floating(project_id="other"), {}),
    ],
)
def test_a_floating_ip_that_leaves_a_port(new: FloatingIp | None, expected: dict[str, set[Forget]]) -> None:
    second = replace(floating(), id="fip-2", key=2, address=SECOND)
    before = cloud(floating(), second)
    assert left_behind(before, [FloatingIpChange("fip-1", new)]) == expected
    assert left_behind(cloud(), [FloatingIpChange("fip-1", new)]) == {}


def test_a_port_forwarding_that_goes() -> None:
    """The floating IP stays, and so does what it forwards to others."""
    both = floating(port_id=None, fixed_ip=None, port_forwardings=(forwarding(1), forwarding(2, "port-11")))
    one = replace(both, port_forwardings=both.port_forwardings[:1])
    assert left_behind(cloud(both), [FloatingIpChange("fip-1", one)]) == {"n2": of_address(11)}
    changed = replace(both, port_forwardings=(forwarding(1, first=9000), both.port_forwardings[1]))
    assert left_behind(cloud(both), [FloatingIpChange("fip-1", changed)]) == {"n1": of_address(10)}
    assert left_behind(cloud(both), [FloatingIpChange("fip-1", None)]) == {"n1": of_address(10), "n2": of_address(11)}


def test_a_port_that_leaves_its_node() -> None:
    snapshot, port = cloud(), world.cloud().ports["port-10"]
    translated = {Forget(CtZone.SNAT, End.ORIGINAL_SOURCE, source) for source in (int(FIXED), carrier_address(10))}
    everything = {"n1": {Forget(10), Forget(nat_zone(10)), *translated}}
    for new in (None, replace(port, binding=None), replace(port, binding=Binding("n2", 7, 10))):
        assert left_behind(snapshot, [PortChange(port.id, new)]) == everything
    assert left_behind(snapshot, [PortChange(port.id, replace(port, name="other"))]) == {}
    rezoned = replace(port, binding=Binding("n1", 110, 99))
    assert left_behind(snapshot, [PortChange(port.id, rezoned)]) == {"n1": {Forget(10), Forget(nat_zone(10))}}
    readdressed = replace(port, fixed_ips=(FixedIp(port.fixed_ips[0].subnet_id, FIXED + 9),))
    gone = {"n1": {Forget(CtZone.SNAT, End.ORIGINAL_SOURCE, int(FIXED))}}
    assert left_behind(snapshot, [PortChange(port.id, readdressed)]) == gone


def test_a_port_is_known_by_its_carrier_address_where_it_has_one() -> None:
    snapshot = cloud()
    filtered = world.filtered(snapshot, world.OPEN)
    of_flat = left_behind(filtered, [PortChange("port-10", None)])["n1"]
    assert of_flat == {Forget(10), Forget(nat_zone(10)), Forget(CtZone.SNAT, End.ORIGINAL_SOURCE, int(FIXED))}
    of_red = left_behind(snapshot, [PortChange("port-40", None)])["n1"]
    assert Forget(CtZone.SNAT, End.ORIGINAL_SOURCE, carrier_address(40)) in of_red and len(of_red) == 3
    route = StaticRoute(IPv4Network("10.99.0.0/16"), FIXED)
    flat = replace(snapshot.networks["net-flat"], routes=(route,))
    with_routes = left_behind(snapshot.apply(3, [NetworkChange(flat.id, flat)]), [PortChange("port-10", None)])["n1"]
    assert Forget(CtZone.SNAT, End.ORIGINAL_SOURCE, carrier_address(10)) in with_routes and len(with_routes) == 4


def test_a_network_that_leaves_elsewhere() -> None:
    """What its ports have behind SNAT, on each node; that of other networks stays."""
    snapshot = cloud(floating())
    flat = snapshot.networks["net-flat"]
    ports = [port for port in snapshot.ports.values() if port.network_id == flat.id and port.binding is not None]
    expected: dict[str, set[Forget]] = {}
    for port in ports:
        for address in (int(port.fixed_ips[0].address), carrier_address(port.key)):
            source = Forget(CtZone.SNAT, End.ORIGINAL_SOURCE, address)
            expected.setdefault(port.binding.node, set()).add(source)  # type: ignore[union-attr]
    assert expected
    for new in (replace(flat, own_snat_address=True), replace(flat, external_network_id="net-none")):
        assert left_behind(snapshot, [NetworkChange(flat.id, new)]) == expected
    same = (replace(flat, external_network_id=world.EXTERNAL), replace(flat, name="other"), None)
    assert [left_behind(snapshot, [NetworkChange(flat.id, new)]) for new in same] == [{}, {}, {}]


def test_a_route_that_goes() -> None:
    """What came over it has the carrier address of its next hop; so may what that sends itself, and then all stays."""
    flat = cloud().networks["net-flat"]
    other = StaticRoute(IPv4Network("10.98.0.0/16"), FIXED + 1)
    with_both = replace(flat, routes=(StaticRoute(IPv4Network("10.99.0.0/16"), FIXED), other))
    untracked = cloud().apply(3, [NetworkChange(flat.id, with_both)])
    snapshot = world.filtered(untracked, world.OPEN)
    carrier = carrier_address(10)
    expected = {Forget(CtZone.SNAT, End.ORIGINAL_SOURCE, carrier), Forget(nat_zone(10), End.REPLY_DESTINATION, carrier)}
    elsewhere = StaticRoute(IPv4Network("10.99.0.0/16"), FIXED + 1)
    for routes in ((other,), (elsewhere, other)):
        change = NetworkChange(flat.id, replace(flat, routes=routes))
        assert left_behind(snapshot, [change]) == {"n1": expected} and left_behind(untracked, [change]) == {}
    carried = replace(with_both, carrier_nat=True)
    snapshot = snapshot.apply(snapshot.revision + 1, [NetworkChange(flat.id, carried)])
    assert left_behind(snapshot, [NetworkChange(flat.id, replace(carried, routes=()))]) == {}


def test_an_address_that_is_held_no_more() -> None:
    """What left from it, and what came over the routes that it is the next hop of."""
    flat, port = cloud().networks["net-flat"], cloud().ports["port-10"]
    virtual = FIXED + 100
    holding = replace(port, held=(OwnAddress(virtual, port.mac),))
    snapshot = cloud().apply(3, [PortChange(port.id, holding)])
    own = {Forget(CtZone.SNAT, End.ORIGINAL_SOURCE, int(virtual))}
    assert left_behind(snapshot, [PortChange(port.id, holding)]) == {}
    assert left_behind(snapshot, [PortChange(port.id, port)]) == {"n1": own}
    routes = (StaticRoute(IPv4Network("10.99.0.0/16"), virtual),)
    snapshot = snapshot.apply(4, [NetworkChange(flat.id, replace(flat, routes=routes))])
    carrier = carrier_address(10)
    over = {Forget(CtZone.SNAT, End.ORIGINAL_SOURCE, carrier), Forget(nat_zone(10), End.REPLY_DESTINATION, carrier)}
    assert left_behind(snapshot, [PortChange(port.id, port)]) == {"n1": own}
    tracked = world.filtered(snapshot, world.OPEN)
    lets_go = replace(tracked.ports[port.id], held=())
    assert left_behind(tracked, [PortChange(port.id, lets_go)]) == {"n1": own | over}


def test_changes_of_one_batch_go_together() -> None:
    changes: list[Change] = [PortChange("port-10", None), FloatingIpChange("fip-1", None), PortChange("port-11", None)]
    left = left_behind(cloud(floating()), changes)
    assert left["n1"] > of_address(10) and Forget(nat_zone(10)) in left["n1"] and Forget(11) in left["n2"]


def test_what_is_owed_waits_for_its_flows_and_ends_when_done() -> None:
    owed = Owed()
    owed.add("n1", [Forget(1), Forget(2)], 5)
    owed.add("n1", [Forget(2)], 7)
    assert owed.due("n1", 4) == [] and owed.due("n1", 5) == [Forget(1)] and owed.due("n2", 9) == []
    owed.done("n1", [Forget(1), Forget(2)], 5)
    assert owed.due("n1", 9) == [Forget(2)]  # it came again after the switch was asked
    owed.done("n1", [Forget(2)], 9)
    assert owed.due("n1", 9) == []
    owed.add("n1", [Forget(1)], 9)
    owed.drop("n1")
    assert owed.due("n1", 9) == []


def test_what_a_node_that_is_away_owes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetting, "MOST_BY_ADDRESS", 10)
    owed = Owed()
    for address in range(11):
        owed.add("n1", [Forget(7, End.ORIGINAL_DESTINATION, address), Forget(3)], address)
    assert sorted(owed.due("n1", 99)) == [Forget(3), Forget(7)]
    assert owed.due("n1", 9) == []  # not before the last of them


def test_the_zone_that_all_ports_share_is_never_forgotten_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetting, "MOST_BY_ADDRESS", 10)
    owed = Owed()
    every = [Forget(CtZone.SNAT, End.ORIGINAL_SOURCE, address) for address in range(20)]
    owed.add("n1", every, 1)
    assert sorted(owed.due("n1", 1)) == every
