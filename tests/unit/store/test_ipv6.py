"""IPv6 in the store: subnets, and the addresses of ports in them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Any

import pytest

from controller.store.ipv6_specs import Ipv6Range, Ipv6SubnetSpec
from controller.store.specs import (
    Conflict,
    Exhausted,
    FixedIpSpec,
    Invalid,
    NetworkRecord,
    PortRecord,
    PortSpec,
    StoreError,
)
from flows.model import GatewayMode, Ipv6Mode

PREFIX = "2001:db8:1::/64"
OTHER = "2001:db8:2::/64"
MAC = "fa:16:3e:00:00:01"
EUI64 = "2001:db8:1:0:f816:3eff:fe00:1"


def subnet(cidr: str = PREFIX, mode: Ipv6Mode = Ipv6Mode.SLAAC, **fields: Any) -> Ipv6SubnetSpec:
    return Ipv6SubnetSpec(IPv6Network(cidr), mode=mode, **fields)


def stateful(cidr: str = PREFIX, *spans: str, reserved: tuple[str, ...] = (), **fields: Any) -> Ipv6SubnetSpec:
    return subnet(
        cidr,
        Ipv6Mode.STATEFUL,
        allocation_ranges=tuple(map(span, spans)),
        reserved=tuple(map(span, reserved)),
        **fields,
    )


def span(text: str) -> Ipv6Range:
    first, _, last = text.partition("-")
    return Ipv6Range(IPv6Address(first), IPv6Address(last or first))


def addresses(port: PortRecord) -> list[str]:
    return [str(one.address) for one in port.port.ipv6_addresses]


def change(world: Any, network: NetworkRecord, *subnets: Ipv6SubnetSpec) -> NetworkRecord:
    record: NetworkRecord = world.store.update_network(network.id, {"ipv6_subnets": subnets}, "tester").value
    return record


def refused(work: Any, *args: Any, **fields: Any) -> tuple[str, str | None]:
    with pytest.raises(StoreError) as found:
        work(*args, **fields)
    return found.value.code, found.value.field


def test_a_port_has_the_address_of_its_mac_and_one_that_is_chosen(world: Any) -> None:
    gateway, server = IPv6Address("2001:db8:1::1"), IPv6Address("2001:db8::53")
    specs = (subnet(gateway=gateway, dns_servers=(server,)), stateful(OTHER, "2001:db8:2::100-2001:db8:2::1ff"))
    network = world.network(ipv6_subnets=specs)
    assert [(it.cidr, it.mode, it.gateway) for it in network.spec.ipv6_subnets] == [
        (IPv6Network(PREFIX), Ipv6Mode.SLAAC, gateway),
        (IPv6Network(OTHER), Ipv6Mode.STATEFUL, None),
    ]
    port = world.port(network, mac=MAC)
    assert addresses(port) == [EUI64, "2001:db8:2::100"]
    assert [str(one.address) for one in port.port.fixed_ips] == ["10.0.0.1"]
    model = world.store.load_snapshot().networks[network.id]
    assert [it.id for it in model.ipv6_subnets] == [one.subnet_id for one in port.port.ipv6_addresses]
    assert model.ipv6_subnets[0].dns_servers == (server,)
