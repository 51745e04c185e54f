"""Tables 2, 3, 24, 32 and 36: an address of an external network that stands for one address of a port.

The node that has the port answers for it and translates, in the port's own zone: one pass each way, whatever the IP
protocol, and no connection of one port is ever mistaken for another's. Also its ICMP errors are, and packets to itself.
"""

from __future__ import annotations

from collections.abc import Iterator

from flows.features.arp import answer, request_for
from flows.features.external import hairpin
from flows.features.routing import LIFT
from flows.features.size import checks
from flows.features.uplink_out import tagged_back
from flows.ir import Action, Ct, Flow, Goto, Nat, SetField, flow, matching
from flows.model import FloatingIp, GatewayMode, Network, Port
from flows.pipeline import FLAG_FLOATING, FLAG_FROM_UPLINK, TO_FLOATING, Priority, Reg, Table, nat_zone
from flows.protocols import ETH_IP
from flows.rules import Rule
from flows.view import Role, View


def claim(view: View, external: Network, floating_ip: FloatingIp) -> Iterator[Flow]:
    """One node at a time has it, so that one MAC answers for the address."""
    address = int(floating_ip.address)
    asked = request_for(external, address)
    reply = (*answer(view.mac, address), *tagged_back(external))
    yield flow(Rule.FLOATING_ARP, Priority.HIGH, asked, *reply, key=floating_ip.key)


def source(external: Network, floating_ip: FloatingIp) -> Iterator[Flow]:
    """What leaves from it leaves by its external network, whichever the packet was first sent to."""
    yield flow(
        Rule.FLOATING_SOURCE,
        Priority.NORMAL,
        matching(eth_type=ETH_IP, ip_src=int(floating_ip.address)),
        SetField(Reg.NETWORK, external.key),
        Goto(Table.EXTERNAL_NEXT_HOP),
        key=floating_ip.key,
    )


def towards(network: Network) -> tuple[Action, ...]:
    """The registers of a packet that comes in for a port of the network."""
    return (
        SetField(Reg.NETWORK, network.key),
        SetField(Reg.ROUTER, network.router_key),
        SetField(Reg.FLAGS, FLAG_FROM_UPLINK | FLAG_FLOATING),
    )


def floating_ip(view: View, floating_ip: FloatingIp) -> Iterator[Flow]:
    external = view.external_of(floating_ip)
    port = view.local(floating_ip.port_id)
    if external is None or port is None or floating_ip.fixed_ip is None:
        return
    network = view.snapshot.networks[port.network_id]
    seat, role = view.seat(port), view.role(port)
    if not network.translated or seat is None:
        return
    # what has yet to hear of a move: a VM that arrives sends already, and to one that has left something still comes
    if role is not Role.LEFT:
        yield from source(external, floating_ip)
    if role is Role.ACTIVE:
        yield from claim(view, external, floating_ip)
    if role is Role.WAITING:
        return
    address = int(floating_ip.address)
    translation = Nat(int(floating_ip.fixed_ip), destination=True)
    yield flow(
        Rule.FLOATING_IN,
        Priority.HIGH,
        matching(metadata=external.key, eth_dst=view.mac, eth_type=ETH_IP, ip_dst=address),
        *towards(network),
        *checks(external.mtu, network.mtu),
        Ct(Table.EXTERNAL_ESTABLISHED, nat_zone(seat.zone), commit=True, nat=translation),
        key=floating_ip.key,
    )
    if role is not Role.ACTIVE:
        return
    to_itself = matching(eth_type=ETH_IP, ip_dst=address)
    yield flow(Rule.FLOATING_HAIRPIN, Priority.HIGH, to_itself, *hairpin(view, external), key=floating_ip.key)


def port(view: View, network: Network, port: Port) -> Iterator[Flow]:
    """New connections of a port leave from the oldest of its floating IPs; replies from the one that was asked."""
    if not network.translated:
        return
    seat = view.seat(port)
    assert seat is not None
    zone = nat_zone(seat.zone)
    led_to = {forwarding.fixed_ip for forwarding in view.forwardings(port)}
    for one in port.own:
        address = int(one.address)
        own = view.floating_ips(port, one.address)
        if not own and one.address not in led_to:
            continue
        yield flow(
            Rule.FLOATING_TRANSLATED,
            Priority.HIGH,
            matching(metadata=network.key, reg0=TO_FLOATING, eth_type=ETH_IP, ip_dst=address),
            Goto(Table.ROUTING),
            key=port.key,
        )
        from_port = matching(metadata=network.key, reg6=port.key, eth_type=ETH_IP, ip_src=address)
        if own:
            if network.gateway_mode is GatewayMode.EXTERNAL:
                lifted = matching(reg6=port.key, eth_type=ETH_IP, ip_src=address)
                yield flow(Rule.LIFT_FLOATING, Priority.HIGH, lifted, *LIFT, key=port.key)
            external = view.snapshot.networks[own[0].network_id]
            yield flow(
                Rule.FLOATING_OUT,
                Priority.FLOATING,
                from_port,
                SetField(Reg.NETWORK, external.key),
                Ct(Table.EXTERNAL_OUT, zone, commit=True, nat=Nat(int(own[0].address))),
                key=port.key,
            )
