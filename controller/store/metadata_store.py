"""The store's methods for what machines are told of themselves. See `metadata_specs` for what they promise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controller.store import machine_metadata
from controller.store.journal import Transaction
from controller.store.metadata_specs import MachineMetadata, MachineRecord
from controller.store.specs import Written
from controller.store.writer import Writer


class MetadataStore(Writer):
    def get_metadata(self, port_id: str) -> MachineRecord:
        return self._database.read(lambda connection: machine_metadata.get(connection, port_id))

    def load_metadata(self, project_id: str | None, machine_id: str) -> MachineMetadata | None:
        return self._database.read(lambda connection: machine_metadata.load(connection, project_id or "", machine_id))

    def update_metadata(self, port_id: str, changes: Mapping[str, Any], actor: str) -> Written[MachineRecord]:
        def work(tx: Transaction) -> MachineRecord:
            machine_metadata.change(tx, port_id, changes)
            return machine_metadata.get(tx.connection, port_id)

        return self._write(actor, work)

    def set_password(self, port_id: str, password: str, actor: str) -> Written[MachineRecord]:
        def work(tx: Transaction) -> MachineRecord:
            machine_metadata.set_password(tx, port_id, password)
            return machine_metadata.get(tx.connection, port_id)

        return self._write(actor, work)
