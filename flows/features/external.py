"""Tables 1, 2 and 36 to 39: an external network itself, its neighbours and its router.

A neighbour's MAC is learned from what it sends. One that has not been heard is reached by way of the router, while the
controller asks for it; only where there is no router, or none that answers, must a packet wait.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from flows.features.allowance import punt
from flows.features.arp import answer, request_for
from flows.features.uplink_out import TO_UPLINK, tag_on, tagged_back, untagged
from flows.ir import (
    Action,
    Ct,
    CtClear,
    Flow,
    Goto,
    Learn,
    Match,
    Output,
    Restart,
    Resubmit,
    SetField,
    drop,
    flow,
    matching,
)
from flows.model import Network, SnatAddress, Subnet
from flows.pipeline import (
    FLAG_FROM_UPLINK,
    NODE_MAC_MASK,
    TEACHER_MAC_PREFIX,
    UPLINK_PORT,
    CtZone,
    Priority,
    Reg,
    Table,
)
from flows.protocols import ARP_REPLY, ETH_ARP, ETH_IP, ETH_IPV6, ICMP_REDIRECT, PROTO_ICMP
from flows.rules import COOKIE_ASKED, COOKIE_LEARNED, Rule
from flows.view import View, mac_to_int, range_match

UNKNOWN_MAC = 0
_COPIED_BYTES = 128  # enough to see where a packet goes
_NEIGHBOURS = 8192
_HEARD_FOR = 60  # seconds
_ASKED_FOR = 2  # seconds for which what goes to an unknown neighbour by the router is no news


def _remember(
    source: str, mac: str, seconds: int, priority: Priority = Priority.LEARNED, cookie: int = COOKIE_LEARNED
) -> Learn:
    return Learn(
        table=Table.EXTERNAL_NEIGHBOUR,
        priority=priority,
        idle_timeout=seconds,
        hard_timeout=seconds,
        cookie=cookie,
        limit=_NEIGHBOURS,
        match=(("eth_type", ETH_IP), (Reg.NETWORK, Reg.NETWORK), ("ip_dst", source)),
        load=((mac, "eth_dst"),),
    )


def remember_ipv6() -> Learn:
    """Who sends IPv6."""
    sender = (("eth_type", ETH_IPV6), (Reg.NETWORK, Reg.NETWORK), ("ipv6_dst", "ipv6_src"))
    return replace(_HEARD_IP, match=sender)


_HEARD_IP = _remember("ip_src", "eth_src", _HEARD_FOR)
_HEARD_ARP = _remember("arp_spa", "arp_sha", _HEARD_FOR)
_ASKED = _remember("ip_dst", "eth_dst", _ASKED_FOR, Priority.LOW, COOKIE_ASKED)


def static() -> Iterator[Flow]:
    yield flow(Rule.EXTERNAL_SOURCE, Priority.MISS, (), Goto(Table.EXTERNAL_IN))
    second_mac = matching(eth_src=(TEACHER_MAC_PREFIX, NODE_MAC_MASK))
    yield flow(Rule.EXTERNAL_SOURCE, Priority.GUARD, second_mac, Goto(Table.EXTERNAL_IN))
    redirect = matching(eth_type=ETH_IP, ip_proto=PROTO_ICMP, icmp_type=ICMP_REDIRECT)
    yield drop(Rule.DROP_REDIRECT, Priority.GUARD, redirect)
    yield drop(Rule.DROP_EXTERNAL, Priority.MISS)
    yield drop(Rule.DROP_UNTRANSLATED, Priority.MISS)
    yield drop(Rule.DROP_NO_NEXT_HOP, Priority.MISS)
    yield flow(Rule.EXTERNAL_SEND, Priority.MISS, (), *TO_UPLINK)


def hairpin(view: View, network: Network) -> tuple[Action, ...]:
    """To an address of this node on an external network: as if it had come in from there."""
    return (
        CtClear(),
        SetField("eth_dst", view.mac),
        SetField(Reg.NETWORK, network.key),
        SetField(Reg.SOURCE_PORT, 0),
        SetField(Reg.FLAGS, FLAG_FROM_UPLINK),
        Restart(Table.EXTERNAL_IN),
    )


def network(view: View, network: Network) -> Iterator[Flow]:
    if not network.external or view.uplink(network) is None:
        return
    if view.present(network):
        to_ports = matching(metadata=network.key)
        yield flow(Rule.EXTERNAL_TO_PORTS, Priority.LOW, to_ports, Goto(Table.UPLINK_IN), key=network.key)
    for held in view.node.snat_addresses:
        if held.network_id == network.id:
            yield from _snat_address(view, network, held)
    gateways = [(subnet, _router(view, network, subnet)) for subnet in network.subnets]
    for subnet, router in gateways:
        yield from _incoming(view, network, subnet, router)
        yield from _on_link(view, network, subnet, router)
        own = matching(metadata=network.key, eth_type=ETH_IP, ip_src=range_match(subnet.cidr))
        yield from _to_router(view, network, own, Priority.NORMAL, router)
    # what keeps its own address, which is of none of the subnets
    if gateways:
        exempt = matching(metadata=network.key, eth_type=ETH_IP)
        yield from _to_router(view, network, exempt, Priority.LOW, gateways[0][1])
    unresolved = matching(metadata=network.key, eth_type=ETH_IP, eth_dst=UNKNOWN_MAC)
    yield flow(Rule.PUNT_UNRESOLVED, Priority.NORMAL, unresolved, *punt(), key=network.key)


def _router(view: View, network: Network, subnet: Subnet) -> int | None:
    """The MAC of a subnet's router, if it is known."""
    mac = None if subnet.gateway is None else view.node.neighbour(network.id, subnet.gateway)
    return None if mac is None else mac_to_int(mac)


