"""schemathesis over the OpenAPI document: each operation with what the document allows and with what it does not, asked
by everybody.

`TRUNKLINE_FUZZ_EXAMPLES`: how many random requests of each operation, beside those that cover its schema, which take
minutes. Without it there are only a few random ones.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from copy import deepcopy
from typing import Any

import pytest
import schemathesis
import structlog
from hypothesis import strategies as st
from schemathesis.engine import Status, from_schema
from schemathesis.engine.events import FatalError, NonFatalError, PhaseFinished, ScenarioFinished
from schemathesis.hooks import unregister

from tests.fuzz.rest_world import KINDS, Known, furnish, restock
from tests.unit.api.world import TOKENS, World, conformity

THOROUGH = "TRUNKLINE_FUZZ_EXAMPLES" in os.environ
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
        # what is not found may be something that the body names
        "ensure_resource_availability": {"enabled": False},
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
    r"|must be base64|a line of authorized_keys|must not hold control|must not begin or end with a blank"
    r"|only an agent has one|a member needs one, and no other role has one|must be in the future"
    r"|must be a time such as"
    r"|only tcp and udp have ports|only icmp and icmpv6 have types|is an IPv[46] address|is needed, or from_address"
    r"|project_id: is needed where no network is named|(kind|physical_network): is needed"
)


@schemathesis.check
def takes_what_the_document_allows(ctx: object, response: schemathesis.Response, case: schemathesis.Case) -> None:
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


OFF = {"enabled": False}
ONE_BY_ONE = {"phases": {"stateful": OFF, "coverage": {"enabled": THOROUGH}}}
# as the document links what is made with what can be done with it
ONE_AFTER_ANOTHER = {
    "phases": {
        **{"examples": OFF, "coverage": OFF, "fuzzing": OFF},
        "stateful": {"max-steps": 8, "generation": {"max-examples": 4 * EXAMPLES}},
    }
}


class Laboratory:
    """An API, and what is known of it."""

    def __init__(self, url: str) -> None:
        self.world = World(url)
        self.known = Known()
        furnish(self.world, self.known)
        self.done: set[str] = set()
        """Operations that were done at least once."""
        self._restocked = 0
        self._caller: str | None = None
        self._turns: Counter[tuple[str, bool]] = Counter()

    def explore(self, phases: dict[str, Any], **only: str) -> list[str]:
        """What schemathesis finds."""
        config = schemathesis.Config.from_dict({**CONFIG, **phases})
        schema = schemathesis.openapi.from_dict(deepcopy(conformity().document), config=config)  # it writes into it
        if only:
            schema = schema.include(**only)
        schema.app = self._application

        def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
            self._caller = owner_of(case)
            if only:
                self._place(case)
                sound = case.meta is not None and case.meta.generation.mode.is_positive
                turn = self._turns[case.operation.label, sound]
                self._turns[case.operation.label, sound] += 1
                if turn % 2:
                    self._caller = OTHERS[turn // 2 % len(OTHERS)]

        def after_call(context: object, case: schemathesis.Case, response: schemathesis.Response) -> None:
            self._remember(case, response)

        for hook in (before_call, after_call):  # they are of all schemas, or of none
            schemathesis.hook(hook)
        try:
            return _failures(from_schema(schema).execute())
        finally:
            for hook in (before_call, after_call):
                unregister(hook)

    def _application(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if self._caller is not None:
            environ["HTTP_AUTHORIZATION"] = f"Bearer {TOKENS[self._caller]}"
        return self.world.app(environ, start_response)

    def _place(self, case: schemathesis.Case) -> None:
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

    def _remember(self, case: schemathesis.Case, response: schemathesis.Response) -> None:
        if response.status_code < 300:
            self.done.add(case.operation.label)
        if response.status_code == 201:
            self.known.hear(json.loads(response.content))
        gone = response.status_code == 200 and case.method == "DELETE"
        if case.path.endswith("}") and (gone or response.status_code == 404 and self._caller == owner_of(case)):
            self.known.forget(str(list(case.path_parameters.values())[-1]))


def _failures(events: Iterable[object]) -> list[str]:
    failures: dict[str, str] = {}
    ended: list[tuple[str, str]] = []
    for event in events:
        if isinstance(event, PhaseFinished) and event.status not in (Status.SUCCESS, Status.SKIP):
            ended.append((event.phase.name.value, event.status.value))
        if isinstance(event, NonFatalError):
            failures[str(event.value)] = str(event.value)
        if isinstance(event, FatalError):
            failures[str(event.exception)] = str(event.exception)
        if isinstance(event, ScenarioFinished):
            for id_, checks in event.recorder.checks.items():
                case = event.recorder.cases[id_].value
                for check in checks:
                    if check.failure_info is not None:
                        said = f"{check.name}: {check.failure_info.failure}"
                        failures[f"{case.operation.label} {said}"] = f"{case.as_curl_command()}\n{said}"
    return [*failures.values(), *(f"{phase}: {status}" for phase, status in ended if not failures)]


def owner_of(case: schemathesis.Case) -> str | None:
    """Who may do all of it."""
    return "agent" if case.operation.definition.raw["description"].endswith("For: agent.") else "admin"


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


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("tag", [tag["name"] for tag in conformity().document["tags"]])
def test_nothing_is_found(tag: str, laboratory: Laboratory) -> None:
    found = laboratory.explore(ONE_BY_ONE, tag=tag)
    assert not found, "\n\n".join(found)


@pytest.mark.timeout(3600)
def test_one_thing_leads_to_another(laboratory: Laboratory) -> None:
    found = laboratory.explore(ONE_AFTER_ANOTHER)
    assert not found, "\n\n".join(found)


def test_it_has_got_to_what_there_is(laboratory: Laboratory) -> None:
    beneath = {"port-forwardings": "floating-ips/{id}/port-forwardings/{forwarding}"}
    shown = {f"GET /v1/{beneath.get(kind, kind + '/{id}')}" for kind in KINDS}
    if not laboratory.done:
        pytest.skip("nothing was asked")
    # what has gone with something else is not known to be gone
    assert len(shown & laboratory.done) >= len(shown) * 3 // 4, shown - laboratory.done
