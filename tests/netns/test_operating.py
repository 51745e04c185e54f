"""What an operator asks the running system: what a change would do, what is dropped, what happens."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controller.client import Object
from etc.lab.control import member_token
from etc.lab.lab import Lab
from etc.lab.node import Node
from etc.lab.processes import CommandFailed, run, wait_until
from etc.lab.vm import Vm
from flows.pipeline import Table
from flows.rules import COOKIE_OURS, COOKIE_OURS_MASK
from tests.netns.cloud import make_network, make_outside, make_vms, wait_outside, want
from tests.netns.floating import make_pool

pytestmark = pytest.mark.root

DEADLINE = 30.0


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=2, projects=("blue",))


@pytest.fixture(scope="module")
def vms(lab: Lab) -> dict[str, Vm]:
    make_pool(lab, make_outside(lab))
    green = make_network(lab, "green", "10.40.0.0/24", segment=140)
    first, second = lab.nodes
    made = make_vms(lab, want("web1", first, green), want("web2", first, green), want("db", second, green))
    wait_outside(lab, *made.values())
    return made


def trunkline(lab: Lab, *words: str) -> str:
    return run([str(lab.directory / "trunkline"), *words])


def told(lab: Lab, *words: str) -> Any:
    return json.loads(trunkline(lab, *words, "-o", "json"))


def planned(lab: Lab, *words: str) -> Object:
    plan: Object = json.loads(trunkline(lab, "plan", "-o", "json", *words))
    return plan


def normalised(lines: list[str], file: Path) -> Counter[str]:
    """Flows as Open vSwitch itself spells them, by way of its own parser."""
    file.write_text("".join(f"{line}\n" for line in lines))
    done = run(["ovs-ofctl", "-O", "OpenFlow14", "parse-flows", str(file)])
    return Counter(re.sub(r"\(xid=0x[0-9a-f]+\)", "", line) for line in done.splitlines() if "FLOW_MOD" in line)


def held(node: Node, file: Path) -> Counter[str]:
    """What the switch holds of ours, but for the stamp."""
    ours = []
    for line in node.ovs.flows():
        cookie = re.search(r"cookie=(0x[0-9a-f]+)", line)
        if f"table={Table.STAMP:d}," not in line and cookie and int(cookie[1], 16) & COOKIE_OURS_MASK == COOKIE_OURS:
            ours.append(line)
    return normalised(ours, file)


def wait_held(node: Node, wanted: Counter[str], file: Path) -> None:
    def differs() -> str:
        found = held(node, file)
        return f"{node.name} holds {found - wanted} and lacks {wanted - found}"

    wait_until(lambda: held(node, file) == wanted, DEADLINE, differs)


def applied(plan: Object, node: str, before: Counter[str], file: Path) -> Counter[str]:
    """What a node is to hold by a plan."""
    for one in plan["nodes"]:
        if one["node"] == node:
            gone = [*one["delete"], *(change["before"] for change in one["change"])]
            come = [*one["add"], *(change["after"] for change in one["change"])]
            going = normalised(gone, file)
            assert going <= before, going - before
            return before - going + normalised(come, file)
    return before


CHANGES = (
    ("security-group", "create", "web", "--project", "blue"),
    ("security-group", "rule", "create", "web", "--project", "blue", "--direction", "ingress", "--protocol", "tcp"),
    ("port", "set", "web1", "--security-group", "web"),
    ("security-group", "rule", "create", "web", "--project", "blue", "--direction", "ingress", "--protocol", "udp"),
    ("floating-ip", "create", "--pool", "public", "--project", "blue", "--port", "db"),
    ("port", "set", "web2", "--qos-egress", "5000"),
    ("network", "set", "green", "--mtu", "1400"),
    ("port", "delete", "web2", "db"),
)


def test_events_from_the_first_lease_on(lab: Lab, vms: dict[str, Vm]) -> None:
    since = told(lab, "events")
    texts = [event["text"] for event in since]
    for vm in vms.values():
        name, node = vm.name, vm.node.name
        story = [
            f"admin created port {name}",
            f"{name} is plugged in on {node}",
            f"{name} is active on {node}",
            f"{name} got {vm.address} on green ({node})",
        ]
        assert [text for text in texts if text in story] == story, texts
    assert {f"{node.name} is connected" for node in lab.nodes} <= set(texts)
    told_so_far = [str(lab.directory / "trunkline"), "events", "--follow", "-o", "json"]
    with subprocess.Popen(told_so_far, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        try:
            lines = iter(follower.stdout.readline, "")
            assert [json.loads(next(lines)) for _ in since] == since
            trunkline(lab, "port", "set", "web1", "--hostname", "www")
            assert json.loads(next(lines))["text"] == "admin changed port web1: hostname"
            vms["web2"].release()
            assert json.loads(next(lines))["text"] == f"web2 gave back {vms['web2'].address} on green (n1)"
            vms["web2"].start_client()
            vms["web2"].wait_configured()
            assert json.loads(next(lines))["text"] == f"web2 got {vms['web2'].address} on green (n1)"
        finally:
            follower.terminate()
    own = lab.control.client(member_token("blue"))
    seen = [event["text"] for event in own.list_events()[0]]
    assert f"web1 got {vms['web1'].address} on green (n1)" in seen and "n1 is connected" not in seen


def test_drops_of_a_port_by_rule(lab: Lab, vms: dict[str, Vm]) -> None:
    web1, before = vms["web1"], told(lab, "drops", "web1")
    assert not [drop for drop in before if drop["rule"] == "drop_spoofed"]
    web1.execute("ip", "address", "add", "10.99.0.1/32", "dev", "eth0")
    web1.execute("ping", "-c", "7", "-i", "0.05", "-W", "0.1", "-I", "10.99.0.1", "10.40.0.200", check=False)

    def spoofed(*words: str) -> list[tuple[str, str, int]]:
        found = [drop for drop in told(lab, "drops", *words) if drop["rule"] == "drop_spoofed"]
        return [(drop["node"], drop["port_name"], drop["packets"]) for drop in found]

    def count() -> int:
        return sum(packets for *_, packets in spoofed("web1"))

    wait_until(lambda: count() > 0, DEADLINE, "nothing was dropped")
    wait_until(lambda: spoofed() == spoofed("web1") == spoofed("--node", "n1"), DEADLINE, "the lists differ")
    assert [drop[:2] for drop in spoofed()] == [("n1", "web1")] and not spoofed("--node", "n2")
    own = lab.control.client(member_token("blue"))
    assert {drop["port_name"] for drop in own.list_drops()[0]} <= {"web1", "web2", "db"}


def test_a_plan_and_then_the_switches_as_planned(lab: Lab, vms: dict[str, Vm], tmp_path: Path) -> None:
    file = tmp_path / "flows"
    for change in CHANGES:
        before = {node.name: held(node, file) for node in lab.nodes}
        revision = told(lab, "audit", "--limit", "1")[0]["revision"]
        plan = planned(lab, *change)
        assert told(lab, "audit", "--limit", "1")[0]["revision"] == revision, "nothing is written"
        assert {node.name: held(node, file) for node in lab.nodes} == before, "nothing is sent"
        trunkline(lab, *change, "--wait")
        for node in lab.nodes:
            wait_held(node, applied(plan, node.name, before[node.name], file), file)
        if change[0] in ("port", "floating-ip", "network"):
            assert sum(one["adds"] + one["deletes"] + one["changes"] for one in plan["nodes"]), plan
    before = {node.name: held(node, file) for node in lab.nodes}
    with pytest.raises(CommandFailed, match="network_in_use"):
        planned(lab, "network", "delete", "green")
    assert {node.name: held(node, file) for node in lab.nodes} == before
