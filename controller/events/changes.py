"""What people and programs have written, told by the journal: every controller tells of what any of them has done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

import structlog

from controller.events.ring import Events, Kind
from controller.green import Signal
from controller.store.quarantine import Fault, ObjectName
from controller.store.specs import JournalEntry, Unavailable
from flows.snapshot import Snapshot

AT_ONCE: Final = 500
"""Entries of the journal that are read at once."""

MOST: Final = 2000
"""Of more than so many that have come at once, only the last are told."""

_SILENT: Final = ("controller", "agent")
"""Actors that write what the cloud does by itself: other events tell of that."""

_VERBS: Final = {"create": "created", "update": "changed", "delete": "deleted"}

# what of a network only operators see (controller.api.views)
_PRIVATE: Final = frozenset({"gateway_node", "gateway_node_pinned", "assignable", "carrier_nat", "router_key"})
_PUBLIC: Final = frozenset({"network", "port", "floating_ip", "security_group", "dns_zone"})


class _Known(NamedTuple):
    name: str
    project_id: str | None = None
    network_id: str | None = None


class Journal(Protocol):
    """The part of the store that is needed here. Both raise what the database raises."""

    def journal(self, *, after: int = 0, limit: int = 100) -> list[JournalEntry]: ...

    def quarantine(self) -> list[tuple[ObjectName, Fault]]: ...


class Changes:
    """`snapshot` names the objects."""

    def __init__(self, events: Events, store: Journal, snapshot: Callable[[], Snapshot]) -> None:
        self._events = events
        self._store = store
        self._snapshot = snapshot
        self._told = snapshot().revision
        self._bad = dict(store.quarantine())
        self._wanted = self._told
        self._woken = Signal()
        self._log = structlog.get_logger()

    def followed(self, revision: int) -> None:
        """The journal goes so far by now. Never waits."""
        self._wanted = revision
        self._woken.send()

    def run(self) -> None:
        """Tells for ever."""
        while True:
            while self._told >= self._wanted:
                self._woken.wait()
            try:
                self.tell()
            except Unavailable:
                self._told = self._wanted  # what is new then is told again
            except Exception:
                self._log.exception("events_failed")
                self._told = self._wanted

    def tell(self) -> None:
        """Tells of what is new in the journal, and of objects that cannot be used."""
        wanted = self._wanted
        if wanted - self._told > MOST:
            skipped = wanted - self._told - MOST
            self._events.note(Kind.CHANGE, f"{skipped} changes that are not told one by one")
            self._told = wanted - MOST
        while self._told < wanted:
            entries = self._store.journal(after=self._told, limit=AT_ONCE)
            if not entries:
                self._told = wanted
                break
            snapshot = self._snapshot()
            for entry in entries:
                self._tell(entry, snapshot)
            self._told = entries[-1].revision
        self._tell_faults()

    def _tell(self, entry: JournalEntry, snapshot: Snapshot) -> None:
        if entry.actor.partition(":")[0] in _SILENT:
            return
        told = {**(entry.old or {}), **entry.payload}
        known = _known(entry, snapshot) or _Known(
            str(told.get("name") or told.get("address") or entry.object_id),
            told.get("project_id"),
            told.get("network_id"),
        )
        fields = [field for field in told if field != "events"] if entry.action == "update" else []
        what = f": {', '.join(fields)}" if fields else ""
        private = bool(fields) and entry.kind == "network" and _PRIVATE.issuperset(fields)
        self._events.note(
            Kind.CHANGE,
            f"{entry.actor} {_VERBS.get(entry.action, entry.action)} {_words(entry.kind)} {known.name}{what}",
            project_id=known.project_id if entry.kind in _PUBLIC and not private else None,
            port_id=entry.object_id if entry.kind in ("port", "capture") else None,
            network_id=entry.object_id if entry.kind == "network" else known.network_id,
            node=entry.object_id if entry.kind == "node" else None,
        )

    def _tell_faults(self) -> None:
        now = dict(self._store.quarantine())
        for of, fault in now.items():
            if self._bad.get(of) != fault:
                text = f"{_words(of.kind)} {fault.name or of.id} cannot be used: {fault.why}"
                self._events.note(Kind.QUARANTINE, text)
        for of in self._bad.keys() - now.keys():
            self._events.note(Kind.QUARANTINE, f"{_words(of.kind)} {of.id} can be used again, or is gone")
        self._bad = now


def _known(entry: JournalEntry, snapshot: Snapshot) -> _Known | None:
    """The object as it is by now, if it is still there and the model knows of it."""
    id_ = entry.object_id
    match entry.kind:
        case "network" if id_ in snapshot.networks:
            network = snapshot.networks[id_]
            return _Known(network.name or id_, network.project_id)
        case "port" | "capture" if id_ in snapshot.ports:
            port = snapshot.ports[id_]
            return _Known(port.called or id_, port.project_id, port.network_id)
        case "floating_ip" if id_ in snapshot.floating_ips:
            floating_ip = snapshot.floating_ips[id_]
            return _Known(str(floating_ip.address), floating_ip.project_id, floating_ip.network_id)
        case "security_group" if id_ in snapshot.security_groups:
            group = snapshot.security_groups[id_]
            return _Known(group.name, group.project_id)
        case "dns_zone" if id_ in snapshot.dns_zones:
            zone = snapshot.dns_zones[id_]
            return _Known(zone.name, zone.project_id)
    return None


def _words(kind: str) -> str:
    return kind.replace("_", " ")
