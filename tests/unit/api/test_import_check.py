"""`import nova --check` sees what the import itself would, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from ipaddress import IPv4Network
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from controller.api import plan
from controller.client import ApiError, Client, refusal_of
from controller.nova import apply, dump, model
from controller.nova.apply import Import, Outcome
from controller.nova.check import Tell, check
from controller.nova.convert import convert
from controller.nova.model import Object
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
    no_more_than(monkeypatch, lambda requests: sum(one["path"] == "/v1/networks" for one in requests) > 1)
    told: list[str] = []
    assert checked(world, cloud, outside, told.append).failed == [] and len(told) == 1
    failed = [what for what, _ in checked(world, spoil(world, cloud), outside).failed]
    assert failed.count("floating_ip_pool twice") == 1 and not any(what.startswith("network") for what in failed)
    done(world, cloud, outside)
    there = checked(world, cloud, outside).there
    counts = [len(some) for some in (cloud.networks, cloud.pools, cloud.floating_ips)]
    assert [there[kind] for kind in ("network", "floating_ip_pool", "floating_ip")] == counts


def large(cloud: model.Cloud, count: int, twice: Collection[int] = ()) -> model.Cloud:
    """One network with many ports, those of the places `twice` with one MAC, and what else the cloud has but floating
    IPs of ports.
    """
    network = replace(cloud.networks[1], body={**cloud.networks[1].body, "subnets": [{"cidr": "10.64.0.0/16"}]})
    addresses = islice(IPv4Network("10.64.0.0/16").hosts(), 9, None)
    ports = tuple(
        model.Port(
            network.id,
            "",
            {
                "id": f"22222222-0000-4000-8000-{index:012}",
                "mac": "fa:16:3e:01:" + (b"\0\0" if index in twice else index.to_bytes(2)).hex(":"),
                "fixed_ips": [{"address": str(address)}],
                "name": f"vm{index}",
                "project_id": "p1",
                "security_groups": ["default"],
            },
        )
        for index, address in zip(range(1, count + 1), addresses, strict=False)
    )
    free = tuple(one for one in cloud.floating_ips if one.port_id is None)
    return replace(cloud, networks=(network,), ports=ports, floating_ips=free)


def no_more_than(monkeypatch: pytest.MonkeyPatch, too_many: Callable[[list[Object]], bool]) -> None:
    """Plans of too many requests are refused."""
    whole = CollectingClient.plan

    def some(client: CollectingClient) -> list[Object]:
        if too_many(client.requests):
            raise refusal_of(503, {"error": {"code": "plan_too_long", "message": "too many"}})
        return whole(client)

    monkeypatch.setattr(CollectingClient, "plan", some)


def test_ports_that_passed_until_others_were_made_one_by_one(
    world: World, cloud: model.Cloud, outside: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second ten are not refused before the first are made but for one."""
    monkeypatch.setattr(apply, "_AT_ONCE", 10)
    told = checked(world, large(cloud, 30, twice=(5, 6, 15)), outside).failed
    assert [what for what, _ in told] == ["port vm6 (10.64.0.15)", "port vm15 (10.64.0.24)"]


def test_one_network_that_is_too_large_is_checked_in_parts(
    world: World, cloud: model.Cloud, outside: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ports(requests: list[Object]) -> int:
        return sum(len(one["body"].get("ports", [0])) for one in requests if one["path"] == "/v1/ports")

    no_more_than(monkeypatch, lambda requests: ports(requests) > 2)
    network = large(cloud, 5, twice=(1, 2, 4, 5))
    told: list[str] = []
    failed = [what for what, _ in checked(world, network, outside, told.append).failed]
    assert failed == ["port vm2 (10.64.0.11)", "port vm5 (10.64.0.14)"] and len(told) == 1
    assert len(done(world, network, outside).failed) == 3
    there = checked(world, network, outside).there
    assert (there["network"], there["port"], there["floating_ip"]) == (1, 2, len(network.floating_ips))


def test_ports_that_cannot_all_be_asked_for_one_by_one(
    world: World, cloud: model.Cloud, outside: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def singles(requests: list[Object]) -> int:
        return sum(one["path"] == "/v1/ports" and "ports" not in one["body"] for one in requests)

    monkeypatch.setattr(apply, "_AT_ONCE", 10)
    no_more_than(monkeypatch, lambda requests: singles(requests) > 10)
    failed = [what for what, _ in checked(world, large(cloud, 20, twice=(5, 6, 15, 16)), outside).failed]
    assert failed == ["port vm6 (10.64.0.15)", "port vm11 (10.64.0.20) or one of 9 after it"]


def test_groups_that_are_too_many_for_any_part(
    world: World, cloud: model.Cloud, outside: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_more_than(monkeypatch, lambda requests: True)
    with pytest.raises(ApiError, match="groups, rules, pools .* are too many for it"):
        checked(world, cloud, outside)
