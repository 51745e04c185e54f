"""The read model: what the database says, as immutable values. `flows.snapshot` holds them together.

Objects carry two names: `id` (a UUID, what the API speaks) and `key` (a small integer, what fits in a register or
cookie).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network


class NetworkKind(StrEnum):
    FLAT = "flat"
    VLAN = "vlan"


class GatewayMode(StrEnum):
    PER_HOST = "per_host"
    SHARED = "shared"
    SINGLE = "single"
    EXTERNAL = "external"
    NONE = "none"


class Ipv6Mode(StrEnum):
    """How VMs come by their addresses in an IPv6 subnet: from its prefix by themselves (RFC 4862), the same with the
    rest of the configuration by DHCPv6, or all by DHCPv6 (RFC 8415).
    """

    SLAAC = "slaac"
    STATELESS = "dhcpv6-stateless"
    STATEFUL = "dhcpv6-stateful"


class Family(IntEnum):
    """The IP version."""

    IPV4 = 4
    IPV6 = 6


ROUTED_MODES = frozenset({GatewayMode.PER_HOST, GatewayMode.SHARED, GatewayMode.SINGLE})


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


class Direction(StrEnum):
    """As the VM sees it: `ingress` is what it receives, `egress` what it sends."""

    INGRESS = "ingress"
    EGRESS = "egress"


@dataclass(frozen=True, slots=True)
class Service:
    """What a rule is about. `protocol`: an IP protocol number, None for all.

    `first` to `last`: destination ports of TCP and UDP. `icmp_type` and `icmp_code`: of ICMP. None means any.
    """

    protocol: int | None = None
    first: int | None = None
    last: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None


@dataclass(frozen=True, slots=True)
class SecurityRule:
    """Lets in, or out, a service from, or to, `remote_cidr` or the members of `remote_group_id` (both None: anybody).

    It is about packets of its `family` alone, which `remote_cidr` is of, too.

    `log`: connections that begin because of it are reported.
    """

    id: str
    key: int
    direction: Direction
    service: Service = Service()
    remote_cidr: IPv4Network | IPv6Network | None = None
    remote_group_id: str | None = None
    log: bool = False
    family: Family = Family.IPV4


@dataclass(frozen=True, slots=True)
class SecurityGroup:
    """What its members may send and receive; what no rule allows is dropped. `rules` by key.

    `stateful`: replies to what is allowed are allowed. `log_accepted` and `log_dropped` report the connections that
    begin, and the packets of its members that nothing allows.
    """

    id: str
    key: int
    name: str
    project_id: str | None = None
    stateful: bool = True
    rules: tuple[SecurityRule, ...] = ()
    log_accepted: bool = False
    log_dropped: bool = False


@dataclass(frozen=True, slots=True)
class ProviderRule:
    """What the operator drops for all VMs, whatever their groups say: a service from or to `cidr`.

    `direction` None: both ways.
    """

    id: str
    key: int
    cidr: IPv4Network
    service: Service = Service()
    direction: Direction | None = None


@dataclass(frozen=True, slots=True)
class AddressPair:
    """An address, or a range, that a port may use beside its own, with its own MAC or another (VRRP, RFC 5798)."""

    cidr: IPv4Network
    mac: str


@dataclass(frozen=True, slots=True)
class OwnAddress:
    """An address that is sent to a port, and the port's MAC for it."""

    address: IPv4Address
    mac: str


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """A limit in kilobit/s, and how much more, in kilobit, may pass at once after a pause."""

    rate: int
    burst: int


@dataclass(frozen=True, slots=True)
class Qos:
    """What a port may send (`egress`) and receive (`ingress`), and the DSCP mark (RFC 2474) of what it sends."""

    egress: Bandwidth | None = None
    ingress: Bandwidth | None = None
    dscp: int | None = None


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


@dataclass(frozen=True, slots=True)
class FixedIp:
    subnet_id: str
    address: IPv4Address


@dataclass(frozen=True, slots=True)
class Ipv6FixedIp:
    subnet_id: str
    address: IPv6Address


@dataclass(frozen=True, slots=True)
class Binding:
    """Where a port's interface is. `zone` is the port's conntrack zone, unique on its node."""

    node: str
    ofport: int
    zone: int


class MigrationPhase(StrEnum):
    PREPARED = "prepared"  # another node waits for the VM
    MOVED = "moved"  # the node that the VM has left passes on what still comes there


