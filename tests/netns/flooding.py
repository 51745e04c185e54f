"""Sends raw frames as fast as they go, or at a rate, in a process of its own.

Run as `python -m tests.netns.flooding INTERFACE SECONDS FILE [RATE]` in a namespace: FILE has a frame in hexadecimal
digits on each line, which are sent in turn, RATE a second. Prints how many were sent.
"""

from __future__ import annotations

import itertools
import math
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from etc.lab import netns
from etc.lab.control import PROJECT_ROOT
from etc.lab.vm import INTERFACE, Vm

_BATCH = 64


def main(interface: str, seconds: float, file: Path, rate: float = math.inf) -> None:
    frames = [bytes.fromhex(line) for line in file.read_text().splitlines()]
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    sent, began = 0, time.monotonic()
    end = began + seconds
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((interface, 0))
        around = itertools.cycle(frames)
        while (now := time.monotonic()) < end and not stopped:
            ahead = sent / rate - (now - began)
            if ahead > 0:
                time.sleep(ahead)
            for frame in itertools.islice(around, _BATCH):
                raw.send(frame)
            sent += _BATCH
    print(sent)


class Flood:
    """`sent` is known at the end."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.sent = 0
        self._process = process

    def stop(self) -> None:
        """Before its time."""
        self._process.terminate()


@contextmanager
def flooding(vm: Vm, frames: Sequence[bytes], seconds: float, rate: float = math.inf) -> Iterator[Flood]:
    """A VM sends frames in turn for so many seconds, which the `with` waits for; `rate` of them a second."""
    file = vm.directory / "flood"
    file.write_text("".join(f"{frame.hex()}\n" for frame in frames))
    line = [sys.executable, "-m", "tests.netns.flooding", INTERFACE, str(seconds), str(file), str(rate)]
    process = subprocess.Popen(netns.command(vm.namespace, line), stdout=subprocess.PIPE, text=True, cwd=PROJECT_ROOT)
    flood = Flood(process)
    try:
        yield flood
        printed, _ = process.communicate(timeout=seconds + 10)
        flood.sent = int(printed)
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3]), *map(float, sys.argv[4:5]))
