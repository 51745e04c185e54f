"""A VM that is hostile to DHCP, with real frames on real Open vSwitch: nobody hears of them, each is counted by name.

The numbers are those of the project's list of threats. Who plays a server or floods one is in test_threats_services.py.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest

from controller.packet_in import outcomes as outcome
from etc.lab.openvswitch import datapath_type
from etc.lab.processes import wait_until
from flows.rules import Rule
from tests.netns import frames
from tests.netns.frames import GATEWAY, client_message, mac_of, sound
from tests.netns.hostile import COUNTED, DHCP_LIMIT, Scene, discover_until_answered, leases, paced, rise
from tests.unit.packet_in import wire

# 9: malformed DHCP


def test_threat_09_dhcp_cut_at_every_byte(scene: Scene) -> None:
    """As it is, and with lengths that fit what is left, which gets as far as the controller."""
    options = ((61, b"\x01" + mac_of(scene.attacker)), (55, bytes((1, 3, 6, 12, 15, 26))), (12, b"hostile"))
    whole = sound(client_message(scene.attacker, wire.DISCOVER, options=options).frame())
    fitting = []
    for size in range(14 + 20 + 8, len(whole)):
        frame = sound(whole[:size])
        fitting.append(frame[:38] + (size - 34).to_bytes(2) + frame[40:])
    before = frames.outcomes(scene.lab)
    scene.clear()
    scene.tap.send(*(whole[:size] for size in range(14, len(whole))))
    assert scene.leaked() == {}
    wrong = set(frames.outcomes(scene.lab) - before)
    # the userspace datapath takes none of these for DHCP, the kernel's does not compare lengths
    assert wrong == ({outcome.MALFORMED} if datapath_type() == "system" else set())
    before = frames.outcomes(scene.lab)
    paced(scene.tap, fitting, DHCP_LIMIT)
    wait_until(lambda: frames.outcomes(scene.lab).total() >= before.total() + len(fitting), COUNTED, "all are handled")
    assert scene.leaked() == {}
    handled = frames.outcomes(scene.lab) - before
    assert set(handled) == {outcome.MALFORMED, outcome.DHCP_BAD_OPTIONS, outcome.DHCP_BOOTP, outcome.DHCP_OFFER}
    offers = handled[outcome.DHCP_OFFER]
    assert len(scene.tap.wait_dhcp(offers)) == offers  # one cut between two options is a whole message
    scene.answered()


MALFORMED: dict[str, tuple[dict[str, Any], str]] = {
    "option past the end": ({"tail": b"\x0c\xff12"}, outcome.DHCP_BAD_OPTIONS),
    "option without a length": ({"tail": b"\x0c"}, outcome.DHCP_BAD_OPTIONS),
    "no message type": ({"type": None}, outcome.DHCP_BOOTP),
    "empty message type": ({"type": None, "options": ((53, b""),)}, outcome.DHCP_BAD_OPTIONS),
    "long message type": ({"type": None, "options": ((53, b"\x01\x01"),)}, outcome.DHCP_BAD_OPTIONS),
    "unknown message type": ({"type": 99}, outcome.DHCP_BAD_TYPE),
    "a server's message type": ({"type": wire.ACK}, outcome.DHCP_BAD_TYPE),
    "overload in itself": (
        {"options": ((52, b"\x03"),), "file": b"\x34\x01\x03\xff", "sname": b"\x34\x01\x03\xff"}, outcome.DHCP_OFFER,
    ),
    "overload past the end": ({"options": ((52, b"\x03"),), "file": b"\x0c\xff" * 64}, outcome.DHCP_BAD_OPTIONS),
    "overload of 4": ({"options": ((52, b"\x04"),)}, outcome.DHCP_BAD_OPTIONS),
    "no end, all padding": ({"tail": bytes(1100)}, outcome.DHCP_OFFER),
    "hardware address of 255 bytes": ({"hlen": 255}, outcome.MALFORMED),
    "not Ethernet": ({"htype": 6}, outcome.MALFORMED),
    "an answer": ({"op": 2}, outcome.MALFORMED),
    "wrong magic": ({"cookie": b"\0\0\0\0"}, outcome.DHCP_BOOTP),
    "from a relay": ({"giaddr": IPv4Address("10.10.0.9")}, outcome.DHCP_RELAYED),
    "relay information": ({"options": ((82, b"\x01\x04abcd"),)}, outcome.DHCP_OFFER),
    "path as host name": ({"options": ((12, b"../../etc/passwd"),)}, outcome.DHCP_OFFER),
    "host name not text": ({"options": ((12, b"\xff\0\x80 '\";--\n"),), "sname": b"\xff" * 64}, outcome.DHCP_OFFER),
    "host name of 255": ({"options": ((12, b"a" * 255),)}, outcome.DHCP_OFFER),
    "address of another": (
        {"type": wire.REQUEST, "options": ((50, IPv4Address("10.30.0.9").packed),)}, outcome.DHCP_NAK,
    ),
    "decline of another's": (
        {"type": wire.DECLINE, "options": ((50, IPv4Address("10.10.0.222").packed),)}, outcome.DHCP_FOREIGN_ADDRESS,
    ),
    "release of another's": (
        {"type": wire.RELEASE, "ciaddr": IPv4Address("10.10.0.222")}, outcome.DHCP_FOREIGN_ADDRESS,
    ),
    "inform of another's": ({"type": wire.INFORM, "ciaddr": IPv4Address("10.10.0.222")}, outcome.DHCP_FOREIGN_ADDRESS),
    "request without state": ({"type": wire.REQUEST}, outcome.DHCP_NO_STATE),
}  # fmt: skip


@pytest.mark.parametrize("case", MALFORMED)
def test_threat_09_dhcp_malformed(scene: Scene, case: str) -> None:
    fields, expected = MALFORMED[case]
    before = frames.outcomes(scene.lab)
    scene.clear()
    scene.tap.send(
        sound(
            client_message(
                scene.attacker,
                **{
                    "kind": fields.get("type", wire.DISCOVER),
                    **{name: value for name, value in fields.items() if name != "type"},
                },
            ).frame()
        )
    )
    rise(scene, expected, before[expected])
    assert scene.leaked() == {}
    assert frames.outcomes(scene.lab)[outcome.INTERNAL_ERROR] == 0
    answered = {outcome.DHCP_OFFER: [wire.OFFER], outcome.DHCP_NAK: [wire.NAK]}.get(expected, [])
    assert [reply.type for reply in scene.tap.wait_dhcp(len(answered))] == answered
    scene.answered()


def test_threat_09_others_leases_stay(scene: Scene) -> None:
    """What a VM says of another's address changes nothing about it."""
    victim = scene.neighbour
    held = bound(scene)
    before = frames.outcomes(scene.lab)[outcome.DHCP_FOREIGN_ADDRESS]
    stolen = victim.address
    for message in (
        client_message(scene.attacker, wire.RELEASE, ciaddr=stolen),
        client_message(scene.attacker, wire.DECLINE, options=((50, stolen.packed),)),
    ):
        scene.tap.send(*[sound(message.frame())] * 5)
    rise(scene, outcome.DHCP_FOREIGN_ADDRESS, before, 10)
    # the attacker's own lease is written after what it said of the other
    scene.answered()
    request = client_message(scene.attacker, wire.REQUEST, xid=78, options=((50, scene.attacker.address.packed),))
    assert scene.tap.ask(request).type == wire.ACK
    own = (str(scene.attacker.port["id"]), int(scene.attacker.address))
    wait_until(lambda: leases(scene).get(own) == "bound", 20, "the attacker's lease in the database")
    assert leases(scene)[held] == "bound"


