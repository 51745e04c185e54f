"""The database behind the store's back, of either kind: as an older program left it, or as nobody should."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from alembic import command

from controller.store.engine import make_engine
from controller.store.migrations import config
from controller.store.schema import metadata


@contextmanager
def transaction(url: str) -> Iterator[sa.Connection]:
    """Committed at its end."""
    engine = make_engine(url, writing=True)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def execute(url: str, *statements: str) -> None:
    with transaction(url) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def insert(connection: sa.Connection, table: str, values: Mapping[str, Any]) -> None:
    """Into a table as it is there, whatever this program knows of it."""
    columns = ", ".join(f'"{name}"' for name in values)
    marks = ", ".join(f":{name}" for name in values)
    connection.execute(sa.text(f"INSERT INTO {table} ({columns}) VALUES ({marks})"), values)


def upgrade_to(url: str, revision: str) -> None:
    """The database's schema, from nothing or from an earlier one."""
    with transaction(url) as connection:
        command.upgrade(config(connection), revision)


def contents(url: str, *without: str) -> dict[str, list[str]]:
    """Table -> its rows as text, in one order."""
    engine = make_engine(url)
    try:
        with engine.connect() as connection:
            return {
                table.name: sorted(str(tuple(row)) for row in connection.execute(table.select()))
                for table in metadata.sorted_tables
                if table.name not in without
            }
    finally:
        engine.dispose()
