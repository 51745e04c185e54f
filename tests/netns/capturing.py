"""What tests of captures share: `trunkline capture` as a process, and who reads packets on a node."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from etc.lab import netns
from etc.lab.capture import Seen, parse_pcap
from etc.lab.lab import Lab
from etc.lab.processes import interruptible, wait_until
from etc.lab.vm import Vm

DEADLINE = 20.0


@dataclass
class Running:
    """`trunkline capture`, which writes to a file."""

    process: subprocess.Popen[str]
    file: Path

    def frames(self) -> list[Seen]:
        return parse_pcap(self.file.read_bytes()) if self.file.exists() else []

    def wait_begun(self) -> None:
        """What passes from now on is in it."""
        wait_until(
            lambda: self.file.exists() and self.file.stat().st_size >= 24 or self.process.poll() is not None,
            DEADLINE,
            "no capture",
        )
        assert self.process.poll() is None, self.process.communicate()

    def end(self, number: int | None = None) -> tuple[int, str]:
        """Its exit status, and what it has said."""
        if number is not None:
            self.process.send_signal(number)
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said


@contextmanager
def capturing(lab: Lab, vm: Vm, *options: str, begun: bool = True) -> Iterator[Running]:
    file = lab.directory / f"captured-{vm.name}.pcap"
    file.unlink(missing_ok=True)
    command = [str(lab.directory / "trunkline"), "capture", vm.port["id"], "-w", str(file), *options]
    process = subprocess.Popen(interruptible(command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    running = Running(process, file)
    try:
        if begun:
            running.wait_begun()
        yield running
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def packet_sockets(lab: Lab, node: str) -> int:
    """How many there are on a node that hear everything, whoever has them."""
    lines = netns.execute(lab.node(node).namespace, "cat", "/proc/net/packet").splitlines()[1:]
    return sum(line.split()[3] == "0003" for line in lines)


def wait_quiet(lab: Lab, node: str, before: int) -> None:
    """Wait until the agent reads nobody's packets any more."""
    wait_until(lambda: packet_sockets(lab, node) == before, DEADLINE, "the agent still reads")


def logged(lab: Lab, event: str) -> list[str]:
    lines = (lab.control.directory / "controller.log").read_text().splitlines()
    return [line for line in lines if event in line]
