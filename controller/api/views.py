"""What the API answers: the store's records as plain JSON values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from controller.store.ipv6_specs import Ipv6Range, Ipv6SubnetSpec
from controller.store.specs import AddressRange, DhcpOptionSpec, NetworkRecord, NodeRecord, PortRecord, SubnetSpec
from flows.model import Bandwidth, FixedIp, HostRoute, Ipv6FixedIp, NetworkAddress, Port, Qos, SnatAddress, StaticRoute

Json = dict[str, Any]


# How the cloud is built, and what is nobody's business but its operator's: members do not see it.
OPERATOR_NETWORK_FIELDS = frozenset(
    {
        "key",
        "router_key",
        "physical_network",
        "segment",
        "carrier_nat",
        "assignable",
        "problems",
        "gateway_node",
        "gateway_node_pinned",
    }
)

_LAST_MOMENT: Final = 253402300799.0  # 9999-12-31T23:59:59Z


def network(record: NetworkRecord, node_state: Callable[[str], Json], whole: bool) -> Json:
    """`node_state` is what the sessions say of a node. `whole`: with what is for operators."""
    shown = _network(record, node_state)
    return shown if whole else {name: value for name, value in shown.items() if name not in OPERATOR_NETWORK_FIELDS}


def _network(record: NetworkRecord, node_state: Callable[[str], Json]) -> Json:
    spec = record.spec
    return {
        "id": record.id,
        "key": record.key,
        "name": spec.name,
        "project_id": spec.project_id,
        "shared": spec.shared,
        "external": spec.external,
        "kind": spec.kind.value,
        "physical_network": spec.physical_network,
        "segment": spec.segment,
        "mtu": spec.mtu,
        "gateway_mode": None if spec.gateway_mode is None else spec.gateway_mode.value,
        "dhcp": spec.dhcp,
        "dns_domain": spec.dns_domain,
        "arp_responder": spec.arp_responder,
        "carrier_nat": record.carrier_nat,
        "external_network_id": spec.external_network_id,
        "lease_time": spec.lease_time,
        "dhcp_options": _options(spec.dhcp_options),
        "ntp_servers": [str(server) for server in spec.ntp_servers],
        "routes": [_route(route) for route in spec.routes],
        "snat_exempt": [str(part) for part in spec.snat_exempt],
        "force_snat": [str(part) for part in spec.force_snat],
        "own_snat_address": spec.own_snat_address,
        "dhcp_relays": [str(address) for address in spec.dhcp_relays],
        "dns_upstreams": [str(address) for address in spec.dns_upstreams],
        "router": spec.router,
        "allow_same_net_traffic": spec.allow_same_net_traffic,
        "filtering": spec.filtering,
        "assignable": spec.assignable,
        "gateway_node": record.gateway_node,
        "gateway_node_pinned": spec.gateway_node is not None,
        "router_key": record.router_key,
        "subnets": [*map(_subnet, spec.subnets), *map(_ipv6_subnet, spec.ipv6_subnets)],
        "problems": network_problems(record, node_state),
        "created_at": time_of(record.created_at),
        "revision": record.revision,
    }


def network_problems(record: NetworkRecord, node_state: Callable[[str], Json]) -> list[str]:
    """What is no error, as nodes may register later, but keeps the network from working as it is."""
    if not record.reached:
        return [f"no registered node has the physical network {record.spec.physical_network!r}"]
    found = list(record.problems)
    if record.gateway_node is not None and node_state(record.gateway_node).get("state") == "disconnected":
        why = "pinned, so none takes over" if record.spec.gateway_node is not None else "none has taken over"
        found.append(f"its gateway node {record.gateway_node} is not connected ({why})")
    return found


def _subnet(subnet: SubnetSpec) -> Json:
    return {
        "id": subnet.id,
        "cidr": str(subnet.cidr),
        "gateway": None if subnet.gateway is None else str(subnet.gateway),
        "allocation_ranges": [_range(item) for item in subnet.allocation_ranges],
        "reserved": [_range(item) for item in subnet.reserved],
        "dns_servers": [str(server) for server in subnet.dns_servers],
        "host_routes": [_route(route) for route in subnet.host_routes],
        "ipv6_mode": None,
    }


def _ipv6_subnet(subnet: Ipv6SubnetSpec) -> Json:
    return {
        "id": subnet.id,
        "cidr": str(subnet.cidr),
        "gateway": None if subnet.gateway is None else str(subnet.gateway),
        "allocation_ranges": [_range(item) for item in subnet.allocation_ranges],
        "reserved": [_range(item) for item in subnet.reserved],
        "dns_servers": [str(server) for server in subnet.dns_servers],
        "host_routes": [],
        "ipv6_mode": subnet.mode.value,
    }


def _route(route: HostRoute | StaticRoute) -> Json:
    return {"destination": str(route.destination), "next_hop": str(route.next_hop)}


def port(record: PortRecord, active: bool, muted: Mapping[str, int]) -> Json:
    """`muted`: for how many seconds more the controller does not hear it about what."""
    it = record.port
    binding = it.binding
    return {
        "id": it.id,
        "key": it.key,
        "network_id": it.network_id,
        "name": it.name,
        "hostname": it.hostname,
        "project_id": it.project_id,
        "device_id": record.device_id,
        "mac": it.mac,
        "fixed_ips": [*map(_fixed_ip, it.fixed_ips), *map(_fixed_ip, it.ipv6_addresses)],
        "floating_ips": [
            {"id": one.id, "address": str(one.address), "fixed_ip": str(one.fixed_ip)} for one in record.floating_ips
        ],
        "security_groups": [{"id": group.id, "name": group.name} for group in record.security_groups],
        "port_security": it.port_security,
        "address_pairs": [{"cidr": str(pair.cidr), "mac": pair.mac} for pair in it.address_pairs],
        "held_addresses": [str(held.address) for held in it.held],
        "qos": _qos(it.qos),
        "node": it.node,
        "interface_name": record.interface_name,
        "binding": None if binding is None else {"node": binding.node, "ofport": binding.ofport, "zone": binding.zone},
        "status": port_status(it, active),
        "binding_error": record.binding_error,
        "muted": dict(muted),
        "dhcp_options": _options(record.dhcp_options),
        "created_at": time_of(record.created_at),
        "revision": record.revision,
    }


def _fixed_ip(it: FixedIp | Ipv6FixedIp) -> Json:
    return {"subnet_id": it.subnet_id, "address": str(it.address)}


def _qos(qos: Qos) -> Json | None:
    if qos == Qos():
        return None
    return {"egress": _bandwidth(qos.egress), "ingress": _bandwidth(qos.ingress), "dscp": qos.dscp}


def _bandwidth(limit: Bandwidth | None) -> Json | None:
    return None if limit is None else {"rate_kbps": limit.rate, "burst_kbits": limit.burst}


def port_status(it: Port, active: bool) -> str:
    """`active`: the node has confirmed it by barrier."""
    if it.binding is None:
        return "unbound"
    return "active" if active else "bound"


def node(record: NodeRecord, state: Json, problems: Sequence[str]) -> Json:
    """`state` is what the session says of the node; it cannot hide a stored field."""
    it, spec = record.node, record.spec
    return {
        **state,
        "name": it.name,
        "key": it.key,
        "datapath_id": f"{it.datapath_id:016x}",
        "physical_networks": list(spec.physical_networks),
        "snat_addresses": {name: str(choice) for name, choice in spec.snat_addresses.items()},
        "tunnel_address": None if spec.tunnel_address is None else str(spec.tunnel_address),
        "versions": dict(spec.versions),
        "datapath_type": spec.datapath_type,
        "uplinks": {uplink.physical_network: uplink.ofport for uplink in it.uplinks},
        "gateways": [_held(held) for held in it.gateways],
        "external_addresses": [_snat_address(held) for held in it.snat_addresses],
        "problems": list(problems),
        "serial": record.serial,
        "created_at": time_of(record.created_at),
        "revision": record.revision,
    }


def _held(held: NetworkAddress) -> Json:
    return {"network_id": held.network_id, "address": str(held.address)}


def _snat_address(held: SnatAddress) -> Json:
    return {
        "network_id": held.network_id,
        "address": str(held.address),
        "for_network_id": held.for_network_id,
        "host": held.host,
    }


def _range(item: AddressRange | Ipv6Range) -> Json:
    return {"first": str(item.first), "last": str(item.last)}


def _options(options: tuple[DhcpOptionSpec, ...]) -> list[Json]:
    return [{"code": option.code, "value": option.value, "type": option.type} for option in options]


def time_of(seconds: float) -> str:
    """RFC 3339, UTC. What no calendar has, as a damaged row may hold it, is the nearest that one has."""
    known = seconds if isinstance(seconds, int | float) else 0.0
    moment = datetime.fromtimestamp(max(0.0, min(known, _LAST_MOMENT)), UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
