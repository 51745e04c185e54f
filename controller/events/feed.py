"""What of all that goes on is an event, and in which words. Nothing here waits: others call it in passing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from controller.events.ring import Events, Kind
from controller.full_zones import ports_by_zone
from controller.packet_in.floods import Mute
from controller.packet_in.leases import LeaseState
from flows.model import (
    Change,
    FloatingIp,
    FloatingIpChange,
    MigrationPhase,
    Network,
    NetworkChange,
    NodeChange,
    Port,
    PortChange,
)
from flows.rules import Rule
from flows.snapshot import Snapshot

QUIET: Final = 10.0
"""Seconds in which no more than MOST_LEASE_EVENTS are told of one lease: a VM may ask as often as it likes."""

MOST_LEASE_EVENTS: Final = 6

_CAPACITY: Final = 65536

_LEASE_WORDS: Final = {LeaseState.RELEASED: "gave back", LeaseState.DECLINED: "declined (something else uses it)"}


class Feed:
    """`port_active`: the port's node has confirmed the port's last change."""

    def __init__(
        self,
        events: Events,
        snapshot: Callable[[], Snapshot],
        port_active: Callable[[Port], bool],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._events = events
        self._snapshot = snapshot
        self._port_active = port_active
        self._monotonic = monotonic
        self._becoming: dict[str, set[str]] = {}  # node -> ports that it has not confirmed
        self._leases: dict[tuple[int, int], int] = {}  # port's key, address -> how often it was given
        self._said: dict[tuple[int, int], tuple[float, int]] = {}  # since when, how often

    # the packet path

    def lease(self, node: str, port: Port, address: IPv4Address | IPv6Address, state: LeaseState) -> None:
        """A client was told of its lease, or has told of it. Of renewals only the first is an event."""
        key = (port.key, int(address))
        if state is LeaseState.BOUND:
            times = self._leases.get(key, 0)
            if times > 1:
                return
            if not times and len(self._leases) >= _CAPACITY:
                del self._leases[next(iter(self._leases))]
            self._leases[key] = times + 1
            verb = "renewed" if times else "got"
        else:
            self._leases.pop(key, None)
            verb = _LEASE_WORDS[state]
        if self._said_enough(key):
            return
        network = self._snapshot().networks.get(port.network_id)
        where = "" if network is None else f" on {network.name}"
        self._of_port(Kind.LEASE, port, f"{_named(port)} {verb} {address}{where} ({node})", node)

    def muted(self, node: str, mute: Mute) -> None:
        snapshot = self._snapshot()
        port = snapshot.ports.get(snapshot.ports_by_key.get(mute.port_key, ""))
        if port is not None:
            text = f"{_named(port)} floods: it is not heard for {mute.seconds} s ({mute.rule.doc})"
            self._of_port(Kind.MUTE, port, text, node)

    # what the switches have counted

    def dropping(self, node: str, rule: Rule, port_key: int, packets: int) -> None:
        """A port has begun to send what a rule about ports drops."""
        snapshot = self._snapshot()
        port = snapshot.ports.get(snapshot.ports_by_key.get(port_key, ""))
        if port is not None:
            text = f"{_named(port)} sends what is dropped, {packets} packets so far ({rule.doc})"
            self._of_port(Kind.DROP, port, text, node)

    def full(self, node: str, zone: int, limit: int, full: bool) -> None:
        """A port has used up its connections, or has room for more again."""
        port = ports_by_zone(self._snapshot(), node).get(zone)
        if port is not None:
            what = f"has used up its {limit} connections: no more begin" if full else "may begin connections again"
            self._of_port(Kind.DROP, port, f"{_named(port)} {what} ({node})", node)

    def dropping_more(self, node: str, ports: int) -> None:
        self._events.note(Kind.DROP, f"so do {ports} more ports on {node}", node=node)

    # sessions and controllers

    def of_node(self, kind: Kind, node: str, what: str) -> None:
        self._events.note(kind, f"{node} {what}", node=node)

    def controllers(self, came: Iterable[str], went: Iterable[str]) -> None:
        for name in sorted(came):
            self._events.note(Kind.CONTROLLER, f"controller {name} is there")
        for name in sorted(went):
            self._events.note(Kind.CONTROLLER, f"controller {name} is gone: others take its nodes over")

    # the model

    def followed(self, before: Snapshot, after: Snapshot, changes: Sequence[Change]) -> None:
        for change in changes:
            match change:
                case PortChange(id=id_, new=port):
                    self._port_changed(before.ports.get(id_), port)
                case FloatingIpChange(id=id_, new=FloatingIp() as new):
                    self._floating_ip_changed(before.floating_ips.get(id_), new, before, after)
                case NetworkChange(id=id_, new=Network() as network):
                    self._network_changed(before.networks.get(id_), network)
                case NodeChange(id=name, new=node):
                    if node is None:
                        self._becoming.pop(name, None)
                        self._events.note(Kind.NODE, f"{name} is deleted", node=name)
                    elif name not in before.nodes:
                        self._events.note(Kind.NODE, f"{name} is registered", node=name)

    def progressed(self, node: str) -> None:
        """A node has confirmed something."""
        waiting = self._becoming.get(node)
        if not waiting:
            return
        ports = self._snapshot().ports
        for port_id in sorted(waiting):
            port = ports.get(port_id)
            if port is None or port.binding is None or port.binding.node != node:
                waiting.discard(port_id)
            elif self._port_active(port):
                waiting.discard(port_id)
                self._of_port(Kind.PORT, port, f"{_named(port)} is active on {node}", node)

    def _port_changed(self, old: Port | None, new: Port | None) -> None:
        was = None if old is None else old.binding
        now = None if new is None else new.binding
        if old is not None and now is None and was is not None:
            # what a deleted port's number is used for next, nobody knows
            why = "it is deleted" if new is None else "its interface is gone"
            self._of_port(Kind.PORT, old, f"{_named(old)} is inactive on {was.node}: {why}", was.node)
        if new is None:
            if old is not None:
                self._forget(old)
            return
        coming = new.migration
        if coming is not None and coming.phase is MigrationPhase.PREPARED and (old is None or old.migration is None):
            self._of_port(Kind.PORT, new, f"{_named(new)} is expected on {coming.other.node}", coming.other.node)
        if now is None or now == was:
            return
        if was is None or was.node == now.node:
            text = f"{_named(new)} is plugged in on {now.node}"
        else:
            text = f"{_named(new)} has moved from {was.node} to {now.node}"
        self._of_port(Kind.PORT, new, text, now.node)
        self._becoming.setdefault(now.node, set()).add(new.id)
        self.progressed(now.node)

    def _floating_ip_changed(self, old: FloatingIp | None, new: FloatingIp, before: Snapshot, after: Snapshot) -> None:
        was, now = None if old is None else old.port_id, new.port_id
        if was == now:
            return
        here, there = _port_of(before, was, new.project_id), _port_of(after, now, new.project_id)
        if was is None:
            text = f"{new.address} leads to {there}"
        elif now is None:
            text = f"{new.address} leads to {here} no more"
        else:
            text = f"{new.address} has moved from {here} to {there}"
        node = after.floating_ip_node(new)
        self._events.note(
            Kind.FLOATING_IP, text, project_id=new.project_id, port_id=now, network_id=new.network_id, node=node
        )

    def _network_changed(self, old: Network | None, new: Network) -> None:
        was, now = None if old is None else old.gateway_node, new.gateway_node
        if now is not None and was is not None and now != was:
            text = f"{new.name} goes out by {now} and not by {was} any more"
            self._events.note(Kind.NETWORK, text, network_id=new.id, node=now)

    def _forget(self, port: Port) -> None:
        for address in port.assigned:
            self._leases.pop((port.key, int(address)), None)

    def _said_enough(self, lease: tuple[int, int]) -> bool:
        """Of this lease, for now. Else it counts as said once more."""
        now = self._monotonic()
        since, times = self._said.pop(lease, (now, 0))
        if now - since >= QUIET:
            since, times = now, 0
        if len(self._said) >= _CAPACITY:
            del self._said[next(iter(self._said))]
        self._said[lease] = since, min(times + 1, MOST_LEASE_EVENTS)
        return times >= MOST_LEASE_EVENTS

    def _of_port(self, kind: Kind, port: Port, text: str, node: str) -> None:
        self._events.note(
            kind, text, project_id=port.project_id, port_id=port.id, network_id=port.network_id, node=node
        )


def _named(port: Port) -> str:
    return port.called or f"port {port.id}"


def _port_of(snapshot: Snapshot, port_id: str | None, reader: str | None) -> str:
    """`reader`: the project that is told, None for operators alone: names of others are not its business."""
    port = snapshot.ports.get(port_id or "")
    known = port is not None and reader in (None, port.project_id)
    return _named(port) if port is not None and known else f"port {port_id}"
