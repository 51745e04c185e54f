"""Floating IPs that are led somewhere else, and what happens to nodes, VMs and the controller meanwhile.

One node answers for an address, whatever happens; what was begun through it ends with it, and nothing else does.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest

from controller.client import ApiError, ClientError, Object
from etc.lab import netns
from etc.lab.capture import ETHERTYPE_ARP, Capture
from etc.lab.fabric import OUTSIDE_ROUTER
from etc.lab.lab import Lab
from etc.lab.node import Node
from etc.lab.probes import PingStream, into
from etc.lab.processes import wait_until
from etc.lab.vm import Vm
from tests.netns.cloud import make_network, make_outside, make_vms, request, saw, tcp, wait_outside, wait_reached, want
from tests.netns.floating import (
    DEADLINE,
    answering,
    at,
    claimants,
    connections,
    far,
    give,
    lead,
    mac_of,
    make_pool,
    take,
    talk,
    wait_active,
    wait_owner,
    wait_talk,
    watch_owners,
)
from tests.netns.test_gateways import move

pytestmark = pytest.mark.root

ROUNDS = 12
KILLS = 3
LONGEST_DOUBLE = 1.0
CONVERGED = 5.0
FORGOTTEN = 2.0
ONCE = 1.0
SERVER = 7010
NOBODY = "tcp:192.0.2.254:6653"


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=2)


@pytest.fixture(scope="module")
def network(lab: Lab) -> Object:
    make_pool(lab, make_outside(lab))
    return make_network(lab, "a", "10.20.0.0/24", segment=120)


@pytest.fixture(scope="module")
def vms(lab: Lab, network: Object) -> dict[str, Vm]:
    """In the name is the node."""
    names = ("one1", "one2", "other1")
    vms = make_vms(lab, *(want(name, lab.nodes[int(name[-1]) - 1], network) for name in names))
    wait_outside(lab, *vms.values())
    return vms


def announced(lab: Lab, seen: Capture, floating_ip: Object, node: Node, before: int = 0) -> None:
    """Three times and more, as request and as reply (RFC 5944 §4.6), by the node that has it."""
    address, mac = floating_ip["address"], mac_of(lab, node)

    def operations() -> list[int | None]:
        claims = seen.seen(
            lambda frame: frame.ethertype == ETHERTYPE_ARP and str(frame.src) == str(frame.dst) == address
        )
        return [frame.protocol for frame in claims if frame.eth_src == mac]

    wait_until(
        lambda: min(operations().count(1), operations().count(2)) >= 3, DEADLINE, lambda: f"announced: {operations()}"
    )


def wait_believed(lab: Lab, floating_ip: Object, node: Node) -> None:
    """Wait until the outside router, which knew another MAC, sends to the node's."""

    def believed() -> object:
        known = netns.query(lab.fabric.outside, "neighbour", "show", floating_ip["address"])
        return known[0].get("lladdr") if known else None

    mac = mac_of(lab, node)
    wait_until(lambda: believed() == mac, DEADLINE, lambda: f"the outside believes {believed()}, not {mac}")


def lift(lab: Lab, floating_ip: Object) -> None:
    """Release it, wherever it leads."""
    lab.confirm(lab.client.delete_floating_ip(floating_ip["id"]).revision)


class Session:
    """A TCP connection from outside to a VM."""

    def __init__(self, lab: Lab, stack: ExitStack, vm: Vm, address: object) -> None:
        listener = stack.enter_context(tcp(vm.namespace, vm.address))
        listener.listen(1)
        self.client = stack.enter_context(tcp(lab.fabric.far))
        self.client.connect((str(address), listener.getsockname()[1]))
        self.served, _ = listener.accept()
        stack.enter_context(self.served)
        self.served.settimeout(10)
        self.works()

    def works(self) -> None:
        for one, other in ((self.client, self.served), (self.served, self.client)):
            one.sendall(b"hello")
            assert other.recv(100) == b"hello"

    def is_cut(self) -> None:
        """Nothing that is said on one side arrives on the other."""
        for one, other in ((self.client, self.served), (self.served, self.client)):
            one.sendall(b"anybody?")
            other.settimeout(0.7)
            with pytest.raises((TimeoutError, ConnectionError)):
                assert other.recv(100) == b""
                raise ConnectionResetError


