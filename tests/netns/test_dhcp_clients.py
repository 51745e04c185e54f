"""DHCP on real Open vSwitch: real clients get and renew their leases, and raw frames try what these do not do."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from controller.client import Object
from etc.lab.lab import Lab
from etc.lab.processes import in_parallel, wait_until
from etc.lab.vm import Vm
from flows.rules import Rule
from tests.netns import frames
from tests.netns.cloud import SHORT_LEASE
from tests.netns.frames import BROADCAST, GATEWAY, Asked, Tap, client_message, is_dhcp, mac_of, sound
from tests.netns.hostile import discover_until_answered
from tests.unit.packet_in import wire
from tests.unit.packet_in.wire import Reply

CLIENTS = ("udhcpc", "dhcpcd", "dhclient", "networkd")
ROUTES = [
    {"destination": "192.168.0.0/16", "next_hop": "10.40.0.7"},
    {"destination": "192.0.2.8/29", "next_hop": "10.40.0.8"},
]
OPTIONS: Object = {
    "name": "options", "kind": "vlan", "segment": 140, "mtu": 1442, "lease_time": 3600, "dns_domain": "cloud.example",
    "ntp_servers": ["10.40.0.2", "10.40.0.3"],
    "subnets": [{"cidr": "10.40.0.0/24", "dns_servers": ["10.40.0.5", "9.9.9.9"], "host_routes": ROUTES,
                 "allocation_ranges": [{"first": "10.40.0.20", "last": "10.40.0.99"}]}],
    "dhcp_options": [
        {"code": 66, "value": "boot.cloud.example"}, {"code": 67, "value": "pxelinux.0"},
        {"code": 119, "value": "cloud.example,lab.example"}, {"code": 150, "value": "10.40.0.6"},
    ],
}  # fmt: skip


def ip(*addresses: str) -> bytes:
    return b"".join(IPv4Address(address).packed for address in addresses)


@dataclass
class Cloud:
    lab: Lab
    networks: dict[str, Object]
    clients: dict[str, Vm]
    taps: dict[str, Tap]
    wires: list[Tap]

    def vm(self, name: str, network: str, node: int = 0, **fields: object) -> tuple[Vm, Tap]:
        """A VM without a DHCP client, whose port has its flows, and its tap."""
        vm = self.lab.create_vm(name, self.lab.nodes[node], self.networks[network]["id"], client=None, **fields)
        wait_until(lambda: self.lab.client.get_port(vm.port["id"])["status"] == "active", 20, f"{name} is active")
        tap = self.taps[name] = Tap(vm.namespace)
        return vm, tap

    def leases(self) -> dict[str, tuple[IPv4Address, str, float, float]]:
        """By port id: address, state, when it was written and when it ends."""
        with sqlite3.connect(f"file:{self.lab.control.directory}/trunkline.db?mode=ro", uri=True) as database:
            rows = database.execute("select port_id, address, state, updated_at, expires_at from leases")
            return {port: (IPv4Address(address), state, at, end) for port, address, state, at, end in rows}

    def wait_lease(self, vm: Vm, state: str) -> tuple[IPv4Address, str, float, float]:
        def found() -> tuple[IPv4Address, str, float, float] | None:
            lease = self.leases().get(vm.port["id"])
            return lease if lease and lease[1] == state else None

        return wait_until(found, 20, lambda: f"lease of {vm.name} {state}: {self.leases().get(vm.port['id'])}")


@pytest.fixture(scope="module")
def cloud(make_lab: Callable[..., Lab]) -> Iterator[Cloud]:
    """All four clients run from the beginning, so that they wait for their renewals at the same time."""
    lab = make_lab(nodes=2)
    wanted: tuple[Object, ...] = (
        {"name": "leases", "kind": "flat", "lease_time": SHORT_LEASE, "subnets": [{"cidr": "10.50.0.0/24"}]},
        {"name": "silent", "kind": "vlan", "segment": 160, "dhcp": False, "subnets": [{"cidr": "10.60.0.0/24"}]},
        OPTIONS,
    )
    networks = {}
    for fields in wanted:
        made = lab.client.create_network({"project_id": "p", "physical_network": "physnet1", **fields}).object
        assert made
        networks[made["name"]] = made
    with ExitStack() as stack:
        cloud = Cloud(lab, networks, {}, {}, [])
        for node in lab.nodes:
            cloud.wires.append(Tap(lab.fabric.rack, node.cable("physnet1"), outgoing=True))
        for index, name in enumerate(CLIENTS):
            vm = lab.create_vm(name, lab.nodes[index % 2], networks["leases"]["id"], client=None)
            cloud.clients[name] = vm
            cloud.taps[name] = Tap(vm.namespace, outgoing=True)
        stack.callback(lambda: [tap.close() for tap in (*cloud.taps.values(), *cloud.wires)])
        in_parallel(partial(vm.start_client, name) for name, vm in cloud.clients.items())
        yield cloud


def acknowledged(tap: Tap, address: IPv4Address, after: int = 0) -> list[Asked]:
    """The client's requests to keep its address that were answered by an ACK, but for its first `after` messages."""
    acks = {reply.xid for reply in tap.dhcp() if reply.type == wire.ACK and reply.yiaddr == address}
    return [
        asked for asked in tap.asked()[after:]
        if asked.type == wire.REQUEST and asked.ciaddr == address and asked.xid in acks
    ]  # fmt: skip


