"""The page over real nodes: leases arrive, traffic and drops are counted, a packet's way is drawn, a node goes away."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Locator, expect

from controller.client import Object
from etc.lab.control import ADMIN_TOKEN
from etc.lab.lab import Lab
from etc.lab.processes import wait_until
from tests.browser.chromium import Web, chromium
from tests.netns import frames
from tests.netns.cloud import make_network, make_vms, want

WAIT_MS = 30_000


@dataclass(frozen=True)
class Scene:
    lab: Lab
    network: Object
    web: Web


@pytest.fixture(scope="module")
def scene(make_lab: Callable[..., Lab]) -> Iterator[Scene]:
    """Two nodes with a VM each, and the page open, in the namespace of the controller."""
    lab = make_lab(nodes=2, projects=("blue",))
    network = make_network(lab, "blue", "10.20.0.0/24", segment=120)
    make_vms(lab, want("first", lab.nodes[0], network), want("second", lab.nodes[1], network))
    with chromium(lab.control.namespace) as browser:
        web = Web(browser, lab.control.url)
        web.enter(ADMIN_TOKEN)
        yield Scene(lab, network, web)
        assert not web.noise, web.noise
        web.close()


def test_a_lease_is_seen_as_it_arrives(scene: Scene) -> None:
    lab, web = scene.lab, scene.web
    third = make_vms(lab, want("third", lab.nodes[0], scene.network), client=None)["third"]
    web.find("third")
    expect(web.panel.locator("h2")).to_have_text("third")
    expect(web.section("Lease")).to_contain_text("none")
    third.start_client("udhcpc")
    given = str(third.wait_configured().address.ip)
    lease = web.section("Lease").locator(".lease-line")
    expect(lease).to_contain_text(given, timeout=WAIT_MS)
    expect(lease).to_contain_text("bound")
    expect(web.panel.locator(".object .state")).to_have_text("active", timeout=WAIT_MS)
    # and as it happens
    web.tab("Events")
    event = web.panel.locator(".events li", has=web.page.locator(".kind.lease"), has_text=given).first
    expect(event).to_contain_text("third got", timeout=WAIT_MS)
    event.get_by_role("link", name="third").click()
    expect(web.panel.locator("h2")).to_have_text("third")


def test_traffic_and_drops_are_counted(scene: Scene) -> None:
    lab, web = scene.lab, scene.web
    first, second = lab.vms["first"], lab.vms["second"]
    web.find("first")
    sent = web.section("Traffic").locator("tr", has_text="sent").locator("td").nth(1)
    expect(sent).to_have_text(re.compile(r"\d"), timeout=WAIT_MS)
    before = _number(sent)
    assert first.ping(second.address, count=20).answered
    _wait(web, lambda: _number(sent) >= before + 20, "what was sent is not counted")
    _wait(web, lambda: (_points(web) or 0) > 1, "there is no graph")
    tap = frames.Tap(first.namespace)
    tap.send(*[frames.udp(first, second.address, source="192.0.2.77", eth_dst=frames.mac_of(second))] * 7)
    tap.close()
    drop = web.section("Drops").locator("tr", has_text="drop_spoofed")
    expect(drop).to_contain_text("7", timeout=WAIT_MS)


def _number(place: Locator) -> int:
    return int(place.inner_text().replace(",", ""))


def _points(web: Web) -> int:
    return len((web.section("Traffic").locator("polyline.sent").get_attribute("points") or "").split())


def _wait(web: Web, condition: Callable[[], bool], what: str | Callable[[], str]) -> None:
    def looked() -> bool:
        web.page.wait_for_timeout(100)
        return condition()

    wait_until(looked, WAIT_MS / 1000, what)


def test_a_packets_way_is_told_and_drawn(scene: Scene) -> None:
    lab, web = scene.lab, scene.web
    web.find("first")
    web.panel.get_by_role("button", name="trace from here").click()
    web.page.fill("input[name=to]", str(lab.vms["second"].address))
    web.page.click(".trace button[type=submit]")
    verdict = web.panel.locator(".verdict").first
    expect(verdict).to_contain_text("delivered")
    expect(web.panel).to_contain_text("on n1")
    expect(web.panel).to_contain_text("on n2")
    path = ["first", "n1 physnet1", "n2 physnet1", "second"]
    _wait(web, lambda: _drawn(web) == path, lambda: f"drawn is {_drawn(web)}")
    box = web.page.locator("input[name=live]").bounding_box()
    assert box and box["width"] < 30, "it is as wide as a field for text"
    web.page.check("input[name=live]")
    web.page.click(".trace button[type=submit]")
    for hop, out in (("on n1", "out by physnet1"), ("on n2", "out by second")):
        switch = web.panel.locator("section", has_text=hop).first
        expect(switch).to_contain_text(f"Open vSwitch decides the same: {out}", timeout=WAIT_MS)
    web.page.uncheck("input[name=live]")
    web.page.fill("input[name=to]", "10.20.0.99")
    web.page.click(".trace button[type=submit]")
    expect(verdict).not_to_contain_text("delivered")
    web.panel.get_by_role("button", name="clear").click()
    _wait(web, lambda: not _drawn(web), "the way stays")


def _drawn(web: Web) -> list[str]:
    """What the drawn way leads through."""
    path = web.page.locator(".canvas").get_attribute("data-path")
    return path.split(" → ") if path else []


def test_a_node_that_goes_away_is_seen(scene: Scene) -> None:
    lab, web = scene.lab, scene.web
    web.page.click(".brand")
    expect(web.page.locator(".pills")).to_contain_text("2/2", timeout=WAIT_MS)
    lab.nodes[1].ovs.stop()
    expect(web.page.locator(".pills")).to_contain_text("1/2", timeout=WAIT_MS)
    expect(web.section("Nodes")).to_contain_text("n2disconnected")