# E11, F6: led somewhere else


def test_e11_a_move_is_announced_and_the_outside_follows(lab: Lab, vms: dict[str, Vm]) -> None:
    """Pings that go on all the time come back from the other VM soon, and nobody has to ask where it is."""
    with lab.outside_capture("arp or icmp") as seen:
        floating_ip = give(lab, vms["one1"])
        announced(lab, seen, floating_ip, lab.nodes[0])
        address = floating_ip["address"]
        stream = PingStream(into(lab.fabric.far), address, lab.directory / "stream.log", rate=50)
        with vms["one1"].capture("icmp") as first, vms["one2"].capture("icmp") as second:
            saw(first, request)
            lead(lab, floating_ip, vms["one2"])
            announced(lab, seen, floating_ip, lab.nodes[1])
            saw(second, request, 10)
        assert stream.stop().received
        wait_believed(lab, floating_ip, lab.nodes[1])
        requests = seen.seen(lambda frame: str(frame.dst) == address and frame.icmp_type == 8)
        moved = [frame.at for frame in requests if frame.eth_dst == mac_of(lab, lab.nodes[1])]
        claims = seen.seen(lambda frame: str(frame.src) == address and frame.eth_src == mac_of(lab, lab.nodes[1]))
        assert requests[0].at < claims[0].at and moved[0] - claims[0].at < CONVERGED
        asked = seen.seen(lambda frame: frame.src == OUTSIDE_ROUTER.ip and str(frame.dst) == address)
        broadcasts = [frame for frame in asked if frame.eth_dst == "ff:ff:ff:ff:ff:ff"]
        assert len(broadcasts) <= 1, "it had to ask again"
    lift(lab, floating_ip)


def test_f6_a_moved_one_cuts_the_old_and_works_at_once(lab: Lab, vms: dict[str, Vm]) -> None:
    """Associated while it is associated: it is moved, and the same again changes nothing."""
    floating_ip = give(lab, vms["one1"])
    address = floating_ip["address"]
    with ExitStack() as stack:
        old = Session(lab, stack, vms["one1"], address)
        lead(lab, floating_ip, vms["one2"])
        wait_owner(lab, floating_ip, lab.nodes[1])
        wait_believed(lab, floating_ip, lab.nodes[1])
        new = Session(lab, stack, vms["one2"], address)
        old.is_cut()
        again = lead(lab, floating_ip, vms["one2"])
        new.works()
        assert lab.client.get_floating_ip(floating_ip["id"])["revision"] == again["revision"]
    # what the first begins has another source again, what the second begins has this one
    wait_talk(at(vms["one1"]), far(lab), lab.fabric.far_host, "tcp", lab.nodes[0].snat_address)
    assert talk(at(vms["one2"]), far(lab), lab.fabric.far_host, "tcp") == address
    lift(lab, floating_ip)


# E13, F7, F9, F11: led nowhere


def test_e13_disassociation_ends_its_sessions_and_no_others(lab: Lab, vms: dict[str, Vm]) -> None:
    floating_ip, second = give(lab, vms["one1"]), give(lab, vms["one1"])
    others = give(lab, vms["other1"])
    node = lab.nodes[0]
    with ExitStack() as stack:
        ended = Session(lab, stack, vms["one1"], floating_ip["address"])
        stay = [Session(lab, stack, vms["one1"], second["address"])]
        stay.append(Session(lab, stack, vms["other1"], others["address"]))
        assert connections(node, floating_ip["address"])
        lead(lab, floating_ip, None)
        wait_until(lambda: not connections(node, floating_ip["address"]), DEADLINE, "the connection is still known")
        ended.is_cut()
        for session in stay:
            session.works()
        assert all(connections(node, one["address"]) for one in (second, others))
    for one in (floating_ip, second, others):
        lift(lab, one)


