"""`trunkline pki`: a small authority. It works on files and needs no controller."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.cli import render
from controller.cli.errors import CliError, ExitCode
from controller.cli.group import Commands
from controller.cli.options import Output
from controller.cli.render import Column, Format
from controller.pki.identity import Kind, checked
from controller.pki.specs import AUTHORITY_DAYS, CERTIFICATE_DAYS, RENEW_DAYS, Entry, PkiError

if TYPE_CHECKING:
    from controller.pki.directory import PkiDirectory

DEFAULT_DIRECTORY = Path("/etc/trunkline/pki")

app = typer.Typer(
    cls=Commands, help="Certificates of controllers and nodes, by an authority of your own.", rich_markup_mode=None
)

Directory = Annotated[
    Path, typer.Option("--directory", metavar="DIR", envvar="TRUNKLINE_PKI", help="Where the authority is.")
]
Days = Annotated[int, typer.Option("--days", min=1, max=AUTHORITY_DAYS, help="How long it is valid.")]
Force = Annotated[bool, typer.Option("--force", help="Also in place of what is there.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Its name in the cloud.")]

COLUMNS = (
    Column("name", "name"),
    Column("ends", "ends"),
    Column("state", "state"),
    Column("addresses", lambda shown: ", ".join(shown["addresses"])),
)


def opened(directory: Path) -> PkiDirectory:
    """What signs takes long to load: only these commands need it."""
    from controller.pki.directory import PkiDirectory

    return PkiDirectory(directory)


def explained(command: Callable[..., None]) -> Callable[..., None]:
    """What goes wrong is one line and exit code 1."""

    @wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except (PkiError, ValueError, OSError) as error:
            raise CliError(str(error), ExitCode.REFUSED) from error

    return run


@app.command()
@explained
def init(
    name: Annotated[str, typer.Option("--name", help="What the authority is called.")] = "Trunkline authority",
    directory: Directory = DEFAULT_DIRECTORY,
    force: Force = False,
    output: Output = Format.TABLE,
) -> None:
    """Make the authority. Whoever has its key can be anyone: keep ca-key.pem where nobody else reads it."""
    _made([opened(directory).init(name, force=force)], output)


@app.command()
@explained
def controller(
    name: NameArgument,
    address: Annotated[
        list[str] | None,
        typer.Option("--address", metavar="ADDRESS", help="Name or address that it is reached by (may be repeated)."),
    ] = None,
    directory: Directory = DEFAULT_DIRECTORY,
    days: Days = CERTIFICATE_DAYS,
    force: Force = False,
    output: Output = Format.TABLE,
) -> None:
    """Make the certificate of a controller, for its name and addresses."""
    addresses = list(dict.fromkeys([name, *(address or ())]))
    issue = opened(directory).issue
    _made([issue(checked(Kind.CONTROLLER, name), addresses, days=days, force=force)], output)


@app.command()
@explained
def node(
    name: NameArgument,
    directory: Directory = DEFAULT_DIRECTORY,
    days: Days = CERTIFICATE_DAYS,
    force: Force = False,
    output: Output = Format.TABLE,
) -> None:
    """Make the certificate of a node: of its agent, which needs no token then, and its Open vSwitch."""
    _made([opened(directory).issue(checked(Kind.NODE, name), days=days, force=force)], output)


@app.command()
@explained
def client(
    name: NameArgument,
    directory: Directory = DEFAULT_DIRECTORY,
    days: Days = CERTIFICATE_DAYS,
    force: Force = False,
    output: Output = Format.TABLE,
) -> None:
    """Make a certificate for who uses the API where that demands one; a token says what its owner may do."""
    _made([opened(directory).issue(checked(Kind.CLIENT, name), days=days, force=force)], output)


@app.command()
@explained
def show(directory: Directory = DEFAULT_DIRECTORY, output: Output = Format.TABLE) -> None:
    """Show the authority and what it has issued."""
    pki = opened(directory)
    own = pki.describe_authority()
    first = {"name": "(authority)", "ends": f"{own.ends:%Y-%m-%d}", "state": "valid", "addresses": []}
    render.show_list([first, *map(_view, pki.entries())], COLUMNS, output)


def _view(entry: Entry) -> dict[str, Any]:
    ends, now = entry.description.ends, datetime.now(UTC)
    state = "revoked" if entry.revoked else "ended" if ends <= now else "due" if entry.description.due(now) else "valid"
    addresses = list(entry.description.addresses)
    return {"name": entry.path.name, "ends": f"{ends:%Y-%m-%d}", "state": state, "addresses": addresses}


@app.command()
@explained
def renew(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help=f"As `show` names them; default: all that end in {RENEW_DAYS} days."),
    ] = None,
    directory: Directory = DEFAULT_DIRECTORY,
    days: Days = CERTIFICATE_DAYS,
    output: Output = Format.TABLE,
) -> None:
    """Make new keys and certificates for the same names and addresses. Copy them where the old ones are."""
    pki = opened(directory)
    _made((pki.renew(name, days=days) for name in names or list(pki.due())), output)


@app.command()
@explained
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `show` names it.")],
    directory: Directory = DEFAULT_DIRECTORY,
    output: Output = Format.TABLE,
) -> None:
    """Add a certificate to the list of those that controllers refuse. Copy crl.pem to them."""
    _made([opened(directory).revoke(name)], output)


def _made(paths: Iterable[Path], output: Format) -> None:
    """For people each at once: the next one may fail."""
    if output is Format.TABLE:
        for path in paths:
            render.show_text(f"made {path}")
    else:
        render.show_data({"made": [str(path) for path in paths]}, output)
