"""`trunkline node`: list, show, delete. Nodes are created by their agents."""

from __future__ import annotations

from typing import Annotated

import typer

from controller.cli import render
from controller.cli.group import Commands
from controller.cli.options import Output, Timeout, Wait
from controller.cli.render import Column, Format
from controller.cli.session import Session

app = typer.Typer(cls=Commands, help="Nodes: the machines that run the agent.", rich_markup_mode=None)

COLUMNS = (
    Column("name", "name"),
    Column("state", "state"),
    Column("controller", "controller"),
    Column("confirmed revision", lambda node: confirmed(node)),
    Column("flows", "flows"),
    Column("quarantined", "quarantined_flows"),
    Column("datapath id", "datapath_id"),
    Column("physical networks", lambda node: ", ".join(node.get("physical_networks") or ())),
    Column("snat addresses", lambda node: snat_in_use(node)),
    Column("problems", "problems"),
)

NodeArgument = Annotated[str, typer.Argument(metavar="NODE", help="Name.")]


def confirmed(node: render.Object) -> object:
    """The last revision of which nothing is missing, the word `all`, or None for a node that was never computed."""
    if "unconfirmed_since" not in node:
        return None
    since = node["unconfirmed_since"]
    return "all" if since is None else since - 1


def snat_in_use(node: render.Object) -> str:
    """The addresses that traffic really leaves with; what the agent wishes may be out of range or taken."""
    return ", ".join(str(held["address"]) for held in node.get("external_addresses") or ())


@app.command("list")
def list_(context: typer.Context, output: Output = Format.TABLE) -> None:
    """List nodes."""
    render.show_list(Session.of(context).client.list_nodes(), COLUMNS, output)


@app.command()
def show(context: typer.Context, node: NodeArgument, output: Output = Format.TABLE) -> None:
    """Show one node."""
    found = Session.of(context).client.get_node(node)
    if output is Format.TABLE:
        wished = found.get("snat_addresses")
        found = {**found, "snat_addresses": snat_in_use(found), "snat_addresses (configured)": wished}
    render.show_object(found, output)


@app.command()
def delete(
    context: typer.Context,
    nodes: Annotated[list[str], typer.Argument(metavar="NODE", help="Names.")],
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Forget nodes. A node whose agent still runs comes back."""
    session = Session.of(context)
    session.finish_deletes(nodes, str, session.client.delete_node, output, wait, timeout)
