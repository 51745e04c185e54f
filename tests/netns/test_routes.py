"""Routing between networks on real Open vSwitch: by project, by an administrator's word, and by static routes.

What a data plane must do by itself is tried with the controller running, stopped and restarted.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address

import pytest

from controller.client import Object
from etc.lab import netns
from etc.lab.capture import Capture, Seen
from etc.lab.fabric import QUIET
from etc.lab.lab import Lab
from etc.lab.node import Node
from etc.lab.vm import Vm
from flows.pipeline import ROUTED_GROUP_MAC, Table
from flows.rules import Rule
from tests.netns.cloud import (
    ANYCAST_MAC,
    arp_frame,
    drops,
    echo,
    make_network,
    make_outside,
    make_vms,
    program,
    request,
    resolve,
    saw,
    send_frames,
    udp,
    udp_frame,
    wait_dropped,
    wait_outside,
    wait_reached,
    want,
)
from tests.netns.floating import Place, at, far, give, mac_of, make_pool, talk, wait_talk

pytestmark = pytest.mark.root

KINDS = ("tcp", "udp", "icmp", "fragments")
GROUP = ROUTED_GROUP_MAC.to_bytes(6).hex(":")
BEHIND_RANGE = "10.99.0.0/16"
BEHIND = IPv4Address("10.99.1.2")
VLANS = {"a": 120, "b": 121, "alone": 122, "red": 130}
LARGE = 65000 - 28


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=2, projects=("blue", "red"))


@pytest.fixture(scope="module")
def networks(lab: Lab) -> dict[str, Object]:
    """`a` and `b` are of one project, and so is `alone`, which is routed with neither; `red` is of another."""
    make_pool(lab, make_outside(lab))
    made = {
        "a": make_network(lab, "a", "10.20.0.0/24", segment=VLANS["a"]),
        "b": make_network(lab, "b", "10.21.0.0/24", "10.21.0.254", segment=VLANS["b"], gateway_mode="shared"),
        "alone": make_network(lab, "alone", "10.22.0.0/24", segment=VLANS["alone"], router="isolated"),
    }
    of_red = {"project_id": "red", "router": made["a"]["id"]}
    made["red"] = make_network(lab, "red", "10.30.0.0/24", segment=VLANS["red"], **of_red)
    return made


@pytest.fixture(scope="module")
def vms(lab: Lab, networks: dict[str, Object]) -> dict[str, Vm]:
    """In the name are network and node. `gate` is a router of the project's, with 10.99.0.0/16 behind it."""
    wanted = [
        want(f"{name}{number}", node, network)
        for name, network in networks.items()
        for number, node in enumerate(lab.nodes, 1)
    ]
    vms = make_vms(lab, *wanted, want("gate", lab.nodes[0], networks["a"]))
    put_behind(lab, vms["gate"])
    route = {"destination": BEHIND_RANGE, "next_hop": str(vms["gate"].address)}
    lab.confirm(lab.client.update_network(networks["a"]["id"], {"routes": [route]}).revision)
    wait_outside(lab, *vms.values())
    return vms


def put_behind(lab: Lab, vm: Vm) -> None:
    """A namespace behind a VM that forwards."""
    namespace = f"{lab.prefix}-behind"
    netns.create(namespace)
    for each in (namespace, vm.namespace):
        netns.set_sysctl(each, {**QUIET, "ipv4/ip_forward": 1})
    netns.veth(vm.namespace, "eth1", namespace, "eth0")
    netns.configure(vm.namespace, "address add 10.99.1.1/24 dev eth1")
    netns.configure(namespace, f"address add {BEHIND}/24 dev eth0", "route add default via 10.99.1.1")


@pytest.fixture(scope="module")
def behind(lab: Lab, vms: dict[str, Vm]) -> Place:
    return Place(f"{lab.prefix}-behind", BEHIND)


@pytest.fixture(scope="module")
def floating(lab: Lab, vms: dict[str, Vm]) -> dict[str, str]:
    return {name: str(give(lab, vms[name])["address"]) for name in ("alone1", "b2")}


