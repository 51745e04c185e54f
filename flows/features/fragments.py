"""Tables 3, 31 and 32: fragments of what is forwarded by ports, beside `port_forwarding`.

A fragment shows no ports, so conntrack is asked, which puts the parts together: inwards in the zone of every port that
may be meant, as for ICMP errors, outwards in the zone of the sender. It knows connections that are there already. What
it does not know inwards is dropped; outwards it goes on as if nobody had asked.
"""

from __future__ import annotations

from collections.abc import Iterator

from flows.features import nat
from flows.features.size import MatchValue, measured, own
from flows.ir import Action, Ct, Flow, Goto, SetField, flow, matching
from flows.model import Network, Port
from flows.pipeline import TO_FLOATING, Priority, Reg, Table, carrier_address, nat_zone
from flows.protocols import ANY_FRAGMENT, CT_TRACKED, ETH_IP
from flows.rules import Rule
from flows.view import View

_TRACKED = (CT_TRACKED, CT_TRACKED)


def port(view: View, network: Network, port: Port) -> Iterator[Flow]:
    """Inwards only the size: the flow that asks for all ports could not tell their networks apart."""
    if not network.translated:
        return
    seat = view.seat(port)
    assert seat is not None
    led = view.forwarded(port)
    sources: dict[int, Network] = {}
    for forwarding, external in led:
        floating_ip = view.forwarded_by(forwarding)
        if floating_ip is not None:
            sources[int(floating_ip.address)] = external
    for fixed_ip in dict.fromkeys(forwarding.fixed_ip for forwarding, _ in led):
        for floating_ip in view.floating_ips(port, fixed_ip):
            sources[int(floating_ip.address)] = view.snapshot.networks[floating_ip.network_id]
    for protocol, fixed_ip in dict.fromkeys((forwarding.protocol, forwarding.fixed_ip) for forwarding, _ in led):
        part: dict[str, MatchValue] = {"ip_proto": protocol, "ip_frag": ANY_FRAGMENT}
        smallest = view.outside_mtu(network, port, fixed_ip, protocol)
        if smallest is not None and smallest != view.outside_mtu(network, port, fixed_ip):
            yield own(network, port, fixed_ip, smallest, Priority.EXEMPT, part)
        yield flow(
            Rule.FRAGMENT_OUT,
            Priority.NORMAL,
            matching(metadata=network.key, reg6=port.key, eth_type=ETH_IP, ip_src=int(fixed_ip), **part),
            Ct(Table.NAT_EGRESS, nat_zone(seat.zone), translate=True),
            key=port.key,
        )
    for fixed_ip in dict.fromkeys(led_to.fixed_ip for led_to, external in led if external.mtu > network.mtu):
        to_port = {"metadata": network.key, "eth_type": ETH_IP, "ip_dst": int(fixed_ip)}
        yield flow(
            Rule.FLOATING_TRANSLATED,
            Priority.LOCAL,
            matching(**to_port, reg0=TO_FLOATING, ip_frag=ANY_FRAGMENT),
            *measured(network.mtu),
            Goto(Table.ROUTING),
            key=port.key,
        )
    ways: dict[int, tuple[Action, ...]] = {
        address: (SetField(Reg.NETWORK, external.key), Goto(Table.EXTERNAL_OUT))
        for address, external in sources.items()
    }
    if led and nat.carried(view, network, port):
        ways[carrier_address(port.key)] = (Goto(Table.NODE_SNAT),)
    for address, way in ways.items():
        translated = matching(metadata=network.key, reg6=port.key, eth_type=ETH_IP, ip_src=address, ct_state=_TRACKED)
        yield flow(Rule.FRAGMENT_TRANSLATED, Priority.FORWARDING, translated, *way, key=port.key)
