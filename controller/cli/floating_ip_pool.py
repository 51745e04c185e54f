"""`trunkline floating-ip-pool`: create, list, show, delete."""

from __future__ import annotations

from typing import Annotated

import typer

from controller.cli import names, render
from controller.cli.group import Commands
from controller.cli.options import Output, PoolArgument, PoolArguments, Timeout, Wait
from controller.cli.render import Column, Format
from controller.cli.session import Session

app = typer.Typer(cls=Commands, help="Pools of floating IPs.", rich_markup_mode=None)

COLUMNS = (
    Column("id", "id"),
    Column("name", "name"),
    Column("network", "network_id"),
    Column("ranges", "ranges"),
    Column("used", "used"),
)


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="No other pool has it.")],
    network: Annotated[str, typer.Option("--network", metavar="NETWORK", help="An external one.")],
    ranges: Annotated[
        list[str],
        typer.Option("--range", metavar="CIDR|FIRST-LAST", help="In a subnet of the network (may be repeated)."),
    ],
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Create a pool."""
    session = Session.of(context)
    fields = {"name": name, "network_id": session.network_id(network), "ranges": ranges}
    session.finish(session.client.create_floating_ip_pool(fields), output, wait, timeout)


@app.command("list")
def list_(
    context: typer.Context,
    network: Annotated[str | None, typer.Option("--network", metavar="NETWORK", help="Only those of this one.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """List pools."""
    session = Session.of(context)
    pools = session.client.list_floating_ip_pools(network_id=session.network_id(network) if network else None)
    names.show_list(session, pools, COLUMNS, output, names.NETWORK)


@app.command()
def show(context: typer.Context, pool: PoolArgument, output: Output = Format.TABLE) -> None:
    """Show one pool."""
    render.show_object(Session.of(context).floating_ip_pool(pool), output)


@app.command()
def delete(
    context: typer.Context,
    pools: PoolArguments,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Delete pools of which no floating IP is in use."""
    session = Session.of(context)
    session.finish_deletes(
        pools, session.floating_ip_pool_id, session.client.delete_floating_ip_pool, output, wait, timeout
    )
