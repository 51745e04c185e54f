"""Table 58: which rule of a security group allows a packet, or the connection that it belongs to.

A group of M members and R rules costs M + R flows: a rule that names a remote is a conjunction (ovs-actions(7)) of who
and what, so that no member meets each rule in a flow. Its id, and what reg11 says afterwards, is the key of the first
rule that names this remote. Rules that name no remote, and remotes that may do everything, need no conjunction.

The members of remote groups are known by their addresses, in parts: one that joins costs one part and one flow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from flows.features.policy import INGRESS, SIDES, UNTRACKED, Side, logged
from flows.features.rule_fields import TRACKED_FIELDS, UNTRACKED_FIELDS, Fields, RuleFields, service_matches
from flows.ipv6 import LINK_LOCAL
from flows.ir import Conjunction, Flow, Match, SetField, flow, matching
from flows.model import Direction, Family, Network, SecurityGroup, SecurityRule, Service
from flows.pipeline import NOT_FLOATING, SAME_NETWORK, Priority, Reg
from flows.rules import Rule
from flows.snapshot import member_part
from flows.view import View, cidr_match, range_match

_RULE = {Direction.EGRESS: Rule.EGRESS_RULE, Direction.INGRESS: Rule.INGRESS_RULE}
_CLAUSE = {Direction.EGRESS: Rule.EGRESS_CLAUSE, Direction.INGRESS: Rule.INGRESS_CLAUSE}
_WHO, _WHAT, _CLAUSES = 1, 2, 2
_FAMILIES = (Family.IPV4, Family.IPV6)


@dataclass(slots=True)
class _Remote:
    """What a group's rules of one direction say about one remote. `key` is that of the first of them."""

    key: int
    services: list[Service] = field(default_factory=list)

    @property
    def everything(self) -> bool:
        return any(service.protocol is None for service in self.services)


_Cidr = IPv4Network | IPv6Network
_Who = _Cidr | str | None  # a range, the id of a group, anybody


def _remotes(group: SecurityGroup, direction: Direction, family: Family) -> dict[_Who, _Remote]:
    found: dict[_Who, _Remote] = {}
    for rule in sorted(group.rules, key=lambda rule: rule.key):
        if rule.direction is direction and rule.family is family:
            found.setdefault(_who(rule), _Remote(rule.key)).services.append(rule.service)
    return found


def _who(rule: SecurityRule) -> _Who:
    if rule.remote_cidr is not None and rule.remote_cidr.prefixlen == 0:
        return None
    return rule.remote_cidr or rule.remote_group_id


def group(view: View, group: SecurityGroup) -> Iterator[Flow]:
    """The rules of a group that has a port on this node, but for the members of remote groups."""
    if not view.snapshot.group_present(view.node.name, group.id):
        return
    for side in SIDES:
        for family in _FAMILIES:
            yield from _rules(group, side, family)
        yield from _logged(group, side)


def _fields(group: SecurityGroup, family: Family) -> RuleFields:
    return (TRACKED_FIELDS if group.stateful else UNTRACKED_FIELDS)[family]


def _rules(group: SecurityGroup, side: Side, family: Family) -> Iterator[Flow]:
    direction = side.direction
    asked: Fields = {Reg.GROUP: group.key, Reg.DIRECTION: side.begun}
    fields = _fields(group, family)
    clauses: dict[tuple[int, Match], list[Conjunction]] = {}
    for who, remote in _remotes(group, direction, family).items():
        allowed = SetField(Reg.ALLOWED_BY, remote.key)
        if who is None:
            for service in service_matches(remote.services, fields):
                yield flow(_RULE[direction], Priority.NORMAL, matching(**asked, **service), allowed, key=remote.key)
            continue
        priority = Priority.BY_CIDR
        if isinstance(who, _Cidr):
            is_remote: Fields = {**fields.any_packet(), fields.remote[direction]: range_match(who)}
            if remote.everything:
                prefix = Priority.ALL_OF_CIDR + who.prefixlen
                yield flow(_RULE[direction], prefix, matching(**asked, **is_remote), allowed, key=remote.key)
                continue
            _clause(clauses, priority, matching(**asked, **is_remote), remote, _WHO)
        elif remote.everything:
            continue
        else:
            priority = Priority.BY_MEMBER
        for service in service_matches(remote.services, fields):
            _clause(clauses, priority, matching(**asked, **service), remote, _WHAT)
        both = matching(eth_type=fields.eth_type, conj_id=remote.key)
        yield flow(_RULE[direction], Priority.DEFAULT, both, allowed, key=remote.key)
    for (priority_of, match), conjunctions in clauses.items():
        yield flow(_CLAUSE[direction], priority_of, match, *conjunctions, key=group.key)


