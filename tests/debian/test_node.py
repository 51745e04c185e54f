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


def patiently(line: str) -> str:
    """Return what repeats a command until it succeeds, a minute or more."""
    return f"for i in $(seq 60); do {line} && exit; sleep 1; done; exit 1"


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
PING_IPV6 = patiently("ip netns exec web1 ping -c 3 -W 5 fe80::54:4cff:fe00:1%eth0")
PING_FLOATING = patiently("ip netns exec outside ping -c 3 -W 5 203.0.113.200")
RESTART = "systemctl restart openvswitch-switch"
"""With it Debian's Open vSwitch saves its flows and puts them back, all but the meters."""
RELOAD = (
    "systemctl stop openvswitch-switch",
    "ovs-dpctl del-dp system@ovs-system",
    "rmmod openvswitch",
    "systemctl start openvswitch-switch",
)
RESTARTED, RELOADED = (
    tuple(f"{line} # after {what}" for line in (patiently(PING_GATEWAY), PING_IPV6, PING_FLOATING))
    for what in ("a restart", "the module is loaded anew")
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
            RESTART,
            *RESTARTED,
            *RELOAD,
            *RELOADED,
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


def test_open_vswitch_restarts_as_debian_does_it(told: dict[str, Told]) -> None:
    assert told[RESTART].status == 0, told[RESTART].output
    for line in RESTARTED:
        assert " 0% packet loss" in told[line].output, told[line].output


def test_the_kernels_module_is_loaded_anew(told: dict[str, Told]) -> None:
    for line in RELOAD:
        assert told[line].status == 0, f"{line}: {told[line].output}"
    for line in RELOADED:
        assert " 0% packet loss" in told[line].output, told[line].output
