"""Nodes with one card and one address: NAT leaves with the host's own, and the host notices nothing of it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from agent.host_flows import MARK, MARK_MASK
from etc.lab import netns, probes
from etc.lab.capture import Seen
from etc.lab.fabric import OUTSIDE_ROUTER
from etc.lab.lab import Lab
from etc.lab.node import Node
from etc.lab.processes import CommandFailed, wait_until
from etc.lab.vm import Vm
from flows.pipeline import HOST_SNAT_PORTS
from flows.rules import Rule
from tests.netns.cloud import (
    drops,
    make_network,
    make_outside,
    make_vms,
    saw,
    tcp,
    udp,
    udp_frame,
    unbroken,
    wait_dropped,
    wait_outside,
    wait_reached,
    want,
)
from tests.netns.floating import Place, answering, at, far, give, make_pool, talk, talks

pytestmark = pytest.mark.root

KINDS = ("tcp", "udp", "icmp", "fragments")
FULL = 7900
"""A server's port: the next one up is another server's."""
LATE = b"without a port left"
BRIDGE = "br-physnet-ext"
FOREIGN = "cookie=0x77, priority=5,udp,tp_dst=9999 actions=NORMAL"  # as it is shown
NORMAL = "priority=0 actions=NORMAL"
SETTLED = 20
"""Seconds that agent and controller get to agree."""


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    """Both hosts have their address on the bridge of the external network."""
    lab = make_lab(nodes=2, agent_options={"snat_address": "physnet-ext:host", "snat_share": 0})
    for node in lab.nodes:
        said_by_agent(node, f"device {BRIDGE} holds no IPv4 address")
        # with the userspace datapath the kernel sees what comes in by the card as well, and would answer for it
        netns.set_sysctl(node.namespace, {"ipv4/conf/all/arp_ignore": 1})
        netns.configure(
            node.namespace,
            f"address add {node.snat_address}/24 dev {BRIDGE}",
            f"link set {BRIDGE} up",
            f"route add default via {OUTSIDE_ROUTER.ip}",
        )
    return lab


@pytest.fixture(scope="module")
def hosts(lab: Lab) -> list[Place]:
    """With an external network, which makes br-int give back what is the hosts'."""
    for node in lab.nodes:
        wait_flows(node, given_back=False)
        # nothing is taken from a host while there is nobody to give it back
        assert talk(host(node), far(lab), lab.fabric.far_host, "icmp") == str(node.snat_address)
    make_outside(lab)
    for node in lab.nodes:
        wait_flows(node)
    return [host(node) for node in lab.nodes]


@pytest.fixture(scope="module")
def vms(lab: Lab, hosts: list[Place]) -> dict[str, Vm]:
    network = make_network(lab, "net", "10.1.0.0/24", segment=101)
    places = [*enumerate(lab.nodes, 1), ("1b", lab.nodes[0])]
    vms = make_vms(lab, *(want(f"v{name}", node, network) for name, node in places))
    wait_outside(lab, *vms.values())
    return vms


def host(node: Node) -> Place:
    return Place(node.namespace, node.snat_address)


def said_by_agent(node: Node, text: str) -> None:
    assert node.agent
    log = node.agent.log
    wait_until(lambda: text in log.read_text(), SETTLED, lambda: f"{text!r} is not in {log.read_text()}")


def ours(node: Node) -> list[str]:
    """The agent's flows in the bridge of the external network."""
    dump = node.ovs.ofctl("dump-flows", BRIDGE, "--no-stats", f"cookie={MARK:#x}/{MARK_MASK:#x}")
    return sorted(line.strip() for line in dump.splitlines() if "actions=" in line)


def others(node: Node) -> list[str]:
    return [line for line in node.ovs.flows(BRIDGE) if line not in ours(node)]


def wait_flows(node: Node, *, given_back: bool = True) -> None:
    def found() -> bool:
        try:
            now = ours(node)
        except CommandFailed:  # it is just starting
            return False
        right = all(f"nw_dst={node.snat_address} " in line.replace(",", " ") for line in now)
        return bool(now) and right and given_back == any("icmp_type=3" in line for line in now)

    wait_until(found, SETTLED, lambda: f"flows of {node.name}: {node.ovs.flows(BRIDGE)}")


