"""Tables 2, 32 and 36: ports of one floating IP that lead to many VMs, on any node.

One node answers ARP. What is for a VM of another node it hands on as it is, to that node's MAC on the external network:
each node translates for its own VMs, in their own zones, and their replies leave directly. A frame that a switch floods
is for the node whose MAC it carries. Other nodes must take neither for a sign of where an address is, so both carry the
node's second MAC, which nobody learns from.
"""

from __future__ import annotations

from collections.abc import Iterator

from flows.features import floating_ip as floating
from flows.features.external import hairpin
from flows.features.routing import LIFT
from flows.features.size import checks, own
from flows.features.uplink_out import TO_UPLINK, tag_on, tagged_back, untagged
from flows.ir import Action, Ct, CtClear, DecTtl, Flow, Nat, Output, Restart, SetField, drop, flow, matching
from flows.model import FloatingIp, GatewayMode, Network, Port, PortForwarding
from flows.pipeline import NODE_MAC_MASK, TEACHER_MAC_PREFIX, Priority, Reg, Table, nat_zone, node_mac
from flows.protocols import (
    ANY_FRAGMENT,
    CT_INVALID,
    CT_TRACKED,
    ETH_IP,
    ICMP_ERRORS,
    ICMP_REDIRECT,
    PROTO_ICMP,
    PROTO_TCP,
)
from flows.rules import Rule
from flows.view import Role, View, port_matches, range_match

_Match = dict[str, int | tuple[int, int]]
_ERRORS = tuple(icmp_type for icmp_type in ICMP_ERRORS if icmp_type != ICMP_REDIRECT)


def _field(forwarding: PortForwarding, end: str) -> str:
    return f"{'tcp' if forwarding.protocol == PROTO_TCP else 'udp'}_{end}"


def _asked(forwarding: PortForwarding) -> Iterator[tuple[_Match, tuple[int, int] | None]]:
    """The match of a forwarding's ports, and what each becomes; None keeps the port."""
    protocol: _Match = {"eth_type": ETH_IP, "ip_proto": forwarding.protocol}
    name = _field(forwarding, "dst")
    if forwarding.first == forwarding.to:
        for ports in port_matches(forwarding.first, forwarding.last):
            yield {**protocol, name: ports}, None
    else:
        for offset in range(forwarding.last - forwarding.first + 1):
            inside = forwarding.to + offset
            yield {**protocol, name: forwarding.first + offset}, (inside, inside)


def floating_ip(view: View, floating_ip: FloatingIp) -> Iterator[Flow]:
    external = view.external_of(floating_ip)
    local = [forwarding for forwarding in floating_ip.port_forwardings if view.local(forwarding.port_id)]
    if external is None or not local:
        return
    owner = view.snapshot.floating_ip_node(floating_ip) == view.node.name
    if owner:
        yield from floating.claim(view, external, floating_ip)
    else:
        yield from _unremembered(view, external, floating_ip)
    yield from floating.source(external, floating_ip)
    address = int(floating_ip.address)
    zones: dict[tuple[str, int], None] = {}
    macs: dict[int, None] = {}
    for forwarding in floating_ip.port_forwardings:
        port = view.local(forwarding.port_id)
        role = Role.NONE if port is None else view.role(port)
        if port is not None and role is Role.ACTIVE:
            zones[port.id, _zone(view, port)] = None
            yield from _arriving(view, external, address, forwarding, port)
            yield from _hairpins(view, external, address, forwarding)
        elif port is not None and role is Role.LEFT and not owner:
            yield from _arriving(view, external, address, forwarding, port)  # from an owner that has yet to hear of it
        elif owner:
            mac = _elsewhere(view, forwarding)
            if mac is not None:
                macs[mac] = None
                yield from _handed_on(view, external, address, forwarding, mac)
    if macs:
        # two nodes that each take the other for the right one, for a moment, must not play with a packet for ever
        for ttl in (0, 1):
            expired = matching(metadata=external.key, eth_dst=view.mac, eth_type=ETH_IP, nw_ttl=ttl, ip_dst=address)
            yield drop(Rule.DROP_EXPIRED_FORWARDING, Priority.EXEMPT, expired, key=floating_ip.key)
    yield from _portless(view, external, floating_ip, list(macs), list(zones))
    if owner and zones:
        yield from _fragment_hairpins(view, external, floating_ip, list(macs))


def _unremembered(view: View, external: Network, floating_ip: FloatingIp) -> Iterator[Flow]:
    for subnet in external.subnets:
        reply: _Match = {"eth_type": ETH_IP, "ip_src": int(floating_ip.address), "ip_dst": range_match(subnet.cidr)}
        yield flow(
            Rule.EXTERNAL_SEND,
            Priority.LOW,
            matching(metadata=external.key, **reply),
            SetField("eth_src", view.teacher_mac),
            *TO_UPLINK,
        )


def _zone(view: View, port: Port) -> int:
    seat = view.seat(port)
    assert seat is not None
    return nat_zone(seat.zone)


