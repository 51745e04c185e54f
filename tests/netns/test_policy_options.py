"""What networks, ports and the operator say beside security groups: H6 to H9, H12, address pairs and the log."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from controller.client import ApiError, Object
from etc.lab import netns
from etc.lab.capture import UDP, Seen
from etc.lab.control import member_token
from etc.lab.lab import Lab
from etc.lab.processes import wait_until
from etc.lab.vm import Vm
from flows.pipeline import GATEWAY_MAC
from flows.rules import Rule
from tests.netns.cloud import (
    arp_frame,
    drops,
    make_network,
    make_outside,
    make_vms,
    send_frames,
    udp,
    udp_frame,
    wait_dropped,
    wait_outside,
    want,
)
from tests.netns.floating import at, far, give, make_pool
from tests.netns.frames import client_message, mac_of, sound
from tests.netns.policy import (
    PING,
    SOON,
    Heard,
    Service,
    add,
    ask,
    grouped,
    ingress,
    make_group,
    path,
    probing,
    put,
    reachable,
    serving,
    tracked,
    wait_reachable,
    wait_refused,
    zone_of,
)
from tests.unit.packet_in import wire

pytestmark = pytest.mark.root

VIP = "10.20.0.200"
VIRTUAL_MAC = "00:00:5e:00:01:07"
FAR_RANGE = "198.51.100.0/24"
WEB = Service("tcp", 80)
_FIELD = re.compile(r"(\w+)=(\S+)")


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=2, open_groups=False, projects=("blue", "red"))


@pytest.fixture(scope="module")
def networks(lab: Lab) -> dict[str, Object]:
    """One of blue, and a flat one that all projects share."""
    make_pool(lab, make_outside(lab))
    fields = {"reserved": [{"first": VIP, "last": VIP}], "cidr": "10.20.0.0/24"}
    return {
        "a": make_network(lab, "a", "", segment=120, subnets=[fields], allow_same_net_traffic=False),
        "flat": make_network(lab, "flat", "10.10.0.0/24", project_id=None, shared=True),
    }


@pytest.fixture(scope="module")
def opened(lab: Lab) -> Object:
    return make_group(lab, "open", ingress())


@pytest.fixture(scope="module")
def closed(lab: Lab) -> Object:
    return make_group(lab, "closed")


@pytest.fixture(scope="module")
def vms(lab: Lab, networks: dict[str, Object], opened: Object) -> dict[str, Vm]:
    """In the name are network and node; `red` is another project's on the flat network, in its default group."""
    of = {"security_groups": [opened["id"]]}
    places = [("a1", 0), ("a1b", 0), ("a2", 1), ("a2b", 1), ("flat1", 0), ("flat2", 1)]
    wanted = [want(name, lab.nodes[n], networks[name.rstrip("12b")], **of) for name, n in places]
    vms = make_vms(lab, *wanted, want("red", lab.nodes[1], networks["flat"], project_id="red"))
    wait_outside(lab, vms["a1"], vms["a2"])
    for name in ("a1b", "a2", "a2b"):
        wait_reachable(at(vms[name]), vms["a1"].address, PING)
    return vms


def key(vm: Vm) -> int:
    return int(vm.port["key"])


# H6: what comes from the same network


def test_h6_on_a_shared_network_a_rule_is_needed_unless_the_operator_says_otherwise(
    lab: Lab, vms: dict[str, Vm], networks: dict[str, Object], closed: Object
) -> None:
    """Both values, from both nodes, across projects; nova-network's is True."""
    server, network = vms["flat1"], networks["flat"]["id"]
    clients = [at(vms["flat2"]), at(vms["red"])]
    with grouped(lab, server, closed):
        for client in clients:
            wait_refused(client, server.address, PING)
        lab.confirm(lab.client.update_network(network, {"allow_same_net_traffic": True}).revision)
        for client in clients:
            wait_reachable(client, server.address, PING)
        public = give(lab, server)["address"]
        assert not reachable(far(lab), public, PING)
        lab.confirm(lab.client.update_network(network, {"allow_same_net_traffic": False}).revision)
        for client in clients:
            wait_refused(client, server.address, PING)
        before = drops(server.node)
        assert not reachable(clients[1], server.address, PING)
        wait_dropped(server.node, before, Rule.DROP_INGRESS, 1, key(server))
    blue = lab.control.client(member_token("blue"))
    with pytest.raises(ApiError):
        blue.update_network(network, {"allow_same_net_traffic": True})


