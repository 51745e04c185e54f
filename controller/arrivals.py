"""VMs that have moved: takes their arrival to the store, tells the others, and ends the move when all must know.

None of it is needed for a packet to reach the VM. The old node passes on what comes there, for longer than another node
remembers where an address was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from typing import Final, Protocol

import eventlet
import structlog

from controller.announcer import TIMES
from controller.green import Signal
from controller.packet_in import frames, neighbours
from controller.packet_in.outputs import Output
from controller.session_counters import Counters
from controller.store.specs import Conflict, NotFound
from flows.model import MigrationPhase, Port
from flows.pipeline import ROUTED_GROUP_MAC, teacher_mac
from flows.snapshot import Snapshot
from flows.view import mac_to_int

PASS_ON: Final = 15.0
"""Seconds for which the old node passes on what comes late. What other nodes have learned is over after 10."""

END_PERIOD: Final = 2.0
TELL_PERIOD: Final = 0.1

_PROTOCOL: Final = 253  # for experiments (RFC 3692): nobody but nodes gets it, and they only look at its source


class Store(Protocol):
    """The part of the store that is written to here."""

    def activate_binding(self, port_id: str, node: str) -> object: ...

    def end_moves(self, older_than_s: float) -> object: ...


class Arrivals:
    """`active` tells whether the port's node is confirmed to serve it; `send` must not wait."""

    def __init__(
        self,
        store: Store,
        snapshot: Callable[[], Snapshot],
        active: Callable[[Port], bool],
        send: Callable[[str, Output], bool],
    ) -> None:
        self._store = store
        self._snapshot = snapshot
        self._active = active
        self._send = send
        self._come: dict[str, str] = {}
        self._heard = Signal()
        self._told: dict[tuple[str, str], tuple[float, int]] = {}  # since when, and how often

    def arrived(self, port_id: str, node: str) -> None:
        """From the packet path. Never waits."""
        self._come[port_id] = node
        self._heard.send()

    def run(self, counters: Counters) -> None:
        """Writes down what has arrived, for ever."""
        while True:
            while not self._come:
                self._heard.wait()
            port_id, node = self._come.popitem()
            try:
                self._store.activate_binding(port_id, node)
            except (NotFound, Conflict) as error:  # called off in the meantime
                structlog.get_logger().info("arrival_refused", port=port_id, node=node, why=str(error))
            except Exception:
                counters.count("background_failures")
                structlog.get_logger().exception("arrival_failed", port=port_id, node=node)
                eventlet.sleep(TELL_PERIOD)  # the VM's next frame is the next chance

    def tell(self) -> None:
        """Says of each port that is served by its new node where it is, a few times."""
        now = time.monotonic()
        told = {}
        for port in self._moved():
            assert port.binding is not None
            key = (port.id, port.binding.node)
            since, count = self._told.get(key, (now, 0))
            if count == 0 and not self._active(port):
                continue
            if count < len(TIMES) and now - since >= TIMES[count]:
                for output in announcement(self._snapshot(), port):
                    self._send(port.binding.node, output)
                count += 1
            told[key] = (since, count)
        self._told = told

    def end(self) -> None:
        """Ends the moves that are over."""
        if any(True for _ in self._moved()):
            self._store.end_moves(PASS_ON)

    def _moved(self) -> Iterator[Port]:
        for port in self._snapshot().migrating.values():
            migration = port.migration
            if port.binding is not None and migration is not None and migration.phase is MigrationPhase.MOVED:
                yield port


def announcement(snapshot: Snapshot, port: Port) -> Iterator[Output]:
    """For the machines and switches of the segment, and for the nodes that route to it."""
    node = snapshot.nodes.get(port.binding.node) if port.binding is not None else None
    network = snapshot.networks.get(port.network_id)
    uplink = None if node is None or network is None else node.uplink(network.physical_network)
    if node is None or network is None or uplink is None:
        return
    for own in port.own:
        for frame in neighbours.announcement(mac_to_int(own.mac), own.address, network.segment):
            yield Output(uplink, frame)
        yield from lesson(snapshot, port, own.address)


def lesson(snapshot: Snapshot, port: Port, address: IPv4Address) -> Iterator[Output]:
    """For the nodes that route to an address: it is behind the port's node now, whatever they have learned."""
    node = snapshot.nodes.get(port.binding.node) if port.binding is not None else None
    network = snapshot.networks.get(port.network_id)
    uplink = None if node is None or network is None else node.uplink(network.physical_network)
    if node is None or network is None or uplink is None or not network.routed:
        return
    taught = frames.ipv4(address.packed, address.packed, _PROTOCOL, b"")
    group, teacher = frames.mac_bytes(ROUTED_GROUP_MAC), frames.mac_bytes(teacher_mac(node.key))
    frame = frames.ethernet(group, teacher, frames.ETHERTYPE_IPV4, taught, network.segment)
    yield Output(uplink, frame.ljust(frames.MIN_FRAME, b"\0"))
