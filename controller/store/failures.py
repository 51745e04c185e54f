"""What a database says when it cannot do it, and what that means for whoever asked."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, Final

import psycopg2
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from controller.store.specs import Busy, Unavailable

AWAY: Final = "database_unavailable"
READ_ONLY: Final = "database_read_only"
FULL: Final = "database_full"
BUSY: Final = "database_busy"
UNKNOWN: Final = "outcome_unknown"

_TEXTS: Mapping[str, str] = {
    AWAY: "the database does not answer; try again later",
    READ_ONLY: "the database can be read only; nothing can be changed until that is put right",
    FULL: "the database has no disk space left; nothing can be changed until it has",
    BUSY: "others change the database; try again",
    UNKNOWN: "the connection to the database was lost while the change was written: it may be there or not; "
    "look before you ask again",
}

# the beginning of PostgreSQL's SQLSTATE ("Appendix A. Error Codes"), or of SQLite's name for it
# (sqlite.org/rescode.html) -> what it means; the longest that fits counts
_CODES: Mapping[str, str] = {
    "08": AWAY,  # connection exception
    "25006": READ_ONLY,  # read_only_sql_transaction: it, or its role or database, is set so, or it is a standby
    "25P03": AWAY,  # idle_in_transaction_session_timeout
    "28": AWAY,  # it does not know us
    "3D000": AWAY,  # invalid_catalog_name: there is no such database
    "40001": BUSY,  # serialization_failure
    "40P01": BUSY,  # deadlock_detected
    "42501": READ_ONLY,  # insufficient_privilege: of its tables, we may not write all
    "53": AWAY,  # insufficient resources: memory, connections
    "53100": FULL,  # disk_full
    "55P03": BUSY,  # lock_not_available: lock_timeout
    "57": AWAY,  # operator intervention: it shuts down, has crashed, or only starts
    "57014": BUSY,  # query_canceled: statement_timeout
    "58": AWAY,  # system error: the disk
    "XX": AWAY,  # internal error, broken data
    "SQLITE_BUSY": BUSY,
    "SQLITE_LOCKED": BUSY,
    "SQLITE_READONLY": READ_ONLY,
    "SQLITE_FULL": FULL,
    "SQLITE_IOERR": AWAY,
    "SQLITE_CANTOPEN": AWAY,
    "SQLITE_CORRUPT": AWAY,
    "SQLITE_NOTADB": AWAY,
    "SQLITE_PERM": AWAY,
}
_AGAIN: Final = frozenset({"40001", "40P01"})
_LONGEST: Final = max(map(len, _CODES))


class NoAnswer(Exception):
    """The database was silent for longer than it may be. Mixed into the driver's own error where it is raised."""


def meaning(error: BaseException) -> str | None:
    """AWAY, READ_ONLY, FULL or BUSY; None for an error of ours, and for a unique value that is taken."""
    if isinstance(error, PoolTimeout):
        return BUSY
    code = _code(error)
    for length in range(_LONGEST, 1, -1):
        if len(code) >= length and code[:length] in _CODES:
            return _CODES[code[:length]]
    # the driver's own words, for instance when nobody listens at that address
    lost = isinstance(error, OperationalError | InterfaceError) and not code
    return AWAY if lost or (isinstance(error, DBAPIError) and error.connection_invalidated) else None


def unavailable(error: BaseException) -> Unavailable | None:
    """What to tell whoever asked. It holds neither statements nor values: those are for the log only."""
    found = meaning(error)
    return None if found is None else refusal(found)


def refusal(code: str) -> Unavailable:
    return (Busy if code == BUSY else Unavailable)(code, _TEXTS[code])


def to_be_tried_again(error: BaseException) -> bool:
    """Nothing was written, and the same may succeed at once or soon: another one was in the way."""
    return _code(error).startswith("SQLITE_BUSY") or _code(error) in _AGAIN


def connection_lost(error: BaseException) -> bool:
    """The connection is gone, so that a new one may do. Not when the database was only silent."""
    silent = isinstance(_cause(error), NoAnswer)
    return isinstance(error, DBAPIError) and error.connection_invalidated and not silent


def outcome_unknown(error: BaseException) -> bool:
    """Of a COMMIT: it may have happened. A database that refuses it says why and keeps the connection."""
    lost = isinstance(error, DBAPIError) and (error.connection_invalidated or not _code(error))
    return lost or _code(error).startswith("SQLITE_IOERR")


def not_written(error: BaseException) -> bool:
    """Of a COMMIT to an SQLite file: what says that it is one, the last that is written, is not in the file."""
    return _code(error) == "SQLITE_IOERR_WRITE"


def reason(error: BaseException) -> str:
    """In the driver's words, on one line, without statement and values."""
    cause = _cause(error)
    return " ".join(str(cause).split())[:300] or type(cause).__name__


def _cause(error: BaseException) -> BaseException:
    original: Any = error.orig if isinstance(error, StatementError) else None
    return original if isinstance(original, BaseException) else error


def _code(error: BaseException) -> str:
    """SQLSTATE or SQLite's name; "" where there is none."""
    cause = _cause(error)
    if isinstance(cause, psycopg2.Error):
        return cause.pgcode or ""
    if isinstance(cause, sqlite3.Error):
        return str(cause.__dict__.get("sqlite_errorname", ""))  # only where SQLite itself has said no
    return ""
