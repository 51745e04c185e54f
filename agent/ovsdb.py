"""The connection to a node's OVSDB: reads its state, applies steps in one transaction, tells when something changes.

ovsdbapp keeps a replica of the database in a thread of its own and reconnects by itself. Only the columns in `_COLUMNS`
are replicated, so that statistics, which change every few seconds, neither cost nor wake anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any
from uuid import UUID

from ovs.db.idl import Row
from ovs.db.idl import Transaction as IdlTransaction
from ovsdbapp.backend import ovs_idl
from ovsdbapp.backend.ovs_idl import connection, idlutils
from ovsdbapp.backend.ovs_idl.command import BaseCommand
from ovsdbapp.exceptions import OvsdbAppException
from ovsdbapp.schema.open_vswitch.impl_idl import OvsdbIdl

from agent import steps
from agent.state import (
    INSTALLED_AT_KEY,
    INSTALLED_KEY,
    NAMED_KEY,
    BridgeState,
    Columns,
    ControllerState,
    DatapathState,
    OvsState,
    PortState,
    Value,
    marked,
)

_COLUMNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Open_vSwitch": ("bridges", "ovs_version", "datapaths", "datapath_types", "ssl", "next_cfg", "cur_cfg"),
        "Bridge": (
            "name",
            "ports",
            "controller",
            "datapath_id",
            "datapath_type",
            "datapath_version",
            "fail_mode",
            "protocols",
            "other_config",
            "external_ids",
            "flow_tables",
        ),
        "Flow_Table": ("prefixes",),
        "Port": ("name", "interfaces", "external_ids"),
        "Interface": ("name", "type", "options", "ofport", "ofport_request", "error", "mac_in_use", "external_ids"),
        "Controller": ("target", "max_backoff", "inactivity_probe", "connection_mode", "external_ids"),
        "SSL": ("private_key", "certificate", "ca_cert", "external_ids"),
        "Datapath": ("ct_zones", "ct_zone_default_limit"),
        "CT_Zone": ("limit", "timeout_policy", "external_ids"),
        "CT_Timeout_Policy": ("external_ids",),
    }
)
# References between rows: read as rows, not as values.
_REFERENCES = frozenset({"bridges", "ports", "controller", "interfaces", "ssl", "timeout_policy"})
# The same as values of a map.
_REFERENCE_MAPS = frozenset({"datapaths", "ct_zones", "flow_tables"})
# What the database of an older Open vSwitch does not have: without one of these, none of them is used.
_LIMITS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "Open_vSwitch": frozenset({"datapaths"}),
        "Datapath": frozenset({"ct_zones", "ct_zone_default_limit"}),
        "CT_Zone": frozenset({"limit", "timeout_policy", "external_ids"}),
        "CT_Timeout_Policy": frozenset({"external_ids"}),
    }
)
# The IDL's reconnection starts at 1 s (it takes no less) and would double up to 8 s.
_MAX_BACKOFF_MS = 1000
_TIMEOUT_S = 5
_AWAY_S = 5.0  # a restart of ovsdb-server is no problem


class OvsdbError(Exception):
    """OVSDB did not answer, or refused a transaction. Whoever catches it reads the state again and tries again."""


class _Idl(connection.OvsdbIdl):  # type: ignore[misc]
    """Says which row changed. Called in the connection's thread with its lock held."""

    on_change: Callable[[UUID], None]

    def notify(self, event: str, row: Row, updates: Row | None = None) -> None:
        self.on_change(row.uuid)


class _Api(OvsdbIdl):  # type: ignore[misc]
    """ovsdbapp's commands, one object for each connection, with transactions that do not wait for ovs-vswitchd.

    ovsdbapp itself keeps one connection for the whole class, and after each commit holds up everything until
    ovs-vswitchd has taken it over, five seconds and more if that one happens to be down.
    """

    ovsdb_connection = None
    # it would look for the names of tables, which need not have any
    lookup_table = {name: how for name, how in OvsdbIdl.lookup_table.items() if name != "Flow_Table"}  # noqa: RUF012
    create_transaction = ovs_idl.Backend.create_transaction


