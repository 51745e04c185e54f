"""The tables, but for those of `ipv6_schema`. What must never be true twice is a constraint here, not a check in the
code.

IPv4 addresses are stored as integers, so that ranges can be compared. Times are seconds since the epoch (UTC).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    true,
)
from sqlalchemy.types import TypeEngine

from flows.model import DatapathType

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

ID = String(36)
NAME = String(255)

AddressType = type[TypeEngine[Any]]
"""Of a column that holds addresses: those of IPv6 do not fit an integer."""

# Keys and revisions come from here and not from the database's own sequences: those are handed out before commit, so
# a reader could see revision 8 and never learn of 7. The row is also the lock that puts writers in one line.
counters = Table(
    "counters",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", BigInteger, nullable=False),
)

journal = Table(
    "journal",
    metadata,
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", String(16), nullable=False),
    Column("object_id", NAME, nullable=False),
    Column("action", String(16), nullable=False),
    Column("actor", NAME, nullable=False),
    Column("at", Double, nullable=False),
    Column("payload", JSON, nullable=False),
    # what of the payload's fields was there before; NULL: nothing is known of it
    Column("old", JSON(none_as_null=True)),
    # of the request, if it was one (`actors.Origin`)
    Column("token", NAME),
    Column("address", String(45)),
    Column("request_id", String(32)),
    Index(None, "kind", "object_id"),
)

networks = Table(
    "networks",
    metadata,
    Column("id", ID, primary_key=True),
    Column("key", Integer, nullable=False, unique=True),
    Column("router_key", Integer, nullable=False),
    Column("name", NAME, nullable=False),
    Column("project_id", NAME, index=True),
    Column("shared", Boolean, nullable=False),
    Column("external", Boolean, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("physical_network", NAME, nullable=False),
    # 0 is "untagged": a NULL would escape the unique constraint
    Column("segment", Integer, nullable=False),
    Column("mtu", Integer, nullable=False),
    Column("gateway_mode", String(16), nullable=False),
    Column("carrier_nat", Boolean, nullable=False),
    Column("dhcp", Boolean, nullable=False),
    Column("dns_domain", NAME, nullable=False),
    Column("arp_responder", Boolean, nullable=False),
    Column("external_network_id", ID, ForeignKey("networks.id")),
    Column("lease_time", Integer, nullable=False),
    Column("dhcp_options", JSON, nullable=False),
    Column("ntp_servers", JSON, nullable=False),
    Column("routes", JSON, nullable=False),
    Column("snat_exempt", JSON, nullable=False),
    Column("force_snat", JSON, nullable=False),
    Column("own_snat_address", Boolean, nullable=False),
    # `project`, `isolated`, or the id of the network that it joined
    Column("router", ID, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("revision", BigInteger, nullable=False),
    # the defaults are those of rows from before there were security groups
    Column("allow_same_net_traffic", Boolean, nullable=False, server_default=true()),
    Column("filtering", Boolean, nullable=False, server_default=false()),
    # to be given to a project, and taken back
    Column("assignable", Boolean, nullable=False, server_default=false()),
    # with gateway mode `single`; `pinned`: the operator's choice
    Column("gateway_node", NAME),
    Column("gateway_node_pinned", Boolean, nullable=False, server_default=false()),
    Column("dhcp_relays", JSON, nullable=False, server_default="[]"),
    Column("dns_upstreams", JSON, nullable=False, server_default="[]"),
    UniqueConstraint("physical_network", "segment"),
)

subnets = Table(
    "subnets",
    metadata,
    Column("id", ID, primary_key=True),
    Column("network_id", ID, ForeignKey("networks.id"), nullable=False, index=True),
    Column("cidr", String(18), nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("last", BigInteger, nullable=False),
    Column("gateway", BigInteger),
    Column("dns_servers", JSON, nullable=False),
    Column("host_routes", JSON, nullable=False),
    # in order of creation: an address that nobody asks for is of the first one that has room
    Column("position", Integer, nullable=False, server_default="0"),
    Index(None, "first", "last"),
)

# What the operator declared: kind is `allocation` or `reserved`.
subnet_ranges = Table(
    "subnet_ranges",
    metadata,
    Column("subnet_id", ID, ForeignKey("subnets.id"), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("first", BigInteger, primary_key=True),
    Column("last", BigInteger, nullable=False),
)

# What follows from it: the ranges to choose from. Every address below `next` has had an owner once and so has a row
# in `addresses`; `next` only moves up, so finding the lowest never-used address never walks the subnet.
pools = Table(
    "pools",
    metadata,
    Column("subnet_id", ID, ForeignKey("subnets.id"), primary_key=True),
    Column("first", BigInteger, primary_key=True),
    Column("last", BigInteger, nullable=False),
    Column("next", BigInteger, nullable=False),
)

nodes = Table(
    "nodes",
    metadata,
    Column("name", NAME, primary_key=True),
    Column("key", Integer, nullable=False, unique=True),
    # 16 hexadecimal digits: 64 unsigned bits do not fit a database's integer
    Column("datapath_id", String(16), nullable=False, unique=True),
    Column("snat_addresses", JSON, nullable=False),
    Column("tunnel_address", BigInteger),
    Column("versions", JSON, nullable=False),
    Column("datapath_type", String(16), nullable=False, server_default=DatapathType.NETDEV),
    Column("problems", JSON, nullable=False, server_default="[]"),
    Column("serial", BigInteger, nullable=False),
    Column("next_zone", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("revision", BigInteger, nullable=False),
)

# `ofport` is NULL until the node reports it.
node_uplinks = Table(
    "node_uplinks",
    metadata,
    Column("node", NAME, ForeignKey("nodes.name"), primary_key=True),
    Column("physical_network", NAME, primary_key=True),
    Column("position", Integer, nullable=False),
    Column("ofport", Integer),
)

ports = Table(
    "ports",
    metadata,
    Column("id", ID, primary_key=True),
    Column("key", Integer, nullable=False, unique=True),
    Column("network_id", ID, ForeignKey("networks.id"), nullable=False),
    Column("mac", String(17), nullable=False),
    Column("name", NAME, nullable=False),
    Column("hostname", NAME, nullable=False),
    Column("project_id", NAME, index=True),
    Column("device_id", NAME, nullable=False),
    Column("node", NAME),
    Column("bound_node", NAME, ForeignKey("nodes.name")),
    Column("ofport", Integer),
    Column("zone", Integer),
    # a VM on its way (flows.model.MigrationPhase): the other node, with what is known of the interface there
    Column("migration", String(16)),
    Column("other_node", NAME, ForeignKey("nodes.name")),
    Column("other_ofport", Integer),
    Column("other_zone", Integer),
    Column("moved_at", Double),
    # why it is bound nowhere though a node shows its interface
    Column("binding_error", String(1024)),
    Column("dhcp_options", JSON, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("port_security", Boolean, nullable=False, server_default=true()),
    Column("address_pairs", JSON, nullable=False, server_default="[]"),
    Column("qos", JSON, nullable=False, server_default="{}"),
    Column("interface_name", String(15)),
    UniqueConstraint("network_id", "mac"),
    UniqueConstraint("bound_node", "zone"),
    UniqueConstraint("other_node", "other_zone"),
    Index(None, "device_id"),
    Index(None, "interface_name"),
    CheckConstraint(
        "(bound_node IS NULL) = (ofport IS NULL) AND (bound_node IS NULL) = (zone IS NULL)", name="binding_is_whole"
    ),
    CheckConstraint(
        "(other_node IS NULL) = (migration IS NULL) AND (other_ofport IS NULL) = (other_zone IS NULL) "
        "AND (other_node IS NULL OR bound_node != other_node)",
        name="migration_is_whole",
    ),
)

# The one place that says who has an address. `owner` is port, gateway (of a node; of the network when `node` is NULL),
# snat (of a node), floating_ip or pair (see virtual_addresses); NULL means released, at the journal revision
# `released_at`, and free to be claimed.
addresses = Table(
    "addresses",
    metadata,
    Column("subnet_id", ID, ForeignKey("subnets.id"), primary_key=True),
    Column("address", BigInteger, primary_key=True),
    Column("owner", String(16)),
    Column("port_id", ID, ForeignKey("ports.id"), index=True),
    Column("position", Integer),
    Column("node", NAME, ForeignKey("nodes.name"), index=True),
    # the network that an SNAT address is for alone; not NULL, which would escape the unique constraint
    Column("for_network", ID, nullable=False, default=""),
    Column("idle_since", Double),
    Column("released_at", BigInteger),
    # released, but kept until then: whoever had it may still use it, or has a lease that ends at `leased_until`
    Column("held_until", Double, index=True),
    Column("leased_until", Double),
    CheckConstraint("(owner IS NULL) = (released_at IS NOT NULL)", name="owned_or_released"),
    CheckConstraint("(port_id IS NOT NULL) = (owner IS NOT NULL AND owner = 'port')", name="port_owner"),
    # one gateway and one SNAT address for a node, and one more for each network that has its own
    UniqueConstraint("subnet_id", "node", "owner", "for_network"),
    Index(None, "subnet_id", "released_at", "address"),
)

# Which ports may use an address by their pairs, if it is a single one of the network's subnets, and which of them holds
# it. It is the address of a port, or nobody's: then its owner in `addresses` is `pair`.
virtual_addresses = Table(
    "virtual_addresses",
    metadata,
    Column("port_id", ID, ForeignKey("ports.id"), primary_key=True),
    Column("address", BigInteger, primary_key=True, autoincrement=False),
    Column("mac", String(17), primary_key=True),
    Column("network_id", ID, ForeignKey("networks.id"), nullable=False),
    Column("held", Boolean, nullable=False),
    Index(None, "network_id", "address"),
)
Index(
    "one_holder",
    virtual_addresses.c.network_id,
    virtual_addresses.c.address,
    unique=True,
    sqlite_where=virtual_addresses.c.held,
    postgresql_where=virtual_addresses.c.held,
)


def history_table(name: str, address: AddressType) -> Table:
    """Who had which address, and when: of ports and floating IPs. It outlives all that it names; so it names them by
    what they were called. `ended_at` NULL: still so.
    """
    return Table(
        name,
        metadata,
        Column("network_id", ID, primary_key=True),
        Column("address", address, primary_key=True),
        Column("revision", BigInteger, primary_key=True, autoincrement=False),
        Column("kind", String(16), nullable=False),
        Column("object_id", ID, nullable=False),
        Column("network_name", NAME, nullable=False),
        Column("project_id", NAME),
        Column("port_id", ID),
        Column("port_name", NAME),
        Column("device_id", NAME),
        Column("mac", String(17)),
        Column("began_at", Double, nullable=False),
        Column("ended_at", Double),
        Index(None, "address", "began_at"),
        Index(None, "object_id", "ended_at"),
    )


def neighbour_table(name: str, address: AddressType) -> Table:
    """Next hops on external networks, as nodes resolved them."""
    return Table(
        name,
        metadata,
        Column("node", NAME, ForeignKey("nodes.name"), primary_key=True),
        Column("network_id", ID, ForeignKey("networks.id"), primary_key=True),
        Column("address", address, primary_key=True),
        Column("mac", String(17), nullable=False),
    )


address_history = history_table("address_history", BigInteger)

neighbours = neighbour_table("neighbours", BigInteger)

# What agents reported, known to us or not: a port made later finds its interface here.
interfaces = Table(
    "interfaces",
    metadata,
    Column("node", NAME, ForeignKey("nodes.name"), primary_key=True),
    Column("iface_id", NAME, primary_key=True),
    Column("name", NAME, nullable=False),
    Column("ofport", Integer, nullable=False),
    Column("mac", NAME, nullable=False),
    Index(None, "iface_id"),
)


def lease_table(name: str, address: AddressType) -> Table:
    """What DHCP has given out."""
    return Table(
        name,
        metadata,
        Column("port_id", ID, ForeignKey("ports.id"), primary_key=True),
        Column("address", address, primary_key=True),
        Column("state", String(16), nullable=False),
        Column("updated_at", Double, nullable=False),
        Column("expires_at", Double, nullable=False),
        Column("client_id", NAME, nullable=False),
        Column("hostname", NAME, nullable=False),
    )


leases = lease_table("leases", BigInteger)

floating_ip_pools = Table(
    "floating_ip_pools",
    metadata,
    Column("id", ID, primary_key=True),
    Column("name", NAME, nullable=False, unique=True),
    Column("network_id", ID, ForeignKey("networks.id"), nullable=False, index=True),
    Column("created_at", Double, nullable=False),
    Column("revision", BigInteger, nullable=False),
)

# No two overlap. Every address below `next` has had an owner once (as in `pools`), or may have none.
floating_ip_pool_ranges = Table(
    "floating_ip_pool_ranges",
    metadata,
    Column("subnet_id", ID, ForeignKey("subnets.id"), primary_key=True),
    Column("first", BigInteger, primary_key=True),
    Column("last", BigInteger, nullable=False),
    Column("next", BigInteger, nullable=False),
    Column("pool_id", ID, ForeignKey("floating_ip_pools.id"), nullable=False, index=True),
)

# Its address is also one of `addresses`, so that nothing else can have it. `auto`: assigned with its port, and goes
# with it.
floating_ips = Table(
    "floating_ips",
    metadata,
    Column("id", ID, primary_key=True),
    Column("key", Integer, nullable=False, unique=True),
    Column("pool_id", ID, ForeignKey("floating_ip_pools.id"), nullable=False, index=True),
    Column("subnet_id", ID, nullable=False),
    Column("address", BigInteger, nullable=False),
    Column("project_id", NAME, index=True),
    Column("port_id", ID, ForeignKey("ports.id"), index=True),
    Column("fixed_ip", BigInteger),
    Column("auto", Boolean, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("revision", BigInteger, nullable=False),
    UniqueConstraint("subnet_id", "address"),
    ForeignKeyConstraint(["subnet_id", "address"], ["addresses.subnet_id", "addresses.address"]),
    CheckConstraint("(port_id IS NULL) = (fixed_ip IS NULL)", name="association_is_whole"),
)

# `protocol` is an IP protocol with ports.
port_forwardings = Table(
    "port_forwardings",
    metadata,
    Column("id", ID, primary_key=True),
    Column("key", Integer, nullable=False, unique=True),
    Column("floating_ip_id", ID, ForeignKey("floating_ips.id"), nullable=False),
    Column("protocol", Integer, nullable=False),
    Column("first", Integer, nullable=False),
    Column("last", Integer, nullable=False),
    Column("port_id", ID, ForeignKey("ports.id"), nullable=False, index=True),
    Column("fixed_ip", BigInteger, nullable=False),
    Column("to", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("floating_ip_id", "protocol", "first"),
)

# `project_id` "" is the operator's own: a NULL would escape the unique constraint.
security_groups = Table(
    "security_groups",
    metadata,
    Column("id", ID, primary_key=True),
    Column("key", Integer, nullable=False, unique=True),
    Column("project_id", NAME, nullable=False),
    Column("name", NAME, nullable=False),
    Column("description", NAME, nullable=False),
    Column("stateful", Boolean, nullable=False),
    Column("log_accepted", Boolean, nullable=False),
    Column("log_dropped", Boolean, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("revision", BigInteger, nullable=False),
    UniqueConstraint("project_id", "name"),
)

# `matches` is all that a rule is about in one text, for NULLs escape a unique constraint (see service_rows).
security_group_rules = Table(
    "security_group_rules",
    metadata,
    Column("id", ID, primary_key=True),
    Column("key", Integer, nullable=False, unique=True),
    Column("group_id", ID, ForeignKey("security_groups.id"), nullable=False),
    Column("direction", String(16), nullable=False),
    Column("protocol", Integer),
    Column("first", Integer),
    Column("last", Integer),
    Column("icmp_type", Integer),
    Column("icmp_code", Integer),
    Column("remote_cidr", String(43)),
    Column("remote_group_id", ID, ForeignKey("security_groups.id"), index=True),
    Column("log", Boolean, nullable=False),
    Column("description", NAME, nullable=False),
    Column("matches", String(128), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("family", Integer, nullable=False, server_default="4"),
    CheckConstraint("remote_cidr IS NULL OR remote_group_id IS NULL", name="one_remote"),
    UniqueConstraint("group_id", "matches"),
)

port_security_groups = Table(
    "port_security_groups",
    metadata,
    Column("port_id", ID, ForeignKey("ports.id"), primary_key=True),
    Column("group_id", ID, ForeignKey("security_groups.id"), primary_key=True, index=True),
)

# What a new group begins with. `applies_to` is default, other or all; `own_group`: the remote is the group itself.
default_rules = Table(
    "default_rules",
    metadata,
    Column("id", ID, primary_key=True),
    Column("applies_to", String(16), nullable=False),
    Column("direction", String(16), nullable=False),
    Column("protocol", Integer),
    Column("first", Integer),
    Column("last", Integer),
    Column("icmp_type", Integer),
    Column("icmp_code", Integer),
    Column("remote_cidr", String(43)),
    Column("own_group", Boolean, nullable=False),
    Column("description", NAME, nullable=False),
    Column("matches", String(128), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("family", Integer, nullable=False, server_default="4"),
    CheckConstraint("remote_cidr IS NULL OR NOT own_group", name="one_remote"),
    UniqueConstraint("applies_to", "matches"),
)

# What the operator drops for all VMs. `direction` NULL: both ways.
provider_rules = Table(
    "provider_rules",
    metadata,
    Column("id", ID, primary_key=True),
    Column("key", Integer, nullable=False, unique=True),
    Column("direction", String(16)),
    Column("protocol", Integer),
    Column("first", Integer),
    Column("last", Integer),
    Column("icmp_type", Integer),
    Column("icmp_code", Integer),
    Column("cidr", String(18), nullable=False),
    Column("description", NAME, nullable=False),
    Column("matches", String(128), nullable=False, unique=True),
    Column("created_at", Double, nullable=False),
    Column("revision", BigInteger, nullable=False),
)

# `audience`: whose VMs see it. It is a project, "" the operator, or "*" all (scope `public`).
dns_zones = Table(
    "dns_zones",
    metadata,
    Column("id", ID, primary_key=True),
    Column("key", Integer, nullable=False, unique=True),
    Column("name", NAME, nullable=False),
    Column("scope", String(16), nullable=False),
    Column("audience", NAME, nullable=False),
    Column("project_id", NAME, index=True),
    Column("ttl", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("revision", BigInteger, nullable=False),
    UniqueConstraint("name", "audience"),
)

# The networks whose ports have names in a zone.
dns_zone_networks = Table(
    "dns_zone_networks",
    metadata,
    Column("zone_id", ID, ForeignKey("dns_zones.id"), primary_key=True),
    Column("network_id", ID, ForeignKey("networks.id"), primary_key=True, index=True),
)

# `name` is whole (flows.model.DnsRecord). `ttl` NULL: the zone's.
dns_records = Table(
    "dns_records",
    metadata,
    Column("id", ID, primary_key=True),
    Column("key", Integer, nullable=False, unique=True),
    Column("zone_id", ID, ForeignKey("dns_zones.id"), nullable=False),
    Column("name", NAME, nullable=False, index=True),
    Column("type", String(16), nullable=False),
    Column("data", String(1024), nullable=False, index=True),
    Column("ttl", Integer),
    Column("floating_ip_id", ID, ForeignKey("floating_ips.id"), index=True),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("zone_id", "name", "type", "data"),
)

# What the conntrack of nodes must still forget (`controller.forgetting.Debt`). "" is all of a zone.
owed = Table(
    "owed",
    metadata,
    Column("node", NAME, ForeignKey("nodes.name"), primary_key=True),
    Column("zone", Integer, primary_key=True, autoincrement=False),
    Column("end", String(32), primary_key=True),
    Column("address", BigInteger, primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False, index=True),
)

# What a project may have, where that is not what the configuration says. `name` is a field of specs.Limits, `value` -1
# means as many as it likes.
quotas = Table(
    "project_quotas",
    metadata,
    Column("project_id", NAME, primary_key=True),
    Column("name", String(32), primary_key=True),
    Column("value", Integer, nullable=False),
)

# What the API was given for a machine, and the password that it has told. `machine_id` is the device_id of its ports,
# or the id of a port that has none; `project_id` is "" for ports of no project, for NULL would escape the key.
machine_metadata = Table(
    "machine_metadata",
    metadata,
    Column("project_id", NAME, primary_key=True),
    Column("machine_id", NAME, primary_key=True),
    Column("public_keys", JSON, nullable=False),
    Column("user_data", LargeBinary),
    Column("vendor_data", JSON(none_as_null=True)),
    Column("meta", JSON, nullable=False),
    Column("availability_zone", NAME, nullable=False),
    Column("instance_type", NAME, nullable=False),
    Column("password", Text),
    Column("revision", BigInteger, nullable=False),
)
