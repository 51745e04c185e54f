"""Network namespaces: make, remove, enter, and join them by veth pairs."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from agent import namespaces as named
from etc.lab.processes import run

DIRECTORY = named.DIRECTORY
IFNAMSIZ = 15
"""Longest interface name, in characters (linux/if.h, less the closing zero)."""

inside = named.inside


def names(prefix: str) -> list[str]:
    """The namespaces whose name starts with `prefix`."""
    return sorted(path.name for path in DIRECTORY.glob(f"{prefix}*")) if DIRECTORY.exists() else []


def create(*namespaces: str) -> None:
    """Make namespaces, with their loopback up and a resolv.conf of their own. Raises CommandFailed when one exists."""
    run(["ip", "-batch", "-"], text="".join(f"netns add {name}\n" for name in namespaces))
    for name in namespaces:
        named.add_resolver(name)
        run(["ip", "-netns", name, "link", "set", "lo", "up"])


def delete(*namespaces: str) -> None:
    """Remove namespaces with all their interfaces; those that are gone already are no error."""
    present = [name for name in namespaces if (DIRECTORY / name).exists()]
    if present:
        run(["ip", "-force", "-batch", "-"], text="".join(f"netns delete {name}\n" for name in present), check=False)
    for name in namespaces:
        named.remove_resolver(name)


def configure(namespace: str, *lines: str) -> None:
    """Run `ip` commands (without the leading `ip`) in a namespace, all in one process."""
    run(["ip", "-netns", namespace, "-batch", "-"], text="".join(f"{line}\n" for line in lines))


def query(namespace: str, *args: str) -> list[dict[str, Any]]:
    """The JSON answer of an `ip` command in a namespace: query("n1", "address", "show")."""
    answer: list[dict[str, Any]] = json.loads(run(["ip", "-json", "-netns", namespace, *args]) or "[]")
    return answer


def command(namespace: str, args: Sequence[str]) -> list[str]:
    """The command line that runs `args` in a namespace; the pid stays the same through it."""
    return ["ip", "netns", "exec", namespace, *args]


def joined(namespace: str, args: Sequence[str]) -> list[str]:
    """The same, but what is mounted stays as it is outside: so that it can make namespaces for others to see."""
    return ["nsenter", f"--net={DIRECTORY / namespace}", *args]


def execute(namespace: str, *args: str, check: bool = True, deadline: float = 30.0) -> str:
    """Run a command in a namespace and return what it printed."""
    return run(command(namespace, args), check=check, deadline=deadline)


def set_sysctl(namespace: str, settings: Mapping[str, int]) -> None:
    """Write settings, named as below /proc/sys/net ("ipv4/ip_forward"); what the kernel lacks is passed over."""
    with inside(namespace):  # /proc/sys/net shows the namespace of the thread that opens it
        for name, value in settings.items():
            with suppress(FileNotFoundError, PermissionError):
                Path("/proc/sys/net", name).write_text(f"{value}\n")


def veth(namespace: str, name: str, peer_namespace: str, peer: str, *, mtu: int = 1500) -> None:
    """Join two namespaces by a cable; both ends are up. Raises ValueError for a name that is too long."""
    for each in (name, peer):
        if len(each) > IFNAMSIZ:
            raise ValueError(f"interface name {each!r} has more than {IFNAMSIZ} characters")
    run(
        ["ip", "-batch", "-"],
        text=(
            f"link add {name} netns {namespace} mtu {mtu} type veth peer name {peer} netns {peer_namespace} mtu {mtu}\n"
        ),
    )
    configure(namespace, f"link set {name} up")
    configure(peer_namespace, f"link set {peer} up")


def pids(namespaces: Iterable[str]) -> list[int]:
    """The processes that run in any of these namespaces."""
    wanted = set()
    for name in namespaces:
        with suppress(OSError):
            wanted.add(os.stat(DIRECTORY / name).st_ino)
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with suppress(OSError):
                if os.stat(f"/proc/{entry}/ns/net").st_ino in wanted:
                    found.append(int(entry))
    return found


def end_processes(namespaces: Sequence[str], deadline: float = 3.0) -> None:
    """End every process in these namespaces: SIGTERM, and SIGKILL to those that are still there after `deadline` s."""
    for number, patience in ((signal.SIGTERM, deadline), (signal.SIGKILL, deadline)):
        end = time.monotonic() + patience
        left = pids(namespaces)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        while left and time.monotonic() < end:
            time.sleep(0.02)
            left = pids(namespaces)
        if not left:
            return
