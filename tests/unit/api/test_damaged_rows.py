"""Any field of any row may hold anything: no answer is a failure of ours, and other objects are shown and changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from controller.api.token_keeper import TokenKeeper
from tests.unit.api.world import World

LISTS = (
    *("/v1/networks", "/v1/ports", "/v1/nodes", "/v1/audit", "/v1/quarantine", "/v1/tokens", "/v1/leases"),
    *("/v1/floating-ips", "/v1/floating-ip-pools", "/v1/security-groups", "/v1/security-group-rules"),
    *("/v1/default-security-group-rules", "/v1/dns-zones", "/v1/dns-records", "/v1/quotas/blue", "/metrics"),
)
NONSENSE = ("[1]", 2**62)
TABLES = (
    *("journal", "networks", "nodes", "node_uplinks", "ports", "subnets", "addresses", "floating_ip_pools"),
    *("floating_ip_pool_ranges", "floating_ips", "security_groups", "security_group_rules", "default_rules"),
    *("project_quotas", "dns_zones", "dns_records", "api_tokens", "address_history"),
)


@pytest.fixture
def furnished(world: World) -> Iterator[World]:
    world.pool("203.0.113.50-203.0.113.60")
    net = world.network(project_id="blue", subnets=[{"cidr": "10.1.0.0/24"}])
    world.ok("POST", "/v1/floating-ips", {"pool": "public", "project_id": "blue"})
    world.node("n1")
    world.port(net["id"], name="w", device_id="vm", dhcp_options=[{"code": 66, "value": "x"}])
    world.ok("PATCH", "/v1/quotas/blue", {"floating_ips": 50})
    zone = world.ok("POST", "/v1/dns-zones", {"name": "lab.example", "scope": "public", "project_id": "blue"})
    record = {"zone_id": zone["dns_zone"]["id"], "name": "www", "type": "A", "data": "192.0.2.9"}
    world.ok("POST", "/v1/dns-records", record)
    world.ok("POST", "/v1/tokens", {"name": "token", "role": "reader"})
    other = world.network(project_id="green", subnets=[{"cidr": "10.2.0.0/24"}])
    world.other = other["id"]  # type: ignore[attr-defined]
    yield world


@pytest.mark.parametrize("table", TABLES)
def test_threat_29_one_damaged_row_fails_nothing_else(furnished: World, table: str) -> None:
    world, failed = furnished, []
    path = world.store._database.url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA ignore_check_constraints = ON")
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        row = database.execute(f"SELECT rowid, * FROM {table} ORDER BY rowid LIMIT 1").fetchone()
        assert row is not None, "there is nothing to damage"
        for column, sound in zip(columns, row[1:], strict=True):
            for value in NONSENSE:
                if not _set(database, table, column, value, row[0]):
                    continue
                failed += [f"{column} = {value!r}: {what}" for what in _failures(world, writes=value == NONSENSE[0])]
                assert _set(database, table, column, sound, row[0])
    assert not failed


def _set(database: sqlite3.Connection, table: str, column: str, value: Any, row: int) -> bool:
    try:
        database.execute(f'UPDATE {table} SET "{column}" = ? WHERE rowid = ?', (value, row))
    except sqlite3.Error:  # some must be unique, or be numbers
        return False
    return True


def _failures(world: World, *, writes: bool) -> Iterator[str]:
    for path in LISTS:
        try:
            reply = world.call("GET", path)
        except AssertionError as error:
            # what is shown of the damaged object itself need not be what the OpenAPI document says
            assert ": 200: " in str(error)
            continue
        if reply.status != 200:
            yield f"GET {path}: {reply.status} {reply.data[:200]!r}"
    if writes:
        reply = world.call("POST", "/v1/ports", {"network_id": world.other})  # type: ignore[attr-defined]
        if reply.status == 201:
            world.ok("DELETE", f"/v1/ports/{reply.json['port']['id']}")
        else:
            yield f"POST /v1/ports: {reply.status} {reply.data[:200]!r}"


@pytest.mark.parametrize(
    "damage",
    ["scopes = '5'", "scopes = '\"\"'", "scopes = x'ff'", "role = 'king'", "digest = 5", "expires_at = 'x'"]
    + ["revision = 'x'", f"revision = {2**62}", "name = x'ff'", "id = x'ff'"],
)
def test_threat_29_one_damaged_token_is_good_for_nothing_and_others_are(world: World, damage: str) -> None:
    bad, good = (_token(world, name) for name in ("bad", "good"))
    path = world.store._database.url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(f"UPDATE api_tokens SET {damage} WHERE name = 'bad'")  # noqa: S608
    keeper = TokenKeeper(world.store, ())  # as one that starts
    assert keeper.identify(f"Bearer {good['secret']}") is not None
    assert not damage.startswith(("scopes", "role", "expires_at")) or keeper.identify(f"Bearer {bad['secret']}") is None
    world.ok("DELETE", f"/v1/tokens/{good['id']}")
    keeper.look()
    assert keeper.identify(f"Bearer {good['secret']}") is None
    late = _token(world, "late")
    keeper.look()
    assert keeper.identify(f"Bearer {late['secret']}") is not None


def _token(world: World, name: str) -> dict[str, Any]:
    made: dict[str, Any] = world.ok("POST", "/v1/tokens", {"name": name, "role": "reader", "scopes": ["ports:read"]})
    return {**made["token"]}
