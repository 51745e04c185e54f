"""From a packet_in's cookie to its answer, for one node.

The cookie names the rule that handed the packet up and the object it is about. The object must be where the packet
came from according to the snapshot; whatever is not as it should be becomes a count and nothing else.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Final

from controller.packet_in import frames, icmp, neighbours, outcomes
from controller.packet_in.dhcp import DhcpServer
from controller.packet_in.gateways import router_address
from controller.packet_in.leases import LeaseEvent, LeaseLog, LeaseState
from controller.packet_in.limits import TokenBuckets
from flows.model import Neighbour, Network
from flows.pipeline import GATEWAY_MAC
from flows.rules import Rule, decode_cookie
from flows.snapshot import Snapshot

_log = logging.getLogger(__name__)

Output = tuple[int, bytes]  # ofport to send out of, frame
Result = tuple[str, bytes | None]  # outcome, frame that goes back to where the packet came from


@dataclass(frozen=True, slots=True)
class Limit:
    """Packet_ins a second, and at once, for one object."""

    rate: float
    burst: float


def limits(rate: float, burst: float) -> Mapping[Rule, Limit]:
    """`rate` and `burst` are for a port; a next hop needs less."""
    port = Limit(rate, burst)
    return {Rule.PUNT_DHCP: port, Rule.PUNT_TTL_EXPIRED: port, Rule.PUNT_NEIGHBOUR: Limit(rate=20, burst=40)}


DEFAULT_LIMITS: Final[Mapping[Rule, Limit]] = limits(rate=50, burst=100)


@dataclass(frozen=True, slots=True)
class Services:
    """What the dispatchers of all nodes share.

    `neighbour_seen` gets a node's name and each reply of a next hop, also one that says nothing new (it refreshes).
    `counters` counts by the names of `outcomes`. `monotonic` and `wall_clock` are in seconds.
    """

    snapshot: Callable[[], Snapshot]
    leases: LeaseLog
    neighbour_seen: Callable[[str, Neighbour], None]
    counters: MutableMapping[str, int]
    dhcp: DhcpServer = field(default_factory=DhcpServer)
    limits: Mapping[Rule, Limit] = field(default_factory=lambda: DEFAULT_LIMITS)
    monotonic: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time


class Dispatcher:
    """The packet_in handler of one node."""

    def __init__(self, node: str, services: Services) -> None:
        self._node = node
        self._services = services
        self._buckets = {rule: TokenBuckets(limit.rate, limit.burst) for rule, limit in services.limits.items()}
        self._handlers: Mapping[Rule, Callable[[int, int, bytes, Snapshot], Result]] = {
            Rule.PUNT_DHCP: self._dhcp,
            Rule.PUNT_NEIGHBOUR: self._neighbour,
            Rule.PUNT_TTL_EXPIRED: self._ttl_expired,
        }

    def handle(self, cookie: int, in_port: int, frame: bytes | memoryview) -> Output | None:
        """What to send, if anything. Never raises: a fault of ours is logged, counted and costs this packet only."""
        try:
            outcome, reply = self._result(cookie, in_port, bytes(frame))
        except Exception:  # the last fence: no packet takes the controller down
            _log.exception("packet_in on node %s failed (cookie %#x, in_port %d)", self._node, cookie, in_port)
            outcome, reply = outcomes.INTERNAL_ERROR, None
        counters = self._services.counters
        counters[outcome] = counters.get(outcome, 0) + 1
        return None if reply is None else (in_port, reply)

    def _result(self, cookie: int, in_port: int, frame: bytes) -> Result:
        decoded = decode_cookie(cookie)
        handler = self._handlers.get(decoded[0]) if decoded else None
        if decoded is None or handler is None:
            return outcomes.UNKNOWN_COOKIE, None
        return handler(decoded[1], in_port, frame, self._services.snapshot())

    def _allowed(self, rule: Rule, key: int) -> bool:
        return self._buckets[rule].allow(key, self._services.monotonic())

    def _dhcp(self, key: int, in_port: int, frame: bytes, snapshot: Snapshot) -> Result:
        port_id = snapshot.ports_by_key.get(key)
        if port_id is None:
            return outcomes.UNKNOWN_OBJECT, None
        port = snapshot.ports[port_id]
        binding = port.binding
        if binding is None or binding.node != self._node or binding.ofport != in_port:
            return outcomes.WRONG_IN_PORT, None
        if not self._allowed(Rule.PUNT_DHCP, key):
            return outcomes.RATE_LIMITED, None
        answer = self._services.dhcp.answer(frame, port, snapshot)
        if answer.lease is not None:
            address, state, seconds = answer.lease
            new = self._services.leases.record(LeaseEvent(key, address, state, self._services.wall_clock() + seconds))
            if state is LeaseState.DECLINED and new:  # said once until the event has been stored
                _log.warning("port %s declined its address %s: something else uses it", port.id, address)
        return answer.outcome, answer.frame

    def _neighbour(self, key: int, in_port: int, frame: bytes, snapshot: Snapshot) -> Result:
        network = _network(key, snapshot)
        node = snapshot.nodes.get(self._node)
        if network is None or node is None:
            return outcomes.UNKNOWN_OBJECT, None
        if node.uplink(network.physical_network) != in_port:
            return outcomes.WRONG_IN_PORT, None
        if not self._allowed(Rule.PUNT_NEIGHBOUR, key):
            return outcomes.RATE_LIMITED, None
        claim = neighbours.parse_claim(frame)
        if claim is None:
            return outcomes.MALFORMED, None
        address, mac = claim
        if all(address != subnet.gateway for subnet in network.subnets):
            return outcomes.NEIGHBOUR_UNWANTED, None
        self._services.neighbour_seen(self._node, Neighbour(network.id, address, mac))
        return outcomes.NEIGHBOUR_SEEN, None

    def _ttl_expired(self, key: int, in_port: int, frame: bytes, snapshot: Snapshot) -> Result:
        network = _network(key, snapshot)
        node = snapshot.nodes.get(self._node)
        if network is None or node is None:
            return outcomes.UNKNOWN_OBJECT, None
        port = snapshot.port_at(self._node, in_port)
        if port is None or port.network_id != network.id:
            return outcomes.WRONG_IN_PORT, None
        if not self._allowed(Rule.PUNT_TTL_EXPIRED, port.key):
            return outcomes.RATE_LIMITED, None
        ethernet = frames.parse_ethernet(frame)
        packet = None if ethernet is None else frames.parse_ipv4(frame, ethernet.offset)
        if ethernet is None or packet is None:
            return outcomes.MALFORMED, None
        fixed_ip = next((held for held in port.fixed_ips if held.address.packed == packet.source), None)
        if fixed_ip is None or ethernet.source != frames.mac_bytes(port.mac):
            return outcomes.SPOOFED_SOURCE, None
        gateway = router_address(network, network.subnet(fixed_ip.subnet_id), node) if network.routed else None
        if gateway is None:
            return outcomes.NO_GATEWAY, None
        reply = icmp.time_exceeded(frame, gateway, GATEWAY_MAC)
        return (outcomes.TTL_SILENT, None) if reply is None else (outcomes.TTL_EXPIRED, reply)


def _network(key: int, snapshot: Snapshot) -> Network | None:
    network_id = snapshot.networks_by_key.get(key)
    return None if network_id is None else snapshot.networks[network_id]
