"""Request bodies: pydantic models that know how to become the store's specs.

A create model's fields are the object's fields. An update model holds what can be changed; `changes()` answers only
what was sent, because a field that was left out is not a field that was sent with its default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationInfo,
    field_validator,
    model_validator,
)

from controller.api import policy_fields
from controller.api.declared import MAX_REVISION
from controller.api.dhcp_options import OptionType, check_code, encode, type_of
from controller.api.fields import (
    AnyAddress,
    AnyCidr,
    AnyUnicastAddress,
    Cidr,
    HostName,
    InterfaceName,
    LeaseTime,
    Mac,
    MachineName,
    Mtu,
    Name,
    NodeName,
    ObjectId,
    PhysicalNetwork,
    Printable,
    ProjectId,
    RequestModel,
    Segment,
    SnatAddress,
    Text,
    UnicastAddress,
    Uuid,
)
from controller.bounds import MOST_SUBNETS
from controller.store import routers
from controller.store.ipv6_specs import Ipv6Range, Ipv6SubnetSpec
from controller.store.network_specs import LEAST_SIZE, MOST_NETWORKS, MOST_SIZE
from controller.store.specs import (
    AddressRange,
    DhcpOptionSpec,
    FixedIpSpec,
    InterfaceReport,
    NetworkSpec,
    NodeSpec,
    PortSpec,
    ReportedInterface,
    SubnetSpec,
)
from flows.model import GatewayMode, HostRoute, Ipv6Mode, NetworkKind, StaticRoute

MAX_PORTS = 1000
MAX_INTERFACES = 4096
MAX_OFPORT = 0xFFFFFEFF  # OpenFlow 1.4: OFPP_MAX is 0xffffff00, which no port has


class DhcpOptionIn(RequestModel):
    code: Annotated[int, Field(ge=0, le=255)]
    # before the value, which is read by it
    type: Annotated[OptionType | None, Field(validate_default=True)] = None
    value: Annotated[Printable, StringConstraints(max_length=1024)]

    @field_validator("code")
    @classmethod
    def _free(cls, code: int) -> int:
        check_code(code)
        return code

    @field_validator("type")
    @classmethod
    def _known(cls, kind: OptionType | None, info: ValidationInfo) -> OptionType | None:
        if "code" in info.data:
            type_of(info.data["code"], kind)
        return kind

    @field_validator("value")
    @classmethod
    def _encodable(cls, value: str, info: ValidationInfo) -> str:
        if {"code", "type"} <= info.data.keys():
            encode(info.data["code"], value, info.data["type"])
        return value

    def spec(self) -> DhcpOptionSpec:
        type_ = None if self.type is None else self.type.value
        return DhcpOptionSpec(self.code, encode(self.code, self.value, self.type), self.value, type_)


def _each_code_once(options: list[DhcpOptionIn]) -> list[DhcpOptionIn]:
    if len({option.code for option in options}) != len(options):
        raise ValueError("holds the same option code twice")
    return options


DhcpOptions = Annotated[list[DhcpOptionIn], Field(max_length=64), AfterValidator(_each_code_once)]
Servers = Annotated[list[UnicastAddress], Field(max_length=16)]


class RangeIn(RequestModel):
    first: AnyAddress
    last: AnyAddress

    @model_validator(mode="after")
    def _ordered(self) -> RangeIn:
        if self.first.version != self.last.version:
            raise ValueError(f"first ({self.first}) and last ({self.last}) are not of one family")
        if int(self.first) > int(self.last):
            raise ValueError(f"first ({self.first}) is behind last ({self.last})")
        return self

    def spec(self) -> AddressRange | Ipv6Range:
        if isinstance(self.first, IPv4Address) and isinstance(self.last, IPv4Address):
            return AddressRange(self.first, self.last)
        return Ipv6Range(IPv6Address(self.first), IPv6Address(self.last))


def _reserved(value: object) -> object:
    """A single address is a range of one."""
    return {"first": value, "last": value} if isinstance(value, str) else value


ReservedIn = Annotated[RangeIn, BeforeValidator(_reserved, json_schema_input_type=RangeIn | AnyAddress)]


class HostRouteIn(RequestModel):
    destination: Cidr
    next_hop: UnicastAddress

    def spec(self) -> HostRoute:
        return HostRoute(self.destination, self.next_hop)


class RouteIn(RequestModel):
    destination: Cidr
    next_hop: UnicastAddress

    def spec(self) -> StaticRoute:
        return StaticRoute(self.destination, self.next_hop)


Routes = Annotated[list[RouteIn], Field(max_length=64)]
Ranges = Annotated[list[Cidr], Field(max_length=64)]


class SubnetIn(RequestModel):
    """Of either family: `cidr` says which. `host_routes` are of IPv4, and `ipv6_mode` of IPv6, where null is slaac."""

    cidr: AnyCidr
    gateway: AnyUnicastAddress | None = None
    allocation_ranges: Annotated[list[RangeIn], Field(max_length=64)] = []
    reserved: Annotated[list[ReservedIn], Field(max_length=256)] = []
    dns_servers: Annotated[list[AnyUnicastAddress], Field(max_length=16)] = []
    ipv6_mode: Ipv6Mode | None = None
    host_routes: Annotated[list[HostRouteIn], Field(max_length=64)] = []

    @field_validator("gateway", "allocation_ranges", "reserved", "dns_servers")
    @classmethod
    def _of_one_family(cls, value: Any, info: ValidationInfo) -> Any:
        cidr = info.data.get("cidr")
        for item in value if isinstance(value, list) else [] if value is None else [value]:
            version = item.first.version if isinstance(item, RangeIn) else item.version
            if cidr is not None and version != cidr.version:
                raise ValueError(f"is IPv{version}, and {cidr} IPv{cidr.version}")
        return value

    @field_validator("ipv6_mode", "host_routes")
    @classmethod
    def _of_that_family(cls, value: Any, info: ValidationInfo) -> Any:
        cidr, of_ipv6 = info.data.get("cidr"), info.field_name == "ipv6_mode"
        if value and cidr is not None and of_ipv6 != isinstance(cidr, IPv6Network):
            raise ValueError(f"is of IPv{6 if of_ipv6 else 4} subnets, which {cidr} is none of")
        return value

    @property
    def is_ipv6(self) -> bool:
        return isinstance(self.cidr, IPv6Network)

    def spec(self) -> SubnetSpec | Ipv6SubnetSpec:
        ranges: dict[str, Any] = {
            "allocation_ranges": tuple(item.spec() for item in self.allocation_ranges),
            "reserved": tuple(item.spec() for item in self.reserved),
        }
        values: dict[str, Any] = {"gateway": self.gateway, "dns_servers": tuple(self.dns_servers), **ranges}
        if isinstance(self.cidr, IPv6Network):
            return Ipv6SubnetSpec(self.cidr, mode=self.ipv6_mode or Ipv6Mode.SLAAC, **values)
        return SubnetSpec(self.cidr, host_routes=tuple(item.spec() for item in self.host_routes), **values)


def by_family(subnets: Sequence[SubnetIn]) -> tuple[tuple[SubnetSpec, ...], tuple[Ipv6SubnetSpec, ...]]:
    specs = [subnet.spec() for subnet in subnets]
    return (
        tuple(spec for spec in specs if isinstance(spec, SubnetSpec)),
        tuple(spec for spec in specs if isinstance(spec, Ipv6SubnetSpec)),
    )


def place_in(subnets: Sequence[SubnetIn], field: str | None) -> str | None:
    """The field of a request that a field of the store is, where the subnets of each family are counted apart."""
    name, *parts = (field or "").split(".")
    if name not in ("subnets", "ipv6_subnets") or not parts:
        return field
    apart = [index for index, subnet in enumerate(subnets) if subnet.is_ipv6 == (name == "ipv6_subnets")]
    return ".".join(("subnets", str(apart[int(parts[0])]), *parts[1:]))


Subnets = Annotated[list[SubnetIn], Field(min_length=1, max_length=MOST_SUBNETS)]


def _options(options: list[DhcpOptionIn]) -> tuple[DhcpOptionSpec, ...]:
    return tuple(option.spec() for option in options)


class NetworkCreate(RequestModel):
    """What a member leaves out, `kind` and `physical_network`, is chosen for it."""

    name: Name
    kind: NetworkKind | None = None
    physical_network: PhysicalNetwork | None = None
    subnets: Subnets
    project_id: ProjectId | None = None
    shared: bool = False
    external: bool = False
    segment: Segment | None = None
    mtu: Mtu = 1500
    gateway_mode: GatewayMode | None = None
    dhcp: bool = True
    dns_domain: HostName = ""
    arp_responder: bool = False
    external_network_id: ObjectId | None = None
    lease_time: LeaseTime | None = None
    dhcp_options: DhcpOptions = []
    ntp_servers: Servers = []
    routes: Routes = []
    snat_exempt: Ranges = []
    force_snat: Ranges = []
    own_snat_address: bool = False
    dhcp_relays: Servers = []
    dns_upstreams: Servers = []
    router: Name = routers.PROJECT
    allow_same_net_traffic: bool | None = None
    filtering: bool = True
    assignable: bool = False
    gateway_node: NodeName | None = None

    def spec(self, lease_time: int, project_id: str | None, router: str, place: tuple[NetworkKind, str]) -> NetworkSpec:
        """`lease_time` is the configured default in seconds; `project_id`, `router` and `place` (kind and physical
        network) are what was settled.
        """
        kind, physical_network = place
        subnets, ipv6_subnets = by_family(self.subnets)
        return NetworkSpec(
            name=self.name,
            kind=kind,
            physical_network=physical_network,
            subnets=subnets,
            project_id=project_id,
            shared=self.shared,
            external=self.external,
            segment=self.segment,
            mtu=self.mtu,
            gateway_mode=self.gateway_mode,
            dhcp=self.dhcp,
            dns_domain=self.dns_domain,
            arp_responder=self.arp_responder,
            external_network_id=self.external_network_id,
            lease_time=lease_time if self.lease_time is None else self.lease_time,
            dhcp_options=_options(self.dhcp_options),
            ntp_servers=tuple(self.ntp_servers),
            routes=tuple(route.spec() for route in self.routes),
            snat_exempt=tuple(self.snat_exempt),
            force_snat=tuple(self.force_snat),
            own_snat_address=self.own_snat_address,
            dhcp_relays=tuple(self.dhcp_relays),
            dns_upstreams=tuple(self.dns_upstreams),
            router=router,
            allow_same_net_traffic=self.allow_same_net_traffic,
            filtering=self.filtering,
            assignable=self.assignable,
            gateway_node=self.gateway_node,
            ipv6_subnets=ipv6_subnets,
        )


class NetworkCarve(NetworkCreate):
    """Many networks of one range."""

    count: Annotated[int, Field(ge=1, le=MOST_NETWORKS)] = 1
    network_size: Annotated[int, Field(ge=LEAST_SIZE, le=MOST_SIZE)] | None = None


class FixedIpIn(RequestModel):
    address: AnyAddress | None = None
    subnet_id: ObjectId | None = None

    def spec(self) -> FixedIpSpec:
        return FixedIpSpec(self.address, self.subnet_id)


FixedIps = Annotated[list[FixedIpIn], Field(max_length=16)]

# How a field of an update becomes what the store takes; the others go through as they are.
_CONVERSIONS: Mapping[str, Callable[[Any], Any]] = {
    "fixed_ips": lambda items: tuple(item.spec() for item in items),
    "dhcp_options": _options,
    "ntp_servers": tuple,
    "dhcp_relays": tuple,
    "dns_upstreams": tuple,
    "routes": lambda items: tuple(item.spec() for item in items),
    "snat_exempt": tuple,
    "force_snat": tuple,
    "security_groups": policy_fields.groups,
    "address_pairs": policy_fields.pairs,
    "qos": policy_fields.qos,
}


class UpdateModel(RequestModel):
    def changes(self) -> dict[str, Any]:
        """What was sent, typed as in the store's spec."""
        sent = {name: value for name, value in self if name in self.model_fields_set}
        return {name: _CONVERSIONS[name](value) if name in _CONVERSIONS else value for name, value in sent.items()}


