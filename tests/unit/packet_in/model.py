"""A small cloud for the packet_in tests: node n1, and one VM on each of four networks, one per gateway mode."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from flows.model import (
    Binding,
    FixedIp,
    GatewayMode,
    Network,
    NetworkAddress,
    NetworkKind,
    Node,
    Port,
    SnatAddress,
    Subnet,
    Uplink,
)
from flows.snapshot import Snapshot

MAC = "fa:16:3e:00:00:01"
MODES = tuple(GatewayMode)
SNAT = IPv4Address("203.0.113.11")
NEXT_HOP = IPv4Address("203.0.113.1")
UPLINK = 65001
EXTERNAL_KEY = 50


def subnet(mode: GatewayMode = GatewayMode.PER_HOST, **fields: object) -> Subnet:
    own = mode in (GatewayMode.SHARED, GatewayMode.SINGLE, GatewayMode.EXTERNAL)
    gateway = IPv4Address("10.0.0.1") if own else None
    values: dict[str, object] = {"id": f"s-{mode}", "cidr": IPv4Network("10.0.0.0/24"), "gateway": gateway}
    return Subnet(**{**values, **fields})  # type: ignore[arg-type]


def network(mode: GatewayMode = GatewayMode.PER_HOST, **fields: object) -> Network:
    key = MODES.index(mode) + 1
    values: dict[str, object] = {
        "id": f"net-{mode}",
        "key": key,
        "name": str(mode),
        "kind": NetworkKind.VLAN,
        "physical_network": "physnet1",
        "router_key": key,
        "segment": 100 + key,
        "gateway_mode": mode,
        "subnets": (subnet(mode),),
    }
    return Network(**{**values, **fields})  # type: ignore[arg-type]


def port(mode: GatewayMode = GatewayMode.PER_HOST, **fields: object) -> Port:
    number = MODES.index(mode)
    values: dict[str, object] = {
        "id": f"port-{mode}",
        "key": 10 + number,
        "network_id": f"net-{mode}",
        "mac": MAC,
        "fixed_ips": (FixedIp(f"s-{mode}", IPv4Address("10.0.0.5")),),
        "hostname": "web",
        "binding": Binding("n1", 100 + number, number + 1),
    }
    return Port(**{**values, **fields})  # type: ignore[arg-type]


def node(**fields: object) -> Node:
    values: dict[str, object] = {
        "name": "n1",
        "key": 1,
        "datapath_id": 0x20000000001,
        "uplinks": (Uplink("physnet1", UPLINK),),
        "gateways": (NetworkAddress("net-per_host", IPv4Address("10.0.0.2")),),
        "snat_addresses": (SnatAddress("net-out", SNAT),),
    }
    return Node(**{**values, **fields})  # type: ignore[arg-type]


def external() -> Network:
    held = Subnet("s-out", IPv4Network("203.0.113.0/24"), NEXT_HOP)
    return Network(
        *("net-out", EXTERNAL_KEY, "out", NetworkKind.FLAT, "physnet1", EXTERNAL_KEY),
        external=True,
        gateway_mode=GatewayMode.EXTERNAL,
        subnets=(held,),
    )


def cloud(networks: tuple[Network, ...] = (), ports: tuple[Port, ...] = (), node_: Node | None = None) -> Snapshot:
    """The small cloud, with these objects in the place of those of the same id."""
    held_networks = {held.id: held for held in (*map(network, MODES), external(), *networks)}
    held_ports = {held.id: held for held in (*map(port, MODES), *ports)}
    return Snapshot.build(1, held_networks.values(), held_ports.values(), [node_ or node()])
