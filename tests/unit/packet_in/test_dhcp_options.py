"""Which options a client gets, with what in them, and in which order."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from controller.packet_in import dhcp_options as option
from controller.packet_in.dhcp import answer
from flows.model import DhcpOption, GatewayMode, HostRoute, Network, Port
from flows.snapshot import Snapshot
from tests.unit.packet_in import model
from tests.unit.packet_in.wire import Message, Reply, ip, take_apart

ROUTES = (
    HostRoute(IPv4Network("172.16.0.0/12"), IPv4Address("10.0.0.9")),
    HostRoute(IPv4Network("192.168.7.0/24"), IPv4Address("10.0.0.8")),
    HostRoute(IPv4Network("198.51.100.7/32"), IPv4Address("10.0.0.7")),
)
ROUTES_CODED = bytes.fromhex("0cac10 0a000009 18c0a807 0a000008 20c6336407 0a000007".replace(" ", ""))
ALL = bytes((1, 3, 6, 12, 15, 26, 28, 42, 51, 54, 58, 59, 66, 67, 119, 121))


def offer(held: Snapshot, asked: bytes | None = None, mode: GatewayMode = GatewayMode.PER_HOST, size: int = 0) -> Reply:
    options = () if asked is None else ((55, asked),)
    message = Message(options=(*options, (57, size.to_bytes(2, "big"))) if size else options)
    return take_apart(answer(message.frame(), held.ports[f"port-{mode}"], held).frame)


def with_network(mode: GatewayMode = GatewayMode.PER_HOST, **fields: object) -> Snapshot:
    return model.cloud(networks=(model.network(mode, **fields),))


def full_network() -> Network:
    subnet = model.subnet(host_routes=ROUTES, dns_servers=(IPv4Address("9.9.9.9"), IPv4Address("1.1.1.1")))
    free = (DhcpOption(42, ip("10.0.0.123")), DhcpOption(66, b"10.0.0.66"), DhcpOption(67, b"pxelinux.0"))
    return model.network(mtu=1400, dns_domain="cloud.example", lease_time=1000, subnets=(subnet,), dhcp_options=free)


def test_every_option() -> None:
    reply = offer(model.cloud(networks=(full_network(),)), ALL)
    expected = {
        1: ip("255.255.255.0"),
        3: ip("10.0.0.2"),
        6: ip("9.9.9.9") + ip("1.1.1.1"),
        12: b"web",
        15: b"cloud.example",
        26: (1400).to_bytes(2, "big"),
        28: ip("10.0.0.255"),
        42: ip("10.0.0.123"),
        51: (1000).to_bytes(4, "big"),
        53: b"\x02",
        54: ip("10.0.0.2"),
        58: (500).to_bytes(4, "big"),
        59: (875).to_bytes(4, "big"),
        66: b"10.0.0.66",
        67: b"pxelinux.0",
        119: b"\x05cloud\x07example\x00",
        121: ROUTES_CODED + b"\x00" + ip("10.0.0.2"),
    }
    assert dict(reply.options) == expected
    assert reply.codes == [53, 54, 51, *(code for code in ALL if code not in (51, 54))]
    assert reply.siaddr == IPv4Address("10.0.0.66") and reply.file == b"pxelinux.0"


@pytest.mark.parametrize(
    ("asked", "codes"),
    [
        (b"", [58, 59]),
        (bytes((28, 26, 12)), [28, 26, 12, 58, 59]),
        (bytes((59, 12, 58)), [59, 12, 58]),
        (bytes((12, 12, 53, 54, 51, 0, 255, 52, 82, 12)), [12, 58, 59]),
        (bytes((3, 12, 1)), [1, 3, 12, 58, 59]),
        (bytes((12, 3, 28)), [12, 3, 28, 58, 59]),
        (bytes((6, 15, 42, 119, 121, 200)), [58, 59]),
    ],
)
def test_order_is_the_clients(asked: bytes, codes: list[int]) -> None:
    assert offer(model.cloud(), asked).codes == [53, 54, 51, *codes]


def test_a_client_that_does_not_say_gets_all() -> None:
    assert offer(model.cloud()).codes == [53, 54, 51, 1, 3, 12, 26, 28, 58, 59]


def test_port_wins_over_network_wins_over_defaults() -> None:
    network = model.network(dhcp_options=(DhcpOption(26, b"\x05\x00"), DhcpOption(200, b"n"), DhcpOption(201, b"n")))
    port = model.port(dhcp_options=(DhcpOption(200, b"p"), DhcpOption(12, b"other")))
    reply = offer(model.cloud((network,), (port,)), bytes((26, 200, 201, 12)))
    assert [reply.option(code) for code in (26, 200, 201, 12)] == [b"\x05\x00", b"p", b"n", b"other"]


@pytest.mark.parametrize("code", option.RESERVED)
def test_free_options_cannot_take_the_protocols_place(code: int) -> None:
    held = model.cloud(ports=(model.port(dhcp_options=(DhcpOption(code, b"\x09\x09\x09\x09"),)),))
    assert offer(held, bytes((code, 12))).options == offer(model.cloud(), bytes((code, 12))).options


def test_an_empty_free_option_takes_the_option_away() -> None:
    """A second interface without a default route, as use_single_default_gateway of nova-network."""
    network = full_network()
    port = model.port(dhcp_options=(DhcpOption(option.ROUTER, b""),))
    reply = offer(model.cloud((network,), (port,)), ALL)
    assert 3 not in reply.codes and reply.option(121) == ROUTES_CODED


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("web", b"web"),
        ("", b""),
        ("x" * 63, b"x" * 63),
        ("ab" + "c" * 61 + "z" * 17, b"ab-" + b"c" * 43 + b"z" * 17),
        ("web." + "sub." * 20 + "example", b"web"),
        ("ab" + "c" * 61 + "z" * 17 + ".example", b"ab-" + b"c" * 43 + b"z" * 17),
        ("h\u00f6st", b""),
    ],
)
def test_host_name(name: str, expected: bytes) -> None:
    held = model.cloud(ports=(model.port(hostname=name),))
    assert offer(held, b"\x0c").option(12) == expected
    assert len(expected) <= 63


@pytest.mark.parametrize(
    "domain", ["", "..", "a..b", "x" * 64 + ".example", "m\u00fcnchen.example", ("y" * 60 + ".") * 5]
)
def test_a_domain_that_cannot_be_coded_is_left_out(domain: str) -> None:
    assert 119 not in offer(with_network(dns_domain=domain), ALL, size=1500).codes


def test_domain_with_final_dot() -> None:
    assert offer(with_network(dns_domain="a.b."), ALL).option(119) == b"\x01a\x01b\x00"


METADATA_BY = (HostRoute(IPv4Network("169.254.0.0/16"), IPv4Address("10.0.0.9")),)
"""The operator's own way to the metadata address, where the nodes are no router."""


