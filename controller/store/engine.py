"""The way to the database: one writer at a time, and readers that never wait for it. `sqlite` and `postgresql` have
the connections, `failures` what is said when it does not work.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final, TypeAlias, TypeVar

import structlog
from sqlalchemy import Connection, Engine, Row
from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from controller.store import failures, postgresql, sqlite
from controller.store.specs import Busy, Conflict, Unavailable

T = TypeVar("T")
AnyRow: TypeAlias = "Row[*tuple[Any, ...]]"

LINE_WAIT_S: Final = 30.0
"""Seconds for which one of this process waits for its turn to write."""

BUSY_WAIT_S = 10.0
BUSY_STEP_S = 0.002
# a lost race for a unique value is seen on the second try at the latest; more means that something is wrong
WRITE_ATTEMPTS = 5
CHUNK = 500

AWAY_S: Final = 0.5
"""Seconds for which nobody asks a database again that did not answer: each would wait, and hold up the next one."""

UNAVAILABLE: Final = (Unavailable, OperationalError, InterfaceError, PoolTimeout)
"""What is raised where the database does not answer."""


def chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Pieces that fit into one statement on any database."""
    return (items[start : start + CHUNK] for start in range(0, len(items), CHUNK))


def make_engine(url: str, *, writing: bool = False, long: bool = False) -> Engine:
    """An engine for any database; `long` is for what takes its time, and is waited for. Raises ValueError for a URL
    that cannot be used.
    """
    if sqlite.is_sqlite(url):
        return sqlite.make_engine(url, writing=writing, patiently=_patiently)
    return postgresql.make_engine(url, writing=writing, long=long)


