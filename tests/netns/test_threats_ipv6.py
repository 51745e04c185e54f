"""A VM that is hostile by IPv6: forged path MTU errors (threat 16), DHCPv6 in another's name (9) and from many clients
(8), storms of MLD and scans by ND (7).

The numbers are those of the project's list of threats. Addresses are set by hand: what a client makes of DHCPv6 is in
test_ipv6_clients.py.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from ipaddress import IPv6Address

import pytest

from controller.packet_in import frames as product
from controller.packet_in import outcomes as outcome
from etc.lab import netns
from etc.lab.lab import Lab
from etc.lab.processes import wait_until
from etc.lab.vm import INTERFACE, Vm
from flows.ipv6 import LINK_LOCAL, eui64
from flows.pipeline import PORT_PACKET_INS
from flows.protocols import ICMPV6_TOO_BIG, MLD2_REPORT, MLD_DONE, MLD_REPORT, ND_SOLICITATION, PROTO_ICMPV6
from flows.rules import Rule
from tests.netns import frames
from tests.netns.cloud import make_network, make_vms, metric, wait_reached, want
from tests.netns.flooding import flooding
from tests.netns.frames import GATEWAY, IPV6, Tap, mac_of, raw
from tests.netns.hostile import COUNTED
from tests.unit.packet_in import wire6

pytestmark = pytest.mark.root

TOLD = 1300
"""The MTU that errors name: more than the 1280 bytes that every link takes."""
PORT = 7160
MLD_QUERY = 130
RAPID_COMMIT = 14, b""
ALL_ROUTERS_MLD2 = IPv6Address("ff02::16")
SECONDS, RATE, FEWEST = 2.0, 4_000, 1_000
"""Of a storm, frames a second, and frames without which it was none."""


@dataclass
class Place:
    """All on one node: `attacker` and `neighbour` on a network, `routed` on another of their router, `foreigner` and
    `peer` on one of another project.
    """

    lab: Lab
    vms: dict[str, Vm]
    taps: dict[str, Tap] = field(default_factory=dict)

    @property
    def attacker(self) -> Vm:
        return self.vms["attacker"]

    @property
    def key(self) -> int:
        return int(self.attacker.port["key"])

    @property
    def tap(self) -> Tap:
        return self.taps["attacker"]

    def client(self, name: str, kind: int, **fields: object) -> wire6.Message:
        """A DHCPv6 message of a VM's own."""
        vm = self.vms[name]
        return wire6.Message(kind, mac=mac_of(vm), source=link_local(vm), client=duid(name), **fields)  # type: ignore[arg-type]

    def ask(self, name: str, message: wire6.Message, deadline: float = 5.0) -> wire6.Answer:
        """Sends a DHCPv6 message until it is answered, as clients do."""
        tap = self.taps[name]

        def answered() -> list[wire6.Answer]:
            tap.send(message.frame())
            return answers(tap, message.xid)

        return wait_until(answered, deadline, f"an answer for {name}", interval=0.2)[0]

    def refused(self, rule: Rule, *attack: bytes) -> None:
        """Sends an attack; asserts that the drop counted each frame, and that no other VM has got one."""
        before = frames.drops(self.attacker.node)[rule, self.key] + frames.drops(self.attacker.node)[rule, 0]
        for tap in self.taps.values():
            tap.clear()
        self.tap.send(*attack)

        def counted() -> int:
            now = frames.drops(self.attacker.node)
            return now[rule, self.key] + now[rule, 0] - before

        wait_until(lambda: counted() >= len(attack), COUNTED, lambda: f"{rule.name} counted {counted()} of {attack}")
        for name, tap in self.taps.items():
            heard = [
                frame for frame in tap.frames() if name != "attacker" and any(frame[54:] == a[54:] for a in attack)
            ]
            assert not heard, (name, frames.describe(heard))

    def lease(self, name: str) -> list[tuple[str, str]]:
        found = self.lab.client.list_leases(port_id=self.vms[name].port["id"])
        return [(each["address"], each["state"]) for each in found if ":" in each["address"]]


def link_local(vm: Vm) -> IPv6Address:
    return eui64(LINK_LOCAL, vm.mac)


def own(vm: Vm) -> IPv6Address:
    (address,) = vm.ipv6_addresses
    return address


def duid(name: str) -> bytes:
    """DUID-EN (RFC 8415, 11.3)."""
    return struct.pack("!HI", 2, 32473) + name.encode()


def answers(tap: Tap, xid: int | None = None) -> list[wire6.Answer]:
    found = [f for f in tap.frames() if f[12:14] == IPV6.to_bytes(2) and f[20] == 17 and f[56:58] == (546).to_bytes(2)]
    taken = [wire6.take_apart(frame) for frame in found]
    return [answer for answer in taken if xid is None or answer.xid == xid]


