"""A VM that was expected on a node has sent its first frame there: from now on it is to be served there."""

from __future__ import annotations

from controller.packet_in import outcomes
from flows.model import MigrationPhase
from flows.snapshot import Snapshot


def arrived(key: int, node: str, in_port: int, snapshot: Snapshot) -> tuple[str, str | None]:
    """The outcome, and the id of the port that has come."""
    port_id = snapshot.ports_by_key.get(key)
    if port_id is None:
        return outcomes.UNKNOWN_OBJECT, None
    migration = snapshot.ports[port_id].migration
    if migration is None or migration.phase is not MigrationPhase.PREPARED:
        return outcomes.ARRIVED_BEFORE, None
    if (migration.other.node, migration.other.ofport) != (node, in_port):
        return outcomes.WRONG_IN_PORT, None
    return outcomes.ARRIVED, port_id
