"""Rows of some objects, or of all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from sqlalchemy import BindParameter, ColumnElement, Connection, Select, bindparam

from controller.store.engine import AnyRow, chunks

IDS: Final[BindParameter[Any]] = bindparam("ids", expanding=True)
"""The objects that a statement is restricted to."""


class Rows:
    """A statement, and the same for some objects, both prepared: a single object is read for every change."""

    def __init__(self, query: Select[Any], of_some: ColumnElement[bool]) -> None:
        """`of_some` is about `IDS`."""
        self._all = query
        self._some = query.where(of_some)

    def of(self, connection: Connection, ids: Sequence[str] | None) -> Iterator[AnyRow]:
        """The rows of these objects, or (None) of all."""
        if ids is None:
            yield from connection.execute(self._all).all()
            return
        for part in chunks(ids):
            yield from connection.execute(self._some, {"ids": part}).all()


def grouped(rows: Iterable[AnyRow], column: str) -> dict[str, list[AnyRow]]:
    groups: dict[str, list[AnyRow]] = {}
    for row in rows:
        groups.setdefault(row._mapping[column], []).append(row)
    return groups
