"""How long the web page takes to draw a thousand ports, and what DHCP notices of ten browsers that watch.

The browsers have only what time nobody else wants: theirs are other people's machines. Each has a port's panel open,
and every second something changes, so that all of them are sent the whole topology anew. Quiet and watched take turns.
With few cores the browsers still are in the way of what is measured; how busy the controller is, is its own.
"""

from __future__ import annotations

import os
import socket
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser

from etc.lab import netns
from etc.lab.control import ADMIN_TOKEN, READER_TOKEN
from etc.lab.lab import Lab
from etc.lab.vm import INTERFACE, Vm
from tests.bench.dhcp import XID, discover, open_meters
from tests.bench.figures import Figure, percentile_ms, spread
from tests.bench.ports import fill, make_network
from tests.browser.chromium import Web, chromium, idle
from tests.netns import frames

PORTS = 1000
OPENED = 5
BROWSERS = 10
ROUNDS = 3
SECONDS = 15.0
INTERVAL_S = 0.01
LOST_AFTER_S = 0.5
CHANGES_S = 1.0
UNLIMITED = 1_000_000


def run() -> Iterator[Figure]:
    unlimited = {"packet_in": {"rate": UNLIMITED, "burst": UNLIMITED, "mute": 0}}
    with Lab("bench", nodes=3, control_options=unlimited, open_groups=True) as lab:
        lab.wait_connected()
        network = make_network(lab, "page", 216)
        vm = lab.create_vm("d0", lab.nodes[0], network, project_id="bench")
        vm.wait_configured()
        vm.stop_client()
        open_meters(lab.nodes[0])
        fill(lab, network, PORTS, project_id="bench")
        with chromium(lab.control.namespace) as browser:
            yield from _drawn(lab, browser)
        with chromium(lab.control.namespace, program=idle(lab.directory)) as browser:
            yield from _watched(lab, browser, vm)


def _drawn(lab: Lab, browser: Browser) -> Iterator[Figure]:
    drawn, opened = [], []
    for _ in range(OPENED):
        web = Web(browser, lab.control.url)
        web.page.goto(web.url)
        web.page.fill("input[name=token]", READER_TOKEN)
        began = time.perf_counter()
        web.page.click("button:has-text('Log in')")
        web.page.wait_for_selector(".canvas[data-drawn]")
        opened.append(time.perf_counter() - began)
        drawn.append(int(web.page.get_attribute(".canvas", "data-drawn") or 0) / 1000)
        web.close()
    print(f"   {PORTS} ports drawn: {spread(drawn)}; from the click on 'Log in': {spread(opened)}")
    yield Figure("page_1000_ports_s", statistics.median(drawn), "s")
    yield Figure("page_1000_ports_open_s", statistics.median(opened), "s")


def _watched(lab: Lab, browser: Browser, vm: Vm) -> Iterator[Figure]:
    watchers = [Web(browser, lab.control.url) for _ in range(BROWSERS)]
    ids = [port["id"] for port in lab.client.list_ports()][:BROWSERS]
    for web in watchers:
        web.enter(READER_TOKEN)
    quiet: list[float] = []
    watched: list[float] = []
    cpu = {"quiet": 0.0, "watched": 0.0}
    with _changing(lab, ids[0]):
        for _ in range(ROUNDS):
            for web in watchers:
                web.page.goto("about:blank")
            began = _cpu_seconds(lab)
            quiet += _offers(vm, SECONDS)
            cpu["quiet"] += _cpu_seconds(lab) - began
            for web, id_ in zip(watchers, ids, strict=True):
                web.page.goto(f"{web.url}/ui/#/port/{id_}")
                web.page.wait_for_selector(".canvas[data-drawn]")
            for web in watchers:
                web.asked.clear()
            began = _cpu_seconds(lab)
            watched += _offers(vm, SECONDS)
            cpu["watched"] += _cpu_seconds(lab) - began
            _require_watching(watchers)
    for name, took in (("nobody watches", quiet), (f"{BROWSERS} browsers watch", watched)):
        print(f"   {name}: {spread(took)} p99 {percentile_ms(took, 99):.2f} ms")
    for web in watchers:
        web.close()
    yield Figure("page_dhcp_p99_ms_quiet", percentile_ms(quiet, 99), "ms")
    yield Figure("page_dhcp_p99_ms_watched", percentile_ms(watched, 99), "ms")
    for name, seconds in cpu.items():
        yield Figure(f"page_controller_busy_percent_{name}", 100 * seconds / (ROUNDS * SECONDS), "%")


def _cpu_seconds(lab: Lab) -> float:
    """What the controller has taken so far."""
    assert lab.control.process
    fields = Path(f"/proc/{lab.control.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _require_watching(watchers: Sequence[Web]) -> None:
    """What was asked meanwhile is heard when the page is turned to."""
    asked = 0
    for web in watchers:
        web.page.wait_for_timeout(50)
        asked += sum(path == "/v1/topology" and status == 200 for status, path in web.asked)
    print(f"   {asked} topologies were taken by {len(watchers)} browsers in {SECONDS:.0f} s")
    assert asked >= len(watchers), "the browsers did not watch: nothing was measured"


@contextmanager
def _changing(lab: Lab, port_id: str) -> Iterator[None]:
    """Something of the model, all the time."""
    ended = threading.Event()

    def change() -> None:
        client = lab.control.client(ADMIN_TOKEN)
        number = 0
        while not ended.wait(CHANGES_S):
            number += 1
            client.update_port(port_id, {"name": f"change-{number}"})

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _offers(vm: Vm, seconds: float) -> list[float]:
    """Seconds from DISCOVER to OFFER, a hundred times a second. What is lost took as long as was waited for it."""
    frame = discover(frames.mac_of(vm))
    took: list[float] = []
    with netns.inside(vm.namespace):
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(frames.IPV4))
    with raw:
        raw.bind((INTERFACE, frames.IPV4))
        end = time.perf_counter() + seconds
        xid = int(time.monotonic() * 1000) & 0x7FFFFFFF
        while (began := time.perf_counter()) < end:
            xid += 1
            frame[XID : XID + 4] = xid.to_bytes(4)
            raw.send(frame)
            _wait_offer(raw, bytes(frame[XID : XID + 4]), began + LOST_AFTER_S)
            took.append(time.perf_counter() - began)
            time.sleep(max(0.0, INTERVAL_S - (time.perf_counter() - began)))
    return took


def _wait_offer(raw: socket.socket, xid: bytes, end: float) -> None:
    while (left := end - time.perf_counter()) > 0:
        raw.settimeout(left)
        try:
            reply = raw.recv(2048)
        except TimeoutError:
            return
        if frames.is_dhcp(reply, 67, 68) and reply[XID : XID + 4] == xid:
            return
