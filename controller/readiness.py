"""Whether this controller can do its work, in words: for a load balancer, and for what looks after it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from controller.store.specs import SchemaError, Unavailable

OK: Final = "ok"

_FRESH: Final = 1.0
"""Seconds for which what the database has answered is believed: anybody may ask us, and may not load it thereby."""

_BEHIND: Final = 5.0
"""Seconds for which a write may be known to the database and not to the flows."""


class Readiness:
    """`ask` gives the newest revision of the database, after a look at its schema. Raises Unavailable and SchemaError.
    `followed` is the revision that the flows are of. `joined`: the other controllers know of this one.
    """

    def __init__(
        self,
        ask: Callable[[], int],
        followed: Callable[[], int],
        joined: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._followed = followed
        self._joined = joined
        self._clock = clock
        self._asked_at = float("-inf")
        self._database = OK
        self._behind_since: float | None = None

    def checks(self) -> Mapping[str, str]:
        """Each thing that is looked at: `OK`, or what is wrong with it, without a word about the cloud."""
        now = self._clock()
        if now - self._asked_at >= _FRESH:
            self._asked_at = now  # who comes while the database is asked is told what it said before
            self._look()
        behind = self._behind_since is not None and self._clock() - self._behind_since >= _BEHIND
        return {
            "database": self._database,
            "flows": "behind the database" if behind else OK,
            "controllers": OK if self._joined() else "not in touch with the others",
        }

    def _look(self) -> None:
        try:
            newest = self._ask()
        except Unavailable as error:
            self._database = error.code
            return
        except SchemaError:
            self._database = "of another schema revision"
            return
        self._database = OK
        if newest <= self._followed():
            self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = self._clock()


class ReadinessCollector(Collector):
    def __init__(self, checks: Callable[[], Mapping[str, str]]) -> None:
        self._checks = checks

    def describe(self) -> Iterator[GaugeMetricFamily]:
        yield from ()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily("trunkline_check_ok", "1: /readyz finds nothing wrong with it.", labels=["check"])
        for name, found in self._checks().items():
            family.add_metric([name], found == OK)
        yield family
