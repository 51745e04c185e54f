"""`trunkline drops`: what has been dropped and why, once or as it goes on."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from controller.cli import render
from controller.cli.options import Output
from controller.cli.render import Column, Format, Object
from controller.cli.session import Session

WATCH = "2"
"""Seconds between two looks, if nothing is said."""

_OPTION = "--watch"


class Watching(TyperCommand):
    """Takes --watch without a number, too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given: list[str] = []
        for place, word in enumerate(args):
            given.append(word)
            if word == _OPTION and not _is_number(args[place + 1 : place + 2]):
                given.append(WATCH)
        return super().parse_args(ctx, given)


def _is_number(words: list[str]) -> bool:
    return bool(words) and words[0].replace(".", "", 1).isdecimal()


def _what(drop: Object) -> str:
    """The port, or the network where it is about no port."""
    if drop.get("port_id"):
        return str(drop.get("port_name") or drop["port_id"])
    return f"network {drop.get('network_name') or drop['network_id']}" if drop.get("network_id") else ""


COLUMNS = (
    Column("node", "node"),
    Column("of", _what),
    Column("rule", "rule"),
    Column("packets", "packets"),
    Column("bytes", "bytes"),
    Column("normal", lambda drop: "yes" if drop.get("normal") else ""),
    Column("why", "text"),
)
GROWN = (*COLUMNS[:3], Column("more", "more"), Column("per second", "per_second"), COLUMNS[3], *COLUMNS[5:])


def drops(
    context: typer.Context,
    port: Annotated[str | None, typer.Argument(metavar="PORT", help="Name or id; without, all.")] = None,
    node: Annotated[str | None, typer.Option("--node", metavar="NODE", help="Only on this one.")] = None,
    watch: Annotated[
        float | None,
        typer.Option(
            _OPTION,
            metavar="[SECONDS]",
            min=0.5,
            help=f"Go on with what grows, every so often [{WATCH}], until Ctrl-C.",
        ),
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Show what has been dropped since the switches have started, by rule; most first, and what is normal last."""
    session = Session.of(context)
    port_id = session.port_id(port) if port else None
    found, silent = session.client.list_drops(port_id, node)
    if watch is None:
        render.show_list(found, COLUMNS, output)
        _complain(silent)
        return
    at = time.monotonic()
    try:
        while True:
            time.sleep(watch)
            before, (found, silent) = found, session.client.list_drops(port_id, node)
            was, at = at, time.monotonic()
            grown = _grown(before, found, at - was)
            if grown or output is not Format.TABLE:
                render.show_list(grown, GROWN, output)
            _complain(silent)
            # what was silent is compared with what it said last
            known = {_key(drop) for drop in found}
            found = [*found, *(drop for drop in before if _key(drop) not in known and drop["node"] in silent)]
    except KeyboardInterrupt:
        return


def _key(drop: Object) -> tuple[object, ...]:
    return drop["node"], drop["rule"], drop["port_id"], drop["network_id"]


def _grown(before: Iterable[Object], after: Iterable[Object], seconds: float) -> list[dict[str, Any]]:
    known: Mapping[tuple[object, ...], int] = {_key(drop): int(drop["packets"]) for drop in before}
    found = []
    for drop in after:
        packets, was = int(drop["packets"]), known.get(_key(drop), 0)
        more = packets - was if packets >= was else packets  # the switch has begun anew
        if more:
            found.append({**drop, "more": more, "per_second": round(more / seconds, 1)})
    return sorted(found, key=lambda drop: (bool(drop.get("normal")), -int(drop["more"])))


def _complain(silent: Iterable[str]) -> None:
    if silent:
        typer.echo(f"trunkline: no answer from {render.clean(', '.join(silent))}", err=True)
