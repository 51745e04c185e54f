"""`trunkline subnet`: list, add, set, delete. A network's subnets are written as a whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer

from controller.cli import options, render
from controller.cli.errors import CliError, ExitCode
from controller.cli.group import Commands
from controller.cli.options import NetworkArgument, Output, Timeout, Wait
from controller.cli.render import Column, Format
from controller.cli.session import Session
from controller.client import ApiError, Object, Written

app = typer.Typer(cls=Commands, help="The subnets of a network.", rich_markup_mode=None)


class Ipv6Mode(StrEnum):
    """As flows.model.Ipv6Mode; written here again because the command does not load the model."""

    SLAAC = "slaac"
    STATELESS = "dhcpv6-stateless"
    STATEFUL = "dhcpv6-stateful"


COLUMNS = (
    Column("id", "id"),
    Column("cidr", "cidr"),
    Column("gateway", "gateway"),
    Column("ipv6 mode", "ipv6_mode"),
    Column("allocation ranges", lambda subnet: [_span(part) for part in subnet["allocation_ranges"]]),
    Column("reserved", lambda subnet: [_span(part) for part in subnet["reserved"]]),
    Column("dns servers", "dns_servers"),
)

ATTEMPTS = 5
"""How often a change is made anew that is overtaken by others."""

_WRITTEN = ("cidr", "allocation_ranges", "reserved", "dns_servers", "host_routes", "ipv6_mode")

Mode = Annotated[
    Ipv6Mode | None,
    typer.Option("--ipv6-mode", help="How machines come by their addresses in an IPv6 subnet; slaac by default."),
]
SubnetArgument = Annotated[str, typer.Argument(metavar="SUBNET", help="Its range or id.")]


@dataclass(frozen=True, slots=True)
class Lists:
    """The options of a subnet that may change."""

    dns_server: Annotated[
        list[str] | None, typer.Option("--dns-server", metavar="ADDRESS", help="May be repeated.")
    ] = None
    allocation_range: Annotated[
        list[str] | None,
        typer.Option(
            "--allocation-range", metavar="FIRST-LAST", help="Take addresses from here only (may be repeated)."
        ),
    ] = None
    reserve: Annotated[
        list[str] | None,
        typer.Option("--reserve", metavar="ADDRESS|FIRST-LAST", help="Never hand these out (may be repeated)."),
    ] = None
    host_route: Annotated[
        list[str] | None,
        typer.Option("--host-route", metavar="DEST,NEXTHOP", help="A route for the guests, by DHCP (may be repeated)."),
    ] = None

    def fields(self) -> dict[str, Any]:
        """Those that were given."""
        return options.given(
            dns_servers=options.each("--dns-server", self.dns_server, str),
            allocation_ranges=options.each("--allocation-range", self.allocation_range, options.address_range),
            reserved=options.each("--reserve", self.reserve, options.reserved),
            host_routes=options.each("--host-route", self.host_route, options.host_route),
        )


@dataclass(frozen=True, slots=True)
class Ipv6:
    """The options of a new network about its first IPv6 subnet."""

    ipv6: Annotated[
        str | None, typer.Option("--ipv6", metavar="CIDR", help="Range of an IPv6 subnet beside, e.g. 2001:db8:1::/64.")
    ] = None
    ipv6_mode: Mode = None
    ipv6_gateway: Annotated[
        str | None,
        typer.Option(
            "--ipv6-gateway",
            metavar="ADDRESS",
            help="Of an external network the router, which must be given; else one that the nodes have beside fe80::.",
        ),
    ] = None

    def subnets(self) -> list[Object]:
        """The subnet, if it is asked for."""
        if self.ipv6 is None:
            if self.ipv6_mode is not None or self.ipv6_gateway is not None:
                raise CliError("--ipv6-mode and --ipv6-gateway are of the subnet of --ipv6", ExitCode.USAGE)
            return []
        mode = None if self.ipv6_mode is None else self.ipv6_mode.value
        return [options.given(cidr=self.ipv6, ipv6_mode=mode, gateway=self.ipv6_gateway)]


def parse(text: str) -> Object:
    """`CIDR[,gateway=ADDRESS][,dns-server=ADDRESS][,allocation-range=FIRST-LAST][,reserve=ADDRESS|FIRST-LAST]
    [,ipv6-mode=MODE]`.

    Raises ValueError.
    """
    cidr, *parts = (part.strip() for part in text.split(","))
    subnet: Object = {"cidr": cidr}
    for part in parts:
        key, separator, value = part.partition("=")
        if not separator or key not in _PARTS:
            raise ValueError(f"{part!r} is none of {', '.join(f'{name}=...' for name in _PARTS)}")
        name, read = _PARTS[key]
        if name in ("gateway", "ipv6_mode"):
            subnet[name] = value
        else:
            subnet.setdefault(name, []).append(read(value))
    return subnet


_PARTS: dict[str, tuple[str, Any]] = {
    "gateway": ("gateway", str),
    "dns-server": ("dns_servers", str),
    "allocation-range": ("allocation_ranges", options.address_range),
    "reserve": ("reserved", options.reserved),
    "ipv6-mode": ("ipv6_mode", str),
}


def written(subnet: Object) -> Object:
    """A subnet as it is, in the fields that a write takes: what is not sent would be emptied."""
    return {name: subnet[name] for name in _WRITTEN if name in subnet}


@app.command("list")
def list_(context: typer.Context, network: NetworkArgument, output: Output = Format.TABLE) -> None:
    """List the subnets of a network: addresses are chosen from the first one that has room."""
    render.show_list(Session.of(context).network(network)["subnets"], COLUMNS, output)


@app.command()
@options.grouped
def add(
    context: typer.Context,
    network: NetworkArgument,
    cidr: Annotated[str, typer.Argument(metavar="CIDR", help="Range of the subnet, e.g. 10.0.2.0/24.")],
    lists: Lists,
    ipv6_mode: Mode = None,
    gateway: Annotated[str | None, typer.Option("--gateway", metavar="ADDRESS")] = None,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Add a subnet to a network."""
    session = Session.of(context)
    mode = None if ipv6_mode is None else ipv6_mode.value
    new = options.given(cidr=cidr, gateway=gateway, ipv6_mode=mode) | lists.fields()

    def with_new(found: Object) -> Object:
        if any(subnet["cidr"] == cidr for subnet in found["subnets"]):
            raise CliError(f"the network has a subnet {cidr} already", ExitCode.REFUSED)
        return {"subnets": [*map(written, found["subnets"]), new]}

    session.finish(change(session, network, with_new), output, wait, timeout)


