"""Networks that are given to projects, and the ports of a machine that names no network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from ipaddress import IPv4Network
from typing import Any

import pytest

from controller.store import Store
from controller.store.network_specs import Carving
from controller.store.policy_specs import SecurityGroupSpec
from controller.store.quota_specs import Limits
from controller.store.specs import (
    Conflict,
    Exhausted,
    Invalid,
    NetworkRecord,
    NetworkSpec,
    NotFound,
    PortRecord,
    PortSpec,
    StoreError,
    SubnetSpec,
)
from flows.model import NetworkKind
from tests.unit.store.floating import in_parallel


def pool(world: Any, count: int = 3, **fields: Any) -> list[NetworkRecord]:
    """Free networks of 16 addresses."""
    subnets = (SubnetSpec(IPv4Network("10.8.0.0/16")),)
    spec = NetworkSpec("pool", NetworkKind.VLAN, "physnet1", subnets, assignable=True, **fields)
    made: list[NetworkRecord] = world.store.create_networks(spec, Carving(count, 16), "tester").value
    return made


def flat(world: Any, cidr: str, number: int = 1, **fields: Any) -> NetworkRecord:
    values = {"kind": NetworkKind.FLAT, "physical_network": f"physnet{number}", "project_id": None, "shared": True}
    made: NetworkRecord = world.network(cidr, name=f"flat{number}", **values | fields)
    return made


def boot(world: Any, project: str, name: str = "vm", **fields: Any) -> list[PortRecord]:
    template = PortSpec("", name=name, device_id=f"device-{name}", **fields)
    made: list[PortRecord] = world.store.create_device_ports(project, template, "tester").value
    return made


def places(ports: list[PortRecord]) -> list[str]:
    return [port.port.network_id for port in ports]


def owner(world: Any, network: NetworkRecord) -> str | None:
    found: str | None = world.store.get_network(network.id).spec.project_id
    return found


def code(attempt: Callable[[], Any]) -> str:
    with pytest.raises(StoreError) as refused:
        attempt()
    return refused.value.code


# -- the first port of a project


def test_a3_the_first_port_of_a_project_takes_a_free_network(world: Any) -> None:
    free = pool(world)
    for project, network in zip(("p1", "p2", "p3"), free, strict=True):
        (port,) = boot(world, project)
        assert (port.port.network_id, port.port.project_id, owner(world, network)) == (network.id, project, project)
        assert places(boot(world, project, "second")) == [network.id]
    assert world.store.load_snapshot().networks[free[0].id].project_id == "p1"


def test_a3_without_a_free_network_nothing_is_left_behind(world: Any) -> None:
    pool(world, 1)
    boot(world, "p1")
    before = (world.store.revision(), world.store.load_snapshot(), world.store.list_security_groups())
    with pytest.raises(Exhausted) as refused:
        boot(world, "p2")
    assert (refused.value.code, refused.value.status) == ("no_free_network", 409)
    assert (world.store.revision(), world.store.load_snapshot(), world.store.list_security_groups()) == before


def test_a3_a_port_that_cannot_be_made_takes_no_network(world: Any) -> None:
    (free,) = pool(world, 1)
    assert code(lambda: boot(world, "p1", security_groups=("unheard-of",))) == "security_group_unknown"
    assert owner(world, free) is None


@pytest.mark.parametrize("stores", [1, 4])
def test_a3_first_ports_at_once_take_one_network(make_world: Callable[..., Any], stores: int) -> None:
    first = make_world()
    free = pool(first, 8)
    workers = [first.store, *(make_world().store for _ in range(stores - 1))]
    got: list[tuple[str, str]] = []

    def work(item: tuple[Store, str]) -> None:
        store, project = item
        for record in store.create_device_ports(project, PortSpec(""), "tester").value:
            got.append((project, record.port.network_id))

    projects = [f"p{number % 4}" for number in range(24)]
    in_parallel(work, [(workers[index % stores], project) for index, project in enumerate(projects)])
    assert len(got) == 24
    assert len({network for _, network in got}) == 4 == len(set(got))
    assert sorted(str(owner(first, network)) for network in free[4:]) == ["None"] * 4


# -- the networks of a machine


def test_a2_a_machine_is_on_every_shared_flat_network_in_their_order(world: Any) -> None:
    first, second = flat(world, "10.1.0.0/24", 1), flat(world, "10.2.0.0/24", 2)
    own = flat(world, "10.3.0.0/24", 3, shared=False, project_id="blue")
    flat(world, "10.4.0.0/24", 4, shared=False)  # the operator's own
    flat(world, "10.5.0.0/24", 5, shared=False, project_id="red")
    world.network("10.6.0.0/24", project_id=None, shared=True)  # tagged
    world.external()
    ports = boot(world, "blue")
    assert places(ports) == [first.id, second.id, own.id]
    assert [(port.port.name, port.device_id, port.port.project_id) for port in ports] == [
        ("vm", "device-vm", "blue"), ("vm-2", "device-vm", "blue"), ("vm-3", "device-vm", "blue")
    ]  # fmt: skip
    assert places(boot(world, "green")) == [first.id, second.id]
    assert len({port.port.mac for port in ports}) == 3


def test_both_kinds_in_one_cloud(world: Any) -> None:
    """Who has a VLAN, or gets one, is on the networks of its project alone."""
    shared, own = flat(world, "10.1.0.0/24"), flat(world, "10.2.0.0/24", 2, shared=False, project_id="flats")
    (free,) = pool(world, 1)
    assert places(boot(world, "vlans")) == [free.id]
    assert places(boot(world, "flats")) == [shared.id, own.id]
    mixed = world.network("10.3.0.0/24", project_id="flats")
    assert places(boot(world, "flats", "later")) == [own.id, mixed.id]
    assert code(lambda: boot(world, "third")) == "no_free_network"


def test_without_any_network_one_has_to_be_named(world: Any) -> None:
    world.network(project_id="red")
    world.network("10.1.0.0/24", project_id=None)
    with pytest.raises(Conflict) as refused:
        boot(world, "blue")
    assert (refused.value.code, refused.value.field) == ("no_network", "network_id")
    assert world.store.list_ports() == []


def test_all_ports_of_a_machine_or_none(world: Any) -> None:
    flat(world, "10.1.0.0/24", 1)
    small = flat(world, "10.2.0.0/30", 2)
    for _ in range(2):
        world.port(small)
    assert code(lambda: boot(world, "blue")) == "subnet_full"
    assert len(world.store.list_ports()) == 2


def test_the_names_of_a_machines_ports_fit(world: Any) -> None:
    flat(world, "10.1.0.0/24", 1)
    assert len(boot(world, "blue", "x" * 247)) == 1
    flat(world, "10.2.0.0/24", 2)
    assert [len(port.port.name) for port in boot(world, "blue", "x" * 246)] == [246, 248]
    assert code(
        lambda: world.store.create_device_ports("blue", PortSpec("", name="x" * 254, device_id="d"), "tester")
    ) == ("name_invalid")
    assert len(world.store.list_ports()) == 3


def test_b9_one_more_network_is_for_machines_to_come(world: Any) -> None:
    first, second, _ = pool(world)
    old = boot(world, "blue")
    made = world.store.associate_free_network("blue", "tester").value
    assert (made.id, made.spec.project_id) == (second.id, "blue")
    assert [world.again(port) for port in old] == old
    new = boot(world, "blue", "new")
    assert places(new) == [first.id, second.id]
    segments = [world.store.get_network(id_).spec.segment for id_ in places(new)]
    assert len(set(segments)) == 2
    assert made.router_key == world.store.get_network(first.id).router_key  # a project's networks are routed


# -- to and from


def changed(before: NetworkRecord, after: NetworkRecord) -> set[str]:
    """The fields that differ, but for the revision."""
    one, other = asdict(before), asdict(after)
    specs = {f"spec.{name}" for name, value in one.pop("spec").items() if other["spec"][name] != value}
    return {name for name, value in one.items() if other[name] != value} - {"revision"} | specs


def test_b8_each_verb_changes_who_has_it_and_nothing_else(world: Any) -> None:
    free, other, _ = pool(world)
    given = world.store.associate_network(free.id, "blue", "tester")
    assert changed(free, given.value) == {"spec.project_id"}
    assert world.store.associate_network(free.id, "blue", "tester").revision == given.revision
    # one more is routed with the first, which is what changes beside
    assert changed(other, world.store.associate_network(other.id, "blue", "tester").value) == {
        "spec.project_id", "router_key"
    }  # fmt: skip
    back = world.store.disassociate_network(other.id, "tester")
    assert changed(other, back.value) == set()
    assert world.store.disassociate_network(other.id, "tester").revision == back.revision
    entries = [(entry.action, dict(entry.payload)) for entry in world.store.journal(object_id=other.id)]
    assert entries[1:] == [("update", {"project_id": "blue"}), ("update", {"project_id": None})]


def test_b8_a_network_that_gave_the_router_its_key_can_go(world: Any) -> None:
    first, second, third = pool(world)
    for network in (first, second):
        world.store.associate_network(network.id, "blue", "tester")
    world.store.disassociate_network(first.id, "tester")
    again, kept = world.store.associate_network(first.id, "red", "tester").value, world.store.get_network(second.id)
    assert again.router_key != kept.router_key
    assert world.store.associate_network(third.id, "blue", "tester").value.router_key == kept.router_key


def test_b8_what_is_anothers_or_not_to_be_given_is_refused(world: Any) -> None:
    (free,) = pool(world, 1)
    own, nobodys = world.network(), world.network("10.1.0.0/24", project_id=None)
    world.store.associate_network(free.id, "red", "tester")
    assert code(lambda: world.store.associate_network(free.id, "blue", "tester")) == "network_has_project"
    assert code(lambda: world.store.associate_free_network("blue", "tester")) == "no_free_network"
    for network in (own, nobodys):
        assert code(lambda id_=network.id: world.store.associate_network(id_, "red", "tester")) == (
            "network_not_assignable"
        )
        assert code(lambda id_=network.id: world.store.disassociate_network(id_, "tester")) == "network_not_assignable"
    for attempt in (
        lambda: world.store.associate_network("nowhere", "blue", "tester"),
        lambda: world.store.disassociate_network("nowhere", "tester"),
    ):
        with pytest.raises(NotFound):
            attempt()
    assert owner(world, free) == "red"


def test_b8_nobody_is_given_a_network_with_machines_of_others(world: Any) -> None:
    (free,) = pool(world, 1)
    assert code(lambda: world.port(free, project_id="blue")) == "network_unassociated"
    (port,) = boot(world, "red")
    assert code(lambda: world.store.disassociate_network(free.id, "tester")) == "network_in_use"
    world.store.delete_port(port.port.id, "tester")
    world.store.disassociate_network(free.id, "tester")
    assert places(boot(world, "blue")) == [free.id]


def test_b8_a_network_that_others_are_routed_with_is_not_given(world: Any) -> None:
    first, second = pool(world, 2)
    world.network(project_id="red", router=first.id)
    assert places(boot(world, "blue")) == [second.id]
    assert code(lambda: world.store.associate_network(first.id, "blue", "tester")) == "network_in_use"


def test_b8_an_isolated_network_stays_so(world: Any) -> None:
    first, second = pool(world, 2, router="isolated")
    for network in (first, second):
        assert changed(network, world.store.associate_network(network.id, "blue", "tester").value) == {
            "spec.project_id"
        }


def test_b8_scrubbing_a_project(world: Any) -> None:
    first, second, third = pool(world)
    (port,) = boot(world, "blue")
    world.store.associate_network(second.id, "blue", "tester")
    world.store.associate_network(third.id, "red", "tester")
    own = world.network(project_id="blue")
    group = world.store.create_security_group(SecurityGroupSpec("web", "blue"), "tester").value
    revision = world.store.revision()
    assert code(lambda: world.store.scrub_project("blue", "tester")) == "network_in_use"
    assert world.store.revision() == revision
    world.store.delete_port(port.port.id, "tester")
    done = world.store.scrub_project("blue", "tester").value
    assert done.networks == (first.id, second.id)
    assert len(done.security_groups) == 2 and group.group.id in done.security_groups  # with `default`
    assert [owner(world, network) for network in (first, second, third, own)] == [None, None, "red", "blue"]
    assert world.store.list_security_groups(project_id="blue") == []
    assert world.store.scrub_project("blue", "tester").value.networks == ()
    assert places(boot(world, "blue")) == [own.id]


def test_b7_a_network_that_a_project_has_stays(world: Any) -> None:
    (free,) = pool(world, 1)
    (port,) = boot(world, "blue")
    assert code(lambda: world.store.delete_network(free.id, "tester")) == "network_has_project"
    world.store.delete_port(port.port.id, "tester")
    with pytest.raises(Conflict, match="disassociate it first") as refused:
        world.store.delete_network(free.id, "tester")
    assert refused.value.details == {"project_id": "blue"}
    world.store.disassociate_network(free.id, "tester")
    world.store.delete_network(free.id, "tester")
    assert world.network("10.8.0.0/16")  # the range is free again


# -- a network that is there already


def test_a_network_can_be_made_one_to_give_away(world: Any) -> None:
    network = world.network(project_id=None)
    world.store.update_network(network.id, {"assignable": True}, "tester")
    assert places(boot(world, "blue")) == [network.id]
    world.store.update_network(network.id, {"assignable": False}, "tester")  # the project keeps it
    assert code(lambda: world.store.disassociate_network(network.id, "tester")) == "network_not_assignable"


@pytest.mark.parametrize("fields", [{"kind": NetworkKind.FLAT}, {"shared": True}])
def test_others_cannot(world: Any, fields: dict[str, Any]) -> None:
    network = world.network(**fields)
    with pytest.raises(Invalid) as refused:
        world.store.update_network(network.id, {"assignable": True}, "tester")
    assert (refused.value.code, refused.value.field) == ("assignable_invalid", "assignable")


def test_nor_one_with_ports_or_in_somebodys_way(world: Any) -> None:
    network = world.network(project_id=None)
    world.port(network)
    assert code(lambda: world.store.update_network(network.id, {"assignable": True}, "tester")) == "network_in_use"
    one, _ = world.network("10.1.0.0/24", project_id="blue"), world.network("10.1.0.0/24", project_id="red")
    assert code(lambda: world.store.update_network(one.id, {"assignable": True}, "tester")) == "cidr_overlap"


# -- networks of a project's own


def own_network(store: Store, number: int, project: str = "blue") -> NetworkRecord:
    subnets = (SubnetSpec(IPv4Network(f"10.0.{number}.0/24")),)
    spec = NetworkSpec("own", NetworkKind.VLAN, "physnet1", subnets, project_id=project)
    return store.create_network(spec, "tester", by_project=True).value


def test_b11_a_project_makes_so_many_of_its_own(make_world: Callable[..., Any]) -> None:
    world = make_world()
    pool(world, 1)
    boot(world, "blue")  # what it was given does not count
    made = [own_network(world.store, number) for number in range(3)]
    with pytest.raises(Exhausted) as refused:
        own_network(world.store, 4)
    assert (refused.value.code, refused.value.details) == ("quota_exceeded", {"limit": 3, "used": 3})
    own_network(world.store, 5, "red")
    world.store.delete_network(made[0].id, "tester")
    own_network(world.store, 6)
    world.network("10.0.7.0/24")  # an administrator has no such limit
    assert world.store.get_quota("blue").networks_used == 4
    world.store.set_quota("blue", {"networks": -1}, "tester")
    own_network(world.store, 8)


@pytest.mark.parametrize("stores", [1, 4])
def test_b26_the_quota_of_networks_is_exact_whoever_asks_at_once(make_world: Callable[..., Any], stores: int) -> None:
    first = make_world(limits=Limits(networks=7))
    workers = [first.store, *(make_world(limits=Limits(networks=7)).store for _ in range(stores - 1))]
    errors: list[Any] = []

    def make(item: tuple[Store, int]) -> None:
        try:
            own_network(*item)
        except Exception as error:
            errors.append(getattr(error, "code", error))

    in_parallel(make, [(workers[number % stores], number) for number in range(20)])
    assert errors == ["quota_exceeded"] * 13
    assert first.store.get_quota("blue").networks_used == 7 == len(first.store.list_networks())
