"""What the API answers, as types: `views` makes them, `openapi` tells of them. Those about policy: `policy_answers`."""

from __future__ import annotations

from typing import (
    Annotated,
    Any,
    NotRequired,  # typing's own is none for pydantic before Python 3.12
)

from pydantic import Field, WithJsonSchema
from typing_extensions import TypedDict

from controller.api.dhcp_options import OptionType
from controller.store.address_specs import AddressState, PlanAction
from flows.model import DatapathType, GatewayMode, Ipv6Mode, MigrationPhase, NetworkKind

Ipv4 = Annotated[str, WithJsonSchema({"type": "string", "format": "ipv4"})]
Ip = Annotated[str, WithJsonSchema({"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]})]
Mac = Annotated[str, Field(pattern=r"^[0-9a-f]{2}(:[0-9a-f]{2}){5}$")]
Time = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"}), Field(description="RFC 3339, UTC")]
Cidr = Annotated[str, Field(pattern=r"^[0-9a-f.:]+/[0-9]+$")]
Key = Annotated[int, Field(ge=0, description="What flows and cookies know it by")]
Revision = Annotated[int, Field(ge=0, description="That of its last change")]
Project = Annotated[str | None, Field(description="null: the operator's")]
Kind = Annotated[str, WithJsonSchema({"type": "string", "enum": [*NetworkKind]})]
Mode = Annotated[str, WithJsonSchema({"type": "string", "enum": [*GatewayMode]})]
AddressMode = Annotated[str, WithJsonSchema({"type": "string", "enum": [*Ipv6Mode]})]
OptionKind = Annotated[str, WithJsonSchema({"type": "string", "enum": [*OptionType]})]
LeaseState = Annotated[str, WithJsonSchema({"type": "string", "enum": ["bound", "expired", "released", "declined"]})]


class Problem(TypedDict):
    """`code` stays what it is, `message` is for people, `field` is the one that is to blame, and `details` is more of
    it for programs: `errors` where several fields are wrong.
    """

    code: str
    message: str
    field: str | None
    details: dict[str, Any]


class Error(TypedDict):
    error: Problem


class Range(TypedDict):
    first: Ip
    last: Ip


class Route(TypedDict):
    destination: Cidr
    next_hop: Ipv4


class DhcpOption(TypedDict):
    code: int
    value: str
    type: OptionKind | None


class Subnet(TypedDict):
    id: str | None
    cidr: Cidr
    gateway: Ip | None
    allocation_ranges: list[Range]
    reserved: list[Range]
    dns_servers: list[Ip]
    host_routes: list[Route]
    ipv6_mode: AddressMode | None


class Network(TypedDict):
    """Members are not told what is the operator's: `key`, `router_key`, `physical_network`, `segment`, `carrier_nat`,
    `assignable`, `problems`, `gateway_node` and `gateway_node_pinned`.
    """

    id: str
    key: NotRequired[Key]
    name: str
    project_id: Project
    shared: bool
    external: bool
    kind: Kind
    physical_network: NotRequired[str]
    segment: NotRequired[int | None]
    mtu: int
    gateway_mode: Mode | None
    dhcp: bool
    dns_domain: str
    arp_responder: bool
    carrier_nat: NotRequired[bool]
    external_network_id: str | None
    lease_time: Annotated[int, Field(description="Seconds")]
    dhcp_options: list[DhcpOption]
    ntp_servers: list[Ipv4]
    routes: list[Route]
    snat_exempt: list[Cidr]
    force_snat: list[Cidr]
    own_snat_address: bool
    dhcp_relays: list[Ipv4]
    dns_upstreams: list[Ipv4]
    router: Annotated[str | None, Field(description="null: of a network that the caller may not know of")]
    allow_same_net_traffic: bool | None
    filtering: bool
    assignable: NotRequired[bool]
    gateway_node: NotRequired[str | None]
    gateway_node_pinned: NotRequired[bool]
    router_key: NotRequired[Key]
    subnets: list[Subnet]
    problems: NotRequired[list[str]]
    created_at: Time
    revision: Revision


class FixedIp(TypedDict):
    subnet_id: str
    address: Ip


class PortFloatingIp(TypedDict):
    id: str
    address: Ipv4
    fixed_ip: Ipv4


class GroupName(TypedDict):
    id: str
    name: str


class AddressPair(TypedDict):
    cidr: Cidr
    mac: Mac | None


class Bandwidth(TypedDict):
    rate_kbps: int
    burst_kbits: int


class Qos(TypedDict):
    egress: Bandwidth | None
    ingress: Bandwidth | None
    dscp: int | None


class PortBinding(TypedDict):
    node: str
    ofport: int
    zone: Annotated[int, Field(description="Of conntrack")]


class Port(TypedDict):
    """`muted`: about what it is not heard by the controller, and for how many seconds more."""

    id: str
    key: Key
    network_id: str
    name: str
    hostname: str
    project_id: Project
    device_id: str
    mac: Mac
    fixed_ips: list[FixedIp]
    floating_ips: list[PortFloatingIp]
    security_groups: list[GroupName]
    port_security: bool
    address_pairs: list[AddressPair]
    held_addresses: list[Ipv4]
    qos: Qos | None
    node: Annotated[str | None, Field(description="Where it is to be")]
    interface_name: Annotated[str | None, Field(description="By which an interface without an iface-id is known")]
    binding: Annotated[PortBinding | None, Field(description="Where it is")]
    status: Annotated[str, WithJsonSchema({"type": "string", "enum": ["unbound", "bound", "active"]})]
    binding_error: str | None
    muted: dict[str, int]
    dhcp_options: list[DhcpOption]
    created_at: Time
    revision: Revision


class NodePort(TypedDict):
    """What a node needs of a port to plug it in. `expected`: it is about to move there, or has just moved away."""

    id: str
    network_id: str
    name: str
    project_id: Project
    device_id: str
    mac: Mac
    mtu: int
    fixed_ips: list[FixedIp]
    node: Annotated[str | None, Field(description="Where it is to be")]
    binding: Annotated[PortBinding | None, Field(description="Where it is")]
    status: Annotated[str, WithJsonSchema({"type": "string", "enum": ["unbound", "bound", "active"]})]
    binding_error: str | None
    expected: bool


class Binding(TypedDict):
    """A node of a port while its VM moves. `ofport` null: it has not shown the interface."""

    node: str
    status: Annotated[str, WithJsonSchema({"type": "string", "enum": ["active", *MigrationPhase]})]
    ofport: int | None


class Traffic(TypedDict):
    packets: int
    bytes: int
    dropped: int


class Counters(TypedDict):
    """As the VM sees it, since it was plugged. `drops`: packets by the rule that dropped them; `exceeded`: those beyond
    what the port may, by limit.
    """

    port_id: str
    node: str
    received: Traffic
    sent: Traffic
    drops: dict[str, int]
    exceeded: dict[str, int]
    muted: dict[str, int]


class Metadata(TypedDict):
    machine_id: str
    ports: list[str]
    public_keys: dict[str, str]
    user_data: Annotated[str | None, Field(description="Base64")]
    vendor_data: dict[str, Any] | None
    meta: dict[str, str]
    availability_zone: str
    instance_type: str
    password: Annotated[str | None, Field(description="As the machine has told it: encrypted")]


class Gateway(TypedDict):
    network_id: str
    address: Ipv4


class SnatAddress(TypedDict):
    """`for_network_id` null: for all networks that have none of their own. `host`: it is the host's, too."""

    network_id: str
    address: Ipv4
    for_network_id: str | None
    host: bool


class Node(TypedDict):
    """From `state` to `not_compiled`: what its session says."""

    name: str
    key: Key
    datapath_id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    physical_networks: list[str]
    snat_addresses: dict[str, str]
    tunnel_address: Ipv4 | None
    versions: dict[str, str]
    datapath_type: DatapathType
    uplinks: dict[str, int]
    gateways: list[Gateway]
    external_addresses: list[SnatAddress]
    problems: list[str]
    serial: int
    created_at: Time
    revision: Revision
    state: NotRequired[str]
    controller: NotRequired[Annotated[str | None, Field(description="Whose the node is")]]
    peer: NotRequired[str]
    quarantined: NotRequired[list[dict[str, str | int]]]
    quarantined_flows: NotRequired[int]
    flows: NotRequired[int]
    unconfirmed_since: NotRequired[int | None]
    not_compiled: NotRequired[list[str]]


class Address(TypedDict):
    """`associated`: nobody else is given it. `leased`: a client has been told that it may use it."""

    address: Ip
    subnet_id: str
    state: Annotated[str, WithJsonSchema({"type": "string", "enum": [*AddressState]})]
    associated: bool
    leased: bool
    reserved: bool
    owner: str | None
    port_id: str | None
    port_name: str | None
    project_id: Project
    device_id: str | None
    mac: Mac | None
    node: str | None
    lease_expires_at: Time | None
    held_until: Time | None


class FreedAddress(TypedDict):
    address: Ip


History = TypedDict(
    "History",
    {
        "address": Ip,
        "network_id": str,
        "network_name": str,
        "kind": str,
        "id": str,
        "project_id": Project,
        "port_id": str | None,
        "port_name": str | None,
        "device_id": str | None,
        "mac": Mac | None,
        "from": Time | None,
        "until": Annotated[Time | None, Field(description="null: it has it")],
    },
)


class PlanProblem(TypedDict):
    entry: int
    code: str
    message: str


class AddressPlan(TypedDict):
    """What becomes, or would, of each entry; null where there is a problem."""

    actions: list[Annotated[str | None, WithJsonSchema({"enum": [*PlanAction, None]})]]
    problems: list[PlanProblem]


class Lease(TypedDict):
    id: str
    address: Ip
    state: LeaseState
    port_id: str
    network_id: str
    project_id: Project
    mac: Mac
    hostname: str
    node: str | None
    updated_at: Time
    expires_at: Time


class Scrubbed(TypedDict):
    """The ids of what the project has no more."""

    project_id: str
    networks: list[str]
    security_groups: list[str]


class Quota(TypedDict):
    """-1: any number. `own`: those that are set for this project."""

    project_id: str
    floating_ips: int
    security_groups: int
    security_group_rules: int
    address_pairs: int
    networks: int
    ports: int
    fixed_ips: int
    dns_zones: int
    dns_records: int
    floating_ips_used: int
    security_groups_used: int
    networks_used: int
    ports_used: int
    fixed_ips_used: int
    dns_zones_used: int
    own: list[str]
