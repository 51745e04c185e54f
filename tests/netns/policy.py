"""What tests of security groups share: groups, questions to many ports at once, and probes that go on all the time."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from controller.client import Object
from etc.lab import netns
from etc.lab.capture import ETHERTYPE_IPV4, TCP, UDP, Seen, parse_frame
from etc.lab.lab import Lab
from etc.lab.processes import wait_until
from etc.lab.vm import Vm
from tests.netns.cloud import tcp, udp
from tests.netns.floating import Place, at, echo_message
from tests.netns.frames import Tap

SOON = 20.0
"""Seconds in which a change is in force also on a busy machine: Open vSwitch's cache may be behind what it has
confirmed."""

_ANSWERED = 20.0
_MOMENT = 0.2
_RATE = 100
_SILENCE = 0.3
_BACKLOG = 64
_KEPT = 32
_PROTOCOLS = {"tcp": TCP, "udp": UDP}


class Service(NamedTuple):
    """A port of TCP or UDP, or the echo of ICMP."""

    protocol: str
    port: int = 0


PING = Service("icmp")


# the model


def ingress(protocol: object = None, ports: object = None, **fields: object) -> Object:
    """A rule's fields."""
    said = {"protocol": protocol, "ports": None if ports is None else str(ports)}
    return {"direction": "ingress", **{name: value for name, value in said.items() if value is not None}, **fields}


def egress(protocol: object = None, ports: object = None, **fields: object) -> Object:
    return ingress(protocol, ports, **fields) | {"direction": "egress"}


def make_group(lab: Lab, name: str, *rules: Object, out: bool = True, **fields: object) -> Object:
    """A group of project blue that lets everything out, unless `out` is false, and what the rules say."""
    made = lab.client.create_security_group({"name": name, "project_id": "blue", **fields}).object
    assert made
    if not out:
        for rule in lab.client.get_security_group(made["id"])["rules"]:
            lab.client.delete_security_group_rule(rule["id"])
    add(lab, made, *rules)
    return made


def add(lab: Lab, group: Object, *rules: Object, confirm: bool = True) -> list[Object]:
    """Rules of a group, that the nodes have confirmed."""
    if not rules:
        return []
    wanted = [{"security_group_id": group["id"], **rule} for rule in rules]
    made, revision = lab.client.create_security_group_rules(wanted)
    if confirm:
        lab.confirm(revision)
    return made


def remove(lab: Lab, *rules: Object) -> None:
    for rule in rules:
        lab.confirm(lab.client.delete_security_group_rule(rule["id"]).revision)


def put(lab: Lab, vm: Vm, *groups: Object, **fields: object) -> None:
    """A VM's groups from now on, all of them."""
    ids = [group["id"] for group in groups]
    lab.confirm(lab.client.update_port(vm.port["id"], {"security_groups": ids, **fields}).revision)


@contextmanager
def grouped(lab: Lab, vm: Vm, *groups: Object) -> Iterator[None]:
    """A VM in other groups meanwhile."""
    before = lab.client.get_port(vm.port["id"])["security_groups"]
    put(lab, vm, *groups)
    try:
        yield
    finally:
        put(lab, vm, *before)


# questions


def serving(stack: ExitStack, vm: Vm, *services: Service) -> None:
    """Answer on these ports as long as the stack lives; a kernel answers echo requests itself."""
    listening: dict[int, socket.socket] = {}
    for service in services:
        if service.protocol == "udp":
            sock = stack.enter_context(udp(vm.namespace, vm.address, service.port))
            listening[sock.fileno()] = sock
        elif service.protocol == "tcp":
            stack.enter_context(tcp(vm.namespace, vm.address, service.port)).listen(_BACKLOG)
    over = threading.Event()

    def answer() -> None:
        while not over.is_set():
            for descriptor in select.select(list(listening), [], [], 0.1)[0]:
                data, peer = listening[descriptor].recvfrom(65535)
                with suppress(OSError):
                    listening[descriptor].sendto(data[::-1], peer)

    thread = threading.Thread(target=answer)
    stack.callback(thread.join)
    stack.callback(over.set)
    thread.start()


