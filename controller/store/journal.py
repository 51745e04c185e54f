"""The journal: change feed, audit trail and history in one. Every write of the model goes through a `Transaction`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Table, bindparam, func, insert, select, update

from controller.store.actors import origin_of
from controller.store.schema import (
    counters,
    dns_records,
    dns_zones,
    floating_ips,
    journal,
    networks,
    nodes,
    port_forwardings,
    ports,
    provider_rules,
    security_group_rules,
    security_groups,
)
from controller.store.specs import Exhausted, Gap, JournalEntry

NETWORK, PORT, NODE, FLOATING_IP = "network", "port", "node", "floating_ip"
SECURITY_GROUP, PROVIDER_RULE, DNS_ZONE = "security_group", "provider_rule", "dns_zone"
# the model does not know these
FLOATING_IP_POOL, QUOTA, DEFAULT_RULE = "floating_ip_pool", "quota", "default_rule"
API_TOKEN = "api_token"
CAPTURE = "capture"  # of a port, whose id it has: nothing is changed by it
HELD_ADDRESSES = "held_addresses"  # of a network, whose id it has
MODELLED = (NETWORK, PORT, NODE, FLOATING_IP, SECURITY_GROUP, PROVIDER_RULE, DNS_ZONE)
CREATE, UPDATE, DELETE = "create", "update", "delete"
REVISION = "revision"

KEYS_AT_ONCE = 500

# counter -> (the keyed column it counts, the largest key that fits where flows carry it)
KEYS = {
    "network_key": (networks.c.key, 2**16 - 1),
    "port_key": (ports.c.key, 2**22 - 1),
    "node_key": (nodes.c.key, 2**16 - 1),
    "floating_ip_key": (floating_ips.c.key, 2**22 - 1),
    "port_forwarding_key": (port_forwardings.c.key, 2**22 - 1),
    "security_group_key": (security_groups.c.key, 2**22 - 1),
    "security_rule_key": (security_group_rules.c.key, 2**22 - 1),
    "provider_rule_key": (provider_rules.c.key, 2**16 - 1),
    "dns_zone_key": (dns_zones.c.key, 2**31 - 1),
    "dns_record_key": (dns_records.c.key, 2**31 - 1),
}

# in one order, so that two writers cannot wait for each other
_LOCK = select(counters.c.name, counters.c.value).order_by(counters.c.name).with_for_update()
_READ = select(counters.c.value).where(counters.c.name == REVISION)
_SET = update(counters).where(counters.c.name == bindparam("counter")).values(value=bindparam("new"))
_TOUCH_NODE = update(nodes).where(nodes.c.name == bindparam("node")).values(revision=bindparam("new"))
_ADD = insert(journal)
_CHANGED = (
    select(journal.c.kind, journal.c.object_id, func.min(journal.c.revision))
    .where(journal.c.revision > bindparam("after"), journal.c.revision <= bindparam("newest"))  # and no text
    .group_by(journal.c.kind, journal.c.object_id)
    .order_by(func.max(journal.c.revision))
)


@dataclass
class Transaction:
    """One write in progress. One object gets one journal row, however often it is touched.

    `revision` is the first journal revision this transaction will use, and a good name for "now" in the data.
    """

    connection: Connection
    actor: str
    now: float
    revision: int
    _found: Mapping[str, int]
    _counters: dict[str, int]
    _entries: dict[tuple[str, str], tuple[str, dict[str, Any]]] = field(default_factory=dict)
    _revisions: dict[tuple[str, str], int] = field(default_factory=dict)
    _old: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    @staticmethod
    def start(connection: Connection, actor: str, now: float) -> Transaction:
        values = {name: value for name, value in connection.execute(_LOCK)}
        return Transaction(connection, actor, now, values[REVISION] + 1, values, dict(values))

    def record(
        self, kind: str, object_id: str, action: str, payload: Mapping[str, Any], old: Mapping[str, Any] | None = None
    ) -> int:
        """Note a change and return its revision, for the object's own row. `old`: what was there before of what
        changes, or of what is deleted. Secrets are in neither.
        """
        key = (kind, object_id)
        if old:  # of a field that changes twice, what was there first
            self._old[key] = {**old, **self._old.get(key, {})}
        if key not in self._entries:
            self._entries[key] = (action, dict(payload))
            self._revisions[key] = self.revision + len(self._revisions)
        else:
            first, collected = self._entries[key]
            kept = first if first == CREATE and action == UPDATE else action
            self._entries[key] = (kept, {**collected, **payload})
        return self._revisions[key]

    def record_event(self, kind: str, object_id: str, action: str, event: str, **payload: Any) -> int:
        """As `record`, for one more in the list of what happened to the object."""
        _, collected = self._entries.get((kind, object_id), (action, {}))
        return self.record(kind, object_id, action, payload | {"events": [*collected.get("events", ()), event]})

    def touch_node(self, name: str, **payload: Any) -> None:
        """Note that something the node holds (an address, a neighbour, an uplink) has changed."""
        self.record(NODE, name, UPDATE, payload)

    def changed(self, kinds: Iterable[str]) -> dict[str, list[str]]:
        """By kind, the objects that were there before and have been touched."""
        found: dict[str, list[str]] = {kind: [] for kind in kinds}
        for (kind, object_id), (action, _) in self._entries.items():
            if kind in found and action != CREATE:
                found[kind].append(object_id)
        return found

    def entries(self, kind: str) -> list[tuple[str, str, Mapping[str, Any]]]:
        """What was noted so far of one kind: id, action and payload."""
        return [(id_, action, payload) for (of, id_), (action, payload) in self._entries.items() if of == kind]

    def finish(self) -> int:
        """Write the journal; the revision after this transaction. Call it last."""
        if not self._entries:
            return self.revision - 1
        origin = origin_of(self.actor)
        actor = str(self.actor)  # a plain one: databases look at the type
        rows = [
            {
                "revision": self._revisions[kind, object_id],
                "kind": kind,
                "object_id": object_id,
                "action": action,
                "actor": actor,
                "at": self.now,
                "payload": payload,
                "old": self._old.get((kind, object_id)),
                "token": origin.token,
                "address": origin.address,
                "request_id": origin.request_id,
            }
            for (kind, object_id), (action, payload) in self._entries.items()
        ]
        self.connection.execute(_ADD, rows)
        for row in rows:
            if row["kind"] == NODE and row["action"] != DELETE:
                self.connection.execute(_TOUCH_NODE, {"node": row["object_id"], "new": row["revision"]})
        last = self.revision + len(rows) - 1
        self._counters[REVISION] = last
        counted = {name: value for name, value in self._counters.items() if value != self._found[name]}
        self.connection.execute(_SET, [{"counter": name, "new": value} for name, value in counted.items()])
        return last

    def new_keys(self, counter: str, count: int) -> list[int]:
        """The next `count` keys. They go round, so that a key comes back as late as possible. Raises Exhausted."""
        column, largest = KEYS[counter]
        start = self._counters[counter]
        found: list[int] = []
        for step in range(0, largest, KEYS_AT_ONCE):
            keys = [(start + offset) % largest + 1 for offset in range(step, min(step + KEYS_AT_ONCE, largest))]
            used: set[int] = set()
            if start + step + len(keys) > largest:  # in the first round there is nothing to find
                used = set(self.connection.execute(select(column).where(column.in_(keys))).scalars())
            for key in keys:
                self._counters[counter] += 1
                if key not in used:
                    found.append(key)
                if len(found) == count:
                    return found
        raise Exhausted("no_free_key", f"all {largest} keys are in use")


def revision(connection: Connection) -> int:
    return int(connection.execute(_READ).scalar_one())


def entries(
    connection: Connection, after: int, limit: int, kind: str | None = None, object_id: str | None = None
) -> list[JournalEntry]:
    """The journal from a revision on, oldest first."""
    query = select(journal).where(journal.c.revision > after).order_by(journal.c.revision).limit(limit)
    if kind is not None:
        query = query.where(journal.c.kind == kind)
    if object_id is not None:
        query = query.where(journal.c.object_id == object_id)
    return [JournalEntry(**row) for row in connection.execute(query).mappings()]


def changed_objects(connection: Connection, after: int) -> tuple[int, dict[str, list[str]]]:
    """The newest revision, and by kind the objects that changed since `after`. Raises Gap `journal_gap` when some of
    that has been forgotten.
    """
    newest = revision(connection)
    changed: dict[str, list[str]] = {kind: [] for kind in MODELLED}
    if newest > after:
        rows = connection.execute(_CHANGED, {"after": after, "newest": newest}).all()
        if min((first for _, _, first in rows), default=newest + 1) > after + 1:
            raise Gap("journal_gap", f"what has changed just after revision {after} is not known any more")
        for kind, object_id, _ in rows:
            changed.setdefault(kind, []).append(object_id)
    return newest, changed


def count_rows(connection: Connection, table: Table, *conditions: Any) -> int:
    return int(connection.execute(select(func.count()).select_from(table).where(*conditions)).scalar_one())
