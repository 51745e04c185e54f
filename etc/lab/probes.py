"""Questions to the network from inside a namespace: ping, ARP, throughput."""

from __future__ import annotations

import json
import re
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from etc.lab import netns
from etc.lab.processes import CommandFailed, Process, interruptible, run, start

_PING_COUNTS = re.compile(r"(\d+) packets transmitted, (\d+) received")
_PING_TIMES = re.compile(r"= [\d.]+/([\d.]+)/[\d.]+/[\d.]+ ms")
_PING_SEQUENCE = re.compile(r"icmp_seq=(\d+)")
_PING_SEQUENCES = 1 << 16
_LONGEST_WAY = 0.1
"""Seconds there and back, on a machine with much else to do. What is silent for longer is lost."""
_ARP_REPLY = re.compile(r"\[([0-9a-fA-F:]{17})\]")


@dataclass(frozen=True)
class Pinged:
    """`average_ms` is None when nothing came back; `errors` are the ICMP errors that did, as ping words them."""

    sent: int
    received: int
    average_ms: float | None
    errors: tuple[str, ...]

    @property
    def lost(self) -> int:
        return self.sent - self.received

    @property
    def answered(self) -> bool:
        return self.received > 0


def parse_ping(text: str) -> Pinged:
    """Raises CommandFailed when the text has no summary: ping could not start."""
    counts = _PING_COUNTS.search(text)
    if not counts:
        raise CommandFailed(f"ping said: {text.strip() or 'nothing'}")
    times = _PING_TIMES.search(text)
    errors = tuple(line.strip() for line in text.splitlines() if line.startswith("From "))
    return Pinged(int(counts[1]), int(counts[2]), float(times[1]) if times else None, errors)


def ping(
    enter: Sequence[str],
    address: object,
    *,
    count: int = 3,
    interval: float = 0.05,
    wait: float = 1.0,
    options: Sequence[str] = (),
) -> Pinged:
    """`enter` is the command that leads into the namespace. `wait` is in seconds, for the last answer."""
    line = ["ping", "-n", "-c", str(count), "-i", f"{interval:g}", "-W", f"{wait:g}", *options, str(address)]
    return parse_ping(run([*enter, *line], check=False, deadline=count * interval + wait + 15))


class PingStream:
    """A steady stream of echo requests in the background, to count what an event costs."""

    def __init__(self, enter: Sequence[str], address: object, log: Path, *, rate: float = 100.0) -> None:
        line = ["ping", "-n", "-i", f"{1 / rate:g}", "-W", "1", str(address)]
        self._in_flight = rate * _LONGEST_WAY
        log.unlink(missing_ok=True)
        self._process: Process = start(f"ping {address}", interruptible([*enter, *line]), log)

    def stop(self) -> Pinged:
        """End the stream and count. What is still on its way then is left out."""
        self._process.signal(signal.SIGINT)
        self._process.wait(10)
        text = self._process.log.read_text()
        pinged = parse_ping(text)
        answered = [int(number) for number in _PING_SEQUENCE.findall(text)]
        on_its_way = (pinged.sent - answered[-1]) % _PING_SEQUENCES if answered else 0
        return replace(pinged, sent=pinged.sent - on_its_way) if on_its_way <= self._in_flight else pinged


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
