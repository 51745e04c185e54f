"""Frames that are built to be taken for others: fragments, tags, lengths that lie, protocols of bridges and routers.

The numbers are those of the project's list of threats. What an honest VM sends in the same way arrives, each time.
"""

from __future__ import annotations

import os
import re
from ipaddress import IPv4Address

import pytest

from controller.packet_in import frames as product
from controller.packet_in import outcomes as outcome
from etc.lab.processes import wait_until
from flows.rules import Rule
from tests.netns import frames
from tests.netns.frames import ARP, BROADCAST, GATEWAY, IPV4, arp, client_message, mac, mac_of, raw, sound, udp
from tests.netns.hostile import COUNTED, OTHER_VLAN, Scene, rogue_offer
from tests.unit.packet_in import wire

FOREIGN_MAC = mac("02:aa:bb:cc:dd:ee")
ALL_HOSTS = mac("01:00:5e:00:00:01")
SEGMENT = ("neighbour", "remote", "wire")
"""Who hears what the attacker broadcasts."""
PAYLOAD = slice(42, None)
"""Of a datagram, whatever has become of its addresses."""


def network_key(scene: Scene) -> int:
    return int(scene.lab.client.get_network(scene.attacker.port["network_id"])["key"])


def packet(scene: Scene, target: IPv4Address | str, protocol: int, payload: bytes, **fields: bytes) -> bytes:
    """Any IPv4 packet of the attacker."""
    body = product.ipv4(scene.attacker.address.packed, IPv4Address(target).packed, protocol, payload)
    return raw(scene.attacker, IPV4, body, **fields)


# 12: lengths


def test_threat_12_lengths_that_lie(scene: Scene) -> None:
    """Of packets whose TTL ends at the gateway, which quotes them: it may quote only what has come."""
    attacker = scene.attacker
    good = udp(attacker, scene.stranger.address, eth_dst=GATEWAY, payload=b"quote me" * 4)
    used_up = sound(good[:22] + b"\x01" + good[23:])
    scene.clear()
    attack = [used_up[:16] + length.to_bytes(2) + used_up[18:] for length in (0, 19, 20, 21, 1500, 65535)]
    attack += [used_up[:14] + bytes((0x40 | words,)) + used_up[15:] for words in (0, 4, 6, 15)]
    scene.tap.send(*attack, used_up)

    def quotes() -> list[bytes]:
        return [frame[42:] for frame in scene.tap.frames() if frame[23:24] == b"\x01" and frame[34:35] == b"\x0b"]

    wait_until(lambda: any(quote.startswith(used_up[14:42]) for quote in quotes()), 5, "time exceeded")
    # some of the lies are whole packets, only shorter; none makes a longer quotation than its packet was
    assert all(len(quote) <= int.from_bytes(quote[2:4]) <= len(used_up) - 14 for quote in quotes())
    assert scene.leaked() == {}
    assert frames.outcomes(scene.lab)[outcome.INTERNAL_ERROR] == 0


# 13: fragments


def test_threat_13_fragments(scene: Scene) -> None:
    """A VM's own fragments pass, those from a wrong source do not, whichever piece they are."""
    assert scene.attacker.ping(scene.remote.address, count=1, size=4000).answered
    for name in ("neighbour", "remote", "stranger"):
        victim = getattr(scene, name)
        eth_dst = GATEWAY if name == "stranger" else mac_of(victim)

        def pieces(source: IPv4Address, to: IPv4Address = victim.address, eth_dst: bytes = eth_dst) -> list[bytes]:
            whole = udp(scene.attacker, to, source=source, eth_dst=eth_dst, payload=bytes(64))
            return [
                frames.fragment(whole, 0, more=True),
                frames.fragment(whole, 0, more=True, payload=whole[34:42]),
                frames.fragment(whole, 8, more=True, payload=b"overlaps" * 9),
                frames.fragment(whole, 8, more=True, payload=b"in the middle..."),
                frames.fragment(whole, 65512, more=False, payload=b"beyond the end.."),
            ]

        scene.refused(Rule.DROP_SPOOFED, *pieces(scene.foreigner.address))
        for piece in pieces(scene.attacker.address):
            scene.reaches(name, sent=piece, part=slice(34, None))


