"""Whatever a client sends, the answer is JSON, and never a 5xx."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.api import network_models, node_models, port_models, security_group_models
from tests.unit.api.world import World, network_body

FIELDS = sorted(
    {
        name
        for model in (
            network_models.NetworkCreate,
            port_models.PortCreate,
            node_models.NodePut,
            node_models.InterfacesPut,
            security_group_models.SecurityGroupCreate,
            security_group_models.RuleCreate,
            security_group_models.DefaultRuleCreate,
            security_group_models.ProviderRuleCreate,
        )
        for name in model.model_fields
    }
    | {
        "ports",
        "cidr",
        "gateway",
        "address",
        "subnet_id",
        "mac",
        "rate_kbps",
        "code",
        "value",
        "type",
        "iface_id",
        "ofport",
        "first",
    }
)
TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["vlan", "flat", "physnet1", "10.0.0.0/24", "10.0.0.5", "0.0.0.0/0", "02:00:00:00:00:01", "n1", "\0", "\ud800"]
    ),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)
SOUND = {
    "networks": network_body(),
    "ports": {"network_id": "NETWORK"},
    "security-groups": {"name": "web"},
    "security-group-rules": {"security_group_id": "GROUP", "direction": "ingress"},
    "default-security-group-rules": {"direction": "ingress"},
    "provider-rules": {"cidr": "192.0.2.0/24"},
    "nodes/n1": {"datapath_id": "0000000000000001", "physical_networks": ["physnet1"]},
    "nodes/n1/interfaces": {"serial": 1, "uplinks": {}, "interfaces": []},
}
TARGETS = st.sampled_from(
    [
        ("POST", "networks"),
        ("PATCH", "networks"),
        ("POST", "ports"),
        ("PATCH", "ports"),
        ("POST", "security-groups"),
        ("PATCH", "security-groups"),
        ("POST", "security-group-rules"),
        ("POST", "default-security-group-rules"),
        ("POST", "provider-rules"),
        ("PUT", "nodes/n1"),
        ("PUT", "nodes/n1/interfaces"),
    ]
)


@pytest.fixture(scope="module")
def ids(shared_world: World, shared_network: str) -> dict[str, str]:
    group = shared_world.ok("POST", "/v1/security-groups", {"name": "fuzzed"})["security_group"]["id"]
    return {"networks": shared_network, "ports": shared_world.port(shared_network)["id"], "security-groups": group}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(target=TARGETS, changes=st.dictionaries(st.sampled_from(FIELDS), VALUES, min_size=1, max_size=3))
def test_damaged_bodies(
    shared_world: World, ids: dict[str, str], target: tuple[str, str], changes: dict[str, Any]
) -> None:
    method, kind = target
    body = {} if method == "PATCH" else dict(SOUND[kind])
    if kind == "ports" and method == "POST":
        body["network_id"] = ids["networks"]
    if kind == "security-group-rules":
        body["security_group_id"] = ids["security-groups"]
    path = f"/v1/{kind}/{ids[kind]}" if method == "PATCH" else f"/v1/{kind}"
    reply = shared_world.call(method, path, {**body, **changes}, "agent" if method == "PUT" else "admin")
    assert reply.status < 500, reply.data
    if reply.status >= 400:
        assert reply.error["message"]


@settings(max_examples=200, deadline=None)
@given(target=TARGETS, raw=st.binary(max_size=60) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_body(shared_world: World, target: tuple[str, str], raw: bytes) -> None:
    method, kind = target
    reply = shared_world.call(method, f"/v1/{kind}", raw=raw, token="agent" if method == "PUT" else "admin")
    assert 400 <= reply.status < 500, reply.data


@settings(max_examples=200, deadline=None)
@given(method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE"]), path=st.binary(max_size=40), query=st.text())
def test_any_path(shared_world: World, method: str, path: bytes, query: str) -> None:
    for prefix in ("", "/v1/networks/", "/v1/nodes/", "/v1/revisions/", "/stats/flow/"):
        environ: dict[str, Any] = {"PATH_INFO": prefix + path.decode("latin-1"), "QUERY_STRING": query}
        reply = shared_world.call(method, "/", **environ)
        assert reply.status < 500, reply.data
