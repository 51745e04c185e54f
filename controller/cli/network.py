"""`trunkline network`: create, list, show, set, delete. See `network_project` for the rest."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer

from controller.bounds import LEAST_LEASE_TIME, LEAST_MTU, MOST_LEASE_TIME, MOST_MTU
from controller.cli import options, render, subnet
from controller.cli.errors import CliError, ExitCode
from controller.cli.group import Commands
from controller.cli.network_ranges import Ranges
from controller.cli.options import NetworkArgument, NetworkArguments, Output, ProjectFilter, Timeout, Wait
from controller.cli.render import Column, Format
from controller.cli.session import Session
from controller.client import Object, Written

app = typer.Typer(cls=Commands, help="Networks and their subnets.", rich_markup_mode=None)


AUTO = "auto"


class GatewayMode(StrEnum):
    """As flows.model.GatewayMode; written here again because the command does not load the model."""

    PER_HOST = "per_host"
    SHARED = "shared"
    SINGLE = "single"
    EXTERNAL = "external"
    NONE = "none"


COLUMNS = (
    Column("id", "id"),
    Column("name", "name"),
    Column("kind", "kind"),
    Column("physical network", "physical_network"),
    Column("segment", "segment"),
    Column("cidr", lambda network: [subnet["cidr"] for subnet in network.get("subnets") or ()]),
    Column("gateway mode", "gateway_mode"),
    Column("project", "project_id"),
    Column("shared", "shared"),
    Column("external", "external"),
    Column("assignable", "assignable"),
    Column("problems", "problems"),
)


@dataclass(frozen=True, slots=True)
class Changeable:
    """The options of both `create` and `set`."""

    external_network: Annotated[
        str | None,
        typer.Option(
            "--external-network", metavar="NETWORK", help="The way out; default: the external network made first."
        ),
    ] = None
    dhcp: Annotated[
        bool | None, typer.Option("--dhcp/--no-dhcp", help="Whether DHCP answers here (it does by default).")
    ] = None
    dhcp_option: options.DhcpOptions = None
    ntp_server: Annotated[
        list[str] | None, typer.Option("--ntp-server", metavar="ADDRESS", help="May be repeated.")
    ] = None
    lease_time: Annotated[
        int | None,
        typer.Option(
            "--lease-time", min=LEAST_LEASE_TIME, max=MOST_LEASE_TIME, metavar="SECONDS", help="DHCP lease time."
        ),
    ] = None
    domain: Annotated[str | None, typer.Option("--domain", help="DNS domain of the ports.")] = None
    mtu: Annotated[
        int | None, typer.Option("--mtu", min=LEAST_MTU, max=MOST_MTU, help="Handed out by DHCP; 1500 by default.")
    ] = None
    arp_responder: Annotated[
        bool | None,
        typer.Option("--arp-responder/--no-arp-responder", help="Answer ARP for every known port on the spot."),
    ] = None

    route: Annotated[
        list[str] | None,
        typer.Option(
            "--route",
            metavar="DEST,NEXTHOP",
            help="To a range behind a port of the network, for all networks routed with it (may be repeated).",
        ),
    ] = None
    snat_exempt: Annotated[
        list[str] | None,
        typer.Option("--snat-exempt", metavar="CIDR", help="What goes there keeps its source (may be repeated)."),
    ] = None
    force_snat: Annotated[
        list[str] | None,
        typer.Option(
            "--force-snat",
            metavar="CIDR",
            help="With gateway mode external: the nodes translate what goes there (may be repeated).",
        ),
    ] = None
    own_snat_address: Annotated[
        bool | None,
        typer.Option(
            "--own-snat-address/--no-own-snat-address", help="Each node leaves with an address for this network alone."
        ),
    ] = None
    dns_upstream: Annotated[
        list[str] | None,
        typer.Option(
            "--dns-upstream",
            metavar="ADDRESS",
            help="A server that the resolver asks for this network, in place of everybody's (may be repeated).",
        ),
    ] = None
    dhcp_relay: Annotated[
        list[str] | None,
        typer.Option(
            "--dhcp-relay",
            metavar="ADDRESS",
            help="A relay of yours that hands on what machines on the wire say by DHCP (may be repeated).",
        ),
    ] = None
    router: Annotated[
        str | None,
        typer.Option(
            "--router",
            metavar="project|isolated|NETWORK",
            help="Routed with the project's other networks (the default), with none, or with this one.",
        ),
    ] = None

    allow_same_net: Annotated[
        bool | None,
        typer.Option(
            "--allow-same-net/--no-allow-same-net",
            help="What comes from the network itself needs no security group (so by default, unless others use it).",
        ),
    ] = None
    filtering: Annotated[
        bool | None,
        typer.Option("--filtering/--no-filtering", help="Ports obey their security groups (they do by default)."),
    ] = None

    assignable: Annotated[
        bool | None,
        typer.Option(
            "--assignable/--no-assignable",
            help="To be given to a project, and taken back; free while it has none (administrators).",
        ),
    ] = None
    gateway_node: Annotated[
        str | None,
        typer.Option(
            "--gateway-node",
            metavar="NODE|auto",
            help="With gateway mode single: the way out is this node, lost or not; auto: one that is elected.",
        ),
    ] = None

    def fields(self) -> dict[str, Any]:
        """Those of the network itself that were given."""
        pin = options.nullable("gateway_node", self.gateway_node, AUTO)
        return pin | options.given(
            dhcp=self.dhcp,
            dhcp_options=options.dhcp_options(self.dhcp_option),
            ntp_servers=options.each("--ntp-server", self.ntp_server, str),
            lease_time=self.lease_time,
            dns_domain=self.domain,
            mtu=self.mtu,
            arp_responder=self.arp_responder,
            routes=options.each("--route", self.route, options.host_route),
            snat_exempt=options.each("--snat-exempt", self.snat_exempt, str),
            force_snat=options.each("--force-snat", self.force_snat, str),
            own_snat_address=self.own_snat_address,
            dhcp_relays=options.each("--dhcp-relay", self.dhcp_relay, str),
            dns_upstreams=options.each("--dns-upstream", self.dns_upstream, str),
            router=self.router,
            allow_same_net_traffic=self.allow_same_net,
            filtering=self.filtering,
            assignable=self.assignable,
        )


@app.command()
@options.grouped
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Need not be unique.")],
    cidr: Annotated[str, typer.Option("--cidr", help="Range of the (first) subnet, e.g. 10.0.1.0/24.")],
    changeable: Changeable,
    lists: subnet.Lists,
    ranges: Ranges,
    ipv6: subnet.Ipv6,
    more: Annotated[
        list[str] | None,
        typer.Option(
            "--subnet",
            metavar="CIDR[,KEY=VALUE]...",
            help="One more subnet (may be repeated). Keys: gateway, dns-server, allocation-range, reserve, ipv6-mode.",
        ),
    ] = None,
    physical_network: Annotated[
        str | None,
        typer.Option("--physical-network", metavar="NAME", help="E.g. physnet1; not for a network of one's own."),
    ] = None,
    vlan: Annotated[
        str | None, typer.Option("--vlan", metavar="ID|auto", help="Tagged with this VLAN id, or the next free one.")
    ] = None,
    flat: Annotated[
        bool, typer.Option("--flat", help="Untagged. One of --flat and --vlan is needed with --physical-network.")
    ] = False,
    gateway: Annotated[
        str | None,
        typer.Option(
            "--gateway",
            metavar="ADDRESS",
            help="With mode external your router, which must be given; with shared the nodes' address, else the first "
            "of the range; with the others there is none to give.",
        ),
    ] = None,
    gateway_mode: Annotated[
        GatewayMode | None,
        typer.Option(
            "--gateway-mode",
            help="Who routes: per_host (the default): each node, with an address of its own; shared: each node, all "
            "with one address; single: the same, but the way out is one node's; external (always so with --external): "
            "a router of yours; none: nobody.",
        ),
    ] = None,
    external: Annotated[bool, typer.Option("--external", help="The nodes reach the outside world here.")] = False,
    shared: Annotated[bool, typer.Option("--shared", help="Every project may use it.")] = False,
    project: Annotated[str | None, typer.Option("--project", metavar="ID", help="The project that owns it.")] = None,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Create a network, or many of one range. A user's own is placed where the operator wants it.

    Lists are those of its first subnet. Its gateway mode, VLAN, physical network and project, --shared and --external
    cannot be changed afterwards, nor can the gateway of a subnet.
    """
    tagged = vlan is not None
    if flat and tagged or physical_network and not (flat or tagged):
        raise CliError("give one of --flat and --vlan ID|auto", ExitCode.USAGE)
    session = Session.of(context)
    fields = options.given(
        name=name,
        kind="flat" if flat else "vlan" if tagged else None,
        physical_network=physical_network,
        segment=options.segment(vlan),
        gateway_mode=gateway_mode.value if gateway_mode else None,
        external=external or None,
        shared=shared or None,
        project_id=project,
    )
    fields |= changeable.fields()
    shared_gateway = gateway_mode is GatewayMode.SHARED and gateway is None
    first = ranges.narrow(options.given(cidr=cidr, gateway=gateway) | lists.fields(), shared_gateway)
    fields["subnets"] = [first, *ipv6.subnets(), *(options.each("--subnet", more, subnet.parse) or ())]
    if changeable.external_network is not None:
        fields["external_network_id"] = session.network_id(changeable.external_network)
    if not ranges.many:
        session.finish(session.client.create_network(fields), output, wait, timeout)
        return
    made, revision = session.client.create_networks(fields | ranges.many)
    render.show_list(made, COLUMNS, output)
    session.wait([Written(None, revision)], wait, timeout)


