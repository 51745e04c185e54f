"""This controller among the others: it says that it is alive, learns which nodes it masters, and what others do."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, Protocol

import eventlet
import structlog
from eventlet.semaphore import Semaphore

from controller.cluster.confirmations import Confirmations
from controller.cluster.state import ClusterState, Member
from controller.green import Signal
from controller.session_counters import Counters
from controller.store.cluster import Confirmation, NameInUse, Own
from controller.store.specs import Unavailable

TICK: Final = 0.4
"""Seconds between two signs of life."""

PAUSE: Final = 0.05
"""Seconds for which confirmations are collected; also the least time between two signs of life."""

STILL: Final = 1.0
"""Seconds without a sign of life after which another process of this controller's name is over: it was killed."""

HAND_OVER: Final = 2.0
"""Seconds for which a controller that ends stays, at most, until others have its nodes."""

_DESCRIBED: Final = ("state", "peer", "quarantined", "quarantined_flows")


class Store(Protocol):
    """Waits, and raises what the database raises."""

    def tick(self, own: Own, connected: Collection[str], replaced: Collection[str] = ()) -> ClusterState: ...

    def resign(self, own: Own) -> ClusterState: ...

    def raise_generation(self, own: Own, node: str, seen: int) -> bool: ...

    def confirm(self, own: Own, confirmations: Sequence[Confirmation]) -> None: ...

    def read(self) -> ClusterState: ...


class Sessions(Protocol):
    """Nothing of it waits."""

    def leases_changed(self) -> None: ...

    def mastered(self) -> Collection[str]:
        """The nodes whose switches obey this controller."""
        ...

    def describe_own(self, node: str) -> Mapping[str, Any] | None:
        """The session of a node that this controller masters."""
        ...


