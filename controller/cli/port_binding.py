"""`trunkline port-binding`: create, list, activate, delete."""

from __future__ import annotations

from typing import Annotated

import typer

from controller.cli import render
from controller.cli.group import Commands
from controller.cli.options import Output, PortArgument, Timeout, Wait
from controller.cli.render import Column, Format
from controller.cli.session import Session

app = typer.Typer(cls=Commands, help="The nodes of a port while its machine moves.", rich_markup_mode=None)

COLUMNS = (Column("node", "node"), Column("status", "status"), Column("ofport", "ofport"))

NodeArgument = Annotated[str, typer.Argument(metavar="NODE")]


@app.command()
def create(
    context: typer.Context,
    port: PortArgument,
    node: NodeArgument,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Have another node expect the port. It is served there from the first frame that the machine sends there."""
    session = Session.of(context)
    session.finish(session.client.create_port_binding(session.port_id(port), node), output, wait, timeout)


@app.command("list")
def list_(context: typer.Context, port: PortArgument, output: Output = Format.TABLE) -> None:
    """List the nodes of a port: the one that serves it, and one that expects it (prepared) or had it (moved)."""
    session = Session.of(context)
    render.show_list(session.client.list_port_bindings(session.port_id(port)), COLUMNS, output)


@app.command()
def activate(
    context: typer.Context,
    port: PortArgument,
    node: NodeArgument,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Have the port served by the node that expects it, without waiting for the machine to send something there."""
    session = Session.of(context)
    session.finish(session.client.activate_port_binding(session.port_id(port), node), output, wait, timeout)


@app.command()
def delete(
    context: typer.Context,
    port: PortArgument,
    node: NodeArgument,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Call a move off, or end it at once when the machine has moved. Shows the binding that is left."""
    session = Session.of(context)
    session.finish(session.client.delete_port_binding(session.port_id(port), node), output, wait, timeout)
