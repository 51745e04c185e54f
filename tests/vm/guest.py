"""The smallest guest: Debian's kernel for clouds, busybox, and a script that gets an address by DHCP and tries it."""

from __future__ import annotations

import gzip
import lzma
import stat
from pathlib import Path

from tests.unpacked import unpacked, unpacked_kernel

_MODULES = ("net/core/failover", "drivers/net/net_failover", "drivers/net/virtio_net")
_APPLETS = ("sh", "mount", "insmod", "ip", "udhcpc", "ping", "poweroff", "sleep", "echo", "cat")

# What it says is what a test waits for. `cat` at the end keeps it running until the machine is told to stop.
_INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
for module in failover net_failover virtio_net; do insmod /lib/$module.ko; done
ip link set eth0 up
udhcpc -i eth0 -n -q -t 60 -T 1 -O mtu -s /lease
echo "GUEST mtu $(cat /sys/class/net/eth0/mtu)"
gateway=$(ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p')
ping -c 3 -W 2 $gateway >/dev/null && echo "GUEST reaches $gateway"
echo GUEST ready
exec sleep 100000
"""
_LEASE = """#!/bin/sh
[ "$1" = bound ] || exit 0
ip address add $ip/$mask dev $interface
[ -z "$mtu" ] || ip link set $interface mtu $mtu
[ -z "$router" ] || ip route add default via ${router%% *}
echo "GUEST has $ip/$mask"
"""


BOOT = 240.0
"""Seconds: emulated, on a machine that may have others to run. Alone it takes ten."""


def kernel() -> Path:
    return next(unpacked_kernel().glob("boot/vmlinuz-*"))


def make_initrd(path: Path) -> None:
    """An archive in the form that the kernel takes (Documentation/driver-api/early-userspace/buffer-format)."""
    modules = next(unpacked_kernel().glob("usr/lib/modules/*/kernel"))
    files: dict[str, bytes] = {
        "init": _INIT.encode(),
        "lease": _LEASE.encode(),
        "bin/busybox": (unpacked("busybox-static") / "usr/bin/busybox").read_bytes(),
    }
    for module in _MODULES:
        files[f"lib/{Path(module).name}.ko"] = lzma.decompress((modules / f"{module}.ko.xz").read_bytes())
    entries = [_entry(name, stat.S_IFDIR | 0o755, b"") for name in ("bin", "lib", "proc", "sys", "dev")]
    entries += [_entry(name, stat.S_IFREG | 0o755, content) for name, content in files.items()]
    entries += [_entry(f"bin/{name}", stat.S_IFLNK | 0o777, b"busybox") for name in (*_APPLETS, "sed")]
    entries.append(_entry("dev/console", stat.S_IFCHR | 0o600, b"", (5, 1)))
    path.write_bytes(gzip.compress(b"".join((*entries, _entry("TRAILER!!!", 0, b""))), 1))


def _entry(name: str, mode: int, content: bytes, device: tuple[int, int] = (0, 0)) -> bytes:
    """One file in the format "newc": thirteen numbers of eight hexadecimal digits, name and content, each padded."""
    encoded = name.encode() + b"\0"
    numbers = (0, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(encoded), 0)
    head = b"070701" + "".join(f"{number:08x}" for number in numbers).encode() + encoded
    return _padded(head) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
