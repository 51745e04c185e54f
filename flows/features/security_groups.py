"""Tables 20 and 58: which rule of a security group allows a packet.

A group of M members and R rules costs M + R flows: a rule that names a remote is a conjunction (ovs-actions(7)) of who
and what, so that no member meets each rule in a flow. Its id, and what reg11 says afterwards, is the key of the first
rule that names this remote. Rules that name no remote, and remotes that may do everything, need no conjunction.

The members of remote groups are known by their addresses, in parts: one that joins costs one part and one flow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network

from flows.features.policy import INGRESS, SIDES, Side, logged
from flows.ir import Conjunction, Flow, Match, SetField, flow, matching
from flows.model import Direction, Network, SecurityGroup, SecurityRule, Service
from flows.pipeline import NOT_FLOATING, SAME_NETWORK, Priority, Reg
from flows.protocols import ETH_IP, PROTO_ICMP, PROTO_TCP, PROTO_UDP
from flows.rules import Rule
from flows.snapshot import member_part
from flows.view import View, cidr_match, port_matches, range_match

Fields = dict[str, int | tuple[int, int]]
_PORT_FIELDS = {PROTO_TCP: "tcp_dst", PROTO_UDP: "udp_dst"}
_RULE = {Direction.EGRESS: Rule.EGRESS_RULE, Direction.INGRESS: Rule.INGRESS_RULE}
_CLAUSE = {Direction.EGRESS: Rule.EGRESS_CLAUSE, Direction.INGRESS: Rule.INGRESS_CLAUSE}
_WHO, _WHAT, _CLAUSES = 1, 2, 2


@dataclass(slots=True)
class _Remote:
    """What a group's rules of one direction say about one remote. `key` is that of the first of them."""

    key: int
    services: list[Service] = field(default_factory=list)

    @property
    def everything(self) -> bool:
        return any(service.protocol is None for service in self.services)


_Who = IPv4Network | str | None  # a range, the id of a group, anybody


def _remotes(group: SecurityGroup, direction: Direction) -> dict[_Who, _Remote]:
    found: dict[_Who, _Remote] = {}
    for rule in sorted(group.rules, key=lambda rule: rule.key):
        if rule.direction is direction:
            found.setdefault(_who(rule), _Remote(rule.key)).services.append(rule.service)
    return found


def _who(rule: SecurityRule) -> _Who:
    if rule.remote_cidr is not None and rule.remote_cidr.prefixlen == 0:
        return None
    return rule.remote_cidr or rule.remote_group_id


def service_matches(services: Iterable[Service]) -> list[Fields]:
    """What the services match, together, in as few matches as the fields of a flow allow."""
    by_protocol: dict[int, list[Service]] = {}
    for service in services:
        if service.protocol is None:
            return [{"eth_type": ETH_IP}]
        by_protocol.setdefault(service.protocol, []).append(service)
    found: list[Fields] = []
    for protocol, wanted in sorted(by_protocol.items()):
        whole: Fields = {"eth_type": ETH_IP, "ip_proto": protocol}
        parts = _icmp(wanted) if protocol == PROTO_ICMP else _ports(protocol, wanted)
        found += [whole] if parts is None else [{**whole, **part} for part in parts]
    return found


def _icmp(services: list[Service]) -> list[Fields] | None:
    """None: all of it."""
    if any(service.icmp_type is None for service in services):
        return None
    whole = {service.icmp_type for service in services if service.icmp_code is None}
    pairs = sorted({(one.icmp_type or 0, one.icmp_code or 0) for one in services if one.icmp_type not in whole})
    types: list[Fields] = [{"icmp_type": icmp_type} for icmp_type in sorted(type_ or 0 for type_ in whole)]
    return types + [{"icmp_type": icmp_type, "icmp_code": code} for icmp_type, code in pairs]


def _ports(protocol: int, services: list[Service]) -> list[Fields] | None:
    name = _PORT_FIELDS.get(protocol)
    if name is None or any(service.first is None for service in services):
        return None
    ranges = sorted((one.first or 0, one.last if one.last is not None else one.first or 0) for one in services)
    merged = [ranges[0]]
    for first, last in ranges[1:]:
        if first <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(merged[-1][1], last)
        else:
            merged.append((first, last))
    return [{name: ports} for first, last in merged for ports in port_matches(first, last)]


def group(view: View, group: SecurityGroup) -> Iterator[Flow]:
    """The rules of a group that has a port on this node, but for the members of remote groups."""
    if not view.snapshot.group_present(view.node.name, group.id):
        return
    for side in SIDES:
        yield from _rules(group, side)
        yield from _logged(group, side)


