"""`trunkline capture`: what passes a port, as a pcap file that grows."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Annotated, Any, BinaryIO

import typer

from controller.cli.errors import CliError, ExitCode
from controller.cli.options import PortArgument, given
from controller.cli.render import clean
from controller.cli.session import Session

STDOUT = "-"
PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "gre": 47, "esp": 50, "icmp6": 58, "vrrp": 112, "sctp": 132}
_ENDS = {"seconds": "after --seconds", "packets": "after --packets", "bytes": "with all that one may hold"}
"""What a capture ends by when nothing went wrong."""


def capture(
    context: typer.Context,
    port: PortArgument,
    seconds: Annotated[int, typer.Option("--seconds", min=1, help="How long.", metavar="SECONDS")] = 30,
    packets: Annotated[int, typer.Option("--packets", min=1, help="How many at most.", metavar="N")] = 1000,
    snaplen: Annotated[int, typer.Option("--snaplen", min=14, help="Bytes of each that are kept.", metavar="N")] = 128,
    match: Annotated[
        str | None,
        typer.Option("--filter", metavar="WORDS", help="Only '[PROTOCOL] [host ADDRESS] [port N]', as 'tcp port 80'."),
    ] = None,
    write: Annotated[str, typer.Option("-w", "--write", metavar="FILE", help="Where to; '-' is stdout.")] = STDOUT,
) -> None:
    """Capture what passes a port on its node, for tcpdump -r - or Wireshark to read as it comes."""
    fields: dict[str, Any] = {"seconds": seconds, "packets": packets, "snaplen": snaplen}
    if match is not None:
        fields["filter"] = parse_filter(match)
    if write == STDOUT and sys.stdout.isatty():
        raise CliError("a capture is nothing for a terminal: -w FILE, or | tcpdump -r -", ExitCode.USAGE)
    session = Session.of(context)
    port_id = session.port_id(port)
    received = 0
    with _target(write) as target, session.client.capture(port_id, fields) as running:
        try:
            for part in running:
                received += len(part)
                target.write(part)
                target.flush()
        except BrokenPipeError:
            # what Python still has for it must not fail again at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            _say(f"nobody reads it any more, {received} bytes")
            return
        except KeyboardInterrupt:
            _say(f"ended, {received} bytes")
            return
    summary = session.client.get_capture(port_id, running.id)
    counts = f"{summary['packets']} packets, {received} bytes, {summary['dropped']} packets left out"
    reason = summary["reason"]
    _say(f"{counts}; ended {_ENDS.get(reason, f'before its time: {reason}')}")
    if reason not in _ENDS:
        raise typer.Exit(ExitCode.REFUSED)


def parse_filter(text: str) -> dict[str, Any]:
    """A few words of pcap-filter(7): `[PROTOCOL] [host ADDRESS] [port N]`, with or without `and`. Raises CliError."""
    protocol: int | None = None
    address: str | None = None
    number: int | None = None
    words = [word for word in text.lower().split() if word != "and"]
    while words:
        match words:
            case [name, *words] if protocol is None and name in PROTOCOLS:
                protocol = PROTOCOLS[name]
            case ["proto", digits, *words] if protocol is None and _is_number(digits, 255):
                protocol = int(digits)
            case ["host", name, *words] if address is None:
                try:
                    address = str(ip_address(name))
                except ValueError:
                    raise _unknown(text) from None
            case ["port", digits, *words] if number is None and _is_number(digits, 65535):
                number = int(digits)
            case _:
                raise _unknown(text)
    return given(protocol=protocol, address=address, port=number)


def _is_number(text: str, most: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= most


def _unknown(text: str) -> CliError:
    names = ", ".join(PROTOCOLS)
    return CliError(
        f"--filter {clean(text)!r} is not '[PROTOCOL] [host ADDRESS] [port N]' with a protocol of {names}, or proto N",
        ExitCode.USAGE,
    )


@contextmanager
def _target(name: str) -> Iterator[BinaryIO]:
    if name == STDOUT:
        yield sys.stdout.buffer
        return
    try:
        file = open(name, "wb")  # noqa: SIM115  (closed below)
    except OSError as error:
        raise CliError(f"cannot write {clean(name)}: {error.strerror}", ExitCode.USAGE) from error
    with file:
        yield file


def _say(text: str) -> None:
    typer.echo(text, err=True)
