"""What security groups cost between two VMs of one node, beside a plain bridge of the same Open vSwitch.

Both ways by conntrack: the sender's group lets it send anything, the receiver's lets in iperf3, a UDP port and echo
requests.
"""

from __future__ import annotations

from collections.abc import Iterator

from controller.client import Object
from etc.lab.lab import Lab
from tests.bench.figures import Figure
from tests.bench.pairs import UDP_PORT, Way, packet_ratios, ping_ratios, plain_bridge, ratio, tcp_ratios, wait_works
from tests.bench.ports import make_network

IPERF3_PORT = 5201


def run() -> Iterator[Figure]:
    with Lab("bench", nodes=1) as lab:
        lab.wait_connected()
        plain, filtered = plain_bridge(lab, lab.nodes[0]), _filtered(lab)
        wait_works(plain, filtered)
        yield ratio("ping_sg_ratio", ping_ratios(plain, filtered))
        rates, costs = tcp_ratios(lab.nodes[0], lab.directory / "iperf3", plain, filtered)
        yield ratio("tcp_vm_vm_ratio", rates)
        yield ratio("cpu_sg_ratio", costs)
        yield ratio("cpu_sg_packet_ratio", packet_ratios(lab.nodes[0], plain, filtered))


def _filtered(lab: Lab) -> Way:
    network = make_network(lab, "filtered", 212, allow_same_net_traffic=False)
    group = lab.client.create_security_group({"name": "server", "project_id": "bench"}).object
    assert group
    let_in = {"security_group_id": group["id"], "direction": "ingress"}
    services: list[Object] = [{"protocol": "icmp"}]
    services += [{"protocol": name, "ports": str(port)} for name, port in (("tcp", IPERF3_PORT), ("udp", UDP_PORT))]
    lab.client.create_security_group_rules([{**let_in, **service} for service in services])
    groups = [group["id"]]
    client = lab.create_vm("client", lab.nodes[0], network, project_id="bench")
    server = lab.create_vm("server", lab.nodes[0], network, project_id="bench", security_groups=groups)
    for vm in (client, server):
        vm.wait_configured()
    return Way("filtered", client.namespace, server.namespace, server.address)
