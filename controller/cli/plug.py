"""`trunkline plug` and `unplug`: join a network namespace or a tap device of this machine to a port."""

from __future__ import annotations

import re
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.cli import options, render
from controller.cli.errors import CliError, ExitCode
from controller.cli.options import Output, PortArgument, Timeout
from controller.cli.port import addresses
from controller.cli.render import Format
from controller.cli.session import Session
from controller.client import Client, Object

if TYPE_CHECKING:
    from agent import plugging

NAMESPACES = Path("/run/netns")
NAMESPACE_FILES = Path("/etc/netns")
RESOLVER = "resolv.conf"
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

    The namespace is made when it is missing; without --namespace it is called like the port. Run it on the node
    itself, as root. A second run repairs what is missing.
    """
    if tap and (namespace or guest_ifname):
        raise CliError("--tap goes with neither --namespace nor --guest-ifname", ExitCode.USAGE)
    session = Session.of(context)
    found = session.port(port)
    mtu = session.client.get_network(found["network_id"])["mtu"]
    inside = None if tap else _namespace(namespace or str(found.get("name") or found["id"]))
    if inside is not None:
        _make_namespace(inside)
    done = _plug(
        found, mtu, kind="tap" if tap else "veth", namespace=inside,
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
        _wait_active(session.client, found, timeout)


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
    port_id = Session.of(context).port_id(port)
    from agent import plugging

    try:
        changed = plugging.unplug(
            port_id, namespace=inside,
            **options.given(ifname=ifname, guest_ifname=guest_ifname, bridge=bridge, ovsdb=ovsdb),
        )  # fmt: skip
    except plugging.PlugError as error:
        raise CliError(str(error), ExitCode.REFUSED) from error
    if inside is not None and delete_namespace and (NAMESPACES / inside).exists():
        _delete_namespace(inside)
        changed = True
    render.show_object({"id": port_id, "namespace": inside, "changed": changed}, output)


def _plug(port: Object, mtu: int, **how: Any) -> plugging.Plugged:
    from agent import plugging  # late: only this command is run on a node

    wanted = plugging.PlugPort(id=port["id"], mac=port["mac"], mtu=mtu, vm_id=port.get("device_id") or "")
    try:
        return plugging.plug(wanted, **how)
    except plugging.PlugError as error:
        raise CliError(str(error), ExitCode.REFUSED) from error


def _namespace(name: str) -> str:
    if not _NAMESPACE.fullmatch(name):
        raise CliError(f"{name!r} is no name for a namespace: give --namespace", ExitCode.USAGE)
    return name


def _make_namespace(name: str) -> None:
    if (NAMESPACES / name).exists():
        return
    if is_private(Path("/proc/self/mountinfo").read_text()):
        raise CliError(
            f"within 'ip netns exec' a namespace cannot be made for others to see: "
            f"run 'ip netns add {name}' outside, or enter the node by 'nsenter --net=/run/netns/NODE'",
            ExitCode.REFUSED,
        )
    _ip("netns", "add", name)
    # ip-netns(8): `ip netns exec` puts it over /etc/resolv.conf, so that a DHCP client in there cannot write this
    # machine's own
    own = NAMESPACE_FILES / name
    own.mkdir(parents=True, exist_ok=True)
    (own / RESOLVER).touch()


def _delete_namespace(name: str) -> None:
    _ip("netns", "delete", name)
    own = NAMESPACE_FILES / name
    (own / RESOLVER).unlink(missing_ok=True)
    with suppress(OSError):  # somebody has files of his own in it, or it never was
        own.rmdir()


def is_private(mountinfo: str) -> bool:
    """Whether what is mounted under /run/netns from here is seen from here only (proc(5), mount_namespaces(7)).

    So it is within `ip netns exec`: the name would be left to the others, without a namespace behind it.
    """
    for line in mountinfo.splitlines():
        fields = line.partition(" - ")[0].split()
        if fields[4] == str(NAMESPACES):
            tags = {field.partition(":")[0] for field in fields[6:]}
            return "master" in tags and "shared" not in tags
    return False


def _ip(*arguments: str) -> None:
    command = ("ip", *arguments)
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise CliError(f"{' '.join(command)}: {error.strerror}", ExitCode.REFUSED) from error
    if done.returncode:
        raise CliError(f"{' '.join(command)}: {done.stderr.strip()}", ExitCode.REFUSED)


def _wait_active(client: Client, before: Object, timeout: float) -> None:
    """Until the agent has reported the interface and its node has confirmed the port's flows.

    `before` is the port as it was when it was plugged. Raises CliError; at once when the port is refused for a reason
    that was not there then.
    """
    started = time.monotonic()
    while (port := client.get_port(before["id"])).get("status") != ACTIVE:
        waited = time.monotonic() - started
        error = port.get("binding_error")
        if error and (error != before.get("binding_error") or waited >= min(STALE_ERROR_S, timeout)):
            raise CliError(f"plugged, but the port is refused: {error}", ExitCode.REFUSED)
        if waited >= timeout:
            raise CliError(f"plugged, but the port is still {port.get('status')!r}", ExitCode.WAIT_TIMED_OUT)
        time.sleep(POLL_INTERVAL)
