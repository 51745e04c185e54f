"""A controller that dies, whose clock is set, whose disk is full: what was answered is there, and no packet is lost."""

from __future__ import annotations

import random
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from controller.client import ApiError, ClientError, Object
from etc.lab.lab import Lab
from etc.lab.processes import wait_until
from tests.disks import fill, small_disk
from tests.faults.clients import Kind, editing, wrong
from tests.faults.cloud import PROJECT, Cloud, build, wait_served
from tests.faults.controller import CLOCK, DIE, READ_ONLY, STEPS
from tests.faults.mirror import Mirror
from tests.netns.cloud import make_vms, program, want

pytestmark = pytest.mark.root

DAY = 86400
LEASE = 3600
DEADLINE = 30.0
KILLS = 5
"""After which it is looked what there is."""


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is in this directory is what goes wrong."""
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def disk(root: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small one, for the database alone."""
    with small_disk(tmp_path_factory.mktemp("disk")) as path:
        yield path


@pytest.fixture(scope="module")
def database(disk: Path) -> Path:
    return disk / "trunkline.db"


@pytest.fixture(scope="module")
def cloud(make_lab: Callable[..., Lab], faults: Path, database: Path) -> Cloud:
    lab = make_lab(
        nodes=2,
        projects=(PROJECT,),
        control_program=("tests.faults.controller", str(faults)),
        control_options={
            "database": {"url": f"sqlite:///{database}"},
            "dhcp": {"lease_time": LEASE, "force_release": False},
            "addresses": {"disassociate_timeout": -1},
            "quota": {"floating_ips": 100, "security_groups": 1000, "security_group_rules": 10000},
        },
    )
    return build(lab)


@pytest.fixture(scope="module")
def mirror(cloud: Cloud, database: Path) -> Iterator[Mirror]:
    with Mirror.of(cloud.lab, f"sqlite:///file:{database}?mode=ro&uri=true") as made:
        yield made


@contextmanager
def asked(faults: Path, name: str, value: object) -> Iterator[None]:
    """A fault during a `with`."""
    new = faults / f"{name}.new"
    new.write_text(str(value))
    new.rename(faults / name)
    try:
        yield
    finally:
        (faults / name).unlink()


def restart(cloud: Cloud) -> None:
    cloud.lab.control.start()
    cloud.lab.wait_connected()


def whole(cloud: Cloud, mirror: Mirror) -> list[str]:
    """All nodes hold what the database says, and have said so. What the first one holds."""
    mirror.wait_equal()
    cloud.lab.confirm(cloud.lab.client.list_networks()[0]["revision"])
    return program(cloud.lab.nodes[0])


# death


def delete_port(cloud: Cloud) -> tuple[Callable[[], object], Callable[[], object]]:
    """A write, and how the world looks before (a true value) and after it."""
    port = cloud.comer()
    client = cloud.lab.client
    return (
        lambda: client.delete_port(port["id"]),
        lambda: any(one["id"] == port["id"] for one in cloud.lab.client.list_ports()),
    )


def move_floating_ip(cloud: Cloud) -> tuple[Callable[[], object], Callable[[], object]]:
    """From one node to another: both have to do with it."""
    client = cloud.lab.client
    before, after = (port["id"] for port in cloud.anchors[:2])
    made = client.create_floating_ip({"pool": "changing", "project_id": PROJECT, "port_id": before})
    assert made.object
    id_ = made.object["id"]
    cloud.lab.confirm(made.revision)
    return (
        lambda: client.update_floating_ip(id_, {"port_id": after}),
        lambda: cloud.lab.client.get_floating_ip(id_)["port_id"] == before,
    )


WRITES = {
    "before_commit": delete_port,
    "after_commit": move_floating_ip,
    "before_bundle": delete_port,
    "before_barrier": delete_port,
    "before_bundle_commit": move_floating_ip,
}


