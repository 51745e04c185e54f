"""Tables 2, 3, 32, 34 and 36: out to an external network behind the node's SNAT address, and the replies back in.

Every node translates for its own VMs, and no packet visits another node, unless gateway mode `single` says so. Where
two networks use one range, the later one's ports are first translated to their carrier address in the port's own zone,
so that no tuple stands for two ports. So is what comes from behind a port that a static route leads to, since its
addresses are anybody's, and of a port whose connections no zone of its own counts: the zone's limit is the port's
share of the node's SNAT ports.
"""

from __future__ import annotations

from collections.abc import Iterator

from flows.features import policy
from flows.features.size import checks
from flows.ir import Action, Ct, CtClear, Flow, Goto, Nat, SetField, drop, flow, matching
from flows.model import Network, Port, SnatAddress
from flows.pipeline import (
    CARRIER_BASE,
    CARRIER_MASK,
    CONTROLLER_PORT,
    FLAG_FLOATING,
    FLAG_FROM_UPLINK,
    FLAG_ONWARD,
    HOST_SNAT_PORTS,
    CtZone,
    Priority,
    Reg,
    Table,
    carrier_address,
    nat_zone,
)
from flows.protocols import CT_INVALID, CT_NEW, CT_TRACKED, ETH_IP, ICMP_ERRORS, ICMP_UNREACHABLE, PROTO_ICMP
from flows.rules import Rule
from flows.view import View, cidr_match, range_match

_SNAT_PORTS = (1024, 65535)
_REPLY_OR_RELATED = (CT_TRACKED, CT_TRACKED | CT_NEW | CT_INVALID)
_INVALID = (CT_TRACKED | CT_INVALID, CT_TRACKED | CT_INVALID)


def static() -> Iterator[Flow]:
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
    yield drop(Rule.DROP_NO_SNAT, Priority.LOW, matching(eth_type=ETH_IP, ip_src=(CARRIER_BASE, CARRIER_MASK)))
    yield drop(Rule.DROP_NO_SNAT, Priority.MISS)


def network(view: View, network: Network) -> Iterator[Flow]:
    external = view.way_out(network)
    if external is None or not view.attends(network):
        return
    if network.single and not view.is_gateway_node(network):
        return
    key = network.key
    yield from _exempt(network, external)
    held = view.snat(network)
    if held is None:
        return
    yield from _tell(network, external)
    to_snat = _snat(external, held)
    from_carrier = matching(metadata=key, eth_type=ETH_IP, ip_src=(CARRIER_BASE, CARRIER_MASK))
    yield flow(Rule.SNAT_CARRIER, Priority.NORMAL, from_carrier, *to_snat, key=key)
    if network.carrier_nat:
        return
    yield flow(Rule.SNAT, Priority.NORMAL, matching(metadata=key, eth_type=ETH_IP), *to_snat, key=key)
    # by a network's only way out comes what is for a port of any node
    onward = (SetField(Reg.FLAGS, FLAG_FROM_UPLINK | FLAG_ONWARD),) if network.single else ()
    for cidr, _prefix in cidr_match(network):
        yield flow(
            Rule.EXTERNAL_REPLY,
            Priority.NORMAL,
            matching(eth_type=ETH_IP, ip_dst=cidr, ct_state=_REPLY_OR_RELATED),
            SetField(Reg.NETWORK, key),
            SetField(Reg.ROUTER, network.router_key),
            *onward,
            *checks(external.mtu, network.mtu),
            Goto(Table.ROUTING),
            key=key,
        )


def _tell(network: Network, external: Network) -> Iterator[Flow]:
    """What the controller says to a sender outside whose packet is too large: by the way of the connection itself."""
    if external.mtu <= network.mtu or network.carrier_nat:
        return
    told = {"eth_type": ETH_IP, "ip_proto": PROTO_ICMP, "icmp_type": ICMP_UNREACHABLE}
    yield flow(
        Rule.TELL_OUTSIDE,
        Priority.FLOATING,
        matching(in_port=CONTROLLER_PORT, metadata=network.key, reg6=0, **told),
        CtClear(),
        SetField(Reg.NETWORK, external.key),
        # the kernel translates an error that goes the way of the connection only with a commit
        Ct(Table.EXTERNAL_OUT, CtZone.SNAT, commit=True, translate=True),
        key=network.key,
    )


