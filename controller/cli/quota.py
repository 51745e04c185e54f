"""`trunkline quota`: show, set."""

from __future__ import annotations

from typing import Annotated

import typer

from controller.cli import options, render
from controller.cli.group import Commands
from controller.cli.options import Output, Timeout, Wait
from controller.cli.render import Format
from controller.cli.session import Session

app = typer.Typer(cls=Commands, help="How much a project may have.", rich_markup_mode=None)

ProjectArgument = Annotated[str, typer.Argument(metavar="PROJECT", help="Its id.")]


@app.command()
def show(context: typer.Context, project: ProjectArgument, output: Output = Format.TABLE) -> None:
    """Show what a project may have, and has."""
    render.show_object(Session.of(context).client.get_quota(project), output)


@app.command("set")
def set_(
    context: typer.Context,
    project: ProjectArgument,
    floating_ips: Annotated[
        str, typer.Option("--floating-ips", metavar="N|none", help="-1: any number; 'none': as configured.")
    ],
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Set what a project may have."""
    session = Session.of(context)
    written = session.client.update_quota(project, {"floating_ips": _limit(floating_ips)})
    session.finish(written, output, wait, timeout)


def _limit(text: str) -> int | None:
    if text == options.NONE:
        return None
    try:
        return int(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no number", param_hint="--floating-ips") from error
