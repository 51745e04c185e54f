"""What the agent reaches of root's, where it is a user of its own: sockets, files, and a namespace's name.

The half that root runs (`python -m agent.grants`, with the agent's own command line) is told nothing by who asks for
it: what is to be granted is in the configuration, which is root's, and beside the socket of Open vSwitch's database.
The other half is the agent's: it asks whenever something is not to be reached, such as a socket that Open vSwitch has
made anew. An agent that runs as root has no use for either.
"""

from __future__ import annotations

import errno
import logging
import os
import pwd
import socket
import struct
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent import links, namespaces
from agent.config import AgentConfig, ConfigError, load, sources
from agent.vswitchd import directories

LOG = logging.getLogger(__name__)

USER = "trunkline-agent"
SOCKET = Path("/run/trunkline-agent-grants.sock")
"""Of trunkline-agent-grants.socket: a connection is the whole question, and its end the answer."""
RECORD = Path("/var/lib/trunkline-agent-grants")
"""Root's: what has an entry and is still there, a path a line. Purging takes them back (etc/deb/agent/postrm)."""

_READ = os.R_OK
_USE = os.R_OK | os.W_OK
_SEARCH = os.X_OK
_ALL = _USE | _SEARCH
_OVS_SOCKETS = ("ovs-vswitchd.*.ctl", "*.mgmt")
_ANSWER_S = 15.0
_PAUSE_S = 1.0
_LOOK_S = 0.5  # nobody tells of a socket that is another one

_LIST = "system.posix_acl_access"
_HEADER = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")  # tag, rights, number of the user or group: linux/posix_acl_xattr.h
_MASK = 0x10
_MASKED = {0x02: "user:{}", 0x04: "group:", 0x08: "group:{}"}
"""Tags of linux/posix_acl.h whose entries are worth what the mask leaves of them, as setfacl(1) names them."""
_NO_LIST = (errno.ENODATA, errno.ENOTSUP)


@dataclass(frozen=True, slots=True, order=True)
class Grant:
    """`rights` are R_OK, W_OK and X_OK of access(2), which are also the bits of a file's mode for all others."""

    rights: int
    path: Path


def of_configuration(config: AgentConfig) -> Iterator[Grant]:
    """What the agent opens, of what is there."""
    database = config.ovsdb.removeprefix("unix:")
    if database != config.ovsdb:
        yield from _file(Path(database), _USE)
    for directory in dict.fromkeys(directories(config.ovsdb)):
        for pattern in _OVS_SOCKETS:
            for path in directory.glob(pattern):
                yield from _file(path, _USE)
    tls = config.tls
    files = () if tls is None else (tls.certificate, tls.key, tls.ca, tls.api_ca)
    for name in filter(None, (*files, config.plug_token_file)):
        yield from _file(Path(name), _READ)


def _file(path: Path, rights: int) -> Iterator[Grant]:
    yield Grant(_SEARCH, path.parent)
    yield Grant(rights, path)


class Grants:
    """The agent's half. Use from one thread."""

    def __init__(self, config: AgentConfig) -> None:
        self._config = config
        self._due = 0.0
        self.look_again = _LOOK_S if os.geteuid() != 0 else None
        """Seconds between two looks; None for root, who needs nobody's grants."""

    def lacking(self) -> bool:
        """Whether `keep` would ask. Costs some tens of microseconds."""
        return self.look_again is not None and time.monotonic() >= self._due and self._lacks()

    def keep(self) -> None:
        """Asks for what is lacking, at most once a second; where that does not help, with each heartbeat."""
        if not self.lacking():
            return
        why = ask()
        helped = why is None and not self._lacks()
        if why is not None:
            LOG.warning("what the agent's user may reach is not granted: %s", why)
        self._due = time.monotonic() + (_PAUSE_S if helped else self._config.heartbeat_interval)

    def _lacks(self) -> bool:
        """What has gone in the meantime is not lacking."""
        return not namespaces.exists(self._config.service_namespace) or any(
            not os.access(grant.path, grant.rights) and _exists(grant.path) for grant in of_configuration(self._config)
        )


def _exists(path: Path) -> bool:
    """Also where that cannot be seen."""
    try:
        return path.exists()
    except PermissionError:
        return True


def ask() -> str | None:
    """Has root grant what is to be granted, and waits for that: None, or why it was not done."""
    if os.geteuid() == 0 or not SOCKET.exists():
        return None
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_ANSWER_S)
            connection.connect(str(SOCKET))
            while connection.recv(1024):
                pass
    except OSError as error:
        return f"{SOCKET}: {error}"
    return None


def grant(grants: Iterable[Grant], user: int) -> list[str]:
    """By access control lists (acl(5)), where not everybody has the right: whose a file is stays as it is, and so does
    what others may. What could not be granted, a line each.
    """
    needed = sorted({each for each in grants if _is_needed(each)})
    problems = []
    try:
        record(each.path for each in needed)
    except OSError as error:
        problems.append(f"what is granted could not be recorded: {error}")
    for each in needed:
        try:
            _grant(each, f"user:{user}")
        except (OSError, links.CommandError) as error:
            problems.append(str(error))
    return problems


def _grant(grant: Grant, user: str) -> None:
    """setfacl makes the mask anew, as wide as all entries together: what it kept from others is taken out of theirs."""
    rights = effective(grant.path)
    held = rights.get(user, 0)
    if held & grant.rights == grant.rights:
        return
    rights[user] = held | grant.rights
    entries = ",".join(f"{who}:{what}" for who, what in rights.items())
    links.run("setfacl", "--modify", entries, "--", str(grant.path))


def effective(path: Path) -> dict[str, int]:
    """What the mask of a file's list leaves to the group and to all that are named; nothing where there is no list.
    Raises OSError.
    """
    try:
        found = os.getxattr(path, _LIST)
    except OSError as error:
        if error.errno in _NO_LIST:
            return {}
        raise
    entries = list(_ENTRY.iter_unpack(found[_HEADER.size :]))
    mask = next((rights for tag, rights, _ in entries if tag == _MASK), _ALL)
    return {_MASKED[tag].format(number): rights & mask for tag, rights, number in entries if tag in _MASKED}


def record(paths: Iterable[Path]) -> None:
    """Adds them to what is recorded, before they get anything, and forgets what has gone. Raises OSError."""
    try:
        known = RECORD.read_text(errors="surrogateescape").splitlines()
    except FileNotFoundError:
        known = []
    kept = sorted({*filter(os.path.exists, known), *(str(path.resolve()) for path in paths)})
    if kept == known:
        return
    fresh = RECORD.with_name(f"{RECORD.name}.{os.getpid()}")  # several may be at it
    fresh.write_text("".join(f"{path}\n" for path in kept), errors="surrogateescape")
    fresh.replace(RECORD)


def _is_needed(grant: Grant) -> bool:
    try:
        return grant.path.stat().st_mode & grant.rights != grant.rights
    except OSError:
        return False  # it is not there, or has gone


def main(arguments: Sequence[str] | None = None) -> int:
    """Root's half. What is wrong with the configuration the agent says itself. Raises KeyError without the user."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    wanted = [Grant(_READ | _SEARCH if path.is_dir() else _READ, path) for path in sources(arguments)]
    problems = []
    try:
        config = load(arguments)
    except ConfigError:
        config = None
    if config is not None:
        try:
            namespaces.make(config.service_namespace)
        except namespaces.NamespaceError as error:
            problems.append(str(error))
        wanted += of_configuration(config)
    problems += grant(wanted, pwd.getpwnam(USER).pw_uid)
    for problem in problems:
        print(f"trunkline-agent-grants: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