class NetworkUpdate(UpdateModel):
    """`expected_revision`: refused when the network has another by now."""

    name: Name = ""
    mtu: Mtu = 1500
    dhcp: bool = True
    dns_domain: HostName = ""
    arp_responder: bool = False
    external_network_id: ObjectId | None = None
    lease_time: LeaseTime = 86400
    dhcp_options: DhcpOptions = []
    ntp_servers: Servers = []
    routes: Routes = []
    snat_exempt: Ranges = []
    force_snat: Ranges = []
    own_snat_address: bool = False
    dhcp_relays: Servers = []
    dns_upstreams: Servers = []
    router: Name = routers.PROJECT
    allow_same_net_traffic: bool = True
    filtering: bool = True
    assignable: bool = False
    gateway_node: NodeName | None = None
    subnets: Subnets = []
    expected_revision: Annotated[int, Field(ge=0, le=MAX_REVISION)] | None = None

    def changes(self) -> dict[str, Any]:
        changes = super().changes()
        changes.pop("expected_revision", None)
        if "subnets" in changes:
            changes["subnets"], changes["ipv6_subnets"] = by_family(self.subnets)
        return changes


class _PortFields(RequestModel):
    """What is the same for all ports of a machine."""

    name: Text = ""
    hostname: MachineName = ""
    project_id: ProjectId | None = None
    device_id: Text = ""
    node: NodeName | None = None
    dhcp_options: DhcpOptions = []
    security_groups: policy_fields.SecurityGroups = None
    port_security: bool = True
    qos: policy_fields.QosIn | None = None

    def _common(self, network_id: str, project_id: str | None) -> PortSpec:
        return PortSpec(
            network_id=network_id,
            name=self.name,
            hostname=self.hostname,
            project_id=project_id,
            device_id=self.device_id,
            node=self.node,
            dhcp_options=_options(self.dhcp_options),
            security_groups=policy_fields.groups(self.security_groups),
            port_security=self.port_security,
            qos=policy_fields.qos(self.qos),
        )


