"""A node of a laboratory as a machine of its own, in which the lines of docs/ can be typed as they stand.

What is written there is seen nowhere else, and is gone in the end.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from etc.lab import netns
from etc.lab.control import ADMIN_TOKEN
from etc.lab.lab import Lab
from etc.lab.node import Node
from etc.lab.processes import Process, run, start, wait_until
from tests.programs import program

PROGRAMS = ("trunkline", "trunkline-cni", "trunkline-netavark")
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_READY = "the enclosure is ready"

# $1 is the directory of the node, where its agent listens, $2 of its Open vSwitch, $3 what to do then
_ENCLOSE = f"""
mount --make-rprivate /
mount -t tmpfs tmpfs /mnt
mkdir -p /mnt/cgroup /mnt/run/openvswitch /mnt/run/trunkline /mnt/run/lock
# /sys/class/net is of the network in which it was mounted
mount --rbind /sys/fs/cgroup /mnt/cgroup
mount -t sysfs sysfs /sys
mount --rbind /mnt/cgroup /sys/fs/cgroup
# crun refuses an empty version 2 beside version 1
! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified
for place in etc opt usr; do
    mkdir -p /mnt/$place/upper /mnt/$place/work
    mount -t overlay overlay -o lowerdir=/$place,upperdir=/mnt/$place/upper,workdir=/mnt/$place/work /$place
done
# nobody outside is asked for names
rm -f /etc/resolv.conf && touch /etc/resolv.conf
for place in lib log cache; do mount -t tmpfs tmpfs /var/$place; done
mount --bind "$1" /mnt/run/trunkline
mount --bind "$2" /mnt/run/openvswitch
mount --rbind /mnt/run /run
eval "$3"
echo {_READY}
"""


class Enclosure:
    """What runs in it runs in the network of its node, with the administrator's token."""

    def __init__(self, lab: Lab, process: Process) -> None:
        self.process = process
        control = lab.control
        self._environment = {
            "PATH": _PATH,
            "HOME": "/mnt",
            "TRUNKLINE_URL": control.url,
            "TRUNKLINE_TOKEN": ADMIN_TOKEN,
            # podman's advice of what this machine should be
            "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
        }

    def run(self, lines: str, *, text: str | None = None, deadline: float = 60) -> str:
        """What a shell prints of it. `text` goes to its standard input. Raises CommandFailed."""
        (init,) = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        enter = ["nsenter", f"--target={init}", "--mount", "--pid", "--net"]
        return run([*enter, "bash", "-ec", lines], env=self._environment, text=text, deadline=deadline)


@contextmanager
def enclosed(lab: Lab, node: Node, setup: str = "", daemon: str = "sleep infinity") -> Iterator[Enclosure]:
    """Lines of shell as `setup`, and a command that goes on. All that runs there ends with it.

    The programs of this checkout are in /usr/bin, and the sockets of agent and Open vSwitch where all look for them.
    """
    written = [f"cat >/usr/bin/{name} <<'END'\n{program(name)}END\nchmod 755 /usr/bin/{name}" for name in PROGRAMS]
    # a shell stays, which waits for all that become its children
    script = "\n".join((_ENCLOSE, f"export PATH={_PATH}", f"{daemon} &", "wait $!"))
    words = ["bash", "-ec", script, "bash", str(node.directory), str(node.ovs.directory), "\n".join((*written, setup))]
    command = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", *words]
    before = set(_groups())
    log = lab.directory / f"enclosure-{node.name}.log"
    log.unlink(missing_ok=True)
    process = start(f"enclosure of {node.name}", netns.joined(node.namespace, command), log)
    try:
        process.wait_for(lambda: _READY in process.tail(), 30, "it is not ready")
        yield Enclosure(lab, process)
    finally:
        process.kill()
        wait_until(lambda: _remove(set(_groups()) - before), 10, "control groups are in use")


def _groups() -> Iterator[Path]:
    """Those of LXC, which leaves one when all of its containers are gone."""
    for place, directories, _ in os.walk("/sys/fs/cgroup"):
        yield from (Path(place, name) for name in directories if name.startswith("lxc."))


def _remove(groups: set[Path]) -> bool:
    for group in sorted(groups, reverse=True):
        with suppress(FileNotFoundError):
            try:
                group.rmdir()
            except OSError:
                return False
    return True
