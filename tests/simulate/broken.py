"""Clouds that something is wrong with, what is asked of each, and what the answer must say. docs/troubleshooting.md has
the same causes in a table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, ip_address
from typing import Any

from flows.compile import Program, compile_node
from flows.explain.conditions import FINE, Conditions, NodeCondition, PortCondition
from flows.explain.explain import Explainer
from flows.explain.naming import Names
from flows.explain.request import Request
from flows.explain.target import aim
from flows.explain.trace import Trace, Verdict
from flows.ir import Flow
from flows.model import (
    AddressPair,
    Binding,
    Change,
    Direction,
    FloatingIp,
    FloatingIpChange,
    GatewayMode,
    Migration,
    MigrationPhase,
    Network,
    NetworkChange,
    NodeChange,
    Port,
    PortChange,
    PortForwarding,
    ProviderRule,
    ProviderRuleChange,
    Service,
    StaticRoute,
)
from flows.segments import Kind
from flows.snapshot import Snapshot
from tests.ipv6_world import ipv6_cloud, ipv6_rule
from tests.world import EXTERNAL, OPEN, cloud, egress, filtered, floating_ip, node, rule, security_group

TCP, UDP, ICMPV6 = 6, 17, 58
WEB: Mapping[str, Any] = {"protocol": TCP, "destination_port": 80}
DHCP: Mapping[str, Any] = {"protocol": UDP, "destination_port": 67}
SERVER, OUTSIDE = "198.51.100.7", "198.51.100.9"
BLUE_2, BLUE2_2, FLAT_2 = "10.20.0.11", "10.21.0.11", "10.10.0.11"


@dataclass(frozen=True)
class How:
    """How nodes and ports are, where not all is well."""

    nodes: Mapping[str, NodeCondition] = field(default_factory=dict)
    ports: Mapping[str, PortCondition] = field(default_factory=dict)

    def node(self, name: str) -> NodeCondition:
        return self.nodes.get(name, NodeCondition())

    def port(self, port: Port) -> PortCondition:
        return self.ports.get(port.id, PortCondition())

    def floating_ip(self, floating_ip: FloatingIp) -> bool:
        return True


@dataclass(frozen=True)
class Broken:
    """`sender`: the key of a port, or an address outside. `rule` and `thing` (kind and name): what decides, on `node`.
    `words`: what must be said, in the summary or in the findings.
    """

    cause: str
    snapshot: Callable[[], Snapshot]
    sender: int | str
    to: str
    verdict: Verdict
    rule: str | None = None
    node: str | None = None
    thing: tuple[str, str] | None = None
    words: tuple[str, ...] = ()
    ask: Mapping[str, Any] = field(default_factory=dict)
    how: Conditions = FINE
    without: Kind | None = None  # the segment of the target's port is missing


def explained(it: Broken, project: str | None = None) -> Trace:
    snapshot = it.snapshot()
    names = Names(snapshot, project)
    from_address = it.ask.get("from_address")
    ask = dict(it.ask) | ({} if from_address is None else {"from_address": IPv4Address(from_address)})
    sender = None
    if isinstance(it.sender, int):
        sender = snapshot.ports[f"port-{it.sender}"]
    else:
        ask["from_address"] = IPv4Address(it.sender)
    network = None if sender is None else snapshot.networks[sender.network_id]
    target = aim(snapshot, network, ip_address(it.to), ask.get("protocol", 0), ask.get("destination_port") or 0)
    flows_of = (
        None if it.without is None else flows_without(snapshot, (it.without, target.port.id if target.port else ""))
    )
    return Explainer(snapshot, names, it.how, flows_of).explain(Request(sender, target, **ask))


def flows_without(snapshot: Snapshot, key: tuple[Kind, str]) -> Callable[[str], Iterable[Flow]]:
    def flows_of(name: str) -> Iterable[Flow]:
        program = compile_node(snapshot, name)
        return Program({at: segment for at, segment in program.segments.items() if at != key}).flows()

    return flows_of


def but(snapshot: Snapshot, *changes: Change) -> Snapshot:
    return snapshot.apply(snapshot.revision + 1, changes)


def open_cloud() -> Snapshot:
    """All may do everything."""
    return filtered(cloud(), OPEN)


def with_port(snapshot: Snapshot, key: int, **fields: Any) -> Snapshot:
    port = snapshot.ports[f"port-{key}"]
    return but(snapshot, PortChange(port.id, replace(port, **fields)))


def with_network(snapshot: Snapshot, name: str, **fields: Any) -> Snapshot:
    network = snapshot.networks[f"net-{name}"]
    return but(snapshot, NetworkChange(network.id, replace(network, **fields)))


def with_node(snapshot: Snapshot, name: str, **fields: Any) -> Snapshot:
    return but(snapshot, NodeChange(name, replace(snapshot.nodes[name], **fields)))


def gateway(network: Network, mode: GatewayMode, address: str | None) -> Mapping[str, Any]:
    subnet = replace(network.subnets[0], gateway=None if address is None else IPv4Address(address))
    return {"gateway_mode": mode, "subnets": (subnet,)}


def grouped(*rules: Any) -> Callable[[], Snapshot]:
    """Everything out of all ports, and into them what these rules say."""
    return lambda: filtered(cloud(), security_group(1, egress(1), *rules))


def unlike(of: tuple[int, ...], *rules: Any) -> Callable[[], Snapshot]:
    """The ports with these keys have a group of their own, with these rules; the others may do everything."""

    def made() -> Snapshot:
        return filtered(open_cloud(), security_group(2, *rules), members=of)

    return made


def ipv6_unlike_ipv4() -> Snapshot:
    """The sender may do everything, the receiver lets in by IPv4 alone."""
    both = security_group(2, egress(3), ipv6_rule(5, direction=Direction.EGRESS))
    snapshot = filtered(ipv6_cloud(open_cloud()), both, members=(20,))
    return filtered(snapshot, security_group(3, egress(6), rule(7, TCP, 80)), members=(31,))


def without_external() -> Snapshot:
    return but(open_cloud(), NetworkChange(EXTERNAL, None))


def floating(port: int | None = None, *, bound: bool = True) -> Snapshot:
    snapshot = open_cloud()
    owner = None if port is None else snapshot.ports[f"port-{port}"]
    snapshot = but(snapshot, FloatingIpChange("floating-1", floating_ip(1, owner)))
    return snapshot if bound or port is None else with_port(snapshot, port, binding=None)


def floating_to_filtered() -> Snapshot:
    snapshot = floating(21)
    inside = security_group(2, egress(3), rule(4, TCP, 80, remote="10.0.0.0/8"))
    return filtered(snapshot, inside, members=(21,))


def forwarded() -> Snapshot:
    snapshot = open_cloud()
    port = snapshot.ports["port-21"]
    forwarding = PortForwarding("forwarding-1", 1, TCP, 80, 80, port.id, port.fixed_ips[0].address, 8080)
    return but(snapshot, FloatingIpChange("f", replace(floating_ip(1), id="f", port_forwardings=(forwarding,))))


def routed_to(hop: str, *, bound: bool = True) -> Snapshot:
    routes = (StaticRoute(IPv4Network("10.60.0.0/16"), IPv4Address(hop)),)
    snapshot = with_network(open_cloud(), "blue", routes=routes)
    return snapshot if bound else with_port(snapshot, 21, binding=None)


def in_mode(mode: GatewayMode, gateway_address: str | None, name: str = "blue", **more: Any) -> Callable[[], Snapshot]:
    def made() -> Snapshot:
        snapshot = open_cloud()
        return with_network(snapshot, name, **gateway(snapshot.networks[f"net-{name}"], mode, gateway_address), **more)

    return made


def single_without_node() -> Snapshot:
    return in_mode(GatewayMode.SINGLE, "10.20.0.1", gateway_node="n3")()


def two_projects() -> Snapshot:
    """Ports of two projects on the shared network; what begins there is let in by rules alone."""
    snapshot = with_network(open_cloud(), "flat", allow_same_net_traffic=False)
    snapshot = with_port(with_port(snapshot, 10, project_id="blue"), 11, project_id="red", name="secret", hostname="")
    closed = replace(security_group(2, egress(3), rule(4, TCP, 22)), project_id="red", name="hidden")
    return filtered(snapshot, closed, members=(11,))


def large_outside() -> Snapshot:
    return with_network(open_cloud(), "external", mtu=1400)


def virtual() -> Snapshot:
    """Another port may use the address, this one not."""
    pair = AddressPair(IPv4Network("10.20.0.200/32"), "fa:16:3e:00:00:15")
    return with_port(open_cloud(), 21, address_pairs=(pair,))


def provider(direction: Direction | None) -> Snapshot:
    listed = ProviderRule("dropped", 7, IPv4Network("198.51.100.0/24"), Service(TCP, 80, 80), direction)
    return but(open_cloud(), ProviderRuleChange("dropped", listed))


def moving() -> Snapshot:
    """A VM on its way from n2 to n3."""
    return with_port(floating(21), 21, migration=Migration(MigrationPhase.PREPARED, Binding("n3", 121, 21)))


def moved_to_unknown_uplink() -> Snapshot:
    return with_node(open_cloud(), "n1", uplinks=node("n1").uplinks[1:])


D, L, C = Verdict.DROPPED, Verdict.LOST, Verdict.CONTROLLER
LEFT, THERE = Verdict.LEFT, Verdict.DELIVERED
VM20, VM31 = ("port", "vm20"), ("port", "vm31")

BROKEN: tuple[Broken, ...] = (
    # security groups
    Broken("no rule lets it in", grouped(rule(2, TCP, 22)), 20, BLUE2_2, D, "drop_ingress", "n2", VM31,
           ("vm31", "group 1", "do not let in tcp port 80 from 10.20.0.10"), WEB),
    Broken("the rule is for the wrong direction", grouped(rule(2, TCP, 22), egress(3, TCP, 80)), 20, BLUE2_2, D,
           "drop_ingress", "n2", VM31, ("vm31", "the other direction (egress, not ingress)"), WEB),
    Broken("the rule is for another port", grouped(rule(2, TCP, 443)), 20, BLUE2_2, D, "drop_ingress", "n2", VM31,
           ("lets in tcp 443 from anybody", "another port"), WEB),
    Broken("the rule is for another source", grouped(rule(2, TCP, 80, remote="10.9.0.0/16")), 20, BLUE2_2, D,
           "drop_ingress", "n2", VM31, ("from 10.9.0.0/16", "10.20.0.10 is not among these"), WEB),
    Broken("the rule is for members of a group, and the sender is none",
           unlike((31,), egress(3), rule(4, TCP, 80, remote="group-2")), 20, BLUE2_2, D, "drop_ingress", "n2", VM31,
           ("members of group group 2", "10.20.0.10 is not among these"), WEB),
    Broken("the rule is for IPv4, and the packet is IPv6", ipv6_unlike_ipv4, 20, "2001:db8:21:0:f816:3eff:fe00:1f", D,
           "drop_ingress", "n2", VM31, ("vm31", "lets in tcp 80 from anybody", "but for IPv4 only"), WEB),
    Broken("a security group cannot be read", lambda: with_port(open_cloud(), 31, security_groups=("gone",)), 20,
           BLUE2_2, D, "drop_ingress", "n2", VM31, ("security group gone of port vm31 cannot be read",), WEB),
    Broken("the sender may not send it", unlike((20,), egress(3, TCP, 443), rule(4)), 20, BLUE2_2, D, "drop_egress",
           "n1", VM20, ("vm20", "do not let out tcp port 80 to 10.21.0.11", "lets out tcp 443"), WEB),
    Broken("the port is in no security group", lambda: with_port(open_cloud(), 20, security_groups=()), 20, BLUE2_2, D,
           "drop_egress", "n1", VM20, ("vm20 is in no security group",), WEB),
    Broken("the operator's drop list", lambda: provider(None), 20, SERVER, D, "drop_provider_egress", "n1",
           ("provider_rule", "tcp 80 198.51.100.0/24 both ways"), ("drop list", "198.51.100.0/24"), WEB),
    Broken("a shared network, and the other project lets nobody in", two_projects, 10, FLAT_2, D, "drop_ingress", "n2",
           ("port", "secret"), ("secret", "hidden"), WEB),
    # who sends
    Broken("a spoofed address", open_cloud, 20, BLUE2_2, D, "drop_spoofed", "n1", VM20,
           ("10.20.0.66 is not an address of port vm20",), {"from_address": "10.20.0.66"}),
    Broken("a spoofed MAC", open_cloud, 20, BLUE2_2, D, "drop_spoofed", "n1", VM20,
           ("source MAC 02:00:00:00:00:99 is not that of port vm20",), {"from_mac": "02:00:00:00:00:99"}),
    Broken("an address pair is missing", virtual, 20, BLUE2_2, D, "drop_spoofed", "n1", VM20,
           ("source address 10.20.0.200 is not one of port vm20",), {"from_address": "10.20.0.200"}),
    Broken("a VM that answers as a DHCP server", open_cloud, 20, BLUE_2, D, "drop_dhcp_server", "n1", None,
           ("DHCP server",), {"protocol": UDP, "source_port": 67, "destination_port": 68}),
    Broken("a VM that says it is an IPv6 router", lambda: ipv6_cloud(), 20, "ff02::1", D, "drop_router_advertisement",
           "n1", ("network", "blue"), ("a VM of network blue must not say that it is a router",),
           {"protocol": ICMPV6, "icmp_type": 134}),
    Broken("a port without an IPv6 address", open_cloud, 20, "2001:db8::7", L, None, None, None,
           ("port vm20 has no IPv6 address",)),
    # routing
    Broken("no way out: no external network", without_external, 20, SERVER, D, "drop_no_route", "n1", None,
           ("n1 has no route", "no external network")),
    Broken("no way out: the node has no uplink to it",
           lambda: with_node(open_cloud(), "n1", uplinks=node("n1").uplinks[:1]), 20, SERVER, D, "drop_no_route",
           "n1", None, ("n1 has no uplink to physnet-ext", "network external")),
    Broken("no way out: the node has no SNAT address", lambda: with_node(open_cloud(), "n1", snat_addresses=()), 20,
           SERVER, D, "drop_no_nat", "n1", None, ("n1 has no SNAT address on network external for network blue",)),
    Broken("the next hop outside is silent", lambda: with_node(open_cloud(), "n1", neighbours=()), 20, SERVER, C,
           "punt_unresolved", "n1", ("network", "external"), ("n1 does not know the MAC of 203.0.113.1",)),
    Broken("networks without a common router", open_cloud, 20, FLAT_2, LEFT, None, "n1", None,
           ("network flat, where 10.10.0.11 is, and network blue have no router in common",)),
    Broken("gateway mode none", in_mode(GatewayMode.NONE, None), 20, BLUE2_2, D, "drop_no_route", "n1", None,
           ("network blue has gateway mode none",)),
    Broken("gateway mode external: a router of yours", in_mode(GatewayMode.EXTERNAL, "10.20.0.1"), 20, BLUE2_2, LEFT,
           "output_uplink", "n1", ("network", "blue"), ("gateway mode external", "goes to 10.20.0.1 on the wire")),
    Broken("the target's network is not routed by the nodes", in_mode(GatewayMode.NONE, None, "blue2"), 20, BLUE2_2,
           LEFT, None, "n1", None, ("do not route network blue2", "gateway mode is none")),
    Broken("the gateway node is away", single_without_node, 20, SERVER, LEFT, "to_gateway_node", "n1",
           ("network", "blue"), ("the gateway node n3 of network blue is not connected",),
           how=How({"n3": NodeCondition("disconnected")})),
    Broken("a static route to an address that no port has", lambda: routed_to("10.20.0.77"), 20, "10.60.0.1", LEFT,
           "route_default", "n1", ("network", "blue"), ("leads to 10.20.0.77, which no port has",)),
    Broken("a static route to a port that is on no node", lambda: routed_to(BLUE_2, bound=False), 20, "10.60.0.1", L,
           "route_static", "n1", ("network", "blue"), ("leads to 10.20.0.11", "port vm21", "is on no node")),
    Broken("nobody has the address", open_cloud, 20, "10.20.0.99", L, "arp_switched", "n1", None,
           ("10.20.0.99 is in a subnet of network blue, but is no address of any port",)),
    Broken("a virtual address that nobody holds", virtual, 20, "10.20.0.200", L, "arp_switched", "n1", None,
           ("port vm21 may hold 10.20.0.200", "none has said that it does")),
    Broken("the node has no uplink to the network", moved_to_unknown_uplink, 20, BLUE_2, D, "drop_no_uplink", "n1",
           None, ("n1 has no uplink", "physnet1")),
    Broken("the TTL is used up", open_cloud, 20, BLUE2_2, C, "punt_ttl_expired", "n1", ("network", "blue"),
           ("TTL is used up",), {"ttl": 1}),
    Broken("larger than the outside takes", large_outside, 20, SERVER, C, "punt_too_large", "n1", ("network", "blue"),
           ("larger than the external network of network blue takes",), {"size": 1500}),
    Broken("larger than the sender's own network takes", open_cloud, 20, BLUE_2, THERE, None, "n2", None,
           ("2000 bytes is larger than network blue takes (MTU 1500",), {"size": 2000}),
    # what the node itself answers
    Broken("the gateway offers no such service", open_cloud, 20, "10.20.0.1", D, "drop_gateway", "n1",
           ("network", "blue"), ("the gateway of network blue answers ping, DHCP and DNS",),
           {"protocol": TCP, "destination_port": 22}),
    Broken("the metadata service on another port", open_cloud, 20, "169.254.169.254", D, "drop_metadata", "n1", None,
           ("HTTP on port 80",), {"protocol": TCP, "destination_port": 443}),
    Broken("DHCP is off", lambda: with_network(open_cloud(), "blue", dhcp=False), 20, "255.255.255.255", THERE,
           "l2_flood", "n1", ("network", "blue"), ("network blue has DHCP off",), DHCP),
    Broken("the port is muted", open_cloud, 20, "255.255.255.255", D, "drop_flood_dhcp", "n1", VM20,
           ("vm20 has flooded the controller", "40 seconds"), DHCP,
           How(ports={"port-20": PortCondition(muted={"punt_dhcp": 40})})),
    Broken("the VM has never asked for its address", open_cloud, 20, BLUE_2, THERE, None, "n2", None,
           ("the VM of port vm21 has never been given its address by DHCP",), {},
           How(ports={"port-21": PortCondition(leased=False)})),
    # floating IPs
    Broken("the floating IP is not associated", floating, OUTSIDE, "203.0.113.101", L, None, None, None,
           ("floating IP 203.0.113.101 is not associated",)),
    Broken("the floating IP's port is on no node", lambda: floating(21, bound=False), OUTSIDE, "203.0.113.101", L, None,
           None, None, ("no node answers for floating IP 203.0.113.101", "vm21 is on no node")),
    Broken("the floating IP is on a node without an uplink to its network",
           lambda: with_node(floating(21), "n2", uplinks=node("n2").uplinks[:1]), OUTSIDE, "203.0.113.101", L, None,
           None, None, ("n2 has no uplink to physnet-ext", "203.0.113.101 cannot be reached")),
    Broken("the port of the floating IP lets nobody outside in", floating_to_filtered, OUTSIDE, "203.0.113.101", D,
           "drop_ingress", "n2", ("port", "vm21"), ("vm21", "from 10.0.0.0/8", "198.51.100.9 is not among these"), WEB),
    Broken("a port that is not forwarded", forwarded, OUTSIDE, "203.0.113.101", D, "drop_external", "n2", None,
           ("floating IP 203.0.113.101 forwards ports (80)", "none of its forwardings"),
           {"protocol": TCP, "destination_port": 443}),
    Broken("no floating IP: the SNAT address lets nobody in", open_cloud, OUTSIDE, "203.0.113.11", D,
           "drop_unsolicited", "n1", None, ("only floating IPs and forwarded ports let others in",), WEB),
    Broken("an inside address, from outside", open_cloud, OUTSIDE, BLUE_2, D, "drop_external", "n2", None,
           ("10.20.0.11 is an address of the inside",)),
    # ports and nodes
    Broken("the target is on no node", lambda: with_port(open_cloud(), 31, binding=None), 20, BLUE2_2, L,
           "output_uplink_routed", "n1", ("network", "blue2"), ("port vm31 is on no node", "iface-id port-31")),
    Broken("the sender is on no node", lambda: with_port(open_cloud(), 20, binding=None, node="n3"), 20, BLUE2_2, L,
           None, None, None, ("port vm20 is on no node (it is to be on n3)", "never sent", "ofport 7 is taken"), {},
           How(ports={"port-20": PortCondition(binding_error="ofport 7 is taken")})),
    Broken("the VM is on its way to another node", moving, 20, BLUE_2, THERE, "output_copy", "n2", ("port", "vm21"),
           ("port vm21 is expected on n3",)),
    Broken("the node is not connected", open_cloud, 20, BLUE2_2, THERE, "output_port", "n2", VM31,
           ("n2 is not connected", "n2 has not confirmed what has changed since revision 7"), {},
           How({"n2": NodeCondition("disconnected", 7)})),
    Broken("the node is still being told", open_cloud, 20, BLUE2_2, THERE, "output_port", "n2", VM31,
           ("n2 is syncing",), {}, How({"n2": NodeCondition("syncing")})),
    Broken("the switch has refused a flow", open_cloud, 20, BLUE2_2, THERE, "output_port", "n2", VM31,
           ("the switch of n2 has refused flows that are on the way here: ingress_groups 31",), {},
           How({"n2": NodeCondition(refused=(("ingress_groups", 31),))})),
    Broken("the flows of the port could not be computed", open_cloud, 20, BLUE2_2, D, "drop_routed_unknown", "n2", None,
           ("flows of n2 could not be computed", "port-31: ValueError"), {},
           How({"n2": NodeCondition(not_compiled=("port port-31: ValueError: no",))}), Kind.PORT),
)  # fmt: skip
