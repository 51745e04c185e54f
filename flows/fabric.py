"""Several simulated switches and the wire between them, to follow a packet from a VM to wherever it ends up."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from flows.compile import compile_node
from flows.conntrack import Conntrack
from flows.packet import Packet
from flows.protocols import ETH_MULTICAST_BIT
from flows.simulate import Punt, Result, State, Switch
from flows.snapshot import Snapshot

OUTSIDE = ""
"""The name of whatever else is on a physical network. No node has it."""

_MOST_HOPS = 1000


class Hop(NamedTuple):
    node: str
    packet: Packet
    result: Result


class Delivery(NamedTuple):
    """A packet that left a node by a VM's port."""

    node: str
    ofport: int
    packet: Packet


class Frame(NamedTuple):
    """A frame on a physical network; `node` is the one that sent it, or OUTSIDE."""

    physical_network: str
    node: str
    packet: Packet


@dataclass(frozen=True, slots=True)
class Journey:
    """All that became of one packet. `heard` is what reached the outside; `after` is the fabric for the next packet."""

    hops: tuple[Hop, ...]
    delivered: tuple[Delivery, ...]
    wire: tuple[Frame, ...]
    heard: tuple[Frame, ...]
    after: Fabric

    @property
    def punts(self) -> tuple[tuple[str, Punt], ...]:
        return tuple((hop.node, punt) for hop in self.hops for punt in hop.result.punts)


@dataclass(frozen=True, slots=True)
class Fabric:
    """A value. Each physical network is one rack switch that learns MACs per VLAN, and has the outside on one port."""

    switches: Mapping[str, Switch]
    uplinks: Mapping[tuple[str, int], str]
    states: Mapping[str, State] = field(default_factory=dict)
    stations: Mapping[tuple[str, int, int], str] = field(default_factory=dict)

    @staticmethod
    def of(snapshot: Snapshot, *, userspace: bool = False) -> Fabric:
        """All nodes of a snapshot with the flows that they should hold; `userspace` as in flows.conntrack."""
        return Fabric(
            {name: Switch(compile_node(snapshot, name).flows()) for name in snapshot.nodes},
            {
                (node.name, uplink.ofport): uplink.physical_network
                for node in snapshot.nodes.values()
                for uplink in node.uplinks
            },
            dict.fromkeys(snapshot.nodes, State(Conntrack(userspace=userspace))),
        )

    def send(self, node: str, ofport: int, packet: Packet) -> Journey:
        """From a port of a node."""
        return _Follow(self).journey([(node, ofport, packet)], [])

    def send_from_outside(self, physical_network: str, packet: Packet) -> Journey:
        return _Follow(self).journey([], [Frame(physical_network, OUTSIDE, packet)])


class _Follow:
    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric
        self.states = dict(fabric.states)
        self.stations = dict(fabric.stations)
        self.ports: dict[str, dict[str, int]] = {}
        for (node, ofport), physical_network in fabric.uplinks.items():
            self.ports.setdefault(physical_network, {})[node] = ofport
        self.hops: list[Hop] = []
        self.delivered: list[Delivery] = []
        self.wire: list[Frame] = []
        self.heard: list[Frame] = []

    def journey(self, arriving: list[tuple[str, int, Packet]], frames: list[Frame]) -> Journey:
        """Raises RuntimeError when the packet goes in circles."""
        queue = deque(arriving)
        for frame in frames:
            queue.extend(self.switched(frame))
        while queue:
            if len(self.hops) >= _MOST_HOPS:
                raise RuntimeError("the packet goes in circles")
            queue.extend(self.hop(*queue.popleft()))
        after = replace(self.fabric, states=self.states, stations=self.stations)
        return Journey(tuple(self.hops), tuple(self.delivered), tuple(self.wire), tuple(self.heard), after)

    def hop(self, node: str, in_port: int, packet: Packet) -> Iterator[tuple[str, int, Packet]]:
        result = self.fabric.switches[node].receive(packet, in_port, self.states.get(node))
        self.states[node] = result.state
        self.hops.append(Hop(node, packet, result))
        for port, sent in result.outputs:
            physical_network = self.fabric.uplinks.get((node, port))
            if physical_network is None:
                self.delivered.append(Delivery(node, port, sent))
            else:
                frame = Frame(physical_network, node, sent)
                self.wire.append(frame)
                yield from self.switched(frame)

    def switched(self, frame: Frame) -> Iterator[tuple[str, int, Packet]]:
        """Where the rack switch sends a frame."""
        physical_network, sender, packet = frame
        vlan, source, target = packet["vlan_vid"], packet["eth_src"], packet["eth_dst"]
        if not source & ETH_MULTICAST_BIT:
            self.stations[physical_network, vlan, source] = sender
        ports = self.ports.get(physical_network, {})
        known = None if target & ETH_MULTICAST_BIT else self.stations.get((physical_network, vlan, target))
        for receiver in (*ports, OUTSIDE) if known is None else (known,):
            if receiver == sender:
                continue
            if receiver == OUTSIDE:
                self.heard.append(frame)
            else:
                yield receiver, ports[receiver], packet
