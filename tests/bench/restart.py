"""What a controller that is killed and started again costs: packets lost under traffic, and flow-mods sent."""

from __future__ import annotations

from collections.abc import Iterator

from etc.lab.fabric import FAR_HOST
from etc.lab.lab import Lab
from etc.lab.processes import wait_until
from tests.bench.figures import Figure
from tests.bench.ports import make_network
from tests.netns.cloud import make_outside, metric, wait_outside

KILLS = 3
RATE = 100


def run() -> Iterator[Figure]:
    with Lab("bench", nodes=3, open_groups=True) as lab:
        lab.wait_connected()
        make_outside(lab)
        network = make_network(lab, "restart", 203)
        vms = [lab.create_vm(f"r{index}", node, network) for index, node in enumerate(lab.nodes)]
        for vm in vms:
            vm.wait_configured()
        wait_outside(lab, *vms)  # each node knows its router, and holds all that it will hold
        vms[0].ping(vms[1].address)
        streams = [vms[0].ping_stream(vms[1].address, rate=RATE), vms[2].ping_stream(FAR_HOST.ip, rate=RATE)]
        flow_mods = 0.0
        for _ in range(KILLS):
            lab.control.kill()
            lab.control.start()
            lab.wait_connected()
            wait_until(lambda: live_nodes(lab) == len(lab.nodes), 30, "a node is not live")
            flow_mods += metric(lab, "of_flowmsgs_sent_total")
        counts = [stream.stop() for stream in streams]
        print(f"   {KILLS} kills; east-west, out: {counts}")
        yield Figure("restart_lost", sum(count.lost for count in counts), "packets")
        yield Figure("restart_flow_mods", flow_mods, "flow-mods")


def live_nodes(lab: Lab) -> int:
    return sum(node["state"] == "live" for node in lab.client.list_nodes())
