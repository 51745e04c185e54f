"""A virtual machine by libvirt, with the element that `trunkline port xml` prints and nothing else of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from controller.client import Object
from etc.lab import netns
from etc.lab.lab import Lab
from etc.lab.processes import CommandFailed, Process, run, start, wait_until
from tests.vm.guest import BOOT, kernel

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

# In a mount namespace: nothing of this machine's libvirt is seen, nor is anything left of what this one writes. It
# finds the node's Open vSwitch where ovs-vsctl looks for it.
_START = """
set -e
mount --make-rprivate /
mount --bind "$1" /mnt
for place in /run /etc/libvirt /var/lib/libvirt /var/log/libvirt /var/cache/libvirt; do
    mount -t tmpfs tmpfs $place
done
mkdir /run/openvswitch
mount --move /mnt /run/openvswitch
cat >/etc/libvirt/qemu.conf <<END
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
remember_owner = 0
stdio_handler = "file"
END
exec libvirtd
"""
_DOMAIN = """
<domain type='qemu'>
  <name>vm2</name>
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
    {interface}
    <memballoon model='none'/>
  </devices>
</domain>
"""


class Libvirt:
    """The daemon of a node; `virsh` runs where it does."""

    def __init__(self, daemon: Process) -> None:
        self._daemon = daemon

    def virsh(self, *words: str) -> str:
        enter = ["nsenter", f"--target={self._daemon.pid}", "--mount", "--net"]
        return run([*enter, "virsh", "--connect", "qemu:///system", *words], deadline=60)

    def answers(self) -> bool:
        with suppress(CommandFailed):
            return "QEMU" in self.virsh("version")
        return False


@pytest.fixture
def libvirt(lab: Lab) -> Iterator[Libvirt]:
    node = lab.nodes[0]
    command = ["unshare", "--mount", "bash", "-c", _START, "libvirtd", str(node.ovs.directory)]
    daemon = start("libvirtd", netns.joined(node.namespace, command), lab.directory / "libvirtd.log")
    libvirt = Libvirt(daemon)
    try:
        daemon.wait_for(libvirt.answers, 60, "no answer")
        yield libvirt
    finally:
        with suppress(CommandFailed):
            libvirt.virsh("destroy", "vm2")
        daemon.stop()


def test_a_machine_by_virsh(lab: Lab, network: Object, initrd: Path, libvirt: Libvirt, tmp_path: Path) -> None:
    node = lab.nodes[0]
    port = lab.client.create_port({"network_id": network["id"], "name": "vm2"}).object
    assert port
    interface = node.execute(str(node.directory / "on"), "trunkline", "port", "xml", "vm2")
    console, domain = tmp_path / "console", tmp_path / "domain.xml"
    domain.write_text(_DOMAIN.format(kernel=kernel(), initrd=initrd, console=console, interface=interface))
    libvirt.virsh("define", str(domain))
    libvirt.virsh("start", "vm2")
    tap = f"tap{port['id'][:11]}"
    node.ovs.vsctl("--timeout=20", "wait-until", "Interface", tap, "external_ids:trunkline-installed=true")
    assert tap in libvirt.virsh("domiflist", "vm2")

    def said() -> str:
        return console.read_text(errors="replace") if console.exists() else ""

    for words in (f"GUEST has {port['fixed_ips'][0]['address']}/24", "GUEST mtu 1400", "GUEST reaches 10.40.0."):
        wait_until(lambda words=words: words in said(), BOOT, lambda words=words: f"no '{words}':\n{said()[-2000:]}")
    assert lab.client.get_port(port["id"])["status"] == "active"
    libvirt.virsh("destroy", "vm2")
    wait_until(lambda: lab.client.get_port(port["id"])["status"] == "unbound", 20, "the port is still bound")
    assert tap not in node.ovs.vsctl("list-ports", "br-int")
