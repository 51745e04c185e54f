"""Token buckets: how many packet_ins one object may cause, or how many requests one client."""

from __future__ import annotations

from collections.abc import Hashable


class TokenBuckets:
    """One bucket per key, filled at `rate` per second up to `burst`; at most `capacity` buckets.

    The bucket unused for longest makes room. A bucket that comes back is full, hence keys must not be such as one
    sender can have many of: they come from the snapshot and never from a packet."""

    def __init__(self, rate: float, burst: float, capacity: int = 65536) -> None:
        self._rate = rate
        self._burst = burst
        self._capacity = capacity
        self._buckets: dict[Hashable, tuple[float, float]] = {}

    def allow(self, key: Hashable, now: float, at_least: float = 1.0) -> bool:
        """True if there are `at_least` tokens; one is taken. `now` is in seconds of a clock that only goes forward."""
        bucket = self._buckets.pop(key, None)
        if bucket is None:
            if len(self._buckets) >= self._capacity:
                del self._buckets[next(iter(self._buckets))]
            tokens = self._burst
        else:
            tokens = min(self._burst, bucket[0] + (now - bucket[1]) * self._rate)
        allowed = tokens >= at_least
        self._buckets[key] = (tokens - 1 if allowed else tokens, now)
        return allowed

    def wait(self, key: Hashable, now: float) -> float:
        """Seconds until there is a token."""
        bucket = self._buckets.get(key)
        if bucket is None:
            return 0.0
        missing = 1 - bucket[0] - (now - bucket[1]) * self._rate
        return max(missing, 0.0) / self._rate

    def __len__(self) -> int:
        return len(self._buckets)