# H7: DHCP, and H8: what is never off, and what an operator may switch off


def test_h7_a_vm_that_is_allowed_nothing_gets_its_lease_and_no_rogue_gives_one(lab: Lab, vms: dict[str, Vm]) -> None:
    """Neither a neighbour on its node nor one on another."""
    victim, rogue, remote = vms["a1"], vms["a1b"], vms["a2"]
    with grouped(lab, victim), ExitStack() as stack:
        victim.wait_renewed()
        heard = Heard(victim)
        stack.callback(heard.close)
        for sender, rule in ((rogue, Rule.DROP_DHCP_SERVER), (remote, Rule.DROP_DHCP_SERVER)):
            offer = client_message(
                sender, wire.OFFER, chaddr=mac_of(victim), op=2, ports=(67, 68), source=sender.address
            )
            before = drops(sender.node)
            send_frames(sender, sound(offer.frame()), 3)
            wait_dropped(sender.node, before, rule, 3)
        assert not heard.frames(lambda frame: frame.dst_port == 68)


def test_h8_port_security_is_the_administrators_to_switch_off(
    lab: Lab, vms: dict[str, Vm], networks: dict[str, Object], opened: Object
) -> None:
    """Then a VM sends from any MAC and IP address, also IPv6, but not as a node or as a DHCP server."""
    vm, peer = vms["a1b"], vms["a2"]
    forged = udp_frame(vm, peer.address, eth_dst=peer.mac, eth_src="02:00:00:00:00:09", source="10.20.0.77")
    with pytest.raises(ApiError) as refused:
        lab.control.client(member_token("blue")).update_port(vm.port["id"], {"port_security": False})
    assert refused.value.status == 403
    heard, zone = Heard(peer), zone_of(lab, vm)
    try:
        before = drops(vm.node)
        send_frames(vm, forged, 3)
        wait_dropped(vm.node, before, Rule.DROP_SPOOFED, 3, key(vm))
        assert not heard.frames(lambda frame: str(frame.src) == "10.20.0.77")
        off = {"port_security": False, "security_groups": [], "address_pairs": []}
        lab.confirm(lab.client.update_port(vm.port["id"], off).revision)

        def arrives() -> bool:
            send_frames(vm, forged)
            return bool(heard.frames(lambda frame: str(frame.src) == "10.20.0.77"))

        wait_until(arrives, SOON, "the forged frame does not come")
        # who is not secured obeys no groups either, and its node tracks nothing for it
        vm.node.ovs.appctl("dpctl/flush-conntrack", f"zone={zone}")
        wait_reachable(at(peer), vm.address, PING)
        assert not tracked(vm, zone)
        before = drops(vm.node)
        as_node = udp_frame(vm, peer.address, eth_dst=peer.mac, eth_src=GATEWAY_MAC.to_bytes(6).hex(":"))
        offer = client_message(vm, wire.OFFER, chaddr=mac_of(peer), op=2, ports=(67, 68), source=vm.address)
        send_frames(vm, as_node, 2)
        send_frames(vm, sound(offer.frame()), 2)
        wait_dropped(vm.node, before, Rule.DROP_SPOOFED, 2, key(vm))
        wait_dropped(vm.node, before, Rule.DROP_DHCP_SERVER, 2)
        assert not heard.frames(lambda frame: frame.dst_port == 68)
    finally:
        heard.close()
        put(lab, vm, opened, port_security=True)
    before = drops(vm.node)
    wait_until(lambda: spoofed(vm, forged, before) > 0, SOON, "it is not dropped again")
    assert lab.client.get_port(vm.port["id"])["port_security"]


def spoofed(vm: Vm, frame: bytes, before: object) -> int:
    send_frames(vm, frame)
    return (drops(vm.node) - before)[Rule.DROP_SPOOFED, key(vm)]  # type: ignore[operator,no-any-return]


