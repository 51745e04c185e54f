"""The life of a port beside live migration: plugged anew, its node gone for good, and back all the same."""

from __future__ import annotations

import signal
import sqlite3
import time
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

import pytest

from agent import plugging
from controller.client import ApiError, Object
from etc.lab import netns
from etc.lab.lab import Lab
from etc.lab.node import Node
from etc.lab.processes import wait_until
from etc.lab.vm import Vm
from flows.rules import Rule, decode_cookie
from tests.netns.cloud import installed, make_network, make_outside, make_vms, reset_address, status, wait_reached, want
from tests.netns.floating import answering, give, mac_of, make_pool
from tests.netns.frames import Tap
from tests.unit.packet_in.wire import ACK, NAK

pytestmark = pytest.mark.root

GATEWAY = "10.40.0.1"
LEASE = 20
"""Seconds, over before their client, udhcpc, thinks of it: it takes anything below two minutes for two minutes."""


@pytest.fixture(scope="module")
def network(lab: Lab) -> Object:
    make_pool(lab, make_outside(lab))
    return make_network(lab, "net", "10.40.0.0/24", segment=140, gateway_mode="shared", gateway=GATEWAY)


@pytest.fixture(scope="module")
def vms(lab: Lab, network: Object) -> dict[str, Vm]:
    return make_vms(lab, want("one", lab.nodes[0], network), want("two", lab.nodes[1], network))


def serves(node: Node, vm: Vm) -> bool:
    return any(decode_cookie(flow.cookie) == (Rule.CLASSIFY_PORT, vm.port["key"]) for flow in installed(node))


def test_plugged_anew_within_a_second(lab: Lab, vms: dict[str, Vm]) -> None:
    """As a machine that is started again: the interface is another one, with another number."""
    one, two = vms["one"], vms["two"]
    before = lab.client.get_port(one.port["id"])["binding"]
    one.stop_client()
    one.unplug()
    one.plug()
    reset_address(one, f"{one.address}/24", GATEWAY)
    wait_reached(one, two.address, 5)
    wait_until(lambda: status(lab, one) == "active", 20, "it is not served")
    after = lab.client.get_port(one.port["id"])["binding"]
    assert after["node"] == before["node"]
    assert lab.client.get_port(one.port["id"])["fixed_ips"] == one.port["fixed_ips"]


def test_the_number_of_its_interface_changes(lab: Lab, vms: dict[str, Vm]) -> None:
    one, two = vms["one"], vms["two"]
    before = lab.client.get_port(one.port["id"])["binding"]
    one.node.ovs.vsctl("set", "Interface", one.device, f"ofport_request={before['ofport'] + 40}")
    wait_until(lambda: lab.client.get_port(one.port["id"])["binding"]["ofport"] == before["ofport"] + 40, 20, "ofport")
    assert lab.client.get_port(one.port["id"])["binding"]["zone"] == before["zone"]
    wait_reached(one, two.address, 5)


def test_the_port_of_a_dead_node_goes_where_an_operator_says(lab: Lab, network: Object, vms: dict[str, Vm]) -> None:
    n1, n3, one, two = lab.nodes[0], lab.nodes[2], vms["one"], vms["two"]
    floating_ip = give(lab, one)
    assert answering(lab, floating_ip["address"]) == [mac_of(lab, n1)]
    # out of everybody's sight: its agent, its controller's connection and its cables
    n1.stop_agent()
    n1.ovs.vsctl("set-controller", "br-int", "tcp:192.0.2.254:6653")
    for physical_network in n1.nics:
        lab.fabric.set_cable(n1.cable(physical_network), up=False)
    port = plugging.PlugPort(one.port["id"], one.mac, 1500, "again")
    namespace = f"{lab.prefix}-again"
    netns.create(namespace)
    with netns.inside(n3.namespace):
        plugging.plug(port, namespace=namespace, guest_ifname="eth0", ovsdb=n3.ovs.database)
    written = lab.client.update_port(one.port["id"], {"node": "n3"})
    assert written.object
    wait_until(lambda: serves(n3, one), 20, "n3 does not serve it")
    netns.configure(
        namespace,
        f"address add {one.address}/24 dev eth0",
        f"route add default via {GATEWAY}",
    )
    again = Vm(namespace, "again", n3, one.port, one.directory)
    wait_reached(again, two.address, 10)
    wait_reached(again, lab.fabric.far_host, 20)
    wait_until(lambda: answering(lab, floating_ip["address"]) == [mac_of(lab, n3)], 20, "n3 does not answer")
    # n1 is back, and its VM still runs
    for physical_network in n1.nics:
        lab.fabric.set_cable(n1.cable(physical_network), up=True)
    n1.restart_agent(lab.control)
    lab.wait_connected()
    wait_until(lambda: not serves(n1, one), 20, "n1 serves it still")
    for _ in range(4):  # over more than a second
        assert answering(lab, floating_ip["address"]) == [mac_of(lab, n3)]
    assert not one.ping(two.address, count=2, wait=0.3).answered
    assert again.ping(two.address, count=3).lost == 0
    found: Any = lab.client.get_port(one.port["id"])
    assert (found["binding"]["node"], found["status"]) == ("n3", "active")
    netns.delete(namespace)


