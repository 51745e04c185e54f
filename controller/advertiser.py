"""Router advertisements that nobody has asked for (RFC 4861, 6.2.4): to the VMs of each network on each node now and
then, at once when a node comes back, and wherever something changes that they are told.
"""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Protocol

import eventlet
import structlog

from controller.green import Signal
from controller.packet_in import router_advertisement
from controller.packet_in.ipv6_hosts import subnets_of
from controller.packet_in.outputs import Copies
from controller.packet_in.router_advertisement import Told
from controller.session_counters import Counters
from flows.model import Change, Ipv6Subnet, Network, NetworkChange, Port, PortChange
from flows.snapshot import Snapshot

PERIOD: Final = (200.0, 600.0)
"""Seconds from one advertisement to the next, at random in between: the defaults of RFC 4861, 6.2.1. Who comes up asks,
and what changes is said at once, so nobody waits for it.
"""

TICK: Final = 1.0
"""Seconds between looks for nodes that have come back."""

BATCH: Final = 32
"""Advertisements in one turn: a controller that starts has one for each network of each node."""

PAUSE: Final = 0.01

_Place = tuple[str, str]  # node, network id
_Seat = tuple[str, str]  # node, port id


class Session(Protocol):
    @property
    def node(self) -> str | None: ...


class Advertiser:
    """`live` are the sessions of switches that have their flows; `send` must not wait, and says False when it could
    not. `leads_out` tells whether a port gets a default router. `between` is random.
    """

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        live: Callable[[], Iterable[Session]],
        send: Callable[[str, Copies], bool],
        leads_out: Callable[[Port, Snapshot], bool],
        counters: Counters,
        between: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._snapshot = snapshot
        self._live = live
        self._send = send
        self._leads_out = leads_out
        self._counters = counters
        self._between = between
        self._jobs: list[tuple[float, int, _Place]] = []
        self._current: dict[_Place, int] = {}
        self._count = 0
        self._ports: dict[_Seat, tuple[Ipv6Subnet, ...]] = {}  # told of at once, with what is gone
        self._sessions: dict[str, Session] = {}
        self._more = Signal()

    # what there is to say

    def look(self) -> None:
        """The networks of a node that has come back are told at once: nobody has been heard there meanwhile."""
        snapshot = self._snapshot()
        sessions = {one.node: one for one in self._live() if one.node is not None}
        for node, session in sessions.items():
            if self._sessions.get(node) is not session:
                for network_id in {port.network_id for port in snapshot.local_ports(node)}:
                    if snapshot.networks[network_id].ipv6_subnets:
                        self._schedule((node, network_id), time.monotonic())
        self._sessions = sessions

    def changed(self, before: Snapshot, after: Snapshot, changes: Sequence[Change]) -> None:
        """Never waits."""
        for change in changes:
            match change:
                case NetworkChange(id=id_, new=Network() as network):
                    self._network_changed(before.networks.get(id_), network, after)
                case PortChange(id=id_, new=Port() as port):
                    self._port_changed(before.ports.get(id_), port, before, after)

    def _network_changed(self, old: Network | None, new: Network, snapshot: Snapshot) -> None:
        if not new.ipv6_subnets or (old is not None and _said_of(old) == _said_of(new)):
            return
        ports = (snapshot.ports[id_] for id_ in snapshot.ports_by_network.get(new.id, ()))
        for node in {port.binding.node for port in ports if port.binding is not None}:
            self._schedule((node, new.id), time.monotonic())

    def _port_changed(self, old: Port | None, new: Port, before: Snapshot, after: Snapshot) -> None:
        network = after.networks.get(new.network_id)
        if new.binding is None or network is None:
            return
        if old is not None and (old.binding, old.ipv6_addresses) == (new.binding, new.ipv6_addresses):
            return
        formerly = before.networks.get(new.network_id)
        had = () if old is None or formerly is None else subnets_of(old, formerly)
        has = {subnet.id for subnet in subnets_of(new, network)}
        gone = tuple(subnet for subnet in had if subnet.id not in has)
        if has or gone:
            seat, place = (new.binding.node, new.id), (new.binding.node, network.id)
            self._ports[seat] = (*(one for one in self._ports.get(seat, ()) if one.id not in has), *gone)
            if place not in self._current:
                self._schedule(place, time.monotonic() + self._between(*PERIOD))
            self._more.send()

    def _schedule(self, place: _Place, at: float) -> None:
        self._count += 1
        self._current[place] = self._count  # a second time makes the first one void
        heapq.heappush(self._jobs, (at, self._count, place))
        self._more.send()

    # saying it

    def run(self) -> None:
        """Advertises for ever. A failure costs what was being said."""
        while True:
            try:
                left = self.advertise(time.monotonic())
            except Exception:
                self._counters.count("background_failures")
                structlog.get_logger().exception("advertising_failed")
                left = PAUSE
            if left is None:
                self._more.wait()
            elif left > 0:
                self._more.wait(left)
            else:
                eventlet.sleep(PAUSE)

    def advertise(self, now: float) -> float | None:
        """Sends a batch of what is due. Seconds until the next one is; None when there is none."""
        snapshot = self._snapshot()
        for _ in range(BATCH):
            if self._ports:
                seat = next(iter(self._ports))
                self._tell_port(*seat, self._ports.pop(seat), snapshot)
            elif self._jobs and self._jobs[0][0] <= now:
                _, number, place = heapq.heappop(self._jobs)
                if self._current.get(place) != number:
                    continue
                if self._tell_network(*place, snapshot):
                    self._schedule(place, now + self._between(*PERIOD))
                else:
                    del self._current[place]
            else:
                break
        if self._ports:
            return 0.0
        return max(self._jobs[0][0] - now, 0.0) if self._jobs else None

    def _tell_port(self, node: str, port_id: str, gone: tuple[Ipv6Subnet, ...], snapshot: Snapshot) -> None:
        port = snapshot.ports.get(port_id)
        network = None if port is None else snapshot.networks.get(port.network_id)
        if port is not None and network is not None and port.binding is not None and port.binding.node == node:
            what = router_advertisement.told(port, network, self._leads_out(port, snapshot), gone)
            if what is not None:
                self._tell(node, network, what, [port.binding.ofport])

    def _tell_network(self, node: str, network_id: str, snapshot: Snapshot) -> bool:
        """False when there is nobody there to tell, or no way to."""
        network = snapshot.networks.get(network_id)
        if network is None:
            return False
        to_tell: dict[Told, list[int]] = {}
        for port, ofport in _served(node, network_id, snapshot):
            what = router_advertisement.told(port, network, self._leads_out(port, snapshot))
            if what is not None:
                to_tell.setdefault(what, []).append(ofport)
        return bool(to_tell) and all([self._tell(node, network, what, to) for what, to in to_tell.items()])

    def _tell(self, node: str, network: Network, what: Told, ofports: list[int]) -> bool:
        frame = router_advertisement.to_all(router_advertisement.advertisement(network, what))
        sent = self._send(node, Copies(tuple(sorted(ofports)), frame))
        if sent:
            self._counters.node(node).router_advertisements += len(ofports)
        return sent


def _said_of(network: Network) -> tuple[object, ...]:
    """All that an advertisement says of a network."""
    return network.ipv6_subnets, network.mtu, network.routed, network.dhcp, network.dns_domain


def _served(node: str, network_id: str, snapshot: Snapshot) -> Iterator[tuple[Port, int]]:
    """The ports of a network that a node serves, and their interfaces."""
    here = snapshot.ports_by_node.get(node, frozenset()) & snapshot.ports_by_network.get(network_id, frozenset())
    for port in (snapshot.ports[port_id] for port_id in here):
        if port.binding is not None and port.binding.node == node:
            yield port, port.binding.ofport
