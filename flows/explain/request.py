"""What is asked for, and the packet that it is about."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from flows.explain.target import Address, Target, What, aim, in_subnet, port_at, subnets_of
from flows.model import GatewayMode, Network, Node, Port
from flows.packet import Packet, packet
from flows.pipeline import GATEWAY_LINK_LOCAL, GATEWAY_MAC, node_mac
from flows.protocols import (
    ARP_REQUEST,
    DHCP_CLIENT_PORT,
    DHCP_SERVER_PORT,
    DHCPV6_CLIENT_PORT,
    DHCPV6_SERVER_PORT,
    ETH_ARP,
    ETH_IP,
    ETH_IPV6,
    ETH_MULTICAST_BIT,
    ICMP_ECHO_REPLY,
    ICMP_ECHO_REQUEST,
    ICMPV6_ECHO_REPLY,
    ICMPV6_ECHO_REQUEST,
    ND_HOP_LIMIT,
    ND_REDIRECT,
    ND_ROUTER_SOLICITATION,
    ND_SOLICITATION,
    ND_SOURCE_ADDRESS,
    PROTO_ICMP,
    PROTO_ICMPV6,
    PROTO_TCP,
    PROTO_UDP,
    PROTOCOL_NAMES,
    VLAN_PRESENT,
)
from flows.snapshot import Snapshot
from flows.view import mac_text, mac_to_int

BROADCAST_MAC: Final = 0xFFFFFFFFFFFF
STRANGER_MAC: Final = 0x020000000001
"""Of a machine that the cloud knows nothing of: the operator's router, or any other on the wire."""

_SOLICITED_NODE: Final = int(IPv6Address("ff02::1:ff00:0"))
_SMALL: Final = 98  # bytes of a frame, as ping sends them
_TCP_PORT, _UDP_PORT, _SOURCE_PORT = 80, 33434, 40000
_PORTS = {PROTO_TCP: ("tcp_src", "tcp_dst", _TCP_PORT), PROTO_UDP: ("udp_src", "udp_dst", _UDP_PORT)}


ECHOES = (
    ("icmp_type", ICMP_ECHO_REQUEST, ICMP_ECHO_REPLY),
    ("icmpv6_type", ICMPV6_ECHO_REQUEST, ICMPV6_ECHO_REPLY),
)
"""The field, and the types of question and answer."""


@dataclass(frozen=True, slots=True)
class Request:
    """`port`: who sends; None: somebody outside, `from_address`. With both, the port sends from that address, and with
    `from_mac` from that MAC. `protocol` None: an echo request. `size`: bytes of the whole frame.
    """

    port: Port | None
    target: Target
    from_address: Address | None = None
    from_mac: str | None = None
    protocol: int | None = None
    source_port: int | None = None
    destination_port: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None
    size: int = _SMALL
    ttl: int = 64


class Way(Enum):
    """How a packet leaves its sender."""

    DIRECT = 0  # to the MAC of the address itself
    GATEWAY = 1
    ROUTER = 2  # of the operator's
    NO_GATEWAY = 3  # nobody has told the VM of one
    MANY = 4
    ASKS = 5  # nobody is known to have the address: what is traced is the question for it


@dataclass(frozen=True, slots=True)
class Start:
    """The packet where it begins: at a port of a node, or on a physical network. `source` is its sender's address."""

    packet: Packet
    way: Way
    source: Address | None
    node: str | None = None
    ofport: int = 0
    physical_network: str | None = None
    network: Network | None = None


def from_port(snapshot: Snapshot, request: Request) -> Start | None:
    """None where the port is on no node, or has no address of the target's family."""
    port, target = request.port, request.target
    assert port is not None
    if port.binding is None:
        return None
    network = snapshot.networks[port.network_id]
    source = request.from_address or own_address(port, network, target)
    if source is None and target.what is What.MANY and target.address.version == 4:
        source = IPv4Address(0)  # a VM that asks for its address
    if source is None or source.version != target.address.version:
        return None
    way, mac = _next_hop(snapshot, request, network, source)
    sent_from = mac_to_int(request.from_mac or _mac_of(port, source))
    made = asking(request, source, sent_from) if way is Way.ASKS else _made(request, source, sent_from, mac)
    binding = port.binding
    return Start(made, way, source, binding.node, binding.ofport, None, network)


