from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from sqlalchemy import event

from controller.store import Store
from controller.store.policy_specs import (
    AddressPairSpec,
    AppliesTo,
    DefaultRuleSpec,
    ProviderRuleSpec,
    RuleSpec,
    SecurityGroupRecord,
    SecurityGroupSpec,
)
from controller.store.quota_specs import Limits
from controller.store.specs import FixedIpSpec, PortSpec, StoreError
from flows.model import Bandwidth, Direction, Family, GatewayMode, PortChange, Qos, SecurityGroupChange, Service
from tests.unit.store import raw

IN, OUT = Direction.INGRESS, Direction.EGRESS
ANY = Service()


def group(world: Any, name: str = "web", **fields: Any) -> SecurityGroupRecord:
    spec = SecurityGroupSpec(name, **({"project_id": "blue"} | fields))
    return world.store.create_security_group(spec, "tester").value


def rule(world: Any, group_id: str, direction: Direction = IN, service: Service = ANY, **fields: Any) -> Any:
    return world.store.create_security_group_rules([RuleSpec(group_id, direction, service, **fields)], "tester").value[
        0
    ]


def refused(work: Callable[[], Any]) -> tuple[str, str | None]:
    with pytest.raises(StoreError) as error:
        work()
    return error.value.code, error.value.field


