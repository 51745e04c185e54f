"""Tables 1, 6, 40, 44, 47 and 50 to 56: a VM that moves from one node to another without losing a packet.

While another node expects the VM, its own node serves it as before and sends the other one a copy of whatever it hands
to the VM. The other node keeps all of that from its interface until the VM sends something there: so the VM does not
find minutes of old packets when it arrives, and is served from its first frame on, even without a controller. Once the
port is bound there, the node that the VM has left passes on what still comes for it.

A frame from node to node carries the port in its source MAC, which nobody learns from and which is never passed on
again: nodes that disagree for a moment about where the VM is cannot send it round in circles.
"""

from __future__ import annotations

from collections.abc import Iterator

from flows.features import qos
from flows.features.uplink_out import TO_UPLINK, tag_on
from flows.ir import Action, Controller, Flow, Goto, Learn, NoInPort, Output, Resubmit, SetField, drop, flow, matching
from flows.model import Binding, MigrationPhase, Network, Port
from flows.pipeline import (
    COPY_MAC_MASK,
    COPY_MAC_PREFIX,
    FLAG_FROM_UPLINK,
    FLAG_TO_GROUP,
    FROM_UPLINK,
    GATEWAY_MAC,
    Priority,
    Reg,
    Table,
    copy_mac,
    node_mac,
)
from flows.protocols import ETH_ARP, ETH_IP, ETH_MULTICAST, ETH_RARP
from flows.rules import COOKIE_LEARNED, Rule
from flows.view import Role, View, mac_to_int

_COPIES = (COPY_MAC_PREFIX, COPY_MAC_MASK)
_FROM_GROUP = (FLAG_FROM_UPLINK | FLAG_TO_GROUP, FLAG_FROM_UPLINK | FLAG_TO_GROUP)
_AWAKE_FOR = 300  # seconds since it was last heard or sent to: without a controller that may be all that serves it
_REPORTED_FOR = 2  # seconds; the report may get lost, so there is another one
_LEARNED_LIMIT = 20000
_COPIED_BYTES = 64


def static() -> Iterator[Flow]:
    yield drop(Rule.DROP_COPY, Priority.HIGH, matching(eth_src=_COPIES))
    yield drop(Rule.DROP_EXTERNAL_COPY, Priority.LOCAL, matching(eth_src=_COPIES))


def speaks(view: View, port: Port) -> tuple[Action, ...]:
    """What a legitimate frame of the VM does where the VM is expected, beside going on."""
    if view.role(port) is not Role.WAITING:
        return ()
    return (
        SetField(Reg.SCRATCH, 0),
        Resubmit(Table.AWAKE),
        Resubmit(Table.ACTIVATION),
        _remember((Reg.TARGET_PORT, port.key), idle=_AWAKE_FOR),
    )


def _remember(*match: tuple[str, int], idle: int = 0, hard: int = 0) -> Learn:
    """Without a target a packet asks whether the VM was reported, with one whether it is there."""
    return Learn(
        table=Table.AWAKE,
        priority=Priority.LEARNED,
        idle_timeout=idle,
        hard_timeout=hard,
        cookie=COOKIE_LEARNED,
        limit=_LEARNED_LIMIT,
        match=match,
        load=((Reg.SOURCE_PORT, Reg.SCRATCH),),
    )


def is_it_here(port: Port) -> tuple[Action, ...]:
    """Asks before table WAITING."""
    return (SetField(Reg.TARGET_PORT, port.key), SetField(Reg.SCRATCH, 0), Resubmit(Table.AWAKE))


def broadcast(view: View, port: Port, seat: Binding) -> tuple[Action, ...]:
    """To one member of a network of what goes to all of them."""
    if view.role(port) is Role.WAITING:
        return (*is_it_here(port), Resubmit(Table.WAITING))
    return (Output(seat.ofport),)


