"""All output of the commands: objects as a table, JSON or YAML."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.table import Table

Object = Mapping[str, Any]

UNLIMITED_WIDTH = 10_000
"""Columns of a table that does not go to a terminal: nothing is wrapped, so that it can be searched line by line."""


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


@dataclass(frozen=True, slots=True)
class Column:
    """`value` is the name of a field, or a function of the object."""

    title: str
    value: str | Callable[[Object], object]

    def of(self, thing: Object) -> object:
        return thing.get(self.value) if isinstance(self.value, str) else self.value(thing)


def show_list(things: Sequence[Object], columns: Sequence[Column], output: Format, out: TextIO | None = None) -> None:
    """A list of objects: whole objects as JSON or YAML, the chosen columns as a table."""
    if output is not Format.TABLE:
        show_data(list(things), output, out)
        return
    table = _table([column.title for column in columns])
    for thing in things:
        table.add_row(*(cell(column.of(thing)) for column in columns))
    _print(table, out)


def show_object(thing: Object, output: Format, out: TextIO | None = None) -> None:
    """One object; as a table one row per field."""
    if output is not Format.TABLE:
        show_data(thing, output, out)
        return
    table = _table(["field", "value"])
    for name, value in thing.items():
        table.add_row(clean(name), cell(value))
    _print(table, out)


def show_data(data: object, output: Format, out: TextIO | None = None) -> None:
    """Anything made of dictionaries, lists and scalars, as JSON or YAML."""
    out = out or sys.stdout
    if output is Format.YAML:
        import yaml  # late: only some commands need it

        yaml.safe_dump(data, out, sort_keys=False, default_flow_style=False)
    else:
        out.write(json.dumps(data, indent=2) + "\n")
    out.flush()


def show_text(text: str, out: TextIO | None = None) -> None:
    """A line for people."""
    out = out or sys.stdout
    out.write(text + "\n")
    out.flush()


def cell(value: object) -> str:
    """A value as it stands in a table: lists one item a line, nothing for None."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case Mapping():
            return ", ".join(f"{clean(str(name))}={_inner(item)}" for name, item in value.items() if item is not None)
        case list() | tuple():
            return "\n".join(cell(item) for item in value)
    return clean(str(value))


def _inner(value: object) -> str:
    return cell(value).replace("\n", "; ")


def clean(text: str) -> str:
    """The text without anything a terminal could take for a command: names may come from a hostile tenant."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _table(titles: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold")
    return table


def _print(table: Table, out: TextIO | None) -> None:
    from rich.console import Console

    out = out or sys.stdout
    console = Console(file=out, markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console = Console(file=out, markup=False, highlight=False, emoji=False, width=UNLIMITED_WIDTH)
    console.print(table, markup=False)
    out.flush()
