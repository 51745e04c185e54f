"""`import nova --check` sees what the import itself would, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller.api import plan
from controller.client import Client, refusal_of
from controller.nova import dump, model
from controller.nova.apply import Import, Outcome
from controller.nova.check import Tell, check
from controller.nova.convert import convert
from controller.planning_client import CollectingClient
from tests.unit.api.world import World

DUMP = Path(__file__).parents[1] / "nova" / "nova.sql"


class Asked:
    """Of a client: the server is in this process."""

    world: World

    def _ask(self, url: str, method: str, path: str, body: Any, read_timeout: float | None) -> Any:
        reply = self.world.call(method, f"/v1/{path}", body)
        if reply.status >= 400:
            raise refusal_of(reply.status, reply.json)
        return reply.json


@pytest.fixture
def cloud() -> Iterator[model.Cloud]:
    yield convert(dump.read(DUMP, model.TABLES), model.Choices({"": "physnet1"}, "novalocal"))


@pytest.fixture
def outside(world: World, monkeypatch: pytest.MonkeyPatch) -> str:
    """The external network. The machine may be slow."""
    monkeypatch.setattr(plan, "LONGEST", 60.0)
    return str(world.external()["id"])


def checked(world: World, cloud: model.Cloud, outside: str, tell: Tell = lambda text: None) -> Outcome:
    Checking = type("Checking", (Asked, CollectingClient), {"world": world})
    before = world.store.revision()
    outcome = check(cloud, lambda: Checking("http://here"), outside, set(), tell)
    assert world.store.revision() == before and not outcome.made
    return outcome


def done(world: World, cloud: model.Cloud, outside: str) -> Outcome:
    Doing = type("Doing", (Asked, Client), {"world": world})
    return Import(Doing("http://here"), outside, set(), lambda text: None).run(cloud)


def test_a_sound_cloud_is_not_refused_and_what_is_there_is_counted(
    world: World, cloud: model.Cloud, outside: str
) -> None:
    assert checked(world, cloud, outside).failed == []
    assert done(world, cloud, outside).failed == []
    again = checked(world, cloud, outside)
    assert (again.failed, again.there["network"], again.there["port"], again.there["floating_ip"]) == (
        [],
        len(cloud.networks),
        len(cloud.ports),
        len(cloud.floating_ips),
    )


def spoil(world: World, cloud: model.Cloud) -> model.Cloud:
    """Two networks have one VLAN, a project may not have all of its ports, and a pool holds what another has."""
    first, second = (network for network in cloud.networks if network.body["kind"] == "vlan")
    networks = [replace(one, body={**one.body, "segment": first.body["segment"]}) if one is second else one
                for one in cloud.networks]  # fmt: skip
    world.ok("PATCH", f"/v1/quotas/{cloud.ports[0].body['project_id']}", {"ports": 1})
    pools = (*cloud.pools, replace(cloud.pools[0], name="twice"))
    return replace(cloud, networks=tuple(networks), pools=pools)


def test_what_does_not_go_together_is_refused_as_the_import_refuses_it(
    world: World, cloud: model.Cloud, outside: str
) -> None:
    spoilt = spoil(world, cloud)
    told = checked(world, spoilt, outside).failed
    assert {what.split()[0] for what, _ in told} >= {"network", "port", "floating_ip_pool"}
    assert [what for what, _ in told] == [what for what, _ in done(world, spoilt, outside).failed]


def test_a_cloud_that_is_too_large_is_checked_in_parts(
    world: World, cloud: model.Cloud, outside: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = CollectingClient.plan

    def of_one_network(client: CollectingClient) -> list[Any]:
        if sum(one["path"] == "/v1/networks" for one in client.requests) > 1:
            raise refusal_of(503, {"error": {"code": "plan_too_long", "message": "too many"}})
        return whole(client)

    monkeypatch.setattr(CollectingClient, "plan", of_one_network)
    told: list[str] = []
    assert checked(world, cloud, outside, told.append).failed == [] and len(told) == 1
    failed = [what for what, _ in checked(world, spoil(world, cloud), outside).failed]
    assert failed.count("floating_ip_pool twice") == 1 and not any(what.startswith("network") for what in failed)
    done(world, cloud, outside)
    there = checked(world, cloud, outside).there
    counts = [len(some) for some in (cloud.networks, cloud.pools, cloud.floating_ips)]
    assert [there[kind] for kind in ("network", "floating_ip_pool", "floating_ip")] == counts