@pytest.fixture(scope="module")
def macs(lab: Lab, vms: dict[str, Vm]) -> dict[str, str]:
    """Each node's MAC on the wire, also while nobody can be asked. That by which it teaches has the same last bytes."""
    return {node.name: mac_of(lab, node) for node in lab.nodes}


@pytest.fixture(scope="module")
def ready(vms: dict[str, Vm], floating: dict[str, str], macs: object, controller: str) -> dict[str, Vm]:
    """The VMs, when all is set up, in each state of the controller."""
    return vms


def cable(lab: Lab, node: Node) -> Capture:
    """What is on a node's cable to the rack switch."""
    return Capture(lab.fabric.rack, node.cable("physnet1"), "", lab.directory / "rack")


# E1: the gateway itself


@pytest.mark.parametrize("name", ["a1", "b2"])
def test_e1_the_gateway_answers_pings_of_any_size(ready: dict[str, Vm], name: str) -> None:
    vm = ready[name]
    gateway = vm.configured().router  # type: ignore[union-attr]
    with vm.capture(f"icmp and src host {gateway}") as heard:
        for options in (("-s", "56"), ("-s", "1472", "-M", "do"), ("-s", str(LARGE))):
            text = vm.execute("ping", "-n", "-c", "2", "-i", "0.2", "-W", "5", *options, str(gateway), check=False)
            assert "2 received" in text, (options, text)
        assert {frame.eth_src for frame in saw(heard, lambda frame: frame.src == gateway, 4)} == {ANYCAST_MAC}


def test_e1_the_first_hop_says_its_name(lab: Lab, vms: dict[str, Vm]) -> None:
    """To another network as on the way out. The controller says it, so it must run."""
    for name, target in (("a1", vms["b2"].address), ("b2", vms["a1"].address), ("a2", lab.fabric.far_host)):
        vm = vms[name]
        gateway = vm.configured().router  # type: ignore[union-attr]
        with vm.capture("icmp") as heard:
            text = vm.execute("ping", "-n", "-c1", "-W5", "-t1", str(target), check=False)
            assert f"From {gateway} icmp_seq=1 Time to live exceeded" in text, text
            (error,) = saw(heard, lambda frame: frame.icmp_type == 11)
        assert (error.src, error.dst, error.eth_src) == (gateway, vm.address, ANYCAST_MAC)


def test_e1_the_gateway_has_no_ports_and_says_nothing_of_it(ready: dict[str, Vm]) -> None:
    """nova-network's was the host's own stack, which answers that a port is closed. Here it is a drop with a name."""
    vm = ready["a1"]
    gateway, before = vm.configured().router, drops(vm.node)  # type: ignore[union-attr]
    with vm.capture("icmp") as heard, udp(vm.namespace, vm.address) as sock:
        for _ in range(3):
            sock.sendto(b"anybody?", (str(gateway), 7))
        wait_dropped(vm.node, before, Rule.DROP_GATEWAY, 3)
        assert not vm.ping(gateway, count=1).lost
        saw(heard, lambda frame: frame.icmp_type == 0)
        assert not heard.seen(lambda frame: frame.icmp_type == 3)


def test_e1_who_claims_to_be_the_gateway_is_not_heard(lab: Lab, ready: dict[str, Vm]) -> None:
    liar, neighbour, remote = ready["a1"], ready["gate"], ready["a2"]
    gateway, before = neighbour.configured().router, drops(liar.node)  # type: ignore[union-attr]
    with neighbour.capture("arp") as near, remote.capture("arp") as away:
        send_frames(liar, arp_frame(liar, gateway, sender=gateway), 5)
        wait_dropped(liar.node, before, Rule.DROP_SPOOFED, 5, liar.port["key"])
        for vm in (neighbour, remote):
            assert resolve(vm, gateway) == {str(gateway): [ANYCAST_MAC]}
            assert not vm.ping(lab.fabric.far_host, count=1).lost
        for watched in (near, away):
            saw(watched, lambda frame: frame.protocol == 2)
            assert not watched.seen(lambda frame: frame.eth_src == liar.mac)


