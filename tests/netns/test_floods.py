"""Threat 7: one VM floods what the controller answers, and the others do not notice. What is too much has a name."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

import pytest

from etc.lab.lab import Lab
from etc.lab.processes import wait_until
from etc.lab.vm import Vm
from flows.pipeline import PORT_PACKET_INS
from flows.rules import Rule
from tests.netns.cloud import make_network, make_outside, make_vms, metric, wait_outside, wait_reached, want
from tests.netns.flooding import flooding
from tests.netns.frames import GATEWAY, arp, client_message, drops, sound, udp
from tests.unit.packet_in import wire

pytestmark = [pytest.mark.root, pytest.mark.alone]

MUTE = 4
"""Seconds of a first mute here."""

SECONDS = 3.0
RATE, BURST = PORT_PACKET_INS
FLOOD = 10_000
"""Frames a second."""
LASTING = 1_000
"""Frames a second of who goes on. No more: what else it sends waits in the same queue, and must not be lost there."""


@dataclass(frozen=True)
class Scene:
    lab: Lab
    attacker: Vm
    victim: Vm

    @property
    def key(self) -> int:
        return int(self.attacker.port["key"])

    def exceeded(self) -> int:
        return int(self.lab.client.get_port_counters(self.attacker.port["id"])["exceeded"]["packet_in"])

    def packet_ins(self) -> float:
        return metric(self.lab, "trunkline_packet_ins_total")


@pytest.fixture(scope="module")
def scene(make_lab: Callable[..., Lab]) -> Iterator[Scene]:
    lab = make_lab(nodes=1, control_options={"packet_in": {"mute": MUTE}})
    make_outside(lab)
    blue = make_network(lab, "blue", "10.20.0.0/24", segment=120)
    (node,) = lab.nodes
    vms = make_vms(lab, want("a", node, blue), want("v", node, blue))
    wait_outside(lab, *vms.values())
    yield Scene(lab, vms["a"], vms["v"])


def discover(scene: Scene) -> list[bytes]:
    return [sound(client_message(scene.attacker, wire.DISCOVER).frame())]


def last_hop(scene: Scene) -> list[bytes]:
    """To anywhere, with a TTL that ends at the gateway."""
    frame = udp(scene.attacker, "198.51.100.7", eth_dst=GATEWAY)
    return [sound(frame[:22] + b"\1" + frame[23:])]


def next_hops(scene: Scene) -> list[bytes]:
    """To neighbours of the router that nobody has heard of: by the router, while each is asked for."""
    return [udp(scene.attacker, f"203.0.113.{host}", eth_dst=GATEWAY) for host in range(3, 100)]


KINDS = {"dhcp": discover, "ttl": last_hop, "next hops": next_hops}


@pytest.mark.parametrize("kind", KINDS)
def test_threat_07_a_flood_for_the_controller_starves_nobody(scene: Scene, kind: str) -> None:
    late = scene.lab.create_vm(f"l{kind[0]}", scene.attacker.node, scene.attacker.port["network_id"], client=None)
    before, packet_ins = scene.exceeded(), scene.packet_ins()
    with flooding(scene.attacker, KINDS[kind](scene), SECONDS, FLOOD) as flood:
        late.start_client()
        late.wait_configured(5)
        pinged = scene.victim.ping(late.lease()["router"])
    assert pinged.lost == 0 and flood.sent > 10_000, flood.sent
    heard = scene.packet_ins() - packet_ins
    # the meter, and what others have asked; the neighbours are remembered for a while besides
    assert heard < BURST + RATE * (SECONDS + 2) + 50, heard
    if kind != "next hops":
        wait_until(lambda: scene.exceeded() - before > flood.sent / 2, 20, "what was too much is counted for the port")
    scene.lab.delete_vm(late)


def test_threat_07_arp_and_random_targets_are_answered_or_dropped_in_the_switch(scene: Scene) -> None:
    router = scene.victim.lease()["router"]
    rng = random.Random(7)
    attack = [arp(scene.attacker, 1, scene.attacker.address, router)]
    attack += [arp(scene.attacker, 1, scene.attacker.address, IPv4Address(rng.getrandbits(32))) for _ in range(500)]
    before = scene.packet_ins()
    with flooding(scene.attacker, attack, SECONDS, FLOOD) as flood:
        assert scene.victim.ping(router, count=5).lost == 0
    assert flood.sent > 5000 and scene.packet_ins() - before < 20


def test_threat_07_who_goes_on_is_heard_no_more_for_a_while(scene: Scene) -> None:
    """About that: what the VM sends besides goes on, and afterwards it is heard again."""
    node, lab, attacker = scene.attacker.node, scene.lab, scene.attacker
    rule = Rule.DROP_FLOOD_DHCP
    wait_reached(attacker, lab.fabric.far_host)
    with attacker.capture("udp port 67") as answers, flooding(attacker, discover(scene), 60, LASTING) as flood:
        wait_until(lambda: drops(node)[rule, scene.key] > 1000, 40, "the drop is there, and counts", interval=0.2)
        counters = lab.client.get_port_counters(attacker.port["id"])
        assert 0 < counters["muted"]["punt_dhcp"] <= MUTE and counters["drops"]["drop_flood_dhcp"] > 0, counters
        assert 0 < lab.client.get_port(attacker.port["id"])["muted"]["punt_dhcp"] <= MUTE
        packet_ins = scene.packet_ins()
        assert attacker.ping(lab.fabric.far_host, count=5).lost == 0, "its other traffic goes on"
        assert scene.packet_ins() - packet_ins < 20
        assert answers.seen(), "it was answered before"
        flood.stop()
    assert metric(lab, "trunkline_ports_muted_total") >= 1
    assert "port_muted" in lab.control.config_file.with_name("controller.log").read_text()
    wait_until(lambda: (rule, scene.key) not in drops(node), 20 * MUTE, "the switch ends it by itself", interval=0.2)
    wait_until(lambda: metric(lab, "trunkline_muted_ports") == 0, 20, "it is not shown any more")
    with attacker.capture("udp port 67") as watched:
        attacker.renew()
        watched.wait_for(lambda frame: True, 20, "DHCP works again")


def test_a_mute_is_not_part_of_the_program(scene: Scene) -> None:
    """A controller that comes anew finds the node in order, and the mute ends all the same."""
    node, lab = scene.attacker.node, scene.lab
    rule = Rule.DROP_FLOOD_TTL
    with flooding(scene.attacker, last_hop(scene), 60, LASTING) as flood:
        wait_until(lambda: (rule, scene.key) in drops(node), 40, "the drop is there", interval=0.2)
        flood.stop()
    lab.control.restart(kill=True)
    lab.wait_connected()
    assert metric(lab, "of_flowmsgs_sent_total") == metric(lab, "trunkline_meter_mods_total") == 0
    wait_until(lambda: (rule, scene.key) not in drops(node), 20 * MUTE, "the switch ends it by itself", interval=0.2)
    assert metric(lab, "of_flowmsgs_sent_total") == 0
