"""The connection to an SQLite file, which one controller has for itself.

SQLite needs care under eventlet, because its calls block the whole process: `busy_timeout` would sleep inside C, so it
is 0 and we sleep in Python between tries (`engine`); and nothing between BEGIN and COMMIT gives up the processor,
because that is how two green threads come to wait for each other's locks.
"""

from __future__ import annotations

import errno
import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.pool import StaticPool

_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=0")
_FORBIDDEN = (errno.EROFS, errno.EPERM, errno.EACCES)

SUFFIXES = ("-wal", "-shm", "-journal")
"""Of the files that SQLite has beside a database."""


def is_sqlite(url: str) -> bool:
    return make_url(url).get_backend_name() == "sqlite"


def file_of(url: str) -> Path:
    """Raises ValueError for a database in memory: reader and writer have a connection each."""
    name = make_url(url).database
    if name in (None, "", ":memory:"):
        raise ValueError("an SQLite database must be a file: reader and writer have a connection each")
    return Path(str(name))


def mark_of(path: Path) -> Path:
    """The file beside a database that says that there was one."""
    return path.with_name(f"{path.stem}-was-made")


def lock_of(path: Path) -> Path:
    """The file beside a database that whoever works on it has locked."""
    return path.with_name(f"{path.name}.lock")


def leave_to_owner(path: Path) -> None:
    """What root has made of a database belongs to whom the directory does: the controller need not run as root."""
    if os.geteuid() != 0 or not path.parent.exists():
        return
    owner = path.parent.stat()
    for file in (path, *(path.with_name(path.name + suffix) for suffix in SUFFIXES), lock_of(path), mark_of(path)):
        with suppress(FileNotFoundError):
            os.chown(file, owner.st_uid, owner.st_gid, follow_symlinks=False)


def make_engine(url: str, *, writing: bool, patiently: Callable[[Callable[[], Any]], Any]) -> Engine:
    """One connection, in WAL mode. `patiently` repeats what fails because the file is locked."""
    file_of(url).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        url,
        poolclass=StaticPool,
        connect_args={"check_same_thread": False, "timeout": 0},
        json_deserializer=_loads,  # PostgreSQL keeps nothing else than JSON in such a column
    )
    begin = "BEGIN IMMEDIATE" if writing else "BEGIN"
    files = _Files(file_of(url))

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # BEGIN is ours to say
        connection.text_factory = _text
        for pragma in _PRAGMAS:
            patiently(partial(connection.execute, f"PRAGMA {pragma}"))
        files.connected()

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        files.check()
        connection.exec_driver_sql(begin)

    return engine


class _Files:
    """The database and its write-ahead log must be those that were opened. Once they are removed, moved or replaced,
    SQLite goes on in files without a name, and all that is written is gone when they are closed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log = path.with_name(f"{path.name}-wal")
        self._known: dict[Path, tuple[int, int]] = {}

    def connected(self) -> None:
        """The last connection to close a log removes it, so that a new one may have another."""
        self._known.pop(self._log, None)

    def check(self) -> None:
        """Before each transaction. Raises sqlite3.OperationalError."""
        for file in (self._path, self._log):
            found, known = _identity(file), self._known.get(file)
            if known is None and found is not None:
                self._known[file] = found
            elif found != known:
                error = sqlite3.OperationalError(f"{file} is gone, or another file than the one that was opened")
                error.sqlite_errorname = "SQLITE_CANTOPEN"
                raise error


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def may_be_written(url: str) -> bool:
    """Whether the system lets us write into the files. One whose file system has become read-only under it fails like
    a bad disk, and the file system may still say that it is writable; so it is tried, with the time of the files.
    """
    path = file_of(url)
    try:
        for file in (path, path.with_name(f"{path.name}-wal")):
            if file.exists():
                os.utime(file)
    except OSError as error:
        return error.errno not in _FORBIDDEN
    return True


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
