"""What README.md and docs/ name is there: commands with their options, files, pages and their headings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from controller.cli.main import app
from tests.docs_text import PAGES, ROOT, blocks, spans

PROGRAM = re.compile(r"(?:\S*/)?trunkline$")
END = re.compile(r"\s(?:\||>|<|&&|\\$|&$).*")
LEFT_OUT = re.compile(r"\[[^\]]*\]|(?<!\S)\.\.\.(?!\S)|…")
"""What the reader may leave out, or add."""


def documented() -> Iterator[tuple[str, bool]]:
    """Each command with the operator's program, as written; and whether it is whole, as those of blocks are."""
    for page in PAGES:
        text = page.read_text()
        for block in blocks(text):
            for line in block:
                for part in re.split(r" && | \|\| |; ", line.removeprefix("$ ")):
                    if PROGRAM.match(part.split(" ")[0]):
                        yield pytest.param(part, True, id=f"{page.name}: {part[:60]}")
        for span in spans(text):
            if PROGRAM.match(span.split(" ")[0]) and " " in span:
                yield pytest.param(span, False, id=f"{page.name}: `{span[:60]}`")


def words(line: str) -> list[str]:
    return shlex.split(LEFT_OUT.sub("", END.sub("", line)), comments=True)[1:]


def parse(command: Any, name: str, arguments: list[str], parent: Any = None) -> None:
    """As the program does, but nothing is done. Raises typer.TyperException for what is no usage."""
    context = command.make_context(name, list(arguments), parent=parent)
    if vars(command).get("commands"):
        name, found, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        parse(found, name, rest, context)


@pytest.fixture(scope="module")
def root() -> Any:
    """The whole command; making it takes a tenth of a second."""
    return typer.main.get_command(app)


@pytest.mark.parametrize(("line", "whole"), list(documented()))
def test_commands_are_understood(root: Any, line: str, whole: bool) -> None:
    given = words(line)
    if whole:
        try:
            parse(root, "trunkline", given)
        except (typer.TyperException, typer.Exit) as error:
            pytest.fail(f"{line}: {error or 'no command'}")
        return
    command = root
    options = {"--help", *(name for each in root.params for name in (*each.opts, *each.secondary_opts))}
    for word in given:
        commands = vars(command).get("commands")
        if word.startswith("--"):
            assert word.partition("=")[0] in options, line
        elif commands and not word.startswith("-") and re.fullmatch("[a-z-]+", word):
            assert word in commands, line
            command = commands[word]
            options |= {name for each in command.params for name in (*each.opts, *each.secondary_opts)}


def test_commands_are_found() -> None:
    found = [(parameter.values[0], parameter.values[1]) for parameter in documented()]
    assert sum(whole for _, whole in found) > 60 and sum(not whole for _, whole in found) > 30


FETCHED = {line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines()}
"""What is there only after etc/bootstrap has fetched it."""

NAMED = re.compile(r"(?:etc|tests|docs|controller|flows|agent)/[A-Za-z0-9_./-]+")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_of_this_repository_are_there(page: Path) -> None:
    text = page.read_text()
    named = {span.split("::")[0].rstrip("./") for span in spans(text)}
    named |= {line.split(" ")[0] for block in blocks(text) for line in block}
    missing = [name for name in named - FETCHED if NAMED.fullmatch(name) and not (ROOT / name).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


HEADING = re.compile(r'\[(\w[\w-]*\.md)\]\(\1\),? "([^"]+)"')


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_headings_that_are_named_are_there(page: Path) -> None:
    missing = [
        (target, heading)
        for target, heading in HEADING.findall(page.read_text())
        if not re.search(rf"^#+ {re.escape(heading)}", (ROOT / "docs" / target).read_text(), re.M)
    ]
    assert missing == []
