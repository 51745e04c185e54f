"""A packet from node to node: what `flows.fabric` does for tests with all nodes, here with none but those on the way.

The wire between the nodes knows where everything is: a node that has nothing of what a frame is for is not asked what
it would do with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from flows.explain.target import Address, joined, port_at
from flows.ir import Flow, SetField, matching
from flows.model import Network, Port
from flows.packet import Packet
from flows.pipeline import (
    COPY_MAC_MASK,
    COPY_MAC_PREFIX,
    GATEWAY_NODE_MAC_PREFIX,
    NODE_MAC_MASK,
    NODE_MAC_PREFIX,
    ROUTED_GROUP_MAC,
    TEACHER_MAC_PREFIX,
    Priority,
    Table,
    gateway_node_mac,
    node_mac,
)
from flows.protocols import ETH_IP, ETH_IPV6, ETH_MULTICAST_BIT
from flows.rules import COOKIE_LEARNED
from flows.simulate import Result, Sent, State, Tables
from flows.snapshot import Snapshot
from flows.view import mac_to_int, vlan_match

MOST_HOPS: Final = 32
MOST_HEARERS: Final = 4
"""Nodes that are asked about a broadcast."""
MOST_STEPS: Final = 200
"""Lookups of one node that are told of: what goes to many ports is looked up for each."""


def nothing() -> None:
    """Nobody else wants a turn."""


@dataclass(frozen=True, slots=True)
class Passed:
    """What one node has made of a packet that came in at `in_port`."""

    node: str
    in_port: int
    packet: Packet
    result: Result

    @property
    def outputs(self) -> tuple[Sent, ...]:
        """What has left the node, but for what only tells another node where an address is."""
        return tuple(sent for sent in self.result.outputs if not _teaches(sent.packet))


@dataclass(frozen=True, slots=True)
class Delivered:
    node: str
    ofport: int
    packet: Packet


@dataclass(frozen=True, slots=True)
class Heard:
    """A frame on a physical network that is not, or not only, for nodes. `network` None: of no known VLAN. `machines`:
    one that the cloud knows nothing of may take it.
    """

    physical_network: str
    sender: str
    packet: Packet
    network: Network | None
    machines: bool


@dataclass(slots=True)
class Follower:
    """`switch_of` gives a node's switch. `more`: nodes that heard a broadcast, too, and were not asked."""

    snapshot: Snapshot
    switch_of: Callable[[str], Tables]
    first_node: str | None = None
    states: dict[str, State] = field(default_factory=dict)
    passed: list[Passed] = field(default_factory=list)
    delivered: list[Delivered] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    more: int = 0
    circles: bool = False
    _segments: dict[tuple[str, int], Network] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for network in self.snapshot.networks.values():
            self._segments[network.physical_network, vlan_match(network)] = network

    def again(self) -> Follower:
        """With all that the nodes remember, for the next packet."""
        return Follower(self.snapshot, self.switch_of, self.first_node, self.states)

    def know(self, node: str, network: Network, address: IPv4Address, mac: int) -> None:
        """A node has heard a neighbour on an external network, as it would have by now."""
        match = matching(eth_type=ETH_IP, metadata=network.key, ip_dst=int(address))
        actions = (SetField("eth_dst", mac),)
        known = Flow(Table.EXTERNAL_NEIGHBOUR, Priority.LEARNED, match, actions, COOKIE_LEARNED)
        state = self.states.get(node, State())
        self.states[node] = State(state.conntrack, {**state.learned, known.key: known})

    def send(self, node: str, ofport: int, packet: Packet) -> None:
        """From a port."""
        self._follow(deque([(node, ofport, packet)]))

    def send_from(self, physical_network: str, packet: Packet) -> None:
        """From a machine on a physical network."""
        self._follow(deque(self._switched(physical_network, "", packet)))

    def _follow(self, queue: deque[tuple[str, int, Packet]]) -> None:
        while queue:
            if len(self.passed) >= MOST_HOPS:
                self.circles = True
                return
            node, in_port, packet = queue.popleft()
            result = self.switch_of(node).receive(packet, in_port, self.states.get(node))
            self.states[node] = result.state
            # a node that learns where another's VM is does nothing else with the frame
            if not _teaches(packet):
                self.passed.append(Passed(node, in_port, packet, result))
            for port, sent in result.outputs:
                physical_network = self.uplinks(node).get(port)
                if physical_network is None:
                    self.delivered.append(Delivered(node, port, sent))
                else:
                    queue.extend(self._switched(physical_network, node, sent))

    def uplinks(self, node: str) -> dict[int, str]:
        return {uplink.ofport: uplink.physical_network for uplink in self.snapshot.nodes[node].uplinks}

    def _switched(self, physical_network: str, sender: str, packet: Packet) -> Iterator[tuple[str, int, Packet]]:
        """Which nodes a frame on the wire is for."""
        network = self._segments.get((physical_network, packet["vlan_vid"]))
        nodes, others = self._hearers(network, packet)
        found = [name for name in nodes if name != sender and self._uplink(name, physical_network) is not None]
        if others or not found:
            self.heard.append(Heard(physical_network, sender, packet, network, others))
        self.more += max(0, len(found) - MOST_HEARERS)
        for name in found[:MOST_HEARERS]:
            uplink = self._uplink(name, physical_network)
            assert uplink is not None
            yield name, uplink, packet

    def _uplink(self, node: str, physical_network: str) -> int | None:
        known = self.snapshot.nodes.get(node)
        return None if known is None else known.uplink(physical_network)

    def _hearers(self, network: Network | None, packet: Packet) -> tuple[list[str], bool]:
        """The nodes, those that matter most first; and whether machines on the wire may take it, too."""
        mac = packet["eth_dst"]
        if mac & NODE_MAC_MASK in (NODE_MAC_PREFIX, TEACHER_MAC_PREFIX, GATEWAY_NODE_MAC_PREFIX):
            for node in self.snapshot.nodes.values():
                if mac in (node_mac(node.key), gateway_node_mac(node.key), TEACHER_MAC_PREFIX | node.key):
                    return [node.name], False
        if network is None:
            return [], True
        if mac == ROUTED_GROUP_MAC:
            target = ip_target(packet)
            port = None if target is None else self._routed_port(network, target)
            return ([] if port is None else [seat.node for seat in port.bindings]), False
        if mac & ETH_MULTICAST_BIT:
            copied = packet["eth_src"] & COPY_MAC_MASK == COPY_MAC_PREFIX
            return self._present(network), not copied
        port = self._by_mac(network, mac)
        return ([], True) if port is None else ([seat.node for seat in port.bindings], False)

    def _routed_port(self, network: Network, address: Address) -> Port | None:
        found = (port_at(self.snapshot, each, address) for each in joined(self.snapshot, network))
        return next((port for port in found if port is not None), None)

    def _by_mac(self, network: Network, mac: int) -> Port | None:
        for port_id in self.snapshot.ports_by_network.get(network.id, ()):
            port = self.snapshot.ports[port_id]
            if any(mac_to_int(own) == mac for own in port.macs):
                return port
        return None

    def _present(self, network: Network) -> list[str]:
        nodes = [name for name in self.snapshot.nodes if self.snapshot.present(name, network.id)]
        return sorted(nodes, key=lambda name: (name != self.first_node, name))


def _teaches(packet: Packet) -> bool:
    return packet["eth_src"] & NODE_MAC_MASK == TEACHER_MAC_PREFIX


def ip_target(packet: Packet) -> Address | None:
    """Where an IP packet goes to."""
    if packet["eth_type"] == ETH_IP:
        return IPv4Address(packet["ip_dst"])
    return IPv6Address(packet["ipv6_dst"]) if packet["eth_type"] == ETH_IPV6 else None