@pytest.mark.parametrize("how", ["disassociated", "released", "port deleted", "vm unplugged"])
def test_f7_f9_f11_nobody_answers_for_what_leads_nowhere(
    lab: Lab, network: Object, vms: dict[str, Vm], how: str
) -> None:
    vm = make_vms(lab, want("gone", lab.nodes[1], network))["gone"]
    floating_ip = give(lab, vm)
    wait_owner(lab, floating_ip, lab.nodes[1])
    if how == "disassociated":
        lead(lab, floating_ip, None)
    elif how == "released":
        lift(lab, floating_ip)
    elif how == "port deleted":
        lab.confirm(lab.client.delete_port(vm.port["id"]).revision)
    else:
        vm.unplug()
    wait_owner(lab, floating_ip, None)
    assert claimants(lab, floating_ip) == []
    assert not connections(lab.nodes[1], floating_ip["address"])
    known = {one["id"]: one for one in lab.client.list_floating_ips(project_id="blue")}.get(floating_ip["id"])
    if how == "released":
        assert known is None
        with pytest.raises(ApiError, match="404"):
            lift(lab, floating_ip)
    else:  # it stays with its project; while a VM is only unplugged, it still leads there
        assert known and (known["port_id"] is None) == (how != "vm unplugged") and known["node"] is None
        lift(lab, floating_ip)
    if how == "port deleted":
        vm.delete()
        lab.vms.pop(vm.name)
    else:
        lab.delete_vm(vm)


def test_f7_whoever_wins_a_race_one_node_answers(lab: Lab, vms: dict[str, Vm], network: Object) -> None:
    """Associated here and there, disassociated, and its port deleted, all at once and again and again."""
    floating_ip = take(lab)
    choice = random.Random(7)

    def spare() -> str:
        port = lab.client.create_port({"network_id": network["id"], "project_id": "blue"}).object
        assert port
        return str(port["id"])

    def attempt(step: Callable[[], object]) -> None:
        try:
            step()
        except ApiError as error:
            assert error.status in (404, 409), error

    with watch_owners(lab, floating_ip["address"]) as watched, ThreadPoolExecutor(4) as pool:
        for _ in range(ROUNDS):
            short_lived = spare()
            steps: list[Callable[[], object]] = [
                lambda: lead(lab, floating_ip, vms["one1"], confirm=False),
                lambda: lead(lab, floating_ip, vms["one2"], confirm=False),
                lambda: lead(lab, floating_ip, None, confirm=False),
                lambda port=short_lived: lab.client.update_floating_ip(floating_ip["id"], {"port_id": port}),  # type: ignore[misc]
                lambda port=short_lived: lab.client.delete_port(port),  # type: ignore[misc]
            ]
            choice.shuffle(steps)
            list(pool.map(attempt, steps))
        lead(lab, floating_ip, vms["one2"])
        wait_owner(lab, floating_ip, lab.nodes[1])
    assert watched.longest_double() < LONGEST_DOUBLE
    assert claimants(lab, floating_ip) == ["n2"]
    assert talk(far(lab), at(vms["one2"]), floating_ip["address"], "tcp") == str(lab.fabric.far_host)
    lift(lab, floating_ip)


# E12: the controller dies in the middle


def test_e12_one_owner_when_the_controller_dies_in_the_middle_of_a_move(lab: Lab, vms: dict[str, Vm]) -> None:
    floating_ip = give(lab, vms["one1"])
    wait_owner(lab, floating_ip, lab.nodes[0])
    for number in range(KILLS):
        target = vms["one2"] if number % 2 == 0 else vms["one1"]
        with ThreadPoolExecutor(1) as pool:
            moving = pool.submit(lead, lab, floating_ip, target, confirm=False)
            if number:  # once it is killed before there is an answer, then at once after it
                moving.exception(DEADLINE)
            lab.control.kill()
            assert isinstance(moving.exception(DEADLINE), ClientError | None)
        # with nobody to reconcile there may be none that answers, but not two
        assert len(set(answering(lab, floating_ip["address"]))) <= 1
        with watch_owners(lab, floating_ip["address"]) as watched:
            lab.control.start()
            lab.wait_connected()
            again = vms["one1"] if target is vms["one2"] else vms["one2"]
            for each in (target, again, target):
                lead(lab, floating_ip, each)
            wait_owner(lab, floating_ip, target.node)
        assert claimants(lab, floating_ip) == [target.node.name]
        assert watched.longest_double() < LONGEST_DOUBLE
    assert talk(far(lab), at(vms["one2" if KILLS % 2 else "one1"]), floating_ip["address"], "tcp")
    lift(lab, floating_ip)


