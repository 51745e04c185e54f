"""What is next on an external network: neighbours, a router that has to be found, and what is too large for either.

What a data plane must do by itself is tried with the controller running, stopped and restarted.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network

import pytest

from controller.client import Object
from etc.lab import netns
from etc.lab.capture import ETHERTYPE_ARP, ICMP, UDP, Capture, Seen
from etc.lab.fabric import OUTSIDE_INTERFACE, OUTSIDE_ROUTER, QUIET
from etc.lab.lab import Lab
from etc.lab.processes import wait_until
from etc.lab.vm import Vm
from flows.pipeline import Table
from flows.rules import Rule
from tests.netns.cloud import (
    ANYCAST_MAC,
    drops,
    make_network,
    make_outside,
    make_vms,
    metric,
    saw,
    tcp,
    udp,
    wait_dropped,
    wait_outside,
    wait_reached,
    want,
)
from tests.netns.floating import (
    DEADLINE,
    SECOND_INTERFACE,
    SECOND_POOL,
    SECOND_ROUTER,
    STATES,
    Place,
    at,
    give,
    mac_of,
    make_pool,
    second_outside,
    talk,
)

pytestmark = pytest.mark.root

MTU = 1400
NARROW = 1300
SEGMENT = 1440
ETHERNET = 14
NEIGHBOURS = {state: IPv4Address(f"203.0.113.{50 + number}") for number, state in enumerate(STATES)}
LATER = IPv4Address("203.0.113.55")
LONE_NETWORK = IPv4Network("198.18.80.0/24")
ALONE = LONE_NETWORK[9]
PAYLOAD = os.urandom(1 << 19)


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=1, physical_networks=("physnet1", "physnet2", "physnet-ext"))


@pytest.fixture(scope="module")
def networks(lab: Lab) -> Iterator[dict[str, Object]]:
    """Each leaves by another external network: `a` by the usual, `slim` by one with a smaller MTU, `lone` by one whose
    router is not there.
    """
    make_outside(lab)
    outside: Object = {"project_id": None, "external": True, "dhcp": False}
    lone = make_network(
        lab, "lone-outside", str(LONE_NETWORK), str(LONE_NETWORK[1]), **outside, physical_network="physnet2"
    )
    with second_outside(lab) as second:
        lab.client.update_network(second["id"], {"mtu": MTU})
        make_pool(lab, second, "second", SECOND_POOL)
        yield {
            "a": make_network(lab, "a", "10.20.0.0/24", segment=120),
            "slim": make_network(lab, "slim", "10.21.0.0/24", segment=121, external_network_id=second["id"]),
            "lone": make_network(lab, "lone", "10.22.0.0/24", segment=122, external_network_id=lone["id"]),
        }


@pytest.fixture(scope="module")
def vms(lab: Lab, networks: dict[str, Object]) -> dict[str, Vm]:
    names = {"a": "a", "slim": "slim", "owner": "slim", "lone": "lone"}
    vms = make_vms(lab, *(want(name, lab.nodes[0], networks[network]) for name, network in names.items()))
    wait_outside(lab, vms["a"])
    wait_reached(vms["slim"], SECOND_ROUTER)
    give(lab, vms["owner"], "second")
    return vms


@pytest.fixture(scope="module")
def neighbour(lab: Lab) -> str:
    """A machine on the external network itself, with an address for each test. Its namespace."""
    return make_machine(lab, "nb", lab.fabric.external, *NEIGHBOURS.values(), LATER)


def make_machine(lab: Lab, name: str, physical_network: str, *addresses: IPv4Address) -> str:
    namespace = f"{lab.prefix}-{name}"
    netns.create(namespace)
    netns.set_sysctl(namespace, QUIET)
    lab.fabric.connect(namespace, "eth0", physical_network, name)
    netns.configure(namespace, *(f"address add {address}/24 dev eth0" for address in addresses))
    return namespace


@pytest.fixture(scope="module")
def macs(lab: Lab, vms: dict[str, Vm], neighbour: str) -> dict[str, str]:
    """Of the node and its neighbours, also while the controller cannot be asked."""
    return {
        "node": mac_of(lab, lab.nodes[0]),
        "router": link_mac(lab.fabric.outside, OUTSIDE_INTERFACE),
        "neighbour": link_mac(neighbour, "eth0"),
    }


@pytest.fixture(scope="module")
def ready(vms: dict[str, Vm], macs: object, controller: str) -> dict[str, Vm]:
    """The VMs, when all is set up, in each state of the controller."""
    return vms


def link_mac(namespace: str, interface: str) -> str:
    return str(netns.query(namespace, "link", "show", "dev", interface)[0]["address"])


def of_port(port: int) -> Callable[[Seen], bool]:
    return lambda frame: frame.dst_port == port


# neighbours


def test_a_neighbour_is_reached_directly_once_it_was_heard(
    lab: Lab, ready: dict[str, Vm], macs: dict[str, str], neighbour: str, controller: str
) -> None:
    """What is sent before goes by the router; nobody needs the controller to learn."""
    vm, server = ready["a"], Place(neighbour, NEIGHBOURS[controller])
    with Capture(neighbour, "eth0", "udp", lab.directory / "nb") as heard:
        found: list[str] = []

        def directly() -> bool:
            """One more question: by whose MAC did it come?"""
            assert talk(at(vm), server, server.address, "udp") == str(vm.node.snat_address)
            asked = saw(heard, lambda frame: frame.dst == server.address, len(found) + 1)
            found.append(asked[-1].eth_src)
            return found[-2:] == [macs["node"]] * 2

        # Open vSwitch goes by what it knew before for up to half a second
        wait_until(directly, 20, lambda: f"not directly: {found}")
        answers = saw(heard, lambda frame: frame.src == server.address, len(found))
    assert found == sorted(found, key=[macs["router"], macs["node"]].index) and found[0] == macs["router"]
    assert {frame.eth_dst for frame in answers} == {macs["node"]}
    for kind in ("tcp", "icmp", "fragments"):
        assert talk(at(vm), server, server.address, kind) == str(vm.node.snat_address)


def test_a_neighbour_that_says_nothing_is_asked_for(
    lab: Lab, vms: dict[str, Vm], macs: dict[str, str], neighbour: str
) -> None:
    vm = vms["a"]

    def learned() -> bool:
        return f"nw_dst={LATER}" in vm.node.ovs.ofctl("dump-flows", "br-int", f"table={Table.EXTERNAL_NEIGHBOUR.value}")

    with (
        udp(neighbour, LATER, 5000),
        udp(vm.namespace, vm.address) as sock,
        Capture(neighbour, "eth0", "udp or arp", lab.directory / "nb") as heard,
    ):
        sock.sendto(b"by the router", (str(LATER), 5000))
        asked = saw(heard, lambda frame: frame.protocol == 1 and frame.dst == LATER and frame.eth_src == macs["node"])
        assert {frame.src for frame in asked} == {vm.node.snat_address}
        wait_until(learned, 20, "it was not learned from its answer")
        vm.node.ovs.appctl("revalidator/purge")
        sock.sendto(b"directly", (str(LATER), 5000))
        came = saw(heard, of_port(5000), 2)
    assert [frame.eth_src for frame in came] == [macs["router"], macs["node"]]


def test_a_redirect_of_the_router_changes_nothing(lab: Lab, vms: dict[str, Vm]) -> None:
    """It sends one for each packet that it has just passed on to a neighbour, and anybody can forge one."""
    vm, node = vms["a"], lab.nodes[0]
    before = drops(node)
    with vm.capture("icmp") as heard:
        with netns.inside(lab.fabric.outside):
            raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        with raw:
            for _ in range(3):
                raw.sendto(b"\x05\x01\0\0" + ALONE.packed + bytes(28), (str(node.snat_address), 0))
        wait_dropped(node, before, Rule.DROP_REDIRECT, 3)
        assert not vm.ping(lab.fabric.far_host, count=1).lost
        assert not heard.seen(lambda frame: frame.icmp_type == 5)


def test_without_a_router_a_neighbours_first_packet_waits_for_its_mac(lab: Lab, vms: dict[str, Vm]) -> None:
    vm = vms["lone"]
    machine = make_machine(lab, "alone", "physnet2", ALONE)
    with (
        Capture(machine, "eth0", "udp or arp", lab.directory / "nb") as heard,
        udp(machine, ALONE, 5000) as server,
        udp(vm.namespace, vm.address) as sock,
    ):
        sock.sendto(b"question", (str(ALONE), 5000))
        server.settimeout(DEADLINE)
        text, peer = server.recvfrom(100)
        assert text == b"question" and IPv4Address(peer[0]) in LONE_NETWORK
        server.sendto(b"answer", peer)
        assert sock.recv(100) == b"answer"
        first, *_, last = saw(heard, lambda frame: frame.dst == ALONE, 2)
    assert (first.ethertype, first.eth_dst) == (ETHERTYPE_ARP, "ff:ff:ff:ff:ff:ff")
    assert (last.dst_port, last.eth_dst) == (5000, link_mac(machine, "eth0"))
    assert metric(lab, "trunkline_packet_in_outcomes_total", "packet_kept") >= 1
    assert talk(at(vm), Place(machine, ALONE), ALONE, "tcp") == peer[0]


def test_a_packet_waits_for_the_second_question(lab: Lab, vms: dict[str, Vm]) -> None:
    vm, address = vms["lone"], LONE_NETWORK[10]
    machine = make_machine(lab, "slow", "physnet2", address)
    netns.set_sysctl(machine, {"ipv4/conf/all/arp_ignore": 8})
    with (
        Capture(machine, "eth0", "arp", lab.directory / "nb") as heard,
        udp(machine, address, 5000) as server,
        udp(vm.namespace, vm.address) as sock,
    ):
        sock.sendto(b"once", (str(address), 5000))
        saw(heard, lambda frame: frame.dst == address)
        netns.set_sysctl(machine, {"ipv4/conf/all/arp_ignore": 0})
        assert server.recv(100) == b"once"
        assert len(saw(heard, lambda frame: frame.dst == address, 2)) == 2


# what is too large


def gateway_of_guest(vm: Vm) -> IPv4Address:
    configured = vm.configured()
    assert configured and configured.router
    return configured.router


@pytest.fixture
def forgetful(vms: dict[str, Vm]) -> Iterator[None]:
    """Guests that have not heard of any MTU."""
    for vm in vms.values():
        vm.execute("ip", "route", "flush", "cache")
    yield
    for vm in vms.values():
        vm.execute("ip", "route", "flush", "cache")


@pytest.mark.parametrize("name", ["slim", "owner"])
def test_a_guest_is_told_the_mtu_of_the_outside(lab: Lab, vms: dict[str, Vm], forgetful: None, name: str) -> None:
    vm = vms[name]
    size = str(MTU - 28 + 1)
    with vm.capture("icmp") as heard:
        text = vm.execute("ping", "-n", "-c1", "-W5", "-Mdo", "-s", size, SECOND_ROUTER, check=False)
        assert f"mtu = {MTU}" in text, text
        (error,) = saw(heard, lambda frame: frame.icmp_type == 3)
    assert (error.src, error.dst, error.eth_src) == (gateway_of_guest(vm), vm.address, ANYCAST_MAC)
    assert f"mtu {MTU}" in vm.execute("ip", "route", "get", SECOND_ROUTER)
    with second_capture(lab) as wire:
        fits = vm.execute("ping", "-n", "-c1", "-W5", "-Mdo", "-s", str(MTU - 28), SECOND_ROUTER, check=False)
        assert "1 received" in fits, fits
        assert {frame.length for frame in saw(wire, lambda frame: frame.protocol == ICMP, 2)} == {MTU + ETHERNET}


def second_capture(lab: Lab) -> Capture:
    return Capture(lab.fabric.outside, SECOND_INTERFACE, "ip", lab.directory / "out")


@pytest.mark.parametrize("name", ["slim", "owner"])
@pytest.mark.parametrize("size", [MTU - 28 + 1, 1472])
def test_what_may_be_cut_is_cut(lab: Lab, vms: dict[str, Vm], forgetful: None, name: str, size: int) -> None:
    """One packet of the guest's. What it has cut itself: test_sizes.py."""
    vm = vms[name]
    with second_capture(lab) as wire, udp(lab.fabric.outside, SECOND_ROUTER, 5000) as server:
        with udp(vm.namespace, vm.address) as sock:
            sock.setsockopt(0, 10, 0)  # IP_MTU_DISCOVER, IP_PMTUDISC_DONT (ip(7)): no DF
            question = os.urandom(size)
            sock.sendto(question, (SECOND_ROUTER, 5000))
            server.settimeout(DEADLINE)
            heard, peer = server.recvfrom(65535)
            assert heard == question
            server.sendto(heard[::-1], peer)
            assert sock.recv(65535) == question[::-1]
        mine = saw(wire, lambda frame: str(frame.src) == peer[0] and frame.protocol == UDP, 2)
        assert max(frame.length for frame in mine) <= MTU + ETHERNET


