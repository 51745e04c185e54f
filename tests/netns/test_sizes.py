"""Packets that are larger than the network where they go takes, whatever the way: they are cut, or their sender told.

`wide` and `small` are routed to each other, `small` has a smaller MTU. Of the two external networks one has, too.
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from controller.client import Object
from etc.lab import netns
from etc.lab.capture import UDP, Capture
from etc.lab.fabric import OUTSIDE_ROUTER
from etc.lab.lab import Lab
from etc.lab.processes import wait_until
from etc.lab.vm import Vm
from tests.netns.cloud import (
    ANYCAST_MAC,
    make_network,
    make_outside,
    make_vms,
    metric,
    saw,
    tcp,
    udp,
    wait_outside,
    wait_reached,
    want,
)
from tests.netns.floating import (
    DEADLINE,
    SECOND_INTERFACE,
    SECOND_POOL,
    SECOND_ROUTER,
    Place,
    far,
    give,
    make_pool,
    second_outside,
    take,
)

pytestmark = pytest.mark.root

RETRY, TRIES = 0.5, 10  # seconds
MTU = 1400
ETHERNET = 14
IP_MTU_DISCOVER, DONT, DO = 10, 0, 2  # ip(7)
PAYLOAD = os.urandom(1 << 19)


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=2)


@pytest.fixture(scope="module")
def vms(lab: Lab) -> Iterator[dict[str, Vm]]:
    """`owner` has a floating IP on the external network with the smaller MTU, `web` a forwarded port there; the others
    of `wide` leave by the larger one. `served` of `small` has a floating IP, `led` forwarded ports.
    """
    outside = make_outside(lab)
    make_pool(lab, outside)
    with second_outside(lab) as second:
        lab.client.update_network(second["id"], {"mtu": MTU})
        make_pool(lab, second, "second", SECOND_POOL)
        wide = make_network(lab, "wide", "10.20.0.0/24", segment=120)
        small = make_network(lab, "small", "10.21.0.0/24", segment=121, mtu=MTU)
        first, other = lab.nodes
        places = {"plain": (first, wide), "owner": (first, wide), "web": (first, wide)}
        places |= {"served": (first, small), "led": (other, small), "bare": (first, small), "remote": (other, small)}
        vms = make_vms(lab, *(want(name, *place) for name, place in places.items()))
        wait_outside(lab, *vms.values())
        give(lab, vms["owner"], "second")
        wait_reached(vms["owner"], SECOND_ROUTER)
        yield vms


@pytest.fixture(scope="module")
def addresses(lab: Lab, vms: dict[str, Vm]) -> dict[str, str]:
    """What leads to the VMs from outside."""
    found = {"served": str(give(lab, vms["served"])["address"])}
    for name, pool in (("web", "second"), ("led", "public")):
        floating_ip = take(lab, pool)
        for port in (5000, 5001):
            forward(lab, floating_ip, vms[name], port)
        found[name] = str(floating_ip["address"])
    return found


def forward(lab: Lab, floating_ip: Object, vm: Vm, port: int) -> None:
    fields = {"protocol": "udp", "ports": str(port), "port_id": vm.port["id"], "to": port + 1000}
    lab.confirm(lab.client.create_port_forwarding(floating_ip["id"], fields).revision)


@pytest.fixture(autouse=True)
def forgetful(lab: Lab, vms: dict[str, Vm]) -> None:
    """Nobody has heard of any MTU."""
    for namespace in (lab.fabric.far, lab.fabric.outside, *(vm.namespace for vm in vms.values())):
        netns.execute(namespace, "ip", "route", "flush", "cache")


def discover(sock: socket.socket, how: int) -> None:
    sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, how)


def ping(namespace: str, target: object, size: int) -> str:
    """Not to be cut; `size` is that of the IP packet."""
    line = ["ping", "-n", "-c1", "-W5", "-Mdo", "-s", str(size - 28), str(target)]
    return netns.execute(namespace, *line, check=False)


def test_the_external_network_of_its_floating_ip_counts(lab: Lab, vms: dict[str, Vm]) -> None:
    owner, plain = vms["owner"], vms["plain"]
    assert f"mtu = {MTU}" in ping(owner.namespace, SECOND_ROUTER, MTU + 1)
    assert "1 received" in ping(owner.namespace, SECOND_ROUTER, MTU)
    assert "1 received" in ping(plain.namespace, lab.fabric.far_host, 1500)
    with Capture(lab.fabric.outside, SECOND_INTERFACE, "udp", lab.directory / "out") as wire:
        assert exchange(owner.namespace, owner.address, lab.fabric.outside, SECOND_ROUTER, 1472)
        mine = saw(wire, lambda frame: frame.protocol == UDP and str(frame.dst) == SECOND_ROUTER, 2)
    assert max(frame.length for frame in mine) <= MTU + ETHERNET


def exchange(client: str, source: object, server: str, target: object, size: int) -> bool:
    """A datagram that may be cut, and its answer."""
    with udp(server, target, 5000) as listener, udp(client, source) as sock:
        discover(sock, DONT)
        discover(listener, DONT)
        listener.settimeout(DEADLINE)
        sock.connect((str(target), 5000))
        peer = ask(sock, listener, size)
        listener.connect(peer)
        return ask(listener, sock, size) == (str(target), 5000)


def ask(sender: socket.socket, receiver: socket.socket, size: int) -> tuple[str, int]:
    """Send a datagram until one arrives: who is told a smaller MTU by the first cuts the next one for it."""
    question = os.urandom(size)
    receiver.settimeout(RETRY)
    for _ in range(TRIES):
        with suppress(TimeoutError):
            sender.send(question)
            heard, peer = receiver.recvfrom(65535)
            assert heard == question
            return peer  # type: ignore[no-any-return]
    raise AssertionError(f"none of {TRIES} datagrams of {size} bytes arrived")


def test_what_a_guest_has_cut_itself_is_cut_again(lab: Lab, vms: dict[str, Vm]) -> None:
    owner = vms["owner"]
    with Capture(lab.fabric.outside, SECOND_INTERFACE, "ip", lab.directory / "out") as wire:
        assert exchange(owner.namespace, owner.address, lab.fabric.outside, SECOND_ROUTER, 4000)
        mine = saw(wire, lambda frame: frame.protocol == UDP and str(frame.dst) == SECOND_ROUTER, 3)
    assert max(frame.length for frame in mine) <= MTU + ETHERNET


def test_the_answer_of_a_forwarded_port_leaves_by_its_floating_ips_network(
    lab: Lab, vms: dict[str, Vm], addresses: dict[str, str]
) -> None:
    web = vms["web"]
    with udp(web.namespace, web.address, 6000) as server, udp(lab.fabric.far) as client:
        client.connect((addresses["web"], 5000))
        client.send(b"question")
        _, peer = server.recvfrom(100)
        discover(server, DO)
        server.connect(peer)
        server.send(bytes(1472))
        wait_told(web.namespace, lab.fabric.far_host)
        forget_error(server)
        discover(server, DONT)
        server.send(bytes(1472))
        client.settimeout(DEADLINE)
        assert len(client.recv(2000)) == 1472
    # by the other way out there is room
    assert "1 received" in ping(vms["plain"].namespace, lab.fabric.far_host, 1500)


def wait_told(namespace: str, target: object) -> None:
    """Until a sender believes that no more than MTU fits."""
    route = ["ip", "route", "get", str(target)]
    wait_until(lambda: f"mtu {MTU}" in netns.execute(namespace, *route), DEADLINE, "it was not told")


def forget_error(sock: socket.socket) -> None:
    """What the ICMP error left at the socket, and the next call would raise."""
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.EMSGSIZE


@pytest.mark.parametrize("target", ["bare", "remote"])
def test_between_networks_of_one_router(lab: Lab, vms: dict[str, Vm], target: str) -> None:
    sender, receiver = vms["plain"], vms[target]
    with sender.capture("icmp") as heard:
        assert f"mtu = {MTU}" in ping(sender.namespace, receiver.address, MTU + 1)
        (error,) = saw(heard, lambda frame: frame.icmp_type == 3)
    configured = sender.configured()
    assert configured and (error.src, error.dst, error.eth_src) == (configured.router, sender.address, ANYCAST_MAC)
    assert "1 received" in ping(sender.namespace, receiver.address, MTU)
    with receiver.capture("udp") as came:
        assert exchange(sender.namespace, sender.address, receiver.namespace, receiver.address, 1472)
        parts = saw(came, lambda frame: frame.dst == receiver.address, 2)
    assert max(frame.length for frame in parts) <= MTU + ETHERNET


@pytest.mark.parametrize("target", ["bare", "remote"])
def test_tcp_between_networks_of_one_router(lab: Lab, vms: dict[str, Vm], target: str) -> None:
    """The receiver believes in 1500, so the MSS does not fit."""
    sender, receiver = vms["plain"], vms[target]
    with (
        tcp(receiver.namespace, receiver.address, 7002) as server,
        tcp(sender.namespace, sender.address) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1460)
        server.listen(1)
        served = pool.submit(lambda: echo(server))
        client.settimeout(DEADLINE)
        client.connect((str(receiver.address), 7002))
        client.sendall(PAYLOAD)
        client.shutdown(socket.SHUT_WR)
        back = b"".join(iter(lambda: client.recv(65536), b""))
        arrived = served.result(DEADLINE)
    assert {hashlib.sha256(data).digest() for data in (arrived, back)} == {hashlib.sha256(PAYLOAD).digest()}


def echo(server: socket.socket) -> bytes:
    connection, _ = server.accept()
    with connection:
        connection.settimeout(DEADLINE)
        data = b"".join(iter(lambda: connection.recv(65536), b""))
        connection.sendall(data)
    return data


def test_from_outside_through_a_floating_ip(lab: Lab, vms: dict[str, Vm], addresses: dict[str, str]) -> None:
    served, address = vms["served"], addresses["served"]
    before = metric(lab, "trunkline_packet_in_outcomes_total", "too_large")
    with lab.outside_capture("icmp") as wire:
        assert f"mtu = {MTU}" in ping(lab.fabric.far, address, MTU + 1)
        errors = saw(wire, lambda frame: frame.icmp_type == 3)
    assert {(str(frame.src), frame.dst) for frame in errors} == {(address, lab.fabric.far_host)}
    assert metric(lab, "trunkline_packet_in_outcomes_total", "too_large") > before
    assert "1 received" in ping(lab.fabric.far, address, MTU)
    with served.capture("udp") as came:
        with udp(served.namespace, served.address, 5000) as listener, udp(lab.fabric.far) as sock:
            discover(sock, DONT)
            question = os.urandom(1472)
            sock.sendto(question, (address, 5000))
            heard, peer = listener.recvfrom(65535)
            assert heard == question and peer[0] == str(lab.fabric.far_host)
            listener.sendto(b"yes", peer)
            assert sock.recvfrom(100) == (b"yes", (address, 5000))
        parts = saw(came, lambda frame: frame.dst == served.address, 2)
    assert max(frame.length for frame in parts) <= MTU + ETHERNET


@pytest.mark.parametrize("name", ["served", "led", "bare"])
def test_whoever_sends_to_a_small_network_from_outside_is_told(
    lab: Lab, vms: dict[str, Vm], addresses: dict[str, str], name: str
) -> None:
    """By a floating IP, a forwarded port, or as an answer to the node's SNAT address."""
    vm = vms[name]
    with udp(vm.namespace, vm.address, 6000) as inside, udp(lab.fabric.far, lab.fabric.far_host, 5300) as outside:
        if name == "bare":
            inside.sendto(b"question", (str(lab.fabric.far_host), 5300))
            _, peer = outside.recvfrom(100)
        else:
            peer = (addresses[name], 6000 if name == "served" else 5000)
        discover(outside, DO)
        outside.connect(peer)
        outside.send(bytes(1472))
        wait_told(lab.fabric.far, peer[0])
        forget_error(outside)
        outside.send(bytes(MTU - 28))
        inside.settimeout(DEADLINE)
        assert len(inside.recv(2000)) == MTU - 28


