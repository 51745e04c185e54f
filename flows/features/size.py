"""Tables 29 and 31: what is larger than the way out takes.

check_pkt_larger marks it and the next table hands it to the controller, which cuts it or tells its sender.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address

from flows.features.allowance import punt
from flows.ir import Action, CheckLarger, Flow, Goto, flow, matching
from flows.model import Network, Port
from flows.pipeline import SEGMENTED_BIT, TOO_LARGE, TOO_LARGE_BIT, Priority, Reg, Table
from flows.protocols import ETH_IP
from flows.rules import Rule
from flows.view import View

MatchValue = int | tuple[int, int]
_ETHERNET_HEADER = 14  # bytes


def checks(sent: int, taken: int) -> tuple[Action, ...]:
    """Marks what a sender with MTU `sent` may send and a network with MTU `taken` does not take.

    A frame larger than any of the sender's own is to be cut into such that may fit, or be told one by one.
    """
    if sent <= taken:
        return ()
    return (*measured(taken), CheckLarger(sent + _ETHERNET_HEADER, Reg.FLAGS, SEGMENTED_BIT))


def measured(taken: int) -> tuple[Action, ...]:
    """The same of what nobody is yet to cut."""
    return (CheckLarger(taken + _ETHERNET_HEADER, Reg.FLAGS, TOO_LARGE_BIT),)


def static() -> Iterator[Flow]:
    yield flow(Rule.MEASURE_NOTHING, Priority.MISS, (), Goto(Table.NAT_PREPARE))
    yield flow(Rule.PREPARED, Priority.MISS, (), Goto(Table.NAT_EGRESS))


def network(view: View, network: Network) -> Iterator[Flow]:
    external = view.way_out(network)
    if external is None or not view.attends(network):
        return
    key = network.key
    measured = checks(network.mtu, external.mtu)
    if measured:
        leaving = matching(metadata=key, eth_type=ETH_IP)
        yield flow(Rule.MEASURE, Priority.NORMAL, leaving, *measured, Goto(Table.NAT_PREPARE), key=key)
    too_large = matching(metadata=key, eth_type=ETH_IP, reg0=TOO_LARGE)
    yield flow(Rule.PUNT_TOO_LARGE, Priority.TOO_LARGE, too_large, *punt(), key=key)


def own(
    network: Network, port: Port, address: IPv4Address, taken: int, priority: Priority, match: Mapping[str, MatchValue]
) -> Flow:
    """What leaves from an address of a port by an external network with another MTU than that of its network's."""
    return flow(
        Rule.MEASURE_OWN,
        priority,
        matching(**{"metadata": network.key, "reg6": port.key, "eth_type": ETH_IP, "ip_src": int(address)}, **match),
        *checks(network.mtu, taken),
        Goto(Table.NAT_PREPARE),
        key=port.key,
    )


def port(view: View, network: Network, port: Port) -> Iterator[Flow]:
    external = view.way_out(network)
    if external is None:
        return
    for one in port.own:
        taken = view.outside_mtu(network, port, one.address)
        if taken is not None and taken != external.mtu:
            yield own(network, port, one.address, taken, Priority.FLOATING, {})
