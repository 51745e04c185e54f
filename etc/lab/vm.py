"""A VM, as the network sees one: a namespace with one interface, one MAC address and a real DHCP client."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address
from pathlib import Path

from agent import plugging
from controller.client import Object
from etc.lab import netns, probes
from etc.lab.capture import Capture
from etc.lab.dhcp_clients import Guest, start_client
from etc.lab.node import Node
from etc.lab.processes import Process, wait_until

INTERFACE = "eth0"


@dataclass(frozen=True)
class Configured:
    """What the DHCP client made of its lease, read back from the kernel and the guest's resolv.conf."""

    address: IPv4Interface
    router: IPv4Address | None
    mtu: int
    dns_servers: tuple[IPv4Address, ...]


@dataclass(frozen=True)
class Ipv6Configured:
    """What a guest has of IPv6, whoever in it has asked. `addresses` are global, and in use."""

    addresses: tuple[IPv6Interface, ...]
    router: IPv6Address | None


class Vm:
    """`port` is the API's answer for the port that the VM's interface is to be; its MAC address is taken from there."""

    def __init__(self, namespace: str, name: str, node: Node, port: Object, directory: Path) -> None:
        self.namespace = namespace
        self.name = name
        self.node = node
        self.port = port
        self.directory = directory
        self.client: Process | None = None

    @property
    def address(self) -> IPv4Address:
        """The address the port has in the database; what the guest has is in `configured`."""
        return IPv4Address(self.port["fixed_ips"][0]["address"])

    @property
    def ipv6_addresses(self) -> frozenset[IPv6Address]:
        """Those that the port has in the database."""
        held = (ip_address(item["address"]) for item in self.port["fixed_ips"])
        return frozenset(address for address in held if isinstance(address, IPv6Address))

    @property
    def mac(self) -> str:
        return str(self.port["mac"])

    @property
    def device(self) -> str:
        """The node's end of the VM's interface."""
        return plugging.interface_name(str(self.port["id"]))

    @property
    def _guest(self) -> Guest:
        return Guest(self.namespace, INTERFACE, str(self.port.get("hostname") or self.name), self.directory)

    def plug(self, mtu: int = 1500) -> None:
        """Make the namespace, if there is none, and join it to the node's integration bridge."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if self.namespace not in netns.names(self.namespace):
            netns.create(self.namespace)
        port = plugging.PlugPort(str(self.port["id"]), self.mac, mtu, self.name)
        with netns.inside(self.node.namespace):
            plugging.plug(port, namespace=self.namespace, guest_ifname=INTERFACE, ovsdb=self.node.ovs.database)

    def unplug(self) -> None:
        """Take the interface away from the bridge; the namespace and what runs in it stay."""
        with netns.inside(self.node.namespace):
            plugging.unplug(str(self.port["id"]), namespace=self.namespace, ovsdb=self.node.ovs.database)

    def delete(self) -> None:
        """Stop what runs in the VM, unplug it and remove its namespace."""
        self.stop_client()
        self.unplug()
        netns.end_processes([self.namespace])
        netns.delete(self.namespace)

    def start_client(self, name: str = "udhcpc") -> None:
        """Start a client: udhcpc, dhcpcd, dhclient or networkd, and for IPv6 dhcpcd6, dhclient6 or networkd6."""
        self.client = start_client(name, self._guest)

    def stop_client(self) -> None:
        if self.client:
            self.client.stop()
            self.client = None

    def renew(self) -> None:
        """udhcpc only: ask the server for the lease again, now."""
        assert self.client
        self.client.signal(signal.SIGUSR1)

    def wait_renewed(self) -> dict[str, str]:
        """udhcpc only: renew the lease, wait for the answer and return it. Raises DeadlineMissed."""
        self._guest.lease_file.unlink()
        self.renew()
        return self._guest.wait_lease("renew")

    def release(self) -> None:
        """udhcpc only: give the lease back."""
        assert self.client
        self.client.signal(signal.SIGUSR2)

    def configured(self) -> Configured | None:
        """None while the guest has no address."""
        link = netns.query(self.namespace, "-4", "address", "show", "dev", INTERFACE)
        found = [each for each in link[0].get("addr_info", []) if each.get("scope") == "global"] if link else []
        if not found:
            return None
        routes = netns.query(self.namespace, "-4", "route", "show", "default")
        gateways = [IPv4Address(route["gateway"]) for route in routes if "gateway" in route]
        return Configured(
            IPv4Interface(f"{found[0]['local']}/{found[0]['prefixlen']}"),
            gateways[0] if gateways else None,
            int(link[0]["mtu"]),
            tuple(IPv4Address(server) for server in self.name_servers()),
        )

    def ipv6_configured(self) -> Ipv6Configured:
        link = netns.query(self.namespace, "-6", "address", "show", "dev", INTERFACE, "scope", "global", "-tentative")
        found = [each for part in link for each in part.get("addr_info", []) if "local" in each]
        routes = netns.query(self.namespace, "-6", "route", "show", "default")
        routers = [IPv6Address(route["gateway"]) for route in routes if "gateway" in route]
        return Ipv6Configured(
            tuple(
                IPv6Interface(f"{each['local']}/{each['prefixlen']}") for each in found if not each.get("deprecated")
            ),
            routers[0] if routers else None,
        )

    def wait_ipv6(self, deadline: float = 20.0) -> Ipv6Configured:
        """Wait until the guest has the addresses of its port, and no other, and a default route."""

        def ready() -> Ipv6Configured | None:
            now = self.ipv6_configured()
            return now if {each.ip for each in now.addresses} == self.ipv6_addresses and now.router else None

        def complaint() -> str:
            said = self.client.tail(8) if self.client else "no client"
            return f"{self.name} has {self.ipv6_configured()}, not {self.ipv6_addresses}: {said}"

        return wait_until(ready, deadline, complaint, interval=0.05)

    def wait_configured(self, deadline: float = 20.0, *, router: bool = True) -> Configured:
        """Wait until the guest has an address and, unless `router` is false, a default route, and udhcpc, if it runs
        there, has written all else. Raises DeadlineMissed.
        """

        def ready() -> Configured | None:
            now = self.configured()
            whole = now and (now.router or not router) and self.lease().get("event", "bound") in ("bound", "renew")
            return now if whole else None

        def complaint() -> str:
            return f"{self.name} has no lease: {self.client.tail(8) if self.client else 'no DHCP client'}"

        return wait_until(ready, deadline, complaint, interval=0.05)

    def lease(self) -> dict[str, str]:
        """udhcpc only: what the last event brought, as udhcpc names it (ip, router, mtu, lease, staticroutes, ...)."""
        return self._guest.lease()

    def set_address(self, address: IPv4Interface | str, router: object = None) -> None:
        """Configure the guest by hand, without DHCP."""
        route = [f"route replace default via {router}"] if router else []
        netns.configure(
            self.namespace, f"address replace {address} dev {INTERFACE}", f"link set {INTERFACE} up", *route
        )

    def execute(self, *args: str, check: bool = True, deadline: float = 30.0) -> str:
        """Run a command in the VM's network and return what it printed."""
        return netns.execute(self.namespace, *args, check=check, deadline=deadline)

    def ping(
        self,
        address: object,
        *,
        count: int = 3,
        interval: float = 0.05,
        wait: float = probes.LAST_ANSWER,
        size: int = 56,
    ) -> probes.Pinged:
        """`size` is that of the payload in bytes: 42 less than the frame has."""
        enter, options = probes.into(self.namespace), ("-b", str(size))
        return probes.ping(enter, address, count=count, interval=interval, wait=wait, options=options)

    def ping_stream(self, address: object, *, rate: float = 100.0) -> probes.PingStream:
        """Packets at `rate` a second in the background until its stop()."""
        log = self.directory / f"ping-{address}.log"
        return probes.PingStream(probes.into(self.namespace), address, log, rate=rate)

    def arping(self, address: object) -> set[str]:
        """The MAC addresses that answer ARP for an address."""
        return probes.arping(probes.into(self.namespace), INTERFACE, address)

    def capture(self, match: str) -> Capture:
        """What passes the VM's interface during a `with`; `match` as in pcap-filter(7)."""
        return Capture(self.namespace, INTERFACE, match, self.directory)

    def name_servers(self) -> list[str]:
        """What resolv.conf of the guest says."""
        path = self._guest.etc / "resolv.conf"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.split()[1] for line in lines if line.startswith("nameserver ")]

    def look_up(self, name: str, version: int = 4) -> set[IPv4Address | IPv6Address]:
        """The addresses of a name, as the C library finds them in the guest: by what its DHCP client was told."""
        resolver = self._guest.etc / "resolv.conf"
        script = f"mount --bind {resolver} /etc/resolv.conf && getent ahostsv{version} {name}"
        said = self.execute("unshare", "--mount", "sh", "-ec", script, check=False)
        return {ip_address(line.split()[0]) for line in said.splitlines()}
