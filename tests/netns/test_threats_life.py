"""What is left of a VM, what it can fill up, what passes before a port is known and after: conntrack, NAT, plugging.

The numbers are those of the project's list of threats. For 20 see also test_floating_ips.py (e8: a VM reaches itself by
its floating IP) and test_nat.py (e2: without a port left only what is new is dropped).
"""

from __future__ import annotations

import os
import re
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from ipaddress import IPv4Address

import pytest

from controller.packet_in import frames as product
from etc.lab import netns
from etc.lab.fabric import OUTSIDE_INTERFACE
from etc.lab.lab import Lab
from etc.lab.processes import CommandFailed, wait_until
from etc.lab.vm import INTERFACE, Vm
from flows.pipeline import CtZone, nat_zone
from flows.rules import Rule
from tests.netns import cloud, frames
from tests.netns.floating import connections, give
from tests.netns.floating import mac_of as node_mac
from tests.netns.frames import GATEWAY, IPV6, Tap, arp, client_message, mac_of, sound, udp
from tests.netns.hostile import COUNTED, PAYLOAD, Scene, build, discover_until_answered, flood
from tests.unit.packet_in import wire

LIMIT, SNAT_LIMIT = 500, 20_000
"""Connections of one zone, and of that which all ports share."""


@pytest.fixture(scope="module")
def scene(make_lab: Callable[..., Lab]) -> Iterator[Scene]:
    limits = {"conntrack_limit": LIMIT, "snat_conntrack_limit": SNAT_LIMIT}
    with build(make_lab(nodes=2, agent_options=limits)) as made:
        yield made


# 19: what conntrack keeps


def zone_of(scene: Scene, vm: Vm) -> int:
    return int(scene.lab.client.get_port(vm.port["id"])["binding"]["zone"])


def entries(scene: Scene, zone: int) -> list[str]:
    return scene.node.ovs.appctl("dpctl/dump-conntrack", f"zone={zone}").splitlines()


def give_next(scene: Scene, zone: int) -> None:
    """Have the node's next port get a zone; else that would be one of the next 30,000 ports."""
    with closing(sqlite3.connect(f"{scene.lab.control.directory}/trunkline.db", timeout=10)) as database, database:
        database.execute("update nodes set next_zone = ? where name = ?", (zone, scene.node.name))


def ready(scene: Scene, vm: Vm) -> Vm:
    """With its address and router, set by hand."""
    netns.set_sysctl(vm.namespace, {f"ipv6/conf/{INTERFACE}/disable_ipv6": 1})
    vm.set_address(f"{vm.address}/24")
    with closing(Tap(vm.namespace)) as tap:
        offer = discover_until_answered(vm, tap, deadline=20)
    vm.set_address(f"{vm.address}/24", IPv4Address(offer.option(3)))
    return vm


def test_threat_19_a_zone_is_empty_when_its_next_port_gets_it(scene: Scene) -> None:
    """The port of another project, at once, with the floating IP of the one before: nothing of that one is left."""
    lab, far = scene.lab, scene.lab.fabric.far
    old = ready(scene, lab.create_vm("old", scene.node, scene.attacker.port["network_id"], client=None))
    floating_ip = give(lab, old)
    zone = zone_of(scene, old)
    with cloud.udp(far, lab.fabric.far_host, 7019) as server, cloud.udp(old.namespace, old.address, 7018) as client:
        server.sendto(b"in", (str(floating_ip["address"]), 7018))
        assert client.recvfrom(100) == (b"in", (str(lab.fabric.far_host), 7019))
        cloud.wait_reached(old, lab.fabric.far_host)
        assert any(f"={old.address}," in line for line in entries(scene, nat_zone(zone)))
        old_address = old.address
        lab.delete_vm(old)
        give_next(scene, zone)
        new = ready(scene, lab.create_vm("new", scene.node, scene.foreigner.port["network_id"], client=None))
        assert zone_of(scene, new) == zone
        wait_until(lambda: not entries(scene, nat_zone(zone)), 20, lambda: str(entries(scene, nat_zone(zone))))
        again = give(lab, new)
        with cloud.udp(new.namespace, new.address, 7018) as heard:
            server.sendto(b"anew", (str(again["address"]), 7018))
            assert heard.recv(100) == b"anew"
        left = entries(scene, nat_zone(zone)) + entries(scene, zone)
        assert left and not any(f"={old_address}," in line for line in left), left
    lab.delete_vm(new)


