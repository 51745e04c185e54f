"""Frames of a VM that lies about who it is: nobody hears of them, and the drop that has their name counts them.

The numbers are those of the project's list of threats. What the VM may say in the same way is heard, each time.
"""

from __future__ import annotations

from functools import partial
from ipaddress import IPv4Address

import pytest

from controller.packet_in import frames as product
from controller.packet_in import outcomes as outcome
from etc.lab.fabric import OUTSIDE_ROUTER
from flows.rules import Rule
from tests.netns import frames
from tests.netns.frames import (
    ARP,
    BROADCAST,
    GATEWAY,
    IPV4,
    IPV6,
    RARP,
    arp,
    client_message,
    mac,
    mac_of,
    rarp,
    raw,
    sound,
    udp,
)
from tests.netns.hostile import PAYLOAD, SEGMENT, Scene, rise
from tests.unit.packet_in import wire

FOREIGN_MAC = mac("02:aa:bb:cc:dd:ee")


def test_an_honest_vm_is_heard(scene: Scene) -> None:
    """The watchers do watch: everybody sees what the attacker may send, and all that is not known to be allowed."""
    scene.clear()
    assert scene.leaked() == {}
    scene.tap.send(
        udp(scene.attacker, "255.255.255.255", payload=b"honest"),
        *(
            udp(scene.attacker, to, payload=b"honest", eth_dst=GATEWAY)
            for to in (scene.stranger.address, scene.public, scene.lab.fabric.far_host)
        ),
    )
    assert set(scene.leaked()) == {*SEGMENT, "stranger", "foreigner", "outside"}
    for target in (scene.remote.address, scene.stranger.address, scene.public, scene.lab.fabric.far_host):
        assert scene.attacker.ping(target, count=1).answered


# 2: DHCP


def test_threat_02_forged_dhcp_request(scene: Scene) -> None:
    """A client's ports are no way around the check of the source."""
    victim = scene.neighbour
    forged = [
        client_message(scene.attacker, wire.DISCOVER, source=victim.address),
        client_message(scene.attacker, wire.DISCOVER, source=IPv4Address("8.8.8.8")),
        client_message(scene.attacker, wire.DISCOVER, eth_source=mac_of(victim)),
        client_message(scene.attacker, wire.DISCOVER, eth_source=mac_of(victim), chaddr=mac_of(victim)),
        client_message(scene.attacker, wire.DISCOVER, destination=victim.address),
    ]
    scene.refused(Rule.DROP_SPOOFED, *(sound(message.frame()) for message in forged))
    assert scene.tap.dhcp() == []
    scene.answered()


@pytest.mark.parametrize("ports", [(67, 67), (68, 68), (68, 53), (53, 67), (546, 547)])
def test_threat_02_without_an_address_only_a_clients_ports(scene: Scene, ports: tuple[int, int]) -> None:
    """From 0.0.0.0 a VM says nothing but what asks for an address."""
    rule, key = (Rule.DROP_DHCP_SERVER, 0) if ports[1] == 68 else (Rule.DROP_SPOOFED, scene.key)
    scene.refused(rule, udp(scene.attacker, "255.255.255.255", ports, source="0.0.0.0"), key=key)
    scene.answered()


def test_threat_02_forged_chaddr(scene: Scene) -> None:
    before = frames.outcomes(scene.lab)[outcome.DHCP_FOREIGN_CHADDR]
    scene.clear()
    for chaddr in (mac_of(scene.neighbour), FOREIGN_MAC):
        for kind in (wire.DISCOVER, wire.REQUEST, wire.RELEASE):
            wanted = ((50, scene.neighbour.address.packed),)
            scene.tap.send(sound(client_message(scene.attacker, kind, chaddr=chaddr, options=wanted).frame()))
    rise(scene, outcome.DHCP_FOREIGN_CHADDR, before, 6)
    assert scene.leaked() == {}
    assert scene.tap.dhcp() == []
    scene.answered()


