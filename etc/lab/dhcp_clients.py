"""Real clients of DHCP, of router advertisements and of DHCPv6, each in the foreground with files of its own.

A client runs in a mount namespace where /etc is a writable copy on top of the machine's, and /run and the clients'
state directories are the VM's own: what it writes (resolv.conf, leases) ends up in the VM's run directory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from etc.lab import machine, netns
from etc.lab.processes import Process, start, wait_until

STATE_DIRECTORIES = ("/var/lib/dhcp", "/var/lib/dhcpcd", "/var/lib/systemd")

# Debian's script configures the guest; then what the server said is kept beside, as NAME=VALUE lines.
_UDHCPC_SCRIPT = """#!/bin/sh
case "$1" in renew|bound|deconfig) /etc/udhcpc/default.script "$@" ;; esac
{{ echo event="$1"; env; }} >{lease}.new && mv {lease}.new {lease}
"""

# What it asks for is what Debian's own file has it ask for.
_DHCLIENT_CONF = """timeout 30;
retry 1;
initial-interval 1;
backoff-cutoff 2;
option rfc3442-classless-static-routes code 121 = array of unsigned integer 8;
send host-name "{hostname}";
request subnet-mask, broadcast-address, time-offset, routers, domain-name, domain-name-servers, domain-search,
        host-name, dhcp6.name-servers, dhcp6.domain-search, dhcp6.fqdn, dhcp6.sntp-servers, netbios-name-servers,
        netbios-scope, interface-mtu, rfc3442-classless-static-routes, ntp-servers;
"""

_NETWORKD_NETWORK = """[Match]
Name={interface}
[Network]
DHCP=ipv4
LinkLocalAddressing=no
IPv6AcceptRA=no
[DHCPv4]
Hostname={hostname}
UseMTU=yes
"""

# of its MAC address, as a port's addresses are; it asks by DHCPv6 for what the advertisements say
_DHCPCD6_CONF = """slaac hwaddr
option domain_name_servers, domain_search
noipv4
waitip 6
"""

_DHCLIENT6_CONF = """timeout 30;
retry 1;
send host-name "{hostname}";
also request dhcp6.name-servers, dhcp6.domain-search;
"""

_NETWORKD6_NETWORK = """[Match]
Name={interface}
[Network]
DHCP=no
LinkLocalAddressing=ipv6
IPv6AcceptRA=yes
IPv6LinkLocalAddressGenerationMode=eui64
[IPv6AcceptRA]
Token=eui64
UseDomains=yes
[DHCPv6]
UseDomains=yes
"""


@dataclass(frozen=True)
class Guest:
    """Where a client runs, and where its files are."""

    namespace: str
    interface: str
    hostname: str
    directory: Path

    @property
    def etc(self) -> Path:
        """What the guest changed of /etc."""
        return self.directory / "etc"

    @property
    def lease_file(self) -> Path:
        """udhcpc only: the last event that it is done with, and the options that came with it."""
        return self.directory / "lease"

    def lease(self) -> dict[str, str]:
        """udhcpc only: what the last event brought, as udhcpc names it (event, ip, router, mtu, lease, ...)."""
        lines = self.lease_file.read_text().splitlines() if self.lease_file.exists() else []
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def wait_lease(self, event: str = "bound", deadline: float = 20.0) -> dict[str, str]:
        """udhcpc only: wait until it is done with that event; return the lease. Raises DeadlineMissed."""

        def ready() -> dict[str, str] | None:
            now = self.lease()
            return now if now.get("event") == event else None

        return wait_until(ready, deadline, lambda: f"{self.hostname} is not {event}: {self.lease()}", interval=0.05)


def _udhcpc(guest: Guest) -> list[str]:
    script = guest.directory / "udhcpc.script"
    if not script.exists():  # an earlier client may still run it: it could not be written
        script.write_text(_UDHCPC_SCRIPT.format(lease=guest.lease_file))
        script.chmod(0o755)
    options = [
        flag for name in ("mtu", "search", "ntpsrv", "staticroutes", "tftp", "bootfile") for flag in ("-O", name)
    ]
    return [
        "udhcpc",
        "-f",
        "-i",
        guest.interface,
        "-s",
        str(script),
        "-t",
        "20",
        "-T",
        "1",
        "-A",
        "1",
        *options,
        "-x",
        f"hostname:{guest.hostname}",
    ]


def _dhcpcd(guest: Guest) -> list[str]:
    return ["dhcpcd", "-4", "-B", "-d", "--noarp", "-t", "30", "-h", guest.hostname, guest.interface]


def _dhclient(guest: Guest) -> list[str]:
    config = guest.directory / "dhclient.conf"
    config.write_text(_DHCLIENT_CONF.format(hostname=guest.hostname))
    return ["dhclient", "-4", "-d", "-v", "-cf", str(config), guest.interface]


def _dhcpcd6(guest: Guest) -> list[str]:
    config = guest.directory / "dhcpcd6.conf"
    config.write_text(_DHCPCD6_CONF)
    return ["dhcpcd", "-6", "-B", "-d", "-f", str(config), "-t", "30", "-h", guest.hostname, guest.interface]


def _dhclient6(guest: Guest) -> list[str]:
    """Addresses by DHCPv6 alone; routes are the kernel's business. It gives up where there is no link-local address."""
    config = guest.directory / "dhclient6.conf"
    config.write_text(_DHCLIENT6_CONF.format(hostname=guest.hostname))
    wait = f'until [ -n "$(ip -6 address show dev {guest.interface} scope link -tentative)" ]; do sleep 0.1; done'
    return ["sh", "-ec", f'{wait}; exec "$@"', "sh", "dhclient", "-6", "-d", "-v", "-cf", str(config), guest.interface]