def test_threat_19_the_next_owner_of_an_address_hears_no_old_answers(scene: Scene) -> None:
    """What the outside still sends to the translated port of the one before is dropped by name."""
    lab, place = scene.lab, {"fixed_ips": [{"address": "10.10.0.119"}]}
    network = scene.attacker.port["network_id"]
    old = ready(scene, lab.create_vm("old", scene.node, network, client=None, **place))
    with cloud.udp(lab.fabric.far, lab.fabric.far_host, 7020) as server:
        with cloud.udp(old.namespace, old.address, 7021) as client:
            client.sendto(b"question", (str(lab.fabric.far_host), 7020))
            _, peer = server.recvfrom(100)
            server.sendto(b"answer", peer)
            assert client.recv(100) == b"answer"
        lab.delete_vm(old)
        new = ready(scene, lab.create_vm("new", scene.node, network, client=None, **place))
        assert new.address == old.address
        wait_until(
            lambda: not connections(scene.node, old.address), 20, lambda: str(connections(scene.node, old.address))
        )
        before = frames.drops(scene.node)[Rule.DROP_UNSOLICITED, 0]
        with closing(Tap(new.namespace)) as tap:
            for _ in range(3):
                server.sendto(b"are you still there?", peer)
            wait_until(
                lambda: frames.drops(scene.node)[Rule.DROP_UNSOLICITED, 0] - before >= 3, COUNTED, "old answers dropped"
            )
            with cloud.udp(new.namespace, new.address, 7022) as client:
                client.sendto(b"question", (str(lab.fabric.far_host), 7020))
                server.sendto(b"answer", server.recvfrom(100)[1])
                assert client.recv(100) == b"answer"
            assert not [frame for frame in tap.frames() if b"are you still there?" in frame]
    lab.delete_vm(new)


def fill(scene: Scene, vm: Vm, tap: Tap, target: IPv4Address, port: int = 9) -> None:
    """More connections of a VM than a zone may have."""
    for start in range(1024, 1024 + 2 * LIMIT, 100):
        tap.send(*(udp(vm, target, (source, port), eth_dst=GATEWAY) for source in range(start, start + 100)))
        scene.node.ovs.appctl("version")  # the switch has other things to do as well


def tracked(scene: Scene, zone: int) -> int:
    found = re.search(
        rf"zone={zone},limit=\d+,count=(\d+)", scene.node.ovs.appctl("dpctl/ct-get-limits", f"zone={zone}")
    )
    assert found
    return int(found[1])


def wait_refused(scene: Scene, vm: Vm) -> None:
    """What a VM began beyond its limit is dropped in its name: by a flow, or by the kernel, where none counts it."""

    def named() -> int:
        rule = Rule.DROP_CONNECTIONS.name.lower()
        found, _ = scene.lab.client.list_drops(vm.port["id"])
        return sum(max(int(one["packets"]), 1) for one in found if one["rule"] == rule)

    least = LIMIT // 2 if scene.node.ovs.datapath == "netdev" else 1
    wait_until(lambda: named() >= least, 2 * COUNTED, lambda: f"{scene.lab.client.list_drops(vm.port['id'])}")


