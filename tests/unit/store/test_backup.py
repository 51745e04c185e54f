"""Backups of one file: whole or refused, and what comes back is what was there."""

from __future__ import annotations

import contextlib
import gzip
import json
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from controller.store import Store, backup
from controller.store.backup import BackupError
from controller.store.specs import LeaseRecord, SchemaError
from flows.pipeline import PORT_ZONES
from flows.snapshot import Snapshot
from tests.unit.store import raw
from tests.unit.store.floating import lead, make_pool, take


def furnish(world: Any) -> Snapshot:
    """Something in most tables, with what is easily lost: NULLs and nulls, bytes, wide characters, references to what
    comes later.
    """
    inside = world.network(name="größe")
    outside = world.external()
    world.store.update_network(inside.id, {"external_network_id": outside.id}, "tester")
    world.node("n1")
    port = world.port(inside, device_id="vm1", node="n1", dhcp_options={})
    world.report("n1", port)
    make_pool(world, network=outside)
    (floating_ip,) = take(world)
    lead(world, floating_ip, port)
    secret = {"user_data": bytes(range(256)), "meta": {"ü": "\u2028"}}
    world.store.update_metadata(port.port.id, secret, "tester")
    world.store.record_leases([LeaseRecord(port.port.id, IPv4Address("10.0.0.1"), "bound", 1.5, 2.25)])
    snapshot: Snapshot = world.store.load_snapshot()
    return snapshot


@pytest.fixture
def saved(world: Any, tmp_path: Path) -> Path:
    furnish(world)
    file = tmp_path / "saved.backup"
    backup.write(world.url, file)
    return file


def test_what_comes_back_is_what_was_there(world: Any, new_url: str, tmp_path: Path) -> None:
    before = furnish(world)
    file = tmp_path / "saved.backup"
    told = backup.write(world.url, file)
    assert (told.revision, told.rows["ports"]) == (before.revision, 1)
    assert backup.read(file) == told
    assert file.stat().st_mode & 0o777 == 0o600
    backup.restore(new_url, file)
    assert raw.contents(new_url) == raw.contents(world.url)
    restored = Store(new_url)
    assert restored.load_snapshot() == before
    (port,) = restored.list_ports()
    restored.delete_port(port.port.id, "tester")  # it can be worked with
    assert restored.revision() > before.revision
    restored.close()


