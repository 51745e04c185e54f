"""DHCPv6 options (RFC 8415, 21; RFC 3646, 4704): reading what a client sent, and what it is given."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final, NamedTuple

from controller.packet_in.dhcp_options import FOREVER, lease_seconds, search_list
from controller.packet_in.ipv6_hosts import dns_servers, subnets_of
from flows.host_name import host_name
from flows.model import Network, Port

CLIENT_ID: Final = 1
SERVER_ID: Final = 2
IA_NA: Final = 3
IA_TA: Final = 4
ADDRESS: Final = 5
OPTION_REQUEST: Final = 6
PREFERENCE: Final = 7
STATUS_CODE: Final = 13
RAPID_COMMIT: Final = 14
DNS_SERVERS: Final = 23
SEARCH_LIST: Final = 24
IA_PD: Final = 25
REFRESH_TIME: Final = 32
CLIENT_FQDN: Final = 39

SUCCESS: Final = 0
NO_ADDRESSES: Final = 2
NO_BINDING: Final = 3
NOT_ON_LINK: Final = 4
USE_MULTICAST: Final = 5
NO_PREFIX: Final = 6

LEAST_REFRESH: Final = 600
"""Seconds (RFC 8415, 7.6)."""

MOST: Final = 4
"""Identity associations in a message, and addresses in one of them. A client of ours has one of each."""

LONGEST: Final = 1280 - 40 - 8
"""Bytes of a message that any link takes in one piece (RFC 8200, 5)."""

_HEAD = struct.Struct(">HH")
LONGEST_DUID = 130  # RFC 8415, 11.1
_SHORTEST_DUID = 3
# what stands in front of an association's own options, of which the first 4 bytes are its IAID
_ASSOCIATIONS: Final = {IA_NA: 12, IA_TA: 4, IA_PD: 12}
_ADDRESS_SIZE = 24
_TIMES = struct.Struct(">II")
_SINGLE = frozenset({CLIENT_ID, SERVER_ID, OPTION_REQUEST, RAPID_COMMIT, CLIENT_FQDN})
_SERVER_UPDATES = 0x01  # S: the server has put the name into the DNS
_OVERRIDDEN = 0x02  # O: not what the client had asked for


class Association(NamedTuple):
    """An identity association: IA_NA, IA_TA or IA_PD, with the addresses in it (none are read of IA_PD)."""

    code: int
    iaid: bytes
    addresses: tuple[bytes, ...]


class Options(NamedTuple):
    single: Mapping[int, bytes]
    associations: tuple[Association, ...]

    @property
    def requested(self) -> frozenset[int]:
        asked = self.single.get(OPTION_REQUEST, b"")
        return frozenset(code for (code,) in struct.iter_unpack(">H", asked))


def read(data: bytes) -> Options | None:
    """None when an option runs past its field or has a wrong size, and for more associations than a client has."""
    single: dict[int, bytes] = {}
    associations: list[Association] = []
    at, end = 0, len(data)
    while at < end:
        if at + _HEAD.size > end:
            return None
        code, size = _HEAD.unpack_from(data, at)
        at += _HEAD.size + size
        if at > end:
            return None
        if code in _SINGLE:
            if code in single:
                return None
            single[code] = data[at - size : at]
        elif code in _ASSOCIATIONS:
            association = _association(code, data[at - size : at])
            if association is None or len(associations) == MOST:
                return None
            associations.append(association)
    return Options(single, tuple(associations)) if _sound(single) else None


def _sound(single: Mapping[int, bytes]) -> bool:
    client_id = single.get(CLIENT_ID)
    if client_id is not None and not _SHORTEST_DUID <= len(client_id) <= LONGEST_DUID:
        return False
    return len(single.get(OPTION_REQUEST, b"")) % 2 == 0 and not single.get(RAPID_COMMIT)


def _association(code: int, data: bytes) -> Association | None:
    at, end = _ASSOCIATIONS[code], len(data)
    if at > end:
        return None
    addresses: list[bytes] = []
    while at < end:
        if at + _HEAD.size > end:
            return None
        inner, size = _HEAD.unpack_from(data, at)
        at += _HEAD.size + size
        if at > end:
            return None
        if inner == ADDRESS and code != IA_PD:
            if size < _ADDRESS_SIZE or len(addresses) == MOST:
                return None
            addresses.append(data[at - size : at - size + 16])
    return Association(code, data[:4], tuple(addresses))


def encode(code: int, payload: bytes) -> bytes:
    return _HEAD.pack(code, len(payload)) + payload


def status(code: int) -> bytes:
    return encode(STATUS_CODE, code.to_bytes(2, "big"))


def association(asked: Association, network: Network, addresses: tuple[bytes, ...], inner: bytes = b"") -> bytes:
    """The association with the network's lease of these addresses; `inner` are other options in it."""
    lease = lease_seconds(network)
    # RFC 8415, 21.4: half and four fifths; for ever is never renewed
    times = (FOREVER, FOREVER) if lease == FOREVER else (lease // 2, lease * 4 // 5)
    head = asked.iaid if asked.code == IA_TA else asked.iaid + _TIMES.pack(*(times if addresses else (0, 0)))
    leases = b"".join(leased(address, lease) for address in addresses)
    return encode(asked.code, head + leases + inner)


def leased(address: bytes, seconds: int) -> bytes:
    """An address for `seconds`; 0 tells the client to give it up."""
    return encode(ADDRESS, address + _TIMES.pack(seconds, seconds))


def given(port: Port, network: Network, options: Options, room: int, *, whole: bool = False) -> bytes:
    """The configuration that a client has asked for, in `room` bytes: what does not fit is left out whole. Without a
    list, name servers and domain. `whole`: the answer is about nothing else (Information-request).
    """
    own = subnets_of(port, network)
    available = {
        DNS_SERVERS: b"".join(server.packed for server in dns_servers(network, own)),
        SEARCH_LIST: search_list(network.dns_domain),
        CLIENT_FQDN: _name(port, network, options.single.get(CLIENT_FQDN)),
        REFRESH_TIME: max(LEAST_REFRESH, lease_seconds(network)).to_bytes(4, "big") if whole else b"",
    }
    listed = OPTION_REQUEST in options.single
    wanted = options.requested if listed else frozenset({DNS_SERVERS, SEARCH_LIST})
    found = b""
    for code, payload in available.items():
        if payload and code in wanted and len(found) + _HEAD.size + len(payload) <= room:
            found += encode(code, payload)
    return found


def _name(port: Port, network: Network, asked: bytes | None) -> bytes:
    """RFC 4704, 6: for who has said something of its name. Names are those of the API whatever clients say."""
    if not asked:
        return b""
    name = host_name(port.hostname)
    if "." not in name and network.dns_domain:
        name = f"{name}.{network.dns_domain}"
    labels = search_list(name)
    if not labels:
        return b""
    if "." not in name:
        labels = labels[:-1]  # RFC 4704, 4.2: no whole name, no end
    flags = _SERVER_UPDATES if asked[0] & _SERVER_UPDATES else _SERVER_UPDATES | _OVERRIDDEN
    return bytes((flags,)) + labels
