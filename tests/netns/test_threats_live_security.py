"""Port security that is switched on while a VM is at work (threats 3 and 6): what is forged ends, what is true goes on.

The numbers are those of the project's list of threats. Who may switch it off, and what such a port may send, is in
test_policy_options.py.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass

import pytest

from controller.client import Object
from etc.lab.lab import Lab
from etc.lab.processes import wait_until
from etc.lab.vm import Vm
from flows.rules import Rule
from tests.netns import cloud, frames
from tests.netns.cloud import make_network, make_outside, make_vms, wait_outside, want
from tests.netns.floating import Place, at, far, give, make_pool
from tests.netns.frames import Tap, arp, mac, mac_of, udp
from tests.netns.hostile import flood

pytestmark = pytest.mark.root

FOREIGN = mac("02:aa:bb:cc:dd:ee")
OFF: Object = {"port_security": False, "security_groups": [], "address_pairs": []}
PORT = 7400
RATE = 200
"""Of each forged frame, a second."""


@dataclass(frozen=True)
class Scene:
    """`vm` is the one without port security, `near` on its network, `other` of another project; all on one node."""

    lab: Lab
    vm: Vm
    near: Vm
    other: Vm


@pytest.fixture(scope="module")
def scene(make_lab: Callable[..., Lab]) -> Iterator[Scene]:
    lab = make_lab(nodes=1, projects=("blue", "red"))
    make_pool(lab, make_outside(lab))
    (node,) = lab.nodes
    blue = make_network(lab, "blue", "10.20.0.0/24", segment=120)
    red = make_network(lab, "red", "10.21.0.0/24", segment=121, project_id="red")
    vms = make_vms(lab, want("vm", node, blue), want("near", node, blue), want("other", node, red))
    wait_outside(lab, *vms.values())
    yield Scene(lab, vms["vm"], vms["near"], vms["other"])


class Session:
    """A TCP connection with an echo at its end."""

    def __init__(self, stack: ExitStack, client: Place, server: Place, to: tuple[object, int]) -> None:
        listener = stack.enter_context(cloud.tcp(*server, to[1]))
        listener.listen(1)
        self.client = stack.enter_context(cloud.tcp(*client))
        self.client.connect((str(to[0]), to[1]))
        self.served, _ = listener.accept()
        stack.enter_context(self.served)
        self.served.settimeout(10)

    def goes_on(self, first: socket.socket | None = None) -> None:
        """Asserts that each side hears the other; `first` says something first."""
        one, other = (self.client, self.served) if first in (None, self.client) else (self.served, self.client)
        for sender, receiver in ((one, other), (other, one)):
            text = os.urandom(8)
            sender.sendall(text)
            assert receiver.recv(100) == text


def test_threat_03_port_security_switched_on_ends_what_is_forged_alone(scene: Scene) -> None:
    """Forged frames are dropped by name; connections by true addresses, begun by either side, go on."""
    lab, vm, near = scene.lab, scene.vm, scene.near
    groups = [group["id"] for group in lab.client.get_port(vm.port["id"])["security_groups"]]
    public = give(lab, vm)["address"]
    lie = os.urandom(12)
    forged = [
        udp(vm, near.address, eth_dst=mac_of(near), eth_src=FOREIGN, payload=lie),
        udp(vm, near.address, eth_dst=mac_of(near), source="10.20.0.77", payload=lie),
        arp(vm, 2, "10.20.0.77", near.address, eth_dst=mac_of(near)),
    ]
    key = int(vm.port["key"])
    lab.confirm(lab.client.update_port(vm.port["id"], OFF).revision)
    with ExitStack() as stack:
        tap, heard = stack.enter_context(closing(Tap(vm.namespace))), stack.enter_context(closing(Tap(near.namespace)))
        ends = {
            "begun here": (at(vm), at(near), near.address),
            "begun there": (at(near), at(vm), vm.address),
            "to the outside": (at(vm), far(lab), lab.fabric.far_host),
            "from the outside": (far(lab), at(vm), public),
        }
        open_before = {
            kind: Session(stack, client, server, (to, PORT + number))
            for number, (kind, (client, server, to)) in enumerate(ends.items())
        }
        for each in open_before.values():
            each.goes_on()
        floods = [stack.enter_context(flood(tap, frame, RATE)) for frame in forged]
        for frame in forged:
            heard.wait_for(lambda seen, frame=frame: seen[:34] == frame[:34], 10, "a forged frame, without security")  # type: ignore[misc]
        stream = scene.other.ping_stream(lab.fabric.far_host, rate=25)
        dropped = frames.drops(vm.node)[Rule.DROP_SPOOFED, key]
        lab.confirm(lab.client.update_port(vm.port["id"], {"port_security": True, "security_groups": groups}).revision)
        wait_until(
            lambda: frames.drops(vm.node)[Rule.DROP_SPOOFED, key] - dropped > 100, 10, "forged frames are dropped"
        )
        heard.clear()
        passed = [sent() for sent in floods]
        wait_until(
            lambda: all(sent() > was + RATE for sent, was in zip(floods, passed, strict=True)), 10, "more of them"
        )
        for kind, each in open_before.items():
            each.goes_on(each.served if kind.startswith("begun there") else each.client)
        assert not [seen for seen in heard.frames() if any(seen[:34] == frame[:34] for frame in forged)]
        pinged = stream.stop()
        assert pinged.sent > 0 and pinged.lost == 0, "another project's VM notices nothing"
