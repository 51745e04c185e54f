"""A hostile VM and everybody who must not hear from it."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

from etc.lab import netns
from etc.lab.fabric import FAR_HOST, QUIET
from etc.lab.lab import Lab
from etc.lab.node import Node
from etc.lab.processes import wait_until
from etc.lab.vm import INTERFACE, Vm
from flows.pipeline import NODE_MAC_PREFIX
from flows.rules import Rule
from tests.netns import frames
from tests.netns.cloud import make_outside, wait_reached
from tests.netns.floating import give, make_pool
from tests.netns.frames import GATEWAY, Tap, client_message, drops, mac_of, sound
from tests.unit.packet_in import wire

OTHER_VLAN = 130
"""The stranger's network."""
THEIR_VLAN = 131
"""The foreigner's network."""

DHCP_LIMIT = 45
"""Messages a second of one port that the controller is sure to look at."""

SEGMENT = ("neighbour", "remote", "wire")
"""Who hears what the attacker broadcasts."""

PAYLOAD = slice(42, None)
"""Of a datagram's frame: what is the same, whatever has become of its addresses."""

COUNTED = 30.0
"""Seconds in which the switch's statistics show what has passed, also on a busy machine."""

PATIENT = {f"ipv4/neigh/{INTERFACE}/delay_first_probe_time": 3600}
"""A kernel that does not ask again by ARP whether a neighbour is still there."""


