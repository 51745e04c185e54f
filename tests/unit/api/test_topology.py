from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest

from controller.api.auth import Resource
from controller.api.topology import AT_ONCE, MOST_OFTEN, MOST_VIEWS, Topologies, View
from tests.unit.api.world import World

EVERYTHING = View(None, frozenset({Resource.NODE, Resource.NETWORK, Resource.PORT, Resource.FLOATING_IP}))


@pytest.fixture
def furnished(world: World) -> World:
    """A port of project a on node n1, with a floating IP, and one of project b that is nowhere."""
    world.pool()
    own = world.network(name="own", project_id="a", subnets=[{"cidr": "10.1.0.0/24"}, {"cidr": "2001:db8::/64"}])
    other = world.network(name="other", project_id="b", subnets=[{"cidr": "10.2.0.0/24"}])
    port = world.port(own["id"], name="web", hostname="www", project_id="a", device_id="i-1")
    world.port(other["id"], name="theirs", project_id="b")
    world.node("n1", 1, physical_networks=["physnet1", "physnet-ext"])
    shown = {"serial": 1, "uplinks": {"physnet1": 60001}, "interfaces": [{"iface_id": port["id"], "ofport": 5}]}
    world.ok("PUT", "/v1/nodes/n1/interfaces", shown, "agent")
    world.floating_ip(port_id=port["id"], project_id="a")
    world.active.add(port["id"])
    return world


def topology(world: World, token: str = "admin") -> dict[str, Any]:
    shown: dict[str, Any] = world.ok("GET", "/v1/topology", token=token)
    return shown


def names(rows: list[dict[str, Any]]) -> set[str]:
    return {row.get("name") or row["address"] for row in rows}


def test_all_that_a_picture_shows(furnished: World) -> None:
    shown = topology(furnished)
    (node,) = shown["nodes"]
    assert (node["name"], node["state"], node["physical_networks"]) == ("n1", "live", ["physnet1"])
    port = next(port for port in shown["ports"] if port["name"] == "web")
    assert port | {"id": 0, "mac": 0, "addresses": 0, "network_id": 0} == {
        "id": 0,
        "name": "web",
        "hostname": "www",
        "project_id": "a",
        "device_id": "i-1",
        "network_id": 0,
        "mac": 0,
        "addresses": 0,
        "node": "n1",
        "status": "active",
    }
    assert [address.partition(":")[0] for address in port["addresses"]] == [port["addresses"][0], "2001"]
    (floating,) = shown["floating_ips"]
    assert (floating["port_ids"], floating["fixed_ip"], floating["node"]) == ([port["id"]], port["addresses"][0], "n1")
    assert names(shown["networks"]) == {"ext", "own", "other"}
    theirs = next(port for port in shown["ports"] if port["name"] == "theirs")
    assert (theirs["node"], theirs["status"]) == (None, "unbound")


def test_a_project_is_told_of_its_own(furnished: World) -> None:
    shown = topology(furnished, "member-b")
    assert not shown["nodes"] and not shown["floating_ips"]
    assert names(shown["ports"]) == {"theirs"}
    assert names(shown["networks"]) == {"other", "ext"}
    assert {network["segment"] for network in shown["networks"]} == {None}
    assert {network["physical_network"] for network in shown["networks"]} == {None}
    assert names(topology(furnished, "member-a")["floating_ips"]) != set()


def test_a_narrowed_token_is_told_what_it_may_list(furnished: World) -> None:
    body = {"name": "narrow", "role": "reader", "scopes": ["ports:read"]}
    secret = furnished.ok("POST", "/v1/tokens", body)["token"]["secret"]
    shown = topology(furnished, secret)
    assert names(shown["ports"]) == {"web", "theirs"}
    assert not (shown["nodes"] or shown["networks"] or shown["floating_ips"])
    assert furnished.call("GET", "/v1/topology", token="agent").status == 403


def test_what_has_not_changed_is_not_sent_again(furnished: World) -> None:
    first = furnished.call("GET", "/v1/topology")
    etag = first.headers["ETag"]
    again = furnished.call("GET", "/v1/topology", HTTP_IF_NONE_MATCH=etag)
    assert (again.status, again.data, again.headers["Cache-Control"]) == (304, b"", "no-store")
    # what another may see is another answer
    assert furnished.call("GET", "/v1/topology", token="member-a", HTTP_IF_NONE_MATCH=etag).status == 200


class Watched:
    """Topologies with a clock that is set by hand; `pauses` counts how often others might have run."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses = 0
        self.topologies = Topologies(lambda: self.now, self._pause)

    def _pause(self) -> None:
        self.pauses += 1


def test_it_is_made_once_a_second_however_many_ask(furnished: World) -> None:
    asked = []
    services = replace(furnished.services, node_state=lambda name: asked.append(name) or {"state": "live"})
    watched = Watched()
    answers = {watched.topologies.show(services, EVERYTHING).etag for _ in range(50)}
    assert len(answers) == 1 and asked == ["n1"]
    watched.now += MOST_OFTEN
    furnished.port(furnished.network(name="more", project_id="a", subnets=[{"cidr": "10.3.0.0/24"}])["id"])
    assert watched.topologies.show(services, EVERYTHING).etag not in answers
    assert asked == ["n1", "n1"]


def test_the_same_is_known_by_the_same_tag(furnished: World) -> None:
    watched = Watched()
    first = watched.topologies.show(furnished.services, EVERYTHING)
    watched.now += MOST_OFTEN
    again = watched.topologies.show(furnished.services, EVERYTHING)
    assert first is not again and first.etag == again.etag


def test_others_run_while_a_large_one_is_made(furnished: World) -> None:
    network = furnished.network(name="large", project_id="a", subnets=[{"cidr": "10.9.0.0/16"}])["id"]
    ports = [{"network_id": network} for _ in range(2 * AT_ONCE)]
    furnished.ok("POST", "/v1/ports", {"ports": ports})
    watched = Watched()
    answer = watched.topologies.show(furnished.services, EVERYTHING)
    assert watched.pauses == 2
    assert answer.body.count(b'"hostname"') == 2 * AT_ONCE + 2


def test_it_is_made_by_one_while_others_wait(furnished: World) -> None:
    asked = []

    def state(name: str) -> dict[str, Any]:
        asked.append(name)
        going.wait(5)
        return {"state": "live"}

    going = threading.Event()
    services = replace(furnished.services, node_state=state)
    watched = Watched()
    threads = [threading.Thread(target=watched.topologies.show, args=(services, EVERYTHING)) for _ in range(5)]
    for thread in threads:
        thread.start()
    going.set()
    for thread in threads:
        thread.join(5)
    assert asked == ["n1"]


def test_what_is_kept_is_bounded(furnished: World) -> None:
    watched = Watched()
    for number in range(MOST_VIEWS + 10):
        watched.topologies.show(furnished.services, View(f"p{number}", EVERYTHING.parts))
    assert len(watched.topologies._kept) == MOST_VIEWS
