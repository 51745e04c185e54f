"""Router advertisements: what is said to whom, byte for byte, and who gets none."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address

import pytest

from controller.packet_in import nd, outcomes, router_advertisement
from controller.packet_in.router_advertisement import LIFETIME, PREFIX_LIFETIME, advertisement, to_all, told
from flows.model import GatewayMode, Ipv6Mode
from flows.rules import Rule, cookie
from tests.unit.packet_in import model, wire6
from tests.unit.packet_in.test_dispatch import Bed
from tests.unit.packet_in.wire6 import ANY, MAC, SLAAC, STATEFUL, STATELESS, Nd, advertised

PUNT = cookie(Rule.PUNT_RA, 10)
GOLDEN = (
    "333300000001" "02544c000001" "86dd"
    "60000000" "0058" "3a" "ff" "fe8000000000000000544cfffe000001" "ff020000000000000000000000000001"
    "8600" "a7b8" "40" "00" "ffff" "00000000" "00000000"
    "0101" "02544c000001"
    "0501" "0000" "000005dc"
    "0304" "40" "c0" "00278d00" "00278d00" "00000000" "20010db8000100000000000000000000"
    "1903" "0000" "0000ffff" "fe8000000000000000544cfffe000001"
)  # fmt: skip


def said(*modes: Ipv6Mode, leads_out: bool = True, **fields: object) -> wire6.Advertised:
    network = wire6.network(*modes, **fields)
    what = told(wire6.port(*modes), network, leads_out)
    assert what is not None
    return advertised(to_all(advertisement(network, what)))


def bed(*modes: Ipv6Mode, **fields: object) -> Bed:
    return Bed(model.cloud(networks=(wire6.network(*modes),), ports=(wire6.port(*modes, **fields),)))


def test_golden() -> None:
    network = wire6.network(SLAAC)
    what = told(wire6.port(SLAAC), network, True)
    assert what is not None and to_all(advertisement(network, what)).hex() == GOLDEN


@pytest.mark.parametrize(
    ("mode", "flags", "prefix"), [(SLAAC, 0, 0xC0), (STATELESS, 0x40, 0xC0), (STATEFUL, 0xC0, 0x80)]
)
def test_each_mode_has_its_flags(mode: Ipv6Mode, flags: int, prefix: int) -> None:
    """M and O of the message, L and A of the prefix."""
    got = said(mode)
    assert (got.flags, got.lifetime, got.hop_limit) == (flags, LIFETIME, 64)
    assert got.prefixes == {wire6.PREFIXES[mode]: (prefix, PREFIX_LIFETIME, PREFIX_LIFETIME)}


def test_of_several_subnets_each_is_said() -> None:
    got = said(SLAAC, STATELESS, STATEFUL)
    assert set(got.prefixes) == set(wire6.PREFIXES.values()) and got.flags == 0xC0


def test_without_dhcp_nobody_is_sent_to_a_server() -> None:
    got = said(SLAAC, STATELESS, STATEFUL, dhcp=False)
    assert got.flags == 0 and got.prefixes[wire6.PREFIXES[STATELESS]][0] == 0xC0


@pytest.mark.parametrize("mode", [mode for mode in GatewayMode if mode is not GatewayMode.EXTERNAL])
def test_nodes_are_a_router_where_they_are_the_gateway(mode: GatewayMode) -> None:
    routed = mode is not GatewayMode.NONE
    got = said(SLAAC, gateway_mode=mode)
    assert got.lifetime == (LIFETIME if routed else 0)
    assert got.servers == (["fe80::54:4cff:fe00:1"] if routed else [])
    assert got.prefixes


def test_where_the_operators_router_is_the_gateway_it_says_so_itself() -> None:
    assert told(wire6.port(SLAAC), wire6.network(SLAAC, gateway_mode=GatewayMode.EXTERNAL), True) is None


def test_of_two_interfaces_the_second_leads_nowhere() -> None:
    assert said(SLAAC, leads_out=False).lifetime == 0


def test_mtu_names_and_servers() -> None:
    own = (IPv6Address("2001:db8::53"), IPv6Address("2001:db8::54"))
    subnets = (wire6.subnet(SLAAC, dns_servers=own), wire6.subnet(STATEFUL, gateway=IPv6Address("2001:db8:3::1")))
    got = said(SLAAC, STATEFUL, ipv6_subnets=subnets, mtu=1442, dns_domain="cloud.example")
    assert got.option(5) == [bytes.fromhex("0000000005a2")]
    assert got.servers == ["2001:db8::53", "2001:db8::54", "2001:db8:3::1"]
    (names,) = got.option(31)
    assert names[2:6] == LIFETIME.to_bytes(4, "big") and names[6:].rstrip(b"\0") == b"\x05cloud\x07example"
    assert said(SLAAC, mtu=1000).option(5) == []  # a link that IPv6 does not take (RFC 8200, 5)


def test_a_port_hears_of_the_subnets_that_it_has_addresses_in() -> None:
    """An address that it made up of another's prefix would be dropped as spoofed."""
    network = wire6.network(SLAAC, STATELESS)
    what = told(wire6.port(STATELESS), network, True)
    assert what is not None
    assert set(advertised(to_all(advertisement(network, what))).prefixes) == {wire6.PREFIXES[STATELESS]}
    assert told(model.port(), network, True) is None


