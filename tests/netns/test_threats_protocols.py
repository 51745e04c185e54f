"""Frames that pass for something else: tags, ethertypes, a service's answers, protocols of bridges and routers.

The numbers are those of the project's list of threats. What an honest VM sends in the same way arrives, each time.
"""

from __future__ import annotations

import os
from ipaddress import IPv4Address

import pytest

from controller.packet_in import frames as product
from etc.lab.processes import wait_until
from flows.rules import Rule
from tests.netns import frames
from tests.netns.frames import (
    ARP,
    BROADCAST,
    GATEWAY,
    IPV4,
    RARP,
    arp,
    client_message,
    mac,
    mac_of,
    rarp,
    raw,
    snap,
    sound,
    udp,
)
from tests.netns.hostile import COUNTED, OTHER_VLAN, PAYLOAD, SEGMENT, Scene, rogue_offer
from tests.unit.packet_in import wire

FOREIGN_MAC = mac("02:aa:bb:cc:dd:ee")
ALL_HOSTS = mac("01:00:5e:00:00:01")


# 14: what is neither IPv4 nor ARP without a tag


TAGS = {
    "802.1q": [(0x8100, OTHER_VLAN)],
    "802.1q vlan 1": [(0x8100, 1)],
    "802.1q vlan 4095": [(0x8100, 4095)],
    "priority": [(0x8100, 0)],
    "priority 7": [(0x8100, 7 << 13)],
    "802.1ad": [(0x88A8, OTHER_VLAN)],
    "802.1ad priority": [(0x88A8, 0)],
    "double 802.1q": [(0x8100, OTHER_VLAN), (0x8100, OTHER_VLAN)],
    "double, first 0": [(0x8100, 0), (0x8100, OTHER_VLAN)],
    "q in q": [(0x88A8, OTHER_VLAN), (0x8100, OTHER_VLAN)],
    "0x9100": [(0x9100, OTHER_VLAN)],
    "0x9100 and 802.1q": [(0x9100, OTHER_VLAN), (0x8100, OTHER_VLAN)],
    "q in q in q": [(0x88A8, OTHER_VLAN), (0x8100, OTHER_VLAN), (0x8100, OTHER_VLAN)],
    "802.1ad vlan 4095": [(0x88A8, 4095)],
    "0x9200": [(0x9200, OTHER_VLAN)],
}


@pytest.mark.parametrize("tags", TAGS)
def test_threat_14_vlan_tags(scene: Scene, tags: str) -> None:
    unknown_to_switches = TAGS[tags][0][0] in (0x9100, 0x9200)
    honest = [
        udp(scene.attacker, "255.255.255.255", payload=b"hop"),
        udp(scene.attacker, scene.stranger.address, eth_dst=mac_of(scene.stranger), payload=b"hop"),
        udp(scene.attacker, scene.remote.address, eth_dst=mac_of(scene.remote), payload=b"hop"),
        arp(scene.attacker, 1, scene.attacker.address, scene.remote.address),
        sound(client_message(scene.attacker, wire.DISCOVER).frame()),
    ]
    attack = [frames.tagged(frame, *TAGS[tags]) for frame in honest]
    if unknown_to_switches:
        scene.refused(Rule.DROP_SPOOFED, *attack)
    else:
        scene.refused(Rule.DROP_UNCLASSIFIED, *attack, key=0)
    assert scene.tap.dhcp() == []
    for who, sent in (
        (SEGMENT, honest[0]),
        (("remote", "wire"), honest[2]),
        (SEGMENT, honest[3]),
    ):
        scene.reaches(*who, sent=sent)
    scene.answered()


def ethertypes() -> list[int]:
    """Known ones, and some by chance, of all that no VM may send."""
    known = [
        0x0600,
        0x0805,
        0x0807,
        0x22F3,
        0x6558,
        0x8137,
        0x86DC,
        0x8847,
        0x8848,
        0x88E5,
        0x88E7,
        0x88F7,
        0x893F,
        0xFFFF,
    ]
    return known + [kind for kind in (0x0600 | int.from_bytes(os.urandom(2)) for _ in range(30)) if kind not in ALLOWED]


ALLOWED = (IPV4, ARP, frames.IPV6, RARP, 0x8100, 0x88A8)
"""And IPv6 and tags, which have drops of their own."""


def test_threat_14_no_other_ethertype(scene: Scene) -> None:
    honest = udp(scene.attacker, "255.255.255.255", payload=b"as another protocol")
    attack = [honest[:12] + kind.to_bytes(2) + honest[14:] for kind in ethertypes()]
    scene.refused(Rule.DROP_SPOOFED, *attack)
    scene.reaches(*SEGMENT, sent=honest)


