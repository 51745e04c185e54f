"""IPv6 in the store: subnets, and the addresses of ports in them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import pytest

from controller.store import Store
from controller.store.ipv6_specs import Ipv6Range, Ipv6SubnetSpec
from controller.store.network_specs import Carving
from controller.store.specs import (
    FixedIpSpec,
    LeaseRecord,
    NetworkRecord,
    NetworkSpec,
    PortRecord,
    PortSpec,
    StoreError,
    SubnetSpec,
)
from flows.model import Family, GatewayMode, Ipv6Mode, NetworkKind, PortChange
from tests.unit.store import raw

PREFIX = "2001:db8:1::/64"
OTHER = "2001:db8:2::/64"
MAC = "fa:16:3e:00:00:01"
EUI64 = "2001:db8:1:0:f816:3eff:fe00:1"
TWO_OF_THREE = ("2001:db8:2::10-2001:db8:2::11", "2001:db8:2::20")


def subnet(cidr: str = PREFIX, mode: Ipv6Mode = Ipv6Mode.SLAAC, **fields: Any) -> Ipv6SubnetSpec:
    gateway = fields.pop("gateway", None)
    return Ipv6SubnetSpec(IPv6Network(cidr), IPv6Address(gateway) if gateway else None, mode, **fields)


def stateful(*spans: str, cidr: str = OTHER, reserved: tuple[str, ...] = (), **fields: Any) -> Ipv6SubnetSpec:
    ranges = {"allocation_ranges": tuple(map(span, spans)), "reserved": tuple(map(span, reserved))}
    return subnet(cidr, Ipv6Mode.STATEFUL, **ranges, **fields)


def span(text: str) -> Ipv6Range:
    first, _, last = text.partition("-")
    return Ipv6Range(IPv6Address(first), IPv6Address(last or first))


def asked(*texts: str) -> dict[str, Any]:
    return {"fixed_ips": tuple(FixedIpSpec(IPv6Address(text)) for text in texts)}


def addresses(port: PortRecord) -> list[str]:
    return [str(one.address) for one in port.port.ipv6_addresses]


def change(world: Any, network: NetworkRecord, *subnets: Ipv6SubnetSpec) -> NetworkRecord:
    record: NetworkRecord = world.store.update_network(network.id, {"ipv6_subnets": subnets}, "tester").value
    return record


def update(world: Any, port: PortRecord, **changes: Any) -> PortRecord:
    record: PortRecord = world.store.update_port(port.port.id, changes, "tester").value
    return record


def refused(work: Callable[[], Any]) -> tuple[str, str | None]:
    with pytest.raises(StoreError) as error:
        work()
    return error.value.code, error.value.field


def paged(read: Callable[[Any], Sequence[Any]]) -> list[Any]:
    """All that is read page by page, each from the last one seen on."""
    found: list[Any] = []
    for _ in range(20):
        found += read(found[-1] if found else None)
    return found


def test_b27_a_port_has_the_address_of_its_mac_and_one_that_is_chosen(world: Any) -> None:
    server = IPv6Address("2001:db8::53")
    first = subnet(gateway="2001:db8:1::1", dns_servers=(server,))
    network = world.network(ipv6_subnets=(first, stateful("2001:db8:2::100-2001:db8:2::1ff")))
    assert [(str(it.cidr), it.mode, it.gateway) for it in network.spec.ipv6_subnets] == [
        (PREFIX, Ipv6Mode.SLAAC, first.gateway),
        (OTHER, Ipv6Mode.STATEFUL, None),
    ]
    port = world.port(network, mac=MAC)
    assert addresses(port) == [EUI64, "2001:db8:2::100"]
    assert [str(one.address) for one in port.port.fixed_ips] == ["10.0.0.1"]
    model = world.store.load_snapshot().networks[network.id]
    assert [it.id for it in model.ipv6_subnets] == [one.subnet_id for one in port.port.ipv6_addresses]
    assert model.ipv6_subnets[0].dns_servers == (server,)
    assert [entry.payload["fixed_ips"] for entry in world.store.journal(kind="port")] == [
        ["10.0.0.1", EUI64, "2001:db8:2::100"]
    ]


@pytest.mark.parametrize(
    ("spec", "fields", "error"),
    [
        (subnet("2001:db8::/63"), {}, ("cidr_invalid", "ipv6_subnets.0.cidr")),
        (subnet("2001:db8::/80", Ipv6Mode.STATELESS), {}, ("cidr_invalid", "ipv6_subnets.0.cidr")),
        (stateful(cidr="2001:db8::/127"), {}, ("cidr_invalid", "ipv6_subnets.0.cidr")),
        (stateful(cidr="2001:db8::/48"), {}, ("cidr_invalid", "ipv6_subnets.0.cidr")),
        *(
            (subnet(cidr), {}, ("cidr_reserved", "ipv6_subnets.0.cidr"))
            for cidr in ("fe80::/64", "ff02::/64", "::/64", "64:ff9b::/64", "fec0::/64")
        ),
        (subnet(gateway="2001:db8:2::1"), {}, ("gateway_outside_subnet", "ipv6_subnets.0.gateway")),
        (subnet(gateway="fe80::1"), {}, ("gateway_outside_subnet", "ipv6_subnets.0.gateway")),
        (subnet(gateway="2001:db8:1::"), {}, ("gateway_invalid", "ipv6_subnets.0.gateway")),
        (
            subnet(gateway="2001:db8:1::1"),
            {"gateway_mode": GatewayMode.NONE},
            ("gateway_invalid", "ipv6_subnets.0.gateway"),
        ),
        (stateful("2001:db8:3::1-2001:db8:3::9"), {}, ("range_invalid", "ipv6_subnets.0.allocation_ranges.0")),
        (stateful("2001:db8:2::9-2001:db8:2::1"), {}, ("range_invalid", "ipv6_subnets.0.allocation_ranges.0")),
        (stateful(reserved=("2001:db8:3::1",)), {}, ("range_invalid", "ipv6_subnets.0.reserved.0")),
        (subnet(reserved=(span("2001:db8:1::1"),)), {}, ("range_invalid", "ipv6_subnets.0.reserved")),
    ],
)
def test_what_no_subnet_can_be(world: Any, spec: Ipv6SubnetSpec, fields: dict[str, Any], error: Any) -> None:
    assert refused(lambda: world.network(ipv6_subnets=(spec,), **fields)) == error
    if not fields:
        network = world.network()
        assert refused(lambda: change(world, network, spec)) == error


@pytest.mark.parametrize("gateway", ["2001:db8:1::1", "fe80::1"])
def test_an_external_network_needs_its_router(world: Any, gateway: str) -> None:
    assert refused(lambda: world.external(ipv6_subnets=(subnet(),))) == ("gateway_missing", "ipv6_subnets.0.gateway")
    world.external(ipv6_subnets=(subnet(gateway=gateway),))
    (model,) = world.store.load_snapshot().networks.values()
    assert str(model.ipv6_subnets[0].gateway) == gateway


def test_a_range_is_one_networks_whosever(world: Any) -> None:
    own = world.network(ipv6_subnets=(subnet(), subnet(OTHER)))
    foreign = world.network("10.1.0.0/24", project_id="red")
    within = stateful(cidr="2001:db8:2:0:8000::/80")
    for spec in (subnet(), within):
        with pytest.raises(StoreError, match="overlaps a network of another project$") as error:
            change(world, foreign, subnet("2001:db8:3::/64"), spec)
        assert (error.value.code, error.value.field) == ("cidr_overlap", "ipv6_subnets.1.cidr")
    with pytest.raises(StoreError, match=r"overlaps network net \(2001:db8:1::/64\)$"):
        world.network("10.2.0.0/24", ipv6_subnets=(subnet(),))
    assert refused(lambda: change(world, own, subnet(), within, subnet(OTHER)))[0] == "subnets_invalid"
    nine = [subnet(f"2001:db8:a{index}::/64") for index in range(9)]
    assert refused(lambda: change(world, own, *nine)) == ("subnets_invalid", "subnets")
    world.store.delete_network(own.id, "tester")
    change(world, foreign, subnet())


def test_ports_ask_for_addresses_of_either_family(world: Any) -> None:
    network = world.network(ipv6_subnets=(subnet(gateway="2001:db8:1::1"), stateful(reserved=("2001:db8:2::5",))))
    by_mac, chosen = network.spec.ipv6_subnets
    two = (FixedIpSpec(IPv6Address("2001:db8:2::77")), FixedIpSpec(subnet_id=chosen.id))
    port = world.port(network, mac=MAC, fixed_ips=(*two, FixedIpSpec(IPv4Address("10.0.0.9"))))
    assert addresses(port) == [EUI64, "2001:db8:2::77", "2001:db8:2::1"]
    assert [str(one.address) for one in port.port.fixed_ips] == ["10.0.0.9"]
    same = world.port(network, mac="fa:16:3e:00:00:02", fixed_ips=(FixedIpSpec(subnet_id=by_mac.id),))
    assert addresses(same) == ["2001:db8:1:0:f816:3eff:fe00:2", "2001:db8:2::2"]
    for texts, error in (
        (("2001:db8:1::7",), ("address_unfit", "fixed_ips.0.address")),
        (("2001:db8:2::9", "2001:db8:2::77"), ("address_in_use", "fixed_ips.1.address")),
        (("2001:db8:2::9", "2001:db8:2::9"), ("address_in_use", "fixed_ips.1.address")),
        (("2001:db8:2::5",), ("address_reserved", "fixed_ips.0.address")),
        (("2001:db8:2::",), ("address_reserved", "fixed_ips.0.address")),
        (("2001:db8:9::1",), ("address_outside_subnet", "fixed_ips.0.address")),
    ):
        assert refused(lambda texts=texts: world.port(network, **asked(*texts))) == error
    plain = world.network("10.1.0.0/24")
    with pytest.raises(StoreError, match="is not in any IPv6 subnet of the network$"):
        world.port(plain, **asked(EUI64))


def test_a_refusal_says_which_of_many_ports(world: Any) -> None:
    network = world.network(ipv6_subnets=(subnet(gateway=EUI64), stateful()))
    specs = [PortSpec(network.id), PortSpec(network.id, mac=MAC)]
    with pytest.raises(StoreError, match=f"^{EUI64} is in use$") as error:
        world.store.create_ports(specs, "tester")
    assert (error.value.index, error.value.code) == (1, "address_in_use")
    with pytest.raises(StoreError) as error:
        world.store.create_ports([specs[0], PortSpec(network.id, **asked("2001:db8:1::7"))], "tester")
    assert (error.value.index, error.value.code) == (1, "address_unfit")
    assert world.store.list_ports() == []


def test_the_addresses_of_a_port_change_and_any_is_met_by_what_it_has(world: Any) -> None:
    network = world.network(ipv6_subnets=(subnet(), stateful()))
    chosen = network.spec.ipv6_subnets[1]
    port = world.port(network, mac=MAC)
    before = world.store.revision()
    update(world, port, fixed_ips=(FixedIpSpec(),))
    assert world.store.revision() == before
    more = update(
        world, port, fixed_ips=(FixedIpSpec(), FixedIpSpec(IPv6Address("2001:db8:2::7")), FixedIpSpec(None, chosen.id))
    )
    assert addresses(more) == [EUI64, "2001:db8:2::7", "2001:db8:2::1"]
    (entry,) = world.store.journal(after=before)
    assert entry.payload["fixed_ips"] == ["10.0.0.1", *addresses(more)]
    turned = update(world, port, **asked("2001:db8:2::1", "2001:db8:2::7"))
    assert addresses(turned) == [EUI64, "2001:db8:2::1", "2001:db8:2::7"]
    fewer = update(world, port, fixed_ips=(FixedIpSpec(IPv4Address("10.0.0.9")),))
    assert fewer.port.ipv6_addresses == turned.port.ipv6_addresses[:2]
    assert addresses(world.port(network, **asked("2001:db8:2::7")))[1:] == ["2001:db8:2::7"]


def test_what_is_given_back_comes_last(world: Any) -> None:
    network = world.network(ipv6_subnets=(stateful(*TWO_OF_THREE),))
    first, second = world.port(network), world.port(network)
    assert addresses(first) + addresses(second) == ["2001:db8:2::10", "2001:db8:2::11"]
    world.store.delete_port(first.port.id, "tester")
    assert addresses(world.port(network)) == ["2001:db8:2::10"]  # the pool goes round
    assert addresses(world.port(network)) == ["2001:db8:2::20"]
    assert refused(lambda: world.port(network)) == ("subnet_full", None)
    world.store.delete_port(second.port.id, "tester")
    assert addresses(world.port(network)) == ["2001:db8:2::11"]


def test_a_choice_passes_over_what_was_asked_for(world: Any) -> None:
    network = world.network(ipv6_subnets=(stateful(gateway="2001:db8:2::1"),))
    specs = [PortSpec(network.id), PortSpec(network.id, **asked("2001:db8:2::2")), PortSpec(network.id)]
    made = world.store.create_ports(specs, "tester").value
    assert [addresses(port) for port in made] == [["2001:db8:2::3"], ["2001:db8:2::2"], ["2001:db8:2::4"]]


def test_a_whole_64_is_no_more_work_than_a_small_range(world: Any) -> None:
    network = world.network("10.0.0.0/16", ipv6_subnets=(subnet(), stateful()))
    made = world.store.create_ports([PortSpec(network.id)] * 1000, "tester").value
    found = {address for port in made for address in addresses(port)}
    assert len(found) == 2000 and str(IPv6Address("2001:db8:2::3e8")) in found


def test_ports_that_are_there_get_addresses_of_a_new_subnet(world: Any) -> None:
    network = world.network()
    port, other = world.port(network, mac=MAC), world.port(network)
    before = world.store.revision()
    change(world, network, subnet(), stateful())
    assert addresses(world.again(port)) == [EUI64, "2001:db8:2::1"]
    assert addresses(world.again(other))[1:] == ["2001:db8:2::2"]
    _, changes = world.store.changes_since(before)
    assert {it.id for it in changes if isinstance(it, PortChange)} == {port.port.id, other.port.id}
    assert world.again(port).revision > port.revision
    assert refused(lambda: change(world, network, subnet())) == ("subnet_in_use", "subnets")
    before = world.store.revision()
    change(world, network, stateful())  # those of MACs go with their subnet
    assert addresses(world.again(port)) == ["2001:db8:2::1"]
    _, changes = world.store.changes_since(before)
    assert {it.id for it in changes if isinstance(it, PortChange)} == {port.port.id, other.port.id}


def test_a_subnet_keeps_its_mode_and_gateway(world: Any) -> None:
    network = world.network(ipv6_subnets=(subnet(gateway="2001:db8:1::1"), stateful("2001:db8:2::10-2001:db8:2::1f")))
    assert refused(lambda: change(world, network, subnet(mode=Ipv6Mode.STATELESS))) == (
        "immutable",
        "ipv6_subnets.0.ipv6_mode",
    )
    assert refused(lambda: change(world, network, subnet(gateway="2001:db8:1::2"))) == (
        "immutable",
        "ipv6_subnets.0.gateway",
    )
    before = world.store.revision()
    change(world, network, subnet(), stateful("2001:db8:2::10-2001:db8:2::1f"))
    assert world.store.revision() == before
    servers = (IPv6Address("2001:db8::53"),)
    changed = change(world, network, subnet(dns_servers=servers), stateful("2001:db8:2::10-2001:db8:2::2f"))
    (entry,) = world.store.journal(after=before)
    assert set(entry.payload["ipv6_subnets"]) == {PREFIX, OTHER}
    assert str(changed.spec.ipv6_subnets[0].gateway) == "2001:db8:1::1"
    assert changed.spec.ipv6_subnets[1].allocation_ranges == (span("2001:db8:2::10-2001:db8:2::2f"),)


def test_b1_many_networks_of_one_range_have_a_64_each(world: Any) -> None:
    def make(count: int, cidr: str, **fields: Any) -> list[str]:
        subnets = (SubnetSpec(IPv4Network("10.8.0.0/16")),)
        spec = NetworkSpec("many", NetworkKind.VLAN, "physnet1", subnets, ipv6_subnets=(subnet(cidr, **fields),))
        made = world.store.create_networks(spec, Carving(count, 16), "tester").value
        return [str(it.cidr) for network in made for it in network.spec.ipv6_subnets]

    world.network(ipv6_subnets=(stateful(cidr="2001:db8:0:1:8000::/80"), subnet("2001:db8:0:3::/64")))
    assert make(3, "2001:db8::/48") == ["2001:db8::/64", "2001:db8:0:2::/64", "2001:db8:0:4::/64"]
    assert make(1, "2001:db8:0:5::/64") == ["2001:db8:0:5::/64"]
    with pytest.raises(StoreError, match=r"^2001:db8:0:4::/62 has room for 2 networks with a /64 each, not for 3$"):
        make(3, "2001:db8:0:4::/62")
    assert refused(lambda: make(2, "2001:db8::/80", mode=Ipv6Mode.STATEFUL))[0] == "no_free_cidr"
    error = ("carving_invalid", "ipv6_subnets.0.gateway")
    assert refused(lambda: make(2, "2001:db8::/48", gateway="2001:db8::1")) == error


@pytest.mark.parametrize("stores", [1, 4])
def test_no_two_ports_are_given_one_address(make_world: Callable[..., Any], stores: int) -> None:
    first = make_world()
    network = first.network("10.0.0.0/16", ipv6_subnets=(subnet(), stateful("2001:db8:2::1-2001:db8:2::20")))
    workers = [first.store, *(make_world().store for _ in range(stores - 1))]
    refusals: list[str] = []

    def work(index: int) -> None:
        for _ in range(12):
            try:
                (port,) = workers[index % stores].create_ports([PortSpec(network.id)], "tester").value
                if index % 2:
                    workers[index % stores].delete_port(port.port.id, "tester")
            except StoreError as error:
                refusals.append(error.code)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held = [address for port in first.store.list_ports() for address in addresses(port)]
    assert len(held) == len(set(held)) == 2 * 24
    assert refusals == []


def test_who_had_an_address(world: Any) -> None:
    network = world.network(ipv6_subnets=(subnet(), stateful()))
    port = world.port(network, mac=MAC, name="one")
    world.clock.now += 10
    update(world, port, **asked("2001:db8:2::9"))
    world.clock.now += 10
    world.store.delete_port(port.port.id, "tester")

    def history(text: str, **fields: Any) -> list[tuple[str | None, float, float | None]]:
        found = world.store.address_history(address=IPv6Address(text), **fields)
        return [(one.port_name, one.began_at - 1_000_000, one.ended_at and one.ended_at - 1_000_000) for one in found]

    assert history(EUI64) == [("one", 0, 20)]
    assert history("2001:db8:2::1") == [("one", 0, 10)]
    assert history("2001:db8:2::9", network_id=network.id, project_id="blue") == [("one", 10, 20)]
    assert history("2001:db8:2::9", project_id="red") == history("2001:db8:2::9", at=1_000_000.0) == []
    change(world, network)
    late = world.port(network, mac=MAC, name="late")
    change(world, network, subnet())
    assert history(EUI64)[0][0] == "late"
    change(world, network)
    assert history(EUI64)[0][2] is not None and late.port.mac == MAC
    world.clock.now += 10
    assert [world.store.forget_history(0, most=3) for _ in range(3)] == [3, 2, 0]
    assert history(EUI64) == history("2001:db8:2::1") == []


def test_the_list_of_addresses_ends_with_those_of_ipv6(world: Any) -> None:
    network = world.network(ipv6_subnets=(stateful(gateway="2001:db8:2::1"),))
    ports = [world.port(network, name=f"p{index}") for index in range(3)]
    lease = LeaseRecord(ports[0].port.id, IPv6Address("2001:db8:2::2"), "bound", world.clock.now, world.clock.now + 60)
    world.store.record_leases([lease])
    whole = world.store.list_addresses(network.id)
    assert [str(one.address) for one in whole][3:] == [f"2001:db8:2::{number}" for number in range(1, 5)]
    assert [(one.owner, one.port_name, one.leased) for one in whole][3:] == [
        ("gateway", None, False),
        ("port", "p0", True),
        ("port", "p1", False),
        ("port", "p2", False),
    ]
    assert (
        paged(lambda last: world.store.list_addresses(network.id, limit=2, marker=last and str(last.address))) == whole
    )
    assert len(world.store.list_addresses(network.id, project_id="blue")) == 6


def test_leases_of_either_family(world: Any) -> None:
    network = world.network(ipv6_subnets=(stateful(),))
    ports = [world.port(network) for _ in range(3)]
    now = world.clock.now
    batch = [
        LeaseRecord(port.port.id, one.address, "bound", now, now + 60)
        for port in ports
        for one in (*port.port.fixed_ips, *port.port.ipv6_addresses)
    ]
    assert world.store.record_leases(batch) == 6
    assert world.store.record_leases(batch[1:2]) == 1
    whole = world.store.list_leases()
    assert [one.address.version for one in whole] == [4, 6] * 3
    assert world.store.list_leases(address=batch[1].address) == [
        one for one in whole if one.address == batch[1].address
    ]
    assert paged(lambda last: world.store.list_leases(limit=1, marker=last and last.id)) == whole
    world.clock.now += 61
    assert {one.state for one in world.store.list_leases(state="expired")} == {"expired"}
    world.store.delete_port(ports[0].port.id, "tester")
    assert len(world.store.list_leases()) == 4


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        (EUI64, ["one"]),
        (EUI64.upper(), ["one"]),
        ("2001:0db8:0001:0000:f816:3eff:fe00:0001", ["one"]),
        (OTHER, ["one", "two"]),
        ("2001:db8:2::/127", ["one"]),
        ("*:fe00:1", ["one"]),
        ("2001:db8:2::?", ["one", "two"]),
        ("^2001:db8:1:.*:2$", ["two"]),
        ("fe00:2$", ["two"]),
        ("2001:db8:2::2", ["two"]),
        ("fe80::*", []),
    ],
)
def test_b28_ports_by_ipv6_address(world: Any, pattern: str, found: list[str]) -> None:
    network = world.network(ipv6_subnets=(subnet(), stateful()))
    world.port(network, name="one", mac=MAC)
    world.port(network, name="two", mac="fa:16:3e:00:00:02")
    assert [port.port.name for port in world.store.list_ports(address=pattern)] == found


@pytest.mark.parametrize("pattern", ["2001:db8::/129", "2001:db8:::1", "g::*", "^[0-9a-f]:$", "::1%eth0"])
def test_b28_what_is_no_ipv6_pattern(world: Any, pattern: str) -> None:
    assert refused(lambda: world.store.list_ports(address=pattern)) == ("address_pattern_invalid", "address")


def test_ipv6_addresses_use_up_no_quota(make_world: Callable[..., Any]) -> None:
    from controller.store.quota_specs import Limits

    world = make_world(limits=Limits(fixed_ips=1))
    world.port(world.network(ipv6_subnets=(subnet(), stateful())))
    assert world.store.get_quota("blue").fixed_ips_used == 1


def test_a_floating_ip_leads_to_no_ipv6_address(world: Any) -> None:
    from controller.store.floating_ip_specs import FloatingIpPoolSpec, FloatingIpSpec
    from controller.store.specs import AddressRange

    outside = world.external(ipv6_subnets=(subnet("2001:db8:ff::/64", gateway="2001:db8:ff::1"),))
    ranges = (AddressRange(IPv4Address("203.0.113.200"), IPv4Address("203.0.113.209")),)
    world.store.create_floating_ip_pool(FloatingIpPoolSpec("public", outside.id, ranges), "tester")
    port = world.port(world.network(ipv6_subnets=(subnet(),)))
    made = world.store.allocate_floating_ips(FloatingIpSpec("public", port_id=port.port.id), "tester").value[0]
    assert str(made.floating_ip.fixed_ip) == "10.0.0.1"


def test_an_upgrade_opens_for_ipv6_what_was_open_for_ipv4(new_url: str) -> None:
    raw.upgrade_to(new_url, "0010")
    columns = ("id", "key", "direction", "protocol", "remote_cidr", "remote_group_id", "matches")
    same = {"group_id": "g", "log": False, "description": "", "created_at": 0}
    raw.execute(new_url, "INSERT INTO security_groups VALUES ('g', 1, 'blue', 'default', '', TRUE, FALSE, FALSE, 0, 1)")
    with raw.transaction(new_url) as old:
        for row in (
            ("r1", 1, "egress", None, None, None, "egress any - - - - any"),
            ("r2", 2, "ingress", None, None, "g", "ingress any - - - - g"),
            ("r3", 4, "ingress", 6, "192.0.2.0/24", None, "ingress 6 - - - - 192.0.2.0/24"),
        ):
            raw.insert(old, "security_group_rules", same | dict(zip(columns, row, strict=True)))
        old.exec_driver_sql("UPDATE counters SET value = 2 WHERE name = 'security_rule_key'")
    raw.upgrade_to(new_url, "head")
    store = Store(new_url)
    (group,) = store.load_snapshot().security_groups.values()
    assert [(rule.key, rule.family, rule.direction.value, rule.remote_group_id) for rule in group.rules] == [
        (1, Family.IPV4, "egress", None),
        (2, Family.IPV4, "ingress", "g"),
        (3, Family.IPV6, "egress", None),
        (4, Family.IPV4, "ingress", None),
        (5, Family.IPV6, "ingress", "g"),
    ]
    assert [record.spec.family for record in store.list_default_rules()] == [Family.IPV4, Family.IPV6]
    store.close()


@pytest.mark.parametrize("mtu", [68, 1279])
def test_a_network_with_ipv6_has_an_mtu_that_ipv6_takes(world: Any, mtu: int) -> None:
    """RFC 8200, section 5: when it is made, when its MTU is set, and when it is given IPv6."""
    assert refused(lambda: world.network(ipv6_subnets=(subnet(),), mtu=mtu)) == ("mtu_invalid", "mtu")
    plain = world.network(mtu=mtu)
    assert refused(lambda: change(world, plain, subnet())) == ("mtu_invalid", "ipv6_subnets.0.cidr")
    changes = {"ipv6_subnets": (subnet(),), "mtu": 1280}
    world.store.update_network(plain.id, changes, "tester")
    assert refused(lambda: world.store.update_network(plain.id, {"mtu": mtu}, "tester")) == ("mtu_invalid", "mtu")
    world.store.update_network(plain.id, {"mtu": mtu, "ipv6_subnets": ()}, "tester")
    spec = world.store.get_network(plain.id).spec
    assert (spec.mtu, spec.ipv6_subnets) == (mtu, ())


def test_a_network_of_before_with_ipv6_and_a_small_mtu_goes_on(world: Any) -> None:
    """It is served and may be changed; only more IPv6 is refused, and another MTU that is too small."""
    network = world.network(ipv6_subnets=(subnet(),))
    world.port(network)
    raw.execute(world.url, "UPDATE networks SET mtu = 1000")
    world.store.update_network(network.id, {"name": "other", "mtu": 1000}, "tester")
    change(world, network, subnet(dns_servers=(IPv6Address("2001:db8::53"),)))
    assert refused(lambda: change(world, network, subnet(), stateful())) == ("mtu_invalid", "ipv6_subnets.1.cidr")
    assert refused(lambda: world.store.update_network(network.id, {"mtu": 1001}, "tester")) == ("mtu_invalid", "mtu")
    assert world.store.load_snapshot().networks[network.id].mtu == 1000
    world.store.update_network(network.id, {"mtu": 1280}, "tester")
    change(world, network, subnet(), stateful())
