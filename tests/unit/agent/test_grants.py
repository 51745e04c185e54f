"""What is granted to the agent's user, and when it asks. Who is granted what on a real Debian: tests/packaging."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from agent import grants, links
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


NOBODY, SOMEBODY, OTHER = 65534, 70001, 70002
WITH_MASK = struct.pack(
    "<I" + 6 * "HHI",
    2,
    *(0x01, 6, 0xFFFFFFFF),
    *(0x02, 4, SOMEBODY),
    *(0x02, 7, OTHER),
    *(0x04, 6, 0xFFFFFFFF),
    *(0x08, 2, NOBODY),
    *(0x10, 1, 0xFFFFFFFF),
)
"""As Linux has the list of a file: its owner, two users, its group, another group, and a mask that leaves `x` alone."""


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "record"
    monkeypatch.setattr("agent.grants.RECORD", path)
    return path


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The commands, which are not carried out; no file has a list."""
    commands: list[tuple[str, ...]] = []
    monkeypatch.setattr("agent.links.run", lambda *command: commands.append(command))
    monkeypatch.setattr("agent.grants.effective", lambda path: {})
    return commands


def test_only_where_not_everybody_has_the_right(tmp_path: Path, said: list[tuple[str, ...]], recorded: Path) -> None:
    key, ca, gone = tmp_path / "key.pem", tmp_path / "ca.pem", tmp_path / "gone"
    key.touch(0o600)
    ca.touch(0o644)
    tmp_path.chmod(0o700)
    wanted = [Grant(os.R_OK, path) for path in (key, ca, gone, key)] + [Grant(os.X_OK, tmp_path)]
    assert grants.grant(wanted, SOMEBODY) == []
    assert said == [
        ("setfacl", "--modify", f"user:{SOMEBODY}:1", "--", str(tmp_path)),
        ("setfacl", "--modify", f"user:{SOMEBODY}:4", "--", str(key)),
    ]


def test_what_has_been_granted_is_recorded(tmp_path: Path, said: list[tuple[str, ...]], recorded: Path) -> None:
    """Under the name that it keeps, as long as it is there, and before anything is granted."""
    old, new, link = tmp_path / "old.pem", tmp_path / "new.pem", tmp_path / "key.pem"
    for path in (old, new):
        path.touch(0o600)
    for target in (old, new):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        grants.grant([Grant(os.R_OK, link)], SOMEBODY)
    assert recorded.read_text() == f"{new}\n{old}\n"
    old.unlink()
    grants.grant([], SOMEBODY)
    assert recorded.read_text() == f"{new}\n"
    recorded.unlink()
    recorded.mkdir()
    del said[:]
    (problem,) = grants.grant([Grant(os.R_OK, new)], SOMEBODY)
    assert "could not be recorded" in problem and len(said) == 1  # the agent needs it
    assert set(tmp_path.iterdir()) == {new, link, recorded}


def test_what_the_mask_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: Path) -> None:
    commands: list[str] = []
    monkeypatch.setattr("agent.links.run", lambda *command: commands.append(command[2]))
    monkeypatch.setattr("os.getxattr", lambda path, name: WITH_MASK)
    tmp_path.chmod(0o700)
    grants.grant([Grant(os.R_OK, tmp_path)], SOMEBODY)
    grants.grant([Grant(os.R_OK, tmp_path)], OTHER)  # keeps what it has
    grants.grant([Grant(os.X_OK, tmp_path)], OTHER)  # has it
    others = f"group::0,group:{NOBODY}:0"
    assert commands == [
        f"user:{SOMEBODY}:4,user:{OTHER}:1,{others}",
        f"user:{SOMEBODY}:0,user:{OTHER}:5,{others}",
    ]


@pytest.mark.skipif(shutil.which("setfacl") is None, reason="needs the package acl, which all tests together bring")
def test_what_chmod_has_taken_from_others_stays_taken(tmp_path: Path, recorded: Path) -> None:
    """By setfacl and the file system themselves."""
    key = tmp_path / "key.pem"
    key.touch()
    key.chmod(0o640)
    try:
        links.run("setfacl", "--modify", f"user:{OTHER}:rw", "--", str(key))
    except links.CommandError as error:
        pytest.skip(str(error))
    mine = {f"user:{SOMEBODY}": 4}
    assert grants.grant([Grant(os.R_OK, key)], SOMEBODY) == []
    assert grants.effective(key) == mine | {f"user:{OTHER}": 6, "group:": 4}
    key.chmod(0o600)
    assert grants.grant([Grant(os.R_OK, key)], SOMEBODY) == []
    assert grants.effective(key) == mine | {f"user:{OTHER}": 0, "group:": 0}


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
