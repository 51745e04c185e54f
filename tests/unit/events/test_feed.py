"""What becomes an event, and in which words."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from controller.events.feed import MOST_LEASE_EVENTS, QUIET, Feed
from controller.events.ring import Events, Kind
from controller.packet_in.floods import Mute
from controller.packet_in.leases import LeaseState
from flows.model import (
    Binding,
    Change,
    FloatingIp,
    FloatingIpChange,
    Migration,
    MigrationPhase,
    NetworkChange,
    NodeChange,
    Port,
    PortChange,
)
from flows.rules import Rule
from tests import world as cloud_of


class World:
    def __init__(self) -> None:
        self.now = 1000.0
        self.snapshot = cloud_of.cloud()
        self.active: set[str] = set()
        self.events = Events()
        self.feed = Feed(
            self.events, lambda: self.snapshot, lambda port: port.id in self.active, monotonic=lambda: self.now
        )

    def follow(self, *changes: Change) -> None:
        before, self.snapshot = self.snapshot, self.snapshot.apply(self.snapshot.revision + 1, changes)
        self.feed.followed(before, self.snapshot, changes)

    def said(self) -> list[str]:
        """Since the last call."""
        page = self.events.since(self.last, 99, lambda event: True)
        self.last = page.last
        return [f"{event.kind}: {event.text}" for event in page.events]

    last = 0


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def port(world: World) -> Port:
    return replace(world.snapshot.ports["port-10"], name="web1")


def test_a_port_is_plugged_in_becomes_active_moves_and_is_gone(world: World, port: Port) -> None:
    world.follow(PortChange(port.id, replace(port, binding=None)))
    world.said()
    world.follow(PortChange(port.id, replace(port, binding=Binding("n1", 200, 7))))
    assert world.said() == ["port: web1 is plugged in on n1"]
    world.feed.progressed("n1")
    world.feed.progressed("n2")
    assert world.said() == []
    world.active.add(port.id)
    world.feed.progressed("n1")
    world.feed.progressed("n1")
    assert world.said() == ["port: web1 is active on n1"]
    expected = Migration(MigrationPhase.PREPARED, Binding("n2", 200, 7))
    world.follow(PortChange(port.id, replace(port, binding=Binding("n1", 200, 7), migration=expected)))
    assert world.said() == ["port: web1 is expected on n2"]
    world.follow(PortChange(port.id, replace(port, binding=Binding("n2", 200, 7))))
    assert world.said() == ["port: web1 has moved from n1 to n2", "port: web1 is active on n2"]
    world.follow(PortChange(port.id, replace(port, binding=None)))
    assert world.said() == ["port: web1 is inactive on n2: its interface is gone"]


def test_an_event_of_a_port_says_whose_it_is(world: World, port: Port) -> None:
    world.feed.lease("n1", replace(port, project_id="green"), IPv4Address("10.0.0.1"), LeaseState.BOUND)
    (event,) = world.events.latest(9, lambda event: True).events
    assert (event.project_id, event.port_id, event.network_id, event.node) == ("green", port.id, port.network_id, "n1")


def test_of_leases_the_first_and_its_first_renewal(world: World, port: Port) -> None:
    network = world.snapshot.networks[port.network_id].name

    def lease(state: LeaseState) -> list[str]:
        world.feed.lease("n1", port, IPv4Address("10.0.0.1"), state)
        return world.said()

    assert lease(LeaseState.BOUND) == [f"lease: web1 got 10.0.0.1 on {network} (n1)"]
    assert lease(LeaseState.BOUND) == [f"lease: web1 renewed 10.0.0.1 on {network} (n1)"]
    assert lease(LeaseState.BOUND) == []
    assert lease(LeaseState.RELEASED) == [f"lease: web1 gave back 10.0.0.1 on {network} (n1)"]
    # a VM that does nothing else fills no ring
    flood = [lease(state) for _ in range(9) for state in (LeaseState.BOUND, LeaseState.RELEASED)]
    assert sum(map(len, flood)) == MOST_LEASE_EVENTS - 3 and flood[0] and not flood[-1]
    world.now += QUIET
    assert lease(LeaseState.BOUND) == [f"lease: web1 got 10.0.0.1 on {network} (n1)"]
    assert len(lease(LeaseState.DECLINED)) == 1


def test_a_floating_ip_moves(world: World, port: Port) -> None:
    other = replace(world.snapshot.ports["port-11"], name="web2")
    world.follow(PortChange(port.id, port), PortChange(other.id, other))
    world.said()
    it = FloatingIp("f1", 1, port.network_id, IPv4Address("192.0.2.9"))
    world.follow(FloatingIpChange("f1", it))
    assert world.said() == []
    world.follow(FloatingIpChange("f1", replace(it, port_id=port.id, fixed_ip=port.fixed_ips[0].address)))
    world.follow(FloatingIpChange("f1", replace(it, port_id=other.id, fixed_ip=other.fixed_ips[0].address)))
    world.follow(FloatingIpChange("f1", it))
    assert world.said() == [
        "floating_ip: 192.0.2.9 leads to web1",
        "floating_ip: 192.0.2.9 has moved from web1 to web2",
        "floating_ip: 192.0.2.9 leads to web2 no more",
    ]


def test_a_project_is_not_told_the_names_of_others(world: World, port: Port) -> None:
    """An administrator may lead a project's floating IP to the port of another one."""
    mine = replace(world.snapshot.ports["port-11"], name="mine", project_id="a")
    world.follow(PortChange(port.id, replace(port, name="secret", project_id="b")), PortChange(mine.id, mine))
    world.said()
    it = FloatingIp("f1", 1, port.network_id, IPv4Address("192.0.2.9"), project_id="a")
    world.follow(FloatingIpChange("f1", replace(it, port_id=port.id, fixed_ip=port.fixed_ips[0].address)))
    world.follow(FloatingIpChange("f1", replace(it, port_id=mine.id, fixed_ip=mine.fixed_ips[0].address)))
    assert world.said() == [
        f"floating_ip: 192.0.2.9 leads to port {port.id}",
        f"floating_ip: 192.0.2.9 has moved from port {port.id} to mine",
    ]


