"""Kea's perfdhcp asks as the relay that it is: as many exchanges a second as a node takes from relays."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from ipaddress import IPv4Address

from etc.lab import netns
from etc.lab.fabric import FAR_NETWORK_ROUTER, OUTSIDE_INTERFACE
from etc.lab.lab import Lab
from flows.pipeline import RELAY_PACKET_INS
from tests.bench.figures import Figure
from tests.netns.cloud import make_outside

_MACHINES = 100
_FIRST_MAC = 0x000C01020304
_RATE = RELAY_PACKET_INS[0] * 9 // 20  # exchanges a second, of two questions each
_EXCHANGES = 10 * _RATE
_MILLISECONDS = re.compile(r"avg delay: ([\d.]+) ms")
_COUNTS = re.compile(r"(sent|received) packets: (\d+)")


def run() -> Iterator[Figure]:
    program = shutil.which("perfdhcp")
    if program is None:
        raise RuntimeError("perfdhcp is not installed: Debian's kea-admin has it")
    link = FAR_NETWORK_ROUTER.ip
    with Lab("bench", nodes=1, physical_networks=("physnet1", "physnet-ext")) as lab:
        lab.wait_connected()
        make_outside(lab)
        made = lab.client.create_network(
            {
                "name": "machines", "kind": "vlan", "segment": 300, "physical_network": "physnet1",
                "gateway_mode": "external", "dhcp_relays": [str(link)],
                "subnets": [{"cidr": str(FAR_NETWORK_ROUTER.network), "gateway": str(link)}],
            }
        )  # fmt: skip
        assert made.object
        macs = [(_FIRST_MAC + n).to_bytes(6).hex(":") for n in range(_MACHINES)]
        _, revision = lab.client.create_ports([{"network_id": made.object["id"], "mac": mac} for mac in macs])
        lab.confirm(revision)
        server = IPv4Address(lab.client.get_node("n1")["external_addresses"][0]["address"])
        # it speaks on the interface that has its address, whatever the way is
        netns.configure(
            lab.fabric.outside,
            f"address delete {FAR_NETWORK_ROUTER} dev far0",
            f"address add {link}/32 dev {OUTSIDE_INTERFACE}",
        )
        said = netns.execute(
            lab.fabric.outside, program, "-4", "-l", str(link), "-r", str(_RATE), "-R", str(_MACHINES),
            "-b", f"mac={macs[0]}", "-n", str(_EXCHANGES), "-W", "1000000", str(server),
            check=False, deadline=60,
        )  # fmt: skip
    print(said)
    counts = [int(count) for _, count in _COUNTS.findall(said)]
    discovers, offers, requests, acks = counts
    assert acks, "no exchange came to its end"
    delays = [float(found) for found in _MILLISECONDS.findall(said)]
    yield Figure("perfdhcp_exchanges", acks, "exchanges")
    yield Figure("perfdhcp_lost", discovers - offers + requests - acks, "messages")
    yield Figure("perfdhcp_offer_ms", delays[0], "ms")
    yield Figure("perfdhcp_ack_ms", delays[1], "ms")
