"""`[nat] drop_private` on real Open vSwitch: private addresses stay in, named ones leave; also without a controller."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv6Network

import pytest

from controller.client import Object
from etc.lab.fabric import EXTERNAL_IPV6, EXTERNAL_NETWORK, FAR_HOST_IPV6, OUTSIDE_ROUTER
from etc.lab.lab import Lab
from etc.lab.processes import wait_until
from etc.lab.vm import Vm
from flows.rules import Rule
from flows.view import mac_to_int
from tests.netns import frames
from tests.netns.cloud import drops, make_network, make_vms, unbroken, wait_dropped, wait_outside, want
from tests.netns.frames import GATEWAY, Tap
from tests.ovs.frames import encode
from tests.simulate.ipv6 import Host, ip6

pytestmark = pytest.mark.root

BLUE_IPV6 = IPv6Network("2001:db8:57::/64")
PRIVATE = ("10.99.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.9", "fc00::1", "fd00:1::9")
MARTIANS = ("127.0.0.1", "0.1.2.3", "169.254.1.1", "240.0.0.1", "255.255.255.255",
            "::1", "::ffff:10.99.0.1", "64:ff9b::c633:6401", "fe80::9")  # fmt: skip
EXEMPT = "10.77.0.1"
OPTIONS: dict[str, dict[str, object]] = {"nat": {"drop_private": True}}
MARK, HONEST = 0xA77AC4EDA77AC4ED, 0x0BE57A11FE110BE5
"""In the payload of what is not to leave, and of what leaves."""


@dataclass
class Cloud:
    lab: Lab
    vm: Vm
    network: Object
    tap: Tap
    outside: Tap
    """What the node sends by its cable to the external network."""

    def frame(self, target: str, payload: int) -> bytes:
        """A datagram of the VM by way of its gateway."""
        vm = self.vm
        if ":" not in target:
            return frames.udp(vm, target, payload=payload.to_bytes(8), eth_dst=GATEWAY)
        (own,) = vm.ipv6_addresses
        host = Host(int(vm.port["key"]), vm.node.name, 0, mac_to_int(vm.mac), int(own), 0, str(vm.port["network_id"]))
        return encode(host.udp(ip6(target), payload=payload))

    def leaves(self, target: str) -> None:
        """Sends until the outside hears it: next hops may not be known at once."""
        self.outside.clear()
        sent = self.frame(target, HONEST)

        def heard() -> bool:
            self.tap.send(sent)
            return any(HONEST.to_bytes(8) in frame for frame in self.outside.frames())

        wait_until(heard, 20, f"{target} is not heard outside", interval=0.1)

    def stays(self, rule: Rule, key: int, *targets: str) -> None:
        """Asserts that the drop of this name counts all that is sent, and that nothing of it is heard outside."""
        before = drops(self.vm.node)
        self.outside.clear()
        self.tap.send(*(self.frame(target, MARK) for target in targets))
        wait_dropped(self.vm.node, before, rule, len(targets), key)
        for target in (str(self.lab.fabric.far_host), str(FAR_HOST_IPV6)):
            self.leaves(target)
            assert not [frame.hex() for frame in self.outside.frames() if MARK.to_bytes(8) in frame]


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=1, physical_networks=("physnet1", "physnet-ext"), control_options=OPTIONS)


@pytest.fixture(scope="module")
def cloud(lab: Lab) -> Iterator[Cloud]:
    lab.fabric.speak_ipv6(BLUE_IPV6)
    pool = {"first": str(EXTERNAL_NETWORK[100]), "last": str(EXTERNAL_NETWORK[150])}
    outside = [
        {"cidr": str(EXTERNAL_NETWORK), "gateway": str(OUTSIDE_ROUTER.ip), "allocation_ranges": [pool]},
        {"cidr": str(EXTERNAL_IPV6), "gateway": str(EXTERNAL_IPV6[1])},
    ]
    fields: Object = {"project_id": None, "external": True, "dhcp": False, "physical_network": lab.fabric.external}
    make_network(lab, "outside", "", subnets=outside, **fields)
    subnets = [{"cidr": "10.57.0.0/24"}, {"cidr": str(BLUE_IPV6), "ipv6_mode": "slaac"}]
    network = make_network(lab, "blue", "", segment=157, subnets=subnets, snat_exempt=["10.77.0.0/16"])
    (node,) = lab.nodes
    vm = make_vms(lab, want("a", node, network))["a"]
    wait_outside(lab, vm)
    taps = Tap(vm.namespace), Tap(lab.fabric.rack, node.cable(lab.fabric.external))
    try:
        made = Cloud(lab, vm, network, *taps)
        made.leaves(str(FAR_HOST_IPV6))
        yield made
    finally:
        for tap in taps:
            tap.close()


def test_what_is_private_stays_in(cloud: Cloud, controller: str) -> None:
    cloud.stays(Rule.DROP_PRIVATE, int(cloud.network["key"]), *PRIVATE)


def test_where_no_router_forwards_to(cloud: Cloud, controller: str) -> None:
    cloud.stays(Rule.DROP_MARTIAN, 0, *MARTIANS)


def test_what_is_named_leaves(cloud: Cloud, controller: str) -> None:
    """As it is, since it is exempt."""
    cloud.leaves(EXEMPT)
    (*_, last) = (frame for frame in cloud.outside.frames() if HONEST.to_bytes(8) in frame)
    assert last[26:30] == cloud.vm.address.packed


def test_only_if_the_operator_says_so(cloud: Cloud) -> None:
    """Other controllers say otherwise with their first bundle, which loses nothing."""
    lab = cloud.lab
    try:
        lab.control.options["nat"] = {"drop_private": False}
        with unbroken((cloud.vm, lab.fabric.far_host)):
            lab.control.restart()
            lab.wait_connected()
            for target in PRIVATE:
                cloud.leaves(target)
    finally:
        lab.control.options["nat"] = dict(OPTIONS["nat"])
        lab.control.restart()
        lab.wait_connected()
    cloud.stays(Rule.DROP_PRIVATE, int(cloud.network["key"]), *PRIVATE)
