"""A port's share of what a node has for all: connections, and with them the ports of the SNAT address."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network

import pytest

from flows.fabric import Fabric
from flows.model import GatewayMode, NetworkChange
from flows.pipeline import nat_zone, node_mac
from flows.rules import Rule
from flows.simulate import Drop, Reason
from tests.simulate.cloud import BLUE_1, EXTERNAL_PHYSNET, FLAT_1, NEXT_HOP, RED_1, SERVER, Vm, reply_to, send, world
from tests.world import OPEN, filtered, on_kernel

LIMIT = 3


def full(fabric: Fabric, zone: int) -> Fabric:
    """Both kinds of a VM's connections have no room for more than LIMIT."""
    state = fabric.states["n1"]
    tracked = replace(state.conntrack, limits={zone: LIMIT})
    return replace(fabric, states={**fabric.states, "n1": replace(state, conntrack=tracked)})


def begun(sender: Vm, fabric: Fabric, first: int, many: int) -> tuple[Fabric, list[Drop | None]]:
    drops = []
    for source_port in range(first, first + many):
        journey = send(sender, sender.udp(SERVER, source_port=source_port), fabric)
        fabric = journey.after
        drops.append(journey.hops[0].result.drop)
    return fabric, drops


@pytest.mark.parametrize("userspace", [True, False], ids=["userspace", "kernel"])
def test_what_begins_beyond_a_ports_share_is_dropped_in_its_name(userspace: bool) -> None:
    """The kernel's conntrack drops it by itself, where it is asked to remember it."""
    tracked = filtered(world(), OPEN, members=(BLUE_1.key,))
    if not userspace:
        tracked = on_kernel(tracked)
    fabric = full(Fabric.of(tracked, userspace=userspace), BLUE_1.key)
    after, drops = begun(BLUE_1, fabric, 4000, LIMIT)
    assert drops == [None] * LIMIT
    refused = Drop(Rule.DROP_CONNECTIONS, BLUE_1.key, Reason.RULE)
    assert begun(BLUE_1, after, 5000, 2)[1] == [refused if userspace else Drop(Rule.EGRESS_BEGINS, 0, Reason.NAT)] * 2
    assert begun(FLAT_1, after, 4000, 2 * LIMIT)[1] == [None] * 2 * LIMIT
    # what it has goes on
    assert begun(BLUE_1, after, 4000, LIMIT)[1] == drops


@pytest.mark.parametrize("sender", [BLUE_1, RED_1], ids=["not filtered", "carrier"])
@pytest.mark.parametrize("userspace", [True, False], ids=["userspace", "kernel"])
def test_so_is_what_no_zone_of_its_own_counts(sender: Vm, userspace: bool) -> None:
    fabric = full(Fabric.of(world(), userspace=userspace), nat_zone(sender.key))
    after, drops = begun(sender, fabric, 4000, LIMIT)
    assert drops == [None] * LIMIT
    refused = Drop(Rule.DROP_SNAT_SHARE, sender.key, Reason.RULE)
    expected = refused if userspace else Drop(Rule.CARRIER, sender.key, Reason.NAT)
    assert begun(sender, after, 5000, 2)[1] == [expected] * 2
    journey = send(sender, sender.udp(SERVER, source_port=4000), after)
    answer = reply_to(journey.heard[0].packet)
    answered = journey.after.send_from_outside(EXTERNAL_PHYSNET, answer.but(eth_src=NEXT_HOP, eth_dst=node_mac(1)))
    assert [(one.node, one.ofport) for one in answered.delivered] == [(sender.node, sender.ofport)]


def test_so_is_what_force_snat_takes_from_the_way_to_a_router() -> None:
    cloud = world()
    network = cloud.networks[cloud.ports[f"port-{BLUE_1.key}"].network_id]
    forced = replace(network, gateway_mode=GatewayMode.EXTERNAL, force_snat=(IPv4Network((SERVER, 32)),))
    fabric = full(Fabric.of(cloud.apply(9, [NetworkChange(network.id, forced)]), userspace=True), nat_zone(BLUE_1.key))
    after, drops = begun(BLUE_1, fabric, 4000, LIMIT)
    assert drops == [None] * LIMIT
    assert begun(BLUE_1, after, 5000, 1)[1] == [Drop(Rule.DROP_SNAT_SHARE, BLUE_1.key, Reason.RULE)]