# K8: away for longer than its lease


def lease_end(lab: Lab, vm: Vm) -> float:
    """As it is written down, in seconds since the epoch."""
    with sqlite3.connect(f"file:{lab.control.directory}/trunkline.db?mode=ro", uri=True) as database:
        rows = database.execute("select expires_at from leases where port_id = ?", (vm.port["id"],)).fetchall()
    return float(rows[0][0]) if rows else float("inf")


def test_a_vm_that_is_away_for_longer_than_its_lease_keeps_its_address(lab: Lab) -> None:
    """One as if it were paused, one without its client. Their network has no other address to give, and gives none."""
    two = [{"first": "10.41.0.20", "last": "10.41.0.21"}]
    subnets = [{"cidr": "10.41.0.0/24", "gateway": "10.41.0.1", "allocation_ranges": two}]
    fields = {"segment": 141, "gateway_mode": "shared", "lease_time": LEASE, "subnets": subnets}
    network = make_network(lab, "brief", "10.41.0.0/24", **fields)
    vms = make_vms(lab, want("paused", lab.nodes[0], network), want("killed", lab.nodes[1], network))
    paused, killed = vms.values()
    before = {vm.name: lab.client.get_port(vm.port["id"]) for vm in vms.values()}
    with ExitStack() as stack:
        taps = {name: stack.enter_context(closing(Tap(vm.namespace, outgoing=True))) for name, vm in vms.items()}
        assert paused.client and killed.client
        paused.client.signal(signal.SIGSTOP)
        stack.callback(paused.client.signal, signal.SIGCONT)
        killed.client.kill()
        for vm in vms.values():
            wait_until(lambda vm=vm: time.time() > lease_end(lab, vm), LEASE + 5, "the lease does not end")
        for wanted, code in (
            ({"fixed_ips": [{"address": str(paused.address)}]}, "address_in_use"),
            ({}, "subnet_full"),
        ):
            with pytest.raises(ApiError) as refused:
                lab.client.create_port({"network_id": network["id"], "project_id": "blue", **wanted})
            assert (refused.value.status, refused.value.code) == (409, code)
        assert {vm.name: lab.client.get_port(vm.port["id"]) for vm in vms.values()} == before
        assert not paused.ping(killed.address).lost and not killed.ping(paused.address).lost
        assert not any(tap.asked() for tap in taps.values()), "they are not away"
        paused.client.signal(signal.SIGCONT)
        paused.renew()
        killed.start_client()
        for name, tap in taps.items():
            acks = partial(lambda tap: [reply for reply in tap.dhcp() if reply.type == ACK], tap)
            assert wait_until(acks, 20, f"{name} has no answer")[0].yiaddr == vms[name].address
            assert NAK not in {reply.type for reply in tap.dhcp()}
            wait_until(lambda name=name: time.time() < lease_end(lab, vms[name]), 20, "it is not written down")
            assert vms[name].wait_configured().address.ip == vms[name].address
    for vm in vms.values():
        lab.delete_vm(vm)
