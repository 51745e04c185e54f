"""A router of the operator's as gateway, and no gateway at all, on real Open vSwitch.

What a data plane must do by itself is tried with the controller running, stopped and restarted.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from ipaddress import IPv4Address

import pytest

from controller.client import Object
from etc.lab import netns
from etc.lab.capture import Capture, Seen
from etc.lab.fabric import OUTSIDE_ROUTER, QUIET
from etc.lab.lab import Lab
from etc.lab.vm import Vm
from flows.rules import Rule
from tests.netns.cloud import (
    ANYCAST_MAC,
    drops,
    make_network,
    make_outside,
    make_vms,
    program,
    request,
    resolve,
    saw,
    send_frames,
    udp_frame,
    wait_dropped,
    wait_outside,
    want,
)
from tests.netns.floating import Place, at, far, give, make_pool, talk, wait_talk

pytestmark = pytest.mark.root

KINDS = ("tcp", "udp", "icmp", "fragments")
HARDWARE_ROUTER = "10.3.0.1"
UPLINK = "203.0.113.60"
"""The hardware router's own address outside."""
FORCED = IPv4Address("198.51.100.200")
FORCED_RANGE = "198.51.100.192/26"


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=2)


@pytest.fixture(scope="module")
def hardware_router(lab: Lab) -> str:
    """A router between the flat segment of physnet1 and the outside, which knows the way back. Its namespace."""
    namespace = f"{lab.prefix}-hw"
    netns.create(namespace)
    # it would send a guest to its neighbour on the other side of it
    netns.set_sysctl(namespace, {**QUIET, "ipv4/ip_forward": 1})
    lab.fabric.connect(namespace, "eth0", "physnet1", "hw")
    lab.fabric.connect(namespace, "eth1", lab.fabric.external, "hw-ext")
    netns.configure(
        namespace,
        f"address add {HARDWARE_ROUTER}/24 dev eth0",
        f"address add {UPLINK}/24 dev eth1",
        f"route add default via {OUTSIDE_ROUTER.ip}",
    )
    netns.configure(lab.fabric.outside, f"route add 10.3.0.0/24 via {UPLINK}")
    netns.configure(lab.fabric.far, f"address add {FORCED}/24 dev eth0")
    return namespace


@pytest.fixture(scope="module")
def networks(lab: Lab) -> dict[str, Object]:
    make_pool(lab, make_outside(lab))
    fields: Object = {"gateway_mode": "external", "force_snat": [FORCED_RANGE]}
    return {
        "hw": make_network(lab, "hw", "10.3.0.0/24", HARDWARE_ROUTER, **fields),
        "none": make_network(lab, "none", "10.4.0.0/24", segment=104, gateway_mode="none"),
        "per": make_network(lab, "per", "10.5.0.0/24", segment=105),
    }


@pytest.fixture(scope="module")
def vms(lab: Lab, networks: dict[str, Object], hardware_router: str) -> dict[str, Vm]:
    """In the name are network and node."""
    wanted = [
        want(f"{name}{n}", node, network) for name, network in networks.items() for n, node in enumerate(lab.nodes, 1)
    ]
    vms = make_vms(lab, *wanted, want("hw1b", lab.nodes[0], networks["hw"]))
    wait_outside(lab, vms["per1"], vms["per2"], vms["hw1"])
    return vms


@pytest.fixture(scope="module")
def floating(lab: Lab, vms: dict[str, Vm]) -> str:
    """The floating IP of hw1b."""
    return str(give(lab, vms["hw1b"])["address"])


@pytest.fixture(scope="module")
def ready(vms: dict[str, Vm], floating: str, controller: str) -> dict[str, Vm]:
    """The VMs, when all is set up, in each state of the controller."""
    return vms


def forced(lab: Lab) -> Place:
    return Place(lab.fabric.far, FORCED)


def by_router(lab: Lab, hardware_router: str) -> Capture:
    return Capture(hardware_router, "eth0", "ip", lab.directory / "hw")


def mac_of(namespace: str, interface: str) -> str:
    return str(netns.query(namespace, "link", "show", "dev", interface)[0]["address"])


def from_node(lab: Lab) -> Callable[[Seen], bool]:
    return lambda frame: frame.src in {node.snat_address for node in lab.nodes}


# A7, E3


@pytest.mark.parametrize("kind", KINDS)
def test_a7_plain_traffic_leaves_by_the_router_as_it_is(
    lab: Lab, ready: dict[str, Vm], hardware_router: str, kind: str
) -> None:
    for name in ("hw1", "hw2"):
        vm = ready[name]
        assert str(vm.configured().router) == HARDWARE_ROUTER  # type: ignore[union-attr]
        assert resolve(vm, HARDWARE_ROUTER) == {HARDWARE_ROUTER: [mac_of(hardware_router, "eth0")]}
        with by_router(lab, hardware_router) as heard, lab.outside_capture("ip") as outside:
            assert talk(at(vm), far(lab), lab.fabric.far_host, kind) == str(vm.address)
            sent = saw(heard, lambda frame, vm=vm: frame.src == vm.address)  # type: ignore[misc]
            assert {(frame.eth_src, frame.ttl) for frame in sent} == {(vm.mac, 64)}
            # and from there to here, which begins outside
            assert talk(far(lab), at(vm), vm.address, kind) == str(lab.fabric.far_host)
            saw(outside, lambda frame, vm=vm: frame.src == vm.address)  # type: ignore[misc]
            assert not outside.seen(from_node(lab))


