"""Rows that were written past the API: what they are of is named and left out, and all else is as before."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

import pytest

from controller.session_counters import Counters
from controller.snapshots import SnapshotKeeper
from controller.store import Store
from controller.store.dns_specs import DnsRecordSpec, DnsZoneSpec
from controller.store.floating_ip_specs import FloatingIpPoolSpec, FloatingIpSpec
from controller.store.policy_specs import RuleSpec, SecurityGroupSpec
from controller.store.quarantine import ObjectName
from controller.store.specs import AddressRange, Conflict, PortRecord
from flows.compile import Program, compile_node
from flows.ir import Flow
from flows.model import Direction, RecordType, Service, ZoneScope
from flows.segments import Kind
from tests.unit.store.conftest import World

_POOL = "203.0.113.128", "203.0.113.135"


@dataclass(frozen=True)
class Scene:
    """A port that nothing is wrong with, and one of each kind that something will be wrong with."""

    world: World
    ids: dict[str, str]
    good: PortRecord

    def damage(self, *statements: str) -> None:
        """As somebody with the database's own shell would: nothing is checked."""
        with closing(sqlite3.connect(self.world.url.removeprefix("sqlite:///"))) as connection, connection:
            connection.execute("PRAGMA ignore_check_constraints = ON")
            for statement in statements:
                connection.execute(statement.format(**self.ids))

    def without_not_null(self, table: str) -> None:
        with closing(sqlite3.connect(self.world.url.removeprefix("sqlite:///"))) as connection, connection:
            connection.execute("PRAGMA writable_schema = ON")
            where = "WHERE type = 'table' AND name = ?"
            connection.execute(f"UPDATE sqlite_master SET sql = replace(sql, 'NOT NULL', '') {where}", (table,))

    def restarted(self) -> Store:
        self.world.store.close()
        self.world.store = Store(self.world.url, clock=self.world.clock)
        return self.world.store


@pytest.fixture
def scene(make_world: Callable[..., World]) -> Iterator[Scene]:
    world = make_world()
    store = world.store
    world.node("n1", physical_networks=("physnet1", "physnet-ext"))
    world.node("n2")
    external, net, bad_net = world.external(), world.network(), world.network("10.1.0.0/24", name="bad")
    good, bad = world.port(net, name="good", hostname="good"), world.port(net, name="bad")
    on_bad = world.port(bad_net, name="on-bad")
    world.report("n1", good, bad, on_bad)
    pool = store.create_floating_ip_pool(
        FloatingIpPoolSpec("public", external.id, (AddressRange(*map(IPv4Address, _POOL)),)), "tester"
    ).value
    (led,) = store.allocate_floating_ips(FloatingIpSpec(pool.id, "blue", port_id=bad.port.id), "tester").value
    store.allocate_floating_ips(FloatingIpSpec(pool.id, "blue", port_id=good.port.id), "tester")
    group = store.create_security_group(SecurityGroupSpec("web", "blue"), "tester").value
    other = store.create_security_group(SecurityGroupSpec("db", "blue"), "tester").value
    rules = [
        store.create_security_group_rules(
            [RuleSpec(one.group.id, Direction.INGRESS, Service(6, 80, 80), remote_group_id=remote)], "tester"
        ).value[0]
        for one, remote in ((group, other.group.id), (other, group.group.id))
    ]
    store.update_port(good.port.id, {"security_groups": (group.group.id, other.group.id)}, "tester")
    zone = store.create_dns_zone(DnsZoneSpec("lab.example", ZoneScope.PUBLIC, "blue"), "tester").value
    record = store.create_dns_record(DnsRecordSpec(zone.id, "www", RecordType.A, "192.0.2.1"), "tester").value
    ids = {
        "net": bad_net.id, "port": bad.port.id, "on_bad": on_bad.port.id, "floating_ip": led.floating_ip.id,
        "group": group.group.id, "other": other.group.id, "rule": rules[0].rule.id, "zone": zone.id,
        "record": record.id, "external": external.id,
    }  # fmt: skip
    yield Scene(world, ids, store.get_port(good.port.id))
    world.store.close()