@dataclass(frozen=True, slots=True)
class Migration:
    """A VM on its way between the node of its port's binding, which serves it, and that of `other`."""

    phase: MigrationPhase
    other: Binding


@dataclass(frozen=True, slots=True)
class Port:
    """`mac` is lower case with colons. `node` is where the port is scheduled, `binding` where it has been seen.

    `security_groups` holds ids in the order of keys; None: the port is not filtered (its network, or the port itself,
    says so), and () means that nothing is allowed. `port_security` False: it may send from any address. `held`: what
    of its pairs it has now, as far as it has said so. `device_id`: the machine that it belongs to, "" if nobody has
    said. `metadata`: the revision of what the API was given for its machine, None where it was given nothing.
    """

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
    migration: Migration | None = None
    security_groups: tuple[str, ...] | None = None
    port_security: bool = True
    address_pairs: tuple[AddressPair, ...] = ()
    held: tuple[OwnAddress, ...] = ()
    qos: Qos = Qos()
    device_id: str = ""
    ipv6_addresses: tuple[Ipv6FixedIp, ...] = ()
    metadata: int | None = None

    @property
    def machine_id(self) -> str:
        """Of one project: the port's machine, which is the port itself where nobody has said."""
        return self.device_id or self.id

    @property
    def bindings(self) -> tuple[Binding, ...]:
        """All nodes that have flows for the port, the one that serves it first."""
        if self.binding is None:
            return ()
        return (self.binding,) if self.migration is None else (self.binding, self.migration.other)

    @property
    def called(self) -> str:
        """What people call it: its name, else its host name; "" where it has neither."""
        return self.name or self.hostname

    @property
    def assigned(self) -> tuple[IPv4Address | IPv6Address, ...]:
        """The addresses that it has been given, of both families."""
        return (*(one.address for one in self.fixed_ips), *(one.address for one in self.ipv6_addresses))

    @property
    def own(self) -> tuple[OwnAddress, ...]:
        """What is sent to the port, but for what is behind a static route: its fixed IPs, and what it holds."""
        return (*(OwnAddress(fixed_ip.address, self.mac) for fixed_ip in self.fixed_ips), *self.held)

    @property
    def macs(self) -> frozenset[str]:
        """What the port may send from."""
        return frozenset({self.mac, *(pair.mac for pair in self.address_pairs)})

    @property
    def addresses(self) -> tuple[IPv4Network, ...]:
        """What the port may send from, but for what is behind a static route."""
        return (*(IPv4Network(fixed_ip.address) for fixed_ip in self.fixed_ips), *(p.cidr for p in self.address_pairs))

    @property
    def member_addresses(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """What is meant by the port where a rule names one of its security groups."""
        return (*self.addresses, *(IPv6Network(one.address) for one in self.ipv6_addresses))

    @property
    def seats(self) -> tuple[Binding, ...]:
        """Where the VM may send from: not where it has left."""
        moved = self.migration is not None and self.migration.phase is MigrationPhase.MOVED
        return self.bindings[:1] if moved else self.bindings

    def seat(self, node: str) -> Binding | None:
        """The port's interface on a node, if the VM may send from there."""
        return next((seat for seat in self.seats if seat.node == node), None)


@dataclass(frozen=True, slots=True)
class PortForwarding:
    """`first` to `last` of `protocol` (an IP protocol with ports) at a floating IP is a range that begins with `to` at
    a port's `fixed_ip`.
    """

    id: str
    key: int
    protocol: int
    first: int
    last: int
    port_id: str
    fixed_ip: IPv4Address
    to: int


@dataclass(frozen=True, slots=True)
class FloatingIp:
    """An address of an external network that stands for one address of a port, or whose ports are forwarded to several.
    It has `port_id` and `fixed_ip`, or `port_forwardings`, or neither.
    """

    id: str
    key: int
    network_id: str
    address: IPv4Address
    project_id: str | None = None
    port_id: str | None = None
    fixed_ip: IPv4Address | None = None
    port_forwardings: tuple[PortForwarding, ...] = ()

    @property
    def port_ids(self) -> frozenset[str]:
        """The ports that it leads to."""
        ports = frozenset(forwarding.port_id for forwarding in self.port_forwardings)
        return ports if self.port_id is None else ports | {self.port_id}


class ZoneScope(StrEnum):
    """Whose VMs are told what a zone holds: those of its project, or all."""

    PRIVATE = "private"
    PUBLIC = "public"


class RecordType(StrEnum):
    """What a zone may hold (RFC 1035, 3596, 2782). The zone itself supplies SOA and NS."""

    A = "A"
    AAAA = "AAAA"
    CNAME = "CNAME"
    MX = "MX"
    PTR = "PTR"
    SRV = "SRV"
    TXT = "TXT"


@dataclass(frozen=True, slots=True)
class DnsRecord:
    """`name` is whole, in lower case and without a dot at its end, and so are names within `data`, which is as in a
    master file (RFC 1035, 5.1), but that of TXT: its text alone. `ttl` is in seconds. With `floating_ip_id` it goes
    when that is released.
    """

    id: str
    name: str
    type: RecordType
    data: str
    ttl: int
    floating_ip_id: str | None = None


@dataclass(frozen=True, slots=True)
class DnsZone:
    """`name` as a record's. `records` by their name, each name's in order of type and data.

    A name that only has others below it is among `records` with none.

    `network_ids`: ports of these networks have names in the zone, if they are of its project or it is of none. `ttl`
    is that of these names, and of answers that there is nothing (RFC 2308).
    """

    id: str
    key: int
    name: str
    scope: ZoneScope = ZoneScope.PRIVATE
    project_id: str | None = None
    ttl: int = 60
    network_ids: tuple[str, ...] = ()
    records: Mapping[str, tuple[DnsRecord, ...]] = field(default_factory=dict)

    def seen_by(self, port: Port) -> bool:
        """Whether a port's VM is told what the zone holds."""
        return self.scope is ZoneScope.PUBLIC or self.project_id == port.project_id

    def names(self, port: Port) -> bool:
        """Whether a port on one of its networks has a name in the zone."""
        return self.project_id in (None, port.project_id)


@dataclass(frozen=True, slots=True)
class NetworkAddress:
    """An address that a node holds as its gateway address in one of a network's subnets."""

    network_id: str
    address: IPv4Address


@dataclass(frozen=True, slots=True)
class SnatAddress:
    """An address of an external network that a node translates to.

    `for_network_id` names the one network that it is for, None means all that have none of their own. `host`: the
    address is that of the node's own host, which answers ARP for it and keeps all ports but those of `HOST_SNAT_PORTS`.
    """

    network_id: str
    address: IPv4Address
    for_network_id: str | None = None
    host: bool = False


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A next hop on an external network, as the node resolved it by ARP (RFC 826) or ND (RFC 4861)."""

    network_id: str
    address: IPv4Address | IPv6Address
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
    snat_addresses: tuple[SnatAddress, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()

    def uplink(self, physical_network: str) -> int | None:
        """The uplink's OpenFlow port number, or None when the node does not reach that physical network."""
        for uplink in self.uplinks:
            if uplink.physical_network == physical_network:
                return uplink.ofport
        return None

    def gateway(self, network_id: str, cidr: IPv4Network) -> IPv4Address | None:
        """What the node holds in the subnet of a network with this range, or None."""
        for held in self.gateways:
            if held.network_id == network_id and held.address in cidr:
                return held.address
        return None

    def snat_address(self, network_id: str, for_network_id: str | None = None) -> SnatAddress | None:
        """What the node holds on an external network, for one network alone or for all that have none of their own."""
        for held in self.snat_addresses:
            if held.network_id == network_id and held.for_network_id == for_network_id:
                return held
        return None

    def neighbour(self, network_id: str, address: IPv4Address | IPv6Address) -> str | None:
        """The MAC of a resolved next hop, or None."""
        for neighbour in self.neighbours:
            if neighbour.network_id == network_id and neighbour.address == address:
                return neighbour.mac
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


@dataclass(frozen=True, slots=True)
class FloatingIpChange:
    id: str
    new: FloatingIp | None


@dataclass(frozen=True, slots=True)
class SecurityGroupChange:
    id: str
    new: SecurityGroup | None


@dataclass(frozen=True, slots=True)
class ProviderRuleChange:
    id: str
    new: ProviderRule | None


@dataclass(frozen=True, slots=True)
class DnsZoneChange:
    id: str
    new: DnsZone | None


Change = (
    NetworkChange
    | PortChange
    | NodeChange
    | FloatingIpChange
    | SecurityGroupChange
    | ProviderRuleChange
    | DnsZoneChange
)
