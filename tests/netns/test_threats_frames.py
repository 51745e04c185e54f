"""Frames whose parts do not fit together: lengths that lie, fragments, packets that widen what a switch remembers.

The numbers are those of the project's list of threats. What an honest VM sends in the same way arrives, each time.
"""

from __future__ import annotations

import itertools
import re
from ipaddress import IPv4Address

import pytest

from controller.packet_in import outcomes as outcome
from etc.lab.processes import wait_until
from flows.rules import Rule
from tests.netns import frames
from tests.netns.frames import BROADCAST, GATEWAY, client_message, mac, mac_of, sound, udp
from tests.netns.hostile import COUNTED, PAYLOAD, SEGMENT, Scene, rogue_offer
from tests.unit.packet_in import wire

FOREIGN_MAC = mac("02:aa:bb:cc:dd:ee")
ALL_HOSTS = mac("01:00:5e:00:00:01")


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

    wait_until(lambda: any(quote.startswith(used_up[14:42]) for quote in quotes()), 20, "time exceeded")
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
        # pieces wait in conntrack until they are a datagram; what does not come together goes nowhere
        assert scene.attacker.ping(victim.address, count=1, size=4000).answered


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
    """Datagrams that never end: conntrack keeps some, what a VM sends beyond its share is dropped in its name.

    All goes on for others, what is in fragments, too: the userspace datapath keeps 5000 of all VMs together.
    """
    far_host = scene.lab.fabric.far_host
    whole = udp(scene.attacker, far_host, eth_dst=GATEWAY, payload=bytes(1400))
    first = frames.fragment(whole, 0, more=True)
    assert scene.neighbour.ping(far_host, count=1, size=4000).answered

    def dropped() -> int:
        return int(scene.lab.client.get_port_counters(scene.attacker.port["id"])["exceeded"]["fragments"])

    before = dropped()
    for start in range(0, 6000, 100):
        scene.tap.send(*(sound(first[:18] + number.to_bytes(2) + first[20:]) for number in range(start, start + 100)))
        scene.node.ovs.appctl("version")  # the switch has other things to do as well
    wait_until(lambda: dropped() - before >= 3000, COUNTED, lambda: f"{dropped() - before} dropped")
    assert not [frame for frame in scene.taps["outside"].frames() if frame[26:30] == scene.attacker.address.packed]
    assert scene.neighbour.ping(scene.gateway, count=2, size=4000).lost == 0
    for target in (scene.remote.address, scene.stranger.address, far_host):
        assert scene.neighbour.ping(target, count=3).lost == 0
        assert scene.neighbour.ping(target, count=3, size=4000).lost == 0


def test_threat_13_what_conntrack_gives_up_reaches_nobody(scene: Scene) -> None:
    """After 15 seconds or more the userspace datapath lets go of fragments among the packets of others.

    Whatever is done to these is done to them. Others begin connections until all have been let go.
    """
    if scene.lab.datapath != "netdev":
        return  # the kernel forgets them where they are
    whole = udp(scene.attacker, scene.lab.fabric.far_host, eth_dst=GATEWAY, payload=bytes(1400))
    first = frames.fragment(whole, 0, more=True)
    scene.clear()
    scene.tap.send(*(sound(first[:18] + number.to_bytes(2) + first[20:]) for number in range(200)))
    wait_until(lambda: _waiting(scene) >= 150, COUNTED, lambda: f"{_waiting(scene)} fragments wait")
    ports = itertools.count(20000)

    def all_let_go() -> bool:
        for vm, to, eth_dst in (
            (scene.neighbour, scene.remote, mac_of(scene.remote)),
            (scene.neighbour, scene.stranger, GATEWAY),
            (scene.stranger, scene.neighbour, GATEWAY),
        ):
            scene.taps[vm.name].send(udp(vm, to.address, (next(ports), 9), eth_dst=eth_dst))
        scene.taps["foreigner"].send(udp(scene.foreigner, scene.lab.fabric.far_host, (next(ports), 9), eth_dst=GATEWAY))
        return _waiting(scene) == 0

    wait_until(all_let_go, 90, lambda: f"{_waiting(scene)} fragments wait still", interval=0.05)
    source = scene.attacker.address.packed
    assert {
        name: [frame.hex() for frame in tap.frames() if source in frame] for name, tap in scene.watchers.items()
    } == {name: [] for name in scene.watchers}


