"""`trunkline audit`: who has changed what."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from controller.cli import render
from controller.cli.options import Output
from controller.cli.render import Column, Format, Object
from controller.cli.session import Session


def _changes(entry: Object) -> list[str]:
    """`field: old -> new`, one a line."""
    new, old = entry.get("new") or {}, entry.get("old") or {}
    assert isinstance(new, Mapping) and isinstance(old, Mapping)
    names = list(dict.fromkeys((*new, *old)))
    return [f"{name}: {_from_to(name, old, new)}" for name in names]


def _from_to(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    before = f"{json.dumps(old[name])} -> " if name in old else ""
    return before + (json.dumps(new[name]) if name in new else "")


COLUMNS = (
    Column("at", "at"),
    Column("actor", "actor"),
    Column("token", "token"),
    Column("from", "address"),
    Column("action", lambda entry: f"{entry.get('action')} {entry.get('kind')} {entry.get('object')}"),
    Column("change", _changes),
    Column("request", "request_id"),
)


def audit(
    context: typer.Context,
    kind: Annotated[str | None, typer.Option("--kind", help="Only of this kind: network, port, node ...")] = None,
    object_: Annotated[str | None, typer.Option("--object", metavar="ID", help="Only of this object.")] = None,
    actor: Annotated[
        str | None, typer.Option("--actor", help="Only by this one: admin, member:PROJECT, controller ...")
    ] = None,
    since: Annotated[str | None, typer.Option("--since", metavar="TIME", help="Only since then.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many, the newest first.")] = 50,
    output: Output = Format.TABLE,
) -> None:
    """Show who has changed what, when, and from what to what."""
    found = Session.of(context).client.list_audit(limit, kind=kind, object=object_, actor=actor, since=since)
    render.show_list(found, COLUMNS, output)