class Ovsdb:
    """Use from one thread; `on_change` is called from another, whenever a row has changed.

    `problems` are of the last `read`, a line each.
    """

    def __init__(self, target: str, on_change: Callable[[], None]) -> None:
        """Connects. Raises OvsdbError when there is no ovsdb-server at `target` (`unix:PATH` or `tcp:ADDRESS:PORT`)."""
        self._target = target
        self._on_change = on_change
        self._away_since: float | None = None
        self.problems: tuple[str, ...] = ()
        self._changed: set[UUID] = set()
        self._rows: dict[str, dict[UUID, dict[str, Any]]] = {name: {} for name in _COLUMNS}
        try:
            helper = idlutils.get_schema_helper(target, "Open_vSwitch")
            self._has_limits = _has_limits(helper.schema_json)
            self._columns = dict(_COLUMNS) if self._has_limits else _without_limits()
            for table, columns in self._columns.items():
                helper.register_columns(table, list(columns))
            idl = _Idl(target, helper, leader_only=False)
            idl.on_change = self._note
            # No public way to these two; without them an agent may be blind for 8 s after ovsdb-server is back.
            idl._session.reconnect.set_backoff(_MAX_BACKOFF_MS, _MAX_BACKOFF_MS)
            self._connection = connection.Connection(idl, _TIMEOUT_S)
            self._api = _Api(self._connection)
        except Exception as error:  # ovsdbapp raises plain Exception here
            raise OvsdbError(f"no connection to {target}: {error}") from error

    def close(self) -> None:
        self._connection.stop(timeout=_TIMEOUT_S)

    def _note(self, row_id: UUID) -> None:
        self._changed.add(row_id)
        self._on_change()

    def read(self) -> OvsState:
        """The state as of now. While ovsdb-server is away, the last one known."""
        with self._connection.lock:
            changed, self._changed = self._changed, set()
            for name, table in self._connection.idl.tables.items():
                self._refresh(self._rows[name], table.rows, changed)
            self._look(self._connection.idl._session.is_connected())
        return _state(self._rows, self._has_limits)

    def _look(self, is_connected: bool) -> None:
        now = time.monotonic()
        if is_connected:
            self._away_since = None
        elif self._away_since is None:
            self._away_since = now
        is_away = self._away_since is not None and now - self._away_since >= _AWAY_S
        cure = "nothing is repaired, and no new port is seen: systemctl status openvswitch-switch"
        self.problems = (f"no connection to {self._target}; {cure}",) if is_away else ()

    def _refresh(self, known: dict[UUID, dict[str, Any]], rows: Mapping[UUID, Row], changed: set[UUID]) -> None:
        """Reading a column costs microseconds, and there are thousands: only rows that have changed are read."""
        for row_id in changed:
            if row_id in rows:
                known[row_id] = {
                    column: _value(rows[row_id], column) for column in self._columns[rows[row_id]._table.name]
                }
            else:
                known.pop(row_id, None)
        # All that is new has been told; what vanished while ovsdb-server was away has not.
        if len(known) != len(rows):
            for row_id in known.keys() - rows.keys():
                del known[row_id]

    def apply(self, asked: Sequence[steps.Step]) -> None:
        """All of `asked` in one transaction, or none. Raises OvsdbError."""
        try:
            with self._api.transaction(check_error=True, log_errors=False) as transaction:
                transaction.add(_Apply(self._api, asked))
        except (OvsdbAppException, RuntimeError, KeyError) as error:
            raise OvsdbError(f"transaction failed: {error}") from error


def _has_limits(schema: Mapping[str, Any]) -> bool:
    columns = {name: table["columns"].keys() for name, table in schema["tables"].items()}
    return all(needed <= columns.get(table, frozenset()) for table, needed in _LIMITS.items())


def _without_limits() -> dict[str, tuple[str, ...]]:
    kept = {
        table: tuple(column for column in columns if column not in _LIMITS.get(table, ()))
        for table, columns in _COLUMNS.items()
    }
    return {table: columns for table, columns in kept.items() if columns}


def _value(row: Row, column: str) -> Any:
    if column in _REFERENCES:
        return tuple(referred.uuid for referred in getattr(row, column))
    value = getattr(row, column)
    if column in _REFERENCE_MAPS:
        return {key: referred.uuid for key, referred in value.items()}
    if isinstance(value, dict):
        return dict(value)
    if isinstance(value, list):
        if row._table.columns[column].type.is_optional():
            return value[0] if value else None
        return frozenset(value)
    return value


def _datapaths(tables: Mapping[str, Mapping[UUID, dict[str, Any]]]) -> dict[str, DatapathState]:
    zones, rows = tables["CT_Zone"], tables["Datapath"]
    found = {}
    for root in tables["Open_vSwitch"].values():
        for name, row_id in root["datapaths"].items():
            if row_id in rows:
                known = {zone: zones[i] for zone, i in rows[row_id]["ct_zones"].items() if i in zones}
                held = {zone: row["limit"] for zone, row in known.items()}
                ours = frozenset(zone for zone, row in known.items() if marked(row))
                found[name] = DatapathState(rows[row_id]["ct_zone_default_limit"], held, ours)
    return found


