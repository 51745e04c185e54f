"""The store's methods for the audit trail.

audit(*, kind=None, object_id=None, actor=None, since=None, limit, marker=None) -> Page
    the newest first; since: seconds since the epoch; marker: a revision, before which to look
forget_audit(older_than_s) -> int                     some of what is older; call it until it answers 0
"""

from __future__ import annotations

from controller.store import audit
from controller.store.audit import Page
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

    def forget_audit(self, older_than_s: float) -> int:
        before = self._clock() - older_than_s
        return self._database.write(lambda connection: audit.forget(connection, before))
