"""The mark that an interface is ready, as those who start machines wait for it: with `ovs-vsctl wait-until`."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from controller.client import Object
from etc.lab.lab import Lab
from etc.lab.node import Node
from etc.lab.processes import wait_until
from etc.lab.vm import Vm
from flows.rules import Rule, decode_cookie
from tests.netns.cloud import installed, make_network

pytestmark = pytest.mark.root

MARK = "external_ids:trunkline-installed"


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=1, agent_options={"heartbeat_interval": 2})


@pytest.fixture(scope="module")
def network(lab: Lab) -> Object:
    return make_network(lab, "net", "10.40.0.0/24", segment=140)


@contextmanager
def plugged(lab: Lab, network: Object, name: str) -> Iterator[Vm]:
    port = lab.client.create_port({"network_id": network["id"], "name": name}).object
    assert port
    vm = lab.plug(name, lab.nodes[0], port)
    try:
        yield vm
    finally:
        vm.delete()
        lab.vms.pop(name)


def wait_marked(node: Node, device: str) -> None:
    node.ovs.vsctl("--timeout=20", "wait-until", "Interface", device, f"{MARK}=true")


def marked_since(node: Node, device: str) -> int | None:
    """Milliseconds since the epoch; None where it is not marked at all."""
    columns = node.ovs.vsctl("--if-exists", "get", "Interface", device, "external_ids")
    since = re.search(r'trunkline-installed-ts="?(\d+)', columns)
    assert bool(since) is ("trunkline-installed=" in columns)
    return int(since[1]) if since else None


def served(node: Node, port: Object) -> bool:
    return any(decode_cookie(flow.cookie) == (Rule.CLASSIFY_PORT, port["key"]) for flow in installed(node))


def test_it_comes_when_the_flows_are_there_and_goes_with_them(lab: Lab, network: Object) -> None:
    node = lab.nodes[0]
    with plugged(lab, network, "one") as vm:
        wait_marked(node, vm.device)
        assert served(node, vm.port)
        since = marked_since(node, vm.device)
        assert since is not None and abs(since / 1000 - time.time()) < 60
        lab.confirm(lab.client.update_port(vm.port["id"], {"security_groups": []}).revision)
        node.restart_agent(lab.control)
        lab.wait_connected()
        assert marked_since(node, vm.device) == since, "a change of its rules or a restart is no news"
        lab.client.delete_port(vm.port["id"])
        wait_until(lambda: marked_since(node, vm.device) is None, 20, "the mark stays without a port")


def test_it_is_not_that_of_another_port(lab: Lab, network: Object) -> None:
    node = lab.nodes[0]
    with plugged(lab, network, "first") as vm:
        wait_marked(node, vm.device)
        node.ovs.vsctl("set", "Interface", vm.device, "external_ids:iface-id=nobody")
        wait_until(lambda: marked_since(node, vm.device) is None, 20, "it is still marked")
        node.ovs.vsctl("set", "Interface", vm.device, f"external_ids:iface-id={vm.port['id']}")
        wait_marked(node, vm.device)
        assert served(node, vm.port)
        lab.client.delete_port(vm.port["id"])


def test_without_a_controller_there_is_none(lab: Lab, network: Object) -> None:
    node, control = lab.nodes[0], lab.control
    port = lab.client.create_port({"network_id": network["id"], "name": "late"}).object
    assert port
    control.stop()
    vm = lab.plug("late", node, port)
    assert not served(node, port) and marked_since(node, vm.device) is None
    control.start()
    wait_marked(node, vm.device)
    assert served(node, port)
    lab.delete_vm(vm)
