"""The page over a controller without Open vSwitch: who gets in, what is found, and what a hostile name does."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from controller.client import Object
from etc.lab.processes import wait_until
from tests.browser.chromium import PHONE, Web
from tests.browser.served import ADMIN, MEMBER, READER, Served

ATTACK = "<img src=x onerror=alert(1)><script>alert(2)</script>"
MOST_TABS = 60
"""Presses of a key until something is reached."""

Open = Callable[..., Web]


@pytest.fixture(scope="module")
def cloud(served: Served) -> dict[str, Object]:
    """Two nodes, which no switch of is connected, two networks, and ports."""
    blue, red = served.network("blue", "10.20.0.0/24"), served.network("red", "10.21.0.0/24", project_id="red")
    hostile = served.network(ATTACK[:60], "10.22.0.0/24")
    outside = served.network(
        "outside",
        "",
        project_id=None,
        external=True,
        dhcp=False,
        kind="flat",
        physical_network="physnet-ext",
        subnets=[{"cidr": "203.0.113.0/24", "gateway": "203.0.113.1"}],
    )
    ports = {
        "web": served.port(blue, name="web-server", hostname="www", device_id="i-0017"),
        "db": served.port(blue, name="database", hostname="pg"),
        "red": served.port(red, name="of-red", project_id="red"),
        "hostile": served.port(hostile, name=ATTACK, device_id=ATTACK),
        "nowhere": served.port(blue, name="not-plugged"),
    }
    served.show("n1", 1, ports["web"]["id"], ports["red"]["id"])
    served.show("n2", 2, ports["db"]["id"], ports["hostile"]["id"])
    client = served.client()
    client.create_floating_ip_pool({"name": "public", "network_id": outside["id"], "ranges": ["203.0.113.200/29"]})
    written = client.create_floating_ip({"pool": "public", "project_id": "blue", "port_id": ports["web"]["id"]})
    assert written.object
    return {**ports, "blue": blue, "hostile network": hostile, "floating": written.object}


def test_a_wrong_token_gets_nobody_in(open_page: Open, cloud: dict[str, Object]) -> None:
    web = open_page()
    web.log_in("no-such-token")
    expect(web.page.get_by_role("alert")).to_have_text("nobody knows this token")
    assert web.page.evaluate("sessionStorage.length") == 0
    web.page.fill("input[name=token]", READER)
    web.page.click("button:has-text('Log in')")
    web.page.wait_for_selector(".canvas[data-drawn]")
    web.page.reload()
    web.page.wait_for_selector(".canvas[data-drawn]")  # still who it was
    web.page.click("button:has-text('Log out')")
    expect(web.page.locator("input[name=token]")).to_be_visible()
    assert web.page.evaluate("sessionStorage.length") == 0


def test_a_port_is_found_by_all_that_it_is_known_by(open_page: Open, cloud: dict[str, Object]) -> None:
    web, port = open_page(), cloud["web"]
    web.enter(READER)
    address = port["fixed_ips"][0]["address"]
    for text in ("web-serv", "WWW", port["id"], address, port["mac"].upper(), "i-0017"):
        web.page.goto(f"{served_page(web)}#/")
        web.find(text)
        expect(web.panel.locator("h2")).to_have_text("web-server")
    for shown in (address, port["mac"], port["id"], "203.0.113.20", "blue", "n1", "i-0017"):
        expect(web.panel).to_contain_text(shown)
    expect(web.section("Lease")).to_contain_text("none")
    expect(web.section("Security groups")).to_contain_text("default")
    web.section("Security groups").get_by_role("button").click()
    expect(web.section("Security groups").locator("tr").first).to_contain_text("egress")
    web.panel.get_by_role("link", name="blue", exact=True).click()
    expect(web.panel).to_contain_text("10.20.0.0/24")
    web.find("203.0.113.20")
    expect(web.panel).to_contain_text("web-server")
    web.panel.get_by_role("link", name="n1").click()
    expect(web.panel).to_contain_text("disconnected")


def test_all_is_done_by_the_keyboard(open_page: Open, cloud: dict[str, Object]) -> None:
    web = open_page()
    web.enter(READER)
    keyboard, page = web.page.keyboard, web.page
    reach(web, "tab", "All")
    keyboard.press("Enter")
    for name, hash_ in (("n2", "#/node/n2"), ("blue", f"#/network/{cloud['blue']['id']}")):
        reach(web, "link", name)
        keyboard.press("Enter")
        expect(web.panel.locator("h2")).to_have_text(name)
        assert page.evaluate("location.hash") == hash_
        expect(web.panel).to_be_focused()  # and from there on
        reach(web, "tab", "All", "Shift+Tab")
        keyboard.press("Enter")
    reach(web, "link", "203.0.113.20")
    keyboard.press("Enter")
    reach(web, "link", "web-server")  # of its panel
    keyboard.press("Enter")
    expect(web.panel.locator("h2")).to_have_text("web-server")
    expect(web.panel).to_be_focused()
    keyboard.press("/")
    keyboard.type("10.2")
    expect(page.get_by_role("combobox")).to_have_attribute("aria-activedescendant", "found-0")
    keyboard.press("ArrowDown")
    option = page.locator(".found #found-1[aria-selected=true]")
    expect(page.get_by_role("combobox")).to_have_attribute("aria-activedescendant", "found-1")
    title = option.locator("b").inner_text()
    keyboard.press("Enter")
    expect(web.panel.locator("h2")).to_have_text(title)
    expect(web.panel).to_be_focused()


def reach(web: Web, role: Any, name: str, key: str = "Tab") -> None:
    """By this key alone, and what has the focus can be seen."""
    wanted = web.page.get_by_role(role, name=name).first
    for _ in range(MOST_TABS):
        web.page.keyboard.press(key)
        if wanted.evaluate("it => it === document.activeElement"):
            break
    expect(wanted).to_be_focused()
    assert wanted.evaluate("it => it.matches(':focus-visible') && getComputedStyle(it).outlineStyle") == "solid"


def served_page(web: Web) -> str:
    return f"{web.url}/ui/"


def test_health_says_what_is_away(open_page: Open, cloud: dict[str, Object]) -> None:
    web = open_page()
    web.enter(ADMIN)
    expect(web.section("Controllers")).to_contain_text("leads")
    expect(web.section("Database")).to_contain_text("answers")
    expect(web.section("Nodes")).to_contain_text("0 of 2 live")
    expect(web.section("Objects")).to_contain_text("not-plugged")


def test_health_names_what_is_wrong(open_page: Open, served: Served, cloud: dict[str, Object]) -> None:
    """With a link to what it is wrong with; a project is told of its own ports, and nothing of the operator's."""
    far = served.network("far", "10.29.0.0/24", physical_network="physnet9")
    served.show("n2", 2, served.port(far, name="lost", project_id="red")["id"])
    web = open_page()
    web.enter(READER)
    problems = web.section("Problems")
    expect(problems).to_contain_text("node n1: its switch is not connected")
    expect(problems).to_contain_text("network far: no registered node has the physical network 'physnet9'")
    expect(problems).to_contain_text("port lost: node n2 has no physical network 'physnet9'")
    expect(web.page.locator(".pills")).to_contain_text(f"problems {problems.locator('p').count()}")
    problems.get_by_role("link", name="far").click()
    expect(web.panel.locator("h2")).to_have_text("far")
    member = open_page()
    member.enter(MEMBER)
    expect(member.section("Problems")).to_contain_text("nothing is wrong")
    assert "problems" not in member.page.locator(".pills").inner_text()


