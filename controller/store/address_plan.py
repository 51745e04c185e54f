"""An address plan put into force: all of it or nothing, and once more changes nothing."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from sqlalchemy import select

from controller.store import ipam, macs, ports, reservations
from controller.store.address_specs import (
    HoldPolicy,
    PlanAction,
    PlanEntry,
    PlanKind,
    PlanOutcome,
    PlanProblem,
)
from controller.store.engine import AnyRow, chunks
from controller.store.ipv6_schema import ipv6_addresses
from controller.store.ipv6_specs import Ipv6Range
from controller.store.journal import Transaction
from controller.store.network_loader import load_networks
from controller.store.quota_specs import Limits
from controller.store.schema import addresses, networks
from controller.store.schema import ports as port_rows
from controller.store.specs import AddressRange, FixedIpSpec, Invalid, NetworkRecord, PortSpec, StoreError

_NAMES = ("name", "hostname", "device_id")


@dataclass(slots=True)
class _Machine:
    """Entries that are one port."""

    network: NetworkRecord
    indices: list[int]
    entries: list[PlanEntry]
    mac: str | None

    @property
    def spec(self) -> PortSpec:
        first = self.entries[0]
        return PortSpec(
            self.network.id,
            name=first.name,
            hostname=first.hostname,
            project_id=first.project_id,
            device_id=first.device_id,
            mac=self.mac,
            fixed_ips=tuple(FixedIpSpec(entry.range.first) for entry in self.entries),
        )

    @property
    def project_id(self) -> str | None:
        return self.entries[0].project_id or self.network.spec.project_id

    @property
    def numbers(self) -> list[int]:
        """Its IPv4 addresses."""
        return [int(entry.range.first) for entry in self.entries if isinstance(entry.range, AddressRange)]

    @property
    def ipv6(self) -> set[IPv6Address]:
        return {entry.range.first for entry in self.entries if isinstance(entry.range, Ipv6Range)}


@dataclass(slots=True)
class _Known:
    """What is there on the networks of a plan: ports by MAC, and what has which address."""

    by_mac: dict[tuple[str, str], AnyRow] = field(default_factory=dict)
    by_id: dict[str, AnyRow] = field(default_factory=dict)
    numbers: dict[str, list[int]] = field(default_factory=dict)
    ipv6: dict[str, set[IPv6Address]] = field(default_factory=dict)
    owned: dict[tuple[str, int], AnyRow] = field(default_factory=dict)
    subnets: dict[str, dict[str, ipam.SubnetRow]] = field(default_factory=dict)


class _Plan:
    def __init__(self, tx: Transaction, entries: Sequence[PlanEntry]) -> None:
        self._tx = tx
        self._entries = entries
        self.actions: list[PlanAction | None] = [None] * len(entries)
        self.problems: list[PlanProblem] = []
        self._networks = self._find_networks()

    @contextmanager
    def _about(self, *indices: int) -> Iterator[None]:
        """A refusal is a problem of these entries, and the others go on."""
        try:
            yield
        except StoreError as error:
            self.problems += [PlanProblem(index, error.code, str(error)) for index in indices]

    def _find_networks(self) -> dict[str, NetworkRecord]:
        """By what the entries call them."""
        wanted = sorted({entry.network for entry in self._entries})
        columns = select(*networks.c["id", "name"])
        found: dict[str, set[str]] = {}
        for part in chunks(wanted):
            where = networks.c.id.in_(part) | networks.c.name.in_(part)
            for id_, name in self._tx.connection.execute(columns.where(where)):
                found.setdefault(name, set()).add(id_)
                found[id_] = {id_}
        records = {record.id: record for record in load_networks(self._tx.connection, sorted(_all(found)))}
        for index, entry in enumerate(self._entries):
            ids = found.get(entry.network, set())
            if not ids:
                self.problems.append(PlanProblem(index, "network_unknown", f"there is no network {entry.network}"))
            elif len(ids) > 1:
                message = f"{len(ids)} networks are called {entry.network}, give an id"
                self.problems.append(PlanProblem(index, "network_ambiguous", message))
        return {name: records[next(iter(ids))] for name, ids in found.items() if len(ids) == 1}

    def reserve(self) -> None:
        """The reserved ranges, before the ports, which must not have their addresses there."""
        wanted: dict[str, list[int]] = {}
        for index, entry in enumerate(self._entries):
            record = self._networks.get(entry.network)
            if entry.kind is not PlanKind.RESERVED or record is None:
                continue
            with self._about(index):
                if isinstance(entry.range, Ipv6Range):
                    raise Invalid("range_invalid", "what an IPv6 subnet reserves is said with the subnet")
                new = reservations.missing(reservations.subnet_with(record, entry.range), entry.range)
                self.actions[index] = PlanAction.RESERVE if new else PlanAction.KEEP
                if new:
                    wanted.setdefault(record.id, []).append(index)
        for network_id, indices in wanted.items():
            with self._about(*indices):
                ranges = [self._entries[index].range for index in indices]
                spans = [span for span in ranges if isinstance(span, AddressRange)]
                reservations.reserve(self._tx, network_id, spans)

    def add_ports(self, rng: random.Random, auto_assign_pool: str | None, limits: Limits, holds: HoldPolicy) -> None:
        machines = self._machines()
        known = self._known({machine.network.id for machine in machines})
        new: list[_Machine] = []
        for machine in machines:
            with self._about(*machine.indices):
                there = self._there(machine, known)
                if there is None:
                    new.append(machine)
                    self._set(machine, PlanAction.CREATE)
                    continue
                changes = self._changes(machine, there)
                self._set(machine, PlanAction.UPDATE if changes else PlanAction.KEEP)
                if changes:
                    ports.update_port(self._tx, there.id, changes, limits, holds)
        if self.problems:
            return  # what follows would only repeat them
        try:
            ports.create(self._tx, [machine.spec for machine in new], rng, auto_assign_pool, limits)
        except StoreError as error:
            which = new if error.index is None else [new[error.index]]
            indices = [index for machine in which for index in machine.indices]
            self.problems += [PlanProblem(index, error.code, str(error)) for index in indices]

    def _set(self, machine: _Machine, action: PlanAction) -> None:
        for index in machine.indices:
            self.actions[index] = action

    def _machines(self) -> list[_Machine]:
        machines: list[_Machine] = []
        by_mac: dict[tuple[str, str], _Machine] = {}
        asked: dict[tuple[str, IPv4Address | IPv6Address], int] = {}
        for index, entry in enumerate(self._entries):
            record = self._networks.get(entry.network)
            if entry.kind is not PlanKind.PORT or record is None:
                continue
            with self._about(index):
                mac = None if entry.mac is None else macs.normal(entry.mac)
                if entry.range.first != entry.range.last:
                    raise Invalid("range_invalid", "a port has single addresses, not a range")
                before = asked.setdefault((record.id, entry.range.first), index)
                if before != index:
                    raise _DoublePlace(before, entry)
                machine = by_mac.get((record.id, mac)) if mac is not None else None
                if machine is None:
                    machine = _Machine(record, [], [], mac)
                    machines.append(machine)
                    if mac is not None:
                        by_mac[record.id, mac] = machine
                elif _who(machine.entries[0]) != _who(entry):
                    message = (
                        f"{mac} is the MAC of another port of the plan (an address of the same port has its names)"
                    )
                    raise Invalid("mac_in_use", message)
                machine.indices.append(index)
                machine.entries.append(entry)
        return machines

    def _known(self, network_ids: set[str]) -> _Known:
        known = _Known()
        for part in chunks(sorted(network_ids)):
            for row in self._tx.connection.execute(select(port_rows).where(port_rows.c.network_id.in_(part))):
                known.by_mac[row.network_id, row.mac] = known.by_id[row.id] = row
            for network_id, subnets in ipam.subnets_of(self._tx.connection, part).items():
                known.subnets[network_id] = {subnet.id: subnet for subnet in subnets}
                ids = list(known.subnets[network_id])
                rows = self._tx.connection.execute(
                    select(addresses)
                    .where(addresses.c.subnet_id.in_(ids), addresses.c.owner.is_not(None))
                    .order_by(addresses.c.position)
                )
                for row in rows:
                    known.owned[network_id, row.address] = row
                    if row.port_id is not None:
                        known.numbers.setdefault(row.port_id, []).append(row.address)
            of_network = select(port_rows.c.id).where(port_rows.c.network_id.in_(part))
            query = select(*ipv6_addresses.c["port_id", "address"]).where(ipv6_addresses.c.port_id.in_(of_network))
            for port_id, address in self._tx.connection.execute(query):
                known.ipv6.setdefault(port_id, set()).add(address)
        return known

    def _there(self, machine: _Machine, known: _Known) -> AnyRow | None:
        """The port that is this machine's already. Raises StoreError where that, or an address, is another's."""
        network_id = machine.network.id
        port = None if machine.mac is None else known.by_mac.get((network_id, machine.mac))
        if machine.mac is None and machine.numbers:
            holder = known.owned.get((network_id, machine.numbers[0]))
            port = None if holder is None else known.by_id.get(holder.port_id)
        same = port is not None and machine.numbers in ([], known.numbers.get(port.id))
        if port is not None and same and machine.ipv6 <= known.ipv6.get(port.id, set()):
            if port.project_id != machine.project_id:
                raise Invalid("project_differs", f"port {port.name or port.id} is of project {port.project_id}")
            return port
        if port is not None and machine.mac is not None:
            raise Invalid(
                "mac_in_use", f"{machine.mac} is the MAC of port {port.name or port.id}, with other addresses"
            )
        for entry in machine.entries:
            address = entry.range.first
            if not isinstance(address, IPv4Address):
                continue
            if (network_id, int(address)) in known.owned:
                row = known.owned[network_id, int(address)]
                other = known.by_id.get(row.port_id)
                what = f"port {other.name or other.id} ({other.mac})" if other is not None else f"a {row.owner}"
                raise Invalid("address_in_use", f"{address} is in use by {what}")
            span = AddressRange(address, address)
            wanted = reservations.subnet_with(machine.network, span)
            subnet = known.subnets[network_id][str(wanted.id)]
            ipam.require_usable(self._tx.connection, subnet, address, ipam.Owner(ipam.PORT_OWNER), "address")
        return None

    @staticmethod
    def _changes(machine: _Machine, port: AnyRow) -> dict[str, Any]:
        first = machine.entries[0]
        wanted = {name: getattr(first, name) for name in _NAMES}
        return {name: value for name, value in wanted.items() if value and value != port._mapping[name]}


class _DoublePlace(StoreError):
    def __init__(self, before: int, entry: PlanEntry) -> None:
        super().__init__("address_in_use", f"{entry.range.first} is in the plan twice", entry=before)


def _who(entry: PlanEntry) -> tuple[str | None, ...]:
    return entry.name, entry.hostname, entry.project_id, entry.device_id


def _all(sets: dict[str, set[str]]) -> set[str]:
    return {id_ for ids in sets.values() for id_ in ids}


def apply(
    tx: Transaction,
    entries: Sequence[PlanEntry],
    rng: random.Random,
    auto_assign_pool: str | None,
    limits: Limits,
    holds: HoldPolicy,
) -> PlanOutcome:
    """What is done, and every problem that was found. With a problem the transaction must not be committed."""
    plan = _Plan(tx, entries)
    plan.reserve()
    plan.add_ports(rng, auto_assign_pool, limits, holds)
    faulty = {problem.entry for problem in plan.problems}
    actions = tuple(None if index in faulty else action for index, action in enumerate(plan.actions))
    return PlanOutcome(actions, tuple(sorted(plan.problems, key=lambda problem: problem.entry)))
