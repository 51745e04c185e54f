"""`trunkline quota`: show, set."""

from __future__ import annotations

from typing import Annotated

import typer

from controller.cli import options, render
from controller.cli.errors import CliError, ExitCode
from controller.cli.group import Commands
from controller.cli.options import Output, Timeout, Wait
from controller.cli.render import Format
from controller.cli.session import Session

app = typer.Typer(cls=Commands, help="How much a project may have.", rich_markup_mode=None)

ProjectArgument = Annotated[str, typer.Argument(metavar="PROJECT", help="Its id.")]

_LIMIT = "N|none"


@app.command()
def show(context: typer.Context, project: ProjectArgument, output: Output = Format.TABLE) -> None:
    """Show what a project may have, and has."""
    render.show_object(Session.of(context).client.get_quota(project), output)


@app.command("set")
def set_(
    context: typer.Context,
    project: ProjectArgument,
    floating_ips: Annotated[
        str | None, typer.Option("--floating-ips", metavar=_LIMIT, help="-1: any number; 'none': as configured.")
    ] = None,
    security_groups: Annotated[
        str | None, typer.Option("--security-groups", metavar=_LIMIT, help="Beside the group default.")
    ] = None,
    security_group_rules: Annotated[
        str | None, typer.Option("--security-group-rules", metavar=_LIMIT, help="Of each group.")
    ] = None,
    address_pairs: Annotated[str | None, typer.Option("--address-pairs", metavar=_LIMIT, help="Of each port.")] = None,
    networks: Annotated[
        str | None, typer.Option("--networks", metavar=_LIMIT, help="Beside those that it was given.")
    ] = None,
    ports: Annotated[str | None, typer.Option("--ports", metavar=_LIMIT, help="Of all its networks.")] = None,
    fixed_ips: Annotated[
        str | None, typer.Option("--fixed-ips", metavar=_LIMIT, help="Addresses of its ports.")
    ] = None,
    dns_zones: Annotated[str | None, typer.Option("--dns-zones", metavar=_LIMIT)] = None,
    dns_records: Annotated[str | None, typer.Option("--dns-records", metavar=_LIMIT, help="Of each zone.")] = None,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Set what a project may have."""
    session = Session.of(context)
    texts = options.given(
        floating_ips=floating_ips,
        security_groups=security_groups,
        security_group_rules=security_group_rules,
        address_pairs=address_pairs,
        networks=networks,
        ports=ports,
        fixed_ips=fixed_ips,
        dns_zones=dns_zones,
        dns_records=dns_records,
    )
    if not texts:
        raise CliError("nothing to change", ExitCode.USAGE)
    written = session.client.update_quota(project, {name: _limit(name, text) for name, text in texts.items()})
    session.finish(written, output, wait, timeout)


def _limit(name: str, text: str) -> int | None:
    if text == options.NONE:
        return None
    try:
        return int(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no number", param_hint=f"--{name.replace('_', '-')}") from error
