"""Metadata and DNS over TCP by IPv6: from a VM to the relay of its node, under its carrier address, and back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flows.compile import compile_node
from flows.fabric import Fabric, Journey
from flows.ir import Output
from flows.model import GatewayMode, Ipv6FixedIp, Network, NetworkChange, PortChange
from flows.packet import Packet
from flows.pipeline import GATEWAY_MAC, METADATA_LINK_LOCAL, SERVICE_MAC, SERVICE_OFPORT, ipv6_carrier_address
from flows.protocols import ND_OVERRIDE, ND_SOLICITED, PROTO_UDP
from flows.rules import Rule
from flows.simulate import Drop, Reason
from flows.snapshot import Snapshot
from tests.ipv6_world import with_address, with_subnet
from tests.simulate.ipv6 import (
    BLUE2_1,
    BLUE_1,
    BLUE_2,
    GATEWAY,
    HOSTS,
    RED_1,
    Host,
    advertisement_to,
    fabric6,
    host,
    ip6,
    send6,
    world6,
)
from tests.simulate.test_ipv6 import GLOBAL_GATEWAY
from tests.world import EXTERNAL, filtered, port, security_group

NOTHING_ALLOWED = security_group(7)


def metadata(sender: Host, **fields: int) -> Packet:
    """From the link-local address, as a guest chooses it (RFC 6724, rule 2)."""
    return sender.tcp(METADATA_LINK_LOCAL, 80, **{"ipv6_src": sender.local} | fields)


def heard(sender: Host, journey: Journey) -> Packet:
    """What the relay of the sender's node sees."""
    (delivery,) = journey.delivered
    assert (delivery.node, delivery.ofport, journey.wire) == (sender.node, SERVICE_OFPORT, ())
    assert delivery.packet["eth_dst"] == SERVICE_MAC
    return delivery.packet


def answered(node: str, seen: Packet, through: Fabric, **fields: int) -> Journey:
    back = {"eth_src": SERVICE_MAC, "eth_dst": SERVICE_MAC, "ipv6_src": seen["ipv6_dst"], "ipv6_dst": seen["ipv6_src"]}
    ports = {"tcp_src": seen["tcp_dst"], "tcp_dst": seen["tcp_src"]}
    return through.send(node, SERVICE_OFPORT, seen.but(**back | ports | fields))


def dropped(journey: Journey) -> Drop | None:
    assert (journey.delivered, journey.wire, journey.punts) == ((), (), ())
    return journey.hops[-1].result.drop


def there_and_back(sender: Host, sent: Packet, through: Fabric) -> Fabric:
    journey = send6(sender, sent, through)
    seen = heard(sender, journey)
    assert (seen["ipv6_src"], seen["ipv6_dst"]) == (ipv6_carrier_address(sender.key), sent["ipv6_dst"])
    back = answered(sender.node, seen, journey.after)
    (delivery,) = back.delivered
    assert (delivery.node, delivery.ofport) == (sender.node, sender.ofport)
    it = delivery.packet
    assert (it["eth_src"], it["eth_dst"], it["ipv6_dst"]) == (GATEWAY_MAC, sender.mac, sent["ipv6_src"])
    assert (it["ipv6_src"], it["tcp_src"], it["tcp_dst"]) == (sent["ipv6_dst"], sent["tcp_dst"], sent["tcp_src"])
    return back.after


def on_external() -> tuple[Snapshot, Host]:
    """A VM on the external network itself, on n1."""
    network = world6().networks[EXTERNAL]
    added = with_address(port(90, network, 90, "n1"), network)
    snapshot = world6().apply(world6().revision + 1, [PortChange(added.id, added)])
    return snapshot, host(90, snapshot)


@pytest.mark.parametrize("sender", HOSTS, ids=lambda one: f"port-{one.key}")
def test_metadata_under_the_ports_own_carrier_address_and_back(sender: Host) -> None:
    through = there_and_back(sender, metadata(sender), fabric6())
    there_and_back(sender, metadata(sender, ipv6_src=sender.ip), through)