def _clause(
    clauses: dict[tuple[int, Match], list[Conjunction]], priority: int, match: Match, remote: _Remote, clause: int
) -> None:
    clauses.setdefault((priority, match), []).append(Conjunction(remote.key, clause, _CLAUSES))


def remotes_of(group: SecurityGroup) -> Mapping[tuple[Direction, Family, str], tuple[int, bool, bool]]:
    """What the flows of members depend on: for each remote group the id of its conjunction, "may do everything", and
    whether conntrack is asked.
    """
    return {
        (side.direction, family, who): (remote.key, remote.everything, group.stateful)
        for side in SIDES
        for family in _FAMILIES
        for who, remote in _remotes(group, side.direction, family).items()
        if isinstance(who, str)
    }


def members(view: View, group: SecurityGroup, part: int) -> Iterator[Flow]:
    """Who is meant by the rules of a group that name groups: the addresses of one part of the members."""
    snapshot = view.snapshot
    if not snapshot.group_present(view.node.name, group.id):
        return
    for side in SIDES:
        for family in _FAMILIES:
            found: dict[_Cidr, list[_Remote]] = {}
            for who, remote in _remotes(group, side.direction, family).items():
                if not isinstance(who, str):
                    continue
                ports = (snapshot.ports[port_id] for port_id in snapshot.ports_by_group_part.get((who, part), ()))
                for cidr in {cidr for port in ports for cidr in port.member_addresses}:
                    if cidr.version == family and member_part(cidr) == part:
                        found.setdefault(cidr, []).append(remote)
            for cidr, remotes in sorted(found.items(), key=lambda item: int(item[0].network_address)):
                yield from _member(group, side, family, cidr, remotes)


def _member(group: SecurityGroup, side: Side, family: Family, cidr: _Cidr, remotes: list[_Remote]) -> Iterator[Flow]:
    # from outside, by a floating IP, anybody could use a member's address
    outside: Fields = {Reg.FLAGS: NOT_FLOATING} if side is INGRESS else {}
    fields = _fields(group, family)
    remote: Fields = {fields.remote[side.direction]: range_match(cidr)}
    asked: Fields = {Reg.GROUP: group.key, Reg.DIRECTION: side.begun}
    is_member = matching(**asked, **fields.any_packet(), **remote, **outside)
    whole = [one for one in remotes if one.everything]
    if whole:
        allowed = SetField(Reg.ALLOWED_BY, whole[0].key)
        prefix = Priority.ALL_OF_MEMBER + cidr.prefixlen
        yield flow(_RULE[side.direction], prefix, is_member, allowed, key=whole[0].key)
        return
    conjunctions = (Conjunction(one.key, _WHO, _CLAUSES) for one in remotes)
    yield flow(_CLAUSE[side.direction], Priority.BY_MEMBER, is_member, *conjunctions, key=group.key)


def network(view: View, network: Network) -> Iterator[Flow]:
    """What is begun in a network's own subnets, where that is enough."""
    if not network.allow_same_net_traffic or not view.present(network):
        return
    ranges = [(Family.IPV4, cidr) for cidr, _prefix in cidr_match(network)]
    if network.ipv6_subnets:
        own = [LINK_LOCAL, *(subnet.cidr for subnet in network.ipv6_subnets)]
        ranges += [(Family.IPV6, range_match(cidr)) for cidr in own]
    for family, cidr in ranges:
        tracked, untracked = TRACKED_FIELDS[family], UNTRACKED_FIELDS[family]
        itself: tuple[Fields, ...] = (
            {**tracked.any_packet(), tracked.remote[Direction.INGRESS]: cidr},
            {**untracked.any_packet(), untracked.remote[Direction.INGRESS]: cidr, "ct_state": UNTRACKED},
        )
        asked = SAME_NETWORK | network.key
        for fields in itself:
            begun: Fields = {Reg.GROUP: asked, Reg.DIRECTION: INGRESS.begun, Reg.FLAGS: NOT_FLOATING}
            allowed = SetField(Reg.ALLOWED_BY, asked)
            yield flow(Rule.SAME_NETWORK, Priority.NORMAL, matching(**{**fields, **begun}), allowed, key=network.key)


def _logged(group: SecurityGroup, side: Side) -> Iterator[Flow]:
    """Reports of the rules that want it, or of all. Where two want it for the same packet, the first is named."""
    seen: set[Match] = set()
    remotes = {family: _remotes(group, side.direction, family) for family in _FAMILIES}
    for rule in sorted(group.rules, key=lambda rule: rule.key):
        if rule.direction is not side.direction or not (rule.log or group.log_accepted):
            continue
        for service in service_matches((rule.service,), _fields(group, rule.family)):
            reported = logged(side, remotes[rule.family][_who(rule)].key, service, rule.key)
            if reported.match not in seen:
                seen.add(reported.match)
                yield reported
