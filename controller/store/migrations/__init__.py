"""Schema revisions (alembic), without an alembic.ini: the program itself knows where they are."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect
from sqlalchemy.engine import make_url

from controller.store.engine import make_engine
from controller.store.specs import SchemaError


def config(connection: Connection | None = None) -> Config:
    """What `alembic.command` wants; the migrations run on the connection given."""
    result = Config()
    result.set_main_option("script_location", str(Path(__file__).parent))
    result.attributes["connection"] = connection
    return result


def upgrade(url: str) -> None:
    """Bring the database to this program's schema revision, all or nothing."""
    engine = make_engine(url, "BEGIN IMMEDIATE")
    with engine.begin() as connection:
        command.upgrade(config(connection), "head")
    engine.dispose()


@cache
def head() -> str | None:
    """This program's schema revision. Alembic compiles all revisions to find out."""
    return ScriptDirectory.from_config(config()).get_current_head()


def check_revision(url: str) -> None:
    """Raises SchemaError unless the database has this program's schema revision."""
    engine = make_engine(url)
    with engine.connect() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
    engine.dispose()
    if found != head():
        raise SchemaError(
            f"the database is of schema revision {found}, this program of {head()}: "
            "make a backup and run `python -m controller.store.migrations URL`"
        )


def prepare(url: str) -> None:
    """Make the tables of a new SQLite database; any other must be of the right revision.

    A database that was here before and is gone is not new: an empty one would take their flows from all ports. Raises
    SchemaError then.
    """
    if make_url(url).get_backend_name() == "sqlite":
        path = Path(str(make_url(url).database))
        mark = path.with_name(f"{path.stem}-was-made")
        if _empty(url):
            if mark.exists():
                raise SchemaError(
                    f"the database {path} is gone, but was here before: restore it, or remove {mark} to begin anew"
                )
            upgrade(url)
        mark.touch()
    check_revision(url)


def _empty(url: str) -> bool:
    engine = make_engine(url)
    with engine.connect() as connection:
        empty = not inspect(connection).get_table_names()
    engine.dispose()
    return empty
