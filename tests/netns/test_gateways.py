"""The gateway in each of its modes, and the way out: NAT, ICMP, next hops."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address

import pytest

from controller.client import Object
from etc.lab import capture, netns
from etc.lab.fabric import OUTSIDE_INTERFACE, OUTSIDE_ROUTER, QUIET
from etc.lab.lab import Lab
from etc.lab.processes import wait_until
from etc.lab.vm import Vm
from flows.pipeline import CtZone
from flows.rules import Rule
from tests.netns.cloud import (
    ANYCAST_MAC,
    drops,
    gateway_of,
    mac,
    make_network,
    make_outside,
    make_vms,
    packed,
    request,
    resolve,
    saw,
    send_frames,
    status,
    tcp,
    udp,
    udp_frame,
    wait_dropped,
    wait_outside,
    wait_reached,
    want,
)

pytestmark = pytest.mark.root

RELEASE_DELAY = 1
RELEASED = 10
REFRESHED = 40
"""Seconds: a next hop is asked for its MAC every 30."""
ANNOUNCED = 5

HARDWARE_ROUTER = "10.3.0.1"
BEHIND_IT = "198.18.0.1"
SECOND_NEXT_HOP = "198.18.64.1"
BEHIND_LATE = "198.18.128.1"
PAYLOAD = bytes(range(256)) * 8192  # 2 MiB


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(
        nodes=2,
        physical_networks=("physnet1", "physnet2", "physnet-ext"),
        control_options={"gateway": {"release_delay": RELEASE_DELAY}},
    )


@pytest.fixture(scope="module")
def networks(lab: Lab) -> dict[str, Object]:
    """`lost` goes out by a second external network, on physnet2, whose router is not there yet."""
    make_outside(lab)
    second = make_network(
        lab,
        "second",
        "198.18.64.0/24",
        SECOND_NEXT_HOP,
        project_id=None,
        external=True,
        dhcp=False,
        physical_network="physnet2",
    )
    return {
        "per": make_network(lab, "per", "10.1.0.0/24", segment=101),
        "shared": make_network(lab, "shared", "10.2.0.0/24", "10.2.0.254", segment=102, gateway_mode="shared"),
        "external": make_network(lab, "external", "10.3.0.0/24", HARDWARE_ROUTER, gateway_mode="external"),
        "none": make_network(lab, "none", "10.4.0.0/24", segment=104, gateway_mode="none"),
        "lost": make_network(lab, "lost", "10.5.0.0/24", segment=105, external_network_id=second["id"]),
    }


@pytest.fixture(scope="module")
def vms(lab: Lab, networks: dict[str, Object], hardware_router: str) -> dict[str, Vm]:
    vms = make_vms(
        lab,
        *(
            want(f"{name}-{number}", node, network)
            for name, network in networks.items()
            for number, node in enumerate(lab.nodes, 1)
        ),
    )
    wait_outside(lab, vms["per-1"], vms["per-2"])
    return vms


@pytest.fixture(scope="module")
def hardware_router(lab: Lab) -> str:
    """A router on the flat segment of physnet1 that is not ours, with one network behind it. Its namespace."""
    return make_router(lab, "hw", "physnet1", f"{HARDWARE_ROUTER}/24", f"{BEHIND_IT}/32")


def make_router(lab: Lab, name: str, physical_network: str, address: str, *behind: str) -> str:
    namespace = f"{lab.prefix}-{name}"
    netns.create(namespace)
    netns.set_sysctl(namespace, {**QUIET, "ipv4/ip_forward": 1})
    lab.fabric.connect(namespace, "eth0", physical_network, name)
    netns.configure(namespace, f"address add {address} dev eth0", *(f"address add {each} dev lo" for each in behind))
    return namespace


def mac_of(namespace: str, interface: str) -> str:
    return str(netns.query(namespace, "link", "show", "dev", interface)[0]["address"])


def move(lab: Lab, vm: Vm, number: int) -> None:
    """To another node, with all that the guest knows: it asks nobody for anything."""
    configured = vm.configured()
    assert configured
    vm.stop_client()
    vm.unplug()
    vm.node = lab.nodes[number - 1]
    vm.plug()
    vm.set_address(configured.address, configured.router)
    wait_until(lambda: lab.client.get_port(vm.port["id"])["binding"] and status(lab, vm) == "active", 20, "it moved")


# modes


def test_per_host_each_node_has_an_address_of_its_own_and_all_have_one_mac(
    lab: Lab, vms: dict[str, Vm], networks: dict[str, Object]
) -> None:
    held = [gateway_of(lab, node, networks["per"]) for node in lab.nodes]
    assert None not in held and len(set(held)) == 2
    for vm, own in zip((vms["per-1"], vms["per-2"]), held, strict=True):
        assert str(vm.configured().router) == own  # type: ignore[union-attr]
        assert resolve(vm, *held) == {str(address): [ANYCAST_MAC] for address in held}
        for address in held:
            assert not vm.ping(address).lost


def test_per_host_a_guest_that_moved_keeps_its_gateway(lab: Lab, networks: dict[str, Object]) -> None:
    vm = make_vms(lab, want("mover", lab.nodes[0], networks["per"]))["mover"]
    router = vm.configured().router  # type: ignore[union-attr]
    move(lab, vm, 2)
    assert str(router) == gateway_of(lab, lab.nodes[0], networks["per"])
    with lab.outside_capture("icmp") as outside:
        assert not vm.ping(router).lost
        assert resolve(vm, router) == {str(router): [ANYCAST_MAC]}
        assert not vm.ping(lab.fabric.far_host, size=177).lost
        sources = {frame.src for frame in saw(outside, lambda frame: request(frame) and frame.length == 177 + 42)}
    assert sources == {lab.nodes[1].snat_address}
    lab.delete_vm(vm)


def test_shared_every_node_is_the_one_gateway(lab: Lab, vms: dict[str, Vm]) -> None:
    for vm in (vms["shared-1"], vms["shared-2"]):
        assert str(vm.configured().router) == "10.2.0.254"  # type: ignore[union-attr]
        with lab.outside_capture("icmp") as outside:
            assert resolve(vm, "10.2.0.254") == {"10.2.0.254": [ANYCAST_MAC]}
            assert not vm.ping("10.2.0.254").lost
            assert not vm.ping(lab.fabric.far_host).lost
            assert {frame.src for frame in saw(outside, request)} == {vm.node.snat_address}
    # routed to the project's network that has the other mode, on the other node
    assert not vms["shared-1"].ping(vms["per-2"].address).lost


def test_external_the_router_is_a_machine_and_the_nodes_keep_out(
    lab: Lab, vms: dict[str, Vm], hardware_router: str
) -> None:
    router_mac = mac_of(hardware_router, "eth0")
    with lab.outside_capture("") as outside, capture.Capture(hardware_router, "eth0", "icmp", lab.directory) as heard:
        for vm in (vms["external-1"], vms["external-2"]):
            assert str(vm.configured().router) == HARDWARE_ROUTER  # type: ignore[union-attr]
            assert resolve(vm, HARDWARE_ROUTER) == {HARDWARE_ROUTER: [router_mac]}
            assert not vm.ping(BEHIND_IT).lost
            mine = saw(heard, lambda frame, vm=vm: request(frame) and frame.eth_src == vm.mac)  # type: ignore[misc]
            assert {(frame.src, frame.ttl) for frame in mine} == {(vm.address, 64)}
            # nobody else is a router here, whatever MAC a guest may know
            before = drops(vm.node)
            send_frames(vm, udp_frame(vm, lab.fabric.far_host), 3)
            wait_dropped(vm.node, before, Rule.DROP_NO_ROUTE, 3)
        assert not outside.seen(lambda frame: str(frame.src).startswith("10.3.0."))


@pytest.mark.parametrize("name", ["none", "external"])
def test_without_a_gateway_of_ours_nothing_is_routed(lab: Lab, vms: dict[str, Vm], name: str) -> None:
    vm, sibling = vms[f"{name}-1"], vms["per-1"]
    if name == "none":
        assert vm.configured().router is None  # type: ignore[union-attr]
    assert not vm.ping(vms[f"{name}-2"].address).lost
    before = drops(vm.node)
    with sibling.capture("udp or icmp") as heard:
        send_frames(vm, udp_frame(vm, sibling.address), 3)
        send_frames(vm, udp_frame(vm, vms["per-2"].address), 3)
        wait_dropped(vm.node, before, Rule.DROP_NO_ROUTE, 6)
        assert not vms["per-2"].ping(sibling.address, count=1).lost
        saw(heard, request)
        assert not heard.seen(lambda frame: frame.dst_port == 9)
    # nor back
    assert not sibling.ping(vm.address, count=1, wait=0.3).answered


def test_a_gateway_address_comes_with_the_first_vm_and_goes_after_the_last(lab: Lab) -> None:
    network = make_network(lab, "brief", "10.6.0.0/24", segment=106)
    assert [gateway_of(lab, node, network) for node in lab.nodes] == [None, None]
    stays, first = make_vms(lab, want("stays", lab.nodes[0], network), want("first", lab.nodes[1], network)).values()
    mine, other = (gateway_of(lab, node, network) for node in lab.nodes)
    assert mine and other and mine != other
    # the last VM of the node leaves, and another comes before the delay is over: the address is still there
    second = make_vms(lab, want("second", lab.nodes[1], network))["second"]
    lab.delete_vm(first)
    assert gateway_of(lab, lab.nodes[1], network) == other
    assert resolve(stays, mine, other) == {mine: [ANYCAST_MAC], other: [ANYCAST_MAC]}
    lab.delete_vm(second)
    wait_until(lambda: gateway_of(lab, lab.nodes[1], network) is None, RELEASED, "the address is given back")
    assert gateway_of(lab, lab.nodes[0], network) == mine
    wait_until(lambda: resolve(stays, other, patience=0) == {other: []}, 20, "the address is still answered for")
    # it can be a VM's now
    taken = lab.client.create_port(
        {"network_id": network["id"], "project_id": "blue", "fixed_ips": [{"address": other}]}
    ).object
    assert taken and taken["fixed_ips"][0]["address"] == other


# the way out


def test_each_hop_says_its_name(lab: Lab, vms: dict[str, Vm]) -> None:
    """What traceroute does: TTL 1 ends at the node, TTL 2 at the router behind NAT, TTL 3 arrives."""
    for vm in (vms["per-1"], vms["shared-2"]):
        router = vm.configured().router  # type: ignore[union-attr]
        with vm.capture("icmp") as heard:
            for ttl, hop in ((1, router), (2, OUTSIDE_ROUTER.ip)):
                text = vm.execute("ping", "-n", "-c1", "-W1", "-t", str(ttl), str(lab.fabric.far_host), check=False)
                assert "+1 errors" in text and f"From {hop} icmp_seq=1 Time to live exceeded" in text, text
            exceeded = [(frame.src, frame.dst) for frame in saw(heard, lambda frame: frame.icmp_type == 11, 2)]
        assert exceeded == [(router, vm.address), (OUTSIDE_ROUTER.ip, vm.address)]
        assert "1 received" in vm.execute("ping", "-n", "-c1", "-W1", "-t3", str(lab.fabric.far_host))


def test_a_closed_port_outside_is_heard_of_through_nat(lab: Lab, vms: dict[str, Vm]) -> None:
    vm = vms["per-2"]
    with vm.capture("icmp") as heard, udp(vm.namespace, vm.address) as sock:
        sock.connect((str(lab.fabric.far_host), 7))
        sock.send(b"anybody?")
        with pytest.raises(ConnectionRefusedError):
            sock.recv(100)
        (error,) = saw(heard, lambda frame: frame.icmp_type == 3)
    assert (error.src, error.dst, error.eth_src) == (lab.fabric.far_host, vm.address, ANYCAST_MAC)


@pytest.mark.parametrize("name", ["per-1", "shared-2"])
def test_tcp_brings_everything_through_nat_both_ways(lab: Lab, vms: dict[str, Vm], name: str) -> None:
    vm = vms[name]

    def echo_all() -> tuple[str, bytes]:
        connection, (peer, _) = server.accept()
        with connection:
            data = b"".join(iter(lambda: connection.recv(65536), b""))
            connection.sendall(data)
        return str(peer), data

    with tcp(lab.fabric.far, port=7002) as server, tcp(vm.namespace, vm.address) as client, ThreadPoolExecutor(1) as p:
        server.listen(1)
        served = p.submit(echo_all)
        client.connect((str(lab.fabric.far_host), 7002))
        client.sendall(PAYLOAD)
        client.shutdown(1)
        back = b"".join(iter(lambda: client.recv(65536), b""))
        peer, arrived = served.result(20)
    assert IPv4Address(peer) == vm.node.snat_address
    assert {hashlib.sha256(data).digest() for data in (arrived, back)} == {hashlib.sha256(PAYLOAD).digest()}


def test_nobody_outside_begins_a_connection(lab: Lab, vms: dict[str, Vm]) -> None:
    node = lab.nodes[0]
    netns.configure(lab.fabric.outside, f"route replace 10.1.0.0/24 via {node.snat_address}")
    before = drops(node)
    with vms["per-1"].capture("udp") as heard, udp(lab.fabric.far) as sock:
        for address in (node.snat_address, vms["per-1"].address):
            for _ in range(3):
                sock.sendto(b"hello", (str(address), 5000))
        wait_dropped(node, before, Rule.DROP_UNSOLICITED, 3)
        wait_dropped(node, before, Rule.DROP_EXTERNAL, 3)
        assert not heard.seen(lambda frame: frame.dst_port == 5000)


def test_what_a_deleted_port_began_ends_with_it(lab: Lab, vms: dict[str, Vm]) -> None:
    """Else the outside would reach, by the old connection, whoever gets the address next."""
    stays = vms["per-1"]
    goes = lab.create_vm("goes", stays.node, stays.port["network_id"])
    goes.wait_configured()

    def connections(vm: Vm) -> list[str]:
        dump = vm.node.ovs.appctl("dpctl/dump-conntrack", f"zone={CtZone.SNAT.value}")
        return [line for line in dump.splitlines() if f"orig=(src={vm.address}," in line]

    for vm in (stays, goes):
        with udp(vm.namespace, vm.address) as it:
            it.sendto(b"hello", (str(lab.fabric.far_host), 7))
        wait_until(lambda vm=vm: connections(vm), 20, "no connection to lose")  # type: ignore[misc]
    lab.delete_vm(goes)
    wait_until(lambda: not connections(goes), 20, "its connections are still there")
    assert connections(stays)


def test_a_packet_waits_for_the_next_hop(lab: Lab, vms: dict[str, Vm]) -> None:
    """One for each next hop, the latest. The router is there and says nothing until the test has it answer."""
    vm = vms["lost-1"]
    router = make_router(lab, "late", "physnet2", f"{SECOND_NEXT_HOP}/24", f"{BEHIND_LATE}/32")
    netns.set_sysctl(router, {"ipv4/conf/all/arp_ignore": 8})
    own_mac = mac_of(router, "eth0")
    with (
        capture.Capture(router, "eth0", "arp or udp", lab.directory) as heard,
        udp(vm.namespace, vm.address) as sock,
        udp(router, BEHIND_LATE, 5000) as server,
    ):
        for text in (b"first", b"second", b"third"):
            sock.sendto(text, (BEHIND_LATE, 5000))
        (asked, *_) = saw(heard, lambda frame: str(frame.dst) == SECOND_NEXT_HOP and frame.protocol == 1)
        assert not heard.seen(lambda frame: frame.dst_port == 5000)
        send_claim(router, own_mac, SECOND_NEXT_HOP, asked)
        text, (source, _) = server.recvfrom(100)
        assert text == b"third" and source.startswith("198.18.64.")
        netns.set_sysctl(router, {"ipv4/conf/all/arp_ignore": 0})
        wait_reached(vm, SECOND_NEXT_HOP, 10)
        (came,) = saw(heard, lambda frame: frame.dst_port == 5000)
        assert (came.eth_dst, came.eth_src, str(came.src)) == (own_mac, asked.eth_src, source)
    with capture.Capture(router, "eth0", "icmp", lab.directory) as heard:
        assert not vm.ping(SECOND_NEXT_HOP).lost
        assert {str(frame.src) for frame in saw(heard, request)} == {source}


def send_claim(namespace: str, own_mac: str, address: str, asked: capture.Seen) -> None:
    """The answer to an ARP request (RFC 826)."""
    ends = mac(own_mac) + packed(address) + mac(asked.eth_src) + packed(asked.src)
    with netns.inside(namespace):
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    with raw:
        raw.bind(("eth0", 0))
        raw.send(mac(asked.eth_src) + mac(own_mac) + b"\x08\x06\0\1\x08\0\x06\x04\0\2" + ends)


@pytest.fixture
def new_router_mac(lab: Lab, request: pytest.FixtureRequest) -> Iterator[str]:
    """Each test has its own: the nodes still know the last one's."""
    old, new = mac_of(lab.fabric.outside, OUTSIDE_INTERFACE), str(request.param)
    netns.configure(lab.fabric.outside, f"link set {OUTSIDE_INTERFACE} address {new}")
    yield new
    netns.configure(lab.fabric.outside, f"link set {OUTSIDE_INTERFACE} address {old}")


