"""Tables 16, 18, 22 and 23, and 53 to 55: whether what a VM sends, and what goes to it, is allowed.

Conntrack, in a zone of the port's own, says of each packet how the connection began that it belongs to. The rules are
about that (flows/features/rule_fields.py): what a VM began is held to its egress rules and what others began to its
ingress rules, with every packet in either direction. So a rule that is gone ends what it alone allowed, and one that
comes back lets it go on, without anybody who keeps account of it. Each of a port's security groups is asked
(flows/features/security_groups.py); what none allows is dropped in the port's name.

Nothing is remembered of what goes to many: nobody knows who answers to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from flows.features.allowance import report
from flows.features.rule_fields import Fields
from flows.ir import Action, Ct, CtClear, Flow, Goto, Resubmit, SetField, drop, flow, matching
from flows.model import Binding, Direction, Network, Port, SecurityGroup
from flows.pipeline import (
    COPIED,
    DIRECTION_EGRESS,
    DIRECTION_INGRESS,
    SAME_NETWORK,
    CtMark,
    Priority,
    Reg,
    Table,
)
from flows.protocols import (
    CT_ESTABLISHED,
    CT_INVALID,
    CT_NEW,
    CT_RELATED,
    CT_REPLY,
    CT_TRACKED,
    ETH_ARP,
    ETH_IP,
    ETH_IPV6,
    ETH_RARP,
    ETH_UNICAST,
)
from flows.rules import Rule
from flows.snapshot import Snapshot
from flows.view import Role, View

_Bits = tuple[int, int]  # value and mask
_INVALID = (CT_TRACKED | CT_INVALID, CT_TRACKED | CT_INVALID)
_REPLY = (CT_TRACKED | CT_REPLY, CT_TRACKED | CT_REPLY)
_REPLY_ITSELF = (CT_TRACKED | CT_REPLY, CT_TRACKED | CT_REPLY | CT_RELATED)  # and no error about one
_NO_REPLY = (CT_TRACKED, CT_TRACKED | CT_REPLY)
_RELATED = (CT_TRACKED | CT_RELATED, CT_TRACKED | CT_RELATED)
_NEW = (CT_TRACKED | CT_NEW, CT_TRACKED | CT_NEW | CT_ESTABLISHED)
_BEGUN_HERE = (CtMark.BEGUN_HERE, CtMark.BEGUN_HERE)
_REMEMBERED = (CtMark.REMEMBERED, CtMark.REMEMBERED)
_NOT_REMEMBERED = (0, CtMark.REMEMBERED)
UNTRACKED = (0, CT_TRACKED)
_BY_CONNTRACK, _WITHOUT = 0, 1  # of Reg.GROUP, before any group is asked
_LOGGED_BYTES = 128  # addresses and ports


@dataclass(frozen=True, slots=True)
class Side:
    """One direction: its tables, the registers with the port and its zone, where to go from there, its rules."""

    direction: Direction
    conntrack: Table
    policy: Table
    begun: int  # which rules are asked about what begins with a packet of this direction, and what is answered
    answered: int
    verdict: Table
    port: str
    zone: str
    passed: tuple[Action, ...]
    begin: tuple[Action, ...]  # goes on, and is remembered
    known_state: _Bits  # of what needs no rule, when the connection has been turned round by a move
    tracked: Rule
    untracked: Rule
    unfiltered: Rule
    other: Rule
    invalid: Rule
    lost: Rule
    known: Rule
    groups: Rule
    answers: Rule
    no_policy: Rule
    begins: Rule
    goes_on: Rule
    refused: Rule
    refused_unknown: Rule
    log_refused: Rule
    log_accepted: Rule


EGRESS = Side(
    direction=Direction.EGRESS,
    conntrack=Table.EGRESS_CONNTRACK,
    policy=Table.EGRESS_POLICY,
    begun=DIRECTION_EGRESS,
    answered=DIRECTION_INGRESS,
    verdict=Table.EGRESS_VERDICT,
    port=Reg.SOURCE_PORT,
    zone=Reg.SOURCE_ZONE,
    # what follows asks conntrack in other zones
    passed=(CtClear(), Goto(Table.ROUTE_OR_SWITCH)),
    begin=(Ct(Table.EGRESS_BEGUN, Reg.SOURCE_ZONE, commit=True, mark=_REMEMBERED),),
    known_state=_RELATED,
    tracked=Rule.EGRESS_TRACKED,
    untracked=Rule.EGRESS_UNTRACKED,
    unfiltered=Rule.EGRESS_UNFILTERED,
    other=Rule.EGRESS_OTHER,
    invalid=Rule.DROP_EGRESS_INVALID,
    lost=Rule.DROP_EGRESS_UNTRACKED,
    known=Rule.EGRESS_KNOWN,
    groups=Rule.EGRESS_GROUPS,
    answers=Rule.EGRESS_ANSWERS,
    no_policy=Rule.DROP_NO_EGRESS_POLICY,
    begins=Rule.EGRESS_BEGINS,
    goes_on=Rule.EGRESS_GOES_ON,
    refused=Rule.DROP_EGRESS,
    refused_unknown=Rule.DROP_EGRESS_UNKNOWN,
    log_refused=Rule.LOG_EGRESS_DROPPED,
    log_accepted=Rule.LOG_EGRESS_ACCEPTED,
)
INGRESS = Side(
    direction=Direction.INGRESS,
    conntrack=Table.INGRESS_CONNTRACK,
    policy=Table.INGRESS_POLICY,
    begun=DIRECTION_INGRESS,
    answered=DIRECTION_EGRESS,
    verdict=Table.INGRESS_VERDICT,
    port=Reg.TARGET_PORT,
    zone=Reg.TARGET_ZONE,
    passed=(Goto(Table.OUTPUT),),
    # last: whatever else conntrack lets go of then goes nowhere
    begin=(Resubmit(Table.OUTPUT), Ct(None, Reg.TARGET_ZONE, commit=True)),
    known_state=_NO_REPLY,
    tracked=Rule.INGRESS_TRACKED,
    untracked=Rule.INGRESS_UNTRACKED,
    unfiltered=Rule.INGRESS_UNFILTERED,
    other=Rule.INGRESS_OTHER,
    invalid=Rule.DROP_INGRESS_INVALID,
    lost=Rule.DROP_INGRESS_UNTRACKED,
    known=Rule.INGRESS_KNOWN,
    groups=Rule.INGRESS_GROUPS,
    answers=Rule.INGRESS_ANSWERS,
    no_policy=Rule.DROP_NO_INGRESS_POLICY,
    begins=Rule.INGRESS_BEGINS,
    goes_on=Rule.INGRESS_GOES_ON,
    refused=Rule.DROP_INGRESS,
    refused_unknown=Rule.DROP_INGRESS_UNKNOWN,
    log_refused=Rule.LOG_INGRESS_DROPPED,
    log_accepted=Rule.LOG_INGRESS_ACCEPTED,
)
SIDES = (EGRESS, INGRESS)


def static() -> Iterator[Flow]:
    for side in SIDES:
        yield from tracking(side, eth_type=ETH_IP)
        for ethertype in (ETH_ARP, ETH_RARP):
            yield flow(side.other, Priority.DEFAULT, matching(eth_type=ethertype), *side.passed)
        yield from _connections(side)
        yield from _verdicts(side)
    # Conntrack had seen an answer first, where the VM was expected. A packet that waits for ovs-vswitchd while another
    # one turns their connection comes back with the state of before: the kernel would not look again.
    for ethertype in (ETH_IP, ETH_IPV6):
        turned = matching(eth_type=ethertype, ct_state=_REPLY_ITSELF, ct_mark=_BEGUN_HERE)
        again = Ct(EGRESS.policy, EGRESS.zone, commit=True, force=True)
        yield flow(Rule.EGRESS_TURNED, Priority.LOCAL, turned, CtClear(), again)
    yield drop(Rule.DROP_EGRESS_OTHER, Priority.MISS)
    yield drop(Rule.DROP_NOT_IP, Priority.MISS)
    yield flow(Rule.EGRESS_BEGUN, Priority.MISS, (), *EGRESS.passed)
    yield drop(Rule.DROP_EGRESS_GIVEN_UP, Priority.GUARD, matching(ct_state=UNTRACKED))
    yield flow(Rule.INGRESS_COPIED, Priority.GUARD, matching(reg0=COPIED), *INGRESS.passed)


def tracking(side: Side, **kind: int) -> Iterator[Flow]:
    """Packets of a kind are asked about."""
    by_conntrack = Ct(side.policy, side.zone)
    track = (CtClear(), SetField(Reg.GROUP, _BY_CONNTRACK), by_conntrack)
    yield flow(side.tracked, Priority.NORMAL, matching(**kind), *track)
    # what another zone said of it is nothing to this port
    ask = (CtClear(), SetField(Reg.GROUP, _WITHOUT), Goto(side.policy))
    yield flow(side.untracked, Priority.HIGH, matching(**kind, **{side.zone: 0}), *ask)


def _connections(side: Side) -> Iterator[Flow]:
    yield drop(side.invalid, Priority.GUARD, matching(ct_state=_INVALID))
    # the userspace datapath lets go of fragments that have waited too long among the packets of somebody else
    lost = matching(ct_state=UNTRACKED, **{Reg.GROUP: _BY_CONNTRACK})
    yield drop(side.lost, Priority.GUARD, lost)
    known = matching(ct_state=side.known_state, ct_mark=_BEGUN_HERE)
    yield flow(side.known, Priority.LOCAL, known, *side.passed)
    answer = matching(ct_state=_REPLY, **{Reg.DIRECTION: side.begun})
    yield flow(side.answers, Priority.NORMAL, answer, SetField(Reg.DIRECTION, side.answered))
    yield drop(side.no_policy, Priority.MISS)


def _verdicts(side: Side) -> Iterator[Flow]:
    yield drop(side.refused_unknown, Priority.LOW, matching(**{Reg.ALLOWED_BY: 0}))
    for ethertype in (ETH_IP, ETH_IPV6):
        begins = matching(eth_type=ethertype, eth_dst=ETH_UNICAST, ct_state=_NEW)
        yield flow(side.begins, Priority.DEFAULT, begins, *side.begin)
    yield flow(side.goes_on, Priority.MISS, (), *side.passed)


def groups_of(snapshot: Snapshot, port: Port) -> list[SecurityGroup]:
    """The groups of a port that is filtered, by key; those that report last, since the last that allows is named."""
    known = (snapshot.security_groups.get(id_) for id_ in port.security_groups or ())
    return sorted((group for group in known if group is not None), key=lambda group: (reports(group), group.key))


def reports(group: SecurityGroup) -> bool:
    """Whether anything that the group lets in or out is reported."""
    return group.log_accepted or any(rule.log for rule in group.rules)


def zone(view: View, port: Port, seat: Binding) -> int:
    """Where a port's connections are tracked on this node; 0: they are not."""
    return seat.zone if tracked(view.snapshot, port) else 0


