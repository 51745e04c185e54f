"""Gateway mode `single`: the simulator does what a real Open vSwitch does, on the gateway node and on another."""

from __future__ import annotations

import pytest

from flows.compile import compile_node
from flows.packet import Packet, packet
from flows.pipeline import ROUTED_GROUP_MAC, gateway_node_mac, node_mac, teacher_mac
from flows.protocols import ETH_ARP
from tests.ovs.pair import NODE, OFPORTS, Pair
from tests.ovs.real_switch import RealSwitch
from tests.simulate.cloud import BLUE_1, BLUE_2, BROADCAST, EXTERNAL_UPLINK, SERVER, UPLINK, reply_to
from tests.simulate.test_single_gateway import GATEWAY, MACHINE, MACHINE_IP, from_machine, single

BLUE_TAG = 0x1000 | 102
OUT = gateway_node_mac(1)
ASK = packet(eth_src=MACHINE, eth_dst=BROADCAST, vlan_vid=BLUE_TAG, eth_type=ETH_ARP, arp_op=1).but(
    arp_sha=MACHINE, arp_spa=MACHINE_IP, arp_tpa=GATEWAY
)


def on(gateway_node: str, *frames: tuple[Packet, int]) -> list[list[tuple[int, Packet]]]:
    """What each of some frames becomes on n1, if both agree."""
    snapshot = single(gateway_node)
    with RealSwitch.running(OFPORTS, compile_node(snapshot, NODE).flows()) as switch:
        pair = Pair(switch, snapshot)
        return [pair.receive(made, in_port)[1] for made, in_port in frames]


def by_node(number: int, **fields: int) -> Packet:
    """What another node sends out by n1. An echo request: each switch chooses ports of its own."""
    return BLUE_2.echo(SERVER, OUT, eth_src=node_mac(number), vlan_vid=BLUE_TAG, **fields)


@pytest.mark.parametrize("made", [by_node(2), from_machine(ip_dst=SERVER, eth_dst=OUT)], ids=["node", "machine"])
def test_out_by_the_gateway_node_and_back(made: Packet) -> None:
    snapshot = single("n1")
    with RealSwitch.running(OFPORTS, compile_node(snapshot, NODE).flows()) as switch:
        pair = Pair(switch, snapshot)
        ((port, seen),) = pair.receive(made, UPLINK)[1]
        assert port == EXTERNAL_UPLINK
        back = pair.receive(reply_to(seen), EXTERNAL_UPLINK)[1]
        assert [(port, one["eth_src"], one["eth_dst"], one["ip_dst"]) for port, one in back] == [
            (UPLINK, OUT, made["eth_src"], made["ip_src"])
        ]


def test_what_machines_and_nodes_say_to_the_gateway_node() -> None:
    taught = by_node(3).but(eth_src=teacher_mac(3))
    ping, inwards = from_machine(ip_dst=GATEWAY, eth_dst=OUT), from_machine(ip_dst=BLUE_1.ip, eth_dst=OUT)
    seen = on("n1", (ASK, UPLINK), (ping, UPLINK), (inwards, UPLINK), (taught, UPLINK), (BLUE_1.udp(SERVER), 120))
    assert [[port for port, _ in each] for each in seen] == [[UPLINK], [UPLINK], [], [], [EXTERNAL_UPLINK]]


def test_another_node_sends_there_and_takes_what_comes_from_there() -> None:
    back = reply_to(BLUE_1.udp(SERVER)).but(eth_src=gateway_node_mac(2), vlan_vid=BLUE_TAG)
    frames = [(back.but(eth_dst=target), UPLINK) for target in (node_mac(1), teacher_mac(1), ROUTED_GROUP_MAC)]
    seen = on("n2", (BLUE_1.udp(SERVER), BLUE_1.ofport), *frames, (ASK, UPLINK))
    assert [sorted(port for port, _ in each) for each in seen] == [
        [UPLINK],
        [BLUE_1.ofport],
        [BLUE_1.ofport],
        [BLUE_1.ofport, UPLINK],  # and it says where the VM is
        [],
    ]
