"""Tables 4 and 28: ranges that are behind a port, for all networks of its router.

The next hop is a port, whose MAC is known: nothing is resolved, and the port may send from what is behind it.
"""

from __future__ import annotations

from collections.abc import Iterator

from flows.features import migration, qos
from flows.ir import DecTtl, Flow, Goto, SetField, flow, matching
from flows.model import Network, Port
from flows.pipeline import GATEWAY_MAC, Priority, Reg, Table
from flows.protocols import ETH_IP
from flows.rules import Rule
from flows.view import View, mac_to_int, range_match


def network(view: View, network: Network) -> Iterator[Flow]:
    if not view.reachable(network):
        return
    for route in network.routes:
        port = view.snapshot.port_with(network.id, route.next_hop)
        if port is None or not view.first_with(network, route.destination):
            continue
        yield flow(
            Rule.ROUTE_STATIC,
            Priority.ROUTE + route.destination.prefixlen,
            matching(reg5=network.router_key, eth_type=ETH_IP, ip_dst=range_match(route.destination)),
            DecTtl(),
            SetField("eth_src", GATEWAY_MAC),
            SetField("eth_dst", next(mac_to_int(one.mac) for one in port.own if one.address == route.next_hop)),
            SetField(Reg.NETWORK, network.key),
            Goto(Table.L2_FORWARD),
            key=network.key,
        )


def port(view: View, network: Network, port: Port) -> Iterator[Flow]:
    for route in view.routed_to(network, port):
        yield flow(
            Rule.ALLOW_ROUTED,
            Priority.NORMAL,
            matching(
                reg6=port.key, eth_src=mac_to_int(port.mac), eth_type=ETH_IP, ip_src=range_match(route.destination)
            ),
            *qos.sent(view, port),
            *migration.speaks(view, port),
            Goto(Table.SERVICES),
            key=port.key,
        )
