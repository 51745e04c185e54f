"""What a VM is configured with before it has any network: for a config drive, or an image that is written to.

Two forms of one thing: OpenStack's network_data.json (as Nova's API reference describes it) and cloud-init's network
config version 2. On a network with DHCP both say just that, and how the VM comes by its IPv6 addresses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from controller.packet_in.gateways import router_among
from flows.model import FixedIp, Ipv6Subnet, Network, Node, Port, Subnet
from flows.pipeline import GATEWAY_LINK_LOCAL

Document = dict[str, Any]

_ANYWHERE = "0.0.0.0"
_ANYWHERE_IPV6 = "::"


@dataclass(frozen=True, slots=True)
class Address:
    """One address of an interface with what belongs to its subnet."""

    fixed_ip: FixedIp
    subnet: Subnet
    router: IPv4Address | None
    routed: bool = False

    @property
    def servers(self) -> tuple[IPv4Address, ...]:
        """For names: the subnet's own, else the gateway if that is ours."""
        if self.subnet.dns_servers or self.router is None or not self.routed:
            return self.subnet.dns_servers
        return (self.router,)


@dataclass(frozen=True, slots=True)
class Ipv6:
    """One IPv6 address of an interface with what belongs to its subnet."""

    address: IPv6Address
    subnet: Ipv6Subnet
    router: IPv6Address | None


@dataclass(frozen=True, slots=True)
class Interface:
    """A port as its VM sees it. `name` is what the VM is to call it."""

    name: str
    port: Port
    network: Network
    addresses: tuple[Address, ...]
    ipv6: tuple[Ipv6, ...]


def interface(index: int, port: Port, network: Network, nodes: Iterable[Node]) -> Interface:
    """The VM's interface number `index`. `nodes`: those that may be its gateway; the port's own is the likeliest."""
    its = port.node if port.binding is None else port.binding.node
    likeliest = sorted(nodes, key=lambda node: node.name != its)
    found = tuple(
        Address(fixed_ip, subnet, router_among(network.gateway_mode, network.id, subnet, likeliest), network.routed)
        for fixed_ip in port.fixed_ips
        for subnet in (network.subnet(fixed_ip.subnet_id),)
    )
    ipv6_subnets = {subnet.id: subnet for subnet in network.ipv6_subnets}
    nodes_route = IPv6Address(GATEWAY_LINK_LOCAL) if network.routed else None
    ipv6 = tuple(
        Ipv6(fixed_ip.address, subnet, subnet.gateway or nodes_route)
        for fixed_ip in port.ipv6_addresses
        for subnet in (ipv6_subnets[fixed_ip.subnet_id],)
    )
    return Interface(f"eth{index}", port, network, found, ipv6)


def network_data(interfaces: Sequence[Interface]) -> Document:
    """network_data.json. Services stand at their network and, all of them, at the top, where cloud-init looks."""
    links: list[Document] = []
    networks: list[Document] = []
    services: list[Document] = []
    for each in interfaces:
        it = each.port
        links.append(
            {
                "id": each.name,
                "vif_id": it.id,
                "type": "ovs",
                "mtu": each.network.mtu,
                "ethernet_mac_address": it.mac,
            }
        )
        dynamic: Document = {
            "id": f"{each.name}-0",
            "type": "ipv4_dhcp",
            "link": each.name,
            "network_id": it.network_id,
        }
        if each.network.dhcp:
            networks.append(dynamic)
            modes = dict.fromkeys(it.subnet.mode for it in each.ipv6)
            for position, mode in enumerate(modes, start=1):
                networks.append(dynamic | {"id": f"{each.name}-{position}", "type": f"ipv6_{mode}"})
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
        for position, ipv6 in enumerate(each.ipv6, start=len(each.addresses)):
            servers = [{"type": "dns", "address": str(server)} for server in ipv6.subnet.dns_servers]
            services += [server for server in servers if server not in services]
            networks.append(
                dynamic
                | {
                    "id": f"{each.name}-{position}",
                    "type": "ipv6",
                    "ip_address": str(ipv6.address),
                    "netmask": str(ipv6.subnet.cidr.netmask),
                    "routes": _ipv6_routes(each, ipv6),
                    "services": servers,
                }
            )
    return {"links": links, "networks": networks, "services": services}


def _ipv6_routes(each: Interface, ipv6: Ipv6) -> list[Document]:
    """An interface's first address brings the routes."""
    if ipv6.router is None or ipv6 is not each.ipv6[0]:
        return []
    return [{"network": _ANYWHERE_IPV6, "netmask": _ANYWHERE_IPV6, "gateway": str(ipv6.router)}]


def network_config(interfaces: Sequence[Interface]) -> Document:
    """cloud-init's network config, version 2."""
    return {"version": 2, "ethernets": {each.name: _ethernet(each) for each in interfaces}}


def _ethernet(each: Interface) -> Document:
    document: Document = {
        "match": {"macaddress": each.port.mac},
        "set-name": each.name,
        "mtu": each.network.mtu,
    }
    if each.network.dhcp:
        # it asks by DHCPv6 as far as the router says so (RFC 4861, 4.2)
        return document | {"dhcp4": True} | ({"dhcp6": True, "accept-ra": True} if each.ipv6 else {})
    routes = [
        # not "default", which cloud-init itself refuses with all of the document; only netplan knows it
        {"to": f"{network}/{prefix}", "via": gateway}
        for position, address in enumerate(each.addresses)
        for network, prefix, gateway in _routes(address, position)
    ]
    routes += [{"to": "::/0", "via": route["gateway"]} for ipv6 in each.ipv6 for route in _ipv6_routes(each, ipv6)]
    listed = [it.servers for it in each.addresses] + [it.subnet.dns_servers for it in each.ipv6]
    servers = list(dict.fromkeys(str(server) for one in listed for server in one))
    domain = each.network.dns_domain
    resolving = ({"addresses": servers} if servers else {}) | ({"search": [domain]} if domain else {})
    return document | {
        "dhcp4": False,
        "addresses": [
            *(f"{address.fixed_ip.address}/{address.subnet.cidr.prefixlen}" for address in each.addresses),
            *(f"{it.address}/{it.subnet.cidr.prefixlen}" for it in each.ipv6),
        ],
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
