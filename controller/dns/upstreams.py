"""Which servers are asked about a name: those of a zone, of a network, of the configuration, or of the host."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final, NamedTuple

from controller.dns import domain
from controller.dns.message import ROOT

DNS_PORT: Final = 53
REREAD: Final = 2.0
"""Seconds between looks at whether the host's list has changed."""

MOST_OF_HOST: Final = 3
"""As resolv.conf(5), MAXNS."""


class Upstream(NamedTuple):
    address: str
    port: int = DNS_PORT

    def __str__(self) -> str:
        return self.address if self.port == DNS_PORT else f"{self.address}#{self.port}"


Upstreams = tuple[Upstream, ...]


class Servers(NamedTuple):
    """What `[dns] server` says: in general, and by zone. A zone without servers is not asked for anywhere."""

    general: Upstreams = ()
    zones: Mapping[bytes, Upstreams] = {}

    def zone_of(self, name: bytes) -> bytes | None:
        """The smallest zone with servers of its own that a name is in."""
        return next((zone for zone in domain.suffixes(name) if zone in self.zones), None) if self.zones else None


_SERVER = re.compile(r"([0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?)(?:#([0-9]{1,5}))?")


def parse_server(text: str) -> Upstream:
    """ADDRESS or ADDRESS#PORT. Raises ValueError."""
    match = _SERVER.fullmatch(text.strip())
    port = int(match[2]) if match and match[2] else DNS_PORT
    if match is None or not 0 < port < 65536:
        raise ValueError(f"{text!r} is not ADDRESS or ADDRESS#PORT")
    address = ip_address(match[1])
    if address.is_multicast or address.is_unspecified:
        raise ValueError(f"{text!r} is not the address of a server")
    return Upstream(str(address), port)


def parse_servers(texts: Iterable[str]) -> Servers:
    """ADDRESS, ADDRESS#PORT, or /ZONE/.../ADDRESS#PORT as dnsmasq has it, by precedence. Raises ValueError."""
    general: list[Upstream] = []
    zones: dict[bytes, list[Upstream]] = {}
    for text in texts:
        if not text.startswith("/"):
            general.append(parse_server(text))
            continue
        *names, server = text[1:].split("/")
        if not names or not all(names):
            raise ValueError(f"{text!r} is not /ZONE/ADDRESS")
        for name in names:
            found = zones.setdefault(domain.wire(name), [])
            if server:
                found.append(parse_server(server))
    if ROOT in zones:
        raise ValueError("the zone of a server must have a name")
    return Servers(tuple(general), {zone: tuple(found) for zone, found in zones.items()})


def parse_resolv_conf(text: str) -> Upstreams:
    """The nameserver lines of resolv.conf(5); what is no address is passed over."""
    found: list[Upstream] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            try:
                found.append(parse_server(words[1]))
            except ValueError:
                continue
    return tuple(found[:MOST_OF_HOST])


class HostServers:
    """The servers that the controller's own host asks, read again when the file has changed. An unreadable one has
    none.
    """

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._looked: float | None = None
        self._stamp: tuple[int, int] | None = None
        self._servers: Upstreams = ()

    def servers(self) -> Upstreams:
        now = self._clock()
        if self._looked is None or now - self._looked >= REREAD:
            self._looked = now
            try:
                state = self._path.stat()
                stamp = (state.st_mtime_ns, state.st_ino)
                if stamp != self._stamp:
                    self._servers = parse_resolv_conf(self._path.read_text(errors="replace"))
                    self._stamp = stamp
            except OSError:
                self._servers, self._stamp = (), None
        return self._servers


class Chooser:
    """Servers by name and network, in the order to be asked."""

    def __init__(self, configured: Servers, host: Callable[[], Upstreams]) -> None:
        self.configured = configured
        self._host = host

    def choose(
        self, name: bytes, of_network: Iterable[IPv4Address | IPv6Address], own: frozenset[str] = frozenset()
    ) -> Upstreams:
        """`own` are addresses at which this resolver answers whoever asks: they would ask it again, and so on."""
        zone = self.configured.zone_of(name)
        if zone is not None:
            servers = self.configured.zones[zone]
        else:
            servers = tuple(Upstream(str(address)) for address in of_network)
            servers = servers or self.configured.general or self._host()
        return tuple(server for server in servers if server.address not in own) if own else servers