def test_threat_14_rarp_only_shows_where_a_vm_is(scene: Scene) -> None:
    """QEMU broadcasts it for a VM that has moved."""
    attacker = scene.attacker
    body = rarp(attacker)[14:]
    scene.refused(
        Rule.DROP_SPOOFED,
        raw(attacker, RARP, body, eth_src=mac_of(scene.neighbour)),
        raw(attacker, RARP, body, eth_dst=mac_of(scene.neighbour)),
        raw(attacker, RARP, body, eth_dst=ALL_HOSTS),
        # an answer, and what says it is another's or for another's
        raw(attacker, RARP, body[:7] + b"\4" + body[8:]),
        raw(attacker, RARP, body[:7] + b"\1" + body[8:]),
        raw(attacker, RARP, body[:8] + mac_of(scene.neighbour) + body[14:]),
        raw(attacker, RARP, body[:18] + mac_of(scene.neighbour) + body[24:]),
    )
    scene.reaches(*SEGMENT, sent=raw(attacker, RARP, body))


def test_threat_14_ieee_802_3_frames(scene: Scene) -> None:
    """With a length for an ethertype. Open vSwitch shows flows what SNAP says, so it is checked like any other, and
    goes where its addresses say; no Linux guest takes it.
    """
    attacker = scene.attacker
    scene.refused(
        Rule.DROP_SPOOFED,
        snap(udp(attacker, "255.255.255.255", source=scene.neighbour.address)),
        snap(udp(attacker, "255.255.255.255", eth_src=mac_of(scene.neighbour))),
        snap(arp(attacker, 2, scene.gateway, scene.gateway)),
        snap(udp(attacker, "255.255.255.255"), oui=b"\0\0\x0c"),
        raw(attacker, 38, b"\x42\x42\x03" + bytes(35)),
        raw(attacker, 1500, b"\xff\xff" + bytes(1498)),
    )
    scene.refused(Rule.DROP_DHCP_SERVER, snap(rogue_offer(scene)), key=0)
    scene.refused(Rule.DROP_MARTIAN, snap(udp(attacker, "127.0.0.1", eth_dst=GATEWAY)), key=0)
    scene.refused(Rule.DROP_GATEWAY, snap(udp(attacker, scene.gateway, eth_dst=GATEWAY)), key=scene.network_key)
    for target, eth_dst in ((scene.neighbour.address, mac_of(scene.neighbour)), (scene.stranger.address, GATEWAY)):
        scene.not_echoed(target, eth_dst, snap)
    scene.reaches(*SEGMENT, sent=udp(attacker, "255.255.255.255", payload=b"as Ethernet"))


# 16: what looks like a service's answer


@pytest.mark.parametrize("source_port", [53, 67, 547, 80])
def test_threat_16_a_services_port_skips_no_check(scene: Scene, source_port: int) -> None:
    """Nor does a service's address."""
    attacker = scene.attacker
    ports = (source_port, 9999)
    for name, eth_dst in (("neighbour", None), ("remote", None), ("stranger", GATEWAY)):
        victim = getattr(scene, name)
        to = {"eth_dst": eth_dst or mac_of(victim)}
        scene.refused(
            Rule.DROP_SPOOFED,
            udp(attacker, victim.address, ports, source=scene.gateway, **to),
            udp(attacker, victim.address, ports, source=scene.foreigner.address, **to),
            udp(attacker, victim.address, ports, source="169.254.169.254", **to),
            udp(attacker, victim.address, ports, eth_src=GATEWAY, source=scene.gateway, **to),
            udp(attacker, victim.address, ports, eth_src=GATEWAY, **to),
        )
        scene.refused(Rule.DROP_DHCP_SERVER, udp(attacker, victim.address, (source_port, 68), **to), key=0)
        honest = udp(attacker, victim.address, ports, b"from any port", **to)
        scene.reaches(name, sent=honest, part=PAYLOAD)
    # another project's own address is nowhere from here: it is looked for outside
    scene.clear()
    scene.tap.send(udp(attacker, scene.foreigner.address, ports, b"isolated", eth_dst=GATEWAY))
    assert "foreigner" not in scene.leaked()
    scene.reaches("foreigner", sent=udp(attacker, scene.public, ports, b"public", eth_dst=GATEWAY), part=PAYLOAD)


