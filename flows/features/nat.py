"""Tables 2, 3, 32, 34 and 36: out to an external network behind the node's SNAT address, and the replies back in.

Every node translates for its own VMs: no packet visits another node. Where two networks use one range, the later one's
ports are first translated to their carrier address in the port's own zone, so that no tuple stands for two ports.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address

from flows.features.arp import answer, request_for, tagged_back
from flows.ir import Action, Controller, Ct, CtClear, Flow, Goto, Nat, SetField, drop, flow, matching
from flows.model import Network, Port
from flows.pipeline import CARRIER_BASE, CARRIER_MASK, UPLINK_PORT, CtZone, Priority, Reg, Table, carrier_address
from flows.protocols import ARP_REPLY, CT_INVALID, CT_NEW, CT_TRACKED, ETH_ARP, ETH_IP, ICMP_ERRORS, PROTO_ICMP
from flows.rules import Rule
from flows.view import View, cidr_match, mac_to_int

_SNAT_PORTS = (1024, 65535)
_REPLY_OR_RELATED = (CT_TRACKED, CT_TRACKED | CT_NEW | CT_INVALID)
_INVALID = (CT_TRACKED | CT_INVALID, CT_TRACKED | CT_INVALID)


def static() -> Iterator[Flow]:
    yield drop(Rule.DROP_EXTERNAL, Priority.MISS)
    yield drop(Rule.DROP_INVALID, Priority.GUARD, matching(ct_state=_INVALID))
    yield drop(Rule.DROP_UNSOLICITED, Priority.MISS)
    # conntrack leaves what it finds invalid as it is: a private source address would get out
    yield drop(Rule.DROP_INVALID_CARRIER, Priority.GUARD, matching(ct_state=_INVALID))
    yield drop(Rule.DROP_INVALID_OUT, Priority.GUARD, matching(ct_state=_INVALID))
    # in the zone that all ports share, an error matches any connection that it quotes
    for icmp_type in ICMP_ERRORS:
        error = matching(eth_type=ETH_IP, ip_proto=PROTO_ICMP, icmp_type=icmp_type)
        yield drop(Rule.DROP_ICMP_ERROR, Priority.GUARD, error)
    yield drop(Rule.DROP_NO_NAT, Priority.MISS)
    yield drop(Rule.DROP_NO_SNAT, Priority.MISS)
    yield drop(Rule.DROP_UNTRANSLATED, Priority.MISS)


def network(view: View, network: Network) -> Iterator[Flow]:
    if network.external:
        yield from _external(view, network)
        return
    way_out = view.way_out(network)
    if way_out is None or not view.present(network):
        return
    external, snat_address = way_out
    key = network.key
    to_snat = _snat(external, snat_address)
    if network.carrier_nat:
        from_carrier = matching(metadata=key, eth_type=ETH_IP, ip_src=(CARRIER_BASE, CARRIER_MASK))
        yield flow(Rule.SNAT_CARRIER, Priority.NORMAL, from_carrier, *to_snat, key=key)
    else:
        yield flow(Rule.SNAT, Priority.NORMAL, matching(metadata=key, eth_type=ETH_IP), *to_snat, key=key)
        for cidr, _prefix in cidr_match(network):
            yield flow(
                Rule.EXTERNAL_REPLY,
                Priority.NORMAL,
                matching(eth_type=ETH_IP, ip_dst=cidr, ct_state=_REPLY_OR_RELATED),
                SetField(Reg.NETWORK, key),
                SetField(Reg.ROUTER, network.router_key),
                Goto(Table.ROUTING),
                key=key,
            )


def _snat(external: Network, address: IPv4Address) -> tuple[Action, ...]:
    return (
        CtClear(),
        SetField(Reg.NETWORK, external.key),
        Ct(Table.EXTERNAL_OUT, CtZone.SNAT, commit=True, nat=Nat(int(address), _SNAT_PORTS)),
    )


def _external(view: View, network: Network) -> Iterator[Flow]:
    key = network.key
    if view.uplink(network) is None:
        return
    if view.present(network):
        yield flow(Rule.EXTERNAL_TO_PORTS, Priority.LOW, matching(metadata=key), Goto(Table.UPLINK_IN), key=key)
    held = view.node.snat_address(network.id)
    if held is None:
        return
    own = int(held.address)
    yield flow(
        Rule.SNAT_ARP,
        Priority.HIGH,
        request_for(network, own),
        *answer(view.mac, own),
        *tagged_back(network),
        key=key,
    )
    yield flow(
        Rule.UNSNAT,
        Priority.NORMAL,
        matching(metadata=key, eth_type=ETH_IP, ip_dst=own),
        Ct(Table.EXTERNAL_ESTABLISHED, CtZone.SNAT, translate=True),
        key=key,
    )
    yield drop(
        Rule.DROP_EXTERNAL_SELF,
        Priority.HIGH,
        matching(metadata=key, eth_type=ETH_IP, ip_dst=own),
        key=key,
    )
    yield drop(
        Rule.DROP_NEXT_HOP_UNRESOLVED,
        Priority.LOW,
        matching(metadata=key, eth_type=ETH_IP, ip_src=own),
        key=key,
    )
    for subnet in network.subnets:
        if subnet.gateway is None:
            continue
        hop = int(subnet.gateway)
        to_ports = (Goto(Table.UPLINK_IN),) if view.present(network) else ()
        # its answer to us, and what it announces to all (RFC 5227 §3) when its MAC has changed
        for claim in (
            matching(metadata=key, eth_type=ETH_ARP, arp_op=ARP_REPLY, arp_spa=hop, arp_tpa=own),
            matching(metadata=key, eth_type=ETH_ARP, arp_spa=hop, arp_tpa=hop),
        ):
            yield flow(Rule.PUNT_NEIGHBOUR, Priority.HIGH, claim, Controller(), *to_ports, key=key)
        next_hop = view.node.neighbour(network.id, subnet.gateway)
        if next_hop is not None:
            yield flow(
                Rule.EXTERNAL_NEXT_HOP,
                Priority.NORMAL,
                matching(metadata=key, eth_type=ETH_IP, ip_src=own),
                SetField("eth_src", view.mac),
                SetField("eth_dst", mac_to_int(next_hop)),
                SetField(Reg.TARGET_PORT, UPLINK_PORT),
                Goto(Table.OUTPUT),
                key=key,
            )


def port(view: View, network: Network, port: Port) -> Iterator[Flow]:
    if not network.carrier_nat:
        return
    assert port.binding is not None
    carrier = carrier_address(port.key)
    yield flow(
        Rule.CARRIER,
        Priority.HIGH,
        matching(metadata=network.key, reg6=port.key, eth_type=ETH_IP),
        Ct(Table.NODE_SNAT, Reg.SOURCE_ZONE, commit=True, nat=Nat(carrier)),
        key=port.key,
    )
    yield flow(
        Rule.CARRIER_REPLY,
        Priority.HIGH,
        matching(eth_type=ETH_IP, ip_dst=carrier, ct_state=_REPLY_OR_RELATED),
        SetField(Reg.NETWORK, network.key),
        SetField(Reg.ROUTER, network.router_key),
        Ct(Table.ROUTING, port.binding.zone, translate=True),
        key=port.key,
    )
