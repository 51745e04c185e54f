"""The store's methods for floating IPs. See `floating_ip_specs` for what they promise."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address

from sqlalchemy import ColumnElement, Connection, or_, select

from controller.store import floating_ip_pools, floating_ips, port_forwardings, schema
from controller.store.floating_ip_loader import load_floating_ips
from controller.store.floating_ip_specs import (
    FloatingIpPoolRecord,
    FloatingIpPoolSpec,
    FloatingIpRecord,
    FloatingIpSpec,
    PortForwardingSpec,
)
from controller.store.journal import Transaction
from controller.store.pages import page
from controller.store.quota_store import QuotaStore
from controller.store.specs import Written
from controller.store.writer import equal
from flows.model import PortForwarding


class FloatingIpStore(QuotaStore):
    # -- pools

    def create_floating_ip_pool(self, spec: FloatingIpPoolSpec, actor: str) -> Written[FloatingIpPoolRecord]:
        return self._write(actor, lambda tx: _pool(tx.connection, floating_ip_pools.create(tx, spec)))

    def delete_floating_ip_pool(self, reference: str, actor: str) -> Written[FloatingIpPoolRecord]:
        def work(tx: Transaction) -> FloatingIpPoolRecord:
            last = _pool(tx.connection, reference)
            floating_ip_pools.delete_pool(tx, last.id)
            return last

        return self._write(actor, work)

    def get_floating_ip_pool(self, reference: str) -> FloatingIpPoolRecord:
        return self._database.read(lambda connection: _pool(connection, reference))

    def list_floating_ip_pools(
        self,
        *,
        name: str | None = None,
        network_id: str | None = None,
        limit: int | None = None,
        marker: str | None = None,
    ) -> list[FloatingIpPoolRecord]:
        return self._database.read(
            lambda connection: floating_ip_pools.page(connection, name, network_id, limit, marker)
        )

    # -- floating IPs

    def allocate_floating_ips(self, spec: FloatingIpSpec, actor: str) -> Written[list[FloatingIpRecord]]:
        def work(tx: Transaction) -> list[FloatingIpRecord]:
            ids = floating_ips.allocate(tx, spec, self._limits)
            return load_floating_ips(tx.connection, ids)

        return self._write(actor, work)

    def associate_floating_ip(
        self,
        floating_ip_id: str,
        port_id: str,
        fixed_ip: IPv4Address | None,
        actor: str,
        *,
        expected_port_id: str | None = None,
    ) -> Written[FloatingIpRecord]:
        def work(tx: Transaction) -> FloatingIpRecord:
            floating_ips.associate(tx, floating_ip_id, port_id, fixed_ip, expected_port_id)
            return _floating_ip(tx.connection, floating_ip_id)

        return self._write(actor, work)

    def disassociate_floating_ip(
        self, floating_ip_id: str, actor: str, *, expected_port_id: str | None = None
    ) -> Written[FloatingIpRecord]:
        def work(tx: Transaction) -> FloatingIpRecord:
            floating_ips.disassociate(tx, floating_ip_id, expected_port_id)
            return _floating_ip(tx.connection, floating_ip_id)

        return self._write(actor, work)

    def release_floating_ips(self, ids: Sequence[str], actor: str) -> Written[list[FloatingIpRecord]]:
        def work(tx: Transaction) -> list[FloatingIpRecord]:
            last = load_floating_ips(tx.connection, ids)
            floating_ips.release(tx, ids)
            return last

        return self._write(actor, work)

    def get_floating_ip(self, floating_ip_id: str) -> FloatingIpRecord:
        return self._database.read(lambda connection: _floating_ip(connection, floating_ip_id))

    def list_floating_ips(
        self,
        *,
        project_id: str | None = None,
        pool: str | None = None,
        port_id: str | None = None,
        address: IPv4Address | None = None,
        node: str | None = None,
        limit: int | None = None,
        marker: str | None = None,
    ) -> list[FloatingIpRecord]:
        """Raises NotFound `floating_ip_pool_unknown`."""
        table = schema.floating_ips.c
        conditions = equal({table.project_id: project_id})
        if address is not None:
            conditions.append(table.address == int(address))
        if port_id is not None:
            conditions.append(_leads_to(schema.ports.c.id == port_id))
        if node is not None:
            conditions.append(_leads_to(schema.ports.c.bound_node == node))

        def work(connection: Connection) -> list[FloatingIpRecord]:
            found = [] if pool is None else [table.pool_id == floating_ip_pools.find(connection, pool, "pool").id]
            return page(connection, table.id, table.key, [*conditions, *found], limit, marker, load_floating_ips)

        return self._database.read(work)

    # -- port forwardings

    def create_port_forwarding(
        self, floating_ip_id: str, spec: PortForwardingSpec, actor: str
    ) -> Written[PortForwarding]:
        def work(tx: Transaction) -> PortForwarding:
            id_ = port_forwardings.create(tx, floating_ip_id, spec)
            record = _floating_ip(tx.connection, floating_ip_id)
            return port_forwardings.find(record.floating_ip, id_)

        return self._write(actor, work)

    def delete_port_forwarding(self, floating_ip_id: str, id_: str, actor: str) -> Written[PortForwarding]:
        def work(tx: Transaction) -> PortForwarding:
            last = port_forwardings.find(_floating_ip(tx.connection, floating_ip_id).floating_ip, id_)
            port_forwardings.delete_forwarding(tx, floating_ip_id, id_)
            return last

        return self._write(actor, work)


def _leads_to(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """Those associated with, or forwarding to, such ports."""
    wanted = select(schema.ports.c.id).where(condition)
    forwarding = select(schema.port_forwardings.c.floating_ip_id).where(schema.port_forwardings.c.port_id.in_(wanted))
    return or_(schema.floating_ips.c.port_id.in_(wanted), schema.floating_ips.c.id.in_(forwarding))


def _pool(connection: Connection, reference: str) -> FloatingIpPoolRecord:
    (record,) = floating_ip_pools.load(connection, [floating_ip_pools.find(connection, reference)], alone=True)
    return record


def _floating_ip(connection: Connection, floating_ip_id: str) -> FloatingIpRecord:
    floating_ips.find(connection, floating_ip_id)
    (record,) = load_floating_ips(connection, [floating_ip_id])
    return record