@pytest.mark.parametrize("arrives", [True, False])
def test_a_trace_has_the_colour_of_its_exit_status(open_page: Open, cloud: dict[str, Object], arrives: bool) -> None:
    """As the API says it, whatever the verdict of a part is: a packet arrives, and something else is an error."""
    part = {
        "verdict": "delivered",
        "summary": "to port database",
        "packet": {},
        "hops": [],
        "reply": None,
        "live": None,
    }
    finding = {"severity": "note" if arrives else "error", "text": "something else"}
    reply = {**part, "arrives": True, "findings": []}
    whole = {**part, "arrives": arrives, "findings": [finding], "reply": reply}
    web = open_page()
    web.page.route("**/v1/trace", lambda route: route.fulfill(json=whole))
    web.enter(READER)
    web.tab("Trace")
    web.page.fill("input[name=from]", "web-server")
    web.page.fill("input[name=to]", "10.20.0.2")
    web.page.click(".trace button[type=submit]")
    boxes = web.panel.locator(".verdict")
    expect(boxes).to_have_count(2)
    found = [set((box.get_attribute("class") or "").split()) - {"verdict"} for box in boxes.all()]
    assert found == [{"good" if arrives else "bad"}, {"good"}]
    colours = [box.evaluate("it => getComputedStyle(it).borderLeftColor") for box in boxes.all()]
    assert (colours[0] == colours[1]) == arrives