# A14: which networks are routed to each other


@pytest.mark.parametrize("kind", KINDS)
def test_a14_networks_of_a_project_and_those_joined_to_them_are_routed(ready: dict[str, Vm], kind: str) -> None:
    """On one node and across, both ways, each with its own address."""
    for name, other in (("a1", "b1"), ("a1", "b2"), ("red1", "a1"), ("red1", "b2")):
        for client, server in ((ready[name], ready[other]), (ready[other], ready[name])):
            assert talk(at(client), at(server), server.address, kind) == str(client.address)


@pytest.mark.parametrize("name", ["a1", "a2"])
def test_a14_an_isolated_network_is_reached_by_floating_ip_alone(
    lab: Lab, ready: dict[str, Vm], floating: dict[str, str], name: str
) -> None:
    client, target = ready[name], ready["alone1"]
    with target.capture("icmp or udp") as heard:
        assert not client.ping(target.address, count=2, wait=0.3).answered
        send_frames(client, udp_frame(client, target.address, eth_dst=GROUP), 2)
        assert not target.ping(client.address, count=2, wait=0.3).answered
        assert not ready["alone2"].ping(target.address, count=1).lost
        saw(heard, lambda frame: request(frame) and frame.src == ready["alone2"].address)
        assert not heard.seen(lambda frame: client.address in (frame.src, frame.dst) and frame.eth_src != target.mac)
    for kind in KINDS:
        assert talk(at(client), at(target), floating["alone1"], kind) == str(client.node.snat_address)
        assert talk(far(lab), at(target), floating["alone1"], kind) == str(lab.fabric.far_host)
        assert talk(at(target), at(ready["b2"]), floating["b2"], kind) == floating["alone1"]


def test_a14_a_network_is_parted_and_joined_while_it_runs(
    lab: Lab, vms: dict[str, Vm], networks: dict[str, Object]
) -> None:
    client, server = vms["red2"], vms["b1"]
    before = [program(node) for node in lab.nodes]

    def route_with(other: str) -> None:
        lab.confirm(lab.client.update_network(networks["red"]["id"], {"router": other}).revision)

    wait_reached(client, server.address)
    with server.capture("icmp") as heard:
        route_with("isolated")
        so_far = len(heard.seen())
        assert not client.ping(server.address, count=3, wait=0.3).answered
        assert not server.ping(client.address, count=1, wait=0.3).answered
        assert not heard.seen(lambda frame: frame.src == client.address)[so_far:]
    route_with(networks["a"]["id"])
    assert talk(at(client), at(server), server.address, "tcp") == str(client.address)
    assert [program(node) for node in lab.nodes] == before


# E14: both directions go the same way


def test_e14_the_way_back_is_the_way_there(lab: Lab, ready: dict[str, Vm], macs: dict[str, str]) -> None:
    """Between the two nodes and on the target's segment, whoever began."""
    for client, server in ((ready["a1"], ready["b2"]), (ready["red2"], ready["a1"])):
        for node in lab.nodes:
            node.ovs.appctl("revalidator/purge")  # what earlier packets are still to teach is taught now
        for node in lab.nodes:
            node.ovs.ofctl("del-flows", "br-int", f"table={Table.REMOTE_NEXT_HOP.value}")
        between = {client.address, server.address}
        both = frozenset(macs[vm.node.name][-5:] for vm in (client, server))

        def theirs(frame: Seen, between: set[IPv4Address] = between) -> bool:
            return echo(frame) and {frame.src, frame.dst} == between

        with cable(lab, client.node) as here, cable(lab, server.node) as there:
            assert not client.ping(server.address, count=5).lost
            for watched in (here, there):
                frames = saw(watched, theirs, 10)
                assert {frame.vlan for frame in frames} == {VLANS[server.name[:-1]]}
                assert {frame.ttl for frame in frames} == {63}
                ends = {
                    frozenset({frame.eth_src[-5:], frame.eth_dst[-5:]}) for frame in frames if frame.eth_dst != GROUP
                }
                assert ends == {both}
                assert not [frame for frame in frames if ANYCAST_MAC in (frame.eth_src, frame.eth_dst)]