def test_e12_an_address_without_an_owner_is_claimed_when_a_controller_is_back(lab: Lab, vms: dict[str, Vm]) -> None:
    """The old node has let go of it, the new one has not heard yet that it is to have it."""
    floating_ip = give(lab, vms["one1"])
    wait_owner(lab, floating_ip, lab.nodes[0])
    old, new = lab.nodes
    new.stop_agent()
    new.ovs.vsctl("set-controller", "br-int", NOBODY)
    wait_until(lambda: lab.client.get_node(new.name)["state"] == "disconnected", DEADLINE, "it is connected")
    lead(lab, floating_ip, vms["one2"], confirm=False)
    wait_until(lambda: not answering(lab, floating_ip["address"]), DEADLINE, "the old node has it still")
    lab.control.kill()
    with lab.outside_capture("arp") as seen:
        lab.control.start()
        new.restart_agent(lab.control)
        lab.wait_connected()
        claims = wait_until(
            lambda: seen.seen(lambda frame: str(frame.src) == floating_ip["address"]), ONCE, "it does not claim it"
        )
        assert {frame.eth_src for frame in claims} == {mac_of(lab, new)}
        announced(lab, seen, floating_ip, new)
    assert claimants(lab, floating_ip) == [new.name]
    assert talk(far(lab), at(vms["one2"]), floating_ip["address"], "tcp") == str(lab.fabric.far_host)
    lift(lab, floating_ip)


# F8, F12: a node goes and comes back


@contextmanager
def cut_off(lab: Lab, node: Node) -> Iterator[None]:
    """From the controller alone: its VMs are reached as before."""
    netns.configure(lab.control.namespace, f"link set {node.name}-mgmt down")
    try:
        yield
    finally:
        netns.configure(lab.control.namespace, f"link set {node.name}-mgmt up")


def test_e13_what_ended_while_its_node_was_away_ends_when_it_is_back(lab: Lab, vms: dict[str, Vm]) -> None:
    """Also when the controller that took the change is killed before it has told the node."""
    floating_ip, second = give(lab, vms["one1"]), give(lab, vms["one1"])
    node, address = lab.nodes[0], floating_ip["address"]
    with ExitStack() as stack:
        ended = Session(lab, stack, vms["one1"], address)
        stays = [Session(lab, stack, vms["one1"], second["address"])]
        with tcp(lab.fabric.far, port=SERVER) as server:
            server.listen(1)
            client = stack.enter_context(tcp(vms["other1"].namespace, vms["other1"].address))
            client.connect((str(lab.fabric.far_host), SERVER))
            served = stack.enter_context(server.accept()[0])
        with cut_off(lab, node):
            lead(lab, floating_ip, None, confirm=False)
            lab.control.kill()
            for session in (ended, *stays):
                session.works()
            lab.control.start()
            assert connections(node, address)
        lab.wait_connected()
        wait_until(lambda: not connections(node, address), FORGOTTEN, "the connection is still known")
        ended.is_cut()
        for session in stays:
            session.works()
        client.sendall(b"still")
        assert served.recv(100) == b"still"
    # it is not forgotten again by the next controller
    with ExitStack() as stack:
        lead(lab, floating_ip, vms["one1"])
        wait_owner(lab, floating_ip, node)
        again = Session(lab, stack, vms["one1"], address)
        lab.control.restart(kill=True)
        lab.wait_connected()
        again.works()
        assert connections(node, address)
    for one in (floating_ip, second):
        lift(lab, one)


@contextmanager
def powered_off(lab: Lab, node: Node) -> Iterator[None]:
    """All at once, as when the plug is pulled; and on again at the end."""
    assert node.agent and node.ovs.switch and node.ovs.server
    for process in (node.agent, node.ovs.switch, node.ovs.server):
        process.kill()
    try:
        yield
    finally:
        (node.ovs.directory / "db.sock").unlink(missing_ok=True)
        node.ovs.start_database()
        node.ovs.start_switch()
        node.start_agent(lab.control)


