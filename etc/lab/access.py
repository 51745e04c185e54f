"""An access switch: what is untagged behind it is on one VLAN of a physical network. Not every kernel has VLANs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from etc.lab import netns
from etc.lab.fabric import QUIET
from etc.lab.lab import Lab
from etc.lab.openvswitch import OpenVSwitch


@contextmanager
def access_port(lab: Lab, namespace: str, interface: str, physical_network: str, vlan: int) -> Iterator[None]:
    """Give a namespace an interface on a VLAN, during a `with`."""
    name = f"v{vlan}"
    switch = f"{lab.prefix}-{name}"
    netns.create(switch)
    netns.set_sysctl(switch, QUIET)
    lab.fabric.connect(switch, "trunk", physical_network, name)
    netns.veth(namespace, interface, switch, "access", mtu=lab.fabric.mtu)
    ovs = OpenVSwitch(switch, lab.directory / name, lab.datapath)
    try:
        ovs.start()
        bridge = ["add-br", "sw", "--", "set", "bridge", "sw", f"datapath_type={lab.datapath}"]
        ovs.vsctl(*bridge, "--", "add-port", "sw", "trunk", "--", "add-port", "sw", "access", f"tag={vlan}")
        yield
    finally:
        ovs.stop()
