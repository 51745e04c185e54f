"""Joins a namespace or a tap to the integration bridge as the interface of a port, and takes it off again.

Runs `ip` and `ovs-vsctl` in the network namespace it is called in, which is the node's; the VM's namespace is another
one, given by name or by path. Both directions can be repeated: `plug` repairs what is missing, `unplug` removes what is
there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agent import links, namespaces, ovs_failures
from agent.ovs_failures import BridgeFacts
from agent.state import ATTACHMENT_KEY, MARK_KEY, MARK_PLUG, NODE_KEY, Columns

DEFAULT_OVSDB = "unix:/run/openvswitch/db.sock"
# Of what makes a port's interface, the kernel's side has no external_ids: the alias tells whose it is.
_ALIAS = "trunkline:"
_TIMEOUT_S = 10
_PORT_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_DEVICE = re.compile(r"[A-Za-z0-9_.-]{1,15}")
_REFUSED = re.compile(r"Error detected while setting up '([^']*)'(?:: (.*?))?\.\s+See ovs-vswitchd log")
_ATTACHED = {"iface-id", ATTACHMENT_KEY}
_LINK_KINDS = {"veth": links.VETH, "tap": links.TAP}

Kind = Literal["veth", "tap"]


class PlugError(Exception):
    """It cannot be plugged or unplugged; the text says what is in the way."""


class NoSwitch(PlugError):
    """There is no Open vSwitch at the address given."""


@contextmanager
def _told() -> Iterator[None]:
    """As PlugError what a command has to say."""
    try:
        yield
    except links.CommandError as error:
        raise PlugError(str(error)) from error


@dataclass(frozen=True, slots=True)
class PlugPort:
    """What of a port its interface needs. `mac` is lower case with colons; `vm_id` names the VM to operators, and
    `attachment` what asked for it, to whoever takes it off again. That one also gives it its addresses.
    """

    id: str
    mac: str
    mtu: int = 1500
    vm_id: str = ""
    attachment: str = ""


@dataclass(frozen=True, slots=True)
class Plugged:
    """`changed` is False when everything was there already. `node` is what the agent calls this node, if it says so."""

    ifname: str
    changed: bool
    node: str | None = None


@dataclass(frozen=True, slots=True)
class _Switch:
    """What OVSDB shows; `external_ids` and `failure` are of the interface asked for, None when there is none."""

    bridge: BridgeFacts
    datapath_types: frozenset[str]
    userspace_tso: bool
    node: str | None
    external_ids: Mapping[str, str] | None
    failure: str | None


def interface_name(port_id: str) -> str:
    """Name of the end that is in the integration bridge, short enough for a network device."""
    return f"tl{port_id[:11]}"


@_told()
def plug(
    port: PlugPort,
    *,
    namespace: str | None = None,
    kind: Kind = "veth",
    ifname: str | None = None,
    guest_ifname: str = "eth0",
    bridge: str = "br-int",
    ovsdb: str = DEFAULT_OVSDB,
) -> Plugged:
    """Gives `port` an interface in `bridge`.

    `veth`: a pair, whose other end is `guest_ifname` in the named network `namespace`, with the port's MAC and MTU.
    `tap`: a tap for QEMU (`-netdev tap,ifname=...,script=no`). `ifname` is the name in the bridge.
    Raises PlugError.
    """
    name = ifname or interface_name(port.id)
    _check(port, name, guest_ifname)
    if (kind == "veth") != (namespace is not None):
        raise PlugError("a veth needs the namespace of its other end" if kind == "veth" else "a tap has no namespace")
    switch = _working_switch(ovsdb, bridge, name)
    if switch.external_ids is not None and not _is_ours(switch.external_ids, port.id):
        raise PlugError(f"Open vSwitch has an interface {name} already, and it is not of port {port.id}")
    created = _make_tap(port, name) if namespace is None else _make_veth(port, name, namespace, guest_ifname)
    if namespace is not None and switch.bridge.datapath_type == "netdev" and not switch.userspace_tso:
        links.checksums_in_software(guest_ifname, namespace)
    wanted = _external_ids(port)
    if created and switch.external_ids is not None:
        # The userspace datapath holds on to the device that was there before: it has to let go of that first.
        _vsctl(ovsdb, "--if-exists", "del-port", name)
    elif switch.external_ids is not None and wanted.items() <= switch.external_ids.items():
        if switch.failure is not None:
            raise PlugError(switch.failure)
        return Plugged(name, created, switch.node)
    _vsctl(
        ovsdb,
        "--may-exist",
        "add-port",
        bridge,
        name,
        "--",
        "set",
        "Interface",
        name,
        *(f"external_ids:{key}={json.dumps(value)}" for key, value in wanted.items()),
    )
    return Plugged(name, True, switch.node)


@_told()
def unplug(
    port_id: str,
    *,
    namespace: str | None = None,
    ifname: str | None = None,
    guest_ifname: str = "eth0",
    bridge: str = "br-int",
    ovsdb: str = DEFAULT_OVSDB,
) -> bool:
    """Removes the interface of a port from `bridge` and the device itself; with a veth both ends go.

    `namespace` is only needed to clear up an end whose peer has gone. False when there was nothing to remove.
    Raises PlugError when what has the name is not of this port.
    """
    name = ifname or interface_name(port_id)
    switch = _switch(ovsdb, bridge, name)
    if switch.external_ids is not None:
        if not _is_ours(switch.external_ids, port_id):
            raise PlugError(f"interface {name} of Open vSwitch is not of port {port_id}, or was not plugged by this")
        _vsctl(ovsdb, "--if-exists", "del-port", name)
    removed = _delete_link(name, port_id, None)
    if namespace is not None and namespaces.exists(namespace):
        removed = _delete_link(guest_ifname, port_id, namespace) or removed
    return removed or switch.external_ids is not None


@_told()
def node_of(bridge: str = "br-int", ovsdb: str = DEFAULT_OVSDB) -> str | None:
    """What the agent calls this node; None if it has not said so. Raises PlugError."""
    return _switch(ovsdb, bridge, bridge).node


@_told()
def attachments(ovsdb: str = DEFAULT_OVSDB) -> list[tuple[str, str, str]]:
    """(interface, port id, attachment) of all that `plug` was given an `attachment` for. Raises PlugError."""
    answer = _vsctl(
        ovsdb, "--no-wait", "--format=json", "--data=json", "--columns=name,external_ids", "list", "Interface"
    )
    found = ((str(name), dict(ids[1])) for name, ids in json.loads(answer)["data"])
    return [(name, ids["iface-id"], ids[ATTACHMENT_KEY]) for name, ids in found if ids.keys() >= _ATTACHED]


def _check(port: PlugPort, name: str, guest_ifname: str) -> None:
    checks = (
        ("port id", port.id, _PORT_ID),
        ("MAC address", port.mac, _MAC),
        ("interface name", name, _DEVICE),
        ("interface name", guest_ifname, _DEVICE),
    )
    for what, text, pattern in checks:
        if not pattern.fullmatch(text):
            raise PlugError(f"{what} '{text}' is not valid")
    if not 68 <= port.mtu <= 65535:  # RFC 791: the least that IPv4 lives on
        raise PlugError(f"MTU {port.mtu} is not valid")


def _external_ids(port: PlugPort) -> dict[str, str]:
    """The convention of libvirt, Nova and OVN (Open vSwitch, Documentation/topics/integration.rst), and our mark."""
    ids = {"iface-id": port.id, "attached-mac": port.mac, "iface-status": "active", MARK_KEY: MARK_PLUG}
    more = {"vm-id": port.vm_id, ATTACHMENT_KEY: port.attachment}
    return ids | {key: value for key, value in more.items() if value}


def _is_ours(external_ids: Mapping[str, str], port_id: str) -> bool:
    return external_ids.get(MARK_KEY) == MARK_PLUG and external_ids.get("iface-id") == port_id


# ---- the kernel's side


def _make_veth(port: PlugPort, name: str, namespace: str, guest: str) -> bool:
    """True when the pair had to be made."""
    if not namespaces.exists(namespace):
        raise PlugError(f"there is no network namespace {namespace}")
    near, far = _own_link(name, port.id, "veth", None), _own_link(guest, port.id, "veth", namespace)
    is_pair = links.are_pair(near, far)
    if not is_pair:
        for link, where in ((near, None), (far, namespace)):
            if link is not None:
                links.configure(where, f"link delete dev {link['ifname']}")
        links.configure(
            None,
            f"link add {name} mtu {port.mtu} type veth peer name {guest} netns {namespace} "
            f"address {port.mac} mtu {port.mtu}",
        )
        if port.attachment:
            _given_its_addresses(namespace, guest)
    alias = f"{_ALIAS}{port.id}"
    set_up = f"link set dev {guest} address {port.mac} mtu {port.mtu} alias {alias} up"
    links.configure(namespace, set_up, "link set dev lo up")
    links.configure(None, f"link set dev {name} mtu {port.mtu} alias {alias} up")
    return not is_pair


def _given_its_addresses(namespace: str, guest: str) -> None:
    """A container does not make up IPv6 addresses, nor look whether others have them: it could not use them at once."""
    with suppress(OSError), namespaces.inside(namespace):  # /proc/sys/net shows the namespace of the thread
        for setting in ("accept_ra", "accept_dad"):
            Path(f"/proc/sys/net/ipv6/conf/{guest}/{setting}").write_text("0\n")


def _make_tap(port: PlugPort, name: str) -> bool:
    """True when the tap had to be made."""
    present = _own_link(name, port.id, "tap", None)
    make = [] if present else [f"tuntap add dev {name} mode tap"]
    links.configure(None, *make, f"link set dev {name} mtu {port.mtu} alias {_ALIAS}{port.id} up")
    return present is None


def _own_link(name: str, port_id: str, kind: Kind, namespace: str | None) -> links.Link | None:
    """The device of that name; None when there is none. Raises PlugError when it is not this port's."""
    link = links.find(name, namespace)
    if link is None:
        return None
    if link.get("ifalias") != f"{_ALIAS}{port_id}" or links.kind(link) != _LINK_KINDS[kind]:
        place = f"namespace {namespace}" if namespace else "this node"
        raise PlugError(f"{place} has a device {name} already, and it is not of port {port_id}")
    return link