@dataclass
class Scene:
    """`attacker` and the others are VMs without a DHCP client, with their addresses set by hand.

    `neighbour` is on the attacker's network and node, `remote` on its network elsewhere, `stranger` on its node in
    another network of the same router, `foreigner` on its node in another project. `wire` is the rack's end of the
    node's cable, `outside` what the node sends by its cable to the external network.
    """

    lab: Lab
    attacker: Vm
    neighbour: Vm
    remote: Vm
    stranger: Vm
    foreigner: Vm
    public: IPv4Address = IPv4Address(0)
    """The foreigner's floating IP."""
    taps: dict[str, Tap] = field(default_factory=dict)
    honest: bytes = field(default_factory=lambda: os.urandom(12))

    @property
    def node(self) -> Node:
        return self.attacker.node

    @property
    def key(self) -> int:
        return int(self.attacker.port["key"])

    @property
    def network_key(self) -> int:
        return int(self.lab.client.get_network(self.attacker.port["network_id"])["key"])

    @property
    def tap(self) -> Tap:
        return self.taps["attacker"]

    @property
    def watchers(self) -> dict[str, Tap]:
        return {name: tap for name, tap in self.taps.items() if name != "attacker"}

    def open(self) -> None:
        for vm in (self.attacker, self.neighbour, self.remote, self.stranger, self.foreigner):
            netns.set_sysctl(vm.namespace, {**QUIET, **PATIENT})  # what a kernel says by itself is not to be counted
            self.taps[vm.name] = Tap(vm.namespace)
        self.taps["wire"] = Tap(self.lab.fabric.rack, self.node.cable("physnet1"), outgoing=True)
        # not what comes from there: whatever was sent there before may be answered late
        self.taps["outside"] = Tap(self.lab.fabric.rack, self.node.cable(self.lab.fabric.external))

    def close(self) -> None:
        for tap in self.taps.values():
            tap.close()

    def clear(self) -> None:
        for tap in self.taps.values():
            tap.clear()

    def leaked(self) -> dict[str, list[bytes]]:
        """What the watchers got since `clear`, until they have got what the attacker is allowed to send.

        In the kernel's datapath this may overtake a frame that is the first of its kind. Count drops before, where
        there is one.
        """
        mark = self.honest + os.urandom(4)
        self.tap.send(*self._allowed(mark))
        seen = {}
        for name, tap in self.watchers.items():
            tap.wait_for(lambda frame: mark in frame, what=f"the attacker's honest frame at {name}")
            seen[name] = [frame for frame in tap.frames() if self.honest not in frame and not self._usual(name, frame)]
        return {name: found for name, found in seen.items() if found}

    def _usual(self, name: str, frame: bytes) -> bool:
        """A node asks for its neighbours on the external network now and then."""
        by_node = frame[6:10] == NODE_MAC_PREFIX.to_bytes(6)[:4]
        return name == "outside" and by_node and frame[12:14] == frames.ARP.to_bytes(2)

    def reaches(self, *who: str, part: slice = slice(14, None), sent: bytes, tap: Tap | None = None) -> None:
        """Sends what is allowed; asserts that each of `who` gets it: that part of it, as the rest may change."""
        self.clear()
        (tap or self.tap).send(sent)
        for name in who:
            self.taps[name].wait_for(lambda frame: sent[part] in frame, what=f"{frames.describe([sent])} at {name}")

    def _allowed(self, mark: bytes) -> list[bytes]:
        everybody = frames.udp(self.attacker, "255.255.255.255", payload=mark)
        routed = [frames.udp(self.attacker, to, payload=mark, eth_dst=GATEWAY) for to in (self.public, FAR_HOST.ip)]
        # what answers carries the mark, too
        return [everybody, frames.echo(self.attacker, self.stranger.address, mark, eth_dst=GATEWAY), *routed]

    def refused(
        self,
        rule: Rule,
        *attack: bytes,
        key: int | None = None,
        tap: Tap | None = None,
        whole: bool = False,
        kernel: Rule | None = None,
    ) -> None:
        """Sends an attack; asserts that nobody heard of it and that the drop of this name counted each frame. `whole`:
        these are the fragments of one datagram, which the kernel's conntrack puts together: it is counted as one.
        `kernel`: a drop for all ports that counts some of them instead on the kernel's datapath.
        """
        number = 1 if whole and self.lab.datapath == "system" else len(attack)
        names = {(rule, self.key if key is None else key)}
        if kernel is not None and self.lab.datapath == "system":
            names.add((kernel, 0))
        assert rule.drop and attack
        before = drops(self.node)
        self.clear()
        (tap or self.tap).send(*attack)

        def counted() -> int:
            return sum(count for name, count in (drops(self.node) - before).items() if name in names)

        def leaked() -> dict[str, str]:
            return {who: frames.describe(found) for who, found in self.leaked().items()}

        wait_until(
            lambda: counted() >= number,
            COUNTED,
            lambda: f"of {number} x {rule.name} was dropped {drops(self.node) - before}; heard: {leaked()}",
        )
        assert not (heard := leaked()), heard

    def echoed(self, target: IPv4Address, eth_dst: bytes, change: Callable[[bytes], bytes] = bytes) -> None:
        """Sends an echo request that `change` has made another frame of, and waits for the answer."""
        mark = os.urandom(12)
        self.tap.send(change(frames.echo(self.attacker, target, mark, eth_dst=eth_dst)))
        self.tap.wait_for(lambda frame: mark in frame, what=f"an echo from {target}")

    def not_echoed(self, target: IPv4Address, eth_dst: bytes, change: Callable[[bytes], bytes]) -> None:
        """Asserts that the same is not answered, while what is not changed is, before it and behind it."""
        mark = os.urandom(12)
        self.echoed(target, eth_dst)
        self.clear()
        self.tap.send(change(frames.echo(self.attacker, target, mark, eth_dst=eth_dst)))
        self.echoed(target, eth_dst)
        self.leaked()
        assert not [frame.hex() for frame in self.tap.frames() if mark in frame]

    @property
    def gateway(self) -> IPv4Address:
        """What the attacker's node gives its VMs as router."""
        return IPv4Address(self.answered().option(3))

    def answered(self, deadline: float = 20.0) -> wire.Reply:
        """A good DISCOVER of the attacker gets its OFFER; again and again, as its messages may be over the limit."""
        return discover_until_answered(self.attacker, self.tap, deadline)


def rise(scene: Scene, name: str, before: int, by: int = 1) -> None:
    """Waits until the controller has counted an outcome `by` times more."""
    wait_until(
        lambda: frames.outcomes(scene.lab)[name] >= before + by,
        COUNTED,
        lambda: f"{name} rose by {frames.outcomes(scene.lab)[name] - before}, not {by}",
    )


