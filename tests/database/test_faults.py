"""What PostgreSQL refuses, or loses, and what is said then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import make_url

from controller.store import Store
from controller.store.specs import Busy, Unavailable
from etc.lab.processes import run, wait_until
from tests.disks import fill, small_disk
from tests.postgres import TEMPLATE


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(Unavailable) as refused:
        call()
    assert refused.value.status == 503
    return refused.value.code


def end_sessions(server: Any, url: str) -> None:
    name = make_url(url).database
    server.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")


def test_what_is_answered_is_there_after_a_crash(
    open_store: Callable[..., Store], make_network: Any, postgres_server: Any
) -> None:
    store = open_store()
    for number in range(5):
        network = make_network(store, f"10.{number}.0.0/24", f"n{number}")
        postgres_server.kill()
        assert refusal(lambda: make_network(store)) == refusal(store.list_networks) == "database_unavailable"
        assert store.away
        postgres_server.start()
        wait_until(lambda: _reads(store), 30, "it does not come back")
        assert store.get_network(network.id).spec.name == f"n{number}"
    assert len(store.list_networks()) == store.revision() == 5
    assert not store.away


def _reads(store: Store) -> bool:
    try:
        return bool(store.list_networks())
    except Unavailable:
        return False


def test_a_connection_lost_between_two_writes_is_not_noticed(
    open_store: Callable[..., Store], make_network: Any, postgres_server: Any, url: str
) -> None:
    store = open_store()
    make_network(store)
    end_sessions(postgres_server, url)
    make_network(store, "10.1.0.0/24")
    end_sessions(postgres_server, url)
    assert len(store.list_networks()) == 2


def test_a_connection_lost_at_the_commit_is_told_and_nothing_is_done_twice(
    open_store: Callable[..., Store], make_network: Any, postgres_server: Any, url: str
) -> None:
    store = open_store()
    make_network(store)
    commits: list[int] = []

    def cut(_connection: Any) -> None:
        commits.append(1)
        end_sessions(postgres_server, url)

    event.listen(store._database._writer, "commit", cut)
    assert refusal(lambda: make_network(store, "10.1.0.0/24")) == "outcome_unknown"
    event.remove(store._database._writer, "commit", cut)
    assert commits == [1]
    wait_until(lambda: _reads(store), 30, "it does not come back")
    make_network(store, "10.2.0.0/24")


def test_a_database_that_can_only_be_read(
    open_store: Callable[..., Store], make_network: Any, postgres_server: Any, url: str
) -> None:
    """As a standby, or one whose operator has said so."""
    store = open_store()
    network = make_network(store)
    name = make_url(url).database
    postgres_server.sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    end_sessions(postgres_server, url)
    for _ in range(2):
        assert refusal(lambda: make_network(store, "10.1.0.0/24")) == "database_read_only"
        assert store.list_networks()[0].id == network.id
    assert not store.away
    postgres_server.sql(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    make_network(store, "10.1.0.0/24")


def test_one_that_another_holds_up(open_store: Callable[..., Store], make_network: Any, url: str) -> None:
    """Somebody has the lock of all writers and does nothing: he is waited for, but not for ever."""
    holder, store = open_store(), open_store()
    make_network(store)

    def hold(connection: Any) -> None:
        connection.exec_driver_sql("SELECT * FROM counters ORDER BY name FOR UPDATE")
        with pytest.raises(Busy) as refused:
            make_network(store, "10.1.0.0/24")
        assert refused.value.code == "database_busy"

    holder._database.write(hold)
    make_network(store, "10.1.0.0/24")


@pytest.fixture
def disk_of_server(root: None, postgres_server: Any) -> Iterator[Path]:
    """A small one, on which the server has a tablespace `small`."""
    place = postgres_server.directory / "small"
    with small_disk(place):
        (place / "space").mkdir()
        run(["chown", "postgres:", str(place / "space")])
        postgres_server.sql(f"CREATE TABLESPACE small LOCATION '{place}/space'")
        yield place
        postgres_server.sql("DROP DATABASE IF EXISTS on_small WITH (FORCE)")
        postgres_server.sql("DROP TABLESPACE small")
    place.rmdir()


def test_a_disk_that_is_full(disk_of_server: Path, make_network: Any, postgres_server: Any) -> None:
    postgres_server.sql(f"CREATE DATABASE on_small OWNER trunkline TEMPLATE {TEMPLATE} TABLESPACE small")
    store = Store(postgres_server.url("on_small"))
    try:
        make_network(store, "10.0.0.0/24")
        fill(disk_of_server / "filler")

        def write_on() -> None:
            """What is in the files already takes some more."""
            for number in range(1, 200):
                make_network(store, f"10.{number}.0.0/24", "n" * 200)

        assert refusal(write_on) == "database_full"
        written = store.revision()
        assert len(store.list_networks()) == written
        (disk_of_server / "filler").unlink()
        make_network(store, "10.250.0.0/24")
        assert store.revision() == written + 1
    finally:
        store.close()
