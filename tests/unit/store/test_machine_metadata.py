"""What machines were given: by project and machine, and gone with the last port."""

from __future__ import annotations

from typing import Any

import pytest

from controller.store.metadata_specs import MachineMetadata, MachineRecord
from controller.store.specs import Conflict, NotFound, PortRecord

KEYS = {"zoe": "ssh-ed25519 AAAA zoe", "al": "ssh-rsa AAAA al"}


def give(world: Any, port: PortRecord, **changes: Any) -> int:
    revision: int = world.store.update_metadata(port.port.id, changes, "tester").revision
    return revision


def given(world: Any, port: PortRecord) -> MachineMetadata:
    record: MachineRecord = world.store.get_metadata(port.port.id)
    return record.metadata


def known(world: Any, port: PortRecord) -> int | None:
    """The revision that the port's model has."""
    revision: int | None = world.again(port).port.metadata
    return revision


def test_all_of_it_comes_back(world: Any) -> None:
    port = world.port(world.network())
    assert given(world, port) == MachineMetadata()
    everything = {
        "public_keys": KEYS,
        "user_data": bytes(range(256)) * 256,
        "vendor_data": {"cloud-init": {"packages": ["a"]}, "empty": None},
        "meta": {"role": "web"},
        "availability_zone": "az1",
        "instance_type": "m1",
    }
    give(world, port, **everything)
    found = given(world, port)
    assert found == MachineMetadata(**everything, revision=found.revision)
    assert list(found.public_keys) == ["zoe", "al"]
    assert world.store.load_metadata("blue", port.port.id) == found
    assert world.store.load_metadata(None, port.port.id) is None


def test_a_change_is_told_of_every_port_and_nothing_else_is(world: Any) -> None:
    network = world.network()
    ports = [world.port(network, device_id="vm") for _ in range(2)]
    other = world.port(network)
    before = world.store.revision()
    last = give(world, ports[0], user_data=b"x", availability_zone="")
    assert last == before + 2
    entries = world.store.journal(after=before)
    assert {(entry.kind, entry.object_id) for entry in entries} == {("port", each.port.id) for each in ports}
    assert [entry.payload for entry in entries] == [{"metadata": ["user_data"]}] * 2  # not what it holds
    assert known(world, ports[0]) == known(world, ports[1]) == given(world, ports[0]).revision
    assert known(world, other) is None
    assert world.again(ports[0]).revision > before
    assert give(world, ports[1], user_data=b"x") == last  # it is so already
    assert world.store.get_metadata(ports[1].port.id).port_ids == tuple(each.port.id for each in ports)


def test_what_is_emptied_is_gone(world: Any) -> None:
    port = world.port(world.network())
    give(world, port, user_data=b"x", meta={"a": "b"})
    give(world, port, user_data=None, meta={})
    assert known(world, port) is None
    assert world.store.load_metadata("blue", port.port.id) is None


def test_two_projects_with_one_device_id(world: Any) -> None:
    ours = world.port(world.network(), device_id="vm")
    theirs = world.port(world.network("10.1.0.0/24", name="red", project_id="red"), device_id="vm")
    nobodys = world.port(world.network("10.2.0.0/24", name="no", project_id=None), device_id="vm")
    for name, port in (("ours", ours), ("theirs", theirs), ("nobodys", nobodys)):
        give(world, port, meta={"whose": name})
    assert [given(world, port).meta["whose"] for port in (ours, theirs, nobodys)] == ["ours", "theirs", "nobodys"]
    assert world.store.load_metadata(None, "vm").meta == {"whose": "nobodys"}


def test_g5_it_goes_with_the_last_port(world: Any) -> None:
    network = world.network()
    first, second = (world.port(network, device_id="vm") for _ in range(2))
    give(world, first, user_data=b"old")
    world.store.set_password(first.port.id, "p", "vm")
    world.store.delete_port(first.port.id, "tester")
    assert given(world, second).user_data == b"old"
    world.store.delete_port(second.port.id, "tester")
    assert world.store.load_metadata("blue", "vm") is None
    again = world.port(network, device_id="vm", fixed_ips=())
    assert (given(world, again), known(world, again)) == (MachineMetadata(), None)


def test_a_port_that_joins_a_machine_has_what_it_was_given(world: Any) -> None:
    network = world.network()
    first = world.port(network, device_id="vm")
    give(world, first, user_data=b"x")
    second = world.port(network, device_id="vm")
    third = world.port(network)
    world.store.update_port(third.port.id, {"device_id": "vm"}, "tester")
    assert known(world, first) == known(world, second) == known(world, third) is not None


@pytest.mark.parametrize(("others", "taken"), [(0, b"x"), (1, None)])
def test_a_port_that_is_called_a_machine_takes_it_along_where_it_is_alone(
    world: Any, others: int, taken: bytes | None
) -> None:
    network = world.network()
    port = world.port(network)
    give(world, port, user_data=b"x")
    for _ in range(others):
        world.port(network, device_id="vm")
    world.store.update_port(port.port.id, {"device_id": "vm"}, "tester")
    assert given(world, port).user_data == taken
    assert world.store.load_metadata("blue", port.port.id) is None


def test_a_port_that_goes_to_another_machine_leaves_it_behind(world: Any) -> None:
    network = world.network()
    stays, goes = (world.port(network, device_id="vm") for _ in range(2))
    give(world, stays, user_data=b"x")
    world.store.update_port(goes.port.id, {"device_id": "other"}, "tester")
    assert (given(world, stays).user_data, given(world, goes)) == (b"x", MachineMetadata())
    world.store.update_port(stays.port.id, {"device_id": "third"}, "tester")
    assert given(world, stays) == MachineMetadata()
    assert world.store.load_metadata("blue", "vm") is None


def test_g7_a_password_is_set_once_until_it_is_forgotten(world: Any) -> None:
    port = world.port(world.network())
    world.store.set_password(port.port.id, "first", "vm")
    with pytest.raises(Conflict) as refused:
        world.store.set_password(port.port.id, "second", "vm")
    assert refused.value.code == "password_set"
    assert given(world, port).password == "first"
    give(world, port, password=None)
    assert known(world, port) is None
    world.store.set_password(port.port.id, "second", "vm")
    assert given(world, port).password == "second"


def test_of_a_port_that_is_not_there(world: Any) -> None:
    for attempt in (
        lambda: world.store.get_metadata("no"),
        lambda: world.store.update_metadata("no", {"meta": {"a": "b"}}, "tester"),
        lambda: world.store.set_password("no", "p", "vm"),
    ):
        with pytest.raises(NotFound):
            attempt()
