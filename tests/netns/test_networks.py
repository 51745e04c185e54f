"""Flat and VLAN networks on two physical networks at once, watched where it counts: on the wire to the rack switch."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address

import pytest

from controller.client import Object
from etc.lab import capture, netns
from etc.lab.capture import Capture, Seen
from etc.lab.lab import Lab
from etc.lab.node import Node
from etc.lab.processes import wait_until
from etc.lab.vm import Vm
from flows.pipeline import ROUTED_GROUP_MAC, TEACHER_MAC_PREFIX, Table
from flows.rules import Rule
from tests.netns.cloud import (
    ANYCAST_MAC,
    arp_frame,
    drops,
    echo,
    gateway_of,
    make_network,
    make_outside,
    make_vms,
    request,
    resolve,
    saw,
    send_frames,
    tcp,
    udp,
    udp_frame,
    wait_dropped,
    wait_outside,
    want,
)

pytestmark = pytest.mark.root

PHYSICAL = ("physnet1", "physnet2")
SEGMENT = 120
NOBODY = "02:00:00:00:be:ef"
ROUTED_GROUP = ROUTED_GROUP_MAC.to_bytes(6).hex(":")
DATAGRAM = b"one for each"


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=2, physical_networks=(*PHYSICAL, "physnet-ext"))


@pytest.fixture(scope="module")
def networks(lab: Lab) -> dict[str, Object]:
    """Blue has a flat and a VLAN network on physnet1; red the same VLAN id and range on physnet2, and a flat one."""
    make_outside(lab)
    return {
        "flat": make_network(lab, "flat", "10.1.0.0/24"),
        "vlan": make_network(lab, "vlan", "10.2.0.0/24", segment=SEGMENT),
        "flat2": make_network(lab, "flat2", "10.3.0.0/24", project_id="red", physical_network="physnet2", mtu=1400),
        "vlan2": make_network(
            lab, "vlan2", "10.2.0.0/24", project_id="red", physical_network="physnet2", segment=SEGMENT
        ),
        "known": make_network(lab, "known", "10.5.0.0/24", project_id="red", segment=150, arp_responder=True),
    }


@pytest.fixture(scope="module")
def vms(lab: Lab, networks: dict[str, Object]) -> dict[str, Vm]:
    """flat-1 is on n1, flat-2 on n2, flat-3 on n2, and so on. In vlan and vlan2 they have the same addresses."""
    fields: dict[str, list[Object]] = {
        name: [{"fixed_ips": [{"address": f"10.2.0.{100 + number}"}]} for number in range(3)]
        for name in ("vlan", "vlan2")
    }
    places = (lab.nodes[0], lab.nodes[1], lab.nodes[1])
    vms = make_vms(
        lab,
        *(
            want(f"{name}-{index + 1}", place, network, **fields.get(name, [{}] * 3)[index])
            for name, network in networks.items()
            for index, place in enumerate(places)
        ),
    )
    wait_outside(lab, vms["flat-1"], vms["flat-2"])
    return vms


def wire(lab: Lab, node: Node, physical_network: str) -> Capture:
    """What is on a node's cable to the rack switch."""
    return Capture(lab.fabric.rack, node.cable(physical_network), "", lab.directory / "rack")


@contextmanager
def watched(*vms: Vm) -> Iterator[dict[str, Capture]]:
    with ExitStack() as stack:
        yield {vm.name: stack.enter_context(vm.capture("")) for vm in vms}


@pytest.mark.parametrize("name", ["flat", "vlan", "flat2", "vlan2"])
def test_frames_carry_the_tag_of_their_network_and_only_on_its_wire(
    lab: Lab, vms: dict[str, Vm], networks: dict[str, Object], name: str
) -> None:
    here, there, network = vms[f"{name}-1"], vms[f"{name}-2"], networks[name]

    def is_theirs(frame: Seen) -> bool:
        return frame.eth_src in (here.mac, there.mac)

    with wire(lab, here.node, "physnet1") as first, wire(lab, here.node, "physnet2") as second:
        assert not here.ping(there.address).lost
        mine, others = (first, second) if network["physical_network"] == "physnet1" else (second, first)
        tags = [frame.vlan for frame in saw(mine, lambda frame: echo(frame) and is_theirs(frame), 6)]
        assert tags == [network["segment"]] * 6
        assert not others.seen(is_theirs)