def from_outside(snapshot: Snapshot, request: Request) -> Start | None:
    """None where nobody answers for the address outside."""
    target, source = request.target, request.from_address
    assert source is not None
    external = external_of(snapshot, target)
    node = snapshot.nodes.get(target.node or "")
    if external is None or node is None or source.version != target.address.version:
        return None
    mac = mac_to_int(request.from_mac) if request.from_mac else _heard_from(node, external, source)
    made = _made(request, source, mac, node_mac(node.key))
    if external.segment is not None:
        made = made.but(vlan_vid=VLAN_PRESENT | external.segment)
    return Start(made, Way.DIRECT, source, None, 0, external.physical_network, external)


def external_of(snapshot: Snapshot, target: Target) -> Network | None:
    """The external network by which a target is reached from outside."""
    if target.network is None:
        return None
    return target.network if target.network.external else snapshot.external_network(target.network)


def _heard_from(node: Node, external: Network, source: Address) -> int:
    if in_subnet(external, source):
        return STRANGER_MAC
    for subnet in subnets_of(external):
        if subnet.gateway is not None and subnet.gateway.version == source.version:
            known = node.neighbour(external.id, subnet.gateway)
            if known is not None:
                return mac_to_int(known)
    return STRANGER_MAC


def own_address(port: Port, network: Network, target: Target) -> Address | None:
    """What a VM sends to a target from: an address of the same subnet, if it has one."""
    own = [address for address in port.assigned if address.version == target.address.version]
    for subnet in subnets_of(network):
        for address in own:
            if address in subnet.cidr and target.address in subnet.cidr:
                return address
    return next(iter(own), None)


def _mac_of(port: Port, source: Address) -> str:
    return next((one.mac for one in port.own if one.address == source), port.mac)


def _next_hop(snapshot: Snapshot, request: Request, network: Network, source: Address) -> tuple[Way, int]:
    """To which MAC a VM sends, as what DHCP and router advertisements tell it has it."""
    target = request.target
    address = target.address
    if target.what is What.MANY:
        return Way.MANY, group_mac(address)
    if target.what is What.SERVICE or int(address) == GATEWAY_LINK_LOCAL:
        return Way.GATEWAY, GATEWAY_MAC
    if any(source in one.cidr and address in one.cidr for one in subnets_of(network)):
        if target.what is What.GATEWAY:
            return Way.GATEWAY, GATEWAY_MAC
        found = _on_link(snapshot, network, address)
        return (Way.DIRECT, found) if found is not None else (Way.ASKS, BROADCAST_MAC)
    subnet = next((one for one in network.subnets if source in one.cidr), None)
    for route in () if subnet is None else subnet.host_routes:
        if address in route.destination:
            found = _on_link(snapshot, network, route.next_hop)
            return Way.ROUTER, STRANGER_MAC if found is None else found
    if network.routed:
        return Way.GATEWAY, GATEWAY_MAC
    gateway = _gateway(network, source)
    if network.gateway_mode is GatewayMode.NONE or gateway is None:
        return Way.NO_GATEWAY, GATEWAY_MAC
    found = _on_link(snapshot, network, gateway)
    if found is None and request.port is not None and request.port.binding is not None and network.external:
        known = snapshot.nodes[request.port.binding.node].neighbour(network.id, gateway)
        found = None if known is None else mac_to_int(known)
    return Way.ROUTER, STRANGER_MAC if found is None else found


def _gateway(network: Network, source: Address) -> Address | None:
    for subnet in subnets_of(network):
        if source in subnet.cidr:
            return subnet.gateway
    return None


def _on_link(snapshot: Snapshot, network: Network, address: Address) -> int | None:
    """The MAC of an address on a network itself."""
    port = port_at(snapshot, network, address)
    if port is not None:
        return mac_to_int(next((one.mac for one in port.own if one.address == address), port.mac))
    if not network.external:
        return None
    for node in snapshot.nodes.values():
        if any(held.network_id == network.id and held.address == address for held in node.snat_addresses):
            return node_mac(node.key)
    for floating_ip in snapshot.floating_ips.values():
        if floating_ip.network_id == network.id and floating_ip.address == address:
            holder = snapshot.nodes.get(snapshot.floating_ip_node(floating_ip) or "")
            return None if holder is None else node_mac(holder.key)
    return None


