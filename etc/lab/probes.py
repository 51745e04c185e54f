"""Questions to the network from inside a namespace: ping, ARP, throughput."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from etc.lab import netns
from etc.lab.processes import CommandFailed, DeadlineMissed, Process, interruptible, run, start, wait_until

_PING_COUNTS = re.compile(r"(\d+) packets transmitted, (\d+) received")
_FPING = re.compile(r": xmt/rcv/%loss = (\d+)/(\d+)/\d+%(?:, min/avg/max = [\d.]+/([\d.]+)/[\d.]+)?")
_PING_ANSWER = re.compile(r"^\[(\d+\.\d+)\] .*: icmp_seq=(\d+) .*time=([\d.]+) ms", re.MULTILINE)
_PING_SEQUENCES = 1 << 16
LAST_ANSWER = 5.0
"""Seconds that the answer to what was sent last may take. A path that is silent for longer is taken for broken."""
_LONGEST_GAP = 100
_ARP_REPLY = re.compile(r"\[([0-9a-fA-F:]{17})\]")


@dataclass(frozen=True)
class Pinged:
    """`average_ms` is None when nothing came back. `seconds` and `longest_gap`, of a stream: how long it was, and its
    longest time in which nothing was sent that was answered.
    """

    sent: int
    received: int
    average_ms: float | None = None
    seconds: float = 0.0
    longest_gap: float = 0.0

    @property
    def lost(self) -> int:
        return self.sent - self.received

    @property
    def answered(self) -> bool:
        return self.received > 0

    @property
    def unbroken(self) -> bool:
        """True if all was answered and it was sent all the time. How fast is the machine's affair: one that is busy
        sends less, so the longest gap is measured by the mean of all others.
        """
        bound = _LONGEST_GAP * (self.seconds - self.longest_gap) / max(self.sent, 1)
        return self.answered and not self.lost and self.longest_gap <= bound


def ping(
    enter: Sequence[str],
    address: object,
    *,
    count: int = 3,
    interval: float = 0.05,
    wait: float = LAST_ANSWER,
    options: Sequence[str] = (),
) -> Pinged:
    """`enter` is the command that leads into the namespace, `wait` how many seconds each answer may take.

    By fping: once ping has an answer, it gives the last ones twice the longest time so far, whatever -W says, and what
    is late on a busy machine seems lost.
    """
    times = ["-p", f"{interval * 1000:g}", "-t", f"{wait * 1000:g}"]
    line = ["fping", "-q", "-c", str(count), *times, *options, str(address)]
    text = run([*enter, *line], check=False, merged=True, deadline=count * interval + wait + 15)
    found = _FPING.search(text)
    if not found:
        raise CommandFailed(f"fping said: {text.strip() or 'nothing'}")
    return Pinged(int(found[1]), int(found[2]), float(found[3]) if found[3] else None)


class PingStream:
    """A steady stream of echo requests in the background, to count what an event costs."""

    def __init__(self, enter: Sequence[str], address: object, log: Path, *, rate: float = 100.0) -> None:
        line = ["ping", "-n", "-D", "-i", f"{1 / rate:g}", "-W", "1", str(address)]
        log.unlink(missing_ok=True)
        self._began = time.time()
        self._process: Process = start(f"ping {address}", interruptible([*enter, *line]), log)

    def stop(self) -> Pinged:
        """End the stream once a packet that was sent from now on is answered, and count up to this one; all that were
        sent, when none is.
        """
        asked = time.time()
        with suppress(DeadlineMissed):
            wait_until(lambda: max(self._times(), default=0.0) >= asked or not self._process.alive(), LAST_ANSWER)
        self._process.signal(signal.SIGINT)
        self._process.wait(10)
        text = self._process.log.read_text()
        counts = _PING_COUNTS.search(text)
        if not counts:
            raise CommandFailed(f"ping said: {text.strip() or 'nothing'}")
        times = sorted(self._times())
        gaps = [later - earlier for earlier, later in pairwise([self._began, *times, max([asked, *times])])]
        sent, received = map(int, counts.groups())
        pinged = Pinged(sent, received, seconds=time.time() - self._began, longest_gap=max(gaps))
        if not times or times[-1] < asked:
            return pinged
        last = int(_PING_ANSWER.findall(text)[-1][1])
        return replace(pinged, sent=sent - (sent - last) % _PING_SEQUENCES)

    def _times(self) -> list[float]:
        """When each packet was sent that is answered by now."""
        found = _PING_ANSWER.findall(self._process.log.read_text())
        return [float(came) - float(took) / 1000 for came, _, took in found]


def arping(enter: Sequence[str], interface: str, address: object, *, count: int = 1, wait: int = 1) -> set[str]:
    """The MAC addresses that answer ARP for an address."""
    line = ["busybox", "arping", "-I", interface, "-c", str(count), "-w", str(wait), str(address)]
    return {mac.lower() for mac in _ARP_REPLY.findall(run([*enter, *line], check=False, deadline=wait + 10))}


@contextmanager
def listening(namespace: str, *ports: int) -> Iterator[None]:
    """Take TCP connections to these ports inside a namespace during a `with`."""
    with ExitStack() as stack:
        for port in ports:
            with netns.inside(namespace):
                server = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(("0.0.0.0", port))
            server.listen()
        yield


def connects(namespace: str, address: object, port: int, *, wait: float = 1.0) -> bool:
    """Whether a TCP connection to there is taken within `wait` seconds."""
    with netns.inside(namespace):
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with client:
        client.settimeout(wait)
        return client.connect_ex((str(address), port)) == 0


def tcp_throughput(
    server: Sequence[str], client: Sequence[str], address: object, log: Path, *, seconds: float = 2.0
) -> float:
    """Megabits a second of one TCP connection from client to server, as the receiver counts it."""
    log.unlink(missing_ok=True)  # else it would seem to listen already
    listener = start("iperf3", [*server, "iperf3", "-s", "-1", "--forceflush"], log)
    try:
        listener.wait_for(lambda: "listening" in listener.tail(), 5, "iperf3 does not listen")
        line = ["iperf3", "-J", "-t", f"{seconds:g}", "--connect-timeout", "3000", "-c", str(address)]
        answer = json.loads(run([*client, *line], check=False, deadline=seconds + 20))
    finally:
        listener.stop()
    if "error" in answer:
        raise CommandFailed(f"iperf3: {answer['error']}")
    return float(answer["end"]["sum_received"]["bits_per_second"]) / 1e6


def into(namespace: str) -> list[str]:
    """The command that leads into a namespace."""
    return netns.command(namespace, [])