def test_nothing_of_the_gateway_is_ever_on_the_wire(lab: Lab, vms: dict[str, Vm], networks: dict[str, Object]) -> None:
    gateways = {name: {str(gateway_of(lab, node, networks[name])) for node in lab.nodes} for name in ("flat", "vlan")}
    with wire(lab, lab.nodes[0], "physnet1") as cable:
        for vm in (vms["flat-1"], vms["vlan-1"], vms["flat-2"], vms["vlan-2"]):
            own = gateways[vm.name.partition("-")[0]]
            assert resolve(vm, *own) == {address: [ANYCAST_MAC] for address in own}
            assert not vm.ping(vm.configured().router).lost  # type: ignore[union-attr]
        # routed within the project, to the other node and back
        for source, target in (("flat-1", "vlan-2"), ("vlan-2", "flat-1"), ("vlan-1", "flat-3")):
            assert not vms[source].ping(vms[target].address).lost
        # routed at its source, so that it is on the target's segment
        routed = saw(cable, lambda frame: request(frame) and frame.src == vms["vlan-1"].address, 3)
        everything = cable.seen()
    assert {(frame.ttl, frame.vlan) for frame in routed} == {(63, None)}
    assert not [frame for frame in everything if ANYCAST_MAC in (frame.eth_src, frame.eth_dst)]
    arp = [frame for frame in everything if frame.ethertype == capture.ETHERTYPE_ARP]
    assert not [frame for frame in arp if {str(frame.src), str(frame.dst)} & (gateways["flat"] | gateways["vlan"])]


def test_routed_traffic_that_nobody_answers_goes_to_one_node(lab: Lab, vms: dict[str, Vm]) -> None:
    """Else a stream of log lines would reach every node of the cloud, for ever."""
    source, target = vms["vlan-1"], vms["flat-3"]

    def sent(frame: Seen) -> bool:
        return frame.src == source.address and frame.dst_port == 9

    source.node.ovs.appctl("revalidator/purge")  # what earlier packets are still to teach is taught now
    source.node.ovs.ofctl("del-flows", "br-int", f"table={Table.REMOTE_NEXT_HOP.value}")
    with udp(target.namespace, target.address, 9), wire(lab, source.node, "physnet1") as cable:
        send_frames(source, udp_frame(source, target.address))
        wait_until(lambda: target.address in learned(source.node), 20, "the sender was not taught")
        send_frames(source, udp_frame(source, target.address), 3)
        first, *later = saw(cable, sent, 4)
        assert first.eth_dst == ROUTED_GROUP
        assert {frame.eth_dst for frame in later} == {teacher(cable)}
        answers = cable.seen(lambda frame: frame.src == target.address and frame.eth_src != teacher(cable))
        assert not answers, "it was not one-way"


def teacher(cable: Capture) -> str:
    """The MAC that taught, from what is seen."""
    prefix = TEACHER_MAC_PREFIX.to_bytes(6).hex(":")[:11]
    (mac,) = {frame.eth_src for frame in cable.seen(lambda frame: frame.eth_src.startswith(prefix))}
    return mac


def learned(node: Node) -> set[IPv4Address]:
    """The addresses that a node has learned to be behind another."""
    dump = node.ovs.ofctl("dump-flows", "br-int", f"table={Table.REMOTE_NEXT_HOP.value}")
    return {IPv4Address(address) for address in re.findall(r"nw_dst=([\d.]+)", dump)}