def test_a_trace_that_leads_nowhere_is_red(open_page: Open, cloud: dict[str, Object]) -> None:
    web = open_page()
    web.enter(READER)
    web.find("web-server")
    web.panel.get_by_role("button", name="trace from here").click()
    web.page.fill("input[name=to]", "not-plugged")
    web.page.click(".trace button[type=submit]")
    expect(web.panel.locator(".verdict").first).to_have_class("verdict bad")
    expect(web.panel).to_contain_text("port not-plugged is on no node")


def test_a_member_sees_its_own(open_page: Open, cloud: dict[str, Object]) -> None:
    web = open_page()
    web.enter(MEMBER)
    expect(web.section("Nodes")).to_contain_text("administrators and readers")
    web.page.fill("input[name=search]", "of-red")
    expect(web.page.locator(".found")).to_contain_text("nothing has that")
    web.find("web-server")
    expect(web.panel.locator("h2")).to_have_text("web-server")
    assert not [path for status, path in web.asked if status == 403]


@pytest.mark.parametrize("where", ["search", "port", "network", "node", "picture"])
def test_a_name_stays_text(open_page: Open, cloud: dict[str, Object], where: str) -> None:
    """What would be markup is shown as it is written; a script of it would say so by a dialog, which `noise` has."""
    web = open_page()
    web.enter(ADMIN)
    if where == "search":
        web.page.fill("input[name=search]", "onerror")
        expect(web.page.locator(".found")).to_contain_text(ATTACK)
    elif where == "network":
        web.page.goto(f"{served_page(web)}#/network/{cloud['hostile network']['id']}")
        expect(web.panel.locator("h2")).to_have_text(ATTACK[:60])
    elif where == "node":
        web.page.goto(f"{served_page(web)}#/node/n2")
        expect(web.section("Ports")).to_contain_text(ATTACK)
    else:
        web.find("onerror")
        web.page.goto(f"{served_page(web)}#/port/{cloud['hostile']['id']}")
        expect(web.panel.locator("h2")).to_have_text(ATTACK)
        expect(web.panel).to_contain_text(f"machine{ATTACK}")
    assert web.page.locator("img, script[src=x], .panel script").count() == 0


def test_an_address_that_is_no_object_is_harmless(open_page: Open, cloud: dict[str, Object]) -> None:
    web = open_page()
    web.enter(ADMIN)
    for hash_ in (
        "#/port/../../v1/tokens",
        "#/port/%ff",
        "#/constructor/x",
        "#/port/nobody",
        "#/node/%3Cimg%3E",
        "#/x",
    ):
        web.page.goto(f"{served_page(web)}{hash_}")
        web.page.wait_for_timeout(200)
    expect(web.page.locator(".brand")).to_be_visible()
    assert not [path for _, path in web.asked if "/v1/tokens" in path]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_as_bright_as_its_reader_wants(open_page: Open, cloud: dict[str, Object], scheme: str) -> None:
    web = open_page(color_scheme=scheme)
    web.enter(READER)
    ground = web.page.evaluate("getComputedStyle(document.body).backgroundColor")
    text = web.page.evaluate("getComputedStyle(document.body).color")
    dark = _brightness(ground) < 60 and _brightness(text) > 180
    assert dark == (scheme == "dark"), (ground, text)
    # and changes while it is open
    web.page.emulate_media(color_scheme="light" if scheme == "dark" else "dark")
    assert (_brightness(web.page.evaluate("getComputedStyle(document.body).backgroundColor")) < 60) != dark


