"""`trunkline trace`: what becomes of a packet, and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from controller.cli import render
from controller.cli.errors import ExitCode
from controller.cli.options import Output, given
from controller.cli.render import Format, clean
from controller.cli.session import Session
from controller.client import Object


def trace(
    context: typer.Context,
    to: Annotated[str, typer.Option("--to", metavar="ADDRESS|PORT|NAME", help="Where to.")],
    port: Annotated[str | None, typer.Argument(metavar="PORT", help="Who sends: name or id.")] = None,
    protocol: Annotated[
        str | None,
        typer.Option("--proto", "--protocol", metavar="PROTOCOL", help="tcp, udp, icmp, ... or a number [icmp]."),
    ] = None,
    destination_port: Annotated[int | None, typer.Option("--dport", metavar="N", help="Of tcp and udp.")] = None,
    source_port: Annotated[int | None, typer.Option("--sport", metavar="N", help="Of tcp and udp.")] = None,
    from_outside: Annotated[
        str | None, typer.Option("--from-outside", metavar="ADDRESS", help="In place of PORT: who sends, out there.")
    ] = None,
    from_address: Annotated[
        str | None, typer.Option("--from-address", metavar="ADDRESS", help="PORT sends from this address.")
    ] = None,
    from_mac: Annotated[str | None, typer.Option("--from-mac", metavar="MAC", help="PORT sends from this MAC.")] = None,
    icmp_type: Annotated[int | None, typer.Option("--icmp-type", metavar="N", help="Of icmp and icmpv6.")] = None,
    icmp_code: Annotated[int | None, typer.Option("--icmp-code", metavar="N", help="Of icmp and icmpv6.")] = None,
    size: Annotated[int | None, typer.Option("--size", metavar="BYTES", help="Of the whole frame [98].")] = None,
    ttl: Annotated[int | None, typer.Option("--ttl", metavar="N", help="TTL, or hop limit [64].")] = None,
    reply: Annotated[bool, typer.Option("--reply/--no-reply", help="Follow the answer, too.")] = True,
    live: Annotated[
        bool, typer.Option("--live", help="Also what the switches on the way say themselves (ofproto/trace).")
    ] = False,
    output: Output = Format.TABLE,
) -> None:
    """Follow a packet from PORT through all nodes on its way, by the flows that they should hold. Nothing is sent.

    \b
    Exit status 0: it arrives (delivered, answered, left the cloud, or handed to the controller), so does the answer to
    it, and nothing is found to be wrong; 1: else, also when with --live a switch decides otherwise.
    """
    if (port is None) == (from_outside is None):
        raise typer.BadParameter("give PORT, or --from-outside in place of it", param_hint="PORT")
    if from_outside is not None and from_address is not None:
        raise typer.BadParameter("is for PORT", param_hint="--from-address")
    answer = Session.of(context).client.trace(
        {
            "to": to,
            "reply": reply,
            "live": live,
            **given(
                port=port,
                from_address=from_outside or from_address,
                from_mac=from_mac,
                protocol=number_or_name(protocol),
                source_port=source_port,
                destination_port=destination_port,
                icmp_type=icmp_type,
                icmp_code=icmp_code,
                size=size,
                ttl=ttl,
            ),
        }
    )
    if output is Format.TABLE:
        render.show_text("\n".join(_lines(answer)))
    else:
        render.show_data(answer, output)
    if not answer["arrives"]:
        raise typer.Exit(ExitCode.REFUSED)


def number_or_name(text: str | None) -> int | str | None:
    """An IP protocol as the API takes it."""
    return int(text) if text is not None and text.isascii() and text.isdigit() else text


def _lines(answer: Object) -> Iterator[str]:
    yield clean(answer["summary"])
    if answer["findings"]:
        yield ""
        width = max(len(one["severity"]) for one in answer["findings"])
        yield from (f"{one['severity']:{width}}  {clean(one['text'])}" for one in answer["findings"])
    yield from _hops(answer)
    if answer["reply"] is not None:
        yield "\nthe answer"
        yield clean(answer["reply"]["summary"])
        yield from _hops(answer["reply"])


def _hops(answer: Object) -> Iterator[str]:
    live = answer["live"] or [None] * len(answer["hops"])
    steps = [step for hop in answer["hops"] for step in hop["steps"]]
    steps += [step for said in live if said is not None for step in said["steps"]]
    width = max((len(step["table_name"]) for step in steps), default=0)
    for hop, said in zip(answer["hops"], live, strict=True):
        yield f"\n{clean(hop['node'])}, from {_end(hop['in'])}"
        yield from _steps(hop["steps"], width)
        if hop["drop"] is not None:
            yield f"   x  dropped: {clean(hop['drop']['rule'])}"
        for end in hop["out"]:
            yield f"  ->  {_end(end)}"
        if said is not None:
            yield from _live(said, width)


def _live(said: Object, width: int) -> Iterator[str]:
    """Its own steps from where they are others."""
    yield f"  Open vSwitch {clean(said['text'])}"
    if said["agrees"] is False:
        yield from _steps(said["steps"][said["alike"] :], width)
        yield from (f"  ->  {clean(actions)}" for actions in said["actions"][-1:])


def _steps(steps: list[Object], width: int) -> Iterator[str]:
    for step in steps:
        yield f"  {step['table']:>3}  {step['table_name']:{width}}  {clean(step['text'])}"


def _end(end: Any) -> str:
    """One without an id says what it is itself: `a port of another project`."""
    return ("port " if end["kind"] == "port" and end["id"] is not None else "") + clean(end["name"])
