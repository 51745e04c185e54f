"""What people call the objects that have ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from flows.snapshot import Snapshot


def name_of(snapshot: Snapshot, kind: str, id_: str) -> str:
    """The name of an object, a floating IP's address; "" where it has none or is not known."""
    find = _FIND.get(kind)
    return "" if find is None else find(snapshot, id_)


def _port(snapshot: Snapshot, id_: str) -> str:
    port = snapshot.ports.get(id_)
    return "" if port is None else port.called


def _network(snapshot: Snapshot, id_: str) -> str:
    network = snapshot.networks.get(id_)
    return "" if network is None else network.name


def _floating_ip(snapshot: Snapshot, id_: str) -> str:
    floating_ip = snapshot.floating_ips.get(id_)
    return "" if floating_ip is None else str(floating_ip.address)


_FIND: Final[Mapping[str, Callable[[Snapshot, str], str]]] = {
    "port": _port,
    "network": _network,
    "floating_ip": _floating_ip,
}
KINDS: Final = tuple(_FIND)
