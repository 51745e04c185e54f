"""A VM that plays a server, or asks too much of one: DHCP, ARP, DNS. Nobody hears of it, nobody else suffers.

The numbers are those of the project's list of threats. DHCP that is malformed is in test_hostile_dhcp.py.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from ipaddress import IPv4Address

import pytest

from controller.packet_in import outcomes as outcome
from etc.lab.processes import wait_until
from flows.rules import Rule
from tests.netns import frames
from tests.netns.frames import BROADCAST, GATEWAY, IPV6, arp, client_message, mac, mac_of, raw, sound, udp
from tests.netns.hostile import DHCP_LIMIT, PAYLOAD, Scene, flood, leases, paced, rise, rogue_offer
from tests.unit.packet_in import wire

ALL_HOSTS = mac("01:00:5e:00:00:01")


# 1: servers that are none


@pytest.mark.parametrize("target", ["broadcast", "neighbour", "remote", "multicast"])
def test_threat_01_rogue_dhcp_server(scene: Scene, target: str) -> None:
    """From any port: udhcpc, dhcpcd, dhclient and systemd-networkd take what comes to theirs."""
    addresses = {
        "broadcast": BROADCAST,
        "multicast": ALL_HOSTS,
        "neighbour": mac_of(scene.neighbour),
        "remote": mac_of(scene.remote),
    }
    attack = [addresses[target] + rogue_offer(scene, ports=(source, 68))[6:] for source in (67, 68, 1067)]
    scene.refused(Rule.DROP_DHCP_SERVER, *attack, key=0)
    who = {"neighbour": ("neighbour",), "remote": ("remote",)}.get(target, ("neighbour", "remote", "wire"))
    # to any other port it is a datagram as others are
    scene.reaches(*who, sent=addresses[target] + rogue_offer(scene, ports=(67, 1068))[6:])


@pytest.mark.parametrize("target", ["broadcast", "neighbour", "multicast"])
def test_threat_01_rogue_dhcp_server_in_fragments(scene: Scene, target: str) -> None:
    """To 255.255.255.255, which a client without an address takes, whatever the MAC address it was sent to."""
    frame = {"broadcast": BROADCAST, "multicast": ALL_HOSTS, "neighbour": mac_of(scene.neighbour)}[target]
    frame += rogue_offer(scene)[6:]
    pieces = [
        frames.fragment(frame, 0, more=True, payload=frame[34:82]),
        frames.fragment(frame, 48, more=True, payload=frame[82:130]),
        frames.fragment(frame, 96, more=False, payload=frame[130:]),
    ]
    scene.refused(Rule.DROP_BROADCAST_FRAGMENT, *pieces, key=0)
    scene.reaches("neighbour", sent=frame[:6] + rogue_offer(scene, ports=(67, 1068))[6:])


def in_two(frame: bytes) -> list[bytes]:
    """All of a short datagram in the first fragment, and nothing but padding in the second."""
    size = 480  # above what the userspace datapath takes for an attack
    ident, datagram = os.urandom(2), frame[34:38] + (size + 8).to_bytes(2) + b"\0\0" + frame[42:]
    whole = frame[:18] + ident + frame[20:34] + datagram.ljust(size + 8, b"\0")
    return [
        frames.fragment(whole, 0, more=True, payload=whole[34 : 34 + size]),
        frames.fragment(whole, size, more=False, payload=whole[34 + size :]),
    ]


@pytest.mark.parametrize("name", ["neighbour", "remote", "stranger", "foreigner", "multicast"])
def test_threat_01_rogue_dhcp_server_in_a_first_fragment(scene: Scene, attackers_port: str, name: str) -> None:
    """Clients that look at the frames of an interface take the first fragment, whose header names any address.

    From whatever port, and in an answer to what the victim began from its port 68; to another port it arrives.
    """
    eth_dst, to = {
        "neighbour": (mac_of(scene.neighbour), scene.neighbour.address),
        "remote": (mac_of(scene.remote), scene.remote.address),
        "stranger": (GATEWAY, scene.stranger.address),
        "foreigner": (GATEWAY, scene.public),
        "multicast": (ALL_HOSTS, IPv4Address("224.0.0.1")),
    }[name]

    def offer(*ports: int) -> list[bytes]:
        return in_two(eth_dst + rogue_offer(scene, destination=to, ports=ports)[6:])

    for source in (67, 1067):
        scene.refused(Rule.DROP_DHCP_SERVER_PART, *offer(source, 68), key=0, whole=True)
    scene.clear()
    harmless = offer(67, 1068)
    scene.tap.send(*harmless)
    for who in ("neighbour", "remote") if name == "multicast" else (name,):
        for part in (harmless[0][42:], harmless[1][34:42]):
            scene.taps[who].wait_for(lambda frame, part=part: part in frame, what=f"a part at {who}")


def test_threat_01_an_answer_to_a_clients_port_in_fragments(scene: Scene) -> None:
    """Even if the victim has sent something from its port 68: the connection is its own, the answer a rogue's."""
    asked = udp(scene.neighbour, scene.attacker.address, (68, 4567), b"question", eth_dst=mac_of(scene.attacker))
    scene.taps["neighbour"].send(asked)
    scene.tap.wait_for(lambda frame: frame[42:50] == b"question", what="the victim's question")
    answer = mac_of(scene.neighbour) + rogue_offer(scene, destination=scene.neighbour.address, ports=(4567, 68))[6:]
    scene.refused(Rule.DROP_DHCP_SERVER_PART, *in_two(answer), key=0, whole=True)


