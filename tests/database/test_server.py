"""The server that tests start for themselves."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

from etc.lab.postgres import Postgres
from etc.lab.processes import CommandFailed


def test_a_server_survives_a_crash_and_leaves_nothing() -> None:
    directory = Path(tempfile.mkdtemp(prefix="trunkline-postgres-"))
    with Postgres(directory, listen=["127.0.0.1"], port=15432) as server:
        assert server.process
        server.create_database("one")
        server.sql("CREATE TABLE kept AS SELECT 7 AS number", "one")
        server.kill()
        with pytest.raises(CommandFailed):
            server.sql("SELECT 1")
        server.start()
        assert server.sql("SELECT number FROM kept", "one") == "7"
        server.stop()
        assert server.process.wait(5) == 0
        server.start()
        pid = server.process.pid
    assert not directory.exists()
    assert not Path(f"/proc/{pid}").exists()


def test_a_paused_server_answers_when_it_goes_on(postgres_server: Any) -> None:
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(postgres_server.sql("SELECT 1")))
    postgres_server.pause()
    try:
        states = {Path(f"/proc/{pid}/stat").read_text().split()[2] for pid in _processes(postgres_server)}
        assert "T" in states and states <= {"T", "Z"}  # one that has ended is not yet taken away
        asking.start()
    finally:
        postgres_server.resume()
    asking.join()
    assert answers == ["1"]


def _processes(server: Postgres) -> list[int]:
    return [server.process.pid, *server._children()]


def test_a_database_of_its_own(make_database: Any, postgres_server: Any) -> None:
    assert make_database() != make_database(empty=True)
    names = postgres_server.sql("SELECT datname FROM pg_database WHERE datname LIKE 'test_%'").split()
    tables = [postgres_server.sql("SELECT count(*) FROM pg_tables WHERE tablename = 'ports'", name) for name in names]
    assert sorted(tables) == ["0", "1"]
    assert postgres_server.sql("SELECT rolsuper FROM pg_roles WHERE rolname = 'trunkline'") == "f"