@pytest.fixture(scope="module")
def place(make_lab: Callable[..., Lab]) -> Iterator[Place]:
    # test_floods.py has what comes of a flood that goes on
    lab = make_lab(nodes=1, projects=("blue", "red"), control_options={"packet_in": {"mute": 0}})
    networks = {}
    for number, (name, project) in enumerate((("one", "blue"), ("two", "blue"), ("theirs", "red"))):
        subnets = [
            {"cidr": f"10.{60 + number}.0.0/24"},
            {"cidr": f"2001:db8:6{number}::/64", "ipv6_mode": "dhcpv6-stateful"},
        ]
        networks[name] = make_network(lab, name, "", segment=160 + number, project_id=project, subnets=subnets)
    places = {"attacker": "one", "neighbour": "one", "routed": "two", "foreigner": "theirs", "peer": "theirs"}
    (node,) = lab.nodes
    wanted = [want(name, node, networks[network]) for name, network in places.items()]
    made = Place(lab, make_vms(lab, *wanted, client=None))
    with ExitStack() as stack:
        for name, vm in made.vms.items():
            by_hand = {f"ipv6/conf/{INTERFACE}/accept_ra": 0, f"ipv6/conf/{INTERFACE}/disable_ipv6": 0}
            netns.set_sysctl(vm.namespace, by_hand)
            netns.configure(
                vm.namespace,
                f"address replace {own(vm)}/64 dev {INTERFACE} nodad",
                f"route replace default via {wire6.GATEWAY} dev {INTERFACE}",
            )
            made.taps[name] = Tap(vm.namespace)
            stack.callback(made.taps[name].close)
        for one, other in (("attacker", "neighbour"), ("attacker", "routed"), ("foreigner", "peer")):
            wait_reached(made.vms[one], own(made.vms[other]))
        yield made


# 16: path MTU errors


@dataclass(frozen=True)
class Open:
    """A victim's conversation, and what an error about a packet of it quotes."""

    victim: Vm
    peer: IPv6Address
    port: int

    def packet(self, port: int | None = None) -> bytes:
        source, peer = own(self.victim).packed, self.peer.packed
        datagram = product.udp(source, peer, port or self.port, self.port, b"")
        return product.ipv6(source, peer, product.PROTOCOL_UDP, datagram)

    def believes(self) -> bool:
        """True if the victim's kernel has been told an MTU."""
        return "mtu" in netns.execute(self.victim.namespace, "ip", "-6", "route", "get", str(self.peer))


def udp6(stack: ExitStack, vm: Vm, port: int) -> socket.socket:
    with netns.inside(vm.namespace):
        made = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
    made.settimeout(5)
    made.bind((str(own(vm)), port))
    return made


@pytest.fixture
def talking(place: Place) -> Iterator[dict[str, Open]]:
    """Nobody has been told of any MTU."""
    pairs = {"inside": ("neighbour", "routed"), "attacker": ("neighbour", "attacker"), "routed": ("routed", "attacker")}
    for vm in place.vms.values():
        netns.execute(vm.namespace, "ip", "-6", "route", "flush", "cache")
    with ExitStack() as stack:
        found = {}
        for number, (kind, (name, peer)) in enumerate(pairs.items()):
            victim, other, port = place.vms[name], place.vms[peer], PORT + number
            server, client = udp6(stack, other, port), udp6(stack, victim, port)
            client.connect((str(own(other)), port))
            client.send(b"question")
            text, asked = server.recvfrom(100)
            server.sendto(text, asked)
            assert client.recv(100) == b"question"
            found[kind] = Open(victim, own(other), port)
        yield found


def too_big(place: Place, to: Vm, quoted: bytes, eth_dst: bytes) -> bytes:
    """From the attacker's own address (RFC 4443, 3.2)."""
    source = own(place.attacker).packed
    message = product.icmpv6(source, own(to).packed, struct.pack("!BBHI", ICMPV6_TOO_BIG, 0, 0, TOLD) + quoted)
    packet = product.ipv6(source, own(to).packed, PROTO_ICMPV6, message)
    return raw(place.attacker, IPV6, packet, eth_dst=eth_dst)


