"""The read model: what the database says, as immutable values.

`Snapshot` is the one input of the compiler and of every packet_in handler. It is never changed: `Snapshot.apply`
makes the next one. Objects carry two names: `id` (a UUID, what the API speaks) and `key` (a small integer, what fits
in a register or cookie).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network
from typing import Any


class NetworkKind(StrEnum):
    FLAT = "flat"
    VLAN = "vlan"


class GatewayMode(StrEnum):
    PER_HOST = "per_host"
    SHARED = "shared"
    EXTERNAL = "external"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class DhcpOption:
    """A DHCP option with its payload as it goes on the wire (RFC 2132)."""

    code: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class HostRoute:
    """A route handed out by DHCP option 121 (RFC 3442)."""

    destination: IPv4Network
    next_hop: IPv4Address


@dataclass(frozen=True, slots=True)
class Subnet:
    """`gateway` is the address of gateway mode `shared` and `external`, and of an external network's next hop."""

    id: str
    cidr: IPv4Network
    gateway: IPv4Address | None = None
    dns_servers: tuple[IPv4Address, ...] = ()
    host_routes: tuple[HostRoute, ...] = ()


@dataclass(frozen=True, slots=True)
class Network:
    """`segment` is the VLAN id of kind `vlan`. Networks with one `router_key` are routed to each other.

    `carrier_nat` is set for good when a network is created whose range another network already uses: its ports are
    translated to their carrier address before the node's SNAT, so that no two ports share a conntrack tuple.
    """

    id: str
    key: int
    name: str
    kind: NetworkKind
    physical_network: str
    router_key: int
    project_id: str | None = None
    shared: bool = False
    external: bool = False
    segment: int | None = None
    mtu: int = 1500
    gateway_mode: GatewayMode = GatewayMode.PER_HOST
    dhcp: bool = True
    dns_domain: str = ""
    arp_responder: bool = False
    carrier_nat: bool = False
    external_network_id: str | None = None
    lease_time: int = 86400
    subnets: tuple[Subnet, ...] = ()
    dhcp_options: tuple[DhcpOption, ...] = ()

    @property
    def routed(self) -> bool:
        """True when the nodes themselves are the network's gateway."""
        return self.gateway_mode in (GatewayMode.PER_HOST, GatewayMode.SHARED)

    def subnet(self, subnet_id: str) -> Subnet:
        """Raises KeyError when the subnet is not of this network."""
        for subnet in self.subnets:
            if subnet.id == subnet_id:
                return subnet
        raise KeyError(subnet_id)


@dataclass(frozen=True, slots=True)
class FixedIp:
    subnet_id: str
    address: IPv4Address


@dataclass(frozen=True, slots=True)
class Binding:
    """Where a port's interface is. `zone` is the port's conntrack zone, unique on its node."""

    node: str
    ofport: int
    zone: int


@dataclass(frozen=True, slots=True)
class Port:
    """`mac` is lower case with colons. `node` is where the port is scheduled, `binding` where it has been seen."""

    id: str
    key: int
    network_id: str
    mac: str
    fixed_ips: tuple[FixedIp, ...] = ()
    name: str = ""
    hostname: str = ""
    project_id: str | None = None
    node: str | None = None
    binding: Binding | None = None
    dhcp_options: tuple[DhcpOption, ...] = ()


@dataclass(frozen=True, slots=True)
class NetworkAddress:
    """An address that a node holds on a network: its gateway address, or its SNAT address on an external network."""

    network_id: str
    address: IPv4Address


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A next hop on an external network, as the node resolved it by ARP (RFC 826)."""

    network_id: str
    address: IPv4Address
    mac: str


@dataclass(frozen=True, slots=True)
class Uplink:
    """The patch port of `br-int` towards a physical network."""

    physical_network: str
    ofport: int


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    key: int
    datapath_id: int
    uplinks: tuple[Uplink, ...] = ()
    gateways: tuple[NetworkAddress, ...] = ()
    snat_addresses: tuple[NetworkAddress, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()

    def uplink(self, physical_network: str) -> int | None:
        """The uplink's OpenFlow port number, or None when the node does not reach that physical network."""
        for uplink in self.uplinks:
            if uplink.physical_network == physical_network:
                return uplink.ofport
        return None

    def gateway(self, network_id: str) -> IPv4Address | None:
        return _address_on(self.gateways, network_id)

    def snat_address(self, network_id: str) -> IPv4Address | None:
        return _address_on(self.snat_addresses, network_id)

    def neighbour(self, network_id: str, address: IPv4Address) -> str | None:
        """The MAC of a resolved next hop, or None."""
        for neighbour in self.neighbours:
            if neighbour.network_id == network_id and neighbour.address == address:
                return neighbour.mac
        return None


def _address_on(addresses: Iterable[NetworkAddress], network_id: str) -> IPv4Address | None:
    for held in addresses:
        if held.network_id == network_id:
            return held.address
    return None


@dataclass(frozen=True, slots=True)
class NetworkChange:
    id: str
    new: Network | None


@dataclass(frozen=True, slots=True)
class PortChange:
    id: str
    new: Port | None


@dataclass(frozen=True, slots=True)
class NodeChange:
    """`id` is the node's name."""

    id: str
    new: Node | None


Change = NetworkChange | PortChange | NodeChange