def _waiting(scene: Scene) -> int:
    """Fragments that conntrack keeps."""
    said = scene.node.ovs.appctl("dpctl/ipf-get-status")
    return int(re.search(r"num frag: (\d+)", said)[1])  # type: ignore[index]


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
    """A packet that the switch cannot read has no source address, so port security drops it. The kernel's datapath
    reads a packet whose length is wrong; conntrack then finds it invalid.
    """
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
    scene.refused(Rule.DROP_SPOOFED, *attack, kernel=Rule.DROP_EGRESS_INVALID)
    for who, frame in zip((SEGMENT, ("neighbour",), ("stranger",), ("outside",)), honest, strict=True):
        scene.reaches(*who, sent=frame, part=PAYLOAD)


@pytest.mark.parametrize("version", [0, 5, 6, 15])
def test_threat_15_no_ip_version_hides_the_source(scene: Scene, version: int) -> None:
    """Open vSwitch looks at the ethertype alone: the address is checked where IPv4 has it; guests drop the rest."""
    attacker, victim = scene.attacker, scene.neighbour
    honest = udp(attacker, victim.address, eth_dst=mac_of(victim), payload=b"version")
    forged = udp(attacker, victim.address, eth_dst=mac_of(victim), source=scene.stranger.address)
    rogue, nowhere = rogue_offer(scene), udp(attacker, "127.0.0.1", eth_dst=GATEWAY)

    def changed(frame: bytes) -> bytes:
        return frames.summed(frame[:14] + bytes((version << 4 | 5,)) + frame[15:])

    scene.refused(Rule.DROP_SPOOFED, forged[:14] + bytes((version << 4 | 5,)) + forged[15:], changed(forged))
    scene.refused(Rule.DROP_DHCP_SERVER, changed(rogue), key=0)
    scene.refused(Rule.DROP_MARTIAN, changed(nowhere), key=0)
    for target, eth_dst in ((victim.address, mac_of(victim)), (scene.stranger.address, GATEWAY)):
        scene.not_echoed(target, eth_dst, changed)
    scene.reaches("neighbour", sent=honest)


SCTP = 132


@pytest.mark.parametrize("protocol", [0, 2, 4, 41, 89, 112, SCTP, 136, 255])
def test_threat_15_any_ip_protocol_from_a_wrong_source(scene: Scene, protocol: int) -> None:
    """0 made old Open vSwitch forget what it had matched (CVE-2023-1668): the next one must be looked at as well."""
    attacker, victim = scene.attacker, scene.neighbour
    honest = frames.packet(scene.attacker, victim.address, protocol, b"any protocol" * 4, eth_dst=mac_of(victim))
    if protocol != SCTP:  # of which conntrack wants the checksum to be right
        scene.reaches("neighbour", sent=honest)
    forged = honest[:26] + scene.stranger.address.packed + honest[30:]
    scene.refused(Rule.DROP_SPOOFED, sound(forged), sound(forged[:6] + mac_of(scene.remote) + forged[12:]))
    scene.refused(Rule.DROP_DHCP_SERVER, udp(attacker, victim.address, (67, 68), eth_dst=mac_of(victim)), key=0)
    scene.reaches("neighbour", sent=udp(attacker, victim.address, eth_dst=mac_of(victim)))


def test_threat_15_padding(scene: Scene) -> None:
    """Bytes behind the packet (CVE-2020-35498) change nothing about it, nor about the next one. They may come along or
    not: the kernel's conntrack cuts them off.
    """
    attacker, victim = scene.attacker, scene.neighbour
    padded = udp(attacker, victim.address, eth_dst=mac_of(victim), payload=b"padded") + bytes(255) * 3
    forged = udp(attacker, victim.address, eth_dst=mac_of(victim), source=scene.remote.address) + bytes(255) * 3
    rogue = rogue_offer(scene) + bytes(255)
    for _ in range(2):
        scene.reaches("neighbour", part=slice(14, 48), sent=padded)
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
        attack += [frames.packet(scene.attacker, far_host, value, bytes(8), eth_dst=GATEWAY)]
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