def in_parallel(work: Callable[[Any], None], arguments: Iterable[Any]) -> None:
    threads = [threading.Thread(target=work, args=(argument,)) for argument in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_port_is_in_its_projects_default_group(world: Any) -> None:
    network = world.network()
    one, two, other = world.port(network), world.port(network), world.port(network, project_id="red")
    own = world.port(world.external())
    names = [[found.name for found in port.security_groups] for port in (one, two, other, own)]
    assert names == [["default"]] * 4
    ids = [port.port.security_groups for port in (one, two, other, own)]
    assert ids[0] == ids[1] and len(set(ids)) == 3
    assert [found.group.project_id for found in world.store.list_security_groups()] == ["blue", "red", None]
    default = world.store.get_security_group(ids[0][0]).group
    rules = [(one.direction, one.family, one.service, one.remote_cidr) for one in default.rules]
    assert rules == [(OUT, Family.IPV4, Service(), None), (OUT, Family.IPV6, Service(), None)]


def test_the_default_group_is_made_when_it_is_named(world: Any) -> None:
    network = world.network()
    port = world.port(network, security_groups=("default",))
    assert [found.name for found in port.security_groups] == ["default"]
    assert refused(lambda: world.port(network, security_groups=("web",))) == (
        "security_group_unknown",
        "security_groups.0",
    )


def test_a_protocol_without_ports_is_called_by_its_name(world: Any) -> None:
    made = group(world)
    with pytest.raises(StoreError, match=r"^protocol sctp \(132\) cannot have ports: tcp and udp have$"):
        rule(world, made.group.id, service=Service(132, 80, 80))


@pytest.mark.parametrize("stores", [1, 4])
def test_the_default_group_is_made_once_whoever_asks(make_world: Callable[..., Any], stores: int) -> None:
    first = make_world()
    network = first.network()
    workers = [first.store, *(make_world().store for _ in range(stores - 1))]

    def use(index: int) -> None:
        store: Store = workers[index % stores]
        if index % 3:
            store.create_ports([PortSpec(network.id)], "tester")
        else:
            store.ensure_default_group("blue", "tester")

    in_parallel(use, range(12))
    (only,) = first.store.list_security_groups()
    assert {port.port.security_groups for port in first.store.list_ports()} == {(only.group.id,)}


@pytest.mark.parametrize("stores", [1, 4])
def test_quotas_are_exact_whoever_asks_at_once(make_world: Callable[..., Any], stores: int) -> None:
    limits = Limits(security_groups=5, security_group_rules=7)
    first = make_world(limits=limits)
    workers = [first.store, *(make_world(limits=limits).store for _ in range(stores - 1))]
    errors: list[Any] = []

    def attempt(work: Callable[[], Any]) -> None:
        try:
            work()
        except Exception as error:
            errors.append(getattr(error, "code", error))

    def make(index: int) -> None:
        spec = SecurityGroupSpec(f"g{index}", "blue")
        attempt(lambda: workers[index % stores].create_security_group(spec, "tester"))

    in_parallel(make, range(12))
    assert errors == ["quota_exceeded"] * 7
    assert first.store.get_quota("blue").security_groups_used == 5
    one = first.store.list_security_groups()[1].group.id
    errors.clear()

    def add(index: int) -> None:
        spec = RuleSpec(one, IN, Service(6, index + 1, index + 1))
        attempt(lambda: workers[index % stores].create_security_group_rules([spec], "tester"))

    in_parallel(add, range(12))
    assert errors == ["quota_exceeded"] * 7  # it has two from the template
    assert len(first.store.get_security_group(one).rules) == 7
    first.store.set_quota("blue", {"security_group_rules": -1}, "tester")
    add(100)
    assert len(first.store.get_security_group(one).rules) == 8


def test_the_operators_own_groups_have_no_quota(make_world: Callable[..., Any]) -> None:
    world = make_world(limits=Limits(security_groups=0, security_group_rules=0))
    assert refused(lambda: group(world))[0] == "quota_exceeded"
    made = group(world, project_id=None)
    rule(world, made.group.id)
    assert refused(lambda: group(world, project_id=None)) == ("security_group_exists", "name")


def test_a_groups_fields(world: Any) -> None:
    made = group(world, description="servers", log_dropped=True)
    changes = {"name": "www", "log_accepted": True}
    changed = world.store.update_security_group(made.group.id, changes, "tester").value
    assert (changed.group.name, changed.group.stateful, changed.group.log_accepted) == ("www", True, True)
    assert (changed.description, changed.group.log_dropped) == ("servers", True)
    revision = world.store.revision()
    assert world.store.update_security_group(made.group.id, changes, "tester").revision == revision
    default = world.store.list_security_groups(name="default")[0].group.id
    assert (
        refused(lambda: world.store.update_security_group(default, {"name": "x"}, "t"))[0] == "security_group_default"
    )
    assert refused(lambda: world.store.delete_security_group(default, "t"))[0] == "security_group_default"
    assert refused(lambda: group(world, "www")) == ("security_group_exists", "name")
    assert refused(lambda: group(world, "default")) == ("security_group_exists", "name")
    other = group(world, "other").group.id
    assert refused(lambda: world.store.update_security_group(other, {"name": "www"}, "t"))[0] == "security_group_exists"
    assert group(world, "www", project_id="red").group.project_id == "red"


def test_what_a_stateless_group_accepts_cannot_be_reported(world: Any) -> None:
    """It would be refused nowhere and reported never."""
    why = "log_stateless"
    assert refused(lambda: group(world, stateful=False, log_accepted=True)) == (why, "log_accepted")
    made = group(world, stateful=False, log_dropped=True).group.id

    def change(**changes: Any) -> Any:
        return lambda: world.store.update_security_group(made, changes, "tester")

    assert refused(change(log_accepted=True)) == (why, "log_accepted")
    assert refused(lambda: rule(world, made, log=True)) == (why, "log")
    assert change(stateful=True, log_accepted=True)().value.group.log_accepted
    assert refused(change(stateful=False)) == (why, "stateful")
    assert not change(stateful=False, log_accepted=False)().value.group.stateful
    change(stateful=True)()
    logging = rule(world, made, log=True)
    assert refused(change(stateful=False)) == (why, "stateful")
    world.store.delete_security_group_rule(logging.rule.id, "tester")
    assert not change(stateful=False)().value.group.stateful


def test_what_is_used_cannot_be_deleted(world: Any) -> None:
    web, db = group(world), group(world, "db")
    about = rule(world, db.group.id, remote_group_id=web.group.id)
    rule(world, web.group.id, remote_group_id=web.group.id)  # of its own: no hindrance
    port = world.port(world.network(), name="vm1", security_groups=("web",))
    for named in ("port vm1 is in the group", "rules of group db are about its members"):
        with pytest.raises(StoreError) as error:
            world.store.delete_security_group(web.group.id, "tester")
        assert error.value.code == "security_group_in_use"
        assert error.value.message == named
        if "vm1" in named:
            world.store.delete_port(port.port.id, "tester")
    world.store.delete_security_group_rule(about.rule.id, "tester")
    world.store.delete_security_group(web.group.id, "tester")
    assert refused(lambda: world.store.get_security_group(web.group.id))[0] == "security_group_unknown"


def test_groups_of_a_port_change(world: Any) -> None:
    web, db = group(world), group(world, "db")
    other = group(world, "foreign", project_id="red")
    port = world.port(world.network(), security_groups=("db", web.group.id, "web"))
    assert port.port.security_groups == (web.group.id, db.group.id)  # by key, each once

    def change(*wanted: str) -> Any:
        return world.store.update_port(port.port.id, {"security_groups": wanted}, "tester")

    assert change("web").value.port.security_groups == (web.group.id,)
    revision = world.store.revision()
    assert change(web.group.id).revision == revision
    assert change().value.port.security_groups == ()
    back = world.store.update_port(port.port.id, {"security_groups": None}, "tester").value
    assert [found.name for found in back.security_groups] == ["default"]
    for unknown in ("nothing", "foreign", other.group.id):
        assert refused(lambda name=unknown: change("web", name)) == ("security_group_unknown", "security_groups.1")
    with pytest.raises(StoreError) as error:
        specs = [PortSpec(port.port.network_id), PortSpec(port.port.network_id, security_groups=("no",))]
        world.store.create_ports(specs, "tester")
    assert (error.value.index, error.value.field) == (1, "security_groups.0")


def test_a_port_is_tracked_or_it_is_not(world: Any) -> None:
    web, fast = group(world), group(world, "fast", stateful=False)
    network = world.network()
    mixed = ("security_groups_mixed", "security_groups.1")
    assert refused(lambda: world.port(network, security_groups=("web", "fast"))) == mixed
    port = world.port(network, security_groups=("web", "default"))
    change = {"security_groups": ("web", "fast")}
    assert refused(lambda: world.store.update_port(port.port.id, change, "tester")) == mixed
    stateless = {"stateful": False}
    mixed = ("security_groups_mixed", "stateful")
    assert refused(lambda: world.store.update_security_group(web.group.id, stateless, "tester")) == mixed
    world.store.update_port(port.port.id, {"security_groups": ("web",)}, "tester")
    world.store.update_security_group(web.group.id, stateless, "tester")
    changed = world.store.update_port(port.port.id, change, "tester").value
    assert changed.port.security_groups == (web.group.id, fast.group.id)


@pytest.mark.parametrize(
    ("service", "field"),
    [
        (Service(protocol=256), "protocol"),
        (Service(first=80, last=80), "ports"),
        (Service(112, 80, 80), "ports"),  # CVE-2019-9735
        (Service(132, 80, 80), "ports"),  # flows have no field for it yet
        (Service(6, 81, 80), "ports"),
        (Service(6, 0, 80), "ports"),
        (Service(17, 80, 65536), "ports"),
        (Service(6, 80), "ports"),
        (Service(6, icmp_type=8), "icmp_type"),
        (Service(1, icmp_type=256), "icmp_type"),
        (Service(1, icmp_code=0), "icmp_code"),
        (Service(icmp_type=8), "icmp_type"),
    ],
)
def test_services_that_are_none(world: Any, service: Service, field: str) -> None:
    made = group(world)
    assert refused(lambda: rule(world, made.group.id, service=service)) == ("rule_invalid", field)
    provider = ProviderRuleSpec(IPv4Network("192.0.2.0/24"), service)
    assert refused(lambda: world.store.create_provider_rule(provider, "t")) == ("rule_invalid", field)
    template = DefaultRuleSpec(IN, service)
    assert refused(lambda: world.store.create_default_rule(template, "t")) == ("rule_invalid", field)


def test_rules_are_added_all_or_none_and_each_once(world: Any) -> None:
    made, foreign = group(world), group(world, project_id="red")
    id_ = made.group.id
    web = RuleSpec(id_, IN, Service(6, 80, 80), IPv4Network("192.0.2.0/24"))
    ping = RuleSpec(id_, IN, Service(1, icmp_type=8, icmp_code=0))
    written = world.store.create_security_group_rules([web, ping], "tester")
    assert [record.rule.service for record in written.value] == [web.service, ping.service]
    again = RuleSpec(id_, IN, Service(1, icmp_type=8, icmp_code=0), IPv4Network("0.0.0.0/0"))
    ssh = RuleSpec(id_, IN, Service(6, 22, 22))
    for bad, index, code, field in (
        ([ssh, web], 1, "rule_exists", "ports"),
        ([again], 0, "rule_exists", "icmp_code"),  # anybody is anybody
        ([ssh, ssh], 1, "rule_exists", "ports"),
        ([ssh, RuleSpec(id_, IN, remote_group_id="none")], 1, "security_group_unknown", "remote_group_id"),
        ([RuleSpec(id_, IN, remote_group_id=foreign.group.id)], 0, "security_group_unknown", "remote_group_id"),
        ([RuleSpec(id_, IN, Service(), web.remote_cidr, id_)], 0, "rule_invalid", "remote_group_id"),
        ([RuleSpec("none", IN)], 0, "security_group_unknown", "security_group_id"),
    ):
        with pytest.raises(StoreError) as error:
            world.store.create_security_group_rules(bad, "tester")
        assert (error.value.index, error.value.code, error.value.field) == (index, code, field)
    assert len(world.store.get_security_group(id_).rules) == 4
    rule(world, id_, remote_group_id=foreign.group.id, any_remote=True)
    assert len(world.store.list_security_group_rules(group_id=id_)) == 5
    assert len(world.store.list_security_group_rules(project_id="red")) == 4


def test_a_change_of_a_group_is_one_row_however_many_are_in_it(world: Any) -> None:
    made = group(world)
    network = world.network()
    world.store.create_ports([PortSpec(network.id, security_groups=("web",))] * 200, "tester")
    engine, statements = world.store._database._writer, []
    event.listen(engine, "before_cursor_execute", lambda *parts: statements.append(parts[2]))
    before = world.store.revision()
    rule(world, made.group.id, service=Service(6, 443, 443))
    assert len(statements) < 20
    revision, changes = world.store.changes_since(before)
    assert revision == before + 1
    (change,) = changes
    assert isinstance(change, SecurityGroupChange) and change.new is not None
    assert [one.service for one in change.new.rules] == [Service(), Service(), Service(6, 443, 443)]


def test_the_template_is_for_groups_made_later(world: Any) -> None:
    world.store.ensure_default_group("blue", "tester")

    def template(**fields: Any) -> Any:
        return world.store.create_default_rule(DefaultRuleSpec(IN, **fields), "tester").value

    ping = template(service=Service(1), applies_to=AppliesTo.OTHER)
    template(own_group=True, applies_to=AppliesTo.DEFAULT)
    assert refused(lambda: template(service=Service(1)))[0] == "rule_exists"
    template(service=Service(1), applies_to=AppliesTo.DEFAULT)
    world.store.ensure_default_group("red", "tester")
    group(world, project_id="red")
    blue, red, web = (world.store.get_security_group(one.group.id) for one in world.store.list_security_groups())
    assert [one.rule.direction for one in blue.rules] == [OUT, OUT]
    assert [one.rule.service for one in web.rules] == [Service(), Service(), Service(1)]
    assert [one.rule.remote_group_id for one in red.rules] == [None, None, red.group.id, None]
    assert [one.id for one in world.store.list_default_rules(limit=1, marker=ping.id)] != [ping.id]
    world.store.delete_default_rule(ping.id, "tester")
    assert len(world.store.list_default_rules()) == 4
    assert world.store.get_security_group(web.group.id).rules == web.rules


def test_provider_rules_are_told(world: Any) -> None:
    spec = ProviderRuleSpec(IPv4Network("198.51.100.0/24"), Service(6, 25, 25), OUT, "spam")
    made = world.store.create_provider_rule(spec, "tester").value
    assert world.store.load_snapshot().provider_rules == {made.rule.id: made.rule}
    assert refused(lambda: world.store.create_provider_rule(spec, "tester"))[0] == "rule_exists"
    assert world.store.list_provider_rules() == [made]
    world.store.delete_provider_rule(made.rule.id, "tester")
    assert world.store.load_snapshot().provider_rules == {}


def test_the_switch_of_a_network_is_a_change_of_its_ports(world: Any) -> None:
    network = world.network()
    port = world.port(network)
    assert port.port.security_groups
    revision = world.store.update_network(network.id, {"filtering": False}, "tester").revision
    _, changes = world.store.changes_since(revision - 2)
    (change,) = (change for change in changes if isinstance(change, PortChange))
    assert change.new is not None and change.new.security_groups is None
    assert world.again(port).security_groups == port.security_groups
    assert world.again(port).revision == revision
    world.store.update_network(network.id, {"filtering": True, "name": "new"}, "tester")
    assert world.again(port).port.security_groups == port.port.security_groups


def test_same_net_traffic_is_free_where_nobody_else_is(world: Any) -> None:
    model = [
        world.network().spec,
        world.network("10.1.0.0/24", shared=True, project_id=None).spec,
        world.external().spec,
        world.network("10.2.0.0/24", shared=True, project_id=None, allow_same_net_traffic=True).spec,
    ]
    assert [spec.allow_same_net_traffic for spec in model] == [True, False, False, True]
    assert all(spec.filtering for spec in model)


def test_a_port_without_security_has_nothing(world: Any) -> None:
    network = world.network()
    bare = world.port(network, port_security=False)
    assert (bare.port.security_groups, bare.security_groups, bare.port.port_security) == (None, (), False)
    off = ("port_security_off", "security_groups")
    assert refused(lambda: world.port(network, port_security=False, security_groups=("default",))) == off
    port = world.port(network, address_pairs=(AddressPairSpec(IPv4Network("10.0.0.200/32")),))
    change: dict[str, Any] = {"port_security": False}
    assert refused(lambda: world.store.update_port(port.port.id, change, "tester")) == off
    change |= {"security_groups": ()}
    off = ("port_security_off", "address_pairs")
    assert refused(lambda: world.store.update_port(port.port.id, change, "tester")) == off
    changed = world.store.update_port(port.port.id, change | {"address_pairs": ()}, "tester").value
    assert (changed.port.security_groups, changed.port.address_pairs) == (None, ())
    refusal = refused(lambda: world.store.update_port(port.port.id, {"security_groups": ("default",)}, "tester"))
    assert refusal == ("port_security_off", "security_groups")
    back = world.store.update_port(port.port.id, {"port_security": True}, "tester").value
    assert [found.name for found in back.security_groups] == ["default"]


@pytest.mark.parametrize(
    ("cidr", "mac", "code", "field"),
    [
        ("10.0.0.2/32", None, "address_pair_in_use", "cidr"),  # another port's
        ("10.0.0.0/28", None, "address_pair_in_use", "cidr"),
        ("10.0.0.254/32", None, "address_pair_in_use", "cidr"),  # the gateway
        ("169.254.169.254/32", None, "address_pair_invalid", "cidr"),
        ("100.64.0.1/32", None, "address_pair_invalid", "cidr"),
        ("10.0.0.200/32", "02:54:4c:00:00:01", "mac_invalid", "mac"),  # CVE-2015-5240: nobody is the gateway
        ("10.0.0.200/32", "01:00:5e:00:00:12", "mac_invalid", "mac"),
        ("10.0.0.200/32", "02:00:00:00:00:02", "address_pair_in_use", "mac"),
    ],
)
def test_pairs_are_nobody_elses(world: Any, cidr: str, mac: str | None, code: str, field: str) -> None:
    network = world.network(gateway_mode=GatewayMode.SHARED, gateway=IPv4Address("10.0.0.254"))
    port = world.port(network)
    other = world.port(network, mac="02:00:00:00:00:02", fixed_ips=(FixedIpSpec(IPv4Address("10.0.0.2")),))
    world.node()
    world.report("n1", other)  # were it on no node, it would only reserve the address
    pairs = (AddressPairSpec(IPv4Network("10.0.0.201/32")), AddressPairSpec(IPv4Network(cidr), mac))
    for work in (
        lambda: world.store.update_port(port.port.id, {"address_pairs": pairs}, "tester"),
        lambda: world.port(network, address_pairs=pairs),
    ):
        assert refused(work) == (code, f"address_pairs.1.{field}")


def test_pairs_are_held_as_asked_and_counted(world: Any) -> None:
    network = world.network()
    pairs = (
        AddressPairSpec(IPv4Network("10.0.0.200/32"), "00:00:5E:00:01:07"),
        AddressPairSpec(IPv4Network("10.0.0.0/8")),
    )
    port = world.port(network, address_pairs=pairs)
    assert [(str(pair.cidr), pair.mac) for pair in port.port.address_pairs] == [
        ("10.0.0.200/32", "00:00:5e:00:01:07"),
        ("10.0.0.0/8", port.port.mac),
    ]
    many = tuple(AddressPairSpec(IPv4Network(f"10.0.0.{100 + index}/32")) for index in range(11))
    change = {"address_pairs": many}
    full = ("quota_exceeded", "address_pairs")
    assert refused(lambda: world.store.update_port(port.port.id, change, "tester")) == full
    assert refused(lambda: world.port(network, address_pairs=many)) == full
    world.store.set_quota("blue", {"address_pairs": 11}, "tester")
    assert len(world.store.update_port(port.port.id, change, "tester").value.port.address_pairs) == 11
    twice = {"address_pairs": many[:1] * 2}
    assert refused(lambda: world.store.update_port(port.port.id, twice, "t")) == (
        "address_pair_invalid",
        "address_pairs.1.cidr",
    )


def test_limits_of_a_port_change(world: Any) -> None:
    qos = Qos(Bandwidth(10000, 2000), None, 46)
    port = world.port(world.network(), qos=qos)
    assert port.port.qos == qos
    changed = world.store.update_port(port.port.id, {"qos": Qos(ingress=Bandwidth(5, 6))}, "tester").value
    assert changed.port.qos == Qos(ingress=Bandwidth(5, 6))
    assert world.store.update_port(port.port.id, {"qos": Qos()}, "tester").value.port.qos == Qos()


def test_an_upgrade_cuts_no_machine_off(new_url: str) -> None:
    raw.upgrade_to(new_url, "0001")
    with raw.transaction(new_url) as old:
        old.exec_driver_sql(
            "INSERT INTO networks VALUES ('n', 1, 1, 'n', NULL, TRUE, FALSE, 'vlan', 'physnet1', 100, 1500, 'per_host',"
            " FALSE, TRUE, '', FALSE, NULL, 86400, '[]', '[]', '[]', '[]', '[]', FALSE, 'project', 0, 1)"
        )
        old.exec_driver_sql(
            "INSERT INTO subnets VALUES ('s', 'n', '10.0.0.0/24', 167772160, 167772415, NULL, '[]', '[]')"
        )
        for key, project_id in enumerate(("blue", "blue", None), start=1):
            port = {"id": f"p{key}", "key": key, "network_id": "n", "mac": f"02:00:00:00:00:0{key}", "name": ""}
            port |= {"hostname": "", "project_id": project_id, "device_id": "", "dhcp_options": "[]"}
            raw.insert(old, "ports", port | {"created_at": 0, "revision": 1})
        old.exec_driver_sql("UPDATE counters SET value = 4 WHERE name = 'revision'")
        old.exec_driver_sql("INSERT INTO quotas VALUES ('blue', 3)")
    raw.upgrade_to(new_url, "head")
    store = Store(new_url)
    assert (store.get_quota("blue").limits, store.get_quota("blue").own) == (Limits(floating_ips=3), ("floating_ips",))
    assert [port.port.security_groups for port in store.list_ports()] == [None, None, None]
    network = store.get_network("n").spec
    assert (network.filtering, network.allow_same_net_traffic) == (False, False)
    _, changes = store.changes_since(4)
    assert [change.new.project_id for change in changes] == [None, "blue"]
    store.update_network("n", {"filtering": True}, "tester")
    names = [[found.name for found in port.security_groups] for port in store.list_ports()]
    assert names == [["default"]] * 3
    assert all(port.port.security_groups for port in store.list_ports())
    new = store.create_security_group(SecurityGroupSpec("web", "blue"), "tester").value
    assert [one.direction for one in new.group.rules] == [OUT, OUT]
    store.close()
