"""The store: one object in front of the files that do the work. See `specs` for what it promises."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Generic, TypeVar

import structlog
from sqlalchemy import Connection, not_, or_, select

from controller.forgetting import Debt
from controller.store import (
    address_holders,
    address_search,
    bindings,
    debts,
    dns_ownership,
    gateway_nodes,
    interface_names,
    journal,
    leases,
    model,
    moves,
    networks,
    node_addresses,
    nodes,
    ports,
    project_networks,
    quotas,
    schema,
)
from controller.store.address_specs import HoldPolicy
from controller.store.address_store import AddressStore
from controller.store.audit_store import AuditStore
from controller.store.dns_store import DnsStore
from controller.store.engine import Database, Rehearsal
from controller.store.floating_ip_loader import floating_ips_of_ports
from controller.store.floating_ip_store import FloatingIpStore
from controller.store.journal import Transaction
from controller.store.metadata_store import MetadataStore
from controller.store.migrations import check_schema, prepare
from controller.store.network_specs import Carving
from controller.store.node_loader import load_nodes
from controller.store.pages import page
from controller.store.port_loader import load_ports
from controller.store.project_network_store import ProjectNetworkStore, network, networks_with_problems
from controller.store.quarantine import Fault, ObjectName, Quarantine
from controller.store.quota_specs import Limits
from controller.store.security_group_store import SecurityGroupStore
from controller.store.specs import (
    InterfaceReport,
    JournalEntry,
    Lease,
    LeaseRecord,
    NetworkRecord,
    NetworkSpec,
    NodeRecord,
    NodeSpec,
    NotFound,
    PortRecord,
    PortSpec,
    Written,
)
from controller.store.token_store import TokenStore
from controller.store.writer import SYSTEM, equal
from flows.model import Change, GatewayMode
from flows.snapshot import Snapshot

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rehearsed(Generic[T]):
    """`value` is what was worked out. `before`: what had changed up to the revision `begin` already; `after`: what it
    would change up to `end`.
    """

    value: T
    begin: int
    before: tuple[Change, ...]
    end: int
    after: tuple[Change, ...]


class Store(
    FloatingIpStore,
    SecurityGroupStore,
    ProjectNetworkStore,
    AddressStore,
    MetadataStore,
    DnsStore,
    TokenStore,
    AuditStore,
):
    def __init__(
        self,
        url: str,
        *,
        vlan_range: tuple[int, int] = (100, 4000),
        clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
        on_commit: Callable[[int], None] | None = None,
        auto_assign_pool: str | None = None,
        limits: Limits | None = None,
        holds: HoldPolicy | None = None,
    ) -> None:
        prepare(url)
        super().__init__(Database(url), clock, on_commit, limits or Limits())
        self._vlan_range = vlan_range
        self._rng = rng or random.SystemRandom()
        self._auto_assign_pool = auto_assign_pool
        self._holds = holds or HoldPolicy()
        # highest serial each node has reported: an unchanged report leaves no trace in the database
        self._serials: dict[str, int] = {}
        self._quarantine = Quarantine()

    # -- networks

    def create_network(self, spec: NetworkSpec, actor: str, *, by_project: bool = False) -> Written[NetworkRecord]:
        def work(tx: Transaction) -> NetworkRecord:
            if by_project:
                assert spec.project_id is not None, "who makes a network of its own is a project"
                quotas.require_network(tx.connection, spec.project_id, self._limits)
                dns_ownership.require_domain(tx.connection, spec.project_id, spec.dns_domain)
            return network(tx.connection, networks.create(tx, spec, self._vlan_range))

        return self._write(actor, work)

    def create_networks(self, spec: NetworkSpec, carving: Carving, actor: str) -> Written[list[NetworkRecord]]:
        def work(tx: Transaction) -> list[NetworkRecord]:
            return networks_with_problems(tx.connection, networks.create_many(tx, spec, carving, self._vlan_range))

        return self._write(actor, work)

    def update_network(
        self,
        network_id: str,
        changes: Mapping[str, Any],
        actor: str,
        *,
        expected_revision: int | None = None,
        by_project: str | None = None,
    ) -> Written[NetworkRecord]:
        def work(tx: Transaction) -> NetworkRecord:
            networks.require_revision(tx.connection, network_id, expected_revision)
            if by_project is not None:
                dns_ownership.require_new_domain(tx.connection, by_project, network_id, changes)
            networks.update_network(tx, network_id, changes)
            return network(tx.connection, network_id)

        return self._write(actor, work)

    def delete_network(self, network_id: str, actor: str) -> Written[NetworkRecord]:
        def work(tx: Transaction) -> NetworkRecord:
            last = network(tx.connection, network_id)
            networks.delete_network(tx, network_id)
            return last

        return self._write(actor, work)

    def replace_gateway_nodes(self, lost: Collection[str]) -> Written[list[tuple[str, str]]]:
        """Other nodes become the ways out that lost ones were; (network's name, node) of each."""
        return self._write(SYSTEM, lambda tx: gateway_nodes.replace(tx, lost))

    def get_network(self, network_id: str) -> NetworkRecord:
        return self._database.read(lambda connection: network(connection, network_id))

    def list_networks(
        self,
        *,
        name: str | None = None,
        project_id: str | None = None,
        visible_to: str | None = None,
        doubtful: bool = False,
        limit: int | None = None,
        marker: str | None = None,
    ) -> list[NetworkRecord]:
        """`doubtful`: only those that may have problems."""
        table = schema.networks.c
        conditions = equal({table.name: name, table.project_id: project_id})
        if visible_to is not None:
            conditions.append(or_(table.project_id == visible_to, table.shared, table.external))
        if doubtful:
            reached = table.physical_network.in_(select(schema.node_uplinks.c.physical_network))
            conditions.append(or_(not_(reached), table.gateway_mode == GatewayMode.SINGLE))

        def work(connection: Connection) -> list[NetworkRecord]:
            return page(connection, table.id, table.key, conditions, limit, marker, networks_with_problems)

        return self._database.read(work)

    # -- ports

    def create_ports(
        self, specs: Sequence[PortSpec], actor: str, *, by_project: str | None = None
    ) -> Written[list[PortRecord]]:
        def work(tx: Transaction) -> list[PortRecord]:
            if by_project is not None:
                dns_ownership.require_host_names(tx.connection, by_project, specs)
            return _ports(tx.connection, ports.create(tx, specs, self._rng, self._auto_assign_pool, self._limits))

        return self._write(actor, work)

    def create_device_ports(
        self, project_id: str, template: PortSpec, actor: str, *, by_project: str | None = None
    ) -> Written[list[PortRecord]]:
        def work(tx: Transaction) -> list[PortRecord]:
            specs = project_networks.device_ports(tx, project_id, template)
            if by_project is not None:
                dns_ownership.require_host_names(tx.connection, by_project, specs)
            return _ports(tx.connection, ports.create(tx, specs, self._rng, self._auto_assign_pool, self._limits))

        return self._write(actor, work)

    def update_port(
        self, port_id: str, changes: Mapping[str, Any], actor: str, *, by_project: str | None = None
    ) -> Written[PortRecord]:
        def work(tx: Transaction) -> PortRecord:
            if by_project is not None:
                dns_ownership.require_new_host_name(tx.connection, by_project, port_id, changes)
            ports.update_port(tx, port_id, changes, self._limits, self._holds)
            return _port(tx.connection, port_id)

        return self._write(actor, work)

    def delete_port(self, port_id: str, actor: str) -> Written[PortRecord]:
        def work(tx: Transaction) -> PortRecord:
            last = _port(tx.connection, port_id)
            ports.delete_port(tx, port_id, self._holds)
            return last

        return self._write(actor, work)

    def prepare_binding(self, port_id: str, node: str, actor: str) -> Written[PortRecord]:
        return self._move(moves.prepare, port_id, node, actor)

    def activate_binding(self, port_id: str, node: str, actor: str = SYSTEM) -> Written[PortRecord]:
        return self._move(moves.activate, port_id, node, actor)

    def withdraw_binding(self, port_id: str, node: str, actor: str) -> Written[PortRecord]:
        return self._move(moves.withdraw, port_id, node, actor)

    def _move(
        self, step: Callable[[Transaction, str, str], None], port_id: str, node: str, actor: str
    ) -> Written[PortRecord]:
        def work(tx: Transaction) -> PortRecord:
            step(tx, port_id, node)
            bindings.reconcile(tx, [port_id])
            return _port(tx.connection, port_id)

        return self._write(actor, work)

    def hold_address(self, port_id: str, address: IPv4Address, mac: str) -> Written[bool]:
        return self._write(SYSTEM, lambda tx: address_holders.claim(tx, port_id, address, mac))

    def end_moves(self, older_than_s: float) -> Written[int]:
        return self._write(SYSTEM, lambda tx: moves.end_old(tx, older_than_s))

    def get_port(self, port_id: str) -> PortRecord:
        return self._database.read(lambda connection: _port(connection, port_id))

    def list_ports(
        self,
        *,
        name: str | None = None,
        project_id: str | None = None,
        network_id: str | None = None,
        node: str | None = None,
        device_id: str | None = None,
        address: str | None = None,
        refused: bool = False,
        limit: int | None = None,
        marker: str | None = None,
    ) -> list[PortRecord]:
        """`refused`: only those that a node shows and cannot have."""
        table = schema.ports.c
        conditions = equal(
            {
                table.name: name,
                table.project_id: project_id,
                table.network_id: network_id,
                table.device_id: device_id,
            }
        )
        if node is not None:
            conditions.append(or_(table.bound_node == node, table.bound_node.is_(None) & (table.node == node)))
        if address is not None:
            conditions.append(address_search.ports_with(address))
        if refused:
            conditions.append(table.binding_error.is_not(None))

        def work(connection: Connection) -> list[PortRecord]:
            return page(connection, table.id, table.key, conditions, limit, marker, _ports)

        return self._database.read(work)

    # -- nodes

    def put_node(self, spec: NodeSpec, actor: str) -> Written[NodeRecord]:
        def work(tx: Transaction) -> None:
            nodes.put(tx, spec)

        written = self._write(actor, work)
        self._serials.pop(spec.name, None)
        return self._then(written, lambda connection: _node(connection, spec.name))

    def delete_node(self, name: str, actor: str) -> Written[NodeRecord]:
        def work(tx: Transaction) -> NodeRecord:
            last = _node(tx.connection, name)
            nodes.delete_node(tx, name)
            return last

        written = self._write(actor, work)
        self._serials.pop(name, None)
        return written

    def get_node(self, name: str) -> NodeRecord:
        return self._database.read(lambda connection: _node(connection, name))

    def list_nodes(self, *, limit: int | None = None, marker: str | None = None) -> list[NodeRecord]:
        def work(connection: Connection) -> list[NodeRecord]:
            table = schema.nodes.c
            return page(connection, table.name, table.key, (), limit, marker, _nodes)

        return self._database.read(work)

    def report_interfaces(self, node: str, report: InterfaceReport, actor: str = "agent") -> Written[dict[str, str]]:
        written = self._write(actor, lambda tx: bindings.report(tx, node, report, self._serials.get(node, 0)))
        self._serials[node] = max(report.serial, self._serials.get(node, 0))
        return written

    def interface_claims(self, node: str, names: Sequence[str]) -> dict[str, str]:
        return self._database.read(lambda connection: interface_names.claims(connection, node, names))

    def node_problems(self, name: str) -> tuple[str, ...]:
        problems = self._database.read(lambda connection: _node_problems(connection, [name]))
        return tuple(problems.get(name, ()))

    def learn_neighbour(
        self, node: str, network_id: str, address: IPv4Address | IPv6Address, mac: str
    ) -> Written[bool]:
        return self._write(SYSTEM, lambda tx: nodes.learn_neighbour(tx, node, network_id, address, mac))

    def release_idle_gateways(self, older_than_s: float) -> Written[int]:
        return self._write(SYSTEM, lambda tx: node_addresses.release_idle_gateways(tx, older_than_s))

    # -- leases and the journal

    def record_leases(self, batch: Iterable[LeaseRecord]) -> int:
        kept = list(batch)
        return self._database.write(lambda connection: leases.record(connection, kept)) if kept else 0

    def list_leases(
        self,
        *,
        port_id: str | None = None,
        network_id: str | None = None,
        project_id: str | None = None,
        address: IPv4Address | IPv6Address | None = None,
        state: str | None = None,
        limit: int | None = None,
        marker: str | None = None,
    ) -> list[Lease]:
        table = schema.ports.c
        wanted = {table.id: port_id, table.network_id: network_id, table.project_id: project_id}
        now = self._clock()
        return self._database.read(
            lambda connection: leases.page(connection, wanted, address, state, now, limit, marker)
        )

    def revision(self) -> int:
        return self._database.read(journal.revision)

    def look(self) -> int:
        """The revision, after a look at the schema. Raises SchemaError when somebody has put another one there."""

        def work(connection: Connection) -> int:
            check_schema(connection)
            return journal.revision(connection)

        return self._database.read(work)

    def load_snapshot(self) -> Snapshot:
        found = Quarantine()
        snapshot = self._database.read(lambda connection: model.load_snapshot(connection, found))
        self._take(found)
        return snapshot

    def changes_since(self, revision: int) -> tuple[int, tuple[Change, ...]]:
        found = self._quarantine.copy()
        changes = self._database.read(lambda connection: model.changes_since(connection, revision, found))
        self._take(found)
        return changes

    def rehearse(self, known: int, work: Callable[[Store], T]) -> Rehearsed[T]:
        """Have `work` write by a store of its own, in a transaction that is never committed: nobody else sees any of
        it, or is told. `known`: the revision from which on changes are wanted. Who wants to write waits meanwhile.

        Raises what `work` raises. It may run more than once.
        """
        database = self._database
        assert isinstance(database, Database), "a rehearsal has none of its own"

        def once(connection: Connection) -> Rehearsed[T]:
            found = self._quarantine.copy()
            begin, before = model.changes_since(connection, known, found)
            value = work(self._rehearsing(Rehearsal(database, connection)))
            end, after = model.changes_since(connection, begin, found)
            return Rehearsed(value, begin, before, end, after)

        return database.rehearse(once)

    def _rehearsing(self, rehearsal: Rehearsal) -> Store:
        """The same with nothing that this one would notice."""
        other = copy(self)
        other._database = rehearsal
        other._on_commit = None
        other._serials = dict(self._serials)
        other._quarantine = self._quarantine.copy()
        return other

    def quarantine(self) -> list[tuple[ObjectName, Fault]]:
        """What the last snapshot, or the changes since, had to do without."""
        return list(self._quarantine)

    def _take(self, found: Quarantine) -> None:
        known = dict(self._quarantine)
        for of, fault in found:
            if known.get(of) != fault:
                names = {**of._asdict(), "name": fault.name}
                structlog.get_logger().error("object_unreadable", **names, why=fault.why)
        self._quarantine = found

    def owed_since(self, revision: int) -> list[Debt]:
        """What nodes have owed to forget since a revision, and still do."""
        return self._database.read(lambda connection: debts.since(connection, revision))

    def settle(self, paid: Sequence[Debt]) -> int:
        return self._database.write(lambda connection: debts.settle(connection, paid)) if paid else 0

    def journal(
        self, *, after: int = 0, limit: int = 100, kind: str | None = None, object_id: str | None = None
    ) -> list[JournalEntry]:
        return self._database.read(lambda connection: journal.entries(connection, after, limit, kind, object_id))


def _port(connection: Connection, port_id: str) -> PortRecord:
    for record in _ports(connection, [port_id]):
        return record
    raise NotFound("port_unknown", f"there is no port {port_id}")


def _ports(connection: Connection, ids: Sequence[str]) -> list[PortRecord]:
    """In this order, which is that of their keys unless these have just gone round."""
    floating = floating_ips_of_ports(connection, ids)
    found = {record.port.id: record for record in load_ports(connection, ids)}
    return [replace(found[id_], floating_ips=tuple(floating.get(id_, ()))) for id_ in ids if id_ in found]


def _node(connection: Connection, name: str) -> NodeRecord:
    for record in _nodes(connection, [name]):
        return record
    raise NotFound("node_unknown", f"there is no node {name}")


def _nodes(connection: Connection, names: Sequence[str]) -> list[NodeRecord]:
    problems = _node_problems(connection, names)
    return [
        replace(record, problems=tuple(problems.get(record.node.name, ()))) for record in load_nodes(connection, names)
    ]


def _node_problems(connection: Connection, names: Sequence[str]) -> dict[str, list[str]]:
    found = node_addresses.problems(connection, names)
    for node, line in bindings.problems(connection, names):
        found.setdefault(node, []).append(line)
    return found
