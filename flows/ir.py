"""A flow as a value: what to match, what to do, and why it is there.

Everything is an integer (MAC 48 bits, address 32 bits) so that flows hash, compare and encode fast. A flow is checked
against pipeline.py when it is made: a mistake is a ValueError in the compiler, not a switch that misbehaves.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce
from operator import xor

from flows.fields import FIELDS
from flows.pipeline import Priority, Table
from flows.protocols import ETH_IP
from flows.rules import Rule, cookie

# (field, value) or (field, value, mask), in the order of flows.fields
MatchItem = tuple[str, int, int | None]
Match = tuple[MatchItem, ...]


@dataclass(frozen=True, slots=True)
class SetField:
    field: str
    value: int


@dataclass(frozen=True, slots=True)
class Move:
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Swap:
    """Each gets the value of the other, which is as long."""

    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Output:
    port: int


@dataclass(frozen=True, slots=True)
class OutputInPort:
    """Back where it came from, which Output never does."""


@dataclass(frozen=True, slots=True)
class Controller:
    """With a `meter`, what exceeds it is not handed up; the packet goes on (ovs-actions(7), "controller")."""

    max_len: int = 0xFFFF
    meter: int = 0


@dataclass(frozen=True, slots=True)
class PushVlan:
    vid: int


@dataclass(frozen=True, slots=True)
class PopVlan:
    pass


@dataclass(frozen=True, slots=True)
class DecTtl:
    pass


@dataclass(frozen=True, slots=True)
class Nat:
    """Translation of the source, or with `destination` of the destination, to `address` and a port out of the inclusive
    range `ports`; without one conntrack keeps the port if it can. `family` is the Ethernet type of the address.
    """

    address: int
    ports: tuple[int, int] | None = None
    destination: bool = False
    family: int = ETH_IP


@dataclass(frozen=True, slots=True)
class Ct:
    """Goes on in `table` with conntrack's verdict. `nat=None` with `translate` undoes an earlier translation.

    Without a table, what follows sees nothing of it. `mark` (value, mask) sets bits of the connection's ct_mark when it
    is committed. `force` turns a connection round, so that it begins anew with this packet, if that is of its replies.
    """

    table: Table | None
    zone: int | str
    commit: bool = False
    translate: bool = False
    nat: Nat | None = None
    mark: tuple[int, int] | None = None
    force: bool = False


@dataclass(frozen=True, slots=True)
class CtClear:
    pass


@dataclass(frozen=True, slots=True)
class Resubmit:
    """Looks a table up and comes back with what it changed."""

    table: Table


@dataclass(frozen=True, slots=True)
class Restart:
    """Begins again in an earlier table, as if the packet had come in there by no port at all."""

    table: Table


@dataclass(frozen=True, slots=True)
class NoInPort:
    """From here on the packet came in by no port at all, so that it may leave where it came in."""


@dataclass(frozen=True, slots=True)
class CheckLarger:
    """Sets `bit` of a register to whether the frame is larger than `size` bytes (ovs-actions(7), check_pkt_larger)."""

    size: int
    register: str
    bit: int


@dataclass(frozen=True, slots=True)
class Learn:
    """ovs-actions(7) "learn": a packet makes a flow. Pairs are (field of the new flow, field or value here)."""

    table: Table
    priority: int
    idle_timeout: int
    hard_timeout: int
    cookie: int
    limit: int
    match: tuple[tuple[str, str | int], ...]
    load: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Conjunction:
    """One of `clauses` that all have to match for conj_id=`id` to (ovs-actions(7), conjunction). `clause` is from 1.

    A flow with one has no other actions, and all flows of one id have the same priority.
    """

    id: int
    clause: int
    clauses: int


@dataclass(frozen=True, slots=True)
class Meter:
    """Drops what exceeds the meter with this id: all that would still happen to the packet, also after this flow."""

    id: int


@dataclass(frozen=True, slots=True)
class Goto:
    table: Table


Action = (
    SetField
    | Move
    | Swap
    | Output
    | OutputInPort
    | Controller
    | PushVlan
    | PopVlan
    | DecTtl
    | Ct
    | CtClear
    | Resubmit
    | Restart
    | NoInPort
    | CheckLarger
    | Learn
    | Conjunction
    | Meter
    | Goto
)

FlowKey = tuple[int, int, Match]


@dataclass(frozen=True, slots=True)
class Flow:
    """Made by `flow()`. `key` is what OpenFlow takes for the flow's identity: table, priority and match."""

    table: int
    priority: int
    match: Match
    actions: tuple[Action, ...]
    cookie: int
    key: FlowKey = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", (self.table, self.priority, self.match))


