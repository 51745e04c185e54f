"""The command starts without the parts of the controller that are slow to load."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
import typer.core
from typer.testing import CliRunner

from controller.cli import coercion
from controller.cli.main import app, asked, narrow
from controller.cli.render import Format

SLOW = ("ryu", "eventlet", "sqlalchemy", "rich", "pydantic", "yaml", "oslo_config", "cryptography", "agent")


def test_nothing_slow_is_loaded() -> None:
    program = f"import sys, controller.cli.main; print([name for name in {SLOW!r} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_nor_is_it_when_a_command_runs() -> None:
    program = f"""if True:
        import sys
        from controller.cli.main import main
        sys.argv = "trunkline --url http://127.0.0.1:1 --token x security-group create web -o json --stateless".split()
        try:
            main()
        finally:
            print([name for name in {SLOW!r} if name in sys.modules])
    """
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout.strip()) == (3, "[]"), answer.stderr


@pytest.fixture
def sparing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typer.core, "build_runtime_param", typer.core.build_runtime_param)
    coercion.install()


@pytest.mark.usefixtures("sparing")
@pytest.mark.parametrize(
    ("words", "seen"),
    [
        ([], ["json", [], None, 5, None]),
        (["-o", "yaml", "--name", "a", "--name", "", "--text", "7"], ["yaml", ["a", ""], "7", 5, None]),
        (["--limit", "007", "--file", "x/../y"], ["json", [], None, 7, "x/../y"]),
    ],
)
def test_values_become_what_they_are_to_be(words: list[str], seen: list[Any]) -> None:
    done = CliRunner().invoke(program_of(), words)
    assert (done.exit_code, json.loads(done.stdout)) == (0, seen), done.stderr


@pytest.mark.usefixtures("sparing")
@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["-o", "xml"], "Invalid value for '--output' / '-o'"),
        (["--limit", "0"], "Invalid value for '--limit'"),
        (["--limit", "x"], "Invalid value for '--limit'"),
    ],
)
def test_what_is_wrong_is_refused(words: list[str], complaint: str) -> None:
    done = CliRunner().invoke(program_of(), words)
    assert (done.exit_code, complaint in done.stderr) == (2, True), done.stderr


def program_of() -> typer.Typer:
    program = typer.Typer(rich_markup_mode=None)

    @program.command()
    def command(
        output: Annotated[Format, typer.Option("--output", "-o")] = Format.JSON,
        name: Annotated[list[str] | None, typer.Option("--name")] = None,
        text: Annotated[str | None, typer.Option("--text")] = None,
        limit: Annotated[int, typer.Option("--limit", min=1)] = 5,
        file: Annotated[Path | None, typer.Option("--file")] = None,
    ) -> None:
        assert isinstance(output, Format) and isinstance(limit, int) and (file is None or isinstance(file, Path))
        print(json.dumps([output.value, name or [], text, limit, file and str(file)]))

    return program


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
