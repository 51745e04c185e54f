"""The store's methods for the audit trail.

audit(*, kind=None, object_id=None, actor=None, since=None, limit, marker=None) -> Page
    the newest first; since: seconds since the epoch; marker: a revision, before which to look
note_capture(port_id, told, actor) -> Written[None]   who reads a port's traffic; told: what else is known of it
forget_audit(older_than_s) -> int                     some of what is older; call it until it answers 0
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controller.store import audit
from controller.store.audit import Page
from controller.store.journal import CAPTURE, CREATE, Transaction
from controller.store.specs import Written
from controller.store.writer import Writer


class AuditStore(Writer):
    def audit(
        self,
        *,
        kind: str | None = None,
        object_id: str | None = None,
        actor: str | None = None,
        since: float | None = None,
        limit: int,
        marker: int | None = None,
    ) -> Page:
        return self._database.read(
            lambda connection: audit.page(
                connection, kind=kind, object_id=object_id, actor=actor, since=since, limit=limit, marker=marker
            )
        )

    def note_capture(self, port_id: str, told: Mapping[str, Any], actor: str) -> Written[None]:
        def work(tx: Transaction) -> None:
            tx.record(CAPTURE, port_id, CREATE, told)

        return self._write(actor, work)

    def forget_audit(self, older_than_s: float) -> int:
        before = self._clock() - older_than_s
        return self._database.write(lambda connection: audit.forget(connection, before))
