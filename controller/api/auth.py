"""Who asks, and whether they may: roles, and one table of permissions. Which token is whose is in `credentials`.

What is not in `PERMISSIONS` is refused. A role's permission says nothing about a single object: that a member sees and
changes only what is of its project is decided by `Identity.owns` and `Identity.sees_network`. A token may be narrowed
to some of what its role may (`SCOPES`); nothing makes it more."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from controller.store.actors import Actor, Origin
from controller.store.specs import NetworkSpec


class Role(StrEnum):
    ADMIN = "admin"
    MEMBER = "member"
    READER = "reader"
    AGENT = "agent"


class Resource(StrEnum):
    """Also the `resource` label of the request metrics."""

    NETWORK = "network"
    NETWORK_PROJECT = "network_project"
    PROJECT = "project"
    ADDRESS = "address"
    ADDRESS_HOLD = "address_hold"
    ADDRESS_HISTORY = "address_history"
    ADDRESS_PLAN = "address_plan"
    PORT = "port"
    PORT_BINDING = "port_binding"
    PORT_METADATA = "port_metadata"
    MACHINE_METADATA = "machine_metadata"
    NODE = "node"
    NODE_PORT = "node_port"
    INTERFACES = "interfaces"
    CONTROLLER = "controller"
    DNS = "dns"
    ERRAND = "errand"
    CAPTURE = "capture"
    FLOATING_IP_POOL = "floating_ip_pool"
    FLOATING_IP = "floating_ip"
    PORT_FORWARDING = "port_forwarding"
    LEASE = "lease"
    QUOTA = "quota"
    SECURITY_GROUP = "security_group"
    SECURITY_GROUP_RULE = "security_group_rule"
    DEFAULT_RULE = "default_security_group_rule"
    PROVIDER_RULE = "provider_rule"
    DNS_ZONE = "dns_zone"
    DNS_RECORD = "dns_record"
    TOKEN = "token"
    AUDIT = "audit"
    EVENT = "event"
    DROP = "drop"
    PLAN = "plan"
    PROBLEM = "problem"
    QUARANTINE = "quarantine"
    TRACE = "trace"
    REVISION = "revision"
    TOPOLOGY = "topology"
    INDEX = "index"
    HEALTH = "health"
    METRICS = "metrics"
    STATS = "stats"
    PAGE = "page"


class Verb(StrEnum):
    LIST = "list"
    SHOW = "show"
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    REPORT = "report"


_OPERATORS = frozenset({Role.ADMIN, Role.READER})
_USERS = frozenset({Role.ADMIN, Role.MEMBER, Role.READER})
_WRITERS = frozenset({Role.ADMIN, Role.MEMBER})
_ADMINS = frozenset({Role.ADMIN})
_AGENTS = frozenset({Role.AGENT})

PERMISSIONS: Mapping[tuple[Resource, Verb], frozenset[Role]] = {
    (Resource.NETWORK, Verb.LIST): _USERS,
    (Resource.NETWORK, Verb.SHOW): _USERS,
    (Resource.NETWORK, Verb.CREATE): _WRITERS,
    (Resource.NETWORK, Verb.UPDATE): _WRITERS,
    (Resource.NETWORK, Verb.DELETE): _WRITERS,
    (Resource.NETWORK_PROJECT, Verb.CREATE): _ADMINS,
    (Resource.NETWORK_PROJECT, Verb.UPDATE): _ADMINS,
    (Resource.NETWORK_PROJECT, Verb.DELETE): _ADMINS,
    (Resource.PROJECT, Verb.UPDATE): _ADMINS,
    (Resource.ADDRESS, Verb.LIST): _USERS,
    (Resource.ADDRESS, Verb.UPDATE): _WRITERS,
    (Resource.ADDRESS, Verb.DELETE): _WRITERS,
    (Resource.ADDRESS_HOLD, Verb.DELETE): _ADMINS,
    (Resource.ADDRESS_HISTORY, Verb.LIST): _USERS,
    (Resource.ADDRESS_PLAN, Verb.CREATE): _ADMINS,
    (Resource.PORT, Verb.LIST): _USERS,
    (Resource.PORT, Verb.SHOW): _USERS,
    (Resource.PORT, Verb.CREATE): _WRITERS,
    (Resource.PORT, Verb.UPDATE): _WRITERS,
    (Resource.PORT, Verb.DELETE): _WRITERS,
    (Resource.PORT_BINDING, Verb.LIST): _OPERATORS,
    (Resource.PORT_BINDING, Verb.CREATE): _ADMINS,
    (Resource.PORT_BINDING, Verb.UPDATE): _ADMINS,
    (Resource.PORT_BINDING, Verb.DELETE): _ADMINS,
    (Resource.PORT_METADATA, Verb.SHOW): _USERS,
    (Resource.PORT_METADATA, Verb.UPDATE): _WRITERS,
    (Resource.MACHINE_METADATA, Verb.SHOW): _AGENTS | _ADMINS,
    (Resource.MACHINE_METADATA, Verb.REPORT): _AGENTS,
    (Resource.NODE, Verb.LIST): _OPERATORS,
    (Resource.NODE, Verb.SHOW): _OPERATORS,
    (Resource.NODE, Verb.DELETE): _ADMINS,
    (Resource.NODE, Verb.REPORT): _AGENTS,
    (Resource.NODE_PORT, Verb.LIST): _AGENTS,
    (Resource.NODE_PORT, Verb.SHOW): _AGENTS,
    (Resource.INTERFACES, Verb.REPORT): _AGENTS,
    (Resource.INTERFACES, Verb.SHOW): _AGENTS,
    (Resource.CONTROLLER, Verb.LIST): _OPERATORS,
    (Resource.DNS, Verb.REPORT): _AGENTS,
    (Resource.ERRAND, Verb.REPORT): _AGENTS,
    (Resource.CAPTURE, Verb.CREATE): _WRITERS,
    (Resource.CAPTURE, Verb.SHOW): _WRITERS,
    (Resource.PROBLEM, Verb.LIST): _USERS,
    (Resource.QUARANTINE, Verb.LIST): _OPERATORS,
    (Resource.TRACE, Verb.SHOW): _USERS,
    (Resource.FLOATING_IP_POOL, Verb.LIST): _USERS,
    (Resource.FLOATING_IP_POOL, Verb.SHOW): _USERS,
    (Resource.FLOATING_IP_POOL, Verb.CREATE): _ADMINS,
    (Resource.FLOATING_IP_POOL, Verb.DELETE): _ADMINS,
    (Resource.FLOATING_IP, Verb.LIST): _USERS,
    (Resource.FLOATING_IP, Verb.SHOW): _USERS,
    (Resource.FLOATING_IP, Verb.CREATE): _WRITERS,
    (Resource.FLOATING_IP, Verb.UPDATE): _WRITERS,
    (Resource.FLOATING_IP, Verb.DELETE): _WRITERS,
    (Resource.PORT_FORWARDING, Verb.LIST): _USERS,
    (Resource.PORT_FORWARDING, Verb.SHOW): _USERS,
    (Resource.PORT_FORWARDING, Verb.CREATE): _WRITERS,
    (Resource.PORT_FORWARDING, Verb.DELETE): _WRITERS,
    (Resource.LEASE, Verb.LIST): _USERS,
    (Resource.QUOTA, Verb.SHOW): _USERS,
    (Resource.QUOTA, Verb.UPDATE): _ADMINS,
    (Resource.SECURITY_GROUP, Verb.LIST): _USERS,
    (Resource.SECURITY_GROUP, Verb.SHOW): _USERS,
    (Resource.SECURITY_GROUP, Verb.CREATE): _WRITERS,
    (Resource.SECURITY_GROUP, Verb.UPDATE): _WRITERS,
    (Resource.SECURITY_GROUP, Verb.DELETE): _WRITERS,
    (Resource.SECURITY_GROUP_RULE, Verb.LIST): _USERS,
    (Resource.SECURITY_GROUP_RULE, Verb.SHOW): _USERS,
    (Resource.SECURITY_GROUP_RULE, Verb.CREATE): _WRITERS,
    (Resource.SECURITY_GROUP_RULE, Verb.DELETE): _WRITERS,
    (Resource.DEFAULT_RULE, Verb.LIST): _OPERATORS,
    (Resource.DEFAULT_RULE, Verb.SHOW): _OPERATORS,
    (Resource.DEFAULT_RULE, Verb.CREATE): _ADMINS,
    (Resource.DEFAULT_RULE, Verb.DELETE): _ADMINS,
    (Resource.PROVIDER_RULE, Verb.LIST): _OPERATORS,
    (Resource.PROVIDER_RULE, Verb.SHOW): _OPERATORS,
    (Resource.PROVIDER_RULE, Verb.CREATE): _ADMINS,
    (Resource.PROVIDER_RULE, Verb.DELETE): _ADMINS,
    (Resource.DNS_ZONE, Verb.LIST): _USERS,
    (Resource.DNS_ZONE, Verb.SHOW): _USERS,
    (Resource.DNS_ZONE, Verb.CREATE): _WRITERS,
    (Resource.DNS_ZONE, Verb.UPDATE): _WRITERS,
    (Resource.DNS_ZONE, Verb.DELETE): _WRITERS,
    (Resource.DNS_RECORD, Verb.LIST): _USERS,
    (Resource.DNS_RECORD, Verb.SHOW): _USERS,
    (Resource.DNS_RECORD, Verb.CREATE): _WRITERS,
    (Resource.DNS_RECORD, Verb.UPDATE): _WRITERS,
    (Resource.DNS_RECORD, Verb.DELETE): _WRITERS,
    (Resource.TOKEN, Verb.LIST): _ADMINS,
    (Resource.TOKEN, Verb.SHOW): _ADMINS,
    (Resource.TOKEN, Verb.CREATE): _ADMINS,
    (Resource.TOKEN, Verb.UPDATE): _ADMINS,
    (Resource.TOKEN, Verb.DELETE): _ADMINS,
    (Resource.AUDIT, Verb.LIST): _OPERATORS,
    (Resource.EVENT, Verb.LIST): _USERS,
    (Resource.DROP, Verb.LIST): _USERS,
    (Resource.PLAN, Verb.CREATE): _ADMINS,
    (Resource.REVISION, Verb.SHOW): _USERS,
    (Resource.TOPOLOGY, Verb.SHOW): _USERS,
    (Resource.INDEX, Verb.SHOW): frozenset(Role),
    (Resource.METRICS, Verb.SHOW): _OPERATORS,
    (Resource.STATS, Verb.SHOW): _OPERATORS,
}

# What a token may be narrowed to, as NAME:read or NAME:write. Each resource is in one of them or in `_ALWAYS`.
SCOPES: Mapping[str, frozenset[Resource]] = {
    "networks": frozenset({Resource.NETWORK, Resource.NETWORK_PROJECT, Resource.PROJECT}),
    "addresses": frozenset(
        {Resource.ADDRESS, Resource.ADDRESS_HOLD, Resource.ADDRESS_HISTORY, Resource.ADDRESS_PLAN, Resource.LEASE}
    ),
    "ports": frozenset({Resource.PORT, Resource.PORT_BINDING, Resource.DROP, Resource.TRACE}),
    "captures": frozenset({Resource.CAPTURE}),
    "metadata": frozenset({Resource.PORT_METADATA, Resource.MACHINE_METADATA}),
    "floating-ips": frozenset({Resource.FLOATING_IP, Resource.PORT_FORWARDING}),
    "floating-ip-pools": frozenset({Resource.FLOATING_IP_POOL}),
    "security-groups": frozenset({Resource.SECURITY_GROUP, Resource.SECURITY_GROUP_RULE}),
    "rules": frozenset({Resource.DEFAULT_RULE, Resource.PROVIDER_RULE}),
    "dns": frozenset({Resource.DNS_ZONE, Resource.DNS_RECORD}),
    "quotas": frozenset({Resource.QUOTA}),
    "nodes": frozenset(
        {
            Resource.NODE,
            Resource.NODE_PORT,
            Resource.INTERFACES,
            Resource.CONTROLLER,
            Resource.DNS,
            Resource.ERRAND,
            Resource.QUARANTINE,
        }
    ),
    "audit": frozenset({Resource.AUDIT}),
    "events": frozenset({Resource.EVENT}),
    "metrics": frozenset({Resource.METRICS, Resource.STATS, Resource.PROBLEM}),
}
ALL_SCOPES = "all"
# Of a plan each request is looked at by itself, and the topology tells only what the token may list.
_ALWAYS = frozenset(
    {Resource.INDEX, Resource.REVISION, Resource.HEALTH, Resource.PLAN, Resource.TOPOLOGY, Resource.PAGE}
)
# A narrowed token must not make a wider one: it has nothing to do with tokens.
_NEVER = frozenset({Resource.TOKEN})
_READS = frozenset({Verb.LIST, Verb.SHOW})


def allowed_by(scopes: Collection[str]) -> frozenset[tuple[Resource, Verb]]:
    """What a token with these scopes may, if its role may. Raises ValueError for one that there is not."""
    allowed = {(resource, verb) for resource in _ALWAYS for verb in Verb}
    for scope in scopes:
        name, _, access = scope.partition(":")
        resources = frozenset(Resource) - _NEVER if name == ALL_SCOPES else SCOPES.get(name)
        if resources is None or access not in ("read", "write"):
            raise ValueError(
                f"{scope[:64]}: no such scope (NAME:read or NAME:write of {ALL_SCOPES}, {', '.join(SCOPES)})"
            )
        allowed |= {(resource, verb) for resource in resources for verb in (Verb if access == "write" else _READS)}
    return frozenset(allowed)


# Fields only an administrator may send, even with their default value: a member who could pick a VLAN id, the
# untagged side of a physical network (kind flat) or the world as its audience would reach what is not its own, and who
# could pick a port's id or node could take over an interface that is waiting for its port. One who could exempt its
# network from NAT could send to the outside from any source; own SNAT addresses use up the external network's; one who
# could name upstreams could have the controller ask whatever it reaches. A port
# without port security could send as anybody, and limits are what the operator sells.
ADMIN_NETWORK_FIELDS = frozenset(
    {
        "shared",
        "external",
        "segment",
        "snat_exempt",
        "own_snat_address",
        "dhcp_relays",
        "dns_upstreams",
        "filtering",
        "gateway_node",
        "assignable",
    }
)
ADMIN_PORT_FIELDS = frozenset({"id", "node", "interface_name", "port_security", "qos"})
# what the operator has machines do, whoever owns them
ADMIN_METADATA_FIELDS = frozenset({"vendor_data"})
# who is told what a zone holds, and who may write to it
ADMIN_DNS_ZONE_FIELDS = frozenset({"scope", "project_id"})


@dataclass(frozen=True, slots=True)
class Identity:
    """`scope` is the project of a member, the node of an agent (None: any node), and None for the other roles.
    `allowed`: what its token is narrowed to (see `allowed_by`), None if it is not. `origin`: how the request came.
    """

    role: Role
    scope: str | None = None
    allowed: frozenset[tuple[Resource, Verb]] | None = None
    origin: Origin = Origin()

    @property
    def name(self) -> str:
        return self.role.value if self.scope is None else f"{self.role.value}:{self.scope}"

    @property
    def actor(self) -> Actor:
        """For the journal."""
        return Actor(self.name, self.origin)

    def may(self, resource: Resource, verb: Verb) -> bool:
        if self.allowed is not None and (resource, verb) not in self.allowed:
            return False
        return self.role in PERMISSIONS.get((resource, verb), frozenset())

    @property
    def project(self) -> str | None:
        """The only project whose objects the identity may see and change; None when there is no such limit."""
        return self.scope if self.role is Role.MEMBER else None

    def owns(self, project_id: str | None) -> bool:
        return self.project is None or project_id == self.project

    @property
    def operates(self) -> bool:
        """Whether how the cloud is built is its business."""
        return self.role in _OPERATORS

    def sees_network(self, network: NetworkSpec) -> bool:
        return network.shared or network.external or self.owns(network.project_id)

    def may_plug_into(self, network: NetworkSpec) -> bool:
        """Whether it may create ports there. What answers on an external network is the world outside to everybody."""
        return self.project is None or not network.external

    def may_address_on(self, network: NetworkSpec) -> bool:
        """Whether it may choose MACs and addresses there: on a network of others they could be somebody else's."""
        return self.project is None or (network.project_id == self.project and not network.external)

    def may_pair_on(self, network: NetworkSpec) -> bool:
        """Whether it may have ports there use more addresses than their own."""
        return self.project is None or (self.may_address_on(network) and not network.shared)

    def speaks_for(self, node: str) -> bool:
        return self.role is Role.AGENT and self.scope in (None, node)
