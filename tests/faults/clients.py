"""Clients that write to the API while things break, and remember what they were told."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from controller.client import ApiError, Client, ClientError, Object, Written

REFUSALS = (409, 429, 503)
"""Of requests that did nothing: something is in the way, or nothing can be written now."""

UNKNOWN = "outcome_unknown"
UNANSWERED = 4
"""Objects that may be there without anybody knowing them, before somebody looks."""

_PAUSE = 0.01  # seconds
_AWAY_PAUSE = 0.1


@dataclass
class Kind:
    """Objects of one kind that one client makes, changes and deletes, `most` at a time. `ids` are those that they can
    have; without any the controller gives them. `tells` are the fields that stay as they were answered, `varies` those
    of them that `change` changes.

    An object is `there` from the answer to its making until its end is asked for, and `unsure` while a request about it
    has had no answer. Who has an address is known from the first answer on: nobody else may get it.
    """

    name: str
    make: Callable[[Client, random.Random, str | None], Written]
    end: Callable[[Client, str], Written]
    listed: Callable[[Client], Sequence[Object]]
    address: Callable[[Object], str | None]
    tells: tuple[str, ...] = ()
    varies: tuple[str, ...] = ()
    change: Callable[[Client, random.Random, str], Written] | None = None
    ids: tuple[str, ...] = ()
    most: int = 6
    there: dict[str, Object] = field(default_factory=dict)
    unsure: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    unanswered: int = 0
    answered: int = 0
    wrong: list[str] = field(default_factory=list)

    def edit(self, client: Client, dice: random.Random) -> bool:
        """One request. False when it had no answer."""
        try:
            if self.unanswered > UNANSWERED:
                self.look(client)
            elif self.unsure:
                self._end(client, min(self.unsure))
            elif self.there and (len(self.there) >= self.most or dice.random() < 0.4):
                self._end(client, dice.choice(sorted(self.there)))
            elif self.there and self.change is not None and dice.random() < 0.4:
                self._change(client, dice, dice.choice(sorted(self.there)))
            else:
                self._make(client, dice)
        except ApiError as error:
            if error.status not in REFUSALS:
                self.wrong.append(f"{self.name}: {error}")
            return error.status != 503
        except ClientError:
            return False
        self.answered += 1
        return True

    def _make(self, client: Client, dice: random.Random) -> None:
        free = [id_ for id_ in self.ids if id_ not in self.there]
        wanted = dice.choice(free) if free else None
        try:
            written = self.make(client, dice, wanted)
        except ClientError as error:
            if not _did_nothing(error):
                self.unanswered += wanted is None
                self.unsure |= set() if wanted is None else {wanted}
            raise
        assert written.object
        self._note(written.object)

    def _note(self, told: Object) -> None:
        address = self.address(told)
        others = {id_ for id_, one in self.there.items() if self.address(one) == address} - {told["id"]}
        if address is not None and others:
            self.wrong.append(f"{self.name}: {address} was given to {told['id']}, and {others} has it")
        self.there[told["id"]] = told

    def _change(self, client: Client, dice: random.Random, id_: str) -> None:
        assert self.change is not None
        told = self.there[id_]
        try:
            written = self.change(client, dice, id_)
        except ClientError as error:
            if isinstance(error, ApiError) and error.status == 404:
                self.wrong.append(f"{self.name}: {id_} was there, and is lost")
            if not _did_nothing(error):  # either is right
                self.there[id_] = {name: value for name, value in told.items() if name not in self.varies}
            raise
        assert written.object
        self._note(written.object)

    def _end(self, client: Client, id_: str) -> None:
        told = self.there.pop(id_, None)
        try:
            self.end(client, id_)
        except ApiError as error:
            if error.status == 404:
                if told is not None:
                    self.wrong.append(f"{self.name}: {id_} was there, and is lost")
                self._ended(id_)
                return
            if told is not None and _did_nothing(error):
                self.there[id_] = told
            else:
                self.unsure.add(id_)
            raise
        except ClientError:
            self.unsure.add(id_)
            raise
        self._ended(id_)

    def _ended(self, id_: str) -> None:
        self.unsure.discard(id_)
        if not self.ids:
            self.gone.add(id_)

    def look(self, client: Client) -> None:
        """Compares what there is with what was told. Those that nobody was told of become known."""
        found = {one["id"]: one for one in self.listed(client)}
        for id_, told in self.there.items():
            if id_ not in found:
                self.wrong.append(f"{self.name}: {id_} was there, and is lost")
                continue
            names = [name for name in (*self.tells, "id") if name in told]
            if [told[name] for name in names] != [found[id_][name] for name in names]:
                self.wrong.append(f"{self.name}: {id_} is {found[id_]}, but was {told}")
        self.wrong += [f"{self.name}: {id_} was deleted, and is there" for id_ in self.gone & found.keys()]
        unknown = found.keys() - self.there.keys() - self.unsure - self.gone
        if len(unknown) > self.unanswered:
            self.wrong.append(f"{self.name}: {unknown} are there; requests without an answer: {self.unanswered}")
        addresses = [address for one in found.values() if (address := self.address(one)) is not None]
        if len(addresses) != len(set(addresses)):
            self.wrong.append(f"{self.name}: an address is there twice: {sorted(addresses)}")
        self.unsure |= unknown
        self.unanswered = 0

    def end_all(self, client: Client) -> None:
        """Nothing is left of them."""
        self.look(client)
        for id_ in sorted(self.there.keys() | self.unsure):
            self._end(client, id_)
        assert not self.listed(client)


def _did_nothing(error: ClientError) -> bool:
    return isinstance(error, ApiError) and error.status in REFUSALS and error.code != UNKNOWN


@contextmanager
def editing(kinds: Sequence[Kind], connect: Callable[[], Client], dice: random.Random) -> Iterator[None]:
    """All of them are edited, each by a client of its own, during a `with`."""
    stopping = threading.Event()
    failures: list[BaseException] = []

    def run(kind: Kind, own: random.Random) -> None:
        try:
            while not stopping.is_set():
                stopping.wait(_PAUSE if kind.edit(connect(), own) else _AWAY_PAUSE)
        except BaseException as error:  # a fault of the test's own, which must not pass for silence
            failures.append(error)

    threads = [threading.Thread(target=run, args=(kind, random.Random(dice.random()))) for kind in kinds]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in threads:
            thread.join(60)
    assert not failures, failures


def wrong(kinds: Sequence[Kind], client: Client) -> list[str]:
    """All that is not as it was answered."""
    for kind in kinds:
        kind.look(client)
    return [line for kind in kinds for line in kind.wrong]


# the kinds


def ports(network_id: str, ids: Sequence[str], **fields: Any) -> Kind:
    """Those whose interfaces are on nodes: their flows come and go."""

    def make(client: Client, _dice: random.Random, id_: str | None) -> Written:
        return client.create_port({"id": id_, "network_id": network_id, **fields})

    return Kind(
        "port",
        make,
        lambda client, id_: client.delete_port(id_),
        lambda client: [port for port in client.list_ports(network_id=network_id) if port["id"] in ids],
        lambda port: str(port["fixed_ips"][0]["address"]),
        ("fixed_ips", "mac", "key"),
        ids=tuple(ids),
        most=len(ids),
    )


def floating_ips(pool: str, port_ids: Sequence[str], project_id: str) -> Kind:
    """Which lead to ports that are there all the time, now to one and then to another."""

    def make(client: Client, dice: random.Random, _id: str | None) -> Written:
        port_id = dice.choice([*port_ids, None])
        return client.create_floating_ip({"pool": pool, "project_id": project_id, "port_id": port_id})

    def change(client: Client, dice: random.Random, id_: str) -> Written:
        return client.update_floating_ip(id_, {"port_id": dice.choice([*port_ids, None])})

    return Kind(
        "floating_ip",
        make,
        lambda client, id_: client.delete_floating_ip(id_),
        lambda client: [one for one in client.list_floating_ips(project_id=project_id) if one["pool"] == pool],
        lambda one: str(one["address"]),
        ("address", "port_id"),
        ("port_id",),
        change,
    )


def rules(security_group_id: str) -> Kind:
    """Beside those that the group has from its beginning."""
    group = {"security_group_id": security_group_id}

    def make(client: Client, dice: random.Random, _id: str | None) -> Written:
        port = str(dice.randrange(1, 65536))
        return client.create_security_group_rule({**group, "direction": "ingress", "protocol": "tcp", "ports": port})

    return Kind(
        "rule",
        make,
        lambda client, id_: client.delete_security_group_rule(id_),
        lambda client: [rule for rule in client.list_security_group_rules(**group) if rule["protocol"] == "tcp"],
        lambda rule: None,
        ("ports",),
    )