def test_h7_no_dhcp_server_outside_reaches_a_vm(lab: Lab, vms: dict[str, Vm]) -> None:
    """By its floating IP, in an open group: whole and in fragments, from whatever port. To other ports it arrives."""
    vm = vms["a1"]
    public = str(give(lab, vm)["address"])
    heard = Heard(vm)
    try:
        for source in (67, 1067):
            with udp(lab.fabric.far, lab.fabric.far_host, source) as sock:
                for size, rule, parts in ((300, Rule.DROP_OUTSIDE_DHCP, 1), (4000, Rule.DROP_OUTSIDE_DHCP_PART, 3)):
                    before = drops(vm.node)
                    sock.sendto(bytes(size), (public, 68))
                    if lab.datapath == "netdev" or parts == 1:  # the kernel puts them together
                        wait_dropped(vm.node, before, rule, parts)
                    sock.sendto(bytes(size - 1), (public, 1068))
                    wait_until(
                        lambda size=size: heard.frames(
                            lambda frame: frame.protocol == UDP and frame.src == lab.fabric.far_host
                        ),
                        20,
                        "what is for another port does not arrive",
                    )
                    assert not heard.frames(lambda frame: frame.dst_port == 68)
                    heard.clear()
    finally:
        heard.close()


# H9: no filtering at all


def test_h9_without_filtering_conntrack_is_not_on_the_way(
    lab: Lab, vms: dict[str, Vm], networks: dict[str, Object], closed: Object
) -> None:
    """By trace of what they send and get, and by conntrack's own account of all zones; anti-spoofing stays."""
    near, neighbour, remote, network = vms["a1"], vms["a1b"], vms["a2"], networks["a"]["id"]
    ways = ((near, remote), (remote, near), (near, neighbour), (neighbour, near))
    with grouped(lab, near, closed):
        wait_refused(at(remote), near.address, PING)
        assert all("ct(" in traced(client, server) for client, server in ways)
        assert reachable(at(near), remote.address, PING, SOON)
        assert all(tracked_anywhere(vm) for vm in (near, remote))
        lab.confirm(lab.client.update_network(network, {"filtering": False}).revision)
        try:
            wait_reachable(at(remote), near.address, PING)
            for vm in (near, remote):
                vm.node.ovs.appctl("dpctl/flush-conntrack")
            for client, server in ways:
                assert "ct(" not in traced(client, server)
                assert ask(at(client), server.address, [PING], [PING])
            assert not any(tracked_anywhere(vm) for vm in (near, neighbour, remote))
            before = drops(near.node)
            send_frames(near, udp_frame(near, remote.address, eth_dst=remote.mac, source="10.20.0.77"), 3)
            wait_dropped(near.node, before, Rule.DROP_SPOOFED, 3, key(near))
        finally:
            lab.confirm(lab.client.update_network(network, {"filtering": True}).revision)
        wait_refused(at(remote), near.address, PING)


def tracked_anywhere(vm: Vm) -> list[str]:
    """What conntrack of a VM's node knows of it, in whatever zone: its own, a translated one, or everybody's."""
    known = vm.node.ovs.appctl("dpctl/dump-conntrack").splitlines()
    return [line for line in known if f"src={vm.address}," in line]


def traced(sender: Vm, to: Vm) -> str:
    """All that its node would do with a packet."""
    flow = f"in_port={sender.node.ovs.ofport(sender.device)},icmp,dl_src={sender.mac},dl_dst={to.mac}"
    said = sender.node.ovs.trace(f"{flow},nw_src={sender.address},nw_dst={to.address},nw_ttl=64,icmp_type=8")
    assert "Datapath actions: " in said, said
    return said


# H12: the operator's list


