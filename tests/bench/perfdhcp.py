"""ISC's perfdhcp, which can only pose as a relay, against a node: what a tool that others use says of the same server.

Relays of a node share an allowance, so it asks at a rate that is well within.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

from etc.lab import netns
from etc.lab.fabric import FAR_NETWORK_ROUTER
from etc.lab.lab import Lab
from flows.pipeline import RELAY_PACKET_INS
from tests.bench.figures import Figure
from tests.bench.ports import make_network
from tests.netns.cloud import make_outside

MACHINES = 100
SECONDS = 10
RATE = RELAY_PACKET_INS[0] // 4
_BASE = 0x000C01020304


def run() -> Iterator[Figure]:
    program = shutil.which("perfdhcp")
    if program is None:
        raise RuntimeError("perfdhcp is not installed: Debian's kea-admin has it")
    with Lab("bench", nodes=1) as lab:
        lab.wait_connected()
        make_outside(lab)
        link = FAR_NETWORK_ROUTER
        network = make_network(
            lab,
            "machines",
            207,
            gateway_mode="external",
            subnets=[{"cidr": str(link.network), "gateway": str(link.ip)}],
            dhcp_relays=[str(link.ip)],
        )
        macs = [(_BASE + number).to_bytes(6).hex(":") for number in range(MACHINES)]
        _, revision = lab.client.create_ports([{"network_id": network, "mac": mac} for mac in macs])
        lab.confirm(revision)
        server = lab.client.get_node("n1")["external_addresses"][0]["address"]
        line = [program, "-4", "-l", str(link.ip), "-R", str(MACHINES), "-r", str(RATE), "-p", str(SECONDS), server]
        said = netns.execute(lab.fabric.outside, *line, check=False, deadline=SECONDS + 30)
        print(said)
        sent, lost, mean = (
            [float(number) for number in re.findall(pattern, said)]
            for pattern in (r"sent packets: (\d+)", r"drops: (-?\d+)", r"avg delay: ([\d.]+) ms")
        )
        yield Figure("perfdhcp_exchanges_per_s", (sent[1] - lost[1]) / SECONDS, "1/s")
        yield Figure("perfdhcp_lost", lost[0] + lost[1], "messages")
        yield Figure("perfdhcp_offer_ms", mean[0], "ms")
        yield Figure("perfdhcp_ack_ms", mean[1], "ms")
