"""Ports of one floating IP that lead to VMs of several nodes, on a flat and on a VLAN external network."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from controller.client import Object
from etc.lab.lab import Lab
from etc.lab.processes import wait_until
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
    want,
)
from tests.netns.floating import (
    DEADLINE,
    SECOND_INTERFACE,
    SECOND_POOL,
    answering,
    at,
    connections,
    far,
    give,
    mac_of,
    make_pool,
    second_outside,
    take,
    talk,
    wait_owner,
    wait_talk,
)

pytestmark = pytest.mark.root

# protocol, ports, VM, to; the VM's node is in its name
FORWARDINGS = (
    ("tcp", "2201", "web1", 22),
    ("tcp", "2202", "web2", 22),
    ("tcp", "8000-8009", "web2", 9000),
    ("udp", "53", "web1", 5353),
    ("udp", "5000-5099", "web2", None),
    ("udp", "5200", "other2", None),
)
# what is asked for, and where it arrives
TCP = ((2201, "web1", 22), (2202, "web2", 22), (8000, "web2", 9000), (8009, "web2", 9009))
UDP_PORTS = (
    (53, "web1", 5353),
    (5000, "web2", 5000),
    (5063, "web2", 5063),
    (5099, "web2", 5099),
    (5200, "other2", 5200),
)
POOLS = ("public", "second")


@pytest.fixture(scope="module")
def vms(lab: Lab) -> Iterator[dict[str, Vm]]:
    outside = make_outside(lab)
    with second_outside(lab) as second:
        make_pool(lab, outside)
        make_pool(lab, second, "second", SECOND_POOL)
        web = make_network(lab, "web", "10.20.0.0/24", segment=120)
        other = make_network(lab, "other", "10.21.0.0/24", segment=121, gateway_mode="shared")
        places = {"web1": web, "web2": web, "other2": other, "client1": web, "client3": other}
        vms = make_vms(lab, *(want(name, lab.nodes[int(name[-1]) - 1], network) for name, network in places.items()))
        wait_outside(lab, *vms.values())
        yield vms


@pytest.fixture(scope="module")
def shared(lab: Lab, vms: dict[str, Vm]) -> dict[str, Object]:
    """For each pool a floating IP with the forwardings; n1, where the first of them leads, has the address."""
    found = {}
    for pool in POOLS:
        floating_ip = take(lab, pool)
        for protocol, ports, name, to in FORWARDINGS:
            forward(lab, floating_ip, vms[name], protocol, ports, to)
        found[pool] = floating_ip
    found["macs"] = {vm.name: mac_of(lab, vm.node) for vm in vms.values()}
    return found


@pytest.fixture(scope="module")
def ready(vms: dict[str, Vm], shared: dict[str, Object], controller: str) -> dict[str, Vm]:
    return vms


def forward(lab: Lab, floating_ip: Object, vm: Vm, protocol: str, ports: str, to: int | None = None) -> Object:
    fields = {"protocol": protocol, "ports": ports, "port_id": vm.port["id"], **({"to": to} if to else {})}
    written = lab.client.create_port_forwarding(floating_ip["id"], fields)
    lab.confirm(written.revision)
    assert written.object
    return written.object


@pytest.mark.parametrize("pool", POOLS)
def test_forwarded_tcp_reaches_vms_of_several_nodes(
    lab: Lab, ready: dict[str, Vm], shared: dict[str, Object], pool: str
) -> None:
    address = shared[pool]["address"]
    for asked, name, inside in TCP:
        with ready[name].capture("tcp") as heard:
            assert talk(far(lab), at(ready[name]), (address, asked), "tcp", inside) == str(lab.fabric.far_host)
            saw(heard, lambda frame, inside=inside: frame.dst_port == inside, 3)  # type: ignore[misc]


@pytest.mark.parametrize("pool", POOLS)
def test_a_forwarded_udp_range_reaches_vms_and_its_neighbours_do_not(
    lab: Lab, ready: dict[str, Vm], shared: dict[str, Object], pool: str
) -> None:
    address = shared[pool]["address"]
    before = drops(lab.nodes[0])
    with ready["web2"].capture("udp") as heard, udp(lab.fabric.far) as sock:
        for closed in (4999, 5100):
            sock.sendto(b"closed", (address, closed))
        wait_dropped(lab.nodes[0], before, Rule.DROP_EXTERNAL, 2)
        for asked, name, inside in UDP_PORTS:
            assert talk(far(lab), at(ready[name]), (address, asked), "udp", inside) == str(lab.fabric.far_host)
        asked_for = {frame.dst_port for frame in saw(heard, lambda frame: frame.dst == ready["web2"].address, 3)}
    assert asked_for == {5000, 5063, 5099}


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize(
    ("asked", "name", "inside"), [(53, "web1", 5353), (5063, "web2", 5063), (5200, "other2", 5200)]
)
def test_datagrams_in_fragments_are_forwarded_and_come_back(
    lab: Lab, ready: dict[str, Vm], shared: dict[str, Object], pool: str, asked: int, name: str, inside: int
) -> None:
    client = far(lab).namespace, lab.fabric.far_host
    assert in_fragments(client, ready[name], shared[pool]["address"], asked, inside) == str(lab.fabric.far_host)


@pytest.mark.parametrize("client", ["client1", "client3", "web1", "web2"])
@pytest.mark.parametrize(("asked", "name", "inside"), [(53, "web1", 5353), (5063, "web2", 5063)])
def test_vms_reach_forwarded_ports_in_fragments_too(
    lab: Lab, ready: dict[str, Vm], shared: dict[str, Object], client: str, asked: int, name: str, inside: int
) -> None:
    vm = ready[client]
    seen = in_fragments((vm.namespace, vm.address), ready[name], shared["public"]["address"], asked, inside)
    assert seen == str(vm.node.snat_address)


def in_fragments(client: tuple[str, object], vm: Vm, address: str, asked: int, inside: int) -> str:
    """A large question and its answer in a conversation that a small one began. By whom it was asked."""
    with udp(vm.namespace, vm.address, inside) as server, udp(*client) as sock:
        sock.connect((address, asked))  # so it hears this one only
        for size in (20, 4000, 8000):
            question = os.urandom(size)
            sock.send(question)
            heard, peer = server.recvfrom(65535)
            assert heard == question
            server.sendto(question[::-1], peer)
            assert sock.recv(65535) == question[::-1]
    return str(peer[0])


def test_replies_leave_from_the_node_that_has_the_vm(lab: Lab, ready: dict[str, Vm], shared: dict[str, Object]) -> None:
    address = shared["public"]["address"]
    with lab.outside_capture("udp") as wire:
        for asked, name, inside in UDP_PORTS:
            talk(far(lab), at(ready[name]), (address, asked), "udp", inside)
        replies = saw(wire, lambda frame: str(frame.src) == address, len(UDP_PORTS))
    macs = {(frame.src_port, frame.eth_src) for frame in replies}
    assert macs == {(asked, shared["macs"][name]) for asked, name, _ in UDP_PORTS}


def test_one_node_answers_for_a_forwarded_address(lab: Lab, ready: dict[str, Vm], shared: dict[str, Object]) -> None:
    assert answering(lab, shared["public"]["address"]) == [shared["macs"]["web1"]]
    assert answering(lab, shared["second"]["address"], interface=SECOND_INTERFACE) == [shared["macs"]["web1"]]


@pytest.mark.parametrize("client", ["client1", "client3", "web1", "web2"])
def test_vms_reach_forwarded_ports_their_own_too(
    lab: Lab, ready: dict[str, Vm], shared: dict[str, Object], client: str
) -> None:
    """Whoever has no floating IP is seen with its node's SNAT address, as by any other host outside."""
    vm, address = ready[client], shared["public"]["address"]
    seen = [talk(at(vm), at(ready[name]), (address, asked), "tcp", inside) for asked, name, inside in TCP]
    seen += [talk(at(vm), at(ready[name]), (address, asked), "udp", inside) for asked, name, inside in UDP_PORTS]
    assert set(seen) == {str(vm.node.snat_address)}


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize(("asked", "name", "inside"), [(53, "web1", 5353), (5063, "web2", 5063)])
def test_an_icmp_error_about_a_forwarded_port_finds_its_vm(
    lab: Lab, ready: dict[str, Vm], shared: dict[str, Object], pool: str, asked: int, name: str, inside: int
) -> None:
    vm, address = ready[name], shared[pool]["address"]
    with vm.capture("icmp") as heard, udp(vm.namespace, vm.address, inside) as server:
        with udp(lab.fabric.far) as client:
            client.sendto(b"question", (address, asked))
            _, peer = server.recvfrom(100)
        server.connect(peer)
        server.send(b"answer")  # nobody is there any more
        with pytest.raises(ConnectionRefusedError):
            server.recv(100)
        (error,) = saw(heard, lambda frame: frame.icmp_type == 3)
    assert (error.src, error.dst) == (lab.fabric.far_host, vm.address)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("asked", [53, 5063])
