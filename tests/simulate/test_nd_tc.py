"""Neighbour advertisements on the kernel's datapath: out by the service port, written there by tc, and back."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from flows.fabric import Delivery, Fabric, Frame
from flows.ipv6 import LINK_LOCAL, eui64
from flows.packet import Packet, packet
from flows.pipeline import (
    GATEWAY_LINK_LOCAL,
    GATEWAY_MAC,
    METADATA_LINK_LOCAL,
    SERVICE_MAC,
    SERVICE_OFPORT,
    nd_code,
    node_mac,
)
from flows.protocols import ND_IS_ROUTER, ND_OVERRIDE, ND_SOLICITED, ND_TARGET_ADDRESS
from flows.view import mac_text
from tests.ipv6_world import ROUTER as ROUTER_ADDRESS
from tests.simulate.cloud import EXTERNAL_UPLINK
from tests.simulate.ipv6 import ALL_NODES, BLUE_1, ROUTER, SERVER6, advertisement_to, group_mac, world6
from tests.world import on_kernel

HOST_FLAGS = ND_SOLICITED | ND_OVERRIDE
OUTSIDE = replace(BLUE_1, node="", mac=ROUTER, ip=SERVER6)


@cache
def fabric() -> Fabric:
    return Fabric.of(on_kernel(world6()))


def written(sent: Packet) -> Packet:
    """Return what the rules of agent/nd_tc.py make of an advertisement."""
    flags = sent["icmpv6_code"]
    assert flags in {nd_code(ND_IS_ROUTER | HOST_FLAGS), nd_code(HOST_FLAGS), nd_code(ND_OVERRIDE)}
    option = ND_TARGET_ADDRESS if sent["nd_tll"] else 0
    return packet(**dict(sent) | {"icmpv6_code": 0, "nd_reserved": flags << 24, "nd_options_type": option})


def round_by_tc(node: str, ofport: int, sent: Packet) -> tuple[tuple[Delivery, ...], tuple[Frame, ...]]:
    """Return what a node delivers and sends to the wire once tc has sent an advertisement back."""
    out = fabric().send(node, ofport, sent)
    ((_, port, frame),) = out.delivered
    assert port == SERVICE_OFPORT and not out.heard
    back = fabric().send(node, SERVICE_OFPORT, written(frame))
    return back.delivered, back.heard


@pytest.mark.parametrize(
    ("target", "flags"), [(GATEWAY_LINK_LOCAL, ND_IS_ROUTER | HOST_FLAGS), (METADATA_LINK_LOCAL, HOST_FLAGS)]
)
def test_the_gateway_and_metadata_answer_the_port_that_asked(target: int, flags: int) -> None:
    (delivery,), heard = round_by_tc("n1", BLUE_1.ofport, BLUE_1.solicits(target))
    assert (delivery.ofport, heard) == (BLUE_1.ofport, ())
    assert delivery.packet == advertisement_to(BLUE_1, GATEWAY_MAC, target, flags)


def test_a_question_without_a_mac_gets_an_answer_without_one() -> None:
    (delivery,), _ = round_by_tc("n1", BLUE_1.ofport, BLUE_1.solicits(GATEWAY_LINK_LOCAL, nd_sll=0, nd_options_type=0))
    wanted = advertisement_to(BLUE_1, GATEWAY_MAC, GATEWAY_LINK_LOCAL, ND_IS_ROUTER | HOST_FLAGS)
    assert delivery.packet == wanted.but(nd_tll=0, nd_options_type=0)


def test_a_vm_and_the_node_itself_are_advertised_outside() -> None:
    own = int(eui64(LINK_LOCAL, mac_text(node_mac(1))))
    for asker, target in ((replace(OUTSIDE, ip=int(ROUTER_ADDRESS)), BLUE_1.ip), (OUTSIDE, own)):
        delivered, (heard,) = round_by_tc("n1", EXTERNAL_UPLINK, asker.solicits(target))
        assert not delivered and heard.packet == advertisement_to(asker, node_mac(1), target, HOST_FLAGS)


def test_a_prober_outside_hears_that_the_address_is_taken() -> None:
    _, (heard,) = round_by_tc("n1", EXTERNAL_UPLINK, OUTSIDE.probes(BLUE_1.ip))
    wanted = advertisement_to(OUTSIDE, node_mac(1), BLUE_1.ip, ND_OVERRIDE)
    assert heard.packet == wanted.but(eth_dst=group_mac(ALL_NODES), ipv6_dst=ALL_NODES, nd_tll=0, nd_options_type=0)


def test_the_relay_cannot_speak_for_the_gateway() -> None:
    """Only what carries the key of a port, or of an external network, as its source MAC goes on."""
    told = advertisement_to(BLUE_1, SERVICE_MAC, GATEWAY_LINK_LOCAL)
    journey = fabric().send("n1", SERVICE_OFPORT, told)
    assert not journey.delivered and not journey.heard
