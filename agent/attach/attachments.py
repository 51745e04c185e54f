"""Attach a container's interface and take it off again: the port at the controller, the pair of devices, its addresses.

Nothing is remembered here. A port's name says which attachment it is of, and so does the interface in Open vSwitch.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Protocol

from agent import links, namespaces, plugging
from agent.attach.api import Api, Object
from agent.attach.specs import Address, Attached, AttachError, Attachment, Failure, Owner, Route, Wanted
from agent.config import AgentConfig

LOG = logging.getLogger(__name__)

_READY_S = 20.0


class Readies(Protocol):
    def wait(self, iface_id: str, timeout_s: float) -> str | None:
        """Until a port is ready on this node: None; else why it is not."""
        ...


class Attachments:
    """For several threads at once, each with its own `Api`. All methods raise AttachError."""

    def __init__(self, config: AgentConfig, readies: Readies) -> None:
        self._config = config
        self._readies = readies
        self._turns = _Turns()

    def attach(self, api: Api, attachment: Attachment, wanted: Wanted, namespace: str) -> Attached:
        """Returns when it can be used. What fails is taken off again. `namespace` is a path."""
        with self._turns.of(attachment.name):
            return self._attach(api, attachment, wanted, namespace)

    def _attach(self, api: Api, attachment: Attachment, wanted: Wanted, namespace: str) -> Attached:
        network = api.network(wanted.network)
        port = _own(api.ports(name=attachment.name), attachment, network)
        port = port or api.create_port(_fields(attachment, wanted, network))
        try:
            device = self._plug(attachment, port, network, namespace)
            why = self._readies.wait(port["id"], _READY_S)
            if why is not None:
                raise AttachError(Failure.TRY_LATER, f"port {port['id']} is not ready after {_READY_S:g} s: {why}")
            attached = _attached(port, network, device, api.network_config(port["id"]))
            _configure(attached, namespace, attachment.ifname)
        except AttachError:
            with suppress(AttachError):
                self._take_off(api, [port["id"]])
            raise
        LOG.info("attached %s as port %s", attachment.name, port["id"])
        return attached

    def detach(self, api: Api, attachment: Attachment) -> None:
        """What is not there is no error. Without a controller its interface is gone, and the port stays: an error."""
        with self._turns.of(attachment.name):
            self._detach(api, attachment)

    def _detach(self, api: Api, attachment: Attachment) -> None:
        plugged = self._plugged(lambda name: name == attachment.name)
        self._unplug(plugged)
        ports = {port["id"] for port in api.ports(name=attachment.name)}
        self._take_off(api, ports)
        if plugged or ports:
            LOG.info("detached %s", attachment.name)

    def check(self, api: Api, attachment: Attachment, namespace: str, expected: Collection[Address]) -> None:
        """Raises AttachError when what was made is not as it was made. Routes may have been changed by others."""
        ports = api.ports(name=attachment.name)
        if not ports:
            raise AttachError(Failure.CONTAINER_UNKNOWN, f"there is no port {attachment.name}")
        port = ports[0]
        plugged = self._plugged(lambda name: name == attachment.name)
        if port["id"] not in plugged:
            raise AttachError(Failure.MISMATCH, f"no interface of port {port['id']} is in Open vSwitch")
        held = {str(ip_interface(f"{each['address']}").ip) for each in port["fixed_ips"]}
        for address in expected:
            if str(ip_interface(address.cidr).ip) not in held:
                raise AttachError(Failure.MISMATCH, f"port {port['id']} does not have {address.cidr}")
        _check_inside(port["mac"], namespace, attachment.ifname, expected)
        why = self._readies.wait(port["id"], _READY_S)
        if why is not None:
            raise AttachError(Failure.MISMATCH, f"port {port['id']} is not served: {why}")

    def collect(self, api: Api, owner: Owner, network: str, valid: Collection[Attachment]) -> None:
        """Take off all of an engine's network on this node but what is valid."""
        names = {each.name for each in valid}

        def is_waste(name: str) -> bool:
            return name.startswith(owner.prefix) and name not in names

        self._unplug(self._plugged(is_waste))
        ports = api.ports(network_id=api.network(network)["id"])
        waste = {port["id"] for port in ports if is_waste(port["name"])}
        self._take_off(api, waste)
        if waste:
            LOG.info("collected %d ports of %s", len(waste), owner.prefix)

    def _plug(self, attachment: Attachment, port: Object, network: Object, namespace: str) -> str:
        wanted = plugging.PlugPort(
            port["id"], port["mac"], network["mtu"], vm_id=attachment.container_id, attachment=attachment.name
        )
        try:
            return plugging.plug(
                wanted,
                namespace=namespace,
                guest_ifname=attachment.ifname,
                bridge=self._config.integration_bridge,
                ovsdb=self._config.ovsdb,
            ).ifname
        except plugging.PlugError as error:
            raise AttachError(Failure.HERE, str(error)) from error

    def _plugged(self, is_meant: Callable[[str], bool]) -> dict[str, str]:
        """Of attachments with such names: the interface by the id of its port."""
        try:
            return {
                port_id: ifname for ifname, port_id, name in plugging.attachments(self._config.ovsdb) if is_meant(name)
            }
        except plugging.PlugError as error:
            raise AttachError(Failure.TRY_LATER, str(error)) from error

    def _take_off(self, api: Api, port_ids: Iterable[str]) -> None:
        for port_id in port_ids:
            self._unplug({port_id: plugging.interface_name(port_id)})
            api.delete_port(port_id)

    def _unplug(self, plugged: Mapping[str, str]) -> None:
        for port_id, ifname in plugged.items():
            try:
                plugging.unplug(
                    port_id, ifname=ifname, bridge=self._config.integration_bridge, ovsdb=self._config.ovsdb
                )
            except plugging.PlugError as error:
                raise AttachError(Failure.HERE, str(error)) from error