def test_f8_one_of_a_dead_node_is_led_elsewhere_and_stays_there(lab: Lab, vms: dict[str, Vm]) -> None:
    floating_ip = give(lab, vms["one1"])
    host, address = str(lab.fabric.far_host), floating_ip["address"]
    assert talk(far(lab), at(vms["one1"]), address, "tcp") == host
    with ExitStack() as stack:
        with powered_off(lab, lab.nodes[0]):
            lead(lab, floating_ip, None, confirm=False)
            lead(lab, floating_ip, vms["one2"], confirm=False)
            wait_owner(lab, floating_ip, lab.nodes[1])
            wait_believed(lab, floating_ip, lab.nodes[1])
            assert talk(far(lab), at(vms["one2"]), address, "tcp") == host
            watched = stack.enter_context(watch_owners(lab, address))
        lab.wait_connected()
        wait_active(lab, *vms.values())
        assert claimants(lab, floating_ip) == ["n2"]
    assert watched.macs() == {mac_of(lab, lab.nodes[1])}
    wait_reached(vms["one1"], lab.fabric.far_host, DEADLINE)
    assert talk(at(vms["one1"]), far(lab), host, "tcp") == str(lab.nodes[0].snat_address)
    lift(lab, floating_ip)


def test_f12_a_node_that_restarts_has_its_floating_ips_again(lab: Lab, vms: dict[str, Vm]) -> None:
    floating_ip, untouched = give(lab, vms["one1"]), give(lab, vms["one2"])
    with ExitStack() as stack:
        elsewhere = Session(lab, stack, vms["one2"], untouched["address"])
        with lab.outside_capture("arp") as seen:
            with powered_off(lab, lab.nodes[0]):
                elsewhere.works()
                before = len(seen.seen(lambda frame: str(frame.src) == floating_ip["address"]))
            announced(lab, seen, floating_ip, lab.nodes[0], before)
        elsewhere.works()
    wait_active(lab, *vms.values())
    wait_owner(lab, floating_ip, lab.nodes[0])
    assert talk(far(lab), at(vms["one1"]), floating_ip["address"], "tcp") == str(lab.fabric.far_host)
    assert talk(at(vms["one1"]), far(lab), lab.fabric.far_host, "tcp") == floating_ip["address"]
    for one in (floating_ip, untouched):
        lift(lab, one)


# F13: a VM moves


def test_f13_it_follows_its_vm(lab: Lab, vms: dict[str, Vm], network: Object) -> None:
    vm = make_vms(lab, want("mover", lab.nodes[0], network))["mover"]
    floating_ip = give(lab, vm)
    wait_owner(lab, floating_ip, lab.nodes[0])
    assert talk(far(lab), at(vm), floating_ip["address"], "tcp")
    with lab.outside_capture("arp") as seen, watch_owners(lab, floating_ip["address"]) as watched:
        move(lab, vm, 2)
        announced(lab, seen, floating_ip, lab.nodes[1])
        wait_owner(lab, floating_ip, lab.nodes[1])
    assert watched.longest_double() < LONGEST_DOUBLE
    wait_believed(lab, floating_ip, lab.nodes[1])
    for kind in ("tcp", "icmp"):
        assert talk(far(lab), at(vm), floating_ip["address"], kind) == str(lab.fabric.far_host)
        assert talk(at(vm), far(lab), lab.fabric.far_host, kind) == floating_ip["address"]
    assert not connections(lab.nodes[0], floating_ip["address"])
    lift(lab, floating_ip)
    lab.delete_vm(vm)


def test_f13_what_a_user_takes_during_a_move_is_not_taken_back(lab: Lab, vms: dict[str, Vm], network: Object) -> None:
    vm = make_vms(lab, want("mover", lab.nodes[0], network))["mover"]
    floating_ip = give(lab, vm)
    vm.stop_client()
    vm.unplug()
    lead(lab, floating_ip, vms["other1"])
    vm.node = lab.nodes[1]
    with watch_owners(lab, floating_ip["address"]) as watched:
        vm.plug()
        wait_active(lab, vm)
        wait_owner(lab, floating_ip, lab.nodes[0])
    assert watched.macs() <= {mac_of(lab, lab.nodes[0])}
    assert lab.client.get_floating_ip(floating_ip["id"])["port_id"] == vms["other1"].port["id"]
    assert talk(far(lab), at(vms["other1"]), floating_ip["address"], "tcp") == str(lab.fabric.far_host)
    lift(lab, floating_ip)
    lab.delete_vm(vm)