def everything(lab: Lab, vms: dict[str, Vm], vm: Vm) -> None:
    """All at once: a VM and its host begin conversations with the far host, which begins some with the host."""
    address, mine = str(vm.node.snat_address), host(vm.node)
    outside = [(each, far(lab), lab.fabric.far_host, kind) for each in (at(vm), mine) for kind in KINDS]
    inward = [(far(lab), mine, mine.address, kind) for kind in KINDS]
    assert talks(*outside, *inward) == [address] * len(outside) + [str(lab.fabric.far_host)] * len(inward)


@contextmanager
def connected(client: Place, server: Place) -> Iterator[Callable[[], None]]:
    """A TCP connection that can be asked whether it still works."""
    with tcp(server.namespace, server.address) as listener, tcp(client.namespace, client.address) as connection:
        listener.listen(1)
        connection.connect(listener.getsockname())
        served, _ = listener.accept()
        with served:
            served.settimeout(10)

            def works() -> None:
                for one, other in ((connection, served), (served, connection)):
                    one.sendall(b"still there?")
                    assert other.recv(100) == b"still there?"

            works()
            yield works


@contextmanager
def undisturbed(lab: Lab, vm: Vm) -> Iterator[None]:
    """No ping of the VM or of its host is lost, and the host's connections in both directions last."""
    mine, theirs = host(vm.node), far(lab)
    log = lab.directory / f"{vm.node.name}-ping.log"
    with ExitStack() as stack:
        works = [stack.enter_context(connected(*pair)) for pair in ((mine, theirs), (theirs, mine), (at(vm), theirs))]
        stream = probes.PingStream(probes.into(vm.node.namespace), lab.fabric.far_host, log)
        try:
            with unbroken((vm, lab.fabric.far_host)):
                yield
        finally:
            count = stream.stop()
        assert count.unbroken, count
        for each in works:
            each()


def test_the_node_says_whose_address_it_has(lab: Lab, vms: dict[str, Vm]) -> None:
    for node in lab.nodes:
        shown = lab.client.get_node(node.name)
        (held,) = shown["external_addresses"]
        assert (held["address"], held["host"], shown["problems"]) == (str(node.snat_address), True, [])


@pytest.mark.parametrize("name", ["v1", "v2"])
def test_vm_and_host_share_an_address_and_each_gets_its_own(lab: Lab, vms: dict[str, Vm], name: str) -> None:
    everything(lab, vms, vms[name])


def test_the_ports_of_vms_are_those_that_the_host_never_takes(lab: Lab, vms: dict[str, Vm]) -> None:
    vm = vms["v1"]
    with lab.outside_capture(f"src host {vm.node.snat_address} and (tcp or udp)") as outside:
        for kind in ("tcp", "udp"):
            talk(at(vm), far(lab), lab.fabric.far_host, kind)
        ports = {frame.src_port for frame in saw(outside, lambda frame: frame.src_port is not None, 2)}
    first, last = HOST_SNAT_PORTS
    assert all(port is not None and first <= port <= last for port in ports), ports


