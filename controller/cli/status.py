"""`trunkline status`: is everything where it should be?"""

from __future__ import annotations

from collections import Counter

import typer

from controller.cli import render
from controller.cli.names import NETWORK, if_allowed, instead
from controller.cli.node import COLUMNS as NODE_COLUMNS
from controller.cli.options import Output
from controller.cli.port import COLUMNS as PORT_COLUMNS
from controller.cli.port import node_of
from controller.cli.render import Column, Format
from controller.cli.session import Session

UNBOUND = "unbound"
QUARANTINE = (
    Column("kind", "kind"),
    Column("id", "id"),
    Column("name", "name"),
    Column("node", "node"),
    Column("why", "why"),
)


def status(context: typer.Context, output: Output = Format.TABLE) -> None:
    """Show nodes with what they have confirmed, counts of objects, ports nowhere, and what is in quarantine."""
    client = Session.of(context).client
    networks, ports = client.list_networks(), client.list_ports()
    on_node = Counter(node_of(port) for port in ports if port.get("status") != UNBOUND)
    known, quarantine = if_allowed(client.list_nodes), if_allowed(client.list_quarantine)
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
        render.show_data({"counts": counts, "nodes": nodes, "unbound_ports": unbound, "quarantine": quarantine}, output)
        return
    if nodes:
        render.show_list(nodes, (*NODE_COLUMNS[:6], Column("ports", "ports"), *NODE_COLUMNS[6:]), output)
        render.show_text("")
    by_status = ", ".join(f"{count} {render.clean(name)}" for name, count in sorted(statuses.items()))
    summary = f"{len(networks)} networks, {len(ports)} ports" + (f" ({by_status})" if by_status else "")
    shown = "nodes are shown to administrators and readers" if known is None else f"{len(nodes)} nodes"
    render.show_text(f"{summary}; {shown}" if known is None else f"{shown}, {summary}")
    if unbound:
        render.show_text("\nunbound ports:")
        render.show_list(instead(unbound, NETWORK, networks), PORT_COLUMNS, output)
    if quarantine:
        render.show_text("\nquarantine, which the controller does without:")
        render.show_list(quarantine, QUARANTINE, output)
