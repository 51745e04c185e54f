"""What leaves for an external network: its router, its neighbours, and what waits for either."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flows.fabric import Fabric
from flows.model import NodeChange
from flows.packet import Packet, packet
from flows.pipeline import node_mac
from flows.protocols import ETH_ARP, ETH_IP
from flows.rules import Rule
from tests.simulate.cloud import (
    BLUE_1,
    BROADCAST,
    EXTERNAL_PHYSNET,
    NEXT_HOP,
    RED_1,
    SERVER,
    Vm,
    fabric,
    ip,
    send,
    world,
)

NEIGHBOUR, NEIGHBOUR_MAC = ip("203.0.113.50"), 0x020000000050
SNAT = ip("203.0.113.11")


def heard(kind: str) -> Packet:
    """What a neighbour sends to this node or to all."""
    known = {"eth_src": NEIGHBOUR_MAC, "eth_dst": BROADCAST}
    if kind == "arp":
        asked = {"arp_op": 1, "arp_sha": NEIGHBOUR_MAC, "arp_spa": NEIGHBOUR, "arp_tpa": NEIGHBOUR}
        return packet(**known, eth_type=ETH_ARP, **asked)
    return packet(**known, eth_type=ETH_IP, ip_proto=17, ip_src=NEIGHBOUR, ip_dst=SNAT, udp_src=1, udp_dst=2)


def deaf() -> Fabric:
    """The node does not know its router's MAC."""
    n1 = world().nodes["n1"]
    return Fabric.of(world().apply(2, [NodeChange("n1", replace(n1, neighbours=()))]))


@pytest.mark.parametrize("sender", [BLUE_1, RED_1], ids=["plain", "carrier"])
def test_without_the_routers_mac_a_packet_waits(sender: Vm) -> None:
    journey = send(sender, sender.udp(SERVER), deaf())
    ((_, punt),) = journey.punts
    assert (punt.rule, punt.key, punt.packet["ip_src"], punt.packet["eth_dst"]) == (Rule.PUNT_UNRESOLVED, 9, SNAT, 0)
    assert journey.heard == ()


def test_an_unknown_neighbour_is_reached_by_the_router_and_asked_for_once() -> None:
    journey = send(BLUE_1, BLUE_1.udp(NEIGHBOUR))
    ((_, punt),) = journey.punts
    assert (punt.rule, punt.key, punt.packet["ip_dst"]) == (Rule.PUNT_ON_LINK, 9, NEIGHBOUR)
    assert [frame.packet["eth_dst"] for frame in journey.heard] == [NEXT_HOP]
    again = send(BLUE_1, BLUE_1.udp(NEIGHBOUR), journey.after)
    assert again.punts == () and [frame.packet["eth_dst"] for frame in again.heard] == [NEXT_HOP]


@pytest.mark.parametrize("kind", ["arp", "ip"])
def test_a_neighbour_that_was_heard_is_reached_directly(kind: str) -> None:
    through = fabric().send_from_outside(EXTERNAL_PHYSNET, heard(kind)).after
    journey = send(BLUE_1, BLUE_1.udp(NEIGHBOUR), through)
    assert journey.punts == ()
    (frame,) = journey.heard
    assert (frame.packet["eth_dst"], frame.packet["eth_src"]) == (NEIGHBOUR_MAC, node_mac(1))
    elsewhere = send(BLUE_1, BLUE_1.udp(SERVER), through)
    assert [one.packet["eth_dst"] for one in elsewhere.heard] == [NEXT_HOP]


def test_a_neighbour_that_was_asked_for_is_reached_directly_as_soon_as_it_is_heard() -> None:
    asked = send(BLUE_1, BLUE_1.udp(NEIGHBOUR)).after
    through = asked.send_from_outside(EXTERNAL_PHYSNET, heard("arp")).after
    assert [frame.packet["eth_dst"] for frame in send(BLUE_1, BLUE_1.udp(NEIGHBOUR), through).heard] == [NEIGHBOUR_MAC]


def test_a_neighbour_heard_by_way_of_the_router_is_not_taken_to_be_there() -> None:
    through = fabric().send_from_outside(EXTERNAL_PHYSNET, heard("ip").but(eth_src=NEXT_HOP)).after
    ((_, punt),) = send(BLUE_1, BLUE_1.udp(NEIGHBOUR), through).punts
    assert punt.rule is Rule.PUNT_ON_LINK
