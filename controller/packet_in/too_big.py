"""An IPv6 packet that a gateway does not pass on: too large for where it goes, or with its hop limit used up. Its
sender is told (RFC 4443, 3.2 and 3.3); nobody but the sender may cut it (RFC 8200, 5).
"""

from __future__ import annotations

from ipaddress import IPv6Address

from controller.packet_in import frames, icmpv6, outcomes
from controller.packet_in.ipv6_hosts import GATEWAY
from controller.packet_in.outputs import Output, Outputs, Resubmit
from flows.model import Network, Node, Port
from flows.pipeline import GATEWAY_MAC, Table
from flows.snapshot import Snapshot
from flows.view import View

Answer = tuple[str, Outputs]


def leaving(frame: bytes, in_port: int, port: Port, network: Network, node: Node, snapshot: Snapshot) -> Answer:
    """For the outside, as the VM sent it. `network` is the port's."""
    outside = View(snapshot, node).way_out_ipv6(network)
    if outside is None:
        return outcomes.TOO_LARGE_SILENT, ()
    return _tell_vm(frame, in_port, port, network, outside.mtu)


def crossing(frame: bytes, in_port: int, port: Port, network: Network, target: Network) -> Answer:
    """From a VM's network to another of its router, routed already."""
    link = frames.mac_bytes(GATEWAY_MAC) + frames.mac_bytes(port.mac)
    return _tell_vm(link + frame[12:], in_port, port, network, target.mtu)


def arriving(frame: bytes, network: Network) -> Answer:
    """From outside, routed already. Who sent it is told as if by the VM itself, which the outside can reach."""
    packet = _parsed(frame)
    if packet is None:
        return outcomes.MALFORMED, ()
    turned = frame[:6] + frames.mac_bytes(GATEWAY_MAC) + frame[12:]
    error = icmpv6.packet_too_big(turned, IPv6Address(packet.destination), network.mtu)
    if error is None:
        return outcomes.TOO_LARGE_SILENT, ()
    return outcomes.TOO_LARGE, (Resubmit(Table.NAT_EGRESS, network.key, error),)


def used_up(frame: bytes, in_port: int, port: Port, network: Network) -> Answer:
    """The hop limit of what a VM sent."""
    packet = _parsed(frame)
    if packet is None:
        return outcomes.MALFORMED, ()
    gateway = _gateway(packet, frame, port, network)
    if isinstance(gateway, str):
        return gateway, ()
    error = icmpv6.time_exceeded(frame, gateway, GATEWAY_MAC)
    return (outcomes.TTL_SILENT, ()) if error is None else (outcomes.TTL_EXPIRED, (Output(in_port, error),))


def _tell_vm(frame: bytes, in_port: int, port: Port, network: Network, mtu: int) -> Answer:
    packet = _parsed(frame)
    if packet is None:
        return outcomes.MALFORMED, ()
    gateway = _gateway(packet, frame, port, network)
    if isinstance(gateway, str):
        return gateway, ()
    error = icmpv6.packet_too_big(frame, gateway, mtu)
    return (outcomes.TOO_LARGE_SILENT, ()) if error is None else (outcomes.TOO_LARGE, (Output(in_port, error),))


def _parsed(frame: bytes) -> frames.Ipv6 | None:
    ethernet = frames.parse_ethernet(frame)
    if ethernet is None or ethernet.ethertype != frames.ETHERTYPE_IPV6:
        return None
    return frames.parse_ipv6(frame, ethernet.offset)


def _gateway(packet: frames.Ipv6, frame: bytes, port: Port, network: Network) -> IPv6Address | str:
    """Who tells the VM: the gateway of the address that it sent from, or why it is told nothing."""
    source = IPv6Address(packet.source)
    subnet_id = next((own.subnet_id for own in port.ipv6_addresses if own.address == source), None)
    if subnet_id is None or frames.mac_text(frame[6:12]) not in port.macs:
        return outcomes.SPOOFED_SOURCE
    if not network.routed:
        return outcomes.NO_GATEWAY
    return next((s.gateway for s in network.ipv6_subnets if s.id == subnet_id and s.gateway is not None), GATEWAY)
