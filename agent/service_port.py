"""The node's service port: a namespace of its own for the relay, and the pair of devices that joins it to br-int.

In the namespace every address is local (AnyIP), so that the relay can be asked at the metadata address and at any
gateway's, and the carrier addresses, which ports are known by, are out of the one device. It asks nobody by ARP: the
flows put the right MAC addresses on. All of it for IPv6, too, if the kernel has that; link-local addresses, each of
which belongs to a device, are of this one. A pair and not an internal port, since it outlives ovs-vswitchd.

Nothing here is ever taken away but what cannot be used any more and carries our mark: what the VMs have open goes on
while there is no agent to serve them, and the next one takes it over.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from agent import links, namespaces, nd_tc
from agent.config import AgentConfig
from agent.relay.server import BACKLOG, Relay, Service
from agent.state import NOTHING, OvsState
from agent.wanted import SERVICE_DEVICE
from flows.ipv6 import LINK_LOCAL
from flows.pipeline import (
    CARRIER_BASE,
    CARRIER_IPV6_BASE,
    CARRIER_IPV6_BITS,
    CARRIER_MASK,
    SERVICE_MAC,
    SERVICE_OFPORT,
)

LOG = logging.getLogger(__name__)

DEVICE = "service0"
"""The end in the namespace."""

_ALIAS = "trunkline:service"
_MAC = SERVICE_MAC.to_bytes(6).hex(":")
_CARRIERS = IPv4Network((CARRIER_BASE, CARRIER_MASK.bit_count()))
_IPV6_CARRIERS = IPv6Network((CARRIER_IPV6_BASE, CARRIER_IPV6_BITS))
# table local is looked up first: the longer prefix is the way back, all else is here
_ROUTES = (
    "route replace local default dev lo table local",
    f"route replace {_CARRIERS} dev {DEVICE} table local",
)
_IPV6_ROUTES = (
    "route replace local ::/0 dev lo table local",
    f"route replace local {LINK_LOCAL} dev {DEVICE} table local",
    f"route replace {_IPV6_CARRIERS} dev {DEVICE} table local",
)
# below /proc/sys/net; a new namespace has what the host has
_SETTINGS = {
    "ipv4/ip_forward": 0,
    "ipv4/conf/all/rp_filter": 0,
    f"ipv4/conf/{DEVICE}/rp_filter": 0,
}
_IPV6_SETTINGS = {
    "ipv6/conf/all/forwarding": 0,
    "ipv6/conf/lo/disable_ipv6": 0,
    f"ipv6/conf/{DEVICE}/disable_ipv6": 0,
    f"ipv6/conf/{DEVICE}/accept_ra": 0,
}
_SYSCTL = Path("/proc/sys/net")
_RETRY_S = 1.0


class _Problem(Exception):
    """What is in the way, for the operator."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What is there, as cheaply as it can be seen: another one when somebody has made it anew, or taken it away."""

    namespace: int | None
    device: int | None


