"""Real frames of a hostile VM on real Open vSwitch: nobody hears of them, and the drop that has their name counts them.

The numbers are those of the project's list of threats.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from typing import Any

import pytest

from controller.packet_in import frames as product
from controller.packet_in import outcomes as outcome
from etc.lab import netns
from etc.lab.lab import Lab
from etc.lab.processes import wait_until
from etc.lab.vm import INTERFACE, Vm
from flows.pipeline import Rule
from tests.netns import frames
from tests.netns.frames import ARP, BROADCAST, GATEWAY, IPV4, IPV6, Tap, arp, client_message, mac, mac_of, sound, udp
from tests.netns.hostile import COUNTED, Scene, discover_until_answered, flood, paced
from tests.unit.packet_in import wire

OTHER_VLAN = 130
FOREIGN_MAC = mac("02:aa:bb:cc:dd:ee")
ALL_HOSTS = mac("01:00:5e:00:00:01")
DHCP_LIMIT = 45
"""Messages a second of one port that the controller is sure to look at."""


@pytest.fixture(scope="module")
def scene(make_lab: Callable[..., Lab]) -> Iterator[Scene]:
    lab = make_lab(nodes=2)
    lab.wait_connected()
    main = lab.client.create_network({
        "name": "main", "project_id": "p", "kind": "flat", "physical_network": "physnet1",
        "subnets": [{"cidr": "10.10.0.0/24"}],
    }).object
    other = lab.client.create_network({
        "name": "other", "project_id": "p", "kind": "vlan", "segment": OTHER_VLAN, "physical_network": "physnet1",
        "subnets": [{"cidr": "10.30.0.0/24"}],
    }).object
    assert main and other
    first, second = lab.nodes
    vms = [
        lab.create_vm(name, node, network["id"], client=None)
        for name, node, network in (
            ("attacker", first, main), ("neighbour", first, main), ("remote", second, main), ("stranger", first, other),
        )
    ]
    for vm in vms:
        vm.set_address(f"{vm.address}/24")
    made = Scene(lab, *vms)
    made.open()
    for name, vm in zip(made.taps, vms, strict=False):
        reply = discover_until_answered(vm, made.taps[name], deadline=20)
        vm.set_address(f"{vm.address}/24", IPv4Address(reply.option(3)))
    yield made
    made.close()


def gateway_of(scene: Scene) -> IPv4Address:
    """What the attacker's node gives its VMs as router."""
    return IPv4Address(scene.answered().option(3))


def rise(scene: Scene, name: str, before: int, by: int = 1) -> None:
    """Waits until the controller has counted an outcome `by` times more."""
    wait_until(
        lambda: frames.outcomes(scene.lab)[name] >= before + by, COUNTED,
        lambda: f"{name} rose by {frames.outcomes(scene.lab)[name] - before}, not {by}",
    )


def test_an_honest_vm_is_heard(scene: Scene) -> None:
    """The watchers do watch: everybody sees what the attacker may send, and the same from a wrong source is a leak."""
    scene.clear()
    assert scene.leaked() == {}
    scene.tap.send(udp(scene.attacker, "255.255.255.255", payload=b"honest"))
    assert set(scene.leaked()) == {"neighbour", "remote", "wire"}
    assert scene.attacker.ping(scene.remote.address, count=1).answered
    assert scene.attacker.ping(scene.stranger.address, count=1).answered


# 1, 2, 16: DHCP


def offer(scene: Scene, **fields: Any) -> bytes:
    """A server's answer to the neighbour, as a rogue would send it."""
    message = client_message(
        scene.attacker, wire.OFFER, op=2, ports=(67, 68), source=scene.attacker.address,
        chaddr=mac_of(scene.neighbour), **fields,
    )
    return sound(message.frame())


@pytest.mark.parametrize("target", ["broadcast", "neighbour", "remote", "multicast"])
def test_threat_01_rogue_dhcp_server(scene: Scene, target: str) -> None:
    addresses = {
        "broadcast": BROADCAST, "multicast": ALL_HOSTS,
        "neighbour": mac_of(scene.neighbour), "remote": mac_of(scene.remote),
    }
    frame = offer(scene)
    scene.refused(Rule.DROP_DHCP_SERVER, addresses[target] + frame[6:], key=0)


@pytest.mark.parametrize("target", ["broadcast", "neighbour", "multicast"])
def test_threat_01_rogue_dhcp_server_in_fragments(scene: Scene, target: str) -> None:
    """To 255.255.255.255, which a client without an address takes, whatever the MAC address it was sent to."""
    frame = {"broadcast": BROADCAST, "multicast": ALL_HOSTS, "neighbour": mac_of(scene.neighbour)}[target]
    frame += offer(scene)[6:]
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


# 3 to 6: sources


