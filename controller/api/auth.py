"""Who asks, and whether they may: bearer tokens (RFC 6750), roles, and one table of permissions.

What is not in `PERMISSIONS` is refused. A role's permission says nothing about a single object: that a member sees and
changes only what is of its project is decided by `Identity.owns` and `Identity.sees_network`.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

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
    INTERFACES = "interfaces"
    CONTROLLER = "controller"
    DNS = "dns"
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
    REVISION = "revision"
    INDEX = "index"
    HEALTH = "health"
    METRICS = "metrics"
    STATS = "stats"


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
    (Resource.INTERFACES, Verb.REPORT): _AGENTS,
    (Resource.CONTROLLER, Verb.LIST): _OPERATORS,
    (Resource.DNS, Verb.REPORT): _AGENTS,
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
    (Resource.REVISION, Verb.SHOW): _USERS,
    (Resource.INDEX, Verb.SHOW): frozenset(Role),
    (Resource.METRICS, Verb.SHOW): _OPERATORS,
    (Resource.STATS, Verb.SHOW): _OPERATORS,
}

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
ADMIN_PORT_FIELDS = frozenset({"id", "node", "port_security", "qos"})
# what the operator has machines do, whoever owns them
ADMIN_METADATA_FIELDS = frozenset({"vendor_data"})
# who is told what a zone holds, and who may write to it
ADMIN_DNS_ZONE_FIELDS = frozenset({"scope", "project_id"})


@dataclass(frozen=True, slots=True)
class Identity:
    """`scope` is the project of a member, the node of an agent (None: any node), and None for the other roles."""

    role: Role
    scope: str | None = None

    @property
    def actor(self) -> str:
        """The name in the journal's column of that name."""
        return self.role.value if self.scope is None else f"{self.role.value}:{self.scope}"

    def may(self, resource: Resource, verb: Verb) -> bool:
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


@dataclass(frozen=True, slots=True)
class Credential:
    token: str
    identity: Identity

    def __repr__(self) -> str:  # the secret must not get into a log by way of a dataclass
        return f"Credential({self.identity})"


# RFC 6750 section 2.1 (b64token)
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{4,255}=*")
_SCOPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,254}")


def parse_credential(text: str) -> Credential:
    """Reads `ROLE:TOKEN[:SCOPE]`. Raises ValueError, with a message that does not hold the token."""
    role_name, _, rest = text.strip().partition(":")
    token, separator, scope = rest.partition(":")
    try:
        role = Role(role_name)
    except ValueError:
        raise ValueError(f"the role must be one of {', '.join(Role)} (format ROLE:TOKEN[:SCOPE])") from None
    if not _TOKEN.fullmatch(token):
        raise ValueError("the token must be 4 to 255 letters, digits or ._~+/- characters")
    if separator and not _SCOPE.fullmatch(scope):
        raise ValueError("the scope must be letters, digits or ._@- characters")
    if role is Role.MEMBER and not scope:
        raise ValueError("a member needs its project: member:TOKEN:PROJECT")
    if role in _OPERATORS and scope:
        raise ValueError(f"role {role} has no scope")
    return Credential(token, Identity(role, scope or None))


def parse_credentials(texts: Iterable[str]) -> tuple[Credential, ...]:
    """Raises ValueError naming the position of the bad token, from 1."""
    credentials: list[Credential] = []
    for position, text in enumerate(texts, start=1):
        try:
            credential = parse_credential(text)
        except ValueError as error:
            raise ValueError(f"token number {position}: {error}") from None
        if any(credential.token == other.token for other in credentials):
            raise ValueError(f"token number {position}: the same token is configured twice")
        credentials.append(credential)
    return tuple(credentials)


class Authenticator:
    """Finds the identity of a token."""

    def __init__(self, credentials: Iterable[Credential]) -> None:
        self._known = tuple((credential.token.encode(), credential.identity) for credential in credentials)

    def identify(self, authorization: str | None) -> Identity | None:
        """The identity behind an `Authorization` header, or None. Looks at every token so that time tells nothing."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        offered = token.strip().encode("utf-8", "replace")
        found = None
        for known, identity in self._known:
            if hmac.compare_digest(known, offered):
                found = identity
        return found
