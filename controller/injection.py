"""What a VM is configured with before it has any network: for a config drive, or an image that is written to.

Two forms of one thing: OpenStack's network_data.json (as Nova's API reference describes it) and cloud-init's network
config version 2. On a network with DHCP both say just that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from controller.packet_in.gateways import router_among
from flows.model import FixedIp, Network, Node, Port, Subnet

Document = dict[str, Any]

_ANYWHERE = "0.0.0.0"


@dataclass(frozen=True, slots=True)
class Address:
    """One address of an interface with what belongs to its subnet."""

    fixed_ip: FixedIp
    subnet: Subnet
    router: IPv4Address | None


@dataclass(frozen=True, slots=True)
class Interface:
    """A port as its VM sees it. `name` is what the VM is to call it."""

    name: str
    port: Port
    network: Network
    addresses: tuple[Address, ...]


def interface(index: int, port: Port, network: Network, nodes: Iterable[Node]) -> Interface:
    """The VM's interface number `index`. `nodes`: those that may be its gateway; the port's own is the likeliest."""
    its = port.node if port.binding is None else port.binding.node
    likeliest = sorted(nodes, key=lambda node: node.name != its)
    found = tuple(
        Address(fixed_ip, subnet, router_among(network.gateway_mode, network.id, subnet, likeliest))
        for fixed_ip in port.fixed_ips
        for subnet in (network.subnet(fixed_ip.subnet_id),)
    )
    return Interface(f"eth{index}", port, network, found)


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
            continue
        for position, address in enumerate(each.addresses):
            servers = [{"type": "dns", "address": str(server)} for server in address.subnet.dns_servers]
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
        "match": {"macaddress": each.port.mac},
        "set-name": each.name,
        "mtu": each.network.mtu,
    }
    if each.network.dhcp:
        return document | {"dhcp4": True}
    routes = [
        # not "default", which cloud-init itself refuses with all of the document; only netplan knows it
        {"to": f"{network}/{prefix}", "via": gateway}
        for position, address in enumerate(each.addresses)
        for network, prefix, gateway in _routes(address, position)
    ]
    servers = list(dict.fromkeys(str(one) for address in each.addresses for one in address.subnet.dns_servers))
    domain = each.network.dns_domain
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