def _own(known: Iterable[Object], attachment: Attachment, network: Object) -> Object | None:
    """What was made for it before. Raises AttachError when a port of its name is another's: anybody may name one so."""
    found = None
    for port in known:
        if (port.get("network_id"), port.get("device_id")) != (network["id"], attachment.container_id):
            raise AttachError(Failure.REFUSED, f"port {port['id']} is called {attachment.name}, and is not of it")
        found = found or port
    return found


class _Turns:
    """One at a time of each name. An engine that has given up on ADD asks for DEL while the former goes on here."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._turns: dict[str, tuple[threading.Lock, int]] = {}

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        with self._guard:
            lock, users = self._turns.get(name, (threading.Lock(), 0))
            self._turns[name] = lock, users + 1
        try:
            with lock:
                yield
        finally:
            with self._guard:
                lock, users = self._turns.pop(name)
                if users > 1:
                    self._turns[name] = lock, users - 1


def _fields(attachment: Attachment, wanted: Wanted, network: Object) -> dict[str, object]:
    fields: dict[str, object] = {
        "network_id": network["id"],
        "name": attachment.name,
        "device_id": attachment.container_id,
        "hostname": wanted.hostname,
    }
    if wanted.addresses:
        fields["fixed_ips"] = [{"address": address} for address in wanted.addresses]
    if wanted.mac is not None:
        fields["mac"] = wanted.mac
    if wanted.security_groups is not None:
        fields["security_groups"] = list(wanted.security_groups)
    return fields


def _attached(port: Object, network: Object, device: str, config: Object) -> Attached:
    ethernets = config.get("ethernets") or {}
    mine = next((each for each in ethernets.values() if each["match"]["macaddress"] == port["mac"]), None)
    if mine is None:
        raise AttachError(Failure.TRY_LATER, f"port {port['id']} has gone meanwhile")
    routes = tuple(Route(str(each["to"]), str(each["via"])) for each in mine.get("routes", ()))
    gateways = {ip_network(route.to).version: route.via for route in routes if ip_network(route.to).prefixlen == 0}
    addresses = tuple(Address(cidr, gateways.get(ip_interface(cidr).version)) for cidr in mine["addresses"])
    names = mine.get("nameservers", {})
    try:
        near = links.find(device)
    except links.CommandError as error:
        raise AttachError(Failure.HERE, str(error)) from error
    return Attached(
        port["id"],
        port["mac"],
        network["mtu"],
        device,
        "" if near is None else str(near["address"]),
        addresses,
        routes,
        tuple(names.get("addresses", ())),
        tuple(names.get("search", ())),
    )


def _configure(attached: Attached, namespace: str, ifname: str) -> None:
    """Addresses and routes within the container; again changes nothing."""
    if any(":" in each.cidr for each in attached.addresses):
        # engines switch IPv6 off in a namespace that they think has none
        with suppress(OSError), namespaces.inside(namespace):
            Path(f"/proc/sys/net/ipv6/conf/{ifname}/disable_ipv6").write_text("0\n")
    lines = [
        f"address replace {each.cidr} dev {ifname}{' nodad' if ':' in each.cidr else ''}" for each in attached.addresses
    ]
    lines += [f"route replace {route.to} via {route.via} dev {ifname} onlink" for route in attached.routes]
    try:
        links.configure(namespace, *lines)
    except links.CommandError as error:
        raise AttachError(Failure.HERE, str(error)) from error


def _check_inside(mac: str, namespace: str, ifname: str, expected: Collection[Address]) -> None:
    try:
        found = links.query(namespace, "address", "show", "dev", ifname)
    except links.CommandError as error:
        raise AttachError(Failure.MISMATCH, f"{ifname}: {error}") from error
    link = found[0] if found else {}
    held = {f"{each['local']}/{each['prefixlen']}" for each in link.get("addr_info", ()) if "local" in each}
    if link.get("address") != mac:
        raise AttachError(Failure.MISMATCH, f"{ifname} has the MAC address {link.get('address')}, and not {mac}")
    if "UP" not in link.get("flags", ()):
        raise AttachError(Failure.MISMATCH, f"{ifname} is down")
    for address in expected:
        if str(ip_interface(address.cidr)) not in held:
            raise AttachError(Failure.MISMATCH, f"{ifname} does not have {address.cidr}")
