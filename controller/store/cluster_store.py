"""What a controller tells the others, and hears of them, by the database. Everything here waits for it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from controller.cluster.state import ClusterState
from controller.store import cluster
from controller.store.cluster import Confirmation, Own
from controller.store.engine import Database


class ClusterStore:
    """A connection of its own: the model's writer may have much to do. All methods raise Unavailable."""

    def __init__(self, url: str, ttl_s: float) -> None:
        self._database = Database(url)
        self._ttl_s = ttl_s

    def tick(self, own: Own, connected: Collection[str], replaced: Collection[str] = ()) -> ClusterState:
        """Raises NameInUse."""
        return self._database.write(lambda connection: cluster.tick(connection, own, connected, self._ttl_s, replaced))

    def resign(self, own: Own) -> ClusterState:
        return self._database.write(lambda connection: cluster.resign(connection, own))

    def raise_generation(self, own: Own, node: str, seen: int) -> bool:
        """False when the node is another controller's."""
        return self._database.write(lambda connection: cluster.raise_generation(connection, own, node, seen))

    def confirm(self, own: Own, confirmations: Sequence[Confirmation]) -> None:
        self._database.write(lambda connection: cluster.confirm(connection, own.name, confirmations))

    def read(self) -> ClusterState:
        return self._database.read(cluster.read)

    def close(self) -> None:
        self._database.close()
