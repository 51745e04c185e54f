"""From SQLite to PostgreSQL and back, and what the commands do while controllers live."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controller.store import Store
from controller.store.notifications import Listener
from controller.store.specs import PortSpec, SchemaError
from tests.unit.store import raw

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def db(database_command: Run) -> Run:
    """Runs the command on a database; its status, and all it has said."""
    return database_command


def test_a_controller_does_not_start_before_upgrade(db: Run, make_database: Any) -> None:
    """Several controllers share it: none of them changes it under the others."""
    url = make_database(empty=True)
    with pytest.raises(SchemaError, match="trunkline-controller db upgrade"):
        Store(url)
    status, said = db(url, "upgrade")
    assert status == 0 and "none -> 00" in said
    Store(url).close()
    assert "nothing to do" in db(url, "upgrade")[1]


def test_move_from_sqlite_and_back(db: Run, make_database: Any, make_network: Any, tmp_path: Path) -> None:
    source, target, again = f"sqlite:///{tmp_path}/one.db", make_database(empty=True), f"sqlite:///{tmp_path}/two.db"
    store = Store(source)
    network = make_network(store)
    ports = store.create_ports([PortSpec(network.id, device_id=f"vm{n}") for n in range(5)], "tester").value
    store.update_metadata(ports[0].port.id, {"user_data": bytes(range(256))}, "tester")
    store.delete_port(ports[1].port.id, "tester")
    snapshot, secret = store.load_snapshot(), store.get_metadata(ports[0].port.id)
    store.close()
    status, said = db(source, "move", target)
    assert status == 0, said
    assert raw.contents(target) == raw.contents(source)
    moved = Store(target)
    assert (moved.load_snapshot(), moved.get_metadata(ports[0].port.id)) == (snapshot, secret)
    # keys and addresses go on where they were: the address that was given back comes last
    (port,) = moved.create_ports([PortSpec(network.id)], "tester").value
    assert port.port.key == 6 and str(port.port.fixed_ips[0].address) == "10.0.0.6"
    moved.close()
    assert db(target, "move", again)[0] == 0
    assert raw.contents(again) == raw.contents(target)
    status, said = db(again, "move", target)
    assert status == 1 and "not empty" in said


def test_a_backup_of_one_kind_restores_into_the_other(
    db: Run, url: str, open_store: Callable[..., Store], make_network: Any, make_database: Any, tmp_path: Path
) -> None:
    make_network(open_store())
    file = tmp_path / "saved"
    assert db(url, "backup", file)[0] == 0
    for other in (f"sqlite:///{tmp_path}/other.db", make_database(), make_database(empty=True)):
        status, said = db(other, "restore", file)
        assert status == 0, said
        assert raw.contents(other, "counters") == raw.contents(url, "counters")


def test_nothing_is_made_anew_under_a_controller(
    db: Run, url: str, open_store: Callable[..., Store], make_network: Any, tmp_path: Path
) -> None:
    make_network(open_store())
    file = tmp_path / "saved"
    connected = threading.Event()
    listener = Listener(url, {}, connected.set)
    controller = threading.Thread(target=listener.run)
    controller.start()
    try:
        assert connected.wait(30)
        assert db(url, "backup", file)[0] == 0
        before = raw.contents(url)
        status, said = db(url, "restore", "--force", file)
        assert status == 1 and "controllers work on the database" in said
        assert db(url, "move", f"sqlite:///{tmp_path}/other.db")[0] == 1
        assert "in use: yes" in db(url, "check")[1]
        assert raw.contents(url) == before
    finally:
        listener.stop()
        controller.join()
    assert db(url, "restore", "--force", file)[0] == 0
    assert "in use: no" in db(url, "check")[1]


def test_a_server_that_is_not_there_is_told_in_one_line(db: Run, tmp_path: Path) -> None:
    url = f"postgresql://trunkline@/none?host={tmp_path}"
    for command in (("check",), ("upgrade",), ("backup", tmp_path / "saved")):
        status, said = db(url, *command)
        assert status == 1 and "Traceback" not in said and "No such file" in said
    status, said = db("postgresql://trunkline:secret@127.0.0.1:1/none", "check")
    assert status == 1 and "secret" not in said
