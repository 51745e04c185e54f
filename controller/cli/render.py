"""All output of the commands: objects as a table, JSON or YAML."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import zip_longest
from typing import Any, TextIO
from unicodedata import combining, east_asian_width

Object = Mapping[str, Any]

GAP = "   "
"""Between two columns."""


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
    rows = [[cell(column.of(thing)) for column in columns] for thing in things]
    _write(_table([column.title for column in columns], rows), out)


def show_object(thing: Object, output: Format, out: TextIO | None = None) -> None:
    """One object; as a table one row per field."""
    if output is not Format.TABLE:
        show_data(thing, output, out)
        return
    _write(_table(["field", "value"], [[clean(name), cell(value)] for name, value in thing.items()]), out)


def show_data(data: object, output: Format, out: TextIO | None = None) -> None:
    """Anything made of dictionaries, lists and scalars, as JSON or YAML."""
    if output is Format.YAML:
        import yaml  # late: only some commands need it

        _write(yaml.safe_dump(data, sort_keys=False, default_flow_style=False), out)
    else:
        _write(json.dumps(data, indent=2) + "\n", out)


def show_text(text: str, out: TextIO | None = None) -> None:
    """A line for people."""
    _write(text + "\n", out)


def _write(text: str, out: TextIO | None) -> None:
    """Whole and at once: who waits for a change can already read what was written."""
    out = out or sys.stdout
    out.write(text)
    out.flush()


def cell(value: object) -> str:
    """A value as it stands in a table: lists one item a line, nothing for None."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case {"first": first, "last": last, **rest} if not rest:
            return clean(str(first) if first == last else f"{first}-{last}")
        case Mapping():
            nested = any(isinstance(item, (list, Mapping)) for item in value.values())
            items = ((clean(str(name)), cell(item).replace("\n", "; ")) for name, item in value.items())
            return ("\n" if nested else ", ").join(f"{name}={text}" for name, text in items if text)
        case list() | tuple():
            return "\n".join(cell(item) for item in value)
    return clean(str(value))


def clean(text: str) -> str:
    """The text without anything a terminal could take for a command: names may come from a hostile tenant."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest line. Lines are never broken: an id stays whole, to be copied and searched.

    Not rich: to load it costs more time than all else that a command does.
    """
    grid = [[text.split("\n") for text in row] for row in rows]
    widths = [max([_width(title), *(_width(line) for row in grid for line in row[column])])
              for column, title in enumerate(titles)]  # fmt: skip
    lines = [titles, ["-" * width for width in widths]]
    for row in grid:
        lines += zip_longest(*row, fillvalue="")
    padded = (
        GAP.join(text + " " * (width - _width(text)) for text, width in zip(line, widths, strict=True))
        for line in lines
    )
    return "".join(f"{line.rstrip()}\n" for line in padded)


def _width(text: str) -> int:
    """Columns on a terminal: some characters take two, some none (Unicode Standard Annex 11)."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(char) else 2 if east_asian_width(char) in "FW" else 1 for char in text)
