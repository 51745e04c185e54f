"""The pipeline: every table, register, priority and conntrack zone, declared once and in pipeline order.

`flows.rules` says why flows are there, and prints docs/pipeline.md from both.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from ipaddress import IPv4Address, IPv6Address


class Table(IntEnum):
    """Stable ids with gaps, so that a later feature finds room without renumbering."""

    CLASSIFY = 0
    EXTERNAL_SOURCE = 1
    EXTERNAL_IN = 2
    EXTERNAL_ESTABLISHED = 3
    PORT_SECURITY = 4
    SERVICE_IN = 5
    UPLINK_IN = 6
    SERVICE_BACK = 7
    ARP_RESPONDER = 8
    ND_SECURITY = 9
    ND_RESPONDER = 10
    ND_ANSWER = 11
    SERVICES = 12
    GATEWAY = 13
    EGRESS_PARTS = 14
    SERVICE_NAT = 15
    EGRESS_CONNTRACK = 16
    SERVICE_OUT = 17
    EGRESS_POLICY = 18
    EGRESS_VERDICT = 22
    EGRESS_BEGUN = 23
    ROUTE_OR_SWITCH = 24
    ROUTING = 28
    MEASURE = 29
    REMOTE_NEXT_HOP = 30
    NAT_PREPARE = 31
    NAT_EGRESS = 32
    NODE_SNAT = 34
    EXTERNAL_OUT = 36
    EXTERNAL_NEXT_HOP = 37
    EXTERNAL_NEIGHBOUR = 38
    EXTERNAL_SEND = 39
    LOCAL_DELIVERY = 40
    TEACH = 42
    L2_FORWARD = 44
    FLOOD = 46
    FLOOD_PART = 47
    AWAKE = 50
    ACTIVATION = 51
    WAITING = 52
    INGRESS_CONNTRACK = 53
    INGRESS_POLICY = 54
    INGRESS_VERDICT = 55
    OUTPUT = 56
    ANSWERS = 57
    RULES = 58
    ALLOWANCE = 60
    DNS_ALLOWANCE = 61
    STAMP = 250


TABLE_DOC: dict[Table, str] = {
    Table.CLASSIFY: "in_port (and VLAN) names the network, the router and the source port. A VM goes on to "
    "port_security, an uplink to uplink_in or external_in.",
    Table.EXTERNAL_SOURCE: "From an external network: who sends from its range is remembered as a neighbour.",
    Table.EXTERNAL_IN: "ARP for the node's SNAT addresses and floating IPs is answered in place; packets to them are "
    "translated by conntrack.",
    Table.EXTERNAL_ESTABLISHED: "What was translated for a floating IP, replies and related errors come in; "
    "anything else is dropped.",
    Table.PORT_SECURITY: "A VM sends from its own MAC, IP and ARP addresses or not at all.",
    Table.SERVICE_IN: "From the node's relay: which port is it for? Conntrack gives back the address that was asked.",
    Table.UPLINK_IN: "From a project's segment on the wire: gateway ARP and foreign DHCP stop here; frames routed "
    "by another node are delivered.",
    Table.SERVICE_BACK: "What answers a VM goes to it, whatever its security groups say.",
    Table.ARP_RESPONDER: "Gateway addresses (and known ports where the network asks for it) are answered in place.",
    Table.ND_SECURITY: "IPv6's own: who solicits, advertises or joins a group does so for addresses of its own.",
    Table.ND_RESPONDER: "Solicitations for the gateway are answered, by way of the next table; router solicitations "
    "go to the controller.",
    Table.ND_ANSWER: "What has become an advertisement gets its flags and its MAC.",
    Table.SERVICES: "DHCP and DNS go to the controller; echo requests to the gateway are measured; metadata and DNS "
    "over TCP go to the node's relay.",
    Table.GATEWAY: "Echo requests to the gateway are answered in place, unless larger than the sender's network takes.",
    Table.EGRESS_PARTS: "A fragment of UDP: conntrack, which puts them together, says to which port it goes.",
    Table.SERVICE_NAT: "For the relay: from the port's carrier address, by which the relay knows it.",
    Table.EGRESS_CONNTRACK: "What a VM sends, to conntrack in its port's own zone. The operator's drop list.",
    Table.SERVICE_OUT: "To the relay, from the port's carrier address and from no other.",
    Table.EGRESS_POLICY: "The rules of each of the port's security groups are asked: of what the VM begins those about "
    "egress, of what it answers those about ingress.",
    Table.EGRESS_VERDICT: "What a rule allows begins a connection, or goes on with one; anything else is dropped.",
    Table.EGRESS_BEGUN: "Behind conntrack once more, which remembers what begins if the port has room for it.",
    Table.ROUTE_OR_SWITCH: "A frame to the gateway's MAC is routed, any other is switched.",
    Table.ROUTING: "The subnets of the network's router, then the default route.",
    Table.MEASURE: "Leaving for the outside: whether it is larger than that takes.",
    Table.REMOTE_NEXT_HOP: "Learned from traffic: which node a routed address was last seen behind. Not computed, "
    "never in the digest; without an entry the frame goes to the group of all nodes.",
    Table.NAT_PREPARE: "What is too large goes no further. A fragment of a port that is forwarded to shows no ports: "
    "conntrack says whose it is.",
    Table.NAT_EGRESS: "Leaving for the outside: exempt ranges as they are, a port with a floating IP from there, where "
    "ranges overlap from the carrier address, else at once from the node's SNAT address.",
    Table.NODE_SNAT: "Carrier address to the node's SNAT address; the drop beyond a port's share of it.",
    Table.EXTERNAL_OUT: "To an address of this very node: round again. By the source address to its external network.",
    Table.EXTERNAL_NEXT_HOP: "A neighbour on the external network itself, or its router.",
    Table.EXTERNAL_NEIGHBOUR: "Learned from traffic: the MACs of neighbours on external networks.",
    Table.EXTERNAL_SEND: "Out, once the MAC is known. A neighbour without one is reached by the router and asked for.",
    Table.LOCAL_DELIVERY: "A routed packet for a local port gets that port's MAC.",
    Table.TEACH: "A frame that came to the group of all nodes: its sender is told behind which node the address is.",
    Table.L2_FORWARD: "(network, eth_dst) to a local port; broadcast floods; unknown unicast goes to the uplink, never "
    "back to it.",
    Table.FLOOD: "The local ports of a network.",
    Table.FLOOD_PART: "Some of the local ports of a network.",
    Table.AWAKE: "Learned from traffic: a VM that is expected here has sent something, so it is here.",
    Table.ACTIVATION: "Such a VM is reported to the controller, until the port is served here.",
    Table.WAITING: "For a VM that is expected here: to it once it has sent something, until then to where it is.",
    Table.INGRESS_CONNTRACK: "What goes to a VM, to conntrack in that port's own zone. The operator's drop list.",
    Table.INGRESS_POLICY: "As egress_policy, for what a VM receives.",
    Table.INGRESS_VERDICT: "As egress_verdict.",
    Table.OUTPUT: "To the port or uplink named by reg7; a network's VLAN tag goes on here.",
    Table.ANSWERS: "Looked up before any group: an answer is held to the rules about what it answers (reg12).",
    Table.RULES: "Looked up for each group (reg10) and direction (reg12): which rule allows it (reg11).",
    Table.ALLOWANCE: "Looked up before anything is handed to the controller: the meter that bounds it. It forwards "
    "nothing.",
    Table.DNS_ALLOWANCE: "As allowance, for questions to the resolver: programs ask many at once.",
    Table.STAMP: "One flow whose cookie is the digest of all that is installed.",
}


class Reg:
    """The registers, by the name of their field. REGISTER_DOC says what they hold."""

    NETWORK = "metadata"
    FLAGS = "reg0"
    ROUTER = "reg5"
    SOURCE_PORT = "reg6"
    TARGET_PORT = "reg7"
    SOURCE_ZONE = "reg8"
    TARGET_ZONE = "reg9"
    GROUP = "reg10"
    ALLOWED_BY = "reg11"
    DIRECTION = "reg12"
    FLOOD_PART = "reg14"
    SCRATCH = "reg15"


REGISTER_DOC: tuple[tuple[str, str, str], ...] = (
    (Reg.NETWORK, "network", "key of the network the packet is on now"),
    (
        Reg.FLAGS,
        "flags",
        "bit 0: came in by an uplink; 1: to the group of all nodes; 2: from outside, to a floating IP or untranslated; "
        "3: larger than the network "
        "that it goes to takes; 4: larger than any frame of its sender's, so to be cut by the sender's kernel or ours; "
        "5: taken from the operator's router; 6: handed on for a VM that moves, and allowed there already; "
        "7: from outside, for a port of whatever node; 8: DHCP that a relay has handed on; "
        "9: neighbour discovery that is longer than its options may be",
    ),
    (Reg.ROUTER, "router", "router_key of the network: what is routed to each other; 0: not routed"),
    (Reg.SOURCE_PORT, "source port", "key of the port that a VM's packet came from, 0 for others"),
    (Reg.TARGET_PORT, "target port", "key of the port to go to, 0xfffffffe for the uplink"),
    (Reg.SOURCE_ZONE, "source zone", "conntrack zone of the source port, 0: without connections"),
    (Reg.TARGET_ZONE, "target zone", "conntrack zone of the target port, 0: without connections"),
    (
        Reg.GROUP,
        "group",
        "key of the security group whose rules are asked; with bit 31 the network, for what comes from itself; before "
        "that 0: conntrack was asked, 1: it was not",
    ),
    (
        Reg.ALLOWED_BY,
        "allowed by",
        "key of the rule that allows the packet (of those of a group that name the same "
        "remote, the first), or the network as in reg10; 0: none",
    ),
    (Reg.DIRECTION, "direction", "the rules that are asked: 1 about what the port begins, 2 about what others begin"),
    (Reg.FLOOD_PART, "flood part", "which part of a network's local ports is being flooded"),
    (Reg.SCRATCH, "scratch", "nothing from one flow to the next"),
)

FLAG_FROM_UPLINK = 1
FLAG_TO_GROUP = 2
FLAG_FLOATING = 4
FLAG_LIFTED = 32
FLAG_COPY = 64
FLAG_ONWARD = 128
FLAG_RELAYED = 256
TOO_LARGE_BIT = 3
SEGMENTED_BIT = 4
OVERLONG_BIT = 9
FROM_UPLINK = (FLAG_FROM_UPLINK, FLAG_FROM_UPLINK)  # value and mask of Reg.FLAGS in a match
TO_GROUP = (FLAG_TO_GROUP, FLAG_TO_GROUP)
TO_FLOATING = (FLAG_FLOATING, FLAG_FLOATING)
NOT_FLOATING = (0, FLAG_FLOATING)
COPIED = (FLAG_COPY, FLAG_COPY)
ONWARD = (FLAG_ONWARD, FLAG_ONWARD)
LIFTED = (FLAG_LIFTED, FLAG_LIFTED)
RELAYED = (FLAG_RELAYED, FLAG_RELAYED)
OVERLONG = (1 << OVERLONG_BIT, 1 << OVERLONG_BIT)
TOO_LARGE = (1 << TOO_LARGE_BIT, 1 << TOO_LARGE_BIT | 1 << SEGMENTED_BIT)
UPLINK_PORT = 0xFFFFFFFE
# OpenFlow port number of the interface towards the node's relay: below those of the uplinks (agent/wanted.py)
SERVICE_OFPORT = 65000
METADATA_ADDRESS = 0xA9FEA9FE  # 169.254.169.254, as EC2 has it
METADATA_LINK_LOCAL = 0xFE80_0000_0000_0000_0000_0000_A9FE_A9FE  # the same over IPv6, as OpenStack has it
# who serves DHCP and DNS where no node has an address (RFC 3927: never routed)
RESOLVER_ADDRESS = 0xA9FEA9FD
CONTROLLER_PORT = 0xFFFFFFFD  # in_port of what the controller itself sends (OpenFlow 1.4 §7.2.1, OFPP_CONTROLLER)
# what a node may use of an address that is its host's own: above the ephemeral ports of Linux (ip(7)), one bit mask
HOST_SNAT_PORTS = (0xF000, 0xFFFF)
FLOOD_PARTS = 32
MEMBER_PARTS = 64
DIRECTION_EGRESS, DIRECTION_INGRESS = 1, 2  # of Reg.DIRECTION
SAME_NETWORK = 1 << 31  # of Reg.GROUP: the rest is a network's key


class CtMark(IntFlag):
    """Bits of the ct_mark of a connection in a port's zone."""

    BEGUN_HERE = 4  # by the port, though conntrack here saw a reply first
    REMEMBERED = 8  # the zone had room for it