@pytest.mark.parametrize("name", ["neighbour", "stranger", "foreigner", "outside"])
def test_threat_01_rogue_dhcp_server_by_the_gateway(scene: Scene, name: str) -> None:
    """A client that renews listens to whoever knows its address."""
    to = {
        "neighbour": scene.neighbour.address,
        "stranger": scene.stranger.address,
        "foreigner": scene.public,
        "outside": scene.lab.fabric.far_host,
    }[name]
    offer = GATEWAY + rogue_offer(scene, destination=to)[6:]
    scene.refused(Rule.DROP_DHCP_SERVER, offer, key=0)
    other = GATEWAY + rogue_offer(scene, destination=to, ports=(67, 1068))[6:]
    scene.reaches(name, sent=other, part=PAYLOAD)


# 7, 8: too much


def test_threat_08_dhcp_starvation(scene: Scene) -> None:
    """Twenty clients in one VM get one address: the port's."""
    before = frames.outcomes(scene.lab)
    scene.clear()
    attack = []
    for number in range(20):
        identity = uuid.UUID(int=number).bytes
        message = client_message(scene.attacker, wire.DISCOVER, xid=number + 1, options=((61, b"\0" + identity),))
        attack += [sound(each.frame()) for each in (message, message.change(chaddr=b"\x02\0" + identity[-4:]))]
    paced(scene.tap, attack, DHCP_LIMIT)
    rise(scene, outcome.DHCP_OFFER, before[outcome.DHCP_OFFER], 20)
    rise(scene, outcome.DHCP_FOREIGN_CHADDR, before[outcome.DHCP_FOREIGN_CHADDR], 20)
    replies = scene.tap.wait_dhcp(20)
    assert {reply.yiaddr for reply in replies} == {scene.attacker.address} and len(replies) == 20
    assert scene.leaked() == {}
    late = scene.lab.create_vm("later", scene.node, scene.attacker.port["network_id"], client="udhcpc")
    assert late.wait_configured().address.ip == late.address  # there is room for others
    scene.lab.delete_vm(late)
    assert len([port for port, _ in leases(scene) if port == scene.attacker.port["id"]]) <= 1


def neighbour_solicitation(scene: Scene) -> bytes:
    header = (
        bytes.fromhex("6000000000183aff") + bytes.fromhex("fe80" + "00" * 13 + "01") + bytes.fromhex("ff02") + bytes(14)
    )
    return raw(scene.attacker, IPV6, header + b"\x87" + bytes(23), eth_dst=mac("33:33:ff:00:00:01"))


