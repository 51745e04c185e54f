"""The wires between the nodes: a rack switch for each physical network, and the outside world.

The rack is one namespace with one plain Linux bridge per physical network; VLAN tags pass through it untouched. The
outside world is a router with an address on the external network and a host one hop behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Network

from etc.lab import netns

EXTERNAL_NETWORK = IPv4Network("203.0.113.0/24")
OUTSIDE_ROUTER = IPv4Interface("203.0.113.1/24")
FAR_NETWORK_ROUTER = IPv4Interface("198.51.100.1/24")
FAR_HOST = IPv4Interface("198.51.100.10/24")
OUTSIDE_INTERFACE = "ext0"
EXTERNAL_IPV6 = IPv6Network("2001:db8:ff::/64")
FAR_IPV6 = IPv6Network("2001:db8:f::/64")
FAR_HOST_IPV6 = FAR_IPV6[16]

# A rack switch is silent: no spanning tree, no addresses, no packet filter of the machine in between.
QUIET = {
    "ipv6/conf/all/disable_ipv6": 1,
    "ipv6/conf/default/disable_ipv6": 1,
    "bridge/bridge-nf-call-iptables": 0,
    "bridge/bridge-nf-call-ip6tables": 0,
    "bridge/bridge-nf-call-arptables": 0,
}


class Fabric:
    """`external` is the physical network that the outside world is on; it must be one of `physical_networks`."""

    def __init__(self, prefix: str, physical_networks: Sequence[str], external: str, mtu: int = 1500) -> None:
        if external not in physical_networks:
            raise ValueError(f"{external} is not one of {', '.join(physical_networks)}")
        self.rack = f"{prefix}-rack"
        self.outside = f"{prefix}-out"
        self.far = f"{prefix}-far"
        self.physical_networks = tuple(physical_networks)
        self.external = external
        self.mtu = mtu

    @property
    def far_host(self) -> IPv4Address:
        """An address that only routing and NAT reach."""
        return FAR_HOST.ip

    def start(self) -> None:
        netns.create(self.rack, self.outside, self.far)
        for namespace in (self.rack, self.outside, self.far):
            netns.set_sysctl(namespace, QUIET)
        # The MTU is set by hand: a bridge would otherwise take the smallest one of its ports.
        netns.configure(
            self.rack,
            *(
                line
                for name in self.physical_networks
                for line in (
                    f"link add {name} type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
                    f"link set {name} mtu {self.mtu} up",
                )
            ),
        )
        self.connect(self.outside, OUTSIDE_INTERFACE, self.external, "out")
        netns.veth(self.outside, "far0", self.far, "eth0", mtu=self.mtu)
        netns.set_sysctl(self.outside, {"ipv4/ip_forward": 1})
        netns.configure(
            self.outside,
            f"address add {OUTSIDE_ROUTER} dev {OUTSIDE_INTERFACE}",
            f"address add {FAR_NETWORK_ROUTER} dev far0",
        )
        netns.configure(self.far, f"address add {FAR_HOST} dev eth0", f"route add default via {FAR_NETWORK_ROUTER.ip}")

    def speak_ipv6(self, *inside: IPv6Network) -> None:
        """Outside, too. Its router, the first of EXTERNAL_IPV6, takes the networks inside to be on that very link."""
        for namespace in (self.outside, self.far):
            netns.set_sysctl(namespace, {"ipv6/conf/all/disable_ipv6": 0, "ipv6/conf/default/disable_ipv6": 0})
        netns.set_sysctl(self.outside, {"ipv6/conf/all/forwarding": 1})
        netns.configure(
            self.outside,
            f"address add {EXTERNAL_IPV6[1]}/64 dev {OUTSIDE_INTERFACE} nodad",
            f"address add {FAR_IPV6[1]}/64 dev far0 nodad",
            *(f"route add {prefix} dev {OUTSIDE_INTERFACE}" for prefix in inside),
        )
        far = (f"address add {FAR_HOST_IPV6}/64 dev eth0 nodad", f"route add default via {FAR_IPV6[1]}")
        netns.configure(self.far, *far)

    def connect(self, namespace: str, interface: str, physical_network: str, cable: str) -> None:
        """Run a cable from an interface of a namespace to the rack switch; `cable` names the rack's end."""
        netns.veth(namespace, interface, self.rack, cable, mtu=self.mtu)
        netns.configure(self.rack, f"link set {cable} master {physical_network}")

    def set_cable(self, cable: str, *, up: bool) -> None:
        """Pull a cable out of the rack switch, or put it back."""
        netns.configure(self.rack, f"link set {cable} {'up' if up else 'down'}")