def _state(tables: Mapping[str, Mapping[UUID, dict[str, Any]]], has_limits: bool) -> OvsState:
    bridges, ports = {}, {}
    for row in tables["Bridge"].values():
        held = [tables["Port"][port_id] for port_id in row["ports"] if port_id in tables["Port"]]
        for port in held:
            ports[port["name"]] = PortState(
                port["name"],
                row["name"],
                tuple(tables["Interface"][i]["name"] for i in port["interfaces"] if i in tables["Interface"]),
                port,
            )
        controllers = (
            ControllerState(str(c), tables["Controller"][c]) for c in row["controller"] if c in tables["Controller"]
        )
        flow_tables = tables["Flow_Table"]
        prefixes = {table: flow_tables[i]["prefixes"] for table, i in row["flow_tables"].items() if i in flow_tables}
        names = tuple(port["name"] for port in held)
        bridges[row["name"]] = BridgeState(row["name"], names, tuple(controllers), row, prefixes)
    interfaces: dict[str, Columns] = {row["name"]: row for row in tables["Interface"].values()}
    version = next((row["ovs_version"] for row in tables["Open_vSwitch"].values()), None)
    confirmed = all(root["cur_cfg"] >= root["next_cfg"] for root in tables["Open_vSwitch"].values())
    datapaths = _datapaths(tables) if has_limits else None
    named = (tables["SSL"].get(row_id) for root in tables["Open_vSwitch"].values() for row_id in root["ssl"])
    ssl: Columns | None = next((row for row in named if row is not None), None)
    types = frozenset(name for root in tables["Open_vSwitch"].values() for name in root["datapath_types"])
    return OvsState(bridges, ports, interfaces, version or "", datapaths, confirmed, ssl, types)


class _Apply(BaseCommand):  # type: ignore[misc]
    """Steps as changes of rows. A row that has gone meanwhile raises RowNotFound and ends the transaction."""

    def __init__(self, api: _Api, asked: Sequence[steps.Step]) -> None:
        super().__init__(api)
        self._asked = asked

    def run_idl(self, txn: IdlTransaction) -> None:
        for step in self._asked:
            _ACTIONS[type(step)](self.api, txn, step)


def _add_bridge(api: _Api, txn: IdlTransaction, step: steps.AddBridge) -> None:
    row = _insert(api, txn, "Bridge", (steps.Setting("name", step.name), *step.settings))
    row.flow_tables = {}
    api._ovs.addvalue("bridges", row)
    _insert_port(api, txn, row, step.name, (steps.Setting("type", "internal"),))


def _set_bridge(api: _Api, txn: IdlTransaction, step: steps.SetBridge) -> None:
    _set(api.lookup("Bridge", step.name), step.settings)


def _delete_port(api: _Api, txn: IdlTransaction, step: steps.DeletePort) -> None:
    port = api.lookup("Port", step.name)
    api.lookup("Bridge", step.bridge).delvalue("ports", port)
    for interface in port.interfaces:
        interface.delete()
    port.delete()


def _add_port(api: _Api, txn: IdlTransaction, step: steps.AddPort) -> None:
    _insert_port(api, txn, api.lookup("Bridge", step.bridge), step.name, step.settings)


def _set_interface(api: _Api, txn: IdlTransaction, step: steps.SetInterface) -> None:
    _set(api.lookup("Interface", step.name), step.settings)


def _add_controller(api: _Api, txn: IdlTransaction, step: steps.AddController) -> None:
    row = _insert(api, txn, "Controller", (steps.Setting("target", step.target), *step.settings, steps.MARK))
    api.lookup("Bridge", step.bridge).addvalue("controller", row)


def _set_controller(api: _Api, txn: IdlTransaction, step: steps.SetController) -> None:
    _set(api.lookup("Controller", UUID(step.id)), step.settings)


def _delete_controller(api: _Api, txn: IdlTransaction, step: steps.DeleteController) -> None:
    controller = api.lookup("Controller", UUID(step.id))
    api.lookup("Bridge", step.bridge).delvalue("controller", controller)
    controller.delete()


