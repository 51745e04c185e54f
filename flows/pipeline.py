"""The pipeline: every table, register, priority, conntrack zone and cookie, declared once and in pipeline order.

`python -m flows.pipeline` prints docs/pipeline.md; a test fails when the two differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum


class Table(IntEnum):
    """Stable ids with gaps, so that a later feature finds room without renumbering."""

    CLASSIFY = 0
    EXTERNAL_IN = 2
    EXTERNAL_ESTABLISHED = 3
    PORT_SECURITY = 4
    UPLINK_IN = 6
    ARP_RESPONDER = 8
    SERVICES = 12
    ROUTE_OR_SWITCH = 24
    ROUTING = 28
    REMOTE_NEXT_HOP = 30
    NAT_EGRESS = 32
    NODE_SNAT = 34
    EXTERNAL_OUT = 36
    LOCAL_DELIVERY = 40
    TEACH = 42
    L2_FORWARD = 44
    FLOOD = 46
    FLOOD_PART = 47
    OUTPUT = 56
    STAMP = 250


TABLE_DOC: dict[Table, str] = {
    Table.CLASSIFY: "in_port (and VLAN) names the network, the router and the source port. A VM goes on to "
    "port_security, an uplink to uplink_in or external_in.",
    Table.EXTERNAL_IN: "From an external network: ARP for the node's SNAT address is answered in place; packets to "
    "it are un-translated by conntrack.",
    Table.EXTERNAL_ESTABLISHED: "Only replies and related errors come in: what a VM did not begin is dropped.",
    Table.PORT_SECURITY: "A VM sends from its own MAC, IP and ARP addresses or not at all.",
    Table.UPLINK_IN: "From a project's segment on the wire: gateway ARP and foreign DHCP stop here; frames routed "
    "by another node are delivered.",
    Table.ARP_RESPONDER: "Gateway addresses (and known ports where the network asks for it) are answered in place.",
    Table.SERVICES: "DHCP goes to the controller; echo requests to the gateway are answered in place.",
    Table.ROUTE_OR_SWITCH: "A frame to the gateway's MAC is routed, any other is switched.",
    Table.ROUTING: "The subnets of the network's router, then the default route.",
    Table.REMOTE_NEXT_HOP: "Learned from traffic: which node a routed address was last seen behind. Not computed, "
    "never in the digest; without an entry the frame goes to the group of all nodes.",
    Table.NAT_EGRESS: "Leaving for the outside: the carrier address first where ranges overlap, else at once the "
    "node's SNAT address.",
    Table.NODE_SNAT: "Carrier address to the node's SNAT address.",
    Table.EXTERNAL_OUT: "The next hop's MAC, and out.",
    Table.LOCAL_DELIVERY: "A routed packet for a local port gets that port's MAC.",
    Table.TEACH: "A frame that came to the group of all nodes: its sender is told behind which node the address is.",
    Table.L2_FORWARD: "(network, eth_dst) to a local port; broadcast floods; unknown unicast goes to the uplink, never "
    "back to it.",
    Table.FLOOD: "The local ports of a network.",
    Table.FLOOD_PART: "Some of the local ports of a network.",
    Table.OUTPUT: "To the port or uplink named by reg7; a network's VLAN tag goes on here.",
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
    FLOOD_PART = "reg14"
    SCRATCH = "reg15"


REGISTER_DOC: tuple[tuple[str, str, str], ...] = (
    (Reg.NETWORK, "network", "key of the network the packet is on now"),
    (Reg.FLAGS, "flags", "bit 0: came in by an uplink; bit 1: to the group of all nodes"),
    (Reg.ROUTER, "router", "router_key of the network: what is routed to each other; 0: not routed"),
    (Reg.SOURCE_PORT, "source port", "key of the port that a VM's packet came from, 0 for others"),
    (Reg.TARGET_PORT, "target port", "key of the port to go to, 0xfffffffe for the uplink"),
    (Reg.SOURCE_ZONE, "source zone", "conntrack zone of the source port"),
    (Reg.FLOOD_PART, "flood part", "which part of a network's local ports is being flooded"),
    (Reg.SCRATCH, "scratch", "nothing from one flow to the next"),
)

FLAG_FROM_UPLINK = 1
FLAG_TO_GROUP = 2
FROM_UPLINK = (FLAG_FROM_UPLINK, FLAG_FROM_UPLINK)  # value and mask of Reg.FLAGS in a match
TO_GROUP = (FLAG_TO_GROUP, FLAG_TO_GROUP)
UPLINK_PORT = 0xFFFFFFFE
FLOOD_PARTS = 32


# conntrack zones of local ports; 0 is everybody's
PORT_ZONES = range(1, 60001)


class CtZone(IntEnum):
    """Zones above those of ports."""

    SNAT = 65001


class Priority(IntEnum):
    """Priorities are compared within a table only. A route's is ROUTE plus its prefix length."""

    MISS = 0
    DEFAULT = 10
    LOW = 50
    LEARNED = 80
    NORMAL = 100
    HIGH = 150
    LOCAL = 200
    GUARD = 250
    ROUTE = 100


