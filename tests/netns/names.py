"""What tests of the resolver share: servers for it to ask, and dig (bind9-dnsutils)."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from dnslib import QTYPE, RCODE, RR, TXT, A, DNSRecord

from etc.lab import netns
from etc.lab.vm import Vm

LARGE = "large.example.com"
"""Its answer fits into no datagram."""

_PLAIN_UDP = 512


@dataclass
class NameServer:
    """Answers for all of example.com with its own address, so that an answer says who gave it. `asked`: the names."""

    address: str
    asked: list[str] = field(default_factory=list)
    by_tcp: list[str] = field(default_factory=list)
    ports: set[int] = field(default_factory=set)
    silent: bool = False

    def answer(self, message: bytes, limit: int) -> bytes:
        question = DNSRecord.parse(message)
        name = str(question.q.qname).rstrip(".").lower()
        (self.asked if limit == _PLAIN_UDP else self.by_tcp).append(name)
        reply = question.reply(aa=0, ra=1)
        kind = QTYPE[question.q.qtype]
        if not name.endswith("example.com") and not name.endswith("corp.example"):
            reply.header.rcode = RCODE.NXDOMAIN
        elif name == LARGE:
            reply.add_answer(*(RR(name, QTYPE.TXT, ttl=60, rdata=TXT("x" * 200)) for _ in range(10)))
        elif kind == "A":
            reply.add_answer(RR(name, QTYPE.A, ttl=60, rdata=A(self.address)))
        packed: bytes = reply.pack()
        if len(packed) > limit:
            short = question.reply(aa=0, ra=1)
            short.header.tc = 1
            packed = short.pack()
        return packed


@contextmanager
def serving(namespace: str, address: str) -> Iterator[NameServer]:
    """By UDP and TCP, at port 53 of an address that the namespace gets."""
    netns.configure(namespace, f"address replace {address}/32 dev lo")
    server = NameServer(address)
    with netns.inside(namespace):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    udp.bind((address, 53))
    tcp.bind((address, 53))
    tcp.listen()
    threads = [
        threading.Thread(target=_loop, args=(serve,), daemon=True) for serve in (_udp(server, udp), _tcp(server, tcp))
    ]
    for thread in threads:
        thread.start()
    try:
        yield server
    finally:
        for each in (udp, tcp):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)  # wakes its thread
            each.close()
        for thread in threads:
            thread.join(5)


def _loop(serve: Callable[[], bool]) -> None:
    with suppress(OSError):
        while serve():
            pass


def _udp(server: NameServer, udp: socket.socket) -> Callable[[], bool]:
    def serve() -> bool:
        message, client = udp.recvfrom(4096)
        if message:
            server.ports.add(client[1])
            reply = server.answer(message, _PLAIN_UDP)
            if not server.silent:
                udp.sendto(reply, client)
        return bool(message)

    return serve


def _tcp(server: NameServer, tcp: socket.socket) -> Callable[[], bool]:
    def serve() -> bool:
        connection, _ = tcp.accept()
        with connection:
            size = int.from_bytes(connection.recv(2))
            reply = server.answer(connection.recv(size), 65535)
            connection.sendall(len(reply).to_bytes(2) + reply)
        return True

    return serve


@dataclass(frozen=True)
class Dug:
    """What dig has seen. `answers` are (name, type, data)."""

    status: str
    flags: frozenset[str]
    answers: tuple[tuple[str, str, str], ...]
    authority: tuple[tuple[str, str, str], ...]
    milliseconds: int

    @property
    def data(self) -> list[str]:
        return sorted(data for _, _, data in self.answers)


def dig(vm: Vm, server: object, name: str, kind: str = "A", *options: str, wait: int = 5) -> Dug | None:
    """One question by UDP, sent once; what is truncated stays so. None when nobody answers within `wait` seconds."""
    command = ["dig", f"@{server}", name, kind, "+tries=1", f"+time={wait}", "+ignore", "+nocookie", *options]
    return parse(vm.execute(*command, check=False, deadline=wait + 10))


def parse(said: str) -> Dug | None:
    status = re.search(r"status: (\w+)", said)
    flags = re.search(r";; flags: ([a-z ]*);", said)
    took = re.search(r";; Query time: (\d+) msec", said)
    if not status or not flags or not took:
        return None
    sections = {}
    for section in ("ANSWER", "AUTHORITY"):
        found = re.search(rf";; {section} SECTION:\n(.*?)\n\n", said, re.DOTALL)
        lines = found[1].splitlines() if found else []
        split = [line.split(None, 4) for line in lines]
        sections[section] = tuple((name.rstrip("."), kind, data) for name, _, _, kind, data in split)
    return Dug(status[1], frozenset(flags[1].split()), sections["ANSWER"], sections["AUTHORITY"], int(took[1]))


def resolved(vm: Vm, server: object, name: str, kind: str = "A", *options: str) -> Dug:
    """`dig`, and somebody does answer."""
    found = dig(vm, server, name, kind, *options)
    assert found, f"nobody answers {vm.name} about {name}"
    return found
