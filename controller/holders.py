"""Who holds which address that several ports may use: takes what they say to the store, asks, and tells other nodes.

Nothing of this is needed where nothing changes: the flows of the port that holds an address stay as they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address
from typing import Final, Protocol

import structlog

from controller.announcer import TIMES
from controller.arrivals import lesson
from controller.background import Sender
from controller.green import Signal
from controller.packet_in import neighbours
from controller.packet_in.gateways import router_address
from controller.packet_in.holding import Claim, Place
from controller.packet_in.outputs import Output
from controller.session_counters import Counters
from controller.store.specs import Conflict, NotFound, Written
from flows.model import OwnAddress, Port
from flows.pipeline import GATEWAY_MAC
from flows.snapshot import Snapshot

PAUSE: Final = 1.0
"""Seconds for which an address stays where it is, whatever is said: then the last word counts."""

TICK: Final = 0.5
ASK_PERIOD: Final = 2.0
"""Seconds until an address that nobody has is asked for again."""

BATCH: Final = 200
"""Questions of one tick; what is left is asked first in the next one."""

TELL_PERIOD: Final = 0.1

_NOBODY: Final = IPv4Address(0)


class Store(Protocol):
    """The part of the store that is written to here."""

    def hold_address(self, port_id: str, address: IPv4Address, mac: str) -> Written[bool]: ...


class Holders:
    """`active` tells whether the port's node is confirmed to serve it; `send` must not wait."""

    def __init__(
        self,
        store: Store,
        snapshot: Callable[[], Snapshot],
        live: Callable[[], Iterable[Sender]],
        active: Callable[[Port], bool],
        send: Callable[[str, Output], bool],
    ) -> None:
        self._store = store
        self._snapshot = snapshot
        self._live = live
        self._active = active
        self._send = send
        self._claims: dict[Place, Claim] = {}
        self._written: dict[Place, float] = {}  # not to be touched before PAUSE is over
        self._heard = Signal()
        self._asked: dict[Place, float] = {}  # while nobody is known to have it
        self._doubted: dict[Place, float] = {}  # who has it is known, but is to be asked for once, from then on
        self._connected: frozenset[str] = frozenset()
        self._told: dict[Place, tuple[str, float, int]] = {}  # port, since when, and how often

    # what is said

    def heard(self, place: Place, claim: Claim) -> None:
        """From the packet path. Never waits."""
        self._claims[place] = claim
        self._heard.send()

    def run(self, counters: Counters) -> None:
        """Writes down who has what, for ever."""
        while True:
            left = self.write(time.monotonic(), counters)
            if left != 0:
                self._heard.wait(left)

    def write(self, now: float, counters: Counters) -> float | None:
        """Writes one claim that is due. Seconds until the next one is; None when there is none."""
        self._written = {place: at for place, at in self._written.items() if now - at < PAUSE}
        place = next((place for place in self._claims if place not in self._written), None)
        if place is None:
            waiting = [self._written[place] + PAUSE - now for place in self._claims]
            return max(min(waiting), 0.001) if waiting else None
        claim = self._claims.pop(place)
        if self._is_news(place, claim):
            self._written[place] = now
            self._write(place, claim, now, counters)
        return 0

    def _is_news(self, place: Place, claim: Claim) -> bool:
        snapshot = self._snapshot()
        holder = snapshot.holder(*place)
        if snapshot.owner_at_work(*place):
            return False
        return holder is None or holder.id != claim.port_id or OwnAddress(place.address, claim.mac) not in holder.held

    def _write(self, place: Place, claim: Claim, now: float, counters: Counters) -> None:
        try:
            written = self._store.hold_address(claim.port_id, place.address, claim.mac)
        except (NotFound, Conflict) as error:  # it may not have it any more
            structlog.get_logger().info(
                "holder_refused", port=claim.port_id, address=str(place.address), why=str(error)
            )
        except Exception:
            counters.count("background_failures")
            structlog.get_logger().exception("hold_address_failed", port=claim.port_id, address=str(place.address))
            self._claims.setdefault(place, claim)
        else:
            if written.value:
                self._told[place] = (claim.port_id, now, 0)
                # until its flows were there, the one before was not heard: it may have taken the address back
                if not claim.asked:
                    self._doubted[place] = now + PAUSE

    # what is asked

    def ask(self) -> None:
        """Asks for what nobody is known to have, and once for all that nodes which are here again may know."""
        snapshot, now = self._snapshot(), time.monotonic()
        sessions = {session.node: session for session in self._live() if session.node is not None}
        returned, self._connected = sessions.keys() - self._connected, frozenset(sessions)
        due: list[tuple[float, Place]] = []
        asked, doubted = {}, {}
        for (network_id, number), port_ids in snapshot.ports_by_pair.items():
            place = Place(network_id, IPv4Address(number))
            if snapshot.owner_at_work(*place):
                continue
            holder = snapshot.holder(*place)
            last = self._asked.get(place, 0.0)
            if holder is None or holder.binding is None:
                asked[place] = last
                if now - last >= ASK_PERIOD:
                    due.append((last, place))
                continue
            since = self._doubted.get(place)
            if since is None and any(
                binding.node in returned for id_ in port_ids for binding in snapshot.ports[id_].seats
            ):
                since = now
            if since is not None:
                doubted[place] = since
                if since <= now:
                    due.append((since, place))
        self._asked, self._doubted = asked, doubted
        room = BATCH
        for _, place in sorted(due):
            if room <= 0:
                break
            for node, output in self._questions(snapshot, place):
                if node in sessions:
                    sessions[node].send_packet(output.ofport, output.frame)
                    room -= 1
            self._doubted.pop(place, None)
            if place in self._asked:
                self._asked[place] = now

    @staticmethod
    def _questions(snapshot: Snapshot, place: Place) -> Iterator[tuple[str, Output]]:
        """To each port that may have it, from the gateway: whose MAC a VM may learn from that."""
        network = snapshot.networks[place.network_id]
        subnet = network.subnet_with(place.address)
        for port_id in sorted(snapshot.ports_by_pair[place.network_id, int(place.address)]):
            port = snapshot.ports[port_id]
            if subnet is None or all(network.virtual(pair) != place.address for pair in port.address_pairs):
                continue
            for seat in port.seats:
                node = snapshot.nodes.get(seat.node)
                if node is None:
                    continue
                source = router_address(network, subnet, node) if network.routed else None
                yield seat.node, Output(seat.ofport, neighbours.request(GATEWAY_MAC, source or _NOBODY, place.address))

    # what is told

    def tell(self) -> None:
        """Says of each address that has moved where it is, a few times, from when its node serves it there."""
        snapshot, now = self._snapshot(), time.monotonic()
        for place, (port_id, since, count) in list(self._told.items()):
            port = snapshot.holder(*place)
            if port is None or port.id != port_id or port.binding is None:
                if now - since > PAUSE:
                    del self._told[place]
                continue
            if count == 0 and not self._active(port):
                continue
            if count == 0:
                since = now
            if now - since >= TIMES[count]:
                for output in lesson(snapshot, port, place.address):
                    self._send(port.binding.node, output)
                count += 1
            if count < len(TIMES):
                self._told[place] = (port_id, since, count)
            else:
                del self._told[place]
