"""The connection to the database: one writer at a time, and a reader that never waits for it.

SQLite needs care under eventlet, because its calls block the whole process: `busy_timeout` would sleep inside C, so it
is 0 and we sleep in Python between tries; and nothing between BEGIN and COMMIT gives up the processor, because that is
how two green threads come to wait for each other's locks.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

from sqlalchemy import Connection, Engine, Row, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import StaticPool

from controller.store.specs import Busy, Conflict

T = TypeVar("T")
AnyRow: TypeAlias = "Row[*tuple[Any, ...]]"

BUSY_WAIT_S = 10.0
BUSY_STEP_S = 0.002
# a lost race for a unique value is seen on the second try at the latest; more means that something is wrong
WRITE_ATTEMPTS = 5
CHUNK = 500

UNAVAILABLE: Final = (Busy, OperationalError, InterfaceError, PoolTimeout)
"""What is raised where the database does not answer."""


def chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Pieces that fit into one statement on any database."""
    return (items[start : start + CHUNK] for start in range(0, len(items), CHUNK))


def make_engine(url: str, begin: str = "BEGIN") -> Engine:
    """An engine for any database. On SQLite it has one connection, in WAL mode, that begins with the `begin` given."""
    if make_url(url).get_backend_name() != "sqlite":
        isolation = "READ COMMITTED" if begin != "BEGIN" else "REPEATABLE READ"
        return create_engine(url, isolation_level=isolation)
    if make_url(url).database in (None, "", ":memory:"):
        raise ValueError("an SQLite database must be a file: reader and writer have a connection each")
    Path(str(make_url(url).database)).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        url,
        poolclass=StaticPool,
        connect_args={"check_same_thread": False, "timeout": 0},
        json_deserializer=_loads,  # PostgreSQL keeps nothing else than JSON in such a column
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # BEGIN is ours to say
        connection.text_factory = _text
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=0"):
            _patiently(partial(connection.execute, f"PRAGMA {pragma}"))

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


class Unreadable:
    """In place of what was to be JSON and is none: one row must not stop a query. Whatever is done with it raises."""

    def __init__(self, why: str) -> None:
        self._why = why

    def __repr__(self) -> str:
        return f"<{self._why}>"

    def _refuse(self, *_: Any) -> Any:
        raise ValueError(self._why)

    __iter__ = __contains__ = __getitem__ = __bool__ = __len__ = _refuse


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        return Unreadable(f"no JSON: {error}")


def _text(octets: bytes) -> str:
    return octets.decode(errors="replace")


class Database:
    """A reading and a writing connection, each used by one thread at a time."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._writer = make_engine(url, "BEGIN IMMEDIATE")
        self._reader = make_engine(url)
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction and commit it. It may run more than once, so it must not keep anything.

        Raises Busy when the database stays locked, Conflict `write_conflict` when unique values stay taken, and
        whatever `work` raises; then nothing is written.
        """
        for attempt in range(1, WRITE_ATTEMPTS + 1):
            try:
                with self._write_lock:
                    return _patiently(lambda: self._once(self._writer, work))
            except IntegrityError as error:
                # another writer took what `work` saw free: let it look again
                if attempt == WRITE_ATTEMPTS:
                    raise Conflict("write_conflict", f"the database refused the change: {error.orig}") from error
        raise AssertionError("unreachable")

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on one consistent state of the database."""
        with self._read_lock:
            return _patiently(lambda: self._once(self._reader, work))

    @staticmethod
    def _once(engine: Engine, work: Callable[[Connection], T]) -> T:
        with engine.connect() as connection, connection.begin():
            return work(connection)

    def close(self) -> None:
        self._writer.dispose()
        self._reader.dispose()


def _patiently(work: Callable[[], T]) -> T:
    """Try until the database is not locked. `time.sleep` lets other green threads run meanwhile."""
    deadline = time.monotonic() + BUSY_WAIT_S
    while True:
        try:
            return work()
        except Exception as error:
            if not _locked(error):
                raise
            if time.monotonic() > deadline:
                raise Busy("database_busy", "the database is locked by another process") from error
        time.sleep(BUSY_STEP_S)


def _locked(error: Exception) -> bool:
    cause = error.orig if isinstance(error, DBAPIError) else error
    if getattr(cause, "sqlite_errorname", "").startswith("SQLITE_BUSY"):
        return True
    # PostgreSQL: serialization failure, deadlock
    return isinstance(error, OperationalError) and getattr(cause, "pgcode", None) in ("40001", "40P01")
