"""One node: a namespace with its own Open vSwitch, its network cards, and its agent."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from controller.pki.directory import CA, CERTIFICATE, KEY
from controller.pki.identity import Kind
from etc.lab import netns
from etc.lab.control import ADDRESS as CONTROL_ADDRESS
from etc.lab.control import ADMIN_TOKEN, AGENT_TOKEN, PROJECT_ROOT, Control, write_ini
from etc.lab.fabric import EXTERNAL_NETWORK, QUIET, Fabric
from etc.lab.openvswitch import OpenVSwitch
from etc.lab.processes import Process, start

FIRST_HOST_NUMBER = 10
"""Node 1 is .11 on the management and on the external network."""

INTEGRATION_BRIDGE = "br-int"


class Node:
    """Node number `number` (from 1) of a laboratory; its name is n<number>."""

    def __init__(self, prefix: str, number: int, directory: Path, datapath: str) -> None:
        self.name = f"n{number}"
        self.namespace = f"{prefix}-{self.name}"
        self.service_namespace = f"{self.namespace}-service"
        self.directory = directory
        self.socket = directory / "agent.sock"
        self.ovs = OpenVSwitch(self.namespace, directory / "ovs", datapath)
        self.agent: Process | None = None
        host = FIRST_HOST_NUMBER + number
        self.management = IPv4Interface((int(CONTROL_ADDRESS.network.network_address) + host, 24))
        self.snat_address: IPv4Address = EXTERNAL_NETWORK[host]
        self.nics: dict[str, str] = {}
        self.agent_options: dict[str, object] = {}

    def start(self, fabric: Fabric, control: Control | None) -> None:
        """The namespace, its cables and its Open vSwitch; not the agent."""
        self.directory.mkdir(parents=True, exist_ok=True)
        netns.create(self.namespace)
        netns.set_sysctl(self.namespace, QUIET)
        if control:
            control.connect(self.namespace, f"{self.name}-mgmt", self.management)
        for index, physical_network in enumerate(fabric.physical_networks, 1):
            self.nics[physical_network] = f"eth{index}"
            fabric.connect(self.namespace, f"eth{index}", physical_network, self.cable(physical_network))
        if fabric.external in self.nics:
            self.agent_options = {"snat_address": f"{fabric.external}:{self.snat_address}"}
        self._write_wrapper(control)
        self.ovs.start()

    def cable(self, physical_network: str) -> str:
        """The rack switch's end of the cable to this node's card."""
        return f"{self.name}-{self.nics[physical_network]}"

    def start_agent(self, control: Control, options: Mapping[str, object] | None = None) -> None:
        """Start the agent, for all controllers; `options` replace or add to [agent] of its configuration."""
        self.agent_options.update(options or {})
        settings: dict[str, object] = {
            "node": self.name,
            "ovsdb": self.ovs.database,
            "integration_bridge": INTEGRATION_BRIDGE,
            "datapath_type": self.ovs.datapath,
            "service_namespace": self.service_namespace,
            "socket": self.socket,
            "physical_network": [f"{name}:{nic}" for name, nic in self.nics.items()],
            "controller": [each.openflow_target for each in control.all],
            "api_url": [each.url for each in control.all],
            **self._credentials(control),
            **self.agent_options,
        }
        config = self.directory / "agent.conf"
        write_ini(config, {"agent": settings})
        command = [sys.executable, "-m", "agent", "--config-file", str(config)]
        log = self.directory / "agent.log"
        self.agent = start(f"agent of {self.name}", netns.joined(self.namespace, command), log, cwd=PROJECT_ROOT)

    def _credentials(self, control: Control) -> dict[str, object]:
        place = control.certificate(Kind.NODE, self.name)
        if place is None:
            return {"api_token": AGENT_TOKEN}
        return {"certificate": place / CERTIFICATE, "key": place / KEY, "ca": place / CA}

    def stop_agent(self) -> None:
        if self.agent:
            self.agent.stop()

    def restart_agent(self, control: Control, *, kill: bool = False) -> None:
        assert self.agent
        self.agent.kill() if kill else self.agent.stop()
        self.start_agent(control)

    def execute(self, *args: str, check: bool = True, deadline: float = 30.0) -> str:
        """Run a command on the node, in its network and with ovs-vsctl and the like pointing at its Open vSwitch."""
        environment = ["env", f"OVS_RUNDIR={self.ovs.directory}"]
        return netns.execute(self.namespace, *environment, *args, check=check, deadline=deadline)

    def _write_wrapper(self, control: Control | None) -> None:
        """`on` for the operator: runs a command on the node, `trunkline plug` among them."""
        wrapper = self.directory / "on"
        environment = {
            "OVS_RUNDIR": self.ovs.directory,
            "TRUNKLINE_OVSDB": self.ovs.database,
            "TRUNKLINE_URL": control.url if control else "",
            "TRUNKLINE_CA": control.ca if control else "",
            "TRUNKLINE_TOKEN": ADMIN_TOKEN,
            "PATH": f"{Path(sys.executable).parent}:$PATH",
        }
        exports = " ".join(f'{name}="{value}"' for name, value in environment.items())
        wrapper.write_text(f'#!/bin/sh\nexport {exports}\nexec nsenter --net={netns.DIRECTORY}/{self.namespace} "$@"\n')
        wrapper.chmod(0o755)
