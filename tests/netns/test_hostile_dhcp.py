"""A VM that is hostile to DHCP, with real frames on real Open vSwitch: nobody hears of them, each is counted by name.

The numbers are those of the project's list of threats.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from typing import Any

import pytest

from controller.packet_in import outcomes as outcome
from etc.lab.lab import Lab
from etc.lab.processes import wait_until
from flows.rules import Rule
from tests.netns import frames
from tests.netns.frames import BROADCAST, client_message, mac, mac_of, sound
from tests.netns.hostile import COUNTED, Scene, build, discover_until_answered, flood, paced, rogue_offer
from tests.unit.packet_in import wire

FOREIGN_MAC = mac("02:aa:bb:cc:dd:ee")
ALL_HOSTS = mac("01:00:5e:00:00:01")
DHCP_LIMIT = 45
"""Messages a second of one port that the controller is sure to look at."""


@pytest.fixture(scope="module")
def scene(make_lab: Callable[..., Lab]) -> Iterator[Scene]:
    # test_floods.py has what comes of a flood that goes on
    with build(make_lab(nodes=2, control_options={"packet_in": {"mute": 0}})) as made:
        yield made


def exceeded(scene: Scene) -> int:
    """Packets that the attacker's meter kept from the controller."""
    counters = scene.lab.client.get_port_counters(scene.attacker.port["id"])
    return int(counters["exceeded"]["packet_in"])


def rise(scene: Scene, name: str, before: int, by: int = 1) -> None:
    """Waits until the controller has counted an outcome `by` times more."""
    wait_until(
        lambda: frames.outcomes(scene.lab)[name] >= before + by,
        COUNTED,
        lambda: f"{name} rose by {frames.outcomes(scene.lab)[name] - before}, not {by}",
    )


# 1, 2: servers and clients that are none


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


# 7, 8: too much


def test_threat_07_dhcp_flood(scene: Scene) -> None:
    """5,000 a second from one VM; another one, on the same node, has its lease within 2 s."""
    late = scene.lab.create_vm("late", scene.node, scene.attacker.port["network_id"], client=None)
    before = exceeded(scene)
    attack = sound(client_message(scene.attacker, wire.DISCOVER).frame())
    scene.clear()
    with late.capture("udp port 67 or udp port 68") as watched, flood(scene.tap, attack, 5000) as sent:
        wait_until(lambda: sent() > 2000, 10, "the flood")
        late.start_client()
        late.wait_configured()
        wait_until(lambda: sent() >= 10_000, 20, "2 s of flood")
    seen = watched.seen()
    first = next(frame.at for frame in seen if frame.src_port == 68)
    answers = [frame.at for frame in seen if frame.src_port == 67]
    assert len(answers) == 2 and answers[1] - first < 2
    assert late.configured().address.ip == late.address  # type: ignore[union-attr]
    wait_until(lambda: exceeded(scene) - before >= 5000, COUNTED, "what was too much is counted for the port")
    assert scene.leaked() == {}
    scene.answered()
    scene.lab.delete_vm(late)


def leases(scene: Scene) -> dict[tuple[str, int], str]:
    with sqlite3.connect(f"file:{scene.lab.control.directory}/trunkline.db?mode=ro", uri=True) as database:
        return {
            (port, address): state
            for port, address, state in database.execute("select port_id, address, state from leases")
        }


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
    replies = scene.tap.dhcp()
    assert {reply.yiaddr for reply in replies} == {scene.attacker.address} and len(replies) == 20
    assert scene.leaked() == {}
    assert len([port for port, _ in leases(scene) if port == scene.attacker.port["id"]]) <= 1


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
    assert frames.outcomes(scene.lab) == before  # the switch takes none of these for DHCP
    paced(scene.tap, fitting, DHCP_LIMIT)
    wait_until(lambda: frames.outcomes(scene.lab).total() >= before.total() + len(fitting), COUNTED, "all are handled")
    assert scene.leaked() == {}
    handled = frames.outcomes(scene.lab) - before
    assert set(handled) == {outcome.MALFORMED, outcome.DHCP_BAD_OPTIONS, outcome.DHCP_BOOTP, outcome.DHCP_OFFER}
    assert len(scene.tap.dhcp()) == handled[outcome.DHCP_OFFER]  # one cut between two options is a whole message
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
    assert [reply.type for reply in scene.tap.dhcp()] == answered
    scene.answered()


def test_threat_09_others_leases_stay(scene: Scene) -> None:
    """What a VM says of another's address changes nothing about it."""
    victim, tap = scene.neighbour, scene.taps["neighbour"]
    discover_until_answered(victim, tap)
    ack = tap.ask(client_message(victim, wire.REQUEST, xid=77, options=((50, victim.address.packed),)))
    assert ack.type == wire.ACK
    held = (str(victim.port["id"]), int(victim.address))
    wait_until(lambda: leases(scene).get(held) == "bound", 5, "the neighbour's lease in the database")
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
    wait_until(lambda: leases(scene).get(own) == "bound", 5, "the attacker's lease in the database")
    assert leases(scene)[held] == "bound"