# Locally administered addresses of our own range. The group address has the multicast bit: every node hears it.
GATEWAY_MAC = 0x02544C000001
ROUTED_GROUP_MAC = 0x03544C000001
NODE_MAC_PREFIX = 0x02544C010000
NODE_MAC_MASK = 0xFFFFFFFF0000
TEACHER_MAC_PREFIX = 0x02544C020000
# what only nodes send to, as (value, mask) or value
NODE_MACS: tuple[tuple[int, int] | int, ...] = (
    (NODE_MAC_PREFIX, NODE_MAC_MASK),
    (TEACHER_MAC_PREFIX, NODE_MAC_MASK),
    ROUTED_GROUP_MAC,
)

CARRIER_BASE = 0x64400000  # 100.64.0.0/10 (RFC 6598)
CARRIER_MASK = 0xFFC00000


def node_mac(node_key: int) -> int:
    """The MAC of a node on the wire. Node keys are below 65536."""
    return NODE_MAC_PREFIX | node_key


def teacher_mac(node_key: int) -> int:
    """A second MAC of a node: what comes from it is to be learned from and not to be delivered."""
    return TEACHER_MAC_PREFIX | node_key


def carrier_address(port_key: int) -> int:
    """The address, unique in the cloud, that stands for a port whose own address is not unique."""
    return CARRIER_BASE | port_key


@dataclass(frozen=True, slots=True)
class _RuleInfo:
    number: int
    table: Table
    drop: bool
    about: str
    doc: str


