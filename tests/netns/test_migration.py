"""A VM that moves from n1 to n3 under traffic: what is lost is what was sent while the VM itself was paused.

The VM is a namespace with an interface on each of the two nodes, both with its MAC; it has its address on one of them.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest

from agent import plugging
from controller.client import Object
from etc.lab import netns
from etc.lab.lab import Lab
from etc.lab.node import Node
from etc.lab.processes import start, wait_until
from etc.lab.vm import Vm
from tests.netns.cloud import ANYCAST_MAC, mac, make_network, make_outside, make_vms, tcp, udp, want
from tests.netns.floating import answering, give, mac_of, make_pool
from tests.netns.frames import Tap, client_message
from tests.netns.streams import RATE, Pause, Peer, Streams, streams
from tests.unit.packet_in.wire import ACK, REQUEST, Reply

pytestmark = [pytest.mark.root, pytest.mark.alone]

PAUSE = 0.1  # seconds
PASSED_ON = 18.0  # seconds within which a move is over
ETH_RARP = b"\x80\x35"


T = TypeVar("T", bound="Traveller")


@dataclass
class Cloud:
    lab: Lab
    network: Object
    other: Object
    switched: Vm
    routed: Vm
    moving: list[Traveller] = field(default_factory=list)


@dataclass
class Traveller:
    """A VM that can be on two nodes. `on` is where it is, `device` its interface there."""

    lab: Lab
    vm: Vm
    floating_ip: Object
    cloud: Cloud
    on: Node
    device: str = "eth0"

    @property
    def port(self) -> str:
        return str(self.vm.port["id"])

    def peers(self) -> list[Peer]:
        own = str(self.vm.address)
        near = [Peer(vm.name, vm.namespace, str(vm.address), own) for vm in (self.cloud.switched, self.cloud.routed)]
        outside = Peer("outside", self.lab.fabric.far, str(self.lab.fabric.far_host), self.floating_ip["address"])
        return [*near, outside]

    def other_device(self) -> str:
        return "eth1" if self.device == "eth0" else "eth0"

    def bindings(self) -> list[tuple[str, str, bool]]:
        found = self.lab.client.list_port_bindings(self.port)
        return [(one["node"], one["status"], one["ofport"] is not None) for one in found]

    def plug(self, node: Node) -> None:
        """The interface on another node, which nothing in the VM uses."""
        port = plugging.PlugPort(self.port, self.vm.mac, 1500, self.vm.name)
        with netns.inside(node.namespace):
            plugging.plug(port, namespace=self.vm.namespace, guest_ifname=self.other_device(), ovsdb=node.ovs.database)

    def unplug(self, node: Node, device: str) -> None:
        with netns.inside(node.namespace):
            plugging.unplug(self.port, namespace=self.vm.namespace, guest_ifname=device, ovsdb=node.ovs.database)

    def prepare(self, node: Node) -> None:
        written = self.lab.client.create_port_binding(self.port, node.name)
        self.plug(node)
        wait_until(lambda: (node.name, "prepared", True) in self.bindings(), 20, "the interface is not seen")
        self.lab.confirm(self.lab.client.get_port(self.port)["revision"])
        assert written.object and written.object["node"] == node.name

    def configure(self, device: str) -> None:
        """As it was on the other interface, with all that it knew of its neighbours."""
        gateway = self.gateway
        switched = self.cloud.switched
        netns.configure(
            self.vm.namespace,
            f"address add {self.vm.address}/24 dev {device}",
            f"neighbour replace {gateway} lladdr {ANYCAST_MAC} nud permanent dev {device}",
            f"neighbour replace {switched.address} lladdr {switched.mac} nud permanent dev {device}",
            f"route replace default via {gateway} dev {device}",
        )

    @property
    def gateway(self) -> str:
        return str(self.cloud.network["subnets"][0]["gateway"])

    def pause(self, traffic: Streams) -> float:
        began = traffic.pause()
        netns.configure(self.vm.namespace, f"address flush dev {self.device}", f"link set {self.device} down")
        return began

    def resume(self, traffic: Streams, node: Node, *, announce: bool = True) -> float:
        """On the other interface. QEMU announces a VM that has arrived by RARP, before the VM itself runs."""
        device = self.other_device()
        self.configure(device)
        if announce:
            self.announce(device)
        self.on, self.device = node, device
        return traffic.resume()

    def announce(self, device: str) -> None:
        with netns.inside(self.vm.namespace):
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        with raw:
            raw.bind((device, 0))
            body = b"\0\1\x08\0\x06\x04\0\3" + mac(self.vm.mac) + bytes(4) + mac(self.vm.mac) + bytes(4)
            raw.send((b"\xff" * 6 + mac(self.vm.mac) + ETH_RARP + body).ljust(60, b"\0"))

    def move(self, traffic: Streams, node: Node, **how: Any) -> Pause:
        began = self.pause(traffic)
        traffic.run(PAUSE)
        return Pause(began, self.resume(traffic, node, **how))

    def wait_served(self, node: Node) -> None:
        wait_until(lambda: (node.name, "active", True) in self.bindings(), 20, f"{node.name} does not serve it")

    def wait_over(self, node: Node) -> None:
        wait_until(lambda: self.bindings() == [(node.name, "active", True)], PASSED_ON, "the move does not end")


CARD = "card"
KEEPS = """#!/bin/sh
[ "$1" = bound ] || exit 0
ip address replace $ip/$mask dev $interface
ip route replace default via $router dev $interface
"""


class Leased(Traveller):
    """Its card is a bridge, joined to whichever interface is there: so its DHCP client goes on where it arrives. The
    client leaves alone what a renewal does not change: nothing is lost but by the network.
    """

    def begin(self, stack: ExitStack) -> None:
        where = self.vm.namespace
        made = f"link add {CARD} address {self.vm.mac} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
        netns.configure(where, "address flush dev eth0", made, f"link set {CARD} up")
        self.configure(self.device)
        self.tap = Tap(where, CARD, outgoing=True)
        stack.callback(self.tap.close)
        script = self.vm.directory / "keeps.script"
        script.write_text(KEEPS)
        script.chmod(0o755)
        command = ["udhcpc", "-f", "-i", CARD, "-s", str(script), "-A", "1", "-T", "1"]
        self.client = start("udhcpc", netns.command(where, command), self.vm.directory / "keeps.log")
        stack.callback(self.client.stop)
        wait_until(lambda: netns.query(where, "-4", "route", "show", "default"), 20, self.client.tail)
        wait_until(lambda: self.vm.ping(self.lab.fabric.far_host, count=1, wait=0.5).answered, 20, "no way out")

    def configure(self, device: str) -> None:
        """Returns once the bridge forwards there: what is sent the moment before is lost in the VM itself."""
        netns.configure(self.vm.namespace, f"link set {device} master {CARD}", f"link set {device} up")
        wait_until(
            lambda: self._port_state(device) == "forwarding", 20, lambda: f"{device}: {self._port_state(device)}"
        )

    def _port_state(self, device: str) -> str:
        (link,) = netns.query(self.vm.namespace, "-details", "link", "show", device)
        return str(link["linkinfo"]["info_slave_data"]["state"])

    def renew(self) -> Reply:
        """By unicast, to the server that it has its lease from."""
        before, obtained = len(self.tap.asked()), self._obtained()
        self.client.signal(signal.SIGUSR1)
        (asked, *_) = wait_until(lambda: self.tap.asked()[before:], 20, "it does not ask")
        assert (asked.type, asked.unicast, asked.ciaddr) == (REQUEST, True, self.vm.address)
        answer = wait_until(lambda: self.tap.dhcp(asked.xid)[-1:], 20, "no answer to a renewal")[0]
        # one that is told to renew while it does so begins anew
        wait_until(lambda: self._obtained() > obtained, 20, "the client has not taken it")
        return answer

    def _obtained(self) -> int:
        """How often the client says that it was given a lease."""
        return self.client.log.read_text().count(" obtained from ")

    def rebind(self, xid: int) -> Reply:
        """By broadcast, as when the server that it has its lease from does not answer any more."""
        message = client_message(self.vm, REQUEST, ciaddr=self.vm.address, source=self.vm.address, xid=xid)
        return self.tap.ask(message)


@pytest.fixture(scope="module")
def cloud(lab: Lab) -> Cloud:
    make_pool(lab, make_outside(lab))
    subnet = {"gateway_mode": "shared", "gateway": "10.30.0.1"}
    network = make_network(lab, "here", "10.30.0.0/24", segment=130, **subnet)
    other = make_network(lab, "there", "10.31.0.0/24", segment=131)
    n2 = lab.nodes[1]
    made = make_vms(lab, want("switched", n2, network), want("routed", n2, other))
    return Cloud(lab, network, other, made["switched"], made["routed"])


def make_traveller(kind: type[T], lab: Lab, cloud: Cloud, network: Object) -> T:
    """On n1, with an address and no DHCP client."""
    name = f"t{len(cloud.moving)}"
    n1 = lab.nodes[0]
    vm = make_vms(lab, want(name, n1, network))[name]
    vm.stop_client()
    netns.set_sysctl(vm.namespace, {"ipv4/conf/all/rp_filter": 0, "ipv4/conf/all/arp_ignore": 1})
    made = kind(lab, vm, give(lab, vm), cloud, n1)
    cloud.moving.append(made)
    return made


def end(made: Traveller) -> None:
    made.lab.client.delete_floating_ip(made.floating_ip["id"])
    made.lab.client.delete_port(made.port)
    netns.end_processes([made.vm.namespace])
    netns.delete(made.vm.namespace)


@pytest.fixture
def traveller(lab: Lab, cloud: Cloud) -> Iterator[Traveller]:
    made = make_traveller(Traveller, lab, cloud, cloud.network)
    netns.configure(made.vm.namespace, "address flush dev eth0")
    made.configure("eth0")
    wait_until(lambda: made.vm.ping(lab.fabric.far_host, count=1, wait=0.5).answered, 20, "no way out")
    wait_until(
        lambda: made.vm.ping(cloud.routed.address, count=1, wait=0.5).answered, 20, "no way to the other network"
    )
    yield made
    end(made)


@pytest.fixture
def leased(lab: Lab, cloud: Cloud) -> Iterator[list[Leased]]:
    """On a network whose gateway, and so whose DHCP server, is the same on each node, and on one where it is not."""
    with ExitStack() as stack:
        made = [make_traveller(Leased, lab, cloud, network) for network in (cloud.network, cloud.other)]
        for one in made:
            stack.callback(end, one)
            one.begin(stack)
        yield made


@contextmanager
def connection(traveller: Traveller) -> Iterator[Callable[[str], None]]:
    """From outside to the VM's floating IP; what is given is sent both ways, and must arrive."""
    with tcp(traveller.vm.namespace, port=7000) as listener, tcp(traveller.lab.fabric.far) as client:
        listener.listen()
        client.connect((traveller.floating_ip["address"], 7000))
        server, _ = listener.accept()
        with server:
            server.settimeout(10)

            def say(text: str) -> None:
                for sender, receiver in ((client, server), (server, client)):
                    sender.sendall(text.encode())
                    assert receiver.recv(64) == text.encode()

            yield say