def _networkd(guest: Guest) -> list[str]:
    return _networkd_with(guest, _NETWORKD_NETWORK)


def _networkd6(guest: Guest) -> list[str]:
    return _networkd_with(guest, _NETWORKD6_NETWORK)


def _networkd_with(guest: Guest, text: str) -> list[str]:
    network = guest.etc / "systemd/network/10-lab.network"
    network.parent.mkdir(parents=True, exist_ok=True)
    network.write_text(text.format(interface=guest.interface, hostname=guest.hostname))
    # systemd would make its runtime directory; it gives up root for the user of that name. It waits for udev to name
    # the links, unless /sys cannot be written: then it takes itself to be in a container.
    return [
        "sh",
        "-ec",
        """
        mkdir -p /run/systemd/netif
        chown systemd-network: /run/systemd/netif
        mount -o remount,bind,ro /sys
        exec env SYSTEMD_LOG_LEVEL=debug SYSTEMD_LOG_TARGET=console /usr/lib/systemd/systemd-networkd
    """,
    ]


CLIENTS: dict[str, Callable[[Guest], list[str]]] = {
    "udhcpc": _udhcpc,
    "dhcpcd": _dhcpcd,
    "dhclient": _dhclient,
    "networkd": _networkd,
}
IPV6_CLIENTS: dict[str, Callable[[Guest], list[str]]] = {
    "dhcpcd6": _dhcpcd6,
    "dhclient6": _dhclient6,
    "networkd6": _networkd6,
}


def start_client(name: str, guest: Guest) -> Process:
    """Start one of CLIENTS or IPV6_CLIENTS. Raises KeyError for another name."""
    command = (CLIENTS | IPV6_CLIENTS)[name](guest)
    guest.lease_file.unlink(missing_ok=True)
    for path in (guest.etc, guest.directory / "work", _private_run(guest) / machine.HOME.name):
        path.mkdir(parents=True, exist_ok=True)
    script = [
        "set -e",
        f"mount -t overlay overlay -o lowerdir=/etc,upperdir={guest.etc},workdir={guest.directory}/work /etc",
        # The run directory itself must stay where it is: logs and scripts are in it.
        f"mount --rbind {machine.HOME} {_private_run(guest)}/{machine.HOME.name}",
        f"mount --rbind {_private_run(guest)} /run",
    ]
    for state in STATE_DIRECTORIES:
        own = guest.directory / "state" / Path(state).name
        own.mkdir(parents=True, exist_ok=True)
        script.append(f"[ ! -d {state} ] || mount --bind {own} {state}")
    line = ["sh", "-c", "\n".join([*script, 'exec "$@"']), "sh", *command]
    log = guest.directory / f"{name}.log"
    return start(f"{name} of {guest.namespace}", netns.command(guest.namespace, line), log)


def _private_run(guest: Guest) -> Path:
    return guest.directory / "run"
