"""`trunkline floating-ip`: create, list, show, associate, disassociate, delete."""

from __future__ import annotations

from typing import Annotated

import typer

from controller.cli import names, options, render
from controller.cli.errors import CliError, ExitCode
from controller.cli.group import Commands
from controller.cli.options import (
    FixedIp,
    FloatingIpArgument,
    FloatingIpArguments,
    Output,
    PortArgument,
    ProjectFilter,
    Timeout,
    Wait,
)
from controller.cli.render import Column, Format
from controller.cli.session import Session
from controller.client import Written

app = typer.Typer(cls=Commands, help="Floating IPs: outside addresses of machines.", rich_markup_mode=None)

COLUMNS = (
    Column("id", "id"),
    Column("address", "address"),
    Column("pool", "pool"),
    Column("project", "project_id"),
    Column("fixed ip", "fixed_ip"),
    Column("port", "port_id"),
    Column("forwardings", lambda floating_ip: len(floating_ip.get("port_forwardings") or ()) or None),
    Column("node", "node"),
    Column("status", "status"),
)


@app.command()
def create(
    context: typer.Context,
    pool: Annotated[str, typer.Option("--pool", metavar="POOL", help="Name or id.")],
    address: Annotated[str | None, typer.Option("--address", help="This very address of the pool.")] = None,
    project: Annotated[str | None, typer.Option("--project", metavar="ID", help="The project that gets it.")] = None,
    port: Annotated[
        str | None, typer.Option("--port", metavar="PORT", help="Associate it at once with this port.")
    ] = None,
    fixed_ip: FixedIp = None,
    count: Annotated[
        int | None, typer.Option("--count", min=1, max=1000, help="So many at once, all or none (administrators).")
    ] = None,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Take a floating IP from a pool."""
    session = Session.of(context)
    fields = options.given(pool=pool, address=address, project_id=project, fixed_ip=fixed_ip, count=count)
    if count is not None and (address or port or fixed_ip):
        raise CliError("--count goes with none of --address, --port and --fixed-ip", ExitCode.USAGE)
    if port is not None:
        fields["port_id"] = session.port_id(port)
    if count is None:
        session.finish(session.client.create_floating_ip(fields), output, wait, timeout)
        return
    made, revision = session.client.create_floating_ips(fields)
    render.show_list(made, COLUMNS, output)
    session.wait([Written(None, revision)], wait, timeout)


@app.command("list")
def list_(
    context: typer.Context,
    pool: Annotated[str | None, typer.Option("--pool", metavar="POOL", help="Only those of this one.")] = None,
    port: Annotated[str | None, typer.Option("--port", metavar="PORT", help="Only those that lead to it.")] = None,
    address: Annotated[str | None, typer.Option("--address", help="Only the one with this address.")] = None,
    node: Annotated[str | None, typer.Option("--node", help="Only those that lead to this node.")] = None,
    project: ProjectFilter = None,
    output: Output = Format.TABLE,
) -> None:
    """List floating IPs."""
    session = Session.of(context)
    port_id = session.port_id(port) if port else None
    found = session.client.list_floating_ips(pool=pool, port_id=port_id, address=address, node=node, project_id=project)
    names.show_list(session, found, COLUMNS, output, names.PORT)


@app.command()
def show(context: typer.Context, floating_ip: FloatingIpArgument, output: Output = Format.TABLE) -> None:
    """Show one floating IP."""
    render.show_object(Session.of(context).floating_ip(floating_ip), output)


@app.command()
def associate(
    context: typer.Context,
    floating_ip: FloatingIpArgument,
    port: PortArgument,
    fixed_ip: FixedIp = None,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Lead a floating IP to a port, wherever it led before."""
    session = Session.of(context)
    fields = options.given(port_id=session.port_id(port), fixed_ip=fixed_ip)
    written = session.client.update_floating_ip(session.floating_ip_id(floating_ip), fields)
    session.finish(written, output, wait, timeout)


@app.command()
def disassociate(
    context: typer.Context,
    floating_ip: FloatingIpArgument,
    port: Annotated[
        str | None, typer.Option("--port", metavar="PORT", help="Only if it does not lead to another one by now.")
    ] = None,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Take a floating IP off its port. It stays with its project."""
    session = Session.of(context)
    fields = {"port_id": None, **options.given(expected_port_id=session.port_id(port) if port else None)}
    written = session.client.update_floating_ip(session.floating_ip_id(floating_ip), fields)
    session.finish(written, output, wait, timeout)


@app.command()
def delete(
    context: typer.Context,
    floating_ips: FloatingIpArguments,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Take floating IPs off their ports and give them back to their pools."""
    session = Session.of(context)
    session.finish_deletes(
        floating_ips, session.floating_ip_id, session.client.delete_floating_ip, output, wait, timeout
    )