@app.command("set")
@options.grouped
def set_(
    context: typer.Context,
    network: NetworkArgument,
    subnet: SubnetArgument,
    lists: Lists,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Change a subnet. A list replaces the old list; the one word 'none' empties it."""
    session = Session.of(context)
    if not lists.fields():
        raise CliError("nothing to change", ExitCode.USAGE)

    def with_lists(found: Object) -> Object:
        chosen = _chosen(found, subnet)
        return {"subnets": [written(one) | (lists.fields() if one is chosen else {}) for one in found["subnets"]]}

    session.finish(change(session, network, with_lists), output, wait, timeout)


@app.command()
def delete(
    context: typer.Context,
    network: NetworkArgument,
    subnet: SubnetArgument,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Delete a subnet of which no address is in use. A network keeps at least one."""
    session = Session.of(context)

    def without(found: Object) -> Object:
        chosen = _chosen(found, subnet)
        if len(found["subnets"]) == 1:
            raise CliError("it is the only subnet of the network: delete the network", ExitCode.REFUSED)
        return {"subnets": [written(one) for one in found["subnets"] if one is not chosen]}

    session.finish(change(session, network, without), output, wait, timeout)


def _chosen(network: Object, reference: str) -> Object:
    subnets: list[Object] = network["subnets"]
    for subnet in subnets:
        if reference in (subnet["cidr"], subnet["id"]):
            return subnet
    raise CliError(f"the network has no subnet {reference}", ExitCode.REFUSED)


def change(session: Session, network: str, changes: Callable[[Object], Object]) -> Written:
    """Change a network by what it has now, and again from the beginning when somebody else was quicker."""
    for _ in range(ATTEMPTS - 1):
        try:
            return _change_once(session, network, changes)
        except ApiError as error:
            if error.code != "network_changed":
                raise
    return _change_once(session, network, changes)


def _change_once(session: Session, network: str, changes: Callable[[Object], Object]) -> Written:
    found = session.network(network)
    expected = options.given(expected_revision=found.get("revision"))
    return session.client.update_network(str(found["id"]), changes(found) | expected)


def _span(part: Object) -> str:
    return str(part["first"]) if part["first"] == part["last"] else f"{part['first']}-{part['last']}"