def test_threat_16_path_mtu_errors_by_ipv6(place: Place, talking: dict[str, Open]) -> None:
    """About another's conversation, or none, they are dropped at the port; about one with the attacker believed."""
    others, neighbour, routed = talking["inside"], place.vms["neighbour"], place.vms["routed"]
    place.refused(
        Rule.DROP_EGRESS_INVALID,
        too_big(place, neighbour, others.packet(), mac_of(neighbour)),
        too_big(place, neighbour, others.packet(), GATEWAY),
        too_big(place, routed, others.packet(), GATEWAY),
        too_big(place, neighbour, others.packet(9), mac_of(neighbour)),
        too_big(place, routed, talking["routed"].packet(9), GATEWAY),
    )
    assert not [kind for kind, each in talking.items() if each.believes()]
    for kind, eth_dst in (("attacker", mac_of(neighbour)), ("routed", GATEWAY)):
        true = talking[kind]
        place.tap.send(too_big(place, true.victim, true.packet(), eth_dst))
        wait_until(true.believes, 5, "the true error is believed")
    assert not others.believes()


# 8, 9: DHCPv6


def test_threat_08_many_duids_of_one_port(place: Place) -> None:
    """As many clients as there is time for, in one VM: all of them are told of the port's one address."""
    attacker = place.attacker
    before, handed = frames.outcomes(place.lab), metric(place.lab, "trunkline_packet_ins_total")
    attack = [
        place.client("attacker", wire6.SOLICIT, xid=number, options=(wire6.ia(iaid=number), RAPID_COMMIT))
        .change(client=duid(f"client {number}"))
        .frame()
        for number in range(1, 2001)
    ]
    place.tap.clear()
    with flooding(attacker, attack, SECONDS, RATE) as flood:
        for xid, options in enumerate(((wire6.ia(),), (wire6.ia(), RAPID_COMMIT)), 71):
            answer = place.ask("foreigner", place.client("foreigner", wire6.SOLICIT, xid=xid, options=options))
            assert set(answer.associations[0].leases) == {str(own(place.vms["foreigner"]))}
    assert flood.sent >= FEWEST
    rate, burst = PORT_PACKET_INS
    assert metric(place.lab, "trunkline_packet_ins_total") - handed < burst + rate * (SECONDS + 2) + 50
    given = [set(one.leases) for answer in answers(place.tap) for one in answer.associations]
    assert len(given) > burst / 2 and set().union(*given) == {str(own(attacker))}
    assert len(given) <= frames.outcomes(place.lab)[outcome.DHCPV6_REPLY] - before[outcome.DHCPV6_REPLY]
    wait_until(
        lambda: place.lease("attacker") == [(str(own(attacker)), "bound")], 5, lambda: str(place.lease("attacker"))
    )
    assert place.lease("foreigner") == [(str(own(place.vms["foreigner"])), "bound")]
    wait_until(
        lambda: place.lab.client.get_port_counters(attacker.port["id"])["exceeded"]["packet_in"] > 0,
        COUNTED,
        "what was too much is counted",
    )


def test_threat_09_dhcpv6_in_anothers_name(place: Place) -> None:
    """A release, a decline and a relay's message, with whatever of the victim's is in them: its lease stays."""
    victim, held = place.vms["neighbour"], str(own(place.vms["neighbour"]))
    place.ask("neighbour", place.client("neighbour", wire6.SOLICIT, xid=77, options=(wire6.ia(), RAPID_COMMIT)))
    wait_until(lambda: place.lease("neighbour") == [(held, "bound")], 5, "the neighbour's lease")
    stolen = {"options": (wire6.ia(wire6.address(own(victim))),), "server": wire6.SERVER_DUID}
    for number, kind in enumerate((wire6.RELEASE, wire6.DECLINE)):
        # its address, its DUID and its association, from the attacker's own MAC
        message = place.client("attacker", kind, xid=0x9000 + number, **stolen).change(client=duid("neighbour"))
        said = place.ask("attacker", message)
        assert said.kind == wire6.REPLY and not said.associations[0].leases
        # the very message that it would send itself
        forged = place.client("neighbour", kind, xid=0x9100 + number, **stolen)
        place.refused(Rule.DROP_SPOOFED, forged.frame())
        place.refused(Rule.DROP_SPOOFED, forged.change(mac=mac_of(place.attacker)).frame())
    before = frames.outcomes(place.lab)[outcome.DHCPV6_RELAYED]
    hops = bytes((0,)) + own(victim).packed + link_local(victim).packed  # RFC 8415, 9: hop count, link, peer
    inner = place.client("neighbour", wire6.RELEASE, **stolen).frame()[62:]
    for port in (546, 547):
        relayed = place.client("attacker", wire6.RELAY_FORWARD, ports=(port, 547)).frame()
        body = bytes((wire6.RELAY_FORWARD,)) + hops + wire6.encoded((9, inner))
        datagram = struct.pack("!HHHH", port, 547, 8 + len(body), 0) + body
        place.tap.send(relayed[:18] + len(datagram).to_bytes(2) + relayed[20:54] + datagram)
    wait_until(lambda: frames.outcomes(place.lab)[outcome.DHCPV6_RELAYED] > before, COUNTED, "refused as a relay's")
    place.ask("attacker", place.client("attacker", wire6.SOLICIT, xid=78, options=(wire6.ia(), RAPID_COMMIT)))
    assert place.lease("neighbour") == [(held, "bound")]