def _delete_link(name: str, port_id: str, namespace: str | None) -> bool:
    link = links.find(name, namespace)
    if link is None or link.get("ifalias") != f"{_ALIAS}{port_id}":
        return False
    links.configure(namespace, f"link delete dev {name}")
    return True


# ---- the side of Open vSwitch


def _working_switch(ovsdb: str, bridge: str, name: str) -> _Switch:
    """As `_switch`, after Open vSwitch has done all that was asked of it. Raises PlugError, too, when the bridge is in
    the database only.
    """
    switch = _switch(ovsdb, bridge, name)
    if switch.bridge.is_unmade and ovs_failures.host(ovsdb).has_switch:
        _vsctl(ovsdb, "init")
        switch = _switch(ovsdb, bridge, name)
    if switch.bridge.is_unmade:
        kind, host = switch.bridge.datapath_type, ovs_failures.host(ovsdb)
        raise PlugError(ovs_failures.bridges_failure([bridge], kind, switch.datapath_types, host))
    return switch


_COLUMNS_OF_BRIDGE = ("datapath_type", "datapath_id", "datapath_version", "ports", "external_ids")


def _switch(ovsdb: str, bridge: str, name: str) -> _Switch:
    """One query for all there is to know. Raises PlugError when there is no such bridge, or `name` is in another."""
    find = (
        ("Bridge", bridge, ",".join(_COLUMNS_OF_BRIDGE)),
        ("Interface", bridge, "ofport"),
        ("Port", name, "_uuid"),
        ("Interface", name, "external_ids,ofport,error"),
    )
    answer = _vsctl(
        ovsdb,
        "--no-wait",
        "--format=json",
        "--data=json",
        "--columns=other_config,datapath_types",
        "list",
        "Open_vSwitch",
        *(part for table, row, what in find for part in ("--", f"--columns={what}", "find", table, f"name={row}")),
    )
    switches, bridges, own, ports, interfaces = (json.loads(line)["data"] for line in answer.splitlines())
    if not bridges:
        raise PlugError(f"Open vSwitch has no bridge {bridge}; is the agent of this node running?")
    found = dict(zip(_COLUMNS_OF_BRIDGE, bridges[0], strict=True))
    if ports and ports[0][0] not in _members(found["ports"]):
        raise PlugError(f"Open vSwitch has a port {name} in another bridge than {bridge}")
    other_config = dict(switches[0][0][1]) if switches else {}
    return _Switch(
        BridgeFacts(
            found["datapath_type"],
            _optional(found["datapath_id"]),
            found["datapath_version"],
            _optional(own[0][0]) if own else None,
        ),
        frozenset(_members(switches[0][1])) if switches else frozenset(),
        other_config.get("userspace-tso-enable") == "true",
        dict(found["external_ids"][1]).get(NODE_KEY),
        dict(interfaces[0][0][1]) if interfaces else None,
        _failure(name, bridge, *interfaces[0]) if interfaces else None,
    )


