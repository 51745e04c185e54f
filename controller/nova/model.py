"""What of a nova-network cloud is carried over: plain values, with Nova's own numbers for what refers to what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

from controller.nova.dump import Row, Tables

TABLES = (
    "networks",
    "fixed_ips",
    "floating_ips",
    "virtual_interfaces",
    "instances",
    "security_groups",
    "security_group_rules",
    "security_group_instance_association",
)
NEEDED = ("networks", "fixed_ips", "virtual_interfaces", "instances")
"""Without these it is no nova-network; a cloud may well have no floating IPs."""

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Group:
    """`body` and `rules` as the API takes them, but that a rule's `remote_group` is Nova's id of a group."""

    id: int
    name: str
    project_id: str
    body: Object
    rules: tuple[Object, ...]


@dataclass(frozen=True, slots=True)
class Network:
    id: int
    body: Object


@dataclass(frozen=True, slots=True)
class Port:
    """`network` is Nova's id. `host`: where its machine runs."""

    network: int
    host: str
    body: Object


@dataclass(frozen=True, slots=True)
class Pool:
    name: str
    addresses: tuple[IPv4Address, ...]


@dataclass(frozen=True, slots=True)
class FloatingIp:
    """`port_id` and `fixed_ip` are None for one that a project has and does not use."""

    pool: str
    address: IPv4Address
    project_id: str | None
    port_id: str | None
    fixed_ip: IPv4Address | None


@dataclass(frozen=True, slots=True)
class Cloud:
    """`notes`: what is not carried over, or otherwise than an operator may think; for people."""

    networks: tuple[Network, ...]
    groups: tuple[Group, ...]
    ports: tuple[Port, ...]
    pools: tuple[Pool, ...]
    floating_ips: tuple[FloatingIp, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Choices:
    """What Nova's database does not say. `physical_networks`: of Nova's interfaces and bridges, "" of any other."""

    physical_networks: Mapping[str, str] = field(default_factory=dict)
    domain: str = ""


def is_live(row: Row) -> bool:
    """Nova does not delete rows: it writes true, or the row's own number, into `deleted`."""
    return not row.get("deleted") or row["deleted"] == "0"


def live(tables: Tables, table: str) -> list[Row]:
    return [row for row in tables.get(table, ()) if is_live(row)]
