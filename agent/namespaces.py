"""Named network namespaces for VMs, each with a resolv.conf of its own: ip-netns(8) puts it over /etc/resolv.conf.

Else a DHCP client that is run in one by `ip netns exec` would write this machine's own.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

DIRECTORY = Path("/run/netns")
FILES = Path("/etc/netns")
RESOLVER = "resolv.conf"

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class NamespaceError(Exception):
    """It cannot be made or removed; the text says what is in the way."""


def exists(name: str) -> bool:
    """`name` may be the path of one as well."""
    return (DIRECTORY / name).exists()  # a path that begins with a slash stays what it is


def make(name: str) -> bool:
    """False when it was there already. Raises NamespaceError."""
    if exists(name):
        return False
    if is_private(Path("/proc/self/mountinfo").read_text()):
        raise NamespaceError(
            f"within 'ip netns exec' a namespace cannot be made for others to see: "
            f"run 'ip netns add {name}' outside, or enter the node by 'nsenter --net=/run/netns/NODE'"
        )
    _ip("netns", "add", name)
    add_resolver(name)
    return True


def remove(name: str) -> None:
    """Raises NamespaceError."""
    _ip("netns", "delete", name)
    remove_resolver(name)


def add_resolver(name: str) -> None:
    """An empty resolv.conf for whoever enters it by `ip netns exec`. One that is there stays as it is."""
    own = FILES / name
    own.mkdir(parents=True, exist_ok=True)
    (own / RESOLVER).touch()


def remove_resolver(name: str) -> None:
    """What is not there is no error."""
    own = FILES / name
    (own / RESOLVER).unlink(missing_ok=True)
    with suppress(OSError):  # somebody has files of his own in it, or it never was
        own.rmdir()


def with_resolver(prefix: str) -> list[str]:
    """The names with that start that have files in FILES, whether or not there is such a namespace."""
    return sorted(path.name for path in FILES.glob(f"{prefix}*"))


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Move the calling thread into a namespace: sockets made and commands started there stay there.

    Raises OSError when the namespace does not exist.
    """
    home = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        target = os.open(DIRECTORY / namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(target)
        finally:
            os.close(target)
        try:
            yield
        finally:
            _setns(home)
    finally:
        os.close(home)


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def is_private(mountinfo: str) -> bool:
    """Whether what is mounted under DIRECTORY from here is seen from here only (proc(5), mount_namespaces(7)).

    So it is within `ip netns exec`: the name would be left to the others, without a namespace behind it.
    """
    for line in mountinfo.splitlines():
        fields = line.partition(" - ")[0].split()
        if fields[4] == str(DIRECTORY):
            tags = {field.partition(":")[0] for field in fields[6:]}
            return "master" in tags and "shared" not in tags
    return False


def _ip(*arguments: str) -> None:
    command = ("ip", *arguments)
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise NamespaceError(f"{' '.join(command)}: {error.strerror}") from error
    if done.returncode:
        raise NamespaceError(f"{' '.join(command)}: {done.stderr.strip()}")
