"""Answers machines: who asks is a port's key, and nothing that the machine says."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Counter

from controller.metadata import nova, tree
from controller.metadata.given import Given, Source
from controller.metadata.machine import Defaults, machine, ports_of
from controller.metadata.nova import Nova, NovaSettings
from controller.metadata.reply import Reply, refusal
from controller.packet_in.limits import TokenBuckets
from controller.store.engine import UNAVAILABLE
from controller.store.metadata_specs import MachineRecord
from controller.store.specs import Conflict, NotFound, Written
from flows.model import Port
from flows.snapshot import Snapshot

MOST_PASSWORD: Final = 1020
"""Bytes, as in Nova."""


_PASSWORD: Final = re.compile(r"[\x20-\x7e\r\n]+")
"""What cloud images send is base64, of an encrypted one."""


class Store(Source, Protocol):
    """The part of the store that is needed here."""

    def set_password(self, port_id: str, password: str, actor: str) -> Written[MachineRecord]: ...


@dataclass(frozen=True, slots=True)
class MetadataSettings:
    """`rate` requests a second of one machine, and `burst` at once. `nova` None: all machines are answered here."""

    defaults: Defaults = Defaults()
    nova: NovaSettings | None = None
    rate: int = 50
    burst: int = 200


class MetadataService:
    def __init__(
        self,
        store: Store,
        snapshot: Callable[[], Snapshot],
        settings: MetadataSettings,
        registry: CollectorRegistry,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._snapshot = snapshot
        self._defaults = settings.defaults
        self._nova = None if settings.nova is None else Nova(settings.nova)
        self._given = Given(store)
        self._buckets = TokenBuckets(settings.rate, settings.burst)
        self._clock = clock
        self._answers = Counter(
            "trunkline_metadata_answers", "Answers to machines that asked about themselves.", ["status"],
            registry=registry,
        )  # fmt: skip

    def answer(self, node: str, port_key: int, method: str, path: str, body: bytes = b"") -> Reply | None:
        """What the machine behind a port of a node is told; None where the node has no port of that key. `method`: GET
        or POST.
        """
        snapshot = self._snapshot()
        port_id = snapshot.ports_by_key.get(port_key)
        port = None if port_id is None else snapshot.ports[port_id]
        # also one that is expected there, or has just gone from there
        if port is None or all(binding.node != node for binding in port.bindings):
            return None
        reply = self._answer(snapshot, port, method, path, body)
        self._answers.labels(str(reply.status.value)).inc()
        return reply

    def _answer(self, snapshot: Snapshot, port: Port, method: str, path: str, body: bytes) -> Reply:
        if not self._buckets.allow(ports_of(snapshot, port)[0].key, self._clock()):
            return refusal(HTTPStatus.TOO_MANY_REQUESTS)
        if self._nova is not None and nova.knows(port):
            return self._nova.ask(port, method, path, body)
        parts = tree.split(path)
        if method != "GET":
            told = tree.is_password(parts)
            return self._tell_password(port, body) if told else refusal(HTTPStatus.METHOD_NOT_ALLOWED)
        try:
            given = self._given.of(port)
        except UNAVAILABLE:
            return refusal(HTTPStatus.SERVICE_UNAVAILABLE)
        found = tree.resolve(machine(snapshot, port, given, self._defaults), parts)
        return refusal(HTTPStatus.NOT_FOUND) if found is None else Reply(HTTPStatus.OK, found.body, found.content_type)

    def _tell_password(self, port: Port, body: bytes) -> Reply:
        if len(body) > MOST_PASSWORD:
            return refusal(HTTPStatus.BAD_REQUEST, f"a password may have {MOST_PASSWORD} bytes")
        password = body.decode("latin-1")
        if not _PASSWORD.fullmatch(password):
            return refusal(HTTPStatus.BAD_REQUEST, "a password is text")
        try:
            self._store.set_password(port.id, password, f"port:{port.id}")
        except Conflict:
            return refusal(HTTPStatus.CONFLICT)
        except NotFound:
            return refusal(HTTPStatus.NOT_FOUND)
        except UNAVAILABLE:
            return refusal(HTTPStatus.SERVICE_UNAVAILABLE)
        return Reply(HTTPStatus.OK, b"")