# what is damaged -> the statements, the kinds and names that are then in quarantine
_CASES: dict[str, tuple[tuple[str, ...], set[tuple[str, str]]]] = {
    "MAC": (("UPDATE ports SET mac = 'zz' WHERE id = '{port}'",), {("port", "{port}")}),
    "MAC of a group": (("UPDATE ports SET mac = '01:00:5e:00:00:01' WHERE id = '{port}'",), {("port", "{port}")}),
    "MAC as bytes": (("UPDATE ports SET mac = x'ff00' WHERE id = '{port}'",), {("port", "{port}")}),
    "text that is no UTF-8": (
        ("UPDATE ports SET mac = CAST(x'fffe' AS TEXT) WHERE id = '{port}'",),
        {("port", "{port}")},
    ),
    "address": (("UPDATE addresses SET address = 'x' WHERE port_id = '{port}'",), {("port", "{port}")}),
    "address too large": (("UPDATE addresses SET address = 1 << 40 WHERE port_id = '{port}'",), {("port", "{port}")}),
    "port's key": (("UPDATE ports SET key = 'many' WHERE id = '{port}'",), {("port", "{port}")}),
    "port's key too large": (("UPDATE ports SET key = 1 << 30 WHERE id = '{port}'",), {("port", "{port}")}),
    "interface": (("UPDATE ports SET ofport = -1 WHERE id = '{port}'",), {("port", "{port}")}),
    "half a binding": (("UPDATE ports SET zone = NULL WHERE id = '{port}'",), {("port", "{port}")}),
    "overlong host name": (
        ("UPDATE ports SET hostname = hex(zeroblob(5000)) WHERE id = '{port}'",),
        {("port", "{port}")},
    ),
    "options that are no JSON": (
        ("UPDATE ports SET dhcp_options = '[{{' WHERE id = '{port}'",),
        {("port", "{port}")},
    ),
    "rates that are no JSON": (("UPDATE ports SET qos = '' WHERE id = '{port}'",), {("port", "{port}")}),
    "pairs of another kind": (("UPDATE ports SET address_pairs = '[1]' WHERE id = '{port}'",), {("port", "{port}")}),
    "network of a port": (("UPDATE ports SET network_id = 'none' WHERE id = '{port}'",), {("port", "{port}")}),
    "kind of network": (
        ("UPDATE networks SET kind = 'carrier pigeon' WHERE id = '{net}'",),
        {("network", "{net}"), ("port", "{on_bad}")},
    ),
    "VLAN": (("UPDATE networks SET segment = 5000 WHERE id = '{net}'",), {("network", "{net}"), ("port", "{on_bad}")}),
    "range": (
        ("UPDATE subnets SET cidr = '10.1.0.1/24' WHERE network_id = '{net}'",),
        {("network", "{net}"), ("port", "{on_bad}")},
    ),
    "domain": (
        ("UPDATE networks SET dns_domain = 'a..b' WHERE id = '{net}'",),
        {("network", "{net}"), ("port", "{on_bad}")},
    ),
    "node": (("UPDATE nodes SET datapath_id = 'none' WHERE name = 'n2'",), {("node", "n2")}),
    "floating IP": (
        ("UPDATE floating_ips SET fixed_ip = -1 WHERE id = '{floating_ip}'",),
        {("floating_ip", "{floating_ip}")},
    ),
    "group": (("UPDATE security_groups SET key = 1 << 30 WHERE id = '{other}'",), {("security_group", "{other}")}),
    "zone": (("UPDATE dns_zones SET scope = 'all' WHERE id = '{zone}'",), {("dns_zone", "{zone}")}),
    "record": (
        ("UPDATE dns_records SET data = 'not an address' WHERE id = '{record}'",),
        {("dns_record", "{zone} {record}")},
    ),
    "rule for ports of a protocol that has none": (
        ("UPDATE security_group_rules SET protocol = 112 WHERE id = '{rule}'",),
        {("security_group_rule", "{group} {rule}")},
    ),
    "rule's range": (
        ("UPDATE security_group_rules SET remote_group_id = NULL, remote_cidr = '10.0.0.0/33' WHERE id = '{rule}'",),
        {("security_group_rule", "{group} {rule}")},
    ),
    "debt": (("INSERT INTO owed VALUES ('n1', 'x', 'y', 'z', 99)",), set()),
}  # fmt: skip


@pytest.mark.parametrize("case", _CASES)
def test_threat_29_one_bad_object_stops_no_other(scene: Scene, case: str) -> None:
    statements, expected = _CASES[case]
    before = scene.world.store.load_snapshot()
    scene.damage(*statements)
    store = scene.restarted()
    keeper = SnapshotKeeper(store, Counters())
    bad = {(kind, id_.format(**scene.ids)) for kind, id_ in expected}
    assert {(of.kind, of.id) for of, _ in store.quarantine()} == bad
    assert all(fault.why for _, fault in store.quarantine())
    after = keeper.snapshot()
    assert after.ports[scene.good.port.id] == scene.good.port
    for name in ("networks", "ports", "nodes", "floating_ips", "security_groups", "dns_zones"):
        was, now = getattr(before, name), getattr(after, name)
        gone = {id_ for kind, id_ in bad if f"{kind}s" == name}
        assert was.keys() - now.keys() == gone, name
    program = keeper.wanted("n1")[0]
    assert not program.failures
    if not {kind for kind, _ in bad} & {"security_group", "security_group_rule"}:
        assert _of_port(program, scene.good) == _of_port(compile_node(before, "n1"), scene.good)
    # and the node can still say what it sees, and the port that is whole can still be changed
    answers = scene.world.report("n1", scene.good, scene.ids["port"], scene.ids["on_bad"])
    assert answers[scene.good.port.id] == "bound"
    written = store.update_port(scene.good.port.id, {"name": "changed"}, "tester")
    keeper.follow()
    assert keeper.snapshot().ports[scene.good.port.id].name == "changed"
    assert written.value.port.id in {one.port.id for one in store.list_ports()}


def _of_port(program: Program, port: PortRecord) -> set[Flow]:
    flows = set(program.segments[Kind.PORT, port.port.id].flows)
    assert len(flows) > 10
    return flows


