"""Lists that are handed out a page at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, select

from controller.store.quarantine import UNREADABLE_OBJECT
from controller.store.specs import Conflict, Invalid

T = TypeVar("T")


def page(
    connection: Connection,
    id_column: ColumnElement[str],
    key_column: ColumnElement[int],
    conditions: Sequence[Any],
    limit: int | None,
    marker: str | None,
    load: Callable[[Connection, Sequence[str]], list[T]],
) -> list[T]:
    """One page of a list, in order of creation, as `load` makes it of ids. Raises Invalid `marker_unknown`.

    What cannot be used is not on it, and makes it no shorter: a page that is not full is the last one.
    """
    found: list[T] = []
    while True:
        wanted = None if limit is None else limit - len(found)
        ids = _ids(connection, id_column, key_column, conditions, wanted, marker)
        try:
            found += load(connection, ids)
        except Conflict as error:  # one that was alone on its page
            if error.code != UNREADABLE_OBJECT:
                raise
        if wanted is None or len(ids) < wanted or len(found) == limit:
            return found
        marker = ids[-1]


def _ids(
    connection: Connection,
    id_column: ColumnElement[str],
    key_column: ColumnElement[int],
    conditions: Sequence[Any],
    limit: int | None,
    marker: str | None,
) -> list[str]:
    query = select(id_column).where(*conditions).order_by(key_column).limit(limit)
    if marker is not None:
        start = connection.execute(select(key_column).where(id_column == marker)).scalar()
        if start is None:
            raise Invalid("marker_unknown", f"there is no {marker} to go on from", "marker")
        query = query.where(key_column > start)
    return list(connection.execute(query).scalars())
