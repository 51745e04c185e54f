"""What `flows.explain` cannot know by itself: whom a name means, and how nodes and ports are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final

from controller.dns import domain
from controller.dns.message import Kind
from controller.dns.port_names import PortNames
from controller.dns.sources import Asker, Found, find
from controller.dns.zone_source import ZoneNames
from flows.compile import Program, compile_node
from flows.explain.conditions import NodeCondition, PortCondition
from flows.explain.naming import Names
from flows.explain.target import Address, Target, aim, aim_at_port
from flows.ir import Flow
from flows.model import FloatingIp, Port
from flows.snapshot import Snapshot

LONGEST_TURN: Final = 0.005
"""Seconds of a trace after which others get a turn."""

_MOST_ALIASES: Final = 8
_ADDRESSES: Final = {4: Kind.A, 6: Kind.AAAA}


class Unknown(Exception):
    """Nothing is called like this, as far as whoever asks may know."""


class Unaddressed(Exception):
    """It is a port that has no address of the version that is asked for; the text says so."""


class Ambiguous(Exception):
    """Several things are; the text says which."""


@dataclass(frozen=True, slots=True)
class Known:
    """How things are, by what the sessions and the store say (`flows.explain.conditions.Conditions`)."""

    snapshot: Snapshot
    node_state: Callable[[str], Mapping[str, Any]]
    mutes: Callable[[str, int], Mapping[str, int]]
    leased: Callable[[Port], bool | None]
    binding_error: Callable[[Port], str | None]
    floating_ip_active: Callable[[FloatingIp], bool]

    def node(self, name: str) -> NodeCondition:
        said = self.node_state(name)
        return NodeCondition(
            str(said.get("state", "disconnected")),
            said.get("unconfirmed_since"),
            tuple(_refused(said.get("quarantined", ()))),
            tuple(map(str, said.get("not_compiled", ()))),
        )

    def port(self, port: Port) -> PortCondition:
        if port.binding is None:
            return PortCondition(binding_error=self.binding_error(port))
        return PortCondition(self.mutes(port.binding.node, port.key), self.leased(port))

    def floating_ip(self, floating_ip: FloatingIp) -> bool:
        return self.floating_ip_active(floating_ip)


def _refused(flows: Iterable[Mapping[str, str | int]]) -> Iterator[tuple[str, int]]:
    for flow in flows:
        keys = [value for name, value in flow.items() if name.endswith("_key")]
        yield str(flow.get("rule")), int(keys[0]) if keys else 0


def flows_of(snapshot: Snapshot, programs: Mapping[str, Program]) -> Callable[[str], Iterable[Flow]]:
    """What a node should hold: compiled, where that is not known."""
    return lambda node: (programs.get(node) or compile_node(snapshot, node)).flows()


def find_port(names: Names, called: str) -> Port:
    """By id, name or host name. Raises Unknown and Ambiguous."""
    snapshot = names.snapshot
    port = snapshot.ports.get(called.lower()) or snapshot.ports.get(called)
    if port is not None and names.sees_port(port):
        return port
    seen = [port for port in snapshot.ports.values() if called in (port.name, port.hostname) and names.sees_port(port)]
    found = [port for port in seen if port.name == called] or seen
    if not found:
        raise Unknown(called)
    if len(found) > 1:
        ids = ", ".join(sorted(port.id for port in found)[:10])
        raise Ambiguous(f"{len(found)} ports are called {called!r}: {ids}")
    return found[0]


def find_target(names: Names, sender: Port | None, to: str, version: int | None, protocol: int, port: int) -> Target:
    """`to`: an address, a port, or a name that the sender's VM would be told. Raises Unknown, Ambiguous
    and Unaddressed.
    """
    snapshot = names.snapshot
    network = None if sender is None else snapshot.networks[sender.network_id]
    address = _address(to)
    if address is None:
        try:
            receiver = find_port(names, to)
        except Unknown:
            address = None if sender is None else resolve(snapshot, sender, to, version)
            if address is None:
                raise
        else:
            target = aim_at_port(snapshot, sender, receiver, version)
            if target is None:
                raise Unaddressed(f"{names.port(receiver)} has no {'' if version is None else f'IPv{version} '}address")
            return target
    return aim(snapshot, network, address, protocol, port, names.sees_port)


def _address(text: str) -> Address | None:
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return None if "%" in text else found  # a zone (RFC 4007) means something to one host alone


def resolve(snapshot: Snapshot, sender: Port, name: str, version: int | None) -> Address | None:
    """The first address of a name by what the cloud itself knows: ports' names and zones."""
    asker = Asker(sender, snapshot.networks[sender.network_id], snapshot)
    sources = (PortNames(), ZoneNames())
    try:
        asked = domain.wire(name)
    except ValueError:
        return None
    for family in (4, 6) if version is None else (version,):
        kind, wanted = _ADDRESSES[family], asked
        for _ in range(_MOST_ALIASES):
            found: Found | None = find(sources, wanted, kind, asker)
            if found is None:
                break
            for record in found.records:
                if record.kind == kind:
                    return IPv4Address(record.data) if family == 4 else IPv6Address(record.data)
            if found.beyond is None:
                break
            wanted = found.beyond
    return None
