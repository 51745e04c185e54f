"""How guests come by IPv6 addresses on real Open vSwitch: by the kernel alone, dhcpcd, systemd-networkd, dhclient.

Each has the address that the API says and no other, a default route by the nodes' one gateway address, and name
servers.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv6Address

import pytest

from controller.client import Object
from etc.lab import netns
from etc.lab.lab import Lab
from etc.lab.processes import in_parallel, wait_until
from etc.lab.vm import INTERFACE, Vm
from flows.rules import Rule
from tests.netns import frames
from tests.netns.cloud import SHORT_LEASE, wait_reached
from tests.netns.frames import GATEWAY, Tap
from tests.unit.packet_in import wire6
from tests.unit.packet_in.wire6 import advertised

SERVERS = ("2001:db8:50::53", "2001:db8:50::54")
SUBNETS = {
    "slaac": {"cidr": "2001:db8:51::/64", "dns_servers": list(SERVERS)},
    "dhcpv6-stateless": {"cidr": "2001:db8:52::/64", "dns_servers": list(SERVERS), "gateway": "2001:db8:52::1"},
    "dhcpv6-stateful": {"cidr": "2001:db8:53::/64", "dns_servers": list(SERVERS)},
}
KERNEL = "kernel"
GUESTS = {
    "k": (KERNEL, "slaac"),
    "d": ("dhcpcd6", "slaac"),
    "n": ("networkd6", "slaac"),
    "ds": ("dhcpcd6", "dhcpv6-stateless"),
    "ns": ("networkd6", "dhcpv6-stateless"),
    "df": ("dhcpcd6", "dhcpv6-stateful"),
    "nf": ("networkd6", "dhcpv6-stateful"),
    "cf": ("dhclient6", "dhcpv6-stateful"),
}
BY_DHCP = ("df", "nf", "cf")
ROUTER_ADVERTISEMENT = 134


@dataclass
class Cloud:
    lab: Lab
    networks: dict[str, Object]
    vms: dict[str, Vm]
    taps: dict[str, Tap]
    wires: list[Tap] = field(default_factory=list)


@pytest.fixture(scope="module")
def cloud(make_lab: Callable[..., Lab]) -> Iterator[Cloud]:
    lab = make_lab(nodes=2)
    made = Cloud(lab, {}, {}, {})
    for number, (mode, subnet) in enumerate(SUBNETS.items()):
        written = lab.client.create_network({
            "name": mode, "project_id": "p", "kind": "vlan", "segment": 150 + number, "physical_network": "physnet1",
            "lease_time": SHORT_LEASE, "dns_domain": "cloud.example", "mtu": 1442,
            "subnets": [{"cidr": f"10.5{number}.0.0/24"}, {**subnet, "ipv6_mode": mode}],
        })  # fmt: skip
        assert written.object
        made.networks[mode] = written.object
    for node in lab.nodes:
        made.wires.append(Tap(lab.fabric.rack, node.cable("physnet1"), outgoing=True))

    def make(index: int, name: str) -> None:
        client, mode = GUESTS[name]
        vm = lab.create_vm(name, lab.nodes[index % 2], made.networks[mode]["id"], client=None)
        made.vms[name], made.taps[name] = vm, Tap(vm.namespace, outgoing=True)
        if client != KERNEL:
            vm.start_client(client)

    in_parallel(partial(make, index, name) for index, name in enumerate(GUESTS))
    yield made
    for tap in (*made.taps.values(), *made.wires):
        tap.close()


def is_advertisement(frame: bytes) -> bool:
    return icmpv6_type(frame) == ROUTER_ADVERTISEMENT


def icmpv6_type(frame: bytes) -> int | None:
    """Behind any VLAN tag."""
    offset = 18 if frame[12:14] == b"\x81\x00" else 14
    return frame[offset + 40] if frame[offset - 2 : offset] == b"\x86\xdd" and frame[offset + 6] == 58 else None


def dhcpv6(tap: Tap, to_port: int) -> list[bytes]:
    """What clients have said (547), or heard (546): the messages."""
    found = [f for f in tap.frames() if f[12:14] == b"\x86\xdd" and f[20] == 17 and f[56:58] == to_port.to_bytes(2)]
    return [frame[62:] for frame in found]


@pytest.mark.parametrize("name", GUESTS)
def test_the_address_is_the_one_of_the_api(cloud: Cloud, name: str) -> None:
    """And no other, with the nodes' gateway as default route, which answers."""
    vm = cloud.vms[name]
    configured = vm.wait_ipv6(20)
    assert configured.router == wire6.GATEWAY
    assert vm.ping(f"{wire6.GATEWAY}%{INTERFACE}", count=1, wait=2).answered
    said = [advertised(frame) for frame in cloud.taps[name].frames() if is_advertisement(frame)]
    assert said and {one.option(5)[0][2:] for one in said} == {struct.pack("!I", 1442)}
    mode = GUESTS[name][1]
    assert all(set(one.prefixes) == {SUBNETS[mode]["cidr"]} for one in said)


