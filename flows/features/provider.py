"""Tables 16, 18, 53 and 54: what the operator drops for all VMs, before any security group is asked.

Packets by what they show, connections by how they began, so that answers end with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from flows.features.policy import EGRESS, INGRESS, UNTRACKED, Side
from flows.features.rule_fields import CONNECTION, HEADER, Fields, RuleFields, service_matches
from flows.ir import Flow, FlowKey, drop, matching
from flows.model import ProviderRule
from flows.pipeline import Priority
from flows.protocols import ANY_FRAGMENT, CT_INVALID, CT_REPLY, CT_TRACKED
from flows.rules import Rule
from flows.view import View, range_match

_WHOLE = {EGRESS.direction: Rule.DROP_PROVIDER_EGRESS, INGRESS.direction: Rule.DROP_PROVIDER_INGRESS}
_PART = {EGRESS.direction: Rule.DROP_PROVIDER_EGRESS_PART, INGRESS.direction: Rule.DROP_PROVIDER_INGRESS_PART}
_TRACKED = (CT_TRACKED, CT_TRACKED | CT_INVALID | CT_REPLY)
_ANSWER = (CT_TRACKED | CT_REPLY, CT_TRACKED | CT_INVALID | CT_REPLY)


def provider_rules(view: View) -> Iterator[Flow]:
    """Where two rules drop the same, in the name of the older one."""
    dropped: dict[FlowKey, Flow] = {}
    for rule in sorted(view.snapshot.provider_rules.values(), key=lambda rule: rule.key):
        for flow in _of_rule(rule):
            dropped.setdefault(flow.key, flow)
    yield from dropped.values()


def _of_rule(rule: ProviderRule) -> Iterator[Flow]:
    for side, other in ((EGRESS, INGRESS), (INGRESS, EGRESS)):
        if rule.direction not in (None, side.direction):
            continue
        for match in _matches(rule, side, HEADER):
            yield drop(_WHOLE[side.direction], Priority.PROVIDER, matching(**match), key=rule.key)
        for match in _matches(rule, side, CONNECTION):
            # what is in fragments, and what answers
            for at, state in ((side, _TRACKED), (other, _ANSWER)):
                of_connection = matching(**{**match, "ct_state": state})
                yield drop(_PART[at.direction], Priority.PROVIDER, of_connection, key=rule.key)
        if rule.service.first is not None or rule.service.icmp_type is not None:
            # without conntrack a fragment shows neither: it could be that
            service = replace(rule.service, first=None, last=None, icmp_type=None, icmp_code=None)
            for match in _matches(replace(rule, service=service), side, HEADER):
                part = matching(**match, ip_frag=ANY_FRAGMENT, ct_state=UNTRACKED)
                yield drop(_PART[side.direction], Priority.PROVIDER, part, key=rule.key)


def _matches(rule: ProviderRule, side: Side, fields: RuleFields) -> Iterator[Fields]:
    remote: Fields = {fields.remote[side.direction]: range_match(rule.cidr)} if rule.cidr.prefixlen else {}
    for match in service_matches((rule.service,), fields):
        yield {**match, **remote}
