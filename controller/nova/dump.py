"""Nova's database as rows: from what mysqldump has written, compressed or not, or from a copy in SQLite.

Only the tables that are asked for are taken apart. A dump of any size is read line by line: mysqldump writes all rows
of an INSERT on one line, or each on its own, and never the end of a line within a string.
"""

from __future__ import annotations

import gzip
import re
import sqlite3
import sys
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, cast

Value = str | int | float | None
Row = Mapping[str, Value]
Tables = dict[str, list[Row]]

_SQLITE: Final = b"SQLite format 3\0"
_GZIP: Final = b"\x1f\x8b"
_USE = re.compile(r"USE [`\"](.+?)[`\"];")
_CREATE = re.compile(r"CREATE TABLE (?:IF NOT EXISTS )?[`\"](\w+)[`\"] \(")
_COLUMN = re.compile(r"\s+[`\"](\w+)[`\"] ")
_INSERT = re.compile(r"(?:INSERT|REPLACE) (?:IGNORE )?INTO [`\"](\w+)[`\"] (?:\(([^)]*)\) )?VALUES\s*")
_VALUE = re.compile(
    r"""\s*(?:
        (?P<null>NULL)
      | (?:_binary\s+)? (?P<quote>')
      | 0x(?P<hex>[0-9A-Fa-f]+)
      | (?P<number>-?[0-9]++(?P<fraction>(?:[.eE][0-9.eE+-]*+)?))
    )""",
    re.VERBOSE,
)
_IN_TEXT = re.compile(r"\\.|''?", re.DOTALL)
_END = re.compile(r"\s*([,)])")
_ESCAPE = re.compile(r"\\(.)|''", re.DOTALL)
_ESCAPED: Final[Mapping[str, str]] = {"0": "\0", "b": "\b", "n": "\n", "r": "\r", "t": "\t", "Z": "\x1a"}
"""MySQL's string literals; any other character stands for itself."""

MOST_OF_LINE: Final = 64 << 20
"""Bytes: mysqldump begins a new INSERT after 16 MiB at most (net_buffer_length)."""

MOST_OF_VALUE: Final = 1 << 20
"""Characters as they are written: Nova's longest, user_data, has 65,535."""

MOST_COLUMNS: Final = 128
"""Nova's widest table, instances, has some sixty."""

ROOM: Final = 2 << 30
"""Bytes of memory for all rows that are kept: some two million addresses take it."""


class DumpError(Exception):
    """The file is not what it should be; the text says how, for people."""


def read(
    path: Path,
    wanted: Collection[str],
    database: str | None = None,
    *,
    keep: Callable[[Row], bool] = lambda row: True,
    room: int = ROOM,
) -> Tables:
    """The rows of each wanted table; none of those that the file does not have. `database`: of a dump of several.
    `keep` says which rows are wanted, which may take `room` bytes of memory: a small file can unpack to any number.

    Raises DumpError and OSError.
    """
    kept = _Kept(keep, room)
    with path.open("rb") as file:
        head = file.read(len(_SQLITE))
    if head == _SQLITE:
        return _read_sqlite(path, wanted, kept)
    with gzip.open(path, "rb") if head.startswith(_GZIP) else path.open("rb") as binary:
        try:
            found = _read_dump(cast("BinaryIO", binary), wanted, kept)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DumpError(f"the file is damaged: {error}") from error
    if not found:
        raise DumpError("there is no CREATE TABLE of Nova's in it: neither a dump by mysqldump nor an SQLite database")
    if database is None and len(found) > 1:
        raise DumpError(f"it holds several databases, say which: {', '.join(sorted(found))}")
    if database is not None and database not in found and len(found) > 1:
        raise DumpError(f"it holds no database {database}, but {', '.join(sorted(found))}")
    return found[database] if database in found else next(iter(found.values()))


class _Kept:
    """Which rows are kept, and how much room is left for more."""

    def __init__(self, keep: Callable[[Row], bool], room: int) -> None:
        self._keep = keep
        self._room = room
        self._left = room

    def add(self, rows: list[Row], row: Row) -> None:
        """Raises DumpError."""
        if not self._keep(row):
            return
        self._left -= sys.getsizeof(row) + sum(map(sys.getsizeof, row.values()))
        if self._left < 0:
            raise DumpError(f"its rows take more than {self._room >> 20} MiB of memory; --max-memory allows more")
        rows.append(row)


def _read_sqlite(path: Path, wanted: Collection[str], kept: _Kept) -> Tables:
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            # generated columns can make a row of any size of nothing
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_OF_VALUE)
            connection.setlimit(sqlite3.SQLITE_LIMIT_COLUMN, MOST_COLUMNS)
            connection.row_factory = sqlite3.Row
            there = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            found: Tables = {table: [] for table in wanted if table in there}
            for table, rows in found.items():
                for row in connection.execute(f'SELECT * FROM "{table}"'):
                    kept.add(rows, dict(row))
            return found
    except sqlite3.DataError as error:
        raise DumpError(
            f"a value or a row is longer than {MOST_OF_VALUE >> 20} MiB, and Nova has none that is"
        ) from error
    except sqlite3.DatabaseError as error:
        raise DumpError(f"the SQLite database cannot be read: {error}") from error