# static routes


@pytest.mark.parametrize("kind", KINDS)
def test_a_range_behind_a_vm_is_reached_and_reaches(lab: Lab, ready: dict[str, Vm], behind: Place, kind: str) -> None:
    """From its own network, from others, from both nodes, and out through NAT and back."""
    for name in ("a1", "a2", "b1", "b2", "red2"):
        vm = at(ready[name])
        assert talk(vm, behind, behind.address, kind) == str(vm.address), name
        assert talk(behind, vm, vm.address, kind) == str(behind.address), name
    with lab.outside_capture("ip") as wire:
        assert talk(behind, far(lab), lab.fabric.far_host, kind) == str(lab.nodes[0].snat_address)
        saw(wire, lambda frame: frame.dst == lab.fabric.far_host)
        assert not wire.seen(lambda frame: str(frame.src).startswith(("10.", "100.")))
    # its next hop and its neighbours are still what they were
    assert talk(at(ready["gate"]), far(lab), lab.fabric.far_host, kind) == str(lab.nodes[0].snat_address)


def test_two_hosts_behind_a_route_share_a_source_port(lab: Lab, ready: dict[str, Vm], behind: Place) -> None:
    """Their addresses are anybody's: those of the VMs of another project, too."""
    netns.configure(behind.namespace, "address replace 10.99.1.3/24 dev eth0")
    heard = set()
    with udp(lab.fabric.far, port=7001) as server:
        for source in (behind.address, "10.99.1.3"):
            with udp(behind.namespace, source, 41000) as client:
                client.connect((str(lab.fabric.far_host), 7001))
                client.send(str(source).encode())
                text, peer = server.recvfrom(100)
                server.sendto(text, peer)
                assert client.recv(100) == text == str(source).encode()
                heard.add(peer)
    assert len(heard) == 2 and {address for address, _ in heard} == {str(lab.nodes[0].snat_address)}


def test_only_the_next_hop_may_send_from_what_is_behind_it(ready: dict[str, Vm], behind: Place) -> None:
    for name, source in (("gate", "10.98.0.1"), ("a1", str(behind.address))):
        vm, target = ready[name], ready["b1"]
        before = drops(vm.node)
        with target.capture("udp") as heard:
            send_frames(vm, udp_frame(vm, target.address, source=source), 3)
            wait_dropped(vm.node, before, Rule.DROP_SPOOFED, 3, vm.port["key"])
            assert not heard.seen(lambda frame: frame.dst_port == 9)


def test_a_route_that_is_taken_away_leads_nowhere(
    lab: Lab, vms: dict[str, Vm], networks: dict[str, Object], behind: Place
) -> None:
    vm = vms["b2"]
    before = [program(node) for node in lab.nodes]
    routes = lab.client.get_network(networks["a"]["id"])["routes"]

    def set_routes(wanted: list[Object]) -> None:
        lab.confirm(lab.client.update_network(networks["a"]["id"], {"routes": wanted}).revision)

    wait_reached(vm, behind.address)
    set_routes([])
    dropped = drops(lab.nodes[0])
    with vms["gate"].capture("icmp") as heard:
        assert not vm.ping(behind.address, count=2, wait=0.3).answered
        netns.execute(behind.namespace, "ping", "-n", "-c2", "-i0.2", "-W1", str(vm.address), check=False)
        wait_dropped(lab.nodes[0], dropped, Rule.DROP_SPOOFED, 2, vms["gate"].port["key"])
        assert not heard.seen(lambda frame: frame.src == vm.address)
    set_routes(routes)
    wait_talk(at(vm), behind, behind.address, "tcp", vm.address)
    assert [program(node) for node in lab.nodes] == before
