"""The name of everything that can happen to a packet_in: the `outcome` label of its counter.

Plain strings and not an enum, because one is counted for every packet.
"""

from __future__ import annotations

from typing import Final

# answered or taken note of
DHCP_OFFER: Final = "dhcp_offer"
DHCP_ACK: Final = "dhcp_ack"
DHCP_INFORM: Final = "dhcp_inform"
DHCP_NAK: Final = "dhcp_nak"
DHCP_DECLINE: Final = "dhcp_decline"
DHCP_RELEASE: Final = "dhcp_release"
DHCPV6_ADVERTISE: Final = "dhcpv6_advertise"
DHCPV6_REPLY: Final = "dhcpv6_reply"
DHCPV6_RENEW: Final = "dhcpv6_renew"
DHCPV6_CONFIRM: Final = "dhcpv6_confirm"
DHCPV6_INFORMATION: Final = "dhcpv6_information"
DHCPV6_RELEASE: Final = "dhcpv6_release"
DHCPV6_DECLINE: Final = "dhcpv6_decline"
DHCPV6_NO_ADDRESS: Final = "dhcpv6_no_address"
DHCPV6_NO_BINDING: Final = "dhcpv6_no_binding"
DHCPV6_NOT_ON_LINK: Final = "dhcpv6_not_on_link"
DHCPV6_USE_MULTICAST: Final = "dhcpv6_use_multicast"
ROUTER_ADVERTISED: Final = "router_advertised"
NEIGHBOUR_SEEN: Final = "neighbour_seen"
TTL_EXPIRED: Final = "ttl_expired"
ARRIVED: Final = "arrived"
ARRIVED_BEFORE: Final = "arrived_before"
HOLDER_HEARD: Final = "holder_heard"
NEIGHBOUR_ASKED: Final = "neighbour_asked"
PACKET_KEPT: Final = "packet_kept"
TOO_LARGE: Final = "too_large"
FRAGMENTED: Final = "fragmented"
CONNECTION_LOGGED: Final = "connection_logged"
SAMPLED_OUT: Final = "sampled_out"
DNS_LOCAL: Final = "dns_local"
DNS_CACHED: Final = "dns_cached"
DNS_FORWARDED: Final = "dns_forwarded"
DNS_REFUSED: Final = "dns_refused"
DNS_NO_UPSTREAM: Final = "dns_no_upstream"
DNS_TOO_MANY: Final = "dns_too_many"
DNS_MALFORMED: Final = "dns_malformed"

# refused whatever the protocol
UNKNOWN_COOKIE: Final = "drop_unknown_cookie"
UNKNOWN_OBJECT: Final = "drop_unknown_object"
WRONG_IN_PORT: Final = "drop_wrong_in_port"
RATE_LIMITED: Final = "drop_rate_limited"
MALFORMED: Final = "drop_malformed"
SPOOFED_SOURCE: Final = "drop_spoofed_source"
NO_ADDRESS: Final = "drop_no_address"
NO_GATEWAY: Final = "drop_no_gateway"
INTERNAL_ERROR: Final = "drop_internal_error"

# refused by DHCP
DHCP_DISABLED: Final = "drop_dhcp_disabled"
DHCP_BOOTP: Final = "drop_dhcp_bootp"
DHCP_BAD_OPTIONS: Final = "drop_dhcp_bad_options"
DHCP_BAD_TYPE: Final = "drop_dhcp_bad_type"
DHCP_FOREIGN_CHADDR: Final = "drop_dhcp_foreign_chaddr"
DHCP_RELAYED: Final = "drop_dhcp_relayed"
DHCP_NO_NETWORK: Final = "drop_dhcp_no_network"
DHCP_NO_PORT: Final = "drop_dhcp_no_port"
DHCP_OTHER_SERVER: Final = "drop_dhcp_other_server"
DHCP_FOREIGN_ADDRESS: Final = "drop_dhcp_foreign_address"
DHCP_NO_STATE: Final = "drop_dhcp_no_state"

# refused by DHCPv6
DHCPV6_DISABLED: Final = "drop_dhcpv6_disabled"
DHCPV6_BAD_OPTIONS: Final = "drop_dhcpv6_bad_options"
DHCPV6_BAD_TYPE: Final = "drop_dhcpv6_bad_type"
DHCPV6_OTHER_SERVER: Final = "drop_dhcpv6_other_server"
DHCPV6_RELAYED: Final = "drop_dhcpv6_relayed"
DHCPV6_UNICAST: Final = "drop_dhcpv6_unicast"

# refused elsewhere
NEIGHBOUR_UNWANTED: Final = "drop_neighbour_unwanted"
TTL_SILENT: Final = "drop_ttl_silent"
NO_RECEIVER: Final = "drop_no_receiver"
TOO_LARGE_SILENT: Final = "drop_too_large_silent"
NO_NEXT_HOP: Final = "drop_no_next_hop"

# was kept before
UNRESOLVED: Final = "drop_unresolved"

ALL: Final[tuple[str, ...]] = tuple(sorted(value for name, value in globals().items() if name.isupper()))
