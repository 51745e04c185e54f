"""Forged path MTU errors (threat 16): a VM says that a path which it is not on takes no large packets.

What a guest believes is asked of its kernel: `ip route get` shows an MTU that it was told. The number is that of the
project's list of threats. Errors of other types are in test_threats_protocols.py, those of IPv6 in
test_threats_ipv6.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address

import pytest

from controller.packet_in import frames as product
from etc.lab import netns
from etc.lab.fabric import OUTSIDE_INTERFACE
from etc.lab.processes import wait_until
from etc.lab.vm import Vm
from flows.protocols import ICMP_UNREACHABLE, PROTO_ICMP
from flows.rules import Rule
from tests.netns import cloud, frames
from tests.netns.floating import mac_of as node_mac
from tests.netns.frames import GATEWAY, Tap, mac_of
from tests.netns.hostile import Scene

FRAGMENTATION_NEEDED = 4
TOLD = 600
"""The MTU that errors name: more than the 552 bytes that Linux believes in at least."""

PORT = 7160
"""Of the first victim on both sides; each has its own."""


@dataclass(frozen=True)
class Open:
    """A victim's conversation: with whom, and under which address and port its packets arrive there."""

    victim: Vm
    peer: IPv4Address
    source: IPv4Address
    ports: tuple[int, int]

    def packet(self, source: IPv4Address | None = None, ports: tuple[int, int] | None = None) -> bytes:
        """What an error about a packet of it quotes, by default as it arrives."""
        of, by = (source or self.source).packed, ports or self.ports
        return product.ipv4(of, self.peer.packed, product.PROTOCOL_UDP, product.udp(of, self.peer.packed, *by, b""))

    def believes(self) -> bool:
        """True if the victim's kernel has been told an MTU."""
        return "mtu" in netns.execute(self.victim.namespace, "ip", "route", "get", str(self.peer))


def too_large(quoted: bytes) -> bytes:
    """The body of an error (RFC 1191)."""
    body = bytes((ICMP_UNREACHABLE, FRAGMENTATION_NEEDED)) + bytes(4) + TOLD.to_bytes(2) + quoted
    return body[:2] + product.checksum(body).to_bytes(2) + body[4:]


def converse(stack: ExitStack, victim: Vm, namespace: str, peer: IPv4Address, port: int) -> Open:
    """The victim asks and is answered; both keep their sockets."""
    server = stack.enter_context(cloud.udp(namespace, peer, port))
    client = stack.enter_context(cloud.udp(victim.namespace, victim.address, port))
    client.connect((str(peer), port))
    client.send(b"question")
    text, (source, seen) = server.recvfrom(100)
    server.sendto(text, (source, seen))
    assert client.recv(100) == b"question"
    return Open(victim, peer, IPv4Address(source), (seen, port))


@pytest.fixture
def talking(scene: Scene) -> Iterator[dict[str, Open]]:
    """One of each: within the network, outside by the node's SNAT address, outside by a floating IP, with the attacker.

    Nobody has been told of any MTU.
    """
    lab, attacker = scene.lab, scene.attacker
    far = lab.fabric.far, lab.fabric.far_host
    own = attacker.namespace, attacker.address
    peers = {
        "inside": (scene.neighbour, scene.remote.namespace, scene.remote.address),
        "snat": (scene.stranger, *far),
        "floating": (scene.foreigner, *far),
        "attacker": (scene.neighbour, *own),
        "attacker, routed": (scene.stranger, *own),
    }
    for vm in (scene.neighbour, scene.stranger, scene.foreigner):
        netns.execute(vm.namespace, "ip", "route", "flush", "cache")
    with ExitStack() as stack:
        yield {name: converse(stack, *peer, PORT + index) for index, (name, peer) in enumerate(peers.items())}


def error(scene: Scene, to: IPv4Address, quoted: bytes, eth_dst: bytes = GATEWAY) -> bytes:
    """From the attacker's own address."""
    return frames.packet(scene.attacker, to, PROTO_ICMP, too_large(quoted), eth_dst=eth_dst)