@pytest.fixture
def cutting(vms: dict[str, Vm]) -> Iterator[None]:
    """Guests that cut TCP themselves: else a frame on the wire may be several segments that a kernel is yet to cut."""
    for vm in vms.values():
        vm.execute("ethtool", "-K", "eth0", "tso", "off", "gso", "off")
    yield
    for vm in vms.values():
        vm.execute("ethtool", "-K", "eth0", "tso", "on", "gso", "on")


@pytest.mark.parametrize("name", ["slim", "owner"])
def test_tcp_brings_everything_both_ways(
    lab: Lab, vms: dict[str, Vm], forgetful: None, cutting: None, name: str
) -> None:
    """The outside believes in 1500, so the MSS fits no packet of the VM's."""
    vm = vms[name]

    def echo_all() -> bytes:
        connection, _ = server.accept()
        with connection:
            connection.sendall(connection.recv(SEGMENT, socket.MSG_WAITALL))
            data = b"".join(iter(lambda: connection.recv(65536), b""))
            connection.sendall(data)
        return data

    with (
        second_capture(lab) as wire,
        tcp(lab.fabric.far, port=7002) as server,
        tcp(vm.namespace, vm.address) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        server.listen(1)
        client.settimeout(DEADLINE)
        served = pool.submit(echo_all)
        client.connect((str(lab.fabric.far_host), 7002))
        # alone in a frame that is too large, so that the guest is told and sends it again
        client.sendall(PAYLOAD[:SEGMENT])
        assert client.recv(SEGMENT, socket.MSG_WAITALL) == PAYLOAD[:SEGMENT]
        client.sendall(PAYLOAD)
        client.shutdown(socket.SHUT_WR)
        back = b"".join(iter(lambda: client.recv(65536), b""))
        arrived = served.result(DEADLINE)
        saw(wire, lambda frame: frame.dst == lab.fabric.far_host and frame.length > 1000, 10)
        assert not wire.seen(lambda frame: frame.dst == lab.fabric.far_host and frame.length > MTU + ETHERNET)
    assert {hashlib.sha256(data).digest() for data in (arrived, back)} == {hashlib.sha256(PAYLOAD).digest()}


@pytest.fixture
def narrow(lab: Lab) -> Iterator[None]:
    """Behind the outside router there is less room than anywhere."""
    ends = ((lab.fabric.far, "eth0"), (lab.fabric.outside, "far0"))
    for namespace, interface in ends:
        netns.configure(namespace, f"link set {interface} mtu {NARROW}")
    yield
    for namespace, interface in ends:
        netns.configure(namespace, f"link set {interface} mtu 1500")


def test_the_mtu_beyond_the_router_is_heard_of_through_snat(
    lab: Lab, ready: dict[str, Vm], forgetful: None, narrow: None
) -> None:
    vm = ready["a"]
    with vm.capture("icmp") as heard:
        line = ["ping", "-n", "-c1", "-W5", "-Mdo", "-s", str(NARROW - 28 + 1), str(lab.fabric.far_host)]
        assert f"mtu = {NARROW}" in vm.execute(*line, check=False)
        errors = saw(heard, lambda frame: frame.icmp_type == 3)
    assert {(frame.src, frame.dst) for frame in errors} == {(OUTSIDE_ROUTER.ip, vm.address)}
    assert f"mtu {NARROW}" in vm.execute("ip", "route", "get", str(lab.fabric.far_host))
