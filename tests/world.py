"""A small cloud to test with: three nodes, a flat network, VLAN networks of two projects, an external network."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from flows.model import (
    Binding,
    Change,
    DatapathType,
    Direction,
    FixedIp,
    FloatingIp,
    GatewayMode,
    Neighbour,
    Network,
    NetworkAddress,
    NetworkKind,
    Node,
    NodeChange,
    Port,
    PortChange,
    SecurityGroup,
    SecurityGroupChange,
    SecurityRule,
    Service,
    SnatAddress,
    Subnet,
    Uplink,
)
from flows.snapshot import Snapshot

NODES = ("n1", "n2", "n3")
EXTERNAL = "net-external"
NEXT_HOP_MAC = "02:00:00:00:00:fe"


def subnet(cidr: str, gateway: str | None = None) -> Subnet:
    return Subnet(f"subnet-{cidr}", IPv4Network(cidr), IPv4Address(gateway) if gateway else None)


def network(key: int, name: str, cidr: str, **values: object) -> Network:
    defaults: dict[str, object] = {
        "kind": NetworkKind.VLAN,
        "segment": 100 + key,
        "physical_network": "physnet1",
        "router_key": key,
        "subnets": (subnet(cidr),),
    }
    return Network(id=f"net-{name}", key=key, name=name, **(defaults | values))  # type: ignore[arg-type]


def networks() -> list[Network]:
    return [
        network(1, "flat", "10.10.0.0/24", kind=NetworkKind.FLAT, segment=None, shared=True),
        network(2, "blue", "10.20.0.0/24", project_id="blue"),
        network(3, "blue2", "10.21.0.0/24", project_id="blue", router_key=2),
        network(4, "red", "10.20.0.0/24", project_id="red", carrier_nat=True),
        network(
            9,
            "external",
            "203.0.113.0/24",
            kind=NetworkKind.FLAT,
            segment=None,
            physical_network="physnet-ext",
            gateway_mode=GatewayMode.EXTERNAL,
            external=True,
            subnets=(subnet("203.0.113.0/24", "203.0.113.1"),),
        ),
    ]


def node(name: str) -> Node:
    index = int(name[1:])
    subnets = {"net-flat": "10.10.0", "net-blue": "10.20.0", "net-blue2": "10.21.0", "net-red": "10.20.0"}
    return Node(
        name=name,
        key=index,
        datapath_id=index,
        uplinks=(Uplink("physnet1", 65001), Uplink("physnet-ext", 65002)),
        gateways=tuple(NetworkAddress(id_, IPv4Address(f"{base}.{index}")) for id_, base in subnets.items()),
        snat_addresses=(SnatAddress(EXTERNAL, IPv4Address(f"203.0.113.{10 + index}")),),
        neighbours=(Neighbour(EXTERNAL, IPv4Address("203.0.113.1"), NEXT_HOP_MAC),),
    )


def port(key: int, on: Network, host: int, node: str | None, ofport: int | None = None) -> Port:
    """Port number `key` with the `host`th address of the network's subnet, bound when a node is given."""
    first = on.subnets[0]
    binding = None if node is None else Binding(node, ofport if ofport is not None else 100 + key, key)
    return Port(
        id=f"port-{key}",
        key=key,
        network_id=on.id,
        mac=f"fa:16:3e:00:{key >> 8:02x}:{key & 255:02x}",
        fixed_ips=(FixedIp(first.id, first.cidr.network_address + host),),
        hostname=f"vm{key}",
        node=node,
        binding=binding,
    )


def floating_ip(key: int, port: Port | None = None) -> FloatingIp:
    """203.0.113.100 + key, of a port's first address when one is given."""
    return FloatingIp(
        id=f"floating-{key}",
        key=key,
        network_id=EXTERNAL,
        address=IPv4Address(f"203.0.113.{100 + key}"),
        port_id=None if port is None else port.id,
        fixed_ip=None if port is None else port.fixed_ips[0].address,
    )


def cloud() -> Snapshot:
    """Two ports on each of flat, blue, blue2 and red: the first on n1, the second on n2."""
    nets = networks()
    ports = []
    for index, net in enumerate(nets[:4]):
        for number, name in enumerate(NODES[:2]):
            ports.append(port(10 * (index + 1) + number, net, 10 + number, name))
    return Snapshot.build(1, nets, ports, [node(name) for name in NODES])


def on_kernel(snapshot: Snapshot) -> Snapshot:
    """The same cloud, whose nodes all have the kernel's datapath."""
    nodes = [replace(node, datapath_type=DatapathType.SYSTEM) for node in snapshot.nodes.values()]
    return snapshot.apply(9, [NodeChange(node.name, node) for node in nodes])


def rule(
    key: int,
    protocol: int | None = None,
    first: int | None = None,
    last: int | None = None,
    *,
    remote: str | None = None,
    direction: Direction = Direction.INGRESS,
    log: bool = False,
    **icmp: int,
) -> SecurityRule:
    """`remote` is a range, or the id of a group."""
    cidr = IPv4Network(remote) if remote is not None and "/" in remote else None
    group_id = remote if cidr is None else None
    service = Service(protocol, first, first if last is None else last, icmp.get("icmp_type"), icmp.get("icmp_code"))
    return SecurityRule(f"rule-{key}", key, direction, service, cidr, group_id, log)


def egress(key: int, *args: int, remote: str | None = None) -> SecurityRule:
    return rule(key, *args, remote=remote, direction=Direction.EGRESS)


def security_group(key: int, *rules: SecurityRule, **fields: object) -> SecurityGroup:
    return SecurityGroup(f"group-{key}", key, f"group {key}", "blue", rules=rules, **fields)  # type: ignore[arg-type]


OPEN = security_group(1, egress(1), rule(2))
"""Everything in and out, by conntrack."""


def filtered(snapshot: Snapshot, *groups: SecurityGroup, members: tuple[int, ...] | None = None) -> Snapshot:
    """The snapshot with its ports, or those with these keys, in the groups."""
    ids = tuple(group.id for group in sorted(groups, key=lambda group: group.key))
    changes: list[Change] = [SecurityGroupChange(group.id, group) for group in groups]
    changes += [
        PortChange(port.id, replace(port, security_groups=ids))
        for port in snapshot.ports.values()
        if members is None or port.key in members
    ]
    return snapshot.apply(snapshot.revision + 1, changes)
