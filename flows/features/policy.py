"""Tables 16, 18, 21 and 22, and 53 to 55 and 59: whether what a VM sends, and what goes to it, is allowed.

Conntrack, in a zone of the port's own, says what belongs to a connection. Replies pass as long as their connection
does. Whatever comes from who began it is held to the rules each time, so that a rule that is gone cuts what it alone
allowed: such a connection is marked in conntrack, and nothing passes in either direction. Each of a port's security
groups is asked (flows/features/security_groups.py); what none allows is dropped in the port's name, also of a
connection that is cut by it.

Fragments show no ports. Those of a known connection pass with it; others are held to the rules like any packet, so
only a rule that names no port lets them in. (The kernel's conntrack puts them together first.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from flows.features.allowance import report
from flows.ir import Action, Ct, CtClear, Flow, Goto, Resubmit, SetField, drop, flow, matching
from flows.model import Binding, Direction, Network, Port, SecurityGroup
from flows.pipeline import (
    COPIED,
    CUT,
    NOT_CUT,
    SAME_NETWORK,
    CtMark,
    Priority,
    Reg,
    Table,
)
from flows.protocols import (
    ANY_FRAGMENT,
    CT_ESTABLISHED,
    CT_INVALID,
    CT_NEW,
    CT_RELATED,
    CT_REPLY,
    CT_TRACKED,
    ETH_ARP,
    ETH_IP,
    ETH_MULTICAST,
    ETH_RARP,
    ETH_UNICAST,
)
from flows.rules import Rule
from flows.snapshot import Snapshot
from flows.view import Role, View

_Bits = tuple[int, int]  # value and mask
_INVALID = (CT_TRACKED | CT_INVALID, CT_TRACKED | CT_INVALID)
_REPLY = (CT_TRACKED | CT_REPLY, CT_TRACKED | CT_REPLY)
_RELATED = (CT_TRACKED | CT_RELATED, CT_TRACKED | CT_RELATED)
_NEW = (CT_TRACKED | CT_NEW, CT_TRACKED | CT_NEW | CT_ESTABLISHED)
_GOING_ON = (CT_TRACKED | CT_ESTABLISHED, CT_TRACKED | CT_ESTABLISHED)
_UNTRACKED = (0, CT_TRACKED)
_BY_CONNTRACK, _WITHOUT = 0, 1  # of Reg.GROUP, before any group is asked
_NO_REPLY = (CT_TRACKED, CT_TRACKED | CT_REPLY)
_ONWARD = (CT_TRACKED | CT_ESTABLISHED, CT_TRACKED | CT_ESTABLISHED | CT_REPLY)
# (value, mask): begun by the other end, as conntrack saw it; begun by the port after all
_ANY_MARK = CtMark.CUT | CtMark.BEGUN_HERE
_SEEN_BEGIN, _SEEN_BEGIN_CUT = (0, _ANY_MARK), (CtMark.CUT, _ANY_MARK)
_BEGUN_HERE, _BEGUN_HERE_CUT = (CtMark.BEGUN_HERE, _ANY_MARK), (_ANY_MARK, _ANY_MARK)
_LOGGED_BYTES = 128  # addresses and ports


@dataclass(frozen=True, slots=True)
class Side:
    """One direction: its tables, the registers with the port and its zone, where to go from there, its rules."""

    direction: Direction
    conntrack: Table
    policy: Table
    rules: Table
    cuts: Table
    verdict: Table
    port: str
    zone: str
    remote: str
    passed: tuple[Action, ...]
    # of what needs no rule: its ct_state, and its ct_mark when it is cut and when not
    answers: tuple[tuple[_Bits, _Bits, _Bits], ...]
    tracked: Rule
    untracked: Rule
    unfiltered: Rule
    other: Rule
    invalid: Rule
    lost: Rule
    known: Rule
    cut: Rule
    groups: Rule
    no_policy: Rule
    cutting: Rule
    mended: Rule
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
    rules=Table.EGRESS_RULES,
    cuts=Table.EGRESS_CUT,
    verdict=Table.EGRESS_VERDICT,
    port=Reg.SOURCE_PORT,
    zone=Reg.SOURCE_ZONE,
    remote="ip_dst",
    # what follows asks conntrack in other zones
    passed=(CtClear(), Goto(Table.ROUTE_OR_SWITCH)),
    answers=((_REPLY, _SEEN_BEGIN_CUT, _SEEN_BEGIN),),
    tracked=Rule.EGRESS_TRACKED,
    untracked=Rule.EGRESS_UNTRACKED,
    unfiltered=Rule.EGRESS_UNFILTERED,
    other=Rule.EGRESS_OTHER,
    invalid=Rule.DROP_EGRESS_INVALID,
    lost=Rule.DROP_EGRESS_UNTRACKED,
    known=Rule.EGRESS_KNOWN,
    cut=Rule.DROP_EGRESS_CUT,
    groups=Rule.EGRESS_GROUPS,
    no_policy=Rule.DROP_NO_EGRESS_POLICY,
    cutting=Rule.EGRESS_CUTTING,
    mended=Rule.EGRESS_MENDED,
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
    rules=Table.INGRESS_RULES,
    cuts=Table.INGRESS_CUT,
    verdict=Table.INGRESS_VERDICT,
    port=Reg.TARGET_PORT,
    zone=Reg.TARGET_ZONE,
    remote="ip_src",
    passed=(Goto(Table.OUTPUT),),
    answers=((_REPLY, CUT, NOT_CUT), (_NO_REPLY, _BEGUN_HERE_CUT, _BEGUN_HERE)),
    tracked=Rule.INGRESS_TRACKED,
    untracked=Rule.INGRESS_UNTRACKED,
    unfiltered=Rule.INGRESS_UNFILTERED,
    other=Rule.INGRESS_OTHER,
    invalid=Rule.DROP_INGRESS_INVALID,
    lost=Rule.DROP_INGRESS_UNTRACKED,
    known=Rule.INGRESS_KNOWN,
    cut=Rule.DROP_INGRESS_CUT,
    groups=Rule.INGRESS_GROUPS,
    no_policy=Rule.DROP_NO_INGRESS_POLICY,
    cutting=Rule.INGRESS_CUTTING,
    mended=Rule.INGRESS_MENDED,
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
        yield from _tracking(side)
        yield from _connections(side)
        yield from _cuts(side)
        yield from _verdicts(side)
    yield drop(Rule.DROP_EGRESS_OTHER, Priority.MISS)
    yield drop(Rule.DROP_NOT_IP, Priority.MISS)
    yield flow(Rule.INGRESS_COPIED, Priority.GUARD, matching(reg0=COPIED), *INGRESS.passed)


def _tracking(side: Side) -> Iterator[Flow]:
    by_conntrack = Ct(side.policy, side.zone)
    track = (CtClear(), SetField(Reg.GROUP, _BY_CONNTRACK), by_conntrack)
    yield flow(side.tracked, Priority.NORMAL, matching(eth_type=ETH_IP), *track)
    # what goes to many has no replies that conntrack could tell
    for untracked in ({side.zone: 0}, {"eth_dst": ETH_MULTICAST}):
        # what another zone said of it is nothing to this port
        ask = (CtClear(), SetField(Reg.GROUP, _WITHOUT), Goto(side.policy))
        yield flow(side.untracked, Priority.HIGH, matching(eth_type=ETH_IP, **untracked), *ask)
    for ethertype in (ETH_ARP, ETH_RARP):
        yield flow(side.other, Priority.DEFAULT, matching(eth_type=ethertype), *side.passed)


def _connections(side: Side) -> Iterator[Flow]:
    yield drop(side.invalid, Priority.GUARD, matching(ct_state=_INVALID))
    # the userspace datapath lets go of fragments that have waited too long among the packets of somebody else
    lost = matching(ct_state=_UNTRACKED, **{Reg.GROUP: _BY_CONNTRACK})
    yield drop(side.lost, Priority.GUARD, lost)
    for state, cut, known in side.answers:
        yield drop(side.cut, Priority.HIGH, matching(ct_state=state, ct_mark=cut))
        yield flow(side.known, Priority.HIGH, matching(ct_state=state, ct_mark=known), *side.passed)
    yield drop(side.cut, Priority.FLOATING, matching(ct_state=_RELATED, ct_mark=CUT))
    yield flow(side.known, Priority.FLOATING, matching(ct_state=_RELATED, ct_mark=NOT_CUT), *side.passed)
    part = matching(eth_type=ETH_IP, ip_frag=ANY_FRAGMENT, ct_state=_ONWARD, ct_mark=NOT_CUT)
    yield flow(side.known, Priority.LOCAL, part, *side.passed)
    yield drop(side.no_policy, Priority.MISS)


def _cuts(side: Side) -> Iterator[Flow]:
    refused: dict[str, int | _Bits] = {Reg.ALLOWED_BY: 0, "eth_type": ETH_IP}
    cut = Ct(None, side.zone, commit=True, mark=(CtMark.CUT, CtMark.CUT))
    yield flow(side.cutting, Priority.NORMAL, matching(**refused, ct_state=_GOING_ON), cut)
    unanswered = matching(**refused, ct_state=_NEW, ct_mark=(CtMark.BEGUN, CtMark.BEGUN))
    yield flow(side.cutting, Priority.NORMAL, unanswered, cut)


def _verdicts(side: Side) -> Iterator[Flow]:
    yield drop(side.refused_unknown, Priority.LOW, matching(**{Reg.ALLOWED_BY: 0}))
    begun = _begin(side)
    yield flow(side.begins, Priority.DEFAULT, matching(eth_type=ETH_IP, ct_state=_NEW), begun, *side.passed)
    going_on = matching(eth_type=ETH_IP, ct_state=_GOING_ON, ct_mark=CUT)
    mended = Ct(None, side.zone, commit=True, mark=(0, CtMark.CUT))
    yield flow(side.mended, Priority.DEFAULT, going_on, mended, *side.passed)
    yield flow(side.goes_on, Priority.MISS, (), *side.passed)


def _begin(side: Side) -> Ct:
    """Also of one that was cut before it was answered, and is allowed again."""
    return Ct(None, side.zone, commit=True, mark=(CtMark.BEGUN, CtMark.BEGUN | CtMark.CUT))


def groups_of(snapshot: Snapshot, port: Port) -> list[SecurityGroup]:
    """The groups of a port that is filtered, by key; those that report last, since the last that allows is named."""
    known = (snapshot.security_groups.get(id_) for id_ in port.security_groups or ())
    return sorted((group for group in known if group is not None), key=lambda group: (reports(group), group.key))


def reports(group: SecurityGroup) -> bool:
    """Whether anything that the group lets in or out is reported."""
    return group.log_accepted or any(rule.log for rule in group.rules)


def zone(view: View, port: Port, seat: Binding) -> int:
    """Where a port's connections are tracked on this node; 0: they are not."""
    if port.security_groups is None or any(not group.stateful for group in groups_of(view.snapshot, port)):
        return 0
    return seat.zone


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


