"""The DHCP server (RFC 2131) for static bindings: one address per port, known before the port asks.

A message is answered only to the port that it came from, and only when that port's MAC is its source and its
`chaddr`. A VM is no relay: a message with `giaddr` set is dropped, since the `chaddr` of whoever is behind could not be
the port's, and option 82 in a message counts for nothing. The operator's own relays are in `dhcp_relay`. Input
checksums are not verified: a guest with checksum offload hands over half-made ones.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Final, NamedTuple

from controller.packet_in import dhcp_options as option
from controller.packet_in import frames, outcomes
from controller.packet_in.dhcp_templates import (
    ACK,
    CLIENT_PORT,
    MAGIC,
    NAK,
    OFFER,
    SERVER_PORT,
    Decision,
    Lease,
    PortTemplate,
    build,
)
from controller.packet_in.leases import LeaseState
from flows.model import Port
from flows.snapshot import Snapshot


class Answer(NamedTuple):
    """What became of a message. `frame` goes out of the port that asked; None is silence, named by `outcome`."""

    outcome: str
    frame: bytes | None = None
    lease: Lease | None = None


class MessageType(IntEnum):
    """RFC 2132, 9.6: what a client sends."""

    DISCOVER = 1
    REQUEST = 3
    DECLINE = 4
    RELEASE = 7
    INFORM = 8


Options = dict[int, bytes]

# destination, source MAC; ethertype; version/IHL; total length; flags/fragment; protocol; source address
_ETHERNET_IPV4 = struct.Struct(">6x6sHBxH2xHxB2x4s4x")
# ports; length; op, htype, hlen; xid; flags and ciaddr; giaddr; chaddr with the rest of its field; sname; file; cookie
_UDP_BOOTP = struct.Struct(">HHH2x3sx4s2x6s8x4s6s10x64s128s4s")
_BOOTREQUEST = b"\x01\x01\x06"
_FRAGMENT_BITS = 0x3FFF
_MIN_LENGTH = _ETHERNET_IPV4.size + _UDP_BOOTP.size
_MAX_DATAGRAM = 1500

_OFFER: Final = Decision(outcomes.DHCP_OFFER, OFFER)
_ACK: Final = Decision(outcomes.DHCP_ACK, ACK, LeaseState.BOUND)
_NAK: Final = Decision(outcomes.DHCP_NAK, NAK)
_INFORM: Final = Decision(outcomes.DHCP_INFORM, ACK, leased=False)
_DECLINE: Final = Decision(outcomes.DHCP_DECLINE, None, LeaseState.DECLINED)
_RELEASE: Final = Decision(outcomes.DHCP_RELEASE, None, LeaseState.RELEASED)
_OTHER_SERVER: Final = Decision(outcomes.DHCP_OTHER_SERVER)
_FOREIGN_ADDRESS: Final = Decision(outcomes.DHCP_FOREIGN_ADDRESS)
_NO_STATE: Final = Decision(outcomes.DHCP_NO_STATE)


class ClientState(IntEnum):
    """RFC 2131, 4.3.2: the state a client is in when it sends DHCPREQUEST."""

    SELECTING = 1
    INIT_REBOOT = 2
    RENEWING_OR_REBINDING = 3


# By which of server id, requested address and ciaddr are there. A few clients add the server id when they renew.
_REQUEST_STATES: Final[Mapping[tuple[bool, bool, bool], ClientState]] = {
    (True, True, False): ClientState.SELECTING,
    (True, True, True): ClientState.SELECTING,
    (True, False, True): ClientState.RENEWING_OR_REBINDING,
    (False, True, False): ClientState.INIT_REBOOT,
    (False, True, True): ClientState.RENEWING_OR_REBINDING,
    (False, False, True): ClientState.RENEWING_OR_REBINDING,
}


def _discover(template: PortTemplate, options: Options, ciaddr: bytes) -> Decision:
    return _OFFER


def _request(template: PortTemplate, options: Options, ciaddr: bytes) -> Decision:
    server_id = options.get(option.SERVER_ID)
    requested = options.get(option.REQUESTED_ADDRESS)
    state = _REQUEST_STATES.get((server_id is not None, requested is not None, ciaddr != frames.NO_IP))
    if state is None:
        return _NO_STATE
    if server_id is not None and server_id != template.server_id:
        return _OTHER_SERVER
    wanted = ciaddr if state is ClientState.RENEWING_OR_REBINDING else requested
    return _ACK if wanted == template.address else _NAK


def _decline(template: PortTemplate, options: Options, ciaddr: bytes) -> Decision:
    # the server id may be that of the node the VM lived on before: no port has any DHCP server but us
    return _DECLINE if options.get(option.REQUESTED_ADDRESS) == template.address else _FOREIGN_ADDRESS


def _release(template: PortTemplate, options: Options, ciaddr: bytes) -> Decision:
    return _RELEASE if ciaddr == template.address else _FOREIGN_ADDRESS


def _inform(template: PortTemplate, options: Options, ciaddr: bytes) -> Decision:
    return _INFORM if ciaddr in template.sources and ciaddr != frames.NO_IP else _FOREIGN_ADDRESS


_DECIDE: Final[Mapping[int, Callable[[PortTemplate, Options, bytes], Decision]]] = {
    MessageType.DISCOVER: _discover,
    MessageType.REQUEST: _request,
    MessageType.DECLINE: _decline,
    MessageType.RELEASE: _release,
    MessageType.INFORM: _inform,
}


def decide(template: PortTemplate, options: Options, ciaddr: bytes) -> Decision | str:
    """What a message of the port's client leads to, or why it is no message of a client."""
    message_type = options.get(option.MESSAGE_TYPE)
    if message_type is None:
        return outcomes.DHCP_BOOTP
    known = _DECIDE.get(message_type[0])
    return outcomes.DHCP_BAD_TYPE if known is None else known(template, options, ciaddr)