@app.command("list")
def list_(
    context: typer.Context,
    name: Annotated[str | None, typer.Option("--name", help="Only those with this name.")] = None,
    project: ProjectFilter = None,
    output: Output = Format.TABLE,
) -> None:
    """List networks."""
    networks = Session.of(context).client.list_networks(name=name, project_id=project)
    render.show_list(networks, COLUMNS, output)


@app.command()
def show(context: typer.Context, network: NetworkArgument, output: Output = Format.TABLE) -> None:
    """Show one network."""
    render.show_object(Session.of(context).network(network), output)


@app.command("set")
@options.grouped
def set_(
    context: typer.Context,
    network: NetworkArgument,
    changeable: Changeable,
    lists: subnet.Lists,
    name: Annotated[str | None, typer.Option("--name", help="A new name.")] = None,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Change a network. A list replaces the old list; the one word 'none' empties it, or gives the default way out."""
    session = Session.of(context)
    changes = options.given(name=name) | changeable.fields()
    of_subnet, external_network = lists.fields(), changeable.external_network
    if not (changes or of_subnet or external_network):
        raise CliError("nothing to change", ExitCode.USAGE)
    if external_network is not None:
        unset = external_network == options.NONE
        changes["external_network_id"] = None if unset else session.network_id(external_network)
    if of_subnet:

        def with_lists(found: Object) -> Object:
            return changes | {"subnets": [_only_subnet(found) | of_subnet]}

        written = subnet.change(session, network, with_lists)
    else:
        written = session.client.update_network(session.network_id(network), changes)
    session.finish(written, output, wait, timeout)


@app.command()
def delete(
    context: typer.Context,
    networks: NetworkArguments,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Delete networks that have no ports."""
    session = Session.of(context)
    session.finish_deletes(networks, session.network_id, session.client.delete_network, output, wait, timeout)


def _only_subnet(network: Object) -> Object:
    if len(network["subnets"]) != 1:
        raise CliError("the network has several subnets: use 'trunkline subnet set'", ExitCode.USAGE)
    return subnet.written(network["subnets"][0])