# real clients


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_gets_its_lease(cloud: Cloud, client: str) -> None:
    """With one OFFER for each DISCOVER, whose lengths and checksums are right, from the gateway that is to be used."""
    vm, tap = cloud.clients[client], cloud.taps[client]
    configured = vm.wait_configured(30)
    assert configured.address.ip == vm.address and configured.address.network.prefixlen == 24
    discovers = [asked.xid for asked in tap.asked() if asked.type == wire.DISCOVER]
    offers = [reply for reply in tap.dhcp() if reply.type == wire.OFFER]
    assert discovers and sorted(offer.xid for offer in offers) == sorted(discovers)
    assert {(offer.source, offer.eth_source) for offer in offers} == {(configured.router, GATEWAY)}
    assert vm.ping(configured.router).answered
    address, state, written, ends = cloud.wait_lease(vm, "bound")
    assert address == vm.address and ends - written <= SHORT_LEASE


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_renews_its_lease(cloud: Cloud, client: str) -> None:
    """By unicast to the server, from its own address (RFC 2131, 4.4.5)."""
    vm, tap = cloud.clients[client], cloud.taps[client]
    vm.wait_configured(30)
    if client == "udhcpc":
        vm.renew()
    renewal = wait_until(lambda: acknowledged(tap, vm.address), SHORT_LEASE, "a renewal")[0]
    assert renewal.unicast and renewal.source == vm.address
    assert str(renewal.destination) == str(vm.wait_configured().router)
    answer = next(reply for reply in tap.dhcp() if reply.xid == renewal.xid and reply.ciaddr == vm.address)
    assert (answer.type, answer.eth_destination, answer.destination) == (wire.ACK, mac_of(vm), vm.address)


def test_the_rack_hears_no_dhcp(cloud: Cloud) -> None:
    """Each node answers its own VMs (nova-network C7)."""
    one, other = cloud.clients["udhcpc"], cloud.clients["dhcpcd"]
    for vm in (one, other):
        vm.wait_configured(30)
    assert one.ping(other.address).answered
    for rack in cloud.wires:
        assert rack.frames() and not [frame for frame in rack.frames() if is_dhcp(frame)]


def test_renewals_go_on_after_a_crash_of_the_controller(cloud: Cloud) -> None:
    """The same address, and no NAK ever (nova-network C9)."""
    for vm in cloud.clients.values():
        vm.wait_configured(30)
    cloud.clients["udhcpc"].wait_renewed()  # it begins from nothing where the controller is away for 3 s of a renewal
    cloud.lab.control.restart(kill=True)
    before = {name: len(cloud.taps[name].asked()) for name in CLIENTS}
    cloud.lab.wait_connected()
    cloud.clients["udhcpc"].wait_renewed()
    for name, vm in cloud.clients.items():
        tap = cloud.taps[name]
        wait_until(lambda tap=tap, vm=vm, name=name: acknowledged(tap, vm.address, before[name]), SHORT_LEASE, name)
        since = {asked.type for asked in tap.asked()[before[name] :]}
        assert since == {wire.REQUEST}, name
        assert wire.NAK not in {reply.type for reply in tap.dhcp()}
        configured = vm.configured()
        assert configured and configured.address.ip == vm.address


# options


EXPECTED: dict[int, bytes] = {
    1: ip("255.255.255.0"), 6: ip("10.40.0.5", "9.9.9.9"), 12: b"web1", 15: b"cloud.example",
    26: struct.pack("!H", 1442), 28: ip("10.40.0.255"), 42: ip("10.40.0.2", "10.40.0.3"),
    51: struct.pack("!I", 3600), 58: struct.pack("!I", 1800), 59: struct.pack("!I", 3150),
    66: b"boot.cloud.example", 67: b"pxelinux.0",
    119: b"\x05cloud\x07example\0\x03lab\x07example\0", 150: ip("10.40.0.6"),
}  # fmt: skip