def _filtered(view: View, network: Network, port: Port, side: Side) -> Iterator[Flow]:
    groups = groups_of(view.snapshot, port)
    # the last that allows it is named: rather a rule, which may be one that reports
    asked = [SAME_NETWORK | network.key] if side is INGRESS and network.allow_same_net_traffic else []
    asked += [group.key for group in groups]
    lookups: list[Action] = []
    for key in asked:
        lookups += [SetField(Reg.GROUP, key), Resubmit(side.rules)]
    of_port = {side.port: port.key}
    yield flow(
        side.groups,
        Priority.NORMAL,
        matching(**of_port),
        SetField(Reg.ALLOWED_BY, 0),
        *lookups,
        Resubmit(side.cuts),
        Goto(side.verdict),
        key=port.key,
    )
    refused = matching(**of_port, **{Reg.ALLOWED_BY: 0})
    yield drop(side.refused, Priority.NORMAL, refused, key=port.key)
    if any(group.log_dropped for group in groups):
        # a meter drops a packet for all that are still to get it, so nothing that goes to many
        alone = matching(**of_port, **{Reg.ALLOWED_BY: 0}, eth_dst=ETH_UNICAST)
        yield flow(side.log_refused, Priority.LIMITED, alone, *report(_LOGGED_BYTES), key=port.key)


def logged(side: Side, allowed_by: int, service: dict[str, int | tuple[int, int]], key: int) -> Flow:
    """Reports what begins because of a rule, after it has gone on. `key` is the rule's."""
    return flow(
        side.log_accepted,
        Priority.NORMAL,
        matching(**{Reg.ALLOWED_BY: allowed_by}, ct_state=_NEW, **service),
        _begin(side),
        *(Resubmit(action.table) if isinstance(action, Goto) else action for action in side.passed),
        *report(_LOGGED_BYTES),
        key=key,
    )