@pytest.mark.parametrize("column", ["mac", "key", "name", "hostname", "dhcp_options", "created_at", "network_id"])
def test_threat_29_nothing_where_something_must_be(scene: Scene, column: str) -> None:
    scene.without_not_null("ports")
    scene.damage(f"UPDATE ports SET {column} = NULL WHERE id = '{{port}}'")
    store = scene.restarted()
    snapshot = store.load_snapshot()
    assert [of for of, _ in store.quarantine()] == [ObjectName("port", scene.ids["port"])]
    assert scene.ids["port"] not in snapshot.ports and scene.good.port.id in snapshot.ports


def test_threat_29_groups_that_name_each_other(scene: Scene) -> None:
    """Group names are no recursion: members are ports."""
    snapshot = scene.world.store.load_snapshot()
    assert snapshot.groups_by_remote[scene.ids["group"]] == {scene.ids["other"]}
    assert snapshot.groups_by_remote[scene.ids["other"]] == {scene.ids["group"]}
    assert not compile_node(snapshot, "n1").failures


def test_what_is_mended_comes_back_with_what_waited_for_it(scene: Scene) -> None:
    scene.damage("UPDATE networks SET kind = 'x' WHERE id = '{net}'")
    store = scene.restarted()
    keeper = SnapshotKeeper(store, Counters())
    assert scene.ids["on_bad"] not in keeper.snapshot().ports
    with pytest.raises(Conflict, match="cannot be used: 'x' is not a valid NetworkKind"):
        store.get_network(scene.ids["net"])
    assert scene.ids["net"] not in {one.id for one in store.list_networks()}
    scene.damage("UPDATE networks SET kind = 'vlan' WHERE id = '{net}'")
    for _ in range(2):  # the network, then its port
        store.update_port(scene.good.port.id, {"name": f"{keeper.snapshot().revision}"}, "tester")
        keeper.follow()
    assert not store.quarantine()
    assert keeper.snapshot() == replace(store.load_snapshot(), revision=keeper.snapshot().revision)


def test_what_goes_bad_stays_in_force_as_it_was_known(scene: Scene) -> None:
    store = scene.world.store
    keeper = SnapshotKeeper(store, Counters())
    before = keeper.snapshot().ports[scene.ids["port"]]
    scene.damage(
        "UPDATE ports SET mac = 'zz' WHERE id = '{port}'",
        "UPDATE counters SET value = value + 1 WHERE name = 'revision'",
        "INSERT INTO journal (revision, kind, object_id, action, actor, at, payload) "
        "SELECT value, 'port', '{port}', 'update', 'x', 0, '{{}}' FROM counters WHERE name = 'revision'",
    )
    keeper.follow()
    assert keeper.snapshot().ports[scene.ids["port"]] == before
    assert [of.id for of, _ in store.quarantine()] == [scene.ids["port"]]
    scene.damage("DELETE FROM addresses WHERE port_id = '{port}'", "DELETE FROM ports WHERE id = '{port}'")
    store.update_port(scene.good.port.id, {"name": "other"}, "tester")
    keeper.follow()
    assert scene.ids["port"] not in keeper.snapshot().ports and not store.quarantine()


def test_a_bad_neighbour_is_all_that_its_node_is_without(scene: Scene) -> None:
    scene.world.store.learn_neighbour("n1", scene.ids["external"], IPv4Address("203.0.113.1"), "02:00:00:00:00:01")
    scene.damage("UPDATE neighbours SET mac = '' WHERE node = 'n1'")
    store = scene.restarted()
    snapshot = store.load_snapshot()
    assert snapshot.nodes["n1"].neighbours == ()
    ((of, _),) = store.quarantine()
    assert of.kind == "neighbour" and of.id.startswith("n1 ")


def test_a_list_goes_on_past_what_is_left_out(scene: Scene) -> None:
    """A page that is not full is the last one, also for who cannot know that something was left out."""
    store = scene.world.store
    ids = [record.port.id for record in store.list_ports()]
    scene.damage("UPDATE ports SET mac = 'zz' WHERE id = '{port}'")
    usable = [id_ for id_ in ids if id_ != scene.ids["port"]]
    for limit in (1, 2, 3):
        found: list[str] = []
        while page := store.list_ports(limit=limit, marker=found[-1] if found else None):
            found += [record.port.id for record in page]
            if len(page) < limit:
                break
        assert found == usable
    assert store.list_ports(name="bad") == []
    with pytest.raises(Conflict, match="cannot be used"):
        store.get_port(scene.ids["port"])


def test_a_lease_that_cannot_be_read_is_not_listed(scene: Scene) -> None:
    values = "'bound', 0, 0, '', ''"
    scene.damage(
        f"INSERT INTO leases SELECT port_id, address, {values} FROM addresses WHERE port_id IS NOT NULL",
        "UPDATE leases SET state = x'00' WHERE port_id = '{port}'",
    )
    assert {lease.port_id for lease in scene.world.store.list_leases()} == {scene.good.port.id, scene.ids["on_bad"]}