class Heard:
    """What has come to a VM from others since the last `clear`."""

    def __init__(self, vm: Vm) -> None:
        self._tap = Tap(vm.namespace)

    def close(self) -> None:
        self._tap.close()

    def clear(self) -> None:
        self._tap.clear()

    def frames(self, condition: Callable[[Seen], bool] = lambda _: True) -> list[Seen]:
        seen = (parse_frame(frame) for frame in list(self._tap.frames()))
        return [frame for frame in seen if frame.ethertype == ETHERTYPE_IPV4 and condition(frame)]

    def services(self, wanted: Iterable[Service]) -> set[Service]:
        """Which of these it was asked for."""
        names = {protocol: name for name, protocol in _PROTOCOLS.items()}
        came = {
            PING if frame.icmp_type == 8 else Service(names[frame.protocol or 0], frame.dst_port or 0)
            for frame in self.frames(lambda frame: frame.icmp_type == 8 or frame.protocol in names)
        }
        return came & set(wanted)


def ask(client: Place, target: object, services: Iterable[Service], wanted: Iterable[Service]) -> set[Service]:
    """Ask for all services at once: those that have answered a moment after all that are wanted have.

    What is not wanted is asked for first. It may be overtaken: in the kernel's datapath the first packet of its kind
    waits for Open vSwitch, and others do not wait for it.
    """
    wanted = set(wanted)
    with ExitStack() as stack:
        asking: dict[socket.socket, Service] = {}
        for service in sorted(services, key=lambda one: one in wanted):
            asking[_asked(stack, client, str(target), service)] = service
        answered: set[Service] = set()
        end = time.monotonic() + _ANSWERED
        others = [sock for sock, service in asking.items() if service.protocol != "tcp"]
        connecting = [sock for sock, service in asking.items() if service.protocol == "tcp"]
        while others or connecting:
            left = _MOMENT if wanted <= answered else max(0.0, end - time.monotonic())
            readable, writable, _ = select.select(others, connecting, [], left)
            if not readable and not writable:
                break
            answered |= {asking[sock] for sock in readable if _is_answer(sock, asking[sock], str(target))}
            answered |= {asking[sock] for sock in writable if not _error(sock)}
            others = [sock for sock in others if asking[sock] not in answered]
            connecting = [sock for sock in connecting if sock not in writable]
        return answered


def _asked(stack: ExitStack, client: Place, target: str, service: Service) -> socket.socket:
    if service.protocol == "icmp":
        with netns.inside(client.namespace):
            sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
        sock.bind((str(client.address), 0))
        sock.sendto(echo_message(8, os.urandom(8)), (target, 0))
        return sock
    make = tcp if service.protocol == "tcp" else udp
    sock = stack.enter_context(make(client.namespace, client.address))
    sock.setblocking(False)
    with suppress(BlockingIOError):
        sock.connect((target, service.port))
    if service.protocol == "udp":
        sock.send(b"question")
    return sock


def _error(sock: socket.socket) -> int:
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def _is_answer(sock: socket.socket, service: Service, target: str) -> bool:
    try:
        data, peer = sock.recvfrom(65535)
    except OSError:
        return False
    return data == b"noitseuq" if service.protocol == "udp" else peer[0] == target and data[20] == 0


def reachable(client: Place, target: object, service: Service, within: float = _MOMENT) -> bool:
    """Whether a single question is answered within so many seconds."""
    with ExitStack() as stack:
        sock = _asked(stack, client, str(target), service)
        ways = ([], [sock]) if service.protocol == "tcp" else ([sock], [])
        readable, writable, _ = select.select(*ways, [], within)
        return any(_is_answer(each, service, str(target)) for each in readable) or any(
            not _error(each) for each in writable
        )


def wait_reachable(client: Place, target: object, service: Service, deadline: float = SOON) -> None:
    wait_until(lambda: reachable(client, target, service), deadline, f"{target} does not answer {service}")


def wait_refused(client: Place, target: object, service: Service, deadline: float = SOON) -> None:
    wait_until(lambda: not reachable(client, target, service), deadline, f"{target} still answers {service}")


# a connection with both its ends


class Session:
    """A TCP connection between two VMs."""

    def __init__(self, client: socket.socket, served: socket.socket, port: int) -> None:
        self.client, self.served, self.port = client, served, port

    def lives(self) -> bool:
        """Whether both ends hear each other, without waiting for what is sent again."""
        return self._passes(self.client, self.served) and self._passes(self.served, self.client)

    @staticmethod
    def _passes(sender: socket.socket, receiver: socket.socket) -> bool:
        sender.sendall(b"x")
        receiver.settimeout(1.0)
        try:
            return bool(receiver.recv(1000))
        except TimeoutError:
            return False


@contextmanager
def session(client: Vm, server: Vm, port: int) -> Iterator[Session]:
    with tcp(server.namespace, server.address, port) as listener, tcp(client.namespace, client.address) as asking:
        listener.listen(1)
        asking.connect((str(server.address), port))
        served, _ = listener.accept()
        with served:
            made = Session(asking, served, port)
            assert made.lives()
            yield made


