"""The commands of README.md, as they stand there and in their order, in what etc/quickstart builds."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from etc.lab import netns
from etc.lab.lab import Lab
from etc.lab.processes import interruptible
from etc.lab.scenario import PROJECTS, give_floating_ip, populate
from tests.docs_text import Part, commands

pytestmark = pytest.mark.root

RUNS = (Part("README.md", "Commands"),)
TEXT = RUNS[0].text
VM = "web1"
ENDLESS = re.compile(r"--(watch|follow)\b| capture ")
"""They go on until Ctrl-C, or for half a minute: it is pressed after some seconds."""

INTERRUPTED = 124
"""What timeout(1) ends with then, where nothing follows in a pipe."""


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    """What quickstart leaves to the reader: its own VMs have two floating IPs of the pool."""
    lab = make_lab(nodes=3, projects=PROJECTS, open_groups=False)
    scenario = populate(lab)
    for project, node in zip(PROJECTS, lab.nodes, strict=False):
        give_floating_ip(lab, scenario.vms[project][node.name])
    return lab


@pytest.fixture
def vm_namespace(lab: Lab) -> Iterator[str]:
    yield f"{lab.prefix}-{VM}"
    netns.delete(f"{lab.prefix}-{VM}")


def test_every_command_does_what_it_says(lab: Lab, vm_namespace: str, tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "id_ed25519.pub").write_text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGrx operator\n")
    (tmp_path / "cloud-config.yaml").write_text("#cloud-config\n")
    answers = {}
    for line in commands(TEXT):
        on_node = line.startswith("trunkline plug ")
        program = f"{lab.nodes[0].directory}/on trunkline" if on_node else f"{lab.directory}/trunkline"
        command = line.replace("trunkline", program, 1).replace(f"--namespace {VM}", f"--namespace {vm_namespace}")
        endless = bool(ENDLESS.search(line))
        if endless:
            command = f"timeout --signal INT 5 {command}"
        done = subprocess.run(
            interruptible(["bash", "-c", command]), cwd=tmp_path, env={**os.environ, "HOME": str(tmp_path)},
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == (INTERRUPTED if endless and "|" not in line else 0), f"{line}: {done.stderr}"
        answers[line.split("#")[0].strip()] = done.stdout
    found = re.search(r"`ip netns exec web1 (udhcpc [^`]+)`", TEXT)
    assert found
    netns.execute(vm_namespace, *found[1].split(), deadline=60)
    (interface,) = netns.query(vm_namespace, "address", "show", "eth0")
    (address,) = [each["local"] for each in interface["addr_info"] if each["family"] == "inet"]
    assert address.startswith("10.40.0.")
    assert address in answers[f"trunkline plug {VM} --namespace {VM}"]
    assert answers["trunkline status"].count(" live ") == 3
    assert "203.0.113.202" in next(answer for line, answer in answers.items() if line.startswith("trunkline record"))
