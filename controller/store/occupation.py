"""Who may use a database: an SQLite file one controller alone, and either kind nobody else while it is made anew."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from controller.store import postgresql, sqlite


class InUse(Exception):
    """A controller works on the database, or somebody makes it anew."""


class FileLock:
    """`<database>.lock` is held as long as this process lives, or until `release`."""

    def __init__(self, database: Path) -> None:
        """Raises InUse when another process has it."""
        path = sqlite.lock_of(database)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise InUse(f"another process works on the database {database}: it has locked {path}") from None

    def release(self) -> None:
        os.close(self._descriptor)


def occupy(url: str) -> FileLock | None:
    """For a controller, as long as it lives. On PostgreSQL there may be several (`notifications.Listener` tells of
    each). Raises InUse.
    """
    return FileLock(sqlite.file_of(url)) if sqlite.is_sqlite(url) else None


@contextmanager
def alone(url: str) -> Iterator[None]:
    """No controller works on the database, and none begins to. Raises InUse."""
    if sqlite.is_sqlite(url):
        lock = FileLock(sqlite.file_of(url))
        try:
            yield
        finally:
            lock.release()
        return
    engine = postgresql.make_engine(url, writing=True, long=True)
    try:
        with engine.connect() as connection:
            if not postgresql.take_use(connection):
                raise InUse("controllers work on the database, or somebody makes it anew: stop them first")
            yield
    finally:
        engine.dispose()
