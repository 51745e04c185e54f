"""What goes on beside packets and requests, each in a green thread: leases, gateways, next hops."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Protocol

import eventlet
import structlog

from controller.green import Signal
from controller.packet_in.leases import LeaseEvent, LeaseLog
from controller.packet_in.unresolved import question
from controller.session_counters import Counters
from controller.store.specs import LeaseRecord, Unavailable, Written
from flows.model import Neighbour, Network, Node
from flows.snapshot import Snapshot
from flows.view import View

LEASE_PERIOD: Final = 1.0
SETTLE_PERIOD: Final = 0.2
"""Seconds until what a switch has forgotten is written down. A controller that is killed before has it forget again."""

HOLD_PERIOD: Final = 2.0
CLOCK_JUMP: Final = 5.0
"""Seconds by which the clock may go wrong between two looks without being taken for set."""

REVOKE_PERIOD: Final = 2.0
HISTORY_PERIOD: Final = 3600.0
DAY: Final = 86400.0

GATEWAY_PERIOD: Final = 30.0
TICK: Final = 1.0
"""Seconds between looks at the next hops."""

REFRESH_PERIOD: Final = 30.0
"""Seconds until a next hop that has answered is asked again."""

Place = tuple[str, IPv4Address]
"""An external network's id, and an address on it."""

_Hop = tuple[str, str, IPv4Address | IPv6Address]  # of which node, on which network


class Store(Protocol):
    """The part of the store that is written to here."""

    def learn_neighbour(
        self, node: str, network_id: str, address: IPv4Address | IPv6Address, mac: str
    ) -> Written[bool]: ...

    def end_holds(self) -> int: ...

    def shift_holds(self, seconds: float) -> int: ...

    def release_idle_gateways(self, older_than_s: float) -> Written[int]: ...

    def record_leases(self, batch: Iterable[LeaseRecord]) -> int: ...


class Sender(Protocol):
    """A live session."""

    @property
    def node(self) -> str | None: ...

    def send_packet(self, ofport: int, frame: bytes) -> bool: ...


def every(seconds: float, job: Callable[[], object], counters: Counters) -> None:
    """Does a job for ever. A failure is logged and counted; the next try comes in its turn. That the database is away
    is no failure of the job, and was logged by the store.
    """
    while True:
        eventlet.sleep(seconds)
        try:
            job()
        except Unavailable:
            continue
        except Exception:
            counters.count("background_failures")
            structlog.get_logger().exception("background_failed", job=getattr(job, "__qualname__", str(job)))


class LeaseWriter:
    """Takes leases from the packet path to the store. What could not be written is kept for the next time."""

    def __init__(self, leases: LeaseLog, store: Store, snapshot: Callable[[], Snapshot]) -> None:
        self._leases = leases
        self._store = store
        self._snapshot = snapshot
        self._unwritten: dict[object, LeaseEvent] = {}

    def write(self) -> None:
        for event in self._leases.drain():
            self._unwritten.pop(event.about, None)
            self._unwritten[event.about] = event
        if self._unwritten:
            batch = dict(self._unwritten)
            self._store.record_leases(list(self._records(batch.values())))
            for key, event in batch.items():
                if self._unwritten.get(key) is event:
                    del self._unwritten[key]

    def _records(self, events: Iterable[LeaseEvent]) -> Iterator[LeaseRecord]:
        snapshot, now = self._snapshot(), time.time()
        for event in events:
            port_id = snapshot.ports_by_key.get(event.port_key)
            if port_id is not None:
                yield LeaseRecord(port_id, event.address, event.state.value, now, event.expires)


