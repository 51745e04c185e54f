"""What goes into the store, what comes out of it, and how it says no: plain values, no SQL.

The store is one object, `controller.store.Store`. Every write is one transaction and answers
`Written(revision, value)`; `revision` is the journal revision after it (the current one when nothing had to change).
`actor` is who asked.

    Store(url, *, vlan_range=(100, 4000), clock=time.time, rng=None, on_commit=None, limits=Limits(),
          holds=HoldPolicy())
        url: SQLAlchemy URL; a new database gets its tables, one of another schema revision raises SchemaError.
        on_commit(revision) is called after each commit that wrote to the journal, outside of every lock.
    close() -> None

    create_network(spec: NetworkSpec, actor: str, *, by_project=False) -> Written[NetworkRecord]
        by_project: one more of those that a project may make itself (Exhausted `quota_exceeded`)
    update_network(network_id: str, changes: Mapping[str, Any], actor: str, *, expected_revision: int | None = None,
        by_project: str | None = None) -> Written[NetworkRecord]
        by_project, here and below: a project does it, which may not have the names of others (dns_ownership)
        changes: name, mtu, dhcp, dns_domain, arp_responder, external_network_id, lease_time, dhcp_options,
        ntp_servers, routes, snat_exempt, force_snat, own_snat_address, dhcp_relays, dns_upstreams, router,
        allow_same_net_traffic, filtering, assignable (typed as in NetworkSpec) and subnets: all that it is to have.
        One with a known cidr and the same gateway (or None) has its allocation_ranges, reserved, dns_servers and
        host_routes replaced, one with an unknown cidr is added, and one that is missing goes: Conflict `subnet_in_use`
        while it has addresses. So with ipv6_subnets, where addresses that follow from MACs go with their subnet. Else
        Invalid `immutable`.
    delete_network(network_id: str, actor: str) -> Written[NetworkRecord]
    get_network(network_id: str) -> NetworkRecord
    list_networks(*, name=None, project_id=None, visible_to=None, doubtful=False, limit=None, marker=None)
        -> list[NetworkRecord]
        visible_to: the networks of this project and those that are shared or external.

    create_ports(specs: Sequence[PortSpec], actor: str, *, by_project=None) -> Written[list[PortRecord]]   all or none
    update_port(port_id: str, changes: Mapping[str, Any], actor: str, *, by_project=None) -> Written[PortRecord]
        changes: name, hostname, device_id, node, interface_name, dhcp_options, fixed_ips, security_groups,
        port_security, address_pairs, qos (typed as in PortSpec).
    delete_port(port_id: str, actor: str) -> Written[PortRecord]
    prepare_binding, activate_binding, withdraw_binding(port_id: str, node: str, actor: str) -> Written[PortRecord]
        have another node expect the port, have it served there, have it expected no more
    end_moves(older_than_s: float) -> Written[int]                   value: how many are over
    hold_address(port_id: str, address: IPv4Address, mac: str) -> Written[bool]
        the port has this address of its pairs, and what leads to it leads there; value: it was news
    get_port(port_id: str) -> PortRecord
    list_ports(*, name=None, project_id=None, network_id=None, node=None, device_id=None, address=None,
               refused=False, limit=None, marker=None) -> list[PortRecord]
        node: bound to it, or scheduled on it and bound nowhere. address: a pattern (see `address_search`)
    Lists are in order of creation; marker is the id (for nodes: name) of the last one seen.

    put_node(spec: NodeSpec, actor: str) -> Written[NodeRecord]
    delete_node(name: str, actor: str) -> Written[NodeRecord]
    get_node(name: str) -> NodeRecord
    list_nodes(*, limit=None, marker=None) -> list[NodeRecord]
    report_interfaces(node: str, report: InterfaceReport, actor: str = "agent") -> Written[dict[str, str]]
        value: iface_id -> "bound" | "unknown" | "refused: <why>"
    interface_claims(node: str, names: Sequence[str]) -> dict[str, str]
        which ports interfaces without an iface-id are, by their names
    node_problems(name: str) -> tuple[str, ...]
    learn_neighbour(node: str, network_id: str, address: IPv4Address | IPv6Address, mac: str) -> Written[bool]
        True: it was news.
    release_idle_gateways(older_than_s: float) -> Written[int]                  value: how many were given back
    record_leases(batch: Iterable[LeaseRecord]) -> int             no journal; ports that are gone are skipped
    list_leases(*, port_id=None, network_id=None, project_id=None, address=None, state=None, limit=None, marker=None)
        -> list[Lease]           as they are now, by port; marker is the id of the last one seen

    revision() -> int
    load_snapshot() -> flows.model.Snapshot
    changes_since(revision: int) -> tuple[int, tuple[flows.model.Change, ...]]
        one per object, as it is now; new=None if gone
    journal(*, after=0, limit=100, kind=None, object_id=None) -> list[JournalEntry]

Errors are `StoreError`s; `code` is stable and means (HTTP status in brackets is a proposal, also in `status`):
    NotFound [404]   network_unknown port_unknown node_unknown binding_unknown address_pair_unknown
    Invalid  [400]   cidr_invalid cidr_reserved gateway_outside_subnet gateway_missing gateway_invalid
                     gateway_mode_invalid next_hop_invalid range_invalid segment_invalid physical_network_unknown
                     subnets_invalid external_network_unknown subnet_unknown address_outside_subnet address_reserved
                     mac_invalid id_invalid datapath_id_invalid marker_unknown immutable unknown_field
                     option_unfit route_invalid router_invalid address_pattern_invalid
    Conflict [409]   cidr_overlap vlan_in_use physical_network_in_use network_in_use subnet_in_use address_in_use
                     network_changed mac_in_use port_exists datapath_id_in_use serial_stale write_conflict
                     port_unbound binding_exists binding_moved binding_unseen binding_active node_unfit
    Exhausted [409]  subnet_full no_free_vlan no_free_mac no_free_key
    Unavailable [503]  database_unavailable database_read_only database_full outcome_unknown
    Busy     [503]   database_busy (also an Unavailable)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import Any, Generic, TypeAlias, TypeVar

from controller.store.ipv6_specs import Ipv6SubnetSpec
from controller.store.policy_specs import AddressPairSpec, GroupName
from flows.model import DatapathType, FloatingIp, GatewayMode, HostRoute, NetworkKind, Node, Port, Qos, StaticRoute

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Written(Generic[T]):
    """The answer of a write. `revision` is the last journal revision of its transaction."""

    revision: int
    value: T


@dataclass(frozen=True, slots=True)
class AddressRange:
    """`first` to `last`, both included."""

    first: IPv4Address
    last: IPv4Address

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class HostAddress:
    """The address that the node's own host has on an external network."""

    address: IPv4Address

    def __str__(self) -> str:
        return f"host:{self.address}"