def test_an_icmp_error_of_a_forwarded_port_comes_from_its_address(
    lab: Lab, ready: dict[str, Vm], shared: dict[str, Object], pool: str, asked: int
) -> None:
    """Nobody listens in the VM."""
    address = shared[pool]["address"]
    with udp(lab.fabric.far) as client:
        client.connect((address, asked))
        client.send(b"anybody?")
        with pytest.raises(ConnectionRefusedError):
            client.recv(100)


def test_what_a_vm_begins_leaves_as_without_forwardings(lab: Lab, ready: dict[str, Vm]) -> None:
    for name in ("web1", "web2"):
        for kind in ("tcp", "udp", "icmp"):
            assert talk(at(ready[name]), far(lab), lab.fabric.far_host, kind) == str(ready[name].node.snat_address)


# changes


def test_a_vm_has_both_its_own_floating_ip_and_forwarded_ports(
    lab: Lab, vms: dict[str, Vm], shared: dict[str, Object]
) -> None:
    own, address = give(lab, vms["web2"]), shared["public"]["address"]
    server, host = at(vms["web2"]), str(lab.fabric.far_host)
    assert talk(far(lab), server, own["address"], "tcp") == host
    assert talk(far(lab), server, (address, 2202), "tcp", 22) == host
    assert talk(far(lab), server, (address, 5042), "udp", 5042) == host
    assert talk(server, far(lab), host, "tcp") == own["address"]
    lab.confirm(lab.client.delete_floating_ip(own["id"]).revision)
    wait_talk(server, far(lab), lab.fabric.far_host, "tcp", vms["web2"].node.snat_address)


