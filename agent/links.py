"""Network devices by ip(8): what there is, and several changes in one process; here, or in another namespace.

A namespace is a name of ip-netns(8), or the path of one: what has a slash in it.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any

from agent import namespaces

Link = dict[str, Any]
"""As `ip -json -details link show` has it."""

VETH = "veth"
TAP = "tun"  # what `ip -details` calls it

_TIMEOUT_S = 20
_NOISE = ("Command failed", "ovs-vsctl: The default log directory")  # what follows the error itself


class CommandError(Exception):
    """A command did not do what it was to; the text says which, and what it said."""


def find(name: str, namespace: str | None = None) -> Link | None:
    """The device of that name, None when there is none. Raises CommandError."""
    done = execute([*_ip(namespace), "-json", "-details", "link", "show", "dev", name])
    if done.returncode:
        if "does not exist" in done.stderr:
            return None
        raise CommandError(done.stderr.strip() or f"ip link show dev {name} failed")
    links: list[Link] = json.loads(done.stdout)
    return links[0]


def names(namespace: str) -> list[str]:
    """All devices of a namespace. Raises CommandError."""
    done = execute([*_ip(namespace), "-json", "link", "show"])
    if done.returncode:
        raise CommandError(done.stderr.strip() or "ip link show failed")
    return [str(link["ifname"]) for link in json.loads(done.stdout or "[]")]


def kind(link: Link) -> str | None:
    found = link.get("linkinfo", {}).get("info_kind")
    return found if isinstance(found, str) else None


def are_pair(near: Link | None, far: Link | None) -> bool:
    """Whether they are the two ends of one veth, `far` seen from its own namespace."""
    return near is not None and far is not None and near["ifindex"] == far.get("link_index")


def configure(namespace: str | None, *lines: str) -> None:
    """Several `ip` commands in one process, the first that fails ends it. Raises CommandError."""
    run(*_ip(namespace), "-batch", "-", text="".join(f"{line}\n" for line in lines))


def checksums_in_software(name: str, namespace: str) -> None:
    """For the userspace datapath, which passes frames on as they are: a checksum left to the hardware is never filled
    in. Raises CommandError.
    """
    run(*_enter(namespace), "ethtool", "-K", name, "tx", "off")


def traffic_control(namespace: str, *arguments: str, text: str | None = None, check: bool = True) -> str:
    """Return what `tc ARGUMENTS` prints. Raises CommandError, unless `check` is false, when it fails."""
    done = execute([*_enter(namespace), "tc", *arguments], text)
    if done.returncode and check:
        raise CommandError(f"tc {' '.join(arguments)}: {last_line(done.stderr) or f'exit status {done.returncode}'}")
    return done.stdout


def query(namespace: str | None, *arguments: str) -> list[dict[str, Any]]:
    """What `ip -json ARGUMENTS` shows. Raises CommandError."""
    done = execute([*_ip(namespace), "-json", *arguments])
    if done.returncode:
        raise CommandError(done.stderr.strip() or f"ip {' '.join(arguments)} failed")
    found: list[dict[str, Any]] = json.loads(done.stdout or "[]")
    return found


def run(*command: str, text: str | None = None) -> None:
    """Raises CommandError when it ends with another status than 0."""
    done = execute(list(command), text)
    if done.returncode:
        said = last_line(done.stderr) or f"exit status {done.returncode}"
        raise CommandError(f"{' '.join(command)}: {said}" + (f" ({text.strip()})" if text else ""))


def execute(command: list[str], text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Whatever its status. Raises CommandError when it cannot run, or does not end."""
    try:
        return subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    except FileNotFoundError:
        raise CommandError(f"the command {command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise CommandError(f"{' '.join(command)}: no end after {_TIMEOUT_S} s") from None


def last_line(text: str) -> str:
    """Of what a command said of an error, the error."""
    lines = [line for line in text.strip().splitlines() if not line.startswith(_NOISE)]
    return lines[-1] if lines else ""


def _ip(namespace: str | None) -> list[str]:
    return ["ip"] if namespace is None else [*_enter(namespace), "ip"]


def _enter(namespace: str) -> list[str]:
    """Not by `ip -netns`, which takes names only, and mounts: the agent's user may not."""
    return ["nsenter", f"--net={namespaces.DIRECTORY / namespace}"]