@pytest.mark.parametrize("address", [GATEWAY, GLOBAL_GATEWAY, ip6("2001:db8:21::1")])
def test_dns_over_tcp_to_any_gateway_of_the_router(address: int) -> None:
    there_and_back(BLUE_1, BLUE_1.tcp(address, 53), fabric6())


def in_mode(mode: GatewayMode) -> Fabric:
    network: Network = replace(world6().networks["net-blue"], gateway_mode=mode)
    return Fabric.of(world6().apply(world6().revision + 1, [NetworkChange(network.id, network)]))


@pytest.mark.parametrize("mode", list(GatewayMode))
def test_on_each_network_it_is_found_and_answers_whatever_mac_it_is_sent_to(mode: GatewayMode) -> None:
    through = in_mode(mode)
    (answer,) = send6(BLUE_1, BLUE_1.solicits(METADATA_LINK_LOCAL), through).hops[0].result.answers
    expected = advertisement_to(BLUE_1, GATEWAY_MAC, METADATA_LINK_LOCAL, ND_SOLICITED | ND_OVERRIDE)
    assert answer == expected
    for mac in (GATEWAY_MAC, 0x0200000000FE):
        through = there_and_back(BLUE_1, metadata(BLUE_1, eth_dst=mac), through)


def test_on_an_external_network_too() -> None:
    snapshot, sender = on_external()
    through = Fabric.of(snapshot)
    (answer,) = send6(sender, sender.solicits(METADATA_LINK_LOCAL), through).hops[0].result.answers
    assert answer == advertisement_to(sender, GATEWAY_MAC, METADATA_LINK_LOCAL, ND_SOLICITED | ND_OVERRIDE)
    there_and_back(sender, metadata(sender), through)


def test_nobody_says_it_is_there() -> None:
    assert dropped(send6(BLUE_1, BLUE_1.advertises(METADATA_LINK_LOCAL))) == Drop(
        Rule.DROP_ND_SPOOFED, BLUE_1.key, Reason.RULE
    )


def test_a_port_without_an_address_has_none_of_it() -> None:
    bare = replace(world6().ports["port-20"], ipv6_addresses=())
    through = Fabric.of(world6().apply(world6().revision + 1, [PortChange(bare.id, bare)]))
    assert dropped(send6(BLUE_1, metadata(BLUE_1), through)) == Drop(Rule.DROP_IPV6, BLUE_1.key, Reason.RULE)


def test_security_groups_have_no_say_in_it() -> None:
    through = Fabric.of(filtered(world6(), NOTHING_ALLOWED))
    there_and_back(BLUE_1, BLUE_1.tcp(GATEWAY, 53), there_and_back(BLUE_1, metadata(BLUE_1), through))


@pytest.mark.parametrize(
    "fields",
    [
        {"ipv6_src": BLUE_2.ip},
        {"ipv6_src": BLUE_2.local},
        {"eth_src": RED_1.mac},
        {"ipv6_src": ipv6_carrier_address(41)},
        {"ipv6_src": METADATA_LINK_LOCAL},
    ],
)
def test_under_anothers_address_it_gets_nothing(fields: dict[str, int]) -> None:
    drop = dropped(send6(BLUE_1, metadata(BLUE_1, **fields)))
    assert drop == Drop(Rule.DROP_SPOOFED, BLUE_1.key, Reason.RULE)


@pytest.mark.parametrize("claimed", [ipv6_carrier_address(RED_1.key), BLUE_2.local])
def test_without_port_security_it_is_known_by_its_port_all_the_same(claimed: int) -> None:
    unchecked = replace(world6().ports["port-20"], port_security=False)
    through = Fabric.of(world6().apply(world6().revision + 1, [PortChange(unchecked.id, unchecked)]))
    there_and_back(BLUE_1, metadata(BLUE_1, ipv6_src=claimed), through)


