"""Hundreds of packets a second each way between a VM and others, each with its number and the time it was sent."""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from etc.lab.openvswitch import datapath_type
from etc.lab.processes import wait_until
from tests.netns.cloud import udp

RATE = 1000 if datapath_type() == "netdev" else 200  # a guest with the kernel's loses packets at 1000
PORT = 9000
_NUMBER = struct.Struct("!I")
_BUFFER = 4 << 20
_SILENCE = 0.3  # seconds after which nothing is on its way any more
_NEWS = 0.05  # seconds in which the news of a move arrives


class Peer(NamedTuple):
    """Whom the VM talks to. `vm` is the VM's address as the peer sees it."""

    name: str
    namespace: str
    address: str
    vm: str


class Pause(NamedTuple):
    """When a VM was paused, and when it went on, by the clock time.monotonic."""

    began: float
    ended: float

    def excuses(self, sent: float) -> bool:
        """True if what was sent then may be lost."""
        return self.began <= sent <= self.ended + _NEWS


class Lost(NamedTuple):
    """`after`: the seconds since it was all flowing."""

    stream: str
    number: int
    after: float


@dataclass
class _Stream:
    """One direction. `sent` has a time for each number."""

    name: str
    by_vm: bool
    sender: socket.socket
    receiver: socket.socket
    to: tuple[str, int]
    sent: list[float] = field(default_factory=list)
    seen: dict[int, int] = field(default_factory=dict)


class Streams:
    def __init__(self, streams: list[_Stream]) -> None:
        self._streams = self._active = streams
        self._sending = self._running = True
        self._rounds = 0
        self._heard = time.monotonic()
        self._flowing = 0.0
        self._threads = [threading.Thread(target=work) for work in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        due = time.monotonic()
        while self._sending:
            for stream in self._active:
                with suppress(OSError):
                    stream.sender.sendto(_NUMBER.pack(len(stream.sent)), stream.to)
                stream.sent.append(time.monotonic())
            self._rounds += 1
            due += 1 / RATE
            time.sleep(max(0.0, due - time.monotonic()))

    def _receive(self) -> None:
        by_socket = {stream.receiver.fileno(): stream for stream in self._streams}
        poll = select.epoll()
        for descriptor in by_socket:
            poll.register(descriptor, select.EPOLLIN)
        while self._running:
            for descriptor, _ in poll.poll(0.1):
                stream = by_socket[descriptor]
                with suppress(BlockingIOError):
                    while True:
                        (number,) = _NUMBER.unpack(stream.receiver.recv(64)[:4])
                        stream.seen[number] = stream.seen.get(number, 0) + 1
                        self._heard = time.monotonic()
        poll.close()

    def stop(self) -> None:
        self._sending = False
        try:
            self._drain()
        finally:
            self._running = False
            for thread in self._threads:
                thread.join()

    def pause(self) -> float:
        """The VM sends no more. Return when this began: what was sent before has arrived, or never will."""
        self._active = []
        self._wait_rounds(2)  # one may have begun before
        self._drain()
        began = time.monotonic()
        self._active = [stream for stream in self._streams if not stream.by_vm]
        return began

    def resume(self) -> float:
        """The VM sends again. Return when this began."""
        ended = time.monotonic()
        self._active = self._streams
        self._wait_rounds(2)
        return ended

    def run(self, seconds: float) -> None:
        """Until as much has been sent as takes this long."""
        self._wait_rounds(round(seconds * RATE))

    def _drain(self) -> None:
        wait_until(lambda: time.monotonic() - self._heard > _SILENCE, 20, "packets still come")

    def _wait_rounds(self, count: int) -> None:
        end = self._rounds + count
        wait_until(lambda: self._rounds >= end, 10 + 2 * count / RATE, "nothing is sent")

    def wait_flowing(self) -> None:
        """Until each stream arrives. Both ends begin one connection at once, which conntrack may take for two."""
        wait_until(lambda: all(stream.seen for stream in self._streams), 20, "a stream does not arrive")
        self._flowing = time.monotonic()

    def lost(self, *pauses: Pause) -> list[Lost]:
        """What was sent outside the pauses, once all was flowing, and has not been seen. What is on its way counts."""
        return [
            Lost(stream.name, number, round(sent - self._flowing, 3))
            for stream in self._streams
            for number, sent in enumerate(list(stream.sent))
            if sent >= self._flowing and number not in stream.seen and not any(one.excuses(sent) for one in pauses)
        ]

    def doubled(self) -> dict[str, int]:
        return {stream.name: sum(count - 1 for count in stream.seen.values()) for stream in self._streams}

    def counts(self) -> dict[str, int]:
        return {stream.name: len(stream.sent) for stream in self._streams}


@contextmanager
def streams(vm_namespace: str, *peers: Peer) -> Iterator[Streams]:
    """To and from each peer, until the `with` ends. The VM has one port for each peer, so a reply is known by it."""
    with ExitStack() as stack:
        made = []
        for index, peer in enumerate(peers):
            port = PORT + index
            ours = stack.enter_context(udp(vm_namespace, port=port))
            theirs = stack.enter_context(udp(peer.namespace, port=port))
            for end in (ours, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
                end.setblocking(False)
            made.append(_Stream(f"to the VM, {peer.name}", False, theirs, ours, (peer.vm, port)))
            made.append(_Stream(f"from the VM, {peer.name}", True, ours, theirs, (peer.address, port)))
        running = Streams(made)
        try:
            running.wait_flowing()
            yield running
        finally:
            running.stop()
