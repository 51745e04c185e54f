"""What a secondary is told: SOA, whole zones (AXFR, RFC 5936), and that something has changed (NOTIFY, RFC 1996)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from controller.dns import domain
from controller.dns.message import CLASS_IN, Kind, Record
from controller.dns.transfer_request import AA, HEADER, NOTIFY, QR, Request
from controller.dns.transfer_settings import TransferSettings
from controller.dns.zone_export import Content
from controller.dns.zone_wire import rdata

REFRESH: Final = 3600
RETRY: Final = 300
EXPIRE: Final = 14 * 86400
"""Seconds for secondaries: they go on for two weeks without us. What changes they are told by NOTIFY."""

NEGATIVE_TTL: Final = 60
"""Seconds for which it may be remembered that a name is not there (RFC 2308)."""

ZONE_TTL: Final = 3600
"""Seconds, of the SOA and NS records themselves."""

NOERROR, FORMERR, NOTIMP, REFUSED, NOTAUTH = 0, 1, 4, 5, 9

MESSAGE_SIZE: Final = 16000
"""Bytes of records in one message: what comes in between waits for no more than this."""

_OPCODE_AND_RD: Final = 0x7900
_AT_QUESTION: Final = b"\xc0\x0c"
_SOA: Final = struct.Struct(">IIIII")


@dataclass(frozen=True, slots=True)
class Exported:
    """A zone as it is handed out. `serial` grows with each change of its content."""

    name: str
    serial: int
    content: Content = field(repr=False)


def soa(zone: Exported, settings: TransferSettings) -> bytes:
    """Its record of the zone's name."""
    numbers = _SOA.pack(zone.serial, REFRESH, RETRY, EXPIRE, NEGATIVE_TTL)
    data = domain.wire(settings.name_servers[0]) + domain.wire(settings.hostmaster) + numbers
    return Record(Kind.SOA, ZONE_TTL, data).encode()


def answer(request: Request, rcode: int, *records: bytes, authoritative: bool = True) -> bytes:
    """Records stand in the answer section. Those of the zone's name point to the question's."""
    flags = QR | request.flags & _OPCODE_AND_RD | (AA if authoritative else 0) | rcode
    return HEADER.pack(request.id, flags, 1, len(records), 0, 0) + request.question + b"".join(records)


def transfer(request: Request, zone: Exported, settings: TransferSettings) -> Iterator[bytes]:
    """The messages of a whole zone, SOA first and last."""
    waiting: list[bytes] = []
    size = 0
    for record in _all(zone, settings):
        if waiting and size + len(record) > MESSAGE_SIZE:
            yield answer(request, NOERROR, *waiting)
            waiting, size = [], 0
        waiting.append(record)
        size += len(record)
    yield answer(request, NOERROR, *waiting)


def _all(zone: Exported, settings: TransferSettings) -> Iterator[bytes]:
    first = soa(zone, settings)
    yield first
    for server in settings.name_servers if zone.name != settings.catalog else ("invalid",):  # RFC 9432, 4.1
        yield Record(Kind.NS, ZONE_TTL, domain.wire(server)).encode()
    tail = f".{zone.name}"
    for name, entries in zone.content.items():
        owner = None if name == zone.name else domain.wire(name.removesuffix(tail))[:-1] + _AT_QUESTION
        for entry in entries:
            yield Record(Kind[entry.type], entry.ttl, rdata(entry.type, entry.data), owner).encode()
    yield first


def notify(id_: int, zone: Exported, settings: TransferSettings) -> bytes:
    """With the new SOA, which tells a secondary that has it already (RFC 1996, 3.7)."""
    question = domain.wire(zone.name) + struct.pack(">HH", Kind.SOA, CLASS_IN)
    return HEADER.pack(id_, AA | NOTIFY << 11, 1, 1, 0, 0) + question + soa(zone, settings)


def serial_of(revision: int) -> int:
    """A zone's serial (32 bits, RFC 1982): the journal's revision, which never goes back."""
    return revision & 0xFFFFFFFF


class Zones:
    """All that is handed out, by name in wire form. A zone keeps its serial for as long as its content is the same."""

    def __init__(self) -> None:
        self._zones: dict[bytes, Exported] = {}

    def __len__(self) -> int:
        return len(self._zones)

    def get(self, name: bytes) -> Exported | None:
        return self._zones.get(name)

    def replace(self, contents: Mapping[str, Content], revision: int) -> list[Exported]:
        """What has changed, or is new."""
        changed, zones = [], {}
        for name, content in contents.items():
            wire = domain.wire(name)
            known = self._zones.get(wire)
            if known is None or known.content != content:
                known = Exported(name, serial_of(revision), content)
                changed.append(known)
            zones[wire] = known
        self._zones = zones
        return changed