@pytest.mark.parametrize(
    "fields",
    [
        {"tcp_dst": 443},
        {"tcp_dst": 53},
        {"ip_frag": 1, "tcp_src": 0, "tcp_dst": 0},
        {"ip_proto": PROTO_UDP, "tcp_src": 0, "tcp_dst": 0, "udp_src": 4000, "udp_dst": 80},
    ],
)
def test_nothing_else_is_there(fields: dict[str, int]) -> None:
    drop = dropped(send6(BLUE_1, metadata(BLUE_1).but(**fields)))
    assert drop == Drop(Rule.DROP_METADATA, 0, Reason.RULE)


@pytest.mark.parametrize("number", [80, 22])
@pytest.mark.parametrize("address", [GATEWAY, GLOBAL_GATEWAY])
def test_a_gateway_has_nothing_else_either(address: int, number: int) -> None:
    drop = dropped(send6(BLUE_1, BLUE_1.tcp(address, number)))
    assert drop is not None and drop.rule is Rule.DROP_GATEWAY_IPV6


def test_only_what_is_translated_gets_to_the_relay() -> None:
    """Conntrack leaves as it is what it finds invalid, and what it has no room for."""
    flows = compile_node(world6(), "n1").flows()
    towards = [
        {name: value for name, value, _ in each.match} for each in flows if Output(SERVICE_OFPORT) in each.actions
    ]
    sources = {(match["reg6"], match["ipv6_src"]) for match in towards if "ipv6_src" in match}
    assert sources == {(one.key, ipv6_carrier_address(one.key)) for one in HOSTS if one.node == "n1"}


def test_the_relay_begins_nothing() -> None:
    seen = heard(BLUE_1, send6(BLUE_1, metadata(BLUE_1)))
    unasked = answered("n1", seen, fabric6())
    assert dropped(unasked) == Drop(Rule.DROP_SERVICE_UNASKED, 0, Reason.RULE)
    elsewhere = answered("n1", seen, fabric6(), ipv6_dst=ipv6_carrier_address(BLUE_2.key))
    assert dropped(elsewhere) == Drop(Rule.DROP_SERVICE, 0, Reason.RULE)


def test_two_that_ask_from_one_link_local_address_are_two() -> None:
    """The same MAC, and so the same address, in two projects."""
    red = world6().ports["port-40"]
    twin = with_address(replace(red, mac=world6().ports["port-20"].mac), with_subnet(world6().networks["net-red"]))
    snapshot = world6().apply(world6().revision + 1, [PortChange(twin.id, twin)])
    through = Fabric.of(snapshot)
    other = host(40, snapshot)
    assert (BLUE_1.local, BLUE_1.node) == (other.local, other.node)
    there_and_back(other, metadata(other), there_and_back(BLUE_1, metadata(BLUE_1), through))


def test_a_second_address_is_another_connection_of_the_same_port() -> None:
    """Both from one source port: one gives way."""
    own = world6().ports["port-20"]
    second = Ipv6FixedIp(own.ipv6_addresses[0].subnet_id, own.ipv6_addresses[0].address + 1)
    two = replace(own, ipv6_addresses=(*own.ipv6_addresses, second))
    through = Fabric.of(world6().apply(world6().revision + 1, [PortChange(two.id, two)]))
    first = send6(BLUE_1, metadata(BLUE_1, ipv6_src=BLUE_1.ip), through)
    other = send6(BLUE_1, metadata(BLUE_1, ipv6_src=int(second.address)), first.after)
    ports = [heard(BLUE_1, journey)["tcp_src"] for journey in (first, other)]
    assert ports[0] != ports[1]
    (delivery,) = answered("n1", heard(BLUE_1, other), other.after).delivered
    assert (delivery.packet["ipv6_dst"], delivery.packet["tcp_dst"]) == (int(second.address), 4000)


def test_the_link_local_gateway_is_of_the_vms_own_network_alone() -> None:
    """Where a network is only routed to, it has no flow for that address."""
    asked = [each for each in compile_node(world6(), "n1").flows() if ("ipv6_dst", GATEWAY, None) in each.match]
    keys = {value for each in asked for name, value, _ in each.match if name == "metadata"}
    assert keys == {world6().networks[one.network].key for one in HOSTS if one.node == "n1"}
    there_and_back(BLUE2_1, BLUE2_1.tcp(GLOBAL_GATEWAY, 53), fabric6())