@pytest.mark.parametrize("ethertype", [IPV4, ARP, IPV6, 0x88CC, 0x8863, 0x9000], ids=hex)
@pytest.mark.parametrize("claimed", ["neighbour", "remote", "gateway", "nobody", "group"])
def test_threat_03_mac_spoof(scene: Scene, ethertype: int, claimed: str) -> None:
    source = {
        "neighbour": mac_of(scene.neighbour), "remote": mac_of(scene.remote), "gateway": GATEWAY,
        "nobody": FOREIGN_MAC, "group": BROADCAST,
    }[claimed]
    attack = {
        IPV4: udp(scene.attacker, "255.255.255.255", eth_src=source),
        ARP: arp(scene.attacker, 1, scene.attacker.address, scene.neighbour.address, eth_src=source),
    }.get(ethertype, frames.raw(scene.attacker, ethertype, bytes(46), eth_src=source))
    scene.refused(Rule.DROP_SPOOFED, attack)


def test_threat_04_arp_spoof(scene: Scene) -> None:
    attacker, victim = scene.attacker, scene.neighbour
    gateway = gateway_of(scene)
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
    )
    assert scene.neighbour.arping(gateway) == {product.mac_text(GATEWAY)}


def test_threat_05_ipv6(scene: Scene) -> None:
    """There is no IPv6 here, hence neither advertisements nor DHCPv6 of a VM."""
    multicast = mac("33:33:00:00:00:01")
    header = bytes.fromhex("6000000000203aff") + bytes.fromhex("fe80" + "00" * 13 + "01") + bytes.fromhex(
        "ff02" + "00" * 13 + "01"
    )
    advertisement = header + bytes.fromhex("8600000040000708") + bytes(24)
    scene.refused(
        Rule.DROP_SPOOFED,
        frames.raw(scene.attacker, IPV6, advertisement, eth_dst=multicast),
        frames.raw(scene.attacker, IPV6, advertisement, eth_dst=mac_of(scene.neighbour)),
        frames.raw(scene.attacker, IPV6, bytes(40), eth_dst=BROADCAST),
    )


@pytest.mark.parametrize("source", [
    "0.0.0.0", "127.0.0.1", "127.255.0.1", "255.255.255.255", "10.10.0.255", "10.10.0.0", "224.0.0.1", "239.1.2.3",
    "240.0.0.1", "169.254.169.254", "169.254.1.1", "10.30.0.1", "8.8.8.8", "neighbour", "remote", "gateway",
])  # fmt: skip
def test_threat_06_ip_spoof(scene: Scene, source: str) -> None:
    named = {"neighbour": scene.neighbour.address, "remote": scene.remote.address}
    claimed = gateway_of(scene) if source == "gateway" else named.get(source) or IPv4Address(source)
    attacker = scene.attacker
    scene.refused(
        Rule.DROP_SPOOFED,
        udp(attacker, "255.255.255.255", source=claimed),
        udp(attacker, scene.neighbour.address, source=claimed, eth_dst=mac_of(scene.neighbour)),
        udp(attacker, scene.remote.address, source=claimed, eth_dst=mac_of(scene.remote)),
        udp(attacker, scene.stranger.address, source=claimed, eth_dst=GATEWAY),
    )


# 7, 8: too much


def test_threat_07_dhcp_flood(scene: Scene) -> None:
    """5,000 a second from one VM; another one, on the same node, has its lease within 2 s."""
    late = scene.lab.create_vm("late", scene.node, scene.attacker.port["network_id"], client=None)
    before = frames.outcomes(scene.lab)[outcome.RATE_LIMITED]
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
    rise(scene, outcome.RATE_LIMITED, before, 5000)
    assert scene.leaked() == {}
    scene.answered()
    scene.lab.delete_vm(late)


def test_threat_07_arp_flood_for_the_gateway(scene: Scene) -> None:
    """Answered in the switch, so that neither the controller nor anybody else hears of it."""
    gateway = gateway_of(scene)
    before = frames.outcomes(scene.lab).total()
    attack = arp(scene.attacker, 1, scene.attacker.address, gateway)
    scene.clear()
    with flood(scene.tap, attack, 5000) as sent:
        wait_until(lambda: sent() > 1000, 10, "the flood")
        pinged = scene.neighbour.ping(gateway, count=5)
        wait_until(lambda: sent() >= 10_000, 20, "2 s of flood")
    assert pinged.lost == 0
    assert not {name: found for name, found in scene.leaked().items() if name != "neighbour"}
    assert all(frame[6:12] == GATEWAY for frame in scene.taps["neighbour"].frames() if frame[12:14] == b"\x08\x06")
    assert frames.outcomes(scene.lab).total() == before


def leases(scene: Scene) -> dict[tuple[str, int], str]:
    with sqlite3.connect(f"file:{scene.lab.control.directory}/trunkline.db?mode=ro", uri=True) as database:
        return {(port, address): state for port, address, state in
                database.execute("select port_id, address, state from leases")}


