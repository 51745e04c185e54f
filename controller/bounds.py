"""Bounds that the configuration, the API, the store and the command share. No imports: the command starts fast."""

from typing import Final

# Seconds. dhcpcd takes anything shorter for 20, and would use its address longer than it is leased. The most is what a
# column of the database holds; all ones in 32 bits would mean for ever (RFC 2131, 3.3).
LEAST_LEASE_TIME: Final = 20
MOST_LEASE_TIME: Final = 0x7FFFFFFF

# IPv4's own least (RFC 791), and what switches call a jumbo frame.
LEAST_MTU: Final = 68
MOST_MTU: Final = 9216

# What IPv6 takes of every link (RFC 8200, 5).
LEAST_IPV6_MTU: Final = 1280

# 0 and 4095 have meanings of their own (IEEE 802.1Q, 9.6).
FIRST_VLAN: Final = 1
LAST_VLAN: Final = 4094

# Of one network: a port has flows for each.
MOST_SUBNETS: Final = 8

# Seconds: for so long, at most, a controller that gives no sign of life keeps its nodes.
MOST_TTL: Final = 60.0
