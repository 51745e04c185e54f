"""PostgreSQL stops answering, but its connections stay: nobody but who asks it waits, and that one not for long."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from etc.lab.processes import wait_until

ROOT = Path(__file__).resolve().parents[2]


class Hub:
    """tests.database.hub in a process of its own."""

    def __init__(self, url: str, log: Path) -> None:
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "tests.database.hub", url],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                cwd=ROOT,
            )
        assert self.next() == {"ready": True}, log.read_text()

    def tell(self, *commands: str) -> None:
        assert self.process.stdin
        self.process.stdin.write("".join(f"{one}\n" for one in commands).encode())
        self.process.stdin.flush()

    def next(self) -> dict[str, Any]:
        assert self.process.stdout
        return json.loads(self.process.stdout.readline() or "{}")

    def ask(self, command: str) -> dict[str, Any]:
        self.tell(command)
        return self.next()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream
            stream.close()


@pytest.fixture
def hub(url: str, tmp_path: Path) -> Iterator[Hub]:
    made = Hub(url, tmp_path / "hub.log")
    yield made
    made.end()


def test_a_server_that_hangs_does_not_stop_the_hub(hub: Hub, postgres_server: Any) -> None:
    assert hub.ask("write")["code"] is None
    before = hub.ask("ticks")
    postgres_server.pause()
    try:
        hub.tell("write", "read", "write")
        refused = [hub.next() for _ in range(3)]
        assert {one["code"] for one in refused} == {"database_unavailable"}
        during = hub.ask("ticks")
        # it waited for seconds, and all the while others had their turn
        assert max(one["s"] for one in refused) > 2
        assert during["ticks"] - before["ticks"] > 20
        assert during["gap"] < min(2.0, max(one["s"] for one in refused) / 2)
        # from now on nobody waits but one who tries again now and then
        hub.tell(*["write"] * 20)
        assert sorted(hub.next()["s"] for _ in range(20))[18] < 1
    finally:
        postgres_server.resume()
    wait_until(lambda: hub.ask("write")["code"] is None, 60, "nothing can be written after the server went on")
    assert hub.ask("read")["code"] is None


def test_a_server_that_hangs_while_one_connects(hub: Hub, postgres_server: Any) -> None:
    """No connection is there yet, and none is made: the kernel takes it, but nobody answers."""
    assert hub.ask("read")["code"] is None
    postgres_server.pause()
    try:
        before = hub.ask("ticks")
        refused = hub.ask("write")  # the first one: its connection must be made
        assert refused["code"] == "database_unavailable"
        during = hub.ask("ticks")
        assert during["ticks"] - before["ticks"] > 20 and during["gap"] < 2
    finally:
        postgres_server.resume()
    wait_until(lambda: hub.ask("write")["code"] is None, 60, "nothing can be written after the server went on")


def test_a_server_that_is_killed_and_comes_back(hub: Hub, postgres_server: Any) -> None:
    assert hub.ask("write")["code"] is None
    postgres_server.kill()
    try:
        assert hub.ask("write")["code"] == "database_unavailable"
        assert hub.ask("read")["code"] == "database_unavailable"
    finally:
        postgres_server.start()
    wait_until(lambda: hub.ask("write")["code"] is None, 60, "nothing can be written after the restart")
    assert hub.ask("read")["code"] is None
