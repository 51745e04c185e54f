"""What the documentation tells the reader to type: indented blocks of Markdown, by heading."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

PROGRAMS = (
    *("trunkline", "trunkline-controller", "trunkline-cni", "ovs-vsctl", "ovs-ofctl", "ovs-appctl"),
    *(
        "apt-get",
        "bash",
        "chgrp",
        "chmod",
        "cp",
        "curl",
        "$curl",
        "echo",
        "export",
        "install",
        "ip",
        "mkdir",
        "printf",
        "rm",
    ),
    *("runuser", "scp", "sudo", "systemctl", "tcpdump"),
    *("incus", "mysqldump", "podman", "qemu-system-x86_64", "qm", "virsh"),
)
"""With what a line begins that is for a shell; beside programs of this repository, and of laboratories."""

_VALUE = r"""(?:'[^']*'|"[^"]*"|[^\s'",]++)++"""
_COMMAND = re.compile(
    rf"(?:\w+={_VALUE}\s+)*(?:{'|'.join(map(re.escape, PROGRAMS))}|(?:etc|tests|/run/trunkline-lab)/\S+)(?=\s|$)"
)
_ASSIGNMENTS = re.compile(rf"\w+={_VALUE}(?:\s+\w+={_VALUE})*$")
_PROMPT = "$ "


@dataclass(frozen=True)
class Command:
    """A line for a shell: of which page, under which headings (the highest first), as it is written there, but for the
    prompt; what is continued is one line. `shown` is what the page shows as its output, None where it shows none.
    """

    page: str
    headings: tuple[str, ...]
    line: str
    shown: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Part:
    """What a test runs of the documentation: a page, all of it or what is under one of its headings; all commands
    there, or only those that begin in certain ways.
    """

    page: str
    heading: str = ""
    starting: str | tuple[str, ...] = ""

    @property
    def text(self) -> str:
        """Raises KeyError, where there is no such heading."""
        page = next(page for page in PAGES if page.name == self.page)
        return section(page, self.heading) if self.heading else page.read_text()

    def has(self, command: Command) -> bool:
        return (
            command.page == self.page
            and self.heading in ("", *command.headings)
            and command.line.startswith(self.starting)
        )


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
    """The indented blocks, without their indentation and empty lines. In a list they are indented by more. A prompt
    after an empty line begins another one.
    """
    for found in re.finditer(r"(?:^|\n\n)((?: {4}.*(?:\n|$)|\n(?= {4}))+)", text):
        for block in re.split(r"\n\n(?=\$ )", textwrap.dedent(found[1])):
            yield [line for line in block.splitlines() if line.strip()]


def is_for_shell(block: list[str]) -> bool:
    """Whether a block has commands; the others are files, flows, answers and drawings."""
    first = block[0].removeprefix(_PROMPT)
    return bool(_COMMAND.match(first)) or is_kept(first)


def is_kept(line: str) -> bool:
    """Whether it sets what the lines after it use: variables of the shell."""
    return line.startswith("export ") or bool(_ASSIGNMENTS.match(line))


def page_commands(page: Path) -> Iterator[Command]:
    """All commands of a page, in its order."""
    headings: list[str] = []
    for part in re.split(r"(?m)^(?=#+ )", page.read_text()):
        title, _, text = part.partition("\n") if part.startswith("#") else ("", "", part)
        if title:
            level = len(title) - len(title.lstrip("#"))
            headings[level - 1 :] = [title.lstrip("#").strip()]
        for block in blocks(text):
            if is_for_shell(block):
                yield from _of_block(page.name, tuple(headings), block)


def _of_block(page: str, headings: tuple[str, ...], block: list[str]) -> Iterator[Command]:
    lines = re.sub(r" \\\n\s*", " ", "\n".join(block)).split("\n")
    if not lines[0].startswith(_PROMPT):
        yield from (Command(page, headings, line) for line in lines if not line.startswith("#"))
        return
    prompts = [index for index, line in enumerate(lines) if line.startswith(_PROMPT)]
    for begin, end in zip(prompts, [*prompts[1:], len(lines)], strict=True):
        yield Command(page, headings, lines[begin].removeprefix(_PROMPT), tuple(lines[begin + 1 : end]))


def commands(text: str) -> list[str]:
    """The lines of a text's blocks that a shell would be given, in order."""
    return [each.line for block in blocks(text) if is_for_shell(block) for each in _of_block("", (), block)]


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
