"""The read model: what the database says, as immutable values. `flows.snapshot` holds them together.

Objects carry two names: `id` (a UUID, what the API speaks) and `key` (a small integer, what fits in a register or
cookie).
"""

from __future__ import annotations

from flows.model.addresses import AddressPair, Family, FixedIp, Ipv6FixedIp, OwnAddress
from flows.model.changes import (
    Change,
    DnsZoneChange,
    FloatingIpChange,
    NetworkChange,
    NodeChange,
    PortChange,
    ProviderRuleChange,
    SecurityGroupChange,
)
from flows.model.dns import DnsRecord, DnsZone, RecordType, ZoneScope
from flows.model.floating_ips import FloatingIp, PortForwarding
from flows.model.networks import (
    ROUTED_MODES,
    DhcpOption,
    GatewayMode,
    HostRoute,
    Ipv6Mode,
    Ipv6Subnet,
    Network,
    NetworkKind,
    StaticRoute,
    Subnet,
)
from flows.model.nodes import DatapathType, Neighbour, NetworkAddress, Node, SnatAddress, Uplink
from flows.model.ports import Bandwidth, Binding, Migration, MigrationPhase, Port, Qos
from flows.model.security_groups import Direction, ProviderRule, SecurityGroup, SecurityRule, Service

__all__ = [
    "ROUTED_MODES",
    "AddressPair",
    "Bandwidth",
    "Binding",
    "Change",
    "DatapathType",
    "DhcpOption",
    "Direction",
    "DnsRecord",
    "DnsZone",
    "DnsZoneChange",
    "Family",
    "FixedIp",
    "FloatingIp",
    "FloatingIpChange",
    "GatewayMode",
    "HostRoute",
    "Ipv6FixedIp",
    "Ipv6Mode",
    "Ipv6Subnet",
    "Migration",
    "MigrationPhase",
    "Neighbour",
    "Network",
    "NetworkAddress",
    "NetworkChange",
    "NetworkKind",
    "Node",
    "NodeChange",
    "OwnAddress",
    "Port",
    "PortChange",
    "PortForwarding",
    "ProviderRule",
    "ProviderRuleChange",
    "Qos",
    "RecordType",
    "SecurityGroup",
    "SecurityGroupChange",
    "SecurityRule",
    "Service",
    "SnatAddress",
    "StaticRoute",
    "Subnet",
    "Uplink",
    "ZoneScope",
]
