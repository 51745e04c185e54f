"""Backups: all rows of a database in one file, the same for SQLite and PostgreSQL.

The file is gzip (RFC 1952) of JSON lines (RFC 8259). First a header, then for each table a line with its name and
columns followed by one line for each row, then a line that says how many rows there are, so that a cut file is known.
Tables are as their schema revision made them: what a later program restores is upgraded afterwards.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import tempfile
import time
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from alembic import command
from sqlalchemy import JSON, Connection, LargeBinary, MetaData, Table, bindparam, case, select, update
from sqlalchemy.exc import StatementError

from controller.store import failures, migrations, sqlite
from controller.store.engine import chunks, make_engine
from controller.store.journal import KEYS
from controller.store.schema import counters, nodes
from controller.store.specs import SchemaError
from flows.pipeline import PORT_ZONES

FORMAT: Final = 1
SKIPPED: Final = 1000
_END_OF_TIME: Final = 253402300800.0  # the year 10000
_VERSIONS: Final = "alembic_version"
_REVISION: Final = "revision"
_MODE: Final = 0o640
"""Of a restored file: it holds what the backup does."""


class BackupError(Exception):
    """It cannot be written, read or restored, and nothing was changed."""


@dataclass(frozen=True)
class Content:
    """Of a backup: its schema revision, the journal's revision, when it was made (seconds since the epoch), and how
    many rows each table has.
    """

    schema: str
    revision: int
    made_at: float
    rows: Mapping[str, int]


def write(url: str, file: Path, *, force: bool = False) -> Content:
    """Write all that is in a database, as it is at one moment, while others go on working on it. The file is whole or
    not there. Raises BackupError when it exists, unless `force`; SchemaError for a database without our tables.
    """
    if file.exists() and not force:
        raise BackupError(f"{file} exists already")
    if sqlite.is_sqlite(url) and _is_of(sqlite.file_of(url), file):
        raise BackupError(f"{file} is the database itself")
    with _whole_file(file) as target, gzip.open(target, "wt", encoding="utf-8", compresslevel=6) as lines:
        engine = make_engine(url, long=True)
        try:
            with engine.connect() as connection, connection.begin():
                return _dump(connection, lines)
        finally:
            engine.dispose()


def read(file: Path) -> Content:
    """What is in a backup. It is read to its end, and so known to be whole. Raises BackupError."""
    header, counted = None, {}
    with _lines(file) as lines:
        header = _header(next(lines))
        for table, rows in _tables(lines):
            counted[table["table"]] = sum(1 for _ in rows)
    return Content(header["schema"], header[_REVISION], header["made_at"], counted)


def restore(url: str, file: Path, *, force: bool = False) -> Content:
    """Make the database what the backup says, all or nothing, and upgrade it to this program's schema revision. Nobody
    may work on it meanwhile (`occupation.alone`). Raises BackupError for a file that is not whole, and for a database
    that is in use for something, unless `force`.
    """
    content = read(file)
    if sqlite.is_sqlite(url):
        _restore_file(sqlite.file_of(url), file, force=force)
    else:
        _restore_into(url, file, force=force)
    return content


def skip_numbers(url: str) -> None:
    """To be called once a backup is restored under switches that run. Their conntrack goes by numbers: zones,
    keys of ports. Those that were given since the backup was made must not be the next to be given to others.
    """
    engine = make_engine(url, writing=True, long=True)
    try:
        with engine.begin() as connection:
            keys = counters.c.name.in_(KEYS)
            connection.execute(update(counters).where(keys).values(value=counters.c.value + SKIPPED))
            following = nodes.c.next_zone + SKIPPED
            wrapped = case((following > PORT_ZONES[-1], following - len(PORT_ZONES)), else_=following)
            connection.execute(update(nodes).values(next_zone=wrapped))
    finally:
        engine.dispose()


def _dump(connection: Connection, out: IO[str]) -> Content:
    schema = migrations.revision_of(connection)
    if schema is None:
        raise SchemaError("the database has no tables of ours")
    meta = _reflected(connection)
    revision = _revision(connection, meta)
    made_at = time.time()
    _line(out, {"trunkline_backup": FORMAT, "schema": schema, _REVISION: revision, "made_at": made_at})
    counted: dict[str, int] = {}
    for table in meta.sorted_tables:
        _line(out, {"table": table.name, "columns": [column.name for column in table.columns]})
        encode = [_encoder(column.type) for column in table.columns]
        rows = connection.execution_options(yield_per=1000).execute(select(table).order_by(*table.primary_key.columns))
        for row in rows:
            _line(out, [code(value) for code, value in zip(encode, row, strict=True)])
            counted[table.name] = counted.get(table.name, 0) + 1
    _line(out, {"end": sum(counted.values())})
    return Content(schema, revision, made_at, {table.name: counted.get(table.name, 0) for table in meta.sorted_tables})


def _restore_file(path: Path, file: Path, *, force: bool) -> None:
    """The new database is made beside the old one, and takes its place when it is whole."""
    if path.exists():
        engine = make_engine(f"sqlite:///{path}")
        with engine.connect() as connection:
            _refuse(connection, force=force)
        engine.dispose()
    new = path.with_name(f"{path.name}.restoring")
    _remove(new)
    engine = make_engine(f"sqlite:///{new}", writing=True, long=True)
    try:
        with engine.begin() as connection:
            _load(connection, file)
        with engine.connect() as connection:
            driver: Any = connection.connection.dbapi_connection
            connection.rollback()
            driver.execute("PRAGMA journal_mode=DELETE")  # all of it in one file
    except BaseException:
        engine.dispose()
        _remove(new)
        raise
    engine.dispose()
    new.chmod(_MODE)
    sqlite.leave_to_owner(new)
    _sync(new)
    _remove(path, "-wal", "-shm")
    os.replace(new, path)
    _sync(path.parent)


def _restore_into(url: str, file: Path, *, force: bool) -> None:
    engine = make_engine(url, writing=True, long=True)
    try:
        with engine.begin() as connection:
            _refuse(connection, force=force)
            _reflected(connection).drop_all(connection)
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS {_VERSIONS}")
            _load(connection, file)
    finally:
        engine.dispose()


def _load(connection: Connection, file: Path) -> None:
    """Into a database without tables."""
    with _lines(file) as lines:
        header = _header(next(lines))
        if not migrations.knows(header["schema"]):
            raise BackupError(f"{file} is of schema revision {header['schema']}, which only a later program knows")
        config = migrations.config(connection)
        command.upgrade(config, header["schema"])
        meta = _reflected(connection)
        for table in reversed(meta.sorted_tables):  # a new database has rows, too: counters, default rules
            connection.execute(table.delete())
        for told, rows in _tables(lines):
            try:
                _fill(connection, meta.tables[told["table"]], told["columns"], rows)
            except (LookupError, TypeError, ValueError, StatementError) as error:
                if failures.meaning(error) is not None:
                    raise  # not the backup's fault
                why = failures.reason(error)
                raise BackupError(f"{file}: what it says of the table {told['table']} cannot be: {why}") from error
    command.upgrade(config, "head")


def _fill(connection: Connection, table: Table, columns: Sequence[str], rows: Iterator[list[Any]]) -> None:
    decode = [_decoder(table.columns[name].type) for name in columns]
    values = [{name: code(value) for name, code, value in zip(columns, decode, row, strict=True)} for row in rows]
    # what refers to its own table may come before what it refers to
    own = [key.parent.name for key in table.foreign_keys if key.column.table is table]
    for part in chunks(values):
        connection.execute(table.insert(), [{**row, **dict.fromkeys(own)} for row in part])
    for name in own:
        (key,) = table.primary_key.columns
        referring = [{"its": row[key.name], "other": row[name]} for row in values if row[name] is not None]
        if referring:
            change = update(table).where(key == bindparam("its")).values({name: bindparam("other")})
            connection.execute(change, referring)


def _refuse(connection: Connection, *, force: bool) -> None:
    """Raises BackupError for a database whose content is not to be thrown away."""
    meta = _reflected(connection)
    if migrations.revision_of(connection) is None:
        if meta.tables:
            raise BackupError("the database has tables, but none of ours: it is somebody else's")
    elif not force and (revision := _revision(connection, meta)):
        raise BackupError(f"the database is not empty, but of journal revision {revision}")


def _revision(connection: Connection, meta: MetaData) -> int:
    counters = meta.tables["counters"].c
    return int(connection.execute(select(counters.value).where(counters.name == _REVISION)).scalar_one())


def _reflected(connection: Connection) -> MetaData:
    """The tables as they are there, which may be older than those of this program."""
    meta = MetaData()
    meta.reflect(connection)
    if _VERSIONS in meta.tables:
        meta.remove(meta.tables[_VERSIONS])
    for table in meta.tables.values():
        for column in table.columns:
            if column.nullable and isinstance(column.type, JSON):
                column.type = JSON(none_as_null=True)  # None is SQL's NULL there, and not JSON's
    return meta


# -- the file


def _line(out: IO[str], value: object) -> None:
    out.write(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")


def _lines(file: Path) -> closing[Generator[Any, None, None]]:
    """The lines of a backup; taking one raises BackupError when it is not what was written."""
    return closing(_read_lines(file))


def _read_lines(file: Path) -> Generator[Any, None, None]:
    try:
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            yield from _values(lines)
    except (OSError, EOFError, ValueError, RecursionError, zlib.error) as error:
        raise BackupError(f"{file} is no whole backup: {error}") from error


def _values(lines: IO[str]) -> Iterator[Any]:
    """Raises ValueError when there are not as many as there were."""
    counted = 0
    for text in lines:
        value = json.loads(text)
        if isinstance(value, dict) and "end" in value:
            if value["end"] != counted or lines.readline():
                raise ValueError("the number of its rows is wrong")
            return
        counted += isinstance(value, list)
        yield value
    raise ValueError("its end is missing")


def _header(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict) or value.get("trunkline_backup") != FORMAT:
        raise BackupError("that is no whole backup of ours, or one of a later program's")
    made_at = value.get("made_at")
    known = isinstance(value.get("schema"), str) and isinstance(value.get(_REVISION), int)
    if not (known and isinstance(made_at, int | float) and 0 <= made_at < _END_OF_TIME):
        raise BackupError("that is no whole backup of ours: its first line lacks something")
    return value


def _tables(lines: Iterator[Any]) -> Iterator[tuple[Mapping[str, Any], Iterator[list[Any]]]]:
    """Each table's line with its rows, which must be taken before the next one."""
    ahead = next(lines, None)
    while ahead is not None:
        table, ahead = ahead, None
        if not (isinstance(table, dict) and isinstance(table.get("table"), str)):
            raise BackupError("that is no whole backup of ours: where a table should begin, none does")

        def rows() -> Iterator[list[Any]]:
            nonlocal ahead
            for value in lines:
                if isinstance(value, dict):
                    ahead = value
                    return
                yield value

        yield table, rows()


@contextmanager
def _whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Written beside and put in its place at the end; only root may read it, for it holds passwords."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as target:
            yield target
            target.flush()
            os.fsync(target.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    _sync(path.parent)


def _is_of(database: Path, file: Path) -> bool:
    """Also a link to it, and what SQLite and we keep beside it."""
    own = [database.with_name(database.name + suffix) for suffix in ("", "-wal", "-shm", "-journal", ".lock")]
    return file.exists() and any(one.exists() and file.samefile(one) for one in own)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path, *suffixes: str) -> None:
    for suffix in suffixes or ("", *sqlite.SUFFIXES):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


# -- values that JSON has no word for


def _encoder(column_type: Any) -> Callable[[Any], Any]:
    return _text_of_bytes if isinstance(column_type, LargeBinary) else _as_it_is


def _decoder(column_type: Any) -> Callable[[Any], Any]:
    return _bytes_of_text if isinstance(column_type, LargeBinary) else _as_it_is


def _as_it_is(value: Any) -> Any:
    return value


def _text_of_bytes(value: Any) -> Any:
    return None if value is None else base64.b64encode(bytes(value)).decode()


def _bytes_of_text(value: Any) -> Any:
    return None if value is None else base64.b64decode(value)
