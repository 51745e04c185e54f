"""Tables name other objects as people do; what is for programs has the ids."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import Result

from tests.unit.cli.stub import NETWORK_ID, PORT_ID, Stub, network, port, refusal

ID = "99999999-9999-4999-8999-999999999999"
FLOATING_ID = "55555555-5555-4555-8555-555555555555"
GROUP_ID = "77777777-7777-4777-8777-777777777777"

KNOWN = {
    "networks": network(),
    "ports": port(),
    "floating-ips": {"id": FLOATING_ID, "address": "203.0.113.200", "port_id": PORT_ID},
    "security-groups": {"id": GROUP_ID, "name": "web"},
}

# command, what it lists, its field that holds an id, whose that is, and its name
LISTS = [
    (("port", "list"), "ports", "network_id", "networks", "blue"),
    (("floating-ip-pool", "list"), "floating-ip-pools", "network_id", "networks", "blue"),
    (("floating-ip", "list"), "floating-ips", "port_id", "ports", "vm1"),
    (("port-forwarding", "list", ID), f"floating-ips/{ID}/port-forwardings", "port_id", "ports", "vm1"),
    (("lease", "list"), "leases", "port_id", "ports", "vm1"),
    (("record", "list"), "dns-records", "floating_ip_id", "floating-ips", "203.0.113.200"),
    (("security-group", "rule", "list", GROUP_ID), "security-group-rules", "remote_group_id", "security-groups", "web"),
]

Run = Callable[..., Result]
List = tuple[tuple[str, ...], str, str, str, str]


def say(stub: Stub, path: str, *objects: Any) -> None:
    member = path.rsplit("/", 1)[-1].replace("-", "_")
    stub.on(f"GET /v1/{path}", (200, {member: list(objects)}))


@pytest.mark.parametrize("case", LISTS, ids=lambda case: "-".join(case[0][:2]))
def test_a_table_has_names_and_json_has_ids(stub: Stub, run: Run, case: List) -> None:
    command, listed, field, others, name = case
    identity = KNOWN[others]["id"]
    say(stub, others, KNOWN[others])
    say(stub, listed, {"id": ID, field: identity})
    shown = run(*command).stdout.splitlines()[-1]
    assert name in shown and identity not in shown
    stub.requests.clear()
    assert json.loads(run(*command, "-o", "json").stdout) == [{"id": ID, field: identity}]
    assert [one.path for one in stub.requests] == [f"/v1/{listed}"]


def test_the_rules_of_a_group_that_is_shown_name_others(stub: Stub, run: Run) -> None:
    rule = {"id": ID, "remote_group_id": GROUP_ID}
    stub.on(f"GET /v1/security-groups/{GROUP_ID}", (200, {"security_group": {"id": GROUP_ID, "rules": [rule]}}))
    say(stub, "security-groups", KNOWN["security-groups"])
    assert "web" in run("security-group", "show", GROUP_ID).stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "answer",
    [
        (403, refusal("forbidden", "the role of this token may not list ports")),
        (200, {"ports": []}),
        (200, {"ports": [port(name="")]}),
    ],
)
def test_an_id_stays_where_there_is_no_name_to_see(stub: Stub, run: Run, answer: tuple[int, Any]) -> None:
    stub.on("GET /v1/ports", answer)
    say(stub, "leases", {"address": "10.0.0.5", "port_id": PORT_ID})
    ran = run("lease", "list")
    assert (ran.exit_code, PORT_ID in ran.stdout) == (0, True)


def test_what_nothing_refers_to_is_not_asked_for(stub: Stub, run: Run) -> None:
    say(stub, "floating-ips", {"id": ID, "address": "203.0.113.200", "port_id": None})
    assert "203.0.113.200" in run("floating-ip", "list").stdout
    assert [one.path for one in stub.requests] == ["/v1/floating-ips"]


def test_ports_that_are_made_on_all_networks_name_them(stub: Stub, run: Run) -> None:
    say(stub, "networks", network())
    stub.on("POST /v1/ports", (201, {"ports": [port(network_id=NETWORK_ID)], "revision": 9}))
    assert "blue" in run("port", "create", "vm1").stdout
