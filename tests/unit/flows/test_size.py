"""How many flows a node holds and what they grow with, as docs/architecture.md says under "Flows on a node"."""

from __future__ import annotations

from flows.compile import compile_node
from flows.model import GatewayMode, Network
from flows.snapshot import Snapshot
from tests.world import NODES, network, node, port

PER_LOCAL_PORT = 15
PER_NETWORK = 25
PER_NETWORK_ROUTED_TO = 14
PER_GATEWAY = 6


def flows(networks: list[Network], ports: int = 0, elsewhere: int = 0, nodes: int = 1) -> int:
    """On a node with `ports` ports on the first network, `elsewhere` more of it on another node."""
    first = networks[0]
    members = [port(key, first, key, "n1") for key in range(1, ports + 1)]
    members += [port(key, first, key, "n2") for key in range(1001, 1001 + elsewhere)]
    return len(compile_node(Snapshot.build(1, networks, members, [node(name) for name in NODES[:nodes]]), "n1"))


def shared(key: int, router_key: int) -> Network:
    return network(key, f"s{key}", f"10.{key}.0.0/20", gateway_mode=GatewayMode.SHARED, router_key=router_key)


def test_a_local_port_costs_the_same_however_many_there_are() -> None:
    one = [shared(2, 2)]
    assert flows(one, 101) - flows(one, 1) <= 100 * PER_LOCAL_PORT


def test_a_port_elsewhere_costs_nothing() -> None:
    one = [shared(2, 2)]
    assert flows(one, 1, elsewhere=500, nodes=2) == flows(one, 1, elsewhere=0, nodes=2)


def test_a_network_costs_something_where_it_is_present_or_routed_to_and_nothing_elsewhere() -> None:
    absent = flows([shared(2, 2)])
    present = flows([shared(2, 2)], 1)
    assert present - absent <= PER_NETWORK + PER_LOCAL_PORT
    assert flows([shared(2, 2), shared(3, 3)], 1) == present
    assert flows([shared(2, 2), shared(3, 2)], 1) - present <= PER_NETWORK_ROUTED_TO


def test_every_nodes_own_gateway_costs_something_where_the_network_is_present() -> None:
    per_host = network(2, "blue", "10.20.0.0/24")
    assert flows([per_host], 1, nodes=3) - flows([per_host], 1, nodes=1) <= 2 * PER_GATEWAY
