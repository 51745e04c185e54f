"""docs/api.md: each curl line, done, and its tables beside what there is."""

from __future__ import annotations

import json
import re
import shlex

from controller.api import auth
from tests.docs_text import Part, commands
from tests.unit.api.world import World

RUNS = (Part("api.md", starting='$curl "$auth"'),)
TEXT = RUNS[0].text
LINES = [line for line in commands(TEXT) if line.startswith(RUNS[0].starting)]
# what an object that is made is called in the lines after it
NAMES = {
    "network": "NETWORK",
    "port": "PORT",
    "floating_ip": "FLOATING-IP",
    "security_group": "GROUP",
    "dns_zone": "ZONE",
}
ELSEWHERE = {"health", "revisions"}  # told of in words


def request(line: str) -> tuple[str, str, object]:
    """Method, path and body of a line."""
    words = shlex.split(line)
    body = json.loads(words[words.index("--json") + 1]) if "--json" in words else None
    method = words[words.index("-X") + 1] if "-X" in words else "GET" if body is None else "POST"
    (url,) = (word for word in words if word.startswith("$api"))
    return method, url.replace("$api", "/v1"), body


def test_each_line_is_taken_and_no_kind_of_object_is_left_out(world: World) -> None:
    for number, name in enumerate(("n1", "n3"), 1):
        world.node(name, number)
    known: dict[str, str] = {}
    kinds = set()
    # the last line deletes the port, and the pages of a list stand before there is one
    for line in sorted(LINES[:-1], key=lambda line: "marker" in line) + LINES[-1:]:
        for word, id_ in known.items():
            line = re.sub(rf"\b{word}\b", id_, line)
        method, path, body = request(line)
        reply = world.call(method, path, body)
        if not path.endswith("/counters"):  # no switch is here to be asked
            assert reply.status in (200, 201), (line, reply.data)
        if "X-Capture-Id" in reply.headers:
            known["CAPTURE"] = reply.headers["X-Capture-Id"]
            continue
        if method == "POST" and "networks" in reply.json:
            known["FREE"] = reply.json["networks"][0]["id"]
        kinds |= set(re.findall(r"[a-z-]{4,}", path))
        for kind, word in NAMES.items():
            if method == "POST" and kind in reply.json and "/projects/" not in path:
                made = reply.json[kind]
                known["OUTSIDE" if made.get("external") else word] = made["id"]
                if kind == "port":  # what moves has to be somewhere first
                    known["KEY"] = str(made["key"])
                    shown = {"serial": 1, "uplinks": {}, "interfaces": [{"iface_id": made["id"], "ofport": 7}]}
                    world.ok("PUT", "/v1/nodes/n1/interfaces", shown, "agent")
    told = {path.split("/")[2] for path in world.ok("GET", "/v1")["paths"] if path.startswith("/v1/")}
    assert kinds >= (told - ELSEWHERE) | {"bindings", "counters", "port-forwardings"}


def test_the_table_of_tokens_has_all_roles() -> None:
    assert set(re.findall(r"^\| `(\w+):TOKEN", TEXT, re.MULTILINE)) == {role.value for role in auth.Role}
