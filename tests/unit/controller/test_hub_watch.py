"""A hub that is stuck is noticed, and it is told in what. In a process of its own: these tests are not green."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.systemd import NotifySocket

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
from controller import compat
compat.install()
import os, sys, eventlet
from dataclasses import dataclass
from eventlet import patcher
from prometheus_client import CollectorRegistry, generate_latest
from agent.service_manager import ServiceManager
from controller.hub_watch import HubWatch

@dataclass
class Port:
    name: str

class Odd:
    @property
    def name(self):
        raise LookupError("whatever it is")

def compile_port(port):
    patcher.original("time").sleep(float(sys.argv[1]))

watch = HubWatch(ServiceManager(os.environ), form="json", blocked_s=0.4)
registry = CollectorRegistry()
registry.register(watch)
watch.start()
eventlet.sleep(0.3)
for name in sys.argv[2:]:
    compile_port(Odd() if name == "odd" else Port(name))
    eventlet.sleep(0.3)
watch.stop()
sys.stdout.write(generate_latest(registry).decode())
"""


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[NotifySocket]:
    made = NotifySocket(tmp_path / "notify")
    yield made
    made.close()


def _run(systemd: NotifySocket, seconds: float, *names: str) -> tuple[list[dict[str, object]], dict[str, float]]:
    """The lines about a hub that is stuck, and the metrics."""
    command = [sys.executable, "-c", SCRIPT, str(seconds), *names]
    done = subprocess.run(command, cwd=ROOT, env=systemd.environment(1.0), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith('{"event": "hub_blocked"')]
    values = (line.rsplit(" ", 1) for line in done.stdout.splitlines() if line.startswith("trunkline_"))
    return lines, {name: float(value) for name, value in values}


def test_each_time_that_the_hub_is_stuck_is_told_once_with_what_it_is_at(systemd: NotifySocket) -> None:
    lines, metrics = _run(systemd, 2.0, "web1", "db1")
    named = [line for line in lines if line["object"]]  # on a loaded machine there may be others
    assert [line["object"] for line in named] == ["port 'web1'", "port 'db1'"]
    assert all("compile_port" in str(line["stack"]) and float(str(line["seconds"])) >= 0.4 for line in named)
    assert metrics["trunkline_hub_blocked_seconds_count"] >= 2
    assert metrics["trunkline_hub_blocked_seconds_sum"] >= 3.5
    assert metrics['trunkline_hub_blocked_seconds_bucket{le="+Inf"}'] == metrics["trunkline_hub_blocked_seconds_count"]


def test_what_cannot_be_told_of_does_not_end_the_watch(systemd: NotifySocket) -> None:
    lines, _ = _run(systemd, 2.0, "odd", "db1")
    assert [line["object"] for line in lines if "compile_port" in str(line["stack"])] == ["name 'odd'", "port 'db1'"]


def test_the_watchdog_hears_the_hub_and_not_its_watcher(systemd: NotifySocket) -> None:
    """Of three seconds that it is stuck, no beat is told: after the second systemd would end it."""
    _run(systemd, 3.0, "web1")
    beats = 0
    try:
        while systemd.next(0.1) == "WATCHDOG=1":
            beats += 1
    except TimeoutError:
        pass
    assert 1 <= beats <= 3  # one when it begins, and one when it goes on
