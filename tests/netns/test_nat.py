"""Out through NAT on real Open vSwitch: each node translates for its own VMs, and what must keep its address does.

What a data plane must do by itself is tried with the controller running, stopped and restarted.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv4Network
from itertools import count

import pytest

from controller.client import Object
from etc.lab import netns
from etc.lab.capture import Capture, Seen
from etc.lab.fabric import FAR_HOST, OUTSIDE_ROUTER
from etc.lab.lab import Lab
from etc.lab.node import Node
from etc.lab.vm import Vm
from flows.rules import Rule
from tests.netns.cloud import (
    drops,
    make_network,
    make_outside,
    make_vms,
    saw,
    tcp,
    udp,
    wait_dropped,
    wait_outside,
    wait_reached,
    want,
)
from tests.netns.floating import (
    SECOND_CIDR,
    SECOND_INTERFACE,
    SECOND_ROUTER,
    Place,
    at,
    far,
    give,
    mac_of,
    make_pool,
    second_outside,
    talk,
    talks,
)

pytestmark = pytest.mark.root

KINDS = ("tcp", "udp", "icmp", "fragments")
DMZ = IPv4Address("198.51.100.200")
DMZ_RANGE = "198.51.100.192/26"
MANY = 250
"""Connections of each of two VMs to one server at once."""
SOURCE_PORTS = count(40000)
"""A new one for each test: what a guest has just closed, it does not use again."""


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    # one VM may use up all ports: shares are in test_shares.py
    return make_lab(nodes=2, projects=("blue", "red"), agent_options={"snat_share": 0})


@pytest.fixture(scope="module")
def networks(lab: Lab) -> Iterator[dict[str, Object]]:
    """`a` is the rule, `own` has SNAT addresses for itself, `other` leaves elsewhere, `dmz` keeps its own to one range,
    `same` is another project's with the range of `a`.
    """
    flat = make_outside(lab)
    with second_outside(lab) as second:
        make_pool(lab, flat)
        yield {
            "flat": flat,
            "second": second,
            "a": make_network(lab, "a", "10.20.0.0/24", segment=120),
            "own": make_network(lab, "own", "10.21.0.0/24", segment=121, own_snat_address=True),
            "other": make_network(lab, "other", "10.22.0.0/24", segment=122, external_network_id=second["id"]),
            "dmz": make_network(lab, "dmz", "10.23.0.0/24", segment=123, snat_exempt=[DMZ_RANGE]),
            "same": make_network(lab, "same", "10.20.0.0/24", segment=124, project_id="red"),
        }


@pytest.fixture(scope="module")
def vms(lab: Lab, networks: dict[str, Object]) -> dict[str, Vm]:
    """In the name are network and node. The outside knows the way to those of `dmz`."""
    places = [(name, number) for name in ("a", "own", "other", "dmz", "same") for number in (1, 2)]
    vms = make_vms(
        lab,
        *(want(f"{name}-{number}", lab.nodes[number - 1], networks[name]) for name, number in places),
        *(want(name, lab.nodes[0], networks[name[:-3]]) for name in ("a-1b", "dmz-1b")),
    )
    netns.configure(lab.fabric.far, f"address add {DMZ}/24 dev eth0")
    for vm in (vms["dmz-1"], vms["dmz-1b"], vms["dmz-2"]):
        netns.configure(lab.fabric.outside, f"route add {vm.address} via {vm.node.snat_address}")
    wait_outside(lab, vms["a-1"], vms["a-2"])
    for name in ("other-1", "other-2"):
        wait_reached(vms[name], SECOND_ROUTER)
    return vms


@pytest.fixture(scope="module")
def floating(lab: Lab, vms: dict[str, Vm]) -> str:
    """The floating IP of dmz-1b."""
    return str(give(lab, vms["dmz-1b"])["address"])


@pytest.fixture(scope="module")
def macs(lab: Lab, vms: dict[str, Vm]) -> dict[str, str]:
    """Each node's MAC on the wire, also while nobody can be asked."""
    return {node.name: mac_of(lab, node) for node in lab.nodes}


@pytest.fixture(scope="module")
def own(lab: Lab, vms: dict[str, Vm]) -> dict[str, str]:
    """The address of each node that is for network `own` alone."""
    return {node.name: own_address(lab, node, vms["own-1"].port["network_id"]) or "" for node in lab.nodes}


@pytest.fixture(scope="module")
def ready(vms: dict[str, Vm], floating: str, macs: object, own: object, controller: str) -> dict[str, Vm]:
    """The VMs, when all is set up, in each state of the controller."""
    return vms


def own_address(lab: Lab, node: Node, network_id: object) -> str | None:
    held = lab.client.get_node(node.name)["external_addresses"]
    return next((str(each["address"]) for each in held if each.get("for_network_id") == network_id), None)


def dmz(lab: Lab) -> Place:
    return Place(lab.fabric.far, DMZ)


def cables(stack: ExitStack, lab: Lab, node: Node) -> list[Capture]:
    """All that a node has with the rack switch."""
    directory = lab.directory / "rack"
    return [
        stack.enter_context(Capture(lab.fabric.rack, node.cable(name), "ip", directory))
        for name in lab.fabric.physical_networks
    ]


