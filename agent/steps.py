"""What can be done to Open vSwitch: values, which `ovsdb` puts into transactions."""

from __future__ import annotations

from dataclasses import dataclass

from agent.state import MARK_AGENT, MARK_KEY, Value


@dataclass(frozen=True, slots=True)
class Setting:
    """A column, or with `key` one entry of a map column, and the value it should have."""

    column: str
    value: Value
    key: str | None = None


Settings = tuple[Setting, ...]

MARK = Setting("external_ids", MARK_AGENT, MARK_KEY)


@dataclass(frozen=True, slots=True)
class AddBridge:
    """Also adds the bridge's internal port."""

    name: str
    settings: Settings


@dataclass(frozen=True, slots=True)
class SetBridge:
    name: str
    settings: Settings


@dataclass(frozen=True, slots=True)
class DeletePort:
    bridge: str
    name: str


@dataclass(frozen=True, slots=True)
class AddPort:
    """Adds a port with our mark and its one interface, which gets `settings`."""

    bridge: str
    name: str
    settings: Settings


@dataclass(frozen=True, slots=True)
class SetInterface:
    name: str
    settings: Settings


@dataclass(frozen=True, slots=True)
class AddController:
    """Adds a controller with our mark."""

    bridge: str
    target: str
    settings: Settings


@dataclass(frozen=True, slots=True)
class SetController:
    """`id` is the row's UUID. Among `settings` may be its target."""

    bridge: str
    id: str
    settings: Settings


@dataclass(frozen=True, slots=True)
class DeleteController:
    bridge: str
    id: str


@dataclass(frozen=True, slots=True)
class SetLimits:
    """How many connections a datapath tracks in a zone: `default`, and (zone, limit) where it is another; 0: any.

    Limits of other zones stay as they are, but for `stale` ones. `keep_others`: it is not known which those are.
    """

    datapath: str
    default: int
    zones: tuple[tuple[int, int], ...] = ()
    stale: tuple[int, ...] = ()
    keep_others: bool = False

    def __str__(self) -> str:
        """For the log: a node may have thousands of zones."""
        zones = f"{len(self.zones)} zones of their own, {len(self.stale)} stale"
        return f"SetLimits({self.datapath}: {self.default} connections, {zones})"


@dataclass(frozen=True, slots=True)
class SetPrefixes:
    """By table: of which fields Open vSwitch looks no further than at the prefixes that flows match."""

    bridge: str
    tables: tuple[tuple[int, frozenset[str]], ...]


@dataclass(frozen=True, slots=True)
class SetSsl:
    """With what Open vSwitch speaks TLS to ssl: controllers. Adds the row with our mark when there is none."""

    settings: Settings


@dataclass(frozen=True, slots=True)
class MarkInstalled:
    """Says on an interface that its port is ready since `at_ms` (milliseconds since the epoch), or with None no more.

    Nothing happens where the interface has gone meanwhile, or has another iface-id: it is a VM's, and comes and goes.
    """

    name: str
    iface_id: str | None
    at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class NameInterface:
    """Gives an interface that has no iface-id one, or with None takes it away again. Somebody else's stays."""

    name: str
    iface_id: str | None


@dataclass(frozen=True, slots=True)
class Confirm:
    """ovs-vswitchd is to say when it has done all that was asked up to here: `OvsState.confirmed`."""


Step = (
    AddBridge
    | SetBridge
    | DeletePort
    | AddPort
    | SetInterface
    | AddController
    | SetController
    | DeleteController
    | SetLimits
    | SetPrefixes
    | SetSsl
    | MarkInstalled
    | NameInterface
    | Confirm
)
