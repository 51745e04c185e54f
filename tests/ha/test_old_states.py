"""What comes back from the past, or is somebody else's: old disks, old backups, a database that only tells, two claims
of one port, wrong clocks. Whom it is not about notices nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from controller.client import ApiError
from controller.database import main as database_command
from etc.lab import netns
from etc.lab.control import Control
from etc.lab.lab import DATABASE, Lab
from etc.lab.node import Node
from etc.lab.processes import run, wait_until
from etc.lab.vm import Vm
from flows.rules import Rule, decode_cookie
from tests.disks import fill, small_disk
from tests.faults.controller import CLOCK
from tests.faults.mirror import Mirror
from tests.ha.cluster import NAMES, TWO, Cloud, Renewals, build
from tests.netns.cloud import installed, make_vms, program, status, unbroken, wait_reached, want
from tests.netns.floating import give

pytestmark = pytest.mark.root

DAY = 86400
DEADLINE = 30.0


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What bob is to do wrong (tests.faults.controller)."""
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def cloud(make_lab: Callable[..., Lab], faults: Path) -> Cloud:
    program = ("tests.faults.controller", str(faults))
    options = {"quota": {"security_groups": 1000, "security_group_rules": 10000}}
    shape = {"nodes": 3, "controllers": NAMES[:2], "projects": ("blue",)}
    made = build(make_lab(**shape, control_program=program, control_options=options))
    made.wait_masters(TWO)
    return made


@pytest.fixture(scope="module")
def mirror(cloud: Cloud) -> Iterator[Mirror]:
    assert cloud.lab.postgres
    with Mirror.of(cloud.lab, cloud.lab.postgres.url(DATABASE)) as made:
        yield made


# one port, two nodes


@contextmanager
def thief(cloud: Cloud, victim: Vm, node: Node) -> Iterator[Vm]:
    """A machine on another node whose interface says that it is the victim's port."""
    namespace = f"{cloud.lab.prefix}-thief"
    netns.create(namespace)
    vm = Vm(namespace, "thief", node, victim.port, cloud.lab.directory / "vm" / "thief")
    vm.plug()
    configured = victim.configured()
    assert configured
    vm.set_address(configured.address, configured.router)
    try:
        yield vm
    finally:
        vm.delete()


def test_two_nodes_claim_one_port(cloud: Cloud, mirror: Mirror) -> None:
    """The second one is refused, also when the first one's agent begins anew, and though its name is the first."""
    lab, west, east = cloud.lab, cloud.vms["west"], cloud.vms["east"]
    first, second = cloud.node("n2"), cloud.node("n1")
    id_ = west.port["id"]
    before = lab.client.get_port(id_)["binding"]
    assert before["node"] == first.name
    with cloud.traffic(), cloud.unchanged(), thief(cloud, west, second) as other:
        refused = f"port {id_}: refused: the port is bound to {first.name}"
        wait_until(lambda: refused in log_of(second), DEADLINE, "it is not told")
        assert not other.ping(east.address, count=2, wait=0.3).answered
        bound = log_of(first).count(f"port {id_}: bound")
        first.restart_agent(lab.control, kill=True)
        wait_until(lambda: log_of(first).count(f"port {id_}: bound") > bound, DEADLINE, "the agent is not back")
        assert not other.ping(east.address, count=2, wait=0.3).answered
        assert lab.client.get_port(id_)["binding"] == before
    mirror.wait_equal()
    assert lab.client.get_port(id_)["binding"] == before


def log_of(node: Node) -> str:
    assert node.agent
    return node.agent.log.read_text()


# an old disk