def _brightness(colour: str) -> float:
    red, green, blue = (int(part) for part in re.findall(r"\d+", colour)[:3])
    return 0.3 * red + 0.59 * green + 0.11 * blue


def test_on_a_phone_nothing_is_beside_the_window(open_page: Open, cloud: dict[str, Object]) -> None:
    web = open_page(viewport=PHONE, is_mobile=True, has_touch=True)
    web.page.goto(web.url)
    assert web.wider_than_its_window() <= 0
    web.enter(ADMIN)
    for tab in ("Health", "Events", "Trace"):
        web.tab(tab)
        assert web.wider_than_its_window() <= 0, tab
    for place in (
        f"port/{cloud['web']['id']}",
        f"port/{cloud['hostile']['id']}",
        f"network/{cloud['blue']['id']}",
        "node/n2",
    ):
        web.page.goto(f"{served_page(web)}#/{place}")
        web.panel.locator(".facts dt").first.wait_for()
        assert web.wider_than_its_window() <= 0, place
    box = web.page.locator(".canvas").bounding_box()
    assert box and box["height"] >= 200 and box["width"] <= PHONE["width"]


def test_what_has_not_changed_is_not_sent_again(open_page: Open, served: Served, cloud: dict[str, Object]) -> None:
    web = open_page()
    web.enter(READER)

    def asked(status: int) -> int:
        return sum(it == (status, "/v1/topology") for it in web.asked)

    wait_for(web, lambda: asked(304) >= 2)
    before = asked(200)
    made = served.port(cloud["blue"], name="newcomer")
    wait_for(web, lambda: asked(200) > before)
    web.find("newcomer")
    expect(web.panel.locator("h2")).to_have_text("newcomer")
    served.client().delete_port(made["id"])
    web.page.fill("input[name=search]", "newcomer")
    expect(web.page.locator(".found")).to_contain_text("nothing has that")
    # whatever else it asks for comes from here
    assert not [path for _, path in web.asked if path.startswith(("http:", "https:", "//"))]


def wait_for(web: Web, condition: Callable[[], bool], deadline: float = 20) -> None:
    """Events of the page are heard only while playwright has the turn."""

    def looked() -> bool:
        web.page.wait_for_timeout(50)
        return condition()

    wait_until(looked, deadline, lambda: f"seen so far: {web.asked[-10:]}")


def test_a_controller_that_goes_is_missed_and_comes_back(
    open_page: Open, served: Served, cloud: dict[str, Object]
) -> None:
    web = open_page()
    web.enter(READER)
    served.stop()
    expect(web.page.locator(".banner")).to_contain_text("the controller does not answer", timeout=30_000)
    assert web.page.locator(".canvas canvas").count() > 0  # the picture stays
    # what it has said last is grey, what is known now is not
    grey = [".canvas", ".pills :text('nodes')", "section:has-text('Objects')"]
    assert {_saturated(web, place) for place in grey} == {False}
    assert {_saturated(web, place) for place in (".banner", ".pills :text('controller')", ".content .now")} == {True}
    served.start()
    expect(web.page.locator(".banner")).to_have_count(0, timeout=30_000)
    assert {_saturated(web, place) for place in grey} == {True}


def _saturated(web: Web, place: str) -> bool:
    """Whether it may have colours: nothing around it takes them."""
    plain = "it => !it || (getComputedStyle(it).filter === 'none' && plain(it.parentElement))"
    return bool(web.page.locator(place).first.evaluate(f"it => {{ const plain = {plain}; return plain(it); }}"))


def test_a_token_that_is_revoked_ends_the_session(open_page: Open, served: Served, cloud: dict[str, Object]) -> None:
    client = served.client()
    token = client.create_token({"name": "page", "role": "reader"}).object
    assert token
    web = open_page()
    web.enter(token["secret"])
    client.revoke_token(token["id"])
    expect(web.page.locator("input[name=token]")).to_be_visible(timeout=30_000)
    assert web.page.evaluate("sessionStorage.length") == 0


def test_the_api_is_told_by_swagger_ui(open_page: Open) -> None:
    web = open_page()
    web.page.goto(f"{web.url}/ui/api.html")
    web.page.wait_for_selector(".opblock-tag")
    web.page.click(".opblock-tag[data-tag=topology]")
    expect(web.page.locator(".opblock-summary-path", has_text="/v1/topology")).to_be_visible()
    assert {path for _, path in web.asked if not path.startswith("/ui/")} == {"/v1/openapi.json"}


