"""What the controllers know of each other: values, as they are read from the database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from controller.cluster import assign


@dataclass(frozen=True, slots=True)
class Member:
    """A controller. `instance` is another one for each process; times are seconds since the epoch by the database's
    clock.
    """

    name: str
    instance: str
    api_url: str
    started_at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class NodeLease:
    """A node's controller. `generation` is OpenFlow's generation_id, and only ever grows. The controller has confirmed
    what is in `confirmed`, but for claims from revision `unclaimed` on; `session` is how it describes the node.
    """

    node: str
    controller: str
    generation: int
    confirmed: int = 0
    unclaimed: int | None = None
    session: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ClusterState:
    """`connections`: controller -> the nodes that are connected to it."""

    members: Mapping[str, Member] = field(default_factory=dict)
    connections: Mapping[str, frozenset[str]] = field(default_factory=dict)
    leases: Mapping[str, NodeLease] = field(default_factory=dict)

    @property
    def leader(self) -> str | None:
        return assign.leader(self.members)

    def controller_of(self, node: str) -> str | None:
        """The live controller that masters a node: it has the lease, and a connection."""
        lease = self.leases.get(node)
        if lease is None or lease.controller not in self.members:
            return None
        return lease.controller if node in self.connections.get(lease.controller, ()) else None

    def describe(self) -> list[dict[str, Any]]:
        """The live controllers in JSON values, but for times, which are seconds since the epoch."""
        leader = self.leader
        return [
            {
                "name": name,
                "api_url": member.api_url,
                "leader": name == leader,
                "nodes": sorted(node for node in self.leases if self.controller_of(node) == name),
                "connected_nodes": len(self.connections.get(name, ())),
                "started_at": member.started_at,
            }
            for name, member in sorted(self.members.items())
        ]

    def connected(self, node: str) -> bool:
        """To any live controller."""
        return any(node in self.connections.get(name, ()) for name in self.members)
