"""How many flows a node holds and what they grow with, as docs/architecture.md says under "Flows on a node"."""

from __future__ import annotations

from dataclasses import replace

from flows.compile import compile_node
from flows.model import FixedIp, GatewayMode, Network, SecurityGroup
from flows.snapshot import Snapshot
from tests.ipv6_world import with_address, with_subnet
from tests.world import NODES, network, networks, node, port, subnet

PER_LOCAL_PORT = 25
PER_UNFILTERED_PORT = 23
PER_NETWORK = 28
PER_NETWORK_ROUTED_TO = 15
PER_SUBNET = 4
PER_ADDRESS = 4
PER_GATEWAY = 9
PER_NARROW_NETWORK = 2
PER_WAY_OUT = 13
PER_OTHER_WAY_OUT = 5

PER_IPV6_PORT = 19
PER_IPV6_NETWORK = 46
PER_IPV6_ROUTED_TO = 13
PER_IPV6_OUTSIDE = 13

SUBNETS = (subnet("10.2.0.0/20", "10.2.0.1"),)

GROUP = SecurityGroup("group", 1, "group")


def flows(networks: list[Network], ports: int = 0, elsewhere: int = 0, nodes: int = 1, filtered: bool = True) -> int:
    """On a node with `ports` ports on the first network, `elsewhere` more of it on another node."""
    first = networks[0]
    members = [port(key, first, key, "n1") for key in range(1, ports + 1)]
    members += [port(key, first, key, "n2") for key in range(1001, 1001 + elsewhere)]
    if filtered:
        members = [replace(member, security_groups=(GROUP.id,)) for member in members]
    known = [node(name) for name in NODES[:nodes]]
    return len(compile_node(Snapshot.build(1, networks, members, known, security_groups=[GROUP]), "n1"))


def shared(key: int, router_key: int) -> Network:
    return network(key, f"s{key}", f"10.{key}.0.0/20", gateway_mode=GatewayMode.SHARED, router_key=router_key)


def test_a_local_port_costs_the_same_however_many_there_are() -> None:
    one = [shared(2, 2)]
    assert flows(one, 101) - flows(one, 1) <= 100 * PER_LOCAL_PORT
    assert flows(one, 101, filtered=False) - flows(one, 1, filtered=False) <= 100 * PER_UNFILTERED_PORT


def test_a_port_elsewhere_costs_nothing() -> None:
    one = [shared(2, 2)]
    assert flows(one, 1, elsewhere=500, nodes=2) == flows(one, 1, elsewhere=0, nodes=2)


def test_a_network_costs_something_where_it_is_present_or_routed_to_and_nothing_elsewhere() -> None:
    absent = flows([shared(2, 2)])
    present = flows([shared(2, 2)], 1)
    assert present - absent <= PER_NETWORK + PER_LOCAL_PORT
    assert flows([shared(2, 2), shared(3, 3)], 1) == present
    assert flows([shared(2, 2), shared(3, 2)], 1) - present <= PER_NETWORK_ROUTED_TO


def test_a_smaller_mtu_costs_little_more() -> None:
    small, large = replace(shared(2, 2), mtu=1400), shared(3, 2)
    same = flows([shared(2, 2), large], 1)
    assert flows([small, large], 1) - same <= PER_NARROW_NETWORK
    assert flows([large, small], 1) - same <= PER_NARROW_NETWORK


def test_ipv6_costs_where_it_is_and_nothing_elsewhere() -> None:
    outside = networks()[-1]
    blue, routed_to = networks()[1:3]
    over_ipv6 = with_subnet(blue)

    def made(local: Network, *others: Network, ports: int, addresses: bool = True) -> int:
        members = [port(key, local, key, "n1") for key in range(1, ports + 1)]
        members = [replace(member, security_groups=(GROUP.id,)) for member in members]
        if addresses:
            members = [with_address(member, local) for member in members]
        snapshot = Snapshot.build(1, [local, *others], members, [node("n1")], security_groups=[GROUP])
        return len(compile_node(snapshot, "n1"))

    assert made(over_ipv6, ports=101) - made(over_ipv6, ports=1) <= 100 * (PER_LOCAL_PORT + PER_IPV6_PORT)
    present = made(blue, ports=1)
    assert made(over_ipv6, ports=1, addresses=False) - present <= PER_IPV6_NETWORK
    assert made(over_ipv6, with_subnet(routed_to), ports=1) - made(over_ipv6, routed_to, ports=1) <= PER_IPV6_ROUTED_TO
    to_outside = made(over_ipv6, with_subnet(outside), ports=1) - made(over_ipv6, outside, ports=1)
    assert to_outside <= PER_IPV6_OUTSIDE


def test_a_subnet_more_and_an_address_more_cost_little() -> None:
    one = shared(2, 2)
    more = replace(one, subnets=(*one.subnets, *(subnet(f"10.{key}.0.0/24") for key in range(50, 57))))
    outside = networks()[-1]
    assert flows([more, outside], 1) - flows([one, outside], 1) == 7 * PER_SUBNET
    member = port(1, more, 1, "n1")
    several = replace(member, fixed_ips=tuple(FixedIp(each.id, each.cidr[9]) for each in more.subnets))
    with_one, with_eight = (
        len(compile_node(Snapshot.build(1, [more], [made], [node("n1")]), "n1")) for made in (member, several)
    )
    assert with_eight - with_one == 7 * PER_ADDRESS


def test_every_nodes_own_gateway_costs_something_where_the_network_is_present() -> None:
    per_host = network(2, "blue", "10.20.0.0/24")
    assert flows([per_host], 1, nodes=3) - flows([per_host], 1, nodes=1) <= 2 * PER_GATEWAY


def test_one_way_out_costs_something_on_its_node_and_on_those_with_ports() -> None:
    def single(gateway_node: str) -> Network:
        return replace(shared(2, 2), gateway_mode=GatewayMode.SINGLE, gateway_node=gateway_node, subnets=SUBNETS)

    everywhere = [replace(shared(2, 2), subnets=SUBNETS)]
    usual = flows(everywhere, 1, nodes=2)
    assert flows([single("n2")], 1, nodes=2) - usual <= PER_OTHER_WAY_OUT
    assert flows([single("n1")], 1, nodes=2) - usual <= PER_WAY_OUT
    assert flows([single("n1")], 0, elsewhere=1, nodes=2) - flows(everywhere, 0, nodes=2) <= PER_WAY_OUT + PER_NETWORK
