"""GET /v1/events, and what writes by the API become there."""

from __future__ import annotations

from typing import Any

import pytest

from controller.events import ring
from controller.events.changes import Changes
from controller.events.ring import Kind
from tests.unit.api.world import World


def told(world: World, token: str = "admin", query: str = "") -> list[str]:
    return [event["text"] for event in world.ok("GET", f"/v1/events{query}", token=token)["events"]]


def test_a_project_sees_its_own(world: World) -> None:
    events = world.services.events
    events.note(Kind.PORT, "of a", project_id="a", port_id="p", network_id="n", node="n1")
    events.note(Kind.NODE, "of nobody", node="n1")
    assert told(world) == told(world, "reader") == ["of a", "of nobody"]
    assert told(world, "member-a") == ["of a"]
    assert told(world, "member-b") == []
    assert world.call("GET", "/v1/events", token="agent").status == 403
    (event,) = world.ok("GET", "/v1/events?port_id=p&network_id=n&node=n1&kind=port")["events"]
    assert event.pop("at").endswith("Z")
    assert event == {
        "id": events.last - 1,
        "kind": "port",
        "text": "of a",
        "port_id": "p",
        "network_id": "n",
        "node": "n1",
    }


def test_going_on(world: World) -> None:
    for text in "abc":
        world.services.events.note(Kind.PORT, text)
    first = world.ok("GET", "/v1/events?after=0&limit=2")
    assert [event["text"] for event in first["events"]] == ["a", "b"] and not first["missed"]
    then = world.ok("GET", f"/v1/events?after={first['last']}")
    assert [event["text"] for event in then["events"]] == ["c"]
    nothing: dict[str, Any] = world.ok("GET", f"/v1/events?after={then['last']}&wait=0.01")
    assert nothing == {"events": [], "last": then["last"], "missed": False}
    assert world.ok("GET", "/v1/events?after=17")["missed"]


@pytest.mark.parametrize("query", ["after=-1", "after=x", "wait=31", "wait=-1", "wait=inf", "kind=x", "limit=0", "x=1"])
def test_nonsense(world: World, query: str) -> None:
    assert world.call("GET", f"/v1/events?{query}").status == 400


def test_too_many_wait(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring, "MAX_WAITING", 0)
    reply = world.call("GET", f"/v1/events?after={world.services.events.last}&wait=1")
    assert reply.refusal[:2] == (429, "too_many_waiting") and reply.headers["Retry-After"] == "1"


def test_what_is_written(world: World) -> None:
    changes = Changes(world.services.events, world.store, world.services.snapshot)
    network = world.network(project_id="a", name="green")
    port = world.port(network["id"], "member-a", name="web1")
    world.ok("PATCH", f"/v1/ports/{port['id']}", {"name": "web2", "hostname": "x"}, "member-a")
    world.ok("PATCH", f"/v1/networks/{network['id']}", {"mtu": 1400})
    world.node()
    changes.followed(world.store.revision())
    changes.tell()
    world.ok("DELETE", f"/v1/ports/{port['id']}")
    changes.followed(world.store.revision())
    changes.tell()
    of_a = [
        "admin created network green",
        "member:a created security group default",
        "member:a created port web2",  # as it is called by now
        "member:a changed port web2: name, hostname",
        "admin changed network green: mtu",
        "admin deleted port web2",
    ]
    assert told(world, "member-a") == of_a
    assert told(world) == of_a
    assert told(world, "member-b") == []
    changes.tell()
    assert told(world, "member-a") == of_a


def test_a_capture_is_told_to_operators(world: World) -> None:
    port = world.port(world.network(project_id="a")["id"], "member-a", name="web1")
    changes = Changes(world.services.events, world.store, world.services.snapshot)
    world.store.note_capture(port["id"], {"node": "n1"}, "admin")
    changes.followed(world.store.revision())
    changes.tell()
    assert told(world)[-1:] == ["admin created capture web1"]
    assert "admin created capture web1" not in told(world, "member-a")


def test_what_only_operators_see_of_a_network(world: World) -> None:
    network = world.network(project_id=None, name="pool", assignable=False)
    changes = Changes(world.services.events, world.store, world.services.snapshot)
    world.ok("PATCH", f"/v1/networks/{network['id']}", {"assignable": True})
    world.ok("PUT", f"/v1/networks/{network['id']}/project", {"project_id": "a"})
    changes.followed(world.store.revision())
    changes.tell()
    assert "admin changed network pool: assignable" in told(world)
    assert "admin changed network pool: assignable" not in told(world, "member-a")


def test_a_flood_of_changes_is_cut(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = Changes(world.services.events, world.store, world.services.snapshot)
    network = world.network()
    world.ok("POST", "/v1/ports", {"ports": [{"network_id": network["id"]} for _ in range(20)]})
    monkeypatch.setattr("controller.events.changes.MOST", 5)
    monkeypatch.setattr("controller.events.changes.AT_ONCE", 2)
    changes.followed(world.store.revision())
    changes.tell()
    said = told(world)
    assert len(said) == 6 and said[0] == f"{world.store.revision() - 5} changes that are not told one by one"
