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

from flows.features import policy, qos
from flows.features.uplink_out import TO_UPLINK, tag_on
from flows.ir import (
    Action,
    Controller,
    Ct,
    Flow,
    Goto,
    Learn,
    NoInPort,
    Output,
    Resubmit,
    SetField,
    drop,
    flow,
    matching,
)
from flows.model import Binding, MigrationPhase, Network, Port
from flows.pipeline import (
    COPY_MAC_MASK,
    COPY_MAC_PREFIX,
    FLAG_COPY,
    FLAG_FROM_UPLINK,
    FLAG_TO_GROUP,
    FROM_UPLINK,
    GATEWAY_MAC,
    CtMark,
    Priority,
    Reg,
    Table,
    copy_mac,
    node_mac,
    packet_in_meter,
)
from flows.protocols import CT_REPLY, CT_TRACKED, ETH_ARP, ETH_IP, ETH_IPV6, ETH_MULTICAST, ETH_RARP
from flows.rules import COOKIE_LEARNED, Rule
from flows.view import Role, View, mac_to_int

_COPIES = (COPY_MAC_PREFIX, COPY_MAC_MASK)
_FROM_GROUP = (FLAG_FROM_UPLINK | FLAG_TO_GROUP, FLAG_FROM_UPLINK | FLAG_TO_GROUP)
_AWAKE_FOR = 300  # seconds since it was last heard or sent to: without a controller that may be all that serves it
_REPORTED_FOR = 2  # seconds; the report may get lost, so there is another one
_LEARNED_LIMIT = 20000
_COPIED_BYTES = 64
# of what a VM gets, whether it answers something that the VM began; priority and match of its copy
_KINDS: tuple[tuple[bool, Priority, dict[str, tuple[int, int]]], ...] = (
    (False, Priority.NORMAL, {}),
    (True, Priority.HIGH, {"ct_state": (CT_TRACKED | CT_REPLY, CT_TRACKED | CT_REPLY)}),
)


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


def is_it_here(view: View, port: Port, seat: Binding) -> tuple[Action, ...]:
    """Asks before table WAITING."""
    return (*policy.towards(view, port, seat), SetField(Reg.SCRATCH, 0), Resubmit(Table.AWAKE))


def port(view: View, network: Network, port: Port) -> Iterator[Flow]:
    migration, role, seat = port.migration, view.role(port), view.seat(port)
    if migration is None or seat is None:
        return
    if role is not Role.ACTIVE and network.routed:
        for own in _addresses(port):
            group = matching(reg5=network.router_key, reg0=_FROM_GROUP, **own)
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
        yield from _waiting(view, network, port, seat)
    if role is Role.LEFT:
        yield from _redirected(view, network, port, seat)
    elif role is Role.WAITING or migration.phase is MigrationPhase.MOVED:
        yield from _copies_in(view, network, port)


def _addresses(port: Port) -> Iterator[dict[str, int]]:
    """What is routed to the port, as a match."""
    for own in port.own:
        yield {"eth_type": ETH_IP, "ip_dst": int(own.address)}
    for one in port.ipv6_addresses:
        yield {"eth_type": ETH_IPV6, "ipv6_dst": int(one.address)}


def _towards(port: Port, node_key: int, *, reply: bool = False) -> tuple[Action, ...]:
    source = copy_mac(port.key, reply=reply)
    return (SetField("eth_src", source), SetField("eth_dst", node_mac(node_key)), NoInPort())


def _redirected(view: View, network: Network, port: Port, seat: Binding) -> Iterator[Flow]:
    """To where the VM is now, what its security groups allow: this node still knows its connections."""
    target = view.snapshot.nodes.get(port.binding.node) if port.binding is not None else None
    uplink = view.uplink(network)
    if target is None or uplink is None:
        return
    yield flow(
        Rule.REDIRECT,
        Priority.LOCAL,
        matching(metadata=network.key, eth_dst=mac_to_int(port.mac)),
        *policy.towards(view, port, seat),
        Goto(Table.INGRESS_CONNTRACK),
        key=port.key,
    )
    yield flow(
        Rule.REDIRECT_OUT,
        Priority.NORMAL,
        matching(reg7=port.key),
        *_towards(port, target.key),
        *tag_on(network),
        Output(uplink),
        key=port.key,
    )


