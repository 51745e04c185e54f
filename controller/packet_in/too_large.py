"""A VM's packet that is larger than the external network takes: it is cut, or its sender told (RFC 1812, 4.2.2.7)."""

from __future__ import annotations

from ipaddress import IPv4Address

from controller.packet_in import frames, icmp, outcomes
from controller.packet_in.fragments import fragments, with_ttl
from controller.packet_in.gateways import router_address
from controller.packet_in.outputs import Output, Outputs
from flows.model import Network, Node, Port, Subnet
from flows.snapshot import Snapshot
from flows.wire import TO_PIPELINE


def answer(
    frame: bytes, in_port: int, port: Port, network: Network, node: Node, snapshot: Snapshot
) -> tuple[str, Outputs]:
    """The frame is what the VM sent, with a TTL that is one less. `network` is the port's."""
    ethernet = frames.parse_ethernet(frame)
    packet = None if ethernet is None else frames.parse_ipv4(frame, ethernet.offset)
    if ethernet is None or ethernet.ethertype != frames.ETHERTYPE_IPV4 or packet is None or packet.ttl == 0xFF:
        return outcomes.MALFORMED, ()
    subnet = source_subnet(network, port, IPv4Address(packet.source))
    if subnet is None or ethernet.source != frames.mac_bytes(port.mac):
        return outcomes.SPOOFED_SOURCE, ()
    mtu = _mtu(snapshot, node, network, port, IPv4Address(packet.source))
    start = ethernet.offset
    if mtu is None or packet.end - start <= mtu:
        return outcomes.TOO_LARGE_SILENT, ()  # the flow that sent it here is on its way out
    link, datagram = frame[:start], with_ttl(frame[start : packet.end], packet.ttl + 1)
    if not packet.dont_fragment:
        cut = fragments(datagram, mtu)
        return outcomes.FRAGMENTED, tuple(Output(TO_PIPELINE, link + part, in_port) for part in cut)
    gateway = router_address(network, subnet, node)
    if gateway is None:
        return outcomes.NO_GATEWAY, ()
    error = icmp.fragmentation_needed(link + datagram, gateway, mtu)
    if error is None:
        return outcomes.TOO_LARGE_SILENT, ()
    return outcomes.TOO_LARGE, (Output(in_port, error),)


def source_subnet(network: Network, port: Port, source: IPv4Address) -> Subnet | None:
    """The subnet of the port's address that a packet comes from, or by which a static route leads to where it does."""
    for fixed_ip in port.fixed_ips:
        routed = (source in route.destination for route in network.routes if route.next_hop == fixed_ip.address)
        if source == fixed_ip.address or any(routed):
            return network.subnet(fixed_ip.subnet_id)
    return None


def _mtu(snapshot: Snapshot, node: Node, network: Network, port: Port, source: IPv4Address) -> int | None:
    """What the way out takes: never more than what the switch let through, or the parts would come back."""
    external = snapshot.external_network(network)
    if external is None:
        return None
    for floating_ip in snapshot.floating_ips_of(port.id):
        own = snapshot.networks.get(floating_ip.network_id)
        stands_for_it = floating_ip.port_id == port.id and floating_ip.fixed_ip == source
        if stands_for_it and own is not None and node.uplink(own.physical_network) is not None:
            return min(own.mtu, external.mtu)
    return external.mtu
