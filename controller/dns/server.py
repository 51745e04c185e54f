"""Answers one question of one port, whatever it came by: at once from what is known here, or later from an upstream."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

from controller.dns import message as dns
from controller.dns.aliases import about as aliases_to
from controller.dns.aliases import chained
from controller.dns.forwarder import Forwarder, Key
from controller.dns.message import CLASS_IN, Kind, Query, Rcode, Record, Sections
from controller.dns.sources import Asker, Found, Source, find
from controller.dns.upstreams import Chooser
from controller.packet_in import outcomes
from flows.model import Network, Node, Port
from flows.pipeline import RESOLVER_ADDRESS
from flows.snapshot import Snapshot

_TRANSFERS: Final = frozenset({Kind.AXFR, Kind.IXFR, Kind.MAILA, Kind.MAILB, Kind.OPT})
_LINK_LOCAL: Final = str(IPv4Address(RESOLVER_ADDRESS))


class Answer(NamedTuple):
    """What became of a question. `reply` None: it gets none, or, if `pending`, later."""

    outcome: str
    reply: bytes | None = None
    pending: bool = False


class NameServer:
    """`own` sources come before all else, `special` ones before servers that are not asked for a zone by name.

    `ttl`: seconds for which others may remember what the own sources say.
    """

    def __init__(
        self, own: tuple[Source, ...], special: tuple[Source, ...], chooser: Chooser, forwarder: Forwarder, ttl: int = 0
    ) -> None:
        self._own = own
        self._special = special
        self._chooser = chooser
        self._forwarder = forwarder
        self._ttl = ttl
        self._own_addresses = OwnAddresses()
        self._counts: dict[tuple[int, str], int] = {}

    @property
    def counts(self) -> Mapping[tuple[int, str], int]:
        """Answers by rcode and outcome."""
        return self._counts

    def answer(
        self, message: bytes, port: Port, snapshot: Snapshot, most: int | None, later: Callable[[bytes], None]
    ) -> Answer:
        """`most`: bytes that the way to the client takes in one datagram; None: there are no datagrams (TCP).

        `later` gets the answer, once, when that is pending. The port must be of the snapshot.
        """
        query = dns.read(message)
        if not isinstance(query, Query):
            if query.reply is not None:
                self._count(query.reply[3] & 0xF, outcomes.DNS_MALFORMED)
            return Answer(outcomes.DNS_MALFORMED, query.reply)
        limit = dns.MAX_MESSAGE if most is None else dns.udp_limit(query, most)
        refusal = _refused(query)
        if refusal is not None:
            return self._settled(outcomes.DNS_REFUSED, query, refusal, limit)
        network = snapshot.networks[port.network_id]
        asker = Asker(port, network, snapshot)
        found = find(self._own, query.name, query.kind, asker)
        zone = self._chooser.configured.zone_of(query.name)
        if found is not None and found.beyond is not None:
            return self._behind(query, found.records, found.beyond, asker, limit, later)
        if found is not None and (found.exists or zone is None or len(zone) <= len(found.zone)):
            return self._local(query, found, snapshot, limit)
        if zone is None:
            found = find(self._special, query.name, query.kind, asker)
            if found is not None:
                return self._local(query, found, snapshot, limit)
        elif not self._chooser.configured.zones[zone]:
            return self._local(query, Found(zone, exists=False), snapshot, limit)
        return self._elsewhere(query, network, asker, limit, later)

    def _local(self, query: Query, found: Found, snapshot: Snapshot, limit: int) -> Answer:
        rcode = Rcode.NOERROR if found.exists else Rcode.NXDOMAIN
        authority = () if found.records else (dns.soa(found.zone, snapshot.revision, self._ttl),)
        sections = dns.sections(found.records, authority)
        return self._settled(outcomes.DNS_LOCAL, query, rcode, limit, sections, authoritative=True)

    def _behind(
        self,
        query: Query,
        aliases: tuple[Record, ...],
        target: bytes,
        asker: Asker,
        limit: int,
        later: Callable[[bytes], None],
    ) -> Answer:
        """What an alias leads to: another source has it, or somebody else is asked."""
        found = find(self._own, target, query.kind, asker)
        if found is None or found.beyond is not None:
            return self._elsewhere(query, asker.network, asker, limit, later, aliases, aliases_to(query, target))
        there = tuple(record if record.owner else record._replace(owner=target) for record in found.records)
        return self._local(query, found._replace(records=aliases + there, exists=True), asker.snapshot, limit)

    def _elsewhere(
        self,
        query: Query,
        network: Network,
        asker: Asker,
        limit: int,
        later: Callable[[bytes], None],
        aliases: tuple[Record, ...] = (),
        about: Query | None = None,
    ) -> Answer:
        """With `aliases`, which lead to what the question `about` names."""
        asked = about or query

        def whole(sections: Sections) -> Sections:
            return chained(aliases, asked, sections) if aliases else sections

        upstreams = self._chooser.choose(
            asked.name, network.dns_upstreams, self._own_addresses.of(network, asker.snapshot)
        )
        if not upstreams:
            return self._settled(outcomes.DNS_NO_UPSTREAM, query, Rcode.REFUSED, limit)
        key = Key(upstreams, asked.name, asked.kind, asked.dnssec, asked.unchecked)
        known = self._forwarder.known(key)
        if known is not None:
            return self._settled(outcomes.DNS_CACHED, query, known[0], limit, whole(known[1]))

        def told(rcode: int, sections: Sections) -> None:
            self._count(rcode, outcomes.DNS_FORWARDED)
            later(dns.respond(query, rcode, whole(sections), limit=limit))

        if not self._forwarder.forward(key, asked, asker.port.key, told):
            return self._settled(outcomes.DNS_TOO_MANY, query, Rcode.SERVFAIL, limit)
        return Answer(outcomes.DNS_FORWARDED, pending=True)

    def _settled(
        self,
        outcome: str,
        query: Query,
        rcode: int,
        limit: int,
        sections: Sections = dns.NOTHING,
        *,
        authoritative: bool = False,
    ) -> Answer:
        self._count(rcode, outcome)
        return Answer(outcome, dns.respond(query, rcode, sections, limit=limit, authoritative=authoritative))

    def _count(self, rcode: int, outcome: str) -> None:
        counts, key = self._counts, (rcode, outcome)
        counts[key] = counts.get(key, 0) + 1


def _refused(query: Query) -> Rcode | None:
    if query.version:
        return Rcode.BADVERS
    if query.class_ != CLASS_IN or query.kind in _TRANSFERS:
        return Rcode.REFUSED
    return None


class OwnAddresses:
    """Where the VMs of a network reach this server: a controller among them, whose upstream is one of these, would ask
    itself for ever. Other networks may have the address of an upstream as their gateway; that is their own affair.
    """

    def __init__(self) -> None:
        self._networks: Mapping[str, Network] | None = None
        self._nodes: Mapping[str, Node] | None = None
        self._known: dict[str, frozenset[str]] = {}

    def of(self, network: Network, snapshot: Snapshot) -> frozenset[str]:
        if self._networks is not snapshot.networks or self._nodes is not snapshot.nodes:
            self._networks, self._nodes, self._known = snapshot.networks, snapshot.nodes, {}
        found = self._known.get(network.id)
        if found is None:
            found = self._known[network.id] = frozenset(map(str, _gateways(network, snapshot))) | {_LINK_LOCAL}
        return found


def _gateways(network: Network, snapshot: Snapshot) -> Iterator[IPv4Address | IPv6Address]:
    """Of a network and of those that are routed to it."""
    routed = {each.id for each in snapshot.router_networks(network.router_key) if each.routed} if network.routed else ()
    for id_ in routed:
        network = snapshot.networks[id_]
        gateways = (*(each.gateway for each in network.subnets), *(each.gateway for each in network.ipv6_subnets))
        yield from (gateway for gateway in gateways if gateway is not None)
    for node in snapshot.nodes.values():
        for held in node.gateways:
            if held.network_id in routed:
                yield held.address
