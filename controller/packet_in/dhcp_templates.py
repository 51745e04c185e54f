"""DHCP replies prepared per port, so that answering means filling in the transaction id and the checksum."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from typing import Final, NamedTuple

from controller.packet_in import dhcp_options as option
from controller.packet_in import frames, outcomes
from controller.packet_in.gateways import LINK_LOCAL_RESOLVER, resolver_address, router_address
from controller.packet_in.leases import LeaseState
from flows.model import FixedIp, Network, Node, Port, Subnet
from flows.pipeline import GATEWAY_MAC

SERVER_PORT: Final = 67
CLIENT_PORT: Final = 68
MAGIC: Final = b"\x63\x82\x53\x63"

OFFER: Final = 2
ACK: Final = 5
NAK: Final = 6

# Server of a network whose nodes hold no address and which names no router: a client cannot reach it by unicast, so
# it renews by broadcast when its rebinding time has come. The resolver answers there.
LINK_LOCAL_SERVER: Final = LINK_LOCAL_RESOLVER

_BOOTP = struct.Struct(">2sH4s4s4s4s16s64s128s")  # from secs to file; what comes before is in PreparedReply.fill
_REPLY_HEAD = b"\x02\x01\x06\x00"  # op BOOTREPLY, Ethernet, 6 bytes, no hops
_BROADCAST_FLAG = 0x8000
_MIN_MESSAGE = 300  # RFC 951: some clients throw away anything shorter
_MIN_DATAGRAM = 576  # RFC 2131, 2: what every client must take
_FIXED_MESSAGE = 240  # up to and with the magic cookie
_HEADERS = 28  # IPv4 and UDP
_MAX_PREPARED = 8  # different questions kept per port
_WRONG_ADDRESS = b"address is not of this port"


class Lease(NamedTuple):
    """A change of a lease: `seconds` from now to its expiry."""

    address: IPv4Address
    state: LeaseState
    seconds: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What a message leads to. `reply` is the DHCP message type of the answer, None for silence."""

    outcome: str
    reply: int | None = None
    lease: LeaseState | None = None
    leased: bool = True


class Relay(NamedTuple):
    """Where the answer to a message goes that a relay has handed on (RFC 2131, 4.1), all packed.

    `address` is the relay's, 0.0.0.0 for a machine that has asked by itself; `information` is option 82, given back as
    it is (RFC 3046, 2.2). `mac` is the next hop's, `source_mac` the node's.
    """

    address: bytes
    information: bytes
    mac: bytes
    source_mac: bytes


class PreparedReply:
    """A reply but for its transaction id."""

    __slots__ = ("outcome", "lease", "_before", "_after", "_sum")

    def __init__(self, outcome: str, lease: Lease | None, frame: bytes) -> None:
        """`frame` is the reply to transaction 0."""
        self.outcome = outcome
        self.lease = lease
        self._before = frame[:40]  # Ethernet, IPv4, UDP up to its checksum
        self._after = frame[50:]
        self._sum = 0xFFFF - int.from_bytes(frame[40:42], "big")

    def fill(self, xid: bytes) -> bytes:
        total = (self._sum + int.from_bytes(xid, "big")) % 0xFFFF
        return b"".join((self._before, (0xFFFF - total).to_bytes(2, "big"), _REPLY_HEAD, xid, self._after))


