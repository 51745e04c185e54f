"""A fresh Debian machine with a systemd of its own, in namespaces of this one: gone without a trace in the end.

Its root is an overlay in memory on a directory that is made once (`root_directory`), with packages that wait in apt's
cache: all there is of Debian is fetched then, and no test asks the network for it. Its network is its own; commands
that install packages are run in that of the host. systemd wants the second version of control groups, which need not
be the one that the host uses.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from etc.lab.processes import wait_until

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "build"
SUITE = "trixie"
FRESH = ("systemd", "systemd-sysv", "dbus", "ca-certificates", "iputils-ping")
DEPENDENCIES = ("openvswitch-switch", "udhcpc", "python3", "adduser", "acl", "iproute2", "ethtool")
"""Of our packages, and what README.md has one install beside them: in the cache of a fresh machine."""
FURNITURE = (*DEPENDENCIES, "postgresql")
"""In the cache, too, and installed on a furnished machine: for tests of what comes after the installation."""
CHECKOUT = "/root/trunkline"
BOOT_DEADLINE = 60.0
MAKE_DEADLINE = 600.0
RUN_DEADLINE = 300.0  # apt-get has much to unpack, and maybe not much of two cores

# In the new mount namespace: the root of the machine, with what a container is given (systemd's CONTAINER_INTERFACE).
_BOOT = """
set -e
mount -t tmpfs -o mode=755 tmpfs {place}
mkdir {place}/upper {place}/work {place}/root
mount -t overlay -o lowerdir={base},upperdir={place}/upper,workdir={place}/work overlay {place}/root
cd {place}/root
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty net/tun; do
    mkdir -p dev/net
    touch dev/$device
    mount --bind /dev/$device dev/$device
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755 tmpfs run
cat /etc/resolv.conf >etc/resolv.conf
hostname {name}
hostname >etc/hostname
echo "127.0.0.1 localhost {name}" >etc/hosts
ip link set lo up
mkdir host
pivot_root . host
umount -l /host
rmdir /host
exec env -i container=trunkline PATH=/usr/sbin:/usr/bin /lib/systemd/systemd --system --unit=multi-user.target
"""

# As apt-get will ask for them: with what they recommend, or without.
_FETCH = f"""
set -e
fetch() {{ chroot "$root" apt-get -q -y --download-only "$@"; }}
root=$1
fetch -o APT::Install-Recommends=true install {" ".join(DEPENDENCIES)}
fetch install {" ".join(FURNITURE)}
"""
# From the cache. No service is started.
_FURNISH = f"""
set -e
mount -t proc proc {{root}}/proc
mount --rbind /dev {{root}}/dev
printf '#!/bin/sh\\nexit 101\\n' >{{root}}/usr/sbin/policy-rc.d
chmod 755 {{root}}/usr/sbin/policy-rc.d
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
chroot {{root}} apt-get -q -y --no-download --no-install-recommends install {" ".join(FURNITURE)}
rm {{root}}/usr/sbin/policy-rc.d
"""


class Refused(Exception):
    """A command in the machine has failed; the text is what it was and what it has said."""


def root_directory(*, furnished: bool) -> Path:
    """The files of a Debian. Made once, by whoever comes first; others wait for it."""
    name = hashlib.sha256(repr((SUITE, FRESH, FURNITURE, _FETCH, _FURNISH)).encode()).hexdigest()[:8]
    made = BASE / f"machine-{name}-{'furnished' if furnished else 'fresh'}"
    fresh = root_directory(furnished=False) if furnished else None
    BASE.mkdir(exist_ok=True)
    with (BASE / f"{made.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            with tempfile.TemporaryDirectory(dir=BASE) as place:
                root = Path(place) / "root"
                if fresh is None:
                    _bootstrap(root)
                else:
                    _make("cp", "--archive", "--reflink=auto", str(fresh), str(root))
                    _make("unshare", "--mount", "bash", "-c", _FURNISH.format(root=root))
                root.rename(made)
    return made


def _bootstrap(root: Path) -> None:
    options = ["--quiet", "--variant=apt", "--skip=cleanup/apt", f"--include={','.join(FRESH)}"]
    # what is described in other languages is not asked for
    options += ["--aptopt=Acquire::Languages { none; }", f"--customize-hook={_FETCH}"]
    _make("mmdebstrap", *options, SUITE, str(root), *_sources())


def _make(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=MAKE_DEADLINE)
    if done.returncode:
        raise Refused(done.stderr or done.stdout)


def _sources() -> list[str]:
    """Where this machine has its packages from; what lies on it, the new one would not find."""
    etc = Path("/etc/apt")
    files = [etc / "sources.list", *sorted(etc.glob("sources.list.d/*"))]
    remote = re.compile(r"^(deb|URIs:).*https?:", re.M)
    return [str(file) for file in files if file.exists() and remote.search(file.read_text())]


class Machine:
    """Running from `with` on. `name` is its host name."""

    def __init__(self, name: str, *, furnished: bool = False) -> None:
        self.name = name
        self._furnished = furnished
        self._place = Path()
        self._group = Path()
        self._starter: subprocess.Popen[bytes] | None = None
        self._init = 0

    def __enter__(self) -> Machine:
        base = root_directory(furnished=self._furnished)
        self._place = Path(tempfile.mkdtemp(prefix="trunkline-machine-"))
        script = self._place / "boot"
        script.write_text(_BOOT.format(place=self._place / "root", base=base, name=self.name))
        (self._place / "root").mkdir()
        self._group = self._make_group()
        namespaces = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--fork", "--kill-child")
        # it does not outlive these tests, however they end
        unshare = f"setpriv --pdeathsig KILL unshare {' '.join(namespaces)} bash {script}"
        line = f"echo $$ >{self._group}/cgroup.procs && exec {unshare}"
        with (self._place / "log").open("wb") as log:
            self._starter = subprocess.Popen(["bash", "-c", line], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self._init = wait_until(self._first_process, BOOT_DEADLINE, f"{self.name} does not start")
            wait_until(self._running, BOOT_DEADLINE, f"{self.name} does not boot", interval=0.2)
        except BaseException:
            print((self._place / "log").read_text())
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._starter is None:
            return
        with suppress(ProcessLookupError):
            os.kill(self._init or self._starter.pid, signal.SIGKILL)
        self._starter.wait(60)
        for directory, _, _ in os.walk(self._group, topdown=False):
            wait_until(lambda each=directory: _removed(each), 30, f"{directory} is in use")
        with suppress(OSError):
            self._group.parent.rmdir()  # another machine of this process may be there
        shutil.rmtree(self._place)
        self._starter = None

    def run(self, line: str, *, check: bool = True, online: bool = False, deadline: float = RUN_DEADLINE) -> str:
        """A line for bash, as root, and all that it has said. `online`: in the host's network. Raises Refused."""
        done = subprocess.run(
            [*self._enter(online), "bash", "-c", line], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=deadline,
        )  # fmt: skip
        if check and done.returncode:
            raise Refused(f"{line}: status {done.returncode}\n{done.stdout}")
        return done.stdout.strip()

    def start(self, line: str, log: Path) -> subprocess.Popen[bytes]:
        """The same, and does not wait."""
        with log.open("wb") as output:
            return subprocess.Popen([*self._enter(False), "bash", "-c", f"exec {line}"], stdout=output, stderr=output)

    def write(self, path: str, text: str) -> None:
        subprocess.run(
            [*self._enter(False), "bash", "-c", f'mkdir -p "$(dirname {path})" && cat >{path}'],
            input=text, text=True, check=True, timeout=30,
        )  # fmt: skip

    def copy(self, file: Path, directory: str) -> None:
        with file.open("rb") as content:
            target = f"{directory}/{file.name}"
            command = [*self._enter(False), "bash", "-c", f"mkdir -p {directory} && cat >{target}"]
            subprocess.run(command, stdin=content, check=True, timeout=60)

    def cable(self, interface: str, other: Machine, peer: str) -> None:
        """Join two machines; both ends are up."""
        ends = [interface, "netns", str(self._init), "type", "veth", "peer", "name", peer, "netns", str(other._init)]
        subprocess.run(["ip", "link", "add", *ends], check=True, timeout=30)
        self.run(f"ip link set {interface} up")
        other.run(f"ip link set {peer} up")

    def send(self, path: str, other: Machine, target: str) -> None:
        """As `scp -r PATH OTHER:TARGET` does."""
        place, _, names = path.rpartition("/")
        taken = f"cd {place} && tar -cf - {names}"
        fresh = f"mkdir {target} && tar -C {target} --strip 1 -xf -"
        given = f"if [ -d {target} ]; then tar -C {target} -xf -; else {fresh}; fi"
        packed = subprocess.run(
            [*self._enter(False), "bash", "-c", taken], stdout=subprocess.PIPE, check=True, timeout=60
        )
        subprocess.run([*other._enter(False), "bash", "-c", given], input=packed.stdout, check=True, timeout=60)

    def property(self, unit: str, name: str) -> str:
        return self.run(f"systemctl show --value -p {name} {unit}")

    def _enter(self, online: bool) -> list[str]:
        namespaces = ["-m", "-u", "-i", "-p", "-C", *([] if online else ["-n"])]
        environment = ["env", "-i", "-C", "/root", "HOME=/root", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"]
        return ["nsenter", "-t", str(self._init), *namespaces, "--", *environment, "DEBIAN_FRONTEND=noninteractive"]

    def _first_process(self) -> int:
        assert self._starter
        if self._starter.poll() is not None:
            raise Refused((self._place / "log").read_text())
        children = Path(f"/proc/{self._starter.pid}/task/{self._starter.pid}/children").read_text().split()
        return int(children[0]) if children and Path(f"/proc/{children[0]}/comm").read_text() == "systemd\n" else 0

    def _running(self) -> bool:
        return self.run("systemctl is-system-running", check=False) in ("running", "degraded")

    def _make_group(self) -> Path:
        """A control group for all that is the machine's."""
        mounted = re.search(r"^\S+ (\S+) cgroup2 ", Path("/proc/mounts").read_text(), re.M)
        if mounted is None:
            raise Refused("the second version of control groups is not mounted on this machine: systemd needs it")
        hierarchy = Path(mounted[1])
        group = hierarchy / f"trunkline-{os.getpid()}" / self.name
        group.mkdir(parents=True)
        return group


def _removed(directory: str) -> bool:
    with suppress(OSError):
        os.rmdir(directory)
    return not os.path.exists(directory)
