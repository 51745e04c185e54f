"""The session of one connected switch: CONNECTING -> STANDBY -> SYNCING -> LIVE -> STANDBY, a method for each state.

Each session has one green thread, which is the only one that changes the switch's flows, and one bundle in flight.
Where there is one controller STANDBY is over at once, and nothing is said of roles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, Final, Protocol

import eventlet
import structlog

from controller import receive
from controller.connection import Connection
from controller.events.ring import Kind
from controller.forgetting import Forget
from controller.green import Signal
from controller.packet_in.dispatch import Dispatcher
from controller.packet_in.outputs import Copies, Output, Resubmit
from controller.session_bundle import Bundle, Conversation, Demoted, Refusal, SessionEnd
from controller.session_counters import Counters, NodeCounters
from controller.session_mailbox import Mailbox, Quarantine, flow_name
from controller.session_meters import Meters
from controller.session_questions import Questions
from flows import roles, wire
from flows.compile import Program
from flows.diff import Delta
from flows.ir import Flow
from flows.roles import Role

_DESCRIBED = 20
"""Quarantined flows that `describe` names."""

FORGET_AT_ONCE = 64

RETRY: Final = 0.5
"""Seconds until a switch, or the database, is asked again that has not said yes."""


class State(StrEnum):
    CONNECTING = "connecting"
    STANDBY = "standby"
    SYNCING = "syncing"
    LIVE = "live"


class Programs(Protocol):
    """What the switches should hold. None of this waits but `catch_up`."""

    def node_of(self, datapath_id: int) -> str | None:
        """The node with this datapath_id."""
        ...

    def catch_up(self, node: str, generation: int) -> bool:
        """This controller has just become the node's master with a generation. What another one did before is known
        when this returns; False when the store does not answer. Waits.
        """
        ...

    def wanted(self, node: str) -> tuple[Program, int]:
        """A node's program and the revision that it stands for. Raises KeyError when the node is gone."""
        ...

    def confirmed(self, node: str, revision: int, unclaimed: int | None = None, *, whole: bool = False) -> None:
        """The node's switch has committed everything up to this revision but the claims left out from revision
        `unclaimed` on. With `whole` everything was sent anew.
        """
        ...

    def to_forget(self, node: str, revision: int) -> list[Forget]:
        """What the node's conntrack must forget, now that it has the flows of a revision."""
        ...

    def forgotten(self, node: str, what: Sequence[Forget], revision: int) -> None: ...


class Mastership(Protocol):
    """Which nodes this controller is to master, where there are several controllers."""

    def generation(self, node: str) -> int | None:
        """The generation_id of this controller's lease of a node; None when it is another's. Never waits."""
        ...

    def overtaken(self, node: str, seen: int) -> None:
        """The node's switch has seen a later generation. If the lease is this controller's all the same, it gets one
        that is later still. Waits for the database, and raises nothing.
        """
        ...


Tell = Callable[[Kind, str, str], None]
"""Hears, without waiting, what has become of a node's session: kind of event, node, and the rest of the sentence."""


def tell_nobody(kind: Kind, node: str, what: str) -> None:
    pass


