"""`trunkline controller`: list."""

from __future__ import annotations

import typer

from controller.cli import render
from controller.cli.group import Commands
from controller.cli.options import Output
from controller.cli.render import Column, Format
from controller.cli.session import Session

app = typer.Typer(cls=Commands, help="Controllers: those that are alive.", rich_markup_mode=None)

COLUMNS = (
    Column("name", "name"),
    Column("api url", "api_url"),
    Column("leader", lambda controller: "yes" if controller.get("leader") else ""),
    Column("nodes", lambda controller: len(controller.get("nodes") or ())),
    Column("connected", "connected_nodes"),
    Column("started", "started_at"),
)


@app.command("list")
def list_(
    context: typer.Context,
    output: Output = Format.TABLE,
) -> None:
    """List controllers, with the nodes that each masters and those that are connected to it."""
    render.show_list(Session.of(context).client.list_controllers(), COLUMNS, output)
