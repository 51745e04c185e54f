"""What a controller that is killed and started again costs: packets lost under traffic, and flow-mods sent. And how
soon a node is served whose ovs-vswitchd was killed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

from etc.lab.fabric import FAR_HOST
from etc.lab.lab import Lab
from etc.lab.processes import in_parallel, wait_until
from etc.lab.vm import Vm
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
        first, second, third = vms
        stream = second.ping_stream(third.address, rate=RATE)
        back = [switch_back(first, second) for _ in range(KILLS)]
        others = stream.stop()
        print(f"   ovs-vswitchd killed {KILLS} times: {back} s; other nodes: {others}")
        yield Figure("switch_back_s", max(back), "s")
        yield Figure("switch_others_lost", others.lost, "packets")


def live_nodes(lab: Lab) -> int:
    return sum(node["state"] == "live" for node in lab.client.list_nodes())


def switch_back(vm: Vm, other: Vm) -> float:
    """Kills the switch of a VM's node. Seconds from its first answer until the VM reaches the outside, another node,
    and its gateway, and is reached.
    """
    configured = vm.configured()
    assert configured
    vm.node.ovs.restart_switch(kill=True)
    began = time.monotonic()
    paths = ((vm, FAR_HOST.ip), (vm, other.address), (vm, configured.router), (other, vm.address))

    took: list[float] = []

    def reach(one: Vm, address: object) -> None:
        wait_until(lambda: one.ping(address, count=1, wait=0.2).answered, 30, f"{one.name} does not reach {address}")
        took.append(time.monotonic() - began)

    in_parallel([partial(reach, *path) for path in paths])
    return max(took)