class PortTemplate:
    """All that DHCP says to one port, derived from three objects of the snapshot and good as long as they are.

    `leads_out` False: without a default route. `server` is the server's address where that is not the router's.
    """

    __slots__ = (
        "mac",
        "address",
        "sources",
        "server_id",
        "prepared",
        "_port",
        "_network",
        "_node",
        "_leads_out",
        "_fixed_ip",
        "_options",
        "_lease_time",
        "_max_datagram",
        "_next_server",
        "_boot_file",
    )

    def __init__(
        self,
        port: Port,
        network: Network,
        node: Node,
        subnet: Subnet,
        router: IPv4Address | None,
        leads_out: bool = True,
        server: IPv4Address | None = None,
    ) -> None:
        self._port = port
        self._network = network
        self._node = node
        self._leads_out = leads_out
        self.mac = frames.mac_bytes(port.mac)
        self._fixed_ip: FixedIp = port.fixed_ips[0]
        self.address = self._fixed_ip.address.packed
        self.sources = frozenset({frames.NO_IP, *(fixed_ip.address.packed for fixed_ip in port.fixed_ips)})
        self.server_id = (server or router or LINK_LOCAL_SERVER).packed
        self.prepared: dict[tuple[bytes, bytes], PreparedReply] = {}
        # behind a relay is no VM, and only VMs reach the resolver
        resolver = resolver_address(network.gateway_mode, router) if server is None else None
        self._options = option.payloads(port, network, subnet, router if leads_out else None, resolver)
        self._lease_time = option.lease_seconds(network)
        self._max_datagram = max(_MIN_DATAGRAM, network.mtu)
        # network boot from ROM reads these two from the header, not from the options
        self._next_server = _ip_literal(self._options.get(option.TFTP_SERVER, b""))
        boot_file = self._options.get(option.BOOT_FILE, b"")
        self._boot_file = boot_file if len(boot_file) < 128 else b""

    def made_from(self, port: Port, network: Network, node: Node, leads_out: bool) -> bool:
        same = self._port is port and self._network is network and self._node is node
        return same and self._leads_out is leads_out

    def remember(self, key: tuple[bytes, bytes], reply: PreparedReply) -> None:
        if len(self.prepared) >= _MAX_PREPARED:
            self.prepared.clear()
        self.prepared[key] = reply

    def lease(self, state: LeaseState | None) -> Lease | None:
        if state is None:
            return None
        return Lease(self._fixed_ip.address, state, self._lease_time if state is LeaseState.BOUND else 0)

    def prepare(
        self, decision: Decision, asked: dict[int, bytes], flags: int, ciaddr: bytes, relay: Relay | None = None
    ) -> PreparedReply:
        """The reply to transaction 0. `ciaddr` is 0 where the client's message type has none."""
        assert decision.reply is not None
        refused = decision.reply == NAK
        giaddr = frames.NO_IP if relay is None else relay.address
        if refused and giaddr != frames.NO_IP:
            flags |= _BROADCAST_FLAG  # RFC 2131, 4.3.2: the client may have no address to be reached at
        yiaddr = self.address if decision.leased and not refused else frames.NO_IP
        # RFC 2131, 4.1: where the reply goes
        target = ciaddr if ciaddr != frames.NO_IP else self.address
        broadcast = refused or (ciaddr == frames.NO_IP and bool(flags & _BROADCAST_FLAG))
        bootp = _BOOTP.pack(
            b"\0\0",
            flags,
            frames.NO_IP if refused else ciaddr,
            yiaddr,
            frames.NO_IP if refused else self._next_server,
            giaddr,
            self.mac,
            b"",
            b"" if refused else self._boot_file,
        )
        information = b"" if relay is None else relay.information
        message = _REPLY_HEAD + bytes(4) + bootp + MAGIC + self._encode(decision, asked, information)
        address = frames.BROADCAST_IP if broadcast else target
        to_port = CLIENT_PORT
        mac = frames.BROADCAST_MAC if broadcast else self.mac
        source_mac = frames.mac_bytes(GATEWAY_MAC)
        if relay is not None:
            mac, source_mac = relay.mac, relay.source_mac
            if giaddr != frames.NO_IP:
                address, to_port = giaddr, SERVER_PORT
            else:
                address = target
        datagram = frames.udp(self.server_id, address, SERVER_PORT, to_port, message.ljust(_MIN_MESSAGE, b"\0"))
        packet = frames.ipv4(self.server_id, address, frames.PROTOCOL_UDP, datagram)
        frame = frames.ethernet(mac, source_mac, frames.ETHERTYPE_IPV4, packet)
        return PreparedReply(decision.outcome, self.lease(decision.lease), frame)

    def _encode(self, decision: Decision, asked: dict[int, bytes], information: bytes) -> bytes:
        """Options in the client's order, as many as it can take; what does not fit is left out whole. Option 82 is
        the last one (RFC 3046, 2.1).
        """
        assert decision.reply is not None
        refused = decision.reply == NAK
        encoded = [
            option.encode(option.MESSAGE_TYPE, bytes((decision.reply,))),
            option.encode(option.SERVER_ID, self.server_id),
        ]
        if decision.leased and not refused:
            encoded.append(option.encode(option.LEASE_TIME, self._lease_time.to_bytes(4, "big")))
        if asked.get(option.CLIENT_ID):  # RFC 6842
            encoded.append(option.encode(option.CLIENT_ID, asked[option.CLIENT_ID]))
        relayed = option.encode(option.RELAY_INFORMATION, information) if information else b""
        if refused:
            encoded.append(option.encode(option.MESSAGE, _WRONG_ADDRESS))
        else:
            room = self._room(asked) - sum(map(len, encoded)) - len(relayed)
            for code in option.order(asked.get(option.PARAMETER_LIST), self._options, decision.leased):
                piece = option.encode(code, self._options[code])
                if len(piece) <= room:
                    encoded.append(piece)
                    room -= len(piece)
        return b"".join((*encoded, relayed)) + bytes((option.END,))

    def _room(self, asked: dict[int, bytes]) -> int:
        """Bytes for options before END, by what the client takes (option 57) and the network carries."""
        client = int.from_bytes(asked.get(option.MAX_MESSAGE_SIZE, b""), "big")
        return min(max(client, _MIN_DATAGRAM), self._max_datagram) - _HEADERS - _FIXED_MESSAGE - 1


def build(
    port: Port, network: Network, node: Node, leads_out: bool = True, server: IPv4Address | None = None
) -> PortTemplate | str:
    """The template of a port, or the name of the reason why there is none. `server`: not the router's address."""
    if not network.dhcp:
        return outcomes.DHCP_DISABLED
    fixed_ip = port.fixed_ips[0] if port.fixed_ips else None
    subnet = next((subnet for subnet in network.subnets if fixed_ip and subnet.id == fixed_ip.subnet_id), None)
    if subnet is None:
        return outcomes.NO_ADDRESS
    router = router_address(network, subnet, node)
    if router is None and network.routed:
        return outcomes.NO_GATEWAY  # the node is about to get one: a lease without a router would last a day
    return PortTemplate(port, network, node, subnet, router, leads_out, server)


def _ip_literal(text: bytes) -> bytes:
    try:
        return IPv4Address(text.decode("ascii")).packed
    except (AddressValueError, UnicodeDecodeError):
        return frames.NO_IP