@pytest.mark.parametrize("new_router_mac", ["02:00:00:00:fe:02"], indirect=True)
def test_an_announced_mac_of_the_next_hop_is_taken_at_once(lab: Lab, vms: dict[str, Vm], new_router_mac: str) -> None:
    """RFC 5227 §3: a router that takes over says so. Nobody waits for the next refresh."""
    assert not vms["per-1"].ping(lab.fabric.far_host, count=1, wait=0.3).answered
    announce = ["busybox", "arping", "-U", "-c", "1", "-w", "1", "-I", OUTSIDE_INTERFACE, str(OUTSIDE_ROUTER.ip)]
    netns.execute(lab.fabric.outside, *announce, check=False)
    for vm in (vms["per-1"], vms["per-2"]):
        wait_reached(vm, lab.fabric.far_host, ANNOUNCED)


@pytest.mark.parametrize("new_router_mac", ["02:00:00:00:fe:03"], indirect=True)
def test_a_new_mac_of_the_next_hop_is_followed(lab: Lab, vms: dict[str, Vm], new_router_mac: str) -> None:
    assert not vms["per-1"].ping(lab.fabric.far_host, count=1, wait=0.3).answered
    for vm in (vms["per-1"], vms["per-2"]):
        wait_reached(vm, lab.fabric.far_host, REFRESHED)
        with lab.outside_capture("icmp") as outside:
            assert not vm.ping(lab.fabric.far_host).lost
            assert {frame.eth_dst for frame in saw(outside, request)} == {new_router_mac}
