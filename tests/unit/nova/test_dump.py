"""Dumps as mysqldump (MariaDB 11.8) has written nova.sql from tables like Nova's, and in the forms it had before."""

from __future__ import annotations

import gzip
import re
import sqlite3
import time
import tracemalloc
from contextlib import closing
from pathlib import Path

import pytest

from controller.nova import dump
from controller.nova.dump import DumpError, Tables, read
from controller.nova.model import TABLES

DUMP = Path(__file__).parent / "nova.sql"


@pytest.fixture(scope="module")
def tables() -> Tables:
    return read(DUMP, TABLES)


def variant(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "variant.sql"
    path.write_text(text)
    return path


def test_values_are_what_was_in_the_database(tables: Tables) -> None:
    assert {name: len(rows) for name, rows in tables.items()} == {
        "networks": 4,
        "fixed_ips": 12,
        "floating_ips": 5,
        "virtual_interfaces": 6,
        "instances": 4,
        "security_groups": 4,
        "security_group_rules": 7,
        "security_group_instance_association": 5,
    }
    web, db = tables["instances"][:2]
    assert web["user_data"] == 'line one\nit\'s; \\ "two"\tend' and web["display_name"] == "web '1', (the first)"
    assert (web["weight"], web["deleted_at"], web["deleted"]) == (1.5, None, 0)
    assert db["display_name"] == "Datenbank größer"


def test_all_rows_on_one_line_as_older_ones_write_them(tables: Tables, tmp_path: Path) -> None:
    text = DUMP.read_text()
    joined = re.sub(r"(?<=VALUES)\n|(?<=\),)\n", lambda at: "" if at[0] != "VALUES" else " ", text)
    assert len(joined.splitlines()) < len(text.splitlines()) - 30
    assert read(variant(tmp_path, joined), TABLES) == tables


def test_with_the_names_of_columns_in_another_order(tmp_path: Path) -> None:
    first, second = "(`label`, `id`, `vlan`) VALUES ('a',1,NULL)", "(`id`, `label`) VALUES (2,'b')"
    text = f"INSERT INTO `networks` {first};\nINSERT INTO `networks` {second};\n"
    assert read(variant(tmp_path, text), TABLES) == {
        "networks": [{"label": "a", "id": 1, "vlan": None}, {"id": 2, "label": "b"}]
    }


def test_compressed(tables: Tables, tmp_path: Path) -> None:
    path = tmp_path / "nova.sql.gz"
    path.write_bytes(gzip.compress(DUMP.read_bytes()))
    assert read(path, TABLES) == tables
    path.write_bytes(gzip.compress(DUMP.read_bytes())[:-200])
    with pytest.raises(DumpError, match="damaged"):
        read(path, TABLES)


def test_a_copy_in_sqlite(tables: Tables, tmp_path: Path) -> None:
    path = tmp_path / "nova.sqlite"
    with closing(sqlite3.connect(path)) as database, database:
        for name, rows in tables.items():
            columns = ", ".join(f'"{column}"' for column in rows[0])
            database.execute(f'CREATE TABLE "{name}" ({columns})')
            places = ", ".join("?" * len(rows[0]))
            database.executemany(f'INSERT INTO "{name}" VALUES ({places})', [tuple(row.values()) for row in rows])
    assert read(path, TABLES) == tables
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(DumpError, match="cannot be read"):
        read(path, TABLES)


def test_one_of_several_databases(tables: Tables, tmp_path: Path) -> None:
    create = "CREATE TABLE `networks` (\n  `id` int(11) NOT NULL,\n  PRIMARY KEY (`id`)\n) ENGINE=InnoDB;\n"
    text = f"USE `nova_cell0`;\n{create}USE `nova`;\n{DUMP.read_text()}"
    path = variant(tmp_path, text)
    with pytest.raises(DumpError, match="several databases, say which: nova, nova_cell0"):
        read(path, TABLES)
    assert read(path, TABLES, "nova") == tables
    assert read(path, TABLES, "nova_cell0") == {"networks": []}
    with pytest.raises(DumpError, match="no database other"):
        read(path, TABLES, "other")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no CREATE TABLE"),
        ("\x7fELF and so on", "no CREATE TABLE"),
        ("INSERT INTO `networks` VALUES (1);\n", "line 1: rows of networks, whose columns"),
        ("INSERT INTO `networks` (`id`) VALUES (1,2);\n", "line 1: a row of 2 values for 1 columns"),
        ("INSERT INTO `networks` (`id`) VALUES (1,2,3);\n", "line 1: a row of 2 or more values for 1 columns"),
        ("INSERT INTO `networks` (`id`) VALUES ('a'b');\n", "line 1: cannot be read at \"'a'b"),
        ("INSERT INTO `networks` (`id`) VALUES ('a''b\\');\n", "line 1: cannot be read at"),
        (f"INSERT INTO `networks` ({',' * 128}) VALUES (1);\n", "line 1: a table of more than 128 columns"),
        ("CREATE TABLE `networks` (\n" + "  `a` int,\n" * 129, "line 130: a table of more than 128 columns"),
        ("INSERT INTO `networks` (`id`) VALUES (now());\n", r"line 1: cannot be read at 'now\(\)\);'"),
        ("INSERT INTO `networks` (`id`) VALUES (1)", "cut off"),
        ("INSERT INTO `networks` (`id`) VALUES ('a\n", "line 1: cannot be read"),
    ],
)
def test_what_is_no_dump(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(DumpError, match=complaint):
        read(variant(tmp_path, text), TABLES)


@pytest.mark.parametrize(
    "value", ["1" * 5000, "1e+e", "0xabc", "1" * 100_000 + "x", "-" + "1" * 100_000 + "." * 100_000 + "x"]
)
def test_a_hostile_value_is_refused_at_once(tmp_path: Path, value: str) -> None:
    began = time.monotonic()
    with pytest.raises(DumpError, match="line 1: "):
        read(variant(tmp_path, f"INSERT INTO `networks` (`id`) VALUES ({value});\n"), TABLES)
    assert time.monotonic() - began < 5


def test_a_damaged_block_within_what_is_compressed(tmp_path: Path) -> None:
    damaged = bytearray(gzip.compress(DUMP.read_bytes()))
    damaged[12:40] = b"\xff" * 28
    path = tmp_path / "nova.sql.gz"
    path.write_bytes(damaged)
    with pytest.raises(DumpError, match="damaged"):
        read(path, TABLES)


def bomb(path: Path, rows: int) -> Path:
    """Valid rows, of which gzip makes nearly nothing."""
    with gzip.open(path, "wb") as file:
        file.write(b"INSERT INTO `networks` (`id`, `label`) VALUES\n")
        for _ in range(rows // 1000):
            file.write(b"(1,'" + b"x" * 1000 + b"'),\n" * 1 + b"(1,NULL),\n" * 999)
        file.write(b"(1,NULL);\n")
    return path


def test_rows_that_nothing_has_room_for_are_refused(tmp_path: Path) -> None:
    path = bomb(tmp_path / "nova.sql.gz", 40_000)
    assert path.stat().st_size < 40_000
    with pytest.raises(DumpError, match=r"line \d+: its rows take more than 4 MiB of memory; --max-memory"):
        read(path, TABLES, room=4 << 20)
    assert len(read(path, TABLES, room=64 << 20)["networks"]) == 40_001


def test_what_memory_is_counted_is_about_what_is_taken(tmp_path: Path) -> None:
    path = bomb(tmp_path / "nova.sql.gz", 40_000)
    tracemalloc.start()
    try:
        with pytest.raises(DumpError, match="memory"):
            read(path, TABLES, room=4 << 20)
        assert 2 << 20 < tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_rows_that_nobody_wants_take_no_room(tmp_path: Path) -> None:
    path = bomb(tmp_path / "nova.sql.gz", 40_000)
    assert read(path, TABLES, keep=lambda row: False, room=1) == {"networks": []}
    with closing(sqlite3.connect(tmp_path / "nova.sqlite")) as database, database:
        database.execute("CREATE TABLE networks (id, large AS (zeroblob(1000000)))")
        database.executemany("INSERT INTO networks VALUES (?)", [(number,) for number in range(10)])
    with pytest.raises(DumpError, match="its rows take more than 4 MiB"):
        read(tmp_path / "nova.sqlite", TABLES, room=4 << 20)


def test_no_line_is_longer_than_mysqldump_writes_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dump, "MOST_OF_LINE", 1 << 20)
    path = tmp_path / "nova.sql.gz"
    with gzip.open(path, "wb") as file:
        for _ in range(8):
            file.write(b"-" * (1 << 20))
    with pytest.raises(DumpError, match="line 1: it is longer than 1 MiB"):
        read(path, TABLES)


def test_a_value_takes_no_more_memory_than_its_length(tmp_path: Path) -> None:
    """As a regex would that keeps a state for each escape."""
    path = tmp_path / "nova.sql.gz"
    three = r"""''\n\'"""
    for times, complaint in ((50_000, None), (200_000, "line 1: a value is longer than 1 MiB")):
        text = f"INSERT INTO `networks` (`label`) VALUES ('{three * times}');\n"
        path.write_bytes(gzip.compress(text.encode()))
        tracemalloc.start()
        try:
            if complaint is None:
                assert len(str(read(path, TABLES)["networks"][0]["label"])) == 3 * times
            else:
                with pytest.raises(DumpError, match=complaint):
                    read(path, TABLES)
            assert tracemalloc.get_traced_memory()[1] < 16 << 20
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [("large AS (zeroblob(2000000))", "a value or a row is longer than 1 MiB"),
     (", ".join(f"c{number} AS (zeroblob(1000000))" for number in range(200)), "too many columns on networks")],
)  # fmt: skip
def test_generated_columns_are_not_longer_than_what_is_stored(tmp_path: Path, columns: str, complaint: str) -> None:
    path = tmp_path / "nova.sqlite"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(f"CREATE TABLE networks (id, {columns})")
        database.execute("INSERT INTO networks VALUES (1)")
    with pytest.raises(DumpError, match=complaint):
        read(path, TABLES)