@pytest.mark.parametrize(
    ("mode", "routes", "coded"),
    [
        (GatewayMode.SHARED, ROUTES[:1], "0cac10 0a000009 00 0a000001"),
        (GatewayMode.NONE, ROUTES[:1], "0cac10 0a000009 1ea9fea9fc 00000000"),
        (GatewayMode.NONE, (), "1ea9fea9fc 00000000"),
        (GatewayMode.EXTERNAL, (), "1ea9fea9fc 00000000 00 0a000001"),
        (GatewayMode.NONE, METADATA_BY, "10a9fe 0a000009"),
        (GatewayMode.SHARED, (HostRoute(IPv4Network("0.0.0.0/0"), IPv4Address("10.0.0.9")),), "00 0a000009"),
        (GatewayMode.SHARED, (), ""),
    ],
)
def test_classless_routes(mode: GatewayMode, routes: tuple[HostRoute, ...], coded: str) -> None:
    held = with_network(mode, subnets=(model.subnet(mode, host_routes=routes),))
    assert offer(held, ALL, mode).option(121) == bytes.fromhex(coded.replace(" ", ""))


def test_a_machine_that_is_no_vm_gets_no_route_to_what_nodes_offer_vms() -> None:
    held = model.cloud(ports=(model.port(GatewayMode.NONE, binding=None),))
    port, network = held.ports["port-none"], held.networks["net-none"]
    assert option.CLASSLESS_ROUTES not in option.payloads(port, network, network.subnets[0], None)


def test_lease_without_end_has_no_renewal() -> None:
    reply = offer(with_network(lease_time=2**40), ALL)
    assert reply.option(51) == b"\xff" * 4 and not {58, 59} & set(reply.codes)


def test_small_subnets_have_no_broadcast_address() -> None:
    subnet = model.subnet(GatewayMode.SHARED, cidr=IPv4Network("10.0.0.4/31"))
    assert 28 not in offer(with_network(GatewayMode.SHARED, subnets=(subnet,)), ALL, GatewayMode.SHARED).codes


def large_port() -> Port:
    return replace(model.port(), dhcp_options=(DhcpOption(200, b"A" * 600), DhcpOption(201, b"B" * 20)))


def test_long_options_are_sent_in_pieces() -> None:
    reply = offer(model.cloud(ports=(large_port(),)), bytes((200, 201)), size=1500)
    assert [len(value) for code, value in reply.options if code == 200] == [255, 255, 90]
    assert reply.option(200) == b"A" * 600


@pytest.mark.parametrize("size", [0, 1, 576, 800, 889, 912, 1500, 65535])
def test_maximum_message_size_is_kept(size: int) -> None:
    held = model.cloud(ports=(large_port(),))
    reply = offer(held, bytes((200, 201)), size=size)
    assert reply.datagram_size <= max(size, 576)
    assert (200 in reply.codes) == (size >= 912)
    assert 201 in reply.codes  # what fits is sent, also after what does not


def test_a_reply_is_never_longer_than_the_networks_mtu() -> None:
    held = model.cloud((model.network(mtu=880),), (large_port(),))
    assert 200 not in offer(held, bytes((200, 201)), size=65535).codes
    exact = replace(large_port(), dhcp_options=(DhcpOption(200, b"A" * 255), DhcpOption(201, b"B" * 21)))
    full = offer(model.cloud(ports=(exact,)), bytes((200, 201)))
    assert full.datagram_size == 576 and full.codes == [53, 54, 51, 200, 201, 58, 59]


def test_boot_file_too_long_for_the_header_is_still_an_option() -> None:
    held = model.cloud(ports=(model.port(dhcp_options=(DhcpOption(66, b"tftp.example"), DhcpOption(67, b"f" * 128))),))
    reply = offer(held, bytes((66, 67)))
    assert reply.file == b"" and reply.siaddr == IPv4Address("0.0.0.0") and reply.option(67) == b"f" * 128


def test_routes_in_microsofts_words_are_the_same() -> None:
    network = full_network()
    reply = offer(model.cloud((network,)), bytes((249, 121)))
    assert reply.codes == [53, 54, 51, 249, 121, 58, 59]
    assert reply.option(249) == reply.option(121) == ROUTES_CODED + b"\0" + ip("10.0.0.2")
    assert 249 not in offer(model.cloud((network,))).codes  # who does not say what it wants gets them once
    own = model.port(dhcp_options=(DhcpOption(249, b"\0" + ip("10.0.0.9")),))
    assert offer(model.cloud((network,), (own,)), b"\xf9").option(249) == b"\0" + ip("10.0.0.9")
