"""Debian's own kernel as controller and node: README's installation on it, and what its datapath then does."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.debian.virtual_machine import Told, boot
from tests.docs_text import Part, commands
from tests.packaging.conftest import packages  # noqa: F401  # a fixture
from tests.packaging.machine import CHECKOUT

pytestmark = [pytest.mark.root, pytest.mark.timeout(3000)]

BUILD, *README = commands(Part("README.md", "Install").text)
OUTSIDE = (
    "ip netns add outside",
    "ip link add uplink type veth peer name eth0 netns outside",
    "ip link set uplink up",
    "ip -n outside link set eth0 up",
    "ip -n outside address add 203.0.113.1/24 dev eth0",
    "printf '[agent]\\nphysical_network = physnet1\\nphysical_network = physnet-ext:uplink\\n'"
    " >/etc/trunkline/trunkline-agent.conf.d/node.conf",
    "systemctl reload trunkline-agent",
    "trunkline network create outside --external --flat --physical-network physnet-ext --no-dhcp"
    " --cidr 203.0.113.0/24 --gateway 203.0.113.1",
    "trunkline floating-ip-pool create public --network outside --range 203.0.113.200-203.0.113.250 --wait",
    "trunkline floating-ip create --pool public --project green --port web1 --wait",
)
ALLOW = "trunkline security-group rule create default --project green --direction ingress --protocol icmp --wait"
IPV6 = "trunkline subnet add green 2001:db8:40::/64 --wait"
PING_GATEWAY = "ip netns exec web1 ping -c 3 -W 5 10.40.0.1"
PING_IPV6 = (
    "for i in $(seq 60); do ip netns exec web1 ping -c 3 -W 5 fe80::54:4cff:fe00:1%eth0 && exit; sleep 1; done; exit 1"
)
PING_FLOATING = (
    "for i in $(seq 60); do ip netns exec outside ping -c 3 -W 5 203.0.113.200 && exit; sleep 1; done; exit 1"
)
DATAPATHS = "ovs-appctl dpctl/dump-dps"
KERNEL = "uname -r"
ADDRESS = "ip -4 -n web1 address show eth0"
NODE = "trunkline node show $(hostname) -o json"


@pytest.fixture(scope="module")
def told(packages: list[Path]) -> Iterator[dict[str, Told]]:  # noqa: F811
    place = Path(tempfile.mkdtemp(prefix="trunkline-debian-", dir="/var/tmp"))
    try:
        story = [
            KERNEL,
            *README,
            ADDRESS,
            DATAPATHS,
            PING_GATEWAY,
            ALLOW,
            IPV6,
            PING_IPV6,
            *OUTSIDE,
            PING_FLOATING,
            NODE,
        ]
        yield boot(place, CHECKOUT, {f"{CHECKOUT}/build/deb": packages}, story)
    finally:
        shutil.rmtree(place)


def test_readme_installs_it_on_debians_own_kernel(told: dict[str, Told]) -> None:
    assert "deb13" in told[KERNEL].output
    for line in README:
        assert told[line].status == 0, f"{line}: {told[line].output}"
    assert told[DATAPATHS].output == "system@ovs-system"
    assert re.search(r"inet 10\.40\.0\.\d+/24", told[ADDRESS].output)


def test_a_namespace_reaches_its_gateway_by_ipv4_and_ipv6(told: dict[str, Told]) -> None:
    for line in (PING_GATEWAY, PING_IPV6):
        assert " 0% packet loss" in told[line].output, f"{told[line].output}\n{told[NODE].output}"


def test_its_floating_ip_is_reached_from_outside(told: dict[str, Told]) -> None:
    for line in (*OUTSIDE, ALLOW):
        assert told[line].status == 0, f"{line}: {told[line].output}"
    assert " 0% packet loss" in told[PING_FLOATING].output
