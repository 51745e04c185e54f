"""Flat networks, networks that projects are given by their first machine, and what nodes have of them, in one cloud."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing
from functools import partial

import pytest

from controller.client import ApiError, Object
from etc.lab import netns
from etc.lab.capture import ETHERTYPE_IPV4, Capture
from etc.lab.fabric import QUIET
from etc.lab.lab import Lab
from etc.lab.node import Node
from etc.lab.processes import in_parallel, wait_until
from etc.lab.vm import Vm
from flows.rules import decode_cookie
from tests.netns.cloud import (
    echo,
    gateway_of,
    installed,
    make_network,
    make_outside,
    make_vms,
    metric,
    program,
    request,
    resolve,
    saw,
    status,
    udp,
    unbroken,
    wait_outside,
    wait_reached,
    want,
)
from tests.netns.frames import Tap, client_message, sound
from tests.netns.test_faults import vanished
from tests.unit.packet_in.wire import ACK, DISCOVER

pytestmark = pytest.mark.root

POOL = {
    "kind": "vlan",
    "physical_network": "physnet1",
    "subnets": [{"cidr": "10.64.0.0/16"}],
    "network_size": 16,
    "assignable": True,
}
FLOATING = "203.0.113.200-203.0.113.209"
EXISTING = 100
"""Networks, of which a node has ports on few."""
GONE = 30
"""Seconds until nothing of a network is left on a node without ports on it."""


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(
        nodes=2,
        physical_networks=("physnet1", "physnet2", "physnet3", "physnet-ext"),
        control_options={"gateway": {"release_delay": 1}},
    )


def boot(lab: Lab, node: Node, project: str, name: str) -> list[Vm]:
    """The interfaces of a machine that names no network, each in a namespace of its own, with their leases."""
    client = lab.client
    ports, _ = client.create_device_ports({"device_id": name, "name": name, "project_id": project})
    made = []
    for port in ports:
        namespace = f"{lab.prefix}-{port['name']}"
        netns.create(namespace)
        netns.set_sysctl(namespace, QUIET)
        vm = lab.plug(str(port["name"]), node, port)
        vm.start_client()
        made.append(vm)
    for vm in made:
        vm.wait_configured()
    wait_until(lambda: all(status(lab, vm) == "active" for vm in made), 20, "VMs are not served")
    return made


def network_of(lab: Lab, vm: Vm) -> Object:
    return lab.client.get_network(vm.port["network_id"])


def cable(lab: Lab, node: Node, physical_network: str = "physnet1") -> Capture:
    return Capture(lab.fabric.rack, node.cable(physical_network), "", lab.directory / "rack")


@pytest.fixture(scope="module")
def flats(lab: Lab) -> dict[str, list[Vm]]:
    """Two shared flat networks, and a machine of each of two projects, before there is anything else."""
    make_outside(lab)
    for number in (1, 2):
        cidr, place = f"10.{number}.0.0/24", f"physnet{number}"
        make_network(lab, f"flat{number}", cidr, project_id=None, shared=True, physical_network=place)
    made = {"a": boot(lab, lab.nodes[0], "a", "a1"), "b": boot(lab, lab.nodes[1], "b", "b1")}
    wait_outside(lab, *(vm for vms in made.values() for vm in vms))
    return made


@pytest.fixture(scope="module")
def pool(lab: Lab, flats: dict[str, list[Vm]]) -> list[Object]:
    """Three free networks."""
    made, _ = lab.client.create_networks(POOL | {"name": "pool", "count": 3})
    return made


@pytest.fixture(scope="module")
def tenants(lab: Lab, pool: list[Object]) -> dict[str, list[Vm]]:
    """Three projects, each with its first machine on n1 and its second on n2."""
    return {
        project: [boot(lab, node, project, f"{project}{node.name}")[0] for node in lab.nodes]
        for project in ("p1", "p2", "p3")
    }


# -- flat


def test_a2_two_projects_share_a_flat_network(lab: Lab, flats: dict[str, list[Vm]], controller: str) -> None:
    a, b = flats["a"], flats["b"]
    for index in (0, 1):
        mine, theirs = a[index], b[index]
        assert mine.address != theirs.address
        assert [vm.configured().address.ip for vm in (mine, theirs)] == [mine.address, theirs.address]  # type: ignore[union-attr]
        for vm in (mine, theirs):
            assert not vm.ping(vm.configured().router).lost  # type: ignore[union-attr]
        assert not mine.ping(theirs.address).lost and not theirs.ping(mine.address).lost
    for vm in (a[0], b[0]):
        with lab.outside_capture("icmp") as outside:
            assert not vm.ping(lab.fabric.far_host).lost
            assert {frame.src for frame in saw(outside, request)} == {vm.node.snat_address}


def test_a2_the_interfaces_of_a_machine_are_in_the_order_of_the_networks(lab: Lab, flats: dict[str, list[Vm]]) -> None:
    for project, vms in flats.items():
        assert [network_of(lab, vm)["name"] for vm in vms] == ["flat1", "flat2"]
        assert {vm.port["project_id"] for vm in vms} == {project}
        assert [vm.port["name"] for vm in vms] == [f"{project}1", f"{project}1-2"]


def test_a1_a_flat_network_without_dhcp_is_a_wire_and_a_list_of_addresses(lab: Lab) -> None:
    subnets = [{"cidr": "10.3.0.0/30"}]
    fields = {"physical_network": "physnet3", "dhcp": False, "gateway_mode": "none", "subnets": subnets}
    network = make_network(lab, "wire", "", **fields)
    wanted = [want(f"static{number}", node, network) for number, node in enumerate(lab.nodes)]
    vms = list(make_vms(lab, *wanted, client=None).values())
    for vm in vms:
        vm.set_address(f"{vm.address}/30")
    here, there = vms
    wait_reached(here, there.address)
    with closing(Tap(here.namespace)) as tap:
        for number in range(3):
            tap.send(sound(client_message(here, DISCOVER, xid=number).frame()))
        with udp(here.namespace, here.address) as sock:
            sock.sendto(b"who is www?", (str(there.address), 53))
        assert not here.ping(there.address).lost
        # nothing but what the other machine itself says
        assert {frame[6:12].hex(":") for frame in tap.frames()} == {there.mac}
        assert not tap.dhcp()
    before = {vm.address for vm in vms}
    with pytest.raises(ApiError) as full:
        lab.client.create_port({"network_id": network["id"]})
    assert full.value.code == "subnet_full"
    lab.delete_vm(here)
    again = lab.client.create_port({"network_id": network["id"]}).object
    assert again and again["fixed_ips"][0]["address"] == str(here.address) and here.address in before
    lab.client.delete_port(str(again["id"]))
    lab.delete_vm(there)
    lab.client.delete_network(network["id"])


# -- VLAN


def test_a3_three_projects_have_three_tags_on_the_wire(
    lab: Lab, tenants: dict[str, list[Vm]], pool: list[Object], controller: str
) -> None:
    tags = {}
    for project, (here, there) in tenants.items():
        with cable(lab, lab.nodes[0]) as wire:
            assert not here.ping(there.address).lost
            macs = (here.mac, there.mac)
            frames = saw(wire, lambda frame, macs=macs: echo(frame) and frame.eth_src in macs, 6)  # type: ignore[misc]
            (tags[project],) = {frame.vlan for frame in frames}
    assert sorted(tags.values()) == [network["segment"] for network in pool]  # type: ignore[type-var]


def test_a3_a_project_is_not_heard_by_another(lab: Lab, tenants: dict[str, list[Vm]], controller: str) -> None:
    mine, theirs = tenants["p1"][0], tenants["p2"]
    with theirs[0].capture("") as same_node, theirs[1].capture("") as other_node:
        for vm in theirs:
            assert resolve(mine, vm.address, patience=0) == {str(vm.address): []}
            assert not mine.ping(vm.address, count=1, wait=0.3).answered
        assert not theirs[0].ping(theirs[1].address).lost
        for heard in (same_node, other_node):
            saw(heard, echo)
            assert not heard.seen(lambda frame: mine.mac in (frame.eth_src, frame.eth_dst) or frame.src == mine.address)


def test_a3_without_a_free_network_a_first_machine_leaves_nothing(lab: Lab, tenants: dict[str, list[Vm]]) -> None:
    client = lab.client
    before = [client.list_networks(), client.list_ports(), client.list_security_groups()]
    programs = [program(node) for node in lab.nodes]
    with pytest.raises(ApiError) as refused:
        client.create_device_ports({"device_id": "p4", "project_id": "p4"})
    assert (refused.value.status, refused.value.code) == (409, "no_free_network")
    assert [client.list_networks(), client.list_ports(), client.list_security_groups()] == before
    assert [program(node) for node in lab.nodes] == programs


def test_a3_first_machines_at_once_are_on_one_network(lab: Lab, tenants: dict[str, list[Vm]]) -> None:
    spare, _ = lab.client.create_networks(POOL | {"name": "spare", "count": 2})
    got: dict[str, Vm] = {}

    def first(node: Node) -> None:
        (got[node.name],) = boot(lab, node, "p5", f"p5{node.name}")

    in_parallel(partial(first, node) for node in lab.nodes)
    one, other = got.values()
    assert one.port["network_id"] == other.port["network_id"] == spare[0]["id"]
    assert lab.client.get_network(str(spare[1]["id"]))["project_id"] is None
    assert not one.ping(other.address).lost
    for vm in (one, other):
        lab.delete_vm(vm)
    lab.client.scrub_project("p5")
    for network in spare:
        lab.client.delete_network(str(network["id"]))


def test_b9_one_more_network_is_for_machines_to_come(lab: Lab, tenants: dict[str, list[Vm]]) -> None:
    old = tenants["p3"][0]
    before = lab.client.get_port(old.port["id"])
    made, _ = lab.client.create_networks(POOL | {"name": "second", "count": 1})
    lab.client.associate_free_network("p3")
    new = boot(lab, lab.nodes[1], "p3", "later")
    assert lab.client.get_port(old.port["id"]) == before
    assert [vm.port["network_id"] for vm in new] == [old.port["network_id"], made[0]["id"]]
    peer = make_vms(lab, want("peer", lab.nodes[0], made[0], project_id="p3"))["peer"]
    with cable(lab, lab.nodes[1]) as wire:
        assert not new[0].ping(old.address).lost and not new[1].ping(peer.address).lost
        tags = {
            vm.name: {
                frame.vlan for frame in saw(wire, lambda frame, vm=vm: request(frame) and frame.eth_src == vm.mac)
            }  # type: ignore[misc]
            for vm in new
        }
    assert tags == {vm.name: {network_of(lab, vm)["segment"]} for vm in new}
    for vm in (*new, peer):
        lab.delete_vm(vm)
    lab.client.disassociate_network(str(made[0]["id"]))
    lab.client.delete_network(str(made[0]["id"]))


def test_b7_a_network_is_deleted_when_nobody_has_it(lab: Lab, tenants: dict[str, list[Vm]]) -> None:
    client = lab.client
    (network,), _ = client.create_networks(POOL | {"name": "brief", "count": 1})
    id_, key = str(network["id"]), int(network["key"])
    (vm,) = boot(lab, lab.nodes[0], "p6", "p6")
    assert vm.port["network_id"] == id_
    before, programs = client.get_network(id_), [program(node) for node in lab.nodes]
    for attempt, code in (
        (client.delete_network, "network_has_project"),
        (client.disassociate_network, "network_in_use"),
    ):
        with pytest.raises(ApiError) as refused:
            attempt(id_)
        assert (refused.value.status, refused.value.code) == (409, code)
    assert client.get_network(id_) == before and [program(node) for node in lab.nodes] == programs
    lab.delete_vm(vm)
    assert client.disassociate_network(id_).object
    lab.confirm(client.delete_network(id_).revision)
    assert all(key not in network_keys(node) for node in lab.nodes)
    subnets = [{"cidr": network["subnets"][0]["cidr"]}]
    again = make_network(lab, "again", "", segment=network["segment"], subnets=subnets)
    client.delete_network(str(again["id"]))


# -- a node that is dead


def test_a4_a_dead_node_is_missed_by_its_own_vms_alone(lab: Lab, tenants: dict[str, list[Vm]]) -> None:
    client, (n1, n2) = lab.client, lab.nodes
    plain, led, neighbour = tenants["p1"][1], tenants["p2"][1], tenants["p2"][0]
    (outside,) = client.list_networks(name="outside")
    client.create_floating_ip_pool({"name": "public", "network_id": outside["id"], "ranges": [FLOATING]})
    floating_ip = client.create_floating_ip({"pool": "public", "port_id": led.port["id"]}).object
    assert floating_ip
    address = str(floating_ip["address"])
    wait_outside(lab, plain, led)

    def served() -> None:
        """By DHCP, NAT and a floating IP."""
        with closing(Tap(plain.namespace)) as tap:
            plain.renew()
            wait_until(lambda: [reply for reply in tap.dhcp() if reply.type == ACK], 20, "the lease is not renewed")
        assert not plain.ping(lab.fabric.far_host).lost
        assert not plain.ping(plain.configured().router).lost  # type: ignore[union-attr]
        told = netns.execute(lab.fabric.far, "ping", "-n", "-c3", "-i0.2", "-W1", address, check=False)
        assert "3 received" in told, told

    theirs = {str(plain.address), str(led.address), str(n2.snat_address), address}
    with cable(lab, n1) as inside, cable(lab, n1, lab.fabric.external) as outer:
        served()
        assert not neighbour.ping(lab.fabric.far_host).lost  # what n1 sends is seen
        saw(outer, request)
        for wire in (inside, outer):
            assert not wire.seen(lambda frame: frame.ethertype == ETHERTYPE_IPV4 and str(frame.src) in theirs)
            assert not wire.seen(lambda frame: frame.ethertype == ETHERTYPE_IPV4 and str(frame.dst) in theirs)
            assert not wire.seen(lambda frame: {frame.src_port, frame.dst_port} & {67, 68})
    with vanished(lab, n1), unbroken((plain, lab.fabric.far_host)):
        served()
    lab.wait_connected()
    wait_reached(neighbour, led.address, 30)
    client.delete_floating_ip(str(floating_ip["id"]))


# -- sizes


def test_a10_the_mtu_of_a_network_is_handed_out_and_its_gateway_keeps_to_it(lab: Lab, pool: list[Object]) -> None:
    network = make_network(lab, "small", "10.91.0.0/24", segment=901, mtu=1400)
    vm = make_vms(lab, want("small", lab.nodes[0], network))["small"]
    assert vm.configured().mtu == 1400  # type: ignore[union-attr]
    assert vm.lease()["mtu"] == "1400"  # option 26
    # a guest that pays no heed to it
    netns.configure(vm.namespace, "link set eth0 mtu 1500")
    router = str(vm.configured().router)  # type: ignore[union-attr]

    def ping(size: int, fragment: str) -> str:
        """A datagram of `size` bytes."""
        return vm.execute("ping", "-n", "-c1", "-W2", f"-M{fragment}", f"-s{size - 28}", router, check=False)

    assert "1 received" in ping(1400, "do")
    assert f"From {router} icmp_seq=1 Frag needed and DF set (mtu = 1400)" in ping(1401, "do")
    with vm.capture(f"icmp and src host {router}") as heard:
        assert "1 received" in ping(1401, "dont")
        assert max(frame.length for frame in saw(heard, lambda frame: frame.src is not None, 2)) <= 1414
    lab.delete_vm(vm)


# -- what a node has of them


def network_keys(node: Node) -> set[int]:
    """The networks that a node has flows of."""
    named = [decode_cookie(flow.cookie) for flow in installed(node)]
    return {rule[1] for rule in named if rule and rule[0].value.about == "network"}


def tags_of(node: Node) -> set[int]:
    """The VLANs that a node takes frames of."""
    return {int(tag) for flow in installed(node) for tag in re.findall(r"\bdl_vlan=(\d+)", flow.match)}


def test_a6_a_node_has_state_of_the_networks_that_it_has_ports_on(lab: Lab, tenants: dict[str, list[Vm]]) -> None:
    n1 = lab.nodes[0]
    many, _ = lab.client.create_networks(
        POOL | {"name": "many", "count": EXISTING, "subnets": [{"cidr": "10.80.0.0/16"}]}
    )
    two = [boot(lab, n1, project, project)[0] for project in ("m1", "m2")]
    assert [vm.port["network_id"] for vm in two] == [many[0]["id"], many[1]["id"]]
    networks = {network["id"]: network for network in lab.client.list_networks()}
    assert len(networks) > EXISTING
    here = {
        port["network_id"] for port in lab.client.list_ports() if (port.get("binding") or {}).get("node") == n1.name
    }
    external = {network["key"] for network in networks.values() if network["external"]}
    assert network_keys(n1) == {networks[id_]["key"] for id_ in here} | external
    assert network_keys(lab.nodes[1]).isdisjoint({many[0]["key"], many[1]["key"]})
    tags = {networks[id_]["segment"] for id_ in here} - {None}
    assert tags_of(n1) == tags >= {many[0]["segment"], many[1]["segment"]}
    # the node starts again: what it had comes back, whether its VMs do anything or not
    before, sessions = sorted(program(n1)), metric(lab, "trunkline_sessions_total", '"n1"')
    n1.ovs.restart_switch(kill=True)
    wait_until(lambda: metric(lab, "trunkline_sessions_total", '"n1"') > sessions, 20, "it has not connected again")
    wait_until(lambda: sorted(program(n1)) == before, 30, "its flows are not back")
    wait_reached(two[0], two[0].configured().router)  # type: ignore[union-attr]
    for vm in two:
        lab.delete_vm(vm)
    for project in ("m1", "m2"):
        lab.client.scrub_project(project)
    for network in many:
        lab.client.delete_network(str(network["id"]))


def test_a13_with_its_last_port_a_network_leaves_the_node(lab: Lab, tenants: dict[str, list[Vm]]) -> None:
    n1 = lab.nodes[0]
    before = sorted(program(n1))
    network = make_network(lab, "last", "10.90.0.0/29", segment=900)
    vm = make_vms(lab, want("last", n1, network))["last"]
    held = gateway_of(lab, n1, network)
    assert held and network["key"] in network_keys(n1) and 900 in tags_of(n1)
    lab.delete_vm(vm)
    wait_until(lambda: gateway_of(lab, n1, network) is None, GONE, "the gateway's address is not given back")
    wait_until(lambda: network["key"] not in network_keys(n1) and 900 not in tags_of(n1), GONE, "flows are left")
    wait_until(lambda: sorted(program(n1)) == before, GONE, "something is left")
    wanted = {"network_id": network["id"], "project_id": "blue", "fixed_ips": [{"address": held}]}
    taken = lab.client.create_port(wanted).object
    assert taken and taken["fixed_ips"][0]["address"] == held
    lab.client.delete_port(str(taken["id"]))
    again = make_vms(lab, want("again", n1, network))["again"]
    assert network["key"] in network_keys(n1)
    assert not again.ping(again.configured().router).lost  # type: ignore[union-attr]
    lab.delete_vm(again)