class DevicePortsCreate(_PortFields):
    """The ports of a machine that names no network."""

    device_id: Annotated[Text, StringConstraints(min_length=1)]

    def template(self) -> PortSpec:
        """Network and project are settled elsewhere."""
        return self._common("", None)


class PortCreate(_PortFields):
    network_id: ObjectId
    mac: Mac | None = None
    fixed_ips: FixedIps = []
    id: Uuid | None = None
    address_pairs: policy_fields.AddressPairs = []
    interface_name: InterfaceName | None = None

    def spec(self, project_id: str | None) -> PortSpec:
        """`project_id` is the owner the caller has settled."""
        return replace(
            self._common(self.network_id, project_id),
            mac=self.mac,
            fixed_ips=tuple(item.spec() for item in self.fixed_ips),
            id=self.id,
            address_pairs=policy_fields.pairs(self.address_pairs),
            interface_name=self.interface_name,
        )


class PortBulk(RequestModel):
    ports: Annotated[list[PortCreate], Field(min_length=1, max_length=MAX_PORTS)]


class PortUpdate(UpdateModel):
    name: Text = ""
    hostname: MachineName = ""
    device_id: Text = ""
    node: NodeName | None = None
    interface_name: InterfaceName | None = None
    fixed_ips: FixedIps = []
    dhcp_options: DhcpOptions = []
    security_groups: policy_fields.SecurityGroups = None
    port_security: bool = True
    address_pairs: policy_fields.AddressPairs = []
    qos: policy_fields.QosIn | None = None


