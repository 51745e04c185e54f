"""All sessions: by node when the node is known, parked when it is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

import eventlet
import structlog

from controller.connection import Connection
from controller.newcomers import client_of
from controller.packet_in.dispatch import Dispatcher
from controller.packet_in.outputs import Copies, Output, Resubmit
from controller.session import DatapathSession, Mastership, Programs, State, Tell, tell_nobody
from controller.session_counters import Counters
from controller.session_mailbox import Work
from controller.session_questions import NoAnswer

MAX_PARKED: Final = 64
"""Connections of unknown switches that are kept; one more closes the oldest of the address that has most."""

PROBE: Final = 1.0
"""Seconds in which a switch must answer an echo to keep its datapath_id from a newcomer."""

_MAX_NAMED: Final = 1024
"""Unknown datapath_ids that are remembered as already logged."""


class Others(Mastership, Protocol):
    """Where there are other controllers, what is known of them."""

    def masters(self, node: str) -> bool:
        """One of them is alive, and the node is its."""
        ...

    def connections_changed(self) -> None:
        """A switch has come or gone."""
        ...

    def describe(self, node: str) -> dict[str, Any] | None:
        """A node that one of them masters, as that one does; None for others."""
        ...


class SessionRegistry:
    """Nothing here waits. `dispatcher` makes the packet_in handler of a node. Without `others` there is no other
    controller. `tell` hears of what becomes of sessions.
    """

    def __init__(
        self,
        programs: Programs,
        dispatcher: Callable[[str], Dispatcher],
        counters: Counters,
        others: Others | None = None,
        tell: Tell = tell_nobody,
    ) -> None:
        self._tell = tell
        self._others = others
        self._programs = programs
        self._dispatcher = dispatcher
        self._counters = counters
        self._sessions: dict[int, DatapathSession] = {}
        self._logged: dict[int, None] = {}
        self._contested: set[int] = set()

    # connections come and go

    def connected(self, connection: Connection) -> None:
        """A switch has shaken hands. Who has its datapath_id already keeps it as long as it answers, and nobody gets
        that of a node other than its certificate's.
        """
        if connection.outbox.closed:
            return  # where many come and go at once, Ryu may tell of its end first, and of nothing after
        if self._is_impostor(connection):
            self._refuse(connection, "datapath_id_of_another_node")
            return
        older = self._sessions.get(connection.id)
        if older is None:
            self._begin(connection)
        elif connection.id in self._contested:
            self._refuse(connection, "datapath_id_contested")
        else:
            self._contested.add(connection.id)
            eventlet.spawn_n(self._contest, older, connection)

    def _contest(self, older: DatapathSession, newcomer: Connection) -> None:
        """Waits for the older one's answer. A switch that was restarted need not have said farewell."""
        try:
            answers = older.connection.answers(PROBE)
        finally:
            self._contested.discard(older.datapath_id)
        if answers:
            self._refuse(newcomer, "datapath_id_in_use")
        elif not newcomer.outbox.closed:
            if self._sessions.get(older.datapath_id) is older:
                self._say("session_replaced", newcomer, old_peer=str(older.connection.address))
                self._counters.count("sessions_replaced")
                self._drop(older)
            self.connected(newcomer)

    def _is_impostor(self, connection: Connection) -> bool:
        node = self._programs.node_of(connection.id)
        return node is not None and connection.certified not in (None, node)

    def _refuse(self, connection: Connection, why: str) -> None:
        """The switch comes again by itself."""
        self._counters.count(f"refused_{why}")
        self._say(why, connection, certified=connection.certified)
        connection.close()

    def _say(self, event: str, connection: Connection, **details: str | None) -> None:
        structlog.get_logger().warning(
            event,
            datapath_id=f"{connection.id:016x}",
            node=self._programs.node_of(connection.id),
            peer=str(connection.address),
            **details,
        )

    def _begin(self, connection: Connection) -> None:
        session = DatapathSession(
            connection, self._programs, self._dispatcher, self._counters, self._others, self._tell
        )
        self._sessions[session.datapath_id] = session
        session.start()
        if session.node is None:
            self._park(session)
        self._changed()

    def disconnected(self, connection: Connection) -> None:
        session = self._sessions.get(connection.id) if connection.id is not None else None
        if session is not None and session.connection is connection:
            del self._sessions[session.datapath_id]
            session.stop()
            self._changed()

    def _changed(self) -> None:
        if self._others is not None:
            self._others.connections_changed()

    def leases_changed(self) -> None:
        """Whose nodes are to be whose may be different by now."""
        for session in self:
            session.lease_changed()

    def _park(self, session: DatapathSession) -> None:
        self._counters.count("sessions_parked")
        if session.datapath_id not in self._logged:
            if len(self._logged) >= _MAX_NAMED:
                del self._logged[next(iter(self._logged))]
            self._logged[session.datapath_id] = None
            structlog.get_logger().warning(
                "datapath_unknown", datapath_id=f"{session.datapath_id:016x}", peer=str(session.connection.address)
            )
        parked = [other for other in self._sessions.values() if other.node is None]
        if len(parked) > MAX_PARKED:
            clients = Counter(map(_client, parked))
            self._drop(max(parked, key=lambda other: clients[_client(other)]))

    # the model changes

    def nodes_changed(self) -> None:
        """Adopts parked switches whose node is known by now; hangs up on those that belong to no node any more."""
        for session in list(self._sessions.values()):
            if self._is_impostor(session.connection):
                self._refuse(session.connection, "datapath_id_of_another_node")
                self._drop(session)
                continue
            session.adopt()
            if session.node is not None and self._programs.node_of(session.datapath_id) != session.node:
                self._drop(session)
        self._changed()

    def deliver(self, node: str, datapath_id: int, work: Work) -> None:
        """Work for a node. It is dropped when the node is not connected, or another controller's: its next session, and
        who becomes its master, begins with the whole.
        """
        session = self._sessions.get(datapath_id)
        if session is not None and session.node == node and session.is_master:
            session.mailbox.put(work)

    def send(self, node: str, output: Output | Resubmit | Copies) -> bool:
        """Sends a packet by a node's switch. False when it is not connected, or another controller's."""
        session = self.of_node(node)
        return session is not None and session.is_master and session.send(output)

    def ask(self, node: str, request: Callable[[int], bytes], timeout_s: float) -> list[bytes]:
        """All parts of a node's reply to a multipart request. Raises NoAnswer."""
        session = self.of_node(node)
        if session is None:
            raise NoAnswer("not connected")
        return session.questions.ask(request, timeout_s)

    def serves(self, node: str, datapath_id: int) -> bool:
        """Work that is delivered now, here or by the node's controller, will be installed, if nothing goes wrong."""
        session = self._sessions.get(datapath_id)
        if session is not None and session.node == node and session.is_master:
            return True
        return self._others is not None and self._others.masters(node)

    def _drop(self, session: DatapathSession) -> None:
        if self._sessions.get(session.datapath_id) is session:
            del self._sessions[session.datapath_id]
        session.stop()

    # of several controllers

    def mastered(self) -> list[str]:
        """The nodes whose switches obey this controller."""
        return [session.node for session in self if session.node is not None and session.is_master]

    def describe_own(self, node: str) -> dict[str, Any] | None:
        """The session of a node that this controller masters."""
        session = self.of_node(node)
        return session.describe() if session is not None and session.is_master else None

    # questions

    def __iter__(self) -> Iterator[DatapathSession]:
        return iter(list(self._sessions.values()))

    def live(self) -> Iterator[DatapathSession]:
        return (session for session in self if session.state is State.LIVE)

    def nodes(self) -> Iterator[str]:
        """The nodes that are connected."""
        return (session.node for session in self if session.node is not None)

    def of_node(self, node: str) -> DatapathSession | None:
        return next((session for session in self._sessions.values() if session.node == node), None)

    def connections(self) -> dict[int, Connection]:
        return {datapath_id: session.connection for datapath_id, session in self._sessions.items()}

    def parked(self) -> int:
        return sum(session.node is None for session in self._sessions.values())

    def quarantined(self) -> Iterator[tuple[str, str, int]]:
        for session in self:
            for rule, count in session.quarantine.by_rule().items():
                yield session.node or "", rule, count

    def describe(self, node: str) -> dict[str, Any]:
        """A node's session in JSON values; `state` is "disconnected" when there is none."""
        session = self.of_node(node)
        if self._others is not None and (session is None or not session.is_master):
            elsewhere = self._others.describe(node)
            if elsewhere is not None:
                return elsewhere
        return {"state": "disconnected"} if session is None else session.describe()


def _client(session: DatapathSession) -> str:
    return client_of(str(session.connection.address[0]))
