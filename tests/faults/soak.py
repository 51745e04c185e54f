"""`python -m tests.faults.soak [SECONDS] [--seed NUMBER]`: edits and faults by chance; traffic that notices nothing.

For two thirds of the time everything may be struck. Then the controller and all but the last node are left alone, so
that it shows whether their memory grows. The last node is also the one that may lose packets: only there ovs-vswitchd
is killed and the cables are taken out. Whatever is wrong is raised; with the seed the same is done again.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from etc.lab import netns
from etc.lab.lab import Lab
from etc.lab.node import Node
from etc.lab.processes import Process
from tests.faults.clients import editing, wrong
from tests.faults.cloud import PROJECT, Cloud, build
from tests.faults.mirror import Mirror
from tests.netns.cloud import wait_reached

HOUR = 3600.0
NODES = 3
"""Packets are counted between the first two."""
ROUND_S = 30.0
"""Seconds at most after which packets are counted and what was answered is looked at."""

STORM = 2 / 3
"""Share of the time in which nobody is left alone."""

PAUSES = (0.2, 3.0)
BACK_S = 60.0
GROWTH = 0.1
"""By which memory may grow while it is watched, beside `SLACK_KB`: a heap is never quite the same."""
SLACK_KB = 12_000


@dataclass
class Soak:
    cloud: Cloud
    mirror: Mirror
    dice: random.Random
    struck: Counter[str] = field(default_factory=Counter)

    @property
    def lab(self) -> Lab:
        return self.cloud.lab

    @property
    def last(self) -> Node:
        return self.lab.nodes[-1]

    # faults, each over when it returns, but for what has to find itself again

    def controller(self, _node: Node) -> None:
        self.lab.control.restart(kill=True)

    def agent(self, node: Node) -> None:
        node.restart_agent(self.lab.control, kill=True)

    def database_server(self, node: Node) -> None:
        node.ovs.restart_database(kill=True)

    def switch(self, _node: Node) -> None:
        self.last.ovs.restart_switch(kill=True)

    def cables(self, _node: Node) -> None:
        cables = [self.last.cable(name) for name in self.last.nics]
        for cable in cables:
            self.lab.fabric.set_cable(cable, up=False)
        time.sleep(self.dice.uniform(*PAUSES))
        for cable in cables:
            self.lab.fabric.set_cable(cable, up=True)

    def management(self, node: Node) -> None:
        """The node reaches no controller."""
        link = f"link set {node.name}-mgmt"
        netns.configure(self.lab.control.namespace, f"{link} down")
        time.sleep(self.dice.uniform(*PAUSES))
        netns.configure(self.lab.control.namespace, f"{link} up")

    def storm(self, seconds: float) -> None:
        faults = (self.controller, self.agent, self.database_server, self.management, self.switch, self.cables)
        self._strike(seconds, faults, self.lab.nodes)

    def calm(self, seconds: float) -> None:
        faults = (self.agent, self.database_server, self.switch, self.cables, self.management)
        self._strike(seconds, faults, [self.last])

    def _strike(self, seconds: float, faults: tuple[Callable[[Node], None], ...], nodes: list[Node]) -> None:
        """Rounds of edits and faults. Raises AssertionError at the end of the one that has cost something."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            kinds = self.cloud.kinds()
            with self.cloud.traffic():
                with editing(kinds, lambda: self.lab.client, self.dice):
                    round_end = time.monotonic() + min(left, ROUND_S)
                    while time.monotonic() < round_end:
                        fault = self.dice.choice(faults)
                        self.struck[fault.__name__] += 1
                        fault(self.dice.choice(nodes))
                        time.sleep(self.dice.uniform(*PAUSES))
                self.settle()
            assert wrong(kinds, self.lab.client) == []
            answered = {kind.name: kind.answered for kind in kinds}
            assert all(answered.values()), answered
            for kind in kinds:
                kind.end_all(self.lab.client)
            print(f"{end - time.monotonic():6.0f} s left; answered: {answered}", flush=True)

    def settle(self) -> None:
        """Everything is back, serves, and holds what it should."""
        self.lab.wait_connected(BACK_S)
        self.lab.confirm(self.lab.client.list_networks()[0]["revision"])
        self.mirror.wait_equal(BACK_S)
        last = self.cloud.vms[f"v{len(self.lab.nodes)}"]
        wait_reached(last, self.cloud.vms["v1"].address, BACK_S)

    def watched(self) -> Mapping[str, Process]:
        """Whose memory is watched."""
        found = {"controller": self.lab.control.process}
        for node in self.lab.nodes[:-1]:
            found |= {f"agent of {node.name}": node.agent, f"ovs-vswitchd of {node.name}": node.ovs.switch}
        return {name: process for name, process in found.items() if process}


def resident_kb(process: Process) -> int:
    """What it has of memory now."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1])


@dataclass(frozen=True)
class Memory:
    """In KiB, after the first round without a fault of its own and at the end."""

    name: str
    before: int
    after: int

    @property
    def flat(self) -> bool:
        return self.after <= self.before * (1 + GROWTH) + SLACK_KB


def run(seconds: float, seed: int, prefix: str = "soak") -> list[Memory]:
    """Raises AssertionError when anything was lost, differs or grows."""
    print(f"seed {seed}", flush=True)
    with ExitStack() as stack:
        quota = {"quota": {"floating_ips": 100}}
        made = Lab(prefix, nodes=NODES, projects=(PROJECT,), open_groups=True, control_options=quota)
        lab = stack.enter_context(made)
        lab.wait_connected()
        url = f"sqlite:///file:{lab.control.directory}/trunkline.db?mode=ro&uri=true"
        mirror = stack.enter_context(Mirror.of(lab, url))
        soak = Soak(build(lab), mirror, random.Random(seed))
        soak.storm(seconds * STORM)
        calm = seconds * (1 - STORM)
        soak.calm(calm / 3)  # what is needed once is there afterwards
        before = {name: resident_kb(process) for name, process in soak.watched().items()}
        soak.calm(calm * 2 / 3)
        after = {name: resident_kb(process) for name, process in soak.watched().items()}
        print("faults:", dict(soak.struck))
    found = [Memory(name, before[name], after[name]) for name in before]
    for one in found:
        print(f"{one.name}: {one.before} KiB, then {one.after} KiB")
    assert all(one.flat for one in found), [one for one in found if not one.flat]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/run soak", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("seconds", nargs="?", type=float, default=HOUR, help="how long (an hour)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32), help="to see it again")
    arguments = parser.parse_args()
    began = time.monotonic()
    for one in run(arguments.seconds, arguments.seed):
        if one.name == "controller":
            print(f"figure soak_controller_growth_kb {one.after - one.before} KiB")
    print(f"nothing was lost in {time.monotonic() - began:.0f} s; seed {arguments.seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