def group_mac(address: Address) -> int:
    """The MAC of a broadcast or multicast address (RFC 1112, 6.4; RFC 2464, 7)."""
    if isinstance(address, IPv6Address):
        return 0x3333_0000_0000 | int(address) & 0xFFFFFFFF
    return 0x01005E000000 | int(address) & 0x7FFFFF if address.is_multicast else BROADCAST_MAC


def asking(request: Request, source: Address, mac: int) -> Packet:
    """The question for the MAC of the target: ARP (RFC 826) or a solicitation (RFC 4861)."""
    target = int(request.target.address)
    if isinstance(source, IPv4Address):
        asked = {"arp_op": ARP_REQUEST, "arp_sha": mac, "arp_spa": int(source), "arp_tpa": target}
        return packet(eth_src=mac, eth_dst=BROADCAST_MAC, eth_type=ETH_ARP, **asked)
    group = _SOLICITED_NODE | target & 0xFFFFFF
    icmp = {"ip_proto": PROTO_ICMPV6, "icmpv6_type": ND_SOLICITATION, "nd_target": target, "nd_sll": mac}
    ends = {"ipv6_src": int(source), "ipv6_dst": group, "nw_ttl": ND_HOP_LIMIT, "nd_options_type": ND_SOURCE_ADDRESS}
    return packet(eth_src=mac, eth_dst=group_mac(IPv6Address(group)), eth_type=ETH_IPV6, **ends, **icmp)


def protocol_of(request: Request) -> int:
    """The IP protocol of the packet."""
    if request.protocol is not None:
        return request.protocol
    return PROTO_ICMPV6 if request.target.address.version == 6 else PROTO_ICMP


def _made(request: Request, source: Address, eth_src: int, eth_dst: int) -> Packet:
    protocol, address = protocol_of(request), request.target.address
    link = {"eth_src": eth_src, "eth_dst": eth_dst, "ip_proto": protocol, "nw_ttl": request.ttl, "size": request.size}
    if isinstance(address, IPv6Address):
        ends = {"eth_type": ETH_IPV6, "ipv6_src": int(source), "ipv6_dst": int(address)}
    else:
        ends = {"eth_type": ETH_IP, "ip_src": int(source), "ip_dst": int(address)}
        if _is_dhcp(request) and request.from_address is None:
            ends["ip_src"] = 0
    return packet(**link | ends | _transport(request, protocol))


def _is_dhcp(request: Request) -> bool:
    return (request.protocol, request.destination_port) == (PROTO_UDP, DHCP_SERVER_PORT)


def _transport(request: Request, protocol: int) -> dict[str, int]:
    named = _PORTS.get(protocol)
    if named is not None:
        source, target, usual = named
        to = usual if request.destination_port is None else request.destination_port
        asked_by = {DHCP_SERVER_PORT: DHCP_CLIENT_PORT, DHCPV6_SERVER_PORT: DHCPV6_CLIENT_PORT}
        own = asked_by.get(to, _SOURCE_PORT) if protocol == PROTO_UDP else _SOURCE_PORT
        return {source: own if request.source_port is None else request.source_port, target: to}
    code = request.icmp_code or 0
    if protocol == PROTO_ICMP:
        kind = ICMP_ECHO_REQUEST if request.icmp_type is None else request.icmp_type
        return {"icmp_type": kind, "icmp_code": code, "icmp_id": 1}
    if protocol == PROTO_ICMPV6 and request.target.address.version == 6:
        kind = ICMPV6_ECHO_REQUEST if request.icmp_type is None else request.icmp_type
        neighbourly = {"nw_ttl": ND_HOP_LIMIT} if ND_ROUTER_SOLICITATION <= kind <= ND_REDIRECT else {}
        return {"icmpv6_type": kind, "icmpv6_code": code, "icmp_id": 1} | neighbourly
    return {}


