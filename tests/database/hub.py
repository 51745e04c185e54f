"""A process like the controller's: eventlet's hub, a store, and somebody who counts how the hub gets on.

    python -m tests.database.hub URL

Commands are lines on stdin, answers JSON lines on stdout: `write` and `read` go to the store, in green threads, and say
`{"done": N, "of": what, "code": None or why not}`; `ticks` says how often 50 ms have gone by, and the longest gap.
"""

from __future__ import annotations

from controller import compat

compat.install()

# ruff: noqa: E402
import json
import sys
import time
from collections.abc import Callable
from ipaddress import IPv4Network

import eventlet
from eventlet.green import os as green_os

from controller import logs
from controller.store import Store
from controller.store.specs import NetworkSpec, StoreError, SubnetSpec
from flows.model import NetworkKind

TICK = 0.05


class Ticker:
    def __init__(self) -> None:
        self.count = 0
        self.gap = 0.0

    def run(self) -> None:
        last = time.monotonic()
        while True:
            eventlet.sleep(TICK)
            now = time.monotonic()
            self.count += 1
            self.gap, last = max(self.gap, now - last), now


def main(url: str) -> None:
    logs.configure("console", "INFO")
    store = Store(url)
    ticker = Ticker()
    eventlet.spawn(ticker.run)
    numbers = iter(range(1, 250))

    def write() -> None:
        number = next(numbers)
        subnets = (SubnetSpec(IPv4Network(f"10.{number}.0.0/24")),)
        spec = NetworkSpec(name="n", kind=NetworkKind.VLAN, physical_network="physnet1", subnets=subnets)
        store.create_network(spec, "hub")

    def answer(what: str, work: Callable[[], object]) -> None:
        code, began = None, time.monotonic()
        try:
            work()
        except StoreError as error:
            code = error.code
        say({"of": what, "code": code, "s": round(time.monotonic() - began, 2)})

    calls: dict[str, Callable[[], object]] = {"write": write, "read": lambda: store.list_networks()}
    say({"ready": True})
    buffer = b""
    while chunk := green_os.read(0, 4096):
        *lines, buffer = (buffer + chunk).split(b"\n")
        for line in lines:
            what = line.decode()
            if what == "ticks":
                say({"ticks": ticker.count, "gap": round(ticker.gap, 2)})
                ticker.gap = 0.0
            else:
                eventlet.spawn(answer, what, calls[what])


def say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
