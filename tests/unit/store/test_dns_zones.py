"""DNS zones and their records: whose they are, what they may hold, and what goes with floating IPs and networks."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any

import pytest

from controller.store.dns_specs import DnsRecordRecord, DnsRecordSpec, DnsZoneRecord, DnsZoneSpec
from controller.store.quota_specs import Limits
from controller.store.specs import Conflict, Exhausted, Invalid, NotFound
from flows.model import DnsRecord, RecordType, ZoneScope
from tests.unit.store.floating import give_back, make_pool, take

A, AAAA, CNAME, MX, PTR, SRV, TXT = RecordType


def zone(world: Any, name: str = "lab.example", **fields: Any) -> DnsZoneRecord:
    spec = DnsZoneSpec(name, **({"project_id": "blue"} | fields))
    made: DnsZoneRecord = world.store.create_dns_zone(spec, "tester").value
    return made


def record(
    world: Any, of: DnsZoneRecord, name: str, type_: RecordType = A, data: Any = "192.0.2.1", **more: Any
) -> Any:
    spec = DnsRecordSpec(of.id, name, type_, data, **more)
    return world.store.create_dns_record(spec, "tester").value


def held(world: Any, of: DnsZoneRecord) -> dict[str, list[tuple[str, str, int]]]:
    """What the model holds of a zone."""
    found = world.store.load_snapshot().dns_zones[of.id].records
    return {name: [(one.type.value, one.data, one.ttl) for one in records] for name, records in found.items()}


def names(records: list[DnsRecordRecord]) -> list[str]:
    return [one.name for one in records]


def test_a_zone_is_made_changed_and_deleted_with_its_records(world: Any) -> None:
    made = zone(world, "Lab.Example.", ttl=30)
    assert (made.spec.name, made.spec.scope, made.records) == ("lab.example", ZoneScope.PRIVATE, 0)
    record(world, made, "www")
    record(world, made, "mail", ttl=600)
    assert held(world, made) == {
        "www.lab.example": [("A", "192.0.2.1", 30)],
        "mail.lab.example": [("A", "192.0.2.1", 600)],
    }
    changed = world.store.update_dns_zone(made.id, {"ttl": 90}, "tester").value
    assert (changed.spec.ttl, changed.records) == (90, 2)
    assert held(world, made)["www.lab.example"] == [("A", "192.0.2.1", 90)]
    with pytest.raises(Invalid) as fixed:
        world.store.update_dns_zone(made.id, {"name": "other.example"}, "tester")
    assert fixed.value.code == "immutable"
    revision = world.store.revision()
    assert world.store.update_dns_zone(made.id, {"ttl": 90}, "tester").revision == revision
    world.store.delete_dns_zone(made.id, "tester")
    assert (world.store.load_snapshot().dns_zones, world.store.list_dns_records()) == ({}, [])
    with pytest.raises(NotFound):
        world.store.get_dns_zone(made.id)


def test_one_name_for_all_and_one_for_each_project(world: Any) -> None:
    zone(world)
    zone(world, project_id="red")
    zone(world, project_id=None)
    public = zone(world, project_id="red", scope=ZoneScope.PUBLIC)
    for again in ({}, {"scope": ZoneScope.PUBLIC}, {"project_id": None}):
        with pytest.raises(Conflict) as taken:
            zone(world, **again)
        assert (taken.value.code, taken.value.field) == ("dns_zone_exists", "name")
    with pytest.raises(Conflict):
        world.store.update_dns_zone(public.id, {"scope": ZoneScope.PRIVATE}, "tester")
    moved = world.store.update_dns_zone(public.id, {"project_id": "blue"}, "tester").value
    assert moved.spec.project_id == "blue"
    found = world.store.load_snapshot()
    assert len(found.dns_zones_by_name["lab.example"]) == 4
    listed = world.store.list_dns_zones(visible_to="red")
    assert [(one.spec.scope, one.spec.project_id) for one in listed] == [("private", "red"), ("public", "blue")]


@pytest.mark.parametrize(
    ("type_", "data", "stored"),
    [
        (A, "192.0.2.1", "192.0.2.1"),
        (AAAA, "2001:DB8:0::1", "2001:db8::1"),
        (CNAME, "WWW.example.net.", "www.example.net"),
        (PTR, "vm.example.net", "vm.example.net"),
        (MX, "10 mail.example.net", "10 mail.example.net"),
        (MX, "0 .", "0 ."),
        (SRV, "0 5 5060 Sip.example.net.", "0 5 5060 sip.example.net"),
        (TXT, 'v=spf1 "quoted" \\ -all', 'v=spf1 "quoted" \\ -all'),
        (TXT, "x" * 1024, "x" * 1024),
    ],
)
def test_data_has_one_form(world: Any, type_: RecordType, data: str, stored: str) -> None:
    of = zone(world)
    assert record(world, of, "x", type_, data).data == stored
    with pytest.raises(Conflict) as again:
        record(world, of, "X", type_, stored)
    assert (again.value.code, again.value.field) == ("dns_record_exists", "data")


@pytest.mark.parametrize(
    ("type_", "data"),
    [
        (A, "192.0.2.256"),
        (A, "192.0.2.01"),
        (A, "::1"),
        (A, ""),
        (AAAA, "192.0.2.1"),
        (AAAA, "fe80::1%eth0"),
        (CNAME, "web"),
        (CNAME, "."),
        (CNAME, "web."),
        (CNAME, "a..example.net"),
        (CNAME, "x" * 64 + ".example.net"),
        (CNAME, ("x" * 60 + ".") * 5 + "example.net"),
        (PTR, "a b.example.net"),
        (MX, "mail.example.net"),
        (MX, "65536 mail.example.net"),
        (MX, "-1 mail.example.net"),
        (MX, "010 mail.example.net"),
        (SRV, "0 0 mail.example.net"),
        (SRV, "0 0 99999 mail.example.net"),
        (TXT, ""),
        (TXT, "x" * 1025),
        (TXT, "line\nbreak"),
        (TXT, "n\u00e4me"),
    ],
)
def test_data_that_is_none_is_refused(world: Any, type_: RecordType, data: str) -> None:
    with pytest.raises(Invalid) as wrong:
        record(world, zone(world), "x", type_, data)
    assert (wrong.value.code, wrong.value.field) == ("dns_data_invalid", "data")


@pytest.mark.parametrize(
    "name",
    ["", ".", "www.", "-x", "x-", "_x", "a..b", "x" * 64, "*", "a b", "w\u00e4b", ".".join("x" * 60 for _ in range(4))],
)
def test_names_are_those_of_hosts(world: Any, name: str) -> None:
    with pytest.raises(Invalid) as wrong:
        record(world, zone(world), name)
    assert (wrong.value.code, wrong.value.field) == ("dns_name_invalid", "name")


@pytest.mark.parametrize("name", ["", ".", "a..b", "x" * 64, "*.example", ".".join("x" * 60 for _ in range(5)), "a b"])
def test_names_of_zones(world: Any, name: str) -> None:
    with pytest.raises(Invalid) as wrong:
        zone(world, name)
    assert (wrong.value.code, wrong.value.field) == ("dns_name_invalid", "name")


def test_the_longest_names(world: Any) -> None:
    long = ".".join("x" * 60 for _ in range(3))
    made = zone(world, f"{long}.example")
    assert len(record(world, made, "y" * 62).name) == 253
    with pytest.raises(Invalid):
        record(world, made, "y" * 63)


def test_several_records_of_one_name(world: Any) -> None:
    made = zone(world)
    for data in ("192.0.2.9", "192.0.2.1"):
        record(world, made, "www", data=data)
    record(world, made, "www", TXT, "hello")
    record(world, made, "@", MX, "10 www.lab.example")
    assert held(world, made) == {
        "www.lab.example": [("A", "192.0.2.1", 60), ("A", "192.0.2.9", 60), ("TXT", "hello", 60)],
        "lab.example": [("MX", "10 www.lab.example", 60)],
    }


def test_an_alias_is_alone(world: Any) -> None:
    made = zone(world)
    record(world, made, "www")
    record(world, made, "ftp", CNAME, "www.lab.example")
    for name, type_, data in (("www", CNAME, "ftp.lab.example"), ("ftp", A, "192.0.2.1"), ("ftp", CNAME, "x.example")):
        with pytest.raises(Conflict) as beside:
            record(world, made, name, type_, data)
        assert (beside.value.code, beside.value.field) == ("dns_cname_conflict", "name")
    with pytest.raises(Invalid) as apex:
        record(world, made, "@", CNAME, "www.lab.example")
    assert apex.value.code == "dns_cname_invalid"


def test_a_record_is_changed_and_deleted(world: Any) -> None:
    made = zone(world)
    one, other = record(world, made, "www"), record(world, made, "www", data="192.0.2.2")
    changed = world.store.update_dns_record(one.id, {"data": "192.0.2.3", "ttl": 5}, "tester").value
    assert (changed.data, changed.ttl) == ("192.0.2.3", 5)
    assert held(world, made) == {"www.lab.example": [("A", "192.0.2.2", 60), ("A", "192.0.2.3", 5)]}
    with pytest.raises(Conflict) as same:
        world.store.update_dns_record(one.id, {"data": "192.0.2.2"}, "tester")
    assert same.value.code == "dns_record_exists"
    assert world.store.update_dns_record(one.id, {"ttl": None}, "tester").value.ttl is None
    with pytest.raises(Invalid) as fixed:
        world.store.update_dns_record(one.id, {"name": "ftp"}, "tester")
    assert fixed.value.code == "immutable"
    revision = world.store.revision()
    assert world.store.update_dns_record(one.id, {"data": "192.0.2.3"}, "tester").revision == revision
    world.store.delete_dns_record(other.id, "tester")
    assert held(world, made) == {"www.lab.example": [("A", "192.0.2.3", 60)]}
    with pytest.raises(NotFound):
        world.store.delete_dns_record(other.id, "tester")


def test_lists(world: Any) -> None:
    blue, red = zone(world), zone(world, project_id="red")
    record(world, blue, "www")
    record(world, blue, "ftp")
    record(world, red, "www", TXT, "red")
    store = world.store
    assert names(store.list_dns_records(data="192.0.2.1")) == ["www.lab.example", "ftp.lab.example"]
    assert [one.project_id for one in store.list_dns_records(fqdn="www.lab.example")] == ["blue", "red"]
    assert names(store.list_dns_records(project_id="red", type="TXT")) == ["www.lab.example"]
    first = store.list_dns_records(zone_id=blue.id, limit=1)
    assert names(store.list_dns_records(zone_id=blue.id, marker=first[0].id)) == ["ftp.lab.example"]
    assert store.list_dns_zones(name="lab.example", project_id="red") == [store.get_dns_zone(red.id)]


# -- with floating IPs


def test_d9_names_go_with_their_floating_ip_in_all_zones(world: Any) -> None:
    make_pool(world)
    mine, public = zone(world), zone(world, scope=ZoneScope.PUBLIC, project_id=None)
    first, second = take(world, 2)
    address = str(first.floating_ip.address)
    made = record(world, mine, "www", data=None, floating_ip_id=first.floating_ip.id)
    assert made.data == address
    by_address = record(world, mine, "ftp", data=address)
    record(world, public, "www.blue", data=address)
    record(world, mine, "other", data=str(second.floating_ip.address))
    record(world, mine, "outside", data="192.0.2.1")
    assert by_address.floating_ip_id == first.floating_ip.id
    assert len(world.store.list_dns_records(floating_ip_id=first.floating_ip.id)) == 3
    with pytest.raises(Conflict):
        record(world, mine, "www", data=address)
    give_back(world, first)
    assert names(world.store.list_dns_records()) == ["other.lab.example", "outside.lab.example"]
    assert sorted(held(world, mine)) == ["other.lab.example", "outside.lab.example"]
    assert held(world, public) == {}
    events = [entry.payload.get("events") for entry in world.store.journal(kind="dns_zone", object_id=public.id)]
    assert events[-1] == [f"delete www.blue.lab.example A {address}"]


def test_a_record_that_leaves_an_address_does_not_go_with_it(world: Any) -> None:
    make_pool(world)
    mine = zone(world)
    first, second = take(world, 2)
    moved = record(world, mine, "www", data=None, floating_ip_id=first.floating_ip.id)
    freed = record(world, mine, "ftp", data=None, floating_ip_id=first.floating_ip.id)
    world.store.update_dns_record(moved.id, {"floating_ip_id": second.floating_ip.id}, "tester")
    world.store.update_dns_record(freed.id, {"floating_ip_id": None}, "tester")
    give_back(world, first)
    assert names(world.store.list_dns_records()) == ["www.lab.example", "ftp.lab.example"]
    give_back(world, second)
    assert names(world.store.list_dns_records()) == ["ftp.lab.example"]


def test_an_address_of_others_is_no_floating_ip_of_a_private_zone(world: Any) -> None:
    """Projects may use any ranges within: the same address is another one there."""
    make_pool(world)
    (theirs,) = take(world, 1, project_id="red")
    mine = zone(world)
    assert record(world, mine, "www", data=str(theirs.floating_ip.address)).floating_ip_id is None
    give_back(world, theirs)
    assert names(world.store.list_dns_records()) == ["www.lab.example"]


def test_what_does_not_go_together(world: Any) -> None:
    make_pool(world)
    mine = zone(world)
    (floating_ip,) = take(world)
    id_ = floating_ip.floating_ip.id
    for fields in (
        {"data": None},
        {"data": "192.0.2.1", "floating_ip_id": id_},
        {"data": None, "floating_ip_id": id_, "type_": TXT},
    ):
        with pytest.raises(Invalid) as wrong:
            record(world, mine, "www", **fields)
        assert wrong.value.code == "dns_data_invalid"
    with pytest.raises(NotFound):
        record(world, mine, "www", data=None, floating_ip_id="nothing")


def test_an_automatic_floating_ip_takes_its_names_along(make_world: Callable[..., Any]) -> None:
    world = make_world(auto_assign_pool="public")
    make_pool(world)
    port = world.port(world.network())
    (floating_ip,) = world.again(port).floating_ips
    mine = zone(world)
    record(world, mine, "vm", data=str(floating_ip.address))
    world.store.delete_port(port.port.id, "tester")
    assert world.store.list_dns_records() == []
    assert world.replayed() == world.store.load_snapshot()


# -- with networks, and how many


def test_d8_the_networks_of_a_zone(world: Any) -> None:
    network, other = world.network(), world.network("10.1.0.0/24", name="other")
    made = zone(world, network_ids=(network.id, other.id))
    assert world.store.load_snapshot().dns_zones[made.id].network_ids == tuple(sorted((network.id, other.id)))
    world.store.delete_network(other.id, "tester")
    assert world.store.get_dns_zone(made.id).spec.network_ids == (network.id,)
    world.store.update_dns_zone(made.id, {"network_ids": ()}, "tester")
    assert world.store.get_dns_zone(made.id).spec.network_ids == ()
    with pytest.raises(NotFound) as unknown:
        world.store.update_dns_zone(made.id, {"network_ids": (network.id, other.id)}, "tester")
    assert (unknown.value.code, unknown.value.field) == ("network_unknown", "network_ids.1")
    assert world.replayed() == world.store.load_snapshot()


def test_quotas(make_world: Callable[..., Any]) -> None:
    world = make_world(limits=Limits(dns_zones=1, dns_records=2))
    made, free = zone(world), zone(world, project_id=None)
    for number in range(3):
        record(world, free, f"x{number}")
    for number in range(2):
        record(world, made, f"x{number}")
    with pytest.raises(Exhausted) as records:
        record(world, made, "more")
    with pytest.raises(Exhausted) as zones:
        zone(world, "other.example")
    with pytest.raises(Exhausted):
        world.store.update_dns_zone(free.id, {"project_id": "blue", "scope": ZoneScope.PUBLIC}, "tester")
    assert {records.value.code, zones.value.code} == {"quota_exceeded"}
    assert world.store.get_quota("blue").dns_zones_used == 1
    world.store.set_quota("blue", {"dns_zones": 2, "dns_records": -1}, "tester")
    zone(world, "other.example")
    record(world, made, "more")


def test_the_model_has_what_a_resolver_needs(world: Any) -> None:
    made = zone(world)
    one = record(world, made, "www")
    (found,) = world.store.load_snapshot().dns_zones[made.id].records["www.lab.example"]
    assert found == DnsRecord(one.id, "www.lab.example", A, "192.0.2.1", 60)
    assert IPv4Address(found.data)