def test_what_is_gone_is_over_at_once() -> None:
    network = wire6.network(STATEFUL)
    what = told(wire6.port(STATEFUL), network, True, [wire6.subnet(SLAAC)])
    assert what is not None
    prefixes = advertised(to_all(advertisement(network, what))).prefixes
    assert prefixes[wire6.PREFIXES[SLAAC]] == (0xC0, 0, 0) and prefixes[wire6.PREFIXES[STATEFUL]][1] == PREFIX_LIFETIME
    last = told(model.port(), network, True, [wire6.subnet(SLAAC)])
    assert last is not None
    got = advertised(to_all(advertisement(network, last)))
    assert (got.lifetime, got.flags, got.servers) == (0, 0, [])


def test_who_asks_is_answered_alone() -> None:
    asking = bed(SLAAC)
    got = asking.handle(PUNT, 100, Nd().frame())
    assert got is not None and got.ofport == 100
    answer = advertised(got.frame)
    assert (answer.eth_destination, answer.destination) == (MAC, wire6.LINK_LOCAL)
    unspecified = asking.handle(PUNT, 100, Nd(source=ANY, options=b"").frame())
    assert unspecified is not None
    answer = advertised(unspecified.frame)
    assert (answer.eth_destination, answer.destination) == (bytes.fromhex("333300000001"), wire6.ALL_NODES)
    assert asking.counters == {outcomes.ROUTER_ADVERTISED: 2}


@pytest.mark.parametrize(
    "bad",
    [
        Nd(hops=254),
        Nd(code=1),
        Nd(checksum=0x1234),
        Nd(options=b"\x01\x00" + MAC),
        Nd(options=b"\x01\x02" + MAC),
        Nd(options=b"\x01"),
        Nd(body=bytes(3), options=b""),
        Nd(source=ANY),
        Nd(kind=134, body=bytes(12)),
        Nd(kind=135, body=bytes(20)),
        Nd(kind=128),
    ],
)
def test_what_is_no_solicitation_is_dropped(bad: Nd) -> None:
    asking = bed(SLAAC)
    assert asking.handle(PUNT, 100, bad.frame()) is None
    assert asking.counters == {outcomes.MALFORMED: 1}


def test_another_mac_is_not_answered() -> None:
    asking = bed(SLAAC)
    assert asking.handle(PUNT, 100, Nd(mac=b"\x02" * 6).frame()) is None
    assert asking.counters == {outcomes.SPOOFED_SOURCE: 1}


def test_a_port_without_addresses_is_not_answered() -> None:
    asking = Bed(model.cloud(networks=(wire6.network(SLAAC),)))
    assert asking.handle(PUNT, 100, Nd().frame()) is None
    assert asking.counters == {outcomes.NO_ADDRESS: 1}


def test_the_wrong_interface_and_a_flood() -> None:
    asking = bed(SLAAC)
    assert asking.handle(PUNT, 101, Nd().frame()) is None and asking.handle(cookie(Rule.PUNT_RA, 999), 100, b"") is None
    for _ in range(200):
        asking.handle(PUNT, 100, Nd().frame())
    assert asking.counters == {
        outcomes.WRONG_IN_PORT: 1, outcomes.UNKNOWN_OBJECT: 1, outcomes.ROUTER_ADVERTISED: 100,
        outcomes.RATE_LIMITED: 100,
    }  # fmt: skip


def test_the_first_of_an_option_counts() -> None:
    message = nd.parse(Nd(options=b"\x01\x01" + MAC + b"\x01\x01" + bytes(6)).frame())
    assert message is not None and message.options == {1: MAC}


def test_nothing_is_longer_than_any_link_takes() -> None:
    servers = [IPv6Address(f"2001:db8::{number}") for number in range(128)]
    subnets = tuple(
        replace(wire6.subnet(SLAAC), id=f"s{number}", dns_servers=tuple(servers[number * 16 :][:16]))
        for number in range(8)
    )
    network = wire6.network(ipv6_subnets=subnets, dns_domain=".".join(["a" * 63] * 3))
    message = advertisement(network, router_advertisement.Told(subnets, True))
    assert len(to_all(message)) <= 14 + 1280