def test_threat_19_one_vm_fills_its_zone_and_no_other(scene: Scene) -> None:
    """Its connections beyond the limit are dropped by name, untranslated ones never leave; those it has go on."""
    lab, far_host = scene.lab, scene.lab.fabric.far_host
    greedy = ready(scene, lab.create_vm("greedy", scene.node, scene.foreigner.port["network_id"], client=None))
    public = give(lab, greedy)["address"]
    zone = nat_zone(zone_of(scene, greedy))
    with ExitStack() as stack:
        tap = stack.enter_context(closing(Tap(greedy.namespace)))
        server = stack.enter_context(cloud.udp(lab.fabric.far, far_host, 7030))
        open_before = stack.enter_context(cloud.udp(greedy.namespace, greedy.address, 7031))
        open_before.sendto(b"question", (str(far_host), 7030))
        _, peer = server.recvfrom(100)
        scene.clear()
        with cloud.udp(lab.fabric.far, far_host, 9):  # nobody reads; else it would be told
            fill(scene, greedy, tap, far_host)
        assert tracked(scene, zone) <= LIMIT
        wait_refused(scene, greedy)
        assert not [frame for frame in scene.taps["outside"].frames() if frame[26:30] == greedy.address.packed]
        server.sendto(b"answer", peer)
        assert open_before.recv(100) == b"answer"
        open_before.sendto(b"again", (str(far_host), 7030))
        assert server.recvfrom(100) == (b"again", peer)
        for number, vm in enumerate((scene.attacker, scene.neighbour, scene.stranger)):
            other = stack.enter_context(cloud.udp(vm.namespace, vm.address, 7040 + number))
            other.sendto(vm.name.encode(), (str(far_host), 7030))
            text, peer = server.recvfrom(100)
            server.sendto(text, peer)
            assert other.recv(100) == vm.name.encode()
        # nor does anybody begin something with it, which is its own affair
        dropped = frames.drops(scene.node)[Rule.DROP_UNSOLICITED, 0]
        server.sendto(b"no room", (str(public), 7032))
        if scene.lab.datapath == "netdev":  # the kernel's conntrack drops it by itself
            wait_until(lambda: frames.drops(scene.node)[Rule.DROP_UNSOLICITED, 0] > dropped, COUNTED, "a named drop")
        assert scene.attacker.ping(scene.public, count=1).answered
    lab.delete_vm(greedy)


def test_threat_19_one_vm_fills_its_own_zone_and_no_other(scene: Scene) -> None:
    """What begins beyond the limit is dropped in its name, what is there goes on."""
    lab, target = scene.lab, scene.stranger
    closed = lab.client.create_security_group(
        {"name": "closed", "project_id": scene.attacker.port["project_id"]}
    ).object
    assert closed
    for rule in lab.client.get_security_group(closed["id"])["rules"]:
        if rule["direction"] == "ingress":
            lab.client.delete_security_group_rule(rule["id"])
    groups = [closed["id"]]
    network = scene.attacker.port["network_id"]
    greedy = ready(scene, lab.create_vm("greedy", scene.node, network, client=None, security_groups=groups))
    zone = zone_of(scene, greedy)
    with ExitStack() as stack:
        tap = stack.enter_context(closing(Tap(greedy.namespace)))
        server = stack.enter_context(cloud.udp(target.namespace, target.address, 7060))
        before_it = stack.enter_context(cloud.udp(greedy.namespace, greedy.address, 7061))
        before_it.sendto(b"question", (str(target.address), 7060))
        _, peer = server.recvfrom(100)
        server.sendto(b"answer", peer)
        assert before_it.recv(100) == b"answer"
        fill(scene, greedy, tap, target.address, 7060)
        wait_refused(scene, greedy)
        assert LIMIT // 2 <= tracked(scene, zone) <= LIMIT
        server.sendto(b"again", peer)
        assert before_it.recv(100) == b"again"
        other = stack.enter_context(cloud.udp(scene.neighbour.namespace, scene.neighbour.address, 7062))
        asking = stack.enter_context(cloud.udp(scene.attacker.namespace, scene.attacker.address, 7063))
        asking.sendto(b"question", (str(scene.neighbour.address), 7062))
        text, peer = other.recvfrom(100)
        other.sendto(text, peer)
        assert asking.recv(100) == b"question"
    lab.delete_vm(greedy)
    lab.client.delete_security_group(closed["id"])


def test_threat_19_limits_are_there_again_after_a_restart(scene: Scene) -> None:
    """Of the zone that all ports share, a larger one."""
    node = scene.remote.node

    def limits() -> list[int]:
        with suppress(CommandFailed):  # it has no such command before it has a bridge
            shown = node.ovs.appctl("dpctl/ct-get-limits")
            return [int(each) for each in re.findall(rf"(?:default |zone={CtZone.SNAT.value},)limit=(\d+)", shown)]
        return []

    assert limits() == [LIMIT, SNAT_LIMIT]
    node.ovs.restart_switch(kill=True)
    wait_until(lambda: limits() == [LIMIT, SNAT_LIMIT], 20, lambda: f"limits are {limits()}")
    cloud.wait_reached(scene.remote, scene.attacker.address, 30)


