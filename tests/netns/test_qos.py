"""How fast a port may send and receive (L1), its DSCP mark, and its counters, with real traffic.

No absolute speed is asserted but the limit itself.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from etc.lab import netns
from etc.lab.lab import Lab
from etc.lab.processes import start, wait_until
from etc.lab.vm import Vm
from tests.netns.cloud import make_network, make_vms, metric, saw, send_frames, udp, unbroken, wait_reached, want
from tests.netns.frames import Tap, mac_of
from tests.netns.frames import udp as datagram
from tests.netns.hostile import flood

pytestmark = [pytest.mark.root, pytest.mark.alone]

MBIT = (10, 200)
TOLERANCE = 0.15  # a burst is a part of two seconds
SECONDS = 2
CAPPED = 13  # what is capped at 10 has in two seconds on a busy machine, with its burst
OPEN = 100
SPOOFED = 100


@dataclass(frozen=True)
class Scene:
    lab: Lab
    limited: Vm
    other: Vm
    remote: Vm

    def limit(self, **qos: Any) -> None:
        written = self.lab.client.update_port(self.limited.port["id"], {"qos": qos or None})
        self.lab.confirm(written.revision)

    def counters(self) -> dict[str, Any]:
        return self.lab.client.get_port_counters(self.limited.port["id"])


@pytest.fixture(scope="module")
def scene(make_lab: Callable[..., Lab]) -> Iterator[Scene]:
    lab = make_lab(nodes=2)
    blue = make_network(lab, "blue", "10.20.0.0/24", segment=120)
    first, second = lab.nodes
    vms = make_vms(lab, want("limited", first, blue), want("other", first, blue), want("remote", second, blue))
    for vm in vms.values():
        wait_reached(vms["limited"], vm.address)
    yield Scene(lab, vms["limited"], vms["other"], vms["remote"])


@pytest.fixture(autouse=True)
def unlimited(scene: Scene) -> Iterator[None]:
    yield
    scene.limit()


def mbit(rate: int) -> dict[str, int]:
    return {"rate_kbps": rate * 1000}


def iperf(scene: Scene, peer: Vm, *, receive: bool = False) -> float:
    """Mbit/s by TCP from the limited VM to another, or with `receive` to it; the first second does not count."""
    line = ["iperf3", "--server", "--one-off"]
    server = start("iperf3", netns.command(peer.namespace, line), peer.directory / "iperf3.log")
    try:
        wait_until(lambda: "5201" in netns.execute(peer.namespace, "ss", "-Htln"), 20, "iperf3 does not listen")
        args = ["--client", str(peer.address), "--time", str(SECONDS), "--omit", "1", "--json"]
        said = scene.limited.execute("iperf3", *args, *(["--reverse"] if receive else []), deadline=30)
    finally:
        server.stop()
    return float(json.loads(said)["end"]["sum_received"]["bits_per_second"]) / 1e6


@pytest.mark.parametrize("rate", MBIT)
def test_l1_tcp_is_capped_both_ways(scene: Scene, rate: int) -> None:
    scene.limit(egress=mbit(rate), ingress=mbit(rate))
    for peer in (scene.other, scene.remote):
        for receive in (False, True):
            seen = iperf(scene, peer, receive=receive)
            assert abs(seen - rate) < TOLERANCE * rate, (peer.name, receive, seen)


def test_l1_each_way_has_its_own_limit_and_other_ports_have_none(scene: Scene) -> None:
    scene.limit(egress=mbit(10))
    assert iperf(scene, scene.other) < CAPPED < OPEN < iperf(scene, scene.other, receive=True)
    scene.limit(ingress=mbit(10))
    assert iperf(scene, scene.other, receive=True) < CAPPED < OPEN < iperf(scene, scene.other)
    scene.limit()
    assert iperf(scene, scene.other) > OPEN
    meters = scene.limited.node.ovs.ofctl("dump-meters", "br-int")
    assert "kbps" not in meters and "pktps" in meters


def test_l1_a_limit_changes_live_and_loses_nothing_of_what_it_allows(scene: Scene) -> None:
    scene.limit(egress=mbit(50), ingress=mbit(50))
    with unbroken((scene.limited, scene.other.address), (scene.remote, scene.limited.address)):
        for rate in (10, 200, 20, 50):
            scene.limit(egress=mbit(rate), ingress=mbit(rate))
        scene.limit(dscp=10)
        scene.limit()
        scene.limit(egress=mbit(10))
    assert iperf(scene, scene.other) < CAPPED


def test_l1_limits_outlive_switch_and_controller(scene: Scene) -> None:
    scene.limit(egress=mbit(10), ingress=mbit(10))
    scene.limited.node.ovs.restart_switch(kill=True)
    scene.lab.wait_connected()
    wait_reached(scene.limited, scene.other.address)
    assert iperf(scene, scene.other) < CAPPED
    scene.lab.control.restart(kill=True)
    scene.lab.wait_connected()
    assert iperf(scene, scene.other, receive=True) < CAPPED
    scene.limit(egress=mbit(20))
    assert CAPPED < iperf(scene, scene.other) < 2 * CAPPED


@contextmanager
def listening(vm: Vm) -> Iterator[socket.socket]:
    with udp(vm.namespace, port=9999) as it:
        it.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        yield it


@pytest.mark.parametrize("burst", [4000, 8000])
def test_l1_a_burst_passes_at_once(scene: Scene, burst: int) -> None:
    """1000 frames of 1,250 bytes are 10,000 kbit. What the rate allows while they are sent comes besides."""
    scene.limit(egress={"rate_kbps": 1000, "burst_kbits": burst})
    frame = datagram(scene.limited, scene.other.address, payload=bytes(1250 - 42), eth_dst=mac_of(scene.other))
    with listening(scene.other) as heard, udp(scene.limited.namespace) as sender:
        began = time.monotonic()
        for _ in range(1000):
            sender.sendto(frame[42:], (str(scene.other.address), 9999))
        came = 0
        heard.settimeout(1)
        try:
            while True:
                heard.recv(2048)
                came += 1
                took = time.monotonic() - began
        except TimeoutError:
            pass
    assert burst / 10 * 0.9 <= came <= (burst + 1000 * took) / 10 * 1.1 + 10, (came, took)


def too_much(scene: Scene) -> bool:
    return bool(scene.limited.ping(scene.other.address, count=5, interval=0.02, wait=0.2, size=1200).lost)


def test_l1_who_has_used_up_its_rate_still_has_arp(scene: Scene) -> None:
    scene.limit(egress={"rate_kbps": 100}, ingress={"rate_kbps": 100})
    attack = datagram(scene.limited, scene.other.address, payload=bytes(1200), eth_dst=mac_of(scene.other))
    tap = Tap(scene.limited.namespace)
    try:
        with flood(tap, attack, 1000):
            wait_until(lambda: too_much(scene), 20, "the limit is reached")
            for target in (scene.other, scene.remote):
                assert scene.limited.arping(target.address) == {target.mac}
                assert target.arping(scene.limited.address) == {scene.limited.mac}
            assert too_much(scene), "it still is"
    finally:
        tap.close()


def test_what_a_port_sends_is_marked(scene: Scene) -> None:
    scene.limit(dscp=46)
    with scene.remote.capture("icmp") as seen, scene.remote.capture("ip[1] = 0xb8") as marked:
        for one, other in ((scene.limited, scene.remote), (scene.remote, scene.limited)):
            assert one.ping(other.address, count=5).lost == 0
        saw(marked, lambda frame: frame.src == scene.limited.address and frame.icmp_type == 8, 5)
        saw(marked, lambda frame: frame.src == scene.limited.address and frame.icmp_type == 0, 5)
        saw(seen, lambda frame: frame.src == scene.remote.address and frame.icmp_type == 8, 5)
        assert not marked.seen(lambda frame: frame.src == scene.remote.address and frame.icmp_type == 8)


def test_counters_are_those_of_the_packets(scene: Scene) -> None:
    """Packets and bytes of both directions, each as the VM's own interface has seen them."""
    vm = scene.limited
    scene.limit(egress={"rate_kbps": 1000, "burst_kbits": 1000})
    tap = Tap(vm.namespace, outgoing=True)
    tap.clear()
    before = scene.counters()
    assert vm.ping(scene.other.address, count=50, interval=0.02).lost == 0
    spoofed = datagram(vm, scene.other.address, source="10.20.0.250", eth_dst=mac_of(scene.other))
    send_frames(vm, spoofed, SPOOFED)

    def more(*names: str) -> int:
        now, then = scene.counters(), before
        for name in names[:-1]:
            now, then = now[name], then[name]
        return int(now.get(names[-1], 0)) - int(then.get(names[-1], 0))

    def counted() -> dict[str, tuple[int, int]]:
        return {way: (more(way, "packets"), more(way, "bytes")) for way in ("sent", "received")}

    def seen() -> dict[str, tuple[int, int]]:
        own = [frame[6:12] == mac_of(vm) for frame in tap.frames()]
        sizes = {
            way: [len(frame) for frame, sent in zip(tap.frames(), own, strict=False) if sent == (way == "sent")]
            for way in ("sent", "received")
        }
        return {way: (len(of_way), sum(of_way)) for way, of_way in sizes.items()}

    wait_until(lambda: more("drops", "drop_spoofed") == SPOOFED, 20, lambda: f"{scene.counters()}", interval=0.3)
    wait_until(lambda: counted() == seen(), 20, lambda: f"{counted()}, and the VM {seen()}", interval=0.3)
    tap.close()
    (sent, sent_bytes), (received, received_bytes) = counted().values()
    assert sent >= 50 + SPOOFED and received >= 50 and min(sent_bytes, received_bytes) >= 50 * 98
    assert more("exceeded", "egress") == 0
    assert metric(scene.lab, "trunkline_port_packets_total", scene.limited.port["id"]) >= 100 + SPOOFED