def _elsewhere(view: View, forwarding: PortForwarding) -> int | None:
    """The MAC of the node that has a forwarding's port."""
    port = view.snapshot.ports.get(forwarding.port_id)
    node = None if port is None or port.binding is None else view.snapshot.nodes.get(port.binding.node)
    return None if node is None else node_mac(node.key)


def _arriving(view: View, external: Network, address: int, forwarding: PortForwarding, port: Port) -> Iterator[Flow]:
    network = view.snapshot.networks[port.network_id]
    for match, ports in _asked(forwarding):
        yield flow(
            Rule.FORWARDING_IN,
            Priority.FORWARDING,
            matching(metadata=external.key, eth_dst=view.mac, ip_dst=address, **match),
            *floating.towards(network),
            *checks(external.mtu, network.mtu),
            Ct(
                Table.EXTERNAL_ESTABLISHED,
                _zone(view, port),
                commit=True,
                nat=Nat(int(forwarding.fixed_ip), ports, destination=True),
            ),
            key=forwarding.key,
        )


def _hairpins(view: View, external: Network, address: int, forwarding: PortForwarding) -> Iterator[Flow]:
    for match, _ in _asked(forwarding):
        yield flow(
            Rule.FORWARDING_HAIRPIN,
            Priority.FORWARDING,
            matching(ip_dst=address, **match),
            *hairpin(view, external),
            key=forwarding.key,
        )


def _handed_on(view: View, external: Network, address: int, forwarding: PortForwarding, mac: int) -> Iterator[Flow]:
    to_node = (SetField("eth_src", view.teacher_mac), SetField("eth_dst", mac))
    protocol: _Match = {"eth_type": ETH_IP, "ip_proto": forwarding.protocol}
    for ports in port_matches(forwarding.first, forwarding.last):
        match = {**protocol, "ip_dst": address, _field(forwarding, "dst"): ports}
        yield flow(
            Rule.FORWARDING_REMOTE,
            Priority.FORWARDING,
            matching(metadata=external.key, eth_dst=view.mac, **match),
            DecTtl(),
            *to_node,
            *tagged_back(external),
            key=forwarding.key,
        )
        yield flow(
            Rule.FORWARDING_HAIRPIN,
            Priority.FORWARDING,
            matching(**match),
            SetField(Reg.NETWORK, external.key),
            *to_node,
            *TO_UPLINK,
            key=forwarding.key,
        )


def _portless(
    view: View, external: Network, floating_ip: FloatingIp, macs: list[int], zones: list[tuple[str, int]]
) -> Iterator[Flow]:
    """An ICMP error or a fragment does not say whose it is: every node and port that could be meant is asked.

    What another node has asked is not asked on: two that both take themselves for the owner would never end.
    """
    if not zones:
        return
    copies: list[Action] = []
    for mac in macs:
        copies += [SetField("eth_src", view.teacher_mac), SetField("eth_dst", mac)]
        copies += [*tagged_back(external), *untagged(external)]
    asked = {"eth_src": (TEACHER_MAC_PREFIX, NODE_MAC_MASK)}
    of_external = {"metadata": external.key, "eth_dst": view.mac}
    to_address: _Match = {"eth_type": ETH_IP, "ip_dst": int(floating_ip.address)}
    errors: list[_Match] = [{"ip_proto": PROTO_ICMP, "icmp_type": icmp_type} for icmp_type in _ERRORS]
    parts = _parts(floating_ip)
    # the kernel translates an error that goes the way of the connection only with a commit
    ask = tuple(_ask_all(view, zones, commit=True))
    kinds = [(Rule.FORWARDING_ERROR, Priority.FORWARDING, error, ask) for error in errors]
    ask = tuple(_ask_all(view, zones))
    if view.node.on_kernel:
        # Any port's zone can reassemble it; the first one's is taken. The copies above have set eth_dst to another
        # node's: set it back.
        ask = (SetField("eth_dst", view.mac), Ct(Table.EXTERNAL_ESTABLISHED, zones[0][1]))
        yield from _whole(external, floating_ip, parts)
    kinds += [(Rule.FORWARDING_FRAGMENT, Priority.TOO_LARGE, part, ask) for part in parts]
    for rule, priority, kind, here in kinds:
        match = {**of_external, **to_address, **kind}
        by_node = matching(**match, **(asked if copies else {}))
        yield flow(rule, priority, by_node, *here, key=floating_ip.key)
        if copies:
            yield flow(rule, Priority.FLOATING, matching(**match), *copies, *here, key=floating_ip.key)


def _ask_all(view: View, zones: list[tuple[str, int]], *, commit: bool = False) -> Iterator[Action]:
    for port_id, zone in zones:
        network = view.snapshot.networks[view.snapshot.ports[port_id].network_id]
        yield from floating.towards(network)
        yield Ct(Table.EXTERNAL_ESTABLISHED, zone, commit=commit, translate=True)