# E2: each node for its own


@pytest.mark.parametrize("kind", KINDS)
def test_e2_each_node_translates_for_its_own_vms(
    lab: Lab, ready: dict[str, Vm], macs: dict[str, str], kind: str
) -> None:
    names = ("a-1", "a-1b", "a-2", "same-1", "same-2")
    with ExitStack() as stack, lab.outside_capture("ip") as wire:
        elsewhere = {node.name: cables(stack, lab, node) for node in lab.nodes}
        for name in names:
            vm = ready[name]
            assert talk(at(vm), far(lab), lab.fabric.far_host, kind) == str(vm.node.snat_address)
        for node in lab.nodes:
            mine = saw(wire, lambda frame, node=node: frame.src == node.snat_address, 2)  # type: ignore[misc]
            assert {frame.eth_src for frame in mine} == {macs[node.name]}
        # what is of one node never passes another
        for node, other in (lab.nodes, lab.nodes[::-1]):
            assert not [frame for each in elsewhere[node.name] for frame in each.seen(of_node(other))]
        # nor is a private address ever outside
        assert not wire.seen(lambda frame: str(frame.src).startswith(("10.", "100.")))


def of_node(node: Node) -> Callable[[Seen], bool]:
    return lambda frame: node.snat_address in (frame.src, frame.dst)


@pytest.mark.parametrize("others", ["a-1b", "same-1"])
@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_e2_two_vms_with_one_source_port(lab: Lab, ready: dict[str, Vm], kind: str, others: str) -> None:
    """Towards one server each gets a port of its own, and its own answers: by two VMs, by two networks of one range."""
    target, source_port = (str(lab.fabric.far_host), 7001), next(SOURCE_PORTS)
    with ExitStack() as stack:
        server = stack.enter_context((tcp if kind == "tcp" else udp)(lab.fabric.far, port=7001))
        if kind == "tcp":
            server.listen(2)
        clients, heard = [], []
        for vm in (ready["a-1"], ready[others]):
            client = stack.enter_context((tcp if kind == "tcp" else udp)(vm.namespace, vm.address, source_port))
            client.connect(target)
            client.send(vm.name.encode())
            clients.append((vm, client))
            if kind == "tcp":
                served, peer = server.accept()
                stack.enter_context(served)
                heard.append((served.recv(100), peer))
            else:
                heard.append(server.recvfrom(100))
            _answer(server if kind == "udp" else served, *heard[-1])
        assert [text for text, _ in heard] == [vm.name.encode() for vm, _ in clients]
        assert {peer[0] for _, peer in heard} == {str(lab.nodes[0].snat_address)}
        assert len({peer[1] for _, peer in heard}) == 2
        assert [client.recv(100) for _, client in clients] == [text[::-1] for text, _ in heard]


def _answer(connection: socket.socket, text: bytes, peer: tuple[str, int]) -> None:
    connection.sendto(text[::-1], peer)


def test_e2_many_connections_of_two_vms_to_one_server(lab: Lab, ready: dict[str, Vm]) -> None:
    """All from the same ports at both, so that each second one has to give way; each hears its own answer."""
    pair = (ready["a-1"], ready["a-1b"])
    with ExitStack() as stack, udp(lab.fabric.far, port=7002) as server:
        peers: dict[bytes, tuple[str, int]] = {}
        clients: list[tuple[socket.socket, bytes]] = []
        for number in range(MANY):
            for vm in pair:
                client = stack.enter_context(udp(vm.namespace, vm.address, 20000 + number))
                client.connect((str(lab.fabric.far_host), 7002))
                clients.append((client, f"{vm.name} {number}".encode()))
                client.send(clients[-1][1])
                text, peer = server.recvfrom(100)
                peers[text] = peer
                server.sendto(text, peer)
        assert [client.recv(100) for client, _ in clients] == [text for _, text in clients]
    assert {address for address, _ in peers.values()} == {str(lab.nodes[0].snat_address)}
    assert len(set(peers.values())) == len(clients)


def test_e2_errors_from_outside_come_through(lab: Lab, ready: dict[str, Vm]) -> None:
    """A closed port at the far host, and a TTL that ends at the outside router: to a plain VM and to a carrier's."""
    for name in ("a-2", "same-2", "own-1"):
        vm = ready[name]
        with vm.capture("icmp") as heard:
            with udp(vm.namespace, vm.address) as sock:
                sock.connect((str(lab.fabric.far_host), 7))
                sock.send(b"anybody?")
                with pytest.raises(ConnectionRefusedError):
                    sock.recv(100)
            text = vm.execute("ping", "-n", "-c1", "-W1", "-t", "2", str(lab.fabric.far_host), check=False)
            assert f"From {OUTSIDE_ROUTER.ip} icmp_seq=1 Time to live exceeded" in text, text
            errors = saw(heard, lambda frame: frame.icmp_type in (3, 11), 2)
        assert [(frame.src, frame.dst) for frame in errors] == [
            (lab.fabric.far_host, vm.address),
            (OUTSIDE_ROUTER.ip, vm.address),
        ]