def lease(vm: Vm, tap: Tap, *codes: int) -> Reply:
    """DISCOVER to ACK, asking for these options; the ACK."""
    options = ((55, bytes(codes)),) if codes else ()
    discover_until_answered(vm, tap)
    message = client_message(vm, wire.DISCOVER, xid=0x1000 + len(tap.frames()), options=options)
    offer = tap.ask(message)
    assert offer.type == wire.OFFER
    chosen = ((50, vm.address.packed), (54, offer.option(54)), *options)
    ack = tap.ask(client_message(vm, wire.REQUEST, xid=message.xid + 1, options=chosen))
    assert (ack.type, ack.yiaddr) == (wire.ACK, vm.address)
    assert offer.options[1:] == ack.options[1:]
    return ack


def test_options_of_the_network(cloud: Cloud) -> None:
    vm, tap = cloud.vm("web1", "options")
    asked = (*reversed(EXPECTED), 3, 54, 121)
    ack = lease(vm, tap, *asked)
    assert {code: ack.option(code) for code in EXPECTED} == EXPECTED
    router = ack.option(3)
    assert ack.option(54) == router == ack.source.packed and ack.source in IPv4Network("10.40.0.0/24")
    assert ack.option(121) == (
        b"\x10\xc0\xa8" + ip("10.40.0.7") + b"\x1d" + ip("192.0.2.8") + ip("10.40.0.8") + b"\0" + router
    )
    # in the order asked, but for those of the protocol itself
    order = [code for code in ack.codes if code not in (1, 3, 51, 53, 54)]
    assert order == [code for code in asked if code in order]
    # without a list: everything
    assert set(EXPECTED) | {3, 54, 121} <= set(lease(vm, tap).codes)


def test_options_of_a_port_win(cloud: Cloud) -> None:
    own = {66: "10.40.0.9", 67: "own.efi", 26: "1300", 42: "10.40.0.4"}
    options: list[Object] = [{"code": code, "value": value} for code, value in own.items()]
    options += [{"code": 224, "type": "hex", "value": "0102ff"}, {"code": 3, "value": "10.40.0.254"}]
    vm, tap = cloud.vm("own", "options", 1, dhcp_options=options, hostname="own-name")
    ack = lease(vm, tap, 3, 6, 12, 26, 42, 66, 67, 224)
    assert {code: ack.option(code) for code in ack.codes if code in (*own, 3, 6, 12, 224)} == {
        3: ip("10.40.0.254"), 6: EXPECTED[6], 12: b"own-name", 26: struct.pack("!H", 1300), 42: ip("10.40.0.4"),
        66: b"10.40.0.9", 67: b"own.efi", 224: b"\x01\x02\xff",
    }  # fmt: skip
    assert (ack.siaddr, ack.file) == (IPv4Address("10.40.0.9"), b"own.efi")  # for network boot from ROM


def test_options_as_a_client_understands_them(cloud: Cloud) -> None:
    vm, _ = cloud.vm("reader", "options")
    vm.start_client()
    configured = vm.wait_configured()
    got = vm.lease()
    assert configured.mtu == 1442 and configured.dns_servers == (IPv4Address("10.40.0.5"), IPv4Address("9.9.9.9"))
    expected = {
        "ip": str(vm.address), "subnet": "255.255.255.0", "mask": "24", "broadcast": "10.40.0.255", "mtu": "1442",
        "dns": "10.40.0.5 9.9.9.9", "domain": "cloud.example", "search": "cloud.example lab.example",
        "ntpsrv": "10.40.0.2 10.40.0.3", "tftp": "boot.cloud.example", "bootfile": "pxelinux.0", "lease": "3600",
        "serverid": got["router"], "hostname": "reader",
    }  # fmt: skip
    assert {name: got.get(name) for name in expected} == expected
    assert got["staticroutes"].startswith("192.168.0.0/16 10.40.0.7 192.0.2.8/29 10.40.0.8 0.0.0.0/0")


