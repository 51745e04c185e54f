"""What every part of the store stands on: one transaction for each write, and a journal that is told of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from sqlalchemy import Connection

from controller.store import address_history, debts
from controller.store.engine import Database, Rehearsal
from controller.store.journal import Transaction
from controller.store.postgresql import JOURNAL
from controller.store.specs import Written

T = TypeVar("T")

SYSTEM = "controller"  # the actor of what nobody asked for


class Writer:
    def __init__(self, database: Database, clock: Callable[[], float], on_commit: Callable[[int], None] | None) -> None:
        self._database: Database | Rehearsal = database
        self._clock = clock
        self._on_commit = on_commit

    @property
    def url(self) -> str:
        return self._database.url

    @property
    def shared(self) -> bool:
        """Other controllers may write, too."""
        return self._database.shared

    @property
    def away(self) -> bool:
        """The database did not answer when it was asked last."""
        return self._database.away

    def close(self) -> None:
        self._database.close()

    def _write(self, actor: str, work: Callable[[Transaction], T]) -> Written[T]:
        def once(connection: Connection) -> tuple[bool, Written[T]]:
            tx = Transaction.start(connection, actor, self._clock())
            value = work(tx)
            address_history.follow(tx)
            last = tx.finish()
            debts.incur(tx, last, self._database.read_beside)
            if last >= tx.revision:
                self._database.notify(connection, JOURNAL, str(last))
            return last >= tx.revision, Written(last, value)

        news, written = self._database.write(once)
        if news and self._on_commit is not None:
            self._on_commit(written.revision)
        return written

    def _then(self, written: Written[Any], load: Callable[[Connection], T]) -> Written[T]:
        return Written(written.revision, self._database.read(load))


def equal(wanted: Mapping[Any, str | None]) -> list[Any]:
    """The conditions of a list that were asked for."""
    return [column == value for column, value in wanted.items() if value is not None]
