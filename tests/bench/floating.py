"""How soon a floating IP answers once it is associated, and how long the outside does without it when it moves."""

from __future__ import annotations

import time
from collections.abc import Iterator

from controller.client import Object
from etc.lab import netns
from etc.lab.fabric import EXTERNAL_NETWORK
from etc.lab.lab import Lab
from etc.lab.vm import Vm
from tests.bench.echo import Echo
from tests.bench.figures import Figure, median_ms, spread
from tests.bench.ports import make_network
from tests.netns.cloud import make_outside

SAMPLES = 15
RATE = 100
INTERVAL_S = 1 / RATE
DEADLINE_S = 5.0


def run() -> Iterator[Figure]:
    with Lab("bench", nodes=3, open_groups=True) as lab:
        lab.wait_connected()
        external = make_outside(lab)
        ranges = [f"{EXTERNAL_NETWORK[200]}-{EXTERNAL_NETWORK[250]}"]
        lab.client.create_floating_ip_pool({"name": "public", "network_id": external["id"], "ranges": ranges})
        network = make_network(lab, "floating", 220)
        vms = [lab.create_vm(f"v{node.name}", node, network, project_id="bench") for node in lab.nodes[:2]]
        for vm in vms:
            vm.wait_configured()
        ready = [_ready(lab, vms[index % 2]) for index in range(SAMPLES)]
        print(f"   associated to first answer: {spread(ready)}")
        yield Figure("floating_ready_ms", median_ms(ready), "ms")
        floating = _allocate(lab)
        _associate(lab, floating, vms[0])
        _first_answer(lab, floating, DEADLINE_S)
        gaps = [_gap(lab, floating, vms[(index + 1) % 2]) for index in range(SAMPLES)]
        print(f"   without an answer while it moved: {spread(gaps)}")
        yield Figure("floating_move_gap_ms", median_ms(gaps), "ms")


def _allocate(lab: Lab) -> Object:
    floating = lab.client.create_floating_ip({"pool": "public", "project_id": "bench"}).object
    assert floating
    return floating


def _associate(lab: Lab, floating: Object, vm: Vm) -> None:
    lab.client.update_floating_ip(floating["id"], {"port_id": vm.port["id"]})


def _ready(lab: Lab, vm: Vm) -> float:
    """Each time another address, which nobody has ever resolved."""
    floating = _allocate(lab)
    began = time.perf_counter()
    _associate(lab, floating, vm)
    _first_answer(lab, floating, DEADLINE_S)
    took = time.perf_counter() - began
    lab.client.delete_floating_ip(floating["id"])
    return took


def _first_answer(lab: Lab, floating: Object, seconds: float) -> None:
    """Asks every millisecond. A question that nobody answers ARP for costs the asker a second: so it is asked anew."""
    end = time.perf_counter() + seconds
    number = 0
    with Echo(lab.fabric.outside, floating["address"]) as echo:
        while time.perf_counter() < end:
            number += 1
            echo.send(number)
            if echo.answered(0.001):
                return
            _forget_unresolved(lab, floating)
    raise AssertionError(f"{floating['address']} never answered")


def _forget_unresolved(lab: Lab, floating: Object) -> None:
    """Linux asks for an address again only after a second; who is asked is not to be measured by that."""
    entries = netns.query(lab.fabric.outside, "neighbour", "show", "to", str(floating["address"]))
    if any("lladdr" not in entry for entry in entries):
        netns.configure(lab.fabric.outside, f"neighbour flush to {floating['address']}")


def _gap(lab: Lab, floating: Object, to: Vm) -> float:
    """The longest time without an answer at 100 packets a second, from before the move until well after it."""
    answered = [time.perf_counter()]
    with Echo(lab.fabric.outside, floating["address"]) as echo:
        began = time.perf_counter()
        moved = False
        number = 0
        while time.perf_counter() - began < 1.2:
            echo.send(number)
            number += 1
            if not moved and number == 20:
                _associate(lab, floating, to)
                moved = True
            if echo.answered(INTERVAL_S):
                answered.append(time.perf_counter())
                time.sleep(INTERVAL_S)
    assert time.perf_counter() - answered[-1] < 0.3, "it did not come back"
    return max(later - earlier for earlier, later in zip(answered, answered[1:], strict=False))
