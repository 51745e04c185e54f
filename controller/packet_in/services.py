"""What the packet_in handlers of all nodes share, and how much of what they take."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from controller.dns.server import NameServer
from controller.packet_in import connection_log, holding
from controller.packet_in.dhcp import DhcpServer
from controller.packet_in.floods import Mute
from controller.packet_in.leases import LeaseLog, LeaseState
from controller.packet_in.outputs import Output
from controller.packet_in.unresolved import Unresolved
from flows.model import Neighbour, Port
from flows.pipeline import PORT_DNS_QUERIES, RELAY_PACKET_INS
from flows.rules import Rule
from flows.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Limit:
    """Packet_ins a second, and at once, for one object."""

    rate: float
    burst: float


def limits(rate: float, burst: float, questions: Limit | None = None) -> Mapping[Rule, Limit]:
    """`rate` and `burst` are for a port, `questions` for what it asks the resolver; a next hop needs less."""
    port = Limit(rate, burst)
    return {
        Rule.PUNT_DHCP: port,
        Rule.PUNT_DHCPV6: port,
        Rule.PUNT_RA: port,
        Rule.PUNT_TTL_EXPIRED: port,
        Rule.PUNT_TOO_LARGE: port,
        Rule.PUNT_TOO_LARGE_IN: port,
        Rule.PUNT_LARGE_ECHO: port,
        Rule.PUNT_HOP_LIMIT: port,
        Rule.PUNT_TOO_BIG: port,
        Rule.PUNT_TOO_BIG_IN: port,
        Rule.PUNT_UNRESOLVED: port,
        Rule.PUNT_UNRESOLVED_IPV6: port,
        Rule.PUNT_ON_LINK: port,
        Rule.PUNT_NEIGHBOUR: Limit(rate=20, burst=40),
        Rule.PUNT_ROUTER_ND: Limit(rate=20, burst=40),
        Rule.PUNT_ACTIVATE: Limit(rate=2, burst=4),
        Rule.PUNT_HOLDER: port,
        Rule.PUNT_RELAYED_DHCP: Limit(*RELAY_PACKET_INS),
        Rule.PUNT_DNS: questions or Limit(*PORT_DNS_QUERIES),
    }


DEFAULT_LIMITS: Final[Mapping[Rule, Limit]] = limits(rate=50, burst=100)


@dataclass(frozen=True, slots=True)
class Services:
    """What the dispatchers of all nodes share.

    `neighbour_seen` gets a node's name and each reply of a next hop, also one that says nothing new (it refreshes).
    `packet_kept` is called when one was put into `unresolved`, where somebody has to look for what is due.
    `told` gets each lease that a client was told of, or has told of: node, port, address and state.
    `arrived` gets the port of a VM that has moved, and the node where it has shown up.
    `holds` gets an address that a port says it has, of those that its pairs allow.
    `log_connection` gets what security groups want reported: one in `log_sample`.
    `muted` gets a node's name and which port is not heard about what from now on; `mute` is for how many seconds at
    first.
    `dns` answers what ports ask; what has to wait for an upstream goes out by `send`, which must not wait.
    `counters` counts by the names of `outcomes`; `took` gets the seconds that each packet has taken.
    `monotonic` and `wall_clock` are in seconds.
    """

    snapshot: Callable[[], Snapshot]
    leases: LeaseLog
    neighbour_seen: Callable[[str, Neighbour], None]
    counters: MutableMapping[str, int]
    unresolved: Unresolved = field(default_factory=Unresolved)
    packet_kept: Callable[[], None] = lambda: None
    told: Callable[[str, Port, IPv4Address | IPv6Address, LeaseState], None] = lambda node, port, address, state: None
    arrived: Callable[[str, str], None] = lambda port_id, node: None
    holds: Callable[[holding.Place, holding.Claim], None] = lambda place, claim: None
    dhcp: DhcpServer = field(default_factory=DhcpServer)
    dns: NameServer | None = None
    send: Callable[[str, Output], bool] = lambda node, output: False
    log_connection: Callable[[str, connection_log.Event], None] = connection_log.write
    log_sample: int = 1
    mute: int = 60
    muted: Callable[[str, Mute], None] = lambda node, mute: None
    took: Callable[[float], None] = lambda seconds: None
    limits: Mapping[Rule, Limit] = field(default_factory=lambda: DEFAULT_LIMITS)
    monotonic: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time