def tracked(snapshot: Snapshot, port: Port) -> bool:
    """True if conntrack is asked about a port's connections in the port's own zone."""
    return port.security_groups is not None and all(group.stateful for group in groups_of(snapshot, port))


def towards(view: View, port: Port, seat: Binding) -> tuple[Action, ...]:
    """The registers of what goes to a local port."""
    return (SetField(Reg.TARGET_PORT, port.key), SetField(Reg.TARGET_ZONE, zone(view, port, seat)))


def port(view: View, network: Network, port: Port) -> Iterator[Flow]:
    for side in (INGRESS,) if view.role(port) is Role.LEFT else SIDES:
        if port.security_groups is None:
            of_port = matching(**{side.port: port.key})
            yield flow(side.unfiltered, Priority.LOCAL, of_port, *side.passed, key=port.key)
        else:
            yield from _filtered(view, network, port, side)
            if side is EGRESS and not view.node.on_kernel:
                # Beyond a zone's limit this datapath lets a packet go on, without the mark. The kernel's drops it by
                # itself, and lacks the mark on packets that waited while the first of their connection was remembered.
                unmarked = matching(**{side.port: port.key}, ct_mark=_NOT_REMEMBERED)
                yield drop(Rule.DROP_CONNECTIONS, Priority.DEFAULT, unmarked, key=port.key)


