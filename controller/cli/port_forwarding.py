"""`trunkline port-forwarding`: create, list, show, delete."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from typing import Annotated

import typer

from controller.cli import names, options, render
from controller.cli.group import Commands
from controller.cli.options import FixedIp, FloatingIpArgument, Output, Timeout, Wait
from controller.cli.render import Column, Format
from controller.cli.session import Session

app = typer.Typer(cls=Commands, help="Single ports of a floating IP that lead to machines.", rich_markup_mode=None)

COLUMNS = (
    Column("id", "id"),
    Column("protocol", "protocol"),
    Column("ports", "ports"),
    Column("port", "port_id"),
    Column("fixed ip", "fixed_ip"),
    Column("to", "to"),
)

ForwardingArgument = Annotated[str, typer.Argument(metavar="FORWARDING", help="Its id.")]


class Protocol(StrEnum):
    TCP = "tcp"
    UDP = "udp"


@app.command()
def create(
    context: typer.Context,
    floating_ip: FloatingIpArgument,
    port: Annotated[str, typer.Option("--port", metavar="PORT", help="The port of the machine: name or id.")],
    ports: Annotated[str, typer.Option("--ports", metavar="N|FIRST-LAST", help="At the floating IP.")],
    protocol: Annotated[Protocol, typer.Option("--protocol")] = Protocol.TCP,
    to: Annotated[
        int | None, typer.Option("--to", min=1, max=65535, help="First one at the machine; default: the same.")
    ] = None,
    fixed_ip: FixedIp = None,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Forward ports of a floating IP that is associated with no port."""
    session = Session.of(context)
    fields = options.given(protocol=protocol.value, ports=ports, to=to, fixed_ip=fixed_ip)
    fields["port_id"] = session.port_id(port)
    written = session.client.create_port_forwarding(session.floating_ip_id(floating_ip), fields)
    session.finish(written, output, wait, timeout)


@app.command("list")
def list_(context: typer.Context, floating_ip: FloatingIpArgument, output: Output = Format.TABLE) -> None:
    """List the forwardings of a floating IP."""
    session = Session.of(context)
    found = session.client.list_port_forwardings(session.floating_ip_id(floating_ip))
    names.show_list(session, found, COLUMNS, output, names.PORT)


@app.command()
def show(
    context: typer.Context,
    floating_ip: FloatingIpArgument,
    forwarding: ForwardingArgument,
    output: Output = Format.TABLE,
) -> None:
    """Show one forwarding."""
    session = Session.of(context)
    identity = session.floating_ip_id(floating_ip)
    render.show_object(session.client.get_port_forwarding(identity, forwarding), output)


@app.command()
def delete(
    context: typer.Context,
    floating_ip: FloatingIpArgument,
    forwardings: Annotated[list[str], typer.Argument(metavar="FORWARDING", help="Their ids.")],
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Delete forwardings of a floating IP."""
    session = Session.of(context)
    identity = session.floating_ip_id(floating_ip)
    session.finish_deletes(
        forwardings, str, partial(session.client.delete_port_forwarding, identity), output, wait, timeout
    )
