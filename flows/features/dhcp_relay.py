"""Table 2: DHCP of machines on the wire, which relays of the operator's hand on to the node's address outside.

From a relay, and from a machine that renews its lease by itself: it knows the server's address. Bounded by a meter of
its own, as what neighbours say must be heard meanwhile. Not at an address that the node shares with its host.
"""

from __future__ import annotations

from collections.abc import Iterator

from flows.ir import Controller, Flow, Meter, MeterConfig, flow, matching
from flows.model import Network
from flows.pipeline import RELAY_METER, RELAY_PACKET_INS, Priority
from flows.protocols import DHCP_SERVER_PORT, ETH_IP, PROTO_UDP
from flows.rules import Rule
from flows.view import View, range_match

_WHOLE = 0xFFFF
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
                Meter(RELAY_METER),
                Controller(_WHOLE),
                key=network.key,
            )


def static_meters() -> Iterator[MeterConfig]:
    yield MeterConfig(RELAY_METER, *RELAY_PACKET_INS, packets=True)
