"""`trunkline port`: create, list, show, set, delete, counters, network-data, xml."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer

from controller.cli import names, options, render
from controller.cli.errors import CliError, ExitCode
from controller.cli.group import Commands
from controller.cli.options import Output, PortArgument, PortArguments, ProjectFilter, Timeout, Wait
from controller.cli.render import Column, Format
from controller.cli.session import Session, is_id
from controller.client import Object, Written

app = typer.Typer(cls=Commands, help="Ports: the addresses of virtual machines.", rich_markup_mode=None)

COLUMNS = (
    Column("id", "id"),
    Column("name", "name"),
    Column("network", "network_id"),
    Column("mac", "mac"),
    Column("fixed ips", lambda port: addresses(port)),
    Column("node", lambda port: node_of(port)),
    Column("status", "status"),
    Column("binding error", "binding_error"),
)


class DataForm(StrEnum):
    NETWORK_DATA = "network-data"
    NETWORK_CONFIG = "network-config"


@dataclass(frozen=True, slots=True)
class Changeable:
    """The options of both `create` and `set`."""

    fixed_ip: Annotated[
        list[str] | None,
        typer.Option("--fixed-ip", metavar="ADDRESS|SUBNET-ID", help="This one, or any of a subnet (repeatable)."),
    ] = None
    hostname: Annotated[str | None, typer.Option("--hostname", help="Handed out by DHCP.")] = None
    device_id: Annotated[str | None, typer.Option("--device-id", metavar="ID", help="The machine it belongs to.")] = (
        None
    )
    dhcp_option: options.DhcpOptions = None
    security_group: Annotated[
        list[str] | None,
        typer.Option(
            "--security-group", metavar="GROUP", help="Name or id (may be repeated); 'none': nothing is allowed."
        ),
    ] = None
    address_pair: Annotated[
        list[str] | None,
        typer.Option(
            "--address-pair",
            metavar="ADDRESS|CIDR[,MAC]",
            help="It may use this too, as with VRRP (may be repeated).",
        ),
    ] = None
    port_security: Annotated[
        bool | None,
        typer.Option(
            "--port-security/--no-port-security",
            help="Without, it may send from any address, and its groups and pairs are taken away (administrators); "
            "with it again, give --security-group anew, or it is in group default.",
        ),
    ] = None
    qos_egress: Annotated[
        str | None,
        typer.Option(
            "--qos-egress",
            metavar="RATE[:BURST]|none",
            help="What it may send, in kbit/s (64 and up), and how many kbit at once after a pause (600 and up).",
        ),
    ] = None
    qos_ingress: Annotated[
        str | None,
        typer.Option("--qos-ingress", metavar="RATE[:BURST]|none", help="What it may receive, in the same units."),
    ] = None
    dscp: Annotated[
        str | None, typer.Option("--dscp", metavar="0-63|none", help="The mark of what it sends (RFC 2474).")
    ] = None

    def fields(self) -> dict[str, Any]:
        """Those that were given."""
        return (
            options.given(
                fixed_ips=options.each("--fixed-ip", self.fixed_ip, _fixed_ip),
                hostname=self.hostname,
                device_id=self.device_id,
                dhcp_options=options.dhcp_options(self.dhcp_option),
            )
            | self._policy()
        )

    def _policy(self) -> dict[str, Any]:
        given = options.given(
            security_groups=options.each("--security-group", self.security_group, str),
            address_pairs=options.each("--address-pair", self.address_pair, _address_pair),
            port_security=self.port_security,
        )
        bare: dict[str, Any] = {"security_groups": [], "address_pairs": []} if self.port_security is False else {}
        return bare | given

    def qos(self, before: Object | None) -> dict[str, Any]:
        """The whole field `qos`, if part of it was given: a write replaces it all. `before`: what it is now."""
        parts = {
            "egress": _part("--qos-egress", self.qos_egress, _bandwidth),
            "ingress": _part("--qos-ingress", self.qos_ingress, _bandwidth),
            "dscp": _part("--dscp", self.dscp, _dscp),
        }
        named = {name: part for name, part in parts.items() if part is not _LEFT}
        if not named:
            return {}
        merged = {name: value for name, value in ({**(before or {}), **named}).items() if value is not None}
        return {"qos": merged or None}

    @property
    def limited(self) -> bool:
        return any(text is not None for text in (self.qos_egress, self.qos_ingress, self.dscp))


def addresses(port: render.Object) -> list[str]:
    return [fixed_ip["address"] for fixed_ip in port.get("fixed_ips") or ()]


def node_of(port: render.Object) -> object:
    """Where it is, else where it is scheduled, else None."""
    return (port.get("binding") or {}).get("node") or port.get("node")


@app.command()
@options.grouped
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Need not be unique.")],
    changeable: Changeable,
    network: Annotated[
        str | None,
        typer.Option(
            "--network", metavar="NETWORK", help="Name or id; by default a port on each that its project is on."
        ),
    ] = None,
    mac: Annotated[str | None, typer.Option("--mac", help="Made up by default.")] = None,
    project: Annotated[str | None, typer.Option("--project", metavar="ID", help="The project that owns it.")] = None,
    node: Annotated[str | None, typer.Option("--node", help="Only this node may claim it.")] = None,
    interface_name: Annotated[
        str | None,
        typer.Option("--interface-name", metavar="NAME", help="It is known by that name, as tap100i0, without an id."),
    ] = None,
    port_id: Annotated[
        str | None, typer.Option("--id", metavar="UUID", help="Made up by default; the interface's iface-id.")
    ] = None,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Create a port, or without --network all the ports of a machine."""
    session = Session.of(context)
    fields = options.given(name=name, mac=mac, project_id=project, node=node, id=port_id) | changeable.fields()
    fields |= changeable.qos(None)
    if network is not None:
        fields |= {"network_id": session.network_id(network)} | options.given(interface_name=interface_name)
        session.finish(session.client.create_port(fields), output, wait, timeout)
        return
    if mac or port_id or interface_name or changeable.fixed_ip or changeable.address_pair:
        raise CliError("--mac, --id, --interface-name, --fixed-ip and --address-pair need --network", ExitCode.USAGE)
    fields.pop("address_pairs", None)  # of --no-port-security
    made, revision = session.client.create_device_ports({"device_id": name} | fields)
    names.show_list(session, made, COLUMNS, output, names.NETWORK)
    session.wait([Written(None, revision)], wait, timeout)