class NodePut(RequestModel):
    datapath_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{16}$")]
    physical_networks: Annotated[list[PhysicalNetwork], Field(max_length=64)] = []
    snat_addresses: Annotated[dict[PhysicalNetwork, SnatAddress], Field(max_length=64)] = {}
    tunnel_address: UnicastAddress | None = None
    versions: Annotated[dict[Name, Text], Field(max_length=16)] = {}

    def spec(self, name: str) -> NodeSpec:
        return NodeSpec(
            name=name,
            datapath_id=int(self.datapath_id, 16),
            physical_networks=tuple(dict.fromkeys(self.physical_networks)),
            snat_addresses=self.snat_addresses,
            tunnel_address=self.tunnel_address,
            versions=self.versions,
        )


class InterfaceIn(RequestModel):
    """What Open vSwitch says of an interface. Anybody on the node can write that, so it is not a reason to refuse the
    report: what cannot be used is answered with `refused`, and the other interfaces are taken.
    """

    iface_id: Annotated[str, StringConstraints(max_length=255)]
    name: Annotated[str, StringConstraints(max_length=255)] = ""
    ofport: int | None = None
    mac: Annotated[str, StringConstraints(max_length=255)] | None = None

    def problem(self) -> str | None:
        """Why the interface cannot be used, or None."""
        if not self.iface_id or not self.iface_id.isprintable() or not self.name.isprintable():
            return "its iface-id or name is not printable text"
        if self.ofport is None or not 1 <= self.ofport <= MAX_OFPORT:
            return "Open vSwitch gave it no port number"
        return None


