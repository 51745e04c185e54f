"""schemathesis over the OpenAPI document: each operation with what the document allows and with what it does not, asked
by everybody.

`TRUNKLINE_FUZZ_EXAMPLES`: how many random requests of each operation, beside those that cover its schema.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
from collections.abc import Iterator
from typing import Any
from zlib import crc32

import pytest
import schemathesis
import structlog
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from schemathesis.engine import Status, from_schema
from schemathesis.engine.events import PhaseFinished, ScenarioFinished
from schemathesis.engine.run import PhaseName

from tests.fuzz.rest_world import KINDS, Known, furnish, restock
from tests.unit.api.world import TOKENS, World, conformity

EXAMPLES = int(os.environ.get("TRUNKLINE_FUZZ_EXAMPLES", "3"))
REFUSED = ["400", "401", "403", "404", "405", "409", "411", "413", "429"]
CONFIG = {
    "generation": {
        "max-examples": EXAMPLES,
        "deterministic": True,
        "database": "none",
        "with-security-parameters": False,
    },
    "suppress-health-check": ["all"],
    "checks": {
        "negative_data_rejection": {"expected-statuses": REFUSED},
        # instead of these there are `takes_what_the_document_allows` and requests without a token
        "positive_data_acceptance": {"enabled": False},
        "ignored_auth": {"enabled": False},
    },
}
OTHERS = (None, "reader", "agent-n1", "member-b", "member-a")

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=255)
BYTE = st.integers(0, 255)
"""Formats that JSON Schema does not know: see `openapi.ABOUT`."""
FORMATS: dict[str, st.SearchStrategy[str]] = {
    "printable": TEXT.filter(str.isprintable),
    "ipv4-cidr": st.builds("10.{}.{}.0/24".format, BYTE, BYTE),
    "ipv6-cidr": st.builds("2001:db8:{:x}:{:x}::/64".format, st.integers(0, 0xFFFF), st.integers(0, 0xFFFF)),
    "ipv4-range": st.builds("10.200.{0}.{1}-10.200.{0}.255".format, BYTE, BYTE),
    "port-range": st.integers(1, 65535).map(str) | st.builds("{}-{}".format, st.integers(1, 99), st.integers(100, 999)),
    "base64": st.binary(max_size=30).map(lambda data: base64.b64encode(data).decode()),
    "ssh-public-key": st.just("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDmv7nzVzvdf9sxNXnzFHgXlQtsnrbfMAPG4qTtBHRsj alice"),
    "moment": st.datetimes().map(lambda moment: moment.isoformat()),
}
for _name, _strategy in FORMATS.items():
    schemathesis.openapi.format(_name, _strategy)

# What JSON Schema cannot say, or not so that anybody could read it: what fields have to do with one another, and which
# addresses are those of hosts. Codes of the store's own say that what is there is against it.
OF_FORM = (
    *("bad_json", "bad_query", "bad_path", "unknown_field", "missing_field"),
    *("duplicate_field", "immutable", "invalid_field"),
)
BEYOND_SCHEMA = re.compile(
    r"is not the address of a host|is not the begin of a range|has host bits set|is behind|are not of one family"
    r"|Input should be a valid integer$|must be a number (of \d+ bits|from 0 to 255)|must be an IPv6 range"
    r"|: is (of )?IPv[46]|cannot be given together with|give its port_id"
    r"|holds the same option code twice|dhcp_options\.\d+\.(code|type|value): |may have \d+ bytes|must not hold NUL"
    r"|a port has single addresses|has neither a MAC nor names"
    r"|project_id: is needed where no network is named|(kind|physical_network): is needed"
)


@schemathesis.check
def takes_what_the_document_allows(_context: object, response: schemathesis.Response, case: schemathesis.Case) -> None:
    """As `positive_data_acceptance`, which takes no word for it that what is there is against it."""
    if response.status_code != 400 or case.meta is None or not case.meta.generation.mode.is_positive:
        return
    error = json.loads(response.content)["error"]
    problems = error["details"].get("errors", [error])
    assert error["code"] not in OF_FORM or all(
        BEYOND_SCHEMA.search(f"{one['field']}: {one['message']}") for one in problems
    ), f"refused, and the document allows it: {problems}"


@schemathesis.serializer("application/dns-message")
def _dns_message(_context: object, value: object) -> dict[str, object]:
    return {"data": value if isinstance(value, bytes) else str(value).encode()}


# One thing after another, as the document links what is made with what can be done with it.
OFF = {"enabled": False}
STATEFUL: dict[str, Any] = {
    **CONFIG,
    "headers": {"Authorization": f"Bearer {TOKENS['admin']}"},
    "phases": {
        **{"examples": OFF, "coverage": OFF, "fuzzing": OFF},
        "stateful": {"max-steps": 8, "generation": {"max-examples": 4 * EXAMPLES}},
    },
}

API = schemathesis.openapi.from_dict(conformity().document, config=schemathesis.Config.from_dict(CONFIG))


class Laboratory:
    """An API, what it says of itself, and what is known of it."""

    def __init__(self, url: str) -> None:
        self.world = World(url)
        self.known = Known()
        furnish(self.world, self.known)
        self.asked: set[str] = set()
        self.done: set[str] = set()
        """Operations, and those that were done at least once."""
        self._restocked = 0

    def place(self, case: schemathesis.Case) -> None:
        """Random ids lead nowhere: what the document allows is about what there is."""
        if self.known.lacks:
            restock(self.world, self.known, self._restocked)
            self._restocked += 1
        sound = {part.value for part in case.meta.components if not case.meta.is_negative_at(part)} if case.meta else ()
        salt = repr([case.path_parameters, case.query, case.body])[:500]
        if "path" in sound:
            self.known.place(case.operation.path, case.path_parameters, salt, last=case.method == "DELETE")
        if "query" in sound:
            self.known.put_into(case.query, salt)
        if "body" in sound:
            self.known.put_into(case.body, salt)

    def ask(self, case: schemathesis.Case, caller: str | None, *, owner: bool) -> None:
        """All checks, of the answer to this caller. Who may not is refused, however sound it is."""
        headers = {} if caller is None else {"Authorization": f"Bearer {TOKENS[caller]}"}
        own = [takes_what_the_document_allows] if owner else []
        response = case.call_and_validate(app=self.world.app, headers=headers, additional_checks=own)
        self.asked.add(case.operation.label)
        if response.status_code < 300:
            self.done.add(case.operation.label)
        if response.status_code == 201:
            self.known.hear(json.loads(response.content))
        gone = response.status_code == 404 or (response.status_code == 200 and case.method == "DELETE")
        if owner and gone and case.path.endswith("}"):
            self.known.forget(str(list(case.path_parameters.values())[-1]))


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        built = Laboratory(f"sqlite:///{tmp_path_factory.mktemp('rest')}/trunkline.db")
        yield built
        built.world.close()
    finally:
        structlog.configure(**before)


@API.parametrize()
@settings(deadline=None, suppress_health_check=list(HealthCheck))
def test_nothing_is_found(case: schemathesis.Case, laboratory: Laboratory) -> None:
    owner = "agent" if case.operation.definition.raw["description"].endswith("For: agent.") else "admin"
    laboratory.place(case)
    laboratory.ask(case, OTHERS[crc32(case.as_curl_command().encode()) % len(OTHERS)], owner=False)
    laboratory.ask(case, owner, owner=True)


def test_it_has_got_to_what_there_is(laboratory: Laboratory) -> None:
    if len(laboratory.asked) < len(list(API.get_all_operations())):
        pytest.skip("only some of the operations were asked")
    beneath = {"port-forwardings": "floating-ips/{id}/port-forwardings/{forwarding}"}
    shown = {f"GET /v1/{beneath.get(kind, kind + '/{id}')}" for kind in KINDS}
    assert shown - laboratory.done == set()


def test_one_thing_leads_to_another(laboratory: Laboratory) -> None:
    config = schemathesis.Config.from_dict(STATEFUL)
    schema = schemathesis.openapi.from_wsgi("/v1/openapi.json", laboratory.world.app, config=config)
    failures: list[str] = []
    statuses: list[int] = []
    ended = {}
    for event in from_schema(schema).execute():
        if isinstance(event, PhaseFinished):
            ended[event.phase.name] = event.status
        if isinstance(event, ScenarioFinished):
            recorded = event.recorder
            statuses += [one.response.status_code for one in recorded.interactions.values() if one.response]
            for id_, checks in recorded.checks.items():
                asked = recorded.cases[id_].value.as_curl_command()
                failures += [f"{asked}\n{one.failure_info.failure}" for one in checks if one.failure_info is not None]
    assert not failures, "\n\n".join(failures)
    assert ended[PhaseName.STATEFUL_TESTING] is Status.SUCCESS, ended
    assert {200, 201} <= set(statuses), "nothing was made, or nothing came of it"