def test_without_a_port_left_only_what_is_new_is_dropped(lab: Lab, vms: dict[str, Vm]) -> None:
    """One VM uses up all ports towards one server: others reach it no more, and do reach another."""
    greedy, late, (first, last) = vms["v1"], vms["v1b"], HOST_SNAT_PORTS
    frame = bytearray(udp_frame(greedy, lab.fabric.far_host))
    frame[36:38] = FULL.to_bytes(2)
    with netns.inside(greedy.namespace):
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    with ExitStack() as stack:
        stack.enter_context(raw)
        raw.bind(("eth0", 0))
        for server in (FULL, FULL + 1):  # else the far host answers that the port is closed
            stack.enter_context(udp(lab.fabric.far, lab.fabric.far_host, server))
        match = f"udp and (dst port {FULL + 1} or udp[4:2] = {8 + len(LATE)})"
        wire = stack.enter_context(lab.outside_capture(match))
        own, other = (stack.enter_context(udp(vm.namespace, vm.address, first)) for vm in (greedy, late))
        before = drops(late.node)

        def room(server: int) -> list[Seen]:
            return wire.seen(lambda frame: frame.dst_port == server)

        def refused() -> bool:
            """After all ports once more: a frame may be lost where so many are sent at once."""
            for port in range(first, last + 1):
                frame[34:36] = port.to_bytes(2)
                raw.send(frame)
                if port % 512 == 0:
                    late.node.ovs.appctl("version")  # the switch has other things to do as well
            let_in, passed = len(room(FULL)), len(room(FULL + 1))
            with udp(late.namespace, late.address) as new:
                new.sendto(LATE, (str(lab.fabric.far_host), FULL))
            other.sendto(b"elsewhere", (str(lab.fabric.far_host), FULL + 1))
            wait_until(lambda: len(room(FULL + 1)) > passed, SETTLED, "another server is not reached")
            return len(room(FULL)) == let_in

        wait_until(refused, 60, "there is still room")
        if lab.datapath == "netdev":  # the kernel's conntrack drops it, where no flow counts
            wait_dropped(late.node, before, Rule.DROP_UNTRANSLATED, 1)
        own.sendto(b"elsewhere", (str(lab.fabric.far_host), FULL + 1))
        wait_until(lambda: len({frame.src_port for frame in room(FULL + 1)}) == 2, SETTLED, "a second port")
    assert talk(at(late), far(lab), lab.fabric.far_host, "tcp") == str(late.node.snat_address)


def test_only_the_host_answers_for_its_address(lab: Lab, vms: dict[str, Vm]) -> None:
    for node in lab.nodes:
        mac = str(netns.query(node.namespace, "link", "show", "dev", BRIDGE)[0]["address"])
        assert answering(lab, node.snat_address) == [mac]
        # nor does anybody learn another one from what a node asks
        known = netns.query(lab.fabric.outside, "neighbour", "show", "to", str(node.snat_address))
        assert [each["lladdr"] for each in known] == [mac]


def test_icmp_errors_reach_whom_they_are_for(lab: Lab, vms: dict[str, Vm]) -> None:
    for place in (at(vms["v1"]), host(lab.nodes[0])):
        with udp(place.namespace, place.address) as it:
            it.connect((str(lab.fabric.far_host), 7))
            it.send(b"anybody?")
            with pytest.raises(ConnectionRefusedError):
                it.recv(100)


def test_a_service_of_the_host_on_a_port_that_is_for_nat_is_served_by_way_of_br_int(
    lab: Lab, vms: dict[str, Vm]
) -> None:
    mine = host(lab.nodes[0])
    for kind in ("tcp", "udp"):
        assert talk(far(lab), mine, mine.address, kind, 62000) == str(lab.fabric.far_host)


def test_a_vm_reaches_the_host_of_another_node_and_not_its_own(lab: Lab, vms: dict[str, Vm]) -> None:
    """Both have one address towards its own host: that could not answer it."""
    vm, (near, other) = vms["v1"], (host(node) for node in lab.nodes)
    for kind in KINDS:
        assert talk(at(vm), other, other.address, kind) == str(near.address)
        assert talk(other, near, near.address, kind) == str(other.address)
    before = drops(vm.node)
    assert not vm.ping(near.address, count=3).answered
    wait_dropped(vm.node, before, Rule.DROP_UNSOLICITED, 3)


def test_a_vm_with_a_floating_ip_reaches_its_own_host(lab: Lab, vms: dict[str, Vm]) -> None:
    make_pool(lab, lab.client.list_networks(name="outside")[0])
    floating_ip, vm = give(lab, vms["v1"]), vms["v1"]
    mine = host(vm.node)
    for kind in KINDS:
        assert talk(at(vm), mine, mine.address, kind) == floating_ip["address"]
        assert talk(mine, at(vm), floating_ip["address"], kind) == str(mine.address)
        assert talk(at(vms["v2"]), at(vm), floating_ip["address"], kind) == str(lab.nodes[1].snat_address)
    lab.client.delete_floating_ip(floating_ip["id"])