def test_h12_what_the_operator_drops_is_dropped_for_all_at_once(lab: Lab, vms: dict[str, Vm]) -> None:
    """Over what the groups say, for each node, also what goes on; gone with its rule."""
    inside = [vms["a1"], vms["a2"], vms["flat2"]]
    public = {vm.name: str(give(lab, vm)["address"]) for vm in inside}
    for vm in inside:
        wait_reachable(far(lab), public[vm.name], PING)
        wait_reachable(at(vm), lab.fabric.far_host, PING)
    began = time.monotonic()
    made = lab.client.create_provider_rule({"cidr": FAR_RANGE})
    assert made.object
    try:
        with ThreadPoolExecutor(2 * len(inside)) as asking:  # all at once: each takes a moment to be sure
            waiting = [asking.submit(wait_refused, far(lab), public[vm.name], PING, SOON) for vm in inside]
            waiting += [asking.submit(wait_refused, at(vm), lab.fabric.far_host, PING, SOON) for vm in inside]
            for each in waiting:
                each.result()
        assert time.monotonic() - began < SOON
        lab.confirm(made.revision)
        listed = int(made.object["key"])
        for vm in inside:
            before = drops(vm.node)
            assert not reachable(far(lab), public[vm.name], PING) and not reachable(at(vm), lab.fabric.far_host, PING)
            for rule in (Rule.DROP_PROVIDER_INGRESS, Rule.DROP_PROVIDER_EGRESS):
                wait_dropped(vm.node, before, rule, 1, listed)
            assert reachable(at(vm), "203.0.113.1", PING, SOON)  # who is not on the list
    finally:
        lab.confirm(lab.client.delete_provider_rule(made.object["id"]).revision)
    for vm in inside:
        wait_reachable(far(lab), public[vm.name], PING)
    with pytest.raises(ApiError):
        lab.control.client(member_token("blue")).create_provider_rule({"cidr": FAR_RANGE})


# extra 6: address pairs


def heard_from(sender: Vm, frame: bytes, receiver: Vm, is_it: Callable[[Seen], bool]) -> None:
    heard = Heard(receiver)

    def arrives() -> bool:
        send_frames(sender, frame)
        return bool(heard.frames(is_it))

    try:
        wait_until(arrives, SOON, f"{sender.name} does not reach {receiver.name}")
    finally:
        heard.close()


def hold(vm: Vm, *, holds: bool) -> None:
    """The guest takes the shared address, and says so, or gives it up."""
    netns.configure(vm.namespace, f"address {'replace' if holds else 'delete'} {VIP}/24 dev eth0")
    if holds:
        send_frames(vm, arp_frame(vm, VIP, sender=VIP), 2)


@pytest.mark.parametrize("backup", ["a1b", "a2"], ids=["same node", "another node"])
def test_x6_an_address_moves_between_two_vms_and_no_third_claims_it(
    lab: Lab, vms: dict[str, Vm], opened: Object, backup: str
) -> None:
    """By gratuitous ARP, as VRRP does it: within three seconds, with each of them having it as a pair."""
    master, other, client, third = vms["a1"], vms[backup], vms["a2b"], vms["a1b" if backup == "a2" else "a2"]
    pair = {"address_pairs": [{"cidr": VIP}]}
    for vm in (master, other):
        put(lab, vm, opened, **pair)
    try:
        hold(master, holds=True)
        wait_reachable(at(client), VIP, PING)
        for loses, gains in ((master, other), (other, master)):
            before = drops(third.node)
            send_frames(third, arp_frame(third, VIP, sender=VIP), 3)
            wait_dropped(third.node, before, Rule.DROP_SPOOFED, 3, key(third))
            moved = time.monotonic()
            hold(loses, holds=False)
            hold(gains, holds=True)
            with gains.capture("icmp") as seen:
                wait_reachable(at(client), VIP, PING, 3.0)
                assert time.monotonic() - moved < 3.0
                seen.wait_for(lambda frame: str(frame.dst) == VIP)
    finally:
        netns.configure(master.namespace, f"address delete {VIP}/24 dev eth0")
        for vm in (master, other):
            put(lab, vm, opened, address_pairs=[])
    before = drops(master.node)
    wait_until(lambda: spoofed(master, arp_frame(master, VIP, sender=VIP), before) > 0, SOON, "it still claims it")


