"""Tables 4 and 56: how fast a port may send and receive, and the DSCP mark of what it sends.

Only IP is limited, without ICMPv6 where it is received, for whoever used up its rate would else lose its neighbours,
too. What goes to many is not limited
where it is received, since a meter that drops a packet drops it for all that are still to get it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from flows.ir import Action, Flow, Meter, MeterConfig, SetField, flow, matching
from flows.model import Port
from flows.pipeline import Reg, egress_meter, ingress_meter
from flows.protocols import ETH_IP, ETH_IPV6, ETH_UNICAST, PROTO_TCP, PROTO_UDP
from flows.rules import Rule
from flows.view import View


def sent(view: View, port: Port) -> tuple[Action, ...]:
    """The first actions of every flow that lets a VM's packets in."""
    seat, qos = view.seat(port), port.qos
    assert seat is not None
    limit: tuple[Action, ...] = () if qos.egress is None else (Meter(egress_meter(seat.zone)),)
    return limit if qos.dscp is None else (*limit, SetField("ip_dscp", qos.dscp))


def received(
    view: View, port: Port, priority: int, also: Mapping[str, tuple[int, int]], *out: Action
) -> Iterator[Flow]:
    """The same way out to the VM, limited. `also` is matched, too."""
    seat = view.seat(port)
    assert seat is not None
    if port.qos.ingress is None:
        return
    kinds = [{"eth_type": ETH_IP}]
    if port.ipv6_addresses:
        kinds += [{"eth_type": ETH_IPV6, "ip_proto": protocol} for protocol in (PROTO_TCP, PROTO_UDP)]
    for kind in kinds:
        limited = matching(**{Reg.TARGET_PORT: port.key}, **kind, eth_dst=ETH_UNICAST, **also)
        meter = Meter(ingress_meter(seat.zone))
        yield flow(Rule.OUTPUT_LIMITED, priority, limited, meter, *out, key=port.key)


def meters(view: View, port: Port) -> Iterator[MeterConfig]:
    seat = view.seat(port)
    assert seat is not None
    for limit, meter_of in ((port.qos.egress, egress_meter), (port.qos.ingress, ingress_meter)):
        if limit is not None:
            yield MeterConfig(meter_of(seat.zone), limit.rate, limit.burst)
