"""What OVSDB shows of a node's Open vSwitch, as immutable values.

A record is its columns: `{"fail_mode": "secure", "other_config": {"datapath-id": "..."}}`. An optional column that is
empty is None, a set is a frozenset, a map is a mapping (ovs-vswitchd.conf.db(5) for their meaning).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

Value = str | int | None | frozenset[str] | Mapping[str, str]
Columns = Mapping[str, Value]

NOTHING: Columns = MappingProxyType({})

# `external_ids` of all that this program creates: nothing without one of these is ever deleted.
MARK_KEY = "trunkline"
MARK_AGENT = "agent"
MARK_PLUG = "plug"
# and of the integration bridge: the name of the node, for `plug`
NODE_KEY = "trunkline-node"
# of an interface that the agent has given its iface-id, because of its name: that iface-id
NAMED_KEY = "trunkline-named"
# of an interface that was plugged for a container engine: for what, as that one names it
ATTACHMENT_KEY = "trunkline-attachment"
# and of a VM's interface: its port is ready, since when (milliseconds since the epoch); as OVN's ovn-installed
INSTALLED_KEY = "trunkline-installed"
INSTALLED_AT_KEY = "trunkline-installed-ts"


@dataclass(frozen=True, slots=True)
class ControllerState:
    """`id` is the row's UUID: two rows may hold one target."""

    id: str
    columns: Columns


@dataclass(frozen=True, slots=True)
class PortState:
    name: str
    bridge: str
    interfaces: tuple[str, ...]
    columns: Columns = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BridgeState:
    """`ports` includes the bridge's own internal port."""

    name: str
    ports: tuple[str, ...] = ()
    controllers: tuple[ControllerState, ...] = ()
    columns: Columns = field(default_factory=dict)
    prefixes: Mapping[int, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DatapathState:
    """How many connections may be tracked in a zone: by default, and by zone. 0 is any number, as is None.

    `ours`: zones whose rows carry our mark.
    """

    default_limit: int | None = None
    zone_limits: Mapping[int, int | None] = field(default_factory=dict)
    ours: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class OvsState:
    """All maps are by name, which OVSDB keeps unique in each table; `datapaths` by datapath_type.

    `datapaths` is None where the database has no place for limits (Open vSwitch before 3.3). `confirmed`: ovs-vswitchd
    has done all of which it was to say so. `ssl` is the row of the SSL table, of which there is one at most.
    `datapath_types`: which Open vSwitch was built with, whether the kernel has its part or not.
    """

    bridges: Mapping[str, BridgeState] = field(default_factory=dict)
    ports: Mapping[str, PortState] = field(default_factory=dict)
    interfaces: Mapping[str, Columns] = field(default_factory=dict)
    ovs_version: str = ""
    datapaths: Mapping[str, DatapathState] | None = field(default_factory=dict)
    confirmed: bool = True
    ssl: Columns | None = None
    datapath_types: frozenset[str] = frozenset()


def lookup(columns: Columns, column: str, key: str | None = None) -> Value:
    """The value of a column, or of one key of a map column; None when it is not there."""
    value = columns.get(column)
    if key is None:
        return value
    return value.get(key) if isinstance(value, Mapping) else None


def marked(columns: Columns, mark: str = MARK_AGENT) -> bool:
    return lookup(columns, "external_ids", MARK_KEY) == mark
