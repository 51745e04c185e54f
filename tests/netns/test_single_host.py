"""Gateway mode `single`: one node is the way out, and another takes over when it is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from controller.client import Object
from etc.lab import netns, probes
from etc.lab.fabric import QUIET
from etc.lab.lab import Lab
from etc.lab.node import Node
from etc.lab.processes import CommandFailed, wait_until
from etc.lab.vm import Vm
from flows.rules import Rule, cookie
from tests.netns.cloud import (
    ANYCAST_MAC,
    make_network,
    make_outside,
    make_vms,
    program,
    request,
    resolve,
    saw,
    unbroken,
    wait_outside,
    wait_reached,
    want,
    who_has,
)
from tests.netns.floating import put_controller
from tests.netns.test_faults import set_management, vanished

pytestmark = pytest.mark.root

TAKE_OVER = 5.0
"""Seconds from the loss of a node to the first answer by another."""

GATEWAY = "10.7.0.1"
MACHINE = "10.7.0.200"
BOOTS = 20


@pytest.fixture(scope="module")
def network(lab: Lab) -> Object:
    """Untagged, so that a machine on its segment needs nothing of ours."""
    make_outside(lab)
    ranges = [{"first": "10.7.0.2", "last": "10.7.0.150"}]
    subnets = [{"cidr": "10.7.0.0/24", "allocation_ranges": ranges}]
    return make_network(lab, "one", "", gateway_mode="single", subnets=subnets)


@pytest.fixture(scope="module")
def vms(lab: Lab, network: Object) -> dict[str, Vm]:
    vms = make_vms(lab, *(want(f"v{number}", node, network) for number, node in enumerate(lab.nodes, 1)))
    wait_outside(lab, *vms.values())
    return vms


@pytest.fixture(scope="module")
def machine(lab: Lab, vms: dict[str, Vm]) -> str:
    """A machine on the segment that is not ours, whose gateway is the network's. Its namespace."""
    namespace = f"{lab.prefix}-machine"
    netns.create(namespace)
    netns.set_sysctl(namespace, QUIET)
    lab.fabric.connect(namespace, "eth0", "physnet1", "machine")
    netns.configure(namespace, f"address add {MACHINE}/24 dev eth0", f"route add default via {GATEWAY}")
    return namespace


def gateway_node(lab: Lab, network: Object) -> Node:
    return lab.node(lab.client.get_network(network["id"])["gateway_node"])


def pin(lab: Lab, network: Object, node: str | None) -> None:
    lab.confirm(lab.client.update_network(network["id"], {"gateway_node": node}).revision)


def serving(lab: Lab, network: Object) -> list[str]:
    """The nodes that hold what only a way out has."""
    own = f"cookie={cookie(Rule.GATEWAY_NODE_ARP, network['key']):#x}/-1"
    return [node.name for node in lab.nodes if "n_packets" in node.ovs.ofctl("dump-flows", "br-int", own)]


def back(lab: Lab, node: Node) -> None:
    """Wait until a node that was lost has its flows again: until its old session is known to be over, it seems live."""

    def has_its_flows() -> bool:
        try:
            return len(program(node)) == lab.client.get_node(node.name)["flows"] + 1  # and the stamp
        except CommandFailed:  # its Open vSwitch is on its way up
            return False

    wait_until(has_its_flows, 40, f"{node.name} is not back")
    lab.wait_connected()


def sources(lab: Lab, *vms: Vm) -> set[str]:
    """From which addresses the outside sees the VMs' pings."""
    with lab.outside_capture("icmp") as outside:
        for vm in vms:
            assert not vm.ping(lab.fabric.far_host, count=2).lost
        return {str(frame.src) for frame in saw(outside, request, 2 * len(vms))}


def pinged(namespace: str, address: object) -> bool:
    return probes.ping(probes.into(namespace), address, count=1, wait=0.3).answered


