"""Connections whose peers have not proven yet to be switches, and how many of them each address may have.

One address can neither fill the table nor keep others out: beyond its share its own oldest connection is closed, and
where the table is full, the oldest of the address that has most. Nor can it keep the controller busy with handshakes:
they begin at a bounded rate. By TLS, a peer that says nothing takes neither a handshake's place nor part of that rate;
without TLS, it takes neither for half a second. So a node behind the same address gets in.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, MutableMapping
from ipaddress import IPv6Address, ip_address
from socket import SHUT_RDWR
from typing import Any, Final

import structlog

from controller.packet_in.limits import TokenBuckets

MAX_HANDSHAKING: Final = 256
"""Connections that may wait for the peer's first byte, and that may be between it and the handshake's end."""

SHARE: Final = 64
"""Connections of one address that may be before the end of their handshake, where nothing else is configured."""

LEAST_TIME: Final = 1.0
"""Seconds that a steady stream of peers leaves a handshake: Open vSwitch takes 0.5 for TLS."""

_MAX_ADDRESSES: Final = 4096
_LOG_PERIOD: Final = 10.0


def client_of(address: str) -> str:
    """What one client has of addresses: of IPv6, a whole /64."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    return address if parsed.ipv4_mapped else str(IPv6Address(int(parsed) >> 64 << 64))


class _Places:
    """Sockets by client, oldest first. `share`: how many of one client."""

    def __init__(self, share: int) -> None:
        self._share = share
        self._of: dict[str, dict[Any, None]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._of.values()))

    def add(self, client: str, socket: Any) -> str | None:
        """Closes another one where there are too many, and returns whose it was."""
        displaced = None
        if len(self._of.get(client, ())) >= self._share:
            displaced = client
        elif len(self) >= MAX_HANDSHAKING:
            displaced = max(self._of, key=lambda each: len(self._of[each]))
        if displaced is not None:
            oldest = next(iter(self._of[displaced]))
            self.remove(displaced, oldest)
            with contextlib.suppress(OSError):
                oldest.shutdown(SHUT_RDWR)
        self._of.setdefault(client, {})[socket] = None
        return displaced

    def remove(self, client: str, socket: Any) -> bool:
        """False when it is not there."""
        mine = self._of.get(client, {})
        if socket not in mine:
            return False
        del mine[socket]
        if not mine:
            del self._of[client]
        return True


class Newcomers:
    """Those whose handshake has not begun have places of their own: they displace none that has. `share`: connections
    of one address in each of the two. `clock`: seconds that only go forward. `chance`: a number from 0 up to 1.

    An address begins as many handshakes as its share within LEAST_TIME, and its share at once. A second share is taken
    by chance, the less likely the less is left of it: a steady stream would else take each that becomes free.
    """

    def __init__(
        self,
        share: int,
        counters: MutableMapping[str, int],
        clock: Callable[[], float],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._counters = counters
        self._clock = clock
        self._chance = chance
        self._waiting, self._begun = _Places(share), _Places(share)
        self._at_once = min(share, MAX_HANDSHAKING)  # there are no more places, whatever the share
        self._rate = TokenBuckets(self._at_once / LEAST_TIME, 2 * self._at_once, _MAX_ADDRESSES)
        self._logged = -_LOG_PERIOD

    def __len__(self) -> int:
        return len(self._waiting) + len(self._begun)

    def enter(self, client: str, socket: Any) -> None:
        """Adds a connection; closes another one where there are too many."""
        self._displaced(self._waiting.add(client, socket))

    def begin(self, client: str, socket: Any) -> bool:
        """Its handshake may begin. False when it was closed meanwhile, or its address has begun too many."""
        if not self._waiting.remove(client, socket):
            return False
        if not self._rate.allow(client, self._clock(), 1 + self._chance() * self._at_once):
            self._tell("openflow_handshakes_refused", client)
            return False
        self._displaced(self._begun.add(client, socket))
        return True

    def leave(self, client: str, socket: Any) -> bool:
        """Removes a connection: its peer has proven to be a switch, or it is over. False when it was removed before."""
        return self._waiting.remove(client, socket) or self._begun.remove(client, socket)

    def _displaced(self, client: str | None) -> None:
        if client is not None:
            self._tell("openflow_handshakes_displaced", client)

    def _tell(self, event: str, client: str) -> None:
        """Counts each, and logs one of them now and then."""
        self._counters[event] = self._counters.get(event, 0) + 1
        now = self._clock()
        if now - self._logged >= _LOG_PERIOD:
            self._logged = now
            structlog.get_logger().warning(event, address=client)