def test_killed_at_each_step_of_a_write(cloud: Cloud, mirror: Mirror, faults: Path) -> None:
    assert set(WRITES) == set(STEPS)
    with cloud.traffic():
        for step in STEPS:
            act, is_as_before = WRITES[step](cloud)
            before = whole(cloud, mirror)
            with asked(faults, DIE, step):
                die_of(cloud, act, step)
            restart(cloud)
            after = whole(cloud, mirror)
            assert bool(is_as_before()) == (before == after) == (step == "before_commit"), f"{step}: half"
            clean(cloud)


def die_of(cloud: Cloud, act: Callable[[], object], step: str) -> None:
    """The controller does, at this step."""
    process = cloud.lab.control.process
    assert process
    with suppress(ClientError):
        act()
        assert step not in ("before_commit", "after_commit"), "it was answered before it was written"
    with suppress(subprocess.TimeoutExpired):
        process.wait(DEADLINE)
    assert not process.alive(), f"{step}: it did not die"


def clean(cloud: Cloud) -> None:
    for kind in cloud.kinds():
        kind.end_all(cloud.lab.client)


def kill_at_random(cloud: Cloud, mirror: Mirror, seed: int, kills: int) -> None:
    """While clients write: all that was answered is there afterwards, and nothing else."""
    print(f"seed {seed}")
    dice = random.Random(seed)
    kinds = cloud.kinds()
    left = kills
    while left:
        with cloud.traffic():
            at_once = min(left, KILLS)
            with editing(kinds, lambda: cloud.lab.client, dice):
                for _ in range(at_once):
                    kill_while(cloud, kinds, dice)
            left -= at_once
            whole(cloud, mirror)
        assert wrong(kinds, cloud.lab.client) == []
    print(f"{kills} kills; requests answered:", {kind.name: kind.answered for kind in kinds})
    assert all(kind.answered for kind in kinds)
    for kind in kinds:
        kind.end_all(cloud.lab.client)
    whole(cloud, mirror)


def kill_while(cloud: Cloud, kinds: Sequence[Kind], dice: random.Random) -> None:
    """Once some have been answered, or, sometimes, before it can answer."""
    control = cloud.lab.control
    answered = sum(kind.answered for kind in kinds)
    wait_until(lambda: sum(kind.answered for kind in kinds) > answered, DEADLINE, "nobody is answered")
    time.sleep(dice.random())  # not waited for: the moment is what is tried
    control.kill()
    if dice.random() < 0.2:
        control.launch()
        time.sleep(dice.random())
        control.kill()
    restart(cloud)


@pytest.mark.timeout(3600)
def test_killed_at_random_moments(cloud: Cloud, mirror: Mirror, request: pytest.FixtureRequest) -> None:
    """A hundred of them are `tests/run faults -k random --kills 100`."""
    kill_at_random(cloud, mirror, random.SystemRandom().randrange(1 << 32), request.config.getoption("kills"))


# a clock that is set


def address_states(cloud: Cloud) -> dict[str, str]:
    return {str(one["address"]): one["state"] for one in cloud.lab.client.list_addresses(cloud.network["id"])}


def lease_states(cloud: Cloud) -> dict[str, str]:
    return {str(one["address"]): one["state"] for one in cloud.lab.client.list_leases(network_id=cloud.network["id"])}


