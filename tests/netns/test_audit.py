"""What the switches hold is looked at now and then, and put right."""

from __future__ import annotations

import pytest

from controller.audit import AUDIT_PERIOD
from etc.lab.lab import Lab
from etc.lab.processes import wait_until
from flows.rules import COOKIE_OURS, Rule, cookie
from tests.netns.cloud import make_network, make_vms, metric, program, wait_reached, want

pytestmark = pytest.mark.root


def test_b25_flows_that_are_deleted_or_put_in_by_hand_are_found_and_put_right(lab: Lab) -> None:
    network = make_network(lab, "net", "10.40.0.0/24", segment=140, gateway_mode="shared", gateway="10.40.0.1")
    vms = make_vms(lab, want("one", lab.nodes[0], network), want("two", lab.nodes[0], network))
    one, two = vms.values()
    wait_reached(one, two.address, 5)
    node, before = lab.nodes[0], program(lab.nodes[0])
    gone = cookie(Rule.CLASSIFY_PORT, one.port["key"])
    node.ovs.ofctl("del-flows", "br-int", f"cookie={gone:#x}/-1")
    node.ovs.ofctl("add-flow", "br-int", f"cookie={COOKIE_OURS | 1:#x},table=0,priority=9,in_port=77,actions=drop")
    assert program(node) != before
    assert not one.ping(two.address, count=1, wait=0.3).answered
    wait_until(lambda: program(node) == before, AUDIT_PERIOD + 20, "the flows are not put right")
    wait_reached(one, two.address, 5)
    assert metric(lab, "trunkline_flows_differing_total", f'node="{node.name}"') == 2
    assert metric(lab, "trunkline_flows_differing_total", f'node="{lab.nodes[1].name}"') == 0