def test_x6_a_virtual_mac_is_reached_wherever_it_is(lab: Lab, vms: dict[str, Vm], opened: Object) -> None:
    """VRRP's (RFC 9568, 7.3): from the same node and from the other, while two may have it."""
    for vm in (vms["a1"], vms["a2"]):
        put(lab, vm, opened, address_pairs=[{"cidr": VIP, "mac": VIRTUAL_MAC}])
    try:
        for holder in (vms["a1"], vms["a2"]):
            for client in (vms["a1b"], vms["a2b"]):
                # who has it now speaks first, as a new master does: switches on the way learn where it is
                answer = udp_frame(holder, client.address, eth_dst=client.mac, eth_src=VIRTUAL_MAC, source=VIP)
                heard_from(holder, answer, client, lambda seen: seen.eth_src == VIRTUAL_MAC)
                asked = udp_frame(client, VIP, eth_dst=VIRTUAL_MAC)
                heard_from(client, asked, holder, lambda seen: seen.eth_dst == VIRTUAL_MAC)
    finally:
        for vm in (vms["a1"], vms["a2"]):
            put(lab, vm, opened, address_pairs=[])


# the log


def logged(lab: Lab, event: str, since: int) -> list[dict[str, str]]:
    """The fields of such events after so many lines."""
    assert lab.control.process
    lines = lab.control.process.log.read_text().splitlines()[since:]
    return [dict(_FIELD.findall(line)) for line in lines if event in line]


@pytest.fixture
def lines(lab: Lab) -> Iterator[int]:
    assert lab.control.process
    yield len(lab.control.process.log.read_text().splitlines())


def test_the_log_names_a_rule_that_wants_it_beside_one_that_does_not(lab: Lab, vms: dict[str, Vm], lines: int) -> None:
    """Of two groups with the same rule, whichever is older; and as soon as it wants it."""
    server, client = vms["a1"], vms["a2"]
    loud, quiet = (make_group(lab, name, ingress("tcp", 80)) for name in ("loud", "quiet"))
    with grouped(lab, server, loud, quiet), ExitStack() as stack:
        serving(stack, server, WEB)
        wait_reachable(at(client), server.address, WEB)
        assert not logged(lab, "connection_accepted", lines)
        lab.confirm(lab.client.update_security_group(loud["id"], {"log_accepted": True}).revision)

        def begun() -> list[dict[str, str]]:
            assert reachable(at(client), server.address, WEB, SOON)
            return logged(lab, "connection_accepted", lines)

        said = wait_until(begun, 20, "nothing is logged")
        assert {line["security_group"] for line in said} == {"loud"}


def test_the_log_names_what_begins_and_what_is_dropped_within_a_limit(lab: Lab, vms: dict[str, Vm], lines: int) -> None:
    group = make_group(lab, "watched", log_dropped=True)
    (rule,) = add(lab, group, ingress("tcp", 80, log=True))
    server, client = vms["a1"], vms["a2"]
    with grouped(lab, server, group), ExitStack() as stack:
        serving(stack, server, WEB)
        wait_reachable(at(client), server.address, WEB)

        def said() -> list[dict[str, str]]:
            """The meter that bounds what is reported is empty when it is new."""
            assert reachable(at(client), server.address, WEB, SOON)
            return logged(lab, "connection_accepted", lines)

        begun = wait_until(said, 20, "nothing is logged")[0]
        expected = {
            "node": "n1",
            "direction": "ingress",
            "security_group": "watched",
            "rule_id": rule["id"],
            "port": server.name,
            "protocol": "tcp",
            "source": str(client.address),
            "destination": str(server.address),
            "destination_port": "80",
        }
        assert {name: begun.get(name) for name in expected} == expected
        heard = Heard(server)
        stack.callback(heard.close)
        forbidden = path("forbidden", client, server, 81, fresh=True)
        with probing(forbidden) as probes:
            began = time.monotonic()
            probes.run(2)
        took = time.monotonic() - began
        assert not forbidden.arrived
        dropped = logged(lab, "connection_dropped", lines)
        assert dropped and dropped[-1]["port_id"] == server.port["id"] and dropped[-1]["destination_port"] == "81"
        assert forbidden.sent > len(dropped) and len(dropped) <= 20 + 10 * (took + 1)
        assert any(line.get("left_out") for line in dropped)
        assert not heard.frames(lambda frame: frame.dst_port == 81)