def test_a5_twenty_boots_at_once_elect_one_node(lab: Lab, network: Object) -> None:
    before = lab.client.get_network(network["id"])
    assert (before["gateway_node"], before["gateway_node_pinned"], before["problems"]) == (None, False, [])
    assert serving(lab, network) == []
    wanted = [want(f"boot{number}", lab.nodes[number % 3], network) for number in range(BOOTS)]
    vms = make_vms(lab, *wanted)
    elected = gateway_node(lab, network)
    assert serving(lab, network) == [elected.name]
    for vm in list(vms.values())[2:]:
        lab.delete_vm(vm)
    for vm in list(vms.values())[:2]:
        wait_outside(lab, vm)
        lab.delete_vm(vm)
    assert gateway_node(lab, network).name == elected.name


@pytest.mark.parametrize("state", ["running", "stopped", "restarted"])
def test_e2_all_leave_by_one_node_alone(lab: Lab, network: Object, vms: dict[str, Vm], state: str) -> None:
    (name,) = serving(lab, network)
    node = lab.node(name)
    put_controller(lab, state)
    assert sources(lab, *vms.values()) == {str(node.snat_address)}
    for vm in vms.values():
        assert str(vm.configured().router) == GATEWAY  # type: ignore[union-attr]
        assert resolve(vm, GATEWAY) == {GATEWAY: [ANYCAST_MAC]}
        assert not vm.ping(GATEWAY).lost
    assert serving(lab, network) == [name]


def test_neither_controller_nor_agent_nor_another_node_moves_it(lab: Lab, network: Object, vms: dict[str, Vm]) -> None:
    node = gateway_node(lab, network)
    other = next(one for one in lab.nodes if one is not node)
    away = next(vm for vm in vms.values() if vm.node not in (node, other))
    revision = lab.client.get_network(network["id"])["revision"]
    with unbroken((away, lab.fabric.far_host)):
        lab.control.restart(kill=True)
        lab.wait_connected()
        node.restart_agent(lab.control, kill=True)
        with vanished(lab, other):
            wait_until(lambda: lab.client.get_node(other.name)["state"] == "disconnected", 30, "it is known to be away")
        back(lab, other)
    assert lab.client.get_network(network["id"])["revision"] == revision
    wait_outside(lab, *vms.values())


def test_a_machine_on_the_segment_leaves_by_it_too(lab: Lab, network: Object, vms: dict[str, Vm], machine: str) -> None:
    node = gateway_node(lab, network)
    mac = netns.query(machine, "link", "show", "dev", "eth0")[0]["address"]
    key = lab.client.get_node(node.name)["key"]
    assert who_has(machine, "eth0", mac, MACHINE, GATEWAY) == {GATEWAY: [f"02:54:4c:03:00:{key:02x}"]}
    assert pinged(machine, GATEWAY)
    with lab.outside_capture("icmp") as outside:
        wait_until(lambda: pinged(machine, lab.fabric.far_host), 20, "the machine does not get out")
        assert {str(frame.src) for frame in saw(outside, request)} == {str(node.snat_address)}


@contextmanager
def taken_over(lab: Lab, network: Object, vms: dict[str, Vm]) -> Iterator[Node]:
    """The gateway node is lost, and VMs elsewhere are served again in time."""
    lost = gateway_node(lab, network)
    others = [vm for vm in vms.values() if vm.node is not lost]
    with vanished(lab, lost):
        began = time.monotonic()
        for vm in others:
            left = max(TAKE_OVER - (time.monotonic() - began), 0.0)
            wait_reached(vm, lab.fabric.far_host, left)
        print(f"figure take_over_s {time.monotonic() - began:.1f} s")
        new = gateway_node(lab, network)
        assert new is not lost
        assert sources(lab, *others) == {str(new.snat_address)}
        yield new