@pytest.mark.parametrize("name", ["flat", "vlan", "flat2", "vlan2"])
def test_a_broadcast_reaches_each_member_once_and_nobody_else(lab: Lab, vms: dict[str, Vm], name: str) -> None:
    sender = vms[f"{name}-2"]  # one of the others is on its node, one is not
    with watched(*vms.values()) as captures, udp(sender.namespace, sender.address, 5000) as sock:
        for _ in range(3):
            sock.sendto(DATAGRAM, ("255.255.255.255", 5001))
        # whatever a broadcast sets off is there before what is sent after it
        for vm in vms.values():
            vm.ping(vms[f"{vm.name[:-1]}{int(vm.name[-1]) % 3 + 1}"].address, count=1)
        for each in captures.values():
            saw(each, request)
        heard = {vm: len(each.seen(lambda frame: frame.dst_port == 5001)) for vm, each in captures.items()}
    members = {f"{name}-1", f"{name}-3"}
    assert {vm: count for vm, count in heard.items() if count} == {sender.name: 3, **dict.fromkeys(members, 3)}


@pytest.mark.parametrize("name", ["flat", "vlan"])
def test_an_unknown_unicast_goes_to_the_wire_once_and_to_no_vm(lab: Lab, vms: dict[str, Vm], name: str) -> None:
    sender, same_node = vms[f"{name}-2"], vms[f"{name}-3"]
    before = drops(lab.nodes[0])
    with wire(lab, lab.nodes[0], "physnet1") as cable, watched(same_node, vms[f"{name}-1"]) as captures:
        send_frames(sender, udp_frame(sender, same_node.address, eth_dst=NOBODY), 4)
        wait_dropped(lab.nodes[0], before, Rule.DROP_UNKNOWN_UNICAST, 4)
        saw(cable, lambda frame: frame.eth_dst == NOBODY, 4)
        for vm in (same_node, vms[f"{name}-1"]):
            assert not sender.ping(vm.address, count=1).lost
            saw(captures[vm.name], lambda frame: request(frame) and frame.src == sender.address)
            assert not captures[vm.name].seen(lambda frame: frame.eth_dst == NOBODY)
        assert len(cable.seen(lambda frame: frame.eth_dst == NOBODY)) == 4


def test_arp_for_a_known_port_is_answered_without_a_broadcast(lab: Lab, vms: dict[str, Vm]) -> None:
    first, second = vms["known-1"], vms["known-2"]
    for vm in (first, second):
        netns.configure(vm.namespace, "neighbour flush all")
    with wire(lab, first.node, "physnet1") as cable, second.capture("arp") as heard:
        assert resolve(first, second.address) == {str(second.address): [second.mac]}
        assert not first.ping(second.address).lost
        # a guest that probes for its own address (RFC 5227) must hear nothing
        with first.capture("") as own:
            send_frames(first, arp_frame(first, first.address, sender="0.0.0.0"))
            assert not first.ping(second.address, count=1).lost
            saw(own, echo, 2)
            saw(cable, request, 4)
            assert not own.seen(lambda frame: frame.eth_dst == first.mac and frame.src == first.address)
        asked = [frame for frame in cable.seen() if frame.ethertype == capture.ETHERTYPE_ARP]
        assert [frame for frame in asked if frame.dst == second.address] == []
        # an unknown address is asked for on the wire, as on any network
        assert resolve(first, "10.5.0.200", patience=0) == {"10.5.0.200": []}
        cable.wait_for(lambda frame: frame.vlan == 150 and str(frame.dst) == "10.5.0.200")
        saw(heard, lambda frame: str(frame.dst) == "10.5.0.200")


def test_the_mtu_is_the_networks(lab: Lab, vms: dict[str, Vm]) -> None:
    here, there = vms["flat2-1"], vms["flat2-2"]
    assert {vm.configured().mtu for vm in (here, there)} == {1400}  # type: ignore[union-attr]
    assert vms["flat-1"].configured().mtu == 1500  # type: ignore[union-attr]
    with wire(lab, here.node, "physnet2") as cable:
        assert "1 received" in here.execute("ping", "-c1", "-W1", "-Mdo", "-s1372", str(there.address))
        assert "+1 errors" in here.execute("ping", "-c1", "-W1", "-Mdo", "-s1373", str(there.address), check=False)
        assert {frame.length for frame in saw(cable, echo, 2)} == {1414}
    # the largest frame of a VLAN network passes with its tag
    assert "1 received" in vms["vlan-1"].execute("ping", "-c1", "-W1", "-Mdo", "-s1472", str(vms["vlan-2"].address))


