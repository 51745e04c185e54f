"""What one more member costs a group that refers to itself: how soon it is let in elsewhere, and flow-mods for it.

Most members are ports without VMs (tests/bench/ports.py). The one that joins is a real VM, and so are those on the
other nodes that let it in: it has joined when the API says so and both have answered it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence

from etc.lab.lab import Lab
from etc.lab.node import Node
from etc.lab.processes import wait_until
from etc.lab.vm import Vm
from flows.pipeline import Table
from tests.bench.echo import Echo
from tests.bench.figures import Figure, median_ms, spread
from tests.bench.ports import fill, make_network
from tests.netns.cloud import metric

SAMPLES = 15
DEADLINE_S = 5.0
SERVICES: tuple[dict[str, object], ...] = (
    {"protocol": "icmp"},
    {"protocol": "tcp", "ports": "22"},
    {"protocol": "tcp", "ports": "80"},
    {"protocol": "tcp", "ports": "6000-6063"},
    {"protocol": "udp", "ports": "53"},
)


def run() -> Iterator[Figure]:
    with Lab("bench", nodes=3) as lab:
        lab.wait_connected()
        network = make_network(lab, "members", 213, allow_same_net_traffic=False)
        group, strangers = _group(lab, "members"), _group(lab, "strangers")
        rules = [
            {"security_group_id": group, "direction": "ingress", "remote_group_id": group, **service}
            for service in SERVICES
        ]
        lab.client.create_security_group_rules(rules)
        joiner, *members = (
            _vm(lab, node, network, group if index else strangers) for index, node in enumerate(lab.nodes)
        )
        for members_before, suffix in ((100, "_100"), (500, "")):
            fill(lab, network, members_before + 1, project_id="bench", security_groups=[group])
            yield from _joins(lab, joiner, members, group, strangers, suffix)
        yield Figure("sg_flows", _flows_of_groups(lab.nodes[1]), "flows")
        print(f"   sg_flows is for {members_before} members and {len(SERVICES)} rules about them, and 1 about anybody")


def _group(lab: Lab, name: str) -> str:
    group = lab.client.create_security_group({"name": name, "project_id": "bench"}).object
    assert group
    return str(group["id"])


def _vm(lab: Lab, node: Node, network: str, group: str) -> Vm:
    name = f"m{node.name}"
    vm = lab.create_vm(name, node, network, client=None, project_id="bench", security_groups=[group])
    vm.set_address(f"{vm.address}/16")
    return vm


def _joins(lab: Lab, joiner: Vm, members: Sequence[Vm], group: str, strangers: str, suffix: str) -> Iterator[Figure]:
    took, confirmed, flow_mods = [], [], []
    for _ in range(SAMPLES):
        _move(lab, joiner, strangers)
        echoes = [Echo(joiner.namespace, member.address) for member in members]
        wait_until(lambda echoes=echoes: not any(map(_answers, echoes)), 10, "a stranger is let in")  # type: ignore[misc]
        before = [_flow_mods(lab, member.node) for member in members]
        began = time.perf_counter()
        _move(lab, joiner, group)
        confirmed.append(time.perf_counter() - began)
        for echo in echoes:
            while not _answers(echo):
                assert time.perf_counter() - began < DEADLINE_S, "a member is not let in"
        took.append(time.perf_counter() - began)
        flow_mods += [_flow_mods(lab, member.node) - sent for member, sent in zip(members, before, strict=True)]
        for echo in echoes:
            echo.close()
    print(f"   one member more{suffix}: confirmed {spread(confirmed)}")
    print(f"   one member more{suffix}: let in {spread(took)}")
    print(f"   one member more{suffix}: flow-mods {sorted(set(flow_mods))}, the stamp's included")
    yield Figure(f"sg_join_ms{suffix}", median_ms(took), "ms")
    yield Figure(f"sg_join_flow_mods{suffix}", statistics.median(flow_mods), "flow-mods")


def _move(lab: Lab, vm: Vm, group: str) -> None:
    """All three nodes have confirmed it when this returns."""
    lab.confirm(lab.client.update_port(vm.port["id"], {"security_groups": [group]}).revision)


def _answers(echo: Echo) -> bool:
    echo.send(0)
    return echo.answered(0.05)


def _flow_mods(lab: Lab, node: Node) -> float:
    return metric(lab, "of_flowmsgs_sent_total", f'"{node.name}"')


def _flows_of_groups(node: Node) -> int:
    return sum(f"table={Table.RULES.value}," in flow for flow in node.ovs.flows())