@pytest.mark.parametrize("target", ["broadcast", "neighbour", "multicast"])
def test_threat_13_no_dhcp_server_in_any_fragment(scene: Scene, target: str) -> None:
    """Tiny, overlapping, the last one alone, with the ports in the second: a client without an address hears none."""
    frame = {"broadcast": BROADCAST, "multicast": ALL_HOSTS, "neighbour": mac_of(scene.neighbour)}[target]
    frame += rogue_offer(scene)[6:]
    harmless = udp(scene.attacker, "255.255.255.255", (67, 1068))[34:42]
    scene.refused(
        Rule.DROP_BROADCAST_FRAGMENT,
        frames.fragment(frame, 0, more=True, payload=frame[34:42]),
        frames.fragment(frame, 0, more=True, payload=harmless),
        frames.fragment(frame, 0, more=True, payload=frame[34:122]),
        frames.fragment(frame, 0, more=True),
        frames.fragment(frame, 8, more=True, payload=frame[42:122]),
        frames.fragment(frame, 8, more=False, payload=frame[42:]),
        frames.fragment(frame, 65528, more=False, payload=bytes(8)),
        key=0,
    )
    sent = frame[:6] + udp(scene.attacker, "255.255.255.255", (67, 1068), b"in one piece")[6:]
    scene.reaches("neighbour", sent=sent)


def test_threat_13_dhcp_requests_are_not_read_from_fragments(scene: Scene) -> None:
    """From 0.0.0.0 as from its own address: neither reaches the controller, or anybody."""
    before = frames.outcomes(scene.lab)
    whole = sound(client_message(scene.attacker, wire.DISCOVER).frame())
    own = sound(client_message(scene.attacker, wire.DISCOVER, source=scene.attacker.address).frame())
    for frame in (whole, own):
        scene.refused(
            Rule.DROP_BROADCAST_FRAGMENT,
            frames.fragment(frame, 0, more=True, payload=frame[34:138]),
            frames.fragment(frame, 104, more=False, payload=frame[138:]),
            key=0,
        )
    assert scene.tap.dhcp() == [] and frames.outcomes(scene.lab) == before
    scene.answered()


def test_threat_13_fragment_flood(scene: Scene) -> None:
    """Datagrams that never end, to be translated: conntrack keeps some, the rest is dropped by name.

    Others' fragments go on within the cloud, and all that is whole to the outside. What is in fragments and translated
    waits with the userspace datapath, which keeps 1000 fragments of all VMs together.
    """
    far_host = scene.lab.fabric.far_host
    whole = udp(scene.attacker, far_host, eth_dst=GATEWAY, payload=bytes(1400))
    first = frames.fragment(whole, 0, more=True)
    before = frames.drops(scene.node)
    assert scene.neighbour.ping(far_host, count=1, size=4000).answered
    for start in range(0, 2000, 100):
        scene.tap.send(*(sound(first[:18] + number.to_bytes(2) + first[20:]) for number in range(start, start + 100)))
        scene.node.ovs.appctl("version")  # the switch has other things to do as well
    if scene.lab.datapath == "netdev":  # the kernel has room for more, and forgets the oldest
        wait_until(
            lambda: (frames.drops(scene.node) - before)[Rule.DROP_INVALID_OUT, 0] >= 500,
            COUNTED,
            lambda: str(frames.drops(scene.node) - before),
        )
    assert not [frame for frame in scene.taps["outside"].frames() if frame[26:30] == scene.attacker.address.packed]
    for target in (scene.remote.address, scene.stranger.address, scene.gateway):
        assert scene.neighbour.ping(target, count=2, size=4000).lost == 0
    assert scene.neighbour.ping(far_host, count=3).lost == 0


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


ALLOWED = (IPV4, ARP, frames.IPV6, 0x8035, 0x8100, 0x88A8)
"""And IPv6 and tags, which have drops of their own."""


