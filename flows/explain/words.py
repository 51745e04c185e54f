"""What each rule says when it decides: one sentence by rule. What has none says what `docs/pipeline.md` says of it.

`{object}` is what the flow is about, `{node}` where it is, `{nat}` the address that is translated to.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from flows.ir import Ct, Flow
from flows.pipeline import TABLE_DOC, Table
from flows.protocols import ETH_IPV6
from flows.rules import Rule
from flows.simulate import Reason

SENTENCES: Final[Mapping[Rule, str]] = {
    Rule.CLASSIFY_PORT: "it comes from {object}",
    Rule.CLASSIFY_UPLINK: "it comes from the wire, on {object}",
    Rule.CLASSIFY_EXTERNAL: "it comes from outside, on {object}",
    Rule.CLASSIFY_FRAGMENT: "it comes from {object}, a fragment: so many may pass",
    Rule.DROP_UNCLASSIFIED: "{node} has no port and no network for this interface, VLAN or tag",
    Rule.LEARN_NEIGHBOUR: "its sender is a neighbour on {object}: remembered",
    Rule.FROM_ROUTER: "it comes by the router of {object}",
    Rule.EXTERNAL_SOURCE: "nothing of its sender is remembered",
    Rule.UNSNAT: "it is for {node}'s own address on {object}: is it an answer to what a VM began?",
    Rule.DROP_EXTERNAL: "{node} has no such floating IP, forwarded port or SNAT address",
    Rule.FLOATING_IN: "{object} is here: translated to {nat}",
    Rule.FORWARDING_IN: "{object} is here: translated to {nat}",
    Rule.FORWARDING_REMOTE: "{object} leads to a port of another node: handed on to that",
    Rule.EXEMPT_IN: "it comes from a range that {object} is not translated for",
    Rule.FLOATING_TRANSLATED: "it is translated, and for {object}",
    Rule.HOST_RETURN: "it is for the host of {node}, whose address is shared",
    Rule.DROP_UNSOLICITED: "it answers nothing that a VM has sent: only floating IPs and forwarded ports let others in",
    Rule.EXTERNAL_REPLY: "it answers what a VM of {object} has sent",
    Rule.CARRIER_REPLY: "it answers what {object} has sent",
    Rule.ALLOW_ARP: "MAC and IP address that it claims are those of {object}",
    Rule.ALLOW_ARP_PROBE: "{object} looks whether its own address is free",
    Rule.ALLOW_IP: "MAC and IP address of the sender are those of {object}",
    Rule.ALLOW_IPV6: "MAC and IPv6 address of the sender are those of {object}",
    Rule.ALLOW_UNSPECIFIED: "{object} has no address yet, and says so",
    Rule.ALLOW_ROUTED: "its source is behind a static route that leads to {object}",
    Rule.ALLOW_DHCP: "{object} asks for its address",
    Rule.ALLOW_ANY: "{object} has no port security: it may send from any address",
    Rule.PUNT_HOLDER: "{object} says that it holds an address of its address pairs from now on",
    Rule.DROP_SPOOFED: "its source MAC or address is not one of {object}",
    Rule.DROP_DHCP_SERVER: "it is from a DHCP server, and VMs must not be one",
    Rule.DROP_DHCPV6_SERVER: "it is from a DHCPv6 server, and VMs of {object} must not be one",
    Rule.DROP_BROADCAST_FRAGMENT: "a fragment of a broadcast could hide a DHCP answer",
    Rule.DROP_IPV6: "{object} has no IPv6 address",
    Rule.DROP_NODE_MAC: "only nodes send to that MAC",
    Rule.DROP_BRIDGE_GROUP: "it is for bridges (STP, LLDP, LACP, GVRP), and no VM is one",
    Rule.DROP_ROUTER_ADVERTISEMENT: "a VM of {object} must not say that it is a router",
    Rule.DROP_ND_REDIRECT: "a VM of {object} must not send others to another router",
    Rule.DROP_ND_SPOOFED: "what it says of an address or MAC is not about {object}'s own",
    Rule.DROP_ND_OPTION: "a VM of {object} says it with an option of the wrong length, or with one too many",
    Rule.ND_CHECKED: "it is no neighbour discovery",
    Rule.ND_LIMITED: "it is no neighbour discovery: at the rate of {object}",
    Rule.ND_GATEWAY: "it asks for the gateway of {object}: answered here",
    Rule.PUNT_RA: "{object} asks for a router: the controller advertises",
    Rule.UPLINK_ROUTED: "another node has routed it to one of {node}'s ports",
    Rule.UPLINK_SWITCHED: "it is switched, as it came",
    Rule.DROP_UPLINK_GATEWAY: "it claims the gateway address of {object}, which nodes answer for",
    Rule.DROP_UPLINK_ANYCAST: "it claims to come from the nodes' gateway",
    Rule.DROP_UPLINK_DHCP: "it is DHCP from the wire, and the nodes serve {object}",
    Rule.DROP_UPLINK_RA: "it is a router on the wire, and the nodes are the router of {object}",
    Rule.GATEWAY_NODE_IN: "another node sends it out by {node}, the gateway node of {object}",
    Rule.FROM_GATEWAY_NODE: "it comes from outside, by the gateway node of {object}",
    Rule.ARP_GATEWAY: "it asks for the gateway of {object}: answered here",
    Rule.ARP_PORT: "{object} is known to have that address: answered here",
    Rule.ARP_SWITCHED: "ARP that is not for a gateway: to whoever has the address",
    Rule.PUNT_DHCP: "DHCP: the controller answers {object}",
    Rule.PUNT_DHCPV6: "DHCPv6: the controller answers {object}",
    Rule.DROP_FLOOD_DHCP: "{object} has flooded the controller with DHCP: it is not heard for a while",
    Rule.DROP_FLOOD_TTL: "{object} has flooded the controller with used-up TTLs: it is not heard for a while",
    Rule.DROP_FLOOD_UNRESOLVED: "{object} has flooded the controller with unknown next hops: not heard for a while",
    Rule.DROP_FLOOD_RA: "{object} has flooded the controller with router solicitations: not heard for a while",
    Rule.DROP_FLOOD_DHCPV6: "{object} has flooded the controller with DHCPv6: it is not heard for a while",
    Rule.TO_GATEWAY: "an echo request to the gateway of {object}",
    Rule.GATEWAY_ECHO: "the gateway of {object} answers, here on {node}",
    Rule.GATEWAY_ECHO_IPV6: "the gateway of {object} answers, here on {node}",
    Rule.PUNT_LARGE_ECHO: "larger than {object} takes: the controller says so",
    Rule.DROP_GATEWAY: "the gateway of {object} answers ping, DHCP and DNS, and offers nothing else",
    Rule.DROP_GATEWAY_IPV6: "the gateway of {object} answers ping, DHCP and DNS, and offers nothing else",
    Rule.PUNT_DNS: "a DNS question to the gateway of {object}: the controller answers",
    Rule.PUNT_DNS_LINK_LOCAL: "a DNS question: the controller answers",
    Rule.ND_TO_TC: "{node} answers with its gateway MAC address; tc at the service port writes the flags",
    Rule.ND_TO_TC_OUTSIDE: "{node} answers with its own MAC address; tc at the service port writes the flags",
    Rule.DROP_ND_UNANSWERED: "the question came from no port with an IPv6 address, and from no external network",
    Rule.ND_FROM_TC: "the answer goes to {object}",
    Rule.ND_FROM_TC_OUTSIDE: "the answer goes out on {object}",
    Rule.SERVICES_DONE: "it is for none of the node's own services",
    Rule.TO_METADATA: "a request for metadata: to the node's relay",
    Rule.TO_NAME_SERVER: "DNS over TCP, to the gateway of {object}: to the node's relay",
    Rule.TO_RESOLVER: "DNS over TCP: to the node's relay",
    Rule.DROP_METADATA: "the metadata service answers HTTP on port 80, and nothing else",
    Rule.SERVICE_NAT: "the relay knows {object} by its carrier address {nat}",
    Rule.SERVICE_OUT: "to the relay of {node}, which answers {object}",
    Rule.ROUTE: "it goes to the gateway's MAC: routed by {node}",
    Rule.LIFT: "the operator's router is the gateway of {object}, but this is to be translated here",
    Rule.LIFT_FLOATING: "the operator's router is the gateway, but {object} has a floating IP: translated here",
    Rule.SWITCH: "it does not go to the gateway's MAC: switched",
    Rule.SWITCH_OWN: "it stays within {object}: switched",
    Rule.PUNT_TTL_EXPIRED: "its TTL is used up: the controller tells the sender, on {object}",
    Rule.PUNT_HOP_LIMIT: "its hop limit is used up: the controller tells the sender, on {object}",
    Rule.DROP_TTL_EXPIRED: "its TTL is used up",
    Rule.ROUTE_SUBNET: "the target is in a subnet of {object}",
    Rule.ROUTE_STATIC: "a static route of {object} leads there",
    Rule.ROUTE_DEFAULT: "none of the networks that are routed to each other has it: out, from {object}",
    Rule.DROP_NO_ROUTE: "{node} has no route to there",
    Rule.DROP_MARTIAN: "no router forwards to that address: it never leaves {node}",
    Rule.DROP_PRIVATE: "{object} has no route there, and private addresses are not looked for outside (drop_private)",
    Rule.DROP_MARTIAN_SOURCE: "no router forwards from such an address",
    Rule.LEARNED_NEXT_HOP: "the address was last seen behind a node that is known",
    Rule.MEASURE: "is it larger than the external network of {object} takes?",
    Rule.MEASURE_OWN: "is it larger than the external network of the floating IP of {object} takes?",
    Rule.MEASURE_NOTHING: "the outside takes frames as large as any VM may send",
    Rule.PREPARED: "by which address does it leave?",
    Rule.PUNT_TOO_LARGE: "larger than the external network of {object} takes: the controller cuts it, or says so",
    Rule.PUNT_TOO_LARGE_IN: "larger than {object} takes: the controller cuts it, or tells the sender",
    Rule.PUNT_TOO_BIG: "larger than the external network takes: the controller tells the sender",
    Rule.PUNT_TOO_BIG_IN: "larger than {object} takes: the controller tells the sender",
    Rule.EXEMPT: "{object} keeps its own addresses towards there",
    Rule.FLOATING_OUT: "{object} leaves from its floating IP {nat}",
    Rule.FORWARDING_OUT: "{object} answers for a forwarded port, from {nat}",
    Rule.SNAT: "{object} leaves from {nat}, the SNAT address of {node}",
    Rule.TO_GATEWAY_NODE: "{object} leaves by its gateway node: on to that",
    Rule.CARRIER: "{object} gets its carrier address {nat} first, by which its connections are told apart",
    Rule.SNAT_CARRIER: "{object} leaves from {nat}, the SNAT address of {node}",
    Rule.OUT_IPV6: "{object} leaves with its own IPv6 address",
    Rule.IN_IPV6: "it is for a subnet of {object}",
    Rule.DROP_ICMP_ERROR: "an ICMP error of a VM is not translated",
    Rule.DROP_NO_NAT: "{node} has no address to translate to: no SNAT address for this network, no floating IP",
    Rule.DROP_SNAT_SHARE: "{object}, or all of {node}, has used up its connections through the SNAT address",
    Rule.DROP_NO_SNAT: "{node} has no SNAT address for this network",
    Rule.SNAT_SOURCE: "out on {object}",
    Rule.EXEMPT_SOURCE: "out on {object}, untranslated",
    Rule.FLOATING_SOURCE: "it leaves from {object}",
    Rule.FLOATING_HAIRPIN: "{object} is on this very node: in again",
    Rule.FORWARDING_HAIRPIN: "{object} is on this very node: in again",
    Rule.SNAT_HAIRPIN: "it is for {node}'s own SNAT address: in again",
    Rule.TO_ROUTER: "to the router of {object}",
    Rule.ON_LINK: "to a neighbour on {object} itself",
    Rule.DROP_NO_NEXT_HOP: "no router of the external network leads there",
    Rule.LEARNED_NEIGHBOUR: "the neighbour's MAC is known",
    Rule.PUNT_ON_LINK: "the neighbour's MAC is not known: by the router of {object}, and the controller asks for it",
    Rule.PUNT_UNRESOLVED: "the MAC of the next hop on {object} is not known: kept by the controller, which asks for it",
    Rule.PUNT_UNRESOLVED_IPV6: "the MAC of the next hop on {object} is not known: the controller asks for it",
    Rule.EXTERNAL_SEND: "the MAC is known: out",
    Rule.DELIVER: "{object} is on {node}",
    Rule.DELIVER_REMOTE: "no port of {node} has the address: on to the node that has it",
    Rule.DELIVER_ONWARD: "it is for a port of {object} on another node: on to that",
    Rule.DROP_ROUTED_UNKNOWN: "another node has routed it here, but {node} has no such port",
    Rule.TEACH: "{node} tells the sender's node where the address is",
    Rule.L2_LOCAL: "the MAC is that of {object}, which is on {node}",
    Rule.L2_SHARED_MAC: "to all ports of {object} that may use that MAC",
    Rule.L2_FLOOD: "to all of {object}",
    Rule.L2_UPLINK: "no port of {node} has that MAC: out to the wire of {object}",
    Rule.DROP_UNKNOWN_UNICAST: "from the wire, and no port of {node} has that MAC",
    Rule.DROP_NO_UPLINK: "it is for elsewhere, but {node} has no uplink for its network",
    Rule.DROP_GATEWAY_MAC: "it goes to the gateway's MAC, but the nodes are not the gateway of this network",
    Rule.FLOOD_LOCAL: "to all ports of {object} on {node}",
    Rule.FLOOD_PART: "to some of these ports",
    Rule.DROP_NOBODY: "nobody on {node} hears it",
    Rule.OUTPUT_PORT: "out to {object}",
    Rule.OUTPUT_LIMITED: "out to {object}, at the rate that it may receive",
    Rule.OUTPUT_COPY: "out to {object}, and a copy to the node where its VM is expected",
    Rule.OUTPUT_UPLINK: "out to the wire, on {object}",
    Rule.OUTPUT_UPLINK_ROUTED: "out to the wire, on {object}, from {node}'s own MAC",
    Rule.DROP_TO_ITSELF: "{object} sends to itself",
    Rule.DROP_NO_OUTPUT: "the target is not on {node}",
    Rule.COPY_IN: "the node that {object} comes from has handed it on",
    Rule.DROP_COPY: "it is handed on for a VM that moves, but not to {node}",
    Rule.DROP_ASLEEP: "{object} is expected on {node} and has sent nothing from there yet",
    Rule.WAITING_AWAKE: "{object} has moved to {node} and is there",
    Rule.WAITING_ASLEEP: "{object} is not on {node} yet: to where it is",
    Rule.L2_WAITING: "{object} is expected on {node}",
    Rule.REDIRECT: "{object} has left {node}: to its new node",
    Rule.REDIRECT_OUT: "on to the node where {object} is now",
    Rule.EGRESS_TRACKED: "of which connection of the sender is it?",
    Rule.EGRESS_UNTRACKED: "the sender's groups are stateless: connections do not count",
    Rule.EGRESS_UNFILTERED: "{object} is not filtered: it may send everything",
    Rule.EGRESS_OTHER: "ARP, which has been looked at",
    Rule.DROP_PROVIDER_EGRESS: "{object} of the operator's drop list forbids sending it, whatever the groups say",
    Rule.DROP_PROVIDER_EGRESS_PART: "{object} of the operator's drop list forbids its connection",
    Rule.DROP_EGRESS_INVALID: "conntrack finds it invalid: it is of no connection and cannot begin one",
    Rule.EGRESS_GROUPS: "each security group of {object} is asked whether it may send this",
    Rule.EGRESS_RULE: "allowed: {object}",
    Rule.EGRESS_ANSWERS: "it answers what somebody else began: the rules about that count",
    Rule.LOG_EGRESS_ACCEPTED: "allowed, and reported: {object}",
    Rule.DROP_EGRESS: "no security group of {object} lets it send this",
    Rule.LOG_EGRESS_DROPPED: "no security group of {object} lets it send this, and it is reported",
    Rule.EGRESS_BEGINS: "the sender may send it: a connection begins",
    Rule.EGRESS_BEGUN: "conntrack remembers the connection",
    Rule.DROP_CONNECTIONS: "{object}, or all of {node}, has used up its connections: no more begins until some end",
    Rule.EGRESS_GOES_ON: "the sender may send it",
    Rule.INGRESS_TRACKED: "of which connection of the receiver is it?",
    Rule.INGRESS_UNTRACKED: "the receiver's groups are stateless: connections do not count",
    Rule.INGRESS_UNFILTERED: "{object} is not filtered: it may receive everything",
    Rule.INGRESS_OTHER: "ARP, which everybody hears",
    Rule.DROP_PROVIDER_INGRESS: "{object} of the operator's drop list forbids receiving it, whatever the groups say",
    Rule.DROP_PROVIDER_INGRESS_PART: "{object} of the operator's drop list forbids its connection",
    Rule.DROP_INGRESS_INVALID: "conntrack finds it invalid: it is of no connection and cannot begin one",
    Rule.INGRESS_GROUPS: "each security group of {object} is asked whether it may receive this",
    Rule.INGRESS_RULE: "allowed: {object}",
    Rule.INGRESS_ANSWERS: "it answers what the receiver began: the rules about that count",
    Rule.SAME_NETWORK: "allowed: {object} lets its own addresses reach each other",
    Rule.LOG_INGRESS_ACCEPTED: "allowed, and reported: {object}",
    Rule.DROP_INGRESS: "no security group of {object} lets this in",
    Rule.LOG_INGRESS_DROPPED: "no security group of {object} lets this in, and it is reported",
    Rule.INGRESS_BEGINS: "the receiver may have it: a connection begins",
    Rule.INGRESS_GOES_ON: "the receiver may have it",
    Rule.INGRESS_ND: "IPv6 itself needs it",
    Rule.DROP_NOT_IP: "neither IP nor ARP, and the port is filtered",
    Rule.DROP_OUTSIDE_DHCP: "a DHCP server outside must not answer a VM",
    Rule.ALLOWANCE: "within what {object} may have the controller do",
    Rule.ALLOWANCE_SHARED: "within what the node may have the controller do",
    Rule.DNS_ALLOWANCE: "within what {object} may ask",
    Rule.DNS_ALLOWANCE_SHARED: "within what may be asked",
}

REASONS: Final[Mapping[Reason, str]] = {
    Reason.MISS: "no flow of table {table} takes it",
    Reason.SENDER: "it would go back to where it came from",
    Reason.TTL: "its TTL is used up",
    Reason.NAT: "no translation is free",
    Reason.NOTHING: "it goes nowhere",
}
"""Of drops that no rule names."""

LOGGED_DROPS: Final[Mapping[Rule, Rule]] = {
    Rule.LOG_EGRESS_DROPPED: Rule.DROP_EGRESS,
    Rule.LOG_INGRESS_DROPPED: Rule.DROP_INGRESS,
}
"""What is dropped though the controller hears of it."""


_INWARD: Final = frozenset({Rule.FLOATING_IN, Rule.FORWARDING_IN})


def sentence(rule: Rule, flow: Flow, thing: str, node: str, *, known: bool = True) -> str:
    """What a rule says of a packet. `known`: whether what is behind the thing may be told."""
    text = SENTENCES.get(rule)
    if text is None:
        return rule.doc + (f" ({thing})" if thing else "")
    nat = translated_to(flow) if known or rule not in _INWARD else "an address of its owner's"
    return text.format(object=thing, node=node, nat=nat)


def translated_to(flow: Flow) -> str:
    """The address that conntrack is to translate to, "" if to none."""
    for action in flow.actions:
        if isinstance(action, Ct) and action.nat is not None:
            family = IPv6Address if action.nat.family == ETH_IPV6 else IPv4Address
            ports = "" if not (action.nat.destination and action.nat.ports) else f" port {action.nat.ports[0]}"
            return f"{family(action.nat.address)}{ports}"
    return ""


def table_name(table: int) -> str:
    return Table(table).name.lower() if table in TABLE_DOC else str(table)