def port(view: View, network: Network, port: Port) -> Iterator[Flow]:
    migration, role = port.migration, view.role(port)
    if migration is None:
        return
    if role is not Role.ACTIVE and network.routed:
        for fixed_ip in port.fixed_ips:
            address = int(fixed_ip.address)
            group = matching(reg5=network.router_key, reg0=_FROM_GROUP, eth_type=ETH_IP, ip_dst=address)
            if role is Role.LEFT:
                yield drop(Rule.DROP_GROUP_TWICE, Priority.HIGH, group, key=port.key)
                continue
            # without teaching: as long as it is not here, that is for its node
            yield flow(
                Rule.DELIVER_WAITING,
                Priority.HIGH,
                group,
                SetField(Reg.NETWORK, network.key),
                SetField("eth_src", GATEWAY_MAC),
                SetField("eth_dst", mac_to_int(port.mac)),
                Goto(Table.L2_FORWARD),
                key=port.key,
            )
    if role is Role.WAITING:
        yield from _waiting(network, port)
    if role is Role.LEFT:
        target = view.snapshot.nodes.get(port.binding.node) if port.binding is not None else None
        if target is not None:
            yield flow(
                Rule.REDIRECT,
                Priority.LOCAL,
                matching(metadata=network.key, eth_dst=mac_to_int(port.mac)),
                *_towards(port, target.key),
                *TO_UPLINK,
                key=port.key,
            )
    elif role is Role.WAITING or migration.phase is MigrationPhase.MOVED:
        yield from _copies_in(view, network, port)


def _towards(port: Port, node_key: int) -> tuple[Action, ...]:
    return (SetField("eth_src", copy_mac(port.key)), SetField("eth_dst", node_mac(node_key)), NoInPort())


def _copies_in(view: View, network: Network, port: Port) -> Iterator[Flow]:
    outside = network.external
    yield flow(
        Rule.EXTERNAL_COPY_IN if outside else Rule.COPY_IN,
        Priority.GUARD if outside else Priority.LOCAL,
        matching(metadata=network.key, eth_src=copy_mac(port.key), eth_dst=view.mac),
        SetField("eth_src", GATEWAY_MAC),
        SetField("eth_dst", mac_to_int(port.mac)),
        Goto(Table.L2_FORWARD),
        key=port.key,
    )


def _waiting(network: Network, port: Port) -> Iterator[Flow]:
    key = port.key
    # A guest asks or announces now and then. Of a continuous stream only the first packet is reported, which may get
    # lost: Open vSwitch learns anew from its counters, so what was learned there never ends.
    for announcing in (ETH_ARP, ETH_RARP):
        announced = matching(reg6=key, eth_type=announcing)
        yield flow(Rule.PUNT_ACTIVATE, Priority.HIGH, announced, Controller(_COPIED_BYTES), key=key)
    yield flow(
        Rule.PUNT_ACTIVATE,
        Priority.NORMAL,
        matching(reg6=key, reg15=0),
        Controller(_COPIED_BYTES),
        _remember((Reg.SOURCE_PORT, key), (Reg.TARGET_PORT, 0), hard=_REPORTED_FOR),
        key=key,
    )
    yield flow(
        Rule.L2_WAITING,
        Priority.LOCAL,
        matching(metadata=network.key, eth_dst=mac_to_int(port.mac)),
        *is_it_here(port),
        Goto(Table.WAITING),
        key=key,
    )
    here = matching(**{Reg.TARGET_PORT: key, Reg.SCRATCH: key})
    yield flow(Rule.WAITING_AWAKE, Priority.HIGH, here, Goto(Table.OUTPUT), key=key)
    yield drop(Rule.DROP_ASLEEP, Priority.NORMAL, matching(reg7=key, reg0=FROM_UPLINK), key=key)
    yield drop(Rule.DROP_ASLEEP, Priority.NORMAL, matching(reg7=key, eth_dst=ETH_MULTICAST), key=key)
    yield flow(
        Rule.WAITING_ASLEEP,
        Priority.LOW,
        matching(reg7=key),
        *TO_UPLINK,
        key=key,
    )


def output(view: View, network: Network, port: Port) -> Iterator[Flow]:
    """Out to the VM, and to where else it is expected."""
    seat = view.seat(port)
    assert seat is not None
    rule, out = Rule.OUTPUT_PORT, (Output(seat.ofport), *_copy(view, network, port))
    if len(out) > 1:
        rule = Rule.OUTPUT_COPY
    yield flow(rule, Priority.NORMAL, matching(reg7=port.key), *out, key=port.key)
    yield from qos.received(view, port, *out)


def _copy(view: View, network: Network, port: Port) -> tuple[Action, ...]:
    migration, uplink = port.migration, view.uplink(network)
    if migration is None or migration.phase is MigrationPhase.MOVED or view.role(port) is not Role.ACTIVE:
        return ()
    target = view.snapshot.nodes.get(migration.other.node)
    if uplink is None or target is None:
        return ()
    return (*_towards(port, target.key), *tag_on(network), Output(uplink))
