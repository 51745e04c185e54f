"""A virtual machine by plain QEMU on a tap that `trunkline plug` has made."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.client import Object
from etc.lab import netns
from etc.lab.lab import Lab
from etc.lab.processes import start
from tests.vm.guest import BOOT, kernel

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]


def test_a_machine_gets_its_address_by_dhcp(lab: Lab, network: Object, initrd: Path) -> None:
    node = lab.nodes[0]
    port = lab.client.create_port({"network_id": network["id"], "name": "vm1"}).object
    assert port
    said = node.execute(str(node.directory / "on"), "trunkline", "plug", "vm1", "--tap", "--wait", "-o", "json")
    tap = f"tl{port['id'][:11]}"
    assert tap in said
    # as docs/plugging.md has it
    command = [
        "qemu-system-x86_64", "-machine", "q35,accel=tcg", "-m", "192", "-nographic", "-nodefaults", "-serial", "stdio",
        "-kernel", str(kernel()), "-initrd", str(initrd), "-append", "console=ttyS0 quiet panic=-1", "-no-reboot",
        "-netdev", f"tap,id=net0,ifname={tap},script=no,downscript=no",
        "-device", f"virtio-net-pci,netdev=net0,mac={port['mac']},romfile=",
    ]  # fmt: skip
    machine = start("qemu", netns.joined(node.namespace, command), lab.directory / "qemu.log")
    try:
        address = port["fixed_ips"][0]["address"]
        for said in (f"GUEST has {address}/24", "GUEST mtu 1400", "GUEST reaches 10.40.0.", "GUEST ready"):
            machine.wait_for(lambda said=said: said in machine.tail(400), BOOT, f"the guest does not say '{said}'")
    finally:
        machine.stop()
    node.execute(str(node.directory / "on"), "trunkline", "unplug", "vm1")
    assert tap not in node.ovs.vsctl("list-ports", "br-int")
