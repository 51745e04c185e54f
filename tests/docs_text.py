"""What the documentation tells the reader to type: indented blocks of Markdown, by heading."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))


def section(page: Path, heading: str) -> str:
    """The text under a heading, up to the next one of its level or above. Raises KeyError."""
    lines = page.read_text().splitlines()
    found = [index for index, line in enumerate(lines) if line.lstrip("#") == f" {heading}" and line.startswith("#")]
    if not found:
        raise KeyError(f"{page.name} has no heading {heading!r}")
    level = len(lines[found[0]]) - len(lines[found[0]].lstrip("#"))
    rest = lines[found[0] + 1 :]
    end = next((index for index, line in enumerate(rest) if re.match(rf"#{{1,{level}}} ", line)), len(rest))
    return "\n".join(rest[:end])


def blocks(text: str) -> Iterator[list[str]]:
    """The indented blocks, without their indentation."""
    for found in re.finditer(r"(?:^|\n\n)((?: {4}.*(?:\n|$)|\n(?= {4}))+)", text):
        yield [line[4:] for line in found[1].splitlines() if line.strip()]


def commands(text: str) -> list[str]:
    """All lines of the blocks that a shell would be given, in order. Those of configuration files are none."""
    return [line for block in blocks(text) for line in block if not _CONFIGURATION.match(line)]


def files(text: str) -> dict[str, str]:
    """The configuration files that a text shows, each after a paragraph that names it last."""
    parts = re.split(r"\n\n(?= {4})", text)
    found = {}
    for before, block in zip(parts, parts[1:], strict=False):
        lines = [line[4:] for line in block.split("\n\n")[0].splitlines()]
        named = re.findall(r"`(/etc/[^`]+)`", before.split("\n\n")[-1])
        if named and all(_CONFIGURATION.match(line) for line in lines):
            found[named[-1]] = "\n".join(lines) + "\n"
    return found


_CONFIGURATION = re.compile(r"\[\w+\]$|\w+ = |\w+: ")


def spans(text: str) -> list[str]:
    """What stands between backticks in running text."""
    prose = re.sub(r"(?m)^(?: {4}).*$", "", text)
    return [" ".join(found.split()) for found in re.findall(r"`([^`]+)`", prose)]
