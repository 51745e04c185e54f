"""How much is answered: requests a second of one token, wrong tokens a minute of one address, and how many requests of
one token are worked on at once. All of it in bounded memory.

Agents have no limit here. What they pass on of VMs has its own, by port, and what they report is what the cloud stands
on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from threading import Semaphore
from typing import Final

from controller.api.auth import Role
from controller.api.credentials import Credential
from controller.api.errors import ApiError
from controller.newcomers import client_of
from controller.packet_in.limits import TokenBuckets

AT_ONCE: Final = 8
"""Requests of one token that are worked on at once: more of its own wait, those of others do not."""

MOST_TOKENS: Final = 20_000
MOST_ADDRESSES: Final = 10_000
MINUTE: Final = 60.0


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """`rate` requests a second of one token, and `burst` at once; `failures` wrong tokens a minute of one address. 0:
    no limit.
    """

    rate: int = 200
    burst: int = 1000
    failures: int = 30


Aside = Callable[[], AbstractContextManager[None]]
"""Within it a request has no place among those that are worked on: it waits for something else, for long."""


@dataclass(slots=True)
class _Turn:
    places: Semaphore = field(default_factory=lambda: Semaphore(AT_ONCE))
    users: int = 0

    @contextmanager
    def aside(self) -> Iterator[None]:
        self.places.release()
        try:
            yield
        finally:
            self.places.acquire()


class Limiter:
    """`clock`: seconds that only go forward."""

    def __init__(self, limits: RequestLimits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._requests = TokenBuckets(limits.rate, limits.burst, MOST_TOKENS)
        self._failures = TokenBuckets(limits.failures / MINUTE, limits.failures, MOST_ADDRESSES)
        self._turns: dict[str, _Turn] = {}

    def admit(self, credential: Credential) -> None:
        """Raises ApiError 429 when its token has asked too much."""
        if not self._limits.rate or credential.identity.role is Role.AGENT:
            return
        now = self._clock()
        if not self._requests.allow(credential.key, now):
            raise _too_many("this token asks too much", self._requests.wait(credential.key, now))

    def may_fail(self, address: str) -> None:
        """Raises ApiError 429 when too many wrong tokens have come from an address."""
        now, place = self._clock(), client_of(address)
        wait = self._failures.wait(place, now) if self._limits.failures else 0.0
        if wait:
            raise _too_many("too many wrong tokens from this address", wait)

    def failed(self, address: str) -> None:
        """A wrong token has come from an address."""
        self._failures.allow(client_of(address), self._clock())

    @contextmanager
    def turn(self, credential: Credential | None) -> Iterator[Aside]:
        """Waits until few enough requests of its token are worked on, also again after `Aside`."""
        if credential is None or credential.identity.role is Role.AGENT:
            yield nullcontext
            return
        turn = self._turns.setdefault(credential.key, _Turn())
        turn.users += 1
        try:
            with turn.places:
                yield turn.aside
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[credential.key]


def _too_many(message: str, wait: float) -> ApiError:
    seconds = max(1, math.ceil(wait))
    return ApiError(
        429,
        "too_many_requests",
        f"{message}; try again in {seconds} s",
        details={"retry_after": seconds},
        headers=(("Retry-After", str(seconds)),),
    )
