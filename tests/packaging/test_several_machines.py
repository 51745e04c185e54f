"""Three machines with TLS, then two controllers on PostgreSQL, by the commands of docs/install.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from etc.lab.openvswitch import datapath_type
from etc.lab.processes import wait_until
from tests.docs_text import Part
from tests.packaging.machine import Machine
from tests.packaging.walk import Hosts, walk

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]

RUNS = (
    Part("install.md", "On three", ("apt-get", "chgrp", "cp", "scp -r", "systemctl", "trunkline")),
    Part("install.md", "More nodes, more controllers"),
)
ADDRESSES = {"ctl1": 10, "ctl2": 11, "n1": 21, "n2": 22}
NODES = ("n1", "n2")
MEANT = {"n1": NODES, "each node": NODES, "ctl1": ("ctl1",), "ctl2": ("ctl2",), "the machine that has it": ("ctl1",)}
NODE_CONF = "/etc/trunkline/trunkline-agent.conf.d/node.conf"
NETWORK = "network create blue --project blue --vlan 120 --cidr 10.20.0.0/24 --physical-network physnet1"


@pytest.fixture(scope="module")
def hosts(packages: list[Path]) -> Iterator[Hosts]:
    """On one network, with the packages in root's home; the nodes have a wire between them, too."""
    with ExitStack() as stack:
        made = {name: stack.enter_context(Machine(name, furnished=True)) for name in ADDRESSES}
        hub = made["ctl1"]
        hub.run("ip link add mgmt type bridge && ip link set mgmt up && ip address add 192.0.2.5/24 dev mgmt")
        for name, machine in made.items():
            if machine is not hub:
                hub.cable(name, machine, "mgmt")
                hub.run(f"ip link set {name} master mgmt")
            machine.run(f"ip address add 192.0.2.{ADDRESSES[name]}/24 dev mgmt")
            for file in packages:
                machine.copy(file, "/root")
        made["n1"].cable("eth1", made["n2"], "eth1")
        for name in NODES:
            if datapath_type() == "netdev":
                text = "[agent]\ndatapath_type = netdev\n"
                made[name].write("/etc/trunkline/trunkline-agent.conf.d/datapath.conf", text)
        yield made


def wait_live(machine: Machine) -> None:
    def live() -> bool:
        return len(re.findall(r"(?m)^n\d +live ", machine.run("trunkline status", check=False))) == len(NODES)

    wait_until(live, 60, lambda: machine.run("trunkline status", check=False), interval=0.5)


def test_three_machines(hosts: Hosts) -> None:
    text = RUNS[0].text.partition("On n1 and n2;")  # before it copies what is there
    answers = walk(text[1] + text[2], hosts, MEANT)
    said = next(answer for command, answer in answers.items() if command.endswith("./trunkline-agent_*.deb"))
    assert f"write {NODE_CONF}, then: systemctl restart trunkline-agent" in said, "as the page says"
    assert NODE_CONF in RUNS[0].text and "systemctl restart trunkline-agent\n" in RUNS[0].text
    control = hosts["ctl1"]
    wait_live(control)
    assert "ssl:192.0.2.10:6653" in hosts["n1"].run("ovs-vsctl get-controller br-int")
    control.run(f"trunkline {NETWORK}")
    token = re.search(r"(?m)^token: (\S+)$", control.run("cat /etc/trunkline/cli.yaml"))
    assert token
    for name in NODES:
        assert hosts[name].run(f"grep -rlF {token[1]} /etc /root /var/lib/trunkline* || true") == ""
        control.run(f"trunkline port create vm-{name} --network blue")
        hosts[name].run(f"trunkline plug vm-{name} --namespace vm --wait")
        hosts[name].run("ip netns exec vm udhcpc -i eth0 -f -q -t 20")
    assert ", 0% packet loss" in ping(hosts)


def ping(hosts: Hosts) -> str:
    """From one node's VM to the other's, over the wire."""
    address = re.search(r"inet ([\d.]+)", hosts["n2"].run("ip -4 -n vm address show eth0"))
    assert address
    hosts["n1"].run(f"ip netns exec vm ping -c 1 -w 10 {address[1]}")
    return hosts["n1"].run(f"ip netns exec vm ping -c 20 -i 0.05 {address[1]}")


def test_a_second_controller(hosts: Hosts) -> None:
    hosts["ctl2"].run("apt-get install -y ./trunkline-common_*.deb ./trunkline-controller_*.deb")
    walk(RUNS[1].text, hosts, MEANT)
    for name in ("ctl1", "ctl2"):
        wait_live(hosts[name])

    def listed() -> bool:
        """Both, each with both nodes connected."""
        table = hosts["ctl1"].run("trunkline controller list", check=False)
        return all(re.search(rf"(?m)^{name} .* 2 +20\d\d-", table) for name in ("ctl1", "ctl2"))

    wait_until(listed, 60, lambda: hosts["ctl1"].run("trunkline controller list", check=False), interval=0.5)
    hosts["ctl1"].run("systemctl stop trunkline-controller")
    assert ", 0% packet loss" in ping(hosts)
    for name in NODES:
        hosts[name].run("ip netns exec vm udhcpc -i eth0 -f -q -t 20")
