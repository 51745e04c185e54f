"""The few things to know of a network device, asked of the kernel in this network namespace (netdevice(7))."""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

_SIOCGIFCONF = 0x8912
_SIOCGIFADDR = 0x8915
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_SIOCGIFHWADDR = 0x8927
_IFF_UP = 0x1
_IFREQ = struct.Struct("16sH22x")  # struct ifreq with its ifr_flags
_IFREQ_MAC = struct.Struct("18x6s16x")  # with its ifr_hwaddr
_IFREQ_ADDRESS = struct.Struct("16s4x4s16x")  # with its ifr_addr
_IFCONF = struct.Struct("i4xP")
_MOST_ADDRESSES = 4096
_LINK_SCOPE = "20"  # IPV6_ADDR_LINKLOCAL in /proc/net/if_inet6


def addressed(devices: Iterable[str]) -> frozenset[str]:
    """Those of `devices` that hold an IPv4 address, or an IPv6 address other than a link-local one."""
    with_ipv6 = set()
    with suppress(OSError):  # a kernel without IPv6 has no such file
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


def addresses(device: str) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses of a device, all of them, in order. Raises OSError when the kernel does not say."""
    buffer = ctypes.create_string_buffer(_MOST_ADDRESSES * _IFREQ_ADDRESS.size)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        answer = fcntl.ioctl(handle, _SIOCGIFCONF, _IFCONF.pack(len(buffer), ctypes.addressof(buffer)))
    length, _ = _IFCONF.unpack(answer)
    found = _IFREQ_ADDRESS.iter_unpack(buffer.raw[:length])
    # an address may have a label of its own, DEVICE:LABEL
    mine = (packed for label, packed in found if label.rstrip(b"\0").partition(b":")[0] == device.encode())
    return tuple(sorted(map(IPv4Address, mine)))


def mac(device: str) -> str | None:
    """None when there is no such device."""
    answer = _ioctl(_SIOCGIFHWADDR, device)
    return None if answer is None else str(_IFREQ_MAC.unpack(answer)[0].hex(":"))


def local_ports() -> tuple[range, tuple[range, ...]]:
    """The ports that the host gives its own connections, and those that it keeps free (ip(7)). Raises OSError."""
    settings = Path("/proc/sys/net/ipv4")
    first, last = map(int, (settings / "ip_local_port_range").read_text().split())
    kept = (settings / "ip_local_reserved_ports").read_text().strip()
    spans = (span.partition("-") for span in kept.split(",") if span)
    return range(first, last + 1), tuple(range(int(start), int(end or start) + 1) for start, _, end in spans)


def _ioctl(request: int, device: str, flags: int = 0) -> bytes | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        try:
            return fcntl.ioctl(handle, request, _IFREQ.pack(device.encode(), flags))
        except OSError:
            return None
