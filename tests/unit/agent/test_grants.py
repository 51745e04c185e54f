"""What is granted to the agent's user, and when it asks. Who is granted what on a real Debian: tests/packaging."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from agent import grants
from agent.config import Tls, sources
from agent.grants import Grant, Grants
from tests.unit.agent.test_loop import CONFIG


@pytest.fixture
def switch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Open vSwitch has its sockets, and what lies beside them."""
    place = tmp_path / "openvswitch"
    place.mkdir()
    monkeypatch.setenv("OVS_RUNDIR", str(place))
    for name in ("db.sock", "ovs-vswitchd.7.ctl", "br-int.mgmt", "br-int.snoop", "ovsdb-server.6.ctl", "conf.db"):
        (place / name).touch(0o750)
    return place


def test_what_the_agent_opens_and_nothing_else(switch: Path, tmp_path: Path) -> None:
    tls = tmp_path / "tls"
    files = Tls(*(str(tls / name) for name in ("certificate.pem", "key.pem", "ca.pem", "ca.pem")))
    config = replace(CONFIG, ovsdb=f"unix:{switch}/db.sock", tls=files, plug_token_file=str(tls / "token"))
    found = set(grants.of_configuration(config))
    assert found == {
        *(Grant(os.R_OK | os.W_OK, switch / name) for name in ("db.sock", "ovs-vswitchd.7.ctl", "br-int.mgmt")),
        *(Grant(os.R_OK, tls / name) for name in ("certificate.pem", "key.pem", "ca.pem", "token")),
        *(Grant(os.X_OK, place) for place in (switch, tls)),
    }
    away = set(grants.of_configuration(replace(CONFIG, ovsdb="tcp:127.0.0.1:6640")))
    assert all(grant.path.suffix != ".sock" for grant in away)


def test_files_of_the_configuration(tmp_path: Path) -> None:
    file, directory = tmp_path / "agent.conf", tmp_path / "agent.conf.d"
    directory.mkdir()
    for path in (file, directory / "a.conf", directory / "b.conf", directory / "c.conf~"):
        path.write_text("")
    arguments = ["--config-file", str(file), "--config-dir", str(directory)]
    assert sources(arguments) == (file, directory, directory / "a.conf", directory / "b.conf")
    file.write_text("[agent\n")
    assert sources(arguments) == ()


def test_only_where_not_everybody_has_the_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[str, ...]] = []
    monkeypatch.setattr("agent.links.run", lambda *command: said.append(command))
    key, ca, gone = tmp_path / "key.pem", tmp_path / "ca.pem", tmp_path / "gone"
    key.touch(0o600)
    ca.touch(0o644)
    tmp_path.chmod(0o700)
    wanted = [Grant(os.R_OK, path) for path in (key, ca, gone, key)] + [Grant(os.X_OK, tmp_path)]
    assert grants.grant(wanted, "somebody") == []
    assert said == [
        ("setfacl", "--modify", "user:somebody:x", "--", str(tmp_path)),
        ("setfacl", "--modify", "user:somebody:r", "--", str(key)),
    ]


class Root:
    """The other half, which counts the questions and does `answer` at each."""

    def __init__(self, path: Path) -> None:
        self.asked = 0
        self.answer = lambda: None
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.asked += 1
            self.answer()
            connection.close()

    def close(self) -> None:
        with suppress(OSError):  # it is closed already
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Root]:
    path = tmp_path / "grants.sock"
    monkeypatch.setattr("agent.grants.SOCKET", path)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    made = Root(path)
    yield made
    made.close()


def test_it_asks_for_what_it_lacks(root: Root, switch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = True
    monkeypatch.setattr("os.access", lambda path, rights: allowed or Path(path).suffix != ".sock")
    monkeypatch.setattr("agent.namespaces.exists", lambda name: True)
    now = 100.0
    monkeypatch.setattr("agent.grants.time.monotonic", lambda: now)
    kept = Grants(replace(CONFIG, ovsdb=f"unix:{switch}/db.sock", heartbeat_interval=10.0))
    kept.keep()
    assert root.asked == 0 and not kept.lacking()

    def give() -> None:
        nonlocal allowed
        allowed = True

    allowed, root.answer = False, give
    assert kept.lacking()
    kept.keep()
    assert root.asked == 1 and not kept.lacking()

    allowed, root.answer = False, lambda: None
    assert not kept.lacking()  # a moment later
    now += 1.0
    kept.keep()
    assert root.asked == 2
    now += 9.0
    kept.keep()
    assert root.asked == 2  # it has not helped
    now += 1.0
    kept.keep()
    assert root.asked == 3


def test_root_and_who_has_nobody_to_ask_do_not_ask(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.namespaces.exists", lambda name: False)
    assert Grants(CONFIG).lacking()
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert not Grants(CONFIG).lacking() and grants.ask() is None
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("agent.grants.SOCKET", Path("/none/such"))
    kept = Grants(CONFIG)
    kept.keep()
    assert not kept.lacking()  # until the next heartbeat
    assert root.asked == 0


def test_nobody_answers(root: Root) -> None:
    root.close()
    assert "Connection refused" in str(grants.ask())
