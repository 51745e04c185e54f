"""What is no table's decision: ports on no node, nodes that do not answer, addresses that are nobody's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

from flows.explain.conditions import Conditions
from flows.explain.following import MOST_STEPS, Follower
from flows.explain.naming import Names, port_range
from flows.explain.request import Request, Start, Way, external_of, protocol_of
from flows.explain.target import Target, What, in_subnet, subnets_of
from flows.explain.trace import Finding, Severity
from flows.model import FloatingIp, GatewayMode, Migration, MigrationPhase, Network, Port, StaticRoute
from flows.protocols import PROTO_ICMP, PROTO_ICMPV6, PROTO_UDP
from flows.rules import Rule
from flows.snapshot import Snapshot

_ETHERNET_HEADER = 14  # bytes
_OF_GATEWAYS = frozenset({PROTO_ICMP, PROTO_ICMPV6, PROTO_UDP})


def _error(text: str) -> Finding:
    return Finding(Severity.ERROR, text)


def _warning(text: str) -> Finding:
    return Finding(Severity.WARNING, text)


def _note(text: str) -> Finding:
    return Finding(Severity.NOTE, text)


def worst_first(found: Iterable[Finding]) -> tuple[Finding, ...]:
    """Each once."""
    order = list(Severity)
    return tuple(sorted(dict.fromkeys(found), key=lambda one: order.index(one.severity)))


@dataclass(frozen=True, slots=True)
class Scene:
    """All that findings are made of."""

    snapshot: Snapshot
    names: Names
    conditions: Conditions
    request: Request

    def findings(self, start: Start | None, follower: Follower | None) -> Iterator[Finding]:
        """What the caller may not know is not said."""
        yield from self._of_sender(start)
        yield from self._of_target(start)
        if follower is not None:
            yield from self._of_nodes(follower)
            yield from self._of_flows(follower)

    # the sender

    def _of_sender(self, start: Start | None) -> Iterator[Finding]:
        port, request = self.request.port, self.request
        if port is None:
            if start is None and request.from_address is not None:
                yield from self._not_from_outside()
            return
        network, named = self.snapshot.networks[port.network_id], self.names.port(port)
        yield from self.of_port(port)
        if start is None and port.binding is not None:
            kind = f"IPv{request.target.address.version}"
            yield _error(f"{named} has no {kind} address, and {request.target.address} is one")
        own = [str(cidr) for cidr in port.member_addresses]
        source = request.from_address
        may = [*port.member_addresses, *(route.destination for route in self._routed_to(network, port))]
        if source is not None and port.port_security and not any(source in cidr for cidr in may):
            shown = ", ".join(text.removesuffix("/32").removesuffix("/128") for text in own) or "none"
            yield _error(f"{source} is not an address of {named} (it has {shown}): port security drops it")
        if request.from_mac is not None and port.port_security and request.from_mac not in port.macs:
            yield _error(f"{request.from_mac} is not a MAC of {named} (it has {', '.join(sorted(port.macs))})")
        if not port.port_security:
            yield _note(f"{named} has no port security: its VM may send from any address")
        if request.size > network.mtu + _ETHERNET_HEADER:
            yield _warning(
                f"a frame of {request.size} bytes is larger than {self.names.network(network)} takes "
                f"(MTU {network.mtu}, so {network.mtu + _ETHERNET_HEADER} bytes): "
                "the VM's own kernel cuts it, or tells who sends it"
            )
        if start is not None:
            yield from self._of_way(start, network)

    @staticmethod
    def _routed_to(network: Network, port: Port) -> list[StaticRoute]:
        own = {one.address for one in port.own}
        return [route for route in network.routes if route.next_hop in own]

    def _of_way(self, start: Start, network: Network) -> Iterator[Finding]:
        name, address = self.names.network(network), self.request.target.address
        mode = network.gateway_mode
        gateways = [subnet.gateway for subnet in subnets_of(network) if subnet.gateway]
        match start.way:
            case Way.NO_GATEWAY if mode is GatewayMode.NONE:
                yield _error(f"{name} has gateway mode none: its VMs know no gateway, and {address} is behind one")
            case Way.NO_GATEWAY:
                yield _error(f"{name} has gateway mode {mode.value}, but no gateway: VMs know no way to {address}")
            case Way.ROUTER if not network.external:
                by = ", ".join(map(str, gateways))
                yield _warning(
                    f"{name} has gateway mode {mode.value}: what is for other networks goes to {by or 'a router'} "
                    "on the wire, a router of yours, and what becomes of it there the cloud does not know"
                )
        if network.single and start.way is Way.GATEWAY:
            yield from self._of_gateway_node(network)

    def _of_gateway_node(self, network: Network) -> Iterator[Finding]:
        if self.request.target.what not in (What.OUTSIDE, What.ELSEWHERE):
            return
        name = self.names.network(network)
        if network.gateway_node is None:
            yield _error(f"{name} has gateway mode single, and no gateway node has been chosen")
        elif self.conditions.node(network.gateway_node).state != "live":
            yield _error(f"the gateway node {self.names.node(network.gateway_node)} of {name} is not connected")

    def _not_from_outside(self) -> Iterator[Finding]:
        target = self.request.target
        if target.what in (What.PORT, What.ELSEWHERE) and target.port is not None and target.floating_ip is None:
            if isinstance(target.address, IPv4Address):
                yield _error(f"{target.address} is an address of the inside: from outside a floating IP leads to it")
        elif target.what in (What.OUTSIDE, What.UNKNOWN):
            yield _error(f"{target.address} is no floating IP, SNAT address or IPv6 subnet of this cloud")
        if external_of(self.snapshot, target) is None:
            yield _error("no external network leads there")

    # the target

    def _of_target(self, start: Start | None) -> Iterator[Finding]:
        target = self.request.target
        if target.port is not None and target.what is not What.ELSEWHERE and self.names.sees_port(target.port):
            yield from self.of_port(target.port)
        match target.what:
            case What.FLOATING_IP:
                assert target.floating_ip is not None
                yield from self._of_floating_ip(target.floating_ip, target)
            case What.UNKNOWN:
                where = (
                    "" if target.network is None else f" is in a subnet of {self.names.network(target.network)}, but"
                )
                yield _error(f"{target.address}{where} is no address of any port, gateway or node")
                yield from self._of_pairs(target)
            case What.ELSEWHERE:
                yield from self._of_elsewhere(target)
            case What.ROUTED:
                yield from self._of_route(target)
            case What.GATEWAY if start is not None and protocol_of(self.request) not in _OF_GATEWAYS:
                yield _note(f"{target.address} is a gateway: it answers ping, DHCP and DNS")

    def _of_pairs(self, target: Target) -> Iterator[Finding]:
        """Who may hold an address beside its own, and has not said that it does."""
        place = ("" if target.network is None else target.network.id, int(target.address))
        may = [self.snapshot.ports[id_] for id_ in self.snapshot.ports_by_pair.get(place, ())]
        seen = sorted((port for port in may if self.names.sees_port(port)), key=lambda port: port.key)
        if seen:
            called = ", ".join(map(self.names.port, seen))
            yield _warning(f"{called} may hold {target.address} (address pairs), and none has said that it does")

    def _of_floating_ip(self, floating_ip: FloatingIp, target: Target) -> Iterator[Finding]:
        name = self.names.floating_ip(floating_ip)
        if not self.names.sees_floating_ip(floating_ip):
            return
        if floating_ip.port_forwardings and target.forwarding is None:
            forwarded = ", ".join(port_range(each.first, each.last) for each in floating_ip.port_forwardings)
            yield _error(f"{name} forwards ports ({forwarded}), and none of its forwardings is about this one")
        elif floating_ip.port_id is None and not floating_ip.port_forwardings:
            yield _error(f"{name} is not associated with any port, so no node answers for it")
        node = self.snapshot.floating_ip_node(floating_ip)
        if node is None:
            if floating_ip.port_ids:
                yield _error(f"no node answers for {name}: its port is on none")
            return
        yield _note(f"{name} is answered for by {self.names.node(node)}, where its port is")
        network = self.snapshot.networks.get(floating_ip.network_id)
        if network is not None and self.snapshot.nodes[node].uplink(network.physical_network) is None:
            yield _error(
                f"{self.names.node(node)} has no uplink to {self.names.wire(network.physical_network)}, the physical "
                f"network of {self.names.network(network)}: {name} cannot be reached"
            )
        elif not self.conditions.floating_ip(floating_ip):
            yield _warning(f"{self.names.node(node)} has not confirmed yet that it answers for {name}")

    def _of_elsewhere(self, target: Target) -> Iterator[Finding]:
        assert target.network is not None and target.port is not None
        own = self.request.port
        mine = None if own is None else self.snapshot.networks[own.network_id]
        theirs = self.names.network(target.network)
        if mine is None:
            yield _error(f"{target.address} is an address of the inside: from outside a floating IP leads to it")
        elif mine.gateway_mode is GatewayMode.EXTERNAL:
            return  # whether they are joined is up to that router
        elif mine.router_key == target.network.router_key:
            unrouted = target.network if mine.routed else mine
            yield _error(
                f"{theirs} and {self.names.network(mine)} have one router, but the nodes do not route "
                f"{self.names.network(unrouted)}: its gateway mode is {unrouted.gateway_mode.value}"
            )
        else:
            yield _error(
                f"{theirs}, where {target.address} is, and {self.names.network(mine)} have no router in common"
            )
        for floating_ip in self.snapshot.floating_ips_of(target.port.id):
            if floating_ip.port_id == target.port.id:
                yield _note(
                    f"{self.names.port(target.port)} can be reached by its {self.names.floating_ip(floating_ip)}"
                )

    def _of_route(self, target: Target) -> Iterator[Finding]:
        route, network = target.route, target.network
        assert route is not None and network is not None
        said = f"the static route of {self.names.network(network)} to {route.destination} leads to {route.next_hop}"
        if target.port is None:
            yield _error(f"{said}, which no port has: nothing goes there")
        elif target.port.binding is None:
            yield _error(f"{said}, and {self.names.port(target.port)}, which has it, is on no node")
        else:
            yield _note(f"{said} ({self.names.port(target.port)}): what is behind that the cloud does not know")

    # both ends

    def of_port(self, port: Port) -> Iterator[Finding]:
        """What is wrong with a port that the caller may know."""
        name, network = self.names.port(port), self.snapshot.networks[port.network_id]
        condition = self.conditions.port(port)
        if port.binding is None:
            planned = "" if port.node is None else f" (it is to be on {port.node})"
            why = f": {condition.binding_error}" if condition.binding_error else ""
            yield _error(f"{name} is on no node{planned}: no interface with the iface-id {port.id} is there{why}")
        elif self.snapshot.nodes[port.binding.node].uplink(network.physical_network) is None:
            yield _warning(
                f"{self.names.node(port.binding.node)}, where {name} is, has no uplink to "
                f"{self.names.wire(network.physical_network)}: it reaches nobody on other nodes by "
                f"{self.names.network(network)}"
            )
        for rule, seconds in condition.muted.items():
            yield _warning(f"{name} has flooded the controller: for {seconds} seconds more no {rule} of it is heard")
        if not network.dhcp:
            yield _note(f"{self.names.network(network)} has DHCP off: nobody tells the VM of {name} its address")
        elif condition.leased is False and port.fixed_ips and not network.external:
            yield _warning(f"the VM of {name} has never been given its address by DHCP: has it booted?")
        if port.migration is not None:
            yield _note(self._moving(name, port.migration, port))
        for group_id in port.security_groups or ():
            if group_id not in self.snapshot.security_groups:
                yield _error(f"security group {group_id} of {name} cannot be read: it allows nothing (see quarantine)")
        if port.security_groups == ():
            yield _warning(f"{name} is in no security group: nothing may come in or go out")

    def _moving(self, name: str, migration: Migration, port: Port) -> str:
        other = self.names.node(migration.other.node)
        if migration.phase is MigrationPhase.PREPARED:
            return f"{name} is expected on {other}: its VM moves there"
        assert port.binding is not None
        return f"{name} has just moved from {other} to {self.names.node(port.binding.node)}"

    # the nodes on the way

    def _of_nodes(self, follower: Follower) -> Iterator[Finding]:
        keys = {(step.rule.name.lower(), step.key) for passed in follower.passed for step in passed.result.steps
                if step.rule is not None}  # fmt: skip
        ends = [port for port in (self.request.port, self.request.target.port) if port is not None]
        on_way = [passed.node for passed in follower.passed]
        on_way += [port.binding.node for port in ends if port.binding is not None]
        for node in dict.fromkeys(on_way):
            yield from self._of_node(node, keys)
        if follower.circles:
            yield _error("the packet goes in circles")
        for passed in follower.passed:
            if len(passed.result.steps) > MOST_STEPS:
                many = len(passed.result.steps) - MOST_STEPS
                yield _note(f"{many} more lookups on {self.names.node(passed.node)}, of one port after the other")
        if follower.more:
            yield _note(f"{follower.more} more nodes have ports of the network and hear it, too")

    def _of_node(self, node: str, keys: Iterable[tuple[str, int]]) -> Iterator[Finding]:
        condition, name = self.conditions.node(node), self.names.node(node)
        if condition.state == "disconnected":
            yield _warning(
                f"{name} is not connected to the controller: it does what it last heard, and that may not be this"
            )
        elif condition.state != "live":
            yield _warning(f"{name} is {condition.state}: it may not hold all of these flows yet")
        if condition.unconfirmed_since is not None:
            since = condition.unconfirmed_since
            yield _warning(f"{name} has not confirmed what has changed since revision {since}: these flows are to come")
        met = [f"{rule} {key}" for rule, key in condition.refused if (rule, key) in keys]
        if met:
            yield _error(f"the switch of {name} has refused flows that are on the way here: {', '.join(met)}")
        elif condition.refused and self.names.operator:
            yield _note(
                f"the switch of {name} has refused {len(condition.refused)} flows, none of them on the way here"
            )
        for why in condition.not_compiled:
            if self._concerned(why):
                yield _error(f"flows of {name} could not be computed, and are missing: {why}")

    def _concerned(self, why: str) -> bool:
        ends = [port for port in (self.request.port, self.request.target.port) if port is not None]
        seen = [port for port in ends if self.names.sees_port(port)]
        ids = {id_ for port in seen for id_ in (port.id, port.network_id, *(port.security_groups or ()))}
        ids |= {one.id for one in (self.request.target.floating_ip,) if one is not None}
        return any(id_ in why for id_ in ids)

    # what tables have decided, and who is behind that

    def _of_flows(self, follower: Follower) -> Iterator[Finding]:
        for passed in follower.passed:
            for step in passed.result.steps:
                network = self.names.find("network", step.key) if step.rule and step.rule.about == "network" else None
                match step.rule:
                    case Rule.DROP_NO_NAT | Rule.DROP_NO_SNAT:
                        yield from self._no_snat(passed.node)
                    case Rule.PUNT_UNRESOLVED | Rule.PUNT_UNRESOLVED_IPV6 if isinstance(network, Network):
                        hops = [str(one.gateway) for one in subnets_of(network) if one.gateway]
                        yield _error(
                            f"{self.names.node(passed.node)} does not know the MAC of "
                            f"{', '.join(hops) or 'any router'} on {self.names.network(network)}: "
                            "the router does not answer it"
                        )
                    case Rule.DROP_NO_ROUTE:
                        yield from self._no_route(passed.node)

    def _no_snat(self, node: str) -> Iterator[Finding]:
        port = self.request.port
        network = None if port is None else self.snapshot.networks[port.network_id]
        external = None if network is None else self.snapshot.external_network(network)
        if network is not None and external is not None:
            yield _error(
                f"{self.names.node(node)} has no SNAT address on {self.names.network(external)} for "
                f"{self.names.network(network)}"
            )

    def _no_route(self, node: str) -> Iterator[Finding]:
        port = self.request.port
        if port is None or self.request.target.what not in (What.OUTSIDE, What.ELSEWHERE, What.FLOATING_IP, What.NODE):
            return
        network = self.snapshot.networks[port.network_id]
        external = self.snapshot.external_network(network)
        if external is None:
            yield _error(f"there is no external network, so {self.names.network(network)} has no way out")
        elif self.snapshot.nodes[node].uplink(external.physical_network) is None:
            yield _error(
                f"{self.names.node(node)} has no uplink to {self.names.wire(external.physical_network)}, the physical "
                f"network of {self.names.network(external)}: no way out from there"
            )
        elif self.request.target.address.version == 6 and not in_subnet(network, self.request.target.address):
            yield _error(f"{self.names.network(external)} has no IPv6 subnet, so IPv6 has no way out")
