from __future__ import annotations

import re
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from controller.store import Store, check_revision, engine, upgrade
from controller.store.engine import Database, make_engine
from controller.store.migrations import config
from controller.store.schema import metadata
from controller.store.specs import Busy, Conflict, SchemaError, Unavailable
from tests.unit.store import raw


@pytest.mark.sqlite
def test_sqlite_is_set_up_for_durability_and_a_single_writer(url: str) -> None:
    with make_engine(url).connect() as connection:
        found = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    assert found == ["wal", 2, 1, 0]


def test_a_database_in_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="file"):
        make_engine("sqlite://")


@pytest.mark.sqlite
def test_a_locked_database_is_waited_for(world: Any) -> None:
    other = sqlite3.connect(world.url.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    writer = threading.Thread(target=world.network)
    writer.start()
    assert world.store.list_networks() == []  # readers do not wait
    other.execute("COMMIT")
    other.close()
    writer.join()
    assert len(world.store.list_networks()) == 1


@pytest.mark.sqlite
def test_a_database_locked_for_good_is_told(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BUSY_WAIT_S", 0.05)
    other = sqlite3.connect(world.url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Busy) as refused:
        world.network()
    assert refused.value.code == "database_busy"
    other.close()
    world.network()


@pytest.mark.parametrize(
    ("name", "code", "answered"),
    [
        ("SQLITE_READONLY", "database_read_only", True),
        ("SQLITE_FULL", "database_full", True),
        ("SQLITE_LOCKED", "database_busy", False),
    ],
)
def test_a_refusal_of_one_that_was_away_does_not_make_others_wait(
    url: str, monkeypatch: pytest.MonkeyPatch, name: str, code: str, answered: bool
) -> None:
    """Who is told why is who has asked. The next one asks, too."""
    monkeypatch.setattr(engine, "AWAY_S", 0.0)
    database = Database(url)

    def refused(errorname: str) -> str:
        def work(_connection: Any) -> None:
            error = sqlite3.OperationalError(errorname)
            error.sqlite_errorname = errorname  # type: ignore[attr-defined]
            raise error

        with pytest.raises(Unavailable) as found:
            database.write(work)
        return found.value.code

    assert refused("SQLITE_IOERR") == "database_unavailable" and database.away
    assert refused(name) == code and database.away is not answered
    assert database.read(lambda _: 1) == 1 and not database.away
    database.close()


def test_a_unique_value_that_stays_taken_is_a_conflict(url: str) -> None:
    database = Database(url)
    tries = []

    def work(connection: Any) -> None:
        tries.append(1)
        connection.exec_driver_sql("INSERT INTO counters VALUES ('revision', 1)")

    with pytest.raises(Conflict) as refused:
        database.write(work)
    assert (refused.value.code, len(tries)) == ("write_conflict", engine.WRITE_ATTEMPTS)
    database.close()


@pytest.mark.sqlite
def test_a_new_file_gets_its_tables_at_once(new_url: str) -> None:
    Store(new_url).close()
    check_revision(new_url)


def test_a_database_that_is_somebody_elses_is_left_alone(new_url: str) -> None:
    raw.execute(new_url, "CREATE TABLE precious (id INTEGER)")
    for start in (Store, upgrade):
        with pytest.raises(SchemaError, match="somebody else's"):
            start(new_url)


def test_an_older_database_waits_to_be_upgraded(new_url: str) -> None:
    raw.upgrade_to(new_url, "0014")
    with pytest.raises(SchemaError, match="trunkline-controller db upgrade"):
        Store(new_url)
    upgrade(new_url)
    Store(new_url).close()


def test_that_of_a_later_program_is_left_alone(url: str) -> None:
    raw.execute(url, "UPDATE alembic_version SET version_num = '9999'")
    for start in (Store, upgrade):
        with pytest.raises(SchemaError, match="later version"):
            start(url)


@pytest.mark.sqlite
def test_the_migrations_make_what_the_tables_say(url: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with make_engine(url).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
        made = _schema(connection)
    with make_engine(url + "2", writing=True).begin() as connection:
        metadata.create_all(connection)
        assert _schema(connection) == made  # check constraints and all


def _schema(connection: Any) -> dict[str, list[str]]:
    """Table or index -> its parts, in any order."""
    query = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name != 'alembic_version'"
    return {
        # a column that came later is at the end of a line, and the name of a table that was made anew in quotes
        name: sorted(filter(None, (part.strip() for part in re.split(r"[,\n]", _unquoted(sql.removesuffix(")"))))))
        for name, sql in connection.exec_driver_sql(query)
    }


def _unquoted(sql: str) -> str:
    return re.sub(r'^CREATE TABLE "(\w+)"', r"CREATE TABLE \1", sql)


def test_upgrading_twice_changes_nothing(url: str) -> None:
    upgrade(url)
    upgrade(url)
    assert config().get_main_option("script_location")


@pytest.mark.sqlite
def test_a_database_that_is_gone_is_not_taken_for_a_new_one(url: str) -> None:
    """An empty database would take their flows from all ports of the cloud."""
    Store(url).close()
    path = Path(url.removeprefix("sqlite:///"))
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    with pytest.raises(SchemaError, match="is gone, but was here before"):
        Store(url)
