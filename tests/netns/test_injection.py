"""A flat network on which the nodes do nothing but switch: machines are configured with what the API says of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from controller.client import Object
from etc.lab import netns
from etc.lab.capture import UDP, Seen
from etc.lab.lab import Lab
from etc.lab.processes import wait_until
from etc.lab.vm import INTERFACE, Vm
from tests.bench.dhcp import discover
from tests.netns.cloud import echo, make_network, saw, send_frames, status

pytestmark = pytest.mark.root

POOL = {"first": "10.7.0.10", "last": "10.7.0.11"}
SERVICES = {53, 67, 68}


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=2)


@pytest.fixture(scope="module")
def network(lab: Lab) -> Object:
    subnets = [{"cidr": "10.7.0.0/24", "allocation_ranges": [POOL]}]
    return make_network(lab, "plain", "", subnets=subnets, dhcp=False, gateway_mode="none", mtu=1400)


def inject(lab: Lab, vm: Vm) -> None:
    """Configure the guest as an image would be that was given network_data.json."""
    said = lab.client.get_network_data(vm.port["id"])["network_data"]
    (link,), (address,) = said["links"], said["networks"]
    assert (link["ethernet_mac_address"], address["type"], address["routes"]) == (vm.mac, "ipv4", [])
    netns.configure(
        vm.namespace,
        f"link set {INTERFACE} mtu {link['mtu']} up",
        f"address replace {address['ip_address']}/{address['netmask']} dev {INTERFACE}",
    )


def served(frame: Seen) -> bool:
    """By a DHCP or DNS server, or a router's advertisement."""
    return (frame.protocol == UDP and frame.src_port in SERVICES - {68}) or frame.ethertype == 0x86DD


def test_a1_machines_configured_by_the_api_reach_each_other_and_nobody_serves_them(lab: Lab, network: Object) -> None:
    vms = [lab.create_vm(f"i{n}", node, network["id"], client=None) for n, node in enumerate(lab.nodes)]
    for vm in vms:
        inject(lab, vm)
        wait_until(lambda vm=vm: status(lab, vm) == "active", 20, f"{vm.name} is not active")
    first, second = vms
    with first.capture("inbound") as watched:
        send_frames(first, bytes(discover(bytes.fromhex(first.mac.replace(":", "")))), 3)
        assert first.ping(second.address).lost == 0
        saw(watched, echo, 3)
        assert watched.seen(served) == []
    assert second.ping(first.address, size=1400 - 28).lost == 0

    # the pool holds two: the next one has what the first one had
    had = first.address
    lab.delete_vm(first)
    again = lab.create_vm("i2", lab.nodes[0], network["id"], client=None)
    assert again.address == had
    inject(lab, again)
    wait_until(lambda: status(lab, again) == "active", 20, "i2 is not active")
    assert again.ping(second.address).lost == 0  # asked by ARP, the other one learns its MAC