def test_threat_14_no_other_ethertype(scene: Scene) -> None:
    honest = udp(scene.attacker, "255.255.255.255", payload=b"as another protocol")
    attack = [honest[:12] + kind.to_bytes(2) + honest[14:] for kind in ethertypes()]
    scene.refused(Rule.DROP_SPOOFED, *attack)
    scene.reaches(*SEGMENT, sent=honest)


def test_threat_14_rarp_only_shows_where_a_vm_is(scene: Scene) -> None:
    """QEMU broadcasts it for a VM that has moved."""
    attacker, rarp = scene.attacker, 0x8035
    body = b"\0\1\x08\0\x06\x04\0\3" + mac_of(attacker) + bytes(4) + mac_of(attacker) + bytes(4)
    scene.refused(
        Rule.DROP_SPOOFED,
        raw(attacker, rarp, body, eth_src=mac_of(scene.neighbour)),
        raw(attacker, rarp, body, eth_dst=mac_of(scene.neighbour)),
        raw(attacker, rarp, body, eth_dst=ALL_HOSTS),
    )
    scene.reaches(*SEGMENT, sent=raw(attacker, rarp, body))


def test_threat_14_ieee_802_3_frames(scene: Scene) -> None:
    """With a length for an ethertype. Open vSwitch reads what SNAP says, so it is checked like any other."""

    def snap(frame: bytes, oui: bytes = bytes(3)) -> bytes:
        payload = b"\xaa\xaa\x03" + oui + frame[12:]
        return frame[:12] + len(payload).to_bytes(2) + payload

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
    scene.reaches(*SEGMENT, sent=udp(attacker, "255.255.255.255", payload=b"as Ethernet"))


# 15: packets that should not be


MALFORMED_IP = {
    "header of 0": (slice(14, 15), b"\x40"),
    "header of 16": (slice(14, 15), b"\x44"),
    "header beyond the end": (slice(14, 15), b"\x4f"),
    "length 0": (slice(16, 18), b"\0\0"),
    "length 19": (slice(16, 18), b"\0\x13"),
    "length beyond the end": (slice(16, 18), b"\xff\xff"),
    "cut in the header": (slice(30, None), b""),
}


@pytest.mark.parametrize("case", MALFORMED_IP)
def test_threat_15_malformed_ip(scene: Scene, case: str) -> None:
    """What the switch cannot read has no source, so it is from nobody; what it would deliver has to be whole."""
    at, instead = MALFORMED_IP[case]
    attacker = scene.attacker
    honest = [
        udp(attacker, "255.255.255.255", payload=b"malformed"),
        udp(attacker, scene.neighbour.address, eth_dst=mac_of(scene.neighbour), payload=b"malformed"),
        udp(attacker, scene.stranger.address, eth_dst=GATEWAY, payload=b"malformed"),
        udp(attacker, scene.lab.fabric.far_host, eth_dst=GATEWAY, payload=b"malformed"),
    ]
    attack = []
    for frame in honest:
        changed = bytearray(frame)
        changed[at] = instead
        attack.append(bytes(changed))
    scene.refused(Rule.DROP_SPOOFED, *attack)
    for who, frame in zip((SEGMENT, ("neighbour",), ("stranger",), ("outside",)), honest, strict=True):
        scene.reaches(*who, sent=frame, part=PAYLOAD)


@pytest.mark.parametrize("version", [0, 5, 6, 15])
def test_threat_15_no_ip_version_hides_the_source(scene: Scene, version: int) -> None:
    """Open vSwitch looks at the ethertype alone: the address is checked where IPv4 has it; guests drop the rest."""
    attacker, victim = scene.attacker, scene.neighbour
    honest = udp(attacker, victim.address, eth_dst=mac_of(victim), payload=b"version")
    forged = udp(attacker, victim.address, eth_dst=mac_of(victim), source=scene.stranger.address)
    scene.refused(Rule.DROP_SPOOFED, forged[:14] + bytes((version << 4 | 5,)) + forged[15:])
    scene.reaches("neighbour", sent=honest)


