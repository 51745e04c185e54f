"""`trunkline plug` and `unplug`: join a network namespace or a tap device of this machine to a port."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.cli import options, plug_ports, render
from controller.cli.errors import CliError, ExitCode
from controller.cli.options import Output, PortArgument, Timeout
from controller.cli.plug_ports import PlugPorts
from controller.cli.port import addresses
from controller.cli.render import Format
from controller.cli.session import Session, is_id
from controller.client import ApiError, Object

if TYPE_CHECKING:
    from agent import plugging

ACTIVE = "active"
POLL_INTERVAL = 0.05
STALE_ERROR_S = 2.0
"""How long a reason that was there before may take to go away: the agent reports what was plugged at once."""

_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")

Namespace = Annotated[
    str | None,
    typer.Option("--namespace", metavar="NS", help="Network namespace for the interface; run a DHCP client in it."),
]
Interface = Annotated[str | None, typer.Option("--ifname", metavar="NAME", help="Device in the bridge.")]
GuestInterface = Annotated[str | None, typer.Option("--guest-ifname", metavar="NAME", help="Device in NS [eth0].")]
Bridge = Annotated[str | None, typer.Option("--bridge", metavar="NAME", help="The integration bridge [br-int].")]
Ovsdb = Annotated[
    str | None,
    typer.Option(
        "--ovsdb",
        metavar="TARGET",
        envvar="TRUNKLINE_OVSDB",
        help="Of this node [unix:/run/openvswitch/db.sock].",
    ),
]


def plug(
    context: typer.Context,
    port: PortArgument,
    namespace: Namespace = None,
    tap: Annotated[bool, typer.Option("--tap", help="Make a tap device for a virtual machine instead.")] = False,
    ifname: Interface = None,
    guest_ifname: GuestInterface = None,
    bridge: Bridge = None,
    ovsdb: Ovsdb = None,
    output: Output = Format.TABLE,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the node has confirmed the port.")] = False,
    timeout: Timeout = 30.0,
) -> None:
    """Join a namespace or a tap of this node to a port.

    The namespace is made when it is missing, with a resolv.conf of its own in /etc/netns; without --namespace it is
    called like the port. Run it on the node itself, as root. A second run repairs what is missing.
    """
    if tap and (namespace or guest_ifname):
        raise CliError("--tap goes with neither --namespace nor --guest-ifname", ExitCode.USAGE)
    ports, found = plug_ports.find(Session.of(context), port, lambda: _node(bridge, ovsdb))
    inside = None if tap else _namespace(namespace or str(found.get("name") or found["id"]))
    done = _plug(
        found, ports.mtu(found), kind="tap" if tap else "veth", namespace=inside,
        **options.given(ifname=ifname, guest_ifname=guest_ifname, bridge=bridge, ovsdb=ovsdb),
    )  # fmt: skip
    answer = {
        "id": found["id"],
        "name": found.get("name"),
        "ifname": done.ifname,
        "namespace": inside,
        "mac": found["mac"],
        "fixed_ips": addresses(found),
        "changed": done.changed,
    }
    render.show_object(answer, output)
    if wait:
        _wait_active(ports, found, done.node, timeout)


def unplug(
    context: typer.Context,
    port: PortArgument,
    namespace: Annotated[
        str | None, typer.Option("--namespace", metavar="NS", help="Also clear up there, if the pair is broken.")
    ] = None,
    delete_namespace: Annotated[
        bool, typer.Option("--delete-namespace", help="Delete the namespace named by --namespace as well.")
    ] = False,
    ifname: Interface = None,
    guest_ifname: GuestInterface = None,
    bridge: Bridge = None,
    ovsdb: Ovsdb = None,
    output: Output = Format.TABLE,
) -> None:
    """Take the interface of a port off this node. The port itself and its address stay.

    A port that is given by its id may have been deleted already.
    """
    if delete_namespace and namespace is None:
        raise CliError("--delete-namespace needs --namespace", ExitCode.USAGE)
    inside = None if namespace is None else _namespace(namespace)
    port_id = port.lower() if is_id(port) else _port_id(context, port, lambda: _node(bridge, ovsdb))
    from agent import namespaces, plugging

    with _refusals():
        changed = plugging.unplug(
            port_id, namespace=inside,
            **options.given(ifname=ifname, guest_ifname=guest_ifname, bridge=bridge, ovsdb=ovsdb),
        )  # fmt: skip
        if inside is not None and delete_namespace and namespaces.exists(inside):
            namespaces.remove(inside)
            changed = True
    render.show_object({"id": port_id, "namespace": inside, "changed": changed}, output)


def _node(bridge: str | None, ovsdb: str | None) -> str | None:
    """What the agent of this machine calls it."""
    from agent import plugging

    with _refusals():
        return plugging.node_of(**options.given(bridge=bridge, ovsdb=ovsdb))


def _port_id(context: typer.Context, port: str, node: Callable[[], str | None]) -> str:
    try:
        return str(plug_ports.find(Session.of(context), port, node)[1]["id"])
    except ApiError as error:
        if error.code != plug_ports.UNKNOWN:
            raise
        message = f"{error.message}; one that is deleted, or another node's by now, is unplugged by its id"
        raise CliError(message, ExitCode.REFUSED) from None


def _plug(port: Object, mtu: int, namespace: str | None, **how: Any) -> plugging.Plugged:
    """Makes the namespace when it is missing, and removes it again when the port cannot be plugged."""
    from agent import namespaces, plugging  # late: only this command is run on a node

    wanted = plugging.PlugPort(id=port["id"], mac=port["mac"], mtu=mtu, vm_id=port.get("device_id") or "")
    with _refusals():
        made = namespace is not None and namespaces.make(namespace)
        try:
            return plugging.plug(wanted, namespace=namespace, **how)
        except plugging.PlugError:
            if made and namespace is not None:
                namespaces.remove(namespace)
            raise


@contextmanager
def _refusals() -> Iterator[None]:
    """What this machine refuses, as errors of the command."""
    from agent import namespaces, plugging

    try:
        yield
    except plugging.NoSwitch as error:
        raise CliError(f"{error}; run it on the node, or give --ovsdb", ExitCode.REFUSED) from error
    except (plugging.PlugError, namespaces.NamespaceError) as error:
        raise CliError(str(error), ExitCode.REFUSED) from error


def _namespace(name: str) -> str:
    if not _NAMESPACE.fullmatch(name):
        raise CliError(f"{name!r} is no name for a namespace: give --namespace", ExitCode.USAGE)
    return name


def _wait_active(ports: PlugPorts, before: Object, here: str | None, timeout: float) -> None:
    """Until the agent has reported the interface and its node has confirmed the port's flows.

    `before` is the port as it was when it was plugged, `here` the name of this node if that is known. Raises CliError;
    at once when the port is refused for a reason that was not there then.
    """
    started = time.monotonic()
    while True:
        try:
            port = ports.get(before["id"])
        except ApiError as failure:
            if failure.code != plug_ports.UNKNOWN:
                raise
            message = "plugged, but the port is refused: it is deleted, or another node's by now"
            raise CliError(message, ExitCode.REFUSED) from None
        error = _refusal(port, here)
        if error and here and not port.get("binding_error") and ports.is_expected(port, here):
            error = None
        if port.get("status") == ACTIVE and not error:
            return
        waited = time.monotonic() - started
        if error and (error != _refusal(before, here) or waited >= min(STALE_ERROR_S, timeout)):
            raise CliError(f"plugged, but the port is refused: {error}", ExitCode.REFUSED)
        if waited >= timeout:
            raise CliError(f"plugged, but the port is still {port.get('status')!r}", ExitCode.WAIT_TIMED_OUT)
        time.sleep(POLL_INTERVAL)


def _refusal(port: Object, here: str | None) -> str | None:
    """Why a port that is plugged here is not served here, where something is in the way."""
    if port.get("binding_error"):
        return str(port["binding_error"])
    node = (port.get("binding") or {}).get("node")
    return f"bound to {node}" if here and node and node != here else None
