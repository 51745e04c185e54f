"""The DHCPv6 server (RFC 8415) for static bindings: a port's addresses are its own, whatever DUID its client has.

A message is answered only to the port that it came from. All nodes are one server, with one DUID, which outlives every
restart. Ports get no prefixes and no temporary addresses, and are no relays. Input checksums are not verified, as in
`dhcp`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv6Address
from typing import Final, NamedTuple

from controller.packet_in import dhcpv6_options as option
from controller.packet_in import frames, outcomes
from controller.packet_in.dhcpv6_options import Association, Options
from controller.packet_in.ipv6_hosts import GATEWAY, stateful_addresses
from controller.packet_in.leases import LeaseState
from flows.model import Network, Port
from flows.pipeline import GATEWAY_MAC
from flows.snapshot import Snapshot

SERVER_PORT: Final = 547
CLIENT_PORT: Final = 546
SERVERS: Final = IPv6Address("ff02::1:2").packed
"""All_DHCP_Relay_Agents_and_Servers (RFC 8415, 7.1)."""

_GATEWAY_MAC = frames.mac_bytes(GATEWAY_MAC)
SERVER_DUID: Final = b"\x00\x03\x00\x01" + _GATEWAY_MAC
"""DUID-LL (RFC 8415, 11.4), of Ethernet."""

_LINK_LOCAL: Final = b"\xfe\x80" + bytes(6)
_FIRST_CHOICE: Final = b"\xff"  # the client need not wait for other servers (RFC 8415, 18.2.1)
# destination, source MAC, ethertype; version, payload length, next header; addresses; ports, length; type, transaction
_MESSAGE = struct.Struct(">6x6sHB3xHBx16s16sHHH2xB3s")
_START = 14 + 40 + 8
_LONGEST = 1500
# type and transaction, both DUIDs, preference
_HEAD_SIZE: Final = 4 + 4 + len(SERVER_DUID) + 4 + option.LONGEST_DUID + 5


class MessageType(IntEnum):
    """RFC 8415, 7.3."""

    SOLICIT = 1
    ADVERTISE = 2
    REQUEST = 3
    CONFIRM = 4
    RENEW = 5
    REBIND = 6
    REPLY = 7
    RELEASE = 8
    DECLINE = 9
    INFORMATION_REQUEST = 11
    RELAY_FORWARD = 12
    RELAY_REPLY = 13


class Answer(NamedTuple):
    """`frame` goes out of the port that asked; None is silence, named by `outcome`. `leased`: the addresses whose lease
    is now in `state`.
    """

    outcome: str
    frame: bytes | None = None
    state: LeaseState | None = None
    leased: tuple[IPv6Address, ...] = ()


class Reply(NamedTuple):
    """What a message leads to: the type of the answer, what is in it beside the identifiers, and which of the port's
    addresses are leased or given back by it.
    """

    outcome: str
    kind: MessageType
    options: bytes
    state: LeaseState | None = None
    leased: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """A client's message. `addresses`: those that the port is given by DHCPv6."""

    port: Port
    network: Network
    addresses: tuple[bytes, ...]
    options: Options

    def followed(self, leases: bytes, *, whole: bool = False) -> bytes:
        """What is said of addresses, and the rest of the configuration as far as there is room."""
        room = option.LONGEST - _HEAD_SIZE - len(leases)
        return leases + option.given(self.port, self.network, self.options, room, whole=whole)


def _refused(asked: Association, network: Network) -> bytes:
    code = option.NO_PREFIX if asked.code == option.IA_PD else option.NO_ADDRESSES
    return option.association(asked, network, (), option.status(code))


def _leases(question: Question) -> tuple[bytes, bool]:
    """All associations of a question that wants addresses: the first IA_NA has them, others none. True if one has."""
    given, parts = False, []
    for asked in question.options.associations:
        if asked.code == option.IA_NA and question.addresses and not given:
            parts.append(option.association(asked, question.network, question.addresses))
            given = True
        else:
            parts.append(_refused(asked, question.network))
    return b"".join(parts), given


def _bound(reply: Reply, question: Question) -> Reply:
    return reply._replace(state=LeaseState.BOUND, leased=question.addresses)