# What a node may leave with: this address, or one of these, or its host's.
SnatChoice: TypeAlias = IPv4Address | AddressRange | HostAddress


@dataclass(frozen=True, slots=True)
class DhcpOptionSpec:
    """A free DHCP option. `payload` is what goes on the wire; `value` and `type` are how the user wrote it."""

    code: int
    payload: bytes
    value: str = ""
    type: str | None = None


@dataclass(frozen=True, slots=True)
class SubnetSpec:
    """`allocation_ranges` empty: the whole range. `id` is set by the store, and so is a gateway of mode `shared`."""

    cidr: IPv4Network
    gateway: IPv4Address | None = None
    allocation_ranges: tuple[AddressRange, ...] = ()
    reserved: tuple[AddressRange, ...] = ()
    dns_servers: tuple[IPv4Address, ...] = ()
    host_routes: tuple[HostRoute, ...] = ()
    id: str | None = None


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """`segment` None: untagged (flat), or the next free VLAN. `gateway_mode` None: `per_host`, `external` if external.

    `subnets`: 1 to MOST_SUBNETS, the one that addresses are chosen from first comes first. `ntp_servers` becomes DHCP
    option 42 of the model. `router`: `project` (with the project's other private networks), `isolated`, or the id of a
    network to be routed with.

    `allow_same_net_traffic` None: unless somebody else can be on the network, because it is shared or external.
    `filtering`: its ports obey their security groups. `assignable`: the operator's, to be given to a project and taken
    back; without a project it is free.

    `gateway_node`: with gateway mode `single`, the operator's choice of the node that is the way out; None: elected.
    """

    name: str
    kind: NetworkKind
    physical_network: str
    subnets: tuple[SubnetSpec, ...]
    project_id: str | None = None
    shared: bool = False
    external: bool = False
    segment: int | None = None
    mtu: int = 1500
    gateway_mode: GatewayMode | None = None
    dhcp: bool = True
    dns_domain: str = ""
    arp_responder: bool = False
    external_network_id: str | None = None
    lease_time: int = 86400
    dhcp_options: tuple[DhcpOptionSpec, ...] = ()
    ntp_servers: tuple[IPv4Address, ...] = ()
    routes: tuple[StaticRoute, ...] = ()
    snat_exempt: tuple[IPv4Network, ...] = ()
    force_snat: tuple[IPv4Network, ...] = ()
    own_snat_address: bool = False
    dhcp_relays: tuple[IPv4Address, ...] = ()
    dns_upstreams: tuple[IPv4Address, ...] = ()
    router: str = "project"
    allow_same_net_traffic: bool | None = None
    filtering: bool = True
    assignable: bool = False
    gateway_node: str | None = None
    ipv6_subnets: tuple[Ipv6SubnetSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class NetworkRecord:
    """A stored network. `spec` is complete: segment, gateway mode, gateway and subnet ids are filled in.

    `reached`: a registered node has its physical network. `gateway_node`: that of mode `single`, chosen or elected.
    `problems`: why it has none that serves, one line each. The model's feed leaves them out.
    """

    id: str
    key: int
    router_key: int
    carrier_nat: bool
    spec: NetworkSpec
    created_at: float
    revision: int
    reached: bool
    gateway_node: str | None = None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FixedIpSpec:
    """A wanted address: this one, or any of this subnet, or (both None) any IPv4 address of the network."""

    address: IPv4Address | IPv6Address | None = None
    subnet_id: str | None = None


@dataclass(frozen=True, slots=True)
class PortSpec:
    """Without an IPv4 address among `fixed_ips` one is chosen; of IPv6 there is one in each subnet (`ipv6_ports`).
    `id` None: generated. `project_id` None: the network's. `node`: scheduled. `interface_name`: an interface of that
    name without an iface-id is the port's.

    `security_groups`: names or ids of groups of its project; None: the one called `default`, (): nothing is allowed.
    Without `port_security` a port may send from any address; then it has no groups and no pairs.
    """

    network_id: str
    name: str = ""
    hostname: str = ""
    project_id: str | None = None
    device_id: str = ""
    mac: str | None = None
    fixed_ips: tuple[FixedIpSpec, ...] = ()
    node: str | None = None
    dhcp_options: tuple[DhcpOptionSpec, ...] = ()
    id: str | None = None
    security_groups: tuple[str, ...] | None = None
    port_security: bool = True
    address_pairs: tuple[AddressPairSpec, ...] = ()
    qos: Qos = Qos()
    interface_name: str | None = None


@dataclass(frozen=True, slots=True)
class PortRecord:
    """A stored port. `port.binding` says where it is; whether its node has confirmed it only the sessions know.

    `binding_error` says why it is bound nowhere though a node shows its interface. `floating_ips` are associated with
    it; the model's feed leaves them out. `expected_on` is the other node of a move, seen there or not.
    `security_groups` are its groups by key, whether its network is filtered or not.
    """

    port: Port
    device_id: str
    dhcp_options: tuple[DhcpOptionSpec, ...]
    created_at: float
    revision: int
    binding_error: str | None = None
    floating_ips: tuple[FloatingIp, ...] = ()
    expected_on: str | None = None
    security_groups: tuple[GroupName, ...] = ()
    interface_name: str | None = None


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """What an agent registers. `snat_addresses`: by physical network; without, any of the allocation range. `problems`:
    what does not work on the node itself, one line each.
    """

    name: str
    datapath_id: int
    physical_networks: tuple[str, ...] = ()
    snat_addresses: Mapping[str, SnatChoice] = field(default_factory=dict)
    tunnel_address: IPv4Address | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    datapath_type: DatapathType = DatapathType.NETDEV
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """`serial` is that of the last interface report that changed something.

    `problems`: what the node is meant to have and cannot, one line each. The model's feed leaves them out.
    """

    node: Node
    spec: NodeSpec
    serial: int
    created_at: float
    revision: int
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReportedInterface:
    """`iface_id` is `external_ids:iface-id`, `mac` is `external_ids:attached-mac` (may be empty)."""

    iface_id: str
    ofport: int
    name: str = ""
    mac: str = ""


@dataclass(frozen=True, slots=True)
class InterfaceReport:
    """The whole truth of one node. `uplinks`: physical network -> ofport of its patch port."""

    serial: int
    uplinks: Mapping[str, int] = field(default_factory=dict)
    interfaces: tuple[ReportedInterface, ...] = ()


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """What DHCP last said to a port about an address. Times are seconds since the epoch (UTC)."""

    port_id: str
    address: IPv4Address | IPv6Address
    state: str
    updated_at: float
    expires_at: float
    client_id: str = ""
    hostname: str = ""


@dataclass(frozen=True, slots=True)
class Lease:
    """A row of the lease table and whose it is. `id` names the row; `state` is that of now: a lease that nobody has
    renewed is `expired`. `node`: where the port is bound.
    """

    id: str
    port_id: str
    address: IPv4Address | IPv6Address
    state: str
    updated_at: float
    expires_at: float
    network_id: str
    project_id: str | None
    mac: str
    hostname: str
    node: str | None


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """`kind` is network, port, node, floating_ip, security_group, provider_rule or what the model does not know:
    floating_ip_pool, default_rule, quota, api_token, capture. `object_id` is the name of a node, the project of a
    quota, the port of a capture.
    `action` is create, update or delete. A floating IP's payload has `events`: which of allocate, associate,
    disassociate and release the change was. `old`: what was there before of the payload's fields, and all of an object
    that is deleted, as far as it is known; None: nothing. `token`, `address` and `request_id`: see `actors.Origin`.
    """

    revision: int
    kind: str
    object_id: str
    action: str
    actor: str
    at: float
    payload: Mapping[str, Any]
    old: Mapping[str, Any] | None = None
    token: str | None = None
    address: str | None = None
    request_id: str | None = None


class StoreError(Exception):
    """A write or read that cannot be done as asked. `field` names the offending input field, if there is one, and
    `index` the offending one of many inputs, if it is known.
    """

    status = 500
    index: int | None = None

    def __init__(self, code: str, message: str, field: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        self.details: dict[str, Any] = details


class NotFound(StoreError):
    status = 404


class Invalid(StoreError):
    status = 400


class Forbidden(StoreError):
    """Nobody may, whoever asks."""

    status = 403


class Conflict(StoreError):
    status = 409


class Exhausted(StoreError):
    """There is none left of what was asked for."""

    status = 409


class Gap(StoreError):
    """The journal no longer tells what has changed since then."""

    status = 503


class Unavailable(StoreError):
    """The database cannot do it now."""

    status = 503


class Busy(Unavailable):
    """The database did not let us write in time."""


class SchemaError(Exception):
    """The database is of another schema revision than this program."""