def _exempt(network: Network, external: Network) -> Iterator[Flow]:
    """Ranges that see the VMs' own addresses, and that reach them. Not with a range that two networks use.

    What comes from behind a route is translated as ever: it could be from somebody's floating IP.
    """
    key = network.key
    if network.carrier_nat:
        return
    for exempt in map(range_match, network.snat_exempt):
        for cidr, _prefix in cidr_match(network):
            yield flow(
                Rule.EXEMPT,
                Priority.EXEMPT,
                matching(metadata=key, eth_type=ETH_IP, ip_src=cidr, ip_dst=exempt),
                CtClear(),
                SetField(Reg.NETWORK, external.key),
                Goto(Table.EXTERNAL_OUT),
                key=key,
            )
            yield flow(
                Rule.EXEMPT_SOURCE,
                Priority.NORMAL,
                matching(metadata=external.key, eth_type=ETH_IP, ip_src=cidr, ip_dst=exempt),
                Goto(Table.EXTERNAL_NEXT_HOP),
                key=key,
            )
            yield flow(
                Rule.EXEMPT_IN,
                Priority.NORMAL,
                matching(metadata=external.key, eth_type=ETH_IP, ip_src=exempt, ip_dst=cidr),
                SetField(Reg.NETWORK, key),
                SetField(Reg.ROUTER, network.router_key),
                SetField(Reg.FLAGS, FLAG_FROM_UPLINK | FLAG_FLOATING | (FLAG_ONWARD if network.single else 0)),
                *checks(external.mtu, network.mtu),
                Goto(Table.ROUTING),
                key=key,
            )


def _snat(external: Network, held: SnatAddress) -> tuple[Action, ...]:
    ports = HOST_SNAT_PORTS if held.host else _SNAT_PORTS
    return (
        CtClear(),
        SetField(Reg.NETWORK, external.key),
        Ct(Table.EXTERNAL_OUT, CtZone.SNAT, commit=True, nat=Nat(int(held.address), ports)),
    )


def carried(view: View, network: Network, port: Port) -> bool:
    """True if all that a port sends out by the SNAT address goes from its carrier address."""
    seat = view.seat(port)
    assert seat is not None
    if network.carrier_nat:
        return True
    if not network.source_translated or view.way_out(network) is None:
        return False
    if network.single and not view.is_gateway_node(network):
        return False
    return policy.zone(view, port, seat) == 0


def port(view: View, network: Network, port: Port) -> Iterator[Flow]:
    routed = view.routed_to(network, port)
    seat, external = view.seat(port), view.way_out(network)
    assert seat is not None
    if not carried(view, network, port) and not routed:
        return
    carrier = carrier_address(port.key)
    zone = nat_zone(seat.zone)
    of_port = {"metadata": network.key, Reg.SOURCE_PORT: port.key, "eth_type": ETH_IP}
    # many hosts may be behind a route, or a port without port security: their ports must give way to each other
    own, shared = Nat(carrier), Nat(carrier, _SNAT_PORTS)
    several = not port.port_security or bool(port.address_pairs)
    usual = shared if several else own
    translated: list[tuple[dict[str, tuple[int, int]], Nat]] = [({}, usual)] if carried(view, network, port) else []
    translated += [({"ip_src": range_match(route.destination)}, shared) for route in routed]
    for source, nat in translated:
        yield flow(
            Rule.CARRIER,
            Priority.HIGH if not source else Priority.LOCAL,
            matching(**of_port, **source),
            Ct(Table.NODE_SNAT, zone, commit=True, nat=nat),
            key=port.key,
        )
    # beyond a zone's limit the userspace datapath lets a packet go on untranslated; the kernel's drops it by itself
    yield drop(Rule.DROP_SNAT_SHARE, Priority.DEFAULT, matching(**{Reg.SOURCE_PORT: port.key}), key=port.key)
    yield flow(
        Rule.CARRIER_REPLY,
        Priority.HIGH,
        matching(eth_type=ETH_IP, ip_dst=carrier, ct_state=_REPLY_OR_RELATED),
        SetField(Reg.NETWORK, network.key),
        SetField(Reg.ROUTER, network.router_key),
        *(() if external is None else checks(external.mtu, network.mtu)),
        Ct(Table.ROUTING, zone, translate=True),
        key=port.key,
    )
