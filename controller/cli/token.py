"""`trunkline token`: create, list, show, rotate, revoke, hash."""

from __future__ import annotations

import hashlib
import secrets
import sys
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import typer

from controller.cli import options, render
from controller.cli.errors import CliError, ExitCode
from controller.cli.group import Commands
from controller.cli.options import Output
from controller.cli.render import Column, Format
from controller.cli.session import Session, resolve
from controller.client import Object

app = typer.Typer(cls=Commands, help="Who may use the API.", rich_markup_mode=None)

TokenArgument = Annotated[str, typer.Argument(metavar="TOKEN", help="Name or id.")]

COLUMNS = (
    Column("name", "name"),
    Column("role", "role"),
    Column("project", "project_id"),
    Column("node", "node"),
    Column("scopes", "scopes"),
    Column("state", "state"),
    Column("expires", "expires_at"),
    Column("last used", "last_used_at"),
    Column("id", "id"),
)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
SAFE_LENGTH = 32


class Role(StrEnum):
    ADMIN = "admin"
    MEMBER = "member"
    READER = "reader"
    AGENT = "agent"


@app.command("list")
def list_(
    context: typer.Context,
    role: Annotated[Role | None, typer.Option("--role", help="Only those of this role.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also those that are revoked or expired.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """List tokens, but for those of the controller's configuration."""
    found = Session.of(context).client.list_tokens(role=role)
    render.show_list([one for one in found if everything or one["state"] == "active"], COLUMNS, output)


@app.command()
def show(context: typer.Context, token: TokenArgument, output: Output = Format.TABLE) -> None:
    """Show a token; not what it is, which nobody knows."""
    session = Session.of(context)
    render.show_object(session.client.get_token(_id(session, token)), output)


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="For whom or what it is.")],
    role: Annotated[Role, typer.Option("--role", help="What it may.")],
    project: Annotated[str | None, typer.Option("--project", metavar="ID", help="Of a member.")] = None,
    node: Annotated[str | None, typer.Option("--node", metavar="NODE", help="Of an agent; default: any.")] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", metavar="NAME:read|write[,...]", help="Narrow it, e.g. ports:write,networks:read."),
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="As --scope all:read.")] = False,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="TIME|N[smhd]", help="When it ends, or after how long.")
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Make a token. What it is, is shown this once."""
    scopes = [part.strip() for text in scope or () for part in text.split(",")]
    scopes += ["all:read"] if read_only else []
    fields = options.given(
        name=name,
        role=role.value,
        project_id=project,
        node=node,
        scopes=scopes or None,
        expires_at=None if expires is None else _moment(expires),
    )
    session = Session.of(context)
    session.finish(session.client.create_token(fields), output, False, 0)


@app.command()
def rotate(
    context: typer.Context,
    token: TokenArgument,
    grace: Annotated[int, typer.Option("--grace", min=0, metavar="SECONDS", help="For which the old one is good.")] = 0,
    output: Output = Format.TABLE,
) -> None:
    """Have another one in its place. What it is, is shown this once."""
    session = Session.of(context)
    session.finish(session.client.rotate_token(_id(session, token), grace), output, False, 0)


@app.command()
def revoke(context: typer.Context, token: TokenArgument, output: Output = Format.TABLE) -> None:
    """Have it be good for nothing, at once."""
    session = Session.of(context)
    session.finish(session.client.revoke_token(_id(session, token)), output, False, 0)


@app.command("hash")
def hash_(
    given: Annotated[
        bool, typer.Option("--stdin", help="Of the token on the standard input, instead of a new one.")
    ] = False,
    output: Output = Format.TABLE,
) -> None:
    """Make a token for the controller's configuration: itself, and its hash, which is enough there."""
    token = sys.stdin.readline().strip() if given else f"tl_{secrets.token_urlsafe(32)}"
    if len(token) < SAFE_LENGTH:
        raise CliError(f"a hash tells a token of less than {SAFE_LENGTH} characters: it can be guessed", ExitCode.USAGE)
    made = {} if given else {"token": token}
    made["hash"] = f"sha256={hashlib.sha256(token.encode()).hexdigest()}"
    if output is Format.TABLE:
        render.show_text("\n".join(made.values()))
    else:
        render.show_data(made, output)


def _id(session: Session, reference: str) -> str:
    """Of those of one name, the one that is active."""

    def named(name: str) -> list[Object]:
        found = session.client.list_tokens(name=name)
        return [one for one in found if one["state"] == "active"] or found

    return str(resolve("token", reference, session.client.get_token, named)["id"])


def _moment(text: str) -> str:
    number, unit = text[:-1], text[-1:]
    if unit in _UNITS and number.isascii() and number.isdigit():
        try:
            return (datetime.now(UTC) + timedelta(seconds=int(number) * _UNITS[unit])).isoformat(timespec="seconds")
        except OverflowError as error:
            raise typer.BadParameter(f"{text!r} is too long", param_hint="--expires") from error
    return text