def print_costs(traffic: Streams, pause: Pause) -> None:
    paused = round(pause.ended - pause.began, 3)
    print("pause", paused, "lost", len(traffic.lost()), "doubled", traffic.doubled(), traffic.counts())


def test_a_move_costs_what_the_pause_costs(lab: Lab, traveller: Traveller) -> None:
    """And a connection goes on, whose beginning the new node's conntrack has not seen."""
    n1, n3 = lab.nodes[0], lab.nodes[2]
    with streams(traveller.vm.namespace, *traveller.peers()) as traffic, connection(traveller) as say:
        say("before")
        traffic.run(1)
        traveller.prepare(n3)
        say("prepared")
        traffic.run(1)
        pause = traveller.move(traffic, n3)
        say("moved")
        traveller.wait_served(n3)
        assert ("n1", "moved", True) in traveller.bindings()
        say("served")
        traffic.run(2)
        assert answering(lab, traveller.floating_ip["address"]) == [mac_of(lab, n3)]
        traveller.unplug(n1, "eth0")
        traveller.wait_over(n3)
        say("over")
        traffic.run(1)
    print_costs(traffic, pause)
    assert traffic.lost(pause) == []
    assert min(traffic.counts().values()) > 4 * RATE
    assert sum(traffic.doubled().values()) < 1000


