"""Tables 44, 46 and 56: switching within a network, and the way out of the bridge."""

from __future__ import annotations

from collections.abc import Iterator

from flows.features import migration, policy
from flows.features.uplink_out import TO_UPLINK, tag_on
from flows.ir import Action, Flow, Goto, Output, Resubmit, SetField, drop, flow, matching
from flows.model import Network, Port
from flows.pipeline import FLOOD_PARTS, FROM_UPLINK, GATEWAY_MAC, ROUTED_GROUP_MAC, UPLINK_PORT, Priority, Reg, Table
from flows.protocols import ETH_MULTICAST, ETH_MULTICAST_BIT
from flows.rules import Rule
from flows.view import Role, View, mac_to_int


def static() -> Iterator[Flow]:
    yield drop(Rule.DROP_GATEWAY_MAC, Priority.GUARD, matching(eth_dst=GATEWAY_MAC))
    yield drop(Rule.DROP_UNKNOWN_UNICAST, Priority.LOW, matching(reg0=FROM_UPLINK))
    yield drop(Rule.DROP_NO_UPLINK, Priority.MISS)
    yield drop(Rule.DROP_NOBODY, Priority.MISS)
    yield drop(Rule.DROP_NO_OUTPUT, Priority.MISS)


def network(view: View, network: Network) -> Iterator[Flow]:
    key = network.key
    present = view.present(network)
    uplink = view.uplink(network)
    if present:
        to_uplink: tuple[Action, ...] = () if uplink is None else TO_UPLINK
        yield flow(
            Rule.L2_FLOOD,
            Priority.NORMAL,
            matching(metadata=key, eth_dst=ETH_MULTICAST),
            Resubmit(Table.FLOOD),
            *to_uplink,
            key=key,
        )
        yield flow(
            Rule.L2_FLOOD,
            Priority.HIGH,
            matching(metadata=key, reg0=FROM_UPLINK, eth_dst=ETH_MULTICAST),
            Goto(Table.FLOOD),
            key=key,
        )
    if uplink is None or not (present or view.reachable(network) or network.external):
        return
    if present or view.reachable(network):
        yield flow(Rule.L2_UPLINK, Priority.DEFAULT, matching(metadata=key), *TO_UPLINK, key=key)
        yield flow(
            Rule.L2_UPLINK,
            Priority.LOCAL,
            matching(metadata=key, eth_dst=ROUTED_GROUP_MAC),
            *TO_UPLINK,
            key=key,
        )
    tag = tag_on(network)
    to_wire = matching(metadata=key, reg7=UPLINK_PORT)
    yield flow(Rule.OUTPUT_UPLINK, Priority.NORMAL, to_wire, *tag, Output(uplink), key=key)
    yield flow(
        Rule.OUTPUT_UPLINK_ROUTED,
        Priority.HIGH,
        matching(metadata=key, reg7=UPLINK_PORT, eth_src=GATEWAY_MAC),
        SetField("eth_src", view.mac),
        *tag,
        Output(uplink),
        key=key,
    )


def part_of(port: Port) -> int:
    """Which part of its network's broadcasts a port belongs to: with one part, a port more would cost all of them."""
    return port.key % FLOOD_PARTS


def flood(view: View, network: Network) -> Iterator[Flow]:
    """To each part that has a member. Open vSwitch never sends a frame back where it came from."""
    to_parts: list[Action] = []
    for part in sorted({part_of(port) for port in view.members(network) if view.role(port) is not Role.LEFT}):
        to_parts += [SetField(Reg.FLOOD_PART, part), Resubmit(Table.FLOOD_PART)]
    if to_parts:
        yield flow(Rule.FLOOD_LOCAL, Priority.NORMAL, matching(metadata=network.key), *to_parts, key=network.key)


def shared_macs(view: View, network: Network) -> Iterator[Flow]:
    """The MACs of address pairs, as VRRP has them: to all local ports that may use them, and to the other nodes.

    Whose guest has it now is for the guests to say; the others do not listen to it.
    """
    users: dict[int, list[Port]] = {}
    for port in sorted(view.members(network), key=lambda port: port.key):
        for mac in dict.fromkeys(pair.mac for pair in port.address_pairs if pair.mac != port.mac):
            users.setdefault(mac_to_int(mac), []).append(port)
    uplink: tuple[Action, ...] = () if view.uplink(network) is None else TO_UPLINK
    for shared, ports in sorted(users.items()):
        outputs = [action for port in ports for action in _to_member(view, port)]
        for priority, where, onward in (
            (Priority.NORMAL, matching(metadata=network.key, eth_dst=shared), uplink),
            (Priority.HIGH, matching(metadata=network.key, eth_dst=shared, reg0=FROM_UPLINK), ()),
        ):
            if outputs or onward:
                yield flow(Rule.L2_SHARED_MAC, priority, where, *outputs, *onward, key=network.key)


def flood_part(view: View, network: Network, part: int) -> Iterator[Flow]:
    """The local ports of one part."""
    members = sorted((port for port in view.members(network) if part_of(port) == part), key=lambda port: port.key)
    outputs = [action for port in members for action in _to_member(view, port)]
    if outputs:
        in_part = matching(metadata=network.key, **{Reg.FLOOD_PART: part})
        yield flow(Rule.FLOOD_PART, Priority.NORMAL, in_part, *outputs, key=network.key)


def _to_member(view: View, port: Port) -> tuple[Action, ...]:
    seat, role = view.seat(port), view.role(port)
    if seat is None or role is Role.LEFT:
        return ()
    if role is Role.WAITING:
        return (*migration.is_it_here(view, port, seat), Resubmit(Table.WAITING))
    return (*policy.towards(view, port, seat), Resubmit(Table.INGRESS_CONNTRACK))


def port(view: View, network: Network, port: Port) -> Iterator[Flow]:
    seat = view.seat(port)
    assert seat is not None
    if view.role(port) is Role.ACTIVE:
        yield flow(
            Rule.L2_LOCAL,
            Priority.LOCAL,
            matching(metadata=network.key, eth_dst=mac_to_int(port.mac)),
            *policy.towards(view, port, seat),
            Goto(Table.INGRESS_CONNTRACK),
            key=port.key,
        )
    # Open vSwitch never sends a frame back to where it came from, but would not say so
    to_itself = matching(reg6=port.key, reg7=port.key, eth_dst=(0, ETH_MULTICAST_BIT))
    yield drop(Rule.DROP_TO_ITSELF, Priority.LOCAL, to_itself, key=port.key)
    yield from migration.output(view, network, port, seat)