@pytest.mark.parametrize("kind", [3, 4, 5, 11, 12])
def test_threat_16_icmp_errors_to_the_outside(scene: Scene, kind: int) -> None:
    """One that quotes another VM's connection would end it."""
    far_host = scene.lab.fabric.far_host
    quoted = udp(scene.neighbour, far_host, (9, 9))[14:42]

    def error(target: IPv4Address, eth_dst: bytes) -> bytes:
        body = bytes((kind, 1, 0, 0, 0, 0, 0, 0)) + quoted
        body = body[:2] + product.checksum(body).to_bytes(2) + body[4:]
        return frames.packet(scene.attacker, target, product.PROTOCOL_ICMP, body, eth_dst=eth_dst)

    near = error(scene.neighbour.address, mac_of(scene.neighbour))
    scene.refused(Rule.DROP_EGRESS_INVALID, error(far_host, GATEWAY), near, key=0)
    scene.reaches("neighbour", sent=udp(scene.attacker, scene.neighbour.address, eth_dst=mac_of(scene.neighbour)))


def test_threat_16_answers_of_a_gateway_from_the_wire(scene: Scene) -> None:
    """DHCP, ARP and the gateway's MAC address, sent into the node's cable, stop at the node (C12)."""
    wire_tap = scene.taps["wire"]
    network = scene.network_key
    gateway = scene.gateway
    foreign = {"eth_src": FOREIGN_MAC}
    rogue = rogue_offer(scene)
    attacks = {
        (Rule.DROP_UPLINK_DHCP, network): [
            BROADCAST + FOREIGN_MAC + rogue[12:],
            mac_of(scene.neighbour) + FOREIGN_MAC + rogue[12:],
            BROADCAST + FOREIGN_MAC + rogue_offer(scene, ports=(1067, 68))[12:],
            sound(client_message(scene.remote, wire.DISCOVER).frame()),
        ],
        (Rule.DROP_UPLINK_GATEWAY, network): [
            arp(scene.attacker, 1, "10.10.0.200", gateway, sha=FOREIGN_MAC, **foreign),
            arp(scene.attacker, 2, gateway, scene.neighbour.address, sha=FOREIGN_MAC, **foreign),
            arp(scene.attacker, 1, gateway, gateway, sha=FOREIGN_MAC, **foreign),
        ],
        (Rule.DROP_UPLINK_ANYCAST, 0): [
            udp(scene.attacker, "255.255.255.255", eth_src=GATEWAY),
            arp(scene.attacker, 2, gateway, gateway, sha=GATEWAY, eth_src=GATEWAY),
        ],
    }
    before = frames.drops(scene.node)
    scene.clear()
    for attack in attacks.values():
        wire_tap.send(*attack)
    wait_until(
        lambda: all(frames.drops(scene.node)[name] - before[name] >= len(sent) for name, sent in attacks.items()),
        COUNTED,
        lambda: str(frames.drops(scene.node) - before),
    )
    assert scene.leaked() == {}  # nor does any node answer
    assert product.mac_text(GATEWAY) in scene.neighbour.arping(gateway)


# 17: protocols of bridges and routers


BRIDGE_PROTOCOLS = {
    "stp": ("01:80:c2:00:00:00", 0x0026), "pause": ("01:80:c2:00:00:01", 0x8808), "lacp": ("01:80:c2:00:00:02", 0x8809),
    "eapol": ("01:80:c2:00:00:03", 0x888E), "lldp": ("01:80:c2:00:00:0e", 0x88CC), "cfm": ("01:80:c2:00:00:30", 0x8902),
    "cdp": ("01:00:0c:cc:cc:cc", 0x0020), "pvst": ("01:00:0c:cc:cc:cd", 0x0020), "pppoe": ("ff:ff:ff:ff:ff:ff", 0x8863),
    "loopback": ("ff:ff:ff:ff:ff:ff", 0x9000), "profinet": ("01:0e:cf:00:00:00", 0x8892),
    "gvrp": ("01:80:c2:00:00:21", 0x0026), "mmrp": ("01:80:c2:00:00:20", 0x88F6),
    "wake on lan": ("ff:ff:ff:ff:ff:ff", 0x0842), "mpls": ("ff:ff:ff:ff:ff:ff", 0x8847),
    "ryu's lldp": ("01:80:c2:00:00:0e", 0x88CC), "rarp": ("01:00:5e:00:00:01", RARP),
}  # fmt: skip


