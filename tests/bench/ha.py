"""Two controllers, of which one is killed every ten seconds: packets lost, and the longest that DHCP did not answer.

TRUNKLINE_HA_SECONDS says for how long: 60 unless it is set, 600 for the figure that is promised.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack

from etc.lab.lab import Lab
from etc.lab.processes import wait_until
from tests.bench.figures import Figure
from tests.ha.cluster import NAMES, TWO, Renewals, build

PERIOD = 10.0
DOWN = 4.0
"""Seconds until a killed one is started again: the other one has taken over by then, and is the next."""


def run() -> Iterator[Figure]:
    seconds = float(os.environ.get("TRUNKLINE_HA_SECONDS", "60"))
    with Lab("bench", nodes=3, controllers=NAMES[:2], projects=("blue",), open_groups=True) as lab:
        lab.wait_connected()
        cloud = build(lab)
        cloud.wait_masters(TWO)
        with ExitStack() as stack:
            renewals = [stack.enter_context(Renewals(cloud.vms[name]).running()) for name in ("east", "west", "snat")]
            for each in renewals:
                each.wait_answered()
            streams = cloud.start_traffic()
            flow_mods, kills, began = 0, 0, time.monotonic()
            while time.monotonic() - began < seconds:
                victim, other = (cloud.control(name) for name in (NAMES[:2] if kills % 2 == 0 else NAMES[1::-1]))
                sent, due = cloud.flow_mods(other), time.monotonic()
                victim.kill()
                kills += 1
                cloud.wait_masters(dict.fromkeys(TWO, other.name), other)
                _sleep_until(due + DOWN)
                victim.start()
                wait_until(lambda: cloud.masters(other) == TWO, PERIOD * 3, "the nodes do not come back")  # noqa: B023
                flow_mods += cloud.flow_mods(other) - sent + cloud.flow_mods(victim)
                _sleep_until(due + PERIOD)
            counts = [stream.stop() for stream in streams]
        print(f"   {kills} kills in {seconds:.0f} s; east-west, SNAT, from and to a floating IP: {counts}")
        print(f"   renewals answered: {[each.answered for each in renewals]}")
        yield Figure("ha_lost", sum(count.lost for count in counts), "packets")
        yield Figure("ha_dhcp_gap_s", max(each.longest_gap_s for each in renewals), "s")
        yield Figure("ha_flow_mods", flow_mods, "flow-mods")


def _sleep_until(due: float) -> None:
    time.sleep(max(due - time.monotonic(), 0))
