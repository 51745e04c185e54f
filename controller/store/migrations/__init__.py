"""Schema revisions (alembic), without an alembic.ini: the program itself knows where they are."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from controller.store import sqlite
from controller.store.engine import make_engine
from controller.store.specs import SchemaError


def config(connection: Connection | None = None) -> Config:
    """What `alembic.command` wants; the migrations run on the connection given."""
    result = Config()
    result.set_main_option("script_location", str(Path(__file__).parent))
    result.attributes["connection"] = connection
    return result


def upgrade(url: str) -> None:
    """Bring the database to this program's schema revision, all or nothing. Nobody may work on it meanwhile.

    Raises SchemaError when it is of a later program's, or not ours at all.
    """
    engine = make_engine(url, writing=True, long=True)
    try:
        with engine.begin() as connection:
            found = revision_of(connection)
            if found is None and _tables(connection):
                raise SchemaError("the database has tables, but none of ours: it is somebody else's")
            if found is not None and not knows(found):
                raise SchemaError(_of_a_later_program(found))
            command.upgrade(config(connection), "head")
    finally:
        engine.dispose()


@cache
def head() -> str:
    """This program's schema revision. Alembic compiles all revisions to find out."""
    return str(ScriptDirectory.from_config(config()).get_current_head())


def revision_of(connection: Connection) -> str | None:
    """The database's schema revision; None when it has no tables of ours."""
    return MigrationContext.configure(connection).get_current_revision()


def check_revision(url: str) -> None:
    """Raises SchemaError unless the database has this program's schema revision."""
    engine = make_engine(url)
    try:
        with engine.connect() as connection:
            check_schema(connection)
    finally:
        engine.dispose()


def check_schema(connection: Connection) -> None:
    """Raises SchemaError unless the database has this program's schema revision."""
    found = revision_of(connection)
    if found == head():
        return
    tables = _tables(connection)
    if found is None:
        raise SchemaError(
            "the database has tables, but none of ours: it is somebody else's"
            if tables
            else "the database is empty: run `trunkline-controller db upgrade`, or restore a backup"
        )
    if not knows(found):
        raise SchemaError(_of_a_later_program(found))
    raise SchemaError(
        f"the database is of schema revision {found}, this program of {head()}: stop all controllers, "
        "make a backup, and run `trunkline-controller db upgrade`"
    )


def prepare(url: str) -> None:
    """Make the tables of a new SQLite database; any other must be of the right revision.

    A database that was here before and is gone is not new: an empty one would take their flows from all ports. Raises
    SchemaError then.
    """
    if sqlite.is_sqlite(url):
        path = sqlite.file_of(url)
        mark = sqlite.mark_of(path)
        if _empty(url):
            if mark.exists():
                raise SchemaError(
                    f"the database {path} is gone, but was here before: restore it, or remove {mark} to begin anew"
                )
            upgrade(url)
        mark.touch()
    check_revision(url)


def knows(revision: str) -> bool:
    """It is this program's, or of an earlier one."""
    return any(script.revision == revision for script in ScriptDirectory.from_config(config()).walk_revisions())


def _of_a_later_program(found: str) -> str:
    return (
        f"the database is of schema revision {found}, which this program does not know (its own is {head()}): "
        "it was upgraded by a later version; run that one"
    )


def _tables(connection: Connection) -> list[str]:
    return inspect(connection).get_table_names()


def _empty(url: str) -> bool:
    engine = make_engine(url)
    with engine.connect() as connection:
        empty = not _tables(connection)
    engine.dispose()
    return empty
