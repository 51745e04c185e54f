"""DHCP that relays hand on: who is answered, what, and where to (RFC 2131, 4.1; RFC 3046; RFC 3527)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from controller.packet_in import outcomes
from controller.packet_in.dhcp import Answer, DhcpServer
from controller.packet_in.dhcp_relay import RelayedMachines, answer
from controller.packet_in.leases import LeaseState
from flows.model import FixedIp, GatewayMode, Network, NetworkChange, Port, PortChange, SnatAddress, Subnet
from flows.pipeline import node_mac
from flows.snapshot import Snapshot
from tests.unit.packet_in import model, wire
from tests.unit.packet_in.wire import Message, ip, take_apart

RELAY = IPv4Address("203.0.113.1")
GIADDR = IPv4Address("10.99.0.1")
ADDRESS = IPv4Address("10.99.0.20")
ROUTER_MAC = b"\x02\0\0\0\0\xfe"
INFORMATION = b"\x01\x04\0\0\0\x07\x02\x06switch"
RELAYED = Message(
    giaddr=GIADDR, source=RELAY, destination=model.SNAT, ports=(67, 67), eth_source=ROUTER_MAC,
    options=((55, bytes((1, 3, 6))), (82, INFORMATION)),
)  # fmt: skip
REQUEST = RELAYED.change(type=wire.REQUEST)


def machines(**fields: object) -> Network:
    subnet = Subnet("s-machines", IPv4Network("10.99.0.0/24"), GIADDR)
    values: dict[str, object] = {
        "id": "net-machines", "key": 60, "physical_network": "elsewhere", "gateway_mode": GatewayMode.EXTERNAL,
        "subnets": (subnet,), "dhcp_relays": (RELAY,),
    }  # fmt: skip
    return replace(model.network(), **{**values, **fields})  # type: ignore[arg-type]


def machine(**fields: object) -> Port:
    values: dict[str, object] = {
        "id": "port-machine", "key": 60, "network_id": "net-machines", "binding": None,
        "fixed_ips": (FixedIp("s-machines", ADDRESS),), "hostname": "blade1",
    }  # fmt: skip
    return replace(model.port(), **{**values, **fields})  # type: ignore[arg-type]


def world(*networks: Network, ports: tuple[Port, ...] = ()) -> Snapshot:
    return model.cloud(networks or (machines(),), ports or (machine(),))


def ask(message: Message, held: Snapshot | None = None, server: DhcpServer | None = None) -> Answer:
    held = held or world()
    external, node = held.networks["net-out"], held.nodes["n1"]
    return answer(message.frame(), external, node, held, server or DhcpServer(), RelayedMachines())[0]


def test_an_offer_goes_to_the_relay() -> None:
    reply = take_apart(ask(RELAYED).frame)
    assert reply.type == wire.OFFER and reply.yiaddr == ADDRESS and reply.giaddr == GIADDR
    assert (reply.source, reply.destination, reply.ports) == (model.SNAT, GIADDR, (67, 67))
    assert (reply.eth_destination, int.from_bytes(reply.eth_source)) == (ROUTER_MAC, node_mac(1))
    assert reply.option(54) == model.SNAT.packed and reply.option(3) == GIADDR.packed
    assert reply.options[-1] == (82, INFORMATION)  # as it is, and last


def test_request_is_acknowledged_and_leased() -> None:
    chosen = REQUEST.change(options=((50, ADDRESS.packed), (54, model.SNAT.packed), (82, INFORMATION)))
    answered = ask(chosen)
    assert answered.outcome == outcomes.DHCP_ACK and answered.lease == (ADDRESS, LeaseState.BOUND, 86400)
    assert take_apart(answered.frame).options[-1] == (82, INFORMATION)


def test_a_refusal_is_to_be_broadcast_by_the_relay() -> None:
    reply = take_apart(ask(REQUEST.change(options=((50, ip("10.99.0.77")), (82, INFORMATION)))).frame)
    assert reply.type == wire.NAK and reply.flags == 0x8000 and reply.destination == GIADDR
    assert reply.codes == [53, 54, 56, 82]


def test_without_option_82_there_is_none() -> None:
    assert 82 not in take_apart(ask(RELAYED.change(options=())).frame).codes


def test_a_tag_goes_on_where_the_outside_has_one() -> None:
    held = world()
    tagged = replace(held.networks["net-out"], segment=7)
    frame = ask(RELAYED, held.apply(2, [NetworkChange("net-out", tagged)])).frame
    assert frame is not None and frame[12:18] == b"\x81\0\0\x07\x08\0"


def test_a_machine_renews_by_itself() -> None:
    """By unicast to the server, from its own address (RFC 2131, 4.4.5): so it is answered."""
    renewal = Message(
        type=wire.REQUEST, ciaddr=ADDRESS, source=ADDRESS, destination=model.SNAT, eth_source=ROUTER_MAC
    )  # fmt: skip
    answered = ask(renewal)
    reply = take_apart(answered.frame)
    assert answered.outcome == outcomes.DHCP_ACK and reply.ports == (67, 68)
    assert (reply.destination, reply.eth_destination) == (ADDRESS, ROUTER_MAC)
    released = ask(renewal.change(type=wire.RELEASE))
    assert released.frame is None and released.lease == (ADDRESS, LeaseState.RELEASED, 0)
    for wrong in (
        {"source": IPv4Address("10.99.0.21")},
        {"ciaddr": IPv4Address("10.99.0.21")},
        {"type": 1, "ciaddr": wire.ZERO},
    ):
        assert ask(renewal.change(**wrong)).outcome in (outcomes.SPOOFED_SOURCE, outcomes.DHCP_NO_NETWORK)


def link(address: str) -> tuple[int, bytes]:
    """RFC 3527."""
    return 82, b"\x05\x04" + ip(address)


@pytest.mark.parametrize(
    ("options", "giaddr", "expected"),
    [
        ((), "10.98.0.1", "10.98.0.20"),
        (((118, ip("10.98.0.0")),), "10.99.0.1", "10.98.0.20"),
        ((link("10.98.0.0"),), "203.0.113.1", "10.98.0.20"),
        ((link("10.99.0.0"),), "203.0.113.1", "10.99.0.20"),
        ((link("10.99.0.0"), (118, ip("10.98.0.0"))), "203.0.113.1", "10.99.0.20"),
    ],
)
def test_the_relay_says_which_network(options: tuple[wire.Option, ...], giaddr: str, expected: str) -> None:
    other = Subnet("s-2", IPv4Network("10.98.0.0/24"), IPv4Address("10.98.0.1"))
    networks = (
        machines(dhcp_relays=(RELAY, IPv4Address("10.99.0.1"))),
        machines(id="net-2", key=61, segment=161, subnets=(other,), dhcp_relays=(RELAY, IPv4Address("10.99.0.1"))),
    )
    second = machine(id="port-2", key=61, network_id="net-2", fixed_ips=(FixedIp("s-2", IPv4Address("10.98.0.20")),))
    held = world(*networks, ports=(machine(), second))
    reply = take_apart(ask(RELAYED.change(options=options, giaddr=IPv4Address(giaddr)), held).frame)
    assert (str(reply.yiaddr), str(reply.destination)) == (expected, giaddr)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (RELAYED.change(source=IPv4Address("203.0.113.2")), outcomes.DHCP_NO_NETWORK),
        (RELAYED.change(giaddr=IPv4Address("10.0.0.1")), outcomes.DHCP_NO_NETWORK),
        (RELAYED.change(giaddr=IPv4Address("8.8.8.8"), options=(link("10.99.0.0"),)), outcomes.DHCP_NO_NETWORK),
        (RELAYED.change(chaddr=b"\x02" * 6), outcomes.DHCP_NO_PORT),
        (RELAYED.change(destination=IPv4Address("203.0.113.12")), outcomes.DHCP_OTHER_SERVER),
        (RELAYED.change(options=((82, b"\x01\x09a"),)), outcomes.DHCP_BAD_OPTIONS),
        (RELAYED.change(options=((82, b"\x01"),)), outcomes.DHCP_BAD_OPTIONS),
        (RELAYED.change(options=((82, b"\x05\x03abc"),)), outcomes.DHCP_BAD_OPTIONS),
        (RELAYED.change(options=((118, b"abc"),)), outcomes.DHCP_BAD_OPTIONS),
        (RELAYED.change(tail=b"\x0c\xff"), outcomes.DHCP_BAD_OPTIONS),
        (RELAYED.change(type=None), outcomes.DHCP_BOOTP),
        (RELAYED.change(cookie=bytes(4)), outcomes.DHCP_BOOTP),
        (RELAYED.change(type=wire.OFFER), outcomes.DHCP_BAD_TYPE),
        (RELAYED.change(op=2), outcomes.MALFORMED),
        (RELAYED.change(eth_source=b"\x03" + bytes(5)), outcomes.MALFORMED),
        (RELAYED.change(hlen=16), outcomes.MALFORMED),
        (RELAYED.change(ports=(67, 69)), outcomes.MALFORMED),
    ],
)
def test_refusals_have_a_name(message: Message, expected: str) -> None:
    assert ask(message) == Answer(expected)
    assert expected in outcomes.ALL


def test_a_vm_asks_where_it_is() -> None:
    assert ask(RELAYED, world(ports=(machine(binding=model.port().binding),))) == Answer(outcomes.DHCP_NO_PORT)


@pytest.mark.parametrize("fields", [{"dhcp_relays": ()}, {"dhcp": False}, {"external_network_id": "net-none"}])
def test_only_networks_that_have_relays_here(fields: dict[str, object]) -> None:
    assert ask(RELAYED, world(machines(**fields))) == Answer(outcomes.DHCP_NO_NETWORK)


def test_frames_that_are_cut_anywhere() -> None:
    held, whole = world(), RELAYED.frame()
    external, node = held.networks["net-out"], held.nodes["n1"]
    for size in range(len(whole)):
        found = answer(whole[:size], external, node, held, DhcpServer(), RelayedMachines())[0]
        assert found == Answer(outcomes.MALFORMED)


def test_machines_are_found_after_a_change() -> None:
    held, known = world(), RelayedMachines()
    network, mac = held.networks["net-machines"], bytes.fromhex(model.MAC.replace(":", ""))
    assert known.find(network, mac, held) is held.ports["port-machine"]
    renamed = replace(held.ports["port-machine"], hostname="blade2")
    held = held.apply(2, [PortChange(renamed.id, renamed)])
    assert known.find(network, mac, held) is renamed
    assert known.find(network, mac, held.apply(3, [PortChange(renamed.id, None)])) is None


def test_addresses_of_another_network_of_the_node_are_no_server() -> None:
    held = world()
    node = replace(held.nodes["n1"], snat_addresses=(SnatAddress("net-elsewhere", model.SNAT),))
    found = answer(RELAYED.frame(), held.networks["net-out"], node, held, DhcpServer(), RelayedMachines())[0]
    assert found == Answer(outcomes.DHCP_OTHER_SERVER)