class HoldKeeper:
    """Frees addresses that were kept for long enough. A clock that is set while the controller runs frees none early,
    keeps none longer, and ends no lease. Of several controllers the one that `leads` does.
    """

    def __init__(
        self,
        store: Store,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        self._store = store
        self._leads = leads
        self._clock = clock
        self._monotonic = monotonic
        self._before = clock() - monotonic()

    def end(self) -> None:
        ahead = self._clock() - self._monotonic()
        jump = ahead - self._before
        if not self._leads():
            self._before = ahead
            return
        if abs(jump) > CLOCK_JUMP:
            moved = self._store.shift_holds(jump)
            structlog.get_logger().warning("clock_set", seconds=round(jump), moved=moved)
        self._before = ahead
        self._store.end_holds()


def forget_older(forget: Callable[[float], int], days: int) -> int:
    """Has the store `forget` what is more than so many days old, bit by bit, since nobody else is served meanwhile; how
    much was forgotten. 0: nothing is.
    """
    forgotten = 0
    while days and (some := forget(days * DAY)):
        forgotten += some
        eventlet.sleep(0)
    return forgotten


@dataclass(frozen=True, slots=True)
class NextHop:
    """What a node has to resolve: `address` on an external network."""

    node: Node
    network: Network
    address: IPv4Address | IPv6Address
    ofport: int


def next_hops(
    snapshot: Snapshot, node: Node, floating: Iterable[Place] = (), ipv6: Iterable[str] = ()
) -> Iterator[NextHop]:
    """The routers of what a node has on external networks: SNAT addresses, and the `floating` IPs that it serves; and
    those of the external networks by which IPv6 leaves it.
    """
    held: dict[str, list[IPv4Address]] = {}
    for network_id, address in (*((one.network_id, one.address) for one in node.snat_addresses), *floating):
        held.setdefault(network_id, []).append(address)
    for network_id, addresses in held.items():
        network = snapshot.networks.get(network_id)
        ofport = node.uplink(network.physical_network) if network is not None else None
        if network is None or ofport is None:
            continue
        for subnet in network.subnets:
            if subnet.gateway is not None and any(address in subnet.cidr for address in addresses):
                yield NextHop(node, network, subnet.gateway, ofport)
    for network_id in ipv6:
        network = snapshot.networks[network_id]
        ofport = node.uplink(network.physical_network)
        gateways = (subnet.gateway for subnet in network.ipv6_subnets if subnet.gateway is not None)
        if ofport is not None:
            yield from (NextHop(node, network, gateway, ofport) for gateway in gateways)


class FloatingPlaces:
    """Which floating IPs each node serves, looked up once for each snapshot."""

    def __init__(self) -> None:
        self._snapshot: Snapshot | None = None
        self._places: dict[str, set[Place]] = {}

    def of(self, snapshot: Snapshot, node: str) -> Iterable[Place]:
        if snapshot is not self._snapshot:
            self._snapshot, self._places = snapshot, {}
            for floating_ip in snapshot.floating_ips.values():
                for port_id in floating_ip.port_ids:
                    port = snapshot.ports.get(port_id)
                    # also where the VM is expected: it leaves by there as soon as it is
                    for binding in () if port is None else port.bindings:
                        place = floating_ip.network_id, floating_ip.address
                        self._places.setdefault(binding.node, set()).add(place)
        return self._places.get(node, ())


class WaysOut:
    """By which external networks IPv6 leaves each node, looked up once for each snapshot."""

    def __init__(self) -> None:
        self._snapshot: Snapshot | None = None
        self._networks: dict[str, set[str]] = {}

    def of(self, snapshot: Snapshot, node: str) -> Iterable[str]:
        if snapshot is not self._snapshot:
            self._snapshot, self._networks = snapshot, {}
            for name, network_id in snapshot.presence:
                known = snapshot.nodes.get(name)
                outside = None if known is None else View(snapshot, known).way_out_ipv6(snapshot.networks[network_id])
                if outside is not None:
                    self._networks.setdefault(name, set()).add(outside.id)
        return sorted(self._networks.get(node, ()))


class NeighbourWatch:
    """Asks for next hops, by ARP or ND, and takes what is learned to the store: at once while unresolved, then now and
    then.
    """

    def __init__(self, store: Store, snapshot: Callable[[], Snapshot], live: Callable[[], Iterable[Sender]]) -> None:
        self._store = store
        self._snapshot = snapshot
        self._live = live
        self._asked: dict[_Hop, float] = {}
        self._news: dict[_Hop, str] = {}
        self._floating = FloatingPlaces()
        self._ways_out = WaysOut()
        self._heard = Signal()

    def ask(self) -> None:
        """Sends the requests that are due."""
        snapshot, now = self._snapshot(), time.monotonic()
        asked: dict[_Hop, float] = {}
        for session in self._live():
            node = snapshot.nodes.get(session.node or "")
            if node is None:
                continue
            places = self._floating.of(snapshot, node.name), self._ways_out.of(snapshot, node.name)
            for hop in next_hops(snapshot, node, *places):
                key = (hop.node.name, hop.network.id, hop.address)
                last = self._asked.get(key)
                resolved = hop.node.neighbour(hop.network.id, hop.address) is not None
                if last is None or not resolved or now - last >= REFRESH_PERIOD:
                    session.send_packet(hop.ofport, question(hop.node, hop.network, hop.address))
                    last = now
                asked[key] = last
        self._asked = asked

    def heard(self, node: str, neighbour: Neighbour) -> None:
        """A next hop has answered. Called from the receive loop: never waits, and does nothing when it is no news."""
        known = self._snapshot().nodes.get(node)
        if known is not None and known.neighbour(neighbour.network_id, neighbour.address) != neighbour.mac:
            self._news[(node, neighbour.network_id, neighbour.address)] = neighbour.mac
            self._heard.send()

    def run(self, counters: Counters) -> None:
        """Writes down what is heard, for ever."""
        while True:
            while not self._news:
                self._heard.wait()
            (node, network_id, address), mac = self._news.popitem()
            try:
                self._store.learn_neighbour(node, network_id, address, mac)
            except Unavailable:
                eventlet.sleep(TICK)  # the next reply is the next chance
            except Exception:
                counters.count("background_failures")
                structlog.get_logger().exception("learn_neighbour_failed", node=node, address=str(address))
                eventlet.sleep(TICK)  # the next reply is the next chance
