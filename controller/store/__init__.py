"""The database: networks, ports, nodes, addresses and the journal. See `specs` for what goes in and out."""

from controller.store.migrations import check_revision, upgrade
from controller.store.store import Store

__all__ = ["Store", "check_revision", "upgrade"]
