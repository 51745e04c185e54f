"""`trunkline-controller db ...`: what an operator does with the database while no controller runs, and backups."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from controller import config, logs
from controller.store import Store, backup, check_revision, failures, migrations, occupation, sqlite
from controller.store.backup import BackupError
from controller.store.engine import make_engine
from controller.store.occupation import InUse
from controller.store.specs import SchemaError

REFUSED = 1


def main(argv: Sequence[str]) -> int:
    """0 when it is done, 1 when it cannot be (one line on stderr says why); SystemExit 2 for a wrong command line."""
    arguments = _parser().parse_args(argv)
    files = [word for file in arguments.config_file for word in ("--config-file", file)]
    files += [word for directory in arguments.config_dir for word in ("--config-dir", directory)]
    settings = config.load(files)
    logs.configure("console", "WARNING")
    url = settings.database_url
    try:
        try:
            return _COMMANDS[arguments.command](url, arguments)
        finally:
            _leave_to_owner(url)
    except (SchemaError, BackupError, InUse, ValueError) as error:
        reason = str(error)
    except DBAPIError as error:
        reason = failures.reason(error)
    except OSError as error:
        reason = str(error)
    print(f"{config.PROGRAM} db {arguments.command}: {reason}", file=sys.stderr)
    return REFUSED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"{config.PROGRAM} db",
        description="Works on the database that the configuration names ([database] url).",
        allow_abbrev=False,
    )
    parser.add_argument("--config-file", action="append", default=[], metavar="FILE", help="as for the controller")
    parser.add_argument("--config-dir", action="append", default=[], metavar="DIR", help="as for the controller")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    newer = commands.add_parser("upgrade", help="make its tables, or bring them to this program's schema revision")
    newer.add_argument("--backup", type=Path, metavar="DIR", help="before anything is changed, write a backup in there")
    commands.add_parser("check", help="say what it is, and whether a controller can start on it")
    made = commands.add_parser("backup", help="write all that is in it into a file, while controllers run")
    made.add_argument("file", type=Path, metavar="FILE")
    made.add_argument("--force", action="store_true", help="also over a file that is there")
    back = commands.add_parser("restore", help="make it what a backup says, of either kind of database")
    back.add_argument("file", type=Path, metavar="FILE")
    back.add_argument("--force", action="store_true", help="also in place of what it holds")
    move = commands.add_parser("move", help="copy it into another, empty one: from SQLite to PostgreSQL, or back")
    move.add_argument("url", metavar="URL", help="SQLAlchemy URL of that one")
    return parser


def _upgrade(url: str, arguments: argparse.Namespace) -> int:
    before = _revision(url)
    if before == migrations.head():
        print(f"schema revision {before}: nothing to do")
        return 0
    with occupation.alone(url):
        if before is not None and migrations.knows(before) and arguments.backup is not None:
            made = time.strftime("%Y%m%dT%H%M%S", time.localtime())
            file = arguments.backup / f"before-{migrations.head()}-of-{before}-{made}.backup"
            print(f"{file}: {_described(backup.write(url, file))}")
        migrations.upgrade(url)
    print(f"schema revision {before or 'none'} -> {migrations.head()}")
    return 0


def _check(url: str, _arguments: argparse.Namespace) -> int:
    print(f"database: {_shown(url)}")
    found = _revision(url)
    print(f"schema revision: {found}; this program's: {migrations.head()}")
    if found is None and sqlite.is_sqlite(url) and not sqlite.file_of(url).exists():
        raise SchemaError("there is no such file: the controller makes it when it starts, or `db upgrade` does")
    check_revision(url)
    _check_integrity(url)
    store = Store(url)
    try:
        snapshot = store.load_snapshot()
    finally:
        store.close()
    print(f"journal revision: {snapshot.revision}")
    print(f"networks: {len(snapshot.networks)}, ports: {len(snapshot.ports)}, nodes: {len(snapshot.nodes)}")
    try:
        with occupation.alone(url):
            print("in use: no")
    except InUse:
        print("in use: yes")
    return 0


def _check_integrity(url: str) -> None:
    if not sqlite.is_sqlite(url):
        return
    engine = make_engine(url)
    with engine.connect() as connection:
        told = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check")]
        told += [
            f"{row[0]} refers to a missing {row[2]}" for row in connection.exec_driver_sql("PRAGMA foreign_key_check")
        ]
    engine.dispose()
    if told != ["ok"]:
        raise SchemaError(f"the file is damaged: {'; '.join(told[:5])}")


def _backup(url: str, arguments: argparse.Namespace) -> int:
    print(f"{arguments.file}: {_described(backup.write(url, arguments.file, force=arguments.force))}")
    return 0


def _restore(url: str, arguments: argparse.Namespace) -> int:
    with occupation.alone(url):
        content = backup.restore(url, arguments.file, force=arguments.force)
        if content.schema == migrations.head():  # of an older one the upgrade has made other rows
            _compare_rows(url, content.rows)
        backup.skip_numbers(url)
    print(f"restored: {_described(content)}")
    return 0


def _move(url: str, arguments: argparse.Namespace) -> int:
    target = config.database_url(arguments.url)
    if make_url(target) == make_url(url):
        raise ValueError("that is the same database")
    check_revision(url)
    with tempfile.TemporaryDirectory(prefix="trunkline-move-") as directory:
        file = Path(directory) / "backup"
        with occupation.alone(url), occupation.alone(target):
            backup.write(url, file)
            content = backup.restore(target, file)
            _compare_rows(target, content.rows)
            _compare_snapshots(url, target)
    _leave_to_owner(target)
    print(f"moved: {_described(content)}")
    print(f"Set [database] url = {_shown(target)} (with its password, if it has one) and start the controllers.")
    return 0


def _compare_rows(url: str, wanted: Mapping[str, int]) -> None:
    """Raises BackupError."""
    engine = make_engine(url)
    with engine.connect() as connection:
        for table, count in wanted.items():
            found = connection.exec_driver_sql(f'SELECT count(*) FROM "{table}"').scalar_one()
            if found != count:
                raise BackupError(f"the table {table} has {found} rows and not {count}")
    engine.dispose()


def _compare_snapshots(one: str, other: str) -> None:
    """Raises BackupError."""
    stores = [Store(url) for url in (one, other)]
    try:
        first, second = (store.load_snapshot() for store in stores)
        if first != second:
            raise BackupError("the copy is not what was copied: leave the controllers on the database that they have")
    finally:
        for store in stores:
            store.close()


def _revision(url: str) -> str | None:
    """The schema revision. A file that is not there stays so."""
    if sqlite.is_sqlite(url) and not sqlite.file_of(url).exists():
        return None
    engine = make_engine(url)
    try:
        with engine.connect() as connection:
            return migrations.revision_of(connection)
    finally:
        engine.dispose()


def _leave_to_owner(url: str) -> None:
    if sqlite.is_sqlite(url):
        sqlite.leave_to_owner(sqlite.file_of(url))


def _described(content: backup.Content) -> str:
    made = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(content.made_at))
    return f"{sum(content.rows.values())} rows of journal revision {content.revision}, as of {made}"


def _shown(url: str) -> str:
    return make_url(url).render_as_string(hide_password=True)


_COMMANDS: Mapping[str, Callable[[str, argparse.Namespace], int]] = {
    "upgrade": _upgrade,
    "check": _check,
    "backup": _backup,
    "restore": _restore,
    "move": _move,
}