def test_options_of_a_port_as_a_client_understands_them(cloud: Cloud) -> None:
    """Free ones, each in the place of the network's (nova-network C15)."""
    routes = "10c0a8" + ip("10.40.0.9").hex() + "00" + ip("10.40.0.9").hex()
    own = {26: "1400", 42: "10.40.0.4", 66: "10.40.0.9", 67: "own.efi", 119: "own.example,b.example", 121: routes}
    options: list[Object] = [{"code": code, "value": value} for code, value in own.items()]
    vm, _ = cloud.vm("ownreader", "options", 1, dhcp_options=options)
    vm.start_client()
    assert vm.wait_configured().mtu == 1400
    got = vm.lease()
    expected = {
        "mtu": "1400", "ntpsrv": "10.40.0.4", "tftp": "10.40.0.9", "bootfile": "own.efi", "siaddr": "10.40.0.9",
        "boot_file": "own.efi", "search": "own.example b.example",
        "staticroutes": "192.168.0.0/16 10.40.0.9 0.0.0.0/0 10.40.0.9",
    }  # fmt: skip
    assert {name: got.get(name, "").strip() for name in expected} == expected


def test_a_change_is_in_the_next_renewal(cloud: Cloud) -> None:
    vm, tap = cloud.vm("changed", "options", 1)
    ack = lease(vm, tap, 51, 66)
    written = cloud.lab.client.update_network(
        cloud.networks["options"]["id"], {"lease_time": 7200, "dhcp_options": [{"code": 66, "value": "new.example"}]}
    )
    cloud.lab.confirm(written.revision)
    renewed = tap.ask(client_message(
        vm, wire.REQUEST, xid=9, ciaddr=vm.address, source=vm.address, destination=ack.source,
        options=((55, bytes((51, 66))),),
    ))  # fmt: skip
    assert (renewed.type, renewed.option(51), renewed.option(66)) == (wire.ACK, struct.pack("!I", 7200), b"new.example")


# what clients seldom say


@pytest.fixture(scope="module")
def raw(cloud: Cloud) -> tuple[Vm, Tap]:
    return cloud.vm("raw", "leases", 1)


def test_a_wrong_address_after_a_reboot_is_refused(raw: tuple[Vm, Tap]) -> None:
    """INIT-REBOOT: a NAK for everybody, as the client has no address (RFC 2131, 4.3.2); the right one gets its ACK."""
    vm, tap = raw
    for xid, wrong in enumerate(("10.50.0.250", "10.60.0.9", "192.168.1.5"), 1):
        nak = tap.ask(client_message(vm, wire.REQUEST, xid=xid, options=((50, ip(wrong)),)))
        assert (nak.type, nak.yiaddr, nak.destination) == (wire.NAK, wire.ZERO, wire.EVERYBODY)
        assert nak.eth_destination == BROADCAST and nak.option(54) == nak.source.packed and 51 not in nak.codes
    ack = tap.ask(client_message(vm, wire.REQUEST, xid=10, options=((50, vm.address.packed),)))
    assert (ack.type, ack.yiaddr) == (wire.ACK, vm.address)


def test_a_renewal_of_a_wrong_address_is_refused(raw: tuple[Vm, Tap]) -> None:
    vm, tap = raw
    nak = tap.ask(client_message(vm, wire.REQUEST, xid=20, ciaddr=IPv4Address("10.50.0.250")))
    assert nak.type == wire.NAK


def test_rebinding_is_answered_by_any_server(cloud: Cloud, raw: tuple[Vm, Tap]) -> None:
    """At T2 the client asks everybody; so does one that comes from another node, whose server id it still has."""
    vm, tap = raw
    message = client_message(vm, wire.REQUEST, xid=30, ciaddr=vm.address, source=vm.address)
    assert tap.ask(message).type == wire.ACK
    elsewhere = cloud.clients["udhcpc"].wait_configured().router
    moved = message.change(xid=31, destination=elsewhere)
    assert tap.ask(moved).type == wire.ACK


def test_the_broadcast_flag_is_honoured(raw: tuple[Vm, Tap]) -> None:
    vm, tap = raw
    for flags, expected in ((0x8000, (BROADCAST, wire.EVERYBODY)), (0, (mac_of(vm), vm.address))):
        offer = tap.ask(client_message(vm, wire.DISCOVER, xid=40 + flags, flags=flags))
        assert (offer.eth_destination, offer.destination) == expected and offer.flags == flags


def test_inform_gets_options_and_no_lease(raw: tuple[Vm, Tap]) -> None:
    vm, tap = raw
    ack = tap.ask(
        client_message(
            vm,
            wire.INFORM,
            xid=50,
            ciaddr=vm.address,
            source=vm.address,
            options=((55, bytes((1, 3, 15, 51, 58, 59))),),
        )
    )
    assert (ack.type, ack.yiaddr, ack.ciaddr, ack.destination) == (wire.ACK, wire.ZERO, vm.address, vm.address)
    assert {1, 3} <= set(ack.codes) and not {51, 58, 59} & set(ack.codes)