# 3: MAC addresses


@pytest.mark.parametrize("ethertype", [IPV4, ARP, IPV6, 0x88CC, 0x8863, 0x9000, RARP], ids=hex)
@pytest.mark.parametrize("claimed", ["neighbour", "remote", "foreigner", "gateway", "nobody", "group", "zero"])
def test_threat_03_mac_spoof(scene: Scene, ethertype: int, claimed: str) -> None:
    source = {
        "neighbour": mac_of(scene.neighbour),
        "remote": mac_of(scene.remote),
        "foreigner": mac_of(scene.foreigner),
        "gateway": GATEWAY,
        "nobody": FOREIGN_MAC,
        "group": BROADCAST,
        "zero": bytes(6),
    }[claimed]
    attack = {
        IPV4: udp(scene.attacker, "255.255.255.255", eth_src=source),
        ARP: arp(scene.attacker, 1, scene.attacker.address, scene.neighbour.address, eth_src=source),
        RARP: rarp(scene.attacker, eth_src=source),
    }.get(ethertype, raw(scene.attacker, ethertype, bytes(46), eth_src=source))
    scene.refused(Rule.DROP_SPOOFED, attack)
    if ethertype in (IPV4, ARP, RARP):  # any other passes from no MAC address
        scene.reaches(*SEGMENT, sent=attack[:6] + mac_of(scene.attacker) + attack[12:])


def test_threat_03_unicast_and_routed(scene: Scene) -> None:
    """Whoever it is for. Under its own MAC address the same arrives."""
    lies = {"eth_src": mac_of(scene.neighbour)}
    targets = [
        ("remote", scene.remote.address, mac_of(scene.remote)),
        ("neighbour", scene.neighbour.address, mac_of(scene.neighbour)),
        ("stranger", scene.stranger.address, GATEWAY),
        ("foreigner", scene.public, GATEWAY),
        ("outside", scene.lab.fabric.far_host, GATEWAY),
    ]
    payload = b"under whose name"
    scene.refused(
        Rule.DROP_SPOOFED,
        *(udp(scene.attacker, to, eth_dst=eth_dst, payload=payload, **lies) for _, to, eth_dst in targets),
    )
    for name, to, eth_dst in targets:
        scene.reaches(name, sent=udp(scene.attacker, to, eth_dst=eth_dst, payload=payload), part=PAYLOAD)


# 4: ARP


def test_threat_04_arp_spoof(scene: Scene) -> None:
    attacker, victim = scene.attacker, scene.neighbour
    gateway = scene.gateway
    own = attacker.address
    scene.refused(
        Rule.DROP_SPOOFED,
        arp(attacker, 1, victim.address, scene.remote.address),
        arp(attacker, 2, victim.address, scene.remote.address, eth_dst=mac_of(scene.remote), tha=mac_of(scene.remote)),
        arp(attacker, 1, gateway, gateway),
        arp(attacker, 2, gateway, gateway),
        arp(attacker, 2, gateway, victim.address, eth_dst=mac_of(victim), tha=mac_of(victim)),
        arp(attacker, 1, own, victim.address, sha=mac_of(victim)),
        arp(attacker, 1, own, victim.address, sha=GATEWAY),
        arp(attacker, 2, own, own, sha=mac_of(victim)),
        arp(attacker, 2, "0.0.0.0", victim.address),
        arp(attacker, 1, "10.30.0.5", victim.address),
        arp(attacker, 3, victim.address, victim.address),
        arp(attacker, 1, "255.255.255.255", victim.address),
        arp(attacker, 2, scene.public, scene.public),
        # taken for a conflict by who probes for it
        arp(attacker, 1, "0.0.0.0", victim.address),
        arp(attacker, 1, "0.0.0.0", scene.remote.address, eth_dst=mac_of(scene.remote)),
        arp(attacker, 1, "0.0.0.0", gateway),
    )
    for honest in (
        arp(attacker, 1, own, victim.address),
        arp(attacker, 1, own, own),
        arp(attacker, 2, own, own),
        arp(attacker, 1, "0.0.0.0", own),
    ):
        scene.reaches(*SEGMENT, sent=honest)
    answer = arp(attacker, 2, own, scene.remote.address, eth_dst=mac_of(scene.remote), tha=mac_of(scene.remote))
    scene.reaches("remote", "wire", sent=answer)
    assert scene.neighbour.arping(gateway) == {product.mac_text(GATEWAY)}