LAYOUT = """async ([ports, nodes, networks]) => {
  const { layout, PITCH } = await import("/ui/layout.js");
  const { Model } = await import("/ui/model.js");
  const node = (number) => ({ name: `n${number}`, state: "live", physical_networks: ["physnet1"] });
  const network = (number) => ({ id: `net${number}`, name: `net${number}`, external: false, subnets: [] });
  const port = (number) => ({
    id: `p${number}`, name: `p${number}`, hostname: "", addresses: [], network_id: `net${number % networks}`,
    node: number % 7 ? `n${number % Math.max(1, nodes)}` : null,
  });
  const many = (count, make) => Array.from({ length: count }, (_, number) => make(number));
  const model = new Model({ revision: 1, nodes: many(nodes, node), networks: many(networks, network),
    ports: many(ports, port), floating_ips: [] });
  const began = performance.now();
  const { points, lanes, columns, w, h } = layout(model, 1.3);
  const took = performance.now() - began;
  const inside = (point, id) => {
    const lane = lanes.find((it) => it.id === model.port.get(id).network_id);
    const column = columns.find((it) => it.name === (model.port.get(id).node ?? " not plugged in"));
    return Math.abs(point.y - lane.y) <= lane.h / 2 && Math.abs(point.x - column.x) <= column.w / 2;
  };
  const places = [...points].map(([, { x, y }]) => `${x} ${y}`);
  return { points: points.size, distinct: new Set(places).size, took, w, h,
    outside: [...points].filter(([id, point]) => !inside(point, id)).length };
}"""


@pytest.mark.parametrize(
    "size", [(0, 0, 0), (0, 3, 0), (1, 0, 1), (5, 1, 1), (300, 3, 1), (300, 1, 40), (5000, 50, 200)]
)
def test_everything_has_a_place_of_its_own(open_page: Open, size: tuple[int, int, int]) -> None:
    """Ports, nodes, networks."""
    web = open_page()
    web.page.goto(f"{web.url}/ui/")
    laid = web.page.evaluate(LAYOUT, list(size))
    assert (laid["points"], laid["distinct"], laid["outside"]) == (size[0], size[0], 0)
    assert laid["w"] > 0 and laid["h"] > 0 and laid["took"] < 2000


EMPTY = """async () => {
  const { layout } = await import("/ui/layout.js");
  const { Model } = await import("/ui/model.js");
  const network = (_, number) => ({ id: `net${number}`, name: `net${number}`, external: false, subnets: [] });
  const model = new Model({ revision: 1, nodes: [{ name: "n1", state: "live", physical_networks: ["physnet1"] }],
    networks: Array.from({ length: 60 }, network), floating_ips: [],
    ports: [{ id: "p", name: "p", hostname: "", addresses: [], network_id: "net30", node: "n1" }] });
  const { lanes, bars, used, h } = layout(model, 1.3);
  return { first: lanes[0].id, lanes: lanes.length, bar: bars[0].y, used, h,
    above: lanes.filter((lane) => lane.y + lane.h / 2 <= used).map((lane) => lane.id) };
}"""


def test_networks_on_which_nothing_is_are_not_in_the_way(open_page: Open) -> None:
    web = open_page()
    web.page.goto(f"{web.url}/ui/")
    laid = web.page.evaluate(EMPTY)
    assert laid["above"] == ["net30"] and laid["lanes"] == 60
    assert laid["bar"] < laid["used"] < 0.1 * laid["h"], "the wire is beside what is on it"


def test_a_thousand_ports(open_page: Open, served: Served, cloud: dict[str, Object]) -> None:
    """Within what a loaded machine takes: the bench `page` says how long it is."""
    served.fill(1000, nodes=10, networks=8)
    web = open_page()
    web.enter(READER)
    assert int(web.page.get_attribute(".canvas", "data-drawn") or 0) < 10_000
    web.find("vm777")
    expect(web.panel.locator("h2")).to_have_text("vm777")
    expect(web.panel).to_contain_text("m8")
