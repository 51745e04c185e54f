"""The DHCPv6 server: byte for byte, message by message (RFC 8415, 18.3), and what gets no answer."""

from __future__ import annotations

import struct
from dataclasses import replace
from ipaddress import IPv6Address

import pytest

from controller.packet_in import dhcpv6, outcomes
from controller.packet_in.leases import LeaseEvent, LeaseState
from flows.model import Ipv6FixedIp, Ipv6Mode
from flows.rules import Rule, cookie
from flows.snapshot import Snapshot
from tests.unit.packet_in import model, wire6
from tests.unit.packet_in.test_dispatch import Bed
from tests.unit.packet_in.wire6 import (
    ADDRESSES,
    DUID,
    LINK_LOCAL,
    MAC,
    SERVER_DUID,
    SLAAC,
    STATEFUL,
    STATELESS,
    Answer,
    Message,
    address,
    ia,
    take_apart,
)

OWN = ADDRESSES[STATEFUL]
OTHER = IPv6Address("2001:db8:3::77")
ELSEWHERE = IPv6Address("2001:db8:99::1")
LEASE = 86400
ORO = (6, struct.pack("!HHH", 23, 24, 39))
GOLDEN = (
    "fa163e000001" "02544c000001" "86dd"
    "60000000" "0071" "11" "40" "fe8000000000000000544cfffe000001" "fe80000000000000f8163efffe000001"
    "0223" "0222" "0071" "0f86"
    "02" "123456"
    "0002" "000a" "0003000102544c000001"
    "0001" "000e" "00010001" "00010203040506070809"
    "0007" "0001" "ff"
    "0003" "0028" "00000007" "0000a8c0" "00010e00"
    "0005" "0018" "20010db8000300000000000000000009" "00015180" "00015180"
    "0017" "0010" "fe8000000000000000544cfffe000001"
)  # fmt: skip


def world(*modes: Ipv6Mode, **fields: object) -> Snapshot:
    return model.cloud(networks=(wire6.network(*modes, **fields),), ports=(wire6.port(*modes),))


STATEFUL_WORLD = world(STATEFUL, dns_domain="cloud.example")


def ask(message: Message, snapshot: Snapshot = STATEFUL_WORLD) -> tuple[str, Answer | None]:
    outcome, frame, *_ = dhcpv6.answer(message.frame(), snapshot.ports["port-per_host"], snapshot)
    if frame is None:
        return outcome, None
    answer = take_apart(frame)
    assert (answer.xid, answer.destination, answer.eth_destination) == (message.xid, message.source, MAC)
    assert answer.option(1) == message.client
    return outcome, answer


def answered(message: Message, snapshot: Snapshot = STATEFUL_WORLD) -> Answer:
    answer = ask(message, snapshot)[1]
    assert answer is not None
    return answer


def to_server(kind: int, *options: wire6.Option) -> Message:
    return Message(kind=kind, server=SERVER_DUID, options=options)


def test_golden() -> None:
    snapshot = world(STATEFUL)
    frame = dhcpv6.answer(Message().frame(), snapshot.ports["port-per_host"], snapshot).frame
    assert frame is not None and frame.hex() == GOLDEN


