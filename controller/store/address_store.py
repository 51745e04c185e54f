"""The store's methods for addresses. See `address_specs` for what they promise."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address

from sqlalchemy import Connection

from controller.store import address_history, address_list, address_plan, journal, lease_holds, reservations
from controller.store.address_specs import (
    AddressRecord,
    HistoryRecord,
    HoldPolicy,
    PlanEntry,
    PlanOutcome,
)
from controller.store.journal import Transaction
from controller.store.network_loader import load_networks
from controller.store.quota_store import QuotaStore
from controller.store.specs import AddressRange, NetworkRecord, Written
from controller.store.writer import SYSTEM


class _NotWritten(Exception):
    """Takes an outcome out of a transaction that must leave nothing."""

    def __init__(self, outcome: PlanOutcome) -> None:
        self.outcome = outcome


class AddressStore(QuotaStore):
    _rng: random.Random
    _auto_assign_pool: str | None
    _holds: HoldPolicy

    def list_addresses(
        self, network_id: str, *, project_id: str | None = None, limit: int | None = None, marker: str | None = None
    ) -> list[AddressRecord]:
        now = self._clock()
        return self._database.read(
            lambda connection: address_list.page(connection, network_id, project_id, now, limit, marker)
        )

    def reserve_address(self, network_id: str, address: IPv4Address, actor: str) -> Written[NetworkRecord]:
        return self._reserve(reservations.reserve, network_id, address, actor)

    def unreserve_address(self, network_id: str, address: IPv4Address, actor: str) -> Written[NetworkRecord]:
        return self._reserve(reservations.unreserve, network_id, address, actor)

    def _reserve(
        self,
        change: Callable[[Transaction, str, Sequence[AddressRange]], None],
        network_id: str,
        address: IPv4Address,
        actor: str,
    ) -> Written[NetworkRecord]:
        def work(tx: Transaction) -> NetworkRecord:
            change(tx, network_id, [AddressRange(address, address)])
            (record,) = load_networks(tx.connection, [network_id])
            return record

        return self._write(actor, work)

    def end_hold(self, network_id: str, address: IPv4Address, actor: str) -> Written[None]:
        return self._write(actor, lambda tx: lease_holds.end(tx, network_id, address))

    def end_holds(self) -> int:
        now = self._clock()
        if not self._database.read(lambda connection: lease_holds.any_over(connection, now)):
            return 0
        return self._write(SYSTEM, lease_holds.end_all).value

    def shift_holds(self, seconds: float) -> int:
        now = self._clock()
        return self._database.write(lambda connection: lease_holds.shift(connection, seconds, now))

    def forget_history(self, older_than_s: float, most: int = 1000) -> int:
        before = self._clock() - older_than_s
        return self._database.write(lambda connection: address_history.forget(connection, before, most))

    def address_history(
        self,
        *,
        address: IPv4Address | IPv6Address,
        network_id: str | None = None,
        project_id: str | None = None,
        at: float | None = None,
        limit: int = 1000,
    ) -> list[HistoryRecord]:
        def work(connection: Connection) -> list[HistoryRecord]:
            return address_history.load(connection, address, network_id, project_id, at, limit)

        return self._database.read(work)

    def apply_plan(self, entries: Sequence[PlanEntry], check: bool, actor: str) -> Written[PlanOutcome]:
        def work(tx: Transaction) -> PlanOutcome:
            outcome = address_plan.apply(tx, entries, self._rng, self._auto_assign_pool, self._limits, self._holds)
            if check or outcome.problems:
                raise _NotWritten(outcome)
            return outcome

        try:
            return self._write(actor, work)
        except _NotWritten as left:
            return Written(self._database.read(journal.revision), left.outcome)
