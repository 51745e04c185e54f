"""What a port has beside its addresses: security groups, address pairs, and whether it is held to them at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from controller.store import address_pairs, macs, memberships
from controller.store.engine import AnyRow
from controller.store.journal import Transaction
from controller.store.policy_specs import AddressPairSpec
from controller.store.quota_specs import Limits
from controller.store.specs import Conflict, PortSpec

FIELDS = frozenset({"security_groups", "port_security", "address_pairs"})


def by_default(spec: PortSpec) -> bool:
    """True when a new port is in its project's default group."""
    return spec.port_security and spec.security_groups is None


def groups(spec: PortSpec) -> tuple[str, ...] | None:
    """The groups of a new port. Raises Conflict `port_security_off`."""
    if spec.port_security:
        return spec.security_groups
    _refuse("security_groups", spec.security_groups)
    _refuse("address_pairs", spec.address_pairs)
    return ()


def _refuse(field: str, held: object) -> None:
    if held:
        message = f"a port without port_security has no {field}: give an empty list with it"
        raise Conflict("port_security_off", message, field)


def normal_pairs(pairs: tuple[AddressPairSpec, ...]) -> tuple[AddressPairSpec, ...]:
    """With MACs as ports have them. Raises Invalid `mac_invalid`."""
    return tuple(
        pair if pair.mac is None else replace(pair, mac=macs.normal(pair.mac, f"address_pairs.{position}.mac"))
        for position, pair in enumerate(pairs)
    )


def change(
    tx: Transaction, row: AnyRow, changes: Mapping[str, Any], limits: Limits
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Of a port's row: the columns that become something else, and what the journal is told of its groups, now and
    before.

    With port security on again and no groups named, a port is in its project's default group. Raises Conflict
    `port_security_off`, and what memberships and address_pairs do.
    """
    columns: dict[str, Any] = {}
    if "address_pairs" in changes:
        pairs = normal_pairs(changes["address_pairs"])
        address_pairs.require_room(tx.connection, row.project_id, len(pairs), limits)
        address_pairs.check(tx.connection, row.network_id, row.id, row.project_id, pairs)
        columns["address_pairs"] = address_pairs.dump(pairs, row.mac)
    secured = changes.get("port_security", row.port_security)
    columns["port_security"] = secured
    wanted = changes.get("security_groups")
    if not secured:
        _refuse(
            "security_groups", wanted if "security_groups" in changes else memberships.of_port(tx.connection, row.id)
        )
        _refuse("address_pairs", columns.get("address_pairs", row.address_pairs))
        wanted = ()
    told: dict[str, Any] = {}
    old: dict[str, Any] = {}
    if "security_groups" in changes or secured != row.port_security:
        had = memberships.of_port(tx.connection, row.id)
        joined = memberships.change(tx, row.id, row.project_id, wanted)
        if joined is not None:
            told, old = {"security_groups": joined}, {"security_groups": had}
    return {name: value for name, value in columns.items() if row._mapping[name] != value}, told, old