# conntrack zones of local ports; 0 is everybody's. A port has two: its connections as it sees them, and as translated.
PORT_ZONES = range(1, 30001)
_NAT_ZONES = 30000


class CtZone(IntEnum):
    """Zones above those of ports."""

    SNAT = 65001


# Meters are numbered by the conntrack zone of the port that they are for: deterministic, and unique on a node.
# A port has up to five; more are for what comes from no VM, and for what
# security groups want reported.
_EGRESS_METERS = 30000
_INGRESS_METERS = 60000
SHARED_METER = 90001
LOG_METER = 90002
TOO_LARGE_METER = 90003
RELAY_METER = 90004
_DNS_METERS = 100000
_FRAGMENT_METERS = 130000
METERS = range(1, _FRAGMENT_METERS + PORT_ZONES[-1] + 1)

# packet_ins per second, and at once: of one port, and of all that comes from no VM
PORT_PACKET_INS = (50, 100)
PORT_DNS_QUERIES = (300, 600)
SHARED_PACKET_INS = (200, 400)
LOG_PACKET_INS = (100, 200)
TOO_LARGE_PACKET_INS = (50, 100)
RELAY_PACKET_INS = (200, 400)
# Fragments per second, and at once, that a VM may send: conntrack keeps what is not whole. In userspace for 15 seconds,
# 5000 for all VMs of a node: one that sends nothing else never holds more than 1800. In the kernel for 30 (IPv6: 60).
PORT_FRAGMENTS = (100, 300)