def test_a_backup_is_made_while_others_write(world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is of one moment."""
    world.network()
    whole = backup._line

    def line(*arguments: Any) -> None:
        world.network(f"10.{100 + len(world.commits)}.0.0/24")
        whole(*arguments)

    monkeypatch.setattr(backup, "_line", line)
    told = backup.write(world.url, tmp_path / "saved.backup")
    assert (told.revision, told.rows["networks"], told.rows["journal"]) == (1, 1, 1)
    assert world.store.revision() > 10


def test_no_file_is_overwritten_unless_asked(world: Any, saved: Path) -> None:
    before = saved.read_bytes()
    with pytest.raises(BackupError, match="exists already"):
        backup.write(world.url, saved)
    assert saved.read_bytes() == before
    backup.write(world.url, saved, force=True)
    assert [path.name for path in saved.parent.glob("*saved*")] == ["saved.backup"]


def test_a_backup_that_fails_leaves_nothing(world: Any, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(backup, "_line", full)
    before = saved.read_bytes()
    with pytest.raises(OSError, match="no space"):
        backup.write(world.url, saved, force=True)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.glob("*saved*")] == ["saved.backup"]


def test_a_database_with_something_in_it_is_replaced_only_if_asked(world: Any, saved: Path) -> None:
    late = world.network("10.9.0.0/24", name="late")
    world.store.close()
    with pytest.raises(BackupError, match="not empty"):
        backup.restore(world.url, saved)
    assert Store(world.url).get_network(late.id)
    backup.restore(world.url, saved, force=True)
    world.store = Store(world.url)  # another file
    assert "late" not in [network.spec.name for network in world.store.list_networks()]


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _flip(data: bytes) -> bytes:
    return data[:-20] + bytes([data[-20] ^ 255]) + data[-19:]


def _without_end(data: bytes) -> bytes:
    return gzip.compress(b"\n".join(gzip.decompress(data).splitlines()[:-1]))


def _without_a_row(data: bytes) -> bytes:
    lines = gzip.decompress(data).splitlines()
    lines.remove(next(line for line in reversed(lines) if line.startswith(b"[")))
    return gzip.compress(b"\n".join(lines))


def _of_later(data: bytes) -> bytes:
    return gzip.compress(gzip.decompress(data).replace(b'"trunkline_backup":1', b'"trunkline_backup":2', 1))


@pytest.mark.parametrize(
    "harm", [_cut, _flip, _without_end, _without_a_row, _of_later, lambda data: b"", lambda data: b"PK\3\4 something"]
)
def test_a_file_that_is_not_whole_changes_nothing(
    world: Any, saved: Path, new_url: str, harm: Callable[[bytes], bytes]
) -> None:
    before = raw.contents(world.url)
    saved.write_bytes(harm(saved.read_bytes()))
    with pytest.raises(BackupError, match="no whole backup"):
        backup.restore(world.url, saved, force=True)
    assert raw.contents(world.url) == before


def test_a_file_with_one_bad_byte_is_refused_wherever_that_is(saved: Path, new_url: str) -> None:
    """Unless it says the same: deflate can refer to any of several places that are alike (RFC 1951 §2)."""
    whole = saved.read_bytes()
    content = gzip.decompress(whole)
    for place in range(10, len(whole) - 8, 5):  # behind gzip's header, whose date nobody looks at
        saved.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with contextlib.suppress(BackupError):
            backup.read(saved)
            assert gzip.decompress(saved.read_bytes()) == content


def _with(line: int, text: str) -> Callable[[list[str]], list[str]]:
    return lambda lines: [*lines[:line], text, *lines[line:]]


@pytest.mark.parametrize(
    "change",
    [
        _with(0, "[" * 100_000),
        lambda lines: ['{"trunkline_backup":1}', *lines[1:]],
        lambda lines: [lines[0].replace('"made_at":', '"made_at":1e30,"other":'), *lines[1:]],
        lambda lines: [lines[0], '{"x":1}', *lines[1:]],
        lambda lines: [lines[0], "[1]", *lines[1:-1], f'{{"end":{json.loads(lines[-1])["end"] + 1}}}'],
        lambda lines: [line.replace('{"table":"ports"', '{"table":"portz"') for line in lines],
        lambda lines: [
            line.replace('"table":"ports","columns":["id"', '"table":"ports","columns":["x"') for line in lines
        ],
        lambda lines: [line.removesuffix("]") + ",1]" if line.startswith("[") else line for line in lines],
        lambda lines: [line.replace(",true,", ',"abc",') for line in lines],
        lambda lines: [line.replace(',"vm1",', ",null,") for line in lines],
    ],
)
def test_a_file_of_another_shape_is_refused(
    world: Any, saved: Path, new_url: str, change: Callable[[list[str]], list[str]]
) -> None:
    before = raw.contents(world.url)
    lines = gzip.decompress(saved.read_bytes()).decode().splitlines()
    assert change(lines) != lines
    saved.write_bytes(gzip.compress("\n".join(change(lines)).encode()))
    with pytest.raises(BackupError) as refused:
        backup.restore(world.url, saved, force=True)
    assert "INSERT" not in str(refused.value)
    assert raw.contents(world.url) == before


def test_a_restore_that_fails_half_way_changes_nothing(
    world: Any, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = raw.contents(world.url)
    world.store.close()
    fill = backup._fill

    def fail(connection: Any, table: Any, *rest: Any) -> None:
        if table.name == "subnets":
            raise OSError("no space left")
        fill(connection, table, *rest)

    monkeypatch.setattr(backup, "_fill", fail)
    with pytest.raises(OSError, match="no space"):
        backup.restore(world.url, saved, force=True)
    assert raw.contents(world.url) == before
    if world.url.startswith("sqlite"):
        assert not list(Path(world.url.removeprefix("sqlite:///")).parent.glob("*restoring*"))


def test_a_backup_of_an_older_program_is_upgraded(new_url: str, url: str, tmp_path: Path) -> None:
    raw.upgrade_to(new_url, "0010")
    values = {"id": "g", "key": 1, "project_id": "blue", "name": "default", "description": "", "stateful": True}
    values |= {"log_accepted": False, "log_dropped": False, "created_at": 0, "revision": 1}
    with raw.transaction(new_url) as old:
        raw.insert(old, "security_groups", values)
        old.exec_driver_sql("UPDATE counters SET value = 1 WHERE name IN ('revision', 'security_group_key')")
    told = backup.write(new_url, tmp_path / "old.backup")
    assert told.schema == "0010"
    backup.restore(url, tmp_path / "old.backup")
    store = Store(url)
    assert [group.group.name for group in store.list_security_groups()] == ["default"]
    store.close()


def test_one_of_a_later_program_is_refused(world: Any, saved: Path, new_url: str) -> None:
    text = gzip.decompress(saved.read_bytes())
    saved.write_bytes(gzip.compress(text.replace(b'"schema":"', b'"schema":"9', 1)))
    with pytest.raises(BackupError, match="later program"):
        backup.restore(new_url, saved)


def test_there_is_no_backup_of_nothing(new_url: str, tmp_path: Path) -> None:
    raw.execute(new_url, "CREATE TABLE precious (id INTEGER)")
    with pytest.raises(SchemaError):
        backup.write(new_url, tmp_path / "saved.backup")
    assert not list(tmp_path.glob("*saved*"))


@pytest.mark.parametrize("suffix", ["", "-wal", ".lock", ".link"])
def test_a_backup_does_not_replace_what_it_is_of(world: Any, suffix: str) -> None:
    furnish(world)
    if not world.url.startswith("sqlite"):
        pytest.skip("no file")
    database = Path(world.url.removeprefix("sqlite:///"))
    file = database.with_name(database.name + suffix)
    if suffix == ".link":
        file.symlink_to(database)
    elif suffix == ".lock":
        file.touch()
    with pytest.raises(BackupError, match="database itself"):
        backup.write(world.url, file, force=True)


def test_what_is_somebody_elses_is_not_replaced(world: Any, saved: Path, new_url: str) -> None:
    raw.execute(new_url, "CREATE TABLE precious (id INTEGER)")
    with pytest.raises(BackupError, match="somebody else's"):
        backup.restore(new_url, saved, force=True)


def test_numbers_given_since_the_backup_are_skipped(world: Any) -> None:
    """Conntrack goes by them: a new port must not meet the connections of one that the backup does not know."""
    network = world.network()
    world.node("n1")
    before = world.port(network)
    world.report("n1", before)
    zone = world.again(before).port.binding.zone
    backup.skip_numbers(world.url)
    after = world.port(network)
    world.report("n1", before, after)
    assert after.port.key > before.port.key + backup.SKIPPED
    assert world.again(after).port.binding.zone > zone + backup.SKIPPED
    for _ in range(len(PORT_ZONES) // backup.SKIPPED + 1):
        backup.skip_numbers(world.url)
    last = world.port(network)
    world.report("n1", before, after, last)
    assert world.again(last).port.binding.zone in PORT_ZONES
