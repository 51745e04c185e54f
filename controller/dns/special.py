"""Names that have a meaning of their own and that no server outside is asked for (RFC 6303, 6761, 7686, 7793, 9462)."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from controller.dns import domain
from controller.dns.message import ROOT, Kind, Record
from controller.dns.sources import Asker, Found

_LOCALHOST: Final = domain.wire("localhost")
_LOOPBACK: Final[Mapping[int, bytes]] = {
    Kind.A: IPv4Address("127.0.0.1").packed,
    Kind.AAAA: IPv6Address("::1").packed,
}
_NOWHERE: Final = frozenset(map(domain.wire, ("invalid", "onion", "resolver.arpa")))
"""They do not exist. With an answer about the last one guests would leave for the upstream (RFC 9462)."""

_LOCALLY_SERVED: Final = tuple(
    IPv4Network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.2.0/24", "192.168.0.0/16", "198.51.100.0/24", "203.0.113.0/24", "255.255.255.255/32"),
    )
)
_LOCALLY_SERVED_IPV6: Final = tuple(
    IPv6Network(text) for text in ("::/128", "::1/128", "fc00::/7", "fe80::/10", "2001:db8::/32")
)
# questions about a name without dots that are asked by mistake; others may be about a top-level domain
_PLAIN: Final = frozenset({Kind.A, Kind.AAAA, Kind.ANY})


class SpecialNames:
    def find(self, name: bytes, kind: int, asker: Asker) -> Found | None:
        span = domain.reversed_range(name)
        if span is not None:
            return _reverse(name, span)
        for zone in domain.suffixes(name):
            if zone == _LOCALHOST:
                data = _LOOPBACK.get(kind)
                return Found(zone, () if data is None else (Record(kind, 0, data),))
            if zone in _NOWHERE:
                return Found(zone, exists=False)
        if name != ROOT and name[1 + name[0]] == 0 and kind in _PLAIN:
            return Found(name, exists=False)
        return None


def _reverse(name: bytes, span: IPv4Network | IPv6Network) -> Found | None:
    if isinstance(span, IPv4Network):
        ours = any(span.subnet_of(private) for private in _LOCALLY_SERVED)
    else:
        ours = any(span.subnet_of(private) for private in _LOCALLY_SERVED_IPV6)
    if not ours:
        return None
    whole = span.prefixlen < span.max_prefixlen  # a zone, or something on the way to a name
    return Found(name, exists=whole)
