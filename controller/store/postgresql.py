"""Connections to PostgreSQL: several controllers share it, and none of them may hold up the others or itself.

Whoever holds the lock that puts writers in one line (the rows of `counters`, see `journal.Transaction`) and then hangs
is cut off by the server; a server that hangs is given up by us (`waiting`); a network that swallows packets is given
up by the kernel.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, text
from sqlalchemy.engine import make_url

from controller.store.waiting import ANSWER_S, Patient, VeryPatient

DRIVER: Final = "postgresql+psycopg2"
READERS: Final = 4
"""Connections for reading: as many may read at once."""

CONNECT_S: Final = 4
STATEMENT_S: Final = 4.0
"""Less than ANSWER_S: the server is the first to give up, and the connection is kept."""

LOCK_S: Final = 3.0
IDLE_S: Final = 5.0
"""Seconds for which a transaction may do nothing: a controller that is stopped in the middle of one."""

JOURNAL: Final = "trunkline_journal"
"""The channel on which each write says its revision."""

IN_USE: Final = 0x74726E6B6C696E65
"""The advisory lock that each controller shares as long as it lives, and a restore wants alone."""

_NOTIFY = text("SELECT pg_notify(:channel, :payload)")
_SHARE = text("SELECT pg_try_advisory_lock_shared(:key)")
_TAKE = text("SELECT pg_try_advisory_xact_lock(:key)")

# Dead peers are found in 6 s: tcp(7), "Parameter Key Words" of libpq
_TCP: Mapping[str, int] = {
    "keepalives": 1,
    "keepalives_idle": 3,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 5000,
}


def make_engine(url: str, *, writing: bool, long: bool = False) -> Engine:
    """READ COMMITTED for a writer, which sees what others have written before it got its turn; one consistent state
    for a reader. `long`: for jobs that take as long as they take. Raises ValueError for a host that has no address.
    """
    where = make_url(url).set(drivername=DRIVER)
    settings: dict[str, object] = {
        "default_transaction_isolation": r"read\ committed" if writing else r"repeatable\ read",
        "statement_timeout": 0 if long else _ms(STATEMENT_S),
        "lock_timeout": _ms(LOCK_S),
        "idle_in_transaction_session_timeout": 0 if long else _ms(IDLE_S),
    }
    if not writing:
        settings["default_transaction_read_only"] = "on"
    given = where.query.get("options")
    options = [given] if isinstance(given, str) else []
    options += [f"-c {name}={value}" for name, value in settings.items()]
    arguments: dict[str, Any] = {
        "connect_timeout": CONNECT_S,
        "application_name": "trunkline",
        **_TCP,
        **_addresses(where),
        "options": " ".join(options),
        "connection_factory": VeryPatient if long else Patient,
    }
    return create_engine(
        where,
        connect_args=arguments,
        pool_size=1 if writing else READERS,
        max_overflow=0,
        pool_timeout=ANSWER_S,
        executemany_mode="values_plus_batch",
        use_native_hstore=False,
    )


def notify(connection: Connection, channel: str, payload: str) -> None:
    """Tell whoever listens, once the transaction is committed. A payload has 7999 bytes at most."""
    connection.execute(_NOTIFY, {"channel": channel, "payload": payload})


def share_use(connection: Connection) -> bool:
    """The session's from now on: a controller lives. False while a restore is under way."""
    return bool(connection.execute(_SHARE, {"key": IN_USE}).scalar_one())


def take_use(connection: Connection) -> bool:
    """The transaction's until its end: no controller lives. False while one does."""
    return bool(connection.execute(_TAKE, {"key": IN_USE}).scalar_one())


def _addresses(url: URL) -> dict[str, str]:
    """libpq asks for a name's address at each connection, and stops the whole process meanwhile: we ask once."""
    given = url.query.get("host") or url.host or ""
    hosts = given.split(",") if isinstance(given, str) else [one.partition(":")[0] for one in given]
    found = [_address(host) for host in hosts]
    return {"hostaddr": ",".join(found)} if any(found) and "hostaddr" not in url.query else {}


def _address(host: str) -> str:
    """ "" for a Unix socket."""
    if not host or host.startswith("/"):
        return ""
    try:
        return str(ip_address(host.strip("[]")))
    except ValueError:
        pass
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise ValueError(f"the database's host {host} has no address: {error}") from None


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
