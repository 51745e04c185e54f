"""What a VM reaches by another project's forwarded ports, from inside (threat 20): these ports and nothing else.

The number is that of the project's list of threats. That forwarded ports are reached from all VMs, also with the
controller stopped, is in test_port_forwardings.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

import pytest

from etc.lab.processes import wait_until
from flows.rules import Rule
from tests.netns import frames
from tests.netns.floating import at, take, talk
from tests.netns.frames import GATEWAY, udp
from tests.netns.hostile import COUNTED, PAYLOAD, Scene

ASKED, INSIDE = 5000, 6000
"""The port of the forwarding, and the one that it leads to."""
KINDS = ("udp", "tcp")


@dataclass(frozen=True)
class Forwarded:
    """An address with ports that lead to the foreigner."""

    scene: Scene
    address: IPv4Address


@pytest.fixture(scope="module")
def forwarded(scene: Scene) -> Iterator[Forwarded]:
    client, project = scene.lab.client, scene.foreigner.port["project_id"]
    floating_ip = take(scene.lab, project=project)
    for protocol in KINDS:
        fields = {"protocol": protocol, "ports": str(ASKED), "port_id": scene.foreigner.port["id"], "to": INSIDE}
        scene.lab.confirm(client.create_port_forwarding(floating_ip["id"], fields).revision)
    yield Forwarded(scene, IPv4Address(floating_ip["address"]))
    scene.lab.confirm(client.delete_floating_ip(floating_ip["id"]).revision)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["attacker", "stranger", "remote", "foreigner"])
def test_threat_20_a_forwarded_port_is_reached_from_inside_as_from_outside(
    forwarded: Forwarded, name: str, kind: str
) -> None:
    """By its own VM, too: each is seen with its address outside, never with its own."""
    scene = forwarded.scene
    vm = getattr(scene, name)
    seen = talk(at(vm), at(scene.foreigner), (forwarded.address, ASKED), kind, INSIDE)
    outside = scene.public if name == "foreigner" else vm.node.snat_address
    assert seen in {str(outside), str(vm.node.snat_address)}


@pytest.mark.parametrize("port", [ASKED + 1, INSIDE, 22])
def test_threat_20_other_ports_of_the_address_lead_nowhere(forwarded: Forwarded, port: int) -> None:
    """The node has no flow for them: they go to the router outside, and what it sends back is dropped by name."""
    scene = forwarded.scene
    attacker, owner = scene.attacker, scene.node
    before = frames.drops(owner)
    scene.clear()
    scene.tap.send(*[udp(attacker, forwarded.address, (9, port), b"beside it", eth_dst=GATEWAY)] * 3)
    wait_until(
        lambda: (frames.drops(owner) - before)[Rule.DROP_EXTERNAL, 0] >= 3,
        COUNTED,
        lambda: str(frames.drops(owner) - before),
    )
    assert set(scene.leaked()) <= {"outside"}


def test_threat_20_the_nodes_own_address_forwards_nothing(forwarded: Forwarded) -> None:
    scene = forwarded.scene
    to_node = udp(scene.attacker, scene.node.snat_address, (9, ASKED), b"to the node", eth_dst=GATEWAY)
    scene.refused(Rule.DROP_UNSOLICITED, to_node, key=0)
    scene.clear()
    scene.tap.send(udp(scene.attacker, scene.foreigner.address, (9, INSIDE), b"to the VM", eth_dst=GATEWAY))
    assert "foreigner" not in scene.leaked()


def test_threat_20_nobody_speaks_from_the_address(forwarded: Forwarded) -> None:
    """To the forwarded port, to its VM, or to anybody else; what is allowed arrives."""
    scene = forwarded.scene
    source = {"source": forwarded.address, "eth_dst": GATEWAY}
    scene.refused(
        Rule.DROP_SPOOFED,
        udp(scene.attacker, forwarded.address, (ASKED, ASKED), **source),
        udp(scene.attacker, scene.public, (ASKED, 9), **source),
        udp(scene.attacker, scene.lab.fabric.far_host, (ASKED, 9), **source),
    )
    honest = udp(scene.attacker, forwarded.address, (9, ASKED), b"from its own", eth_dst=GATEWAY)
    scene.reaches("foreigner", sent=honest, part=PAYLOAD)
