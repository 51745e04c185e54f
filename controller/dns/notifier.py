"""Tells secondaries that a zone has changed, again and again until they have heard it (NOTIFY, RFC 1996)."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import structlog

from controller.dns import domain, tsig
from controller.dns.transfer_messages import Exported, notify
from controller.dns.transfer_request import NOTIFY, Request
from controller.dns.transfer_settings import Secondary, TransferSettings
from controller.green import Signal

FIRST_RETRY: Final = 1.0
MOST_TRIES: Final = 6
"""At 0, 1, 3, 7, 15 and 31 seconds. A secondary that is not there then finds out by itself when it is (REFRESH)."""


@dataclass(slots=True)
class _Waiting:
    zone: Exported
    id: int
    tries: int
    due: float


class Notifier:
    """`send` puts a datagram on the wire to a secondary, and must not wait."""

    def __init__(
        self,
        settings: TransferSettings,
        send: Callable[[bytes, Secondary], None],
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._send = send
        self._clock = clock
        self._monotonic = monotonic
        self._waiting: dict[tuple[Secondary, bytes], _Waiting] = {}
        self._wake = Signal()
        self._ids = random.SystemRandom()

    @property
    def waiting(self) -> int:
        """How many secondaries have not heard of how many zones."""
        return len(self._waiting)

    def tell(self, zones: Iterable[Exported]) -> None:
        """These have changed."""
        now = self._monotonic()
        for zone in zones:
            for secondary in self._settings.secondaries:
                waiting = _Waiting(zone, self._ids.getrandbits(16), 0, now)
                self._waiting[secondary, domain.wire(zone.name)] = waiting
        self._wake.send()

    def heard(self, answer: Request, secondary: Secondary) -> None:
        """A secondary has answered, whatever it says: it will not hear better."""
        key = secondary, answer.name
        waiting = self._waiting.get(key)
        if waiting is not None and answer.opcode == NOTIFY and answer.id == waiting.id:
            del self._waiting[key]

    def send_due(self) -> float | None:
        """Sends what is due. Seconds until the next is, None when nothing waits."""
        now = self._monotonic()
        for key, waiting in list(self._waiting.items()):
            if waiting.due > now:
                continue
            secondary, _ = key
            if waiting.tries == MOST_TRIES:
                del self._waiting[key]
                structlog.get_logger().warning(
                    "notify_unheard", zone=waiting.zone.name, secondary=str(secondary.address)
                )
                continue
            message = notify(waiting.id, waiting.zone, self._settings)
            if secondary.key is not None:
                message, _ = tsig.sign(message, secondary.key, self._clock())
            self._send(message, secondary)
            waiting.due = now + FIRST_RETRY * 2**waiting.tries
            waiting.tries += 1
        dues = [waiting.due for waiting in self._waiting.values()]
        return max(min(dues) - now, 0.01) if dues else None

    def run(self) -> None:
        """For ever."""
        while True:
            self._wake.wait(self.send_due())
