"""Networks, their subnets, and what machines on them are told by DHCP."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from flows.model.addresses import AddressPair


class NetworkKind(StrEnum):
    FLAT = "flat"
    VLAN = "vlan"


class GatewayMode(StrEnum):
    PER_HOST = "per_host"
    SHARED = "shared"
    SINGLE = "single"
    EXTERNAL = "external"
    NONE = "none"


ROUTED_MODES = frozenset({GatewayMode.PER_HOST, GatewayMode.SHARED, GatewayMode.SINGLE})


class Ipv6Mode(StrEnum):
    """How VMs come by their addresses in an IPv6 subnet: from its prefix by themselves (RFC 4862), the same with the
    rest of the configuration by DHCPv6, or all by DHCPv6 (RFC 8415).
    """

    SLAAC = "slaac"
    STATELESS = "dhcpv6-stateless"
    STATEFUL = "dhcpv6-stateful"


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
class StaticRoute:
    """The way to `destination` for all networks of a router: through the port that has `next_hop` on this network."""

    destination: IPv4Network
    next_hop: IPv4Address


@dataclass(frozen=True, slots=True)
class Subnet:
    """`gateway` is the address of gateway modes `shared`, `single` and `external`, and of an external network's next
    hop.
    """

    id: str
    cidr: IPv4Network
    gateway: IPv4Address | None = None
    dns_servers: tuple[IPv4Address, ...] = ()
    host_routes: tuple[HostRoute, ...] = ()


@dataclass(frozen=True, slots=True)
class Ipv6Subnet:
    """`gateway` is an address beside the link-local one that all nodes of a routed network have in common; of gateway
    mode `external` and of external networks it is the router's.
    """

    id: str
    cidr: IPv6Network
    gateway: IPv6Address | None = None
    mode: Ipv6Mode = Ipv6Mode.SLAAC
    dns_servers: tuple[IPv6Address, ...] = ()


@dataclass(frozen=True, slots=True)
class Network:
    """`segment` is the VLAN id of kind `vlan`. Networks with one `router_key` are routed to each other.

    `carrier_nat` is set for good when a network is created whose range another network already uses: its ports are
    translated to their carrier address before the node's SNAT, so that no two ports share a conntrack tuple.

    What goes to `snat_exempt` keeps its source address, also where a port has a floating IP. With gateway mode
    `external` the nodes leave frames to the router alone but for those to `force_snat`. With `own_snat_address` each
    node has an SNAT address for this network alone.

    `dhcp_relays`: from where relays hand on what machines on the wire say by DHCP, to the nodes' addresses outside.

    `dns_upstreams`: whom the resolver asks for the network's ports, in this order, in place of everybody's.

    `allow_same_net_traffic`: what comes from the network's own subnets needs no security group.

    `gateway_node`: with gateway mode `single`, the one node by which the network's traffic to the outside leaves.
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
    routes: tuple[StaticRoute, ...] = ()
    snat_exempt: tuple[IPv4Network, ...] = ()
    force_snat: tuple[IPv4Network, ...] = ()
    own_snat_address: bool = False
    allow_same_net_traffic: bool = True
    gateway_node: str | None = None
    dhcp_relays: tuple[IPv4Address, ...] = ()
    dns_upstreams: tuple[IPv4Address, ...] = ()
    ipv6_subnets: tuple[Ipv6Subnet, ...] = ()

    @property
    def translated(self) -> bool:
        """True when nodes translate between the network and the outside, at least for floating IPs."""
        return not self.external and self.gateway_mode is not GatewayMode.NONE

    @property
    def routed(self) -> bool:
        """True when the nodes themselves are the network's gateway."""
        return self.gateway_mode in ROUTED_MODES

    @property
    def source_translated(self) -> bool:
        """True when what ports send outside may leave by the SNAT addresses of nodes."""
        return self.routed or (self.gateway_mode is GatewayMode.EXTERNAL and bool(self.force_snat))

    @property
    def single(self) -> bool:
        """True when one node alone is the way out."""
        return self.gateway_mode is GatewayMode.SINGLE

    def subnet(self, subnet_id: str) -> Subnet:
        """Raises KeyError when the subnet is not of this network."""
        for subnet in self.subnets:
            if subnet.id == subnet_id:
                return subnet
        raise KeyError(subnet_id)

    def subnet_with(self, address: IPv4Address) -> Subnet | None:
        return next((subnet for subnet in self.subnets if address in subnet.cidr), None)

    def virtual(self, pair: AddressPair) -> IPv4Address | None:
        """The address of a pair, if it is one that traffic from elsewhere follows to whichever port holds it."""
        address = pair.cidr.network_address
        single = pair.cidr.prefixlen == address.max_prefixlen
        return address if single and self.translated and self.subnet_with(address) is not None else None
