"""`trunkline record`: create, list, show, set, delete."""

from __future__ import annotations

from typing import Annotated

import typer

from controller.cli import names, options, render
from controller.cli.errors import CliError, ExitCode
from controller.cli.group import Commands
from controller.cli.options import InProject, Output, ProjectFilter, Timeout, Wait, ZoneArgument
from controller.cli.render import Column, Format
from controller.cli.session import Session

app = typer.Typer(cls=Commands, help="The records of DNS zones.", rich_markup_mode=None)

COLUMNS = (
    Column("id", "id"),
    Column("name", "fqdn"),
    Column("type", "type"),
    Column("data", "data"),
    Column("ttl", "ttl"),
    Column("floating ip", "floating_ip_id"),
)

RecordArgument = Annotated[
    str, typer.Argument(metavar="RECORD", help="Its id, or its whole name if it is the only one.")
]
RecordArguments = Annotated[list[str], typer.Argument(metavar="RECORD", help="Ids, or whole names of one record.")]
Ttl = Annotated[int | None, typer.Option("--ttl", min=0, metavar="SECONDS", help="Default: the zone's.")]
OfFloatingIp = Annotated[
    str | None,
    typer.Option("--floating-ip", metavar="FLOATING-IP", help="Its address, for as long as the project has it."),
]


@app.command()
def create(
    context: typer.Context,
    zone: ZoneArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Within the zone; @ is the zone's own.")],
    type_: Annotated[
        str, typer.Argument(metavar="TYPE", help="A (the default), AAAA, CNAME, MX, PTR, SRV or TXT.")
    ] = "A",
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help='As in a master file: "10 mail.example.net".')
    ] = None,
    floating_ip: OfFloatingIp = None,
    ttl: Ttl = None,
    project: InProject = None,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Create a record: `record create ZONE NAME TYPE DATA`, or `record create ZONE NAME --floating-ip ADDRESS`."""
    session = Session.of(context)
    if (data is None) == (floating_ip is None):
        raise CliError("give either DATA or --floating-ip", ExitCode.USAGE)
    fields = options.given(name=name, type=type_.upper(), data=data, ttl=ttl)
    fields["zone_id"] = session.dns_zone_id(zone, project)
    if floating_ip is not None:
        fields["floating_ip_id"] = session.floating_ip_id(floating_ip)
    session.finish(session.client.create_dns_record(fields), output, wait, timeout)


@app.command("list")
def list_(
    context: typer.Context,
    zone: Annotated[str | None, typer.Option("--zone", metavar="ZONE", help="Only those of this one.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Only those with this whole name.")] = None,
    type_: Annotated[str | None, typer.Option("--type", help="Only those of this type.")] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="Only those with this data; of type A: an address.")
    ] = None,
    floating_ip: Annotated[
        str | None, typer.Option("--floating-ip", metavar="FLOATING-IP", help="Only the names of this one.")
    ] = None,
    project: ProjectFilter = None,
    output: Output = Format.TABLE,
) -> None:
    """List records."""
    session = Session.of(context)
    found = session.client.list_dns_records(
        zone_id=session.dns_zone_id(zone, project) if zone else None,
        fqdn=name,
        type=type_,
        data=data,
        floating_ip_id=session.floating_ip_id(floating_ip) if floating_ip else None,
        project_id=project,
    )
    names.show_list(session, found, COLUMNS, output, names.FLOATING_IP)


@app.command()
def show(context: typer.Context, record: RecordArgument, output: Output = Format.TABLE) -> None:
    """Show one record."""
    render.show_object(Session.of(context).dns_record(record), output)


@app.command("set")
def set_(
    context: typer.Context,
    record: RecordArgument,
    data: Annotated[str | None, typer.Option("--data", help="New data.")] = None,
    floating_ip: Annotated[
        str | None,
        typer.Option(
            "--floating-ip", metavar="FLOATING-IP|none", help="Its address; 'none': it stays when that is released."
        ),
    ] = None,
    ttl: Annotated[str | None, typer.Option("--ttl", metavar="SECONDS|none", help="'none': the zone's.")] = None,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Change a record."""
    session = Session.of(context)
    changes: dict[str, object] = options.given(data=data)
    if floating_ip is not None:
        changes["floating_ip_id"] = None if floating_ip == options.NONE else session.floating_ip_id(floating_ip)
    if ttl is not None:
        if ttl != options.NONE and not (ttl.isascii() and ttl.isdigit()):
            raise typer.BadParameter(f"{ttl!r} is neither seconds nor 'none'", param_hint="--ttl")
        changes["ttl"] = None if ttl == options.NONE else int(ttl)
    if not changes:
        raise CliError("nothing to change", ExitCode.USAGE)
    written = session.client.update_dns_record(session.dns_record_id(record), changes)
    session.finish(written, output, wait, timeout)


@app.command()
def delete(
    context: typer.Context,
    records: RecordArguments,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Delete records."""
    session = Session.of(context)
    session.finish_deletes(records, session.dns_record_id, session.client.delete_dns_record, output, wait, timeout)