@pytest.mark.parametrize("seconds", [DAY, -DAY], ids=["forward", "back"])
def test_a_clock_that_is_set(cloud: Cloud, faults: Path, seconds: int) -> None:
    lab = cloud.lab
    old, later = make_vms(lab, *(want(name, lab.nodes[0], cloud.network) for name in ("old", "later"))).values()
    addresses = {str(vm.address): "bound" for vm in (old, later, *cloud.vms.values())}
    wait_until(lambda: addresses.items() <= lease_states(cloud).items(), DEADLINE, "not written down")
    lab.delete_vm(old)
    assert address_states(cloud)[str(old.address)] == "held"
    del addresses[str(old.address)]
    with cloud.traffic():
        with asked(faults, CLOCK, seconds):
            log = lab.control.process.log  # type: ignore[union-attr]
            at = log.stat().st_size
            wait_until(lambda: "clock_set" in log.read_text()[at:], DEADLINE, "nobody has noticed")
            assert address_states(cloud)[str(old.address)] == "held"
            assert addresses.items() <= lease_states(cloud).items()
            lab.delete_vm(later)
            assert address_states(cloud)[str(later.address)] == "held", "its lease has ended with the clock"
            for vm in cloud.vms.values():
                vm.wait_renewed()
            new = make_vms(lab, want("new", lab.nodes[1], cloud.network))["new"]
            assert not new.ping(cloud.vms["v1"].address).lost
            lab.delete_vm(new)
            at = log.stat().st_size
        wait_until(lambda: "clock_set" in log.read_text()[at:], DEADLINE, "nobody has noticed that it is right again")
        assert {address_states(cloud)[str(vm.address)] for vm in (old, later, new)} == {"held"}
        cloud.vms["v1"].wait_renewed()
    for vm in (old, later, new):
        lab.client.release_address(cloud.network["id"], str(vm.address))


# a database that can only be read


def test_a_database_that_can_only_be_read(cloud: Cloud, mirror: Mirror, faults: Path) -> None:
    lab = cloud.lab
    comer = {"id": cloud.comers[0], "network_id": cloud.network["id"], "project_id": PROJECT}
    with cloud.traffic():
        with asked(faults, READ_ONLY, "yes"):
            for _ in range(2):
                with pytest.raises(ApiError) as refusal:
                    lab.client.create_port(comer)
                assert (refusal.value.status, refusal.value.code) == (503, "database_read_only"), refusal.value
                assert lab.client.list_ports(), "it can be read"
                for vm in cloud.vms.values():
                    vm.wait_renewed()
            mirror.wait_equal()
        assert lab.client.create_port(comer).object, "it is well again by itself"
        wait_served(lab, [comer["id"]])
        mirror.wait_equal()
    clean(cloud)


# a full disk


def write_something(cloud: Cloud) -> Object:
    fields = {"name": str(uuid.uuid4()), "project_id": PROJECT, "description": "x" * 200}
    written = cloud.lab.client.create_security_group(fields)
    assert written.object
    return written.object


def write_until_refused(cloud: Cloud, most: int = 500) -> tuple[list[str], ApiError]:
    """What was written until then; the file of a database has some room left."""
    made: list[str] = []
    while len(made) < most:
        try:
            made.append(write_something(cloud)["id"])
        except ApiError as error:
            return made, error
    raise AssertionError("the disk is not full")


def test_a_full_disk(cloud: Cloud, mirror: Mirror, disk: Path) -> None:
    lab, vms = cloud.lab, cloud.vms
    waiting = cloud.comers[1]
    late = lab.client.create_port({"network_id": cloud.network["id"], "project_id": PROJECT, "name": "late"}).object
    assert late
    with cloud.traffic():
        fill(disk / "rest")
        made, refusal = write_until_refused(cloud)
        assert (refusal.status, refusal.code) == (503, "database_full"), refusal
        assert "disk" in refusal.message
        assert {group["id"] for group in lab.client.list_security_groups()} >= {*made}, "it can be read"
        for vm in vms.values():
            vm.wait_renewed()
        more, again = write_until_refused(cloud, most=3)  # one that needs fewer pages may have room left
        made += more
        assert (again.status, again.code) == (503, "database_full"), again
        mirror.wait_equal()
        (disk / "rest").unlink()
        port = {"id": waiting, "network_id": cloud.network["id"], "project_id": PROJECT}
        assert lab.client.create_port(port).object, "it is well again by itself"
        wait_served(lab, [waiting])
        assert {group["id"] for group in lab.client.list_security_groups()} >= {*made}
        vm = lab.plug("late", lab.nodes[1], late)
        vm.start_client()
        vm.wait_configured()
        mirror.wait_equal()
    lab.delete_vm(vm)
    for id_ in made:
        lab.client.delete_security_group(id_)
    clean(cloud)
