"""A virtual machine by plain QEMU on a tap that `trunkline plug` has made."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from controller.client import Object
from etc.lab import netns
from etc.lab.lab import Lab
from etc.lab.processes import start
from tests.docs_text import Part, commands
from tests.vm.guest import BOOT, kernel

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]


RUNS = (Part("plugging.md", "Plain QEMU"),)
# in place of the dots; Debian has the card's ROM in a package of its own
OPTIONS = (
    "-machine q35,accel=tcg -m 192 -nographic -nodefaults -serial stdio -no-reboot -global virtio-net-pci.romfile= "
    "-kernel {kernel} -initrd {initrd} -append 'console=ttyS0 quiet panic=-1'"
)


def test_a_machine_gets_its_address_by_dhcp(lab: Lab, network: Object, initrd: Path) -> None:
    """As docs/plugging.md has it typed."""
    node = lab.nodes[0]
    create, plug, qemu, unplug = commands(RUNS[0].text)

    def run(line: str) -> str:
        return node.execute(str(node.directory / "on"), "bash", "-ec", line)

    run(create)
    (port,) = lab.client.list_ports(name="vm1")
    tap = f"tl{port['id'][:11]}"
    said = run(plug)
    assert tap in said and port["mac"] in said
    line = qemu.replace(" ... ", f" {OPTIONS.format(kernel=kernel(), initrd=initrd)} ")
    line = re.sub("ifname=[^,]+", f"ifname={tap}", re.sub("mac=[0-9a-f:]+", f"mac={port['mac']}", line))
    machine = start("qemu", netns.joined(node.namespace, shlex.split(line)), lab.directory / "qemu.log")
    try:
        address = port["fixed_ips"][0]["address"]
        for words in (f"GUEST has {address}/24", "GUEST mtu 1400", "GUEST reaches 10.40.0.", "GUEST ready"):
            machine.wait_for(lambda words=words: words in machine.tail(400), BOOT, f"the guest does not say '{words}'")
    finally:
        machine.stop()
    assert tap in node.ovs.vsctl("list-ports", "br-int"), "the tap stays when QEMU ends"
    run(unplug)
    assert tap not in node.ovs.vsctl("list-ports", "br-int")
