"""Every field of every request body, with every kind of wrong value: refused by its name, or taken for a reason."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from controller.api import (
    address_models,
    dns_models,
    floating_ip_models,
    network_models,
    node_models,
    port_metadata,
    port_models,
    quotas,
    security_group_models,
    tokens,
    trace,
)
from tests.unit.api.world import World

ARABIC = str.maketrans("0123456789", "\u0660\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668\u0669")

# name -> what to send instead of the sound value
JUNK: dict[str, Callable[[Any], Any]] = {
    "null": lambda sound: None,
    "empty": lambda sound: "",
    "blank": lambda sound: " ",
    "padded": lambda sound: f" {sound}",
    "long": lambda sound: "x" * 5000,
    "NUL": lambda sound: f"{sound}\0",
    "newline": lambda sound: f"{sound}\n",
    "right-to-left": lambda sound: f"\u202e{sound}",
    "Arabic digits": lambda sound: str(sound).translate(ARABIC) if any(map(str.isdigit, str(sound))) else "\u0661",
    "as text": lambda sound: "7" if isinstance(sound, str) else str(sound),
    "number": lambda sound: 7.0 if isinstance(sound, int) else 7,
    "negative": lambda sound: -1,
    "huge": lambda sound: 10**40,
    "fraction": lambda sound: 1.5,
    "boolean": lambda sound: int(sound) if isinstance(sound, bool) else True,
    "empty list": lambda sound: [],
    "empty object": lambda sound: {},
    "list of it": lambda sound: [sound],
    "list of null": lambda sound: [None],
}

OPTION = {"code": 200, "value": "7", "type": "u8"}
SUBNET = {
    "cidr": "10.7.0.0/24",
    "gateway": "10.7.0.1",
    "allocation_ranges": [{"first": "10.7.0.10", "last": "10.7.0.99"}],
    "reserved": [{"first": "10.7.0.20", "last": "10.7.0.29"}],
    "dns_servers": ["10.7.0.53"],
    "host_routes": [{"destination": "10.9.0.0/16", "next_hop": "10.7.0.2"}],
    "ipv6_mode": None,  # not of IPv4
}
NETWORK = {
    "name": "green",
    "mtu": 1400,
    "dhcp": True,
    "dns_domain": "lab.example",
    "arp_responder": True,
    "external_network_id": "EXTERNAL",
    "lease_time": 600,
    "dhcp_options": [OPTION],
    "ntp_servers": ["10.7.0.9"],
    "routes": [{"destination": "10.60.0.0/16", "next_hop": "10.7.0.2"}],
    "snat_exempt": ["192.0.2.0/24"],
    "force_snat": [],  # not together with routes
    "own_snat_address": True,
    "dhcp_relays": [],  # not where nodes route
    "dns_upstreams": ["192.0.2.53"],
    "router": "isolated",
    "allow_same_net_traffic": False,
    "filtering": True,
    "assignable": False,
    "gateway_node": None,  # not together with routes
    "subnets": [SUBNET],
}
PORT = {
    "name": "web",
    "hostname": "web1",
    "device_id": "i-17",
    "fixed_ips": [{"address": "10.200.7.8", "subnet_id": "SUBNET"}],
    "node": "n1",
    "interface_name": "tap100i0",
    "dhcp_options": [OPTION],
    "security_groups": ["web"],
    "port_security": True,
    "address_pairs": [{"cidr": "10.200.9.0/28", "mac": "00:00:5e:00:01:07"}],
    "qos": {
        "egress": {"rate_kbps": 10000, "burst_kbits": 4000},
        "ingress": {"rate_kbps": 20000, "burst_kbits": 8000},
        "dscp": 46,
    },
}
ALONE = ("fixed_ips", "address_pairs", "interface_name")
DEVICE = {name: value for name, value in PORT.items() if name not in ALONE} | {"project_id": "a"}
RULE = {
    "security_group_id": "GROUP",
    "direction": "ingress",
    "family": "ipv4",
    "protocol": "tcp",
    "ports": "80-89",
    "icmp_type": None,
    "icmp_code": None,
    "remote_cidr": "192.0.2.0/24",
    "remote_group_id": None,
    "log": True,
    "description": "web",
}
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDmv7nzVzvdf9sxNXnzFHgXlQtsnrbfMAPG4qTtBHRsj alice@desk"
QUOTAS = (
    "floating_ips",
    "security_groups",
    "security_group_rules",
    "address_pairs",
    "networks",
    "ports",
    "fixed_ips",
    "dns_zones",
    "dns_records",
)
SERVICE = {"protocol": "icmp", "ports": None, "icmp_type": 8, "icmp_code": 0}
NEW_PORT = PORT | {
    "interface_name": None,  # of one port on a node
    "network_id": "NETWORK",
    "project_id": "a",
    "mac": "02:00:00:00:00:77",
    "fixed_ips": [{"address": "10.200.7.7", "subnet_id": "SUBNET"}],
    "id": "7d5ea0a2-5a55-4bd2-b1e0-0d63a3b0a077",
}
NEW_NETWORK = NETWORK | {
    "kind": "vlan",
    "physical_network": "physnet1",
    "project_id": "a",
    "shared": False,
    "external": False,
    "segment": 105,
    "gateway_mode": "shared",
}
# (method, path) -> the model, and a body with every field
SOUND: dict[tuple[str, str], tuple[type[BaseModel], dict[str, Any]]] = {
    ("POST", "networks"): (network_models.NetworkCreate, NEW_NETWORK),
    ("POST", "networks?many"): (network_models.NetworkCarve, NEW_NETWORK | {"count": 1, "network_size": 256}),
    ("PATCH", "networks/OTHER"): (network_models.NetworkUpdate, NETWORK | {"expected_revision": None}),
    ("POST", "ports"): (port_models.PortCreate, NEW_PORT),
    ("POST", "ports?many"): (port_models.PortBulk, {"ports": [NEW_PORT]}),
    ("POST", "ports?device"): (port_models.DevicePortsCreate, DEVICE),
    ("PATCH", "ports/PORT"): (port_models.PortUpdate, PORT),
    ("PATCH", "ports/PORT/metadata"): (
        port_metadata.MetadataUpdate,
        {
            "public_keys": {"alice": PUBLIC_KEY},
            "user_data": "IyEvYmluL3NoCg==",
            "vendor_data": {"cloud-init": "#cloud-config"},
            "meta": {"role": "web"},
            "availability_zone": "az1",
            "instance_type": "m1.small",
            "password": None,
        },
    ),
    ("POST", "address-plans"): (
        address_models.PlanIn,
        {
            "entries": [
                {
                    "kind": "port",
                    "network": "NETWORK",
                    "address": "10.200.7.9",
                    "mac": "02:00:00:00:00:79",
                    "name": "planned",
                    "hostname": "planned",
                    "project_id": "a",
                    "device_id": "i-19",
                }
            ],
            "check": True,
        },
    ),
    ("POST", "floating-ip-pools"): (
        floating_ip_models.FloatingIpPoolCreate,
        {"name": "new", "network_id": "EXTERNAL", "ranges": ["203.0.113.64/28", "203.0.113.90-203.0.113.99"]},
    ),
    ("POST", "floating-ips"): (
        floating_ip_models.FloatingIpCreate,
        {
            "pool": "public",
            "address": "203.0.113.203",
            "project_id": "a",
            "port_id": "TARGET",
            "fixed_ip": "FIXED",
        },
    ),
    ("POST", "floating-ips?many"): (
        floating_ip_models.FloatingIpBulk,
        {"pool": "public", "project_id": "a", "count": 2, "addresses": None},
    ),
    ("PATCH", "floating-ips/WHOLE"): (
        floating_ip_models.FloatingIpUpdate,
        {"port_id": "TARGET", "fixed_ip": "FIXED", "expected_port_id": "TARGET"},
    ),
    ("POST", "floating-ips/PARTED/port-forwardings"): (
        floating_ip_models.PortForwardingCreate,
        {"protocol": "tcp", "ports": "80-89", "port_id": "TARGET", "fixed_ip": "FIXED", "to": 8080},
    ),
    ("PATCH", "quotas/a"): (quotas.QuotaUpdate, {name: 20 for name in QUOTAS}),
    ("POST", "security-groups"): (
        security_group_models.SecurityGroupCreate,
        {
            "name": "db",
            "project_id": "a",
            "description": "databases",
            "stateful": True,
            "log_accepted": True,
            "log_dropped": True,
        },
    ),
    ("PATCH", "security-groups/RENAMED"): (
        security_group_models.SecurityGroupUpdate,
        {"name": "new", "description": "servers", "stateful": True, "log_accepted": True, "log_dropped": True},
    ),
    ("POST", "security-group-rules"): (security_group_models.RuleCreate, RULE),
    ("POST", "security-group-rules?many"): (security_group_models.RuleBulk, {"security_group_rules": [RULE]}),
    ("POST", "default-security-group-rules"): (
        security_group_models.DefaultRuleCreate,
        {
            "direction": "ingress",
            "family": "ipv4",
            **SERVICE,
            "remote_cidr": "192.0.2.0/24",
            "own_group": False,
            "applies_to": "other",
            "description": "ping",
        },
    ),
    ("POST", "provider-rules"): (
        security_group_models.ProviderRuleCreate,
        {"cidr": "192.0.2.0/24", **SERVICE, "direction": "ingress", "description": "no ping"},
    ),
    ("POST", "dns-zones"): (
        dns_models.DnsZoneCreate,
        {"name": "new.example", "scope": "public", "project_id": "a", "ttl": 30, "network_ids": ["NETWORK"]},
    ),
    ("PATCH", "dns-zones/LAB"): (
        dns_models.DnsZoneUpdate,
        {"scope": "public", "project_id": "a", "ttl": 30, "network_ids": ["NETWORK"]},
    ),
    ("POST", "dns-records"): (
        dns_models.DnsRecordCreate,
        {
            "zone_id": "LAB",
            "name": "www",
            "type": "A",
            "data": "192.0.2.7",
            "floating_ip_id": None,  # not together with data
            "ttl": 30,
        },
    ),
    ("PATCH", "dns-records/RECORD"): (
        dns_models.DnsRecordUpdate,
        {"data": "192.0.2.8", "floating_ip_id": None, "ttl": 30},
    ),
    ("POST", "trace"): (
        trace.TraceIn,
        {
            "port": "PORT",
            "from_address": "10.200.7.7",
            "from_mac": "02:00:00:00:00:77",
            "to": "TARGET",
            "protocol": "icmp",
            "source_port": None,  # not of ICMP
            "destination_port": None,
            "icmp_type": 8,
            "icmp_code": 0,
            "size": 98,
            "ttl": 64,
            "reply": True,
            "live": False,
        },
    ),
    ("POST", "tokens"): (
        tokens.TokenCreate,
        {
            "name": "ci",
            "role": "member",
            "project_id": "a",
            "node": None,  # not of a member
            "scopes": ["ports:write"],
            "expires_at": "2100-01-01T00:00Z",
        },
    ),
    ("POST", "tokens/TOKEN/rotate"): (tokens.TokenRotate, {"grace": 60}),
    ("PUT", "nodes/n2"): (
        node_models.NodePut,
        {
            "datapath_id": "0000000000000002",
            "physical_networks": ["physnet1", "physnet-ext"],
            "snat_addresses": {"physnet-ext": "203.0.113.9"},
            "tunnel_address": "192.0.2.9",
            "datapath_type": "netdev",
            "versions": {"agent": "1"},
            "problems": ["eth1 is not there"],
        },
    ),
    ("PUT", "nodes/n1/interfaces"): (
        node_models.InterfacesPut,
        {
            "serial": 1,
            "uplinks": {"physnet1": 65001},
            "interfaces": [{"iface_id": "PORT", "name": "tap1", "ofport": 7, "mac": "02:00:00:00:00:77"}],
            "unclaimed": ["tap2"],
            "full_zones": [{"zone": 1, "limit": 16384}],
        },
    ),
}


TEXT = {"Arabic digits", "as text"}
ANY_TEXT = {name for name, make in JUNK.items() if isinstance(make("x"), str)}
OPTION_LISTS = {"dhcp_options": {"empty list"}, "dhcp_options.value": {"as text"}}
NETWORKS = OPTION_LISTS | {
    "gateway_node": {"null"},
    "name": TEXT,
    "dns_domain": {"empty", "as text"},
    "external_network_id": {"null"},
    "ntp_servers": {"empty list"},
    "subnets.gateway": {"null"},
    "subnets.allocation_ranges": {"empty list"},
    "subnets.reserved": {"empty list"},
    "subnets.dns_servers": {"empty list"},
    "subnets.host_routes": {"empty list"},
    "subnets.ipv6_mode": {"null"},
    "routes": {"empty list"},
    "snat_exempt": {"empty list"},
    "force_snat": {"empty list"},
    "dhcp_relays": {"empty list"},
    "dns_upstreams": {"empty list"},
}
PORTS = OPTION_LISTS | {
    "name": {"empty", *TEXT},
    "hostname": {"empty", "as text"},
    "device_id": {"empty", *TEXT},
    "node": {"null"},
    "interface_name": {"null", "as text"},
    "fixed_ips": {"empty list"},
    "fixed_ips.0": {"empty object"},
    "fixed_ips.address": {"null"},
    "fixed_ips.subnet_id": {"null"},
    "security_groups": {"null", "empty list"},
    "address_pairs": {"empty list"},
    "address_pairs.mac": {"null"},
    "qos": {"null", "empty object"},
    "qos.egress": {"null"},
    "qos.egress.burst_kbits": {"null"},
    "qos.ingress": {"null"},
    "qos.ingress.burst_kbits": {"null"},
    "qos.dscp": {"null"},
}
NEW_PORTS = PORTS | {"project_id": {"null"}, "mac": {"null"}, "id": {"null"}}
RULES = {
    "ports": {"as text", "null"},
    "icmp_type": {"null"},
    "icmp_code": {"null"},
    "family": {"null"},
    "remote_cidr": {"null"},
    "remote_group_id": {"null"},
    "description": {"empty", *TEXT},
}
SERVICES = {"ports": {"null"}, "icmp_code": {"null"}, "description": {"empty", *TEXT}}
NEW_NETWORKS = NETWORKS | {
    "physical_network": {"as text"},
    "project_id": {"as text"},
    "segment": {"null"},
    "lease_time": {"null"},
    "allow_same_net_traffic": {"null"},
}
# What is taken all the same: none of something, the default, free text.
TAKEN: dict[tuple[str, str], dict[str, set[str]]] = {
    ("POST", "networks"): NEW_NETWORKS,
    ("POST", "networks?many"): NEW_NETWORKS | {"network_size": {"null"}},
    ("PATCH", "networks/OTHER"): NETWORKS | {"expected_revision": {"null"}},
    ("POST", "ports"): NEW_PORTS,
    ("POST", "ports?many"): {f"ports.{name}": junk for name, junk in NEW_PORTS.items()},
    ("POST", "ports?device"): {
        name: junk - {"empty"} if name == "device_id" else junk for name, junk in PORTS.items() if name not in ALONE
    },
    ("PATCH", "ports/PORT"): PORTS,
    ("PATCH", "ports/PORT/metadata"): {
        "public_keys": {"empty object"},
        "user_data": {"null", "empty", "long"},
        "vendor_data": {"null", "empty object"},
        "vendor_data.cloud-init": set(JUNK) - {"NUL"},
        "meta": {"empty object"},
        "meta.role": {"empty", *TEXT},
        "availability_zone": {"empty", *TEXT},
        "instance_type": {"empty", *TEXT},
        "password": {"null"},
    },
    # what the plan itself gets wrong is no mistake of form: it is answered with the problems
    ("POST", "address-plans"): {
        "entries.network": TEXT,
        "entries.mac": {"null"},
        "entries.name": {"empty", *TEXT},
        "entries.hostname": {"empty", "as text"},
        "entries.project_id": {"null", "as text"},
        "entries.device_id": {"empty", *TEXT},
    },
    ("POST", "floating-ip-pools"): {"name": TEXT},
    ("POST", "floating-ips"): {
        "address": {"null"},
        "project_id": {"null"},
        "fixed_ip": {"null"},
    },
    ("POST", "floating-ips?many"): {"project_id": {"null", "as text"}, "count": {"null"}, "addresses": {"null"}},
    ("PATCH", "floating-ips/WHOLE"): {"fixed_ip": {"null"}, "expected_port_id": {"null"}},
    ("POST", "floating-ips/PARTED/port-forwardings"): {
        "ports": {"as text"},
        "fixed_ip": {"null"},
        "to": {"null"},
    },
    ("PATCH", "quotas/a"): {name: {"null", "negative"} for name in QUOTAS},
    ("POST", "security-groups"): {
        "name": TEXT,
        "project_id": {"null", "as text"},
        "description": {"empty", *TEXT},
    },
    ("PATCH", "security-groups/RENAMED"): {"name": TEXT, "description": {"empty", *TEXT}},
    ("POST", "security-group-rules"): RULES,
    ("POST", "security-group-rules?many"): {f"security_group_rules.{name}": junk for name, junk in RULES.items()},
    ("POST", "default-security-group-rules"): SERVICES | {"family": {"null"}, "remote_cidr": {"null"}},
    ("POST", "provider-rules"): SERVICES | {"direction": {"null"}},
    ("POST", "dns-zones"): {
        "name": {"as text"},
        "project_id": {"null", "as text"},
        "network_ids": {"empty list"},
    },
    ("PATCH", "dns-zones/LAB"): {"project_id": {"null", "as text"}, "network_ids": {"empty list"}},
    ("POST", "dns-records"): {"name": {"as text"}, "floating_ip_id": {"null"}, "ttl": {"null"}},
    ("PATCH", "dns-records/RECORD"): {"floating_ip_id": {"null"}, "ttl": {"null"}},
    ("POST", "trace"): {
        "port": {"null"},
        "from_address": {"null"},
        "from_mac": {"null"},
        "protocol": {"null"},
        "source_port": {"null"},
        "destination_port": {"null"},
        "icmp_type": {"null"},
        "icmp_code": {"null"},
    },
    ("POST", "tokens"): {
        "name": TEXT,
        "project_id": {"as text"},
        "node": {"null"},
        "scopes": {"empty list"},
        "expires_at": {"null"},
    },
    ("POST", "tokens/TOKEN/rotate"): {},
    ("PUT", "nodes/n2"): {
        "physical_networks": {"empty list"},
        "physical_networks.0": {"as text"},
        "snat_addresses": {"empty object"},
        "tunnel_address": {"null"},
        "versions": {"empty object"},
        "versions.agent": {"empty", *TEXT},
        "problems": {"empty list"},
        "problems.0": {"empty", "blank", "padded", *TEXT},
    },
    # anybody on the node can write what is in its Open vSwitch: it is answered with "refused", see InterfaceIn
    ("PUT", "nodes/n1/interfaces"): {
        "uplinks": {"empty object"},
        "interfaces": {"empty list"},
        "interfaces.iface_id": ANY_TEXT - {"long"},
        "interfaces.name": ANY_TEXT - {"long"},
        "interfaces.ofport": {"null", "negative", "huge"},
        "interfaces.mac": ANY_TEXT - {"long"} | {"null"},
        "unclaimed": {"empty list"},
        "unclaimed.0": {"empty", *TEXT},
        "full_zones": {"empty list"},
    },
}
# Sound, but not together with another field of the body, which is named.
ELSEWHERE = {
    ("PATCH", "ports/PORT/metadata", "vendor_data.cloud-init", "NUL"): "vendor_data",
    ("POST", "networks", "gateway_mode", "null"): "subnets.0.gateway",
    ("POST", "networks", "project_id", "null"): "subnets.0.cidr",
    ("POST", "networks?many", "gateway_mode", "null"): "subnets.0.gateway",
    ("POST", "networks?many", "project_id", "null"): "subnets.0.cidr",
    ("POST", "floating-ips", "port_id", "null"): "fixed_ip",
    ("PATCH", "floating-ips/WHOLE", "port_id", "null"): "fixed_ip",
    # the port is of another project
    ("POST", "floating-ips", "project_id", "as text"): "port_id",
    ("POST", "ports?device", "project_id", "as text"): "network_id",  # that project has none
    # a group of that project is meant
    ("POST", "ports", "project_id", "as text"): "security_groups.0",
    ("POST", "ports?many", "ports.0.project_id", "as text"): "ports.0.security_groups.0",
    ("POST", "trace", "protocol", "number"): "icmp_type",
    ("POST", "security-group-rules", "protocol", "null"): "ports",
    ("POST", "security-group-rules", "protocol", "number"): "ports",
    ("POST", "security-group-rules?many", "security_group_rules.0.protocol", "null"): "security_group_rules.0.ports",
    ("POST", "security-group-rules?many", "security_group_rules.0.protocol", "number"): "security_group_rules.0.ports",
    ("POST", "default-security-group-rules", "protocol", "null"): "icmp_type",
    ("POST", "default-security-group-rules", "protocol", "number"): "icmp_type",
    ("POST", "default-security-group-rules", "icmp_type", "null"): "icmp_code",
    ("POST", "provider-rules", "protocol", "null"): "icmp_type",
    ("POST", "provider-rules", "protocol", "number"): "icmp_type",
    ("POST", "provider-rules", "icmp_type", "null"): "icmp_code",
}


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something could be wrong: every member and the first item of every list."""
    if place:
        yield place
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*place, key))


