"""The store's methods for who has which network. See `network_specs` for what they promise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection

from controller.store import gateway_nodes, project_networks
from controller.store.journal import Transaction
from controller.store.network_loader import load_networks
from controller.store.network_specs import Scrubbed
from controller.store.quota_store import QuotaStore
from controller.store.specs import NetworkRecord, NotFound, Written
from flows.model import GatewayMode


class ProjectNetworkStore(QuotaStore):
    def associate_network(self, network_id: str, project_id: str, actor: str) -> Written[NetworkRecord]:
        def work(tx: Transaction) -> NetworkRecord:
            project_networks.associate(tx, network_id, project_id)
            return network(tx.connection, network_id)

        return self._write(actor, work)

    def associate_free_network(self, project_id: str, actor: str) -> Written[NetworkRecord]:
        return self._write(actor, lambda tx: network(tx.connection, project_networks.take_free(tx, project_id)))

    def disassociate_network(self, network_id: str, actor: str) -> Written[NetworkRecord]:
        def work(tx: Transaction) -> NetworkRecord:
            project_networks.disassociate(tx, network_id)
            return network(tx.connection, network_id)

        return self._write(actor, work)

    def scrub_project(self, project_id: str, actor: str) -> Written[Scrubbed]:
        return self._write(actor, lambda tx: project_networks.scrub(tx, project_id))


def network(connection: Connection, network_id: str) -> NetworkRecord:
    """Raises NotFound `network_unknown`."""
    for record in networks_with_problems(connection, [network_id]):
        return record
    raise NotFound("network_unknown", f"there is no network {network_id}")


def networks_with_problems(connection: Connection, ids: Sequence[str]) -> list[NetworkRecord]:
    """With what is wrong with their gateway nodes."""
    records = load_networks(connection, ids)
    single = [record.id for record in records if record.spec.gateway_mode is GatewayMode.SINGLE]
    found = gateway_nodes.problems(connection, single) if single else {}
    return [replace(record, problems=(found[record.id],)) if record.id in found else record for record in records]