def test_threat_08_dhcp_starvation(scene: Scene) -> None:
    """A hundred clients in one VM get one address: the port's."""
    before = frames.outcomes(scene.lab)
    scene.clear()
    for number in range(20):
        identity = uuid.UUID(int=number).bytes
        message = client_message(scene.attacker, wire.DISCOVER, xid=number + 1, options=((61, b"\0" + identity),))
        scene.tap.send(sound(message.frame()))
        scene.tap.send(sound(message.change(chaddr=b"\x02\0" + identity[-4:]).frame()))
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
    scene.tap.send(sound(client_message(scene.attacker, **{"kind": fields.get("type", wire.DISCOVER), **{
        name: value for name, value in fields.items() if name != "type"
    }}).frame()))
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


# 12, 13: lengths and fragments


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


def test_threat_13_fragments(scene: Scene) -> None:
    """A VM's own fragments pass, those from a wrong source do not, whichever piece they are."""
    assert scene.attacker.ping(scene.remote.address, count=1, size=4000).answered
    for victim in (scene.neighbour, scene.remote):
        forged = udp(scene.attacker, victim.address, source=scene.stranger.address, eth_dst=mac_of(victim),
                     payload=bytes(64))
        scene.refused(
            Rule.DROP_SPOOFED,
            frames.fragment(forged, 0, more=True),
            frames.fragment(forged, 8, more=True, payload=bytes(8)),
            frames.fragment(forged, 65512, more=False, payload=bytes(16)),
        )


# 14, 17: what is neither IPv4 nor ARP without a tag


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


BRIDGE_PROTOCOLS = {
    "stp": ("01:80:c2:00:00:00", 0x0026), "pause": ("01:80:c2:00:00:01", 0x8808), "lacp": ("01:80:c2:00:00:02", 0x8809),
    "eapol": ("01:80:c2:00:00:03", 0x888E), "lldp": ("01:80:c2:00:00:0e", 0x88CC), "cfm": ("01:80:c2:00:00:30", 0x8902),
    "cdp": ("01:00:0c:cc:cc:cc", 0x0020), "pvst": ("01:00:0c:cc:cc:cd", 0x0020), "pppoe": ("ff:ff:ff:ff:ff:ff", 0x8863),
    "loopback": ("ff:ff:ff:ff:ff:ff", 0x9000), "profinet": ("01:0e:cf:00:00:00", 0x8892),
    "wake on lan": ("ff:ff:ff:ff:ff:ff", 0x0842), "mpls": ("ff:ff:ff:ff:ff:ff", 0x8847),
    "ryu's lldp": ("01:80:c2:00:00:0e", 0x88CC), "rarp": ("ff:ff:ff:ff:ff:ff", 0x8035),
}  # fmt: skip


@pytest.mark.parametrize("protocol", BRIDGE_PROTOCOLS)
def test_threat_17_protocols_of_bridges(scene: Scene, protocol: str) -> None:
    destination, ethertype = BRIDGE_PROTOCOLS[protocol]
    payload = bytes.fromhex("424203000000000000000000") + bytes(34)
    scene.refused(Rule.DROP_SPOOFED, *(
        frames.raw(scene.attacker, ethertype, payload, eth_dst=target)
        for target in (mac(destination), mac_of(scene.neighbour), mac_of(scene.remote))
    ))


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
    scene.refused(
        Rule.DROP_UNCLASSIFIED, *everything(scene, ghost), *everything(scene, scene.attacker), key=0, tap=tap
    )
    # nor does anything get in: what `refused` sent to everybody has been heard by everybody else
    assert tap.frames() == []
    if iface_id == "unknown":
        made = lab.client.create_port({
            "network_id": scene.attacker.port["network_id"], "id": port["id"], "mac": port["mac"],
            "fixed_ips": [{"address": "10.10.0.121"}],
        })
        lab.confirm(made.revision)
        discover_until_answered(ghost, tap)
    tap.close()


# from the rack: what a foreign machine on the segment sends


def test_threat_16_answers_of_a_gateway_from_the_wire(scene: Scene) -> None:
    """DHCP, ARP and the gateway's MAC address, sent into the node's cable, stop at the node (C12)."""
    wire_tap = scene.taps["wire"]
    network = int(scene.lab.client.get_network(scene.attacker.port["network_id"])["key"])
    gateway = gateway_of(scene)
    foreign = {"eth_src": FOREIGN_MAC}
    rogue = offer(scene)
    attacks = {
        (Rule.DROP_UPLINK_DHCP, network): [
            BROADCAST + FOREIGN_MAC + rogue[12:],
            mac_of(scene.neighbour) + FOREIGN_MAC + rogue[12:],
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
        COUNTED, lambda: str(frames.drops(scene.node) - before),
    )
    assert scene.leaked() == {}  # nor does any node answer
    assert product.mac_text(GATEWAY) in scene.neighbour.arping(gateway)