def zone_of(lab: Lab, vm: Vm) -> int:
    """The conntrack zone of a VM's port."""
    return int(lab.client.get_port(vm.port["id"])["binding"]["zone"])


def tracked(vm: Vm, zone: int) -> list[str]:
    """What the conntrack of a VM's node has in a zone."""
    dump = vm.node.ovs.appctl("dpctl/dump-conntrack")
    return [line for line in dump.splitlines() if f",zone={zone}," in f"{line},"]


# probes that go on


@dataclass
class Path:
    """Datagrams to a port, a hundred a second. `fresh`: each from a new port of its own, so a new connection.

    `arrived` and `answered` have numbers; `sent` is how many there are.
    """

    name: str
    client: Place
    server: Place
    port: int
    fresh: bool = False
    sent: int = 0
    arrived: Counter[int] = field(default_factory=Counter)
    answered: set[int] = field(default_factory=set)

    @property
    def lost(self) -> int:
        return self.sent - len(self.arrived)

    @property
    def unanswered(self) -> int:
        return self.sent - len(self.answered)


class Probes:
    """All that comes is answered."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths
        self._stack = ExitStack()
        self._sending = self._running = True
        self._heard = time.monotonic()
        self._rounds = 0
        self._servers: dict[int, socket.socket] = {}
        self._clients: dict[int, tuple[socket.socket, Path]] = {}
        self._poll = select.epoll()
        for place, port in dict.fromkeys((path.server, path.port) for path in paths):
            server = self._stack.enter_context(udp(place.namespace, place.address, port))
            server.setblocking(False)
            self._servers[server.fileno()] = server
            self._poll.register(server.fileno(), select.EPOLLIN)
        self._asking = {path.name: self._client(path) for path in paths if not path.fresh}
        self._threads = [threading.Thread(target=work) for work in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

    def _client(self, path: Path) -> socket.socket:
        with netns.inside(path.client.namespace):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.bind((str(path.client.address), 0))
        sock.connect((str(path.server.address), path.port))
        self._clients[sock.fileno()] = (sock, path)
        self._poll.register(sock.fileno(), select.EPOLLIN)
        return sock

    def _send(self) -> None:
        due, kept = time.monotonic(), []
        while self._sending:
            for index, path in enumerate(self.paths):
                sock = self._client(path) if path.fresh else self._asking[path.name]
                with suppress(OSError):  # what came back as an ICMP error
                    sock.send(bytes([index]) + path.sent.to_bytes(4))
                path.sent += 1
                kept += [sock] if path.fresh else []
            while len(kept) > _KEPT * len(self.paths):  # until its answer must have come
                old = kept.pop(0)
                self._clients.pop(old.fileno())
                old.close()
            self._rounds += 1
            due = max(due + 1 / _RATE, time.monotonic() - 0.1)
            time.sleep(max(0.0, due - time.monotonic()))

    def _receive(self) -> None:
        while self._running:
            for descriptor, _ in self._poll.poll(0.1):
                with suppress(OSError, KeyError):
                    if descriptor in self._servers:
                        data, peer = self._servers[descriptor].recvfrom(64)
                        self.paths[data[0]].arrived[int.from_bytes(data[1:])] += 1
                        self._servers[descriptor].sendto(data, peer)
                    else:
                        sock, path = self._clients[descriptor]
                        path.answered.add(int.from_bytes(sock.recv(64)[1:]))
                    self._heard = time.monotonic()

    def run(self, seconds: float) -> None:
        """Until as much has been sent as takes this long."""
        end = self._rounds + round(seconds * _RATE)
        wait_until(lambda: self._rounds >= end, 10 + 3 * seconds, "nothing is sent")

    def stop(self) -> None:
        self._sending = False
        self._threads[0].join()
        wait_until(lambda: time.monotonic() - self._heard > _SILENCE, 20, "packets still come")
        self._running = False
        self._threads[1].join()
        for sock, _ in self._clients.values():
            sock.close()
        self._poll.close()
        self._stack.close()


@contextmanager
def probing(*paths: Path) -> Iterator[Probes]:
    """Meanwhile, and for half a second after."""
    running = Probes(paths)
    try:
        running.run(0.3)
        yield running
        running.run(0.5)
    finally:
        running.stop()


def path(name: str, client: Vm, server: Vm, port: int, **fields: Any) -> Path:
    return Path(name, at(client), at(server), port, **fields)
