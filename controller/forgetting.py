"""Which connections a node's conntrack must forget, so that no port and no floating IP meets those of the one before.

What a node owes is kept until its switch has done it, however long the switch is away. The store writes it down with
the change that it comes from (`controller.store.debts`), so a controller that restarts meanwhile knows of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from enum import Enum
from ipaddress import IPv4Address
from typing import Final, NamedTuple

from flows import wire
from flows.features import policy
from flows.model import Binding, Change, FloatingIp, FloatingIpChange, Network, NetworkChange, Port, PortChange
from flows.pipeline import CtZone, carrier_address, nat_zone
from flows.snapshot import Snapshot

MOST_BY_ADDRESS: Final = 1024
"""What a node may owe by address: a switch looks through all its connections for each. Beyond, whole zones go."""


class End(Enum):
    """By which of its addresses a connection is known; None is none, so all of the zone."""

    ALL = None
    ORIGINAL_SOURCE = "original_source"
    ORIGINAL_DESTINATION = "original_destination"
    REPLY_DESTINATION = "reply_destination"


class Forget(NamedTuple):
    """All connections of a zone, or those with an address at one end."""

    zone: int
    end: End = End.ALL
    address: int = 0

    def message(self) -> bytes:
        """With xid 0."""
        if self.end.value is None:
            return wire.ct_flush_zone(self.zone)
        return wire.ct_flush(self.zone, **{self.end.value: self.address})


class Debt(NamedTuple):
    """What a node must forget, and from which revision on that makes sense: once its flows are there."""

    node: str
    what: Forget
    revision: int


class Owed:
    """What is to be forgotten on each node, and what is done but still written down."""

    def __init__(self) -> None:
        self._owed: dict[str, dict[Forget, int]] = {}
        self._paid: dict[tuple[str, Forget], int] = {}

    def add(self, node: str, what: Collection[Forget], revision: int) -> None:
        if not what:
            return
        owed = self._owed.setdefault(node, {})
        owed.update((each, revision) for each in what)
        # never the zone that all ports share: that would end everybody's connections
        by_address = [each for each in owed if each.end is not End.ALL and each.zone != CtZone.SNAT]
        if len(by_address) > MOST_BY_ADDRESS:
            for each in by_address:
                owed[Forget(each.zone)] = max(owed.pop(each), owed.get(Forget(each.zone), 0))

    def due(self, node: str, revision: int) -> list[Forget]:
        """What can be forgotten when the flows of a revision are installed."""
        return [each for each, since in self._owed.get(node, {}).items() if since <= revision]

    def done(self, node: str, what: Iterable[Forget], revision: int) -> None:
        """The switch has forgotten it. What has been added again since then stays."""
        owed = self._owed.get(node, {})
        for each in what:
            if owed.get(each, revision + 1) <= revision:
                del owed[each]
                self._paid[node, each] = revision
        if not owed:
            self._owed.pop(node, None)

    def forget(self, node: str, revision: int) -> None:
        """Another controller has seen to it, up to a revision."""
        owed = self._owed.get(node, {})
        for each in [each for each, since in owed.items() if since <= revision]:
            del owed[each]
        if not owed:
            self._owed.pop(node, None)

    @property
    def paid(self) -> list[Debt]:
        """What is done, until it is `settled`."""
        return [Debt(node, what, revision) for (node, what), revision in self._paid.items()]

    def settled(self, paid: Iterable[Debt]) -> None:
        """It is written down no more."""
        for node, what, revision in paid:
            if self._paid.get((node, what)) == revision:
                del self._paid[node, what]

    def drop(self, node: str) -> None:
        """The node is gone."""
        self._owed.pop(node, None)


def left_behind(before: Snapshot, changes: Iterable[Change]) -> dict[str, set[Forget]]:
    """Node -> what the changes leave in its conntrack that nobody must meet any more."""
    left: dict[str, set[Forget]] = {}
    for change in changes:
        if isinstance(change, PortChange) and change.id in before.ports:
            old = before.ports[change.id]
            for binding in old.bindings:
                left.setdefault(binding.node, set()).update(_of_port(before, old, binding, change.new))
            for node, forget in _by_gateway_node(before, old, change.new):
                left.setdefault(node, set()).add(forget)
        elif isinstance(change, NetworkChange) and change.new is not None and change.id in before.networks:
            for node, forget in _of_network(before, before.networks[change.id], change.new):
                left.setdefault(node, set()).add(forget)
        elif isinstance(change, FloatingIpChange) and change.id in before.floating_ips:
            for binding, forget in _of_floating_ip(before, before.floating_ips[change.id], change.new):
                left.setdefault(binding.node, set()).add(forget)
    return {node: what for node, what in left.items() if what}


def _of_port(before: Snapshot, old: Port, was: Binding, new: Port | None) -> Iterator[Forget]:
    now = None if new is None else next((each for each in new.bindings if each.node == was.node), None)
    stays = now is not None
    if now is None or now.zone != was.zone:
        yield Forget(was.zone)
        yield Forget(nat_zone(was.zone))
    if _gateway_node(before, old) is None:
        kept = _sources(before, new) if new is not None and stays else set()
        for address in _sources(before, old) - kept:
            yield Forget(CtZone.SNAT, End.ORIGINAL_SOURCE, address)
    if new is not None and stays:
        lost = {one.address for one in old.held} - {one.address for one in new.held}
        network = before.networks.get(old.network_id)
        if network is not None and any(route.next_hop in lost for route in network.routes):
            yield from _over_route(before, network, old, was)


def _over_route(before: Snapshot, network: Network, port: Port, binding: Binding) -> Iterator[Forget]:
    """What came by the routes that lead to a port, if it can be told from the port's own."""
    if not _own_from_carrier(before, network, port):
        carrier = carrier_address(port.key)
        yield Forget(CtZone.SNAT, End.ORIGINAL_SOURCE, carrier)
        yield Forget(nat_zone(binding.zone), End.REPLY_DESTINATION, carrier)