def answered_by(snapshot: Snapshot, port: Port, seen: Packet) -> Packet | None:
    """What the VM of a port answers, by the way that it knows to the sender; None to what is not answered."""
    answer = replied(seen)
    if answer is None:
        return None
    network, target = snapshot.networks[port.network_id], ends_of(seen)[0]
    request = Request(port, aim(snapshot, network, target))
    own = own_address(port, network, request.target)
    way, mac = (Way.ASKS, 0) if own is None else _next_hop(snapshot, request, network, own)
    # who is not known has just been heard
    return answer if way is Way.ASKS else answer.but(eth_dst=mac)


def turned_ports(seen: Packet) -> dict[str, int]:
    """The ports of TCP or UDP, each in the place of the other."""
    turned: dict[str, int] = {}
    for source, target in (("tcp_src", "tcp_dst"), ("udp_src", "udp_dst")):
        if source in seen:
            turned |= {source: seen[target], target: seen[source]}
    return turned


def replied(seen: Packet, size: int = _SMALL) -> Packet | None:
    """What whoever got a packet sends back to where it came from; None to what is not answered."""
    back = {"eth_src": seen["eth_dst"], "eth_dst": seen["eth_src"], "nw_ttl": 64, "size": size}
    if seen["eth_dst"] & ETH_MULTICAST_BIT:
        return None
    if seen["eth_type"] == ETH_IP:
        back |= {"ip_src": seen["ip_dst"], "ip_dst": seen["ip_src"]}
    elif seen["eth_type"] == ETH_IPV6:
        back |= {"ipv6_src": seen["ipv6_dst"], "ipv6_dst": seen["ipv6_src"]}
    else:
        return None
    back |= turned_ports(seen)
    for kind, asked, answer in ECHOES:
        if kind in seen:
            if seen[kind] != asked:
                return None
            back[kind] = answer
    return seen.but(**back)


def in_words(made: Packet) -> dict[str, str | int]:
    """A packet for people."""
    said: dict[str, str | int] = {"from_mac": mac_text(made["eth_src"]), "to_mac": mac_text(made["eth_dst"])}
    kind = made["eth_type"]
    if kind == ETH_ARP:
        return said | {
            "protocol": "arp",
            "from": str(IPv4Address(made["arp_spa"])),
            "to": str(IPv4Address(made["arp_tpa"])),
        }
    if kind not in (ETH_IP, ETH_IPV6):
        return said | {"protocol": f"{kind:#06x}"}
    source, target = ends_of(made)
    number = made["ip_proto"]
    said |= {"protocol": PROTOCOL_NAMES.get(number, str(number)), "from": str(source), "to": str(target)}
    for name, word in (
        ("tcp_src", "source_port"),
        ("tcp_dst", "destination_port"),
        ("udp_src", "source_port"),
        ("udp_dst", "destination_port"),
        ("icmp_type", "icmp_type"),
        ("icmp_code", "icmp_code"),
        ("icmpv6_type", "icmp_type"),
        ("icmpv6_code", "icmp_code"),
    ):
        if name in made:
            said[word] = made[name]
    return said | {"size": made["size"], "ttl": made["nw_ttl"]}


def ends_of(made: Packet) -> tuple[Address, Address]:
    """Source and target of an IP packet."""
    if made["eth_type"] == ETH_IPV6:
        return IPv6Address(made["ipv6_src"]), IPv6Address(made["ipv6_dst"])
    return IPv4Address(made["ip_src"]), IPv4Address(made["ip_dst"])


def one_line(made: Packet) -> str:
    """`tcp 10.0.0.5 to 10.0.0.9 port 80`."""
    said = in_words(made)
    if "from" not in said:
        return f"frame of type {said['protocol']}"
    if said["protocol"] == "arp":
        return f"ARP request of {said['from']} for {said['to']}"
    if said.get("icmp_type") == ND_SOLICITATION and "nd_target" in made:
        return f"solicitation of {said['from']} for {IPv6Address(made['nd_target'])}"
    ended = f" port {said['destination_port']}" if "destination_port" in said else ""
    kinds = {8: " echo request", 0: " echo reply", 128: " echo request", 129: " echo reply"}
    kind = said.get("icmp_type")
    what = "" if kind is None else kinds.get(int(kind), f" type {kind}")
    return f"{said['protocol']}{what} {said['from']} to {said['to']}{ended}"