class ServicePort:
    """Use from one thread. `problems` are of the last `keep`, a line each.

    `replaced`: the device is another one than Open vSwitch may still hold on to, which has to let go of that first.
    """

    def __init__(self, config: AgentConfig, relay: Relay) -> None:
        self._namespace = config.service_namespace
        self._in_software = config.datapath_type == "netdev"
        self._look_again = config.heartbeat_interval
        self._relay = relay
        self._kept: _Found | None = None
        self._listening: int | None = None
        self._due = 0.0
        self.problems: tuple[str, ...] = ()
        self.replaced = False

    def keep(self, state: OvsState) -> float:
        """Puts in place what is missing; seconds until it is to be looked at again."""
        left = self._due - time.monotonic()
        if left > 0 and self._found() == self._kept:
            return left
        problems = []
        try:
            self._make()
            self._listen()
        except (_Problem, namespaces.NamespaceError, links.CommandError, OSError) as error:
            problems.append(f"no metadata and no DNS over TCP for the VMs of this node: {error}")
        ofport = state.interfaces.get(SERVICE_DEVICE, NOTHING).get("ofport")
        if isinstance(ofport, int) and ofport > 0 and ofport != SERVICE_OFPORT:
            problems.append(f"interface {SERVICE_DEVICE} has OpenFlow port {ofport}, it needs {SERVICE_OFPORT}")
        pause = _RETRY_S if problems else self._look_again
        if not problems:  # modules of the kernel that are missing do not come by themselves
            problems = self._write_advertisements()
        self.problems = tuple(problems)
        self._kept = self._found()
        self._due = time.monotonic() + pause
        return pause

    def _found(self) -> _Found:
        namespace = device = None
        with suppress(OSError):
            namespace = os.stat(namespaces.DIRECTORY / self._namespace).st_ino
        with suppress(OSError):
            device = socket.if_nametoindex(SERVICE_DEVICE)
        return _Found(namespace, device)

    def _make(self) -> None:
        """Raises _Problem when what is there is somebody else's."""
        if namespaces.make(self._namespace):
            LOG.info("network namespace %s made", self._namespace)
        others = sorted(set(links.names(self._namespace)) - {"lo", DEVICE})
        if others:
            raise _Problem(f"namespace {self._namespace} has {', '.join(others)}, so it is not ours: name another one")
        near, far = self._own(SERVICE_DEVICE, None), self._own(DEVICE, self._namespace)
        if not links.are_pair(near, far):
            for link, where in ((near, None), (far, self._namespace)):
                if link is not None:
                    links.configure(where, f"link delete dev {link['ifname']}")
            links.configure(
                None,
                f"link add {SERVICE_DEVICE} type veth peer name {DEVICE} netns {self._namespace} address {_MAC}",
                f"link set dev {SERVICE_DEVICE} alias {_ALIAS} up",
            )
            LOG.info("device %s made, its other end in %s", SERVICE_DEVICE, self._namespace)
            self.replaced = True
        links.configure(None, f"link set dev {SERVICE_DEVICE} up")
        both = (_SYSCTL / "ipv6").is_dir()  # else the kernel was started without IPv6
        # it has nothing to say for itself: no address, and so neither solicitations nor reports of groups
        quiet = (f"link set dev {DEVICE} addrgenmode none",) if both else ()
        set_up = f"link set dev {DEVICE} address {_MAC} alias {_ALIAS} arp off up"
        links.configure(self._namespace, "link set dev lo up", *quiet, set_up)
        if self._in_software:
            links.checksums_in_software(DEVICE, self._namespace)
        with namespaces.inside(self._namespace):  # /proc/sys/net shows the namespace of the thread that opens it
            for name, value in (_SETTINGS | _IPV6_SETTINGS if both else _SETTINGS).items():
                (_SYSCTL / name).write_text(f"{value}\n")
        links.configure(self._namespace, *_ROUTES, *(_IPV6_ROUTES if both else ()))

    def _write_advertisements(self) -> list[str]:
        """Return what is wrong with it. The userspace datapath does it itself."""
        if not self._in_software and (_SYSCTL / "ipv6").is_dir():
            try:
                nd_tc.keep(DEVICE, self._namespace)
            except links.CommandError as error:
                return [f"IPv6 networks have no gateway on this node (it needs the kernel's {nd_tc.MODULES}): {error}"]
        return []

    def _own(self, name: str, namespace: str | None) -> links.Link | None:
        """None when there is none, and when it is half of a pair that was being made."""
        link = links.find(name, namespace)
        if link is None:
            return None
        unfinished = namespace is not None and link.get("address") == _MAC
        if links.kind(link) != links.VETH or (link.get("ifalias") != _ALIAS and not unfinished):
            raise _Problem(f"there is a device {name} that is not ours" + (f" in {namespace}" if namespace else ""))
        return link

    def _listen(self) -> None:
        """In a namespace that is new: the relay may still listen in one that nobody has a name for any more."""
        here = os.stat(namespaces.DIRECTORY / self._namespace).st_ino
        if here == self._listening:
            return
        with ExitStack() as stack:
            with namespaces.inside(self._namespace):
                sockets = {service: stack.enter_context(_listener(service)) for service in Service}
            stack.pop_all()
        self._relay.listen(sockets)
        self._listening = here


def _listener(service: Service) -> socket.socket:
    """For both families, if there are both."""
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    return socket.create_server(("", service), family=family, backlog=BACKLOG, dualstack_ipv6=both)
