"""An address that several VMs may use and one holds, as with VRRP: what is routed and its floating IP go to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address

import pytest

from controller.client import Object
from etc.lab import netns
from etc.lab.lab import Lab
from etc.lab.processes import Process, start, wait_until
from etc.lab.vm import Vm
from flows.rules import Rule
from tests.netns.cloud import drops, make_network, make_outside, make_vms, program, send_frames, wait_dropped, want
from tests.netns.floating import Place, at, claimants, connections, far, give, make_pool, put_controller, talk
from tests.netns.frames import arp, mac
from tests.netns.policy import PING, SOON, Heard, reachable, wait_reachable

pytestmark = pytest.mark.root

VIP = "10.20.0.200"
VIRTUAL_MAC = "00:00:5e:00:01:07"
FAIL_OVER = 3.0
FOUND = 15.0
ON_LINK, ROUTED = ("a3",), ("b1", "b2", "b3")


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=3)


@pytest.fixture(scope="module")
def vms(lab: Lab) -> dict[str, Vm]:
    """`a1` and `a2` may have the address, `a3` may not; `b1` to `b3`, on a node each, are routed to it."""
    make_pool(lab, make_outside(lab))
    networks = {
        "a": make_network(lab, "a", "10.20.0.0/24", segment=120),
        "b": make_network(lab, "b", "10.21.0.0/24", segment=121),
    }
    places = {"a1": 0, "a2": 1, "a3": 0, "b1": 0, "b2": 1, "b3": 2}
    return make_vms(lab, *(want(name, lab.nodes[node], networks[name[0]]) for name, node in places.items()))


@pytest.fixture
def pair(lab: Lab, vms: dict[str, Vm]) -> Iterator[tuple[Vm, Vm]]:
    """The two, with nobody who has the address."""
    two = vms["a1"], vms["a2"]
    allow(lab, *two)
    yield two
    for vm in two:
        drop_address(vm)
    allow(lab, *two, macs=())


@pytest.fixture
def public(lab: Lab, pair: tuple[Vm, Vm]) -> Iterator[Object]:
    """A floating IP of the address, by the port that does not have it."""
    take_address(pair[0])
    wait_held(lab, pair[0])
    made = give(lab, pair[1], fixed_ip=VIP)
    yield made
    lab.confirm(lab.client.delete_floating_ip(made["id"]).revision)


def allow(lab: Lab, *vms: Vm, macs: tuple[str | None, ...] = (None,)) -> None:
    pairs = [{"cidr": VIP, **({"mac": each} if each else {})} for each in macs]
    for vm in vms:
        lab.confirm(lab.client.update_port(vm.port["id"], {"address_pairs": pairs}).revision)


def announce(vm: Vm, sender_mac: str | None = None) -> None:
    """As a VRRP master does it (RFC 9568, 6.4.2): a gratuitous ARP request."""
    sent_from = mac(sender_mac or vm.mac)
    send_frames(vm, arp(vm, 1, VIP, VIP, sha=sent_from, eth_src=sent_from), 2)


def take_address(vm: Vm, *, announced: bool = True) -> None:
    netns.configure(vm.namespace, f"address replace {VIP}/32 dev eth0")
    if announced:
        announce(vm)


def drop_address(vm: Vm) -> None:
    netns.execute(vm.namespace, "ip", "address", "delete", f"{VIP}/32", "dev", "eth0", check=False)


def held(lab: Lab, vm: Vm) -> bool:
    return VIP in lab.client.get_port(vm.port["id"])["held_addresses"]


def wait_held(lab: Lab, vm: Vm, deadline: float = FOUND) -> None:
    wait_until(lambda: held(lab, vm), deadline, f"{vm.name} is not known to have {VIP}")


def led_to(lab: Lab, floating_ip: Object) -> str:
    return str(lab.client.get_floating_ip(floating_ip["id"])["port_id"])


@contextmanager
def within(seconds: float) -> Iterator[Callable[[], float]]:
    """What is left of the time; the whole must not take longer."""
    end = time.monotonic() + seconds
    yield lambda: max(end - time.monotonic(), 0.01)
    assert time.monotonic() < end


def test_x6_routed_traffic_and_a_floating_ip_follow_the_address(
    lab: Lab, vms: dict[str, Vm], pair: tuple[Vm, Vm], public: Object
) -> None:
    """Within three seconds, to either node; a VM that may not have the address takes nothing of it."""
    third = vms["a3"]
    clients = {name: at(vms[name]) for name in (*ON_LINK, *ROUTED)}
    address = public["address"]
    for client in clients.values():
        wait_reachable(client, VIP, PING)
    wait_reachable(far(lab), address, PING)
    for loses, gains in (pair, pair[::-1]):
        assert led_to(lab, public) == loses.port["id"] and claimants(lab, public) == [loses.node.name]
        before = drops(third.node)
        send_frames(third, arp(third, 1, VIP, VIP), 3)
        wait_dropped(third.node, before, Rule.DROP_SPOOFED, 3, int(third.port["key"]))
        assert held(lab, loses) and reachable(clients["b3"], VIP, PING, SOON)
        with gains.capture("icmp") as seen, within(FAIL_OVER) as left:
            drop_address(loses)
            take_address(gains)
            for client in clients.values():
                wait_reachable(client, VIP, PING, left())
            wait_reachable(far(lab), address, PING, left())
            for source in ROUTED:
                seen.wait_for(lambda frame, at=source: frame.src == vms[at].address and str(frame.dst) == VIP)
            seen.wait_for(lambda frame: frame.src == lab.fabric.far_host and str(frame.dst) == VIP)
        assert held(lab, gains) and not held(lab, loses)
        assert led_to(lab, public) == gains.port["id"] and claimants(lab, public) == [gains.node.name]
        wait_until(lambda node=loses.node: not connections(node, address), FOUND, "the old node remembers it")
        # and out by it
        holder = Place(gains.namespace, IPv4Address(VIP))
        assert talk(holder, far(lab), lab.fabric.far_host, "udp") == address
        assert talk(at(gains), far(lab), lab.fabric.far_host, "udp") != address


def test_what_the_address_is_is_served_without_a_controller(
    lab: Lab, vms: dict[str, Vm], pair: tuple[Vm, Vm], public: Object
) -> None:
    """While it is away and after it has come back; then nothing is sent to the nodes."""
    ways = [(at(vms[name]), VIP) for name in ROUTED] + [(far(lab), public["address"])]
    for client, target in ways:
        wait_reachable(client, target, PING)
    before = [program(node) for node in lab.nodes]
    for state in ("stopped", "restarted"):
        put_controller(lab, state)
        for client, target in ways:
            wait_reachable(client, target, PING)
        assert (
            talk(Place(pair[0].namespace, IPv4Address(VIP)), far(lab), lab.fabric.far_host, "udp") == public["address"]
        )
    assert held(lab, pair[0]) and [program(node) for node in lab.nodes] == before


def test_a_controller_that_comes_back_finds_who_has_it_now(
    lab: Lab, vms: dict[str, Vm], pair: tuple[Vm, Vm], public: Object
) -> None:
    loses, gains = pair
    wait_reachable(at(vms["b1"]), VIP, PING)
    put_controller(lab, "stopped")
    try:
        drop_address(loses)
        take_address(gains)
        wait_reachable(at(vms["a3"]), VIP, PING)  # within the network it needs nobody
    finally:
        put_controller(lab, "running")
        lab.wait_connected()
    wait_held(lab, gains)
    for client, target in ((at(vms["b1"]), VIP), (at(vms["b2"]), VIP), (far(lab), public["address"])):
        wait_reachable(client, target, PING)


def test_who_says_nothing_is_asked(lab: Lab, vms: dict[str, Vm]) -> None:
    """A guest that has the address before its port may use it."""
    vm = vms["a2"]
    take_address(vm, announced=False)
    allow(lab, vms["a1"], vm)
    try:
        wait_held(lab, vm)
        for name in ROUTED:
            wait_reachable(at(vms[name]), VIP, PING)
        # no more copies: what it says now is no news
        assert not [flow for flow in vm.node.ovs.flows() if "arp_spa=" + VIP in flow and "CONTROLLER" in flow]
    finally:
        drop_address(vm)
        allow(lab, vms["a1"], vm, macs=())


@contextmanager
def keepalived(vm: Vm, priority: int) -> Iterator[Process]:
    """One of two VRRP routers (RFC 9568), with adverts five times a second."""
    config = vm.directory / "keepalived.conf"
    config.write_text(_KEEPALIVED.format(name=vm.name, priority=priority, address=VIP))
    files = [f"--{name}={vm.directory / name}.pid" for name in ("pid", "vrrp_pid", "checkers_pid", "bfd_pid")]
    command = ["keepalived", "--dont-fork", "--log-console", "--vrrp", f"--use-file={config}", *files]
    started = start("keepalived", netns.command(vm.namespace, command), vm.directory / "keepalived.log")
    try:
        yield started
    finally:
        started.stop()


_KEEPALIVED = """
global_defs {{
    router_id {name}
    vrrp_version 3
}}
vrrp_instance vip {{
    state BACKUP
    interface eth0
    virtual_router_id 7
    priority {priority}
    advert_int 0.2
    virtual_ipaddress {{
        {address}/32 dev eth0
    }}
}}
"""


def test_x6_keepalived(lab: Lab, vms: dict[str, Vm], pair: tuple[Vm, Vm]) -> None:
    """The master's interface goes down, and comes back: within three seconds its address is there for all."""
    master, backup = pair
    ways = [(at(vms[name]), VIP) for name in (*ON_LINK, *ROUTED)]
    with keepalived(master, 150) as first, keepalived(backup, 100) as second:
        first.wait_for(lambda: held(lab, master), FOUND, "it becomes master")
        public = give(lab, backup, fixed_ip=VIP)
        ways.append((far(lab), public["address"]))
        for client, target in ways:
            wait_reachable(client, target, PING)
        try:
            for state, holder in (("down", backup), ("up", master)):
                with within(FAIL_OVER) as left:
                    netns.configure(master.node.namespace, f"link set {master.device} {state}")
                    second.wait_for(lambda it=holder: held(lab, it), left(), f"{holder.name} has it")
                    for client, target in ways:
                        wait_reachable(client, target, PING, left())
                assert led_to(lab, public) == holder.port["id"]
        finally:
            netns.configure(master.node.namespace, f"link set {master.device} up")
            lab.confirm(lab.client.delete_floating_ip(public["id"]).revision)


def test_a_virtual_mac_gets_what_is_routed_to_its_address(lab: Lab, vms: dict[str, Vm]) -> None:
    """From both nodes, and nobody else gets it."""
    two = vms["a1"], vms["a2"]
    allow(lab, *two, macs=(VIRTUAL_MAC, None))
    try:
        for holder, other in (two, two[::-1]):
            announce(holder, VIRTUAL_MAC)
            wait_held(lab, holder)
            heard, unheard = Heard(holder), Heard(other)
            try:
                for name in ROUTED:
                    source = str(vms[name].address)

                    def arrives(source: str = source, name: str = name, heard: Heard = heard) -> bool:
                        reachable(at(vms[name]), VIP, PING)
                        found = heard.frames(lambda frame: str(frame.src) == source and str(frame.dst) == VIP)
                        return any(frame.eth_dst == VIRTUAL_MAC for frame in found)

                    wait_until(arrives, FAIL_OVER, f"{name} does not reach {holder.name}")
                unheard.clear()
                for name in ROUTED:
                    reachable(at(vms[name]), VIP, PING)
                assert not unheard.frames(lambda frame: str(frame.dst) == VIP)
            finally:
                heard.close()
                unheard.close()
    finally:
        allow(lab, *two, macs=())