def bound(scene: Scene) -> tuple[str, int]:
    """The neighbour's lease in the database, which it has just been given."""
    victim, tap = scene.neighbour, scene.taps["neighbour"]
    discover_until_answered(victim, tap)
    ack = tap.ask(client_message(victim, wire.REQUEST, xid=77, options=((50, victim.address.packed),)))
    assert ack.type == wire.ACK
    held = (str(victim.port["id"]), int(victim.address))
    wait_until(lambda: leases(scene).get(held) == "bound", 20, "the neighbour's lease in the database")
    return held


RELAYS = ("attacker", "neighbour", "gateway")


def test_threat_09_releases_in_anothers_name(scene: Scene) -> None:
    """The very message that the victim would send, or with as much of it as the attacker's own MAC allows."""
    held, victim, attacker = bound(scene), scene.neighbour, scene.attacker
    server = (54, scene.gateway.packed), (61, b"\x01" + mac_of(victim))
    release: dict[str, Any] = {"ciaddr": victim.address, "destination": scene.gateway, "options": server}
    its_own = client_message(victim, wire.RELEASE, source=victim.address, **release)
    to_gateway = [GATEWAY + sound(each.frame())[6:] for each in (its_own, its_own.change(source=wire.ZERO))]
    scene.refused(
        Rule.DROP_SPOOFED, *to_gateway, GATEWAY + sound(its_own.change(eth_source=mac_of(attacker)).frame())[6:]
    )
    before = frames.outcomes(scene.lab)
    in_its_name = client_message(attacker, wire.RELEASE, chaddr=mac_of(victim), source=attacker.address, **release)
    scene.tap.send(GATEWAY + sound(in_its_name.frame())[6:], sound(in_its_name.frame()))
    rise(scene, outcome.DHCP_FOREIGN_CHADDR, before[outcome.DHCP_FOREIGN_CHADDR], 2)
    assert leases(scene)[held] == "bound"


@pytest.mark.parametrize("relay", RELAYS)
def test_threat_09_a_vm_is_no_relay(scene: Scene, relay: str) -> None:
    """With the address of whoever might be one as giaddr, from a client's port and from a relay's (RFC 2131, 4.1)."""
    held, victim, attacker = bound(scene), scene.neighbour, scene.attacker
    giaddr = scene.gateway if relay == "gateway" else getattr(scene, relay).address
    handed_on: dict[str, Any] = {"chaddr": mac_of(victim), "giaddr": giaddr, "source": attacker.address}
    attack = [
        client_message(attacker, kind, ciaddr=victim.address, destination=scene.gateway, **handed_on)
        for kind in (wire.RELEASE, wire.DISCOVER)
    ]
    scene.refused(
        Rule.DROP_GATEWAY,
        *(GATEWAY + sound(each.change(ports=(67, 67)).frame())[6:] for each in attack),
        key=scene.network_key,
    )
    before = frames.outcomes(scene.lab)
    scene.clear()
    scene.tap.send(*(GATEWAY + sound(each.frame())[6:] for each in attack))
    refused = outcome.DHCP_RELAYED, outcome.DHCP_FOREIGN_CHADDR
    wait_until(lambda: sum((frames.outcomes(scene.lab) - before)[each] for each in refused) >= 2, COUNTED, "refused")
    assert scene.tap.dhcp() == [] and scene.leaked() == {}
    assert leases(scene)[held] == "bound"
