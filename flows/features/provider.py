"""Tables 16, 18, 53 and 54: what the operator drops for all VMs, before any security group is asked."""

from __future__ import annotations

from collections.abc import Iterator

from flows.features.policy import EGRESS, INGRESS, SIDES
from flows.features.security_groups import service_matches
from flows.ir import Flow, FlowKey, drop, matching
from flows.model import ProviderRule
from flows.pipeline import Priority
from flows.protocols import ANY_FRAGMENT, CT_ESTABLISHED, ETH_IP
from flows.rules import Rule
from flows.view import View, range_match

_WHOLE = {EGRESS.direction: Rule.DROP_PROVIDER_EGRESS, INGRESS.direction: Rule.DROP_PROVIDER_INGRESS}
_PART = {EGRESS.direction: Rule.DROP_PROVIDER_EGRESS_PART, INGRESS.direction: Rule.DROP_PROVIDER_INGRESS_PART}
_UNKNOWN = (0, CT_ESTABLISHED)


def provider_rules(view: View) -> Iterator[Flow]:
    """Where two rules drop the same, in the name of the older one."""
    dropped: dict[FlowKey, Flow] = {}
    for rule in sorted(view.snapshot.provider_rules.values(), key=lambda rule: rule.key):
        for flow in _of_rule(rule):
            dropped.setdefault(flow.key, flow)
    yield from dropped.values()


def _of_rule(rule: ProviderRule) -> Iterator[Flow]:
    service = rule.service
    for side in SIDES:
        if rule.direction not in (None, side.direction):
            continue
        remote = {side.remote: range_match(rule.cidr)} if rule.cidr.prefixlen else {}
        named = service.first is not None or service.icmp_type is not None
        for match in service_matches((service,)):
            dropped = matching(**match, **remote)
            yield drop(_WHOLE[side.direction], Priority.PROVIDER, dropped, key=rule.key)
            if named:  # the kernel's conntrack puts fragments together, which were nothing that could be named
                yield drop(_PART[side.direction], Priority.PROVIDER, dropped, key=rule.key)
        if named:
            # a fragment shows neither: of what is known to conntrack, the first packet was looked at
            assert service.protocol is not None
            part = matching(
                **remote,
                eth_type=ETH_IP,
                ip_proto=service.protocol,
                ip_frag=ANY_FRAGMENT,
                ct_state=_UNKNOWN,
            )
            yield drop(_PART[side.direction], Priority.PROVIDER, part, key=rule.key)
