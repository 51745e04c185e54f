"""What zones say: to a VM that asks for a name, and which names ports have in them. Pure functions of a snapshot."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from flows.host_name import host_name
from flows.model import DnsRecord, DnsZone, Port, RecordType, ZoneScope
from flows.snapshot import Snapshot

MOST_ALIASES: Final = 8
"""CNAMEs in a row that are followed within zones."""

ADDRESS_TYPES: Final = {4: RecordType.A, 6: RecordType.AAAA}
"""By the IP version."""

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


@dataclass(frozen=True, slots=True)
class Found:
    """`zone` is the one that has the name, whose SOA goes with an answer that there is nothing.

    `exists`: the name is there, whatever it has. `records`: aliases on the way (CNAME), then those of the type asked
    for. `beyond`: the alias's target of which the zones say nothing, to be looked for elsewhere, among ports, too.
    """

    zone: DnsZone
    exists: bool
    records: tuple[DnsRecord, ...] = ()
    beyond: str | None = None


def lookup(snapshot: Snapshot, port: Port, name: str, type_: str) -> Found | None:
    """What a port's VM is told about a name (in lower case, without the last dot) and a type ("A", "TXT", ...; "ANY").

    None: no zone that it sees has the name within. A private zone wins over a public one of that name, a longer name
    over a shorter one.
    """
    zone = zone_of(snapshot, port, name)
    if zone is None:
        return None
    aliases: tuple[DnsRecord, ...] = ()
    asked: DnsZone | None = zone
    for _ in range(MOST_ALIASES):
        if asked is None:
            return Found(zone, True, aliases, beyond=name)
        there = records(snapshot, asked, name)
        if there is None and not aliases:
            return Found(zone, name == asked.name)
        there = there or ()
        wanted = tuple(record for record in there if type_ in (record.type, "ANY"))
        alias = next((record for record in there if record.type is RecordType.CNAME), None)
        if wanted or (alias is None and not aliases):
            return Found(zone, True, aliases + wanted)
        if alias is None:
            return Found(zone, True, aliases, beyond=name)
        aliases += (alias,)
        name = alias.data
        asked = zone_of(snapshot, port, name)
    return Found(zone, True, aliases)  # who sees a loop gives up


def zone_of(snapshot: Snapshot, port: Port, name: str) -> DnsZone | None:
    """The zone nearest to a name of those that the port's VM sees."""
    if not snapshot.dns_zones_by_name:
        return None
    while name:
        seen = [
            zone
            for zone in (snapshot.dns_zones[id_] for id_ in snapshot.dns_zones_by_name.get(name, ()))
            if zone.seen_by(port)
        ]
        if seen:
            return min(seen, key=lambda zone: zone.scope is not ZoneScope.PRIVATE)
        name = name.partition(".")[2]
    return None


def records(snapshot: Snapshot, zone: DnsZone, name: str) -> tuple[DnsRecord, ...] | None:
    """All of one name, the zone's own or, where it has none, those of ports; None when there is no such name."""
    own = zone.records.get(name)
    if own or not zone.network_ids:
        return own
    label = name.removesuffix(f".{zone.name}")
    return port_records(named_ports(snapshot, zone, label), name, zone.ttl) or own


def named_ports(snapshot: Snapshot, zone: DnsZone, label: str) -> list[Port]:
    """The ports that have a label (host name or machine id) as their name in a zone: those of one machine, whose
    first port was made before any other's of that name.
    """
    machine = label if _LABEL.fullmatch(label) else ""
    found = {
        port.key: port
        for network_id in zone.network_ids
        for port in (*snapshot.ports_called(network_id, label), *snapshot.ports_of_machine(network_id, machine))
        if zone.names(port)
    }
    return of_first_machine([found[key] for key in sorted(found)])


def of_first_machine(ports: list[Port]) -> list[Port]:
    """Those that belong to the machine of the first one, by key."""
    if len(ports) < 2:
        return ports
    first = ports[0]
    machine = (first.project_id, first.device_id)
    return [
        port for port in ports if port is first or (first.device_id and (port.project_id, port.device_id) == machine)
    ]


def labels(port: Port) -> Iterator[str]:
    """What a port is called in the zones of its network: by its host name and by its machine's id."""
    called = host_name(port.hostname).lower()
    machine = port.device_id.lower()
    if called:
        yield called
    if machine != called and _LABEL.fullmatch(machine):
        yield machine


def port_records(ports: list[Port], name: str, ttl: int) -> tuple[DnsRecord, ...]:
    """The addresses of ports as records of a name. Their ids are the ports'."""
    found = [(ADDRESS_TYPES[address.version], str(address), port.id) for port in ports for address in port.assigned]
    return tuple(DnsRecord(id_, name, type_, address, ttl) for type_, address, id_ in sorted(found))