# 20: round again


def test_threat_20_to_the_own_floating_ip(scene: Scene) -> None:
    """A VM hears itself by it, but may not take it for its source."""
    owner, public, tap = scene.foreigner, scene.public, scene.taps["foreigner"]
    key = int(owner.port["key"])
    assert owner.ping(public, count=3).lost == 0
    scene.refused(
        Rule.DROP_SPOOFED,
        udp(owner, public, source=public, eth_dst=GATEWAY),
        udp(owner, scene.lab.fabric.far_host, source=public, eth_dst=GATEWAY),
        udp(owner, owner.address, source=public, eth_dst=GATEWAY),
        udp(owner, "255.255.255.255", source=public),
        key=key,
        tap=tap,
    )
    scene.reaches("foreigner", sent=udp(owner, public, eth_dst=GATEWAY, payload=b"to myself"), part=PAYLOAD, tap=tap)


def test_threat_20_an_answer_by_another_node(scene: Scene) -> None:
    """Routers that have not heard of a move: who does not have the connection drops it."""
    lab, attacker, other = scene.lab, scene.attacker, scene.remote.node
    link = netns.query(lab.fabric.outside, "link", "show", "dev", OUTSIDE_INTERFACE)[0]["address"]
    with (
        cloud.udp(lab.fabric.far, lab.fabric.far_host, 7050) as server,
        cloud.udp(attacker.namespace, attacker.address, 7051) as client,
        closing(Tap(lab.fabric.outside, OUTSIDE_INTERFACE)) as router,
    ):
        client.sendto(b"question", (str(lab.fabric.far_host), 7050))
        _, (address, port) = server.recvfrom(100)
        far, back = lab.fabric.far_host.packed, IPv4Address(address).packed

        def answer(node: str, text: bytes) -> bytes:
            datagram = product.udp(far, back, 7050, port, text)
            body = product.ipv4(far, back, product.PROTOCOL_UDP, datagram)
            return product.ethernet(product.mac_bytes(node), product.mac_bytes(link), frames.IPV4, body)

        before = frames.drops(other)
        scene.clear()
        router.send(*[answer(node_mac(lab, other), b"astray")] * 3)
        wait_until(lambda: (frames.drops(other) - before)[Rule.DROP_EXTERNAL, 0] >= 3, COUNTED, "drops elsewhere")
        assert scene.leaked() == {}
        router.send(answer(node_mac(lab, scene.node), b"here"))
        assert client.recv(100) == b"here"


# 21: a port that nobody knows


def everything(scene: Scene, source: Vm) -> list[bytes]:
    """All that a known port may send, also under the attacker's name."""
    return [
        udp(source, "255.255.255.255"),
        udp(source, scene.neighbour.address, eth_dst=mac_of(scene.neighbour)),
        arp(source, 1, source.address, scene.neighbour.address),
        arp(source, 1, "0.0.0.0", source.address),
        sound(client_message(source, wire.DISCOVER).frame()),
        frames.raw(source, IPV6, bytes(46)),
    ]


@pytest.mark.parametrize("iface_id", ["unknown", "none"])
def test_threat_21_before_the_port_is_known(scene: Scene, iface_id: str) -> None:
    lab = scene.lab
    port = {"id": str(uuid.uuid4()), "mac": "02:00:00:00:21:01", "fixed_ips": [{"address": "10.10.0.121"}]}
    ghost = lab.plug(f"g-{iface_id}", scene.node, port)
    ghost.set_address("10.10.0.121/24")
    if iface_id == "none":
        scene.node.ovs.vsctl("clear", "Interface", ghost.device, "external_ids")
    tap = Tap(ghost.namespace)
    netns.set_sysctl(ghost.namespace, {f"ipv6/conf/{INTERFACE}/disable_ipv6": 1})
    scene.refused(Rule.DROP_UNCLASSIFIED, *everything(scene, ghost), *everything(scene, scene.attacker), key=0, tap=tap)
    # nor does anything get in: what `refused` sent to everybody has been heard by everybody else
    assert tap.frames() == []
    if iface_id == "unknown":
        made = lab.client.create_port(
            {
                "network_id": scene.attacker.port["network_id"],
                "id": port["id"],
                "mac": port["mac"],
                "fixed_ips": [{"address": "10.10.0.121"}],
            }
        )
        lab.confirm(made.revision)
        discover_until_answered(ghost, tap)
    tap.close()


