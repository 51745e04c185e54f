"""`trunkline zone`: create, list, show, set, delete."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer

from controller.cli import options, render
from controller.cli.errors import CliError, ExitCode
from controller.cli.group import Commands
from controller.cli.options import InProject, Output, ProjectFilter, Timeout, Wait, ZoneArgument, ZoneArguments
from controller.cli.render import Column, Format
from controller.cli.session import Session

app = typer.Typer(cls=Commands, help="DNS zones.", rich_markup_mode=None)

COLUMNS = (
    Column("id", "id"),
    Column("name", "name"),
    Column("scope", "scope"),
    Column("project", "project_id"),
    Column("ttl", "ttl"),
    Column("records", "records"),
)


class Scope(StrEnum):
    """As flows.model.ZoneScope; written here again because the command does not load the model."""

    PRIVATE = "private"
    PUBLIC = "public"


@dataclass(frozen=True, slots=True)
class Changeable:
    """The options of both `create` and `set`."""

    scope: Annotated[
        Scope | None,
        typer.Option("--scope", help="private (the default): for machines of its project; public: for all."),
    ] = None
    ttl: Annotated[int | None, typer.Option("--ttl", min=0, metavar="SECONDS", help="Of what names none.")] = None
    network: Annotated[
        list[str] | None,
        typer.Option(
            "--network",
            metavar="NETWORK",
            help="Its machines have names in the zone (may be repeated; set: all there are, or 'none').",
        ),
    ] = None

    def fields(self, session: Session) -> dict[str, Any]:
        """Those that were given."""
        networks = options.each("--network", self.network, session.network_id)
        return options.given(scope=None if self.scope is None else self.scope.value, ttl=self.ttl, network_ids=networks)


@app.command()
@options.grouped
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Such as lab.example.")],
    changeable: Changeable,
    project: Annotated[str | None, typer.Option("--project", metavar="ID", help="The project that owns it.")] = None,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Create a DNS zone."""
    session = Session.of(context)
    fields = options.given(name=name, project_id=project) | changeable.fields(session)
    session.finish(session.client.create_dns_zone(fields), output, wait, timeout)


@app.command("list")
def list_(
    context: typer.Context,
    name: Annotated[str | None, typer.Option("--name", help="Only those with this name.")] = None,
    scope: Annotated[Scope | None, typer.Option("--scope", help="Only those.")] = None,
    project: ProjectFilter = None,
    output: Output = Format.TABLE,
) -> None:
    """List DNS zones."""
    wanted = None if scope is None else scope.value
    zones = Session.of(context).client.list_dns_zones(name=name, scope=wanted, project_id=project)
    render.show_list(zones, COLUMNS, output)


@app.command()
def show(context: typer.Context, zone: ZoneArgument, project: InProject = None, output: Output = Format.TABLE) -> None:
    """Show one DNS zone."""
    render.show_object(Session.of(context).dns_zone(zone, project), output)


@app.command("set")
@options.grouped
def set_(
    context: typer.Context,
    zone: ZoneArgument,
    changeable: Changeable,
    to_project: Annotated[
        str | None, typer.Option("--to-project", metavar="ID|none", help="Give it to another project.")
    ] = None,
    project: InProject = None,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Change a DNS zone."""
    session = Session.of(context)
    changes = changeable.fields(session) | options.nullable("project_id", to_project)
    if not changes:
        raise CliError("nothing to change", ExitCode.USAGE)
    written = session.client.update_dns_zone(session.dns_zone_id(zone, project), changes)
    session.finish(written, output, wait, timeout)


@app.command()
def delete(
    context: typer.Context,
    zones: ZoneArguments,
    project: InProject = None,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Delete DNS zones with all their records."""
    session = Session.of(context)
    session.finish_deletes(
        zones,
        lambda zone: session.dns_zone_id(zone, project),
        session.client.delete_dns_zone,
        output,
        wait,
        timeout,
    )