def _solicit(question: Question) -> Reply:
    leases, given = _leases(question)
    rapid = given and option.RAPID_COMMIT in question.options.single
    options = question.followed(leases)
    if rapid:
        committed = option.encode(option.RAPID_COMMIT, b"") + options
        return _bound(Reply(outcomes.DHCPV6_REPLY, MessageType.REPLY, committed), question)
    preference = option.encode(option.PREFERENCE, _FIRST_CHOICE)
    outcome = outcomes.DHCPV6_ADVERTISE if given else outcomes.DHCPV6_NO_ADDRESS
    return Reply(outcome, MessageType.ADVERTISE, preference + options)


def _request(question: Question) -> Reply:
    subnets = [subnet.cidr for subnet in question.network.ipv6_subnets]
    for asked in question.options.associations:
        if any(not any(IPv6Address(address) in cidr for cidr in subnets) for address in asked.addresses):
            elsewhere = option.association(asked, question.network, (), option.status(option.NOT_ON_LINK))
            return Reply(outcomes.DHCPV6_NOT_ON_LINK, MessageType.REPLY, elsewhere)
    leases, given = _leases(question)
    outcome = outcomes.DHCPV6_REPLY if given else outcomes.DHCPV6_NO_ADDRESS
    reply = Reply(outcome, MessageType.REPLY, question.followed(leases))
    return _bound(reply, question) if given else reply


def _renew(question: Question) -> Reply:
    """RFC 8415, 18.3.4 and 18.3.5: the port's addresses, also if the client has others, which it is to give up."""
    given, parts = False, []
    for asked in question.options.associations:
        wrong = [address for address in asked.addresses if address not in question.addresses]
        given_up = b"".join(option.leased(address, 0) for address in wrong)
        if asked.code == option.IA_NA and question.addresses and not given:
            parts.append(option.association(asked, question.network, question.addresses, given_up))
            given = True
        else:
            nothing = given_up or option.status(option.NO_BINDING)
            parts.append(option.association(asked, question.network, (), nothing))
    outcome = outcomes.DHCPV6_RENEW if given else outcomes.DHCPV6_NO_BINDING
    reply = Reply(outcome, MessageType.REPLY, question.followed(b"".join(parts)))
    return _bound(reply, question) if given else reply


def _confirm(question: Question) -> Reply | str:
    """Only about the port's own addresses is it right: an address of the same link may be another's."""
    addresses = [address for asked in question.options.associations for address in asked.addresses]
    if not addresses:
        return outcomes.DHCPV6_BAD_OPTIONS  # RFC 8415, 18.3.3: no answer
    if all(address in question.addresses for address in addresses):
        return Reply(outcomes.DHCPV6_CONFIRM, MessageType.REPLY, option.status(option.SUCCESS))
    return Reply(outcomes.DHCPV6_NOT_ON_LINK, MessageType.REPLY, option.status(option.NOT_ON_LINK))


def _given_back(question: Question, outcome: str, state: LeaseState) -> Reply:
    """RFC 8415, 18.3.7 and 18.3.8: what is not the port's is said to be no binding."""
    unknown = [
        option.association(asked, question.network, (), option.status(option.NO_BINDING))
        for asked in question.options.associations
        if not set(asked.addresses) & set(question.addresses)
    ]
    said = {address for asked in question.options.associations for address in asked.addresses}
    own = tuple(address for address in question.addresses if address in said)
    return Reply(outcome, MessageType.REPLY, option.status(option.SUCCESS) + b"".join(unknown), state, own)


def _release(question: Question) -> Reply:
    return _given_back(question, outcomes.DHCPV6_RELEASE, LeaseState.RELEASED)


def _decline(question: Question) -> Reply:
    return _given_back(question, outcomes.DHCPV6_DECLINE, LeaseState.DECLINED)


def _information(question: Question) -> Reply | str:
    if question.options.associations:
        return outcomes.DHCPV6_BAD_OPTIONS  # RFC 8415, 16.12
    return Reply(outcomes.DHCPV6_INFORMATION, MessageType.REPLY, question.followed(b"", whole=True))


class Server(IntEnum):
    """Whether a message names a server (RFC 8415, 16)."""

    NONE = 0
    ONE = 1
    EITHER = 2


@dataclass(frozen=True, slots=True)
class Kind:
    """Of a message: its answer, whether it names a server, and whether the client must name itself."""

    answer: Callable[[Question], Reply | str]
    server: Server
    client: bool = True


