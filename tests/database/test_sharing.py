"""Several controllers on one PostgreSQL: what one writes, and what both want."""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from controller.store import Store, check_revision, postgresql
from controller.store.engine import make_engine
from controller.store.notifications import Listener
from controller.store.schema import metadata
from controller.store.specs import PortSpec
from etc.lab.processes import wait_until
from tests.database import racers

Rows = list[tuple[str, str, int]]


def test_threat_33_two_controllers_never_give_one_address_twice(
    url: str, open_store: Callable[..., Store], make_network: Any
) -> None:
    """Nor a MAC or a key; and not one address is left over."""
    store = open_store()
    network = make_network(store, "10.0.0.0/26")
    taken: list[Rows] = racers.race(racers.take_all, [(url, network.id)] * 2)
    assert all(taken), "one of them came too late to race"
    for values in zip(*(row for rows in taken for row in rows), strict=True):
        assert len(values) == len(set(values)) == 62
    assert store.load_snapshot() == _replayed(store)


def test_threat_33_a_quota_is_exact_for_two_controllers(
    url: str, open_store: Callable[..., Store], make_network: Any
) -> None:
    store = open_store()
    network = make_network(store)
    taken = racers.race(racers.take_quota, [(url, network.id, 25)] * 2)
    assert sum(map(len, taken)) == len(store.list_ports()) == 25


def test_a_reader_misses_no_revision(open_store: Callable[..., Store], make_network: Any) -> None:
    """While others write, the journal never shows a revision before an earlier one."""
    stores = [open_store() for _ in range(3)]
    network = make_network(stores[0])
    seen: list[int] = []
    done = threading.Event()

    def follow() -> None:
        while not (done.is_set() and seen and seen[-1] == stores[0].revision()):
            seen.extend(entry.revision for entry in stores[0].journal(after=seen[-1] if seen else 0))

    with ThreadPoolExecutor(3) as pool:
        reading = pool.submit(follow)
        writing = [pool.submit(_write_ports, store, network.id, 15) for store in stores[1:]]
        try:
            for future in writing:
                future.result()
        finally:
            done.set()
        reading.result()
    assert seen == list(range(1, stores[0].revision() + 1))
    assert len(seen) > 30


def _write_ports(store: Store, network_id: str, count: int) -> None:
    for _ in range(count):
        store.create_ports([PortSpec(network_id)], "tester")


def _replayed(store: Store) -> Any:
    from flows.snapshot import Snapshot

    revision, changes = store.changes_since(0)
    return Snapshot(0).apply(revision, changes)


@pytest.fixture
def heard(url: str) -> Iterator[queue.Queue[str]]:
    """What a listener hears; `connected` each time that it begins."""
    told: queue.Queue[str] = queue.Queue()
    listener = Listener(url, {postgresql.JOURNAL: told.put}, lambda: told.put("connected"))
    thread = threading.Thread(target=listener.run)
    thread.start()
    assert told.get(timeout=30) == "connected"
    yield told
    listener.stop()
    thread.join()


def test_the_others_hear_of_a_write_when_it_is_committed(
    open_store: Callable[..., Store], make_network: Any, heard: queue.Queue[str]
) -> None:
    network = make_network(open_store())
    assert heard.get(timeout=30) == "1"
    store = open_store()
    store.update_network(network.id, {"name": "other"}, "tester")
    assert heard.get(timeout=30) == "2"
    store.update_network(network.id, {"name": "other"}, "tester")  # nothing new: nothing is said
    store.update_network(network.id, {"name": "third"}, "tester")
    assert heard.get(timeout=30) == str(store.revision())
    assert heard.empty()


def test_a_listener_comes_back(
    open_store: Callable[..., Store],
    make_network: Any,
    heard: queue.Queue[str],
    postgres_server: Any,
) -> None:
    with capture_logs() as logged:
        postgres_server.restart(kill=True)
        assert heard.get(timeout=60) == "connected"
    assert [one["event"] for one in logged] == ["not_listening"]
    make_network(open_store())
    assert heard.get(timeout=30) == "1"


def test_a_listener_is_a_controller_that_lives(url: str, heard: queue.Queue[str]) -> None:
    engine = make_engine(url, writing=True)
    with engine.connect() as connection:
        assert not postgresql.take_use(connection)
        connection.rollback()
        sessions = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
        connection.exec_driver_sql(sessions)
        connection.rollback()
        assert heard.get(timeout=60) == "connected"
        assert not postgresql.take_use(connection)
    engine.dispose()


def test_the_migrations_make_what_the_tables_say(url: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    check_revision(url)
    engine = make_engine(url, writing=True)
    with engine.begin() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        made = _checks(connection)
        connection.exec_driver_sql("CREATE SCHEMA fresh")
        connection.exec_driver_sql("SET search_path = fresh")
        metadata.create_all(connection)
        assert _checks(connection) == made
    engine.dispose()


def _checks(connection: sa.Connection) -> Counter[str]:
    """All constraints, indexes and columns of the current schema."""
    constraints = (
        "SELECT conrelid::regclass::text || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE connamespace = current_schema()::regnamespace AND conname NOT LIKE 'alembic%%'"
    )
    indexes = (
        "SELECT replace(indexdef, schemaname || '.', '') FROM pg_indexes WHERE schemaname = current_schema()"
        " AND tablename NOT LIKE 'alembic%%'"
    )
    columns = (
        "SELECT (table_name, column_name, data_type, character_maximum_length, is_nullable, column_default)::text"
        " FROM information_schema.columns WHERE table_schema = current_schema() AND table_name NOT LIKE 'alembic%%'"
    )
    return Counter(
        str(row[0]) for query in (constraints, indexes, columns) for row in connection.exec_driver_sql(query)
    )


def test_what_is_read_is_of_one_moment(open_store: Callable[..., Store], make_network: Any) -> None:
    reading, writing = open_store(), open_store()

    def look(connection: sa.Connection) -> tuple[int, int]:
        query = sa.text("SELECT count(*) FROM networks")
        first = connection.execute(query).scalar_one()
        make_network(writing, "10.9.0.0/24")
        return first, connection.execute(query).scalar_one()

    assert reading._database.read(look) == (0, 0)
    assert len(reading.list_networks()) == 1
    wait_until(lambda: reading.revision() == writing.revision(), 10)
