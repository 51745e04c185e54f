"""Asks upstreams what is nobody's here: each question once at a time, in order of the servers, and not for ever.

A green thread for each question that is under way; none waits in a packet's handler.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, NamedTuple

import eventlet
import structlog

from controller.dns import domain
from controller.dns.cache import Cache
from controller.dns.exchange import ask
from controller.dns.message import Query, Rcode, Sections
from controller.dns.reply import Reply, Unusable
from controller.dns.upstreams import Upstream, Upstreams

MOST_QUESTIONS: Final = 500
"""Under way at once: a socket and a green thread each."""

MOST_OF_PORT: Final = 40
"""Of these that one port waits for, whoever has asked first; fewer when there is little room left."""

_SHARE: Final = 4
"""A port has so many times fewer questions under way than there is room for more: however many ports take all that they
can, there is some for the next one.
"""

PATIENCE: Final = (0.8, 1.6)
"""Seconds that each server is given, in the first round and in the second: the usual client gives up after 5."""

PATIENCE_WITH_ONE: Final = (1.5, 3.0)
"""The same where there is no other."""

SUSPECT_AFTER: Final = 2
"""So many questions in a row without an answer, and a server is asked last, for a while."""

SUSPECT_FOR: Final = 15.0

_MOST_SERVERS: Final = 4096
"""Of which it is remembered when they answered."""

# another server may know better
_PASSED_ON: Final = frozenset({Rcode.FORMERR, Rcode.SERVFAIL, Rcode.NOTIMP, Rcode.REFUSED, Rcode.BADVERS})

Told = Callable[[int, Sections], None]
"""Gets the rcode and what stands behind the question."""


class Key(NamedTuple):
    """Two questions with the same key have the same answer. Who asks others has a cache of its own."""

    upstreams: Upstreams
    name: bytes
    kind: int
    dnssec: bool
    unchecked: bool


class Health:
    """Which servers do not answer at present."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures: dict[Upstream, int] = {}
        self._until: dict[Upstream, float] = {}
        self._answered: dict[Upstream, float] = {}

    def order(self, upstreams: Upstreams) -> Upstreams:
        """As they are, but those that are suspect come last."""
        if not self._until:
            return upstreams
        now = self._clock()
        return tuple(sorted(upstreams, key=lambda upstream: self._until.get(upstream, 0.0) > now))

    def answered(self, upstream: Upstream) -> None:
        self._failures.pop(upstream, None)
        self._until.pop(upstream, None)
        self._answered.pop(upstream, None)
        if len(self._answered) >= _MOST_SERVERS:
            del self._answered[next(iter(self._answered))]
        self._answered[upstream] = self._clock()

    def failed(self, upstream: Upstream, asked: float) -> None:
        """A question of that time has no answer. What nobody can find out, as names whose own servers are silent, says
        nothing of an upstream that has answered others meanwhile.
        """
        if self._answered.get(upstream, asked) > asked:
            return
        count = self._failures[upstream] = self._failures.get(upstream, 0) + 1
        if count < SUSPECT_AFTER:
            return
        if upstream not in self._until:
            structlog.get_logger().warning("dns_upstream_silent", upstream=str(upstream), questions=count)
        self._until[upstream] = self._clock() + SUSPECT_FOR

    def suspects(self) -> int:
        now = self._clock()
        return sum(until > now for until in self._until.values())


class Forwarder:
    """`exchange` asks one server and is `exchange.ask` but in tests. `spawn` starts a green thread."""

    def __init__(
        self,
        cache: Cache,
        *,
        exchange: Callable[[Upstream, Query, float], Reply] = ask,
        spawn: Callable[..., object] = eventlet.spawn_n,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.cache = cache
        self.health = Health(clock)
        self._exchange = exchange
        self._spawn = spawn
        self._clock = clock
        self._waiting: dict[Key, list[tuple[int, Told]]] = {}
        self._of_port: dict[int, int] = {}

    @property
    def under_way(self) -> int:
        return len(self._waiting)

    def known(self, key: Key) -> tuple[int, Sections] | None:
        return self.cache.get(key, self._clock())

    def forward(self, key: Key, query: Query, port_key: int, told: Told) -> bool:
        """Has `told` called once, later. False: there are too many questions, of this port or of all."""
        of_port = self._of_port.get(port_key, 0)
        waiting = self._waiting.get(key)
        left = MOST_QUESTIONS - len(self._waiting)
        if of_port >= MOST_OF_PORT or (waiting is None and of_port * _SHARE >= left):
            return False
        self._of_port[port_key] = of_port + 1
        if waiting is not None:
            waiting.append((port_key, told))
            return True
        self._waiting[key] = [(port_key, told)]
        self._spawn(self._run, key, query)
        return True

    def _run(self, key: Key, query: Query) -> None:
        rcode, sections = int(Rcode.SERVFAIL), Sections(b"", 0)
        try:
            reply = self._ask_all(key.upstreams, query)
            if reply is not None:
                self.cache.put(key, reply, self._clock())
                rcode, sections = reply.rcode, reply.sections()
        except Exception:
            structlog.get_logger().exception("dns_forward_failed", name=domain.text(key.name))
        for port_key, told in self._waiting.pop(key):
            left = self._of_port[port_key] - 1
            if left:
                self._of_port[port_key] = left
            else:
                del self._of_port[port_key]
            try:
                told(rcode, sections)
            except Exception:
                structlog.get_logger().exception("dns_answer_failed", name=domain.text(key.name))

    def _ask_all(self, upstreams: Upstreams, query: Query) -> Reply | None:
        """The first answer that settles it; else the last one that says why there is none."""
        last: Reply | None = None
        for patience in PATIENCE if len(upstreams) > 1 else PATIENCE_WITH_ONE:
            for upstream in self.health.order(upstreams):
                asked = self._clock()
                try:
                    reply = self._exchange(upstream, query, patience)
                except Unusable:
                    continue  # whatever was wrong with that answer, the server is there
                except OSError:
                    self.health.failed(upstream, asked)
                    continue
                self.health.answered(upstream)
                if reply.rcode not in _PASSED_ON:
                    return reply
                last = reply
            if last is not None:
                return last
        return None
