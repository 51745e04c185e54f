"""Puts the resolver together from the configuration."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from controller.dns.cache import Cache
from controller.dns.forwarder import Forwarder
from controller.dns.port_names import PortNames
from controller.dns.server import NameServer
from controller.dns.special import SpecialNames
from controller.dns.upstreams import Chooser, HostServers, Servers
from controller.dns.zone_source import ZoneNames


@dataclass(frozen=True, slots=True)
class DnsSettings:
    """`ttl` in seconds, of the names of ports; `rate` and `burst` are questions of one port."""

    servers: Servers = Servers()
    resolv_conf: Path = Path("/etc/resolv.conf")
    cache_size: int = 10000
    ttl: int = 0
    rate: int = 300
    burst: int = 600


def build(settings: DnsSettings) -> tuple[NameServer, Forwarder]:
    """The forwarder as well, for the metrics."""
    host = HostServers(settings.resolv_conf, time.monotonic)
    forwarder = Forwarder(Cache(settings.cache_size))
    chooser = Chooser(settings.servers, host.servers)
    own = (PortNames(settings.ttl), ZoneNames())
    return NameServer(own, (SpecialNames(),), chooser, forwarder, settings.ttl), forwarder
