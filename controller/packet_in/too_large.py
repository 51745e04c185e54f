"""A packet that is larger than the network where it goes takes: it is cut, or its sender told (RFC 1812, 4.2.2.7)."""

from __future__ import annotations

from ipaddress import IPv4Address

from controller.packet_in import frames, icmp, outcomes
from controller.packet_in.fragments import fragments, with_ttl, without_fragment
from controller.packet_in.gateways import router_address
from controller.packet_in.outputs import Output, Outputs, Resubmit
from flows.model import Network, Node, Port, Subnet
from flows.pipeline import FLAG_FLOATING, FLAG_FROM_UPLINK, FLAG_LIFTED, GATEWAY_MAC, Table
from flows.snapshot import Snapshot
from flows.view import View

Answer = tuple[str, Outputs]
_FROM_OUTSIDE = FLAG_FROM_UPLINK | FLAG_FLOATING  # whose source could be anybody's
_WITH_PORTS = frozenset({frames.PROTOCOL_TCP, frames.PROTOCOL_UDP})


def leaving(frame: bytes, in_port: int, port: Port, network: Network, node: Node, snapshot: Snapshot) -> Answer:
    """For the outside. The frame is what the VM sent, with a TTL that is one less. `network` is the port's."""
    ethernet, packet = _parsed(frame)
    if ethernet is None or packet is None:
        return outcomes.MALFORMED, ()
    if frames.mac_text(ethernet.source) not in port.macs:
        return outcomes.SPOOFED_SOURCE, ()
    source = IPv4Address(packet.source)
    mtu = View(snapshot, node).outside_mtu(network, port, source, packet.protocol, _source_port(frame, packet))
    return _from_vm(frame[: ethernet.offset], frame, packet, mtu, in_port, port, network, node)


def crossing(frame: bytes, in_port: int, port: Port, network: Network, target: Network, node: Node) -> Answer:
    """From a VM's network to another of its router, routed already."""
    ethernet, packet = _parsed(frame)
    if ethernet is None or packet is None:
        return outcomes.MALFORMED, ()
    link = frames.mac_bytes(GATEWAY_MAC) + frames.mac_bytes(port.mac) + frame[12 : ethernet.offset]
    return _from_vm(link, frame, packet, target.mtu, in_port, port, network, node)


def receiver(frame: bytes, network: Network, node: Node, snapshot: Snapshot) -> Port | None:
    """The VM of this node, or of one whose way out this one is, that a packet is for when it has been translated."""
    ethernet = frames.parse_ethernet(frame)
    ends = None if ethernet is None else frames.ipv4_addresses(frame, ethernet.offset)
    port = None if ends is None else snapshot.port_with(network.id, IPv4Address(ends[1]))
    return port if port is not None and (_is_here(port, node) or network.gateway_node == node.name) else None


def _is_here(port: Port, node: Node) -> bool:
    return any(binding.node == node.name for binding in port.bindings)


def arriving(frame: bytes, port: Port, network: Network, node: Node, snapshot: Snapshot) -> Answer:
    """From outside, translated and routed already. Who sent it is told as if by the VM itself: by the connection."""
    ethernet, packet = _parsed(frame)
    if ethernet is None or packet is None:
        return outcomes.MALFORMED, ()
    datagram = frame[ethernet.offset : packet.end]
    if len(datagram) <= network.mtu:
        return outcomes.TOO_LARGE_SILENT, ()
    gateway, vm, ethertype = frames.mac_bytes(GATEWAY_MAC), frames.mac_bytes(port.mac), frame[12 : ethernet.offset]
    address = IPv4Address(packet.destination)
    # conntrack translates no error that quotes a fragment; of the later ones nobody is told anything
    first_part = packet.more_fragments and not packet.fragment
    quoted = without_fragment(datagram) if first_part else datagram
    error = icmp.fragmentation_needed(vm + gateway + ethertype + quoted, address, network.mtu)
    told: Outputs = ()
    if error is not None and (packet.dont_fragment or _is_part(packet)):
        ways = _translated_as(port, address, snapshot)
        told = tuple(Resubmit(Table.NAT_EGRESS, network.key, error, as_port) for as_port in ways)
    if packet.dont_fragment:
        return (outcomes.TOO_LARGE if told else outcomes.TOO_LARGE_SILENT), told
    link = vm + gateway + ethertype
    cut = fragments(datagram, network.mtu)
    # to another node it is switched, as what one VM sends another
    flags = _FROM_OUTSIDE if _is_here(port, node) else 0
    parts = (Resubmit(Table.L2_FORWARD, network.key, link + part, flags=flags) for part in cut)
    return outcomes.FRAGMENTED, (*parts, *told)


