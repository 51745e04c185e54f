"""The names of zones, for the resolver: what `zone_names` finds, in the words of its other sources."""

from __future__ import annotations

from controller.dns import domain, zone_names
from controller.dns.message import Kind, Record
from controller.dns.sources import Asker, Found
from controller.dns.zone_wire import rdata

_TYPES = {kind.value: kind.name for kind in Kind}


class ZoneNames:
    def find(self, name: bytes, kind: int, asker: Asker) -> Found | None:
        """A type that no zone has is found nowhere, and so are names with odd characters."""
        if not asker.snapshot.dns_zones:
            return None
        found = zone_names.lookup(asker.snapshot, asker.port, domain.text(name), _TYPES.get(kind, ""))
        if found is None:
            return None
        records = tuple(
            Record(Kind[record.type], record.ttl, rdata(record.type, record.data), domain.wire(record.name))
            for record in found.records
        )
        beyond = None if found.beyond is None else domain.wire(found.beyond)
        return Found(domain.wire(found.zone.name), records, found.exists, beyond)
