"""Table 28: what has a private address is not looked for outside, where the operator says so (`[nat] drop_private`).

Subnets and static routes lead on, whatever addresses they have. So does the default route to what is named: subnets of
external networks, and the ranges of a network's `snat_exempt` and `force_snat`.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network

from flows.ir import Flow, drop, matching
from flows.model import Network
from flows.pipeline import Priority
from flows.protocols import ETH_IP, ETH_IPV6
from flows.rules import Rule
from flows.view import View, range_match

# RFC 1918, RFC 6598
_PRIVATE = tuple(map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")))
_PRIVATE_IPV6 = IPv6Network("fc00::/7")  # RFC 4193


def dropped(view: View, network: Network, of_network: dict[str, int | tuple[int, int]]) -> Iterator[Flow]:
    """Instead of the default route of a network, which `of_network` matches."""
    if view.snapshot.drop_private:
        for block in _PRIVATE:
            private = matching(**of_network, eth_type=ETH_IP, ip_dst=range_match(block))
            yield drop(Rule.DROP_PRIVATE, Priority.LOW, private, key=network.key)


def dropped_ipv6(view: View, network: Network) -> Iterator[Flow]:
    if view.snapshot.drop_private:
        private = matching(metadata=network.key, eth_type=ETH_IPV6, ipv6_dst=range_match(_PRIVATE_IPV6))
        yield drop(Rule.DROP_PRIVATE, Priority.LOW, private, key=network.key)


def named(view: View, network: Network) -> list[IPv4Network]:
    """The ranges with private addresses that the default route leads to all the same."""
    if not view.snapshot.drop_private:
        return []
    chosen = [*network.snat_exempt, *network.force_snat]
    chosen += [subnet.cidr for external in _external(view) for subnet in external.subnets]
    return [cidr for cidr in dict.fromkeys(chosen) if any(cidr.overlaps(block) for block in _PRIVATE)]


def named_ipv6(view: View) -> list[IPv6Network]:
    if not view.snapshot.drop_private:
        return []
    outside = [subnet.cidr for external in _external(view) for subnet in external.ipv6_subnets]
    return [cidr for cidr in dict.fromkeys(outside) if cidr.overlaps(_PRIVATE_IPV6)]


def _external(view: View) -> list[Network]:
    """All of them: a floating IP may be on another one than its network's own."""
    found = view.snapshot.external_networks
    return [view.snapshot.networks[found[key]] for key in sorted(found)]
