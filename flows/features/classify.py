"""Table 0: which network, router and port a frame belongs to. What is not known here passes nothing."""

from __future__ import annotations

from collections.abc import Iterator

from flows.features import policy
from flows.features.uplink_out import untagged
from flows.ir import Action, Flow, Goto, Meter, SetField, drop, flow, matching
from flows.model import Network, Port
from flows.pipeline import FLAG_FROM_UPLINK, Priority, Reg, Table, fragment_meter
from flows.protocols import ANY_FRAGMENT, ETH_IP, ETH_IPV6, VLAN_NONE
from flows.rules import Rule
from flows.view import View, vlan_match


def static() -> Iterator[Flow]:
    yield drop(Rule.DROP_UNCLASSIFIED, Priority.MISS)


def network(view: View, network: Network) -> Iterator[Flow]:
    uplink = view.uplink(network)
    if uplink is None or not (network.external or view.present(network) or view.reachable(network)):
        return
    yield flow(
        Rule.CLASSIFY_EXTERNAL if network.external else Rule.CLASSIFY_UPLINK,
        Priority.NORMAL,
        matching(in_port=uplink, vlan_vid=vlan_match(network)),
        *untagged(network),
        *_where(network),
        SetField(Reg.FLAGS, FLAG_FROM_UPLINK),
        Goto(Table.EXTERNAL_SOURCE if network.external else Table.UPLINK_IN),
        key=network.key,
    )


def _where(network: Network) -> Iterator[Action]:
    yield SetField(Reg.NETWORK, network.key)
    # else its VMs could send into the project's other networks, by a gateway that theirs does not have
    if network.routed:
        yield SetField(Reg.ROUTER, network.router_key)


def port(view: View, network: Network, port: Port) -> Iterator[Flow]:
    seat = view.seat(port)
    assert seat is not None
    # vlan_vid=0 is "no tag": a tag of the VM's own, or a priority tag, would leave the node under the network's tag
    from_port = {"in_port": seat.ofport, "vlan_vid": VLAN_NONE}
    known: tuple[Action, ...] = (
        *_where(network),
        SetField(Reg.SOURCE_PORT, port.key),
        SetField(Reg.SOURCE_ZONE, policy.zone(view, port, seat)),
        Goto(Table.PORT_SECURITY),
    )
    yield flow(Rule.CLASSIFY_PORT, Priority.NORMAL, matching(**from_port), *known, key=port.key)
    # before conntrack, which keeps what is not whole, and has room for so many of all VMs together
    for ethertype in (ETH_IP, ETH_IPV6) if port.ipv6_addresses else (ETH_IP,):
        part = matching(**from_port, eth_type=ethertype, ip_frag=ANY_FRAGMENT)
        within = Meter(fragment_meter(seat.zone))
        yield flow(Rule.CLASSIFY_FRAGMENT, Priority.HIGH, part, within, *known, key=port.key)