def _whole(external: Network, floating_ip: FloatingIp, parts: list[_Match]) -> Iterator[Flow]:
    """A datagram that came in fragments, still untranslated: it is looked up by its port."""
    for part in parts:
        yield flow(
            Rule.FORWARDING_WHOLE,
            Priority.FORWARDING,
            matching(
                metadata=external.key,
                eth_type=ETH_IP,
                ip_dst=int(floating_ip.address),
                ip_proto=part["ip_proto"],
                ct_state=(CT_TRACKED, CT_TRACKED | CT_INVALID),
            ),
            CtClear(),
            Restart(Table.EXTERNAL_IN),
            key=floating_ip.key,
        )


def _parts(floating_ip: FloatingIp) -> list[_Match]:
    protocols = sorted({forwarding.protocol for forwarding in floating_ip.port_forwardings})
    return [{"ip_proto": protocol, "ip_frag": ANY_FRAGMENT} for protocol in protocols]


def _fragment_hairpins(view: View, external: Network, floating_ip: FloatingIp, macs: list[int]) -> Iterator[Flow]:
    """From VMs of the node that has the address. Those of others send it here by the wire."""
    uplink = view.uplink(external)
    assert uplink is not None
    copies: list[Action] = []
    for mac in macs:
        copies += [SetField("eth_src", view.teacher_mac), SetField("eth_dst", mac)]
        copies += [*tag_on(external), Output(uplink), *untagged(external)]
    for part in _parts(floating_ip):
        yield flow(
            Rule.FLOATING_HAIRPIN,
            Priority.EXEMPT,
            matching(eth_type=ETH_IP, ip_dst=int(floating_ip.address), **part),
            *copies,
            *hairpin(view, external),
            key=floating_ip.key,
        )


def port(view: View, network: Network, port: Port) -> Iterator[Flow]:
    """Replies leave from where the connection came in; what a VM begins from such a port, from the first forwarding."""
    yield from _errors_out(view, network, port)
    taken: dict[tuple[int, int], set[int]] = {}
    for forwarding, external in view.forwarded(port):
        floating_ip = view.forwarded_by(forwarding)
        if floating_ip is None or not network.translated:
            continue
        fixed_ip = int(forwarding.fixed_ip)
        known = taken.setdefault((forwarding.protocol, fixed_ip), set())
        count = forwarding.last - forwarding.first + 1
        free = [offset for offset in range(count) if forwarding.to + offset not in known]
        known.update(forwarding.to + offset for offset in free)
        address = int(floating_ip.address)
        for inside, nat in _translations(forwarding, address, free):
            protocol: _Match = {"eth_type": ETH_IP, "ip_proto": forwarding.protocol}
            from_port = {**protocol, "reg6": port.key, "ip_src": fixed_ip, _field(forwarding, "src"): inside}
            if external.mtu != view.outside_mtu(network, port, forwarding.fixed_ip):
                answer: _Match = {"ip_proto": forwarding.protocol, _field(forwarding, "src"): inside}
                yield own(network, port, forwarding.fixed_ip, external.mtu, Priority.FORWARDING, answer)
            if network.gateway_mode is GatewayMode.EXTERNAL:
                lifted = matching(**from_port)
                yield flow(Rule.LIFT_FLOATING, Priority.HIGH, lifted, *LIFT, key=port.key)
            yield flow(
                Rule.FORWARDING_OUT,
                Priority.FORWARDING,
                matching(metadata=network.key, **from_port),
                SetField(Reg.NETWORK, external.key),
                Ct(Table.EXTERNAL_OUT, _zone(view, port), commit=True, nat=nat),
                key=port.key,
            )


def _errors_out(view: View, network: Network, port: Port) -> Iterator[Flow]:
    """What a VM says about a connection to a forwarded port: it leaves by the external network of its new source."""
    if not network.routed:  # what it says to others is for the operator's router
        return
    externals: dict[int, Network] = {}
    for forwarding in view.forwardings(port):
        floating_ip = view.forwarded_by(forwarding)
        external = None if floating_ip is None else view.external_of(floating_ip)
        if external is not None and not view.floating_ips(port, forwarding.fixed_ip):
            externals.setdefault(int(forwarding.fixed_ip), external)
    for fixed_ip, external in externals.items():
        for icmp_type in _ERRORS:
            error = {"eth_type": ETH_IP, "ip_proto": PROTO_ICMP, "icmp_type": icmp_type, "ip_src": fixed_ip}
            yield flow(
                Rule.FORWARDING_OUT,
                Priority.FORWARDING,
                matching(metadata=network.key, reg6=port.key, **error),
                SetField(Reg.NETWORK, external.key),
                # as in `_portless`
                Ct(Table.EXTERNAL_OUT, _zone(view, port), commit=True, translate=True),
                key=port.key,
            )


def _translations(
    forwarding: PortForwarding, address: int, free: list[int]
) -> Iterator[tuple[int | tuple[int, int], Nat]]:
    if forwarding.first != forwarding.to:
        for offset in free:
            outside = forwarding.first + offset
            yield forwarding.to + offset, Nat(address, (outside, outside))
        return
    start = 0
    while start < len(free):
        end = start
        while end + 1 < len(free) and free[end + 1] == free[end] + 1:
            end += 1
        for ports in port_matches(forwarding.to + free[start], forwarding.to + free[end]):
            yield ports, Nat(address)
        start = end + 1
