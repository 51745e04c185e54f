"""What a controller that is killed and started again costs: packets lost under traffic, and flow-mods sent."""

from __future__ import annotations

from collections.abc import Iterator

from etc.lab.fabric import FAR_HOST
from etc.lab.lab import Lab
from etc.lab.processes import wait_until
from tests.bench.figures import Figure
from tests.bench.ports import make_network

KILLS = 3
RATE = 100


def run() -> Iterator[Figure]:
    with Lab("bench", nodes=3) as lab:
        lab.wait_connected()
        make_external(lab)
        network = make_network(lab, "restart", 203)
        vms = [lab.create_vm(f"r{index}", node, network) for index, node in enumerate(lab.nodes)]
        for vm in vms:
            vm.wait_configured()
        wait_until(lambda: vms[0].ping(FAR_HOST.ip, count=1).received, 20, "no way out")
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


def make_external(lab: Lab) -> str:
    written = lab.client.create_network(
        {
            "name": "external",
            "kind": "flat",
            "physical_network": lab.fabric.external,
            "external": True,
            "gateway_mode": "external",
            "subnets": [{"cidr": "203.0.113.0/24", "gateway": "203.0.113.1"}],
        }
    )
    assert written.object
    return str(written.object["id"])


def live_nodes(lab: Lab) -> int:
    return sum(node["state"] == "live" for node in lab.client.list_nodes())


def metric(lab: Lab, name: str) -> float:
    """The sum of a metric over its labels."""
    status, text = lab.control.request("GET", "/metrics")
    assert status == 200, text
    lines = [line for line in str(text).splitlines() if line.startswith((f"{name}{{", f"{name} "))]
    assert lines, f"there is no metric {name}: 0 would mean nothing"
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)
