"""`trunkline events`: what has just happened, and what happens."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Annotated

import typer

from controller.cli import render
from controller.cli.options import Output
from controller.cli.render import Column, Format, Object
from controller.cli.session import Session

WAIT = 25.0
"""Seconds for which one question waits."""

COLUMNS = (Column("at", "at"), Column("kind", "kind"), Column("what", "text"))


def events(
    context: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens, until Ctrl-C.")] = False,
    kind: Annotated[str | None, typer.Option("--kind", help="Only of this kind: lease, port, node, change ...")] = None,
    network: Annotated[str | None, typer.Option("--network", metavar="NETWORK", help="Only of this one.")] = None,
    port: Annotated[str | None, typer.Option("--port", metavar="PORT", help="Only of this one.")] = None,
    node: Annotated[str | None, typer.Option("--node", metavar="NODE", help="Only on this one.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Show what has happened lately at the controller that answers. With --follow each is a line, also as JSON."""
    session = Session.of(context)
    filters = {
        "kind": kind,
        "network_id": session.network_id(network) if network else None,
        "port_id": session.port_id(port) if port else None,
        "node": node,
    }
    found, last, _ = session.client.list_events(filters=filters)
    if not follow:
        render.show_list(found, COLUMNS, output)
        return
    try:
        while True:
            _show(found, output)
            found, last, missed = session.client.list_events(last, WAIT, filters)
            if missed:
                typer.echo("some events are missing", err=True)
    except KeyboardInterrupt:
        return


def _show(found: Iterable[Object], output: Format) -> None:
    for event in found:
        match output:
            case Format.JSON:
                print(json.dumps(event))
            case Format.YAML:
                render.show_data([event], output)
            case Format.TABLE:
                print(render.clean(f"{event.get('at')}  {event.get('kind', ''):<11}  {event.get('text')}"))
    sys.stdout.flush()