class Rule(Enum):
    """Why a flow is there: the upper half of its cookie. The lower half is the key of the object named by `about`."""

    CLASSIFY_PORT = _RuleInfo(1, Table.CLASSIFY, False, "port", "a VM's interface")
    CLASSIFY_UPLINK = _RuleInfo(2, Table.CLASSIFY, False, "network", "a network on an uplink")
    DROP_UNCLASSIFIED = _RuleInfo(3, Table.CLASSIFY, True, "", "interface, VLAN or tag that belongs to no network here")
    CLASSIFY_EXTERNAL = _RuleInfo(4, Table.CLASSIFY, False, "network", "an external network on an uplink")
    SNAT_ARP = _RuleInfo(10, Table.EXTERNAL_IN, False, "network", "ARP for the node's SNAT address")
    PUNT_NEIGHBOUR = _RuleInfo(11, Table.EXTERNAL_IN, False, "network", "the next hop's MAC by ARP: to the controller")
    UNSNAT = _RuleInfo(12, Table.EXTERNAL_IN, False, "network", "packet to the node's SNAT address")
    EXTERNAL_TO_PORTS = _RuleInfo(13, Table.EXTERNAL_IN, False, "network", "an external network with VMs of its own")
    DROP_EXTERNAL = _RuleInfo(14, Table.EXTERNAL_IN, True, "", "not for an address of this node")
    DROP_UNSOLICITED = _RuleInfo(20, Table.EXTERNAL_ESTABLISHED, True, "", "not a reply to anything a VM sent")
    EXTERNAL_REPLY = _RuleInfo(21, Table.EXTERNAL_ESTABLISHED, False, "network", "reply to a VM of the network")
    CARRIER_REPLY = _RuleInfo(22, Table.EXTERNAL_ESTABLISHED, False, "port", "reply to a port's carrier address")
    DROP_INVALID = _RuleInfo(23, Table.EXTERNAL_ESTABLISHED, True, "", "conntrack finds the packet invalid")
    ALLOW_ARP = _RuleInfo(30, Table.PORT_SECURITY, False, "port", "ARP with the port's own addresses")
    ALLOW_ARP_PROBE = _RuleInfo(31, Table.PORT_SECURITY, False, "port", "ARP probe (RFC 5227)")
    ALLOW_IP = _RuleInfo(32, Table.PORT_SECURITY, False, "port", "IPv4 from the port's own addresses")
    ALLOW_DHCP = _RuleInfo(33, Table.PORT_SECURITY, False, "port", "DHCP client without an address yet")
    DROP_SPOOFED = _RuleInfo(34, Table.PORT_SECURITY, True, "port", "source MAC, IP or ARP address not the port's own")
    DROP_DHCP_SERVER = _RuleInfo(35, Table.PORT_SECURITY, True, "", "a VM that answers as a DHCP server")
    DROP_BROADCAST_FRAGMENT = _RuleInfo(36, Table.PORT_SECURITY, True, "", "broadcast fragment: hides its UDP ports")
    DROP_IPV6 = _RuleInfo(38, Table.PORT_SECURITY, True, "port", "IPv6: there is none yet, and every guest tries it")
    DROP_NODE_MAC = _RuleInfo(37, Table.PORT_SECURITY, True, "network", "a VM sends to a MAC that only nodes use")
    UPLINK_ROUTED = _RuleInfo(40, Table.UPLINK_IN, False, "network", "routed by another node to one of ours")
    UPLINK_TAUGHT = _RuleInfo(46, Table.UPLINK_IN, False, "network", "another node says what is behind it")
    DROP_UPLINK_GATEWAY = _RuleInfo(41, Table.UPLINK_IN, True, "network", "gateway ARP from the wire")
    DROP_UPLINK_ANYCAST = _RuleInfo(42, Table.UPLINK_IN, True, "", "the anycast gateway MAC from the wire")
    DROP_UPLINK_DHCP = _RuleInfo(43, Table.UPLINK_IN, True, "network", "DHCP from the wire on a network that we serve")
    UPLINK_SWITCHED = _RuleInfo(44, Table.UPLINK_IN, False, "", "switched frame from the wire")
    DROP_ROUTED_NOT_IP = _RuleInfo(45, Table.UPLINK_IN, True, "", "frame to a node's own MAC that is not IPv4")
    ARP_GATEWAY = _RuleInfo(50, Table.ARP_RESPONDER, False, "network", "ARP for a gateway address")
    ARP_PORT = _RuleInfo(51, Table.ARP_RESPONDER, False, "port", "ARP for a known port")
    ARP_SWITCHED_OWN = _RuleInfo(53, Table.ARP_RESPONDER, False, "port", "a port asks for its own address")
    ARP_SWITCHED = _RuleInfo(52, Table.ARP_RESPONDER, False, "", "any other ARP")
    PUNT_DHCP = _RuleInfo(60, Table.SERVICES, False, "port", "DHCP request, to the controller")
    GATEWAY_ECHO = _RuleInfo(61, Table.SERVICES, False, "network", "echo request to the gateway")
    DROP_GATEWAY = _RuleInfo(62, Table.SERVICES, True, "network", "the gateway offers nothing else")
    SERVICES_DONE = _RuleInfo(63, Table.SERVICES, False, "", "not for a service")
    ROUTE = _RuleInfo(70, Table.ROUTE_OR_SWITCH, False, "", "to the gateway's MAC")
    SWITCH = _RuleInfo(71, Table.ROUTE_OR_SWITCH, False, "", "to any other MAC")
    PUNT_TTL_EXPIRED = _RuleInfo(80, Table.ROUTING, False, "network", "TTL used up: the controller says so by ICMP")
    DROP_TTL_EXPIRED = _RuleInfo(81, Table.ROUTING, True, "", "TTL used up")
    ROUTE_SUBNET = _RuleInfo(82, Table.ROUTING, False, "network", "a subnet of the same router")
    ROUTE_DEFAULT = _RuleInfo(83, Table.ROUTING, False, "network", "the way out")
    DROP_NO_ROUTE = _RuleInfo(84, Table.ROUTING, True, "", "no route to there")
    LEARNED_NEXT_HOP = _RuleInfo(85, Table.REMOTE_NEXT_HOP, False, "", "the node a routed address was last seen behind")
    SNAT = _RuleInfo(90, Table.NAT_EGRESS, False, "network", "to the node's SNAT address")
    CARRIER = _RuleInfo(91, Table.NAT_EGRESS, False, "port", "to the port's carrier address")
    DROP_ICMP_ERROR = _RuleInfo(88, Table.NAT_EGRESS, True, "", "ICMP error of a VM: could quote another's flow")
    DROP_NO_NAT = _RuleInfo(92, Table.NAT_EGRESS, True, "", "no SNAT address for this network on this node")
    SNAT_CARRIER = _RuleInfo(93, Table.NODE_SNAT, False, "network", "from the carrier to the node's SNAT address")
    DROP_NO_SNAT = _RuleInfo(94, Table.NODE_SNAT, True, "", "no SNAT address for this network on this node")
    EXTERNAL_NEXT_HOP = _RuleInfo(95, Table.EXTERNAL_OUT, False, "network", "to the next hop")
    DROP_NEXT_HOP_UNRESOLVED = _RuleInfo(96, Table.EXTERNAL_OUT, True, "network", "no ARP answer from the next hop yet")
    DROP_UNTRANSLATED = _RuleInfo(89, Table.EXTERNAL_OUT, True, "", "conntrack had no room to translate it")
    DROP_EXTERNAL_SELF = _RuleInfo(97, Table.EXTERNAL_OUT, True, "network", "to the node's own SNAT address")
    DROP_INVALID_OUT = _RuleInfo(98, Table.EXTERNAL_OUT, True, "", "conntrack finds it invalid: it is not translated")
    DROP_INVALID_CARRIER = _RuleInfo(99, Table.NODE_SNAT, True, "", "conntrack finds it invalid: it is not translated")
    DELIVER = _RuleInfo(100, Table.LOCAL_DELIVERY, False, "port", "routed packet for a local port")
    DROP_ROUTED_UNKNOWN = _RuleInfo(101, Table.LOCAL_DELIVERY, True, "", "routed here by another node: no such port")
    DELIVER_REMOTE = _RuleInfo(102, Table.LOCAL_DELIVERY, False, "", "routed packet for a port elsewhere")
    DROP_TAUGHT = _RuleInfo(104, Table.TEACH, True, "", "a frame that was only to be learned from")
    TEACH = _RuleInfo(103, Table.TEACH, False, "network", "to the sender of a frame to the group")
    L2_LOCAL = _RuleInfo(110, Table.L2_FORWARD, False, "port", "local port by MAC")
    L2_FLOOD = _RuleInfo(111, Table.L2_FORWARD, False, "network", "broadcast and multicast")
    L2_UPLINK = _RuleInfo(112, Table.L2_FORWARD, False, "network", "unknown unicast from a VM")
    DROP_UNKNOWN_UNICAST = _RuleInfo(113, Table.L2_FORWARD, True, "", "from the wire, for nobody here")
    DROP_NO_UPLINK = _RuleInfo(114, Table.L2_FORWARD, True, "", "for elsewhere, but the network has no uplink here")
    DROP_GATEWAY_MAC = _RuleInfo(117, Table.L2_FORWARD, True, "", "to the gateway's MAC, but nothing the gateway takes")
    FLOOD_LOCAL = _RuleInfo(115, Table.FLOOD, False, "network", "to each part of the local ports")
    FLOOD_PART = _RuleInfo(118, Table.FLOOD_PART, False, "network", "to some of them")
    DROP_NOBODY = _RuleInfo(116, Table.FLOOD, True, "", "broadcast with nobody to hear it")
    OUTPUT_PORT = _RuleInfo(120, Table.OUTPUT, False, "port", "out to a VM")
    OUTPUT_UPLINK = _RuleInfo(121, Table.OUTPUT, False, "network", "out to the wire")
    OUTPUT_UPLINK_ROUTED = _RuleInfo(122, Table.OUTPUT, False, "network", "routed: out with the node's own MAC")
    DROP_TO_ITSELF = _RuleInfo(124, Table.OUTPUT, True, "port", "a VM sends to itself")
    DROP_NO_OUTPUT = _RuleInfo(123, Table.OUTPUT, True, "", "the target is not on this node")
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