def _set_limits(api: _Api, txn: IdlTransaction, step: steps.SetLimits) -> None:
    """Of what may be there already only the limits are set: a zone's timeout policy is somebody else's."""
    root = api._ovs
    datapath = root.datapaths.get(step.datapath)
    zones = {} if datapath is None else datapath.ct_zones
    if datapath is None:
        datapath = txn.insert(api.tables["Datapath"])
        root.setkey("datapaths", step.datapath, datapath)
    datapath.ct_zone_default_limit = step.default
    for zone, limit in step.zones:
        row = zones.get(zone)
        if row is None:
            row = txn.insert(api.tables["CT_Zone"])
            _set(row, (steps.MARK,))
            datapath.setkey("ct_zones", zone, row)
        row.limit = limit
    for zone in step.stale:
        row = zones.get(zone)
        if row is not None and row.timeout_policy:
            row.limit = []
            row.delkey("external_ids", steps.MARK.key)
        elif row is not None:
            datapath.delkey("ct_zones", zone)


def _set_prefixes(api: _Api, txn: IdlTransaction, step: steps.SetPrefixes) -> None:
    """What else a table is told stays."""
    bridge = api.lookup("Bridge", step.bridge)
    rows = dict(bridge.flow_tables)
    for table, fields in step.tables:
        if table not in rows:
            rows[table] = txn.insert(api.tables["Flow_Table"])
        rows[table].prefixes = sorted(fields)
    bridge.flow_tables = rows


def _set_ssl(api: _Api, txn: IdlTransaction, step: steps.SetSsl) -> None:
    root = api._ovs
    if root.ssl:
        _set(root.ssl[0], step.settings)
    else:
        root.ssl = [_insert(api, txn, "SSL", (*step.settings, steps.MARK))]


def _mark_installed(api: _Api, txn: IdlTransaction, step: steps.MarkInstalled) -> None:
    row = next((row for row in api.tables["Interface"].rows.values() if row.name == step.name), None)
    if row is None or row.external_ids.get("iface-id") != step.iface_id:
        return
    row.verify("external_ids")
    if step.at_ms is None:
        row.delkey("external_ids", INSTALLED_KEY)
        row.delkey("external_ids", INSTALLED_AT_KEY)
    else:
        row.setkey("external_ids", INSTALLED_KEY, "true")
        row.setkey("external_ids", INSTALLED_AT_KEY, str(step.at_ms))


def _name_interface(api: _Api, txn: IdlTransaction, step: steps.NameInterface) -> None:
    row = next((row for row in api.tables["Interface"].rows.values() if row.name == step.name), None)
    if row is None or row.external_ids.get("iface-id") != row.external_ids.get(NAMED_KEY):
        return
    row.verify("external_ids")
    for key in ("iface-id", NAMED_KEY):
        if step.iface_id is None:
            row.delkey("external_ids", key)
        else:
            row.setkey("external_ids", key, step.iface_id)


def _confirm(api: _Api, txn: IdlTransaction, step: steps.Confirm) -> None:
    api._ovs.increment("next_cfg")


_ACTIONS: Mapping[type, Callable[[_Api, IdlTransaction, Any], None]] = MappingProxyType(
    {
        steps.AddBridge: _add_bridge,
        steps.SetBridge: _set_bridge,
        steps.DeletePort: _delete_port,
        steps.AddPort: _add_port,
        steps.SetInterface: _set_interface,
        steps.AddController: _add_controller,
        steps.SetController: _set_controller,
        steps.DeleteController: _delete_controller,
        steps.SetLimits: _set_limits,
        steps.SetPrefixes: _set_prefixes,
        steps.SetSsl: _set_ssl,
        steps.MarkInstalled: _mark_installed,
        steps.NameInterface: _name_interface,
        steps.Confirm: _confirm,
    }
)


def _insert_port(api: _Api, txn: IdlTransaction, bridge: Row, name: str, settings: steps.Settings) -> None:
    interface = _insert(api, txn, "Interface", (steps.Setting("name", name), *settings))
    port = _insert(api, txn, "Port", (steps.Setting("name", name), steps.MARK))
    port.interfaces = [interface]
    bridge.addvalue("ports", port)


def _insert(api: _Api, txn: IdlTransaction, table: str, settings: steps.Settings) -> Row:
    columns: dict[str, Any] = {}
    for setting in settings:
        if setting.key is None:
            columns[setting.column] = _datum(setting.value)
        else:
            columns.setdefault(setting.column, {})[setting.key] = setting.value
    row = txn.insert(api.tables[table])
    for column, value in columns.items():
        setattr(row, column, value)
    return row


def _set(row: Row, settings: steps.Settings) -> None:
    """Only what is named is touched: other keys of a map stay whoever wrote them."""
    for setting in settings:
        if setting.key is None:
            setattr(row, setting.column, _datum(setting.value))
        else:
            row.setkey(setting.column, setting.key, setting.value)


def _datum(value: Value) -> Any:
    if value is None:
        return []
    return sorted(value) if isinstance(value, frozenset) else value
