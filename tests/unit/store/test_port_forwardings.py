from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest

from controller.store.floating_ip_specs import FloatingIpPoolSpec, FloatingIpSpec, PortForwardingSpec
from controller.store.port_forwardings import LONGEST_MOVED, MOST_FORWARDINGS, MOST_MOVED
from controller.store.specs import AddressRange, Conflict, Exhausted, FixedIpSpec, Invalid, NotFound, StoreError
from flows.model import FloatingIp, GatewayMode, PortForwarding

TCP, UDP = 6, 17


@pytest.fixture
def floating_ip(world: Any) -> FloatingIp:
    part = AddressRange(IPv4Address("203.0.113.200"), IPv4Address("203.0.113.203"))
    world.store.create_floating_ip_pool(FloatingIpPoolSpec("public", world.external().id, (part,)), "tester")
    found: FloatingIp = world.store.allocate_floating_ips(FloatingIpSpec("public"), "tester").value[0].floating_ip
    return found


@pytest.fixture
def port(world: Any) -> Any:
    return world.port(world.network())


def forward(world: Any, floating_ip: FloatingIp, port: Any, first: int, last: int = 0, **more: Any) -> PortForwarding:
    fields = {"protocol": TCP, "first": first, "last": last or first, "port_id": port.port.id}
    spec = PortForwardingSpec(**fields | more)
    made: PortForwarding = world.store.create_port_forwarding(floating_ip.id, spec, "tester").value
    return made


def again(world: Any, floating_ip: FloatingIp) -> FloatingIp:
    found: FloatingIp = world.store.get_floating_ip(floating_ip.id).floating_ip
    return found


def test_what_is_forwarded_is_in_the_model(world: Any, floating_ip: FloatingIp, port: Any) -> None:
    fixed_ip = port.port.fixed_ips[0].address
    one = forward(world, floating_ip, port, 2201, to=22)
    two = forward(world, floating_ip, port, 5000, 5100, protocol=UDP)
    assert one == PortForwarding(one.id, 1, TCP, 2201, 2201, port.port.id, fixed_ip, 22)
    assert two == PortForwarding(two.id, 2, UDP, 5000, 5100, port.port.id, fixed_ip, 5000)
    snapshot = world.store.load_snapshot()
    assert snapshot.floating_ips[floating_ip.id].port_forwardings == (one, two)
    assert snapshot.floating_ips_of(port.port.id) == [again(world, floating_ip)]
    assert world.store.list_floating_ips(port_id=port.port.id)[0].floating_ip == again(world, floating_ip)
    world.store.delete_port_forwarding(floating_ip.id, one.id, "tester")
    assert again(world, floating_ip).port_forwardings == (two,)
    with pytest.raises(NotFound) as gone:
        world.store.delete_port_forwarding(floating_ip.id, one.id, "tester")
    assert gone.value.code == "port_forwarding_unknown"


def test_each_change_is_one_of_the_floating_ip(world: Any, floating_ip: FloatingIp, port: Any) -> None:
    made = forward(world, floating_ip, port, 80)
    assert world.store.get_floating_ip(floating_ip.id).revision == world.store.revision()
    world.store.delete_port_forwarding(floating_ip.id, made.id, "tester")
    created, deleted = world.store.journal(kind="floating_ip", object_id=floating_ip.id)[1:]
    assert (created.action, created.payload["port_forwarding_created"]["id"]) == ("update", made.id)
    assert deleted.payload == {"port_forwardings_deleted": [made.id]}
    assert world.store.get_floating_ip(floating_ip.id).revision == deleted.revision


@pytest.mark.parametrize(
    ("first", "last", "more", "code", "field"),
    [
        (0, 0, {}, "port_range_invalid", "ports"),
        (0, 9, {}, "port_range_invalid", "ports"),
        (90, 80, {}, "port_range_invalid", "ports"),
        (65535, 65536, {}, "port_range_invalid", "ports"),
        (80, 0, {"to": 0}, "port_range_invalid", "to"),
        (80, 81, {"to": 65535}, "port_range_invalid", "to"),
        (1000, 1256, {"to": 2000}, "port_range_invalid", "to"),
        (80, 0, {"fixed_ip": IPv4Address("10.0.0.99")}, "fixed_ip_unknown", "fixed_ip"),
        (80, 0, {"port_id": "nothing"}, "port_unknown", "port_id"),
    ],
)
def test_what_cannot_be_forwarded(
    world: Any, floating_ip: FloatingIp, port: Any, first: int, last: int, more: Any, code: str, field: str
) -> None:
    with pytest.raises(StoreError) as refused:
        forward(world, floating_ip, port, first, last, **more)
    assert (refused.value.code, refused.value.field) == (code, field)
    assert again(world, floating_ip) == floating_ip