def test_a12_another_takes_over_in_time_and_the_lost_one_serves_no_more(
    lab: Lab, network: Object, vms: dict[str, Vm], machine: str
) -> None:
    lost = gateway_node(lab, network)
    with taken_over(lab, network, vms) as new:
        wait_until(lambda: pinged(machine, lab.fabric.far_host), 20, "the machine has not heard of it")
    back(lab, lost)
    wait_until(lambda: serving(lab, network) == [new.name], 20, lambda: f"served by {serving(lab, network)}")
    mac = netns.query(machine, "link", "show", "dev", "eth0")[0]["address"]
    key = lab.client.get_node(new.name)["key"]
    assert who_has(machine, "eth0", mac, MACHINE, GATEWAY) == {GATEWAY: [f"02:54:4c:03:00:{key:02x}"]}
    wait_outside(lab, *vms.values())
    assert sources(lab, *vms.values()) == {str(new.snat_address)}
    assert gateway_node(lab, network) is new and new is not lost


def test_one_that_hears_no_controller_is_sent_nothing_any_more(lab: Lab, network: Object, vms: dict[str, Vm]) -> None:
    """It is on the wire all the time and does not know better: only its own VMs leave by it."""
    old = gateway_node(lab, network)
    own = next(vm for vm in vms.values() if vm.node is old)
    others = [vm for vm in vms.values() if vm is not own]
    set_management(lab, old, "down")
    try:
        wait_until(lambda: gateway_node(lab, network) is not old, TAKE_OVER, "nobody takes over")
        new = gateway_node(lab, network)
        wait_outside(lab, *others)
        assert sources(lab, *others) == {str(new.snat_address)}
        assert sources(lab, own) == {str(old.snat_address)}
    finally:
        set_management(lab, old, "up")
    wait_until(lambda: serving(lab, network) == [new.name], 40, "it has not heard of it")
    wait_outside(lab, *vms.values())
    assert sources(lab, *vms.values()) == {str(new.snat_address)}


def test_one_whose_open_vswitch_is_dead_is_lost_too(lab: Lab, network: Object, vms: dict[str, Vm]) -> None:
    lost = gateway_node(lab, network)
    others = [vm for vm in vms.values() if vm.node is not lost]
    assert lost.ovs.switch
    lost.ovs.switch.kill()
    began = time.monotonic()
    try:
        for vm in others:
            wait_reached(vm, lab.fabric.far_host, max(TAKE_OVER - (time.monotonic() - began), 0.0))
        print(f"figure take_over_of_switch_s {time.monotonic() - began:.1f} s")
        # the kernel goes on forwarding by the flows it has
        wait_until(lambda: gateway_node(lab, network) is not lost, TAKE_OVER, "nobody takes over")
    finally:
        lost.ovs.restart_switch(kill=True)
    back(lab, lost)
    wait_outside(lab, *vms.values())


def test_b8_what_is_pinned_stays_until_it_is_told_otherwise(lab: Lab, network: Object, vms: dict[str, Vm]) -> None:
    old = gateway_node(lab, network)
    chosen = next(node for node in lab.nodes if node is not old)
    pin(lab, network, chosen.name)
    now = lab.client.get_network(network["id"])
    assert (now["gateway_node"], now["gateway_node_pinned"]) == (chosen.name, True)
    wait_outside(lab, *vms.values())
    assert sources(lab, *vms.values()) == {str(chosen.snat_address)}
    away = [vm for vm in vms.values() if vm.node is not chosen]
    with vanished(lab, chosen):
        wait_until(lambda: lab.client.get_network(network["id"])["problems"], 30, "nobody says that it is away")
        assert gateway_node(lab, network) is chosen
        assert not away[0].ping(lab.fabric.far_host, count=1, wait=0.3).answered
        lab.client.update_network(network["id"], {"gateway_node": None})
        for vm in away:
            wait_reached(vm, lab.fabric.far_host, TAKE_OVER)
        assert gateway_node(lab, network) is not chosen
        assert not lab.client.get_network(network["id"])["problems"]
    back(lab, chosen)
    wait_outside(lab, *vms.values())


def test_a_stopped_controller_is_not_missed(lab: Lab, network: Object, vms: dict[str, Vm]) -> None:
    """What neither speaks nor is spoken to for longer than addresses are learned is found again."""
    put_controller(lab, "stopped")
    with unbroken(*((vm, lab.fabric.far_host) for vm in vms.values())):
        pass
    put_controller(lab, "restarted")