def _own_from_carrier(snapshot: Snapshot, network: Network, port: Port) -> bool:
    """True if a port's own connections leave from its carrier address, as those do from behind its routes."""
    return network.carrier_nat or not policy.tracked(snapshot, port)


def _by_gateway_node(before: Snapshot, old: Port, new: Port | None) -> Iterator[tuple[str, Forget]]:
    """Where one node is the way out, it is the same wherever the port goes."""
    node = _gateway_node(before, old)
    if node is None or not old.bindings:
        return
    kept = _sources(before, new) if new is not None and new.bindings else set()
    for address in _sources(before, old) - kept:
        yield node, Forget(CtZone.SNAT, End.ORIGINAL_SOURCE, address)


def _gateway_node(snapshot: Snapshot, port: Port) -> str | None:
    network = snapshot.networks.get(port.network_id)
    return None if network is None else network.gateway_node


def _sources(snapshot: Snapshot, port: Port) -> set[int]:
    """The addresses from which a port's connections enter the SNAT zone of its node."""
    network = snapshot.networks.get(port.network_id)
    own = {int(one.address) for one in port.own}
    if network is None:
        return own
    carrier = {carrier_address(port.key)}
    if network.carrier_nat:
        return carrier
    # so is translated what comes from behind the next hop of a route, and what no zone of the port's own counts
    return own | carrier if network.routes or not policy.tracked(snapshot, port) else own


def _of_network(before: Snapshot, old: Network, new: Network) -> Iterator[tuple[str, Forget]]:
    """What left by an address that is not the network's any more, and what came over a route that is gone."""
    if not network_leaves(before, old, new):
        return
    leaves_elsewhere = _way_out(before, old) != _way_out(before, new)
    gone = _gone(old, new)
    for port in (before.ports[port_id] for port_id in before.ports_by_network.get(old.id, ())):
        carrier = carrier_address(port.key)
        over_route = any(one.address in gone for one in port.own) and not _own_from_carrier(before, old, port)
        sources = _sources(before, port) if leaves_elsewhere else {carrier} if over_route else set()
        for binding in port.bindings:
            for address in sources:
                yield old.gateway_node or binding.node, Forget(CtZone.SNAT, End.ORIGINAL_SOURCE, address)
            if over_route:
                yield binding.node, Forget(nat_zone(binding.zone), End.REPLY_DESTINATION, carrier)


def network_leaves(before: Snapshot, old: Network, new: Network) -> bool:
    """Whether a change of a network leaves anything behind, if it has ports: most changes of most fields do not."""
    return bool(_way_out(before, old) != _way_out(before, new) or _gone(old, new))


def _gone(old: Network, new: Network) -> set[IPv4Address]:
    return {route.next_hop for route in set(old.routes) - set(new.routes)}


def _way_out(snapshot: Snapshot, network: Network) -> tuple[str | None, bool, str | None]:
    external = snapshot.external_network(network)
    return None if external is None else external.id, network.own_snat_address, network.gateway_node


def _of_floating_ip(before: Snapshot, old: FloatingIp, new: FloatingIp | None) -> Iterator[tuple[Binding, Forget]]:
    kept = set(_uses(new)) if new is not None and _place(new) == _place(old) else set()
    for port_id in {use[0] for use in _uses(old) if use not in kept}:
        port = before.ports.get(port_id)
        for binding in () if port is None else port.bindings:
            zone = nat_zone(binding.zone)
            for end in (End.ORIGINAL_DESTINATION, End.REPLY_DESTINATION):  # what came to it, what left from it
                yield binding, Forget(zone, end, int(old.address))


def _place(floating_ip: FloatingIp) -> tuple[str, int]:
    return floating_ip.network_id, int(floating_ip.address)


def _uses(floating_ip: FloatingIp) -> Collection[tuple[str, object]]:
    """(port, how it is translated) of all that a floating IP leads to."""
    uses: list[tuple[str, object]] = [
        (one.port_id, (one.protocol, one.first, one.last, one.fixed_ip, one.to)) for one in floating_ip.port_forwardings
    ]
    if floating_ip.port_id is not None:
        uses.append((floating_ip.port_id, floating_ip.fixed_ip))
    return uses
