"""Numbers of the protocols that flows match and set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# Ethernet (IEEE 802): EtherTypes, and the bit of a group address
ETH_IP: Final = 0x0800
ETH_ARP: Final = 0x0806
ETH_RARP: Final = 0x8035
ETH_IPV6: Final = 0x86DD
ETH_MULTICAST_BIT: Final = 0x010000000000
ETH_UNICAST: Final = (0, ETH_MULTICAST_BIT)
ETH_MULTICAST: Final = (ETH_MULTICAST_BIT, ETH_MULTICAST_BIT)  # value and mask

# vlan_vid of a frame without a tag, and the bit that a tag adds to its VLAN id (OpenFlow 1.4 §7.2.3.7)
VLAN_NONE: Final = 0
VLAN_PRESENT: Final = 0x1000

# ARP operations (RFC 826), and of RARP the one that a hypervisor sends (RFC 903)
ARP_REQUEST: Final = 1
ARP_REPLY: Final = 2
RARP_REQUEST: Final = 3

# ip_frag, value and mask: Open vSwitch sets bit 0 in every fragment (ovs-fields(7))
ANY_FRAGMENT: Final = (1, 1)
NO_FRAGMENT: Final = 0

# IPv4 protocols (RFC 790), ICMP types (RFC 792), UDP ports of DHCP (RFC 2131, 4.1)
PROTO_ICMP: Final = 1
PROTO_TCP: Final = 6
PROTO_UDP: Final = 17
ICMP_ECHO_REPLY: Final = 0
ICMP_ECHO_REQUEST: Final = 8
ICMP_UNREACHABLE: Final = 3
ICMP_REDIRECT: Final = 5
ICMP_ERRORS: Final = (3, 4, 5, 11, 12)
DHCP_SERVER_PORT: Final = 67
DHCP_CLIENT_PORT: Final = 68
DNS_PORT: Final = 53  # RFC 1035, 4.2; RFC 7766

# IPv6 (RFC 8200): protocols, ICMPv6 types (RFC 4443, 4861, 2710, 3810), UDP ports of DHCPv6 (RFC 8415, 7.2)
PROTO_IPV6_FRAGMENT: Final = 44
PROTO_ICMPV6: Final = 58
ICMPV6_ERRORS: Final = (1, 2, 3, 4)
ICMPV6_TOO_BIG: Final = 2
ICMPV6_ECHO_REQUEST: Final = 128
ICMPV6_ECHO_REPLY: Final = 129
MLD_QUERY: Final = 130
MLD_REPORT: Final = 131
MLD_DONE: Final = 132
MLD2_REPORT: Final = 143
ND_ROUTER_SOLICITATION: Final = 133
ND_ROUTER_ADVERTISEMENT: Final = 134
ND_SOLICITATION: Final = 135
ND_ADVERTISEMENT: Final = 136
ND_REDIRECT: Final = 137
ND_SOURCE_ADDRESS: Final = 1  # option types
ND_TARGET_ADDRESS: Final = 2
ND_IS_ROUTER: Final = 0x80000000  # flags of an advertisement
ND_SOLICITED: Final = 0x40000000
ND_OVERRIDE: Final = 0x20000000
ND_HOP_LIMIT: Final = 255  # what no router has passed on (RFC 4861, 3.1)
DHCPV6_CLIENT_PORT: Final = 546
DHCPV6_SERVER_PORT: Final = 547

HTTP_PORT: Final = 80  # RFC 9110

# as people name IP protocols (IANA, "Assigned Internet Protocol Numbers"); every other has only a number
PROTOCOL_NUMBERS: Final[Mapping[str, int]] = {
    "icmp": PROTO_ICMP,
    "igmp": 2,
    "tcp": PROTO_TCP,
    "udp": PROTO_UDP,
    "dccp": 33,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "icmpv6": PROTO_ICMPV6,
    "ospf": 89,
    "pim": 103,
    "vrrp": 112,
    "sctp": 132,
    "udplite": 136,
}
PROTOCOL_NAMES: Final[Mapping[int, str]] = {number: name for name, number in PROTOCOL_NUMBERS.items()}

# conntrack state bits (ovs-fields(7), ct_state)
CT_NEW: Final = 1
CT_ESTABLISHED: Final = 2
CT_RELATED: Final = 4
CT_REPLY: Final = 8
CT_INVALID: Final = 16
CT_TRACKED: Final = 32
