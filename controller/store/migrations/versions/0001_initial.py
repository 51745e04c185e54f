"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "counters",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_counters")),
    )
    op.create_table(
        "journal",
        sa.Column("revision", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("object_id", sa.String(length=255), nullable=False),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("revision", name=op.f("pk_journal")),
    )
    op.create_index(op.f("ix_journal_kind_object_id"), "journal", ["kind", "object_id"], unique=False)

    op.create_table(
        "networks",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("key", sa.Integer(), nullable=False),
        sa.Column("router_key", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("project_id", sa.String(length=255), nullable=True),
        sa.Column("shared", sa.Boolean(), nullable=False),
        sa.Column("external", sa.Boolean(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("physical_network", sa.String(length=255), nullable=False),
        sa.Column("segment", sa.Integer(), nullable=False),
        sa.Column("mtu", sa.Integer(), nullable=False),
        sa.Column("gateway_mode", sa.String(length=16), nullable=False),
        sa.Column("carrier_nat", sa.Boolean(), nullable=False),
        sa.Column("dhcp", sa.Boolean(), nullable=False),
        sa.Column("dns_domain", sa.String(length=255), nullable=False),
        sa.Column("arp_responder", sa.Boolean(), nullable=False),
        sa.Column("external_network_id", sa.String(length=36), nullable=True),
        sa.Column("lease_time", sa.Integer(), nullable=False),
        sa.Column("dhcp_options", sa.JSON(), nullable=False),
        sa.Column("ntp_servers", sa.JSON(), nullable=False),
        sa.Column("routes", sa.JSON(), nullable=False),
        sa.Column("snat_exempt", sa.JSON(), nullable=False),
        sa.Column("force_snat", sa.JSON(), nullable=False),
        sa.Column("own_snat_address", sa.Boolean(), nullable=False),
        sa.Column("router", sa.String(length=36), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["external_network_id"], ["networks.id"], name=op.f("fk_networks_external_network_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_networks")),
        sa.UniqueConstraint("key", name=op.f("uq_networks_key")),
        sa.UniqueConstraint("physical_network", "segment", name=op.f("uq_networks_physical_network_segment")),
    )
    op.create_index(op.f("ix_networks_project_id"), "networks", ["project_id"], unique=False)

    op.create_table(
        "nodes",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("key", sa.Integer(), nullable=False),
        sa.Column("datapath_id", sa.String(length=16), nullable=False),
        sa.Column("snat_addresses", sa.JSON(), nullable=False),
        sa.Column("tunnel_address", sa.BigInteger(), nullable=True),
        sa.Column("versions", sa.JSON(), nullable=False),
        sa.Column("serial", sa.BigInteger(), nullable=False),
        sa.Column("next_zone", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_nodes")),
        sa.UniqueConstraint("datapath_id", name=op.f("uq_nodes_datapath_id")),
        sa.UniqueConstraint("key", name=op.f("uq_nodes_key")),
    )
    op.create_table(
        "interfaces",
        sa.Column("node", sa.String(length=255), nullable=False),
        sa.Column("iface_id", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("ofport", sa.Integer(), nullable=False),
        sa.Column("mac", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(["node"], ["nodes.name"], name=op.f("fk_interfaces_node")),
        sa.PrimaryKeyConstraint("node", "iface_id", name=op.f("pk_interfaces")),
    )
    op.create_index(op.f("ix_interfaces_iface_id"), "interfaces", ["iface_id"], unique=False)

    op.create_table(
        "neighbours",
        sa.Column("node", sa.String(length=255), nullable=False),
        sa.Column("network_id", sa.String(length=36), nullable=False),
        sa.Column("address", sa.BigInteger(), nullable=False),
        sa.Column("mac", sa.String(length=17), nullable=False),
        sa.ForeignKeyConstraint(["network_id"], ["networks.id"], name=op.f("fk_neighbours_network_id")),
        sa.ForeignKeyConstraint(["node"], ["nodes.name"], name=op.f("fk_neighbours_node")),
        sa.PrimaryKeyConstraint("node", "network_id", "address", name=op.f("pk_neighbours")),
    )
    op.create_table(
        "node_uplinks",
        sa.Column("node", sa.String(length=255), nullable=False),
        sa.Column("physical_network", sa.String(length=255), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("ofport", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["node"], ["nodes.name"], name=op.f("fk_node_uplinks_node")),
        sa.PrimaryKeyConstraint("node", "physical_network", name=op.f("pk_node_uplinks")),
    )
    op.create_table(
        "ports",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("key", sa.Integer(), nullable=False),
        sa.Column("network_id", sa.String(length=36), nullable=False),
        sa.Column("mac", sa.String(length=17), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("hostname", sa.String(length=255), nullable=False),
        sa.Column("project_id", sa.String(length=255), nullable=True),
        sa.Column("device_id", sa.String(length=255), nullable=False),
        sa.Column("node", sa.String(length=255), nullable=True),
        sa.Column("bound_node", sa.String(length=255), nullable=True),
        sa.Column("ofport", sa.Integer(), nullable=True),
        sa.Column("zone", sa.Integer(), nullable=True),
        sa.Column("migration", sa.String(length=16), nullable=True),
        sa.Column("other_node", sa.String(length=255), nullable=True),
        sa.Column("other_ofport", sa.Integer(), nullable=True),
        sa.Column("other_zone", sa.Integer(), nullable=True),
        sa.Column("moved_at", sa.Double(), nullable=True),
        sa.Column("binding_error", sa.String(length=1024), nullable=True),
        sa.Column("dhcp_options", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "(bound_node IS NULL) = (ofport IS NULL) AND (bound_node IS NULL) = (zone IS NULL)",
            name=op.f("ck_ports_binding_is_whole"),
        ),
        sa.CheckConstraint(
            "(other_node IS NULL) = (migration IS NULL) AND (other_ofport IS NULL) = (other_zone IS NULL) "
            "AND (other_node IS NULL OR bound_node != other_node)",
            name=op.f("ck_ports_migration_is_whole"),
        ),
        sa.ForeignKeyConstraint(["bound_node"], ["nodes.name"], name=op.f("fk_ports_bound_node")),
        sa.ForeignKeyConstraint(["other_node"], ["nodes.name"], name=op.f("fk_ports_other_node")),
        sa.ForeignKeyConstraint(["network_id"], ["networks.id"], name=op.f("fk_ports_network_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ports")),
        sa.UniqueConstraint("bound_node", "zone", name=op.f("uq_ports_bound_node_zone")),
        sa.UniqueConstraint("other_node", "other_zone", name=op.f("uq_ports_other_node_other_zone")),
        sa.UniqueConstraint("key", name=op.f("uq_ports_key")),
        sa.UniqueConstraint("network_id", "mac", name=op.f("uq_ports_network_id_mac")),
    )
    op.create_index(op.f("ix_ports_project_id"), "ports", ["project_id"], unique=False)

    op.create_table(
        "subnets",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("network_id", sa.String(length=36), nullable=False),
        sa.Column("cidr", sa.String(length=18), nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("gateway", sa.BigInteger(), nullable=True),
        sa.Column("dns_servers", sa.JSON(), nullable=False),
        sa.Column("host_routes", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["network_id"], ["networks.id"], name=op.f("fk_subnets_network_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subnets")),
    )
    op.create_index(op.f("ix_subnets_first_last"), "subnets", ["first", "last"], unique=False)
    op.create_index(op.f("ix_subnets_network_id"), "subnets", ["network_id"], unique=False)

    op.create_table(
        "addresses",
        sa.Column("subnet_id", sa.String(length=36), nullable=False),
        sa.Column("address", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.String(length=16), nullable=True),
        sa.Column("port_id", sa.String(length=36), nullable=True),
        sa.Column("position", sa.Integer(), nullable=True),
        sa.Column("node", sa.String(length=255), nullable=True),
        sa.Column("for_network", sa.String(length=36), nullable=False),
        sa.Column("idle_since", sa.Double(), nullable=True),
        sa.Column("released_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "(port_id IS NOT NULL) = (owner IS NOT NULL AND owner = 'port')", name=op.f("ck_addresses_port_owner")
        ),
        sa.CheckConstraint("(owner IS NULL) = (released_at IS NOT NULL)", name=op.f("ck_addresses_owned_or_released")),
        sa.ForeignKeyConstraint(["node"], ["nodes.name"], name=op.f("fk_addresses_node")),
        sa.ForeignKeyConstraint(["port_id"], ["ports.id"], name=op.f("fk_addresses_port_id")),
        sa.ForeignKeyConstraint(["subnet_id"], ["subnets.id"], name=op.f("fk_addresses_subnet_id")),
        sa.PrimaryKeyConstraint("subnet_id", "address", name=op.f("pk_addresses")),
        sa.UniqueConstraint(
            "subnet_id", "node", "owner", "for_network", name=op.f("uq_addresses_subnet_id_node_owner_for_network")
        ),
    )
    op.create_index(op.f("ix_addresses_node"), "addresses", ["node"], unique=False)
    op.create_index(op.f("ix_addresses_port_id"), "addresses", ["port_id"], unique=False)
    op.create_index(
        op.f("ix_addresses_subnet_id_released_at_address"),
        "addresses",
        ["subnet_id", "released_at", "address"],
        unique=False,
    )

    op.create_table(
        "leases",
        sa.Column("port_id", sa.String(length=36), nullable=False),
        sa.Column("address", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("client_id", sa.String(length=255), nullable=False),
        sa.Column("hostname", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(["port_id"], ["ports.id"], name=op.f("fk_leases_port_id")),
        sa.PrimaryKeyConstraint("port_id", "address", name=op.f("pk_leases")),
    )
    op.create_table(
        "pools",
        sa.Column("subnet_id", sa.String(length=36), nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("next", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["subnet_id"], ["subnets.id"], name=op.f("fk_pools_subnet_id")),
        sa.PrimaryKeyConstraint("subnet_id", "first", name=op.f("pk_pools")),
    )
    op.create_table(
        "subnet_ranges",
        sa.Column("subnet_id", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["subnet_id"], ["subnets.id"], name=op.f("fk_subnet_ranges_subnet_id")),
        sa.PrimaryKeyConstraint("subnet_id", "kind", "first", name=op.f("pk_subnet_ranges")),
    )
    op.create_table(
        "floating_ip_pools",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("network_id", sa.String(length=36), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["network_id"], ["networks.id"], name=op.f("fk_floating_ip_pools_network_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_floating_ip_pools")),
        sa.UniqueConstraint("name", name=op.f("uq_floating_ip_pools_name")),
    )
    op.create_index(op.f("ix_floating_ip_pools_network_id"), "floating_ip_pools", ["network_id"], unique=False)

    op.create_table(
        "floating_ip_pool_ranges",
        sa.Column("subnet_id", sa.String(length=36), nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("next", sa.BigInteger(), nullable=False),
        sa.Column("pool_id", sa.String(length=36), nullable=False),
        sa.ForeignKeyConstraint(["pool_id"], ["floating_ip_pools.id"], name=op.f("fk_floating_ip_pool_ranges_pool_id")),
        sa.ForeignKeyConstraint(["subnet_id"], ["subnets.id"], name=op.f("fk_floating_ip_pool_ranges_subnet_id")),
        sa.PrimaryKeyConstraint("subnet_id", "first", name=op.f("pk_floating_ip_pool_ranges")),
    )
    op.create_index(op.f("ix_floating_ip_pool_ranges_pool_id"), "floating_ip_pool_ranges", ["pool_id"], unique=False)

    op.create_table(
        "floating_ips",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("key", sa.Integer(), nullable=False),
        sa.Column("pool_id", sa.String(length=36), nullable=False),
        sa.Column("subnet_id", sa.String(length=36), nullable=False),
        sa.Column("address", sa.BigInteger(), nullable=False),
        sa.Column("project_id", sa.String(length=255), nullable=True),
        sa.Column("port_id", sa.String(length=36), nullable=True),
        sa.Column("fixed_ip", sa.BigInteger(), nullable=True),
        sa.Column("auto", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("(port_id IS NULL) = (fixed_ip IS NULL)", name=op.f("ck_floating_ips_association_is_whole")),
        sa.ForeignKeyConstraint(["pool_id"], ["floating_ip_pools.id"], name=op.f("fk_floating_ips_pool_id")),
        sa.ForeignKeyConstraint(["port_id"], ["ports.id"], name=op.f("fk_floating_ips_port_id")),
        sa.ForeignKeyConstraint(
            ["subnet_id", "address"],
            ["addresses.subnet_id", "addresses.address"],
            name=op.f("fk_floating_ips_subnet_id_address"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_floating_ips")),
        sa.UniqueConstraint("key", name=op.f("uq_floating_ips_key")),
        sa.UniqueConstraint("subnet_id", "address", name=op.f("uq_floating_ips_subnet_id_address")),
    )
    for column in ("pool_id", "port_id", "project_id"):
        op.create_index(op.f(f"ix_floating_ips_{column}"), "floating_ips", [column], unique=False)

    op.create_table(
        "port_forwardings",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("key", sa.Integer(), nullable=False),
        sa.Column("floating_ip_id", sa.String(length=36), nullable=False),
        sa.Column("protocol", sa.Integer(), nullable=False),
        sa.Column("first", sa.Integer(), nullable=False),
        sa.Column("last", sa.Integer(), nullable=False),
        sa.Column("port_id", sa.String(length=36), nullable=False),
        sa.Column("fixed_ip", sa.BigInteger(), nullable=False),
        sa.Column("to", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["floating_ip_id"], ["floating_ips.id"], name=op.f("fk_port_forwardings_floating_ip_id")
        ),
        sa.ForeignKeyConstraint(["port_id"], ["ports.id"], name=op.f("fk_port_forwardings_port_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_port_forwardings")),
        sa.UniqueConstraint("key", name=op.f("uq_port_forwardings_key")),
        sa.UniqueConstraint(
            "floating_ip_id", "protocol", "first", name=op.f("uq_port_forwardings_floating_ip_id_protocol_first")
        ),
    )
    op.create_index(op.f("ix_port_forwardings_port_id"), "port_forwardings", ["port_id"], unique=False)

    op.create_table(
        "quotas",
        sa.Column("project_id", sa.String(length=255), nullable=False),
        sa.Column("floating_ips", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", name=op.f("pk_quotas")),
    )
    counters = (
        "revision",
        "network_key",
        "port_key",
        "node_key",
        "floating_ip_key",
        "port_forwarding_key",
    )
    op.bulk_insert(
        sa.table("counters", sa.column("name"), sa.column("value")),
        [{"name": name, "value": 0} for name in counters],
    )