class Priority(IntEnum):
    """Priorities are compared within a table only. A route's is ROUTE plus its prefix length; FROM_OWN is for what has
    the node's own address as its source, before all else that goes there.
    """

    MISS = 0
    DEFAULT = 10
    LOW = 50
    LEARNED = 80
    NORMAL = 100
    LIMITED = 120
    HIGH = 150
    LOCAL = 200
    GUARD = 250
    FLOATING = 300
    FORWARDING = 310
    EXEMPT = 320
    TOO_LARGE = 330
    FROM_OWN = 330
    MARTIAN = 340
    MUTED = 400
    ROUTE = 100
    # of security rules: clauses about members and CIDRs, then what needs no clauses. The latter plus a prefix length.
    BY_MEMBER = 40
    BY_CIDR = 50
    ALL_OF_CIDR = 150
    ALL_OF_MEMBER = 200
    PROVIDER = 410


# Locally administered addresses of our own range. The group address has the multicast bit: every node hears it.
GATEWAY_MAC = 0x02544C000001
GATEWAY_LINK_LOCAL = 0xFE80_0000_0000_0000_0054_4CFF_FE00_0001  # of that MAC (RFC 4291, appendix A)
ROUTED_GROUP_MAC = 0x03544C000001
SERVICE_MAC = 0x02544C000002  # of the relay, within the node alone
NODE_MAC_PREFIX = 0x02544C010000
NODE_MAC_MASK = 0xFFFFFFFF0000
TEACHER_MAC_PREFIX = 0x02544C020000
GATEWAY_NODE_MAC_PREFIX = 0x02544C030000
# what is to be written by tc on its way round the service port: below these the key of where it goes then
ND_NETWORK_MAC_PREFIX = 0x02544C040000
ND_PORT_MAC_PREFIX = 0x02544C400000
COPY_MAC_PREFIX = 0x02544C800000
COPY_MAC_MASK = 0xFFFFFF800000
_REPLY_COPY = 0x400000
# what only nodes send to, as (value, mask) or value
NODE_MACS: tuple[tuple[int, int] | int, ...] = (
    (NODE_MAC_PREFIX, NODE_MAC_MASK),
    (TEACHER_MAC_PREFIX, NODE_MAC_MASK),
    (COPY_MAC_PREFIX, COPY_MAC_MASK),
    ROUTED_GROUP_MAC,
)

