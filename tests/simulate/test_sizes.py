"""What is too large for where it goes is handed to the controller, and nothing else; fragments of forwarded ports."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flows.fabric import Fabric, Journey
from flows.ir import CheckLarger
from flows.model import FloatingIp, FloatingIpChange, Network, NetworkChange, NetworkKind
from flows.packet import Packet, packet
from flows.pipeline import node_mac
from flows.protocols import ETH_IP, PROTO_UDP
from flows.rules import Rule
from flows.snapshot import Snapshot
from tests.simulate.cloud import BLUE2_1, BLUE2_2, BLUE_1, EXTERNAL_PHYSNET, FLAT_1, SERVER, UPLINK, Vm, ip, send, world
from tests.simulate.test_floating_ips import SHARED, SNAT, enters, forwarded_ports, from_outside
from tests.world import EXTERNAL, floating_ip, subnet

HEADER = 14
OWN = ip("203.0.113.101")


def second(mtu: int) -> Network:
    """Another external network."""
    place = {"kind": NetworkKind.VLAN, "segment": 200, "subnets": (subnet("198.18.64.0/24", "198.18.64.1"),)}
    return replace(world().networks[EXTERNAL], id="net-second", key=10, name="second", mtu=mtu, **place)  # type: ignore[arg-type]


def with_mtu(mtus: dict[str, int], *floating_ips: FloatingIp, external: Network | None = None) -> Fabric:
    changes = [NetworkChange(id_, replace(world().networks[id_], mtu=mtu)) for id_, mtu in mtus.items()]
    if external is not None:
        changes.append(NetworkChange(external.id, external))
    found: Snapshot = world().apply(2, [*changes, *(FloatingIpChange(one.id, one) for one in floating_ips)])
    return Fabric.of(found)


def punted(journey: Journey) -> list[tuple[str, Rule | None]]:
    rules = (Rule.PUNT_TOO_LARGE, Rule.PUNT_TOO_LARGE_IN)
    return [(node, punt.rule) for node, punt in journey.punts if punt.rule in rules]


def of_size(made: Packet, mtu: int) -> Packet:
    return made.but(size=mtu + HEADER)


LEAVES = [("n1", Rule.PUNT_TOO_LARGE)]
COMES = [("n1", Rule.PUNT_TOO_LARGE_IN)]


@pytest.mark.parametrize(
    ("by_network", "by_floating_ip", "size", "too_large"),
    [
        (1500, 1400, 1400, False),
        (1500, 1400, 1401, True),
        (1400, 1500, 1500, False),
        (1400, 1300, 1350, True),
        (1500, 1400, 1501, False),  # larger than any frame of the VM's: yet to be cut
    ],
)
def test_the_external_network_of_the_floating_ip_counts(
    by_network: int, by_floating_ip: int, size: int, too_large: bool
) -> None:
    own = replace(floating_ip(1, world().ports["port-20"]), network_id="net-second")
    through = with_mtu({EXTERNAL: by_network}, own, external=second(by_floating_ip))
    assert punted(send(BLUE_1, of_size(BLUE_1.udp(SERVER), size), through)) == (LEAVES if too_large else [])
    # for who has none it is the network's
    assert bool(punted(send(FLAT_1, of_size(FLAT_1.udp(SERVER), 1450), through))) == (by_network < 1450)


def forwarding_by_second(mtu: int) -> Fabric:
    return with_mtu({}, replace(forwarded_ports(), network_id="net-second"), external=second(mtu))


@pytest.mark.parametrize(("source_port", "too_large"), [(22, True), (23, False)])
def test_an_answer_of_a_forwarded_port_leaves_by_its_floating_ips_network(source_port: int, too_large: bool) -> None:
    answer = of_size(BLUE_1.udp(SERVER, source_port=source_port), 1450)
    assert punted(send(BLUE_1, answer, forwarding_by_second(1400))) == (LEAVES if too_large else [])


def test_a_fragment_may_be_an_answer_of_a_forwarded_port() -> None:
    part = of_size(part_of(BLUE_1.udp(SERVER)), 1450)
    assert punted(send(BLUE_1, part, forwarding_by_second(1400))) == LEAVES
    assert punted(send(BLUE_1, part, forwarding_by_second(1500))) == []


def part_of(made: Packet) -> Packet:
    """A fragment of it: without ports."""
    kept = {name: value for name, value in made.items() if name not in ("udp_src", "udp_dst")}
    return packet(**kept | {"ip_frag": 1})


@pytest.mark.parametrize("target", [BLUE2_1, BLUE2_2], ids=["same node", "other node"])
@pytest.mark.parametrize(("size", "too_large"), [(1400, False), (1401, True), (1500, True), (1501, False)])
def test_into_a_network_of_the_same_router(target: Vm, size: int, too_large: bool) -> None:
    through = with_mtu({"net-blue2": 1400})
    journey = send(BLUE_1, of_size(BLUE_1.udp(target.ip), size), through)
    assert (punted(journey), len(journey.delivered)) == ((COMES, 0) if too_large else ([], 1))
    # and in the other direction nothing is
    assert len(send(target, of_size(target.udp(BLUE_1.ip), size), through).delivered) == 1


def test_each_sender_is_measured_by_its_own_mtu() -> None:
    through = with_mtu({"net-blue": 9000, "net-blue2": 1400})
    assert punted(send(BLUE_1, of_size(BLUE_1.udp(BLUE2_1.ip), 8000), through)) == COMES
    through = with_mtu({"net-blue": 1450, "net-blue2": 1400})
    assert punted(send(BLUE_1, of_size(BLUE_1.udp(BLUE2_1.ip), 8000), through)) == []


@pytest.mark.parametrize(("size", "too_large"), [(1400, False), (1401, True), (1501, False)])
def test_from_outside(size: int, too_large: bool) -> None:
    own = floating_ip(1, world().ports["port-20"])
    through = with_mtu({"net-blue": 1400, "net-flat": 1400}, own, forwarded_ports())
    expected = (COMES, 0) if too_large else ([], 1)
    journey = enters(through, of_size(from_outside(OWN), size), "n1")
    assert (punted(journey), len(journey.delivered)) == expected
    journey = enters(through, of_size(from_outside(SHARED, 2201), size), "n1")
    assert (punted(journey), len(journey.delivered)) == expected
    asked = send(FLAT_1, FLAT_1.udp(SERVER), through)
    (frame,) = asked.heard
    back = from_outside(SNAT["n1"], 4000, udp_src=7).but(udp_dst=frame.packet["udp_src"])
    journey = enters(asked.after, of_size(back, size), "n1")
    assert (punted(journey), len(journey.delivered)) == expected


def test_what_another_node_has_routed_is_not_measured_again() -> None:
    """Nobody could be told: that node has done it."""
    routed = BLUE2_2.udp(BLUE_1.ip, node_mac(1), eth_src=node_mac(2), vlan_vid=0x1000 | 102)
    journey = with_mtu({"net-blue": 1400}).send("n1", UPLINK, of_size(routed, 1450))
    assert len(journey.delivered) == 1


def test_where_all_is_of_one_size_nothing_is_measured() -> None:
    plain = Fabric.of(world())
    journey = send(BLUE_1, BLUE_1.udp(BLUE2_1.ip), plain), send(BLUE_1, BLUE_1.udp(SERVER), plain)
    steps = [step for one in journey for hop in one.hops for step in hop.result.steps if step.flow is not None]
    assert not any(isinstance(action, CheckLarger) for step in steps if step.flow for action in step.flow.actions)


# fragments. The simulator's conntrack does not put them together: what it knows of one is its addresses


def test_a_fragment_is_tried_in_the_zone_of_each_port_and_dropped_where_it_is_unknown() -> None:
    through = with_mtu({}, forwarded_ports())
    part = {"eth_src": from_outside(0)["eth_src"], "eth_dst": node_mac(1), "eth_type": ETH_IP, "ip_proto": PROTO_UDP}
    asked = packet(**part, ip_src=SERVER, ip_dst=SHARED, ip_frag=1)
    lost = enters(through, asked, "n1")
    assert lost.delivered == ()
    assert Rule.DROP_UNSOLICITED in {hop.result.drop.rule for hop in lost.hops if hop.result.drop}
    tried = [hop.node for hop in lost.hops if any(s.rule is Rule.FORWARDING_FRAGMENT for s in hop.result.steps)]
    assert sorted(tried) == ["n1", "n2"]


def test_a_fragment_of_an_unknown_connection_leaves_as_any_other() -> None:
    through = with_mtu({}, forwarded_ports())
    (frame,) = send(BLUE_1, part_of(BLUE_1.udp(SERVER)), through).heard
    assert frame.packet["ip_src"] == SNAT["n1"] and frame.physical_network == EXTERNAL_PHYSNET
    own = floating_ip(1, world().ports["port-20"])
    (frame,) = send(BLUE_1, part_of(BLUE_1.udp(SERVER)), with_mtu({}, forwarded_ports(), own)).heard
    assert frame.packet["ip_src"] == OWN


def test_a_second_fragment_of_what_a_vm_with_both_begins_leaves_from_its_own() -> None:
    """Conntrack has translated it before the flow that would: it must not be taken for another source."""
    own = floating_ip(1, world().ports["port-20"])
    first = send(BLUE_1, part_of(BLUE_1.udp(SERVER)), with_mtu({}, forwarded_ports(), own))
    (frame,) = send(BLUE_1, part_of(BLUE_1.udp(SERVER)), first.after).heard
    assert frame.packet["ip_src"] == OWN