MALFORMED_ARP = {
    "not Ethernet": (slice(14, 16), b"\0\x06"),
    "for IPv6": (slice(16, 18), b"\x86\xdd"),
    "long hardware address": (slice(18, 19), b"\x08"),
    "no hardware address": (slice(18, 19), b"\0"),
    "long protocol address": (slice(19, 20), b"\x10"),
    "cut": (slice(30, None), b""),
}


@pytest.mark.parametrize("case", MALFORMED_ARP)
def test_threat_04_malformed_arp(scene: Scene, case: str) -> None:
    """What the switch cannot read as ARP for IPv4, others might: it has no sender, so it is not from here."""
    at, instead = MALFORMED_ARP[case]
    sound_one = arp(scene.attacker, 2, scene.attacker.address, scene.attacker.address)
    attack = bytearray(sound_one)
    attack[at] = instead
    scene.refused(Rule.DROP_SPOOFED, bytes(attack))
    scene.reaches(*SEGMENT, sent=sound_one)


# 5: IPv6, of which there is none yet


def ipv6(next_header: int, payload: bytes, *, hop_limit: int = 255, source: str = "01", target: str = "01") -> bytes:
    """From fe80::`source` to ff02::`target`."""
    header = b"\x60\0\0\0" + len(payload).to_bytes(2) + bytes((next_header, hop_limit))
    return header + bytes.fromhex("fe80" + "00" * 13 + source) + bytes.fromhex("ff02" + "00" * 13 + target) + payload


ICMPV6, UDP, HOP_BY_HOP, FRAGMENT = 58, 17, 0, 44
ADVERTISE_ROUTER = bytes.fromhex("8600000040000708") + bytes(8)
ADVERTISE_NEIGHBOUR = bytes.fromhex("88000000a0000000fe80") + bytes(13) + b"\x02" + b"\x02\x01" + bytes(6)
IPV6_PACKETS = {
    "router advertisement": ipv6(ICMPV6, ADVERTISE_ROUTER),
    "router advertisement behind options": ipv6(HOP_BY_HOP, bytes((ICMPV6, 0, 1, 4, 0, 0, 0, 0)) + ADVERTISE_ROUTER),
    "router advertisement in a fragment": ipv6(FRAGMENT, bytes((ICMPV6, 0, 0, 1, 0, 0, 0, 7)) + ADVERTISE_ROUTER),
    "neighbour advertisement of another": ipv6(ICMPV6, ADVERTISE_NEIGHBOUR),
    "neighbour advertisement from afar": ipv6(ICMPV6, ADVERTISE_NEIGHBOUR, hop_limit=64),
    "neighbour solicitation": ipv6(ICMPV6, b"\x87" + ADVERTISE_NEIGHBOUR[1:]),
    "redirect": ipv6(ICMPV6, bytes.fromhex("89000000") + bytes(36)),
    "forged source": ipv6(ICMPV6, bytes.fromhex("8000000000010001"), source="63"),
    "DHCPv6 answer": ipv6(UDP, bytes.fromhex("022302220010000002000001") + bytes(4)),
    "multicast listener report": ipv6(ICMPV6, bytes.fromhex("8f00000000000000"), target="16", hop_limit=1),
    "all zero": bytes(40),
}


