"""Questions in frames, and the frames that carry the answers; from cookie to answer."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

import pytest
from dnslib import DNSRecord

from controller.packet_in import dns, frames, outcomes
from controller.packet_in.dispatch import Dispatcher
from controller.packet_in.leases import LeaseLog
from controller.packet_in.outputs import Output
from controller.packet_in.services import DEFAULT_LIMITS, Limit, Services
from flows.model import Binding, PortChange
from flows.pipeline import GATEWAY_MAC
from flows.rules import Rule, cookie
from tests.unit.dns.scene import Bench, data, question
from tests.unit.dns.test_server import answering
from tests.unit.packet_in import model

MAC = frames.mac_bytes(model.MAC)
GATEWAY = frames.mac_bytes(GATEWAY_MAC)
VM, SERVER = IPv4Address("10.0.0.5").packed, IPv4Address("10.0.0.2").packed
VM6, SERVER6 = IPv6Address("fe80::5").packed, IPv6Address("fe80::1").packed
ASKED = question("web")


def ipv4(message: bytes = ASKED, source_port: int = 4000, target_port: int = 53) -> bytes:
    packet = frames.ipv4(VM, SERVER, 17, frames.udp(VM, SERVER, source_port, target_port, message))
    return frames.ethernet(GATEWAY, MAC, frames.ETHERTYPE_IPV4, packet)


def ipv6(message: bytes = ASKED) -> bytes:
    packet = frames.ipv6(VM6, SERVER6, 17, frames.udp(VM6, SERVER6, 4000, 53, message))
    return frames.ethernet(GATEWAY, MAC, frames.ETHERTYPE_IPV6, packet)


def test_ipv4() -> None:
    found = dns.read(ipv4() + b"\0" * 9)  # padding
    assert found == dns.Datagram(ASKED, MAC, GATEWAY, VM, SERVER, 4000, 28)
    back = dns.reply(found, b"answer")
    assert back[:14] == MAC + GATEWAY + b"\x08\0"
    packet = frames.parse_ipv4(back, 14)
    assert packet and (packet.source, packet.destination, packet.protocol) == (SERVER, VM, 17)
    assert frames.ones_sum(back[14:34]) == 0
    assert back[34:38] == struct.pack(">HH", 53, 4000) and back[42:] == b"answer"
    assert frames.ones_sum(SERVER + VM + struct.pack(">HH", 17, 14) + back[34:]) == 0


def test_ipv6() -> None:
    found = dns.read(ipv6())
    assert found == dns.Datagram(ASKED, MAC, GATEWAY, VM6, SERVER6, 4000, 48)
    back = dns.reply(found, b"answer")
    assert back[:14] == MAC + GATEWAY + b"\x86\xdd" and back[14:22] == b"\x60\0\0\0\0\x0e\x11\x40"
    assert back[22:54] == SERVER6 + VM6 and back[62:] == b"answer"
    assert frames.ones_sum(SERVER6 + VM6 + struct.pack(">II", 14, 17) + back[54:]) == 0  # RFC 8200, 8.1


@pytest.mark.parametrize("whole", [ipv4(), ipv6()], ids=["IPv4", "IPv6"])
def test_what_is_cut_or_changed_is_nothing(whole: bytes) -> None:
    for end in range(len(whole)):
        assert dns.read(whole[:end]) is None
    for at in range(len(whole)):
        for bit in range(8):
            changed = bytearray(whole)
            changed[at] ^= 1 << bit
            dns.read(bytes(changed))  # whatever it is, it is told
    assert dns.read(whole[:12] + b"\x81\0\0\1" + whole[12:]) is None


def test_other_ports_and_parts() -> None:
    assert dns.read(ipv4(target_port=54)) is None and dns.read(ipv4(source_port=0)) is None
    part = bytearray(ipv4())
    part[20] |= 0x20
    assert dns.read(bytes(part)) is None


@dataclass
class Bed:
    bench: Bench = field(default_factory=lambda: Bench(snapshot=model.cloud(), answers=answering))
    now: float = 0.0
    counters: dict[str, int] = field(default_factory=dict)
    sent: list[tuple[str, Output]] = field(default_factory=list)

    def __post_init__(self) -> None:
        services = Services(
            snapshot=lambda: self.bench.snapshot,
            leases=LeaseLog(),
            neighbour_seen=lambda node, neighbour: None,
            counters=self.counters,
            dns=self.bench.server,
            send=lambda node, output: bool(self.sent.append((node, output))),
            limits={**DEFAULT_LIMITS, Rule.PUNT_DNS: Limit(rate=2, burst=4)},
            monotonic=lambda: self.now,
        )
        self.dispatcher = Dispatcher("n1", services)

    def ask(self, frame: bytes, in_port: int = 100, rule: Rule = Rule.PUNT_DNS) -> tuple[object, ...]:
        return self.dispatcher.handle(cookie(rule, 0 if rule is Rule.PUNT_DNS_LINK_LOCAL else 1), in_port, frame)


@pytest.mark.parametrize("rule", [Rule.PUNT_DNS, Rule.PUNT_DNS_LINK_LOCAL])
@pytest.mark.parametrize("make", [ipv4, ipv6])
def test_a_question_is_answered_where_it_came_from(rule: Rule, make: object) -> None:
    bed = Bed()
    (output,) = bed.ask(make(), rule=rule)  # type: ignore[operator]
    assert isinstance(output, Output) and output.ofport == 100
    start = 42 if make is ipv4 else 62
    assert data(DNSRecord.parse(output.frame[start:])) == ["10.0.0.5"]
    assert bed.counters == {outcomes.DNS_LOCAL: 1}


def test_who_asks_is_who_sent_it() -> None:
    """The second VM has the same address; the frame, and the cookie, say what they like."""
    bed = Bed()
    bed.bench.snapshot = bed.bench.snapshot.apply(2, [PortChange("port-per_host", None)])
    assert bed.ask(ipv4()) == () and bed.counters == {outcomes.WRONG_IN_PORT: 1}
    (output,) = bed.ask(ipv4(), in_port=101)
    assert data(DNSRecord.parse(output.frame[42:])) == ["10.0.0.5"]  # type: ignore[attr-defined]


def test_no_more_than_it_may() -> None:
    bed = Bed()
    answered = [bool(bed.ask(ipv4())) for _ in range(6)]
    assert answered == [True] * 4 + [False] * 2 and bed.counters[outcomes.RATE_LIMITED] == 2
    assert bed.ask(ipv4(), in_port=101)  # another one


def test_what_is_no_question_is_dropped_and_counted() -> None:
    bed = Bed()
    assert bed.ask(ipv4(target_port=54)) == () and bed.counters == {outcomes.MALFORMED: 1}
    assert bed.ask(ipv4(b"\0" * 5)) == () and bed.counters[outcomes.DNS_MALFORMED] == 1
    assert bed.ask(ipv4(ASKED[:-1])) and bed.counters[outcomes.DNS_MALFORMED] == 2  # is told so


def test_an_answer_that_comes_later() -> None:
    bed = Bed()
    assert bed.ask(ipv4(question("example.com"))) == () and bed.counters == {outcomes.DNS_FORWARDED: 1}
    bed.bench.run()
    ((node, output),) = bed.sent
    assert (node, output.ofport) == ("n1", 100)
    assert data(DNSRecord.parse(output.frame[42:])) == ["192.0.2.1"]


def test_it_is_not_for_whoever_has_the_interface_by_then() -> None:
    bed = Bed()
    bed.ask(ipv4(question("example.com")))
    gone = model.port(binding=None)
    other = model.port(model.GatewayMode.SHARED, binding=Binding("n1", 100, 2))
    bed.bench.snapshot = bed.bench.snapshot.apply(2, [PortChange(gone.id, gone), PortChange(other.id, other)])
    bed.bench.run()
    assert not bed.sent


def test_a_small_network_gets_small_answers() -> None:
    bed = Bed(Bench(snapshot=model.cloud((model.network(mtu=68),)), answers=answering))
    (output,) = bed.ask(ipv4(question("web", size=4096)))
    assert DNSRecord.parse(output.frame[42:]).header.tc  # type: ignore[attr-defined]