def _is_part(packet: frames.Ipv4) -> bool:
    """Cut by its sender, who may learn to cut smaller: the userspace datapath puts parts together by where they come
    from, so ours may not find those that were small enough to go on by themselves.
    """
    return bool(packet.fragment or packet.more_fragments)


def to_gateway(frame: bytes, in_port: int, port: Port, network: Network) -> Answer:
    """An echo request to a gateway. It is told what fits, or answered in parts, as a host would."""
    ethernet = frames.parse_ethernet(frame)
    packet = None if ethernet is None else frames.parse_ipv4(frame, ethernet.offset)
    if ethernet is None or packet is None or packet.offset == packet.end:
        return outcomes.MALFORMED, ()
    known = source_subnet(network, port, IPv4Address(packet.source)) is not None
    if not known or ethernet.source != frames.mac_bytes(port.mac):
        return outcomes.SPOOFED_SOURCE, ()
    datagram = frame[ethernet.offset : packet.end]
    if len(datagram) <= network.mtu:
        return outcomes.TOO_LARGE_SILENT, ()
    if packet.dont_fragment:
        asked = frame[: packet.end]
        error = icmp.fragmentation_needed(asked, IPv4Address(packet.destination), network.mtu)
        return (outcomes.TOO_LARGE_SILENT, ()) if error is None else (outcomes.TOO_LARGE, (Output(in_port, error),))
    link = ethernet.source + ethernet.destination + frame[12 : ethernet.offset]
    answer = icmp.echo_reply(datagram, packet.offset - ethernet.offset)
    return outcomes.FRAGMENTED, tuple(Output(in_port, link + part) for part in fragments(answer, network.mtu))


def source_subnet(network: Network, port: Port, source: IPv4Address) -> Subnet | None:
    """The subnet of the port's address that a packet comes from, or by which a static route leads to where it does."""
    for own in port.own:
        routed = (source in route.destination for route in network.routes if route.next_hop == own.address)
        if source == own.address or any(routed):
            return network.subnet_with(own.address)
    return None


def _parsed(frame: bytes) -> tuple[frames.Ethernet | None, frames.Ipv4 | None]:
    ethernet = frames.parse_ethernet(frame)
    if ethernet is None or ethernet.ethertype != frames.ETHERTYPE_IPV4 or ethernet.vlan is not None:
        return None, None
    packet = frames.parse_ipv4(frame, ethernet.offset)
    return ethernet, None if packet is None or packet.ttl == 0xFF else packet


def _source_port(frame: bytes, packet: frames.Ipv4) -> int:
    """0 where the switch sees none."""
    if packet.protocol not in _WITH_PORTS or packet.fragment or packet.more_fragments:
        return 0
    return int.from_bytes(frame[packet.offset : packet.offset + 2], "big")


def _from_vm(
    link: bytes,
    frame: bytes,
    packet: frames.Ipv4,
    mtu: int | None,
    in_port: int,
    port: Port,
    network: Network,
    node: Node,
) -> Answer:
    """`link` is the Ethernet header that the VM sent."""
    subnet = source_subnet(network, port, IPv4Address(packet.source))
    if subnet is None:
        return outcomes.SPOOFED_SOURCE, ()
    datagram = with_ttl(frame[len(link) : packet.end], packet.ttl + 1)
    if mtu is None or len(datagram) <= mtu:
        return outcomes.TOO_LARGE_SILENT, ()  # the flow that sent it here is on its way out
    gateway = router_address(network, subnet, node)
    error = None if gateway is None else icmp.fragmentation_needed(link + datagram, gateway, mtu)
    told: Outputs = () if error is None else (Output(in_port, error),)
    if packet.dont_fragment:
        if gateway is None:
            return outcomes.NO_GATEWAY, ()
        return (outcomes.TOO_LARGE if told else outcomes.TOO_LARGE_SILENT), told
    # routed anew, behind the port's security groups: conntrack there has seen the datagram as a whole
    router_key, flags = (network.router_key, 0) if network.routed else (0, FLAG_LIFTED)
    cut = fragments(datagram, mtu)
    parts = (Resubmit(Table.ROUTING, network.key, link + part, port.key, router_key, flags) for part in cut)
    return outcomes.FRAGMENTED, (*parts, *(told if _is_part(packet) else ()))


def _translated_as(port: Port, address: IPv4Address, snapshot: Snapshot) -> list[int]:
    """By which ways the connection may have come: as the port's own, as the node's (0). Conntrack knows one of them."""
    led_to = snapshot.floating_ips_of(port.id)
    own = any(one.port_id == port.id and one.fixed_ip == address for one in led_to)
    return ([port.key] if led_to else []) + ([] if own else [0])