class Cluster:
    """`reachable` are the nodes whose switches answer this controller. `ttl_s`: who gives no sign of life for so long
    is dead for the others.
    """

    def __init__(
        self,
        own: Own,
        store: Store,
        ttl_s: float,
        reachable: Callable[[], frozenset[str]],
        counters: Counters,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.own = own
        self.state = ClusterState()
        self._store = store
        self._ttl_s = ttl_s
        self._reachable = reachable
        self._counters = counters
        self._monotonic = monotonic
        self._sessions: Sessions | None = None
        self._elsewhere: Callable[[Mapping[str, tuple[int, int | None]]], None] = lambda _: None
        self._members_changed: Callable[[Collection[str], Collection[str]], None] = lambda came, went: None
        self._confirmations = Confirmations(self.generation, self._describe_own)
        self._turn = Semaphore()
        self._good_at: float | None = None
        self._namesake: tuple[Member, float] | None = None
        self._replaced: tuple[str, ...] = ()
        self._in_haste = False
        self._stir = Signal()
        self._behind = False
        self._news = Signal()
        self._confirmed = Signal()
        self._resigned = False
        self._log = structlog.get_logger()

    def attach(self, sessions: Sessions, elsewhere: Callable[[Mapping[str, tuple[int, int | None]]], None]) -> None:
        """`elsewhere` hears what the nodes of other controllers have confirmed. Neither may wait."""
        self._sessions = sessions
        self._elsewhere = elsewhere

    def tell_members(self, changed: Callable[[Collection[str], Collection[str]], None]) -> None:
        """Who hears, without waiting, which controllers have come and which are gone."""
        self._members_changed = changed

    # what others ask; none of it waits but `overtaken`

    def generation(self, node: str) -> int | None:
        lease = self.state.leases.get(node)
        return lease.generation if lease is not None and lease.controller == self.own.name else None

    def overtaken(self, node: str, seen: int) -> None:
        try:
            with self._turn:
                if self._store.raise_generation(self.own, node, seen):
                    self._log.warning("generation_raised", node=node, seen=seen)
                state = self._store.read()
                self._learn(state)
        except Exception as error:
            self._failed(error)

    def masters(self, node: str) -> bool:
        return self.state.controller_of(node) not in (None, self.own.name)

    def connected_elsewhere(self, node: str) -> bool:
        """To another live controller."""
        state = self.state
        return any(node in state.connections.get(name, ()) for name in state.members if name != self.own.name)

    def describe(self, node: str) -> dict[str, Any] | None:
        if not self.masters(node):
            return None
        return {"state": "syncing", **(self.state.leases[node].session or {})}

    def connections_changed(self) -> None:
        self._in_haste = True
        self._stir.send()

    @property
    def is_leader(self) -> bool:
        """Does what is to be done once. Nobody does while the database is away: it could not be written down."""
        return self.in_touch and self.state.leader == self.own.name

    @property
    def in_touch(self) -> bool:
        """The others have had a sign of life of this controller, and have not given it up yet."""
        return self._good_at is not None and self._monotonic() - self._good_at < self._ttl_s

    def confirmed(self, node: str, revision: int, unclaimed: int | None) -> None:
        """A node that this controller masters has committed everything up to a revision."""
        self._confirmations.note(node, revision, unclaimed)
        self._confirmed.send()

    # signs of life

    def run(self) -> None:
        """For ever; it returns when another controller has this one's name."""
        while not self._resigned:
            began = self._monotonic()
            self._in_haste = False
            try:
                self.tick()
            except NameInUse as error:
                if self._is_alive(error.other):
                    self._log.error("controller_name_in_use", name=self.own.name, api_url=error.other.api_url)
                    return
            except Exception as error:
                self._failed(error)
            eventlet.sleep(PAUSE)
            left = TICK - (self._monotonic() - began)
            if left > 0 and not self._in_haste:
                self._stir.wait(left)

    def tick(self) -> None:
        """Raises NameInUse, and what the database raises."""
        with self._turn:
            if not self._resigned:
                self._learn(self._store.tick(self.own, self._reachable(), self._replaced))
                self._good_at = self._monotonic()

    def _is_alive(self, other: Member) -> bool:
        """Of the same name. Not one that was killed, and that this process comes after."""
        now = self._monotonic()
        if self._good_at is not None:
            return True  # it came after us
        if self._namesake is None or self._namesake[0].instance != other.instance:
            self._namesake = other, now
        known, since = self._namesake
        if known.expires_at != other.expires_at:
            return True
        if now - since >= STILL:
            self._replaced = (other.instance,)
        return False

    def _failed(self, error: Exception) -> None:
        self._counters.count("cluster_failures")
        if not isinstance(error, Unavailable):  # else the store has said so
            self._log.error("cluster_failed", exc_info=error)

    def _learn(self, state: ClusterState) -> None:
        before, self.state = self.state, state
        if before.members.keys() != state.members.keys():
            self._log.info("controllers", members=sorted(state.members), leader=state.leader)
            self._members_changed(
                state.members.keys() - before.members.keys(), before.members.keys() - state.members.keys()
            )
            self._confirmations.forget()
            self._confirmed.send()
        own = self.own.name
        self._elsewhere(
            {
                lease.node: (lease.confirmed, lease.unclaimed)
                for lease in state.leases.values()
                if lease.controller != own
            }
        )
        changed = (before.leases.keys() | state.leases.keys()) if before.leases != state.leases else ()
        if self._sessions is not None and any(_master(before, node) != _master(state, node) for node in changed):
            self._sessions.leases_changed()

    # what others say

    def told(self) -> None:
        """Another controller has written something. Never waits."""
        self._behind = True
        self._news.send()

    def follow(self) -> None:
        """Looks, for ever, at what others have written. Who is not told sees it with the next sign of life."""
        while not self._resigned:
            while not self._behind:
                self._news.wait()
            self._behind = False
            try:
                self.look()
            except Exception as error:
                self._failed(error)
            eventlet.sleep(PAUSE)

    def look(self) -> None:
        with self._turn:
            if not self._resigned:
                self._learn(self._store.read())

    # what is said to others

    def tell(self) -> None:
        """Writes down, for ever, what the nodes of this controller have confirmed, and how they are."""
        while not self._resigned:
            try:
                self.write_confirmations()
            except Exception as error:
                self._failed(error)
            eventlet.sleep(PAUSE)
            self._confirmed.wait(TICK)

    def write_confirmations(self) -> None:
        if len(self.state.members) > 1 and (news := self._confirmations.news()):
            self._store.confirm(self.own, news)
            self._confirmations.written(news)

    def _describe_own(self, node: str) -> Mapping[str, Any] | None:
        described = None if self._sessions is None else self._sessions.describe_own(node)
        return None if described is None else {name: described[name] for name in _DESCRIBED if name in described}

    # the end

    def resign(self) -> None:
        """Gives its nodes to the others, and stays their master until those have them."""
        with self._turn:
            self._resigned = True
            try:
                self._store.resign(self.own)
            except Exception as error:
                self._failed(error)
                return
        others = self.state.members.keys() - {self.own.name}
        deadline = self._monotonic() + HAND_OVER
        while others and self._sessions is not None and self._monotonic() < deadline:
            if not any(node for node in self._sessions.mastered() if self.connected_elsewhere(node)):
                break
            eventlet.sleep(PAUSE)


def _master(state: ClusterState, node: str) -> tuple[str, int] | None:
    lease = state.leases.get(node)
    return None if lease is None else (lease.controller, lease.generation)
