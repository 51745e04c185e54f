"""Security groups: the simulator and a real Open vSwitch do the same with every frame, whatever came before it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from flows.compile import compile_node
from flows.ir import Flow
from flows.model import MigrationPhase
from flows.packet import Packet, packet
from flows.pipeline import copy_mac, node_mac
from flows.protocols import ETH_IP, PROTO_ICMP, PROTO_TCP, PROTO_UDP, VLAN_PRESENT
from flows.simulate import Switch
from flows.snapshot import Snapshot
from tests.ovs.pair import OFPORTS, Pair
from tests.ovs.real_switch import RealSwitch
from tests.ovs.test_simulator_agrees import encodable
from tests.simulate.cloud import BLUE_1, BLUE_2, EXTERNAL_UPLINK, UPLINK, Vm, reply_to, vm
from tests.simulate.hostile import frame, rolling
from tests.simulate.test_security_groups import CLOSED, HERE, THERE, WEB, cloud, fragment, moving, tcp
from tests.world import egress, filtered, rule, security_group

TAG = VLAN_PRESENT | 102
NEIGHBOUR = vm(22, cloud())
GROUP = security_group(
    14,
    egress(141, PROTO_TCP),
    egress(142, PROTO_UDP, 7, 100, remote="group-14"),
    rule(143, PROTO_UDP, 80, 90),
    rule(144, PROTO_UDP, 22, remote="group-14"),
    rule(145, PROTO_ICMP, remote="10.20.0.0/24"),
    rule(146, PROTO_TCP, 7, remote="10.20.0.11/32"),
)


@contextmanager
def running(snapshot: Snapshot, node: str = "n1", ofports: list[int] | None = None) -> Iterator[Pair]:
    program = compile_node(snapshot, node)
    assert not program.failures
    with RealSwitch.running(ofports or [*OFPORTS, NEIGHBOUR.ofport], program.flows()) as switch:
        pair = Pair(switch, snapshot)
        pair.simulated = Switch(program.flows())
        yield pair


def program(snapshot: Snapshot) -> list[Flow]:
    return list(compile_node(snapshot, "n1").flows())


def load(pair: Pair, before: Snapshot, after: Snapshot) -> None:
    """The flows of another snapshot in place of those that are there; connections stay."""
    pair.real.replace(program(before), program(after))
    pair.simulated = Switch(program(after))


def udp(client: Vm, to: Vm, port: int) -> Packet:
    return client.udp(to.ip, to.mac, 5000 + port, port)


def from_wire(made: Packet) -> Packet:
    return made.but(vlan_vid=TAG)


def test_what_is_allowed_and_answered() -> None:
    with running(cloud(GROUP, members=(BLUE_1.key, NEIGHBOUR.key))) as pair:
        for port in (22, 79, 80, 90, 91):
            for client, in_port in ((NEIGHBOUR, NEIGHBOUR.ofport), (BLUE_2, UPLINK)):
                asked = udp(client, BLUE_1, port)
                _, seen = pair.receive(asked if client is NEIGHBOUR else from_wire(asked), in_port)
                assert bool(seen) is (port in (80, 90) or (port, client) == (22, NEIGHBOUR))
                for _, delivered in seen:
                    assert pair.receive(reply_to(delivered), BLUE_1.ofport)[1]
        for part in (fragment(NEIGHBOUR, BLUE_1), NEIGHBOUR.udp(BLUE_1.ip, BLUE_1.mac)):
            pair.receive(part, NEIGHBOUR.ofport)
        pair.receive(from_wire(BLUE_2.echo(BLUE_1.ip, BLUE_1.mac)), UPLINK)


def test_a_rule_goes_and_comes_back() -> None:
    two = security_group(6, egress(61), rule(62, PROTO_UDP, 80), rule(63, PROTO_UDP, 81))
    one = security_group(6, egress(61), rule(63, PROTO_UDP, 81))
    before, after = (filtered(cloud(), group, members=(BLUE_1.key,)) for group in (two, one))
    with running(before) as pair:
        answers = {}
        for port in (80, 81):
            _, ((_, seen),) = pair.receive(udp(NEIGHBOUR, BLUE_1, port), NEIGHBOUR.ofport)
            answers[port] = reply_to(seen)
            assert pair.receive(answers[port], BLUE_1.ofport)[1]
        load(pair, before, after)
        for port, goes_on in ((80, False), (81, True)):
            assert bool(pair.receive(udp(NEIGHBOUR, BLUE_1, port), NEIGHBOUR.ofport)[1]) is goes_on
            assert bool(pair.receive(answers[port], BLUE_1.ofport)[1]) is goes_on
        load(pair, after, before)
        assert pair.receive(udp(NEIGHBOUR, BLUE_1, 80), NEIGHBOUR.ofport)[1]
        assert pair.receive(answers[80], BLUE_1.ofport)[1]


@pytest.mark.parametrize("group", [GROUP, WEB, CLOSED], ids=lambda group: group.name)
def test_random_frames(group: object) -> None:
    dice = random.Random(17)
    outputs = 0
    with running(cloud(group, members=(BLUE_1.key, NEIGHBOUR.key))) as pair:  # type: ignore[arg-type]
        for _ in range(400):
            sender = dice.choice([BLUE_1, NEIGHBOUR])
            made = frame(rolling(dice), sender)
            if encodable(made):
                outputs += bool(pair.receive(made, sender.ofport)[0].outputs)
    assert outputs > 20


def test_a_vm_that_moves() -> None:
    """The node that expects it hears of connections by copies, and tells those that the VM began."""
    copied = packet(
        eth_src=copy_mac(BLUE_1.key, reply=True),
        eth_dst=node_mac(3),
        eth_type=ETH_IP,
        vlan_vid=TAG,
        ip_proto=17,
        ip_src=BLUE_2.ip,
        ip_dst=BLUE_1.ip,
        udp_src=7,
        udp_dst=4000,
    )
    there = Vm(BLUE_1.key, "n3", THERE.ofport, BLUE_1.mac, BLUE_1.ip, BLUE_1.network)
    prepared, moved = moving(CLOSED, MigrationPhase.PREPARED), moving(CLOSED, MigrationPhase.MOVED)
    with running(prepared, "n3", [THERE.ofport, UPLINK, EXTERNAL_UPLINK]) as pair:
        assert pair.receive(copied, UPLINK)[1] == []
        flows = [list(compile_node(snapshot, "n3").flows()) for snapshot in (prepared, moved)]
        pair.real.replace(*flows)
        pair.simulated = Switch(flows[1])
        answer = from_wire(copied.but(eth_src=BLUE_2.mac, eth_dst=BLUE_1.mac))
        assert [port for port, _ in pair.receive(answer, UPLINK)[1]] == [there.ofport]
        assert pair.receive(there.udp(BLUE_2.ip, BLUE_2.mac), there.ofport)[1]
        assert pair.receive(answer.but(udp_src=8), UPLINK)[1] == []


def test_the_node_that_it_comes_from_tells_replies_from_others() -> None:
    with running(moving(WEB, MigrationPhase.PREPARED)) as pair:
        for sent, reply in ((tcp(BLUE_2, BLUE_1), False), (None, True)):
            if sent is None:
                pair.receive(BLUE_1.udp(BLUE_2.ip, BLUE_2.mac), HERE.ofport)
                sent = reply_to(BLUE_1.udp(BLUE_2.ip, BLUE_2.mac))
            _, seen = pair.receive(from_wire(sent), UPLINK)
            assert [one["eth_src"] for port, one in seen if port == UPLINK] == [copy_mac(BLUE_1.key, reply=reply)]
