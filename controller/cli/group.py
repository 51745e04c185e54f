"""How command groups behave: help when nothing is asked, one line on stderr when something is wrong."""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperGroup

from controller.cli.errors import CliError, ExitCode, explain
from controller.cli.render import clean
from controller.client import ClientError

PROGRAM = "trunkline"


class Commands(TyperGroup):
    """A group that prints its help, as a usage error, when it is called without a command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            typer.echo(ctx.get_help(), err=True)
            raise typer.Exit(ExitCode.USAGE)
        return super().parse_args(ctx, args)


class Root(Commands):
    """The outermost group: every error that may happen becomes its line and its exit code here."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Ends the process, as typer's own does."""
        try:
            code = super().main(*args, **{**extra, "standalone_mode": False})
        except typer.TyperException as error:
            _complain(_usage(error))
            code = ExitCode.USAGE
        except (CliError, ClientError) as error:
            line, code = explain(error)
            _complain(line)
        except typer.Abort:
            code = ExitCode.INTERRUPTED
        sys.exit(int(code or ExitCode.OK))


def _usage(error: typer.TyperException) -> str:
    line = clean(" ".join(error.format_message().split()))
    context = vars(error).get("ctx")
    return f"{line} (see '{context.command_path} --help')" if context else line


def warn(text: str) -> None:
    """Say on stderr what is no error: what programs read is on stdout."""
    _complain(f"warning: {clean(text)}")


def _complain(line: str) -> None:
    typer.echo(f"{PROGRAM}: {line}", err=True)
