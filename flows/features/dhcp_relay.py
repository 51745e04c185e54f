"""Table 2: DHCP of machines on the wire, which relays of the operator's hand on to the node's address outside.

From a relay, and from a machine that renews its lease by itself: it knows the server's address. Bounded by a meter of
its own, as what neighbours say must be heard meanwhile. Not at an address that the node shares with its host.
"""

from __future__ import annotations

from collections.abc import Iterator

from flows.features.allowance import punt
from flows.ir import Flow, SetField, flow, matching
from flows.model import Network
from flows.pipeline import FLAG_FROM_UPLINK, FLAG_RELAYED, Priority, Reg
from flows.protocols import DHCP_SERVER_PORT, ETH_IP, PROTO_UDP
from flows.rules import Rule
from flows.view import View, range_match

_HOST_MASK = 0xFFFFFFFF


def network(view: View, network: Network) -> Iterator[Flow]:
    if not network.external or view.uplink(network) is None:
        return
    senders: set[tuple[int, int]] = set()
    for relayed in view.snapshot.relayed_by(network):
        senders |= {(int(address), _HOST_MASK) for address in relayed.dhcp_relays}
        senders |= {range_match(subnet.cidr) for subnet in relayed.subnets}
    for held in view.node.snat_addresses:
        if held.network_id != network.id or held.host:
            continue
        for sender in sorted(senders):
            to_server = {"eth_type": ETH_IP, "ip_proto": PROTO_UDP, "udp_dst": DHCP_SERVER_PORT}
            yield flow(
                Rule.PUNT_RELAYED_DHCP,
                Priority.GUARD,
                matching(metadata=network.key, ip_src=sender, ip_dst=int(held.address), **to_server),
                SetField(Reg.FLAGS, FLAG_FROM_UPLINK | FLAG_RELAYED),
                *punt(),
                key=network.key,
            )
