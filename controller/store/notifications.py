"""What other controllers say through PostgreSQL (LISTEN and NOTIFY), as soon as they have committed it."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog
from sqlalchemy import Connection, Engine

from controller.store import failures, postgresql

RETRY_S: Final = 1.0
CHECK_S: Final = 2.0
"""Seconds of silence after which the connection is tried. The kernel finds a dead one sooner (`postgresql`)."""


class Listener:
    """Follows channels for ever, on a connection of its own. That connection also says that a controller lives, so that
    no restore begins meanwhile (`postgresql.IN_USE`).

    `channels`: name (a word) -> who is called with each payload; he must neither wait nor fail. `connected` is called
    whenever the connection has been made: what was said before is lost. Nothing here may be relied upon: whoever needs
    to know asks the database, too.
    """

    def __init__(
        self, url: str, channels: Mapping[str, Callable[[str], None]], connected: Callable[[], None] = lambda: None
    ) -> None:
        self._engine: Engine = postgresql.make_engine(url, writing=True)
        self._channels = dict(channels)
        self._connected = connected
        self._stopped = False
        self._log = structlog.get_logger("controller.store")

    def run(self) -> None:
        """Until `stop`."""
        silent = False
        while not self._stopped:
            try:
                with self._engine.connect() as connection:
                    self._listen(connection.execution_options(isolation_level="AUTOCOMMIT"))
                    silent = False
                    self._connected()
                    self._follow(connection)
            except Exception as error:
                if failures.meaning(error) is None and not isinstance(error, _InUse):
                    self._log.exception("listener_failed")
                elif not silent:
                    self._log.warning("not_listening", reason=failures.reason(error))
                silent = True
            self._engine.dispose()  # the connection is made anew, or says no more that we live
            if not self._stopped:
                time.sleep(RETRY_S)

    def stop(self) -> None:
        """`run` ends within CHECK_S."""
        self._stopped = True

    def _listen(self, connection: Connection) -> None:
        if not postgresql.share_use(connection):
            raise _InUse("a restore of the database is under way")
        for channel in self._channels:
            connection.exec_driver_sql(f"LISTEN {channel}")

    def _follow(self, connection: Connection) -> None:
        driver: Any = connection.connection.dbapi_connection
        while not self._stopped:
            readable, _, _ = select.select([driver.fileno()], [], [], CHECK_S)
            if readable:
                driver.poll()
            else:
                connection.exec_driver_sql("SELECT 1")
            heard, driver.notifies[:] = list(driver.notifies), []
            for one in heard:
                self._channels[one.channel](one.payload)


class _InUse(Exception):
    pass