def _rules(group: SecurityGroup, side: Side) -> Iterator[Flow]:
    direction = side.direction
    asked: Fields = {Reg.GROUP: group.key}
    clauses: dict[tuple[int, Match], list[Conjunction]] = {}
    for who, remote in _remotes(group, direction).items():
        allowed = SetField(Reg.ALLOWED_BY, remote.key)
        if who is None:
            for service in service_matches(remote.services):
                yield flow(_RULE[direction], Priority.NORMAL, matching(**asked, **service), allowed, key=remote.key)
            continue
        priority = Priority.BY_CIDR
        if isinstance(who, IPv4Network):
            is_remote: Fields = {"eth_type": ETH_IP, side.remote: range_match(who)}
            if remote.everything:
                prefix = Priority.ALL_OF_CIDR + who.prefixlen
                yield flow(_RULE[direction], prefix, matching(**asked, **is_remote), allowed, key=remote.key)
                continue
            _clause(clauses, priority, matching(**asked, **is_remote), remote, _WHO)
        elif remote.everything:
            continue
        else:
            priority = Priority.BY_MEMBER
        for service in service_matches(remote.services):
            _clause(clauses, priority, matching(**asked, **service), remote, _WHAT)
        both = matching(eth_type=ETH_IP, conj_id=remote.key)
        yield flow(_RULE[direction], Priority.DEFAULT, both, allowed, key=remote.key)
    for (priority_of, match), conjunctions in clauses.items():
        yield flow(_CLAUSE[direction], priority_of, match, *conjunctions, key=group.key)


def _clause(
    clauses: dict[tuple[int, Match], list[Conjunction]], priority: int, match: Match, remote: _Remote, clause: int
) -> None:
    clauses.setdefault((priority, match), []).append(Conjunction(remote.key, clause, _CLAUSES))


def remotes_of(group: SecurityGroup) -> Mapping[tuple[Direction, str], tuple[int, bool]]:
    """What the flows of members depend on: for each remote group the id of its conjunction, and "may do everything"."""
    return {
        (side.direction, who): (remote.key, remote.everything)
        for side in SIDES
        for who, remote in _remotes(group, side.direction).items()
        if isinstance(who, str)
    }


def members(view: View, group: SecurityGroup, part: int) -> Iterator[Flow]:
    """Who is meant by the rules of a group that name groups: the addresses of one part of the members."""
    snapshot = view.snapshot
    if not snapshot.group_present(view.node.name, group.id):
        return
    for side in SIDES:
        found: dict[IPv4Network, list[_Remote]] = {}
        for who, remote in _remotes(group, side.direction).items():
            if not isinstance(who, str):
                continue
            ports = (snapshot.ports[port_id] for port_id in snapshot.ports_by_group_part.get((who, part), ()))
            for cidr in {cidr for port in ports for cidr in port.addresses if member_part(cidr) == part}:
                found.setdefault(cidr, []).append(remote)
        for cidr, remotes in sorted(found.items()):
            yield from _member(group, side, cidr, remotes)


def _member(group: SecurityGroup, side: Side, cidr: IPv4Network, remotes: list[_Remote]) -> Iterator[Flow]:
    # from outside, by a floating IP, anybody could use a member's address
    outside: Fields = {Reg.FLAGS: NOT_FLOATING} if side is INGRESS else {}
    member: Fields = {Reg.GROUP: group.key, "eth_type": ETH_IP, side.remote: range_match(cidr)}
    is_member = matching(**member, **outside)
    whole = [remote for remote in remotes if remote.everything]
    if whole:
        allowed = SetField(Reg.ALLOWED_BY, whole[0].key)
        prefix = Priority.ALL_OF_MEMBER + cidr.prefixlen
        yield flow(_RULE[side.direction], prefix, is_member, allowed, key=whole[0].key)
        return
    conjunctions = (Conjunction(remote.key, _WHO, _CLAUSES) for remote in remotes)
    yield flow(_CLAUSE[side.direction], Priority.BY_MEMBER, is_member, *conjunctions, key=group.key)


def network(view: View, network: Network) -> Iterator[Flow]:
    """What comes from a network's own subnets, where that is enough."""
    if not network.allow_same_net_traffic or not view.present(network):
        return
    asked = SAME_NETWORK | network.key
    for cidr, _prefix in cidr_match(network):
        from_itself = matching(**{Reg.GROUP: asked}, eth_type=ETH_IP, ip_src=cidr, reg0=NOT_FLOATING)
        allowed = SetField(Reg.ALLOWED_BY, asked)
        yield flow(Rule.SAME_NETWORK, Priority.NORMAL, from_itself, allowed, key=network.key)


def _logged(group: SecurityGroup, side: Side) -> Iterator[Flow]:
    """Reports of the rules that want it, or of all. Where two want it for the same packet, the first is named."""
    seen: set[Match] = set()
    remotes = _remotes(group, side.direction)
    for rule in sorted(group.rules, key=lambda rule: rule.key):
        if rule.direction is not side.direction or not (rule.log or group.log_accepted):
            continue
        for service in service_matches((rule.service,)):
            reported = logged(side, remotes[_who(rule)].key, service, rule.key)
            if reported.match not in seen:
                seen.add(reported.match)
                yield reported
