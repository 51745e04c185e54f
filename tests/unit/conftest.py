"""Stores share the statements that SQLAlchemy has compiled."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
from sqlalchemy import create_engine
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.util import LRUCache

from controller.store import sqlite


@pytest.fixture(scope="session", autouse=True)
def compiled_statements() -> Iterator[None]:
    """Every store has engines of its own, and each would compile all its statements anew: half the time of most tests.

    The dialect is part of a statement's key in the cache, and here all dialects of SQLite are the same.
    """
    options = {"compiled_cache": LRUCache(10_000)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SQLiteDialect_pysqlite, "__eq__", lambda one, other: type(one) is type(other))
        patch.setattr(SQLiteDialect_pysqlite, "__hash__", lambda one: hash(type(one)))
        patch.setattr(sqlite, "create_engine", partial(create_engine, execution_options=options))
        yield
