"""What systemd is told, and the units that have it listen."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.loop import Agent
from agent.service_manager import ServiceManager
from agent.waker import Waker
from tests.unit.agent.test_loop import CONFIG
from tests.unit.systemd import NotifySocket

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "etc/systemd").iterdir())
SERVICES = [unit for unit in UNITS if unit.suffix == ".service"]
_ALL = ("NoNewPrivileges=yes", "CapabilityBoundingSet=", "RestrictAddressFamilies=", "SystemCallFilter=@system-service")
_DAEMON = ("Type=notify", "Restart=always", "WatchdogSec=", "User=")


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[NotifySocket]:
    made = NotifySocket(tmp_path / "notify")
    yield made
    made.close()


def test_all_that_is_told(systemd: NotifySocket) -> None:
    manager = ServiceManager(systemd.environment(watchdog_s=12.5))
    assert manager.watchdog_s == 12.5
    for tell in (manager.ready, manager.alive, manager.stopping):
        tell()
    assert [systemd.next() for _ in range(3)] == ["READY=1", "WATCHDOG=1", "STOPPING=1"]


def test_an_abstract_address() -> None:
    name = f"trunkline-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
        own.bind(f"\0{name}")
        own.settimeout(30)
        ServiceManager({"NOTIFY_SOCKET": f"@{name}"}).ready()
        assert own.recv(100) == b"READY=1"


@pytest.mark.parametrize(
    "watchdog", [{}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "9", "WATCHDOG_PID": "1"}]
)
def test_without_a_watchdog_nobody_beats(systemd: NotifySocket, watchdog: dict[str, str]) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": str(systemd.path), **watchdog})
    manager.alive()
    manager.ready()
    assert manager.watchdog_s is None and systemd.next() == "READY=1"


def test_nobody_listens(systemd: NotifySocket) -> None:
    gone = ServiceManager({"NOTIFY_SOCKET": f"{systemd.path}-gone", "WATCHDOG_USEC": "1"})
    for manager in (gone, ServiceManager({})):
        for tell in (manager.ready, manager.alive, manager.stopping):
            tell()


def test_who_listens_and_does_not_read(systemd: NotifySocket) -> None:
    manager = ServiceManager(systemd.environment(watchdog_s=1))
    for _ in range(2000):  # more than a socket holds
        manager.alive()


def test_the_agents_loop_beats_while_it_waits(systemd: NotifySocket, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = Agent(CONFIG, Waker(), None, None, ServiceManager(systemd.environment(watchdog_s=0.03)))  # type: ignore[arg-type]
    rounds = 0

    def step(self: Agent) -> float:
        nonlocal rounds
        rounds += 1
        if rounds == 2:
            self.stop()
        return 0.3

    monkeypatch.setattr(Agent, "step", step)
    agent.run()
    beats = 0
    while beats < 5:  # in one wait, and each is a deadline
        assert systemd.next(0.1) == "WATCHDOG=1"
        beats += 1


CONTROLLER = """
[database]
url = sqlite:///{directory}/controller.db
[openflow]
listen = 127.0.0.1
port = {openflow}
[api]
listen = 127.0.0.1
port = {api}
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def test_the_controller_is_ready_beats_and_stops(systemd: NotifySocket, tmp_path: Path) -> None:
    config = tmp_path / "controller.conf"
    openflow, api = free_port(), free_port()
    config.write_text(CONTROLLER.format(directory=tmp_path, openflow=openflow, api=api))
    _life(systemd, [sys.executable, "-m", "controller", "--config-file", str(config)], tmp_path / "log")


def _life(systemd: NotifySocket, command: list[str], log: Path) -> None:
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=systemd.environment(watchdog_s=3), stderr=output)
    try:
        assert set(systemd.until("READY=1", 90)) <= {"WATCHDOG=1"}, log.read_text()
        systemd.until("WATCHDOG=1")
        systemd.until("WATCHDOG=1")
        process.send_signal(signal.SIGTERM)
        assert set(systemd.until("STOPPING=1")) <= {"WATCHDOG=1"}
        assert process.wait(60) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_services_are_confined(unit: Path) -> None:
    text = unit.read_text()
    for wanted in (*_ALL, *(() if "@" in unit.name else _DAEMON)):
        assert f"\n{wanted}" in text


def test_systemd_understands_the_units(tmp_path: Path) -> None:
    for unit in UNITS:
        # what it names need not be installed here
        lines = [line for line in unit.read_text().splitlines() if not line.startswith("Documentation=")]
        lines = [f"ExecStart={sys.executable}" if line.startswith("ExecStart=") else line for line in lines]
        (tmp_path / unit.name).write_text("\n".join(lines))
    command = ["systemd-analyze", "verify", *sorted(tmp_path.iterdir())]
    try:
        checked = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("no systemd-analyze on this machine")
    assert (checked.returncode, [line for line in checked.stderr.splitlines() if "trunkline" in line]) == (0, [])
