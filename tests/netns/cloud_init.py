"""cloud-init, booted in a VM: its stages run by Debian's own, in a root of their own above that of this machine.

cloud-init is only unpacked (`etc/bootstrap`), and what it changes, files, host name and processes, is gone with its
mount, UTS and PID namespaces.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etc.lab.vm import Vm

METADATA = "http://169.254.169.254"
USER_DATA = b"#!/bin/sh\necho yes >/ran\n"
"""Leaves what `Booted.ran` is."""

_SETTINGS: dict[str, dict[str, object]] = {
    "OpenStack": {"metadata_urls": [METADATA], "max_wait": 10, "timeout": 5, "retries": 0},
    # by its DMI this machine is none of Amazon's
    "Ec2": {"metadata_urls": [METADATA], "max_wait": 10, "timeout": 5, "strict_id": False},
    "NoCloud": {"seedfrom": f"{METADATA}/"},
}
DATASOURCES = tuple(_SETTINGS)

# $1: an empty directory; $2: cloud-init's files; $3: its configuration
_SCRIPT = r"""
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
cd "$1"
mkdir upper work root
mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root
cd root
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mkdir -p usr/lib/cloud-init-lib etc/cloud
cp -r "$2"/usr/lib/python3/dist-packages/cloudinit usr/lib/cloud-init-lib
cp -r "$2"/etc/cloud/templates etc/cloud
printf '%s' "$3" >etc/cloud/cloud.cfg
rm -f root/.ssh/authorized_keys
sed -i 's/^hosts:.*/hosts: files/' etc/nsswitch.conf    # it has no name server, and would wait for one
export PYTHONPATH=/usr/lib/cloud-init-lib PYTHONDONTWRITEBYTECODE=1 PATH=/usr/sbin:/usr/bin:/sbin:/bin
for stage in init "modules --mode=config" "modules --mode=final"; do
    chroot . /usr/bin/python3 -m cloudinit.cmd.main $stage >tmp/said 2>&1 || tail tmp/said >&2
done
chroot . /usr/bin/python3 -c "$4"
"""

# run where it has booted
_REPORT = r"""
import json, pathlib, socket
def text(path):
    found = pathlib.Path(path)
    return found.read_text() if found.exists() else ""
print(json.dumps({
    "result": json.loads(text("/run/cloud-init/result.json") or "{}"),
    "status": json.loads(text("/run/cloud-init/status.json") or "{}"),
    "instance": text("/run/cloud-init/.instance-id").strip(),
    "keys": [line for line in text("/root/.ssh/authorized_keys").splitlines() if line],
    "hostname": socket.gethostname(),
    "ran": text("/ran"),
}))
"""


@dataclass(frozen=True)
class Booted:
    """`complaints`: what `cloud-init status` would call an error or degraded. `ran`: what the user data has left."""

    datasource: str
    complaints: list[str]
    instance_id: str
    hostname: str
    keys: list[str]
    ran: str


def boot(vm: Vm, files: Path, name: str, directory: Path) -> Booted:
    """The first boot of a machine with one datasource. `files`: cloud-init's, unpacked; `directory`: an empty one."""
    config: dict[str, Any] = {
        "datasource_list": [name],
        "datasource": {name: _SETTINGS[name]},
        "network": {"config": "disabled"},  # it has its address already
        "disable_root": False,
        "ssh_genkeytypes": [],
        "ssh_deletekeys": False,
        "system_info": {"distro": "debian"},
        "cloud_init_modules": ["set_hostname", "users_groups", "ssh"],
        "cloud_config_modules": [],
        "cloud_final_modules": ["scripts_user", "final_message"],
    }
    namespaces = ("unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child")
    said = vm.execute(
        *namespaces, "bash", "-ec", _SCRIPT, "boot", str(directory), str(files), json.dumps(config), _REPORT
    )
    report = json.loads(said.splitlines()[-1])
    stages = [stage for stage in report["status"]["v1"].values() if isinstance(stage, dict)]
    complaints = [line for stage in stages for line in stage["errors"]]
    complaints += [line for stage in stages for lines in stage["recoverable_errors"].values() for line in lines]
    datasource = str(report["result"]["v1"]["datasource"])
    return Booted(
        datasource, sorted(set(complaints)), report["instance"], report["hostname"], report["keys"], report["ran"]
    )
