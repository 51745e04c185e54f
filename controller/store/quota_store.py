"""The store's methods for quotas. See `quota_specs` for what they promise."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from controller.store import quotas
from controller.store.engine import Database
from controller.store.journal import Transaction
from controller.store.quota_specs import Limits, QuotaRecord
from controller.store.specs import Written
from controller.store.writer import Writer


class QuotaStore(Writer):
    def __init__(
        self,
        database: Database,
        clock: Callable[[], float],
        on_commit: Callable[[int], None] | None,
        limits: Limits,
    ) -> None:
        super().__init__(database, clock, on_commit)
        self._limits = limits

    def get_quota(self, project_id: str) -> QuotaRecord:
        return self._database.read(lambda connection: quotas.load(connection, project_id, self._limits))

    def set_quota(self, project_id: str, changes: Mapping[str, int | None], actor: str) -> Written[QuotaRecord]:
        def work(tx: Transaction) -> QuotaRecord:
            quotas.set_limits(tx, project_id, changes)
            return quotas.load(tx.connection, project_id, self._limits)

        return self._write(actor, work)
