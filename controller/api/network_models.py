"""Request bodies about networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, TypeAdapter

from controller.api.declared import MAX_REVISION
from controller.api.dhcp_option_models import DhcpOptions, option_specs
from controller.api.fields import (
    Cidr,
    HostName,
    LeaseTime,
    Mtu,
    Name,
    NodeName,
    ObjectId,
    PhysicalNetwork,
    ProjectId,
    RequestModel,
    Segment,
    UnicastAddress,
    UpdateModel,
)
from controller.api.subnet_models import Subnets, by_family
from controller.store import routers
from controller.store.network_specs import LEAST_SIZE, MOST_NETWORKS, MOST_SIZE
from controller.store.specs import NetworkSpec
from flows.model import GatewayMode, NetworkKind, StaticRoute

Servers = Annotated[list[UnicastAddress], Field(max_length=16)]


class RouteIn(RequestModel):
    destination: Cidr
    next_hop: UnicastAddress

    def spec(self) -> StaticRoute:
        return StaticRoute(self.destination, self.next_hop)


Routes = Annotated[list[RouteIn], Field(max_length=64)]
Ranges = Annotated[list[Cidr], Field(max_length=64)]


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
            dhcp_options=option_specs(self.dhcp_options),
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


class NetworkUpdate(UpdateModel):
    """`expected_revision`: refused when the network has another by now."""

    conversions: ClassVar[Mapping[str, Callable[[Any], Any]]] = {
        "dhcp_options": option_specs,
        "ntp_servers": tuple,
        "dhcp_relays": tuple,
        "dns_upstreams": tuple,
        "routes": lambda items: tuple(item.spec() for item in items),
        "snat_exempt": tuple,
        "force_snat": tuple,
    }

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


# Built once: building one costs milliseconds, using it microseconds.
NETWORK_CREATE = TypeAdapter(NetworkCreate)
NETWORK_CARVE = TypeAdapter(NetworkCarve)
NETWORK_UPDATE = TypeAdapter(NetworkUpdate)
