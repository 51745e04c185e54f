"""`trunkline address`: list, reserve, unreserve, release, history, import, export."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from controller.cli import address_plan, render
from controller.cli.address_plan import Mistake, PlanFormat
from controller.cli.errors import CliError, ExitCode
from controller.cli.group import Commands
from controller.cli.options import NetworkArgument, Output, Timeout, Wait
from controller.cli.render import Column, Format
from controller.cli.session import Session
from controller.client import ApiError, Object, Written

app = typer.Typer(cls=Commands, help="Addresses: who has them, who had them, and plans.", rich_markup_mode=None)

AddressArgument = Annotated[str, typer.Argument(metavar="ADDRESS")]

COLUMNS = (
    Column("address", "address"),
    Column("state", "state"),
    Column("owner", "owner"),
    Column("port", lambda it: it.get("port_name") or it.get("port_id")),
    Column("project", "project_id"),
    Column("node", "node"),
    Column("leased", "leased"),
    Column("lease ends", "lease_expires_at"),
    Column("kept until", "held_until"),
    Column("reserved", "reserved"),
)
HISTORY = (
    Column("from", "from"),
    Column("until", "until"),
    Column("network", "network_name"),
    Column("what", "kind"),
    Column("port", lambda it: it.get("port_id")),
    Column("name", "port_name"),
    Column("project", "project_id"),
    Column("device", "device_id"),
    Column("mac", "mac"),
)
PLANNED = (
    Column("line", "line"),
    Column("action", "action"),
    Column("network", "network"),
    Column("address", "address"),
    Column("name", "name"),
)


@app.command("list")
def list_(context: typer.Context, network: NetworkArgument, output: Output = Format.TABLE) -> None:
    """List the addresses of a network that are, or were, in use or reserved."""
    session = Session.of(context)
    render.show_list(session.client.list_addresses(session.network_id(network)), COLUMNS, output)


@app.command()
def reserve(
    context: typer.Context,
    network: NetworkArgument,
    address: AddressArgument,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Have an address given to nobody. Whoever has it keeps it."""
    session = Session.of(context)
    session.finish(session.client.reserve_address(session.network_id(network), address), output, wait, timeout)


@app.command()
def unreserve(
    context: typer.Context,
    network: NetworkArgument,
    address: AddressArgument,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Have an address given again."""
    session = Session.of(context)
    session.finish(session.client.unreserve_address(session.network_id(network), address), output, wait, timeout)


@app.command()
def release(
    context: typer.Context, network: NetworkArgument, address: AddressArgument, output: Output = Format.TABLE
) -> None:
    """Free an address that is kept because of the lease of a port that is gone (administrators)."""
    session = Session.of(context)
    session.finish(session.client.release_address(session.network_id(network), address), output, False, 0)


@app.command()
def history(
    context: typer.Context,
    address: AddressArgument,
    network: Annotated[
        str | None, typer.Option("--network", metavar="NETWORK", help="Only there; a deleted one by its id.")
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="At this time, e.g. 2026-11-25T10:00 (UTC).")
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Show who had an address, newest first. It outlives ports and networks."""
    session = Session.of(context)
    network_id = session.network_id(network) if network else None
    found = session.client.address_history(address=address, network_id=network_id, at=at)
    render.show_list(found, HISTORY, output)


@app.command("import")
def import_(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV, or YAML if it is called so; - is stdin (CSV).")],
    check: Annotated[bool, typer.Option("--check", help="Only say what would be done.")] = False,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Put an address plan into force: reserved ranges, and ports with their addresses. All of it or nothing.

    What is there already as the plan has it stays as it is (administrators).
    """
    session = Session.of(context)
    plan = address_plan.read(_text(file), address_plan.format_of(file))
    if plan.mistakes:
        _refuse(file, plan.mistakes)
    if not plan.entries:
        raise CliError(f"{file} holds no entries", ExitCode.USAGE)
    lines = [entry.line for entry in plan.entries]
    try:
        written = session.client.apply_address_plan([entry.fields for entry in plan.entries], check)
    except ApiError as error:
        mistakes = _located(error, lines)
        if not mistakes:
            raise
        _refuse(file, mistakes)
    outcome: Object = written.object or {}
    if outcome.get("problems"):
        _refuse(file, [Mistake(lines[one["entry"]], one["message"]) for one in outcome["problems"]])
    rows = [
        {"line": entry.line, "action": action, **entry.fields}
        for entry, action in zip(plan.entries, outcome.get("actions") or (), strict=True)
    ]
    render.show_list(rows, PLANNED, output)
    session.wait([Written(None, written.revision)], wait and not check, timeout)


@app.command()
def export(
    context: typer.Context,
    networks: Annotated[
        list[str] | None, typer.Argument(metavar="NETWORK", help="Names or ids; all by default.")
    ] = None,
    format_: Annotated[PlanFormat, typer.Option("--format", help="How to write it.")] = PlanFormat.CSV,
) -> None:
    """Print what networks reserve and their ports have, as `import` takes it."""
    session = Session.of(context)
    everything = session.client.list_networks()
    chosen = [session.network(name) for name in networks] if networks else everything
    names = [network["name"] for network in everything]
    entries: list[dict[str, str]] = []
    for network in chosen:
        # a name that others have too says nothing
        called = network if names.count(network["name"]) == 1 else {**network, "name": network["id"]}
        entries += address_plan.entries_of(called, session.client.list_ports(network_id=network["id"]))
    render.show_text(address_plan.write(entries, format_).rstrip("\n"))


def _text(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"cannot read {file}: {error}", ExitCode.USAGE) from error


def _located(error: ApiError, lines: Sequence[int]) -> list[Mistake]:
    """The server's problems by line."""
    problems = error.details.get("problems")
    if isinstance(problems, list):
        return [Mistake(lines[one["entry"]], one["message"]) for one in problems]
    found = [(error.field, error.message), *((e["field"], e["message"]) for e in error.details.get("errors", ())[1:])]
    mistakes = []
    for field, message in found:
        parts = (field or "").split(".")
        if len(parts) > 1 and parts[0] == "entries" and parts[1].isdecimal() and int(parts[1]) < len(lines):
            # the server counts entries, people count lines
            text = message.removeprefix(f"{field}: ")
            mistakes.append(Mistake(lines[int(parts[1])], ": ".join([*(parts[2:] and [".".join(parts[2:])]), text])))
    return mistakes


def _refuse(file: Path, mistakes: Sequence[Mistake]) -> None:
    """Every mistake on a line of its own, and then that nothing was done."""
    for mistake in sorted(mistakes, key=lambda one: one.line):
        typer.echo(render.clean(f"{file}:{mistake.line}: {mistake.message}"), err=True)
    raise CliError(f"{len(mistakes)} mistakes in {file}, nothing was done", ExitCode.REFUSED)
