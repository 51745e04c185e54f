"""`trunkline network associate` and `disassociate`, and `trunkline project scrub`: which project has which network."""

from __future__ import annotations

from typing import Annotated

import typer

from controller.cli.group import Commands
from controller.cli.options import NetworkArgument, Output, Timeout, Wait
from controller.cli.render import Format
from controller.cli.session import Session

project = typer.Typer(cls=Commands, help="Projects: what they have been given.", rich_markup_mode=None)


def associate(
    context: typer.Context,
    project_id: Annotated[str, typer.Option("--project", metavar="ID", help="The project that gets it.")],
    network: Annotated[
        str | None, typer.Argument(metavar="NETWORK", help="Name or id; by default any that is free.")
    ] = None,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Give a free network to a project: one more, if it has some."""
    session = Session.of(context)
    if network is None:
        written = session.client.associate_free_network(project_id)
    else:
        written = session.client.associate_network(session.network_id(network), project_id)
    session.finish(written, output, wait, timeout)


def disassociate(
    context: typer.Context,
    network: NetworkArgument,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Take a network without ports from its project: it is free again."""
    session = Session.of(context)
    session.finish(session.client.disassociate_network(session.network_id(network)), output, wait, timeout)


@project.command()
def scrub(
    context: typer.Context,
    project_id: Annotated[str, typer.Argument(metavar="PROJECT", help="Its id.")],
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Take from a project all networks that it was given, and its security groups."""
    session = Session.of(context)
    session.finish(session.client.scrub_project(project_id), output, wait, timeout)