CASES = [(method, path, place) for (method, path), (_, body) in SOUND.items() for place in places(body)]


@pytest.fixture(scope="module")
def ids(shared_world: World) -> dict[str, str]:
    shared_world.node("n1", physical_networks=["physnet1", "physnet-ext"])
    external = shared_world.network(
        kind="flat", physical_network="physnet-ext", external=True,
        subnets=[{"cidr": "203.0.113.0/24", "gateway": "203.0.113.1"}],
    )  # fmt: skip
    network = shared_world.network(project_id="a", subnets=[{"cidr": "10.200.0.0/16"}])
    other = shared_world.network(project_id="b", gateway_mode="shared", subnets=[{"cidr": "10.7.0.0/24"}])
    target = shared_world.port(network["id"])
    pool = {"name": "public", "network_id": external["id"], "ranges": ["203.0.113.200-203.0.113.209"]}
    shared_world.ok("POST", "/v1/floating-ip-pools", pool)
    groups = [
        shared_world.ok("POST", "/v1/security-groups", {"name": name, "project_id": "a"})["security_group"]
        for name in ("web", "old")
    ]
    zone = shared_world.ok("POST", "/v1/dns-zones", {"name": "lab.example", "project_id": "a"})["dns_zone"]
    record = {"zone_id": zone["id"], "name": "ftp", "type": "A", "data": "192.0.2.9"}
    return {
        "TOKEN": shared_world.ok("POST", "/v1/tokens", {"name": "old", "role": "reader"})["token"]["id"],
        "LAB": zone["id"],
        "RECORD": shared_world.ok("POST", "/v1/dns-records", record)["dns_record"]["id"],
        "GROUP": groups[0]["id"],
        "RENAMED": groups[1]["id"],
        "WHOLE": shared_world.floating_ip(port_id=target["id"])["id"],
        "PARTED": shared_world.floating_ip()["id"],
        "TARGET": target["id"],
        "FIXED": target["fixed_ips"][0]["address"],
        "EXTERNAL": external["id"],
        "NETWORK": network["id"],
        "SUBNET": network["subnets"][0]["id"],
        "OTHER": other["id"],
        "PORT": shared_world.port(network["id"])["id"],
    }


