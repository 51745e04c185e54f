"""Why a flow is there: every rule with its table, and the cookie that names it on the switch.

`python -m flows.rules` prints docs/pipeline.md; a test fails when the two differ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from flows.pipeline import (
    LOG_METER,
    LOG_PACKET_INS,
    PORT_DNS_QUERIES,
    PORT_FRAGMENTS,
    PORT_PACKET_INS,
    PORT_ZONES,
    REGISTER_DOC,
    RELAY_METER,
    RELAY_PACKET_INS,
    SHARED_METER,
    SHARED_PACKET_INS,
    TABLE_DOC,
    CtZone,
    Table,
    dns_meter,
    egress_meter,
    fragment_meter,
    ingress_meter,
    nat_zone,
    packet_in_meter,
)


@dataclass(frozen=True, slots=True)
class _RuleInfo:
    """`normal`: it drops packets of a healthy cloud as well, by design."""

    number: int
    table: Table
    drop: bool
    about: str
    doc: str
    normal: bool = False


class Rule(Enum):
    """Why a flow is there: the upper half of its cookie. The lower half is the key of the object named by `about`."""

    CLASSIFY_PORT = _RuleInfo(1, Table.CLASSIFY, False, "port", "a VM's interface")
    CLASSIFY_UPLINK = _RuleInfo(2, Table.CLASSIFY, False, "network", "a network on an uplink")
    CLASSIFY_FRAGMENT = _RuleInfo(400, Table.CLASSIFY, False, "port", "a fragment of a VM's, as many as it may send")
    DROP_FRAGMENTS = _RuleInfo(
        401, Table.CLASSIFY, True, "port", "more fragments than it may send: conntrack keeps what is not whole"
    )
    DROP_UNCLASSIFIED = _RuleInfo(
        3, Table.CLASSIFY, True, "", "interface, VLAN or tag that belongs to no network here", normal=True
    )
    CLASSIFY_EXTERNAL = _RuleInfo(4, Table.CLASSIFY, False, "network", "an external network on an uplink")
    LEARN_NEIGHBOUR = _RuleInfo(5, Table.EXTERNAL_SOURCE, False, "network", "a sender on the external network itself")
    FROM_ROUTER = _RuleInfo(6, Table.EXTERNAL_SOURCE, False, "network", "by the router: the sender is anywhere")
    EXTERNAL_SOURCE = _RuleInfo(7, Table.EXTERNAL_SOURCE, False, "", "nothing to remember")
    SNAT_ARP = _RuleInfo(10, Table.EXTERNAL_IN, False, "network", "ARP for a SNAT address of the node")
    PUNT_NEIGHBOUR = _RuleInfo(11, Table.EXTERNAL_IN, False, "network", "the next hop's MAC by ARP: to the controller")
    UNSNAT = _RuleInfo(12, Table.EXTERNAL_IN, False, "network", "packet to the node's SNAT address")
    EXTERNAL_TO_PORTS = _RuleInfo(13, Table.EXTERNAL_IN, False, "network", "an external network with VMs of its own")
    DROP_EXTERNAL = _RuleInfo(14, Table.EXTERNAL_IN, True, "", "not for an address of this node", normal=True)
    FLOATING_ARP = _RuleInfo(15, Table.EXTERNAL_IN, False, "floating_ip", "ARP for a floating IP: it is claimed here")
    FLOATING_IN = _RuleInfo(16, Table.EXTERNAL_IN, False, "floating_ip", "packet to a floating IP")
    FORWARDING_IN = _RuleInfo(17, Table.EXTERNAL_IN, False, "port_forwarding", "packet to a forwarded port")
    FORWARDING_REMOTE = _RuleInfo(18, Table.EXTERNAL_IN, False, "port_forwarding", "to the node that has the port")
    DROP_EXPIRED_FORWARDING = _RuleInfo(26, Table.EXTERNAL_IN, True, "floating_ip", "TTL used up, not to be handed on")
    FORWARDING_ERROR = _RuleInfo(19, Table.EXTERNAL_IN, False, "floating_ip", "ICMP error about a forwarded port")
    FORWARDING_FRAGMENT = _RuleInfo(178, Table.EXTERNAL_IN, False, "floating_ip", "fragment to a forwarded port")
    FORWARDING_WHOLE = _RuleInfo(
        454, Table.EXTERNAL_ESTABLISHED, False, "floating_ip", "put together by the kernel: to which port?"
    )
    PUNT_RELAYED_DHCP = _RuleInfo(
        27, Table.EXTERNAL_IN, False, "network", "DHCP that a relay hands on: to the controller"
    )
    EXEMPT_IN = _RuleInfo(8, Table.EXTERNAL_IN, False, "network", "from a range that is not translated")
    DROP_REDIRECT = _RuleInfo(9, Table.EXTERNAL_IN, True, "", "ICMP redirect: nodes route by what they know")
    FLOATING_TRANSLATED = _RuleInfo(24, Table.EXTERNAL_ESTABLISHED, False, "port", "from a floating IP to its port")
    HOST_RETURN = _RuleInfo(25, Table.EXTERNAL_ESTABLISHED, False, "network", "for the host, whose address we share")
    DROP_OUTSIDE_DHCP_PART = _RuleInfo(266, Table.EXTERNAL_ESTABLISHED, True, "", "a DHCP server outside, in fragments")
    DROP_UNSOLICITED = _RuleInfo(20, Table.EXTERNAL_ESTABLISHED, True, "", "not a reply to anything a VM sent")
    EXTERNAL_REPLY = _RuleInfo(21, Table.EXTERNAL_ESTABLISHED, False, "network", "reply to a VM of the network")
    CARRIER_REPLY = _RuleInfo(22, Table.EXTERNAL_ESTABLISHED, False, "port", "reply to a port's carrier address")
    DROP_INVALID = _RuleInfo(23, Table.EXTERNAL_ESTABLISHED, True, "", "conntrack finds the packet invalid")
    ALLOW_ARP = _RuleInfo(30, Table.PORT_SECURITY, False, "port", "ARP with the port's own addresses")
    PUNT_HOLDER = _RuleInfo(181, Table.PORT_SECURITY, False, "port", "the same, from a pair that it holds from now on")
    ALLOW_ARP_PROBE = _RuleInfo(31, Table.PORT_SECURITY, False, "port", "ARP probe (RFC 5227) for its own address")
    ALLOW_IP = _RuleInfo(32, Table.PORT_SECURITY, False, "port", "IPv4 from the port's own addresses")
    ALLOW_ROUTED = _RuleInfo(39, Table.PORT_SECURITY, False, "port", "from behind the next hop of a static route")
    ALLOW_DHCP = _RuleInfo(33, Table.PORT_SECURITY, False, "port", "DHCP client without an address yet")
    ALLOW_ANY = _RuleInfo(29, Table.PORT_SECURITY, False, "port", "a port without port security")
    DROP_SPOOFED = _RuleInfo(34, Table.PORT_SECURITY, True, "port", "source MAC, IP or ARP address not the port's own")
    DROP_DHCP_SERVER = _RuleInfo(35, Table.PORT_SECURITY, True, "", "a VM that answers as a DHCP server")
    DROP_BROADCAST_FRAGMENT = _RuleInfo(36, Table.PORT_SECURITY, True, "", "broadcast fragment: hides its UDP ports")
    DROP_IPV6 = _RuleInfo(38, Table.PORT_SECURITY, True, "port", "IPv6 of a port that has no such address", normal=True)
    DROP_NODE_MAC = _RuleInfo(37, Table.PORT_SECURITY, True, "network", "a VM sends to a MAC that only nodes use")
    DROP_BRIDGE_GROUP = _RuleInfo(180, Table.PORT_SECURITY, True, "", "to a group of bridges: STP, LLDP, LACP, GVRP")
    UPLINK_ROUTED = _RuleInfo(40, Table.UPLINK_IN, False, "network", "routed by another node to one of ours")
    UPLINK_TAUGHT = _RuleInfo(46, Table.UPLINK_IN, False, "network", "another node says what is behind it")
    DROP_UPLINK_GATEWAY = _RuleInfo(41, Table.UPLINK_IN, True, "network", "gateway ARP from the wire")
    DROP_UPLINK_ANYCAST = _RuleInfo(42, Table.UPLINK_IN, True, "", "the anycast gateway MAC from the wire")
    DROP_UPLINK_DHCP = _RuleInfo(43, Table.UPLINK_IN, True, "network", "DHCP from the wire on a network that we serve")
    UPLINK_SWITCHED = _RuleInfo(44, Table.UPLINK_IN, False, "", "switched frame from the wire")
    GATEWAY_NODE_ARP = _RuleInfo(270, Table.UPLINK_IN, False, "network", "ARP of a machine: this node is the way out")
    GATEWAY_NODE_ECHO = _RuleInfo(271, Table.UPLINK_IN, False, "network", "echo request of a machine to the gateway")
    GATEWAY_NODE_IN = _RuleInfo(272, Table.UPLINK_IN, False, "network", "another node sends it out by this one")
    GATEWAY_NODE_TAUGHT = _RuleInfo(273, Table.UPLINK_IN, False, "network", "a node says that it has a VM")
    GATEWAY_NODE_MACHINE = _RuleInfo(274, Table.UPLINK_IN, False, "network", "a machine sends it out by this node")
    DROP_NOT_OUTWARDS = _RuleInfo(275, Table.UPLINK_IN, True, "network", "a machine, by the way out, to the inside")
    FROM_GATEWAY_NODE = _RuleInfo(276, Table.UPLINK_IN, False, "network", "from outside, by the network's way out")
    DROP_ROUTED_NOT_IP = _RuleInfo(45, Table.UPLINK_IN, True, "", "frame to a node's own MAC that is not routed")
    ARP_GATEWAY = _RuleInfo(50, Table.ARP_RESPONDER, False, "network", "ARP for a gateway address")
    ARP_PORT = _RuleInfo(51, Table.ARP_RESPONDER, False, "port", "ARP for a known port")
    ARP_RESOLVER = _RuleInfo(282, Table.ARP_RESPONDER, False, "", "ARP for the resolver's link-local address")
    ARP_SWITCHED_OWN = _RuleInfo(53, Table.ARP_RESPONDER, False, "port", "a port asks for its own address")
    ARP_SWITCHED = _RuleInfo(52, Table.ARP_RESPONDER, False, "", "any other ARP")
    PUNT_DHCP = _RuleInfo(60, Table.SERVICES, False, "port", "DHCP request, to the controller")
    TO_GATEWAY = _RuleInfo(64, Table.SERVICES, False, "network", "echo request to the gateway, or a fragment")
    GATEWAY_ECHO = _RuleInfo(61, Table.GATEWAY, False, "network", "echo request to the gateway: answered")
    PUNT_LARGE_ECHO = _RuleInfo(65, Table.GATEWAY, False, "network", "larger than its sender's network takes")
    DROP_ECHO = _RuleInfo(66, Table.GATEWAY, True, "", "to a gateway that has just gone")
    DROP_GATEWAY = _RuleInfo(62, Table.SERVICES, True, "network", "the gateway offers nothing else")
    PUNT_DNS = _RuleInfo(280, Table.SERVICES, False, "network", "DNS question to the gateway: to the controller")
    PUNT_DNS_LINK_LOCAL = _RuleInfo(
        281, Table.SERVICES, False, "", "the same, to the address that is the same anywhere"
    )
    UDP_PART = _RuleInfo(261, Table.SERVICES, False, "", "a fragment of UDP: to which port?")
    UDP_PART_UNTRACKED = _RuleInfo(262, Table.SERVICES, False, "port", "the same, of a port that is not tracked")
    DROP_DHCP_SERVER_PART = _RuleInfo(263, Table.EGRESS_PARTS, True, "", "a VM that answers as a DHCP server")
    DROP_PART_UNKNOWN = _RuleInfo(264, Table.EGRESS_PARTS, True, "", "conntrack cannot say: it could be that")
    PART_KNOWN = _RuleInfo(265, Table.EGRESS_PARTS, False, "", "to another port")
    SERVICES_DONE = _RuleInfo(63, Table.SERVICES, False, "", "not for a service")
    ROUTE = _RuleInfo(70, Table.ROUTE_OR_SWITCH, False, "", "to the gateway's MAC")
    LIFT = _RuleInfo(72, Table.ROUTE_OR_SWITCH, False, "network", "to a router of yours, but to be translated here")
    LIFT_FLOATING = _RuleInfo(73, Table.ROUTE_OR_SWITCH, False, "port", "the same, of a port with a floating IP")
    SWITCH_OWN = _RuleInfo(74, Table.ROUTE_OR_SWITCH, False, "network", "within the network, whatever is lifted out")
    SWITCH = _RuleInfo(71, Table.ROUTE_OR_SWITCH, False, "", "to any other MAC")
    PUNT_TTL_EXPIRED = _RuleInfo(80, Table.ROUTING, False, "network", "TTL used up: the controller says so by ICMP")
    DROP_TTL_EXPIRED = _RuleInfo(81, Table.ROUTING, True, "", "TTL used up")
    ROUTE_SUBNET = _RuleInfo(82, Table.ROUTING, False, "network", "a subnet of the same router")
    ROUTE_STATIC = _RuleInfo(86, Table.ROUTING, False, "network", "a static route")
    ROUTE_DEFAULT = _RuleInfo(83, Table.ROUTING, False, "network", "the way out")
    DROP_NO_ROUTE = _RuleInfo(84, Table.ROUTING, True, "", "no route to there")
    DROP_MARTIAN = _RuleInfo(165, Table.ROUTING, True, "", "to a range that no router forwards to")
    DROP_PRIVATE = _RuleInfo(167, Table.ROUTING, True, "network", "a private address, which is nowhere outside")
    DROP_MARTIAN_SOURCE = _RuleInfo(166, Table.ROUTING, True, "", "from a range that no router forwards from")
    LEARNED_NEXT_HOP = _RuleInfo(85, Table.REMOTE_NEXT_HOP, False, "", "the node a routed address was last seen behind")
    MEASURE_OWN = _RuleInfo(170, Table.MEASURE, False, "port", "by the external network of its floating IP")
    MEASURE = _RuleInfo(171, Table.MEASURE, False, "network", "by the network's external network")
    MEASURE_NOTHING = _RuleInfo(172, Table.MEASURE, False, "", "the outside takes whatever a VM may send")
    FRAGMENT_OUT = _RuleInfo(173, Table.NAT_PREPARE, False, "port", "a fragment: whose reply is it?")
    PREPARED = _RuleInfo(174, Table.NAT_PREPARE, False, "", "to be translated")
    PUNT_TOO_LARGE = _RuleInfo(105, Table.NAT_PREPARE, False, "network", "larger than the external network's MTU")
    EXEMPT = _RuleInfo(106, Table.NAT_EGRESS, False, "network", "to a range that is not translated")
    FORWARDING_OUT = _RuleInfo(107, Table.NAT_EGRESS, False, "port", "from a port that is forwarded to")
    FLOATING_OUT = _RuleInfo(108, Table.NAT_EGRESS, False, "port", "to the port's floating IP")
    FRAGMENT_TRANSLATED = _RuleInfo(175, Table.NAT_EGRESS, False, "port", "a fragment of a known connection")
    TELL_OUTSIDE = _RuleInfo(176, Table.NAT_EGRESS, False, "network", "the controller tells a sender what fits")
    SNAT = _RuleInfo(90, Table.NAT_EGRESS, False, "network", "to the node's SNAT address")
    TO_GATEWAY_NODE = _RuleInfo(277, Table.NAT_EGRESS, False, "network", "to the one node that is the way out")
    CARRIER = _RuleInfo(91, Table.NAT_EGRESS, False, "port", "to the port's carrier address")
    DROP_ICMP_ERROR = _RuleInfo(88, Table.NAT_EGRESS, True, "", "ICMP error of a VM: could quote another's flow")
    DROP_NO_NAT = _RuleInfo(92, Table.NAT_EGRESS, True, "", "no SNAT address for this network on this node")
    SNAT_CARRIER = _RuleInfo(93, Table.NODE_SNAT, False, "network", "from the carrier to the node's SNAT address")
    DROP_SNAT_SHARE = _RuleInfo(
        403, Table.NODE_SNAT, True, "port", "it, or its node, has used up its connections through the SNAT address"
    )
    DROP_NO_SNAT = _RuleInfo(94, Table.NODE_SNAT, True, "", "no SNAT address for this network on this node")
    SNAT_SOURCE = _RuleInfo(95, Table.EXTERNAL_OUT, False, "network", "from a SNAT address of the node")
    EXEMPT_SOURCE = _RuleInfo(96, Table.EXTERNAL_OUT, False, "network", "untranslated, to a range that is exempt")
    FLOATING_SOURCE = _RuleInfo(131, Table.EXTERNAL_OUT, False, "floating_ip", "from a floating IP")
    FLOATING_HAIRPIN = _RuleInfo(132, Table.EXTERNAL_OUT, False, "floating_ip", "to a floating IP of this node")
    FORWARDING_HAIRPIN = _RuleInfo(133, Table.EXTERNAL_OUT, False, "port_forwarding", "to a port forwarded here")
    SNAT_HAIRPIN = _RuleInfo(97, Table.EXTERNAL_OUT, False, "network", "to a SNAT address of this node")
    TO_ROUTER = _RuleInfo(134, Table.EXTERNAL_NEXT_HOP, False, "network", "to the external network's router")
    ON_LINK = _RuleInfo(135, Table.EXTERNAL_NEXT_HOP, False, "network", "to a neighbour on the external network")
    DROP_NO_NEXT_HOP = _RuleInfo(136, Table.EXTERNAL_NEXT_HOP, True, "", "no way on from the external network")
    LEARNED_NEIGHBOUR = _RuleInfo(137, Table.EXTERNAL_NEIGHBOUR, False, "", "a neighbour's MAC, last heard")
    PUNT_ON_LINK = _RuleInfo(138, Table.EXTERNAL_SEND, False, "network", "by the router while a neighbour is asked for")
    PUNT_UNRESOLVED = _RuleInfo(139, Table.EXTERNAL_SEND, False, "network", "no MAC yet: kept and asked for")
    EXTERNAL_SEND = _RuleInfo(140, Table.EXTERNAL_SEND, False, "", "out")
    DROP_UNTRANSLATED = _RuleInfo(89, Table.EXTERNAL_OUT, True, "", "conntrack had no room to translate it")
    DROP_INVALID_OUT = _RuleInfo(98, Table.EXTERNAL_OUT, True, "", "conntrack finds it invalid: it is not translated")
    DROP_INVALID_CARRIER = _RuleInfo(99, Table.NODE_SNAT, True, "", "conntrack finds it invalid: it is not translated")
    PUNT_TOO_LARGE_IN = _RuleInfo(177, Table.LOCAL_DELIVERY, False, "network", "larger than the network's MTU")
    DELIVER = _RuleInfo(100, Table.LOCAL_DELIVERY, False, "port", "routed packet for a local port")
    DROP_ROUTED_UNKNOWN = _RuleInfo(101, Table.LOCAL_DELIVERY, True, "", "routed here by another node: no such port")
    DELIVER_ONWARD = _RuleInfo(278, Table.LOCAL_DELIVERY, False, "network", "from outside, to a port elsewhere")
    DELIVER_REMOTE = _RuleInfo(102, Table.LOCAL_DELIVERY, False, "", "routed packet for a port elsewhere")
    DROP_TAUGHT = _RuleInfo(104, Table.TEACH, True, "", "a frame that was only to be learned from", normal=True)
    TEACH = _RuleInfo(103, Table.TEACH, False, "network", "to the sender of a frame to the group")
    L2_LOCAL = _RuleInfo(110, Table.L2_FORWARD, False, "port", "local port by MAC")
    L2_SHARED_MAC = _RuleInfo(254, Table.L2_FORWARD, False, "network", "a MAC of address pairs: to all that may use it")
    L2_FLOOD = _RuleInfo(111, Table.L2_FORWARD, False, "network", "broadcast and multicast")
    L2_UPLINK = _RuleInfo(112, Table.L2_FORWARD, False, "network", "unknown unicast from a VM")
    DROP_UNKNOWN_UNICAST = _RuleInfo(113, Table.L2_FORWARD, True, "", "from the wire, for nobody here", normal=True)
    DROP_NO_UPLINK = _RuleInfo(114, Table.L2_FORWARD, True, "", "for elsewhere, but the network has no uplink here")
    DROP_GATEWAY_MAC = _RuleInfo(117, Table.L2_FORWARD, True, "", "to the gateway's MAC, but nothing the gateway takes")
    FLOOD_LOCAL = _RuleInfo(115, Table.FLOOD, False, "network", "to each part of the local ports")
    FLOOD_PART = _RuleInfo(118, Table.FLOOD_PART, False, "network", "to some of them")
    DROP_NOBODY = _RuleInfo(116, Table.FLOOD, True, "", "broadcast with nobody to hear it", normal=True)
    OUTPUT_PORT = _RuleInfo(120, Table.OUTPUT, False, "port", "out to a VM")
    OUTPUT_UPLINK = _RuleInfo(121, Table.OUTPUT, False, "network", "out to the wire")
    OUTPUT_UPLINK_ROUTED = _RuleInfo(122, Table.OUTPUT, False, "network", "routed: out with the node's own MAC")
    DROP_TO_ITSELF = _RuleInfo(124, Table.OUTPUT, True, "port", "a VM sends to itself")
    DROP_NO_OUTPUT = _RuleInfo(123, Table.OUTPUT, True, "", "the target is not on this node")
    ALLOW_RARP = _RuleInfo(141, Table.PORT_SECURITY, False, "port", "a VM that has moved shows switches where it is")
    COPY_IN = _RuleInfo(150, Table.UPLINK_IN, False, "port", "to a VM that moves, by the node that it comes from")
    EXTERNAL_COPY_IN = _RuleInfo(151, Table.EXTERNAL_SOURCE, False, "port", "the same, on an external network")
    DROP_COPY = _RuleInfo(152, Table.UPLINK_IN, True, "", "to a VM that moves, but not to here", normal=True)
    DROP_EXTERNAL_COPY = _RuleInfo(
        153, Table.EXTERNAL_SOURCE, True, "", "to a VM that moves, but not to here", normal=True
    )
    DROP_GROUP_TWICE = _RuleInfo(
        154, Table.LOCAL_DELIVERY, True, "port", "the node that serves the VM hears the group", normal=True
    )
    DELIVER_WAITING = _RuleInfo(163, Table.LOCAL_DELIVERY, False, "port", "to the group: if the VM is here already")
    L2_WAITING = _RuleInfo(155, Table.L2_FORWARD, False, "port", "a VM that is expected here")
    REDIRECT = _RuleInfo(156, Table.L2_FORWARD, False, "port", "a VM that has left: to its new node")
    LEARNED_AWAKE = _RuleInfo(157, Table.AWAKE, False, "", "a VM that is expected here has sent something")
    PUNT_ACTIVATE = _RuleInfo(158, Table.ACTIVATION, False, "port", "a VM that was expected is here: to be served")
    WAITING_AWAKE = _RuleInfo(159, Table.WAITING, False, "port", "it is here")
    DROP_ASLEEP = _RuleInfo(
        160, Table.WAITING, True, "port", "it is not here yet, and has this where it is", normal=True
    )
    WAITING_ASLEEP = _RuleInfo(161, Table.WAITING, False, "port", "it is not here yet: to where it is")
    OUTPUT_COPY = _RuleInfo(162, Table.OUTPUT, False, "port", "out to a VM, and a copy to where it is expected")
    EGRESS_TRACKED = _RuleInfo(200, Table.EGRESS_CONNTRACK, False, "", "which connection is it of")
    EGRESS_UNTRACKED = _RuleInfo(201, Table.EGRESS_CONNTRACK, False, "", "a port in stateless groups")
    EGRESS_UNFILTERED = _RuleInfo(202, Table.EGRESS_CONNTRACK, False, "port", "a port that is not filtered")
    EGRESS_OTHER = _RuleInfo(203, Table.EGRESS_CONNTRACK, False, "", "ARP, which port_security has seen to")
    DROP_PROVIDER_EGRESS = _RuleInfo(204, Table.EGRESS_CONNTRACK, True, "provider_rule", "the operator's drop list")
    DROP_PROVIDER_EGRESS_PART = _RuleInfo(205, Table.EGRESS_POLICY, True, "provider_rule", "the same, by connection")
    DROP_EGRESS_INVALID = _RuleInfo(206, Table.EGRESS_POLICY, True, "", "conntrack finds the packet invalid")
    EGRESS_TURNED = _RuleInfo(257, Table.EGRESS_POLICY, False, "", "begun by the VM where it was before: turned round")
    EGRESS_KNOWN = _RuleInfo(207, Table.EGRESS_POLICY, False, "", "error about what the VM began where it was before")
    DROP_EGRESS_UNTRACKED = _RuleInfo(255, Table.EGRESS_POLICY, True, "", "conntrack lost it: a fragment out of time")
    EGRESS_GROUPS = _RuleInfo(209, Table.EGRESS_POLICY, False, "port", "each security group of the port")
    DROP_NO_EGRESS_POLICY = _RuleInfo(210, Table.EGRESS_POLICY, True, "", "nothing is known of the port's groups")
    EGRESS_RULE = _RuleInfo(211, Table.RULES, False, "security_rule", "this rule, or one with its remote")
    EGRESS_CLAUSE = _RuleInfo(212, Table.RULES, False, "security_group", "one half of a rule: whom or what")
    LOG_EGRESS_ACCEPTED = _RuleInfo(213, Table.EGRESS_VERDICT, False, "security_rule", "begins, and is reported")
    DROP_EGRESS = _RuleInfo(215, Table.EGRESS_VERDICT, True, "port", "no security group of the sender allows it")
    LOG_EGRESS_DROPPED = _RuleInfo(216, Table.EGRESS_VERDICT, False, "port", "the same, and reported")
    DROP_EGRESS_UNKNOWN = _RuleInfo(217, Table.EGRESS_VERDICT, True, "", "the same, of an unknown port")
    EGRESS_BEGINS = _RuleInfo(218, Table.EGRESS_VERDICT, False, "", "allowed: a connection begins")
    EGRESS_BEGUN = _RuleInfo(196, Table.EGRESS_BEGUN, False, "", "it is remembered")
    DROP_CONNECTIONS = _RuleInfo(
        402, Table.EGRESS_BEGUN, True, "port", "it, or its node, has used up its connections: no more begin"
    )
    DROP_EGRESS_GIVEN_UP = _RuleInfo(258, Table.EGRESS_BEGUN, True, "", "a fragment that conntrack has given up")
    EGRESS_GOES_ON = _RuleInfo(220, Table.EGRESS_VERDICT, False, "", "allowed")
    INGRESS_TRACKED = _RuleInfo(230, Table.INGRESS_CONNTRACK, False, "", "which connection is it of")
    INGRESS_UNTRACKED = _RuleInfo(231, Table.INGRESS_CONNTRACK, False, "", "to a port in stateless groups")
    INGRESS_UNFILTERED = _RuleInfo(232, Table.INGRESS_CONNTRACK, False, "port", "a port that is not filtered")
    INGRESS_OTHER = _RuleInfo(233, Table.INGRESS_CONNTRACK, False, "", "ARP")
    DROP_PROVIDER_INGRESS = _RuleInfo(234, Table.INGRESS_CONNTRACK, True, "provider_rule", "the operator's drop list")
    DROP_PROVIDER_INGRESS_PART = _RuleInfo(235, Table.INGRESS_POLICY, True, "provider_rule", "the same, by connection")
    DROP_INGRESS_INVALID = _RuleInfo(
        236, Table.INGRESS_POLICY, True, "", "conntrack finds the packet invalid", normal=True
    )
    INGRESS_KNOWN = _RuleInfo(237, Table.INGRESS_POLICY, False, "", "answer to what the VM began where it was before")
    DROP_INGRESS_UNTRACKED = _RuleInfo(256, Table.INGRESS_POLICY, True, "", "conntrack lost it: a fragment out of time")
    INGRESS_GROUPS = _RuleInfo(239, Table.INGRESS_POLICY, False, "port", "each security group of the port")
    DROP_NO_INGRESS_POLICY = _RuleInfo(240, Table.INGRESS_POLICY, True, "", "nothing is known of the port's groups")
    EGRESS_ANSWERS = _RuleInfo(208, Table.ANSWERS, False, "", "what the VM answers was begun by others")
    INGRESS_ANSWERS = _RuleInfo(238, Table.ANSWERS, False, "", "what answers the VM was begun by it")
    INGRESS_RULE = _RuleInfo(241, Table.RULES, False, "security_rule", "this rule, or one with its remote")
    INGRESS_CLAUSE = _RuleInfo(242, Table.RULES, False, "security_group", "one half of a rule: who or what")
    SAME_NETWORK = _RuleInfo(251, Table.RULES, False, "network", "begun in the network's own subnets")
    LOG_INGRESS_ACCEPTED = _RuleInfo(243, Table.INGRESS_VERDICT, False, "security_rule", "begins, and is reported")
    DROP_INGRESS = _RuleInfo(245, Table.INGRESS_VERDICT, True, "port", "no security group of the receiver allows it")
    LOG_INGRESS_DROPPED = _RuleInfo(246, Table.INGRESS_VERDICT, False, "port", "the same, and reported")
    DROP_INGRESS_UNKNOWN = _RuleInfo(247, Table.INGRESS_VERDICT, True, "", "the same, to an unknown port")
    INGRESS_BEGINS = _RuleInfo(248, Table.INGRESS_VERDICT, False, "", "allowed: a connection begins")
    INGRESS_GOES_ON = _RuleInfo(250, Table.INGRESS_VERDICT, False, "", "allowed")
    DROP_EGRESS_OTHER = _RuleInfo(260, Table.EGRESS_CONNTRACK, True, "", "neither IPv4 nor ARP: nothing sends it here")
    DROP_NOT_IP = _RuleInfo(252, Table.INGRESS_CONNTRACK, True, "", "neither IPv4 nor ARP, to a port that is filtered")
    DROP_OUTSIDE_DHCP = _RuleInfo(267, Table.INGRESS_CONNTRACK, True, "", "a DHCP server outside answers a VM")
    INGRESS_COPIED = _RuleInfo(253, Table.INGRESS_CONNTRACK, False, "", "allowed where the VM comes from")
    REDIRECT_OUT = _RuleInfo(164, Table.OUTPUT, False, "port", "allowed, and on to the node where the VM is now")
    ALLOWANCE = _RuleInfo(190, Table.ALLOWANCE, False, "port", "what a port may cause the controller to do")
    ALLOWANCE_SHARED = _RuleInfo(191, Table.ALLOWANCE, False, "", "what all that comes from no VM may")
    DNS_ALLOWANCE = _RuleInfo(283, Table.DNS_ALLOWANCE, False, "port", "what a port may ask the resolver")
    DNS_ALLOWANCE_SHARED = _RuleInfo(284, Table.DNS_ALLOWANCE, False, "", "what asks and is of no port")
    OUTPUT_LIMITED = _RuleInfo(192, Table.OUTPUT, False, "port", "out to a VM, at the rate that it may receive")
    DROP_FLOOD_DHCP = _RuleInfo(193, Table.SERVICES, True, "port", "floods the controller with DHCP: for a while")
    DROP_FLOOD_TTL = _RuleInfo(194, Table.ROUTING, True, "port", "with packets whose TTL is used up: for a while")
    DROP_FLOOD_UNRESOLVED = _RuleInfo(195, Table.EXTERNAL_SEND, True, "port", "with next hops to find: for a while")
    ALLOW_IPV6 = _RuleInfo(320, Table.PORT_SECURITY, False, "port", "IPv6 from the port's own addresses")
    ALLOW_UNSPECIFIED = _RuleInfo(321, Table.PORT_SECURITY, False, "port", "ICMPv6 without an address yet")
    ALLOW_ROUTER = _RuleInfo(322, Table.PORT_SECURITY, False, "port", "the port is the network's router: it says so")
    DROP_ROUTER_ADVERTISEMENT = _RuleInfo(323, Table.PORT_SECURITY, True, "network", "a VM that says it is a router")
    DROP_ND_REDIRECT = _RuleInfo(324, Table.PORT_SECURITY, True, "network", "a VM that sends others to another router")
    DROP_DHCPV6_SERVER = _RuleInfo(325, Table.PORT_SECURITY, True, "network", "a VM that answers as a DHCPv6 server")
    ALLOW_ND_SOLICITATION = _RuleInfo(326, Table.ND_SECURITY, False, "", "asks and says no MAC address")
    ALLOW_ND_SOURCE = _RuleInfo(327, Table.ND_SECURITY, False, "port", "asks and says its own MAC address")
    ALLOW_ND_ADVERTISEMENT = _RuleInfo(328, Table.ND_SECURITY, False, "port", "an address of the port's own is there")
    ALLOW_DAD = _RuleInfo(329, Table.ND_SECURITY, False, "port", "whether anybody has its own address (RFC 4862)")
    ALLOW_ND_OTHER = _RuleInfo(330, Table.ND_SECURITY, False, "", "router solicitation, or multicast groups (RFC 3810)")
    DROP_ND_SPOOFED = _RuleInfo(331, Table.ND_SECURITY, True, "port", "about an address or a MAC not the port's own")
    DROP_ND_MALFORMED = _RuleInfo(332, Table.ND_SECURITY, True, "", "hides what it says, or has been routed")
    ND_LIMITED = _RuleInfo(333, Table.ND_SECURITY, False, "port", "not neighbour discovery: at the port's rate")
    ND_CHECKED = _RuleInfo(334, Table.ND_SECURITY, False, "", "not neighbour discovery")
    DROP_ND_OPTION = _RuleInfo(
        361, Table.ND_RESPONDER, True, "network", "an option of the wrong length, or one too many"
    )
    ND_GATEWAY = _RuleInfo(335, Table.ND_RESPONDER, False, "network", "solicitation for a gateway address")
    PUNT_RA = _RuleInfo(336, Table.ND_RESPONDER, False, "port", "router solicitation, to the controller")
    ND_SWITCHED = _RuleInfo(337, Table.ND_RESPONDER, False, "", "any other")
    ND_ANSWER = _RuleInfo(338, Table.ND_ANSWER, False, "", "the anycast MAC address")
    ND_ANSWER_OUTSIDE = _RuleInfo(339, Table.ND_ANSWER, False, "network", "the node's own, to an external network")
    ND_TO_TC = _RuleInfo(450, Table.ND_ANSWER, False, "port", "on the kernel's datapath: tc writes the rest of it")
    ND_TO_TC_OUTSIDE = _RuleInfo(451, Table.ND_ANSWER, False, "network", "the same, to an external network")
    DROP_ND_UNANSWERED = _RuleInfo(455, Table.ND_ANSWER, True, "", "an advertisement for no port and no network here")
    ND_FROM_TC = _RuleInfo(452, Table.SERVICE_IN, False, "port", "an advertisement that tc has written")
    ND_FROM_TC_OUTSIDE = _RuleInfo(453, Table.SERVICE_IN, False, "network", "the same, to an external network")
    PUNT_DHCPV6 = _RuleInfo(340, Table.SERVICES, False, "port", "DHCPv6 request, to the controller")
    GATEWAY_ECHO_IPV6 = _RuleInfo(341, Table.SERVICES, False, "network", "echo request to the gateway: answered")
    DROP_GATEWAY_IPV6 = _RuleInfo(342, Table.SERVICES, True, "network", "the gateway offers nothing else over IPv6")
    IPV6_PART = _RuleInfo(343, Table.SERVICES, False, "", "a fragment: of what?")
    IPV6_PART_UNTRACKED = _RuleInfo(344, Table.SERVICES, False, "port", "the same, of a port that is not tracked")
    DROP_DHCPV6_SERVER_PART = _RuleInfo(345, Table.EGRESS_PARTS, True, "", "a VM that answers as a DHCPv6 server")
    DROP_ND_PART = _RuleInfo(346, Table.EGRESS_PARTS, True, "", "conntrack cannot say: it could be ND (RFC 6980)")
    DROP_UPLINK_RA = _RuleInfo(347, Table.UPLINK_IN, True, "network", "a router on the wire, where the nodes are it")
    PUNT_HOP_LIMIT = _RuleInfo(348, Table.ROUTING, False, "network", "hop limit used up: the controller says so")
    PUNT_TOO_BIG = _RuleInfo(349, Table.NAT_PREPARE, False, "network", "IPv6, larger than the external network's MTU")
    PUNT_TOO_BIG_IN = _RuleInfo(350, Table.LOCAL_DELIVERY, False, "network", "IPv6, larger than the network's MTU")
    OUT_IPV6 = _RuleInfo(351, Table.NAT_EGRESS, False, "network", "IPv6 leaves as it is")
    IN_IPV6 = _RuleInfo(352, Table.EXTERNAL_IN, False, "network", "IPv6 from outside to a subnet")
    PROXY_ND = _RuleInfo(353, Table.EXTERNAL_IN, False, "port", "solicitation for a VM here, by its external network")
    PROXY_ND_OWN = _RuleInfo(354, Table.EXTERNAL_IN, False, "network", "solicitation for the node's own address")
    PUNT_ROUTER_ND = _RuleInfo(355, Table.EXTERNAL_IN, False, "network", "the next hop's MAC by ND: to the controller")
    PUNT_UNRESOLVED_IPV6 = _RuleInfo(356, Table.EXTERNAL_SEND, False, "network", "IPv6, no MAC yet: kept and asked for")
    INGRESS_ND = _RuleInfo(357, Table.INGRESS_CONNTRACK, False, "network", "what IPv6 itself needs")
    DHCPV6_ASKED = _RuleInfo(358, Table.EGRESS_CONNTRACK, False, "", "DHCPv6 that is not answered by the nodes")
    DHCPV6_ANSWERED = _RuleInfo(359, Table.INGRESS_CONNTRACK, False, "network", "what answers it, from the wire")
    DROP_FLOOD_RA = _RuleInfo(390, Table.ND_RESPONDER, True, "port", "with router solicitations: for a while")
    DROP_FLOOD_DHCPV6 = _RuleInfo(391, Table.SERVICES, True, "port", "with DHCPv6: for a while")
    DROP_FLOOD_HOP_LIMIT = _RuleInfo(392, Table.ROUTING, True, "port", "whose hop limit is used up: for a while")
    DROP_FLOOD_UNRESOLVED_IPV6 = _RuleInfo(
        393, Table.EXTERNAL_SEND, True, "port", "with next hops of IPv6 to find: for a while"
    )
    ND_METADATA = _RuleInfo(360, Table.ND_RESPONDER, False, "", "solicitation for the address of the metadata service")
    CLASSIFY_SERVICE = _RuleInfo(300, Table.CLASSIFY, False, "", "the node's relay")
    ARP_METADATA = _RuleInfo(301, Table.ARP_RESPONDER, False, "", "ARP for the address of the metadata service")
    TO_METADATA = _RuleInfo(302, Table.SERVICES, False, "", "a request for metadata")
    DROP_METADATA = _RuleInfo(303, Table.SERVICES, True, "", "that address offers nothing else, and takes no fragments")
    TO_NAME_SERVER = _RuleInfo(304, Table.SERVICES, False, "network", "DNS over TCP, to a gateway")
    TO_RESOLVER = _RuleInfo(314, Table.SERVICES, False, "", "the same, to the address that is the same anywhere")
    SERVICE_NAT = _RuleInfo(305, Table.SERVICE_NAT, False, "port", "to the port's carrier address")
    DROP_SERVICE_PORT = _RuleInfo(306, Table.SERVICE_NAT, True, "", "of a port that is not served here")
    SERVICE_OUT = _RuleInfo(307, Table.SERVICE_OUT, False, "port", "to the relay")
    DROP_SERVICE_UNTRANSLATED = _RuleInfo(308, Table.SERVICE_OUT, True, "", "conntrack has not translated it")
    SERVICE_IN = _RuleInfo(309, Table.SERVICE_IN, False, "port", "from the relay to a port")
    DROP_SERVICE = _RuleInfo(310, Table.SERVICE_IN, True, "", "from the relay to nobody here")
    SERVICE_BACK = _RuleInfo(311, Table.SERVICE_BACK, False, "", "an answer to the VM")
    SERVICE_BACK_PAIR = _RuleInfo(312, Table.SERVICE_BACK, False, "port", "the same, to an address with another MAC")
    DROP_SERVICE_UNASKED = _RuleInfo(313, Table.SERVICE_BACK, True, "", "from the relay, but no answer")
    STAMP = _RuleInfo(130, Table.STAMP, True, "", "the digest of all that is installed")

    @property
    def number(self) -> int:
        return self.value.number

    @property
    def table(self) -> Table:
        return self.value.table

    @property
    def drop(self) -> bool:
        return self.value.drop

    @property
    def normal(self) -> bool:
        """True if it drops packets of a healthy cloud as well."""
        return self.value.normal

    @property
    def about(self) -> str:
        return self.value.about

    @property
    def doc(self) -> str:
        return self.value.doc


_RULES_BY_NUMBER: dict[int, Rule] = {rule.number: rule for rule in Rule}

# One byte at the top of every computed flow's cookie: what carries it is ours to delete. Learned flows do not.
COOKIE_OURS = 0x54 << 56
COOKIE_OURS_MASK = 0xFF << 56
COOKIE_LEARNED = 0x4C << 56
# added by the controller for a while, beside the computed ones (flows.features.mute)
COOKIE_MUTED = 0x4D << 56
# counted apart, so that asking for many leaves room for those who answer
COOKIE_ASKED = COOKIE_LEARNED | 1


def cookie(rule: Rule, key: int = 0) -> int:
    """64 bits: our mark (8), the rule (24), the object's key (32)."""
    return COOKIE_OURS | rule.number << 32 | key


