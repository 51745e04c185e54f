"""Security groups on several nodes with real traffic: who may ask whom for what, by each way that leads to a VM (H1).

What a data plane must do by itself is tried with the controller running, stopped and restarted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address

import pytest

from controller.client import Object
from controller.packet_in.frames import checksum
from etc.lab import netns
from etc.lab.lab import Lab
from etc.lab.processes import wait_until
from etc.lab.vm import Vm
from flows.rules import Rule
from tests.netns.cloud import (
    drops,
    make_network,
    make_outside,
    make_vms,
    send_frames,
    udp,
    wait_dropped,
    wait_outside,
    wait_reached,
    want,
)
from tests.netns.floating import Place, at, far, give, make_pool, talk
from tests.netns.frames import fragment, mac, packet
from tests.netns.frames import udp as datagram
from tests.netns.policy import PING, Heard, Service, ask, egress, ingress, make_group, put, serving, tracked, zone_of

pytestmark = pytest.mark.root

PORT = 5000
PORTS = (1, PORT, PORT + 1, 65535)
SERVICES = [PING, *(Service(protocol, port) for protocol in ("tcp", "udp") for port in PORTS)]
EDGES = {PING, *(Service(protocol, port) for protocol in ("tcp", "udp") for port in (1, PORT, 65535))}
ALLOWED = {"edges": EDGES, "inverse": set(SERVICES) - EDGES, "closed": set[Service]()}
"""By server; each service is allowed by one and refused by another."""

HOST_ADDRESS = "203.0.113.61"
CLIENTS = ("a1", "a2", "b1", "b2", "a1 by floating IP", "a2 by floating IP", "b2 by floating IP", "far", "host")


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=2, open_groups=False)


@pytest.fixture(scope="module")
def networks(lab: Lab) -> dict[str, Object]:
    """Two networks of one project, in which nothing is free."""
    make_pool(lab, make_outside(lab))
    return {
        name: make_network(lab, name, cidr, segment=segment, allow_same_net_traffic=False)
        for name, cidr, segment in (("a", "10.20.0.0/24", 120), ("b", "10.21.0.0/24", 121))
    }


@pytest.fixture(scope="module")
def groups(lab: Lab) -> dict[str, Object]:
    both = ("tcp", "udp")
    edges = [ingress(protocol, ports) for protocol in both for ports in (1, PORT, 65535)]
    return {
        "edges": make_group(lab, "edges", *edges, ingress("icmp", icmp_type=8)),
        "inverse": make_group(lab, "inverse", *(ingress(protocol, PORT + 1) for protocol in both)),
        "closed": make_group(lab, "closed"),
        "silent": make_group(lab, "silent", egress("udp", PORT), egress("tcp", f"{PORT + 1}-65535"), out=False),
        "open": make_group(lab, "open", ingress()),
        "stateless": make_group(
            lab,
            "stateless",
            ingress("udp", PORT),
            egress("udp"),
            egress("tcp", PORT + 1),
            out=False,
            stateful=False,
        ),
    }


@pytest.fixture(scope="module")
def vms(lab: Lab, networks: dict[str, Object], groups: dict[str, Object]) -> dict[str, Vm]:
    """Servers have the name of their group and are on n1; in a client's name are network and node."""
    servers = [want(name, lab.nodes[0], networks["a"], security_groups=[group["id"]]) for name, group in groups.items()]
    clients = [
        want(name, lab.nodes[int(name[1]) - 1], networks[name[0]], security_groups=[groups["closed"]["id"]])
        for name in ("a1", "a2", "b1", "b2")
    ]
    vms = make_vms(lab, *servers, *clients)
    wait_outside(lab, vms["a1"], vms["a2"])
    for client in clients:
        wait_reached(vms[client.name], vms["edges"].address)
    return vms


@pytest.fixture(scope="module")
def floating(lab: Lab, vms: dict[str, Vm]) -> dict[str, IPv4Address]:
    return {name: IPv4Address(give(lab, vms[name])["address"]) for name in (*ALLOWED, "a2")}


@pytest.fixture(scope="module")
def places(lab: Lab, vms: dict[str, Vm]) -> dict[str, Place]:
    """Where the clients are; the host is n1 itself, with an address of its own outside."""
    node, bridge = lab.nodes[0], f"br-{lab.fabric.external}"
    netns.configure(node.namespace, f"link set {bridge} up", f"address replace {HOST_ADDRESS}/24 dev {bridge}")
    others = {"far": far(lab), "host": Place(node.namespace, IPv4Address(HOST_ADDRESS))}
    return {name: at(vms[name]) for name in ("a1", "a2", "b1", "b2")} | others


