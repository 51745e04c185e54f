"""Run inside the machine, by the program's own Python: `older_schema.py DATABASE REVISION`.

The database becomes what it was in an older version: the rows of now, in the tables of then.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from alembic import command
from sqlalchemy import MetaData, create_engine, insert, select

from controller.store import migrations


def main(path: str, revision: str) -> None:
    now, then = create_engine(f"sqlite:///{path}"), create_engine(f"sqlite:///{path}.older")
    with then.begin() as connection:
        command.upgrade(migrations.config(connection), revision)
    tables, older = MetaData(), MetaData()
    tables.reflect(now)
    older.reflect(then)
    with now.connect() as source, then.begin() as target:
        for table in older.sorted_tables:
            if table.name == "alembic_version" or table.name not in tables.tables:
                continue
            known = tables.tables[table.name].columns
            columns = [known[column.name] for column in table.columns if column.name in known]
            rows = source.execute(select(*columns)).mappings().all()
            target.execute(table.delete())
            if rows:
                target.execute(insert(table), [dict(row) for row in rows])
    for suffix in ("", "-wal", "-shm"):
        Path(path + suffix).unlink(missing_ok=True)
    os.replace(f"{path}.older", path)


main(*sys.argv[1:])