@pytest.mark.parametrize("case", IPV6_PACKETS)
def test_threat_05_ipv6(scene: Scene, case: str) -> None:
    """Neither advertisements nor DHCPv6 of a VM, nor anything else. What is IPv4 arrives at the same addresses."""
    attacker = scene.attacker
    targets = (mac("33:33:00:00:00:01"), mac_of(scene.neighbour), mac_of(scene.remote), BROADCAST)
    scene.refused(Rule.DROP_IPV6, *(raw(attacker, IPV6, IPV6_PACKETS[case], eth_dst=target) for target in targets))
    scene.refused(Rule.DROP_SPOOFED, raw(attacker, IPV6, IPV6_PACKETS[case], eth_src=mac_of(scene.neighbour)))
    for target, who in zip(targets, (SEGMENT, ("neighbour",), ("remote",), SEGMENT), strict=True):
        scene.reaches(*who, sent=udp(attacker, "239.0.0.1", payload=b"IPv4 " * 5, eth_dst=target))


# 6: IPv4 addresses


@pytest.mark.parametrize("source", [
    "0.0.0.0", "0.0.0.1", "127.0.0.1", "127.255.0.1", "255.255.255.255", "10.10.0.255", "10.10.0.0", "224.0.0.1",
    "239.1.2.3", "240.0.0.1", "169.254.169.254", "169.254.1.1", "10.30.0.1", "8.8.8.8", "100.64.0.1", "203.0.113.11",
    "neighbour", "remote", "gateway", "foreigner", "public",
])  # fmt: skip
def test_threat_06_ip_spoof(scene: Scene, source: str) -> None:
    named = {
        "neighbour": scene.neighbour.address,
        "remote": scene.remote.address,
        "foreigner": scene.foreigner.address,
        "public": scene.public,
    }
    claimed = scene.gateway if source == "gateway" else named.get(source) or IPv4Address(source)
    attacker = scene.attacker
    targets = [
        (SEGMENT, "255.255.255.255", BROADCAST),
        (("neighbour",), scene.neighbour.address, mac_of(scene.neighbour)),
        (("remote", "wire"), scene.remote.address, mac_of(scene.remote)),
        (("stranger",), scene.stranger.address, GATEWAY),
        (("foreigner",), scene.public, GATEWAY),
        (("outside",), scene.lab.fabric.far_host, GATEWAY),
    ]
    scene.refused(
        Rule.DROP_SPOOFED, *(udp(attacker, to, source=claimed, eth_dst=eth_dst) for _, to, eth_dst in targets)
    )
    for who, to, eth_dst in targets:
        scene.reaches(*who, sent=udp(attacker, to, payload=b"my own name", eth_dst=eth_dst), part=PAYLOAD)


def test_threat_06_land(scene: Scene) -> None:
    """From and to one address: of another it is a lie, its own leads nowhere."""
    attacker, victim = scene.attacker, scene.neighbour
    scene.refused(
        Rule.DROP_SPOOFED,
        udp(attacker, victim.address, source=victim.address, eth_dst=mac_of(victim)),
        udp(attacker, victim.address, source=victim.address, eth_dst=GATEWAY),
        udp(attacker, scene.gateway, source=scene.gateway, eth_dst=GATEWAY),
    )
    scene.refused(Rule.DROP_TO_ITSELF, udp(attacker, attacker.address, eth_dst=GATEWAY))
    scene.refused(Rule.DROP_TO_ITSELF, udp(attacker, attacker.address, eth_dst=mac_of(attacker)))
    scene.reaches("neighbour", sent=udp(attacker, victim.address, eth_dst=mac_of(victim), payload=b"not land"))


NOT_FORWARDED = {
    **dict.fromkeys(("0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.0.1", "169.254.1.1"), Rule.DROP_MARTIAN),
    **dict.fromkeys(("240.0.0.1", "255.255.255.254", "255.255.255.255"), Rule.DROP_MARTIAN),
    "169.254.169.254": Rule.DROP_METADATA,
    "224.0.0.5": Rule.DROP_NO_ROUTE,
    "239.1.1.1": Rule.DROP_NO_ROUTE,
}