def filled(value: Any, ids: dict[str, str]) -> Any:
    """A copy with the names of objects replaced by their ids."""
    if isinstance(value, dict):
        return {key: filled(item, ids) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, ids) for item in value]
    return ids.get(value, value) if isinstance(value, str) else value


def send(world: World, ids: dict[str, str], method: str, path: str, body: Any) -> Any:
    """What is made is deleted again, so that the next one finds the world as it was."""
    for name, id_ in ids.items():
        path = path.replace(name, id_)
    reply = world.call(method, f"/v1/{path.partition('?')[0]}", body, "agent" if method == "PUT" else "admin")
    if reply.status == 201:
        made = next(value for name, value in reply.json.items() if name != "revision")
        for one in made if isinstance(made, list) else [made]:
            world.ok("DELETE", f"/v1/{path.partition('?')[0]}/{one['id']}")
    return reply


@pytest.mark.parametrize(("method", "path"), SOUND)
def test_the_sound_bodies_are_sound_and_whole(shared_world: World, ids: dict[str, str], method: str, path: str) -> None:
    model, body = SOUND[method, path]
    assert set(body) == set(model.model_fields)
    reply = send(shared_world, ids, method, path, filled(body, ids))
    assert reply.status in (200, 201), reply.data


@pytest.mark.parametrize(
    ("method", "path", "place"), CASES, ids=lambda part: part if isinstance(part, str) else ".".join(map(str, part))
)
def test_junk(shared_world: World, ids: dict[str, str], method: str, path: str, place: tuple[Any, ...]) -> None:
    body = filled(SOUND[method, path][1], ids)
    name = ".".join(map(str, place))
    # a list is named like its field, and its first item with its number
    kind = ".".join(str(part) for index, part in enumerate(place) if part != 0 or index == len(place) - 1)
    taken, wrong = set(), []
    for junk, make in JUNK.items():
        damaged = copy.deepcopy(body)
        within: Any = damaged
        for key in place[:-1]:
            within = within[key]
        within[place[-1]] = make(within[place[-1]])
        reply = send(shared_world, ids, method, path, damaged)
        assert reply.status < 500, (junk, reply.data)
        if reply.status < 400:
            taken.add(junk)
            continue
        named, expected = reply.error["field"] or "", ELSEWHERE.get((method, path, name, junk), name)
        if named != expected and not named.startswith(f"{expected}."):
            wrong.append((junk, named, reply.error["message"]))
    assert (taken, wrong) == (TAKEN[method, path].get(kind, set()), [])