def test_the_kernel_takes_what_is_advertised(cloud: Cloud) -> None:
    vm = cloud.vms["k"]
    vm.wait_ipv6(20)
    with netns.inside(vm.namespace):
        assert vm.execute("cat", f"/proc/sys/net/ipv6/conf/{INTERFACE}/mtu").strip() == "1442"
        assert vm.execute("cat", f"/proc/sys/net/ipv6/conf/{INTERFACE}/hop_limit").strip() == "64"
    (address,) = (each for each in addresses(vm) if each["scope"] == "global")
    assert 29 * 86400 < address["preferred_life_time"] <= address["valid_life_time"] <= 30 * 86400
    (route,) = netns.query(vm.namespace, "-6", "route", "show", "default")
    assert 65000 < route["expires"] <= 65535


def addresses(vm: Vm) -> list[Object]:
    return [each for part in netns.query(vm.namespace, "-6", "address", "show", "dev", INTERFACE) for each in
            part.get("addr_info", []) if "local" in each]  # fmt: skip


@pytest.mark.parametrize("name", [name for name, (client, _) in GUESTS.items() if client == "dhcpcd6"])
def test_resolv_conf_has_the_servers(cloud: Cloud, name: str) -> None:
    """From the advertisement (RFC 8106) or by DHCPv6."""
    vm = cloud.vms[name]
    wait_until(lambda: set(vm.name_servers()) == set(SERVERS), 20, lambda: f"resolv.conf: {vm.name_servers()}")


@pytest.mark.parametrize("name", [name for name, (client, _) in GUESTS.items() if client == "networkd6"])
def test_networkd_knows_the_servers_and_the_domain(cloud: Cloud, name: str) -> None:
    vm = cloud.vms[name]
    state = vm.directory / "run/systemd/netif/links"

    def known() -> dict[str, str]:
        lines = [line for path in state.glob("*") for line in path.read_text().splitlines()]
        return dict(line.split("=", 1) for line in lines if "=" in line)

    wait_until(lambda: set(known().get("DNS", "").split()) == set(SERVERS), 20, lambda: f"DNS: {known()}")
    assert set(known()["DOMAINS"].split()) == {"cloud.example"}


def test_who_is_told_to_ask_by_dhcpv6_does_so(cloud: Cloud) -> None:
    """For the rest of the configuration where the address is made of the prefix, and nobody where all is advertised."""
    for name, (_, mode) in GUESTS.items():
        cloud.vms[name].wait_ipv6(20)
        if mode == "dhcpv6-stateless":
            wait_until(lambda name=name: dhcpv6(cloud.taps[name], 546), 20, "an answer")
        kinds = {message[0] for message in dhcpv6(cloud.taps[name], 547)}
        if mode == "slaac":
            assert kinds == set()
        elif mode == "dhcpv6-stateless":
            assert kinds == {wire6.INFORMATION}
        else:
            assert wire6.SOLICIT in kinds


def test_leases_can_be_listed(cloud: Cloud) -> None:
    for name in BY_DHCP:
        vm = cloud.vms[name]
        (address,) = vm.ipv6_addresses
        vm.wait_ipv6(20)

        def listed(port: str = vm.port["id"]) -> list[str]:
            return [lease["address"] for lease in cloud.lab.client.list_leases(port_id=port, state="bound")]

        wait_until(lambda listed=listed, address=address: str(address) in listed(), 20, "a lease")


def test_vms_reach_each_other(cloud: Cloud) -> None:
    """On different nodes, within a network and routed."""
    for one, other in (("k", "d"), ("ds", "ns"), ("k", "ns"), ("df", "k")):
        target = cloud.vms[other].wait_ipv6(20).addresses[0].ip
        cloud.vms[one].wait_ipv6(20)
        wait_reached(cloud.vms[one], target, 10)


def test_the_rack_hears_nothing_of_it(cloud: Cloud) -> None:
    """Each node tells its own VMs."""
    for vm in cloud.vms.values():
        vm.wait_ipv6(20)
    for wire in cloud.wires:
        heard = [icmpv6_type(frame) for frame in wire.frames()]
        assert heard and ROUTER_ADVERTISEMENT not in heard
        assert not [frame for frame in wire.frames() if b"\x02\x22" in frame[56:66] and b"\x02\x23" in frame[56:66]]