def test_a_request_for_another_server_is_not_answered(raw: tuple[Vm, Tap]) -> None:
    vm, tap = raw
    chosen = ((50, vm.address.packed), (54, ip("10.50.0.254")))
    tap.send(sound(client_message(vm, wire.REQUEST, xid=60, options=chosen).frame()))
    assert tap.ask(client_message(vm, wire.DISCOVER, xid=61)).type == wire.OFFER  # answered in the order of arrival
    assert tap.dhcp(60) == []


@pytest.mark.parametrize("kind", ["declined", "released"])
def test_what_is_given_back_is_written_down(cloud: Cloud, raw: tuple[Vm, Tap], kind: str) -> None:
    vm, tap = raw
    ack = lease(vm, tap)
    cloud.wait_lease(vm, "bound")
    fields: dict[str, Any] = {
        "declined": {"options": ((50, vm.address.packed), (54, ack.option(54)))},
        "released": {
            "ciaddr": vm.address,
            "source": vm.address,
            "destination": ack.source,
            "options": ((54, ack.option(54)),),
        },
    }[kind]
    number = {"declined": wire.DECLINE, "released": wire.RELEASE}[kind]
    tap.send(sound(client_message(vm, number, xid=70, **fields).frame()))
    address, _, written, ends = cloud.wait_lease(vm, kind)
    assert address == vm.address and ends <= written
    assert tap.dhcp(70) == []  # neither is ever answered
    assert lease(vm, tap).yiaddr == vm.address  # the port's own address, whatever became of the lease
    cloud.wait_lease(vm, "bound")


def test_leases_are_written_in_batches(cloud: Cloud) -> None:
    """All that came within a second has been written at one time, and the packets did not wait for it."""
    made = [cloud.vm(f"b{number}", "leases", number % 2) for number in range(6)]
    for vm, tap in made:
        discover_until_answered(vm, tap)
    for vm, tap in made:
        tap.send(sound(client_message(vm, wire.REQUEST, xid=80, options=((50, vm.address.packed),)).frame()))
    for _, tap in made:
        assert wait_until(lambda tap=tap: tap.dhcp(80), 20, "an ACK")[0].type == wire.ACK
    written = [cloud.wait_lease(vm, "bound")[2] for vm, _ in made]
    assert len(set(written)) <= 2


def test_a_network_without_dhcp_is_silent(cloud: Cloud) -> None:
    """The switch hands nothing up, and what a VM says goes to its network like anything else."""
    (first, tap), (second, other) = cloud.vm("mute", "silent"), cloud.vm("deaf", "silent", 1)
    for vm in (first, second):
        vm.set_address(f"{vm.address}/24")
    for xid, kind in enumerate((wire.DISCOVER, wire.REQUEST, wire.INFORM), 90):
        message = client_message(first, kind, xid=xid, options=((50, first.address.packed),))
        tap.send(sound(message.frame()))
    other.wait_for(lambda frame: is_dhcp(frame, 68, 67), what="the DISCOVER on the other node")
    assert first.ping(second.address).answered
    assert tap.dhcp() == []
    for vm in (first, second):
        assert (Rule.PUNT_DHCP, vm.port["key"]) not in frames.packets(vm.node)
    assert (Rule.PUNT_DHCP, cloud.clients["udhcpc"].port["key"]) in frames.packets(first.node)


def test_c17_renewals_are_by_unicast_for_ever(cloud: Cloud) -> None:
    """Ten of udhcpc, which renews whenever it is told to, and three more of each other client in its own time."""
    for vm in cloud.clients.values():
        vm.wait_configured(30)
    before = {name: len(cloud.taps[name].asked()) for name in CLIENTS}
    vm, tap = cloud.clients["udhcpc"], cloud.taps["udhcpc"]
    for _ in range(10):
        vm.wait_renewed()  # a client that is told again before that begins from nothing
    for name, vm in cloud.clients.items():
        tap, enough = cloud.taps[name], 10 if name == "udhcpc" else 3
        wait_until(
            lambda vm=vm, tap=tap, name=name, enough=enough: len(acknowledged(tap, vm.address, before[name])) >= enough,
            4 * SHORT_LEASE,
            name,
        )
        asked = tap.asked()[before[name] :]
        assert {one.type for one in asked} == {wire.REQUEST}, name
        # udhcpc does not hear what comes before the socket that it asks with is closed, and then asks everybody
        by_unicast = [one for one in asked if one.unicast]
        assert len(by_unicast) >= enough if name == "udhcpc" else by_unicast == asked, name
        assert wire.NAK not in {reply.type for reply in tap.dhcp()}, name
