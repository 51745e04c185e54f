"""Which ports of a node leave by its SNAT addresses. Zones of conntrack hold each to its share: docs/firewall.md."""

from __future__ import annotations

from collections.abc import Iterable

from flows.model import Port
from flows.snapshot import Snapshot
from flows.view import View


def zones(snapshot: Snapshot, node: str) -> dict[int, bool]:
    """The zones of a node's ports as they see their connections; True: the port uses no SNAT address."""
    known = snapshot.nodes.get(node)
    if known is None:
        return {}
    view = View(snapshot, known)
    return {zone: not shares(view, port) for port, zone in _seated(view, snapshot.local_ports(node))}


def _seated(view: View, ports: Iterable[Port]) -> Iterable[tuple[Port, int]]:
    for port in ports:
        seat = view.seat(port)
        if seat is not None:
            yield port, seat.zone


def shares(view: View, port: Port) -> bool:
    """True if anything that the port may send leaves by a SNAT address: all but what has a floating IP of its own."""
    network = view.snapshot.networks[port.network_id]
    if not network.source_translated or view.way_out(network) is None:
        return False
    if not port.port_security or port.address_pairs or view.routed_to(network, port):
        return True
    return any(not view.floating_ips(port, one.address) for one in port.own)