def ghost_port(last: int) -> dict[str, object]:
    return {
        "id": str(uuid.uuid4()),
        "mac": f"02:00:00:00:21:{last:02x}",
        "fixed_ips": [{"address": f"10.10.0.{last}"}],
    }


def make_known(scene: Scene, port: dict[str, object]) -> None:
    scene.lab.confirm(scene.lab.client.create_port({"network_id": scene.attacker.port["network_id"], **port}).revision)


def test_threat_21_between_plug_and_policy(scene: Scene) -> None:
    """Sends without a break from before it is known until it is served: nothing that it never may send has passed."""
    lab, port = scene.lab, ghost_port(122)
    ghost = lab.plug("early", scene.node, port)
    netns.set_sysctl(ghost.namespace, {f"ipv6/conf/{INTERFACE}/disable_ipv6": 1})
    ghost.set_address("10.10.0.122/24")
    lie, truth = os.urandom(12), os.urandom(12)
    forged = udp(ghost, "255.255.255.255", source=scene.neighbour.address, payload=lie)
    honest = udp(ghost, "255.255.255.255", payload=truth)
    neighbour = scene.taps["neighbour"]
    with closing(Tap(ghost.namespace)) as tap, flood(tap, forged, 1000), flood(tap, honest, 1000) as sent:
        scene.refused(Rule.DROP_UNCLASSIFIED, forged, honest, key=0, tap=tap)
        wait_until(lambda: sent() > 200, 20, "frames of a port that is not known")
        assert not [frame for frame in neighbour.frames() if lie in frame or truth in frame]
        make_known(scene, port)
        neighbour.wait_for(lambda frame: truth in frame, 20, "an honest frame, once the port is served")
        so_far = sent()
        wait_until(lambda: sent() > so_far + 200, 20, "frames of a port that is served")
        scene.tap.send(udp(scene.attacker, "255.255.255.255", payload=b"the end"))
        neighbour.wait_for(lambda frame: b"the end" in frame)
        for name, watcher in scene.watchers.items():
            assert not [frame for frame in watcher.frames() if lie in frame], name
    lab.delete_vm(ghost)


@pytest.mark.parametrize("end", ["deleted", "renamed"])
def test_threat_21_after_the_port_is_gone(scene: Scene, end: str) -> None:
    """The interface is there still, and passes nothing: the port deleted, or the interface no longer said to be it."""
    lab, port = scene.lab, ghost_port({"deleted": 123, "renamed": 124}[end])
    make_known(scene, port)
    ghost = lab.plug(f"gone-{end}", scene.node, port)
    netns.set_sysctl(ghost.namespace, {f"ipv6/conf/{INTERFACE}/disable_ipv6": 1})
    ghost.set_address(f"{ghost.address}/24")
    with closing(Tap(ghost.namespace)) as tap:
        discover_until_answered(ghost, tap, deadline=20)
        honest = udp(ghost, "255.255.255.255", payload=b"while it is here")
        scene.reaches("neighbour", "remote", "wire", sent=honest, tap=tap)
        if end == "deleted":
            lab.confirm(lab.client.delete_port(str(port["id"])).revision)
        else:
            scene.node.ovs.vsctl("set", "Interface", ghost.device, f"external_ids:iface-id={uuid.uuid4()}")
            wait_until(
                lambda: (lab.client.get_port(str(port["id"]))["binding"] or {}).get("ofport") is None, 20, "a report"
            )
            served = (Rule.CLASSIFY_PORT, int(lab.client.get_port(str(port["id"]))["key"]))
            wait_until(lambda: served not in frames.packets(scene.node), 20, "flows are gone")
        tap.clear()
        scene.refused(
            Rule.DROP_UNCLASSIFIED, *everything(scene, ghost), *everything(scene, scene.attacker), key=0, tap=tap
        )
        assert tap.frames() == []