CARRIER_BASE = 0x64400000  # 100.64.0.0/10 (RFC 6598)
CARRIER_MASK = 0xFFC00000
# 64:ff9b:1::/96 of what is for translation within a site (RFC 8215): no subnet can have it
CARRIER_IPV6_BASE = 0x0064_FF9B_0001_0000_0000_0000_0000_0000
CARRIER_IPV6_BITS = 96


def node_mac(node_key: int) -> int:
    """The MAC of a node on the wire. Node keys are below 65536."""
    return NODE_MAC_PREFIX | node_key


def teacher_mac(node_key: int) -> int:
    """A second MAC of a node: what comes from it is to be learned from and not to be delivered."""
    return TEACHER_MAC_PREFIX | node_key


def gateway_node_mac(node_key: int) -> int:
    """A third MAC of a node: what comes there is to leave by this node for the outside. Only networks of gateway mode
    `single` know it.
    """
    return GATEWAY_NODE_MAC_PREFIX | node_key


def nd_port_mac(port_key: int) -> int:
    """Return the source of an advertisement for a port that tc is to write. Port keys have 22 bits."""
    return ND_PORT_MAC_PREFIX | port_key


def nd_network_mac(network_key: int) -> int:
    """Return the source of an advertisement for an external network that tc is to write. Network keys have 16 bits."""
    return ND_NETWORK_MAC_PREFIX | network_key