def cookie(rule: Rule, key: int = 0) -> int:
    """64 bits: our mark (8), the rule (24), the object's key (32)."""
    return COOKIE_OURS | rule.number << 32 | key


def decode_cookie(value: int) -> tuple[Rule, int] | None:
    """The rule and object key of a cookie, or None when it is not one of ours."""
    if value & COOKIE_OURS_MASK != COOKIE_OURS:
        return None
    rule = _RULES_BY_NUMBER.get(value >> 32 & 0xFFFFFF)
    return None if rule is None else (rule, value & 0xFFFFFFFF)


def document() -> str:
    """docs/pipeline.md."""
    lines = [
        "# The pipeline",
        "",
        "Generated by `python -m flows.pipeline` from `flows/pipeline.py`; do not edit.",
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
        "Every drop has a rule of its own.",
        "",
        "| rule | number | table | of | drops | why it is there |",
        "|---|---|---|---|---|---|",
        *(
            f"| `{rule.name.lower()}` | {rule.number} | {rule.table.name.lower()} | {rule.about or '-'} | "
            f"{'yes' if rule.drop else ''} | {rule.doc} |"
            for rule in Rule
        ),
        "",
        "## Conntrack zones",
        "",
        "| zone | for |",
        "|---|---|",
        f"| {PORT_ZONES[0]}-{PORT_ZONES[-1]} | one per local port |",
        *(f"| {zone.value} | {zone.name} |" for zone in CtZone),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(document(), end="")