@app.command("list")
def list_(
    context: typer.Context,
    name: Annotated[str | None, typer.Option("--name", help="Only those with this name.")] = None,
    network: Annotated[str | None, typer.Option("--network", metavar="NETWORK", help="Only those of this one.")] = None,
    node: Annotated[str | None, typer.Option("--node", help="Only those on this node.")] = None,
    project: ProjectFilter = None,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            metavar="PATTERN",
            help="Only those with such a fixed or floating IP: 10.0.0.7, 10.0.0.0/28, 10.0.0.1*, ^10\\.0\\.0\\.1",
        ),
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """List ports."""
    session = Session.of(context)
    network_id = session.network_id(network) if network else None
    ports = session.client.list_ports(name=name, network_id=network_id, node=node, project_id=project, address=address)
    names.show_list(session, ports, COLUMNS, output, names.NETWORK)


@app.command()
def show(context: typer.Context, port: PortArgument, output: Output = Format.TABLE) -> None:
    """Show one port."""
    render.show_object(Session.of(context).port(port), output)


@app.command("set")
@options.grouped
def set_(
    context: typer.Context,
    port: PortArgument,
    changeable: Changeable,
    name: Annotated[str | None, typer.Option("--name", help="A new name.")] = None,
    node: Annotated[str | None, typer.Option("--node", help="Only this node may claim it; 'none' for any.")] = None,
    interface_name: Annotated[
        str | None,
        typer.Option(
            "--interface-name", metavar="NAME", help="It is known by that name, as tap100i0; 'none': by its id alone."
        ),
    ] = None,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Change a port. A list replaces the old list; the one word 'none' empties it."""
    session = Session.of(context)
    changes = options.given(name=name) | changeable.fields() | options.nullable("node", node)
    changes |= options.nullable("interface_name", interface_name)
    if not changes and not changeable.limited:
        raise CliError("nothing to change", ExitCode.USAGE)
    if changeable.limited:
        found = session.port(port)
        port, changes = str(found["id"]), changes | changeable.qos(found.get("qos"))
    written = session.client.update_port(session.port_id(port), changes)
    session.finish(written, output, wait, timeout)


@app.command()
def delete(
    context: typer.Context,
    ports: PortArguments,
    output: Output = Format.TABLE,
    wait: Wait = False,
    timeout: Timeout = 30.0,
) -> None:
    """Delete ports, and give their addresses back."""
    session = Session.of(context)
    session.finish_deletes(ports, session.port_id, session.client.delete_port, output, wait, timeout)


@app.command()
def counters(context: typer.Context, port: PortArgument, output: Output = Format.TABLE) -> None:
    """Show what a port has sent and received, and what of that was dropped, and why."""
    session = Session.of(context)
    render.show_object(session.client.get_port_counters(session.port_id(port)), output)


@app.command("network-data")
def network_data(
    context: typer.Context,
    port: PortArgument,
    form: Annotated[
        DataForm, typer.Option("--format", help="OpenStack's network_data.json, or cloud-init's network config 2.")
    ] = DataForm.NETWORK_DATA,
) -> None:
    """Print what the port's machine is configured with when there is no DHCP, all its ports included."""
    session = Session.of(context)
    document = session.client.get_network_data(session.port_id(port))[form.value.replace("-", "_")]
    render.show_data(document, Format.JSON if form is DataForm.NETWORK_DATA else Format.YAML)


@app.command()
def xml(
    context: typer.Context,
    port: PortArgument,
    bridge: Annotated[str, typer.Option("--bridge", help="The integration bridge of the nodes.")] = "br-int",
    output: Output = Format.TABLE,
) -> None:
    """Print the <interface> element that puts a libvirt machine on this port."""
    session = Session.of(context)
    found = session.port(port)
    text = interface_xml(found, session.client.get_network(found["network_id"]), bridge)
    if output is Format.TABLE:
        render.show_text(text)
    else:
        render.show_data({"id": found["id"], "xml": text}, output)


def interface_xml(port: Object, network: Object, bridge: str) -> str:
    """The libvirt element (libvirt.org/formatdomain.html, "Network interfaces"); libvirt sets iface-id from it."""
    from xml.sax.saxutils import quoteattr  # late: urllib.request comes with it, which no command needs

    return "\n".join(
        (
            '<interface type="bridge">',
            f"  <mac address={quoteattr(port['mac'])}/>",
            f"  <source bridge={quoteattr(bridge)}/>",
            '  <virtualport type="openvswitch">',
            f"    <parameters interfaceid={quoteattr(port['id'])}/>",
            "  </virtualport>",
            f"  <target dev={quoteattr(tap_name(port['id']))}/>",
            '  <model type="virtio"/>',
            f"  <mtu size={quoteattr(str(network['mtu']))}/>",
            "</interface>",
        )
    )


def tap_name(port_id: str) -> str:
    """The name that Nova gives a tap device: 14 characters, one less than Linux takes."""
    return f"tap{port_id[:11]}"


def _address_pair(text: str) -> dict[str, str]:
    """`ADDRESS`, `CIDR` or one of them with `,MAC`."""
    cidr, separator, mac = (part.strip() for part in text.partition(","))
    return {"cidr": cidr, "mac": mac} if separator else {"cidr": cidr}


_LEFT: object = object()
"""Of an option that was not given."""


def _part(option: str, text: str | None, parse: Callable[[str], object]) -> object:
    if text is None:
        return _LEFT
    if text == options.NONE:
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}: {error}", param_hint=option) from error


def _bandwidth(text: str) -> dict[str, int]:
    """`RATE` or `RATE:BURST`, in kbit/s and kbit."""
    rate, separator, burst = text.partition(":")
    if not rate.isdecimal() or separator and not burst.isdecimal():
        raise ValueError("not of the form RATE or RATE:BURST, in kbit/s and kbit")
    return {"rate_kbps": int(rate), **({"burst_kbits": int(burst)} if separator else {})}


def _dscp(text: str) -> int:
    if not text.isdecimal():
        raise ValueError("not a number from 0 to 63")
    return int(text)


def _fixed_ip(text: str) -> dict[str, str]:
    return {"subnet_id": text} if is_id(text) else {"address": text}