def _read_dump(binary: BinaryIO, wanted: Collection[str], kept: _Kept) -> dict[str, Tables]:
    """By database; those without any of the tables are left out."""
    reader = _Reader(wanted, kept)
    for number, raw in enumerate(_lines(binary), 1):
        try:
            if len(raw) > MOST_OF_LINE:  # a few bytes of gzip can be one of any length
                raise DumpError(f"it is longer than {MOST_OF_LINE >> 20} MiB, and mysqldump writes no such line")
            reader.line(raw.decode("utf-8", "replace"))
        except DumpError as error:
            raise DumpError(f"line {number}: {error}") from error
    if reader.into is not None:
        raise DumpError("it is cut off")
    return reader.found


def _lines(binary: BinaryIO) -> Iterator[bytes]:
    """Of one that is too long only the beginning, and a bit more than there may be."""
    while line := binary.readline(MOST_OF_LINE + 1):
        yield line


@dataclass(frozen=True, slots=True)
class _Into:
    columns: Sequence[str]
    rows: list[Row]


class _Reader:
    """Where we are in a dump. `into`: the INSERT whose rows go on; its columns are empty for one that nobody wants."""

    def __init__(self, wanted: Collection[str], kept: _Kept) -> None:
        self._kept = kept
        self.found: dict[str, Tables] = {}
        self.into: _Into | None = None
        self._wanted = wanted
        self._database = ""
        self._columns: dict[tuple[str, str], list[str]] = {}
        self._table: str | None = None

    def line(self, line: str) -> None:
        """Raises DumpError."""
        if self.into is not None:
            self._values(line, 0)
        elif self._table is not None and (column := _COLUMN.match(line)):
            columns = self._columns[self._database, self._table]
            columns.append(column[1])
            _check_width(columns)
        elif used := _USE.match(line):
            self._database = used[1]
        elif created := _CREATE.match(line):
            self._create(created[1])
        elif into := _INSERT.match(line):
            self._insert(into[1], into[2])
            self._values(line, into.end())

    def _create(self, table: str) -> None:
        self._table = None
        if table in self._wanted:
            self._table = table
            self._columns[self._database, table] = []
            self._rows(table)

    def _insert(self, table: str, columns: str | None) -> None:
        self._table = None
        if table not in self._wanted:
            self.into = _Into((), [])
            return
        names = [name.strip(' `"') for name in columns.split(",", MOST_COLUMNS)] if columns else None
        names = names or self._columns.get((self._database, table))
        if not names:
            raise DumpError(f"rows of {table}, whose columns are not known before")
        _check_width(names)
        self.into = _Into(names, self._rows(table))

    def _rows(self, table: str) -> list[Row]:
        return self.found.setdefault(self._database, {}).setdefault(table, [])

    def _values(self, line: str, at: int) -> None:
        """The rows of a line, from `at` on."""
        into, line = self.into, line.rstrip("\r\n")
        assert into is not None
        if line.endswith(";"):
            self.into = None
        if not into.columns:
            return
        while line.startswith("(", at):
            at += 1
            values: list[Value] = []
            end = ","
            while end == "," and len(values) <= len(into.columns):
                value, after = _value(line, at)
                found = _END.match(line, after)
                if found is None:
                    raise _unreadable(line, at)
                values.append(value)
                at, end = found.end(), found[1]
            if len(values) != len(into.columns):
                more = " or more" if end == "," else ""
                raise DumpError(f"a row of {len(values)}{more} values for {len(into.columns)} columns")
            self._kept.add(into.rows, dict(zip(into.columns, values, strict=True)))
            at += line.startswith(",", at)
        if line[at:] not in ("", ";"):
            raise _unreadable(line, at)


def _check_width(columns: Sequence[str]) -> None:
    if len(columns) > MOST_COLUMNS:
        raise DumpError(f"a table of more than {MOST_COLUMNS} columns, and Nova has none that is so wide")


def _unreadable(line: str, at: int) -> DumpError:
    return DumpError(f"cannot be read at {line[at : at + 30]!r}")


def _value(line: str, at: int) -> tuple[Value, int]:
    """What is at `at`, and where it ends. Raises DumpError."""
    found = _VALUE.match(line, at)
    if found is None:
        raise _unreadable(line, at)
    if found["quote"]:
        end = _end_of_text(line, found.end())
        return _ESCAPE.sub(_unescaped, line[found.end() : end]), end + 1
    if found["null"]:
        return None, found.end()
    try:
        if found["hex"]:
            return bytes.fromhex(found["hex"]).decode("utf-8", "replace"), found.end()
        return float(found["number"]) if found["fraction"] else int(found["number"]), found.end()
    except ValueError:  # an odd number of digits, or too many for a number
        raise DumpError(f"no value: {found[0].strip()[:30]!r}") from None


def _end_of_text(line: str, at: int) -> int:
    """Where the quote is that ends it. A regex for all of it would keep a state for each escape. Raises DumpError."""
    for found in _IN_TEXT.finditer(line, at):
        if found.start() - at > MOST_OF_VALUE:
            raise DumpError(f"a value is longer than {MOST_OF_VALUE >> 20} MiB, and Nova has none that is")
        if found[0] == "'":
            return found.start()
    raise _unreadable(line, at - 1)


def _unescaped(escape: re.Match[str]) -> str:
    return "'" if escape[1] is None else _ESCAPED.get(escape[1], escape[1])