def decode_cookie(value: int) -> tuple[Rule, int] | None:
    """The rule and object key of a cookie, or None when it has none."""
    if value & COOKIE_OURS_MASK not in (COOKIE_OURS, COOKIE_MUTED):
        return None
    rule = _RULES_BY_NUMBER.get(value >> 32 & 0xFFFFFF)
    return None if rule is None else (rule, value & 0xFFFFFFFF)


# what is reported, too, is dropped all the same
_LOGGED_DROPS: dict[Rule, Rule] = {
    Rule.LOG_EGRESS_DROPPED: Rule.DROP_EGRESS,
    Rule.LOG_INGRESS_DROPPED: Rule.DROP_INGRESS,
}


def dropping(value: int) -> tuple[Rule, int] | None:
    """By which rule a flow with this cookie drops, and the object's key; None when it drops nothing."""
    rule, key = decode_cookie(value) or (Rule.STAMP, 0)
    rule = _LOGGED_DROPS.get(rule, rule)
    return (rule, key) if rule.drop and rule is not Rule.STAMP else None


def _drops(rule: Rule) -> str:
    return ("normal" if rule.normal else "yes") if rule.drop else ""


def _meters(meter_of: Callable[[int], int]) -> str:
    return f"{meter_of(PORT_ZONES[0])}-{meter_of(PORT_ZONES[-1])}"