@pytest.fixture(scope="module")
def heard(vms: dict[str, Vm]) -> Iterator[dict[str, Heard]]:
    with ExitStack() as stack:
        made = {name: Heard(vm) for name, vm in vms.items()}
        for each in made.values():
            stack.callback(each.close)
        yield made


@pytest.fixture(scope="module")
def zones(lab: Lab, vms: dict[str, Vm]) -> dict[str, int]:
    return {name: zone_of(lab, vm) for name, vm in vms.items()}


@pytest.fixture(scope="module")
def answering(vms: dict[str, Vm]) -> Iterator[None]:
    with ExitStack() as stack:
        for name in (*ALLOWED, "a2", "b1", "stateless"):
            serving(stack, vms[name], *SERVICES)
        yield


@pytest.fixture(scope="module")
def ready(
    vms: dict[str, Vm], floating: object, places: object, zones: object, answering: None, controller: str
) -> dict[str, Vm]:
    """The VMs, when all is set up, in each state of the controller."""
    return vms


def key(vm: Vm) -> int:
    return int(vm.port["key"])


# H1: what comes in


@pytest.mark.parametrize("name", CLIENTS)
def test_h1_only_what_is_allowed_comes_in_whoever_asks(
    ready: dict[str, Vm],
    floating: dict[str, IPv4Address],
    places: dict[str, Place],
    heard: dict[str, Heard],
    name: str,
) -> None:
    client, _, by_floating = name.partition(" ")
    inside = client[0] in "ab" and not by_floating
    before = drops(ready["edges"].node)
    for server, allowed in ALLOWED.items():
        vm = ready[server]
        heard[server].clear()
        assert ask(places[client], vm.address if inside else floating[server], SERVICES, allowed) == allowed
    for server, allowed in ALLOWED.items():
        # what is refused counts, so that it has been there when we look at what has not come
        refused = len(SERVICES) - len(allowed)
        wait_dropped(ready[server].node, before, Rule.DROP_INGRESS, refused, key(ready[server]))
        assert heard[server].services(SERVICES) == allowed


@pytest.mark.parametrize("server", ["a2", "b1"])
def test_h1_what_a_vm_begins_is_answered_and_nobody_begins_anything_to_it(
    ready: dict[str, Vm], heard: dict[str, Heard], server: str
) -> None:
    """By conntrack. `closed` lets in nothing, `open` everything; they ask each other."""
    closed, opened = ready["a1"], ready["open"]
    with ExitStack() as stack:
        serving(stack, opened, Service("udp", 7), Service("tcp", 7))
        wanted = {Service("udp", 7), Service("tcp", 7), PING}
        assert ask(at(closed), opened.address, wanted, wanted) == wanted
    vm = ready[server]
    before = drops(vm.node)
    heard[server].clear()
    assert ask(at(opened), vm.address, SERVICES, ()) == set()
    wait_dropped(vm.node, before, Rule.DROP_INGRESS, len(SERVICES), key(vm))
    assert not heard[server].services(SERVICES)


@pytest.mark.parametrize("name", ["a2", "far"])
def test_h1_errors_about_what_a_vm_began_come_in(
    lab: Lab, ready: dict[str, Vm], places: dict[str, Place], heard: dict[str, Heard], name: str
) -> None:
    """A closed port says so to a VM that lets in nothing; the same error that nobody asked for does not come in."""
    client = ready["a1"]
    target = ready["open"].address if name == "a2" else lab.fabric.far_host
    with udp(client.namespace, client.address) as sock:
        sock.connect((str(target), 9))
        sock.send(b"anybody?")
        with pytest.raises(ConnectionRefusedError):
            sock.recv(100)
    # an error about something that the client never sent, from a VM that may send everything
    other = ready["open"]
    quoted = datagram(client, other.address, (1234, 4321))[14:42]
    body = bytes([3, 3, 0, 0, 0, 0, 0, 0]) + quoted
    before = drops(client.node)
    heard["a1"].clear()
    send_frames(other, _icmp(other, client, body), 3)

    def dropped() -> int:
        more = drops(client.node) - before
        return more[Rule.DROP_INGRESS, key(client)] + sum(
            count for (rule, _), count in more.items() if rule in (Rule.DROP_INGRESS_INVALID, Rule.DROP_EGRESS_INVALID)
        )

    wait_until(lambda: dropped() >= 3, 20, lambda: f"{drops(client.node) - before}")
    assert not heard["a1"].frames(lambda frame: frame.icmp_type == 3)


def _icmp(sender: Vm, to: Vm, body: bytes) -> bytes:
    sound = body[:2] + checksum(body).to_bytes(2) + body[4:]
    return packet(sender, to.address, 1, sound, eth_dst=mac(to.mac))


# extra 4: what goes out


