"""`trunkline trace` says what really happens: each packet is sent, and comes, or the flow that was named drops it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from controller.client import Object
from etc.lab import netns
from etc.lab.lab import Lab
from etc.lab.vm import Vm
from flows.rules import Rule
from tests.netns.cloud import ANYCAST_MAC, drops, make_network, make_outside, make_vms, wait_dropped, wait_outside, want
from tests.netns.floating import Place, at, far, give, make_pool
from tests.netns.policy import PING, Service, ingress, make_group, reachable, serving, wait_reachable

pytestmark = pytest.mark.root

OPEN, SHUT = Service("tcp", 5000), Service("tcp", 5001)
ASKED = Service("udp", 5000)


class Path(NamedTuple):
    """`to`: a VM, `floating NAME`, `far`, or `gateway`. `rule`: what drops it on which node, None: nothing."""

    sender: str
    to: str
    service: Service
    rule: Rule | None = None
    node: str = ""


PATHS = (
    Path("a1", "web1", OPEN),
    Path("a1", "web1", SHUT, Rule.DROP_INGRESS, "n1"),
    Path("a1", "web2", OPEN),
    Path("a1", "web2", ASKED),
    Path("a1", "web2", PING),
    Path("a1", "web2", SHUT, Rule.DROP_INGRESS, "n2"),
    Path("mute", "web2", OPEN, Rule.DROP_EGRESS, "n1"),
    Path("a1", "far", PING),
    Path("a1", "gateway", PING),
    Path("a1", "gateway", OPEN, Rule.DROP_GATEWAY, "n1"),
    Path("a1", "floating web2", OPEN),
    Path("a1", "floating web2", SHUT, Rule.DROP_INGRESS, "n2"),
    Path("far", "floating web2", OPEN),
    Path("far", "floating web2", SHUT, Rule.DROP_INGRESS, "n2"),
    Path("far", "floating inner", OPEN, Rule.DROP_INGRESS, "n2"),
    Path("a1", "inner", OPEN),
    Path("lone", "web2", OPEN, Rule.DROP_NO_ROUTE, "n1"),
)


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=2, open_groups=False)


@pytest.fixture(scope="module")
def vms(lab: Lab) -> Iterator[dict[str, Vm]]:
    make_pool(lab, make_outside(lab))
    closed = {"allow_same_net_traffic": False}
    a = make_network(lab, "a", "10.20.0.0/24", segment=120, **closed)
    b = make_network(lab, "b", "10.21.0.0/24", segment=121, **closed)
    c = make_network(lab, "c", "10.22.0.0/24", segment=122, gateway_mode="none")
    web = make_group(lab, "web", ingress("tcp", 5000), ingress("udp", 5000), ingress("icmp"))
    inner = make_group(lab, "inner", ingress("tcp", 5000, remote_cidr="10.0.0.0/8"))
    none = make_group(lab, "none")
    silent = make_group(lab, "silent", out=False)
    n1, n2 = lab.nodes
    made = make_vms(
        lab,
        want("a1", n1, a, security_groups=[none["id"]]),
        want("mute", n1, a, security_groups=[silent["id"]]),
        want("web1", n1, a, security_groups=[web["id"]]),
        want("web2", n2, b, security_groups=[web["id"]]),
        want("inner", n2, b, security_groups=[inner["id"]]),
        want("lone", n1, c, security_groups=[none["id"]]),
    )
    wait_outside(lab, made["a1"])
    with ExitStack() as stack:
        for name in ("web1", "web2", "inner"):
            serving(stack, made[name], OPEN, SHUT, ASKED)
        yield made


@pytest.fixture(scope="module")
def floating(lab: Lab, vms: dict[str, Vm]) -> dict[str, str]:
    return {name: str(give(lab, vms[name])["address"]) for name in ("web2", "inner")}


def traced(lab: Lab, vms: dict[str, Vm], path: Path, target: str) -> Object:
    sender = {"from_address": str(lab.fabric.far_host)} if path.sender == "far" else {"port": path.sender}
    ports = {} if path.service is PING else {"destination_port": path.service.port}
    return lab.client.trace({**sender, "to": target, "protocol": path.service.protocol, **ports})


@pytest.mark.parametrize(
    "path", PATHS, ids=lambda path: f"{path.sender}-{path.to}-{path.service.protocol}{path.service.port}"
)
def test_a_trace_says_what_happens(lab: Lab, vms: dict[str, Vm], floating: dict[str, str], path: Path) -> None:
    kind, _, name = path.to.rpartition(" ")
    targets = {"far": str(lab.fabric.far_host), "gateway": _router(vms["a1"])} | {
        each: str(vms[each].address) for each in vms
    }
    target = floating[name] if kind else targets[name]
    place: Place = far(lab) if path.sender == "far" else at(vms[path.sender])
    answer = traced(lab, vms, path, target)
    if path.rule is None:
        assert answer["arrives"], answer
        wait_reachable(place, target, path.service, 20)
        return
    last = answer["hops"][-1]
    assert (answer["verdict"], last["drop"]["rule"], last["node"]) == ("dropped", path.rule.name.lower(), path.node), (
        answer
    )
    node = next(node for node in lab.nodes if node.name == path.node)
    if path.sender == "lone":
        # nobody tells it of a gateway: it tries all the same
        netns.configure(
            place.namespace,
            f"neighbor replace 10.22.0.254 lladdr {ANYCAST_MAC} dev eth0 nud permanent",
            "route replace default via 10.22.0.254 dev eth0 onlink",
        )
    before = drops(node)
    assert not reachable(place, target, path.service)
    wait_dropped(node, before, path.rule, 1)


def _router(vm: Vm) -> str:
    configured = vm.configured()
    assert configured is not None and configured.router is not None
    return str(configured.router)