def test_without_a_controller_the_vm_is_served_where_it_went(lab: Lab, traveller: Traveller) -> None:
    n3 = lab.nodes[2]
    with streams(traveller.vm.namespace, *traveller.peers()) as traffic:
        traveller.prepare(n3)
        lab.control.stop()
        try:
            traffic.run(1)
            pause = traveller.move(traffic, n3)
            traffic.run(14)  # longer than nodes remember where an address was
        finally:
            lab.control.restart()
            lab.wait_connected()
        traveller.announce("eth1")  # any ARP of the guest does
        traveller.wait_served(n3)
        traffic.run(1)
    print_costs(traffic, pause)
    assert traffic.lost(pause) == []


def test_without_an_announcement_its_first_packet_counts(lab: Lab, traveller: Traveller) -> None:
    n3 = lab.nodes[2]
    with streams(traveller.vm.namespace, *traveller.peers()) as traffic:
        traveller.prepare(n3)
        pause = traveller.move(traffic, n3, announce=False)
        traveller.wait_served(n3)
        traffic.run(1)
    assert traffic.lost(pause) == []


def test_a_burst_is_the_first_that_it_says(lab: Lab, traveller: Traveller) -> None:
    """Of a connection that it began before. All of it waits for ovs-vswitchd at once."""
    n3, vm, other = lab.nodes[2], traveller.vm, traveller.cloud.switched
    assert n3.ovs.switch
    with udp(vm.namespace, port=7100) as ours, udp(other.namespace, port=7100) as theirs:

        def exchange() -> None:
            for sender, receiver, target in ((ours, theirs, other), (theirs, ours, vm)):
                sender.sendto(b"once", (str(target.address), 7100))
                assert receiver.recv(64) == b"once"

        exchange()
        traveller.prepare(n3)
        exchange()  # n3 has a copy of the answer
        netns.configure(vm.namespace, "address flush dev eth0", "link set eth0 down")
        sent = [str(number).encode() for number in range(64)]
        n3.ovs.switch.signal(signal.SIGSTOP)
        try:
            traveller.configure("eth1")
            for text in sent:
                ours.sendto(text, (str(other.address), 7100))
        finally:
            n3.ovs.switch.signal(signal.SIGCONT)
        assert sorted(theirs.recv(64) for _ in sent) == sorted(sent)


