"""One private Open vSwitch in one network namespace: database, switch, sockets and logs of its own."""

from __future__ import annotations

import os
from pathlib import Path

from etc.lab import netns
from etc.lab.processes import CommandFailed, Process, run, start, stop_all, wait_until

SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
OPENFLOW = "OpenFlow14"
START_DEADLINE = 60.0


DATAPATH_VARIABLE = "TRUNKLINE_DATAPATH"
"""Environment variable: `kernel` or `userspace`. Where it is not set, the machine decides."""

_TYPES = {"kernel": "system", "userspace": "netdev"}


def asked_datapath() -> str | None:
    """Return `kernel`, `userspace`, or None where TRUNKLINE_DATAPATH leaves it to the machine."""
    return os.environ.get(DATAPATH_VARIABLE)


def datapath_type() -> str:
    """Return `system` for the kernel's datapath or `netdev` for the one in userspace.

    TRUNKLINE_DATAPATH says which; else it is the kernel's where that has, or can load, its module openvswitch. Raises
    CommandFailed when the kernel's is asked for and the module is missing, KeyError for another word.
    """
    asked = asked_datapath()
    if asked is not None and _TYPES[asked] == "netdev":
        return "netdev"
    module = Path("/sys/module/openvswitch")
    if not module.exists():
        run(["modprobe", "--quiet", "openvswitch"], check=False)
    if asked is not None and not module.exists():
        raise CommandFailed("the kernel's datapath is asked for, and this kernel has no module openvswitch")
    return "system" if module.exists() else "netdev"


class OpenVSwitch:
    """`directory` holds all its files and should be short: a socket's path has at most 107 characters."""

    def __init__(self, namespace: str, directory: Path, datapath: str) -> None:
        self.namespace = namespace
        self.directory = directory
        self.datapath = datapath
        self.database = f"unix:{directory}/db.sock"
        self.server: Process | None = None
        self.switch: Process | None = None
        self._env = {f"OVS_{kind}DIR": str(directory) for kind in ("RUN", "LOG", "DB", "SYSCONF")}

    def start(self) -> None:
        """Make the database if there is none, then start both daemons and wait until they answer."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if not (self.directory / "conf.db").exists():
            run(["ovsdb-tool", "create", f"{self.directory}/conf.db", str(SCHEMA)])
        self.start_database()
        # Read once, when the datapath starts. Without it, TCP through the userspace datapath needs guests without
        # checksum offload.
        tso = ["other_config:userspace-tso-enable=true"] if self.datapath == "netdev" else []
        self.vsctl("--no-wait", "set", "Open_vSwitch", ".", f"external_ids:hostname={self.namespace}", *tso)
        self.start_switch()

    def start_database(self) -> None:
        self.server = self._daemon(
            "ovsdb-server",
            f"{self.directory}/conf.db",
            f"--remote=punix:{self.directory}/db.sock",
        )
        self.server.wait_for((self.directory / "db.sock").is_socket, START_DEADLINE, "no database socket")
        self.server.wait_for(lambda: self._vsctl_works("--no-wait", "init"), START_DEADLINE, "no database")

    def start_switch(self) -> None:
        self.switch = self._daemon("ovs-vswitchd", self.database)
        # A vsctl that waits returns when the switch has taken over the whole configuration.
        self.switch.wait_for(lambda: self._vsctl_works("--timeout=5", "init"), START_DEADLINE, "no answer")

    def stop(self) -> None:
        stop_all(process for process in (self.switch, self.server) if process)

    def restart_switch(self, *, kill: bool = False) -> None:
        """Restart ovs-vswitchd; with `kill` it dies by SIGKILL first, as in a crash."""
        assert self.switch
        self.switch.kill() if kill else self.switch.stop()
        self.start_switch()

    def restart_database(self, *, kill: bool = False) -> None:
        """Restart ovsdb-server while the switch runs on."""
        assert self.server
        self.server.kill() if kill else self.server.stop()
        (self.directory / "db.sock").unlink(missing_ok=True)
        self.start_database()

    def vsctl(self, *args: str) -> str:
        """ovs-vsctl; without --no-wait it returns when the switch has done it."""
        return run(["ovs-vsctl", f"--db={self.database}", *args], env=self._full_env()).strip()

    def ofctl(self, command: str, bridge: str, *args: str, text: str | None = None) -> str:
        """ovs-ofctl with OpenFlow 1.4; `text` is the standard input, for `-`."""
        target = f"unix:{self.directory}/{bridge}.mgmt"
        return run(["ovs-ofctl", "-O", OPENFLOW, command, target, *args], text=text, env=self._full_env())

    def appctl(self, *args: str) -> str:
        """ovs-appctl to the switch, which it finds by its pidfile."""
        return run(["ovs-appctl", *args], env=self._full_env())

    def require_datapath(self) -> None:
        """Raise CommandFailed unless all bridges are on the datapath that this Open vSwitch was made for."""
        found = self.appctl("dpctl/dump-dps").split()
        if {name.partition("@")[0] for name in found} != {self.datapath}:
            raise CommandFailed(f"Open vSwitch of {self.namespace} has the datapaths {found}, and not {self.datapath}")

    def flows(self, bridge: str = "br-int") -> list[str]:
        """The installed flows, one a line, without statistics, sorted."""
        dump = self.ofctl("dump-flows", bridge, "--no-stats")
        return sorted(line.strip() for line in dump.splitlines() if "actions=" in line)

    def trace(self, flow: str, bridge: str = "br-int") -> str:
        """What the switch would do with a packet: ofproto/trace."""
        return self.appctl("ofproto/trace", bridge, flow)

    def ofport(self, interface: str) -> int:
        """The OpenFlow port number of an interface. Waits until the switch has given one."""
        answer = wait_until(
            lambda: self.vsctl("--if-exists", "get", "Interface", interface, "ofport").strip("[]"),
            10,
            f"no ofport of {interface}",
        )
        return int(answer)

    def _daemon(self, name: str, *args: str) -> Process:
        log = self.directory / f"{name}.log"
        line = netns.command(
            self.namespace, [name, *args, "--pidfile", f"--log-file={log}", "-vconsole:off", "-vsyslog:off"]
        )
        return start(f"{name} of {self.namespace}", line, self.directory / f"{name}.out", env=self._env)

    def _vsctl_works(self, *args: str) -> bool:
        try:
            self.vsctl(*args)
        except RuntimeError:
            return False
        return True

    def _full_env(self) -> dict[str, str]:
        return {**os.environ, **self._env}