@pytest.mark.parametrize("kind", KINDS)
def test_e3_a_forced_range_is_reached_by_the_nodes(
    lab: Lab, ready: dict[str, Vm], floating: str, hardware_router: str, kind: str
) -> None:
    """The guest sends to the router's MAC all the same; who has a floating IP is seen with it."""
    for name, expected in (
        ("hw1", lab.nodes[0].snat_address),
        ("hw2", lab.nodes[1].snat_address),
        ("hw1b", floating),
    ):
        vm = ready[name]
        with by_router(lab, hardware_router) as heard, vm.capture("ip") as sent:
            assert talk(at(vm), forced(lab), FORCED, kind) == str(expected)
            mine = saw(sent, lambda frame, vm=vm: frame.src == vm.address)  # type: ignore[misc]
            assert {frame.eth_dst for frame in mine} == {mac_of(hardware_router, "eth0")}
            assert talk(at(vm), far(lab), lab.fabric.far_host, kind) == str(floating if name == "hw1b" else vm.address)
            assert not heard.seen(lambda frame: FORCED in (frame.src, frame.dst))


def test_e3_what_is_forced_is_what_it_says_now(lab: Lab, vms: dict[str, Vm], networks: dict[str, Object]) -> None:
    vm = vms["hw2"]
    before = [program(node) for node in lab.nodes]

    def force(*ranges: str) -> None:
        lab.confirm(lab.client.update_network(networks["hw"]["id"], {"force_snat": list(ranges)}).revision)

    force()
    wait_talk(at(vm), forced(lab), FORCED, "tcp", vm.address)
    force(FORCED_RANGE)
    wait_talk(at(vm), forced(lab), FORCED, "tcp", vm.node.snat_address)
    assert [program(node) for node in lab.nodes] == before


@pytest.mark.parametrize("kind", KINDS)
def test_a7_neighbours_are_switched(ready: dict[str, Vm], kind: str) -> None:
    """Also by who has a floating IP, which takes nothing of the segment."""
    for client, server in (("hw1", "hw1b"), ("hw1b", "hw2"), ("hw2", "hw1b")):
        with ready[server].capture("ip") as heard:
            seen = talk(at(ready[client]), at(ready[server]), ready[server].address, kind)
            assert seen == str(ready[client].address)
            came = saw(heard, lambda frame, seen=seen: str(frame.src) == seen)  # type: ignore[misc]
            assert {(frame.eth_src, frame.ttl) for frame in came} == {(ready[client].mac, 64)}


def test_a7_to_a_mac_of_ours_nothing_is_routed(lab: Lab, ready: dict[str, Vm]) -> None:
    vm = ready["hw1"]
    before = drops(vm.node)
    with lab.outside_capture("udp") as outside, ready["per1"].capture("udp") as heard:
        for target in (lab.fabric.far_host, ready["per1"].address, ready["per2"].address):
            send_frames(vm, udp_frame(vm, target), 2)
        wait_dropped(vm.node, before, Rule.DROP_NO_ROUTE, 6)
        assert not outside.seen(lambda frame: frame.dst_port == 9)
        assert not heard.seen(lambda frame: frame.dst_port == 9)


# A8


def test_a8_the_lease_names_no_router(lab: Lab, vms: dict[str, Vm]) -> None:
    for name in ("none1", "none2"):
        vm = vms[name]
        assert "router" not in vm.lease() and vm.lease()["ip"] == str(vm.address)
        assert vm.configured().router is None  # type: ignore[union-attr]
        assert netns.query(vm.namespace, "route", "show", "default") == []


@pytest.mark.parametrize("kind", KINDS)
def test_a8_within_the_segment_all_works(ready: dict[str, Vm], kind: str) -> None:
    for client, server in (("none1", "none2"), ("none2", "none1")):
        assert talk(at(ready[client]), at(ready[server]), ready[server].address, kind) == str(ready[client].address)


def test_a8_whatever_is_sent_to_the_host_to_be_routed_dies(lab: Lab, ready: dict[str, Vm]) -> None:
    """To the gateway's MAC, as a guest could know it from elsewhere; nor does anything find the way in."""
    vm = ready["none1"]
    node = vm.node
    targets = (lab.fabric.far_host, OUTSIDE_ROUTER.ip, ready["per1"].address, ready["per2"].address)
    before = drops(node)
    with ExitStack() as stack:
        watched = [
            stack.enter_context(each)
            for each in (lab.outside_capture("udp"), ready["per1"].capture("udp"), ready["per2"].capture("udp"))
        ]
        own = stack.enter_context(vm.capture("icmp"))
        for target in targets:
            send_frames(vm, udp_frame(vm, target), 2)
        wait_dropped(node, before, Rule.DROP_NO_ROUTE, 2 * len(targets))
        assert not [frame for each in watched for frame in each.seen(lambda frame: frame.dst_port == 9)]
        netns.configure(lab.fabric.outside, f"route replace {vm.address} via {node.snat_address}")
        assert not ready["per1"].ping(vm.address, count=2, wait=0.3).answered
        netns.execute(lab.fabric.far, "ping", "-n", "-c2", "-i0.2", "-W1", str(vm.address), check=False)
        wait_dropped(node, before, Rule.DROP_EXTERNAL, 2)
        assert not ready["none2"].ping(vm.address, count=1).lost
        saw(own, lambda frame: request(frame) and frame.src == ready["none2"].address)
        assert {frame.src for frame in own.seen(request)} == {ready["none2"].address}


def test_a8_nobody_answers_for_a_gateway(ready: dict[str, Vm]) -> None:
    asked = ("10.4.0.1", "10.4.0.2", "10.4.0.254", "10.5.0.2", "10.5.0.3")
    answers = resolve(ready["none1"], *asked, patience=0)
    assert answers["10.4.0.254"] == []
    assert not [mac for macs in answers.values() for mac in macs if mac == ANYCAST_MAC]