def test_nothing_is_noticed_of_agent_and_controller(lab: Lab, vms: dict[str, Vm]) -> None:
    vm = vms["v1"]
    before = ours(vm.node)
    with undisturbed(lab, vm):
        lab.control.stop()
        everything(lab, vms, vm)
        vm.node.restart_agent(lab.control, kill=True)
        everything(lab, vms, vm)
        lab.control.start()
        lab.wait_connected()
    assert ours(vm.node) == before


def test_a_switch_that_restarts_gets_its_flows_again(lab: Lab, vms: dict[str, Vm]) -> None:
    vm, node = vms["v1"], vms["v1"].node
    with connected(host(node), far(lab)) as works:
        for kill in (False, True):
            node.ovs.restart_switch(kill=kill)
            wait_flows(node)
            wait_reached(vm, lab.fabric.far_host)
            everything(lab, vms, vm)
            works()
            assert others(node) == [NORMAL]


def test_a_switch_that_restarts_without_a_controller_leaves_the_host_alone(lab: Lab, vms: dict[str, Vm]) -> None:
    vm, node = vms["v1"], vms["v1"].node
    lab.control.stop()
    node.ovs.restart_switch()
    wait_flows(node, given_back=False)
    for kind in KINDS:
        assert talk(host(node), far(lab), lab.fabric.far_host, kind) == str(node.snat_address)
        assert talk(far(lab), host(node), node.snat_address, kind) == str(lab.fabric.far_host)
    lab.control.start()
    lab.wait_connected()
    wait_flows(node)
    wait_reached(vm, lab.fabric.far_host)
    everything(lab, vms, vm)


def test_lost_flows_come_back(lab: Lab, vms: dict[str, Vm]) -> None:
    node = lab.nodes[0]
    before = ours(node)
    node.ovs.ofctl("del-flows", BRIDGE, "icmp")
    wait_until(lambda: ours(node) == before, SETTLED, "they are there again")


def test_an_address_that_changes_is_followed(lab: Lab, vms: dict[str, Vm]) -> None:
    node, vm = lab.nodes[1], vms["v2"]
    old, new = node.snat_address, node.snat_address + 50
    netns.configure(node.namespace, f"address add {new}/24 dev {BRIDGE}")
    said_by_agent(node, f"device {BRIDGE} holds {old}, {new}: say which is for NAT")
    everything(lab, vms, vm)  # by the one that was there before
    move = (f"address add {new}/24 dev {BRIDGE}", f"route replace default via {OUTSIDE_ROUTER.ip}")
    netns.configure(node.namespace, f"address flush dev {BRIDGE}", *move)
    node.snat_address = new
    wait_until(lambda: lab.client.get_node(node.name)["external_addresses"][0]["address"] == str(new), SETTLED, "new")
    wait_flows(node)
    everything(lab, vms, vm)


def test_only_what_is_ours_goes_with_the_option(lab: Lab, vms: dict[str, Vm]) -> None:
    node, vm = lab.nodes[0], vms["v1"]
    node.ovs.ofctl("add-flow", BRIDGE, FOREIGN.replace(", p", ",p"))
    kept = others(node)
    assert sorted(kept) == sorted([FOREIGN, NORMAL])
    del node.agent_options["snat_address"]
    node.restart_agent(lab.control)
    wait_until(lambda: not ours(node), SETTLED, "they are gone")
    assert others(node) == kept
    for kind in KINDS:
        assert talk(host(node), far(lab), lab.fabric.far_host, kind) == str(node.snat_address)
        assert talk(far(lab), host(node), node.snat_address, kind) == str(lab.fabric.far_host)

    def leaves_with() -> str:
        return str(lab.client.get_node(node.name)["external_addresses"][0]["address"])

    wait_until(lambda: leaves_with() != str(node.snat_address), SETTLED, "an address of the network's range")
    wait_reached(vm, lab.fabric.far_host)
    assert talk(at(vm), far(lab), lab.fabric.far_host, "tcp") == leaves_with()