@pytest.mark.parametrize("target", ["a2", "b1", "far", "floating IP"])
def test_x4_only_what_is_allowed_goes_out(
    lab: Lab,
    ready: dict[str, Vm],
    floating: dict[str, IPv4Address],
    heard: dict[str, Heard],
    target: str,
) -> None:
    """`silent` may ask for one port of UDP and the upper ones of TCP. What is refused leaves its port with no one."""
    vm = ready["silent"]
    address = {"far": lab.fabric.far_host, "floating IP": floating["edges"]}.get(target)
    address = address or ready[target].address
    allowed = {Service("udp", PORT), Service("tcp", PORT + 1), Service("tcp", 65535)}
    before = drops(vm.node)
    with lab.outside_capture("ip") as wire:
        for each in heard.values():
            each.clear()
        wanted = allowed & EDGES if target == "floating IP" else set()
        assert ask(at(vm), address, SERVICES, wanted) == wanted
        wait_dropped(vm.node, before, Rule.DROP_EGRESS, len(SERVICES) - len(allowed), key(vm))
        came = {service for each in heard.values() for service in each.services(SERVICES)}
        assert came <= allowed
        out = wire.seen(lambda frame: frame.dst == address)
        assert {(frame.protocol, frame.dst_port) for frame in out} <= {(17, PORT), (6, PORT + 1), (6, 65535)}
        assert bool(out) == (target == "far")


# extra 4: without conntrack


def test_x4_a_stateless_group_lets_each_direction_by_its_own_rules(
    ready: dict[str, Vm], heard: dict[str, Heard], zones: dict[str, int]
) -> None:
    """No entry in the zone of its port; an answer needs a rule like everything else."""
    vm = ready["stateless"]
    for name in ("a1", "a2", "b2"):
        allowed = {Service("udp", PORT)}
        before = drops(vm.node)
        heard["stateless"].clear()
        assert ask(at(ready[name]), vm.address, SERVICES, allowed) == allowed
        wait_dropped(vm.node, before, Rule.DROP_INGRESS, len(SERVICES) - 1, key(vm))
        assert heard["stateless"].services(SERVICES) == allowed
        assert not tracked(vm, zones[vm.name]) and tracked(ready[name], zones[name])
    # what it begins gets out, and the answer not in
    before = drops(vm.node)
    assert ask(at(vm), ready["inverse"].address, [Service("tcp", PORT + 1)], ()) == set()
    wait_dropped(vm.node, before, Rule.DROP_INGRESS, 1, key(vm))
    assert not tracked(vm, zones[vm.name])


# fragments


@pytest.mark.parametrize("name", ["a1", "a2", "b2"])
def test_fragments_do_not_slip_past_a_rule_about_ports(
    ready: dict[str, Vm], heard: dict[str, Heard], name: str
) -> None:
    """Neither with the ports in a later fragment, nor in none at all, nor under the ports that a rule allows."""
    client, server = ready[name], ready["edges"]
    routed = mac("02:54:4c:00:00:01") if name[0] == "b" else mac(server.mac)
    whole = datagram(client, server.address, (4000, PORT + 1), bytes(1200), eth_dst=routed)
    header = whole[34:42]
    evil = [
        [fragment(whole, 0, more=True, payload=whole[34:634]), fragment(whole, 600, more=False, payload=whole[634:])],
        [fragment(whole, 600, more=False, payload=whole[634:])],
        [fragment(whole, 8, more=True, payload=header + bytes(600))],
    ]
    before = drops(server.node)
    heard[server.name].clear()
    for parts in evil:
        for part in parts:
            send_frames(client, part)
    allowed = {Service("udp", PORT)}
    assert ask(at(client), server.address, allowed, allowed) == allowed
    came = heard[server.name].frames(lambda frame: frame.protocol == 17 and frame.length > 100)
    assert not came, came
    # conntrack keeps what is not whole; what is whole is refused
    wait_dropped(server.node, before, Rule.DROP_INGRESS, 1, key(server))


@pytest.mark.parametrize("name", ["a1", "a2", "b2"])
def test_fragments_of_what_is_allowed_pass(ready: dict[str, Vm], name: str) -> None:
    """A whole protocol, and the answers to what began in one piece."""
    assert talk(at(ready[name]), at(ready["open"]), ready["open"].address, "fragments") == str(ready[name].address)


def test_h1_nothing_is_allowed_without_a_group(lab: Lab, vms: dict[str, Vm], groups: dict[str, Object]) -> None:
    """Neither way, but for DHCP (H7)."""
    vm = vms["silent"]
    put(lab, vm)
    try:
        before = drops(vm.node)
        assert ask(at(vm), vms["open"].address, SERVICES, ()) == set()
        wait_dropped(vm.node, before, Rule.DROP_EGRESS, len(SERVICES), key(vm))
        vm.wait_renewed()
    finally:
        put(lab, vm, groups["silent"])
