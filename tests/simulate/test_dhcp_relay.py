"""DHCP that a relay sends to a node's address outside goes to the controller, and what anybody else sends does not."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from flows.compile import compile_node
from flows.fabric import Fabric
from flows.ir import Flow, Meter
from flows.model import GatewayMode, NetworkChange, NodeChange
from flows.packet import Packet, packet
from flows.pipeline import RELAY_METER, node_mac
from flows.protocols import ETH_IP
from flows.rules import Rule, cookie
from flows.simulate import Drop, Reason
from flows.snapshot import Snapshot
from tests.simulate.cloud import EXTERNAL_UPLINK, NEXT_HOP, ip, world
from tests.world import network

RELAY = "203.0.113.1"
MACHINES = network(
    20, "machines", "10.99.0.0/24", physical_network="elsewhere", gateway_mode=GatewayMode.NONE,
    dhcp_relays=(IPv4Address(RELAY),),
)  # fmt: skip


def relayed(**fields: object) -> Snapshot:
    return world().apply(2, [NetworkChange(MACHINES.id, replace(MACHINES, **fields))])  # type: ignore[arg-type]


def relay_flows(snapshot: Snapshot) -> list[Flow]:
    wanted = cookie(Rule.PUNT_RELAYED_DHCP, 9)
    return [flow for flow in compile_node(snapshot, "n1").flows() if flow.cookie == wanted]


def asked(source: str = RELAY, target: str = "203.0.113.11", **fields: int) -> Packet:
    known = {"eth_src": NEXT_HOP, "eth_dst": node_mac(1), "eth_type": ETH_IP, "ip_proto": 17, "udp_src": 67}
    return packet(**known | {"udp_dst": 67, "ip_src": ip(source), "ip_dst": ip(target)} | fields)


@pytest.mark.parametrize("source", [RELAY, "10.99.0.20"])
def test_it_goes_to_the_controller(source: str) -> None:
    """From the relay, and from a machine that renews."""
    (hop,) = Fabric.of(relayed()).send("n1", EXTERNAL_UPLINK, asked(source)).hops
    (punt,) = hop.result.punts
    met = [
        action for step in hop.result.steps if step.flow for action in step.flow.actions if isinstance(action, Meter)
    ]
    assert met == [Meter(RELAY_METER)]
    assert punt.cookie == cookie(Rule.PUNT_RELAYED_DHCP, 9) and hop.result.drop is None
    found = relay_flows(relayed())
    assert len(found) == 2


@pytest.mark.parametrize(
    ("snapshot", "sent"),
    [
        (relayed(), asked("203.0.113.66")),
        (relayed(), asked(target="203.0.113.12")),
        (relayed(), asked(udp_dst=68)),
        (relayed(), asked(udp_dst=53)),
        (relayed(dhcp=False), asked()),
        (relayed(dhcp_relays=()), asked("10.99.0.20")),
        (relayed(external_network_id="net-none"), asked()),
        (world(), asked()),
    ],
)
def test_all_else_does_not(snapshot: Snapshot, sent: Packet) -> None:
    result = Fabric.of(snapshot).send("n1", EXTERNAL_UPLINK, sent).hops[0].result
    assert result.punts == () and result.drop in (
        Drop(Rule.DROP_UNSOLICITED, 0, Reason.RULE),
        Drop(Rule.DROP_EXTERNAL, 0, Reason.RULE),
    )


def test_an_address_that_the_host_shares_is_the_hosts() -> None:
    node = relayed().nodes["n1"]
    shared = replace(node, snat_addresses=tuple(replace(held, host=True) for held in node.snat_addresses))
    assert relay_flows(relayed().apply(3, [NodeChange("n1", shared)])) == []


def test_a_relay_of_two_networks_needs_one_flow() -> None:
    second = replace(MACHINES, id="net-second", key=21, segment=121)
    assert len(relay_flows(relayed().apply(3, [NetworkChange(second.id, second)]))) == 2
