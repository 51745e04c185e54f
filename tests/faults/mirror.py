"""What the switches of a laboratory should hold: what the compiler makes of the database now."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import create_engine

from controller.store.model import load_snapshot
from controller.store.quarantine import Quarantine
from etc.lab.lab import Lab
from etc.lab.node import Node
from etc.lab.openvswitch import OpenVSwitch
from etc.lab.processes import wait_until
from flows.compile import compile_node
from flows.ir import Stamp, stamp_flows
from tests.netns.cloud import program
from tests.ovs.real_switch import RealSwitch

LEFT_S = 30.0
"""Seconds in which all that has been deleted goes, once everything is back."""


class Mirror:
    """An Open vSwitch that is given the flows, so that they can be compared as text. `url`: of the database."""

    def __init__(self, switch: RealSwitch, lab: Lab, url: str) -> None:
        self._switch = switch
        self._shown = OpenVSwitch("", switch.directory, "dummy")
        self._lab = lab
        self._url = url

    @staticmethod
    @contextmanager
    def of(lab: Lab, url: str) -> Iterator[Mirror]:
        with RealSwitch.running((), ()) as switch:
            yield Mirror(switch, lab, url)

    def wanted(self, node: Node) -> list[str]:
        engine = create_engine(self._url)
        unusable = Quarantine()
        with engine.connect() as connection:
            compiled = compile_node(load_snapshot(connection, unusable), node.name)
        engine.dispose()
        assert not compiled.failures and not len(unusable)
        self._shown.ofctl("del-flows", "br-int")
        self._shown.ofctl("del-meters", "br-int")
        self._switch.load([*compiled.flows(), *stamp_flows(Stamp(compiled.digest))])
        return self._shown.flows()

    def differences(self) -> dict[str, set[str]]:
        """By node, the flows that it has and should not, or should and has not."""
        found = {node.name: set(program(node)) ^ set(self.wanted(node)) for node in self._lab.nodes}
        return {name: flows for name, flows in found.items() if flows}

    def wait_equal(self, deadline: float = LEFT_S) -> None:
        """Wait until every switch holds just what it should."""
        last: list[dict[str, set[str]]] = []

        def equal() -> bool:
            last.append(self.differences())
            return not last[-1]

        wait_until(equal, deadline, lambda: f"the switches differ from the database: {last[-1]}", interval=0.1)