class DhcpServer:
    """Answers, and keeps what it has prepared for at most `capacity` ports.

    `single_default_gateway`: of the ports of one machine only the one made first gets a default route.
    """

    def __init__(self, capacity: int = 65536, *, single_default_gateway: bool = False) -> None:
        self._capacity = capacity
        self._single_default_gateway = single_default_gateway
        self._templates: dict[int, PortTemplate] = {}

    def answer(self, frame: bytes, port: Port, snapshot: Snapshot) -> Answer:
        """The answer to a frame that came from a port's interface. The port must be of the snapshot and bound."""
        if len(frame) < _MIN_LENGTH:
            return Answer(outcomes.MALFORMED)
        source_mac, ethertype, version, total, fragment, protocol, source = _ETHERNET_IPV4.unpack_from(frame)
        if ethertype != frames.ETHERTYPE_IPV4 or protocol != frames.PROTOCOL_UDP or fragment & _FRAGMENT_BITS:
            return Answer(outcomes.MALFORMED)
        start = 14 + (version & 0xF) * 4
        end = 14 + total
        if version >> 4 != 4 or start < 34 or end > len(frame) or start + _UDP_BOOTP.size > end:
            return Answer(outcomes.MALFORMED)
        client_port, server_port, length, kind, xid, flags_ciaddr, giaddr, chaddr, sname, file, magic = (
            _UDP_BOOTP.unpack_from(frame, start)
        )
        if (
            client_port != CLIENT_PORT
            or server_port != SERVER_PORT
            or kind != _BOOTREQUEST
            or not _UDP_BOOTP.size <= length <= _MAX_DATAGRAM
            or start + length > end
        ):
            return Answer(outcomes.MALFORMED)

        template = self._template(port, snapshot)
        if isinstance(template, str):
            return Answer(template)
        if source_mac != template.mac or source not in template.sources:
            return Answer(outcomes.SPOOFED_SOURCE)
        if chaddr != template.mac:
            return Answer(outcomes.DHCP_FOREIGN_CHADDR)
        if giaddr != frames.NO_IP:
            return Answer(outcomes.DHCP_RELAYED)
        if magic != MAGIC:
            return Answer(outcomes.DHCP_BOOTP)

        key = (flags_ciaddr, frame[start + _UDP_BOOTP.size : start + length])
        reply = template.prepared.get(key)
        if reply is not None:
            return Answer(reply.outcome, reply.fill(xid), reply.lease)
        return _first_answer(template, key, xid, file, sname)

    def leads_out(self, port: Port, snapshot: Snapshot) -> bool:
        """Whether a port is given a default route, if its network has one."""
        return not self._single_default_gateway or snapshot.first_of_device(port)

    def _template(self, port: Port, snapshot: Snapshot) -> PortTemplate | str:
        """The port's template, made anew when one of the objects it was made from has been replaced."""
        network = snapshot.networks.get(port.network_id)
        node = snapshot.nodes.get(port.binding.node) if port.binding is not None else None
        if network is None or node is None:
            return outcomes.UNKNOWN_OBJECT
        leads_out = self.leads_out(port, snapshot)
        template = self._templates.get(port.key)
        if template and template.made_from(port, network, node, leads_out):
            return template
        built = build(port, network, node, leads_out)
        if isinstance(built, str):
            self._templates.pop(port.key, None)
            return built
        if template is None and len(self._templates) >= self._capacity:
            del self._templates[next(iter(self._templates))]
        self._templates[port.key] = built
        return built


def _first_answer(template: PortTemplate, key: tuple[bytes, bytes], xid: bytes, file: bytes, sname: bytes) -> Answer:
    """The answer to a question that this port has not asked lately: read, decide, prepare, remember."""
    flags_ciaddr, data = key
    options = option.read(data, file, sname)
    if options is None:
        return Answer(outcomes.DHCP_BAD_OPTIONS)
    ciaddr = flags_ciaddr[2:]
    decision = decide(template, options, ciaddr)
    if isinstance(decision, str):
        return Answer(decision)
    if options[option.MESSAGE_TYPE][0] == MessageType.DISCOVER:
        ciaddr = frames.NO_IP
    if decision.reply is None:
        return Answer(decision.outcome, None, template.lease(decision.lease))
    reply = template.prepare(decision, options, int.from_bytes(flags_ciaddr[:2], "big"), ciaddr)
    if option.OVERLOAD not in options:  # the key does not hold the fields that option 52 lets speak
        template.remember(key, reply)
    return Answer(reply.outcome, reply.fill(xid), reply.lease)


def answer(frame: bytes, port: Port, snapshot: Snapshot) -> Answer:
    """The answer to a frame, nothing kept: for tests and tools."""
    return DhcpServer().answer(frame, port, snapshot)
