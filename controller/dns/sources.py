"""What is asked of whoever knows names: ports, zones. A source looks into a snapshot, and so is never behind."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from controller.dns.message import Record
from flows.model import Network, Port
from flows.snapshot import Snapshot


class Asker(NamedTuple):
    """Who asks, and what is true at that moment."""

    port: Port
    network: Network
    snapshot: Snapshot


class Found(NamedTuple):
    """Of a name in `zone`, which is the source's: the records that answer the question. `exists` False: there is no
    such name. `beyond`: the records are aliases, and what they lead to, this name, is not of the source.
    """

    zone: bytes
    records: tuple[Record, ...] = ()
    exists: bool = True
    beyond: bytes | None = None


class Source(Protocol):
    def find(self, name: bytes, kind: int, asker: Asker) -> Found | None:
        """`name` in wire form and lower case. None when it is in no zone of the source that the asker sees."""
        ...


def find(sources: tuple[Source, ...], name: bytes, kind: int, asker: Asker) -> Found | None:
    """Records of the first source that has some, else that the name exists, else that it does not, in the
    smallest zone.
    """
    best: Found | None = None
    for source in sources:
        found = source.find(name, kind, asker)
        if found is None:
            continue
        if found.records:
            return found
        if best is None or (found.exists, len(found.zone)) > (best.exists, len(best.zone)):
            best = found
    return best
