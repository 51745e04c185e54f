"""`[nat] drop_private`: private addresses are not looked for outside, unless something names them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest

from flows.compile import compile_node, recompile
from flows.fabric import Fabric, Journey
from flows.model import FloatingIpChange, GatewayMode, NetworkChange, StaticRoute
from flows.rules import Rule
from flows.simulate import Drop, Reason
from flows.snapshot import Snapshot
from tests.simulate import ipv6
from tests.simulate.cloud import BLUE2_2, BLUE_1, BLUE_2, FLAT_1, RED_1, ip, send, world
from tests.simulate.ipv6 import SERVER6, ip6, send6, world6
from tests.world import EXTERNAL, floating_ip, subnet

PRIVATE = ("10.99.0.1", "10.255.255.255", "172.16.0.1", "172.31.9.9", "192.168.0.1", "100.64.0.9", "100.127.255.255")
PUBLIC = ("9.255.255.255", "11.0.0.0", "172.15.0.1", "172.32.0.1", "192.167.1.1", "192.169.0.0", "100.63.1.1",
          "100.128.0.0", "198.51.100.7")  # fmt: skip
BLUE = "net-blue"


def dropping(snapshot: Snapshot | None = None) -> Snapshot:
    return replace(snapshot or world(), drop_private=True)


def blue(**fields: object) -> Fabric:
    """With another network blue."""
    return changed(BLUE, **fields)


def changed(id_: str, **fields: object) -> Fabric:
    network = replace(world().networks[id_], **fields)  # type: ignore[arg-type]
    return Fabric.of(dropping().apply(2, [NetworkChange(id_, network)]))


@cache
def plain() -> Fabric:
    return Fabric.of(dropping())


def drop_of(journey: Journey) -> Drop | None:
    assert (journey.delivered, journey.wire, journey.heard, journey.punts) == ((), (), (), ())
    return journey.hops[0].result.drop


@pytest.mark.parametrize("target", PRIVATE)
def test_what_is_private_stays_in(target: str) -> None:
    for sender in (BLUE_1, RED_1, FLAT_1):
        key = world().networks[sender.network].key
        assert drop_of(send(sender, sender.udp(ip(target)), plain())) == Drop(Rule.DROP_PRIVATE, key, Reason.RULE)
        assert len(send(sender, sender.udp(ip(target))).heard) == 1, "only if the operator says so"


@pytest.mark.parametrize("target", PUBLIC)
def test_what_is_not_private_leaves(target: str) -> None:
    assert len(send(BLUE_1, BLUE_1.udp(ip(target)), plain()).heard) == 1


def test_also_from_a_floating_ip() -> None:
    given = floating_ip(1, world().ports["port-20"])
    through = Fabric.of(dropping().apply(2, [FloatingIpChange(given.id, given)]))
    assert drop_of(send(BLUE_1, BLUE_1.udp(ip("10.99.0.1")), through)) == Drop(Rule.DROP_PRIVATE, 2, Reason.RULE)


def test_networks_that_are_routed_to_each_other_reach_each_other() -> None:
    assert [one.ofport for one in send(BLUE_1, BLUE_1.udp(BLUE2_2.ip), plain()).delivered] == [BLUE2_2.ofport]


def test_a_static_route_leads_on_however_wide_it_is() -> None:
    for wide in ("10.99.0.0/16", "172.0.0.0/8", "192.0.0.0/7", "10.96.0.0/11"):
        route = StaticRoute(IPv4Network(wide), IPv4Address(BLUE_2.ip))
        journey = send(BLUE_1, BLUE_1.udp(int(route.destination[1 << 20 if route.destination.prefixlen < 12 else 9])),
                       blue(routes=(route,)))  # fmt: skip
        assert [one.ofport for one in journey.delivered] == [BLUE_2.ofport], wide


def test_what_is_exempt_leaves_as_it_is() -> None:
    through = blue(snat_exempt=(IPv4Network("10.99.0.0/16"), IPv4Network("192.0.0.0/8")))
    for target in ("10.99.0.1", "192.168.7.7"):
        (frame,) = send(BLUE_1, BLUE_1.udp(ip(target)), through).heard
        assert frame.packet["ip_src"] == BLUE_1.ip
    for target in ("10.98.0.1", "172.16.0.1"):
        assert drop_of(send(BLUE_1, BLUE_1.udp(ip(target)), through)) == Drop(Rule.DROP_PRIVATE, 2, Reason.RULE)


def test_what_is_taken_from_a_router_of_the_operators_by_its_range_leaves() -> None:
    """Of a network with that router a port with a floating IP is lifted as well, but names nothing."""
    external = {"gateway_mode": GatewayMode.EXTERNAL, "force_snat": (IPv4Network("10.99.0.0/16"),)}
    network = replace(world().networks[BLUE], **external)  # type: ignore[arg-type]
    given = floating_ip(1, world().ports["port-20"])
    through = Fabric.of(dropping().apply(2, [NetworkChange(BLUE, network), FloatingIpChange(given.id, given)]))
    router = 0x020000000042
    (frame,) = send(BLUE_1, BLUE_1.udp(ip("10.99.0.1"), router), through).heard
    assert frame.packet["ip_src"] == int(given.address)
    elsewhere = send(BLUE_1, BLUE_1.udp(ip("10.98.0.1"), router), through)
    assert drop_of(elsewhere) == Drop(Rule.DROP_PRIVATE, 2, Reason.RULE)


def test_an_external_network_with_private_addresses_is_reached() -> None:
    """Itself, and not what is behind its router."""
    outside = world().networks[EXTERNAL]
    through = changed(EXTERNAL, subnets=(*outside.subnets, subnet("192.168.7.0/24", "192.168.7.1")))
    ((_, punt),) = send(BLUE_1, BLUE_1.udp(ip("192.168.7.9")), through).punts
    assert punt.rule is Rule.PUNT_UNRESOLVED, "nobody has heard that neighbour yet"
    assert drop_of(send(BLUE_1, BLUE_1.udp(ip("192.168.8.9")), through)) == Drop(Rule.DROP_PRIVATE, 2, Reason.RULE)


def test_ipv6() -> None:
    key = world6().networks[BLUE].key
    through = Fabric.of(dropping(world6()))
    sender = ipv6.BLUE_1
    for target in ("fc00::1", "fd00:1::9", "fdff::1"):
        assert len(send6(sender, sender.udp(ip6(target))).heard) == 1
        assert drop_of(send6(sender, sender.udp(ip6(target)), through)) == Drop(Rule.DROP_PRIVATE, key, Reason.RULE)
    for number in (SERVER6, int(IPv6Address("fbff::1"))):
        assert len(send6(sender, sender.udp(number), through).heard) == 1
    assert send6(sender, sender.udp(ipv6.BLUE2_2.ip), through).delivered


def test_ipv6_of_an_external_network_is_reached() -> None:
    outside = world6().networks[EXTERNAL]
    local = replace(outside.ipv6_subnets[0], id="local", cidr=IPv6Network("fd00:7::/64"), gateway=None)
    wider = replace(outside, ipv6_subnets=(*outside.ipv6_subnets, local))
    through = Fabric.of(dropping(world6()).apply(9, [NetworkChange(EXTERNAL, wider)]))
    sender = ipv6.BLUE_1
    ((_, punt),) = send6(sender, sender.udp(ip6("fd00:7::9")), through).punts
    assert punt.rule is Rule.PUNT_UNRESOLVED_IPV6, "nobody has heard that neighbour yet"
    drop = drop_of(send6(sender, sender.udp(ip6("fd00:8::9")), through))
    assert drop is not None and drop.rule is Rule.DROP_PRIVATE


def test_what_is_named_follows_each_change() -> None:
    before = dropping(world6())
    outside, own = before.networks[EXTERNAL], before.networks[BLUE]
    more = (*outside.subnets, subnet("192.168.7.0/24", "192.168.7.1"))
    changes = [
        NetworkChange(EXTERNAL, replace(outside, subnets=more)),
        NetworkChange(BLUE, replace(own, snat_exempt=(IPv4Network("10.99.0.0/16"),))),
        NetworkChange(EXTERNAL, outside),
    ]
    program = compile_node(before, "n1")
    for revision, change in enumerate(changes, start=2):
        after = before.apply(revision, [change])
        program, _ = recompile(program, before, after, [change], "n1")
        whole = compile_node(after, "n1")
        assert set(program.flows()) == set(whole.flows()) and program.digest == whole.digest
        assert not whole.failures and after.drop_private
        before = after