class DatapathSession:
    """`dispatcher` makes the packet_in handler of a node. Without a `mastership` there is no other controller."""

    def __init__(
        self,
        connection: Connection,
        programs: Programs,
        dispatcher: Callable[[str], Dispatcher],
        counters: Counters,
        mastership: Mastership | None = None,
        tell: Tell = tell_nobody,
    ) -> None:
        self._tell = tell
        self.connection = connection
        self.datapath_id: int = connection.id
        self.node: str | None = None
        self.state = State.CONNECTING
        self.mailbox = Mailbox()
        self.quarantine = Quarantine()
        self.questions = Questions(connection.send)
        self._programs = programs
        self._mastership = mastership
        self._generation = 0  # with which this session is master
        self._seen: int | None = None  # a later one that the switch knows of
        self._demoted = False
        self._lease_changed = Signal()
        self._make_dispatcher = dispatcher
        self._all_counters = counters
        self._counters = NodeCounters()
        self._adopted = Signal()
        self._dispatcher: Dispatcher | None = None
        self._talk = Conversation(connection.write, self._counters)
        self._meters = Meters(self._talk)
        self._log = structlog.get_logger().bind(datapath_id=f"{self.datapath_id:016x}")
        self._thread: Any = None
        self._distrusted = False
        self._stamped: frozenset[int] = frozenset()  # what the switch's stamp says that it lacks

    # life

    def start(self) -> None:
        self.connection.receiver = self
        self.adopt()
        self._thread = eventlet.spawn(self._run)

    def adopt(self) -> None:
        """Looks whether a node has our datapath_id by now. Never waits."""
        if self.node is None:
            self.node = self._programs.node_of(self.datapath_id)
            if self.node is not None:
                self.connection.trust()
                self._counters = self._talk.counters = self._all_counters.node(self.node)
                self._counters.connections += 1
                self._dispatcher = self._make_dispatcher(self.node)
                self._log = self._log.bind(node=self.node)
                self._tell(Kind.NODE, self.node, "is connected")
                self._adopted.send()

    def distrust(self) -> None:
        """The switch does not hold what it has confirmed: everything is to be sent anew. Never waits."""
        self._distrusted = True
        self.mailbox.wake()

    def lease_changed(self) -> None:
        """Whose the node is to be may be another by now. Never waits."""
        self._lease_changed.send()
        self.mailbox.wake()

    @property
    def is_master(self) -> bool:
        """What is sent to the switch is obeyed, as far as is known here, and what it says is for us."""
        return self.state in (State.SYNCING, State.LIVE)

    def stop(self) -> None:
        """Hangs up. Never waits."""
        if self.node is not None:
            self._tell(Kind.NODE, self.node, "is disconnected")
        self.questions.close()
        self.connection.close()
        if self._thread is not None:
            eventlet.spawn_n(self._thread.kill)  # a kill switches to its victim at once

    def _run(self) -> None:
        try:
            self._connecting()
            while True:
                self._standby()
                try:
                    self._syncing()
                    self._live()
                except Demoted:
                    self._log.info("session_demoted", generation=self._generation)
                    self._tell(Kind.CONTROLLER, self._name, "is another controller's now")
        except SessionEnd as end:
            self._log.warning("session_ended", state=self.state.value, why=str(end))
        except Exception:
            self._log.exception("session_failed", state=self.state.value)
        finally:
            self.connection.close()

    # states

    def _connecting(self) -> None:
        """Shaken hands, but no node has this datapath_id: nothing is sent, whatever is on the switch stays."""
        while self.node is None:
            self._adopted.wait()

    def _standby(self) -> None:
        """Another controller may be the switch's master: nothing is changed on it and nothing of it answered, until the
        lease of the node is ours and the switch has agreed. There the generation decides: a controller that has missed
        that another one took over is refused, and asks the database before it tries again.
        """
        if self._mastership is None:
            return
        self.state = State.STANDBY
        self.mailbox.clear()
        self.quarantine.clear()
        is_slave = False
        while True:
            generation = self._mastership.generation(self._name)
            if generation is not None:
                if self._becomes_master(generation):
                    return
            elif not is_slave:
                is_slave = self._becomes_slave()
                continue
            self._lease_changed.wait(RETRY if generation is not None else None)

    def _becomes_master(self, generation: int) -> bool:
        assert self._mastership is not None
        self._demoted = False
        given = self._talk.role(Role.MASTER, generation)
        if given is not None:
            if given.role is not Role.MASTER:
                raise SessionEnd(f"asked to be master, became {given.role.name}")
            self._generation = generation
            self._tell(Kind.CONTROLLER, self._name, "is this controller's now")
            return True
        held = self._talk.role(Role.NOCHANGE)
        if held is not None and held.generation is not None:
            if held.generation != self._seen:
                self._log.warning("generation_stale", generation=generation, seen=held.generation)
            self._seen = held.generation
            self._mastership.overtaken(self._name, held.generation)
        return False

    def _becomes_slave(self) -> bool:
        """Else it would get packet_ins that are the master's. False when another controller was quicker."""
        held = self._talk.role(Role.NOCHANGE)
        seen = 0 if held is None or held.generation is None else held.generation
        return self._talk.role(Role.SLAVE, seen) is not None

    def _syncing(self) -> None:
        """Does the switch hold what it should? One question (the stamp) tells. If not, one bundle replaces everything
        that is ours; packets that pass meanwhile see the old flows or the new ones, never none.
        """
        self.state = State.SYNCING
        if self._mastership is not None:
            # only now: before the switch agreed, another master may have brought it further
            while not self._programs.catch_up(self._name, self._generation):
                self._remain_master()
                self._lease_changed.wait(RETRY)
        stamp = self._talk.stamp()
        program, revision = self._wanted()
        self.mailbox.clear()  # the program already is what that led to
        self.quarantine.clear()
        self._stamped = frozenset() if stamp is None else stamp.lacking
        whole = self._distrusted or stamp is None or not self.quarantine.recall(stamp, program)
        self._distrusted = False
        if not whole:
            self._meters.assume(meter.id for meter in program.meters() if not self.quarantine.has_meter(meter.id))
            self._log.info("session_in_sync", flows=len(program), revision=revision)
        else:
            self.quarantine.clear()
            self._counters.resyncs += 1
            meters = tuple(program.meters())
            stale = tuple(sorted(self._meters.ask() - {meter.id for meter in meters}))
            self._install(Delta(tuple(program.flows()), (), program.digest, meters, stale), wipe=True)
            self._log.info("session_resynced", flows=len(program), revision=revision)
        self._forget(revision)
        self._programs.confirmed(self._name, revision, whole=whole)

    def _live(self) -> None:
        """Each delta that the mailbox yields becomes one bundle; once that is committed, its revision is confirmed."""
        self.state = State.LIVE
        self._tell(Kind.NODE, self._name, "is live: it holds the flows that it should")
        while True:
            work = self.mailbox.take()
            self._remain_master()
            if self._distrusted:
                self._syncing()
                self.state = State.LIVE
                continue
            if work is None:
                continue
            delta = self.quarantine.retry(work.delta)
            if delta:
                self._install(delta)
            self._forget(work.revision)
            self._programs.confirmed(self._name, work.revision, work.unclaimed)

    # how

    def _remain_master(self) -> None:
        """Raises Demoted when the switch has said so, or when there is a new lease: then it must hear of that. A lease
        that has become another's changes nothing before the switch says so.
        """
        if self._mastership is None:
            return
        if self._demoted or self._mastership.generation(self._name) not in (None, self._generation):
            raise Demoted

    def _forget(self, revision: int) -> None:
        """In pieces: each costs the switch a look through its connections, and it does nothing else meanwhile."""
        due = self._programs.to_forget(self._name, revision)
        for start in range(0, len(due), FORGET_AT_ONCE):
            piece = due[start : start + FORGET_AT_ONCE]
            for error in self._talk.forget(piece):
                self._log.error("not_forgotten", error=error)
            self._programs.forgotten(self._name, piece, revision)

    def _install(self, delta: Delta, *, wipe: bool = False) -> None:
        """The meters that flows will use, the flows in one bundle, then away with the meters that none uses any more.
        What the switch refuses goes into quarantine, with the flows of a meter that it refuses.

        Raises SessionEnd when the switch refuses without a flow to blame.
        """
        refused = self._meters.put(delta.meters)
        for id_, error in refused.items():
            self._log.error("meter_quarantined", meter=id_, error=error)
        self.quarantine.add_meters(meter for meter in delta.meters if meter.id in refused)
        self._install_flows(delta.deletes, delta.upserts, delta.digest, wipe=wipe)
        for id_, error in self._meters.remove(delta.gone_meters).items():
            self._log.error("meter_not_deleted", meter=id_, error=error)

    def _install_flows(
        self, deletes: tuple[Flow, ...], adds: tuple[Flow, ...], digest: int, *, wipe: bool = False
    ) -> None:
        while True:
            stamp = self.quarantine.stamp(digest)
            refusal = self._talk.apply(Bundle(deletes, adds, stamp, wipe, stamp.lacking != self._stamped))
            if refusal is None:
                self._stamped = stamp.lacking
                return
            culprits = refusal if refusal.named else self._isolate(adds, refusal)
            if not culprits.named:
                raise SessionEnd(f"bundle refused: error {refusal.error}")
            refused = {flow.key for flow, _ in culprits.named}
            for flow, error in culprits.named:
                self._log.error("flow_quarantined", error=error, **flow_name(flow))
            rules = sorted({str(flow_name(flow)["rule"]) for flow, _ in culprits.named})
            self._tell(Kind.QUARANTINE, self._name, f"refuses {len(culprits.named)} flows of {', '.join(rules)}")
            self.quarantine.add(flow for flow in adds if flow.key in refused)
            adds = tuple(flow for flow in adds if flow.key not in refused)
            deletes = tuple(flow for flow in deletes if flow.key not in refused)

    def _isolate(self, adds: tuple[Flow, ...], refusal: Refusal) -> Refusal:
        """Halves a bundle that fails at its commit until each culprit stands alone. The good ones get installed on the
        way, which is harmless: they are wanted, and an add of what is there changes nothing.
        """
        if len(adds) <= 1:
            return Refusal(tuple((flow, refusal.error or (0, 0)) for flow in adds), refusal.error)
        culprits: tuple[tuple[Flow, tuple[int, int]], ...] = ()
        half = len(adds) // 2
        for part in (adds[:half], adds[half:]):
            found = self._talk.apply(Bundle((), part, None))
            if found is not None:
                culprits += found.named or self._isolate(part, found).named
        return Refusal(culprits, refusal.error)

    def _wanted(self) -> tuple[Program, int]:
        try:
            return self._programs.wanted(self._name)
        except KeyError:
            raise SessionEnd("the node is gone") from None

    @property
    def _name(self) -> str:
        assert self.node is not None
        return self.node

    # messages, in the green thread of the receive loop

    def packet_in(self, message: bytes) -> bytes | None:
        """The fast path: from bytes to bytes, without a wait."""
        counters = self._counters
        counters.packet_ins += 1
        packet = wire.parse_packet_in(message)
        if packet is None:
            counters.packet_ins_malformed += 1
            return None
        if self._dispatcher is None or (self._mastership is not None and not self.is_master):
            return None  # unknown, or the master's to answer
        outputs = self._dispatcher.handle(packet.cookie, packet.in_port, packet.frame)
        return b"".join([output.message() for output in outputs]) if outputs else None

    def answer(self, kind: int, xid: int, message: bytes) -> None:
        if kind == receive.BUNDLE_CONTROL and receive.bundle_control_type(message) == receive.BUNDLE_OPEN_REPLY:
            return
        if kind == receive.ROLE_STATUS:
            self._role_changed(message)
            return
        if self.questions.answer(kind, xid, message):
            return
        error = self._talk.answer(kind, xid, message)
        if error is not None:
            self._log.warning("openflow_error", error=error, xid=xid)

    def _role_changed(self, message: bytes) -> None:
        try:
            role = roles.parse(message).role
        except ValueError as error:
            self._log.warning("role_status_malformed", error=str(error))
            return
        if role is not Role.MASTER:
            self._demoted = True
            self.mailbox.wake()
            self._lease_changed.send()

    def send_packet(self, ofport: int, frame: bytes) -> bool:
        """Sends a frame out of a port. False when the connection is closed."""
        return self.send(Output(ofport, frame))

    def send(self, output: Output | Resubmit | Copies) -> bool:
        return self.connection.send(output.message())

    def describe(self) -> dict[str, Any]:
        """For people, in JSON values."""
        return {
            "state": self.state.value,
            "peer": ":".join(str(part) for part in self.connection.address[:2]),
            "quarantined": self.quarantine.describe(_DESCRIBED),
            "quarantined_flows": len(self.quarantine),
        }