def _snat_address(view: View, network: Network, held: SnatAddress) -> Iterator[Flow]:
    key, own = network.key, int(held.address)
    if not held.host:
        claimed = request_for(network, own)
        yield flow(Rule.SNAT_ARP, Priority.HIGH, claimed, *answer(view.mac, own), *tagged_back(network), key=key)
    to_own = matching(metadata=key, eth_type=ETH_IP, ip_dst=own)
    untranslate = Ct(Table.EXTERNAL_ESTABLISHED, CtZone.SNAT, translate=True)
    yield flow(Rule.UNSNAT, Priority.NORMAL, to_own, untranslate, key=key)
    if held.host:
        yield from _to_host(view, network, own)
    yield flow(Rule.SNAT_HAIRPIN, Priority.HIGH, to_own, *hairpin(view, network), key=key)
    from_own = matching(metadata=key, eth_type=ETH_IP, ip_src=own)
    yield flow(Rule.SNAT_SOURCE, Priority.NORMAL, from_own, Goto(Table.EXTERNAL_NEXT_HOP), key=key)


def _to_host(view: View, network: Network, own: int) -> Iterator[Flow]:
    """What is not for a VM, to the host. A VM that leaves with the host's own address cannot be answered by it."""
    uplink = view.uplink(network)
    assert uplink is not None
    key, by_uplink = network.key, (*tag_on(network), Output(uplink))
    to_host = {"metadata": key, "eth_type": ETH_IP, "ip_dst": own}
    yield drop(Rule.DROP_UNSOLICITED, Priority.FROM_OWN, matching(**to_host, ip_src=own))
    yield flow(Rule.HOST_RETURN, Priority.FORWARDING, matching(**to_host), *by_uplink, key=key)
    from_wire = matching(**to_host, in_port=uplink)
    yield flow(Rule.HOST_RETURN, Priority.EXEMPT, from_wire, *tagged_back(network), key=key)


def _incoming(view: View, network: Network, subnet: Subnet, router: int | None) -> Iterator[Flow]:
    key, cidr = network.key, range_match(subnet.cidr)
    go_on = Goto(Table.EXTERNAL_IN)
    if router is not None:
        # else a neighbour that the router has just been used for would stay behind it
        by_router = matching(metadata=key, eth_type=ETH_IP, eth_src=router, ip_src=cidr)
        yield flow(Rule.FROM_ROUTER, Priority.HIGH, by_router, go_on, key=key)
    for heard, learn in (
        (matching(metadata=key, eth_type=ETH_IP, ip_src=cidr), _HEARD_IP),
        (matching(metadata=key, eth_type=ETH_ARP, arp_spa=cidr), _HEARD_ARP),
    ):
        yield flow(Rule.LEARN_NEIGHBOUR, Priority.NORMAL, heard, learn, go_on, key=key)
    if subnet.gateway is None:
        return
    hop = int(subnet.gateway)
    to_ports = (Resubmit(Table.UPLINK_IN),) if view.present(network) else ()
    # an answer, and what the router announces to all (RFC 5227 §3) when its MAC has changed
    for claim in (
        matching(metadata=key, eth_type=ETH_ARP, arp_op=ARP_REPLY, arp_spa=hop),
        matching(metadata=key, eth_type=ETH_ARP, arp_spa=hop, arp_tpa=hop),
    ):
        yield flow(Rule.PUNT_NEIGHBOUR, Priority.HIGH, claim, *to_ports, *punt(), key=key)


def _on_link(view: View, network: Network, subnet: Subnet, router: int | None) -> Iterator[Flow]:
    key, cidr = network.key, range_match(subnet.cidr)
    if router is not None and subnet.gateway is not None:
        itself = matching(metadata=key, eth_type=ETH_IP, ip_dst=int(subnet.gateway))
        yield from _to_router(view, network, itself, Priority.LOCAL, router)
    yield flow(
        Rule.ON_LINK,
        Priority.HIGH,
        matching(metadata=key, eth_type=ETH_IP, ip_dst=cidr),
        SetField("eth_src", view.mac),
        SetField("eth_dst", UNKNOWN_MAC),
        Resubmit(Table.EXTERNAL_NEIGHBOUR),
        Goto(Table.EXTERNAL_SEND),
        key=key,
    )
    if router is not None:
        yield flow(
            Rule.PUNT_ON_LINK,
            Priority.HIGH,
            matching(metadata=key, eth_type=ETH_IP, eth_dst=UNKNOWN_MAC, ip_dst=cidr),
            SetField("eth_dst", router),
            _ASKED,
            SetField(Reg.TARGET_PORT, UPLINK_PORT),
            Resubmit(Table.OUTPUT),
            *untagged(network),
            *punt(_COPIED_BYTES),
            key=key,
        )


def _to_router(view: View, network: Network, match: Match, priority: Priority, router: int | None) -> Iterator[Flow]:
    yield flow(
        Rule.TO_ROUTER,
        priority,
        match,
        SetField("eth_src", view.mac),
        SetField("eth_dst", UNKNOWN_MAC if router is None else router),
        Goto(Table.EXTERNAL_SEND),
        key=network.key,
    )
