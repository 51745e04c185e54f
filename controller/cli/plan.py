"""`trunkline plan COMMAND...`: what a command would change of the flows of nodes, without doing it."""

from __future__ import annotations

import os
from contextlib import redirect_stdout
from functools import cached_property
from io import StringIO
from typing import Annotated

import typer

from controller.cli import render
from controller.cli.errors import CliError, ExitCode
from controller.cli.options import Output
from controller.cli.render import Format, Object
from controller.cli.session import Session, load_settings
from controller.planning_client import CollectingClient, PlanningClient

PLANNED = frozenset(
    {
        "network",
        "project",
        "address",
        "subnet",
        "port",
        "port-binding",
        "metadata",
        "floating-ip-pool",
        "floating-ip",
        "port-forwarding",
        "quota",
        "security-group",
        "default-rule",
        "provider-rule",
        "zone",
        "record",
        "node",
    }
)
"""What writes by the server alone. `plug` would plug."""

SETTINGS = {"ignore_unknown_options": True, "allow_interspersed_args": False}
"""All behind the first word belongs to that command."""


class Planning(Session):
    """One whose client asks what a change would do, and does none."""

    @cached_property
    def client(self) -> PlanningClient:
        settings = load_settings(self._given, os.environ)
        return PlanningClient(settings.url, settings.token, tls=settings.tls)


def collecting(session: Session) -> CollectingClient:
    """One whose writes are planned together, in one go."""
    settings = load_settings(session.given, os.environ)
    return CollectingClient(settings.url, settings.token, tls=settings.tls)


def plan(
    context: typer.Context,
    command: Annotated[list[str], typer.Argument(metavar="COMMAND", help="As it would be typed to do it.")],
    summary: Annotated[bool, typer.Option("--summary", help="Only how many flows, of each node.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Show which flows a command would add (+), delete (-) and change (~) on which nodes, without doing it.

    Objects that it would make have other identifiers, and MACs, when it is done.
    """
    if command[0] not in PLANNED:
        raise CliError(f"{command[0]!r} cannot be planned; what can: {', '.join(sorted(PLANNED))}", ExitCode.USAGE)
    root = context.find_root()
    session = Planning(Session.of(context).given)
    root.obj = session
    name, found, words = root.command.resolve_command(root, command)  # type: ignore[attr-defined]
    with redirect_stdout(StringIO()), found.make_context(name, words, parent=root) as inner:
        found.invoke(inner)
    if session.client.plan is None:
        raise CliError("that command writes nothing", ExitCode.USAGE)
    _show(session.client.plan, summary, output)


def _show(told: Object, summary: bool, output: Format) -> None:
    if output is not Format.TABLE:
        render.show_data(told, output)
        return
    nodes = told["nodes"]
    if not nodes:
        render.show_text("no flow changes on any node")
    for node in nodes:
        counts = f"{node['adds']} to add, {node['deletes']} to delete, {node['changes']} to change"
        render.show_text(render.clean(f"{node['node']}: {counts}"))
        for line in () if summary else _lines(node):
            render.show_text(render.clean(f"  {line}"))
        for problem in node["problems"]:
            render.show_text(render.clean(f"  ! {problem}"))


def _lines(node: Object) -> list[str]:
    lines = [f"- {text}" for text in node["delete"]]
    for change in node["change"]:
        lines += [f"~ {change['before']}", f"  {change['after']}"]
    lines += [f"+ {text}" for text in node["add"]]
    lines += node["meters"]
    told = len(node["delete"]) + len(node["change"]) + len(node["add"])
    left = node["adds"] + node["deletes"] + node["changes"] - told
    return [*lines, *([f"and {left} more"] if left else [])]