# SNAT addresses of a network's own, and other external networks


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_leaves_with_an_address_of_its_own(
    lab: Lab, ready: dict[str, Vm], macs: dict[str, str], own: dict[str, str], kind: str
) -> None:
    assert len({*own.values(), *(str(node.snat_address) for node in lab.nodes)}) == 4
    for name in ("own-1", "own-2"):
        vm = ready[name]
        with lab.outside_capture("ip") as wire:
            assert talk(at(vm), far(lab), lab.fabric.far_host, kind) == own[vm.node.name]
            mine = saw(wire, lambda frame, vm=vm: str(frame.src) == own[vm.node.name])  # type: ignore[misc]
            assert {frame.eth_src for frame in mine} == {macs[vm.node.name]}


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_leaves_by_the_external_network_that_it_names(lab: Lab, ready: dict[str, Vm], kind: str) -> None:
    outer = Place(lab.fabric.outside, IPv4Address(SECOND_ROUTER))
    second = Capture(lab.fabric.outside, SECOND_INTERFACE, "ip", lab.directory / "out")
    with second as there, lab.outside_capture("ip and not vlan") as here:
        sources = [talk(at(ready[name]), outer, SECOND_ROUTER, kind) for name in ("other-1", "other-2")]
        assert len(set(sources)) == 2
        assert all(IPv4Address(source) in IPv4Network(SECOND_CIDR) for source in sources)
        # one router further as well, and at the same time as by the first
        both = ((at(ready[name]), far(lab), lab.fabric.far_host, kind) for name in ("other-1", "a-1"))
        assert talks(*both) == [sources[0], str(lab.nodes[0].snat_address)]
        saw(there, lambda frame: str(frame.src) == sources[0])
        assert not here.seen(lambda frame: str(frame.src) in sources)


# E4: ranges that see the VMs' own addresses


@pytest.mark.parametrize("kind", KINDS)
def test_e4_an_exempt_range_sees_the_fixed_address(lab: Lab, ready: dict[str, Vm], floating: str, kind: str) -> None:
    """Also of who has a floating IP; anybody else sees what is translated, and other networks are not exempt."""
    plain, owner = ready["dmz-2"], ready["dmz-1b"]
    assert talk(at(plain), dmz(lab), DMZ, kind) == str(plain.address)
    assert talk(at(owner), dmz(lab), DMZ, kind) == str(owner.address)
    assert talk(at(plain), far(lab), lab.fabric.far_host, kind) == str(plain.node.snat_address)
    assert talk(at(owner), far(lab), lab.fabric.far_host, kind) == floating
    assert talk(at(ready["a-2"]), dmz(lab), DMZ, kind) == str(lab.nodes[1].snat_address)
    # both ways, and the floating IP from there is what it is from anywhere
    assert talk(dmz(lab), at(plain), plain.address, kind) == str(DMZ)


def test_e4_what_is_not_exempt_begins_nothing_to_a_fixed_address(lab: Lab, ready: dict[str, Vm]) -> None:
    vm = ready["dmz-1"]
    before = drops(vm.node)
    with vm.capture("udp") as heard, udp(lab.fabric.far, FAR_HOST.ip) as stranger, udp(lab.fabric.far, DMZ) as exempt:
        for _ in range(3):
            stranger.sendto(b"hello", (str(vm.address), 5000))
        wait_dropped(vm.node, before, Rule.DROP_EXTERNAL, 3)
        exempt.sendto(b"hello", (str(vm.address), 5001))
        saw(heard, lambda frame: frame.dst_port == 5001)
        assert not heard.seen(lambda frame: frame.dst_port == 5000)


# E5: within one network


@pytest.mark.parametrize("kind", KINDS)
def test_e5_within_a_network_nothing_is_translated(lab: Lab, ready: dict[str, Vm], floating: str, kind: str) -> None:
    pairs = [("a-1", "a-1b"), ("a-1", "a-2"), ("same-1", "same-2"), ("dmz-1b", "dmz-1"), ("dmz-1b", "dmz-2")]
    for client, server in pairs:
        seen = talk(at(ready[client]), at(ready[server]), ready[server].address, kind)
        assert seen == str(ready[client].address)
    # but by a floating IP, who comes from the same network is seen as outside
    assert talk(at(ready["dmz-1"]), at(ready["dmz-1b"]), floating, kind) == str(lab.nodes[0].snat_address)


def test_e5_nor_when_a_guest_goes_by_the_gateway(lab: Lab, ready: dict[str, Vm]) -> None:
    for name in ("a-1b", "a-2"):
        client, server = ready["a-1"], ready[name]
        gateway = client.configured().router  # type: ignore[union-attr]
        netns.configure(client.namespace, f"route replace {server.address}/32 via {gateway}")
        with server.capture("icmp") as heard:
            assert [talk(at(client), at(server), server.address, kind) for kind in KINDS] == [str(client.address)] * 4
            came = saw(heard, lambda frame, client=client: frame.src == client.address)  # type: ignore[misc]
            assert {frame.ttl for frame in came} == {63}
        netns.configure(client.namespace, f"route delete {server.address}/32")
