"""What these tests break: VMs whose packets are counted, and objects that clients change meanwhile."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from controller.client import Object
from etc.lab.lab import Lab
from etc.lab.node import Node
from etc.lab.processes import wait_until
from etc.lab.vm import Vm
from tests.faults import clients
from tests.faults.clients import Kind
from tests.netns.cloud import make_network, make_outside, make_vms, unbroken, wait_outside, want
from tests.netns.floating import give, make_pool

PROJECT = "blue"
COMERS = 4
"""Ports that come and go, on each node in turn."""


@dataclass
class Cloud:
    """`v1` on n1, `v2` on n2 and so on are VMs; `floating_ip` leads to v1. `anchors` are ports without a VM, one on
    each node, and `comers` are the ids of interfaces, whose ports come and go.
    """

    lab: Lab
    network: Object
    vms: dict[str, Vm]
    floating_ip: Object
    anchors: list[Object]
    comers: list[str]
    group: Object

    def kinds(self) -> list[Kind]:
        """What clients are to change; each call begins anew."""
        anchors = [port["id"] for port in self.anchors]
        fields = {"project_id": PROJECT, "security_groups": [self.group["id"]]}
        return [
            clients.ports(self.network["id"], self.comers, **fields),
            clients.floating_ips("changing", anchors, PROJECT),
            clients.rules(self.group["id"]),
        ]

    @contextmanager
    def traffic(self, *vms: str) -> Iterator[None]:
        """100 packets a second between two VMs (v2 and v1 unless said otherwise), from the first out, and from it to a
        floating IP of the second. None may be lost.
        """
        one, other = (self.vms[name] for name in vms or ("v2", "v1"))
        with unbroken((one, other.address), (other, self.lab.fabric.far_host), (one, self.floating_ip["address"])):
            yield

    def comer(self, number: int = 0) -> Object:
        """One of the ports that come and go, and is served now."""
        wanted = {"id": self.comers[number], "network_id": self.network["id"], "project_id": PROJECT}
        made = self.lab.client.create_port(wanted).object
        assert made
        wait_served(self.lab, [made["id"]])
        return made


def build(lab: Lab, **network: object) -> Cloud:
    outside = make_outside(lab)
    make_pool(lab, outside, "public", "203.0.113.150-203.0.113.154")
    make_pool(lab, outside, "changing", "203.0.113.155-203.0.113.199")
    made = make_network(lab, "net", "10.1.0.0/24", segment=101, **network)
    group = lab.client.create_security_group({"name": "changing", "project_id": PROJECT}).object
    assert group
    vms = make_vms(lab, *(want(f"v{number}", node, made) for number, node in enumerate(lab.nodes, 1)))
    wait_outside(lab, *vms.values())
    floating_ip = give(lab, vms["v1"], project_id=None)
    anchors = [_anchor(lab, node, made, group) for node in lab.nodes]
    dice = random.Random(7)
    comers = [str(uuid.UUID(int=dice.getrandbits(128), version=4)) for _ in range(COMERS)]
    for number, id_ in enumerate(comers):
        plug_nothing(lab.nodes[number % len(lab.nodes)], id_)
    wait_served(lab, [port["id"] for port in anchors])
    return Cloud(lab, made, vms, floating_ip, anchors, comers, group)


def _anchor(lab: Lab, node: Node, network: Object, group: Object) -> Object:
    id_ = str(uuid.uuid4())
    plug_nothing(node, id_)
    fields = {"id": id_, "network_id": network["id"], "project_id": PROJECT, "security_groups": [group["id"]]}
    made = lab.client.create_port(fields).object
    assert made
    return made


def plug_nothing(node: Node, id_: str) -> None:
    """An interface with nothing behind it: a patch port without a peer."""
    patch = ["type=patch", f"options:peer=x{id_[:12]}", f"external_ids:iface-id={id_}"]
    node.ovs.vsctl("add-port", "br-int", f"p{id_[:12]}", "--", "set", "Interface", f"p{id_[:12]}", *patch)


def wait_served(lab: Lab, ids: Sequence[str], deadline: float = 20) -> None:
    wait_until(
        lambda: all(lab.client.get_port(id_)["status"] == "active" for id_ in ids), deadline, "ports are not served"
    )