@pytest.mark.parametrize("name", ["web", "led"])
def test_datagrams_in_fragments_reach_a_forwarded_port_and_come_back(
    lab: Lab, vms: dict[str, Vm], addresses: dict[str, str], name: str
) -> None:
    """When a first one that is whole has begun the connection."""
    vm = vms[name]
    with udp(vm.namespace, vm.address, 6001) as server, udp(lab.fabric.far) as client:
        client.connect((addresses[name], 5001))
        discover(client, DONT)
        discover(server, DONT)
        client.send(b"whole")
        server.settimeout(DEADLINE)
        assert server.recvfrom(100)[0] == b"whole"
        for size in (4000, 9000, 20):
            peer = ask(client, server, size)
            assert peer[0] == str(lab.fabric.far_host)
            server.connect(peer)
            ask(server, client, size)


def test_other_fragments_of_a_forwarded_ports_vm_leave_as_without_it(
    lab: Lab, vms: dict[str, Vm], addresses: dict[str, str]
) -> None:
    assert addresses["web"]
    for place, target in (
        (far(lab), lab.fabric.far_host),
        (Place(lab.fabric.outside, OUTSIDE_ROUTER.ip), OUTSIDE_ROUTER.ip),
    ):
        vm = vms["web"]
        with udp(vm.namespace, vm.address) as client, udp(place.namespace, place.address, 5002) as server:
            discover(client, DONT)
            client.connect((str(target), 5002))
            assert ask(client, server, 4000)[0] == str(vm.node.snat_address)