FLOODS: dict[str, tuple[Rule, Callable[[Scene], bytes]]] = {
    "neighbour solicitations": (Rule.DROP_IPV6, neighbour_solicitation),
    "ARP of another": (
        Rule.DROP_SPOOFED,
        lambda scene: arp(scene.attacker, 1, scene.neighbour.address, scene.remote.address),
    ),
    "DHCP of another": (
        Rule.DROP_SPOOFED,
        lambda scene: sound(client_message(scene.attacker, wire.DISCOVER, eth_source=mac_of(scene.neighbour)).frame()),
    ),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_threat_07_what_is_dropped_never_comes_to_the_controller(scene: Scene, kind: str) -> None:
    """However much of it there is, and others go on."""
    rule, make = FLOODS[kind]
    before, dropped = frames.outcomes(scene.lab).total(), frames.drops(scene.node)[rule, scene.key]
    attack = make(scene)
    scene.clear()
    with flood(scene.tap, attack, 5000) as sent:
        wait_until(lambda: sent() > 1000, 20, "the flood")
        wait_until(lambda: not scene.neighbour.ping(scene.remote.address, count=5).lost, 20, "pings are lost")
        wait_until(lambda: sent() >= 5_000, 20, "a second of flood")
    wait_until(lambda: frames.drops(scene.node)[rule, scene.key] - dropped >= 4_000, 20, f"{rule.name} counts them")
    assert not {name: found for name, found in scene.leaked().items() if name not in ("neighbour", "remote", "wire")}
    assert not any(attack in scene.taps[name].frames() for name in ("neighbour", "remote", "wire"))
    assert frames.outcomes(scene.lab).total() == before
    scene.answered()


# 10: DNS


def dns(flags: int, questions: int, body: bytes) -> bytes:
    return b"\x12\x34" + flags.to_bytes(2) + questions.to_bytes(2) + bytes(6) + body


QUERY = b"\x03www\x07example\0\0\x01\0\x01"
FORMERR, REFUSED = 1, 5
# what is sent, and the rcode of its answer (RFC 1035, 4.1.1), if there is one
DNS_MESSAGES: dict[str, tuple[bytes, int | None]] = {
    "a query": (dns(0x0100, 1, QUERY), REFUSED),  # this controller knows of no server outside
    "an answer": (dns(0x8180, 1, QUERY), None),
    "no question": (dns(0x0100, 0, b""), FORMERR),
    "two questions": (dns(0x0100, 2, QUERY + QUERY), FORMERR),
    "65535 questions": (dns(0x0100, 65535, QUERY), FORMERR),
    "a loop": (dns(0x0100, 1, b"\xc0\x0c\0\x01\0\x01"), FORMERR),
    "a chain": (
        dns(0x0100, 1, b"".join(b"\xc0" + bytes((14 + 2 * n,)) for n in range(100)) + b"\0\0\x01\0\x01"),
        FORMERR,
    ),
    "an unknown label": (dns(0x0100, 1, b"\x80\0\0\x01\0\x01"), FORMERR),
    "a long name": (dns(0x0100, 1, (b"\x3f" + b"a" * 63) * 4 + b"\0\0\x01\0\x01"), FORMERR),
    "AXFR": (dns(0x0100, 1, QUERY[:-4] + b"\0\xfc\0\x01"), REFUSED),
    "ANY": (dns(0x0100, 1, QUERY[:-4] + b"\0\xff\0\x01"), REFUSED),
    "empty": (b"", None),
    "large": (dns(0x0100, 1, QUERY) + bytes(1300), FORMERR),
}


@pytest.mark.parametrize("case", DNS_MESSAGES)
def test_threat_10_dns(scene: Scene, case: str) -> None:
    """The gateway answers who has asked, or nobody, and asks no one in another's name. To a server it arrives."""
    attacker, victim, (message, rcode) = scene.attacker, scene.neighbour, DNS_MESSAGES[case]
    scene.clear()
    for port in (5353, 53):
        scene.tap.send(udp(attacker, scene.gateway, (port, 53), message, eth_dst=GATEWAY))
    scene.answered()  # so the controller has seen what is not to be answered

    def answers() -> list[bytes]:
        return [frame for frame in scene.tap.frames() if frame[23:24] == b"\x11" and frame[34:36] == b"\0\x35"]

    expected = [] if rcode is None else [rcode] * 2
    wait_until(lambda: len(answers()) >= len(expected), 20, lambda: f"answers: {frames.describe(answers())}")
    assert [frame[45] & 0xF for frame in answers()] == expected
    assert all(len(frame) <= 42 + len(message) for frame in answers()), "it is larger than the question"
    to_no_service = udp(attacker, scene.gateway, (53, 5353), message, eth_dst=GATEWAY)
    scene.refused(Rule.DROP_GATEWAY, to_no_service, key=scene.network_key)
    reflected = {"source": victim.address, "payload": message, "ports": (5353, 53)}
    scene.refused(
        Rule.DROP_SPOOFED,
        udp(attacker, scene.gateway, eth_dst=GATEWAY, **reflected),
        udp(attacker, scene.stranger.address, eth_dst=GATEWAY, **reflected),
        udp(attacker, scene.lab.fabric.far_host, eth_dst=GATEWAY, **reflected),
        udp(attacker, scene.remote.address, eth_dst=mac_of(scene.remote), **reflected),
    )
    for name, to, eth_dst in (
        ("stranger", scene.stranger.address, GATEWAY),
        ("outside", scene.lab.fabric.far_host, GATEWAY),
        ("remote", scene.remote.address, mac_of(scene.remote)),
    ):
        asked = udp(attacker, to, (5353, 53), message + b"a server", eth_dst=eth_dst)
        scene.reaches(name, sent=asked, part=PAYLOAD)
    scene.answered()
    assert frames.outcomes(scene.lab)[outcome.INTERNAL_ERROR] == 0


def test_threat_01_rogue_dhcp_server_in_a_first_fragment_alone(scene: Scene) -> None:
    """The last of this file: what the userspace datapath's conntrack gives up after 15 s may reach the wire then
    (docs/firewall.md).
    """
    eth_dst, to = mac_of(scene.remote), scene.remote.address
    scene.clear()
    scene.tap.send(in_two(eth_dst + rogue_offer(scene, destination=to, ports=(67, 68))[6:])[0])
    scene.answered()
    assert not scene.leaked()
