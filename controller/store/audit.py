"""The audit trail: the journal as people ask for it, and what a change says of what was there before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, select

from controller.store import codec
from controller.store.engine import AnyRow
from controller.store.ipv6_specs import Ipv6SubnetSpec
from controller.store.journal import revision as revision_of
from controller.store.schema import journal
from controller.store.specs import JournalEntry, SubnetSpec

WINDOW = 20_000
"""Revisions that one question looks at: nobody else is served meanwhile."""

FORGET_AT_ONCE = 2_000

_J = journal.c
# one by one: a database looks at every row for both at once
_SOUND = _J.revision.between(0, bindparam("last"))  # SQLite takes a text for more than any number
_ENDS = select(
    select(func.min(_J.revision)).where(_SOUND).scalar_subquery(),
    select(func.max(_J.revision)).where(_SOUND).scalar_subquery(),
)


@dataclass(frozen=True, slots=True)
class Page:
    """`marker`: where to go on; None: there is no more."""

    entries: list[JournalEntry]
    marker: int | None


def before(row: AnyRow, names: Iterable[str]) -> dict[str, Any]:
    """What a row of a table has of these columns."""
    return {name: row._mapping[name] for name in names if name in row._mapping}


def subnets_before(known: Iterable[SubnetSpec | Ipv6SubnetSpec], changed: Mapping[str, Any]) -> dict[str, Any]:
    """What subnets were, of what has changed of them (by range; None: all of it, for it is gone)."""
    found: dict[str, Any] = {}
    for subnet in known:
        text = str(subnet.cidr)
        if text in changed:
            told = _told(subnet)
            found[text] = told if changed[text] is None else {name: told.get(name) for name in changed[text]}
    return found


def _told(subnet: SubnetSpec | Ipv6SubnetSpec) -> dict[str, Any]:
    declared = (("allocation", subnet.allocation_ranges), ("reserved", subnet.reserved))
    told: dict[str, Any] = {
        "gateway": None if subnet.gateway is None else str(subnet.gateway),
        "dns_servers": codec.dump_addresses(subnet.dns_servers),
        "ranges": [[kind, str(part.first), str(part.last)] for kind, parts in declared for part in parts],
    }
    if isinstance(subnet, SubnetSpec):
        told["host_routes"] = codec.dump_routes(subnet.host_routes)
    return told


def page(
    connection: Connection,
    *,
    kind: str | None,
    object_id: str | None,
    actor: str | None,
    since: float | None,
    limit: int,
    marker: int | None,
) -> Page:
    """The newest first, before the revision `marker`. Bounded in what it looks at, so that it may have less than
    `limit`, or none, and more behind it.
    """
    oldest, newest = connection.execute(_ENDS, {"last": revision_of(connection)}).one()
    if newest is None:
        return Page([], None)
    top = newest + 1 if marker is None else min(marker, newest + 1)
    bottom = max(top - WINDOW, oldest)
    wanted = {_J.kind: kind, _J.object_id: object_id, _J.actor: actor}
    query = (
        select(journal)
        .where(_J.revision < top, _J.revision >= bottom)
        .where(*(column == value for column, value in wanted.items() if value is not None))
        .order_by(_J.revision.desc())
        .limit(limit)
    )
    if since is not None:
        query = query.where(_J.at >= since)
    entries = [JournalEntry(**row) for row in connection.execute(query).mappings()]
    if len(entries) == limit:
        return Page(entries, entries[-1].revision)
    over = bottom <= oldest or (since is not None and _at(connection, bottom) < since)
    return Page(entries, None if over else bottom)


def _at(connection: Connection, revision: int) -> float:
    """When that revision, or the next one that there is, was written."""
    query = select(_J.at).where(_J.revision >= revision).order_by(_J.revision).limit(1)
    return float(connection.execute(query).scalar_one())


def forget(connection: Connection, before_at: float) -> int:
    """Of the oldest entries, some that are older than that go: how many. Entries go in their order, and the newest
    stays.
    """
    query = select(_J.revision, _J.at).order_by(_J.revision).limit(FORGET_AT_ONCE + 1)
    rows = connection.execute(query).all()
    old = 0
    for revision, at in rows[:-1]:
        if at >= before_at:
            break
        old = revision
    if not old:
        return 0
    return int(connection.execute(delete(journal).where(_J.revision <= old)).rowcount)
