"""What a revision changes: an object as it is now, None where it is gone."""

from __future__ import annotations

from dataclasses import dataclass

from flows.model.dns import DnsZone
from flows.model.floating_ips import FloatingIp
from flows.model.networks import Network
from flows.model.nodes import Node
from flows.model.ports import Port
from flows.model.security_groups import ProviderRule, SecurityGroup


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
