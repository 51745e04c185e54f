"""How much a project may have. Writers stand in one line (`journal.Transaction.start`), so that a count is exact."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select, update

from controller.store.floating_ip_specs import UNLIMITED, QuotaRecord
from controller.store.journal import QUOTA, UPDATE, Transaction, count_rows
from controller.store.schema import floating_ips, quotas
from controller.store.specs import Exhausted


def load(connection: Connection, project_id: str, default: int) -> QuotaRecord:
    own = connection.execute(select(quotas.c.floating_ips).where(quotas.c.project_id == project_id)).scalar()
    used = count_rows(connection, floating_ips, floating_ips.c.project_id == project_id, ~floating_ips.c.auto)
    return QuotaRecord(project_id, default if own is None else own, own is not None, used)


def require(connection: Connection, project_id: str, more: int, default: int) -> None:
    """Raises Exhausted `quota_exceeded` when the project may not have so many floating IPs more."""
    quota = load(connection, project_id, default)
    limit, used = quota.floating_ips, quota.floating_ips_used
    if limit != UNLIMITED and used + more > limit:
        message = f"project {project_id} may have {limit} floating IPs, and has {used}"
        raise Exhausted("quota_exceeded", message, limit=limit, used=used)


def set_limit(tx: Transaction, project_id: str, limit: int | None) -> None:
    """None: as configured. A project that has more keeps them."""
    table = quotas.c
    before = tx.connection.execute(select(table.floating_ips).where(table.project_id == project_id)).scalar()
    if before == limit:
        return
    if limit is None:
        tx.connection.execute(delete(quotas).where(table.project_id == project_id))
    elif before is None:
        tx.connection.execute(insert(quotas), {"project_id": project_id, "floating_ips": limit})
    else:
        tx.connection.execute(update(quotas).where(table.project_id == project_id).values(floating_ips=limit))
    tx.record(QUOTA, project_id, UPDATE, {"floating_ips": limit})
