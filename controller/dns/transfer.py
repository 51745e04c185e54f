"""Hands zones out to the operator's own name servers (secondaries), and to nobody else: AXFR by TCP, SOA by UDP too."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

import eventlet
import structlog
from eventlet.green import socket

from controller.dns import transfer_messages as messages
from controller.dns import tsig
from controller.dns.message import Kind
from controller.dns.notifier import Notifier
from controller.dns.transfer_messages import NOERROR, NOTAUTH, NOTIMP, REFUSED, Zones
from controller.dns.transfer_request import MAX_REQUEST, QUERY, Malformed, Request, parse
from controller.dns.transfer_settings import Secondary, TransferSettings
from controller.dns.zone_export import Export, Said, said
from controller.green import Turns
from controller.session_counters import Counters
from flows.model import Port
from flows.snapshot import Snapshot

PERIOD: Final = 0.25
"""Seconds between two looks at what has changed."""

MOST_CONNECTIONS: Final = 32
MOST_OF_ONE: Final = 8
"""Of these that one secondary may have open."""

IDLE: Final = 30.0
"""Seconds from one question of a connection to the end of the next, and in which a secondary takes no byte of a
transfer.
"""

REST: Final = 4
"""How much longer than a look takes it is rested from looking."""

_BACKLOG: Final = 64
_PAUSE: Final = 0.1
_TRANSFERS: Final = frozenset({Kind.AXFR, Kind.IXFR})


class _Known:
    """What was said of ports that are still as they were."""

    def __init__(self) -> None:
        self._of_port: dict[str, tuple[Port, Said]] = {}

    def about(self, port: Port) -> Said:
        known = self._of_port.get(port.id)
        if known is not None and known[0] is port:
            return known[1]
        found = said(port)
        self._of_port[port.id] = port, found
        return found

    def forget(self, snapshot: Snapshot) -> None:
        """Those that are gone."""
        for id_ in self._of_port.keys() - snapshot.ports.keys():
            del self._of_port[id_]


class TransferServer:
    """Listens from the moment it is made. Raises OSError when the address cannot be had."""

    def __init__(self, settings: TransferSettings, snapshot: Callable[[], Snapshot]) -> None:
        self._settings = settings
        self._snapshot = snapshot
        self._seen: Snapshot | None = None
        self._known = _Known()
        self.zones = Zones()
        family = socket.AF_INET6 if ":" in settings.listen else socket.AF_INET
        place = (settings.listen, settings.port)
        self._tcp = eventlet.listen(place, family=family, backlog=_BACKLOG, reuse_port=False)
        self._udp = socket.socket(family, socket.SOCK_DGRAM)
        self._udp.bind(self._tcp.getsockname()[:2])
        self.notifier = Notifier(settings, self._send)
        self._open: Counter[Secondary] = Counter()
        self._log = structlog.get_logger()

    @property
    def port(self) -> int:
        return int(self._tcp.getsockname()[1])

    def start(self, counters: Counters) -> list[Any]:
        """Serves in green threads, which are returned."""
        self._log.info("zones_handed_out_at", address=self._settings.listen, port=self.port)
        return [
            eventlet.spawn(self._serve_tcp),
            eventlet.spawn(self._serve_udp),
            eventlet.spawn(self.notifier.run),
            eventlet.spawn(self._look_for_ever, counters),
        ]

    def close(self) -> None:
        """Answers nobody any more."""
        self._tcp.close()
        self._udp.close()

    def look(self) -> None:
        """Takes in what the snapshot has new, and tells the secondaries."""
        snapshot, before = self._snapshot(), self._seen
        if before is not None and (
            snapshot.dns_zones is before.dns_zones
            and snapshot.ports is before.ports
            and snapshot.networks is before.networks
        ):
            return
        self._seen = snapshot
        export = Export(self._settings.networks, self._settings.catalog, self._known.about, Turns())
        changed = self.zones.replace(export.zones(snapshot), snapshot.revision)
        self._known.forget(snapshot)
        self.notifier.tell(changed)
        if changed:
            self._log.debug("zones_changed", zones=len(changed), revision=snapshot.revision)

    def _look_for_ever(self, counters: Counters) -> None:
        while True:
            began = time.monotonic()
            try:
                self.look()
            except Exception:
                counters.count("background_failures")
                self._log.exception("background_failed", job="TransferServer.look")
            eventlet.sleep(max(PERIOD, REST * (time.monotonic() - began)))

    # what is asked

    def replies(self, message: bytes, secondary: Secondary, *, stream: bool) -> Iterator[bytes]:
        """The messages that answer one of a secondary's, signed as it is. None for what is no question."""
        try:
            request = parse(message)
        except Malformed as error:
            self._log.info("transfer_malformed", secondary=str(secondary.address), why=str(error))
            return
        if request.is_answer:
            self.notifier.heard(request, secondary)
            return
        prior = b""
        if secondary.key is not None:
            try:
                prior = tsig.verify(message, request, secondary.key, time.time())
            except tsig.BadSignature as error:
                self._log.warning("transfer_refused", secondary=str(secondary.address), why=f"signature: {error}")
                yield messages.answer(request, NOTAUTH, authoritative=False)
                return
        following = False
        for reply in self._answer(request, secondary, stream=stream):
            if secondary.key is not None:
                reply, prior = tsig.sign(reply, secondary.key, time.time(), prior, following=following)
                following = True
            yield reply

    def _answer(self, request: Request, secondary: Secondary, *, stream: bool) -> Iterator[bytes]:
        zone = self.zones.get(request.name)
        if request.opcode != QUERY:
            yield messages.answer(request, NOTIMP, authoritative=False)
        elif zone is None:
            yield messages.answer(request, NOTAUTH if request.code in _TRANSFERS else REFUSED, authoritative=False)
        elif request.code in _TRANSFERS and stream:
            self._log.info("zone_handed_out", zone=zone.name, serial=zone.serial, secondary=str(secondary.address))
            yield from messages.transfer(request, zone, self._settings)
        elif request.code in (Kind.SOA, Kind.IXFR):
            # by UDP only this: whoever wants more comes by TCP (RFC 1995, 2)
            yield messages.answer(request, NOERROR, messages.soa(zone, self._settings))
        else:
            yield messages.answer(request, REFUSED, authoritative=False)

    # sockets

    def _serve_udp(self) -> None:
        turns = Turns()
        while True:
            turns()  # to receive is no pause as long as there is something
            try:
                message, place = self._udp.recvfrom(MAX_REQUEST + 1)
            except OSError:  # what an ICMP error about an earlier datagram comes back as
                continue
            secondary = self._settings.secondary(place[0])
            if secondary is None:
                continue
            try:
                for reply in self.replies(message, secondary, stream=False):
                    self._put(reply, place)
            except Exception:  # a fault of ours is no reason to answer nobody any more
                self._log.exception("transfer_failed", secondary=place[0])

    def _send(self, message: bytes, secondary: Secondary) -> None:
        address = str(secondary.address)
        if self._udp.family == socket.AF_INET6 and secondary.address.version == 4:
            address = f"::ffff:{address}"
        self._put(message, (address, secondary.port))

    def _put(self, message: bytes, place: tuple[Any, ...]) -> None:
        try:
            self._udp.sendto(message, place)
        except OSError as error:
            self._log.info("transfer_unsent", to=place[0], error=str(error))

    def _serve_tcp(self) -> None:
        turns = Turns()
        while True:
            turns()
            try:
                connection, place = self._tcp.accept()
            except OSError as error:
                self._log.error("transfer_accept_failed", error=str(error))
                eventlet.sleep(_PAUSE)
                continue
            secondary = self._settings.secondary(place[0])
            if secondary is None:
                self._log.warning("transfer_refused", address=place[0], why="it is no transfer_secondary")
                connection.close()
            elif self._open[secondary] >= MOST_OF_ONE or self._open.total() >= MOST_CONNECTIONS:
                self._log.warning("transfer_refused", address=place[0], why="it has too many connections open")
                connection.close()
            else:
                self._open[secondary] += 1
                eventlet.spawn_n(self._converse, connection, secondary)

    def _converse(self, connection: Any, secondary: Secondary) -> None:
        """One question after the other (RFC 7766, 6.2)."""
        with connection:
            try:
                while True:
                    end = time.monotonic() + IDLE
                    size = int.from_bytes(_exactly(connection, 2, end))
                    if size > MAX_REQUEST:
                        return
                    question = _exactly(connection, size, end)
                    connection.settimeout(IDLE)
                    for reply in self.replies(question, secondary, stream=True):
                        connection.sendall(len(reply).to_bytes(2) + reply)
                        eventlet.sleep(0)
            except OSError:
                return  # it has gone, or says nothing any more
            finally:
                self._open[secondary] -= 1


def _exactly(connection: Any, size: int, end: float) -> bytes:
    """So many bytes, by that time. Raises OSError when they do not come."""
    found = b""
    while len(found) < size:
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        more = connection.recv(size - len(found))
        if not more:
            raise ConnectionResetError("closed")
        found += more
    return found