@pytest.mark.parametrize("protocol", BRIDGE_PROTOCOLS)
def test_threat_17_protocols_of_bridges(scene: Scene, protocol: str) -> None:
    destination, ethertype = BRIDGE_PROTOCOLS[protocol]
    payload = bytes.fromhex("424203000000000000000000") + bytes(34)
    to_group, *others = (
        raw(scene.attacker, ethertype, payload, eth_dst=target)
        for target in (mac(destination), mac_of(scene.neighbour), mac_of(scene.remote))
    )
    if destination.startswith(("01:80:c2:00:00:0", "01:80:c2:00:00:2")):
        scene.refused(Rule.DROP_BRIDGE_GROUP, to_group, key=0)
    else:
        scene.refused(Rule.DROP_SPOOFED, to_group)
    scene.refused(Rule.DROP_SPOOFED, *others)
    scene.reaches("neighbour", sent=udp(scene.attacker, "239.0.0.1", eth_dst=mac_of(scene.neighbour), payload=payload))


def test_threat_17_groups_of_bridges(scene: Scene) -> None:
    """Whatever is sent to them: who listens there looks at the address first."""
    groups = [mac("01:80:c2:00:00:00")[:5] + bytes((last,)) for last in (*range(0x10), *range(0x20, 0x30))]
    ip, ask = (
        udp(scene.attacker, "239.0.0.1", payload=b"to a group"),
        arp(scene.attacker, 1, scene.attacker.address, scene.neighbour.address),
    )
    scene.refused(Rule.DROP_BRIDGE_GROUP, *(group + frame[6:] for group in groups for frame in (ip, ask)), key=0)
    for frame in (ip, ask):
        scene.reaches(*SEGMENT, sent=ALL_HOSTS + frame[6:])


ROUTERS = {  # group, IP protocol, what begins it
    "ospf": ("224.0.0.5", 89, bytes.fromhex("02010030")),
    "pim": ("224.0.0.13", 103, bytes.fromhex("2000")),
    "vrrp": ("224.0.0.18", 112, bytes.fromhex("2101640100")),
    "igmp": ("224.0.0.1", 2, bytes.fromhex("1164")),
    "eigrp": ("224.0.0.10", 88, bytes.fromhex("0205")),
    "bfd": ("224.0.0.2", 17, (49152).to_bytes(2) + (3784).to_bytes(2) + bytes.fromhex("002000002080")),
    "bfd multihop": ("224.0.0.2", 17, (49152).to_bytes(2) + (4784).to_bytes(2) + bytes.fromhex("002000002080")),
    "hsrp": ("224.0.0.2", 17, (1985).to_bytes(2) * 2 + bytes.fromhex("00200000")),
    "vxlan": ("224.0.0.2", 17, (49152).to_bytes(2) + (4789).to_bytes(2) + bytes.fromhex("002000000800")),
    "geneve": ("224.0.0.2", 17, (49152).to_bytes(2) + (6081).to_bytes(2) + bytes.fromhex("002000000000")),
}


@pytest.mark.parametrize("protocol", ROUTERS)
def test_threat_17_protocols_of_routers(scene: Scene, protocol: str) -> None:
    """The gateway and the nodes' addresses outside take none of it; between VMs it is a packet as any other."""
    group, number, begin = ROUTERS[protocol]
    payload = begin.ljust(32, b"\0")
    attacker, network = scene.attacker, scene.network_key
    scene.refused(
        Rule.DROP_GATEWAY, frames.packet(scene.attacker, scene.gateway, number, payload, eth_dst=GATEWAY), key=network
    )
    scene.refused(Rule.DROP_NO_ROUTE, frames.packet(scene.attacker, group, number, payload, eth_dst=GATEWAY), key=0)
    own, other = attacker.node.snat_address, scene.remote.node
    if number == product.PROTOCOL_UDP and begin[:2] != begin[2:4]:
        scene.refused(
            Rule.DROP_UNSOLICITED, frames.packet(scene.attacker, own, number, payload, eth_dst=GATEWAY), key=0
        )
    else:  # without ports, or with two that are the same, it looks like its own answer
        scene.clear()
        scene.tap.send(frames.packet(scene.attacker, own, number, payload, eth_dst=GATEWAY))
        assert scene.leaked() == {}
    before = frames.drops(other)
    scene.clear()
    scene.tap.send(frames.packet(scene.attacker, other.snat_address, number, payload, eth_dst=GATEWAY))
    wait_until(
        lambda: (frames.drops(other) - before)[Rule.DROP_UNSOLICITED, 0],
        COUNTED,
        lambda: str(frames.drops(other) - before),
    )
    assert set(scene.leaked()) <= {"outside"}
    victim = scene.neighbour
    scene.reaches(
        "neighbour", sent=frames.packet(scene.attacker, victim.address, number, payload, eth_dst=mac_of(victim))
    )
