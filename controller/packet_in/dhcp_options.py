"""DHCP options: reading what a client sent, and the payloads and order of what it gets (RFC 2132, 3396, 3397, 3442)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from flows.host_name import host_name
from flows.model import HostRoute, Network, Port, Subnet

PAD: Final = 0
SUBNET_MASK: Final = 1
ROUTER: Final = 3
DNS_SERVERS: Final = 6
HOST_NAME: Final = 12
DOMAIN_NAME: Final = 15
INTERFACE_MTU: Final = 26
BROADCAST_ADDRESS: Final = 28
REQUESTED_ADDRESS: Final = 50
LEASE_TIME: Final = 51
OVERLOAD: Final = 52
MESSAGE_TYPE: Final = 53
SERVER_ID: Final = 54
PARAMETER_LIST: Final = 55
MESSAGE: Final = 56
MAX_MESSAGE_SIZE: Final = 57
RENEWAL_TIME: Final = 58
REBINDING_TIME: Final = 59
CLIENT_ID: Final = 61
TFTP_SERVER: Final = 66
BOOT_FILE: Final = 67
RELAY_INFORMATION: Final = 82
SUBNET_SELECTION: Final = 118
DOMAIN_SEARCH: Final = 119
CLASSLESS_ROUTES: Final = 121
MICROSOFT_ROUTES: Final = 249
"""What Windows asked for before it knew 121, and still asks for beside it; with the same payload ([MS-DHCPE])."""
END: Final = 255

SERVICE_ROUTE: Final = HostRoute(IPv4Network("169.254.169.252/30"), IPv4Address(0))
"""On-link (RFC 3442: router 0.0.0.0), where no route leads to what the nodes offer at link-local addresses."""

FOREVER: Final = 0xFFFFFFFF
_MAX_LABEL: Final = 63
_MAX_CHUNK: Final = 255
# The protocol's own, and who sets them: no free option of a network or port may take their place.
RESERVED: Final[Mapping[int, str]] = {
    PAD: "padding",
    SUBNET_MASK: "the subnet's mask, set from its cidr",
    BROADCAST_ADDRESS: "the broadcast address, set from the subnet's cidr",
    REQUESTED_ADDRESS: "sent by clients only",
    LEASE_TIME: "set by lease_time",
    OVERLOAD: "option overload, set by the server",
    MESSAGE_TYPE: "the message type",
    SERVER_ID: "the server's own address",
    PARAMETER_LIST: "sent by clients only",
    MESSAGE: "the text of a refusal",
    MAX_MESSAGE_SIZE: "sent by clients only",
    RENEWAL_TIME: "set from lease_time",
    REBINDING_TIME: "set from lease_time",
    CLIENT_ID: "sent by clients only",
    80: "rapid commit",
    81: "negotiated with the client",
    RELAY_INFORMATION: "added by relays only",
    90: "authentication",
    116: "sent by clients only",
    SUBNET_SELECTION: "sent by relays only",
    END: "the end mark",
}
# sent even to a client that did not ask: it would guess otherwise
_UNASKED: Final = (RENEWAL_TIME, REBINDING_TIME)
_LEASE_ONLY: Final = frozenset({RENEWAL_TIME, REBINDING_TIME})
# exact payload sizes of what we read from a client
_READ_SIZES: Final = {
    REQUESTED_ADDRESS: 4,
    OVERLOAD: 1,
    MESSAGE_TYPE: 1,
    SERVER_ID: 4,
    MAX_MESSAGE_SIZE: 2,
    SUBNET_SELECTION: 4,
}


def read(options: bytes, file: bytes, sname: bytes) -> dict[int, bytes] | None:
    """A client's options, or None when one runs past its field or has a wrong size.

    Options that come in pieces are joined (RFC 3396), also across the `file` and `sname` fields where option 52
    says that these hold options. A missing END is forgiven: the field's end says the same.
    """
    found: dict[int, bytes] = {}
    if not _read_field(options, found):
        return None
    overload = found.get(OVERLOAD, b"\0")
    if len(overload) != 1 or overload[0] > 3:
        return None
    for bit, field in ((1, file), (2, sname)):
        if overload[0] & bit and not _read_field(field, found):
            return None
    if overload != b"\0":
        found[OVERLOAD] = overload  # one inside the other fields means nothing
    for code, size in _READ_SIZES.items():
        if code in found and len(found[code]) != size:
            return None
    return found


def _read_field(data: bytes, found: dict[int, bytes]) -> bool:
    at, end = 0, len(data)
    while at < end:
        code = data[at]
        if code == END:
            return True
        if code == PAD:
            at += 1
            continue
        if at + 1 >= end:
            return False
        stop = at + 2 + data[at + 1]
        if stop > end:
            return False
        payload = data[at + 2 : stop]
        found[code] = found[code] + payload if code in found else payload
        at = stop
    return True


def encode(code: int, payload: bytes) -> bytes:
    """Code, length, payload; in pieces where it is longer than 255 bytes (RFC 3396)."""
    if len(payload) <= _MAX_CHUNK:
        return bytes((code, len(payload))) + payload
    pieces = (payload[at : at + _MAX_CHUNK] for at in range(0, len(payload), _MAX_CHUNK))
    return b"".join(bytes((code, len(piece))) + piece for piece in pieces)


def payloads(
    port: Port, network: Network, subnet: Subnet, router: IPv4Address | None, resolver: IPv4Address | None = None
) -> dict[int, bytes]:
    """Every option a port may be given, by code. A port's free options win over its network's, and these over ours.

    `resolver` is the name server of a subnet that names none.

    A free option with an empty payload takes the option away (a second interface without a default route).
    """
    servers = subnet.dns_servers or (() if resolver is None else (resolver,))
    options: dict[int, bytes] = {
        SUBNET_MASK: subnet.cidr.netmask.packed,
        INTERFACE_MTU: network.mtu.to_bytes(2, "big"),
        DNS_SERVERS: b"".join(server.packed for server in servers),
        HOST_NAME: _ascii(host_name(port.hostname)),
        DOMAIN_NAME: _ascii(network.dns_domain),
        DOMAIN_SEARCH: search_list(network.dns_domain),
    }
    if router is not None:
        options[ROUTER] = router.packed
    if subnet.cidr.prefixlen < 31:  # RFC 3021: shorter ranges have no broadcast address
        options[BROADCAST_ADDRESS] = subnet.cidr.broadcast_address.packed
    lease_time = lease_seconds(network)
    if lease_time != FOREVER:
        options[RENEWAL_TIME] = (lease_time // 2).to_bytes(4, "big")
        options[REBINDING_TIME] = (lease_time * 7 // 8).to_bytes(4, "big")
    for option in (*network.dhcp_options, *port.dhcp_options):
        if option.code not in RESERVED and 0 < option.code < END:
            options[option.code] = option.payload
    if CLASSLESS_ROUTES not in options:
        routes = (*subnet.host_routes, *_service_routes(port, network, subnet))
        options[CLASSLESS_ROUTES] = classless_routes(routes, options.get(ROUTER, b"")[:4])
    options.setdefault(MICROSOFT_ROUTES, options[CLASSLESS_ROUTES])
    return {code: payload for code, payload in options.items() if payload}


def _service_routes(port: Port, network: Network, subnet: Subnet) -> tuple[HostRoute, ...]:
    """Where nodes are no router: without one, or with one that is down, what they offer is reached all the same.

    Not for a machine that is no VM, which has no binding: it would find nothing there.
    """
    wanted = SERVICE_ROUTE.destination
    given = any(wanted.subnet_of(route.destination) for route in subnet.host_routes if route.destination.prefixlen)
    return () if network.routed or given or port.binding is None else (SERVICE_ROUTE,)


def lease_seconds(network: Network) -> int:
    return max(1, min(network.lease_time, FOREVER))


def classless_routes(routes: Sequence[HostRoute], router: bytes) -> bytes:
    """RFC 3442. The client then ignores option 3, so the default route goes in as well. Empty without routes."""
    if not routes:
        return b""
    coded = [
        bytes((route.destination.prefixlen,))
        + route.destination.network_address.packed[: (route.destination.prefixlen + 7) // 8]
        + route.next_hop.packed
        for route in routes
    ]
    if router and all(route.destination.prefixlen for route in routes):
        coded.append(b"\0" + router)
    return b"".join(coded)


def search_list(domain: str) -> bytes:
    """One domain as in RFC 3397, RFC 8106 and RFC 3646; empty when there is none."""
    labels = _ascii(domain).rstrip(b".").split(b".")
    if not all(0 < len(label) <= _MAX_LABEL for label in labels):
        return b""
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


def _ascii(text: str) -> bytes:
    """Names are checked when they are stored; one that is not ASCII after all is left out."""
    return text.encode() if text.isascii() and len(text) <= _MAX_CHUNK else b""


def order(asked: bytes | None, available: Mapping[int, bytes], lease: bool) -> list[int]:
    """The options to send, in the order asked in option 55; without one, all of them, the routes once.

    The mask always comes before the router (RFC 2132, 3.3). `lease` False leaves out the times (DHCPINFORM).
    """
    wanted: Iterable[int] = sorted(available.keys() - {MICROSOFT_ROUTES}) if asked is None else (*asked, *_UNASKED)
    codes = [code for code in dict.fromkeys(wanted) if code in available and (lease or code not in _LEASE_ONLY)]
    if SUBNET_MASK in codes and ROUTER in codes and codes.index(ROUTER) < codes.index(SUBNET_MASK):
        codes.remove(SUBNET_MASK)
        codes.insert(codes.index(ROUTER), SUBNET_MASK)
    return codes