_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything the controller knows at one revision. Build it with `Snapshot.build`, not by hand: it has indexes."""

    revision: int
    networks: Mapping[str, Network] = field(default_factory=dict)
    ports: Mapping[str, Port] = field(default_factory=dict)
    nodes: Mapping[str, Node] = field(default_factory=dict)
    ports_by_node: Mapping[str, frozenset[str]] = field(default_factory=dict)
    ports_by_network: Mapping[str, frozenset[str]] = field(default_factory=dict)
    ports_by_key: Mapping[int, str] = field(default_factory=dict)
    ports_by_ofport: Mapping[tuple[str, int], str] = field(default_factory=dict)
    networks_by_key: Mapping[int, str] = field(default_factory=dict)
    networks_by_router: Mapping[int, frozenset[str]] = field(default_factory=dict)
    external_networks: Mapping[int, str] = field(default_factory=dict)
    # how many bound ports a (node, network) pair has: asked for every change, so it is counted, not searched
    presence: Mapping[tuple[str, str], int] = field(default_factory=dict)

    @staticmethod
    def build(
        revision: int, networks: Iterable[Network] = (), ports: Iterable[Port] = (), nodes: Iterable[Node] = ()
    ) -> Snapshot:
        changes: list[Change] = [NetworkChange(network.id, network) for network in networks]
        changes += [PortChange(port.id, port) for port in ports]
        changes += [NodeChange(node.name, node) for node in nodes]
        return Snapshot(0).apply(revision, changes)

    def apply(self, revision: int, changes: Iterable[Change]) -> Snapshot:
        """The snapshot after these changes. Costs a shallow copy of the maps that change, not of what is in them."""
        draft = _Draft(self)
        for change in changes:
            match change:
                case NetworkChange(id=id_, new=network):
                    draft.network(id_, network)
                case PortChange(id=id_, new=port):
                    draft.port(id_, port)
                case NodeChange(id=id_, new=node):
                    draft.node(id_, node)
        return replace(self, revision=revision, **draft.maps)

    def local_ports(self, node: str) -> list[Port]:
        """The ports bound to a node."""
        return [self.ports[port_id] for port_id in self.ports_by_node.get(node, _NONE)]

    def present(self, node: str, network_id: str) -> bool:
        """True when the node has a port on the network."""
        return self.presence.get((node, network_id), 0) > 0

    def router_networks(self, router_key: int) -> list[Network]:
        """The networks that are routed to each other, by key."""
        members = self.networks_by_router.get(router_key, _NONE)
        return sorted((self.networks[id_] for id_ in members), key=lambda network: network.key)

    def external_network(self, network: Network) -> Network | None:
        """Where a network's traffic to the outside leaves: its own choice, or the external network made first."""
        if network.external_network_id is not None:
            return self.networks.get(network.external_network_id)
        if not self.external_networks:
            return None
        return self.networks[self.external_networks[min(self.external_networks)]]

    def port_at(self, node: str, ofport: int) -> Port | None:
        port_id = self.ports_by_ofport.get((node, ofport))
        return None if port_id is None else self.ports[port_id]


class _Draft:
    """Copies each map of a snapshot once, when it is first written."""

    def __init__(self, base: Snapshot) -> None:
        self._base = base
        self.maps: dict[str, dict[Any, Any]] = {}

    def _map(self, name: str, base: Mapping[Any, Any]) -> dict[Any, Any]:
        if name not in self.maps:
            self.maps[name] = dict(base)
        return self.maps[name]

    def _store(self, name: str, base: Mapping[Any, Any], key: object, value: object | None) -> object | None:
        target = self._map(name, base)
        old = target.get(key)
        if value is None:
            target.pop(key, None)
        else:
            target[key] = value
        return old

    def _index(self, name: str, base: Mapping[Any, Any], key: object, member: str, add: bool) -> None:
        target = self._map(name, base)
        members = target.get(key, _NONE)
        assert isinstance(members, frozenset)
        members = members | {member} if add else members - {member}
        if members:
            target[key] = members
        else:
            target.pop(key, None)

    def network(self, id_: str, new: Network | None) -> None:
        base = self._base
        old = self._store("networks", base.networks, id_, new)
        for network, add in ((old, False), (new, True)):
            if isinstance(network, Network):
                self._store("networks_by_key", base.networks_by_key, network.key, id_ if add else None)
                self._index("networks_by_router", base.networks_by_router, network.router_key, id_, add)
                if network.external:
                    self._store("external_networks", base.external_networks, network.key, id_ if add else None)

    def port(self, id_: str, new: Port | None) -> None:
        base = self._base
        old = self._store("ports", base.ports, id_, new)
        for port, add in ((old, False), (new, True)):
            if not isinstance(port, Port):
                continue
            self._store("ports_by_key", base.ports_by_key, port.key, id_ if add else None)
            self._index("ports_by_network", base.ports_by_network, port.network_id, id_, add)
            if port.binding is None:
                continue
            binding = port.binding
            self._index("ports_by_node", base.ports_by_node, binding.node, id_, add)
            self._place(binding, id_, add)
            self._count((binding.node, port.network_id), 1 if add else -1)

    def _place(self, binding: Binding, id_: str, add: bool) -> None:
        places = self._map("ports_by_ofport", self._base.ports_by_ofport)
        place = (binding.node, binding.ofport)
        if add:
            places[place] = id_
        elif places.get(place) == id_:  # another port may have taken the place within the same change
            del places[place]

    def _count(self, key: tuple[str, str], by: int) -> None:
        counts = self._map("presence", self._base.presence)
        count = counts.get(key, 0)
        assert isinstance(count, int)
        if count + by:
            counts[key] = count + by
        else:
            counts.pop(key, None)

    def node(self, id_: str, new: Node | None) -> None:
        self._store("nodes", self._base.nodes, id_, new)
