"""The Debian packages on a fresh Debian with a systemd of its own, by the commands of README.md and docs/install.md.

The tests of this file are one story, in this order: installed, looked at, upgraded, removed, purged.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from etc.lab.openvswitch import datapath_type
from etc.lab.processes import wait_until
from tests.docs_text import ROOT, Part, commands
from tests.packaging.conftest import OLD_VERSION
from tests.packaging.machine import CHECKOUT, Machine, Refused

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]

RUNS = (
    Part("README.md", "Install"),
    Part("install.md", "On one machine"),
    Part("install.md", "Upgrading"),
    Part("install.md", "Removing"),
    Part("install.md", "Installing", "etc/build-deb"),
)
README, ONE_MACHINE, UPGRADING, REMOVING = (commands(part.text) for part in RUNS[:4])
UNITS = ("trunkline-controller.service", "trunkline-agent.service")
OLD_SCHEMA = "0016"
SECRETS = (
    "cli.yaml",
    "trunkline-controller.conf.d/first-tokens.conf",
    "trunkline-agent.conf.d/first-token.conf",
)
VMS = ("web1", "web2")
AGENT_USER = "trunkline-agent"
CAPABILITIES = sum(1 << number for number in (10, 12, 13, 21))
"""CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_ADMIN (linux/capability.h)."""
PROBES = {
    "nsenter --net=/run/netns/web1 ip link": True,
    "ovs-vsctl list-br": True,
    "ovs-ofctl -O OpenFlow14 dump-flows unix:/run/openvswitch/br-int.mgmt": True,
    "cat /etc/trunkline/trunkline-agent.conf.d/first-token.conf": True,
    "mount -t tmpfs none /mnt && umount /mnt": False,
    "unshare --mount true": False,
    "nsenter --mount=/proc/self/ns/mnt true": False,
    "nsenter --net=/proc/1/ns/net true": False,
    "exec 3<>/dev/net/tun": False,
    "cat /etc/shadow": False,
    "cat /etc/trunkline/cli.yaml": False,
    "cat /etc/trunkline/trunkline-controller.conf.d/first-tokens.conf": False,
}
"""Whether the agent's user can do it in the agent's unit. Root can do all of it."""
AS_ROOT = """[Service]
User=root
Group=root
AmbientCapabilities=
CapabilityBoundingSet=
CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW CAP_NET_BIND_SERVICE CAP_SYS_ADMIN CAP_DAC_OVERRIDE
RestrictNamespaces=no
SystemCallFilter=
"""
"""As the agent ran before it had a user."""
PYTHON = "/usr/lib/trunkline/bin/python -W ignore"
DATABASE = "/var/lib/trunkline/trunkline.db"


@pytest.fixture(scope="module")
def machine(root: None) -> Iterator[Machine]:
    with Machine("node1") as made:
        if datapath_type() == "netdev":  # as the page says for a kernel that lacks the module
            made.write("/etc/trunkline/trunkline-agent.conf.d/datapath.conf", "[agent]\ndatapath_type = netdev\n")
        yield made


def put(machine: Machine, files: list[Path]) -> None:
    machine.run(f"rm -rf {CHECKOUT}/build/deb")
    for file in files:
        machine.copy(file, f"{CHECKOUT}/build/deb")


def follow(machine: Machine, lines: list[str]) -> dict[str, str]:
    """Does what a page says, in the checkout; what each line has answered."""
    return {line: machine.run(f"cd {CHECKOUT} && {line}", online=line.startswith("apt-get")) for line in lines}


def is_active(machine: Machine, unit: str) -> bool:
    return machine.run(f"systemctl is-active {unit}", check=False) == "active"


def test_a_machine_has_an_address_by_the_commands_of_the_readme(machine: Machine, old_packages: list[Path]) -> None:
    """But for the first, whose work is done already, with another version."""
    build, *others = README
    assert build == "etc/build-deb"
    put(machine, old_packages)
    machine.run("apt-get update", online=True)
    follow(machine, others)
    assert re.search(r"inet 10\.40\.0\.\d+/24", machine.run("ip -4 -n web1 address show eth0"))


def test_one_machine(machine: Machine) -> None:
    """What docs/install.md says beyond that."""
    assert [line for line in ONE_MACHINE if line in README] == README[1:]
    answers = follow(machine, [line for line in ONE_MACHINE[:-2] if line not in README])
    assert re.search(r"^node1 +live ", answers["trunkline status"], re.M), answers
    for vm in VMS:
        assert re.search(r"inet 10\.40\.0\.\d+/24", machine.run(f"ip -4 -n {vm} address show eth0"))
    assert ", 0% packet loss" in answers["ip netns exec web1 ping -c 3 10.40.0.1"]
    assert answers["trunkline lease list"].count("bound") == 2


@pytest.mark.parametrize("unit", UNITS)
def test_units_are_ready_watched_and_enabled(machine: Machine, unit: str) -> None:
    """active means here that READY=1 was heard; and every WATCHDOG=1 is noted."""
    assert is_active(machine, unit)
    for name, value in (("Type", "notify"), ("NRestarts", "0"), ("UnitFileState", "enabled"), ("Result", "success")):
        assert machine.property(unit, name) == value
    heard = int(machine.property(unit, "WatchdogTimestampMonotonic"))
    assert heard
    wait_until(
        lambda: int(machine.property(unit, "WatchdogTimestampMonotonic")) > heard, 60, "no WATCHDOG=1", interval=0.5
    )
    said = machine.run(f"systemd-analyze verify --man=no {unit}", check=False)
    assert unit not in said, said


def test_the_controller_has_no_rights(machine: Machine) -> None:
    process = machine.property(UNITS[0], "MainPID")
    assert machine.run(f"ps -o user= -p {process}") == "trunkline"
    level = machine.run(f"systemd-analyze security --no-pager {UNITS[0]} | tail -n 1")
    assert float(re.findall(r"\d+\.\d", level)[0]) < 2.0, level
    for secret in SECRETS:
        with pytest.raises(Refused, match="Permission denied"):
            machine.run(f"runuser -u nobody -- cat /etc/trunkline/{secret}")


def test_the_agent_has_the_rights_it_needs_and_no_more(machine: Machine) -> None:
    process = machine.property(UNITS[1], "MainPID")
    assert user_of_agent(machine) == AGENT_USER
    status = dict(re.findall(r"(\w+):\s+(\S+)", machine.run(f"cat /proc/{process}/status")))
    for capabilities in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[capabilities], 16) == CAPABILITIES, capabilities
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    level = machine.run(f"systemd-analyze security --no-pager {UNITS[1]} | tail -n 1")
    assert float(re.findall(r"\d+\.\d", level)[0]) < 4.5, level


def test_who_takes_over_the_agent_does_not_run_as_root(machine: Machine) -> None:
    """Somebody else's commands in the agent's own unit."""
    unit = machine.run(f"cat /usr/lib/systemd/system/{UNITS[1]}")
    kept = re.sub(r"(?m)^(Type|Exec\w+|Restart\w*|WatchdogSec|RuntimeDirectory)=.*\n", "", unit)
    run = "Type=oneshot\nExecStart=/bin/bash /run/probe.sh\nStandardOutput=truncate:/run/probe.out\n"
    machine.write("/run/systemd/system/probe.service", kept.replace("[Service]\n", f"[Service]\n{run}"))
    lines = [f"(set -e; {probe}) >/dev/null 2>&1 && echo true || echo false\n" for probe in PROBES]
    machine.write("/run/probe.sh", "".join(lines))
    machine.run("chmod 644 /run/probe.sh && systemctl daemon-reload && systemctl start probe")
    said = machine.run("cat /run/probe.out").split()
    assert dict(zip(PROBES, said, strict=True)) == {probe: str(can).lower() for probe, can in PROBES.items()}
    assert set(machine.run("bash /run/probe.sh").split()) == {"true"}


def test_what_the_agent_does_for_others(machine: Machine) -> None:
    """A container, metadata, a capture, and what Open vSwitch itself would do: each by rights that it has left."""
    other = address_of(machine, "web2")
    token = "trunkline token create cni --role member --project green --scope ports:write --scope networks:read"
    machine.run(f"umask 077 && {token} | sed -n 's/^secret *//p' >/root/plug.token")
    conf = '{"cniVersion": "1.1.0", "name": "pods", "network": "green", "tokenFile": "/root/plug.token"}'
    machine.write("/root/pods.conf", conf)
    cni = "CNI_CONTAINERID=pod CNI_NETNS=/run/netns/pod CNI_IFNAME=eth0 CNI_COMMAND={} trunkline-cni </root/pods.conf"
    machine.run(f"ip netns add pod && {cni.format('ADD')}")
    assert ", 0% packet loss" in machine.run(f"ip netns exec pod ping -c 2 -i 0.1 {other}")
    machine.run(f"{cni.format('DEL')} && ip netns delete pod && rm /root/plug.token")
    assert machine.run("stat -c '%U %a' /run/trunkline/agent.sock") == f"{AGENT_USER} 600"
    ask = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/trunkline/agent.sock'); print(s.recv(999))"
    for user, refusal in ((AGENT_USER, "only root may ask"), ("nobody", "Permission denied")):
        assert refusal in machine.run(f'runuser -u {user} -- python3 -c "{ask}"', check=False)
    fetch = "import urllib.request; urllib.request.urlopen('http://169.254.169.254/latest/meta-data/', timeout=20)"
    machine.run(f'ip netns exec web1 python3 -c "{fetch}"')
    pings = f"ip netns exec web1 ping -i 0.05 {other} >/dev/null & pings=$!"
    seen = machine.run(f"{pings}; trunkline capture web1 --packets 2 | wc -c; kill $pings").splitlines()[-1]
    assert int(seen) > 24, seen  # the head of the file
    assert "decides the same" in machine.run(f"trunkline trace web1 --to {other} --proto icmp --live")


def test_every_file_of_the_programs_is_there(machine: Machine) -> None:
    """Also those that Python does not look for."""
    place = machine.run("echo /usr/lib/trunkline/lib/python3*/site-packages")
    wanted = {
        str(file.relative_to(ROOT))
        for part in ("agent", "controller", "flows")
        for file in (ROOT / part).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    found = machine.run(f"cd {place} && find agent controller flows -type f").splitlines()
    assert wanted - set(found) == set()
    assert machine.run(f"find {place} -name '*.py' | wc -l") == machine.run(f"find {place} -name '*.pyc' | wc -l")


def test_the_command_its_completion_and_its_manual(machine: Machine) -> None:
    assert machine.run(". /usr/share/bash-completion/completions/trunkline && complete -p trunkline")
    words = machine.run("COMP_WORDS='trunkline netw' COMP_CWORD=1 _TRUNKLINE_COMPLETE=complete_bash trunkline")
    assert words == "network"
    assert r".SS \fBsecurity\-group create" in machine.run("zcat /usr/share/man/man1/trunkline.1.gz")
    assert OLD_VERSION in machine.run("trunkline-controller --version")


def test_upgrade_loses_no_packet(machine: Machine, packages: list[Path], tmp_path: Path) -> None:
    """With an older schema in the database, from an agent that ran as root, while two machines talk."""
    machine.run("systemctl stop trunkline-controller")
    machine.copy(Path(__file__).with_name("older_schema.py"), "/root")
    machine.run(f"{PYTHON} older_schema.py {DATABASE} {OLD_SCHEMA} && chown -R trunkline: /var/lib/trunkline")
    flows = flow_table(machine)
    run_as_root(machine)
    pings = machine.start(f"ip netns exec web1 ping -i 0.01 {address_of(machine, 'web2')}", tmp_path / "pings")
    wait_until(lambda: (tmp_path / "pings").read_text().count("icmp_seq") > 20, 30, "no answer")

    put(machine, packages)
    install, by_hand = UPGRADING
    said = machine.run(f"cd {CHECKOUT} && {install}", online=True)

    for unit in UNITS:
        assert is_active(machine, unit), said
    assert user_of_agent(machine) == AGENT_USER
    wait_until(lambda: "live" in machine.run("trunkline status", check=False), 60, "the node is not live", interval=0.5)
    before = (tmp_path / "pings").read_text().count("icmp_seq")
    wait_until(lambda: (tmp_path / "pings").read_text().count("icmp_seq") > before + 100, 30, "no answer afterwards")
    machine.run("kill -INT $(pidof ping)")
    pings.wait(30)
    told = (tmp_path / "pings").read_text()
    answered = {int(number) for number in re.findall(r"icmp_seq=(\d+)", told)}
    sent = re.search(r"(\d+) packets transmitted", told)
    # the last one may have been on its way when it was interrupted
    assert sent and answered == set(range(1, max(answered) + 1)) and int(sent[1]) - max(answered) <= 1, told[-300:]
    print(f"{len(answered)} pings during the upgrade, all answered")

    assert f"schema revision {OLD_SCHEMA} -> " in said, said
    follow(machine, [by_hand])
    backups = machine.run(f"ls /var/lib/trunkline/before-*-of-{OLD_SCHEMA}-*.backup").splitlines()
    assert len(backups) == 1
    assert OLD_VERSION not in machine.run("trunkline-controller --version")
    assert flow_table(machine) == flows
    assert machine.run("trunkline lease list").count("bound") == 2
    for vm in VMS:
        machine.run(f"ip netns exec {vm} udhcpc -i eth0 -f -q -t 20")


def test_a_program_that_hangs_is_started_again(machine: Machine) -> None:
    """What the watchdog is for; its time is shortened, as half a minute is long."""
    machine.write("/run/systemd/system/trunkline-agent.service.d/test.conf", "[Service]\nWatchdogSec=3s\n")
    machine.run("systemctl daemon-reload && systemctl restart trunkline-agent")
    process = int(machine.property("trunkline-agent", "MainPID"))
    machine.run(f"kill -{signal.SIGSTOP.value} {process}")
    wait_until(lambda: machine.property("trunkline-agent", "NRestarts") == "1", 60, "not restarted", interval=0.5)
    wait_until(lambda: is_active(machine, "trunkline-agent"), 60, "not active", interval=0.5)


def test_what_is_removed_can_be_installed_again_and_purged_leaves_nothing(machine: Machine) -> None:
    follow(machine, ONE_MACHINE[-2:])
    machine.run("install -m 640 /dev/null /srv/token && chmod 700 /srv")
    machine.write("/etc/trunkline/trunkline-agent.conf.d/plug.conf", "[agent]\nplug_token_file = /srv/token\n")
    machine.run("systemctl reload trunkline-agent")
    await_grant(machine, "/srv/token", "group::r--")
    machine.run("chmod 600 /srv/token")
    await_grant(machine, "/srv/token", "group::---")
    follow(machine, REMOVING[:1])
    for unit in UNITS:
        assert not is_active(machine, unit)
    assert machine.run(f"ls {DATABASE}") and flow_table(machine)
    follow(machine, UPGRADING[:1])
    wait_until(lambda: "live" in machine.run("trunkline status", check=False), 60, "not live again", interval=0.5)
    assert "green" in machine.run("trunkline network list")

    follow(machine, REMOVING[1:])
    left = machine.run(
        "find / -xdev \\( -path /proc -o -path /sys -o -path /root -o -path /var/log -o -path /var/cache \\) -prune -o "
        "-iname '*trunkline*' -print"
    )
    assert left == ""
    for user in ("trunkline", AGENT_USER):
        assert machine.run(f"getent passwd {user}; getent group {user}", check=False) == ""
    assert not re.search(r"(?m)^user:[^:]", machine.run("getfacl --recursive --skip-base /run/openvswitch /srv"))
    assert machine.run("dpkg -l | grep trunkline", check=False) == ""
    assert machine.run("ip netns list; ovs-vsctl list-br", check=False) == ""


def address_of(machine: Machine, vm: str) -> str:
    found = re.search(r"inet ([\d.]+)", machine.run(f"ip -4 -n {vm} address show eth0"))
    assert found
    return found[1]


def user_of_agent(machine: Machine) -> str:
    return machine.run(f"ps -o user:32= -p {machine.property('trunkline-agent', 'MainPID')}")


def run_as_root(machine: Machine) -> None:
    """The agent, with nothing that was granted to its user. The next one to start is its user's again."""
    drop_in = "/run/systemd/system/trunkline-agent.service.d"
    machine.write(f"{drop_in}/root.conf", AS_ROOT)
    machine.run("systemctl daemon-reload && systemctl restart trunkline-agent")
    assert user_of_agent(machine) == "root"
    machine.run(f"setfacl --recursive --remove-all /etc/trunkline /run/openvswitch && rm -r {drop_in}")


def await_grant(machine: Machine, path: str, group: str) -> None:
    """That the agent's user may read it, and what its list has of the group."""

    def is_granted() -> bool:
        said = machine.run(f"getfacl --absolute-names --omit-header {path}").splitlines()
        return {f"user:{AGENT_USER}:r--", group, "mask::r--"} <= set(said)

    wait_until(is_granted, 30, f"{path} is not granted", interval=0.2)


def flow_table(machine: Machine) -> list[str]:
    dump = machine.run("ovs-ofctl -O OpenFlow14 dump-flows --no-stats br-int")
    return sorted(line.strip() for line in dump.splitlines() if "actions=" in line)