@pytest.mark.parametrize("protocol", [0, 2, 4, 41, 89, 112, 132, 136, 255])
def test_threat_15_any_ip_protocol_from_a_wrong_source(scene: Scene, protocol: int) -> None:
    """0 made old Open vSwitch forget what it had matched (CVE-2023-1668): the next one must be looked at as well."""
    attacker, victim = scene.attacker, scene.neighbour
    honest = packet(scene, victim.address, protocol, b"any protocol" * 4, eth_dst=mac_of(victim))
    scene.reaches("neighbour", sent=honest)
    forged = honest[:26] + scene.stranger.address.packed + honest[30:]
    scene.refused(Rule.DROP_SPOOFED, sound(forged), sound(forged[:6] + mac_of(scene.remote) + forged[12:]))
    scene.refused(Rule.DROP_DHCP_SERVER, udp(attacker, victim.address, (67, 68), eth_dst=mac_of(victim)), key=0)
    scene.reaches("neighbour", sent=honest)


def test_threat_15_padding(scene: Scene) -> None:
    """Bytes behind the packet (CVE-2020-35498) change nothing about it, nor about the next one."""
    attacker, victim = scene.attacker, scene.neighbour
    padded = udp(attacker, victim.address, eth_dst=mac_of(victim), payload=b"padded") + bytes(255) * 3
    forged = udp(attacker, victim.address, eth_dst=mac_of(victim), source=scene.remote.address) + bytes(255) * 3
    rogue = rogue_offer(scene) + bytes(255)
    for _ in range(2):
        scene.reaches("neighbour", sent=padded)
        scene.refused(Rule.DROP_SPOOFED, forged)
        scene.refused(Rule.DROP_DHCP_SERVER, rogue, key=0)
    scene.reaches(
        "stranger",
        sent=udp(attacker, scene.stranger.address, eth_dst=GATEWAY, payload=b"routed") + bytes(99),
        part=slice(42, 48),
    )


MOST_MASKS = 400
"""Of all megaflows: each is another look at every packet that is new (CVE-2019-25076)."""


def masks(scene: Scene) -> set[str]:
    """Which bits megaflows match, of the node's datapath: their matches without the values."""
    dump = scene.node.ovs.appctl("dpctl/dump-flows", "-m")
    matches = (line.split(", packets:")[0].split(" ", 1)[-1] for line in dump.splitlines() if "packets:" in line)
    return {re.sub(r"(?<=[(=])(0x)?[0-9a-f.:]+", "", match) for match in matches}


def test_threat_15_many_masks(scene: Scene) -> None:
    """One bit after the other wrong in all that flows look at: there are only so many masks, and others go on."""
    attacker, far_host = scene.attacker, scene.lab.fabric.far_host
    bits = [1 << n for n in range(32)]

    def off(address: IPv4Address, bit: int) -> IPv4Address:
        return IPv4Address(int(address) ^ bit)

    attack = [udp(attacker, far_host, source=off(attacker.address, bit), eth_dst=GATEWAY) for bit in bits]
    for to in (far_host, scene.stranger.address, scene.gateway, scene.neighbour.address):
        attack += [udp(attacker, off(to, bit), (1024 + n, 9), eth_dst=GATEWAY) for n, bit in enumerate(bits)]
    for start in (67, 68, 53):
        for bit in bits[:16]:
            attack += [udp(attacker, far_host, (start ^ bit, start), eth_dst=GATEWAY)]
            attack += [udp(attacker, far_host, (start, start ^ bit), eth_dst=GATEWAY)]
            attack += [udp(attacker, "255.255.255.255", (start ^ bit, start), source="0.0.0.0")]
    for value in range(256):
        attack += [packet(scene, far_host, value, bytes(8), eth_dst=GATEWAY)]
    for bit in (1 << n for n in range(48)):
        target = (int.from_bytes(mac_of(scene.neighbour)) ^ bit).to_bytes(6)
        attack += [udp(attacker, scene.neighbour.address, eth_dst=target)]
        attack += [udp(attacker, far_host, eth_dst=GATEWAY, eth_src=target)]
    attack += [
        udp(attacker, off(far_host, one), source=off(attacker.address, other), eth_dst=GATEWAY)
        for one in bits
        for other in bits
    ]
    pieces = [attack[start : start + 100] for start in range(0, len(attack), 100)]
    for piece in pieces:
        scene.tap.send(*piece)
        scene.node.ovs.appctl("version")  # the switch has other things to do as well
    found = masks(scene)
    assert 20 < len(found) < MOST_MASKS, len(found)
    pinged = scene.neighbour.ping(scene.stranger.address, count=10, interval=0.05)
    assert pinged.lost == 0
    assert scene.attacker.ping(scene.neighbour.address, count=1).answered


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
        return packet(scene, target, product.PROTOCOL_ICMP, body, eth_dst=eth_dst)

    scene.refused(Rule.DROP_ICMP_ERROR, error(far_host, GATEWAY), key=0)
    scene.reaches("neighbour", sent=error(scene.neighbour.address, mac_of(scene.neighbour)))


