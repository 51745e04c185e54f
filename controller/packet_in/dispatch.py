"""From a packet_in's cookie to its answer, for one node.

The cookie names the rule that handed the packet up and the object it is about. The object must be where the packet
came from according to the snapshot; whatever is not as it should be becomes a count and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address

import structlog

from controller.packet_in import (
    activation,
    connection_log,
    dhcp_relay,
    dhcpv6,
    dns,
    frames,
    holding,
    icmp,
    nd,
    neighbours,
    outcomes,
    router_advertisement,
    too_big,
    too_large,
)
from controller.packet_in.connection_log import ConnectionLog
from controller.packet_in.dhcp import Answer
from controller.packet_in.dhcp_options import lease_seconds
from controller.packet_in.dhcp_relay import RelayedMachines
from controller.packet_in.floods import Floods
from controller.packet_in.gateways import router_address
from controller.packet_in.leases import LeaseEvent, LeaseState
from controller.packet_in.limits import TokenBuckets
from controller.packet_in.outputs import Output, Outputs, Temporary
from controller.packet_in.services import Services
from controller.packet_in.too_large import source_subnet
from controller.packet_in.unresolved import Hop, next_hop, question
from flows.features.mute import muted
from flows.model import Neighbour, Network, Node, Port
from flows.pipeline import GATEWAY_MAC
from flows.rules import Rule, decode_cookie
from flows.snapshot import Snapshot
from flows.wire import FROM_CONTROLLER

Result = tuple[str, Outputs]  # outcome, what to send


class Dispatcher:
    """The packet_in handler of one node."""

    def __init__(self, node: str, services: Services) -> None:
        self._node = node
        self._services = services
        self._floods = Floods(services.mute)
        self._mutes: list[Temporary] = []
        self._buckets = {rule: TokenBuckets(limit.rate, limit.burst) for rule, limit in services.limits.items()}
        self._handlers: Mapping[Rule, Callable[[int, int, bytes, Snapshot], Result]] = {
            Rule.PUNT_DHCP: self._dhcp,
            Rule.PUNT_DHCPV6: self._dhcpv6,
            Rule.PUNT_RA: self._router_solicited,
            Rule.PUNT_RELAYED_DHCP: self._relayed_dhcp,
            Rule.PUNT_DNS: self._dns,
            Rule.PUNT_DNS_LINK_LOCAL: self._dns,
            Rule.PUNT_NEIGHBOUR: self._neighbour,
            Rule.PUNT_TTL_EXPIRED: self._ttl_expired,
            Rule.PUNT_TOO_LARGE: self._too_large,
            Rule.PUNT_TOO_LARGE_IN: self._too_large_in,
            Rule.PUNT_LARGE_ECHO: self._large_echo,
            Rule.PUNT_ROUTER_ND: self._ipv6_neighbour,
            Rule.PUNT_HOP_LIMIT: self._hop_limit,
            Rule.PUNT_TOO_BIG: self._too_big,
            Rule.PUNT_TOO_BIG_IN: self._too_big_in,
            Rule.PUNT_UNRESOLVED: partial(self._ask_next_hop, Rule.PUNT_UNRESOLVED),
            Rule.PUNT_UNRESOLVED_IPV6: partial(self._ask_next_hop, Rule.PUNT_UNRESOLVED_IPV6),
            Rule.PUNT_ON_LINK: partial(self._ask_next_hop, Rule.PUNT_ON_LINK),
            Rule.PUNT_ACTIVATE: self._arrived,
            Rule.PUNT_HOLDER: self._holds,
            **{rule: partial(self._logged, rule) for rule in connection_log.LOGGED},
        }
        self._machines = RelayedMachines()
        self._connections = ConnectionLog(node, services.log_connection, services.log_sample)

    def handle(self, cookie: int, in_port: int, frame: bytes | memoryview) -> Outputs:
        """What to send. Never raises: a fault of ours is logged, counted and costs this packet only."""
        began = time.perf_counter()
        try:
            outcome, outputs = self._result(cookie, in_port, bytes(frame))
        except Exception:  # the last fence: no packet takes the controller down
            structlog.get_logger().exception(
                "packet_in_failed", node=self._node, cookie=f"{cookie:#x}", in_port=in_port
            )
            outcome, outputs = outcomes.INTERNAL_ERROR, ()
        counters = self._services.counters
        counters[outcome] = counters.get(outcome, 0) + 1
        if self._mutes:
            outputs, self._mutes = (*outputs, *self._mutes), []
        self._services.took(time.perf_counter() - began)
        return outputs

    def _result(self, cookie: int, in_port: int, frame: bytes) -> Result:
        decoded = decode_cookie(cookie)
        handler = self._handlers.get(decoded[0]) if decoded else None
        if decoded is None or handler is None:
            return outcomes.UNKNOWN_COOKIE, ()
        return handler(decoded[1], in_port, frame, self._services.snapshot())

    def _allowed(self, rule: Rule, key: int) -> bool:
        """`key` is that of the port, or of the network where the rule is about one."""
        return self._buckets[rule].allow(key, self._services.monotonic())

    def _port_allowed(self, rule: Rule, port_key: int) -> bool:
        for mute in self._floods.saw(rule, port_key, self._services.monotonic()):
            flow = muted(mute.rule, port_key)
            if flow is not None:
                self._mutes.append(Temporary(flow, mute.seconds))
                self._services.muted(self._node, mute)
        return self._allowed(rule, port_key)

    def _client(self, rule: Rule, key: int, in_port: int, snapshot: Snapshot) -> Port | str:
        """The port whose key a packet carries, or the outcome when that is not where it came from, or of too many."""
        port_id = snapshot.ports_by_key.get(key)
        if port_id is None:
            return outcomes.UNKNOWN_OBJECT
        port = snapshot.ports[port_id]
        seat = port.seat(self._node)
        if seat is None or seat.ofport != in_port:
            return outcomes.WRONG_IN_PORT
        return port if self._port_allowed(rule, key) else outcomes.RATE_LIMITED

    def _dhcpv6(self, key: int, in_port: int, frame: bytes, snapshot: Snapshot) -> Result:
        port = self._client(Rule.PUNT_DHCPV6, key, in_port, snapshot)
        if isinstance(port, str):
            return port, ()
        answer = dhcpv6.answer(frame, port, snapshot)
        if answer.state is not None:
            bound = answer.state is LeaseState.BOUND
            seconds = lease_seconds(snapshot.networks[port.network_id]) if bound else 0
            for address in answer.leased:
                self._note(port, address, answer.state, seconds)
        return answer.outcome, _back(in_port, answer.frame)

    def _router_solicited(self, key: int, in_port: int, frame: bytes, snapshot: Snapshot) -> Result:
        port = self._client(Rule.PUNT_RA, key, in_port, snapshot)
        if isinstance(port, str):
            return port, ()
        solicitation = nd.parse(frame)
        network = snapshot.networks.get(port.network_id)
        if solicitation is None or not nd.is_router_solicitation(solicitation):
            return outcomes.MALFORMED, ()
        if frames.mac_text(solicitation.mac) not in port.macs:
            return outcomes.SPOOFED_SOURCE, ()
        if network is None:
            return outcomes.UNKNOWN_OBJECT, ()
        what = router_advertisement.told(port, network, self._services.dhcp.leads_out(port, snapshot))
        if what is None:
            return outcomes.NO_ADDRESS, ()
        message = router_advertisement.advertisement(network, what)
        return outcomes.ROUTER_ADVERTISED, _back(in_port, router_advertisement.answer(message, solicitation))

    def _dhcp(self, key: int, in_port: int, frame: bytes, snapshot: Snapshot) -> Result:
        port = self._client(Rule.PUNT_DHCP, key, in_port, snapshot)
        if isinstance(port, str):
            return port, ()
        answer = self._services.dhcp.answer(frame, port, snapshot)
        self._record(answer, port)
        return answer.outcome, _back(in_port, answer.frame)

    def _record(self, answer: Answer, port: Port) -> None:
        if answer.lease is None:
            return
        self._note(port, *answer.lease)

    def _note(self, port: Port, address: IPv4Address | IPv6Address, state: LeaseState, seconds: int) -> None:
        new = self._services.leases.record(LeaseEvent(port.key, address, state, self._services.wall_clock() + seconds))
        if state is LeaseState.DECLINED and new:  # said once until the event has been stored
            structlog.get_logger().warning(
                "address_declined", port=port.id, address=str(address), why="something else uses it"
            )
        self._services.told(self._node, port, address, state)

    def _relayed_dhcp(self, key: int, in_port: int, frame: bytes, snapshot: Snapshot) -> Result:
        place = self._by_uplink(Rule.PUNT_RELAYED_DHCP, key, in_port, snapshot)
        if isinstance(place, str):
            return place, ()
        network, node = place
        answer, port = dhcp_relay.answer(frame, network, node, snapshot, self._services.dhcp, self._machines)
        if port is not None:
            self._record(answer, port)
        return answer.outcome, _back(in_port, answer.frame)

    def _dns(self, _key: int, in_port: int, frame: bytes, snapshot: Snapshot) -> Result:
        """At whatever address: who asks is the port that the question comes from."""
        services, node = self._services, self._node
        port = snapshot.port_at(node, in_port)
        if port is None or services.dns is None:
            return outcomes.WRONG_IN_PORT, ()
        if not self._allowed(Rule.PUNT_DNS, port.key):
            return outcomes.RATE_LIMITED, ()
        question = dns.read(frame)
        if question is None:
            return outcomes.MALFORMED, ()

        def later(reply: bytes) -> None:
            there = services.snapshot().port_at(node, in_port)
            if there is not None and there.id == port.id:
                services.send(node, Output(in_port, dns.reply(question, reply)))

        most = min(dns.MOST, snapshot.networks[port.network_id].mtu - question.headers)
        answer = services.dns.answer(question.message, port, snapshot, most, later)
        return answer.outcome, _back(in_port, answer.reply and dns.reply(question, answer.reply))

    def _arrived(self, key: int, in_port: int, frame: bytes, snapshot: Snapshot) -> Result:
        if not self._allowed(Rule.PUNT_ACTIVATE, key):
            return outcomes.RATE_LIMITED, ()
        outcome, port_id = activation.arrived(key, self._node, in_port, snapshot)
        if port_id is not None:
            self._services.arrived(port_id, self._node)
        return outcome, ()

    def _holds(self, key: int, in_port: int, frame: bytes, snapshot: Snapshot) -> Result:
        if not self._allowed(Rule.PUNT_HOLDER, key):
            return outcomes.RATE_LIMITED, ()
        outcome, said = holding.said(key, self._node, in_port, frame, snapshot)
        if said is not None:
            self._services.holds(*said)
        return outcome, ()

    def _logged(self, rule: Rule, key: int, in_port: int, frame: bytes, snapshot: Snapshot) -> Result:
        return self._connections.log(rule, key, frame, snapshot, self._services.monotonic()), ()

    def _neighbour(self, key: int, in_port: int, frame: bytes, snapshot: Snapshot) -> Result:
        place = self._by_uplink(Rule.PUNT_NEIGHBOUR, key, in_port, snapshot)
        if isinstance(place, str):
            return place, ()
        network, _ = place
        claim = neighbours.parse_claim(frame)
        return self._claimed(claim, network, [subnet.gateway for subnet in network.subnets]), ()

    def _ipv6_neighbour(self, key: int, in_port: int, frame: bytes, snapshot: Snapshot) -> Result:
        place = self._by_uplink(Rule.PUNT_ROUTER_ND, key, in_port, snapshot)
        if isinstance(place, str):
            return place, ()
        network, _ = place
        return self._claimed(nd.parse_claim(frame), network, [subnet.gateway for subnet in network.ipv6_subnets]), ()

    def _claimed(
        self,
        claim: tuple[IPv4Address | IPv6Address, str] | None,
        network: Network,
        wanted: Sequence[IPv4Address | IPv6Address | None],
    ) -> str:
        """Takes note of what somebody on an external network says to have, if it is a next hop."""
        if claim is None:
            return outcomes.MALFORMED
        address, mac = claim
        if address not in wanted:
            return outcomes.NEIGHBOUR_UNWANTED
        self._services.neighbour_seen(self._node, Neighbour(network.id, address, mac))
        return outcomes.NEIGHBOUR_SEEN

    def _by_uplink(self, rule: Rule, key: int, in_port: int, snapshot: Snapshot) -> tuple[Network, Node] | str:
        """The network that a packet came from by this node's uplink, or the outcome when it did not, or of too many."""
        network = _network(key, snapshot)
        node = snapshot.nodes.get(self._node)
        if network is None or node is None:
            return outcomes.UNKNOWN_OBJECT
        if node.uplink(network.physical_network) != in_port:
            return outcomes.WRONG_IN_PORT
        return (network, node) if self._allowed(rule, key) else outcomes.RATE_LIMITED

    def _sender(self, rule: Rule, key: int, in_port: int, snapshot: Snapshot) -> tuple[Network, Node, Port] | str:
        """The VM that a packet of a network comes from, or the outcome when there is none, or it has sent too many."""
        network = _network(key, snapshot)
        node = snapshot.nodes.get(self._node)
        if network is None or node is None:
            return outcomes.UNKNOWN_OBJECT
        port = snapshot.port_at(self._node, in_port)
        if port is None or port.network_id != network.id:
            return outcomes.WRONG_IN_PORT
        return (network, node, port) if self._port_allowed(rule, port.key) else outcomes.RATE_LIMITED

    def _ttl_expired(self, key: int, in_port: int, frame: bytes, snapshot: Snapshot) -> Result:
        sender = self._sender(Rule.PUNT_TTL_EXPIRED, key, in_port, snapshot)
        if isinstance(sender, str):
            return sender, ()
        network, node, port = sender
        ethernet = frames.parse_ethernet(frame)
        packet = None if ethernet is None else frames.parse_ipv4(frame, ethernet.offset)
        if ethernet is None or packet is None:
            return outcomes.MALFORMED, ()
        subnet = source_subnet(network, port, IPv4Address(packet.source))
        if subnet is None or frames.mac_text(ethernet.source) not in port.macs:
            return outcomes.SPOOFED_SOURCE, ()
        gateway = router_address(network, subnet, node) if network.routed else None
        if gateway is None:
            return outcomes.NO_GATEWAY, ()
        reply = icmp.time_exceeded(frame, gateway, GATEWAY_MAC)
        return (outcomes.TTL_SILENT if reply is None else outcomes.TTL_EXPIRED), _back(in_port, reply)

    def _too_large(self, key: int, in_port: int, frame: bytes, snapshot: Snapshot) -> Result:
        sender = self._sender(Rule.PUNT_TOO_LARGE, key, in_port, snapshot)
        if isinstance(sender, str):
            return sender, ()
        network, node, port = sender
        return too_large.leaving(frame, in_port, port, network, node, snapshot)

    def _too_large_in(self, key: int, in_port: int, frame: bytes, snapshot: Snapshot) -> Result:
        """Routed to a network, from a VM of this node or from outside to one."""
        network = _network(key, snapshot)
        node = snapshot.nodes.get(self._node)
        if network is None or node is None:
            return outcomes.UNKNOWN_OBJECT, ()
        sender = snapshot.port_at(self._node, in_port)
        port = too_large.receiver(frame, network, node, snapshot) if sender is None else sender
        if port is None:
            return outcomes.NO_RECEIVER, ()
        if not self._allowed(Rule.PUNT_TOO_LARGE_IN, port.key):
            return outcomes.RATE_LIMITED, ()
        if sender is None:
            return too_large.arriving(frame, port, network, node, snapshot)
        return too_large.crossing(frame, in_port, port, snapshot.networks[port.network_id], network, node)

    def _hop_limit(self, key: int, in_port: int, frame: bytes, snapshot: Snapshot) -> Result:
        sender = self._sender(Rule.PUNT_HOP_LIMIT, key, in_port, snapshot)
        if isinstance(sender, str):
            return sender, ()
        network, _, port = sender
        return too_big.used_up(frame, in_port, port, network)

    def _too_big(self, key: int, in_port: int, frame: bytes, snapshot: Snapshot) -> Result:
        sender = self._sender(Rule.PUNT_TOO_BIG, key, in_port, snapshot)
        if isinstance(sender, str):
            return sender, ()
        network, node, port = sender
        return too_big.leaving(frame, in_port, port, network, node, snapshot)

    def _too_big_in(self, key: int, in_port: int, frame: bytes, snapshot: Snapshot) -> Result:
        """Routed to a network, from a VM of this node or from outside."""
        network = _network(key, snapshot)
        if network is None:
            return outcomes.UNKNOWN_OBJECT, ()
        sender = snapshot.port_at(self._node, in_port)
        # the keys of networks and ports may be the same numbers
        if not self._allowed(Rule.PUNT_TOO_BIG_IN, -key if sender is None else sender.key):
            return outcomes.RATE_LIMITED, ()
        if sender is None:
            return too_big.arriving(frame, network)
        return too_big.crossing(frame, in_port, sender, snapshot.networks[sender.network_id], network)

    def _large_echo(self, key: int, in_port: int, frame: bytes, snapshot: Snapshot) -> Result:
        sender = self._sender(Rule.PUNT_LARGE_ECHO, key, in_port, snapshot)
        if isinstance(sender, str):
            return sender, ()
        network, _, port = sender
        return too_large.to_gateway(frame, in_port, port, network)

    def _ask_next_hop(self, rule: Rule, key: int, in_port: int, frame: bytes, snapshot: Snapshot) -> Result:
        """A packet without a way on is kept, and its next hop asked for. Of one that goes by the router while its
        neighbour is asked for (PUNT_ON_LINK) only the beginning comes here.
        """
        network = _network(key, snapshot)
        node = snapshot.nodes.get(self._node)
        uplink = None if network is None or node is None else node.uplink(network.physical_network)
        if network is None or node is None or uplink is None:
            return outcomes.UNKNOWN_OBJECT, ()
        port = snapshot.port_at(self._node, in_port)
        # what we have sent again ourselves has been counted
        again = in_port == FROM_CONTROLLER
        if not again and not (self._allowed(rule, 0) if port is None else self._port_allowed(rule, port.key)):
            return outcomes.RATE_LIMITED, ()
        ethernet = frames.parse_ethernet(frame)
        ends = None if ethernet is None else frames.ip_addresses(frame, ethernet)
        if ends is None:
            return outcomes.MALFORMED, ()
        address = next_hop(network, ip_address(ends[0]), ip_address(ends[1]))
        if address is None:
            return outcomes.NO_NEXT_HOP, ()
        hop, now = Hop(self._node, network.id, address), self._services.monotonic()
        if rule is not Rule.PUNT_ON_LINK:
            outcome = outcomes.PACKET_KEPT
            ask = self._services.unresolved.keep(hop, key, frame, now, again=again)
            self._services.packet_kept()
        else:
            ask = self._services.unresolved.ask(hop, key, now)
            outcome = outcomes.NEIGHBOUR_ASKED if ask else outcomes.RATE_LIMITED
        if not ask:
            return outcome, ()
        return outcome, (Output(uplink, question(node, network, address)),)


def _back(in_port: int, frame: bytes | None) -> Outputs:
    return () if frame is None else (Output(in_port, frame),)


def _network(key: int, snapshot: Snapshot) -> Network | None:
    network_id = snapshot.networks_by_key.get(key)
    return None if network_id is None else snapshot.networks[network_id]