def forged(scene: Scene, talking: dict[str, Open], kind: str) -> list[bytes]:
    """Errors about a victim's conversation, to each address that leads to it, and to its peer."""
    near, snat, floating = talking["inside"], talking["snat"], talking["floating"]
    neighbour = scene.neighbour
    return {
        "inside": [
            error(scene, neighbour.address, near.packet(), mac_of(neighbour)),
            error(scene, neighbour.address, near.packet()),
            error(scene, scene.remote.address, near.packet(), mac_of(scene.remote)),
        ],
        "snat": [
            error(scene, scene.stranger.address, snat.packet(scene.stranger.address, (snat.ports[1],) * 2)),
            error(scene, snat.source, snat.packet()),
            error(scene, snat.peer, snat.packet()),
        ],
        "floating": [
            error(scene, floating.source, floating.packet()),
            error(scene, floating.peer, floating.packet()),
        ],
        "no conversation": [
            error(scene, neighbour.address, near.packet(ports=(9, 9)), mac_of(neighbour)),
            error(scene, scene.stranger.address, snat.packet(scene.stranger.address, (9, 9))),
            error(scene, snat.source, snat.packet(ports=(9, 9))),
            error(scene, floating.source, floating.packet(ports=(9, 9))),
        ],
    }[kind]


FORGED = ("inside", "snat", "floating", "no conversation")


@pytest.mark.parametrize("kind", FORGED)
def test_threat_16_path_mtu_errors_about_others(scene: Scene, talking: dict[str, Open], kind: str) -> None:
    """They quote another VM's conversation, or none: dropped at the attacker's port."""
    scene.refused(Rule.DROP_EGRESS_INVALID, *forged(scene, talking, kind), key=0)
    assert not [name for name, each in talking.items() if each.believes()]


@pytest.mark.parametrize("kind", ["attacker", "attacker, routed"])
def test_threat_16_a_true_path_mtu_error_arrives(scene: Scene, talking: dict[str, Open], kind: str) -> None:
    """The control: about a conversation with the attacker itself it is heard, and believed."""
    own = talking[kind]
    routed = kind == "attacker, routed"
    scene.tap.send(error(scene, own.victim.address, own.packet(), GATEWAY if routed else mac_of(own.victim)))
    wait_until(own.believes, 5, "the true error is believed")
    assert not [name for name, each in talking.items() if each.victim is not own.victim and each.believes()]


@pytest.mark.parametrize("kind", ["snat", "floating"])
def test_threat_16_path_mtu_errors_from_outside(scene: Scene, talking: dict[str, Open], kind: str) -> None:
    """One that quotes no conversation is dropped by name; the control, which quotes a true one, is believed."""
    lab, victims = scene.lab, talking[kind]
    link = netns.query(lab.fabric.outside, "link", "show", "dev", OUTSIDE_INTERFACE)[0]["address"]
    tap = Tap(lab.fabric.outside, OUTSIDE_INTERFACE)

    def from_far(quoted: bytes) -> bytes:
        packet = product.ipv4(victims.peer.packed, victims.source.packed, PROTO_ICMP, too_large(quoted))
        target = product.mac_bytes(node_mac(lab, scene.node))
        return product.ethernet(target, product.mac_bytes(link), frames.IPV4, packet)

    try:
        before = cloud.drops(scene.node)
        tap.send(from_far(victims.packet(ports=(9, 9))), from_far(victims.packet(ports=(victims.ports[0], 9))))
        cloud.wait_dropped(scene.node, before, Rule.DROP_INVALID, 2)
        assert not victims.believes()
        tap.send(from_far(victims.packet()))
        wait_until(victims.believes, 5, "the true error is believed")
    finally:
        tap.close()


# last: the attacker's port stays as the last of these left it


@pytest.mark.parametrize("to", ["source", "peer"])
def test_threat_16_path_mtu_errors_by_nat_of_any_port(
    scene: Scene, attackers_port: str, talking: dict[str, Open], to: str
) -> None:
    """Also a port without conntrack reaches no VM of another project with them, by whatever address."""
    attack = [error(scene, getattr(talking[name], to), talking[name].packet()) for name in ("snat", "floating")]
    rule = Rule.DROP_EGRESS_INVALID if attackers_port == "filtered" else Rule.DROP_ICMP_ERROR
    scene.refused(rule, *attack, key=0)
    assert not [name for name, each in talking.items() if each.believes()]