@dataclass(frozen=True, slots=True)
class MeterConfig:
    """A meter of a node (OpenFlow 1.4 §5.7): `rate` packets per second or kilobit/s, of which `burst` (packets or
    kilobit) may come at once after a pause. One band, which drops.
    """

    id: int
    rate: int
    burst: int
    packets: bool = False


def matching(**fields: int | tuple[int, int]) -> Match:
    """A match from field=value or field=(value, mask), in canonical order.

    Raises ValueError for an unknown field or a value that does not fit it.
    """
    items: list[tuple[int, MatchItem]] = []
    for name, value in fields.items():
        known = FIELDS.get(name)
        if known is None:
            raise ValueError(f"no such field: {name}")
        mask: int | None = None
        if isinstance(value, tuple):
            value, mask = value
            if value & ~mask or mask >> known.bits:
                raise ValueError(f"{name}={value:#x}/{mask:#x}: value outside mask, or mask outside field")
            if mask == (1 << known.bits) - 1:
                mask = None
        if value < 0 or value >> known.bits:
            raise ValueError(f"{name}={value:#x} does not fit {known.bits} bits")
        items.append((known.rank, (name, value, mask)))
    items.sort()
    return tuple(item for _, item in items)


def flow(rule: Rule, priority: int, match: Match, *actions: Action, key: int = 0) -> Flow:
    """The flow of a rule, in the rule's table; `key` is the key of the object that the rule is about.

    Raises ValueError when it breaks the pipeline: a drop rule with actions, another rule without, a jump backwards.
    """
    table = rule.table
    if rule.drop != (not actions):
        raise ValueError(f"{rule.name}: a drop has no actions and anything else has some")
    if bool(rule.about) != bool(key):
        raise ValueError(f"{rule.name}: is about {rule.about or 'nothing'}, got key {key}")
    last = len(actions) - 1
    for position, action in enumerate(actions):
        if isinstance(action, (Goto, Ct, Resubmit)) and action.table is not None and action.table <= table:
            # what is turned round is no reply when it comes again, if conntrack is asked anew
            turned = isinstance(action, Ct) and action.force and action.table == table
            if turned and isinstance(actions[position - 1], CtClear):
                continue
            raise ValueError(f"{rule.name}: {action} does not lead forward")
        if isinstance(action, Restart) and action.table > table:
            raise ValueError(f"{rule.name}: {action} does not lead back")
        if isinstance(action, Meter) and position:
            raise ValueError(f"{rule.name}: {action} must come first")
        if isinstance(action, (Goto, Restart)) and position != last:
            raise ValueError(f"{rule.name}: {action} must come last")
        # a copy goes to conntrack: what comes after it can only prepare another one
        if (
            isinstance(action, Ct)
            and action.table is not None
            and not (
                isinstance(actions[-1], Ct) and all(isinstance(later, (SetField, Ct)) for later in actions[position:])
            )
        ):
            raise ValueError(f"{rule.name}: {action} must come last")
        if isinstance(action, Conjunction) != isinstance(actions[0], Conjunction):
            raise ValueError(f"{rule.name}: a conjunction does nothing else")
    return Flow(table, priority, match, actions, cookie(rule, key))


def meters_used(flow: Flow) -> tuple[int, ...]:
    """The ids of the meters that a flow needs."""
    return tuple(action.id for action in flow.actions if isinstance(action, Meter)) + tuple(
        action.meter for action in flow.actions if isinstance(action, Controller) and action.meter
    )


def drop(rule: Rule, priority: int, match: Match = (), *, key: int = 0) -> Flow:
    """A named drop."""
    return flow(rule, priority, match, key=key)


MOST_LACKING = 256
"""Refused flows and meters that a stamp names; of a switch that refuses more, a restart sends everything anew."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a switch holds: the digest of it, and the digests of what it should hold as well and has refused."""

    digest: int
    lacking: frozenset[int] = frozenset()

    @property
    def wanted(self) -> int:
        """The digest of what the switch should hold."""
        return reduce(xor, self.lacking, self.digest)


def stamp_flows(stamp: Stamp) -> tuple[Flow, ...]:
    """Return the flows that carry a stamp. Their cookies are digests: their table says that they are ours."""
    lacking = enumerate(sorted(stamp.lacking), Priority.MISS + 1)
    named = (Flow(Table.STAMP, priority, (), (), digest) for priority, digest in lacking)
    return (Flow(Table.STAMP, Priority.MISS, (), (), stamp.digest), *named)