def leases(scene: Scene) -> dict[tuple[str, int], str]:
    with sqlite3.connect(f"file:{scene.lab.control.directory}/trunkline.db?mode=ro", uri=True) as database:
        return {
            (port, address): state
            for port, address, state in database.execute("select port_id, address, state from leases")
        }


def discover_until_answered(vm: Vm, tap: Tap, deadline: float = 20.0) -> wire.Reply:
    message = frames.client_message(vm, wire.DISCOVER, xid=int.from_bytes(os.urandom(4)))
    frame, sent = frames.sound(message.frame()), 0.0

    def offer() -> list[wire.Reply]:
        nonlocal sent
        if time.monotonic() - sent > 0.2:
            sent = time.monotonic()
            tap.send(frame)
        return tap.dhcp(message.xid)

    reply = wait_until(offer, deadline, f"an OFFER for {vm.name}")[0]
    assert (reply.type, reply.yiaddr) == (wire.OFFER, vm.address)
    return reply


def paced(tap: Tap, attack: Sequence[bytes], rate: int) -> None:
    """Sends frames, `rate` of them a second."""
    began, sent = time.monotonic(), 0

    def send() -> bool:
        nonlocal sent
        due = int((time.monotonic() - began) * rate)
        tap.send(*attack[sent:due])
        sent = max(sent, due)
        return sent >= len(attack)

    wait_until(send, 2 * len(attack) / rate + 5, "all frames sent")


@contextmanager
def flood(tap: Tap, attack: bytes, rate: int) -> Iterator[Callable[[], int]]:
    """Sends a frame `rate` times a second during a `with`; what it yields tells how many have gone."""
    stop, sent = threading.Event(), 0

    def send() -> None:
        nonlocal sent
        began = time.monotonic()
        while not stop.wait(0.005):
            due = int((time.monotonic() - began) * rate) - sent
            tap.send(*[attack] * min(due, 500))
            sent += min(due, 500)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield lambda: sent
    finally:
        stop.set()
        thread.join()


@contextmanager
def build(lab: Lab) -> Iterator[Scene]:
    """The scene on two nodes that have nothing yet."""
    make_pool(lab, make_outside(lab))
    networks = [
        _network(lab, "main", "p", "10.10.0.0/24"),
        _network(lab, "other", "p", "10.30.0.0/24", OTHER_VLAN),
        _network(lab, "theirs", "q", "10.31.0.0/24", THEIR_VLAN),
    ]
    first, second = lab.nodes
    places = {
        "attacker": (first, 0),
        "neighbour": (first, 0),
        "remote": (second, 0),
        "stranger": (first, 1),
        "foreigner": (first, 2),
    }
    vms = [lab.create_vm(name, node, networks[n], client=None) for name, (node, n) in places.items()]
    for vm in vms:
        vm.set_address(f"{vm.address}/24")
    scene = Scene(lab, *vms)
    scene.open()
    try:
        for vm in vms:
            offer = discover_until_answered(vm, scene.taps[vm.name], deadline=20)
            vm.set_address(f"{vm.address}/24", IPv4Address(offer.option(3)))
        scene.public = IPv4Address(give(lab, scene.foreigner)["address"])
        for address in (lab.fabric.far_host, scene.public):
            wait_reached(scene.attacker, address)
        yield scene
    finally:
        scene.close()


def _network(lab: Lab, name: str, project: str, cidr: str, vlan: int | None = None) -> str:
    kind: dict[str, object] = {"kind": "flat"} if vlan is None else {"kind": "vlan", "segment": vlan}
    place = {"project_id": project, "physical_network": "physnet1", "subnets": [{"cidr": cidr}]}
    made = lab.client.create_network({"name": name, **kind, **place}).object
    assert made
    return str(made["id"])


def rogue_offer(scene: Scene, **fields: Any) -> bytes:
    """A server's answer to the neighbour, as a rogue would send it."""
    rogue: dict[str, Any] = {"op": 2, "ports": (67, 68), "source": scene.attacker.address} | fields
    message = client_message(scene.attacker, wire.OFFER, chaddr=mac_of(scene.neighbour), **rogue)
    return sound(message.frame())