def test_a_node_with_an_old_disk(cloud: Cloud, mirror: Mirror) -> None:
    """Its Open vSwitch knows interfaces of ports that have moved to another node, or are gone."""
    lab, n2, west = cloud.lab, cloud.node("n2"), cloud.vms["west"]
    moved, gone = make_vms(lab, *(want(name, n2, cloud.network) for name in ("moved", "gone"))).values()
    n2.ovs.vsctl("set-controller", "br-int", f"tcp:{lab.controls[0].address.ip}:6653")  # as there was one in those days
    old = lab.directory / "old.db"
    shutil.copy(n2.ovs.directory / "conf.db", old)
    configured, key = moved.configured(), gone.port["key"]
    assert configured
    lab.delete_vm(gone)
    moved.stop_client()
    moved.unplug()
    moved.node = cloud.node("n3")
    moved.plug()
    moved.set_address(configured.address, configured.router)
    wait_until(lambda: status(lab, moved) == "active", DEADLINE, "it has not moved")
    elsewhere = (
        (moved, cloud.vms["east"].address),
        (cloud.vms["floating"], lab.fabric.far_host),
        (cloud.vms["snat"], lab.fabric.far_host),
    )
    others = [cloud.node(name) for name in ("n1", "n3")]
    before = [program(node) for node in others]
    with unbroken(*elsewhere):
        assert n2.agent
        n2.agent.kill()
        n2.ovs.stop()
        shutil.copy(old, n2.ovs.directory / "conf.db")
        # the interface is there, too, so that it gets a number
        netns.configure(n2.namespace, f"link add {moved.device} type veth peer name old", f"link set {moved.device} up")
        n2.ovs.start()
        n2.start_agent(lab.control)
        lab.wait_connected()
        cloud.wait_masters(TWO)
        wait_reached(west, cloud.vms["east"].address)
        wait_until(lambda: n2.ovs.ofport(moved.device) > 0, DEADLINE, "it has no number")
        mirror.wait_equal()
        assert (Rule.CLASSIFY_PORT, key) not in {decode_cookie(flow.cookie) for flow in installed(n2)}
        assert lab.client.get_port(moved.port["id"])["binding"]["node"] == "n3"
        assert [program(node) for node in others] == before
    assert not west.ping(moved.address).lost
    # its agent has put right what it is to connect to
    assert len(n2.ovs.vsctl("get-controller", "br-int").split()) == 2
    netns.configure(n2.namespace, f"link delete {moved.device}")
    n2.ovs.vsctl("--if-exists", "del-port", moved.device)
    lab.delete_vm(moved)


# clocks


def test_leases_of_nodes_do_not_care_about_clocks(cloud: Cloud, faults: Path) -> None:
    """Both controllers are a day ahead, then a day behind; the database is not."""
    members = {one["name"]: one["started_at"] for one in cloud.lab.client.list_controllers()}
    with cloud.traffic(), cloud.unchanged(), Renewals(cloud.vms["east"]).running() as renewals:
        renewals.wait_answered()
        try:
            for seconds in (DAY, -DAY):
                noticed = times_noticed(cloud)
                (faults / CLOCK).write_text(str(seconds))
                wait_until(lambda: times_noticed(cloud) > noticed, DEADLINE, "nobody has noticed")  # noqa: B023
                renewals.wait_answered(20)
                assert cloud.masters(cloud.control("bob")) == cloud.masters(cloud.control("pam")) == TWO
        finally:
            (faults / CLOCK).unlink(missing_ok=True)
        renewals.wait_answered()
    assert {one["name"]: one["started_at"] for one in cloud.lab.client.list_controllers()} == members


def times_noticed(cloud: Cloud) -> int:
    """How often the controllers, of which the one that leads looks, have found their clock set."""
    return sum(control.process.log.read_text().count("clock_set") for control in cloud.lab.controls if control.process)


# a database that can only be read


def test_a_database_that_can_only_be_read(cloud: Cloud, mirror: Mirror) -> None:
    lab = cloud.lab
    assert lab.postgres
    with cloud.traffic(), cloud.unchanged(), Renewals(cloud.vms["east"]).running() as renewals:
        renewals.wait_answered()
        read_only(cloud, True)
        try:
            for control in lab.controls:
                with pytest.raises(ApiError) as refused:
                    control.client().create_port({"network_id": cloud.network["id"], "project_id": "blue"})
                assert (refused.value.status, refused.value.code) == (503, "database_read_only"), refused.value
                assert control.client().list_ports()
            renewals.wait_answered(20)
            west = Renewals(cloud.vms["west"])
            with west.running():
                west.wait_answered(20)
        finally:
            read_only(cloud, False)
        cloud.wait_masters(TWO)
    assert renewals.longest_gap_s < 5
    vm = make_vms(lab, want("after", cloud.node("n2"), cloud.network))["after"]
    lab.delete_vm(vm)
    mirror.wait_equal()


def read_only(cloud: Cloud, value: bool) -> None:
    """For all connections, which begin anew."""
    assert cloud.lab.postgres
    cloud.lab.postgres.sql(f"ALTER DATABASE {DATABASE} SET default_transaction_read_only = {'on' if value else 'off'}")
    cloud.lab.postgres.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{DATABASE}'")


# a disk that is full


@contextmanager
def journal_on_small_disk(cloud: Cloud) -> Iterator[Path]:
    """The journal, which every change is written to, has a disk of its own."""
    server = cloud.lab.postgres
    assert server and server.process
    sql = server.sql
    with small_disk(server.directory / "small", seen_by=server.process.pid) as place:
        (place / "space").mkdir()
        run(["chown", "postgres:", str(place / "space")])
        sql(f"CREATE TABLESPACE small LOCATION '{server.directory}/small/space'")
        sql("ALTER TABLE journal SET TABLESPACE small", DATABASE)
        try:
            yield place
        finally:
            (place / "rest").unlink(missing_ok=True)
            sql("ALTER TABLE journal SET TABLESPACE pg_default", DATABASE)
            sql("DROP TABLESPACE small")


