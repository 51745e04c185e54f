"""What a VM is configured with before it has any network: for a config drive, or an image that is written to.

Two forms of one thing: OpenStack's network_data.json (as Nova's API reference describes it) and cloud-init's network
config version 2. On a network with DHCP both say just that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from controller.packet_in.gateways import router_among
from controller.store.specs import NetworkRecord, PortRecord, SubnetSpec
from flows.model import ROUTED_MODES, FixedIp, Node

Document = dict[str, Any]

_ANYWHERE = "0.0.0.0"


@dataclass(frozen=True, slots=True)
class Address:
    """One address of an interface with what belongs to its subnet."""

    fixed_ip: FixedIp
    subnet: SubnetSpec
    router: IPv4Address | None
    routed: bool = False

    @property
    def servers(self) -> tuple[IPv4Address, ...]:
        """For names: the subnet's own, else the gateway if that is ours."""
        if self.subnet.dns_servers or self.router is None or not self.routed:
            return self.subnet.dns_servers
        return (self.router,)


@dataclass(frozen=True, slots=True)
class Interface:
    """A port as its VM sees it. `name` is what the VM is to call it."""

    name: str
    port: PortRecord
    network: NetworkRecord
    addresses: tuple[Address, ...]


def interface(index: int, port: PortRecord, network: NetworkRecord, nodes: Sequence[Node]) -> Interface:
    """The VM's interface number `index`. `nodes`: those that may be its gateway, the likeliest first."""
    subnets = {subnet.id: subnet for subnet in network.spec.subnets}
    mode = network.spec.gateway_mode
    assert mode is not None
    found = tuple(
        Address(fixed_ip, subnet, router_among(mode, network.id, subnet, nodes), mode in ROUTED_MODES)
        for fixed_ip in port.port.fixed_ips
        for subnet in (subnets[fixed_ip.subnet_id],)
    )
    return Interface(f"eth{index}", port, network, found)


def network_data(interfaces: Sequence[Interface]) -> Document:
    """network_data.json. Services stand at their network and, all of them, at the top, where cloud-init looks."""
    links: list[Document] = []
    networks: list[Document] = []
    services: list[Document] = []
    for each in interfaces:
        it = each.port.port
        links.append(
            {
                "id": each.name,
                "vif_id": it.id,
                "type": "ovs",
                "mtu": each.network.spec.mtu,
                "ethernet_mac_address": it.mac,
            }
        )
        dynamic: Document = {
            "id": f"{each.name}-0",
            "type": "ipv4_dhcp",
            "link": each.name,
            "network_id": it.network_id,
        }
        if each.network.spec.dhcp:
            networks.append(dynamic)
            continue
        for position, address in enumerate(each.addresses):
            servers = [{"type": "dns", "address": str(server)} for server in address.servers]
            services += [server for server in servers if server not in services]
            networks.append(
                dynamic
                | {
                    "id": f"{each.name}-{position}",
                    "type": "ipv4",
                    "ip_address": str(address.fixed_ip.address),
                    "netmask": str(address.subnet.cidr.netmask),
                    "routes": [_route(*route) for route in _routes(address, position)],
                    "services": servers,
                }
            )
    return {"links": links, "networks": networks, "services": services}


def network_config(interfaces: Sequence[Interface]) -> Document:
    """cloud-init's network config, version 2."""
    return {"version": 2, "ethernets": {each.name: _ethernet(each) for each in interfaces}}


def _ethernet(each: Interface) -> Document:
    document: Document = {
        "match": {"macaddress": each.port.port.mac},
        "set-name": each.name,
        "mtu": each.network.spec.mtu,
    }
    if each.network.spec.dhcp:
        return document | {"dhcp4": True}
    routes = [
        # not "default", which cloud-init itself refuses with all of the document; only netplan knows it
        {"to": f"{network}/{prefix}", "via": gateway}
        for position, address in enumerate(each.addresses)
        for network, prefix, gateway in _routes(address, position)
    ]
    servers = list(dict.fromkeys(str(one) for address in each.addresses for one in address.servers))
    domain = each.network.spec.dns_domain
    resolving = ({"addresses": servers} if servers else {}) | ({"search": [domain]} if domain else {})
    return document | {
        "dhcp4": False,
        "addresses": [f"{address.fixed_ip.address}/{address.subnet.cidr.prefixlen}" for address in each.addresses],
        **({"routes": routes} if routes else {}),
        **({"nameservers": resolving} if resolving else {}),
    }


def _routes(address: Address, position: int) -> Iterator[tuple[str, int, str]]:
    """(network, prefix length, gateway). An interface's first address brings the routes."""
    if position:
        return
    if address.router is not None:
        yield _ANYWHERE, 0, str(address.router)
    for route in address.subnet.host_routes:
        yield str(route.destination.network_address), route.destination.prefixlen, str(route.next_hop)


def _route(network: str, prefix: int, gateway: str) -> Document:
    netmask = IPv4Address((0xFFFFFFFF << (32 - prefix)) & 0xFFFFFFFF)
    return {"network": network, "netmask": str(netmask), "gateway": gateway}
