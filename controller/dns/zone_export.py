"""The zones as an outside name server is given them. Pure functions of a snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, NamedTuple

from controller.dns import zone_names
from flows.host_name import host_name
from flows.model import DnsRecord, Port, RecordType, ZoneScope
from flows.snapshot import Snapshot

NETWORK_TTL: Final = 60
"""Seconds, for the names of ports under the domain of their network."""

CATALOG_VERSION: Final = "2"
"""RFC 9432, 4.2.1."""


class Entry(NamedTuple):
    """A record, as flows.model.DnsRecord has it."""

    type: RecordType
    data: str
    ttl: int


Content = dict[str, tuple[Entry, ...]]
"""What a zone holds, by whole name."""


class Said(NamedTuple):
    """What there is to say of a port, in whichever zone: its labels, that of its host name ("" without one), its
    addresses as records, and their names of PTR records.
    """

    labels: tuple[str, ...]
    host: str
    data: tuple[tuple[RecordType, str], ...]
    pointers: tuple[str, ...]


def said(port: Port) -> Said:
    addresses = port.assigned
    return Said(
        tuple(zone_names.labels(port)),
        host_name(port.hostname).lower(),
        tuple((zone_names.ADDRESS_TYPES[address.version], str(address)) for address in addresses),
        tuple(address.reverse_pointer for address in addresses),
    )


def _no_pause() -> None:
    """Nobody else waits."""


@dataclass(frozen=True, slots=True)
class Export:
    """`networks`: also the zones of the networks' domains and of their addresses (reverse). `catalog`: the name of one
    more zone that lists all others (RFC 9432).

    `about` may remember what `said` has found. `pause` is called again and again, for others to have their turn.
    """

    networks: bool = False
    catalog: str | None = None
    about: Callable[[Port], Said] = said
    pause: Callable[[], None] = _no_pause

    def zones(self, snapshot: Snapshot) -> dict[str, Content]:
        """All that is handed out, by name: the public zones, and what else is wanted."""
        zones: dict[str, Content] = {}
        for zone in snapshot.dns_zones.values():
            if zone.scope is ZoneScope.PUBLIC:
                content = zones[zone.name] = {name: _entries(held) for name, held in zone.records.items() if held}
                self.pause()
                on = [port for id_ in sorted(zone.network_ids) for port in _ports(snapshot, id_) if zone.names(port)]
                self._name_ports(content, zone.name, zone.ttl, on, machines=True)
        if self.networks:
            self._add_networks(snapshot, zones)
        if self.catalog is not None:
            zones[self.catalog] = _catalog(self.catalog, zones)
        return zones

    def _name_ports(self, content: Content, zone: str, ttl: int, ports: Iterable[Port], *, machines: bool) -> None:
        """Names that a zone has of its own are not those of ports."""
        called: dict[str, list[Port]] = {}
        for port in sorted(ports, key=lambda port: port.key):
            about = self.about(port)
            for label in about.labels if machines else (about.host,) if about.host else ():
                called.setdefault(label, []).append(port)
            self.pause()
        for label, named in called.items():
            name = f"{label}.{zone}"
            if name not in content:
                first = zone_names.of_first_machine(named)
                found = sorted(pair for port in first for pair in self.about(port).data)
                content[name] = tuple(Entry(type_, data, ttl) for type_, data in found)
            self.pause()

    def _add_networks(self, snapshot: Snapshot, zones: dict[str, Content]) -> None:
        by_domain: dict[str, list[Port]] = {}
        pointers: dict[str, set[str]] = {}
        for network in snapshot.networks.values():
            domain = network.dns_domain.lower().removesuffix(".")
            if not domain or network.external:
                continue
            ports = list(_ports(snapshot, network.id))
            by_domain.setdefault(domain, []).extend(ports)
            cidrs: list[IPv4Network | IPv6Network] = [one.cidr for one in network.subnets]
            cidrs += [one.cidr for one in network.ipv6_subnets]
            for name in (name for cidr in cidrs for name in reverse_zones(cidr)):
                zones.setdefault(name, {})
            for port in ports:
                about = self.about(port)
                for pointer in about.pointers if about.host else ():
                    pointers.setdefault(pointer, set()).add(f"{about.host}.{domain}")
                self.pause()
        for domain, ports in by_domain.items():
            self._name_ports(zones.setdefault(domain, {}), domain, NETWORK_TTL, ports, machines=False)
        for name, targets in pointers.items():
            content = _nearest(zones, name)
            if content is not None and name not in content:
                content[name] = tuple(Entry(RecordType.PTR, target, NETWORK_TTL) for target in sorted(targets))
            self.pause()


def _entries(records: Iterable[DnsRecord]) -> tuple[Entry, ...]:
    """All of one type have one TTL (RFC 2181, 5.2): the lowest."""
    least: dict[RecordType, int] = {}
    known = tuple(records)
    for record in known:
        least[record.type] = min(record.ttl, least.get(record.type, record.ttl))
    return tuple(Entry(record.type, record.data, least[record.type]) for record in known)


def _ports(snapshot: Snapshot, network_id: str) -> Iterable[Port]:
    return (snapshot.ports[id_] for id_ in snapshot.ports_by_network.get(network_id, ()))


def _nearest(zones: Mapping[str, Content], name: str) -> Content | None:
    while name:
        if name in zones:
            return zones[name]
        name = name.partition(".")[2]
    return None


def reverse_zones(cidr: IPv4Network | IPv6Network) -> list[str]:
    """The zones that have the PTR records of a range: cut at whole octets (RFC 1035, 3.5), or at nibbles (RFC 3596,
    2.5), and the one around it where the range is smaller than an octet has room for.
    """
    step = 8 if cidr.version == 4 else 4
    length = min(max(-(-cidr.prefixlen // step) * step, step), cidr.max_prefixlen - step)
    first: IPv4Address | IPv6Address
    if cidr.prefixlen >= length:
        first = cidr.supernet(new_prefix=length).network_address
        return [_reverse(first, length, step)]
    return [_reverse(part.network_address, length, step) for part in cidr.subnets(new_prefix=length)]


def _reverse(first: IPv4Address | IPv6Address, length: int, step: int) -> str:
    return first.reverse_pointer.split(".", (first.max_prefixlen - length) // step)[-1]


def _catalog(name: str, members: Iterable[str]) -> Content:
    content: Content = {f"version.{name}": (Entry(RecordType.TXT, CATALOG_VERSION, 0),)}
    for member in members:
        label = sha256(member.encode()).hexdigest()[:32]
        content[f"{label}.zones.{name}"] = (Entry(RecordType.PTR, member, 0),)
    return content