ISOLATED = [("flat-1", "flat2-1"), ("flat2-1", "flat-2"), ("known-1", "flat-1"), ("vlan-1", "flat2-2")]


@pytest.mark.parametrize(("attacker", "victim"), ISOLATED)
def test_projects_do_not_reach_each_other(lab: Lab, vms: dict[str, Vm], attacker: str, victim: str) -> None:
    source, target = vms[attacker], vms[victim]
    neighbour = vms[f"{victim[:-1]}{int(victim[-1]) % 3 + 1}"]
    with target.capture("") as heard:
        assert not source.ping(target.address, count=2, wait=0.3).answered
        assert resolve(source, target.address, patience=0) == {str(target.address): []}
        for mac in (target.mac, ANYCAST_MAC, ROUTED_GROUP):
            send_frames(source, udp_frame(source, target.address, eth_dst=mac))
        assert not neighbour.ping(target.address, count=1).lost
        saw(heard, lambda frame: request(frame) and frame.src == neighbour.address)
        assert not heard.seen(lambda frame: frame.eth_src == source.mac or frame.src == source.address)
        assert not heard.seen(lambda frame: frame.dst_port == 9)


def test_two_projects_with_one_range_do_not_hear_each_other(lab: Lab, vms: dict[str, Vm]) -> None:
    blue, red = vms["vlan-1"], vms["vlan2-1"]
    assert (blue.address, blue.node) == (red.address, red.node)
    with watched(vms["vlan-2"], vms["vlan2-2"]) as captures:
        assert not blue.ping(vms["vlan-2"].address, count=3).lost
        assert not red.ping(vms["vlan2-2"].address, count=2).lost
        assert [frame.eth_src for frame in saw(captures["vlan-2"], request, 3)] == [blue.mac] * 3
        assert [frame.eth_src for frame in saw(captures["vlan2-2"], request, 2)] == [red.mac] * 2


def test_two_projects_with_one_range_are_outside_at_once_from_one_port(lab: Lab, vms: dict[str, Vm]) -> None:
    """The same address and the same source port on one node, to one server: each gets its own answers."""
    blue, red = vms["vlan-1"], vms["vlan2-1"]
    far = (str(lab.fabric.far_host), 7001)
    with ExitStack() as stack, lab.outside_capture("tcp") as outside:
        server = stack.enter_context(tcp(lab.fabric.far, port=7001))
        server.listen(2)
        clients, served = [], []
        for vm in (blue, red):
            client = stack.enter_context(tcp(vm.namespace, vm.address, 40000))
            client.connect(far)
            clients.append(client)
            served.append(stack.enter_context(server.accept()[0]))
        for _ in range(3):
            for client, text in zip(clients, (b"blue", b"red"), strict=True):
                client.sendall(text)
            for connection, text in zip(served, (b"blue", b"red"), strict=True):
                assert connection.recv(100) == text
                connection.sendall(text.upper())
            assert [client.recv(100) for client in clients] == [b"BLUE", b"RED"]
        # three of the handshake, and the data and acknowledgements of three rounds
        sent = {(str(frame.src), frame.src_port) for frame in saw(outside, lambda frame: frame.dst_port == 7001, 10)}
    assert len(sent) == 2
    assert {address for address, _ in sent} == {str(blue.node.snat_address)}
    # and one ping each, all the time
    streams = [vm.ping_stream(lab.fabric.far_host, rate=50) for vm in (blue, red)]
    assert not blue.ping(lab.fabric.far_host, count=5).lost
    assert [stream.stop().lost for stream in streams] == [0, 0]