_KINDS: Final[Mapping[int, Kind]] = {
    MessageType.SOLICIT: Kind(_solicit, Server.NONE),
    MessageType.REQUEST: Kind(_request, Server.ONE),
    MessageType.CONFIRM: Kind(_confirm, Server.NONE),
    MessageType.RENEW: Kind(_renew, Server.ONE),
    MessageType.REBIND: Kind(_renew, Server.NONE),
    MessageType.RELEASE: Kind(_release, Server.ONE),
    MessageType.DECLINE: Kind(_decline, Server.ONE),
    MessageType.INFORMATION_REQUEST: Kind(_information, Server.EITHER, client=False),
}
_REFUSED: Final[Mapping[int, str]] = {
    MessageType.RELAY_FORWARD: outcomes.DHCPV6_RELAYED,
    MessageType.RELAY_REPLY: outcomes.DHCPV6_RELAYED,
}


def answer(frame: bytes, port: Port, snapshot: Snapshot) -> Answer:
    """The answer to a frame that came from a port's interface. The port must be of the snapshot."""
    if len(frame) < _START + 4:
        return Answer(outcomes.MALFORMED)
    mac, ethertype, version, payload, protocol, source, destination, from_port, to_port, length, kind, xid = (
        _MESSAGE.unpack_from(frame)
    )
    if ethertype != frames.ETHERTYPE_IPV6 or version >> 4 != 6 or protocol != frames.PROTOCOL_UDP:
        return Answer(outcomes.MALFORMED)
    end = _START - 8 + length
    # the relays of others are no clients, though RFC 8415, 7.2 gives them another source port
    if to_port != SERVER_PORT or not 12 <= length <= min(payload, _LONGEST) or end > len(frame):
        return Answer(outcomes.MALFORMED)
    if kind in _REFUSED:
        return Answer(_REFUSED[kind])
    if from_port != CLIENT_PORT:
        return Answer(outcomes.MALFORMED)
    if frames.mac_text(mac) != port.mac or source[:8] != _LINK_LOCAL:
        return Answer(outcomes.SPOOFED_SOURCE)
    known = _KINDS.get(kind)
    if known is None:
        return Answer(outcomes.DHCPV6_BAD_TYPE)
    network = snapshot.networks.get(port.network_id)
    if network is None:
        return Answer(outcomes.UNKNOWN_OBJECT)
    if not network.dhcp:
        return Answer(outcomes.DHCPV6_DISABLED)
    if not port.ipv6_addresses:
        return Answer(outcomes.NO_ADDRESS)
    options = option.read(frame[_START + 4 : end])
    if options is None:
        return Answer(outcomes.DHCPV6_BAD_OPTIONS)
    reply = _decide(known, options, destination == SERVERS, port, network)
    if isinstance(reply, str):
        return Answer(reply)
    message = bytes((reply.kind,)) + xid + _identifiers(options) + reply.options
    datagram = frames.udp(GATEWAY.packed, source, SERVER_PORT, CLIENT_PORT, message)
    packet = frames.ipv6(GATEWAY.packed, source, frames.PROTOCOL_UDP, datagram)
    answered = frames.ethernet(mac, _GATEWAY_MAC, frames.ETHERTYPE_IPV6, packet)
    return Answer(reply.outcome, answered, reply.state, tuple(IPv6Address(address) for address in reply.leased))


def _decide(kind: Kind, options: Options, to_all: bool, port: Port, network: Network) -> Reply | str:
    server = options.single.get(option.SERVER_ID)
    if kind.server is not Server.EITHER and (server is not None) is not (kind.server is Server.ONE):
        return outcomes.DHCPV6_BAD_OPTIONS
    if server is not None and server != SERVER_DUID:
        return outcomes.DHCPV6_OTHER_SERVER
    if kind.client and option.CLIENT_ID not in options.single:
        return outcomes.DHCPV6_BAD_OPTIONS
    if not to_all:  # RFC 8415, 18.4: nobody is told that he may
        if kind.server is not Server.ONE:
            return outcomes.DHCPV6_UNICAST
        return Reply(outcomes.DHCPV6_USE_MULTICAST, MessageType.REPLY, option.status(option.USE_MULTICAST))
    addresses = tuple(address.packed for address in stateful_addresses(port, network))
    return kind.answer(Question(port, network, addresses, options))


def _identifiers(options: Options) -> bytes:
    client = options.single.get(option.CLIENT_ID)
    own = option.encode(option.SERVER_ID, SERVER_DUID)
    return own if client is None else own + option.encode(option.CLIENT_ID, client)
