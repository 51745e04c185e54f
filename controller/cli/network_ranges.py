"""The options of `trunkline network create` about ranges: many networks of one, and nova-network's words for parts."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Any

import typer

from controller.cli import options
from controller.cli.errors import CliError, ExitCode

_ALONE = "give one of --allocation-range, --fixed-cidr and --allowed-start with --allowed-end"


@dataclass(frozen=True, slots=True)
class Ranges:
    count: Annotated[
        int | None,
        typer.Option("--count", min=1, max=256, help="So many networks of the range, called NAME_0 and so on."),
    ] = None
    network_size: Annotated[
        int | None,
        typer.Option(
            "--network-size", min=4, metavar="ADDRESSES", help="Of each; default: an equal part, 256 at most."
        ),
    ] = None
    fixed_cidr: Annotated[
        str | None, typer.Option("--fixed-cidr", metavar="CIDR", help="Take addresses from this part of the range.")
    ] = None
    allowed_start: Annotated[
        str | None,
        typer.Option(
            "--allowed-start",
            metavar="ADDRESS",
            help="Take addresses from here on; the gateway of mode shared, if none is given.",
        ),
    ] = None
    allowed_end: Annotated[
        str | None, typer.Option("--allowed-end", metavar="ADDRESS", help="Take addresses up to here.")
    ] = None

    @property
    def many(self) -> dict[str, Any]:
        """What makes of one network many; empty for just one."""
        return options.given(count=self.count, network_size=self.network_size)

    def narrow(self, subnet: dict[str, Any], shared_gateway: bool) -> dict[str, Any]:
        """The subnet with what was said here. `shared_gateway`: it is to have a gateway, and none is given."""
        allowed = self.allowed_start is not None or self.allowed_end is not None
        if ("allocation_ranges" in subnet) + (self.fixed_cidr is not None) + allowed > 1:
            raise CliError(_ALONE, ExitCode.USAGE)
        if self.fixed_cidr is not None:
            part = _range("--fixed-cidr", self.fixed_cidr)
            return subnet | {"allocation_ranges": [{"first": str(part[0]), "last": str(part[-1])}]}
        if not allowed:
            return subnet
        cidr = _range("--cidr", subnet["cidr"])
        first = self.allowed_start or str(cidr[1])
        last = self.allowed_end or str(cidr[-2])
        for option, text in (("--allowed-start", first), ("--allowed-end", last)):
            _address(option, text)
        gateway = {"gateway": first} if shared_gateway and self.allowed_start else {}
        return subnet | {"allocation_ranges": [{"first": first, "last": last}]} | gateway


def _range(option: str, text: str) -> IPv4Network:
    try:
        return IPv4Network(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}: {error}", param_hint=option) from error


def _address(option: str, text: str) -> None:
    try:
        IPv4Address(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}: {error}", param_hint=option) from error
