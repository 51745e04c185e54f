"""The command starts without the parts of the controller that are slow to load."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from controller.cli.main import app, asked, narrow

SLOW = ("ryu", "eventlet", "sqlalchemy", "rich", "pydantic", "yaml", "oslo_config", "cryptography", "agent")


def test_nothing_slow_is_loaded() -> None:
    program = f"import sys, controller.cli.main; print([name for name in {SLOW!r} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_completion_works() -> None:
    program = "from controller.cli.main import main; main()"
    environment = {"_TRUNKLINE_COMPLETE": "complete_bash", "COMP_WORDS": "trunkline network ", "COMP_CWORD": "2"}
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False
    )
    assert set(answer.stdout.split()) == {"create", "list", "show", "set", "delete", "associate", "disassociate"}


# what they print has a form of its own: that which --format chooses, or pcap
OF_OWN_FORM = {"address export", "capture", "port network-data"}


def commands(command: Any, *path: str) -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield " ".join(path), command
    for name, each in sorted((inner or {}).items()):
        yield from commands(each, *path, name)


def test_every_command_prints_tables_json_and_yaml() -> None:
    known = dict(commands(typer.main.get_command(app)))
    without = {path for path, command in known.items() if not any("-o" in each.opts for each in command.params)}
    assert without == OF_OWN_FORM and len(known) > 90


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["network", "list"], "network"),
        (["--url", "http://a", "--token=x", "port", "--help"], "port"),
        (["--ca"], None),
        (["--help"], None),
        (["--unknown", "network"], None),
        ([], None),
    ],
)
def test_what_a_command_line_asks_for(words: list[str], name: str | None) -> None:
    assert asked(words) == name


def test_only_what_is_asked_for_is_prepared() -> None:
    def left(*words: str) -> int:
        program = typer.Typer()
        program.registered_groups = list(app.registered_groups)
        program.registered_commands = list(app.registered_commands)
        narrow(program, words)
        return len(program.registered_groups)

    everything = len(app.registered_groups)
    assert left("network", "list") == 1 and left("status") == 0
    assert left("plan", "network", "list") == left("--help") == left("netwrk", "list") == left() == everything


def test_usage_says_once_what_is_optional_and_what_is_repeated() -> None:
    """Typer writes brackets and dots around the names of arguments: the names have none of their own."""
    named = [
        (name, parameter.metavar)
        for name, command in commands(typer.main.get_command(app))
        for parameter in command.params
        if parameter.param_type_name == "argument"
    ]
    assert len(named) > 50
    assert not [both for both in named if set(both[1] or "") & set("[]{}.")]
