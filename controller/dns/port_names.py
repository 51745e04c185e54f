"""The names of ports, as whoever asks sees them: of its own network, and of those that are routed to it.

`web1` and `web1.DOMAIN` for a port with that host name, `ip-10-20-0-5.DOMAIN` for any, and back (PTR). A short name is
of the own network only. Where the ports of several projects have one name, the asker's own project comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network

from controller.dns import domain
from controller.dns.message import ROOT, Kind, Record
from controller.dns.sources import Asker, Found
from flows.host_name import host_name
from flows.model import Network, Port
from flows.snapshot import Snapshot

_UNNAMED = "ip-"
_LOCALHOST = "localhost"  # RFC 6761, 6.3: no port's, whatever that is called
# what guests ask for by themselves and obey (WPAD, RFC 5214, 8.3): not whoever in a shared network is called so
_OBEYED = frozenset({"isatap", "wpad"})
_ADDRESSES = frozenset({Kind.A, Kind.AAAA, Kind.ANY})


def _ipv4(port: Port) -> Iterator[tuple[Kind, bytes]]:
    for fixed_ip in port.fixed_ips:
        yield Kind.A, fixed_ip.address.packed


def _ipv6(port: Port) -> Iterator[tuple[Kind, bytes]]:
    for fixed_ip in port.ipv6_addresses:
        yield Kind.AAAA, fixed_ip.address.packed


_DATA: Mapping[int, tuple[Callable[[Port], Iterator[tuple[Kind, bytes]]], ...]] = {
    Kind.A: (_ipv4,),
    Kind.AAAA: (_ipv6,),
    Kind.ANY: (_ipv4, _ipv6),
}


class PortNames:
    """`ttl` in seconds: for how long others may remember a name."""

    def __init__(self, ttl: int = 0) -> None:
        self._ttl = ttl
        # of the snapshot's networks, looked through once: by router, the networks of a domain
        self._networks: Mapping[str, Network] | None = None
        self._domains: dict[str, dict[bytes, tuple[Network, ...]]] = {}

    def find(self, name: bytes, kind: int, asker: Asker) -> Found | None:
        span = domain.reversed_range(name)
        if span is not None:
            return self._reverse(name, span, kind, asker)
        if name != ROOT and name[1 + name[0]] == 0:
            ports = _called(asker.network, domain.host(name[:-1]), asker)
            if ports:
                return Found(name, self._addresses(ports, kind))
        domains = self._domains_for(asker)
        for zone in domain.suffixes(name):
            if zone in domains:
                return self._in_zone(name, zone, domains[zone], kind, asker)
        return None

    def _in_zone(self, name: bytes, zone: bytes, networks: tuple[Network, ...], kind: int, asker: Asker) -> Found:
        front = domain.before(name, zone)
        if not front:
            return Found(zone)
        host = domain.host(front)
        for network in networks:
            ports = _called(network, host, asker)
            if ports:
                return Found(zone, self._addresses(ports, kind))
        return Found(zone, exists=False)

    def _addresses(self, ports: Iterable[Port], kind: int) -> tuple[Record, ...]:
        if kind not in _ADDRESSES:
            return ()
        return tuple(
            Record(of_kind, self._ttl, data) for port in ports for read in _DATA[kind] for of_kind, data in read(port)
        )

    def _domains_for(self, asker: Asker) -> Mapping[bytes, tuple[Network, ...]]:
        """The domains of the asker's network and of those routed to it; of several networks, the asker's own first."""
        if self._networks is not asker.snapshot.networks:
            self._networks, self._domains = asker.snapshot.networks, {}
        found = self._domains.get(asker.network.id)
        if found is None:
            found = self._domains[asker.network.id] = {}
            for network in _seen_from(asker):
                zone = _zone(network)
                if zone != ROOT:
                    found[zone] = (*found.get(zone, ()), network)
        return found

    def _reverse(self, name: bytes, span: IPv4Network | IPv6Network, kind: int, asker: Asker) -> Found | None:
        for network in _seen_from(asker):
            own = _range_with(network, span)
            if own is None:
                continue
            if span.prefixlen < span.max_prefixlen:
                return Found(name)
            address = span.network_address
            zone = domain.reverse_zone(address, own.prefixlen)
            port = _port_with(asker.snapshot, network, address)
            if port is None:
                return Found(zone, exists=False)
            if kind not in (Kind.PTR, Kind.ANY):
                return Found(zone)
            return Found(zone, (Record(Kind.PTR, self._ttl, _name(port, network, address)),))
        return None


def _range_with(network: Network, span: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network | None:
    """The subnet's range that all of this is in."""
    if isinstance(span, IPv4Network):
        return next((each.cidr for each in network.subnets if span.subnet_of(each.cidr)), None)
    return next((each.cidr for each in network.ipv6_subnets if span.subnet_of(each.cidr)), None)


def _seen_from(asker: Asker) -> Iterator[Network]:
    """The asker's own network, then those that are routed to it, by key."""
    yield asker.network
    if asker.network.routed:
        for network in asker.snapshot.router_networks(asker.network.router_key):
            if network.routed and network is not asker.network:
                yield network


def _called(network: Network, host: str | None, asker: Asker) -> list[Port]:
    """The ports of a network by `ip-` and an address, which no host name takes from the port that has it, or by their
    host name.
    """
    if host is None or host == _LOCALHOST:
        return []
    address = _spelled(host)
    port = None if address is None else _port_with(asker.snapshot, network, address)
    if port is not None:
        return [port]
    ports = asker.snapshot.ports_called(network.id, host)
    own = [port for port in ports if port.project_id == asker.port.project_id]
    return own or ([] if host in _OBEYED else ports)


def _spelled(host: str) -> IPv4Address | IPv6Address | None:
    if not host.startswith(_UNNAMED):
        return None
    digits = host.removeprefix(_UNNAMED)
    try:
        return IPv4Address(digits.replace("-", "."))
    except AddressValueError:
        pass
    try:
        return IPv6Address(digits.replace("-", ":"))
    except AddressValueError:
        return None


def _port_with(snapshot: Snapshot, network: Network, address: IPv4Address | IPv6Address) -> Port | None:
    if isinstance(address, IPv6Address):
        return snapshot.port_with_ipv6(network.id, address)
    return snapshot.port_with(network.id, address)


def _name(port: Port, network: Network, address: IPv4Address | IPv6Address) -> bytes:
    host = host_name(port.hostname).lower() or _UNNAMED + str(address).replace(".", "-").replace(":", "-")
    try:
        return domain.wire(f"{host}.{network.dns_domain}")
    except ValueError:  # too long together
        return domain.wire(host)


def _zone(network: Network) -> bytes:
    try:
        return domain.wire(network.dns_domain)
    except ValueError:
        return ROOT