# 7: storms


def mld(place: Place, kind: int, group: IPv6Address) -> bytes:
    """A report, the end of one, or a question (RFC 2710, 3810)."""
    source, target = link_local(place.attacker).packed, (ALL_ROUTERS_MLD2 if kind == MLD2_REPORT else group).packed
    record = struct.pack("!BBHIBBH16s", kind, 0, 0, 1, 4, 0, 0, group.packed)
    body = record if kind == MLD2_REPORT else struct.pack("!BBHHH16s", kind, 0, 0, 0, 0, group.packed)
    packet = product.ipv6(source, target, PROTO_ICMPV6, product.icmpv6(source, target, body), 1)
    return raw(place.attacker, IPV6, packet, eth_dst=b"\x33\x33" + target[12:])


def mld_storm(place: Place) -> list[bytes]:
    groups = [IPv6Address(f"ff05::{number:x}") for number in range(1, 200)]
    return [mld(place, kind, group) for kind in (MLD_QUERY, MLD_REPORT, MLD_DONE, MLD2_REPORT) for group in groups]


def nd_scan(place: Place) -> list[bytes]:
    """Every address in 65,536 of the attacker's own network, each asked for in its own group (RFC 4861, 7.2.2)."""
    first, mac = IPv6Address("2001:db8:60::1:0:0"), mac_of(place.attacker)
    source = own(place.attacker).packed
    found = []
    for number in range(1 << 16):
        target = (first + number).packed
        group = IPv6Address("ff02::1:ff00:0").packed[:13] + target[13:]
        body = struct.pack("!BBHI16sBB6s", ND_SOLICITATION, 0, 0, 0, target, 1, 1, mac)
        packet = product.ipv6(source, group, PROTO_ICMPV6, product.icmpv6(source, group, body), 255)
        found.append(raw(place.attacker, IPV6, packet, eth_dst=b"\x33\x33" + group[12:]))
    return found


def last_hops(place: Place) -> list[bytes]:
    """With a hop limit that ends at the gateway."""
    source, target = own(place.attacker).packed, own(place.vms["routed"]).packed
    datagrams = [product.udp(source, target, 9, port, b"") for port in range(33434, 33534)]
    packets = [product.ipv6(source, target, product.PROTOCOL_UDP, each, 1) for each in datagrams]
    return [raw(place.attacker, IPV6, packet, eth_dst=GATEWAY) for packet in packets]


STORMS = {
    "mld": (mld_storm, SECONDS, RATE),
    "nd scan": (nd_scan, 6.6, 10_000),
    "hop limit of 1": (last_hops, SECONDS, RATE),
}


@pytest.mark.parametrize("name", STORMS)
def test_threat_07_a_storm_of_ipv6_stays_in_its_network(place: Place, name: str) -> None:
    """Another project's VMs hear none of it and lose nothing; the controller is handed the port's share at most."""
    make, seconds, rate = STORMS[name]
    foreigner, peer = place.vms["foreigner"], place.vms["peer"]
    attack = make(place)
    handed = metric(place.lab, "trunkline_packet_ins_total")
    place.taps["foreigner"].clear()
    with flooding(place.attacker, attack, seconds, rate) as flood, ExitStack() as stack:
        pinged = foreigner.ping(own(peer), count=20)
        # what is new to the switch has its turn, too
        server = udp6(stack, peer, 7300)
        for number in range(10):
            client = udp6(stack, foreigner, 7301 + number)
            client.sendto(b"question", (str(own(peer)), 7300))
            assert server.recvfrom(100)[0] == b"question"
    assert flood.sent >= FEWEST and pinged.lost == 0
    mine = mac_of(place.attacker)
    assert not [frame for frame in place.taps["foreigner"].frames() if frame[6:12] == mine]
    share, burst = PORT_PACKET_INS
    assert metric(place.lab, "trunkline_packet_ins_total") - handed < burst + share * (seconds + 2)
    gateway = f"{wire6.GATEWAY}%{INTERFACE}"
    wait_until(lambda: foreigner.ping(gateway, count=1, wait=0.5).answered, COUNTED, "the gateway does not answer")
