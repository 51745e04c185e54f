"""All that is at 169.254.169.254: which document a path leads to."""

from __future__ import annotations

from typing import Final

from controller.metadata import ec2, nocloud, openstack
from controller.metadata.documents import Document, find, lines
from controller.metadata.machine import Machine

LATEST: Final = "latest"
EC2: Final = "ec2"
OPENSTACK: Final = "openstack"


def split(path: str) -> tuple[str, ...]:
    """The parts of a path. Slashes that are too many mean nothing, as in Nova."""
    return tuple(part for part in path.split("/") if part)


def is_password(parts: tuple[str, ...]) -> bool:
    """Where a machine tells its password."""
    return len(parts) == 3 and parts[0] == OPENSTACK and parts[2] == openstack.PASSWORD and _has_password(parts[1])


def _has_password(version: str) -> bool:
    return version == LATEST or version in openstack.VERSIONS[1:]


def resolve(machine: Machine, parts: tuple[str, ...]) -> Document | None:
    """None: there is nothing."""
    if parts[:1] == (OPENSTACK,):
        return _openstack(machine, parts[1:])
    if len(parts) == 1 and parts[0] in nocloud.FILES:
        return nocloud.FILES[parts[0]](machine)
    return _ec2(machine, parts[1:] if parts[:1] == (EC2,) else parts)


def _ec2(machine: Machine, parts: tuple[str, ...]) -> Document | None:
    if not parts:
        return lines((*ec2.VERSIONS, LATEST))
    version = ec2.VERSIONS[-1] if parts[0] == LATEST else parts[0]
    return find(ec2.tree(machine, version), parts[1:]) if version in ec2.VERSIONS else None


def _openstack(machine: Machine, parts: tuple[str, ...]) -> Document | None:
    if not parts:
        return lines((*openstack.VERSIONS, LATEST))
    version = openstack.VERSIONS[-1] if parts[0] == LATEST else parts[0]
    if version not in openstack.VERSIONS:
        return None
    if len(parts) == 1:
        return lines(openstack.names(machine, version))
    return openstack.file(machine, version, parts[1]) if len(parts) == 2 else None
