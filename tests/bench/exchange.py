"""Four-way DHCP exchanges (RFC 2131 §3.1) of many clients at once, by raw frames from one thread."""

from __future__ import annotations

import socket
import struct
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from etc.lab import netns
from tests.bench.dhcp import XID, discover

OFFER, ACK = 2, 5
_ETHERTYPE = 0x0800
_OUTGOING = 4  # PACKET_OUTGOING, packet(7)
_YIADDR = 14 + 20 + 8 + 16
_OPTIONS = 14 + 20 + 8 + 236 + 4
_TYPE = _OPTIONS + 2  # option 53 comes first in what both servers answer
_SERVER_ID = b"\x36\x04"
_SERVER_PORT = b"\x00\x43"
_PATIENCE_S = 1.0


@dataclass(frozen=True)
class Client:
    """Who asks, and by which interface."""

    mac: bytes
    interface: str


@dataclass
class Load:
    """What came of it: seconds from DISCOVER to ACK of each exchange that was completed, and how many were begun."""

    took: list[float] = field(default_factory=list)
    begun: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        return len(self.took) / self.seconds

    @property
    def lost(self) -> int:
        return self.begun - len(self.took)


@contextmanager
def all_interfaces(namespace: str) -> Iterator[socket.socket]:
    """One socket that hears all IPv4 frames of a namespace."""
    with netns.inside(namespace):
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETHERTYPE))
    with raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
        yield raw


def closed_loop(raw: socket.socket, clients: Sequence[Client], window: int, seconds: float) -> Load:
    """`window` exchanges are under way at any time, each of another client."""
    return _Generator(raw, clients).keep(window, seconds)


def paced(raw: socket.socket, clients: Sequence[Client], rate: float, seconds: float) -> Load:
    """An exchange begins every 1/`rate` seconds, whatever becomes of those before it."""
    return _Generator(raw, clients).pace(rate, seconds)


def all_at_once(raw: socket.socket, clients: Sequence[Client], again_s: float, deadline: float) -> Load:
    """Each client asks until it has its address, anew `again_s` after it asked in vain."""
    return _Generator(raw, clients).boot(again_s, deadline)


class _Generator:
    """Exchanges by client. A client that is not answered is free for another one after a while."""

    def __init__(self, raw: socket.socket, clients: Iterable[Client]) -> None:
        self._raw = raw
        self._idle = deque(clients)
        self._running: dict[int, tuple[Client, float]] = {}
        self._load = Load()
        self._xid = 0
        self._frames = {client: (discover(client.mac), bytearray(_request(client.mac))) for client in self._idle}

    def keep(self, window: int, seconds: float) -> Load:
        began = time.perf_counter()
        end = began + seconds
        for _ in range(min(window, len(self._idle))):
            self._begin()
        while (now := time.perf_counter()) < end:
            if not self._hear(0.1):
                self._give_up(now - _PATIENCE_S)
            while self._idle and len(self._running) < window:
                self._begin()
        return self._ended(began)

    def pace(self, rate: float, seconds: float) -> Load:
        began = time.perf_counter()
        number, total = 0, int(rate * seconds)
        while number < total or (self._running and time.perf_counter() < began + seconds + _PATIENCE_S):
            now = time.perf_counter()
            due = began + number / rate
            if number < total and now >= due:
                number += 1
                self._begin()
            else:
                self._hear(max(0.0, min(due - now, 0.1)) if number < total else 0.1)
        return self._ended(began, seconds)

    def boot(self, again_s: float, deadline: float) -> Load:
        began = time.perf_counter()
        first = {client.mac: began for client in self._idle}
        begun = len(first)
        while (self._idle or self._running) and time.perf_counter() < began + deadline:
            while self._idle:
                self._begin()
            self._hear(0.02, once=True)
            self._give_up(time.perf_counter() - again_s)
        load = self._ended(began)
        load.begun = begun
        return load

    def _ended(self, began: float, seconds: float | None = None) -> Load:
        self._load.seconds = time.perf_counter() - began if seconds is None else seconds
        self._load.begun -= len(self._running) if seconds is None else 0
        return self._load

    def _begin(self) -> None:
        if not self._idle:
            raise RuntimeError("more exchanges under way than there are clients: too few, or a server that is silent")
        client = self._idle.popleft()
        self._xid += 1
        self._load.begun += 1
        frame = self._frames[client][0]
        frame[XID : XID + 4] = self._xid.to_bytes(4)
        self._running[self._xid] = client, time.perf_counter()
        self._raw.sendto(frame, (client.interface, _ETHERTYPE))

    def _give_up(self, before: float) -> None:
        for xid, (client, began) in list(self._running.items()):
            if began < before:
                del self._running[xid]
                self._idle.append(client)

    def _hear(self, patience: float, *, once: bool = False) -> bool:
        """True when a server said something."""
        self._raw.settimeout(patience)
        try:
            frame, (_, _, kind, _, _) = self._raw.recvfrom(2048)
        except (TimeoutError, BlockingIOError):
            return False
        if kind == _OUTGOING or frame[34:36] != _SERVER_PORT or len(frame) <= _TYPE:
            return True
        xid = int.from_bytes(frame[XID : XID + 4])
        running = self._running.get(xid)
        if running is None:
            return True
        client, began = running
        if frame[_TYPE] == OFFER:
            request = self._frames[client][1]
            request[XID : XID + 4] = frame[XID : XID + 4]
            request[_OPTIONS + 5 : _OPTIONS + 9] = frame[_YIADDR : _YIADDR + 4]
            at = frame.index(_SERVER_ID, _OPTIONS) + 2
            request[_OPTIONS + 11 : _OPTIONS + 15] = frame[at : at + 4]
            self._raw.sendto(request, (client.interface, _ETHERTYPE))
            return True
        del self._running[xid]
        if frame[_TYPE] != ACK:
            raise RuntimeError(f"{client.mac.hex(':')} was refused")
        self._load.took.append(time.perf_counter() - began)
        if not once:
            self._idle.append(client)
        return True


def _request(mac: bytes) -> bytes:
    """A REQUEST with room for the address asked for and the server's; the DISCOVER's frame has all the rest."""
    frame = discover(mac)
    options = struct.pack("!BBBBB4xBB4xBBB", 53, 1, 3, 50, 4, 54, 4, 61, 7, 1) + mac
    options += bytes.fromhex("370701030c0f1c2a79ff")
    return bytes(frame[:_OPTIONS] + options.ljust(len(frame) - _OPTIONS, b"\0"))
