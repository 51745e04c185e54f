"""A virtual machine by libvirt, with the element that `trunkline port xml` prints and nothing else of ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from controller.client import Object
from etc.lab.lab import Lab
from etc.lab.processes import CommandFailed, wait_until
from tests.docs_text import Part, blocks, commands, spans
from tests.enclosure import Enclosure, enclosed
from tests.vm.guest import BOOT, kernel

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

RUNS = (Part("plugging.md", "libvirt"),)
READY = Part("plugging.md", "When it is ready", "ovs-vsctl")

_SETUP = """
mkdir -p /var/lib/libvirt /var/log/libvirt /var/cache/libvirt
cat >/etc/libvirt/qemu.conf <<END
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
remember_owner = 0
stdio_handler = "file"
END
"""
_DOMAIN = """
<domain type='qemu'>
  <name>web1</name>
  <memory unit='MiB'>192</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{kernel}</kernel>
    <initrd>{initrd}</initrd>
    <cmdline>console=ttyS0 quiet panic=-1</cmdline>
  </os>
  <on_reboot>destroy</on_reboot>
  <devices>
    <serial type='file'><source path='{console}'/></serial>
    <memballoon model='none'/>
  </devices>
</domain>
"""


@pytest.fixture
def machine(lab: Lab) -> Iterator[Enclosure]:
    """The node, as one that has Debian's libvirt."""
    with enclosed(lab, lab.nodes[0], _SETUP, "libvirtd") as machine:
        machine.process.wait_for(lambda: answers(machine), 60, "no answer")
        yield machine


def answers(machine: Enclosure) -> bool:
    with suppress(CommandFailed):
        return "QEMU" in machine.run("virsh version")
    return False


def as_written(element: list[str], port: Object, network: Object) -> list[str]:
    """The element of docs/plugging.md, as it is for another port."""
    text = "\n".join(element)
    for of, own in (("mac address", port["mac"]), ("interfaceid", port["id"]), ("target dev", f"tap{port['id'][:11]}")):
        text = re.sub(f'{of}="[^"]+"', f'{of}="{own}"', text)
    return re.sub('mtu size="[^"]+"', f'mtu size="{network["mtu"]}"', text).splitlines()


def test_a_machine_by_virsh(lab: Lab, network: Object, initrd: Path, machine: Enclosure, tmp_path: Path) -> None:
    """With what docs/plugging.md has typed, and nothing else of ours."""
    node, text = lab.nodes[0], RUNS[0].text
    (create, show), element = blocks(text)
    (attach,) = [span for span in spans(text) if "virsh" in span]
    (wait,) = [line for line in commands(READY.text) if line.startswith(READY.starting)]
    console, domain = tmp_path / "console", tmp_path / "domain.xml"
    domain.write_text(_DOMAIN.format(kernel=kernel(), initrd=initrd, console=console))
    machine.run(f"virsh define {domain}\n{create}")
    (port,) = lab.client.list_ports(name="web1")
    tap = f"tap{port['id'][:11]}"
    assert machine.run(show).splitlines() == as_written(element, port, network)
    machine.run(f"cd {tmp_path}\n{attach}")
    machine.run("virsh start web1")
    machine.run(re.sub(r"Interface \S+", f"Interface {tap}", wait))
    assert tap in machine.run("virsh domiflist web1")

    def said() -> str:
        return console.read_text(errors="replace") if console.exists() else ""

    for words in (f"GUEST has {port['fixed_ips'][0]['address']}/24", "GUEST mtu 1400", "GUEST reaches 10.40.0."):
        wait_until(lambda words=words: words in said(), BOOT, lambda words=words: f"no '{words}':\n{said()[-2000:]}")
    assert lab.client.get_port(port["id"])["status"] == "active"
    machine.run("virsh destroy web1")
    wait_until(lambda: lab.client.get_port(port["id"])["status"] == "unbound", 20, "the port is still bound")
    assert tap not in node.ovs.vsctl("list-ports", "br-int")