class Database:
    """A writing connection, used by one thread at a time, and reading ones."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.shared: Final = not sqlite.is_sqlite(url)
        """Other controllers may write, too."""
        self._writer = make_engine(url, writing=True)
        self._reader = make_engine(url)
        self._write_lock = threading.Lock()
        # SQLite: there is one connection for all that read
        self._reading: AbstractContextManager[Any] = nullcontext() if self.shared else threading.Lock()
        self._health = _Health(self._start_anew)

    @property
    def away(self) -> bool:
        """It did not answer when it was asked last."""
        return self._health.away

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction and commit it. It may run more than once, so it must not keep anything.

        Raises Conflict `write_conflict` when unique values stay taken, Unavailable when the database cannot do it, and
        whatever `work` raises; then nothing is written. Only after Unavailable `outcome_unknown` it may be.
        """
        for attempt in range(1, WRITE_ATTEMPTS + 1):
            try:
                with self._writing():
                    return _patiently(lambda: _commit(self._writer, work, self._read_only))
            except IntegrityError as error:
                # another writer took what `work` saw free: let it look again
                if attempt == WRITE_ATTEMPTS:
                    raise Conflict("write_conflict", f"the database refused the change: {error.orig}") from error
        raise AssertionError("unreachable")

    def rehearse(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction of the writer that is never committed: what it writes only it sees. Others wait
        for their turn to write meanwhile. It may run more than once. Raises what `write` raises.
        """
        with self._writing():
            return _patiently(lambda: _rolled_back(self._writer, work))

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on one consistent state of the database. Raises Unavailable, and whatever `work` raises."""
        with self._health.asking():
            return self.read_beside(work)

    def read_beside(self, work: Callable[[Connection], T]) -> T:
        """The same within a write, whose own changes it does not see. What fails is the write's failure."""
        with self._reading:
            return _patiently(lambda: _once(self._reader, work))

    def notify(self, connection: Connection, channel: str, payload: str) -> None:
        """Within a write: other controllers that listen (`notifications`) hear it when it is committed."""
        if self.shared:
            postgresql.notify(connection, channel, payload)

    def close(self) -> None:
        self._writer.dispose()
        self._reader.dispose()

    def _read_only(self) -> bool:
        """Whether that is why a write has failed. PostgreSQL says so by itself."""
        return not self.shared and not sqlite.may_be_written(self.url)

    def _start_anew(self) -> None:
        """A connection stays as it was made: able to write or not, whatever the database is by now."""
        self._writer.dispose()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self._health.check()
        if not self._write_lock.acquire(timeout=LINE_WAIT_S):
            raise failures.refusal(failures.BUSY)
        try:
            with self._health.asking():  # whoever was before us may have found it gone
                yield
        finally:
            self._write_lock.release()


class Rehearsal:
    """In place of the database, within `Database.rehearse`: each write is done, none is committed, and whoever reads
    sees those before. `connection` is the transaction's.
    """

    def __init__(self, database: Database, connection: Connection) -> None:
        self._database = database
        self._connection = connection
        self.url = database.url
        self.shared: Final = database.shared

    @property
    def away(self) -> bool:
        return self._database.away

    def write(self, work: Callable[[Connection], T]) -> T:
        """As `Database.write`."""
        for attempt in range(1, WRITE_ATTEMPTS + 1):
            try:
                with self._connection.begin_nested():
                    return work(self._connection)
            except IntegrityError as error:
                if attempt == WRITE_ATTEMPTS:
                    raise Conflict("write_conflict", f"the database refused the change: {error.orig}") from error
        raise AssertionError("unreachable")

    def read(self, work: Callable[[Connection], T]) -> T:
        return work(self._connection)

    def read_beside(self, work: Callable[[Connection], T]) -> T:
        """As it is for others: without what is rehearsed."""
        return self._database.read_beside(work)

    def notify(self, connection: Connection, channel: str, payload: str) -> None:
        """Nobody is told."""

    def close(self) -> None:
        """The connection is another's to close."""


class _Health:
    """Whether the database answers. When it does not, one asks now and then, and all others are refused at once."""

    def __init__(self, start_anew: Callable[[], None]) -> None:
        self.away = False
        self._start_anew = start_anew
        self._since = 0.0
        self._ask_at = 0.0
        self._log = structlog.get_logger("controller.store")

    def check(self) -> None:
        """Raises Unavailable when it is too early to ask again."""
        if self.away and time.monotonic() < self._ask_at:
            raise failures.refusal(failures.AWAY)

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Errors of the database come out as Unavailable, but for IntegrityError, which is an answer."""
        self.check()
        self._ask_at = time.monotonic() + BUSY_WAIT_S  # while it is away, one asks at a time
        try:
            yield
        except Unavailable as error:
            self._refused(error.code, error.__cause__ or error)
            raise
        except Exception as error:
            refusal = failures.unavailable(error)
            if refusal is None:
                self._answered()
                raise
            self._refused(refusal.code, error)
            raise refusal from error
        self._answered()

    def _refused(self, code: str, error: BaseException) -> None:
        if code in (failures.AWAY, failures.UNKNOWN):
            self._lost(error)
            return
        self._log.warning(code, reason=failures.reason(error))
        if code == failures.BUSY:  # maybe by those who wait for it
            self._ask_at = time.monotonic() + AWAY_S
        else:
            self._answered()
        if code == failures.READ_ONLY:
            self._start_anew()

    def _lost(self, error: BaseException) -> None:
        now = time.monotonic()
        if not self.away:
            self._since = now
            self._log.error("database_away", reason=failures.reason(error))
        self.away = True
        self._ask_at = now + AWAY_S

    def _answered(self) -> None:
        if self.away:
            self._log.info("database_back", seconds=round(time.monotonic() - self._since, 1))
        self.away = False


def _once(engine: Engine, work: Callable[[Connection], T]) -> T:
    with engine.connect() as connection, connection.begin():
        return work(connection)


def _commit(engine: Engine, work: Callable[[Connection], T], read_only: Callable[[], bool]) -> T:
    try:
        with engine.connect() as connection:
            value = work(connection)
            try:
                connection.commit()
            except Exception as error:
                if failures.outcome_unknown(error) and not (failures.not_written(error) and read_only()):
                    raise failures.refusal(failures.UNKNOWN) from error
                raise
            return value
    except Exception as error:
        if failures.meaning(error) == failures.AWAY and read_only():
            raise failures.refusal(failures.READ_ONLY) from error
        raise


def _rolled_back(engine: Engine, work: Callable[[Connection], T]) -> T:
    with engine.connect() as connection:
        try:
            return work(connection)
        finally:
            connection.rollback()


def _patiently(work: Callable[[], T]) -> T:
    """Try until nobody is in the way. `time.sleep` lets other green threads run meanwhile.

    A connection that turns out to be lost is made anew once: the server was restarted, and nothing was written.
    """
    deadline = time.monotonic() + BUSY_WAIT_S
    lost = False
    while True:
        try:
            return work()
        except Exception as error:
            if failures.connection_lost(error) and not lost:
                lost = True
                continue
            if not failures.to_be_tried_again(error):
                raise
            if time.monotonic() > deadline:
                raise Busy("database_busy", "the database is locked by another process") from error
        time.sleep(BUSY_STEP_S)