def test_a_removed_forwarding_cuts_its_sessions_and_no_others(
    lab: Lab, vms: dict[str, Vm], shared: dict[str, Object]
) -> None:
    floating_ip = shared["public"]
    (forwarding,) = (one for one in lab.client.list_port_forwardings(floating_ip["id"]) if one["ports"] == "2202")
    with ExitStack() as stack:
        cut, stays = (
            session(lab, stack, vms[name], floating_ip, port, 22) for name, port in (("web2", 2202), ("web1", 2201))
        )
        more = session(lab, stack, vms["web2"], floating_ip, 8001, 9001)
        node = vms["web2"].node
        of_it = (floating_ip["address"], lab.fabric.far_host)
        assert any("dport=2202" in line for line in connections(node, *of_it))
        with vms["web2"].capture("tcp") as heard:
            lab.confirm(lab.client.delete_port_forwarding(floating_ip["id"], forwarding["id"]).revision)
            wait_until(
                lambda: not any("dport=2202" in line for line in connections(node, *of_it)),
                DEADLINE,
                "the connection is still known",
            )
            cut[0].sendall(b"are you there?")
            for client, served in (stays, more):
                exchange(client, served)
            assert not heard.seen(lambda frame: frame.dst_port == 22 and frame.length > 100)
            cut[1].settimeout(0.5)
            with pytest.raises(TimeoutError):
                cut[1].recv(100)
            # nor does what the VM says get out under the old address
            with lab.outside_capture("tcp") as wire:
                cut[1].sendall(b"hello")
                exchange(*more)
                saw(wire, lambda frame: frame.src_port == 8001)
                assert not wire.seen(lambda frame: frame.src_port == 2202)
    before = drops(lab.nodes[0])
    with tcp(lab.fabric.far) as late:
        late.settimeout(1)
        with pytest.raises(OSError):
            late.connect((floating_ip["address"], 2202))
    wait_dropped(lab.nodes[0], before, Rule.DROP_EXTERNAL, 1)


def session(lab: Lab, stack: ExitStack, vm: Vm, floating_ip: Object, asked: int, inside: int) -> tuple:
    """A TCP connection from outside: (client, served)."""
    listener = stack.enter_context(tcp(vm.namespace, vm.address, inside))
    listener.listen(1)
    client = stack.enter_context(tcp(lab.fabric.far))
    client.connect((floating_ip["address"], asked))
    served, _ = listener.accept()
    stack.enter_context(served)
    served.settimeout(10)
    exchange(client, served)
    return client, served


def exchange(client, served) -> None:  # type: ignore[no-untyped-def]
    client.sendall(b"ping")
    assert served.recv(100) == b"ping"
    served.sendall(b"pong")
    assert client.recv(100) == b"pong"


def test_a_forwarded_address_follows_its_first_vm(lab: Lab, vms: dict[str, Vm]) -> None:
    floating_ip = take(lab)
    forward(lab, floating_ip, vms["web2"], "tcp", "443")
    wait_owner(lab, floating_ip, lab.nodes[1])
    first = lab.client.list_port_forwardings(floating_ip["id"])[0]
    forward(lab, floating_ip, vms["web1"], "tcp", "80")
    lab.confirm(lab.client.delete_port_forwarding(floating_ip["id"], first["id"]).revision)
    wait_owner(lab, floating_ip, lab.nodes[0])
    assert talk(far(lab), at(vms["web1"]), (floating_ip["address"], 80), "tcp", 80) == str(lab.fabric.far_host)
    # deleted with its VM
    lab.confirm(lab.client.delete_floating_ip(floating_ip["id"]).revision)
    wait_owner(lab, floating_ip, None)
