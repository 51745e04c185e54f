"""A security group with a thousand rules: what its flows cost to compute, and how soon a node has them."""

from __future__ import annotations

import time
from collections.abc import Iterator

from controller.client import Object
from controller.store.engine import Database
from controller.store.model import load_snapshot
from controller.store.quarantine import Quarantine
from etc.lab.lab import Lab
from flows.compile import Kind, compile_node
from tests.bench.figures import Figure, median_ms, spread
from tests.bench.ports import make_network

RULES = 1000
COMPILED = 15
ADDED = 15


def run() -> Iterator[Figure]:
    with Lab("bench", nodes=1, open_groups=True) as lab:
        lab.wait_connected()
        network = make_network(lab, "rules", 214)
        lab.client.update_quota("bench", {"security_group_rules": -1})
        group = lab.client.create_security_group({"name": "many", "project_id": "bench"}).object
        assert group
        vm = lab.create_vm("r0", lab.nodes[0], network, project_id="bench", security_groups=[group["id"]])
        vm.wait_configured()
        began = time.perf_counter()
        _, revision = lab.client.create_security_group_rules([_rule(group["id"], number) for number in range(RULES)])
        written = time.perf_counter()
        lab.confirm(revision)
        confirmed = time.perf_counter()
        print(f"   {RULES} rules: written in {(written - began) * 1000:.0f} ms")
        yield Figure("rules_confirmed_ms", (confirmed - began) * 1000, "ms")
        took = [_one_more(lab, group["id"], RULES + number) for number in range(ADDED)]
        print(f"   one rule more: {spread(took)}")
        yield Figure("rules_one_more_ms", median_ms(took), "ms")
        yield from _compiled(lab)


def _rule(group: str, number: int) -> Object:
    """A third each: a port for anybody, for a range, for the group's own members."""
    remote: tuple[Object, ...] = ({}, {"remote_cidr": f"172.16.{number // 3 % 250}.0/24"}, {"remote_group_id": group})
    service: Object = {"protocol": "tcp", "ports": f"{2 * number + 1}"}  # no two that could be made one
    return {"security_group_id": group, "direction": "ingress", **service, **remote[number % 3]}


def _one_more(lab: Lab, group: str, number: int) -> float:
    began = time.perf_counter()
    lab.confirm(lab.client.create_security_group_rule(_rule(group, number)).revision)
    return time.perf_counter() - began


def _compiled(lab: Lab) -> Iterator[Figure]:
    """The whole program of the node, of what the controller's database holds, in a process with nothing else to do."""
    database = Database(f"sqlite:///{lab.control.directory}/trunkline.db")
    try:
        snapshot = database.read(lambda connection: load_snapshot(connection, Quarantine()))
    finally:
        database.close()
    took = []
    for _ in range(COMPILED):
        began = time.perf_counter()
        program = compile_node(snapshot, lab.nodes[0].name)
        took.append(time.perf_counter() - began)
    of_groups = sum(len(part.flows) for (kind, _), part in program.segments.items() if kind is Kind.SECURITY_GROUP)
    print(f"   the node's program: {len(program)} flows, {of_groups} of security groups; {spread(took)}")
    yield Figure("rules_compile_ms", median_ms(took), "ms")
    yield Figure("rules_flows", of_groups, "flows")