def test_leases_are_renewed_after_a_crash_of_the_controller(cloud: Cloud) -> None:
    """The same addresses, without a new beginning; and a VM that came up meanwhile is told as soon as it is back."""
    for vm in cloud.vms.values():
        vm.wait_ipv6(20)
    cloud.lab.control.kill()
    mute = cloud.vms["k"]
    for off in (1, 0):
        netns.set_sysctl(mute.namespace, {f"ipv6/conf/{INTERFACE}/disable_ipv6": off})
    assert mute.ipv6_configured().router is None
    before = {name: len(dhcpv6(cloud.taps[name], 547)) for name in BY_DHCP}
    cloud.lab.control.start()
    cloud.lab.wait_connected()
    mute.wait_ipv6(10)
    for name in BY_DHCP:
        tap = cloud.taps[name]

        def renewed(tap: Tap = tap, since: int = before[name]) -> bool:
            asked = {message[1:4] for message in dhcpv6(tap, 547)[since:]}
            return any(message[0] == wire6.REPLY and message[1:4] in asked for message in dhcpv6(tap, 546))

        wait_until(renewed, SHORT_LEASE, f"{name} renews")
        since = {message[0] for message in dhcpv6(tap, 547)[before[name] :]}
        assert since <= {wire6.RENEW, wire6.REBIND}, name
        assert cloud.vms[name].wait_ipv6().router == wire6.GATEWAY


def test_a_change_is_told_at_once(cloud: Cloud) -> None:
    """A subnet that comes gives each VM of the network its address; one that goes takes it away."""
    lab, network = cloud.lab, cloud.networks["slaac"]
    vm, tap = cloud.vms["k"], cloud.taps["k"]
    vm.wait_ipv6(20)
    more = {"cidr": "2001:db8:5f::/64", "ipv6_mode": "slaac"}
    known = lab.client.get_network(network["id"])["subnets"]
    before = [{name: value for name, value in subnet.items() if name != "id"} for subnet in known]
    lab.client.update_network(network["id"], {"subnets": [*before, more]})
    held = wait_until(lambda: vm_addresses(lab, vm) - vm.ipv6_addresses, 20, "an address")
    wait_until(lambda: held <= {each.ip for each in vm.ipv6_configured().addresses}, 20, "the guest has it")
    tap.clear()
    lab.client.update_network(network["id"], {"subnets": before})
    wait_until(lambda: {each.ip for each in vm.ipv6_configured().addresses} == vm.ipv6_addresses, 20, "it is gone")
    told = [advertised(frame).prefixes for frame in tap.frames() if is_advertisement(frame)]
    assert [one["2001:db8:5f::/64"][1:] for one in told if "2001:db8:5f::/64" in one] == [(0, 0)]


def vm_addresses(lab: Lab, vm: Vm) -> set[IPv6Address]:
    held = (item["address"] for item in lab.client.get_port(vm.port["id"])["fixed_ips"])
    return {IPv6Address(address) for address in held if ":" in address}


def test_who_asks_twice_is_answered_twice_and_hears_nobody_else(cloud: Cloud) -> None:
    vm, tap = cloud.vms["k"], cloud.taps["k"]
    vm.wait_ipv6(20)
    mac = frames.mac_of(vm)
    source = IPv6Address(next(each["local"] for each in addresses(vm) if each["scope"] == "link"))
    solicitation = wire6.Nd(source=source, mac=mac, options=b"\1\1" + mac)
    for _ in range(2):
        tap.clear()
        tap.send(solicitation.frame())
        got = advertised(tap.wait_for(is_advertisement))
        assert (got.destination, got.eth_destination) == (source, mac) and got.lifetime == 65535
    assert (Rule.PUNT_RA, vm.port["key"]) in frames.packets(vm.node)
    tap.clear()
    tap.send(solicitation.change(hops=64).frame(), solicitation.change(checksum=1).frame())
    assert vm.ping(f"{wire6.GATEWAY}%{INTERFACE}", count=1, wait=2).answered
    assert not [frame for frame in tap.frames() if is_advertisement(frame) and frame[6:12] == GATEWAY]


def test_the_gateway_answers_for_names(cloud: Cloud) -> None:
    """By IPv6, at its link-local address and at the subnet's own, where one is given."""
    vm = cloud.vms["ds"]
    vm.wait_ipv6(20)
    (address,) = cloud.vms["ns"].ipv6_addresses
    for server in (f"{wire6.GATEWAY}%{INTERFACE}", "2001:db8:52::1"):
        said = vm.execute("dig", "+short", "+time=1", "+tries=3", f"@{server}", "ns.cloud.example", "AAAA")
        assert said.split() == [str(address)]
