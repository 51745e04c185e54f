"""Real frames of a hostile VM on real Open vSwitch: nobody hears of them, and the drop that has their name counts them.

The numbers are those of the project's list of threats. DHCP is in test_hostile_dhcp.py.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address

import pytest

from controller.packet_in import frames as product
from controller.packet_in import outcomes as outcome
from etc.lab import netns
from etc.lab.lab import Lab
from etc.lab.processes import wait_until
from etc.lab.vm import INTERFACE, Vm
from flows.rules import Rule
from tests.netns import frames
from tests.netns.frames import ARP, BROADCAST, GATEWAY, IPV4, IPV6, Tap, arp, client_message, mac, mac_of, sound, udp
from tests.netns.hostile import COUNTED, OTHER_VLAN, Scene, build, discover_until_answered, flood, rogue_offer
from tests.unit.packet_in import wire

FOREIGN_MAC = mac("02:aa:bb:cc:dd:ee")


@pytest.fixture(scope="module")
def scene(make_lab: Callable[..., Lab]) -> Iterator[Scene]:
    with build(make_lab(nodes=2)) as made:
        yield made


def test_an_honest_vm_is_heard(scene: Scene) -> None:
    """The watchers do watch: everybody sees what the attacker may send, and the same from a wrong source is a leak."""
    scene.clear()
    assert scene.leaked() == {}
    scene.tap.send(udp(scene.attacker, "255.255.255.255", payload=b"honest"))
    assert set(scene.leaked()) == {"neighbour", "remote", "wire"}
    assert scene.attacker.ping(scene.remote.address, count=1).answered
    assert scene.attacker.ping(scene.stranger.address, count=1).answered


# 3 to 6: sources


@pytest.mark.parametrize("ethertype", [IPV4, ARP, IPV6, 0x88CC, 0x8863, 0x9000], ids=hex)
@pytest.mark.parametrize("claimed", ["neighbour", "remote", "gateway", "nobody", "group"])
def test_threat_03_mac_spoof(scene: Scene, ethertype: int, claimed: str) -> None:
    source = {
        "neighbour": mac_of(scene.neighbour),
        "remote": mac_of(scene.remote),
        "gateway": GATEWAY,
        "nobody": FOREIGN_MAC,
        "group": BROADCAST,
    }[claimed]
    attack = {
        IPV4: udp(scene.attacker, "255.255.255.255", eth_src=source),
        ARP: arp(scene.attacker, 1, scene.attacker.address, scene.neighbour.address, eth_src=source),
    }.get(ethertype, frames.raw(scene.attacker, ethertype, bytes(46), eth_src=source))
    scene.refused(Rule.DROP_SPOOFED, attack)


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
    )
    assert scene.neighbour.arping(gateway) == {product.mac_text(GATEWAY)}


def test_threat_05_ipv6(scene: Scene) -> None:
    """There is no IPv6 here, hence neither advertisements nor DHCPv6 of a VM."""
    multicast = mac("33:33:00:00:00:01")
    header = (
        bytes.fromhex("6000000000203aff")
        + bytes.fromhex("fe80" + "00" * 13 + "01")
        + bytes.fromhex("ff02" + "00" * 13 + "01")
    )
    advertisement = header + bytes.fromhex("8600000040000708") + bytes(24)
    scene.refused(
        Rule.DROP_IPV6,
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
    claimed = scene.gateway if source == "gateway" else named.get(source) or IPv4Address(source)
    attacker = scene.attacker
    scene.refused(
        Rule.DROP_SPOOFED,
        udp(attacker, "255.255.255.255", source=claimed),
        udp(attacker, scene.neighbour.address, source=claimed, eth_dst=mac_of(scene.neighbour)),
        udp(attacker, scene.remote.address, source=claimed, eth_dst=mac_of(scene.remote)),
        udp(attacker, scene.stranger.address, source=claimed, eth_dst=GATEWAY),
    )


# 7: too much


def test_threat_07_arp_flood_for_the_gateway(scene: Scene) -> None:
    """Answered in the switch, so that neither the controller nor anybody else hears of it."""
    gateway = scene.gateway
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
        forged = udp(
            scene.attacker, victim.address, source=scene.stranger.address, eth_dst=mac_of(victim), payload=bytes(64)
        )
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
    "ryu's lldp": ("01:80:c2:00:00:0e", 0x88CC), "rarp": ("01:00:5e:00:00:01", 0x8035),
}  # fmt: skip


@pytest.mark.parametrize("protocol", BRIDGE_PROTOCOLS)
def test_threat_17_protocols_of_bridges(scene: Scene, protocol: str) -> None:
    destination, ethertype = BRIDGE_PROTOCOLS[protocol]
    payload = bytes.fromhex("424203000000000000000000") + bytes(34)
    scene.refused(
        Rule.DROP_SPOOFED,
        *(
            frames.raw(scene.attacker, ethertype, payload, eth_dst=target)
            for target in (mac(destination), mac_of(scene.neighbour), mac_of(scene.remote))
        ),
    )


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
    scene.refused(Rule.DROP_UNCLASSIFIED, *everything(scene, ghost), *everything(scene, scene.attacker), key=0, tap=tap)
    # nor does anything get in: what `refused` sent to everybody has been heard by everybody else
    assert tap.frames() == []
    if iface_id == "unknown":
        made = lab.client.create_port(
            {
                "network_id": scene.attacker.port["network_id"],
                "id": port["id"],
                "mac": port["mac"],
                "fixed_ips": [{"address": "10.10.0.121"}],
            }
        )
        lab.confirm(made.revision)
        discover_until_answered(ghost, tap)
    tap.close()


# from the rack: what a foreign machine on the segment sends


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
