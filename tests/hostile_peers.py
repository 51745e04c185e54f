"""Hostile peers of the control channel, in a process of their own:

    python -m tests.hostile_peers KIND ADDRESS PORT SECONDS [RATE [DIRECTORY]]

With a DIRECTORY, which has a node's certificate, they speak TLS.

    deaf    200 at a time ask for echoes and never read; each that is closed is replaced
    silent  RATE more a second say nothing
    hello   RATE more a second send the first message of the protocol, and no more
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from controller.pki.directory import CA, CERTIFICATE, KEY
from etc.lab import netns
from etc.lab.control import PROJECT_ROOT

DEAF = 200
RATE = 500.0
"""New connections a second."""

AT_MOST = 700
"""Connections that are kept open: a process may not have many more file descriptors."""

VERSION = 5
HELLO = struct.pack("!BBHIHHI", VERSION, 0, 16, 1, 1, 8, 1 << VERSION)
ECHO = struct.pack("!BBHI", VERSION, 2, 1000, 2) + bytes(992)


def context(place: Path) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=str(place / CA))
    made.check_hostname = False
    made.load_cert_chain(place / CERTIFICATE, place / KEY)
    return made


def client_hello(place: Path) -> bytes:
    """What a TLS client says first."""
    outgoing = ssl.MemoryBIO()
    client = context(place).wrap_bio(ssl.MemoryBIO(), outgoing)
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


@contextmanager
def attack(
    kind: str,
    address: str,
    port: int,
    seconds: float,
    *,
    rate: float = RATE,
    place: Path | None = None,
    namespace: str | None = None,
) -> Iterator[None]:
    """Runs this program in a namespace while the block runs."""
    line = [sys.executable, "-m", "tests.hostile_peers", kind, address, str(port), str(seconds), str(rate)]
    line += [] if place is None else [str(place)]
    process = subprocess.Popen(
        line if namespace is None else netns.command(namespace, line),
        cwd=PROJECT_ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout and process.stdout.readline() == "begun\n"
        yield
        assert process.poll() is None, "the attack was over before what it was to disturb"
    finally:
        process.kill()
        process.communicate()


def deaf(address: tuple[str, int], seconds: float, place: Path | None) -> None:
    tls = None if place is None else context(place)
    said = ECHO * 64
    peers: list[socket.socket] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        while len(peers) < DEAF:
            with suppress(OSError):
                peers.append(_talker(address, tls))
                continue
            break
        _, ready, _ = select.select([], peers, [], 0.1)
        for peer in ready:
            try:
                peer.send(said)
            except (BlockingIOError, ssl.SSLWantWriteError):
                pass
            except OSError:
                peers.remove(peer)
                peer.close()
        time.sleep(0.01)


def _talker(address: tuple[str, int], tls: ssl.SSLContext | None) -> socket.socket:
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    peer.settimeout(5)
    peer.connect(address)
    if tls is not None:
        peer = tls.wrap_socket(peer)
    peer.sendall(HELLO)
    peer.setblocking(False)
    return peer


def many(address: tuple[str, int], seconds: float, rate: float, said: bytes) -> None:
    kept: deque[socket.socket] = deque()
    made, began = 0, time.monotonic()
    while (now := time.monotonic()) < began + seconds:
        if made >= (now - began) * rate:
            time.sleep(0.001)
            continue
        peer = socket.socket()
        peer.settimeout(1)
        with suppress(OSError):
            peer.connect(address)
            peer.send(said)
        kept.append(peer)
        made += 1
        if len(kept) > AT_MOST:
            kept.popleft().close()


def main(arguments: list[str]) -> None:
    kind, host, port, seconds, *more = arguments
    rate = float(more[0]) if more else 0.0
    place = Path(more[1]) if len(more) > 1 else None
    address = host, int(port)
    print("begun", flush=True)
    if kind == "deaf":
        deaf(address, float(seconds), place)
    else:
        first = HELLO if place is None else client_hello(place)
        many(address, float(seconds), rate, first if kind == "hello" else b"")


if __name__ == "__main__":
    main(sys.argv[1:])