def test_threat_16_answers_of_a_gateway_from_the_wire(scene: Scene) -> None:
    """DHCP, ARP and the gateway's MAC address, sent into the node's cable, stop at the node (C12)."""
    wire_tap = scene.taps["wire"]
    network = int(scene.lab.client.get_network(scene.attacker.port["network_id"])["key"])
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
    "wake on lan": ("ff:ff:ff:ff:ff:ff", 0x0842), "mpls": ("ff:ff:ff:ff:ff:ff", 0x8847),
    "ryu's lldp": ("01:80:c2:00:00:0e", 0x88CC), "rarp": ("01:00:5e:00:00:01", 0x8035),
}  # fmt: skip


@pytest.mark.parametrize("protocol", BRIDGE_PROTOCOLS)
def test_threat_17_protocols_of_bridges(scene: Scene, protocol: str) -> None:
    destination, ethertype = BRIDGE_PROTOCOLS[protocol]
    payload = bytes.fromhex("424203000000000000000000") + bytes(34)
    to_group, *others = (
        raw(scene.attacker, ethertype, payload, eth_dst=target)
        for target in (mac(destination), mac_of(scene.neighbour), mac_of(scene.remote))
    )
    if destination.startswith("01:80:c2:00:00:0"):
        scene.refused(Rule.DROP_BRIDGE_GROUP, to_group, key=0)
    else:
        scene.refused(Rule.DROP_SPOOFED, to_group)
    scene.refused(Rule.DROP_SPOOFED, *others)
    scene.reaches("neighbour", sent=udp(scene.attacker, "239.0.0.1", eth_dst=mac_of(scene.neighbour), payload=payload))


def test_threat_17_groups_of_bridges(scene: Scene) -> None:
    """Whatever is sent to them: who listens there looks at the address first."""
    groups = [mac("01:80:c2:00:00:00")[:5] + bytes((last,)) for last in range(16)]
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
    attacker, network = scene.attacker, network_key(scene)
    scene.refused(Rule.DROP_GATEWAY, packet(scene, scene.gateway, number, payload, eth_dst=GATEWAY), key=network)
    scene.refused(Rule.DROP_NO_ROUTE, packet(scene, group, number, payload, eth_dst=GATEWAY), key=0)
    own, other = attacker.node.snat_address, scene.remote.node
    if number == product.PROTOCOL_UDP:
        scene.refused(Rule.DROP_UNSOLICITED, packet(scene, own, number, payload, eth_dst=GATEWAY), key=0)
    else:  # without ports it looks like its own answer
        scene.clear()
        scene.tap.send(packet(scene, own, number, payload, eth_dst=GATEWAY))
        assert scene.leaked() == {}
    before = frames.drops(other)
    scene.clear()
    scene.tap.send(packet(scene, other.snat_address, number, payload, eth_dst=GATEWAY))
    wait_until(
        lambda: (frames.drops(other) - before)[Rule.DROP_UNSOLICITED, 0],
        COUNTED,
        lambda: str(frames.drops(other) - before),
    )
    assert set(scene.leaked()) <= {"outside"}
    victim = scene.neighbour
    scene.reaches("neighbour", sent=packet(scene, victim.address, number, payload, eth_dst=mac_of(victim)))