class InterfacesPut(RequestModel):
    serial: Annotated[int, Field(ge=0, le=MAX_REVISION)]
    uplinks: Annotated[
        dict[PhysicalNetwork, Annotated[int, Field(ge=1, le=MAX_OFPORT)]],
        Field(max_length=64),
    ] = {}
    interfaces: Annotated[list[InterfaceIn], Field(max_length=MAX_INTERFACES)] = []
    unclaimed: Annotated[
        list[Text], Field(max_length=MAX_INTERFACES, description="Names of those that say nothing of a port.")
    ] = []

    def refusals(self) -> dict[str, str]:
        """iface_id -> "refused: why", for the interfaces that `spec` leaves out."""
        problems = ((item.iface_id, item.problem()) for item in self.interfaces)
        return {iface_id: f"refused: {problem}" for iface_id, problem in problems if problem is not None}

    def spec(self) -> InterfaceReport:
        return InterfaceReport(
            serial=self.serial,
            uplinks=self.uplinks,
            interfaces=tuple(
                ReportedInterface(item.iface_id, item.ofport, item.name, (item.mac or "").lower())
                for item in self.interfaces
                if item.ofport is not None and item.problem() is None
            ),
        )


# Built once: building one costs milliseconds, using it microseconds.
NETWORK_CREATE = TypeAdapter(NetworkCreate)
NETWORK_CARVE = TypeAdapter(NetworkCarve)
NETWORK_UPDATE = TypeAdapter(NetworkUpdate)
PORT_CREATE = TypeAdapter(PortCreate)
PORT_BULK = TypeAdapter(PortBulk)
DEVICE_PORTS_CREATE = TypeAdapter(DevicePortsCreate)
PORT_UPDATE = TypeAdapter(PortUpdate)
NODE_PUT = TypeAdapter(NodePut)
INTERFACES_PUT = TypeAdapter(InterfacesPut)