def test_a_disk_that_is_full(cloud: Cloud, mirror: Mirror) -> None:
    lab, bob, pam = cloud.lab, cloud.control("bob"), cloud.control("pam")
    late = lab.client.create_port({"network_id": cloud.network["id"], "project_id": "blue", "name": "late"}).object
    assert late
    made: list[str] = []

    def write_something() -> None:
        fields = {"name": f"n{len(made)}", "project_id": "blue", "description": "x" * 200}
        written = (bob, pam)[len(made) % 2].client().create_security_group(fields)
        assert written.object
        made.append(written.object["id"])

    def write_until_refused() -> None:
        for _ in range(500):  # what is in the files already takes some more
            write_something()

    with journal_on_small_disk(cloud) as disk, cloud.traffic(), Renewals(cloud.vms["east"]).running() as renewals:
        renewals.wait_answered()
        fill(disk / "rest")
        with pytest.raises(ApiError) as refused:
            write_until_refused()
        assert (refused.value.status, refused.value.code) == (503, "database_full"), refused.value
        with cloud.unchanged():
            for control in lab.controls:
                with pytest.raises(ApiError) as again:
                    control.client().create_port({"network_id": cloud.network["id"], "project_id": "blue"})
                assert again.value.code == "database_full", again.value
                assert {group["id"] for group in control.client().list_security_groups()} >= {*made}, "it can be read"
            renewals.wait_answered(20)
            assert cloud.masters(bob) == cloud.masters(pam) == TWO
        (disk / "rest").unlink()
        vm = lab.plug("late", cloud.node("n2"), late)
        vm.start_client()
        vm.wait_configured()
        assert not vm.ping(cloud.vms["east"].address).lost, "it is well again by itself"
    assert renewals.longest_gap_s < 5
    lab.delete_vm(vm)
    for id_ in made:
        lab.client.delete_security_group(id_)
    mirror.wait_equal()


# an old backup: last, since what has been made is gone


def database(control: Control, *arguments: str) -> None:
    """`trunkline-controller db`, where the controller runs."""
    with netns.inside(control.namespace):
        assert database_command(["--config-file", str(control.config_file), *arguments]) == 0


def test_an_old_backup_is_restored_under_the_switches(cloud: Cloud, mirror: Mirror) -> None:
    """What was made since is gone, and so are its flows; what was deleted since is back. Nobody else loses a packet."""
    lab, bob = cloud.lab, cloud.control("bob")
    back = make_vms(lab, want("back", cloud.node("n1"), cloud.network))["back"]
    file = lab.directory / "backup"
    database(bob, "backup", str(file))
    lab.client.delete_port(back.port["id"])
    late = make_vms(lab, want("late", cloud.node("n2"), cloud.network))["late"]
    since = give(lab, late, project_id=None)
    numbers = numbers_of(cloud, late)
    assert late.ping(cloud.vms["east"].address).answered
    with cloud.traffic():
        # one after the other, so that the switches have seen later leases of theirs than the backup has
        for control in lab.controls:
            assert control.process and control.process.stop(20) == 0
        database(bob, "restore", "--force", str(file))
        for control in lab.controls:
            control.launch()
        for control in lab.controls:
            wait_until(control.healthy, DEADLINE, f"{control.name} does not answer")
        cloud.wait_masters(TWO)
        lab.wait_connected()
        mirror.wait_equal()
        known = {port["id"] for port in lab.client.list_ports()}
        assert back.port["id"] in known and late.port["id"] not in known
        assert since["id"] not in {one["id"] for one in lab.client.list_floating_ips()}
        wait_until(lambda: status(lab, back) == "active", DEADLINE, "its interface is not found")
        wait_reached(back, cloud.vms["west"].address)
        assert not late.ping(cloud.vms["east"].address, count=2, wait=0.3).answered
    again = make_vms(lab, want("again", cloud.node("n2"), cloud.network))["again"]
    assert not again.ping(cloud.vms["east"].address).lost
    assert not set(numbers_of(cloud, again)) & set(numbers), "it would meet the connections of one that is gone"
    mirror.wait_equal()


def numbers_of(cloud: Cloud, vm: Vm) -> list[str]:
    """By which conntrack knows a port: its key and its zone."""
    assert cloud.lab.postgres
    row = cloud.lab.postgres.sql(f"SELECT key, zone FROM ports WHERE id = '{vm.port['id']}'", DATABASE)
    return [f"{name} {value}" for name, value in zip(("key", "zone"), row.split("|"), strict=True)]
