"""The few things to know of a network device, asked of the kernel in this network namespace (netdevice(7))."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

_SIOCGIFADDR = 0x8915
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
_IFREQ = struct.Struct("16sH22x")  # struct ifreq with its ifr_flags
_LINK_SCOPE = "20"  # IPV6_ADDR_LINKLOCAL in /proc/net/if_inet6


def addressed(devices: Iterable[str]) -> frozenset[str]:
    """Those of `devices` that hold an IPv4 address, or an IPv6 address other than a link-local one."""
    with_ipv6 = set()
    with contextlib.suppress(OSError):  # a kernel without IPv6 has no such file
        for line in Path("/proc/thread-self/net/if_inet6").read_text().splitlines():
            _address, _index, _prefix, scope, _flags, device = line.split()
            if scope != _LINK_SCOPE:
                with_ipv6.add(device)
    return frozenset(device for device in devices if device in with_ipv6 or _ioctl(_SIOCGIFADDR, device) is not None)


def bring_up(device: str) -> bool:
    """Sets the device up if it is down. False when there is no such device, or it cannot be."""
    answer = _ioctl(_SIOCGIFFLAGS, device)
    if answer is None:
        return False
    flags = _IFREQ.unpack(answer)[1]
    return bool(flags & _IFF_UP) or _ioctl(_SIOCSIFFLAGS, device, flags | _IFF_UP) is not None


def _ioctl(request: int, device: str, flags: int = 0) -> bytes | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        try:
            return fcntl.ioctl(handle, request, _IFREQ.pack(device.encode(), flags))
        except OSError:
            return None
