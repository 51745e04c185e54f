"""/v1/quarantine: what the controller does without, since it cannot be read or compiled, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import Final

from controller.api import declared, operator_answers, views
from controller.api.auth import Resource, Verb
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.services import Services
from flows.segments import Kind
from flows.snapshot import Snapshot

_MOST: Final = 1000


def list_quarantine(services: Services, _request: Request) -> Answer:
    """The first 1000: objects of which the database holds what cannot be; and, with their node, those without flows."""
    found = islice(chain(_unreadable(services), _not_compiled(services)), _MOST)
    return Answer.json({"quarantine": list(found)})


def _unreadable(services: Services) -> Iterator[views.Json]:
    for of, fault in services.store.quarantine():
        yield {"kind": of.kind, "id": of.id, "name": fault.name, "node": None, "why": fault.why}


def _not_compiled(services: Services) -> Iterator[views.Json]:
    snapshot = services.snapshot()
    for node, (kind, id_), why in services.not_compiled():
        yield {"kind": kind.name.lower(), "id": id_, "name": _name(snapshot, kind, id_), "node": node, "why": why}


def _name(snapshot: Snapshot, kind: Kind, id_: str) -> str:
    """What people call it. Parts of an object are called as the object, before the slash."""
    known: Mapping[str, object] = {
        **dict.fromkeys((Kind.NETWORK, Kind.FLOOD, Kind.FLOOD_PART, Kind.KNOWN_ARP), snapshot.networks),
        **dict.fromkeys((Kind.SECURITY_GROUP, Kind.GROUP_MEMBERS), snapshot.security_groups),
        Kind.PORT: snapshot.ports,
    }.get(kind, {})
    found = known.get(id_.partition("/")[0])
    return str(getattr(found, "name", ""))


_LIST = Endpoint(Verb.LIST, list_quarantine, declared.shown(quarantine=list[operator_answers.Quarantined]))
ROUTES = (Route("/v1/quarantine", Resource.QUARANTINE, {"GET": _LIST}),)