def _filtered(view: View, network: Network, port: Port, side: Side) -> Iterator[Flow]:
    groups = groups_of(view.snapshot, port)
    # the last that allows it is named: rather a rule, which may be one that reports
    asked = [SAME_NETWORK | network.key] if network.allow_same_net_traffic else []
    asked += [group.key for group in groups]
    lookups: list[Action] = []
    for key in asked:
        lookups += [SetField(Reg.GROUP, key), Resubmit(Table.RULES)]
    of_port = {side.port: port.key}
    yield flow(
        side.groups,
        Priority.NORMAL,
        matching(**of_port),
        SetField(Reg.ALLOWED_BY, 0),
        SetField(Reg.DIRECTION, side.begun),
        Resubmit(Table.ANSWERS),
        *lookups,
        Goto(side.verdict),
        key=port.key,
    )
    refused = matching(**of_port, **{Reg.ALLOWED_BY: 0})
    yield drop(side.refused, Priority.NORMAL, refused, key=port.key)
    if any(group.log_dropped for group in groups):
        # each of many may be refused it
        alone = matching(**of_port, **{Reg.ALLOWED_BY: 0}, eth_dst=ETH_UNICAST)
        yield flow(side.log_refused, Priority.LIMITED, alone, *report(_LOGGED_BYTES), key=port.key)


def logged(side: Side, allowed_by: int, service: Fields, key: int) -> Flow:
    """Reports what begins because of a rule. `key` is the rule's."""
    return flow(
        side.log_accepted,
        Priority.NORMAL,
        matching(**{**service, Reg.ALLOWED_BY: allowed_by, "ct_state": _NEW, "eth_dst": ETH_UNICAST}),
        *report(_LOGGED_BYTES),
        *side.begin,
        key=key,
    )
