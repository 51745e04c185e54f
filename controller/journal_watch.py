"""What other controllers have written: told by PostgreSQL at once, and asked for now and then in case it was not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import structlog

PERIOD: Final = 1.0


class Journal(Protocol):
    def revision(self) -> int: ...


class JournalWatch:
    """`known` is the revision that is in force here, `wake` has newer ones followed, and never waits.

    `start_anew` ends the process: the database has gone back to an older state under us, as when a standby took over
    that lacked the last changes. What is in memory is of no use then, and the switches keep all they have.
    """

    def __init__(
        self, journal: Journal, known: Callable[[], int], wake: Callable[[], None], start_anew: Callable[[], None]
    ) -> None:
        self._journal = journal
        self._known = known
        self._wake = wake
        self._start_anew = start_anew

    def told(self, revision: str) -> None:
        """By a notification; one's own are known already, or about to be."""
        if int(revision) > self._known():
            self._wake()

    def look(self) -> None:
        """Raises Unavailable while the database is away."""
        known = self._known()
        found = self._journal.revision()
        if found > known:
            self._wake()
        elif found < known:
            structlog.get_logger().critical("database_went_back", revision=found, known=known)
            self._start_anew()