def test_ranges_up_to_their_bounds(world: Any, floating_ip: FloatingIp, port: Any) -> None:
    forward(world, floating_ip, port, 1, 65535)
    forward(world, floating_ip, port, 1000, 1255, to=65280, protocol=UDP)


@pytest.mark.parametrize(("first", "last"), [(100, 100), (199, 250), (50, 100), (120, 130), (1, 1000)])
def test_no_two_forward_one_port(world: Any, floating_ip: FloatingIp, port: Any, first: int, last: int) -> None:
    forward(world, floating_ip, port, 100, 199)
    with pytest.raises(Conflict) as refused:
        forward(world, floating_ip, port, first, last)
    assert (refused.value.code, refused.value.field) == ("ports_in_use", "ports")
    forward(world, floating_ip, port, first, last, protocol=UDP)
    forward(world, floating_ip, port, 99)
    forward(world, floating_ip, port, 200)


def test_a_floating_ip_leads_whole_or_in_parts(world: Any, floating_ip: FloatingIp, port: Any) -> None:
    made = forward(world, floating_ip, port, 80)
    with pytest.raises(Conflict) as refused:
        world.store.associate_floating_ip(floating_ip.id, port.port.id, None, "tester")
    assert refused.value.code == "floating_ip_forwarded"
    world.store.delete_port_forwarding(floating_ip.id, made.id, "tester")
    world.store.associate_floating_ip(floating_ip.id, port.port.id, None, "tester")
    with pytest.raises(Conflict) as refused:
        forward(world, floating_ip, port, 80)
    assert refused.value.code == "floating_ip_associated"


def test_a_network_that_nobody_translates_for_has_none(world: Any, floating_ip: FloatingIp) -> None:
    port = world.port(world.network(gateway_mode=GatewayMode.NONE))
    with pytest.raises(Invalid) as refused:
        forward(world, floating_ip, port, 80)
    assert refused.value.code == "network_not_translated"


def test_they_go_with_their_port_or_its_address(world: Any, floating_ip: FloatingIp, port: Any) -> None:
    ips = (FixedIpSpec(IPv4Address("10.0.0.50")), FixedIpSpec(IPv4Address("10.0.0.60")))
    other = world.port(world.store.list_networks(name="net")[0], fixed_ips=ips)
    gone = [forward(world, floating_ip, port, 80), forward(world, floating_ip, port, 81)]
    lost = forward(world, floating_ip, other, 82, fixed_ip=IPv4Address("10.0.0.60"))
    kept = forward(world, floating_ip, other, 83)
    world.store.delete_port(port.port.id, "tester")
    assert again(world, floating_ip).port_forwardings == (lost, kept)
    payload = world.store.journal(kind="floating_ip", object_id=floating_ip.id)[-1].payload
    assert payload == {"port_forwardings_deleted": [one.id for one in gone]}
    world.store.update_port(other.port.id, {"fixed_ips": ips[:1]}, "tester")
    assert again(world, floating_ip).port_forwardings == (kept,)


def test_they_go_with_their_floating_ip(world: Any, floating_ip: FloatingIp, port: Any) -> None:
    forward(world, floating_ip, port, 80)
    world.store.release_floating_ips([floating_ip.id], "tester")
    assert world.store.load_snapshot().floating_ips_of(port.port.id) == []
    world.store.delete_port(port.port.id, "tester")


def test_a_floating_ip_has_so_many_and_no_more(world: Any, floating_ip: FloatingIp, port: Any) -> None:
    for number in range(MOST_FORWARDINGS):
        forward(world, floating_ip, port, 1000 + number)
    with pytest.raises(Exhausted) as refused:
        forward(world, floating_ip, port, 5000)
    assert refused.value.code == "too_many_forwardings"


def test_so_many_ports_can_be_moved_and_any_number_kept(world: Any, floating_ip: FloatingIp, port: Any) -> None:
    for number in range(MOST_MOVED // LONGEST_MOVED):
        first = 1000 + number * LONGEST_MOVED
        forward(world, floating_ip, port, first, first + LONGEST_MOVED - 1, to=20000)
    with pytest.raises(Exhausted) as refused:
        forward(world, floating_ip, port, 80, to=8080)
    assert refused.value.code == "too_many_forwardings"
    forward(world, floating_ip, port, 30000, 40000)