def test_nodes_and_gateway_nodes(world: World, port: Port) -> None:
    node = world.snapshot.nodes["n1"]
    world.follow(NodeChange("n9", replace(node, name="n9", key=99, datapath_id=99)), NodeChange("n1", node))
    world.follow(NodeChange("n9", None))
    network = world.snapshot.networks[port.network_id]
    world.follow(NetworkChange(network.id, replace(network, gateway_node="n1")))
    world.follow(NetworkChange(network.id, replace(network, gateway_node="n2")))
    world.feed.of_node(Kind.NODE, "n1", "is connected")
    world.feed.controllers(["c2"], ["c1"])
    assert world.said() == [
        "node: n9 is registered",
        "node: n9 is deleted",
        f"network: {network.name} goes out by n2 and not by n1 any more",
        "node: n1 is connected",
        "controller: controller c2 is there",
        "controller: controller c1 is gone: others take its nodes over",
    ]


def test_a_port_sends_what_is_not_its_own(world: World, port: Port) -> None:
    world.follow(PortChange(port.id, port))
    world.said()
    world.feed.dropping("n1", Rule.DROP_SPOOFED, port.key, 12)
    world.feed.dropping("n1", Rule.DROP_SPOOFED, 999999, 12)
    world.feed.dropping_more("n1", 3)
    assert world.said() == [
        "drop: web1 sends what is dropped, 12 packets so far (source MAC, IP or ARP address not the port's own)",
        "drop: so do 3 more ports on n1",
    ]


def test_a_port_is_muted(world: World, port: Port) -> None:
    world.follow(PortChange(port.id, port))
    world.said()
    world.feed.muted("n1", Mute(Rule.PUNT_DHCP, port.key, 60))
    world.feed.muted("n1", Mute(Rule.PUNT_DHCP, 999999, 60))
    (said,) = world.said()
    assert said.startswith("mute: web1 floods: it is not heard for 60 s")
