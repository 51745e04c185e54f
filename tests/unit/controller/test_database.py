"""`trunkline-controller db ...` on SQLite. tests/database/test_commands.py has what needs PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from controller.store import Store, check_revision, occupation
from controller.store.occupation import InUse
from controller.store.specs import NetworkSpec, SubnetSpec
from flows.model import NetworkKind
from tests.unit.store import raw

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/trunkline.db"


@pytest.fixture
def db(url: str, database_command: Run) -> Run:
    """Runs the command; its status, and all it has said."""
    return partial(database_command, url)


def furnish(url: str, name: str = "net") -> None:
    store = Store(url)
    subnets = (SubnetSpec(IPv4Network("10.0.0.0/24")),)
    store.create_network(
        NetworkSpec(name=name, kind=NetworkKind.VLAN, physical_network="physnet1", subnets=subnets), "tester"
    )
    store.close()


def test_upgrade_makes_a_database_and_brings_an_old_one_up_to_date(db: Run, url: str) -> None:
    status, said = db("upgrade")
    assert status == 0 and "schema revision none -> 00" in said
    check_revision(url)
    assert db("upgrade")[0] == 0
    Path(url.removeprefix("sqlite:///")).unlink()
    raw.upgrade_to(url, "0010")
    status, said = db("check")
    assert status == 1 and "db upgrade" in said
    status, said = db("upgrade")
    assert status == 0 and "0010 -> 00" in said
    check_revision(url)


def test_upgrade_with_a_backup_keeps_what_it_changes(db: Run, url: str, tmp_path: Path) -> None:
    raw.upgrade_to(url, "0010")
    status, said = db("upgrade", "--backup", tmp_path)
    (kept,) = tmp_path.glob(f"before-{_head()}-of-0010-*.backup")
    assert status == 0 and str(kept) in said and kept.stat().st_mode & 0o077 == 0
    # nothing is to be done, or nothing was there
    for _ in range(2):
        assert db("upgrade", "--backup", tmp_path)[0] == 0
        assert list(tmp_path.glob("*.backup")) == [kept]
        Path(url.removeprefix("sqlite:///")).unlink()
    # a backup that cannot be written is the end of it
    raw.upgrade_to(url, "0010")
    assert db("upgrade", "--backup", tmp_path / "missing")[0] == 1
    assert "schema revision: 0010" in db("check")[1]
    (tmp_path / "missing").mkdir()
    # and what was kept can be had back
    status, said = db("restore", "--force", kept)
    assert status == 0, said


def test_check_says_what_there_is(db: Run, url: str) -> None:
    status, said = db("check")
    assert status == 1 and f"schema revision: None; this program's: {_head()}" in said and "no such file" in said
    assert not Path(url.removeprefix("sqlite:///")).exists()
    furnish(url)
    status, said = db("check")
    assert status == 0
    assert "journal revision: 1\nnetworks: 1, ports: 0, nodes: 0\nin use: no\n" in said
    lock = occupation.occupy(url)
    assert lock and "in use: yes" in db("check")[1]
    lock.release()


def _head() -> str:
    from controller.store import migrations

    return migrations.head()


def test_check_finds_a_damaged_file(db: Run, url: str) -> None:
    furnish(url)
    raw.execute(url, "PRAGMA foreign_keys=OFF")
    with raw.transaction(url) as connection:
        connection.exec_driver_sql("PRAGMA writable_schema=ON")
        connection.exec_driver_sql("UPDATE sqlite_master SET rootpage = 3 WHERE name = 'ports'")
    status, said = db("check")
    assert status == 1 and "damaged" in said


def test_backup_and_restore(db: Run, url: str, tmp_path: Path) -> None:
    furnish(url)
    file = tmp_path / "saved"
    assert db("backup", file)[0] == 0
    assert db("backup", file) == (1, f"trunkline-controller db backup: {file} exists already\n")
    before = raw.contents(url, "counters")
    raw.execute(url, "UPDATE networks SET name = 'changed'")
    status, said = db("restore", file)
    assert status == 1 and "not empty" in said
    status, said = db("restore", "--force", file)
    assert status == 0 and "of journal revision 1" in said
    assert raw.contents(url, "counters") == before
    store = Store(url)
    assert store.revision() == 1
    store.close()


def test_nothing_is_made_anew_under_a_controller(db: Run, url: str, tmp_path: Path) -> None:
    furnish(url)
    assert db("backup", tmp_path / "saved")[0] == 0
    lock = occupation.occupy(url)
    assert lock
    for arguments in (("restore", "--force", tmp_path / "saved"), ("move", f"sqlite:///{tmp_path}/other.db")):
        status, said = db(*arguments)
        assert status == 1 and "another process works on the database" in said
    with pytest.raises(InUse):
        occupation.occupy(url)
    assert db("backup", "--force", tmp_path / "saved")[0] == 0  # this may be
    lock.release()
    assert db("restore", "--force", tmp_path / "saved")[0] == 0


def test_move_leaves_what_was_and_refuses_what_is_not_empty(db: Run, url: str, tmp_path: Path) -> None:
    furnish(url)
    other = f"sqlite:///{tmp_path}/other.db"
    status, said = db("move", other)
    assert status == 0 and f"[database] url = {other}" in said
    assert raw.contents(other) == raw.contents(url)
    status, said = db("move", other)
    assert status == 1 and "not empty" in said
    assert db("move", url)[1].endswith("that is the same database\n")


def test_a_lost_database_is_restored(db: Run, url: str, tmp_path: Path) -> None:
    furnish(url)
    assert db("backup", tmp_path / "saved")[0] == 0
    Path(url.removeprefix("sqlite:///")).unlink()
    assert db("restore", tmp_path / "saved")[0] == 0
    store = Store(url)
    assert len(store.list_networks()) == 1
    store.close()


def test_a_wrong_command_line_and_a_missing_file(db: Run, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        db("destroy")
    assert ended.value.code == 2
    status, said = db("restore", tmp_path / "nothing")
    assert status == 1 and "no whole backup" in said and "Traceback" not in said
    status, said = db("move", "notaurl")
    assert status == 1 and "url must be" in said


def test_nothing_is_said_beside(tmp_path: Path) -> None:
    file = tmp_path / "trunkline-controller.conf"
    file.write_text(f"[database]\nurl = sqlite:///{tmp_path}/trunkline.db\n")
    command = [sys.executable, "-m", "controller", "db", "--config-file", str(file), "upgrade"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == "" and done.stdout.startswith("schema revision none ->")


@pytest.mark.parametrize("command", ["upgrade", "restore", "move"])
def test_what_root_makes_belongs_to_whom_the_directory_does(
    db: Run, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """The controller is another user, who could not open it."""
    place = tmp_path
    if command != "upgrade":
        furnish(url)
    if command == "restore":
        assert db("backup", str(tmp_path / "file"))[0] == 0
        for file in tmp_path.glob("trunkline*"):
            file.unlink()
    elif command == "move":
        place = tmp_path / "other"
        place.mkdir()
    given: set[Path] = set()
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("os.chown", lambda path, *_owner, follow_symlinks: given.add(path))
    arguments = {"upgrade": (), "restore": (str(tmp_path / "file"),), "move": (f"sqlite:///{place}/trunkline.db",)}
    assert db(command, *arguments[command])[0] == 0
    made = set(place.glob("trunkline*"))
    assert {file.name for file in made} >= {"trunkline.db", "trunkline.db.lock"}
    assert made <= given
    assert command == "upgrade" or not (place / "trunkline.db").stat().st_mode & 0o007
