"""DNS zones and their records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from flows.model.ports import Port


class ZoneScope(StrEnum):
    """Whose VMs are told what a zone holds: those of its project, or all."""

    PRIVATE = "private"
    PUBLIC = "public"


class RecordType(StrEnum):
    """What a zone may hold (RFC 1035, 3596, 2782). The zone itself supplies SOA and NS."""

    A = "A"
    AAAA = "AAAA"
    CNAME = "CNAME"
    MX = "MX"
    PTR = "PTR"
    SRV = "SRV"
    TXT = "TXT"


@dataclass(frozen=True, slots=True)
class DnsRecord:
    """`name` is whole, in lower case and without a dot at its end, and so are names within `data`, which is as in a
    master file (RFC 1035, 5.1), but that of TXT: its text alone. `ttl` is in seconds. With `floating_ip_id` it goes
    when that is released.
    """

    id: str
    name: str
    type: RecordType
    data: str
    ttl: int
    floating_ip_id: str | None = None


@dataclass(frozen=True, slots=True)
class DnsZone:
    """`name` as a record's. `records` by their name, each name's in order of type and data.

    A name that only has others below it is among `records` with none.

    `network_ids`: ports of these networks have names in the zone, if they are of its project or it is of none. `ttl`
    is that of these names, and of answers that there is nothing (RFC 2308).
    """

    id: str
    key: int
    name: str
    scope: ZoneScope = ZoneScope.PRIVATE
    project_id: str | None = None
    ttl: int = 60
    network_ids: tuple[str, ...] = ()
    records: Mapping[str, tuple[DnsRecord, ...]] = field(default_factory=dict)

    def seen_by(self, port: Port) -> bool:
        """Whether a port's VM is told what the zone holds."""
        return self.scope is ZoneScope.PUBLIC or self.project_id == port.project_id

    def names(self, port: Port) -> bool:
        """Whether a port on one of its networks has a name in the zone."""
        return self.project_id in (None, port.project_id)
