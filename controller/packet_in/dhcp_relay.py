"""DHCP for machines on the wire, handed on by relays of the operator's (RFC 2131, 4.1; RFC 3046).

A machine is a port that is bound nowhere, found by its MAC on the network of the relay's link. The network names the
relays; whom else the switch has handed up is a machine that renews by itself, from its own address. The server is the
node's address outside, and the answer goes back by the MAC that the question came from.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Final, NamedTuple

from controller.packet_in import dhcp_options as option
from controller.packet_in import frames, outcomes
from controller.packet_in.dhcp import Answer, DhcpServer, MessageType, decide
from controller.packet_in.dhcp_templates import MAGIC, SERVER_PORT, Relay, build
from flows.model import Network, Node, Port
from flows.pipeline import node_mac
from flows.snapshot import Snapshot

_UDP = struct.Struct(">HHHH")
# op, htype, hlen; xid; flags, ciaddr; giaddr; chaddr with the rest of its field; sname; file; cookie
_BOOTP = struct.Struct(">3sx4s2xH4s8x4s6s10x64s128s4s")
_BOOTREQUEST: Final = b"\x01\x01\x06"
_LINK_SELECTION: Final = 5  # RFC 3527


class _Message(NamedTuple):
    """What was asked. `link` is an address of the network that it is about."""

    mac: bytes
    source: IPv4Address
    server: IPv4Address
    xid: bytes
    flags: int
    ciaddr: bytes
    giaddr: bytes
    chaddr: bytes
    options: dict[int, bytes]
    link: IPv4Address


class RelayedMachines:
    """Which port has a MAC on a network, looked up once until a port there changes."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[frozenset[str], Mapping[str, str]]] = {}

    def find(self, network: Network, mac: bytes, snapshot: Snapshot) -> Port | None:
        ids = snapshot.ports_by_network.get(network.id, frozenset())
        known = self._known.get(network.id)
        if known is None or known[0] is not ids:
            known = ids, {snapshot.ports[id_].mac: id_ for id_ in ids}
            self._known = {id_: held for id_, held in self._known.items() if id_ in snapshot.relayed}
            self._known[network.id] = known
        port_id = known[1].get(frames.mac_text(mac))
        return None if port_id is None else snapshot.ports[port_id]


def answer(
    frame: bytes, external: Network, node: Node, snapshot: Snapshot, server: DhcpServer, machines: RelayedMachines
) -> tuple[Answer, Port | None]:
    """The answer to an untagged frame from an external network, and the port it is about."""
    message = _read(frame)
    if isinstance(message, str):
        return Answer(message), None
    if all(held.network_id != external.id or held.address != message.server for held in node.snat_addresses):
        return Answer(outcomes.DHCP_OTHER_SERVER), None
    network = _network(message, external, snapshot)
    if network is None:
        return Answer(outcomes.DHCP_NO_NETWORK), None
    port = machines.find(network, message.chaddr, snapshot)
    if port is None or port.binding is not None:  # a VM asks where it is
        return Answer(outcomes.DHCP_NO_PORT), None
    template = build(port, network, node, server.leads_out(port, snapshot), message.server)
    if isinstance(template, str):
        return Answer(template), None
    if message.giaddr == frames.NO_IP and not message.source.packed == message.ciaddr == template.address:
        return Answer(outcomes.SPOOFED_SOURCE), None
    decision = decide(template, message.options, message.ciaddr)
    if isinstance(decision, str):
        return Answer(decision), None
    if decision.reply is None:
        return Answer(decision.outcome, None, template.lease(decision.lease)), port
    discovers = message.options[option.MESSAGE_TYPE][0] == MessageType.DISCOVER
    relay = Relay(
        message.giaddr,
        message.options.get(option.RELAY_INFORMATION, b""),
        message.mac,
        frames.mac_bytes(node_mac(node.key)),
    )
    ciaddr = frames.NO_IP if discovers else message.ciaddr
    reply = template.prepare(decision, message.options, message.flags, ciaddr, relay)
    filled = frames.readdressed(reply.fill(message.xid), message.mac, external.segment)
    return Answer(reply.outcome, filled, reply.lease), port


def _read(frame: bytes) -> _Message | str:
    ethernet = frames.parse_ethernet(frame)
    if ethernet is None or ethernet.ethertype != frames.ETHERTYPE_IPV4 or ethernet.vlan is not None:
        return outcomes.MALFORMED
    if ethernet.source[0] & 1:  # the answer would go to a group
        return outcomes.MALFORMED
    packet = frames.parse_ipv4(frame, ethernet.offset)
    if packet is None or packet.protocol != frames.PROTOCOL_UDP or packet.fragment or packet.more_fragments:
        return outcomes.MALFORMED
    start = packet.offset + _UDP.size
    if packet.end < start + _BOOTP.size:
        return outcomes.MALFORMED
    _, to_port, length, _ = _UDP.unpack_from(frame, packet.offset)
    kind, xid, flags, ciaddr, giaddr, chaddr, sname, file, magic = _BOOTP.unpack_from(frame, start)
    end = packet.offset + length
    if to_port != SERVER_PORT or kind != _BOOTREQUEST or not start + _BOOTP.size <= end <= packet.end:
        return outcomes.MALFORMED
    if magic != MAGIC:
        return outcomes.DHCP_BOOTP
    options = option.read(frame[start + _BOOTP.size : end], file, sname)
    link = None if options is None else _link(options, giaddr, ciaddr)
    if options is None or link is None:
        return outcomes.DHCP_BAD_OPTIONS
    ends = IPv4Address(packet.source), IPv4Address(packet.destination)
    return _Message(ethernet.source, *ends, xid, flags, ciaddr, giaddr, chaddr, options, link)


def _link(options: dict[int, bytes], giaddr: bytes, ciaddr: bytes) -> IPv4Address | None:
    """The subnet that the relay asks for (RFC 3527, then RFC 3011), else its own. None: option 82 is not sound."""
    chosen = options.get(option.SUBNET_SELECTION, giaddr if giaddr != frames.NO_IP else ciaddr)
    information, at = options.get(option.RELAY_INFORMATION, b""), 0
    while at < len(information):
        piece = information[at + 2 : at + 2 + information[at + 1]] if at + 1 < len(information) else b""
        if at + 1 >= len(information) or len(piece) != information[at + 1]:
            return None
        if information[at] == _LINK_SELECTION:
            if len(piece) != 4:
                return None
            chosen = piece
        at += 2 + len(piece)
    return IPv4Address(chosen)


def _network(message: _Message, external: Network, snapshot: Snapshot) -> Network | None:
    """The first network that the message may be about: asked by one of its relays, whose address is there or known
    to it, or by a machine that has an address there.
    """
    for network in snapshot.relayed_by(external):
        if not any(message.link in subnet.cidr for subnet in network.subnets):
            continue
        if message.giaddr == frames.NO_IP:
            return network
        giaddr = IPv4Address(message.giaddr)
        at_home = giaddr in network.dhcp_relays or any(giaddr in subnet.cidr for subnet in network.subnets)
        if at_home and message.source in network.dhcp_relays:
            return network
    return None
