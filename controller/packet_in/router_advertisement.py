"""Router advertisements (RFC 4861, 4.2; RFC 8106): what a VM is told about the IPv6 subnets that it has addresses in.

A port hears of no other subnet: an address that it made up from the prefix of one would be dropped as spoofed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from controller.bounds import LEAST_IPV6_MTU
from controller.packet_in import dhcp_options, frames, nd
from controller.packet_in.ipv6_hosts import GATEWAY, dns_servers, subnets_of
from flows.model import GatewayMode, Ipv6Mode, Ipv6Subnet, Network, Port
from flows.pipeline import GATEWAY_MAC

LIFETIME: Final = 65535
"""Seconds, for gateway and name servers: all that the field takes (RFC 8319), since VMs go on without a controller."""

PREFIX_LIFETIME: Final = 30 * 86400
"""Seconds for which an address is good after the last advertisement, as RFC 4861, 6.2.1 has it for validity."""

_HOP_LIMIT: Final = 64
_MANAGED: Final = 0x80
_OTHER: Final = 0x40
_ON_LINK: Final = 0x80
_AUTONOMOUS: Final = 0x40
_PREFIX_INFORMATION: Final = 3
_MTU: Final = 5
_DNS_SERVERS: Final = 25
_SEARCH_LIST: Final = 31
_HEADER = struct.Struct(">BBHBBHII")
_PREFIX = struct.Struct(">BBII4x16s")
_LIFETIME_OPTION = struct.Struct(">2xI")  # of RDNSS, DNSSL and, for its value, MTU
_GATEWAY_MAC = frames.mac_bytes(GATEWAY_MAC)


class Told(NamedTuple):
    """What an advertisement is made from beside its network: equal for most ports of a network.

    `gone`: subnets that the port was told of before. `leads_out` False: no default router.
    """

    subnets: tuple[Ipv6Subnet, ...]
    leads_out: bool
    gone: tuple[Ipv6Subnet, ...] = ()


def told(port: Port, network: Network, leads_out: bool, gone: Iterable[Ipv6Subnet] = ()) -> Told | None:
    """None when there is nothing to tell the port, or a router of the operator's does."""
    if network.gateway_mode is GatewayMode.EXTERNAL:
        return None
    subnets = subnets_of(port, network)
    lost = tuple(gone)
    return Told(subnets, leads_out, lost) if subnets or lost else None


def advertisement(network: Network, what: Told) -> bytes:
    """The message, without its checksum. The nodes are a default router where they are the network's gateway; a network
    without one is told of its prefixes all the same.
    """
    flags = 0
    modes = {subnet.mode for subnet in what.subnets} if network.dhcp else set()
    if Ipv6Mode.STATEFUL in modes:
        flags |= _MANAGED | _OTHER
    if Ipv6Mode.STATELESS in modes:
        flags |= _OTHER
    lifetime = LIFETIME if network.routed and what.leads_out and what.subnets else 0
    header = _HEADER.pack(nd.ROUTER_ADVERTISEMENT, 0, 0, _HOP_LIMIT, flags, lifetime, 0, 0)
    return b"".join((header, *_options(network, what)))


def _options(network: Network, what: Told) -> Iterator[bytes]:
    yield nd.option(nd.SOURCE_LINK_LAYER, _GATEWAY_MAC)
    if network.mtu >= LEAST_IPV6_MTU:
        yield nd.option(_MTU, _LIFETIME_OPTION.pack(network.mtu))
    for subnets, lifetime in ((what.subnets, PREFIX_LIFETIME), (what.gone, 0)):
        for subnet in subnets:
            flags = _ON_LINK if subnet.mode is Ipv6Mode.STATEFUL else _ON_LINK | _AUTONOMOUS
            prefix = subnet.cidr.network_address.packed
            yield nd.option(_PREFIX_INFORMATION, _PREFIX.pack(subnet.cidr.prefixlen, flags, lifetime, lifetime, prefix))
    servers = dns_servers(network, what.subnets)
    if servers:
        addresses = b"".join(server.packed for server in servers)
        yield nd.option(_DNS_SERVERS, _LIFETIME_OPTION.pack(LIFETIME) + addresses)
    domains = dhcp_options.search_list(network.dns_domain)
    if domains and what.subnets:
        yield nd.option(_SEARCH_LIST, _LIFETIME_OPTION.pack(LIFETIME) + domains)


def to_all(message: bytes) -> bytes:
    """The frame for all nodes of a link, of which it is sent only to those that it is about."""
    return nd.frame(nd.ALL_NODES_MAC, _GATEWAY_MAC, GATEWAY.packed, nd.ALL_NODES, message, None)


def answer(message: bytes, solicitation: nd.Message) -> bytes:
    """The frame for who has asked; for all nodes when that has no address yet (RFC 4861, 6.2.6)."""
    if solicitation.source == frames.NO_IPV6:
        return to_all(message)
    return nd.frame(solicitation.mac, _GATEWAY_MAC, GATEWAY.packed, solicitation.source, message, None)
