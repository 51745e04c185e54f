"""Questions to the resolver go to the controller, wherever DHCP says that it is; nothing else there does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flows.compile import compile_node
from flows.fabric import Fabric
from flows.ir import Meter
from flows.model import GatewayMode, NetworkChange
from flows.packet import Packet
from flows.pipeline import GATEWAY_MAC, RESOLVER_ADDRESS, dns_meter
from flows.rules import Rule, cookie
from flows.simulate import Result
from flows.snapshot import Snapshot
from tests.simulate.cloud import BLUE_1, BLUE_2, RED_1, SERVER, Vm, ip, send, world

ROUTER_MAC = 0x020000000077


def outcome(sender: Vm, sent: Packet, snapshot: Snapshot | None = None) -> Result:
    journey = send(sender, sent, None if snapshot is None else Fabric.of(snapshot))
    return journey.hops[0].result


def met(result: Result) -> list[Meter]:
    return [it for step in result.steps if step.flow for it in step.flow.actions if isinstance(it, Meter)]


@pytest.mark.parametrize("sender", [BLUE_1, BLUE_2])
@pytest.mark.parametrize(
    ("gateway", "network"),
    [("10.20.0.2", 2), ("10.20.0.3", 2), ("10.21.0.2", 3)],
    ids=["its node's", "another node's", "another network's of its router"],
)
def test_a_question_to_a_gateway(sender: Vm, gateway: str, network: int) -> None:
    result = outcome(sender, sender.udp(ip(gateway), port=53))
    (punt,) = result.punts
    assert punt.cookie == cookie(Rule.PUNT_DNS, network) and not result.outputs
    seat = world().ports[f"port-{sender.key}"].binding
    assert seat and Meter(dns_meter(seat.zone)) in met(result)


@pytest.mark.parametrize("mode", [GatewayMode.NONE, GatewayMode.EXTERNAL, GatewayMode.PER_HOST])
def test_a_question_to_the_address_that_is_the_same_anywhere(mode: GatewayMode) -> None:
    network = replace(world().networks["net-blue"], gateway_mode=mode)
    snapshot = world().apply(2, [NetworkChange(network.id, network)])
    for mac in (GATEWAY_MAC, ROUTER_MAC):  # by the default route of a router of the operator's, too
        result = outcome(BLUE_1, BLUE_1.udp(RESOLVER_ADDRESS, mac, port=53), snapshot)
        (punt,) = result.punts
        assert punt.cookie == cookie(Rule.PUNT_DNS_LINK_LOCAL) and not result.outputs
    result = outcome(BLUE_1, BLUE_1.arp(RESOLVER_ADDRESS), snapshot)
    (answered,) = result.outputs
    assert answered.packet["arp_op"] == 2 and answered.packet["arp_sha"] == GATEWAY_MAC
    assert answered.packet["arp_spa"] == RESOLVER_ADDRESS


@pytest.mark.parametrize(
    ("sender", "sent"),
    [
        (BLUE_1, BLUE_1.udp(SERVER, port=53)),  # a server of its own choice
        (BLUE_1, BLUE_1.udp(ip("10.20.0.2"), port=54)),
        (BLUE_1, BLUE_1.udp(RESOLVER_ADDRESS, port=54)),
        (RED_1, RED_1.udp(ip("10.21.0.2"), port=53)),  # another project's gateway
        (BLUE_1, BLUE_1.udp(ip("10.20.0.2"), port=53, ip_src=ip("10.20.0.99"))),
    ],
)
def test_nothing_else(sender: Vm, sent: Packet) -> None:
    punts = outcome(sender, sent).punts
    assert not [punt for punt in punts if punt.cookie >> 32 & 0xFFFFFF in (280, 281)]


def test_a_port_has_a_meter_for_questions_alone() -> None:
    found = {meter.id: meter for meter in compile_node(world(), "n1").meters()}
    assert found[dns_meter(10)].rate == 300
