"""Several subnets of one network: switched within each, routed between them, and gone when they are taken away."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from ipaddress import IPv4Address

import pytest

from flows.compile import compile_node
from flows.fabric import Delivery, Fabric
from flows.ir import Flow
from flows.model import Change, FixedIp, NetworkAddress, NetworkChange, NodeChange, PortChange
from flows.pipeline import GATEWAY_MAC, Table
from flows.rules import Rule
from flows.snapshot import Snapshot
from tests.simulate.cloud import BLUE2_1, BLUE_1, BLUE_2, NEXT_HOP, SERVER, Vm, ip, send, vm, world
from tests.world import NODES, networks, node, port, subnet

BLUE = networks()[1]
SECOND = subnet("10.22.0.0/24")
GROWN = replace(BLUE, subnets=(*BLUE.subnets, SECOND))
HERE, THERE, BOTH = 25, 26, 27  # of the second subnet on n1, on n2; of both on n2


def subnet_comes() -> list[Change]:
    """Each node is a gateway in it."""
    changes: list[Change] = [NetworkChange(BLUE.id, GROWN)]
    for name in NODES:
        made = node(name)
        own = NetworkAddress(BLUE.id, SECOND.cidr[made.key])
        changes.append(NodeChange(name, replace(made, gateways=(*made.gateways, own))))
    return changes


@cache
def cloud() -> Snapshot:
    """Blue with another subnet, and ports in it."""
    changes = subnet_comes()
    only_second = replace(GROWN, subnets=(SECOND,))
    changes += [PortChange(f"port-{key}", port(key, only_second, key, at)) for key, at in ((HERE, "n1"), (THERE, "n2"))]
    both = port(BOTH, only_second, BOTH, "n2")
    fixed_ips = (*both.fixed_ips, FixedIp(BLUE.subnets[0].id, IPv4Address("10.20.0.27")))
    changes.append(PortChange(both.id, replace(both, fixed_ips=fixed_ips)))
    return world().apply(2, changes)


@cache
def fabric() -> Fabric:
    return Fabric.of(cloud())


def second(key: int) -> Vm:
    return vm(key, cloud())


@pytest.mark.parametrize("sender", [BLUE_1, BLUE_2, BLUE2_1])
@pytest.mark.parametrize("key", [HERE, THERE, BOTH])
def test_routed_between_subnets_and_back(sender: Vm, key: int) -> None:
    receiver = second(key)
    there = send(sender, sender.udp(receiver.ip), fabric())
    (arrived,) = there.delivered
    assert (arrived.node, arrived.ofport) == (receiver.node, receiver.ofport)
    routed = {name: arrived.packet[name] for name in ("eth_src", "eth_dst", "nw_ttl", "ip_src", "ip_dst")}
    assert routed == {
        "eth_src": GATEWAY_MAC,
        "eth_dst": receiver.mac,
        "nw_ttl": 63,
        "ip_src": sender.ip,
        "ip_dst": receiver.ip,
    }
    (back,) = send(receiver, receiver.udp(sender.ip), fabric()).delivered
    assert (back.node, back.ofport, back.packet["ip_src"]) == (sender.node, sender.ofport, receiver.ip)


def test_within_a_subnet_it_is_switched() -> None:
    sender, receiver = second(HERE), second(THERE)
    sent = sender.udp(receiver.ip, receiver.mac)
    assert send(sender, sent, fabric()).delivered == (Delivery("n2", receiver.ofport, sent),)


def test_the_other_address_of_a_port() -> None:
    receiver = second(BOTH)
    (arrived,) = send(BLUE_1, BLUE_1.udp(ip("10.20.0.27"), receiver.mac), fabric()).delivered
    assert (arrived.node, arrived.ofport) == ("n2", receiver.ofport)
    sent = receiver.udp(BLUE_1.ip, BLUE_1.mac, ip_src=ip("10.20.0.27"))
    assert send(receiver, sent, fabric()).delivered == (Delivery("n1", BLUE_1.ofport, sent),)


@pytest.mark.parametrize("sender", [BLUE_1, BLUE2_1], ids=["blue", "blue2"])
@pytest.mark.parametrize("gateway", ["10.20.0.2", "10.22.0.1", "10.22.0.3"])
def test_gateways_of_each_subnet_answer(sender: Vm, gateway: str) -> None:
    (answer,) = send(sender, sender.echo(ip(gateway)), fabric()).delivered
    assert (answer.node, answer.ofport, answer.packet["ip_src"]) == (sender.node, sender.ofport, ip(gateway))


def test_arp_for_the_gateways_of_each_subnet() -> None:
    sender = second(HERE)
    for host in (1, 2, 3):
        (answer,) = send(sender, sender.arp(ip(f"10.22.0.{host}")), fabric()).delivered
        assert (answer.ofport, answer.packet["arp_sha"]) == (sender.ofport, GATEWAY_MAC)


@pytest.mark.parametrize("source", ["10.20.0.27", "10.22.0.26", "10.20.0.99"])
def test_an_address_of_a_sibling_is_spoofed(source: str) -> None:
    sender = second(HERE)
    journey = send(sender, sender.udp(BLUE_1.ip, ip_src=ip(source)), fabric())
    assert not journey.delivered
    assert journey.hops[0].result.steps[-1].rule is Rule.DROP_SPOOFED


def test_out_behind_the_nodes_address() -> None:
    for sender in (second(HERE), second(BOTH)):
        (sent,) = send(sender, sender.udp(SERVER), fabric()).wire
        assert sent.packet["ip_src"] == ip(f"203.0.113.{10 + int(sender.node[1:])}")
        assert sent.packet["eth_dst"] == NEXT_HOP


def flows_of(snapshot: Snapshot, name: str) -> set[Flow]:
    return {flow for flow in compile_node(snapshot, name).flows() if flow.table != Table.STAMP}


def test_a_subnet_that_is_gone_leaves_nothing() -> None:
    gone: list[Change] = [NetworkChange(BLUE.id, BLUE), *(NodeChange(name, node(name)) for name in NODES)]
    gone += [PortChange(f"port-{key}", None) for key in (HERE, THERE, BOTH)]
    after = cloud().apply(3, gone)
    for name in NODES[:2]:
        assert flows_of(cloud(), name) != flows_of(world(), name)
        assert flows_of(after, name) == flows_of(world(), name)


def test_a_subnet_more_changes_no_flow_that_is_there() -> None:
    """So nothing that is on its way is lost while it comes."""
    grown = world().apply(2, subnet_comes())
    for name in NODES[:2]:
        assert flows_of(world(), name) < flows_of(grown, name)
