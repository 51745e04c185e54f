"""What the API answers about floating IPs, security groups and names, as `answers` has the rest."""

from __future__ import annotations

from typing import Annotated, NotRequired

from pydantic import Field, WithJsonSchema
from typing_extensions import TypedDict

from controller.api.answers import Cidr, Ipv4, Key, Project, Revision, Time
from controller.store.policy_specs import AppliesTo
from flows.model import Direction, RecordType, ZoneScope

Way = Annotated[str, WithJsonSchema({"type": "string", "enum": [*Direction]})]
Family = Annotated[str, WithJsonSchema({"type": "string", "enum": ["ipv4", "ipv6"]})]
Ports = Annotated[str, Field(pattern=r"^[0-9]+(-[0-9]+)?$")]
Protocol = Annotated[str | int, Field(description="By its name, if it has one here")]


class PortForwarding(TypedDict):
    id: str
    key: Key
    protocol: str
    ports: Ports
    port_id: str
    fixed_ip: Ipv4
    to: int | None


class FloatingIpPool(TypedDict):
    id: str
    name: str
    network_id: str
    ranges: list[str]
    used: int
    created_at: Time
    revision: Revision


class FloatingIp(TypedDict):
    """`node`: where its port is; `active`: that node has confirmed it."""

    id: str
    key: Key
    address: Ipv4
    pool: str
    pool_id: str
    network_id: str
    project_id: Project
    port_id: str | None
    fixed_ip: Ipv4 | None
    port_forwardings: list[PortForwarding]
    node: str | None
    status: Annotated[str, WithJsonSchema({"type": "string", "enum": ["active", "down"]})]
    auto: bool
    created_at: Time
    revision: Revision


class Service(TypedDict):
    protocol: Protocol | None
    ports: Ports | None
    icmp_type: int | None
    icmp_code: int | None


class SecurityGroupRule(Service):
    id: str
    key: Key
    security_group_id: str
    project_id: Project
    direction: Way
    family: Family
    remote_cidr: Cidr | None
    remote_group_id: str | None
    log: bool
    description: str
    created_at: Time


class SecurityGroup(TypedDict):
    id: str
    key: Key
    name: str
    project_id: Project
    description: str
    stateful: bool
    log_accepted: bool
    log_dropped: bool
    created_at: Time
    revision: Revision


class WholeSecurityGroup(SecurityGroup):
    rules: list[SecurityGroupRule]


class DefaultSecurityGroupRule(Service):
    id: str
    applies_to: Annotated[str, WithJsonSchema({"type": "string", "enum": [*AppliesTo]})]
    direction: Way
    family: Family
    remote_cidr: Cidr | None
    own_group: bool
    description: str
    created_at: Time
    revision: Revision


class ProviderRule(Service):
    id: str
    key: Key
    direction: Way | None
    cidr: Cidr
    description: str
    created_at: Time
    revision: Revision


class DnsZone(TypedDict):
    """`network_ids` is for its owner. `records`: how many there are."""

    id: str
    name: str
    scope: Annotated[str, WithJsonSchema({"type": "string", "enum": [*ZoneScope]})]
    project_id: Project
    ttl: int
    network_ids: NotRequired[list[str]]
    records: int
    created_at: Time
    revision: Revision


class DnsRecord(TypedDict):
    """`name` is within the zone, @ the zone's own; `fqdn` is whole. `ttl` null: the zone's."""

    id: str
    zone_id: str
    zone: str
    project_id: Project
    name: str
    fqdn: str
    type: Annotated[str, WithJsonSchema({"type": "string", "enum": [*RecordType]})]
    data: str
    ttl: int | None
    floating_ip_id: str | None
    created_at: Time
