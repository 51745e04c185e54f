"""Zones, records and ports with names, for tests of what is said about them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from flows.model import DnsRecord, DnsZone, Network, Port, RecordType, ZoneScope
from flows.snapshot import Snapshot
from tests import world

BLUE, BLUE2, RED = (world.networks()[index] for index in (1, 2, 3))


def records(*texts: str) -> dict[str, tuple[DnsRecord, ...]]:
    """Of "NAME TYPE DATA [TTL]" each; TXT without blanks."""
    found: dict[str, tuple[DnsRecord, ...]] = {}
    for number, text in enumerate(texts):
        name, type_, data, *ttl = text.split(" ")
        one = DnsRecord(f"record-{number}", name, RecordType(type_), data, int(ttl[0]) if ttl else 60)
        found[name] = (*found.get(name, ()), one)
    return found


def zone(key: int, name: str, *texts: str, project: str | None = "blue", public: bool = False, on: Any = ()) -> DnsZone:
    return DnsZone(
        f"zone-{key}",
        key,
        name,
        ZoneScope.PUBLIC if public else ZoneScope.PRIVATE,
        project,
        network_ids=tuple(network.id for network in on),
        records=records(*texts),
    )


def port(key: int, on: Network, hostname: str, **fields: Any) -> Port:
    """Of the network's project, with the address .KEY."""
    made = world.port(key, on, key, None)
    return replace(made, hostname=hostname, project_id=on.project_id, **fields)


def snapshot(
    *zones: DnsZone, ports: tuple[Port, ...] = (), networks: tuple[Network, ...] = (BLUE, BLUE2, RED)
) -> Snapshot:
    return Snapshot.build(7, networks, ports, dns_zones=zones)
