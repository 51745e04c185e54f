"""IPv6 to the outside, as far as it takes a controller: the router is found by neighbour discovery and followed, and a
sender is told what does not go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv6Address

import pytest

from controller.packet_in import outcomes
from etc.lab import netns
from etc.lab.fabric import EXTERNAL_NETWORK, OUTSIDE_INTERFACE, OUTSIDE_ROUTER
from etc.lab.lab import Lab
from etc.lab.processes import wait_until
from etc.lab.vm import Vm
from tests.netns import frames
from tests.netns.cloud import make_network, wait_reached

pytestmark = pytest.mark.root

PREFIX = "2001:db8:51::/64"
OUTSIDE = "2001:db8:f::/64"
ROUTER = IPv6Address("2001:db8:f::1")
FAR = IPv6Address("2001:db8:ffff::9")
NARROW = 1400


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=1)


@pytest.fixture(scope="module")
def vm(lab: Lab) -> Iterator[Vm]:
    """The router has the VMs' prefix on-link, and an address that is farther away."""
    ipv6 = "ipv6/conf/{}/{}"
    netns.set_sysctl(lab.fabric.outside, {
        ipv6.format("all", "disable_ipv6"): 0, ipv6.format(OUTSIDE_INTERFACE, "disable_ipv6"): 0,
        ipv6.format("lo", "disable_ipv6"): 0, ipv6.format("all", "forwarding"): 1,
        ipv6.format(OUTSIDE_INTERFACE, "ndisc_notify"): 1,
    })  # fmt: skip
    netns.configure(
        lab.fabric.outside,
        f"address add {ROUTER}/64 dev {OUTSIDE_INTERFACE} nodad",
        f"address add {FAR}/128 dev lo nodad",
        f"route add {PREFIX} dev {OUTSIDE_INTERFACE}",
    )
    pool = {"first": str(EXTERNAL_NETWORK[100]), "last": str(EXTERNAL_NETWORK[199])}
    subnets = [
        {"cidr": str(EXTERNAL_NETWORK), "gateway": str(OUTSIDE_ROUTER.ip), "allocation_ranges": [pool]},
        {"cidr": OUTSIDE, "gateway": str(ROUTER)},
    ]
    make_network(
        lab, "outside", "", project_id=None, external=True, dhcp=False, physical_network=lab.fabric.external,
        mtu=NARROW, subnets=subnets,
    )  # fmt: skip
    network = make_network(lab, "six", "", subnets=[{"cidr": "10.51.0.0/24"}, {"cidr": PREFIX}], segment=151)
    made = lab.create_vm("v", lab.nodes[0], network["id"], client=None)
    made.wait_ipv6(20)
    yield made


def test_the_router_is_found(lab: Lab, vm: Vm) -> None:
    wait_reached(vm, FAR)
    assert outcomes.MALFORMED not in frames.outcomes(lab)


def test_without_a_controller_its_way_is_known(lab: Lab, vm: Vm) -> None:
    wait_reached(vm, FAR)
    lab.control.stop()
    try:
        assert vm.ping(FAR, count=5).lost == 0
    finally:
        lab.control.start()
        lab.wait_connected()
    assert vm.ping(FAR, count=5).lost == 0


def test_a_router_with_a_new_mac_is_followed(lab: Lab, vm: Vm) -> None:
    wait_reached(vm, FAR)
    netns.configure(lab.fabric.outside, f"link set {OUTSIDE_INTERFACE} address 02:00:00:00:00:77")
    wait_reached(vm, FAR, 10)


def test_a_hop_limit_that_is_used_up_is_told(vm: Vm) -> None:
    wait_reached(vm, FAR)
    said = vm.execute("ping", "-6", "-c", "1", "-W", "2", "-t", "1", str(FAR), check=False)
    assert "From fe80::54:4cff:fe00:1" in said and "Hop limit" in said


def test_who_sends_too_much_is_told_what_fits(vm: Vm) -> None:
    wait_reached(vm, FAR)
    size = str(NARROW - 40 - 8 + 4)
    said = vm.execute("ping", "-6", "-c", "1", "-W", "2", "-M", "do", "-s", size, str(FAR), check=False)
    assert f"mtu={NARROW}" in said or f"mtu: {NARROW}" in said, said
    wait_until(lambda: vm.ping(FAR, count=1, size=1440).answered, 20, "in fragments that fit")
