"""`trunkline import nova`: a cloud that nova-network ran."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from controller.cli import render
from controller.cli.errors import CliError, ExitCode
from controller.cli.group import Commands
from controller.cli.options import Output
from controller.cli.plan import collecting
from controller.cli.render import Column, Format
from controller.cli.session import Session
from controller.client import Object

app = typer.Typer(cls=Commands, help="Take over what other systems know.", rich_markup_mode=None)

COUNTED = ("network", "security_group", "rule", "port", "floating_ip_pool", "floating_ip")
COLUMNS = (
    Column("what", "kind"),
    Column("in Nova", "found"),
    Column("made", "made"),
    Column("there already", "there"),
    Column("refused", "failed"),
)


@app.command()
def nova(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What mysqldump wrote (also .gz), or an SQLite copy.")],
    physical_network: Annotated[
        list[str],
        typer.Option(
            "--physical-network",
            metavar="[INTERFACE=]NAME",
            help="The physical network of all networks, or of those on one of Nova's interfaces or bridges "
            "(eth1=physnet1). Repeat.",
        ),
    ],
    external_network: Annotated[
        str | None,
        typer.Option(
            "--external-network", metavar="NETWORK", help="Where floating IPs are. Without it, none are made."
        ),
    ] = None,
    domain: Annotated[
        str, typer.Option("--domain", metavar="NAME", help="Nova's dhcp_domain; its database does not have it.")
    ] = "",
    database: Annotated[
        str | None, typer.Option("--database", metavar="NAME", help="Which one, of a dump of several.")
    ] = None,
    max_memory: Annotated[
        int | None,
        typer.Option("--max-memory", min=1, metavar="MIB", help="For the rows of the file; default: 2048."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Make nothing: say what is in the file and here already, and what would be refused.",
        ),
    ] = False,
    output: Output = Format.TABLE,
) -> None:
    """Make the networks, ports, addresses, groups and floating IPs that a nova-network cloud had.

    Ports get the ids, MACs and addresses of Nova's virtual interfaces. What is there already stays as it is, so the
    command can be run again. Notes on what is not the same are written to stderr.
    """
    from controller.nova import dump, model
    from controller.nova.apply import Import
    from controller.nova.check import check as check_import
    from controller.nova.convert import convert

    try:
        room = dump.ROOM if max_memory is None else max_memory << 20
        tables = dump.read(file, model.TABLES, database, keep=model.is_live, room=room)
        cloud = convert(tables, model.Choices(_physical_networks(physical_network), domain))
    except dump.DumpError as error:
        raise CliError(f"{file}: {error}", ExitCode.REFUSED) from error
    except OSError as error:
        raise CliError(f"cannot read {file}: {error.strerror or error}", ExitCode.USAGE) from error
    for note in cloud.notes:
        _tell(f"note: {note}")
    if cloud.floating_ips and external_network is None:
        _tell("note: floating IPs are left out: say --external-network")
    session = Session.of(context)
    external = None if external_network is None else session.network_id(external_network)
    nodes = {node["name"] for node in session.client.list_nodes()}
    if check:
        outcome = check_import(cloud, partial(collecting, session), external, nodes, _tell)
    else:
        outcome = Import(session.client, external, nodes, _tell).run(cloud)
    found = {
        "network": len(cloud.networks),
        "security_group": len(cloud.groups),
        "rule": sum(len(group.rules) for group in cloud.groups),
        "port": len(cloud.ports),
        "floating_ip_pool": len(cloud.pools),
        "floating_ip": len(cloud.floating_ips),
    }
    for what, why in outcome.failed:
        _tell(f"refused: {what}: {why}")
    failed = [what.split()[0] for what, _ in outcome.failed]
    rows: list[Object] = [
        {
            "kind": kind,
            "found": found[kind],
            "made": outcome.made[kind],
            "there": outcome.there[kind],
            "failed": failed.count(kind),
        }
        for kind in COUNTED
    ]
    render.show_list(rows, COLUMNS, output)
    if outcome.failed:
        raise typer.Exit(ExitCode.REFUSED)


def _physical_networks(texts: Sequence[str]) -> dict[str, str]:
    """By Nova's interface or bridge, "" for any. Raises BadParameter."""
    found: dict[str, str] = {}
    for text in texts:
        interface, separator, name = text.rpartition("=")
        if not name or (separator and not interface) or interface in found:
            raise typer.BadParameter(f"{text!r} is not of the form [INTERFACE=]NAME, or said twice")
        found[interface] = name
    return found


def _tell(text: str) -> None:
    typer.echo(render.clean(text), file=sys.stderr)