@pytest.mark.parametrize("target", NOT_FORWARDED)
def test_threat_06_where_no_router_forwards_to(scene: Scene, target: str) -> None:
    """By the gateway: neither to the node itself nor, translated, to the outside; nor from a floating IP."""
    rule = NOT_FORWARDED[target]
    scene.refused(rule, udp(scene.attacker, target, (9999, 80), eth_dst=GATEWAY), key=0)
    with_floating_ip = udp(scene.foreigner, target, (9999, 80), eth_dst=GATEWAY)
    scene.refused(rule, with_floating_ip, key=0, tap=scene.taps["foreigner"])
    scene.reaches(
        "outside",
        sent=udp(scene.attacker, scene.lab.fabric.far_host, (9999, 80), eth_dst=GATEWAY, payload=b"routed"),
        part=PAYLOAD,
    )


def with_options(frame: bytes, options: bytes) -> bytes:
    """The datagram of a frame with IP options, of a multiple of 4 bytes, and the right lengths and checksum."""
    header = bytes((0x40 | 5 + len(options) // 4,)) + frame[15:16] + (len(frame) - 14 + len(options)).to_bytes(2)
    return frames.summed(frame[:14] + header + frame[18:34] + options + frame[34:])


def route(kind: int, *hops: IPv4Address) -> bytes:
    """A loose (0x83) or strict (0x89) source route, or the record of one (7), behind a NOP (RFC 791)."""
    return bytes((1, kind, 3 + 4 * len(hops), 4)) + b"".join(hop.packed for hop in hops)


@pytest.mark.parametrize("kind", [0x83, 0x89, 0x07], ids=["loose", "strict", "recorded"])
def test_threat_06_source_routes_and_other_options(scene: Scene, kind: int) -> None:
    """They are no way around the check of the source, and the gateway does not follow them."""
    attacker, victim = scene.attacker, scene.neighbour
    options = route(kind, scene.stranger.address, scene.public)
    spoofed = udp(attacker, victim.address, source=scene.stranger.address, eth_dst=mac_of(victim))
    rogue = udp(attacker, "255.255.255.255", (67, 68))
    to_gateway = udp(attacker, scene.gateway, eth_dst=GATEWAY)
    scene.refused(Rule.DROP_SPOOFED, with_options(spoofed, options))
    scene.refused(Rule.DROP_DHCP_SERVER, with_options(rogue, options), key=0)
    scene.refused(Rule.DROP_GATEWAY, with_options(to_gateway, options), key=scene.network_key)
    # no flow sees an option: it is passed on as data, and no node acts on it
    end = PAYLOAD.start - 8 + len(options)
    for who, to, eth_dst in (
        ("neighbour", victim.address, mac_of(victim)),
        ("stranger", scene.stranger.address, GATEWAY),
        ("outside", scene.lab.fabric.far_host, GATEWAY),
    ):
        honest = with_options(udp(attacker, to, eth_dst=eth_dst, payload=b"with options"), options)
        data = honest[end + 8 :]
        scene.reaches(who, sent=honest, part=slice(end + 8, None))
        (came,) = [frame for frame in scene.taps[who].frames() if data in frame]
        assert (came[30:34], came[34:end]) == (to.packed, options)


def test_threat_06_no_kernel_follows_a_source_route(scene: Scene) -> None:
    """Linux drops what has one (accept_source_route is 0): guests, and the outside router."""
    victim = scene.neighbour
    for target, eth_dst in ((victim.address, mac_of(victim)), (OUTSIDE_ROUTER.ip, GATEWAY)):
        recorded, loose, strict = (
            partial(with_options, options=route(kind, scene.stranger.address, scene.public))
            for kind in (0x07, 0x83, 0x89)
        )
        scene.echoed(target, eth_dst, recorded)
        scene.not_echoed(target, eth_dst, loose)
        scene.not_echoed(target, eth_dst, strict)
