"""`trunkline lease`: list."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from controller.cli import names
from controller.cli.group import Commands
from controller.cli.options import Output, ProjectFilter
from controller.cli.render import Column, Format
from controller.cli.session import Session

app = typer.Typer(cls=Commands, help="DHCP leases as they stand now.", rich_markup_mode=None)

COLUMNS = (
    Column("address", "address"),
    Column("state", "state"),
    Column("mac", "mac"),
    Column("hostname", "hostname"),
    Column("port", "port_id"),
    Column("node", "node"),
    Column("updated", "updated_at"),
    Column("expires", "expires_at"),
)


class State(StrEnum):
    BOUND = "bound"
    EXPIRED = "expired"
    RELEASED = "released"
    DECLINED = "declined"


@app.command("list")
def list_(
    context: typer.Context,
    network: Annotated[str | None, typer.Option("--network", metavar="NETWORK", help="Only those on it.")] = None,
    port: Annotated[str | None, typer.Option("--port", metavar="PORT", help="Only those of this one.")] = None,
    address: Annotated[str | None, typer.Option("--address", help="Only those of this address.")] = None,
    state: Annotated[State | None, typer.Option("--state", help="Only those in this state.")] = None,
    project: ProjectFilter = None,
    output: Output = Format.TABLE,
) -> None:
    """List leases."""
    session = Session.of(context)
    found = session.client.list_leases(
        network_id=session.network_id(network) if network else None,
        port_id=session.port_id(port) if port else None,
        address=address,
        state=state,
        project_id=project,
    )
    names.show_list(session, found, COLUMNS, output, names.PORT)
