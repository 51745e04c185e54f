"""Networks of projects: many of one range, and which project has which. As `specs` says the rest.

The methods of `Store`:

    create_networks(spec: NetworkSpec, carving: Carving, actor: str) -> Written[list[NetworkRecord]]     all or none
        the range of its one subnet is cut, and that of its IPv6 subnet if it has one; several are called NAME_0,
        NAME_1, ... A segment is the lowest to be taken.
    associate_network(network_id, project_id, actor) -> Written[NetworkRecord]        nothing if it is the project's
    associate_free_network(project_id, actor) -> Written[NetworkRecord]               the one that was made first
    disassociate_network(network_id, actor) -> Written[NetworkRecord]                 nothing if it is nobody's
    scrub_project(project_id, actor) -> Written[Scrubbed]
        takes its assignable networks and all its security groups from a project; all or nothing
    create_device_ports(project_id, template: PortSpec, actor) -> Written[list[PortRecord]]
        one on each network that a machine of the project is on if it names none (`project_networks.of_device`);
        `network_id` of the template does not count, nor do its `project_id` and what is one port's alone

Errors beside those of `specs`:
    Invalid  [400]   carving_invalid assignable_invalid name_invalid
    Conflict [409]   network_has_project network_not_assignable network_unassociated no_network
    Exhausted [409]  no_free_network no_free_cidr quota_exceeded
"""

from __future__ import annotations

from dataclasses import dataclass

MOST_NETWORKS = 256
"""At once: nobody else writes, and no DHCP request is answered meanwhile."""

LEAST_SIZE, MOST_SIZE = 4, 2**24
DEFAULT_SIZE = 256
"""As nova-network's `network_size`."""


@dataclass(frozen=True, slots=True)
class Carving:
    """`size` in addresses, rounded up to a power of two; None: an equal part of the range, DEFAULT_SIZE at most."""

    count: int = 1
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """The ids of what a project has no more."""

    networks: tuple[str, ...]
    security_groups: tuple[str, ...]