def _failure(name: str, bridge: str, external_ids: list[Any], ofport: Any, error: Any) -> str | None:
    columns: Columns = {
        "external_ids": dict(external_ids[1]),
        "ofport": _optional(ofport),
        "error": _optional(error),
    }
    return ovs_failures.interface_failure(name, columns, bridge, {})


def _members(value: Any) -> list[Any]:
    """RFC 7047, 5.1: a set of one is written as the one, also where that is a UUID."""
    return list(value[1]) if isinstance(value, list) and value[0] == "set" else [value]


def _optional(value: Any) -> Any:
    return next(iter(_members(value)), None)


def _vsctl(ovsdb: str, *args: str) -> str:
    done = links.execute(["ovs-vsctl", f"--db={ovsdb}", f"--timeout={_TIMEOUT_S}", *args])
    # ovs-vsctl ends with status 0 although ovs-vswitchd could not open a device, and only says so.
    if done.returncode or "Error detected" in done.stderr:
        refused = _REFUSED.search(done.stderr)
        if refused is not None:
            raise PlugError(f"Open vSwitch cannot use device {refused[1]}: {refused[2] or ovs_failures.LOG}")
        said = links.last_line(done.stderr)
        kind = NoSwitch if not said or "database connection failed" in said else PlugError
        raise kind(f"Open vSwitch at {ovsdb}: {said or 'no answer in time'}")
    return done.stdout