@pytest.mark.parametrize("how", ["called off", "interface gone"])
def test_a_rollback_costs_nothing(lab: Lab, traveller: Traveller, how: str) -> None:
    n3 = lab.nodes[2]
    with streams(traveller.vm.namespace, *traveller.peers()) as traffic:
        traveller.prepare(n3)
        traffic.run(0.5)
        if how == "called off":
            lab.confirm(lab.client.delete_port_binding(traveller.port, n3.name).revision)
        traveller.unplug(n3, "eth1")
        wait_until(lambda: traveller.bindings() == [("n1", "active", True)], 20, "the move is not off")
        traffic.run(1)
        assert answering(lab, traveller.floating_ip["address"]) == [mac_of(lab, lab.nodes[0])]
    assert traffic.lost() == []
    assert sum(traffic.doubled().values()) == 0


def test_there_and_back(lab: Lab, traveller: Traveller) -> None:
    n1, n3 = lab.nodes[0], lab.nodes[2]
    with streams(traveller.vm.namespace, *traveller.peers()) as traffic:
        traveller.prepare(n3)
        first = traveller.move(traffic, n3)
        traveller.wait_served(n3)
        traveller.unplug(n1, "eth0")
        wait_until(lambda: not _shown(n1, traveller), 20, "it is still plugged")
        traveller.prepare(n1)
        second = traveller.move(traffic, n1)
        traveller.wait_served(n1)
        traffic.run(1)
    assert traffic.lost(first, second) == []


def test_a_lease_is_renewed_in_the_middle_of_a_move(lab: Lab, leased: list[Leased]) -> None:
    """By whatever node the VM is on, whichever of them serves it, and nothing is lost by it."""
    n3 = lab.nodes[2]
    moves = []
    with ExitStack() as stack:
        for number, one in enumerate(leased):
            traffic = stack.enter_context(streams(one.vm.namespace, *one.peers()[number::2]))
            traffic.run(0.5)
            answers = [one.renew(), one.rebind(0x100)]
            one.prepare(n3)
            answers += [one.renew(), one.rebind(0x200)]
            began = one.pause(traffic)
            one.configure(one.other_device())
            answers.append(one.rebind(0x300))  # the first that it says there: the other node still serves it
            pause = Pause(began, one.resume(traffic, n3))
            answers.append(one.renew())
            one.wait_served(n3)
            answers += [one.renew(), one.rebind(0x400)]
            moves.append((one, traffic, pause, answers))
        for one, traffic, _, answers in moves:
            one.wait_over(n3)
            answers += [one.renew(), one.rebind(0x500)]
            traffic.run(0.5)
    for one, traffic, pause, answers in moves:
        assert {(answer.type, answer.yiaddr) for answer in answers} == {(ACK, one.vm.address)}
        assert traffic.lost(pause) == []
        assert min(traffic.counts().values()) > 1000


def _shown(node: Node, traveller: Traveller) -> bool:
    return traveller.vm.device in node.execute("ovs-vsctl", "list-ports", "br-int")