def _copies_in(view: View, network: Network, port: Port) -> Iterator[Flow]:
    """What the VM's own node has allowed. Where the VM is expected, its conntrack hears of the connections that way."""
    outside, seat = network.external, view.seat(port)
    rule = Rule.EXTERNAL_COPY_IN if outside else Rule.COPY_IN
    priority = Priority.GUARD if outside else Priority.LOCAL
    to_vm: tuple[Action, ...] = (SetField("eth_src", GATEWAY_MAC), SetField("eth_dst", mac_to_int(port.mac)))
    zone = 0
    if view.role(port) is Role.WAITING and seat is not None:
        to_vm = (*to_vm, SetField(Reg.FLAGS, FLAG_FROM_UPLINK | FLAG_COPY))
        zone = policy.zone(view, port, seat)
    for reply, mark in ((False, None), (True, (CtMark.BEGUN_HERE, CtMark.BEGUN_HERE))):
        source = copy_mac(port.key, reply=reply)
        copied = {"metadata": network.key, "eth_src": source, "eth_dst": view.mac}
        yield flow(rule, priority, matching(**copied), *to_vm, Goto(Table.L2_FORWARD), key=port.key)
        if zone:
            heard = Ct(Table.L2_FORWARD, zone, commit=True, mark=mark)
            for ethertype in (ETH_IP, ETH_IPV6) if port.ipv6_addresses else (ETH_IP,):
                tracked = matching(**copied, eth_type=ethertype)
                yield flow(rule, Priority.FLOATING, tracked, *to_vm, heard, key=port.key)


def _waiting(view: View, network: Network, port: Port, seat: Binding) -> Iterator[Flow]:
    key = port.key
    # A guest asks or announces now and then. Of a continuous stream only the first packet is reported, which may get
    # lost: Open vSwitch learns anew from its counters, so what was learned there never ends.
    # The packet itself goes on, however many are reported: the meter is the controller's alone.
    reported = Controller(_COPIED_BYTES, packet_in_meter(seat.zone))
    for announcing in (ETH_ARP, ETH_RARP):
        announced = matching(reg6=key, eth_type=announcing)
        yield flow(Rule.PUNT_ACTIVATE, Priority.HIGH, announced, reported, key=key)
    yield flow(
        Rule.PUNT_ACTIVATE,
        Priority.NORMAL,
        matching(reg6=key, reg15=0),
        reported,
        _remember((Reg.SOURCE_PORT, key), (Reg.TARGET_PORT, 0), hard=_REPORTED_FOR),
        key=key,
    )
    yield flow(
        Rule.L2_WAITING,
        Priority.LOCAL,
        matching(metadata=network.key, eth_dst=mac_to_int(port.mac)),
        *is_it_here(view, port, seat),
        Goto(Table.WAITING),
        key=key,
    )
    here = matching(**{Reg.TARGET_PORT: key, Reg.SCRATCH: key})
    yield flow(Rule.WAITING_AWAKE, Priority.HIGH, here, Goto(Table.INGRESS_CONNTRACK), key=key)
    yield drop(Rule.DROP_ASLEEP, Priority.NORMAL, matching(reg7=key, reg0=FROM_UPLINK), key=key)
    yield drop(Rule.DROP_ASLEEP, Priority.NORMAL, matching(reg7=key, eth_dst=ETH_MULTICAST), key=key)
    yield flow(
        Rule.WAITING_ASLEEP,
        Priority.LOW,
        matching(reg7=key),
        *TO_UPLINK,
        key=key,
    )


def output(view: View, network: Network, port: Port, seat: Binding) -> Iterator[Flow]:
    """Out to the VM, and to where else it is expected, where what is for everybody comes by itself."""
    of_port, to_vm = matching(reg7=port.key), Output(seat.ofport)
    copies = [(kind, _copy(view, network, port, kind[0])) for kind in _KINDS]
    if not copies[0][1]:
        yield flow(Rule.OUTPUT_PORT, Priority.NORMAL, of_port, to_vm, key=port.key)
        yield from qos.received(view, port, Priority.LIMITED, {}, to_vm)
        return
    for (_reply, priority, state), copy in copies:
        yield flow(Rule.OUTPUT_COPY, priority, matching(reg7=port.key, **state), to_vm, *copy, key=port.key)
        yield from qos.received(view, port, priority + Priority.LIMITED - Priority.NORMAL, state, to_vm, *copy)
    to_many = matching(reg7=port.key, eth_dst=ETH_MULTICAST)
    yield flow(Rule.OUTPUT_PORT, Priority.LOCAL, to_many, to_vm, key=port.key)


def _copy(view: View, network: Network, port: Port, reply: bool) -> tuple[Action, ...]:
    migration, uplink = port.migration, view.uplink(network)
    if migration is None or migration.phase is MigrationPhase.MOVED or view.role(port) is not Role.ACTIVE:
        return ()
    target = view.snapshot.nodes.get(migration.other.node)
    if uplink is None or target is None:
        return ()
    return (*_towards(port, target.key, reply=reply), *tag_on(network), Output(uplink))
