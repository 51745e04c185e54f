"""EC2's tree, as Nova serves it: each version has what the one before had, and more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from controller import injection
from controller.metadata.documents import BYTES, Content, Directory, Document, text
from controller.metadata.machine import Machine
from flows.model import Ipv6Mode

VERSIONS: Final = (
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
    # none of Nova's: what cloud-init asks for first, to learn of all interfaces
    "2016-09-02",
)


def _public_keys(machine: Machine) -> Content | None:
    keys = machine.given.public_keys.items()
    if not keys:
        return None
    return Directory(
        {str(index): Directory({"openssh-key": text(key)}, name) for index, (name, key) in enumerate(keys)}
    )


def _network(machine: Machine) -> Directory:
    macs: dict[str, Content] = {each.port.mac: _interface(index, each) for index, each in enumerate(machine.interfaces)}
    return Directory({"interfaces": Directory({"macs": Directory(macs)})})


def _interface(index: int, interface: injection.Interface) -> Directory:
    port, network = interface.port, interface.network
    modes = {subnet.id: subnet.mode for subnet in network.ipv6_subnets}
    # who reads of one asks for it by DHCPv6
    leased = [each.address for each in port.ipv6_addresses if modes.get(each.subnet_id) is Ipv6Mode.STATEFUL]
    values: dict[str, object] = {
        "device-number": index,
        "interface-id": port.id,
        "local-ipv4s": "\n".join(str(each.fixed_ip.address) for each in interface.addresses),
        "mac": port.mac,
    }
    if interface.addresses:
        values["subnet-ipv4-cidr-block"] = interface.addresses[0].subnet.cidr
    if leased:
        values["ipv6s"] = "\n".join(map(str, leased))
    return Directory({name: text(value) for name, value in values.items()})


# name, the version that brought it, and what it is (None: not of this machine). Nothing here knows of images and disks.
_META_DATA: Final[tuple[tuple[str, str, Callable[[Machine], Content | None]], ...]] = (
    ("ami-id", "1.0", lambda machine: text("ami-00000000")),
    ("ami-launch-index", "1.0", lambda machine: text(0)),
    ("ami-manifest-path", "1.0", lambda machine: text("(unknown)")),
    ("hostname", "1.0", lambda machine: text(machine.hostname)),
    ("instance-id", "1.0", lambda machine: text(machine.ec2_id("i"))),
    ("local-ipv4", "1.0", lambda machine: text(machine.local_ipv4 or "")),
    ("public-keys", "1.0", _public_keys),
    ("reservation-id", "1.0", lambda machine: text(machine.ec2_id("r"))),
    ("security-groups", "1.0", lambda machine: text("\n".join(machine.security_groups))),
    ("local-hostname", "2007-01-19", lambda machine: text(machine.hostname)),
    ("public-hostname", "2007-01-19", lambda machine: text(machine.hostname)),
    ("public-ipv4", "2007-01-19", lambda machine: text(machine.public_ipv4 or "")),
    (
        "instance-type",
        "2007-08-29",
        lambda machine: text(machine.given.instance_type) if machine.given.instance_type else None,
    ),
    ("placement", "2008-02-01", lambda machine: Directory({"availability-zone": text(machine.availability_zone)})),
    ("instance-action", "2008-09-01", lambda machine: text("none")),
    ("mac", "2016-09-02", lambda machine: text(machine.interfaces[0].port.mac)),
    ("network", "2016-09-02", _network),
)


def tree(machine: Machine, version: str) -> Directory:
    """What a version has of a machine. `version` is one of VERSIONS."""
    at = VERSIONS.index(version)
    found = {name: make(machine) for name, since, make in _META_DATA if VERSIONS.index(since) <= at}
    entries: dict[str, Content] = {
        "meta-data": Directory({name: content for name, content in found.items() if content is not None})
    }
    if machine.given.user_data is not None:
        entries["user-data"] = Document(machine.given.user_data, BYTES)
    return Directory(entries)