def document() -> str:
    """docs/pipeline.md."""
    lines = [
        "# The pipeline",
        "",
        "Generated by `python -m flows.rules` from `flows/pipeline.py` and `flows/rules.py`; do not edit.",
        "",
        "## Registers",
        "",
        "| register | name | holds |",
        "|---|---|---|",
        *(f"| `{register}` | {name} | {doc} |" for register, name, doc in REGISTER_DOC),
        "",
        "## Tables",
        "",
        "| id | table | what it does |",
        "|---|---|---|",
        *(f"| {table.value} | `{table.name.lower()}` | {TABLE_DOC[table]} |" for table in Table),
        "",
        "## Rules",
        "",
        f"A flow's cookie is `{COOKIE_OURS >> 56:#04x}` (8 bits), the rule (24 bits), the key of the object (32 bits). "
        "Every drop has a rule of its own. Those that drop packets of a healthy cloud as well are *normal*: "
        "`trunkline drops` shows them last.",
        "",
        "| rule | number | table | of | drops | why it is there |",
        "|---|---|---|---|---|---|",
        *(
            f"| `{rule.name.lower()}` | {rule.number} | {rule.table.name.lower()} | {rule.about or '-'} | "
            f"{_drops(rule)} | {rule.doc} |"
            for rule in Rule
        ),
        "",
        "## Conntrack zones",
        "",
        "| zone | for |",
        "|---|---|",
        f"| {PORT_ZONES[0]}-{PORT_ZONES[-1]} | one per local port: its connections as it sees them |",
        f"| {nat_zone(PORT_ZONES[0])}-{nat_zone(PORT_ZONES[-1])} | one per local port: floating IPs, carrier address |",
        *(f"| {zone.value} | {zone.name} |" for zone in CtZone),
        "",
        "## Meters",
        "",
        "Numbered by the conntrack zone of the port that they are for. A meter drops what exceeds it.",
        "",
        "| meter | for | bounds |",
        "|---|---|---|",
        f"| {_meters(packet_in_meter)} | every local port | what the controller is handed of it: "
        f"{PORT_PACKET_INS[0]} packets a second, {PORT_PACKET_INS[1]} at once |",
        f"| {_meters(dns_meter)} | every local port | what it asks the resolver: "
        f"{PORT_DNS_QUERIES[0]} questions a second, {PORT_DNS_QUERIES[1]} at once |",
        f"| {_meters(fragment_meter)} | every local port | fragments that the VM sends: "
        f"{PORT_FRAGMENTS[0]} a second, {PORT_FRAGMENTS[1]} at once |",
        f"| {_meters(egress_meter)} | ports with a limit | what the VM sends |",
        f"| {_meters(ingress_meter)} | ports with a limit | what the VM receives |",
        f"| {SHARED_METER} | the node | what the controller is handed of all that comes from no VM: "
        f"{SHARED_PACKET_INS[0]} packets a second, {SHARED_PACKET_INS[1]} at once |",
        f"| {LOG_METER} | the node | what security groups have reported: "
        f"{LOG_PACKET_INS[0]} packets a second, {LOG_PACKET_INS[1]} at once |",
        f"| {RELAY_METER} | the node | what DHCP relays hand on: "
        f"{RELAY_PACKET_INS[0]} packets a second, {RELAY_PACKET_INS[1]} at once |",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(document(), end="")
