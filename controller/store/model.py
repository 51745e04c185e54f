"""The model for the compiler: all of it, or what has changed. What cannot be used is left out, into quarantine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import BindParameter, Connection, bindparam, select

from controller.store import dns_loader, journal, policy_loader
from controller.store.engine import chunks
from controller.store.floating_ip_loader import load_floating_ips
from controller.store.journal import (
    DNS_ZONE,
    FLOATING_IP,
    MODELLED,
    NETWORK,
    NODE,
    PORT,
    PROVIDER_RULE,
    SECURITY_GROUP,
)
from controller.store.network_loader import load_networks, network_of
from controller.store.node_loader import load_nodes
from controller.store.port_loader import load_ports
from controller.store.quarantine import Fault, ObjectName, Quarantine
from controller.store.schema import networks
from flows.model import (
    Change,
    DnsZoneChange,
    FloatingIpChange,
    NetworkChange,
    NodeChange,
    PortChange,
    ProviderRuleChange,
    SecurityGroupChange,
)
from flows.snapshot import Snapshot

_Load = Callable[[Connection, Sequence[str] | None, Quarantine], Iterable[Any]]

_IDS: BindParameter[Any] = bindparam("ids", expanding=True)
_KNOWN_NETWORKS = select(networks.c.id).where(networks.c.id.in_(_IDS))


@dataclass(frozen=True, slots=True)
class _Kind:
    """`load` gives the model's objects, `id` names one of them; `on_network`: it is nothing without its network."""

    change: Callable[[str, Any], Change]
    load: _Load
    id: Callable[[Any], str] = lambda found: str(found.id)
    on_network: bool = False


# in the order in which they need each other
_KINDS: Final[Mapping[str, _Kind]] = {
    NETWORK: _Kind(NetworkChange, lambda *what: map(network_of, load_networks(*what))),
    PORT: _Kind(PortChange, lambda *what: (one.port for one in load_ports(*what)), on_network=True),
    NODE: _Kind(NodeChange, lambda *what: (one.node for one in load_nodes(*what)), lambda node: str(node.name)),
    FLOATING_IP: _Kind(
        FloatingIpChange, lambda *what: (one.floating_ip for one in load_floating_ips(*what)), on_network=True
    ),
    SECURITY_GROUP: _Kind(SecurityGroupChange, lambda *what: (one.group for one in policy_loader.load_groups(*what))),
    PROVIDER_RULE: _Kind(
        ProviderRuleChange, lambda *what: (one.rule for one in policy_loader.load_provider_rules(*what))
    ),
    DNS_ZONE: _Kind(DnsZoneChange, dns_loader.load_model),
}
assert set(_KINDS) == set(MODELLED)


def load_snapshot(connection: Connection, quarantine: Quarantine) -> Snapshot:
    found = {kind: _usable(connection, kind, None, quarantine) for kind in _KINDS}
    return Snapshot.build(journal.revision(connection), *(objects.values() for objects in found.values()))


def changes_since(connection: Connection, revision: int, quarantine: Quarantine) -> tuple[int, tuple[Change, ...]]:
    """The newest revision, and each object that changed since `revision` as it is now; also those that could not be
    used before, if they can be now.
    """
    newest, changed = journal.changed_objects(connection, revision)
    if newest > revision:
        for kind, id_ in quarantine.worth_another_look():
            if kind in _KINDS and id_ not in changed[kind]:
                changed[kind].append(id_)
    return newest, as_they_are(connection, changed, quarantine)


def as_they_are(
    connection: Connection, changed: Mapping[str, Sequence[str]], quarantine: Quarantine | None = None
) -> tuple[Change, ...]:
    """These objects (journal kind -> ids) as they are now. Of one that cannot be used nothing is said: what was known
    of it stays in force.
    """
    quarantine = Quarantine() if quarantine is None else quarantine
    changes: list[Change] = []
    for kind, of_kind in _KINDS.items():
        ids = changed.get(kind, ())
        found = _usable(connection, kind, ids, quarantine) if ids else {}
        for id_ in ids:
            if id_ in found:
                changes.append(of_kind.change(id_, found[id_]))
            elif ObjectName(kind, id_) not in quarantine:
                changes.append(of_kind.change(id_, None))
    return tuple(changes)


def _usable(connection: Connection, kind: str, ids: Sequence[str] | None, quarantine: Quarantine) -> dict[str, Any]:
    of_kind = _KINDS[kind]
    if ids is not None:
        _forget(kind, ids, quarantine)
    found = {of_kind.id(one): one for one in of_kind.load(connection, ids, quarantine)}
    if of_kind.on_network:
        _require_networks(connection, kind, found, quarantine)
    return found


def _forget(kind: str, ids: Sequence[str], quarantine: Quarantine) -> None:
    """What is still wrong with them is found again, and what is gone is not."""
    for id_ in ids:
        quarantine.free(ObjectName(kind, id_))


def _require_networks(connection: Connection, kind: str, found: dict[str, Any], quarantine: Quarantine) -> None:
    wanted = sorted({one.network_id for one in found.values()})
    known = {id_ for part in chunks(wanted) for id_ in connection.execute(_KNOWN_NETWORKS, {"ids": part}).scalars()}
    for id_, one in list(found.items()):
        network = ObjectName(NETWORK, one.network_id)
        if one.network_id not in known or network in quarantine:
            why = f"its network {one.network_id} " + ("cannot be used" if one.network_id in known else "is not there")
            quarantine.put(ObjectName(kind, id_), Fault(why, getattr(one, "name", ""), network))
            del found[id_]
