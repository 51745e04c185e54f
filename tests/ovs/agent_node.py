"""A node for one agent, and nothing else on it: Open vSwitch in a namespace, and an API that records what it says."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from etc.lab import netns
from etc.lab.openvswitch import OpenVSwitch, datapath_type
from etc.lab.processes import Process, start, stop_all
from tests.ovs.fake_api import FakeApi

ROOT = Path(__file__).resolve().parents[2]


class Node:
    """One namespace with Open vSwitch, a NIC eth1, and agents that tests start and stop."""

    def __init__(self, namespace: str, directory: Path) -> None:
        self.namespace = namespace
        self.service_namespace = f"{namespace}-service"
        self.directory = directory
        self.ovs = OpenVSwitch(namespace, directory / "ovs", datapath_type())
        self.agents: list[Process] = []
        self._names = count(1)
        netns.create(namespace)
        netns.configure(namespace, "link add eth1 type veth peer name rack1", "link set rack1 up")
        self.api = FakeApi(namespace)
        self.ovs.start()
        self.ovs.vsctl("set", "Open_vSwitch", ".", "ovs_version=3.5.0")  # ovs-ctl does it on a real machine

    def close(self) -> None:
        stop_all(self.agents)
        self.ovs.stop()
        self.api.stop()
        netns.end_processes([self.namespace])
        netns.delete(self.namespace, self.service_namespace)
        shutil.rmtree(self.directory)

    def start_agent(
        self,
        *extra: str,
        controllers: tuple[str, ...] = ("tcp:127.0.0.1:6653",),
        heartbeat: float = 10.0,
        datapath_id: str = "0000020000000001",
        snat_address: str = "physnet1:203.0.113.11",
        inside_exec: bool = False,
    ) -> Process:
        lines = [
            "[agent]",
            "node = n1",
            f"ovsdb = {self.ovs.database}",
            f"datapath_type = {self.ovs.datapath}",
            f"datapath_id = {datapath_id}",
            "physical_network = physnet1:eth1",
            "physical_network = physnet2",
            f"snat_address = {snat_address}",
            f"api_url = http://127.0.0.1:{self.api.port}",
            "api_token = t0ken",
            f"service_namespace = {self.service_namespace}",
            f"socket = {self.directory}/agent.sock",
            f"heartbeat_interval = {heartbeat}",
            *(f"controller = {target}" for target in controllers),
            *extra,
        ]
        path = self.directory / "agent.conf"
        path.write_text("\n".join(lines) + "\n")
        command = [sys.executable, "-m", "agent", "--config-file", str(path)]
        enter = netns.command if inside_exec else netns.joined
        agent = start("agent", enter(self.namespace, command), self.directory / "agent.log", cwd=ROOT)
        self.agents.append(agent)
        return agent

    def start_and_settle(self, **options: object) -> Process:
        """Starts an agent and returns when it has reported both uplinks."""
        self.api.forget()
        agent = self.start_agent(**options)  # type: ignore[arg-type]
        agent.wait_for(lambda: self.uplinks() == {"physnet1": 65001, "physnet2": 65002}, 20, "no report")
        return agent

    def uplinks(self) -> dict[str, int]:
        reports = self.api.reports()
        return reports[-1].body["uplinks"] if reports else {}

    def reports(self, iface_id: str) -> bool:
        return iface_id in self.api.ofports()

    def has_controllers(self, targets: tuple[str, ...]) -> bool:
        return tuple(sorted(self.ovs.vsctl("get-controller", "br-int").split())) == targets

    def add_interface(self, iface_id: str | None = None) -> tuple[str, str]:
        """A veth in br-int; returns its name and its iface-id."""
        number = next(self._names)
        name, iface_id = f"vm{number}", iface_id or f"port-{number}"
        netns.configure(self.namespace, f"link add {name} type veth peer name {name}p", f"link set {name} up")
        self.ovs.vsctl(
            "add-port",
            "br-int",
            name,
            "--",
            "set",
            "Interface",
            name,
            f"external_ids:iface-id={iface_id}",
            'external_ids:attached-mac="fa:16:3e:00:00:01"',
        )
        return name, iface_id

    def remove_interface(self, name: str) -> None:
        self.ovs.vsctl("del-port", name)
        netns.configure(self.namespace, f"link delete {name}")

    def database_size(self) -> int:
        """Bytes: every transaction that changes something lasting makes the file longer."""
        return (self.ovs.directory / "conf.db").stat().st_size

    def database_tail(self, size: int) -> str:
        """The transactions since the file was so long."""
        return (self.ovs.directory / "conf.db").read_bytes()[size:].decode()


@contextmanager
def bare_node() -> Iterator[Node]:
    """Gone at the end, with all that an agent has made."""
    directory = Path(tempfile.mkdtemp(prefix="tl-agent-"))
    namespace = f"tla{os.getpid()}"
    try:
        node = Node(namespace, directory)
    except BaseException:
        netns.end_processes([namespace])
        netns.delete(namespace)
        shutil.rmtree(directory)
        raise
    try:
        yield node
    finally:
        node.close()