def nd_code(flags: int) -> int:
    """Return the ICMPv6 code that asks tc for the flags of an advertisement: their octet (RFC 4861 §4.4)."""
    return flags >> 24


def copy_mac(port_key: int, *, reply: bool = False) -> int:
    """What a node sends from when it hands on a frame for a VM that moves. Port keys have 22 bits.

    `reply`: the frame belongs to a connection that the VM began.
    """
    return COPY_MAC_PREFIX | (_REPLY_COPY if reply else 0) | port_key


def nat_zone(zone: int) -> int:
    """The zone in which a port's floating IPs and carrier address are translated, so that no two ports ever meet."""
    return _NAT_ZONES + zone


def packet_in_meter(zone: int) -> int:
    """Bounds what a port causes the controller to do."""
    return zone


def dns_meter(zone: int) -> int:
    """Bounds what a port asks the resolver."""
    return _DNS_METERS + zone


def fragment_meter(zone: int) -> int:
    """Bounds the fragments that a VM sends."""
    return _FRAGMENT_METERS + zone


def egress_meter(zone: int) -> int:
    """Bounds what a VM sends."""
    return _EGRESS_METERS + zone


def ingress_meter(zone: int) -> int:
    """Bounds what a VM receives."""
    return _INGRESS_METERS + zone


def carrier_address(port_key: int) -> int:
    """The address, unique in the cloud, that stands for a port whose own address is not unique."""
    return CARRIER_BASE | port_key


def ipv6_carrier_address(port_key: int) -> int:
    """The same for IPv6, towards the node's relay alone."""
    return CARRIER_IPV6_BASE | port_key


def carried_port(address: IPv4Address | IPv6Address) -> int | None:
    """The key of the port that a carrier address stands for, None for any other address."""
    value = int(address)
    key = value & ~CARRIER_MASK & 0xFFFFFFFF
    made = carrier_address(key) if isinstance(address, IPv4Address) else ipv6_carrier_address(key)
    return key if key and value == made else None
