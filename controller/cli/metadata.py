"""`trunkline metadata`: show, set."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from controller.cli import options, render
from controller.cli.errors import CliError, ExitCode
from controller.cli.group import Commands
from controller.cli.options import Output, PortArgument, Timeout, Wait
from controller.cli.render import Format
from controller.cli.session import Session
from controller.client import Object

app = typer.Typer(
    cls=Commands,
    help="What machines are told of themselves at 169.254.169.254. A machine is named by one of its ports.",
    rich_markup_mode=None,
)

STANDARD_INPUT = "-"


@app.command()
def show(context: typer.Context, port: PortArgument, output: Output = Format.TABLE) -> None:
    """Show what a machine was given, and the password that it has told, encrypted with its user's key."""
    session = Session.of(context)
    _show(session.client.get_metadata(session.port_id(port)), output)


@app.command("set")
def set_(
    context: typer.Context,
    port: PortArgument,
    public_key: Annotated[
        list[str] | None,
        typer.Option(
            "--public-key", metavar="FILE|none", help="SSH keys, as in a .pub file or authorized_keys (repeatable)."
        ),
    ] = None,
    user_data: Annotated[
        str | None, typer.Option("--user-data", metavar="FILE|-|none", help="For cloud-init, 65536 bytes at most.")
    ] = None,
    vendor_data: Annotated[
        str | None,
        typer.Option(
            "--vendor-data", metavar="FILE|-|none", help="A JSON object, in place of the cloud's own (administrators)."
        ),
    ] = None,
    meta: Annotated[
        list[str] | None, typer.Option("--meta", metavar="NAME=VALUE|none", help="OpenStack's meta (repeatable).")
    ] = None,
    availability_zone: Annotated[
        str | None, typer.Option("--availability-zone", metavar="ZONE|none", help="By default the cloud's.")
    ] = None,
    instance_type: Annotated[str | None, typer.Option("--instance-type", metavar="TYPE|none")] = None,
    forget_password: Annotated[
        bool, typer.Option("--forget-password", help="The machine may tell another one.")
    ] = False,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Change what a machine is told. What is not named stays as it is; the one word 'none' empties it.

    The host name is that of its port: `port set --hostname`.
    """
    session = Session.of(context)
    fields = options.given(
        public_keys=_merged("--public-key", public_key, _public_keys),
        meta=_merged("--meta", meta, _meta),
    )
    if user_data is not None:
        fields["user_data"] = None if user_data == options.NONE else base64.b64encode(_read(user_data)).decode()
    if vendor_data is not None:
        fields["vendor_data"] = None if vendor_data == options.NONE else _object(vendor_data)
    for name, text in (("availability_zone", availability_zone), ("instance_type", instance_type)):
        if text is not None:
            fields[name] = "" if text == options.NONE else text
    if forget_password:
        fields["password"] = None
    if not fields:
        raise CliError("nothing to change", ExitCode.USAGE)
    written = session.client.update_metadata(session.port_id(port), fields)
    session.finish(written, output, wait, timeout, _show)


def _show(found: Object, output: Format) -> None:
    """In a table user data is counted, not shown: it is long, and may hold passwords."""
    if output is Format.TABLE and found.get("user_data") is not None:
        found = {**found, "user_data": f"{len(base64.b64decode(found['user_data']))} bytes"}
    render.show_object(found, output)


def _merged(option: str, texts: list[str] | None, parse: Any) -> dict[str, str] | None:
    parts = options.each(option, texts, parse)
    if parts is None:
        return None
    merged: dict[str, str] = {}
    for part in parts:
        for name in part.keys() & merged.keys():
            raise typer.BadParameter(f"{name!r} is given twice", param_hint=option)
        merged |= part
    return merged


def _public_keys(place: str) -> dict[str, str]:
    """By their comments, the first without one by the file's name. Raises ValueError."""
    text = _read(place).decode("utf-8", "replace")
    if "PRIVATE KEY" in text:
        raise ValueError("is a private key, which nobody else should have")
    lines = [line.strip() for line in text.splitlines()]
    found: dict[str, str] = {}
    for line in lines:
        if line and not line.startswith("#"):
            name = line.split(None, 2)[2] if line.count(" ") > 1 else Path(place).stem
            if name in found:
                raise ValueError(f"has two keys called {name!r}")
            found[name] = line
    if not found:
        raise ValueError("holds no key")
    return found


def _meta(text: str) -> dict[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise ValueError("not of the form NAME=VALUE")
    return {name: value}


def _object(place: str) -> Any:
    try:
        found = json.loads(_read(place))
    except ValueError as error:
        raise CliError(f"{place} is no JSON: {error}", ExitCode.USAGE) from error
    return found


def _read(place: str) -> bytes:
    if place == STANDARD_INPUT:
        return sys.stdin.buffer.read()
    try:
        return Path(place).read_bytes()
    except OSError as error:
        raise CliError(f"cannot read {place}: {error.strerror}", ExitCode.USAGE) from error
