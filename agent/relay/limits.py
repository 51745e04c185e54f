"""What one VM may take of the relay, so that all the others have the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

_MANY = 1024  # ports that are remembered before those with nothing to remember are forgotten


class Admission:
    """Open connections: so many of one port, and so many in all."""

    def __init__(self, of_one: int, in_all: int) -> None:
        self._of_one = of_one
        self._in_all = in_all
        self._open: Counter[int] = Counter()
        self._total = 0

    def enter(self, port_key: int) -> bool:
        """False when there is no room; else `leave` has to follow."""
        if self._total >= self._in_all or self._open[port_key] >= self._of_one:
            return False
        self._open[port_key] += 1
        self._total += 1
        return True

    def leave(self, port_key: int) -> None:
        self._open[port_key] -= 1
        self._total -= 1
        if not self._open[port_key]:
            del self._open[port_key]


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class Rate:
    """A token bucket for each port: `rate` requests a second (0: any number), `burst` at once after a pause."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._buckets: dict[int, _Bucket] = {}

    def take(self, port_key: int, most: float) -> float | None:
        """Seconds to wait before the request may go on; None, with nothing taken, when that is more than `most`."""
        if not self._rate:
            return 0.0
        now = self._clock()
        bucket = self._buckets.get(port_key)
        if bucket is None:
            if len(self._buckets) >= _MANY:
                self._forget(now)
            bucket = self._buckets[port_key] = _Bucket(self._burst, now)
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.at) * self._rate)
        bucket.at = now
        wait = max(0.0, (1.0 - bucket.tokens) / self._rate)
        if wait > most:
            return None
        bucket.tokens -= 1.0
        return wait

    def _forget(self, now: float) -> None:
        full = [key for key, held in self._buckets.items() if held.tokens + (now - held.at) * self._rate >= self._burst]
        for key in full:
            del self._buckets[key]
