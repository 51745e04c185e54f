"""Where the time of a run went: each directory of tests/, and the slowest files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath

SLOWEST = 10


def summary(parts: Iterable[tuple[str, float]]) -> Iterator[str]:
    """Yield the lines of a summary. `parts`: file below tests/ and seconds, any number for a file."""
    files: defaultdict[str, float] = defaultdict(float)
    directories: defaultdict[str, float] = defaultdict(float)
    for file, seconds in parts:
        files[file] += seconds
        directories[PurePath(file).parts[0]] += seconds
    yield from _lines(directories)
    yield f"the {SLOWEST} slowest files:"
    yield from _lines(files, SLOWEST)


def _lines(seconds: Mapping[str, float], most: int | None = None) -> Iterator[str]:
    for name in sorted(seconds, key=lambda name: -seconds[name])[:most]:
        yield f"{seconds[name]:8.1f} s  {name}"