def test_solicit_and_request() -> None:
    outcome, offer = ask(Message(options=(ia(), ORO)))
    assert offer is not None and (outcome, offer.kind) == (outcomes.DHCPV6_ADVERTISE, wire6.ADVERTISE)
    outcome, reply = ask(to_server(wire6.REQUEST, ia(address(OWN)), ORO))
    assert reply is not None and (outcome, reply.kind) == (outcomes.DHCPV6_REPLY, wire6.REPLY)
    for answer in (offer, reply):
        (association,) = answer.associations
        assert (association.iaid, association.times) == (7, (LEASE // 2, LEASE * 4 // 5))
        assert association.leases == {str(OWN): (LEASE, LEASE)} and association.status is None
        assert answer.option(23) == wire6.GATEWAY.packed and answer.option(24) == b"\x05cloud\x07example\0"
    assert offer.option(7) == b"\xff" and reply.option(7) is None


def test_rapid_commit() -> None:
    outcome, reply = ask(Message(options=(ia(), (14, b""))))
    assert reply is not None and (outcome, reply.kind) == (outcomes.DHCPV6_REPLY, wire6.REPLY)
    assert reply.option(14) == b"" and reply.associations[0].leases
    nothing = answered(Message(options=(ia(), (14, b""))), world(STATELESS))
    assert nothing.kind == wire6.ADVERTISE and nothing.option(14) is None


def test_the_port_and_not_the_client_says_whose_address_it_is() -> None:
    for client in (b"\0\3\0\1" + bytes(6), b"\0\2" + bytes(60)):
        assert answered(Message(client=client)).associations[0].leases == {str(OWN): (LEASE, LEASE)}
    assert answered(Message(options=(ia(address(OTHER)),))).associations[0].leases == {str(OWN): (LEASE, LEASE)}


def test_addresses_of_other_modes_are_not_given() -> None:
    both = world(SLAAC, STATEFUL)
    assert set(answered(Message(), both).associations[0].leases) == {str(OWN)}
    for mode in (SLAAC, STATELESS):
        outcome, offer = ask(Message(), world(mode))
        assert offer is not None and outcome == outcomes.DHCPV6_NO_ADDRESS
        assert offer.associations[0].leases == {} and offer.associations[0].status == 2


def test_several_addresses_and_several_associations() -> None:
    """All in the first association; of the others each is told why it has none."""
    more = wire6.port(STATEFUL)
    more = replace(more, ipv6_addresses=(*more.ipv6_addresses, Ipv6FixedIp("six-dhcpv6-stateful", OTHER)))
    snapshot = model.cloud(networks=(wire6.network(STATEFUL),), ports=(more,))
    asked = Message(options=(ia(code=25), ia(code=4), ia(), ia(iaid=8)))
    prefix, temporary, first, second = answered(asked, snapshot).associations
    assert set(first.leases) == {str(OWN), str(OTHER)}
    assert [(one.code, one.status, one.leases) for one in (prefix, temporary, second)] == [
        (25, 6, {}), (4, 2, {}), (3, 2, {}),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", [wire6.RENEW, wire6.REBIND])
def test_renewals(kind: int) -> None:
    """The port's address again; what else the client has it is to give up."""
    server = SERVER_DUID if kind == wire6.RENEW else None
    asked = Message(kind=kind, server=server, options=(ia(address(OWN), address(OTHER)), ia(code=25, iaid=9)))
    outcome, reply = ask(asked)
    assert reply is not None and (outcome, reply.kind) == (outcomes.DHCPV6_RENEW, wire6.REPLY)
    association, prefix = reply.associations
    assert association.leases == {str(OWN): (LEASE, LEASE), str(OTHER): (0, 0)}
    assert prefix.status == 3
    lost, nothing = (asked.change(options=(one,)) for one in (ia(address(OTHER)), ia()))
    outcome, reply = ask(lost, world(SLAAC))
    assert reply is not None and outcome == outcomes.DHCPV6_NO_BINDING
    assert reply.associations[0].leases == {str(OTHER): (0, 0)}
    assert answered(nothing, world(SLAAC)).associations[0].status == 3


def test_a_request_for_an_address_of_elsewhere() -> None:
    outcome, reply = ask(to_server(wire6.REQUEST, ia(address(ELSEWHERE))))
    assert reply is not None and outcome == outcomes.DHCPV6_NOT_ON_LINK
    assert reply.associations[0].status == 4 and reply.associations[0].leases == {}


def test_confirm() -> None:
    for asked, status in ((OWN, 0), (OTHER, 4), (ELSEWHERE, 4)):
        assert answered(Message(kind=wire6.CONFIRM, options=(ia(address(asked)),))).status == status
    assert ask(Message(kind=wire6.CONFIRM)) == (outcomes.DHCPV6_BAD_OPTIONS, None)


@pytest.mark.parametrize(
    ("kind", "outcome"), [(wire6.RELEASE, outcomes.DHCPV6_RELEASE), (wire6.DECLINE, outcomes.DHCPV6_DECLINE)]
)
def test_what_is_given_back(kind: int, outcome: str) -> None:
    got, reply = ask(to_server(kind, ia(address(OWN)), ia(address(OTHER), iaid=8)))
    assert reply is not None and (got, reply.kind, reply.status) == (outcome, wire6.REPLY, 0)
    assert [(one.iaid, one.status) for one in reply.associations] == [(8, 3)]
    assert answered(Message()).associations[0].leases  # it is the port's whatever becomes of it


def test_information() -> None:
    own = (IPv6Address("2001:db8::53"), IPv6Address("2001:db8::54"))
    snapshot = world(STATELESS, dns_domain="cloud.example", ipv6_subnets=(wire6.subnet(STATELESS, dns_servers=own),))
    asked = Message(kind=wire6.INFORMATION, options=((6, struct.pack("!HHH", 23, 24, 32)),))
    for message in (asked, asked.change(server=SERVER_DUID)):
        outcome, reply = ask(message, snapshot)
        assert reply is not None and (outcome, reply.kind) == (outcomes.DHCPV6_INFORMATION, wire6.REPLY)
        assert reply.option(23) == b"".join(server.packed for server in own)
        assert reply.option(24) == b"\x05cloud\x07example\0" and reply.option(32) == struct.pack("!I", LEASE)
    outcome, frame, *_ = dhcpv6.answer(asked.change(client=None).frame(), snapshot.ports["port-per_host"], snapshot)
    assert outcome == outcomes.DHCPV6_INFORMATION and take_apart(frame).option(1) is None
    assert ask(asked.change(options=(ia(),)), snapshot) == (outcomes.DHCPV6_BAD_OPTIONS, None)
    quick = world(STATELESS, lease_time=60)
    assert answered(asked, quick).option(32) == struct.pack("!I", 600)  # RFC 8415, 7.6


@pytest.mark.parametrize(("flags", "expected"), [(0, 3), (1, 1)])
def test_the_name_is_that_of_the_port(flags: int, expected: int) -> None:
    asked = Message(options=(ia(), ORO, (39, bytes((flags,)) + b"\x05wrong")))
    assert answered(asked).option(39) == bytes((expected,)) + b"\x03web\x05cloud\x07example\0"
    assert answered(asked, world(STATEFUL)).option(39) == bytes((expected,)) + b"\x03web"
    assert answered(asked.change(options=(ia(), ORO))).option(39) is None


def test_times_follow_the_network() -> None:
    (short,) = answered(Message(), world(STATEFUL, lease_time=100)).associations
    assert (short.times, short.leases) == ((50, 80), {str(OWN): (100, 100)})
    (never,) = answered(Message(), world(STATEFUL, lease_time=0xFFFFFFFF)).associations
    assert never.times == (0xFFFFFFFF, 0xFFFFFFFF)


def test_by_unicast_nothing_but_where_to_ask() -> None:
    to_one = to_server(wire6.RENEW, ia(address(OWN))).change(destination=wire6.GATEWAY)
    outcome, reply = ask(to_one)
    assert reply is not None and (outcome, reply.status) == (outcomes.DHCPV6_USE_MULTICAST, 5)
    assert reply.associations == []
    assert ask(Message(destination=wire6.GATEWAY)) == (outcomes.DHCPV6_UNICAST, None)


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        (Message(ports=(547, 547), kind=wire6.RELAY_FORWARD), outcomes.DHCPV6_RELAYED),
        (Message(kind=wire6.RELAY_FORWARD + 1), outcomes.DHCPV6_RELAYED),
        (Message(ports=(546, 546)), outcomes.MALFORMED),
        (Message(ports=(1024, 547)), outcomes.MALFORMED),
        (Message(kind=wire6.ADVERTISE), outcomes.DHCPV6_BAD_TYPE),
        (Message(kind=wire6.REPLY), outcomes.DHCPV6_BAD_TYPE),
        (Message(kind=wire6.RECONFIGURE), outcomes.DHCPV6_BAD_TYPE),
        (Message(kind=0), outcomes.DHCPV6_BAD_TYPE),
        (Message(mac=b"\x02" * 6), outcomes.SPOOFED_SOURCE),
        (Message(source=OWN), outcomes.SPOOFED_SOURCE),
        (Message(client=None), outcomes.DHCPV6_BAD_OPTIONS),
        (Message(client=b""), outcomes.DHCPV6_BAD_OPTIONS),
        (Message(client=bytes(131)), outcomes.DHCPV6_BAD_OPTIONS),
        (Message(options=(ia(), (1, DUID))), outcomes.DHCPV6_BAD_OPTIONS),
        (Message(server=SERVER_DUID), outcomes.DHCPV6_BAD_OPTIONS),
        (Message(kind=wire6.REQUEST), outcomes.DHCPV6_BAD_OPTIONS),
        (Message(kind=wire6.REQUEST, server=DUID), outcomes.DHCPV6_OTHER_SERVER),
        (Message(kind=wire6.INFORMATION, options=(), server=DUID), outcomes.DHCPV6_OTHER_SERVER),
        (Message(options=((6, b"\0"),)), outcomes.DHCPV6_BAD_OPTIONS),
        (Message(options=((14, b"\0"),)), outcomes.DHCPV6_BAD_OPTIONS),
        (Message(options=((3, bytes(11)),)), outcomes.DHCPV6_BAD_OPTIONS),
        (Message(options=((3, bytes(12) + b"\0\5\0\7"),)), outcomes.DHCPV6_BAD_OPTIONS),
        (Message(options=((3, bytes(12) + b"\0\5\0"),)), outcomes.DHCPV6_BAD_OPTIONS),
        (Message(options=((3, bytes(12) + b"\0\5\0\7" + bytes(7)),)), outcomes.DHCPV6_BAD_OPTIONS),
        (Message(options=(ia(),) * 5), outcomes.DHCPV6_BAD_OPTIONS),
        (Message(options=(ia(*(address(OWN),) * 5),)), outcomes.DHCPV6_BAD_OPTIONS),
        (Message(tail=b"\0"), outcomes.DHCPV6_BAD_OPTIONS),
        (Message(tail=b"\0\6\0\4\0"), outcomes.DHCPV6_BAD_OPTIONS),
    ],
)
def test_what_gets_no_answer(bad: Message, expected: str) -> None:
    assert ask(bad) == (expected, None)


def test_where_there_is_no_server() -> None:
    assert ask(Message(), world(STATEFUL, dhcp=False)) == (outcomes.DHCPV6_DISABLED, None)
    without = model.cloud(networks=(wire6.network(STATEFUL),))
    assert ask(Message(), without) == (outcomes.NO_ADDRESS, None)


def test_cut_and_untrue_lengths() -> None:
    whole = Message().frame()
    port = STATEFUL_WORLD.ports["port-per_host"]
    for size in range(len(whole)):
        assert dhcpv6.answer(whole[:size], port, STATEFUL_WORLD).frame is None
    longer = dhcpv6.answer(whole + b"\0" * 20, port, STATEFUL_WORLD)  # padding
    assert longer.outcome == outcomes.DHCPV6_ADVERTISE


def test_the_answer_fits_any_link() -> None:
    servers = tuple(IPv6Address(f"2001:db8::{number}") for number in range(8))
    subnets = tuple(
        replace(wire6.subnet(STATEFUL), id=f"s{number}", dns_servers=(*servers[number:], wire6.GATEWAY))
        for number in range(8)
    )
    own = tuple(Ipv6FixedIp(one.id, IPv6Address(int(OWN) + number)) for number, one in enumerate(subnets))
    network = wire6.network(ipv6_subnets=subnets, dns_domain=".".join(["a" * 63] * 3))
    snapshot = model.cloud(networks=(network,), ports=(wire6.port(ipv6_addresses=own),))
    wrong = tuple(address(IPv6Address(int(ELSEWHERE) + number)) for number in range(4))
    asked = Message(kind=wire6.REBIND, client=bytes(130), options=(*(ia(*wrong),) * 4, ORO, (39, b"\0\1a")))
    assert len(answered(asked, snapshot).associations) == 4


def test_through_the_dispatcher() -> None:
    bed = Bed(STATEFUL_WORLD)
    got = bed.handle(cookie(Rule.PUNT_DHCPV6, 10), 100, Message().frame())
    assert got is not None and got.ofport == 100 and take_apart(got.frame).destination == LINK_LOCAL
    assert bed.handle(cookie(Rule.PUNT_DHCPV6, 10), 101, Message().frame()) is None
    assert bed.counters == {outcomes.DHCPV6_ADVERTISE: 1, outcomes.WRONG_IN_PORT: 1}


def test_leases_are_recorded() -> None:
    bed = Bed(STATEFUL_WORLD)
    punt = cookie(Rule.PUNT_DHCPV6, 10)
    for message in (
        Message(),
        to_server(wire6.REQUEST, ia(address(OWN))),
        to_server(wire6.RENEW, ia(address(OWN))),
        to_server(wire6.RELEASE, ia(address(OWN))),
        to_server(wire6.DECLINE, ia(address(OTHER))),
    ):
        assert bed.handle(punt, 100, message.frame()) is not None
    assert bed.leases.drain() == [
        LeaseEvent(10, OWN, LeaseState.BOUND, 1_086_400.0),
        LeaseEvent(10, OWN, LeaseState.RELEASED, 1_000_000.0),
    ]
    bed.handle(punt, 100, Message(options=(ia(), (14, b""))).frame())
    assert [event.state for event in bed.leases.drain()] == [LeaseState.BOUND]
