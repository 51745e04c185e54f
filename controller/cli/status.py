"""`trunkline status`: is everything where it should be?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Final

import typer

from controller.cli import render
from controller.cli.errors import CliError, explain
from controller.cli.names import NETWORK, if_allowed, instead
from controller.cli.node import COLUMNS as NODE_COLUMNS
from controller.cli.options import Output
from controller.cli.port import COLUMNS as PORT_COLUMNS
from controller.cli.port import node_of
from controller.cli.render import Column, Format
from controller.cli.session import Session
from controller.client import ClientError, Object, Unreachable

UNBOUND = "unbound"
CRITICAL: Final = "critical"
UNKNOWN: Final = "unknown"
CHECKED: Final[Mapping[str, int]] = MappingProxyType({"ok": 0, "warning": 1, CRITICAL: 2, UNKNOWN: 3})
"""Exit codes of --check, by health: those that Nagios, Icinga and the like take of a plugin."""
PROBLEMS = (
    Column("severity", "severity"),
    Column("kind", "kind"),
    Column("name", lambda problem: problem["name"] or problem["id"]),
    Column("problem", "text"),
)
QUARANTINE = (
    Column("kind", "kind"),
    Column("id", "id"),
    Column("name", "name"),
    Column("node", "node"),
    Column("why", "why"),
)


def status(
    context: typer.Context,
    check: Annotated[
        bool, typer.Option("--check", help="Only what is wrong; the exit status says how bad it is.")
    ] = False,
    output: Output = Format.TABLE,
) -> None:
    """Show nodes with what they have confirmed, counts of objects, what is wrong, ports nowhere, and what is in
    quarantine.

    \b
    Exit status with --check: 0 nothing is wrong; 1 (warning) what is named does
    not work as it should; 2 (critical) no controller answers, or it cannot do its
    work; 3 (unknown) it could not be asked, for example for a wrong token.
    """
    session = Session.of(context)
    if check:
        health, wrong = _checked(session)
        _show_check(health, wrong, output)
        raise typer.Exit(CHECKED.get(health, CHECKED[UNKNOWN]))
    client = session.client
    networks, ports = client.list_networks(), client.list_ports()
    on_node = Counter(node_of(port) for port in ports if port.get("status") != UNBOUND)
    known, quarantine = if_allowed(client.list_nodes), if_allowed(client.list_quarantine)
    problems = if_allowed(lambda: client.list_problems()[1])
    nodes = [{**node, "ports": on_node[node["name"]]} for node in known or ()]
    names = {network["id"]: network.get("name") for network in networks}
    unbound = [
        {**port, "network_name": names.get(port.get("network_id"))} for port in ports if port.get("status") == UNBOUND
    ]
    statuses = dict(Counter(str(port.get("status")) for port in ports))
    if output is not Format.TABLE:
        counts = {
            "nodes": None if known is None else len(nodes),
            "networks": len(networks),
            "ports": len(ports),
            "ports_by_status": statuses,
        }
        lists = {"nodes": nodes, "problems": problems, "unbound_ports": unbound, "quarantine": quarantine}
        render.show_data({"counts": counts, **lists}, output)
        return
    if nodes:
        render.show_list(nodes, (*NODE_COLUMNS[:6], Column("ports", "ports"), *NODE_COLUMNS[6:]), output)
        render.show_text("")
    by_status = ", ".join(f"{count} {render.clean(name)}" for name, count in sorted(statuses.items()))
    summary = f"{len(networks)} networks, {len(ports)} ports" + (f" ({by_status})" if by_status else "")
    shown = "nodes are shown to administrators and readers" if known is None else f"{len(nodes)} nodes"
    render.show_text(f"{summary}; {shown}" if known is None else f"{shown}, {summary}")
    if problems:
        render.show_text("\nproblems:")
        render.show_list(problems, PROBLEMS, output)
    if unbound:
        render.show_text("\nunbound ports:")
        render.show_list(instead(unbound, NETWORK, networks), PORT_COLUMNS, output)
    if quarantine:
        render.show_text("\nquarantine, which the controller does without:")
        render.show_list(quarantine, QUARANTINE, output)


def _checked(session: Session) -> tuple[str, list[Object]]:
    """Health and problems. That there is no answer is one itself."""
    try:
        return session.client.list_problems()
    except (CliError, ClientError) as error:
        health = CRITICAL if isinstance(error, Unreachable) else UNKNOWN
        return health, [{"severity": health, "kind": "controller", "id": None, "name": "", "text": explain(error)[0]}]


def _show_check(health: str, problems: Sequence[Object], output: Format) -> None:
    """For people one line that says how it is, which is all that some monitors show, and then one for each problem."""
    if output is not Format.TABLE:
        render.show_data({"health": health, "problems": problems}, output)
        return
    lines = [f"{one['kind']} {one['name'] or one['id'] or ''}".strip() + f": {one['text']}" for one in problems]
    match lines:
        case []:
            shown = ["nothing is wrong"]
        case [line]:
            shown = [line]
        case _:
            shown = [f"{len(lines)} problems", *lines]
    render.show_text("\n".join(map(render.clean, [f"{health.upper()}: {shown[0]}", *shown[1:]])))
