from __future__ import annotations

import io
import json
import logging

import structlog

from controller import logs
from controller.store.specs import Unavailable
from tests.unit.api.world import World


def test_json_is_one_object_per_line() -> None:
    stream = io.StringIO()
    logs.configure("json", "INFO", stream)
    structlog.get_logger("x").info("port_bound", port="p\nq", ofport=100)
    structlog.get_logger("x").debug("not_shown")
    logging.getLogger("ryu.something").warning("old %s\nstyle", "ryu")
    try:
        raise ValueError("why")
    except ValueError:
        structlog.get_logger("x").exception("broken")
    first, second, third = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["event"], first["port"], first["ofport"], first["level"]) == ("port_bound", "p\\x0aq", 100, "info")
    assert (second["event"], second["logger"]) == ("old ryu\\x0astyle", "ryu.something")
    assert "ValueError: why" in third["exception"]


def test_objects_have_their_names_beside_their_ids() -> None:
    stream = io.StringIO()
    names = {("port", "4f1c"): "web1", ("network", "9a"): "green"}
    logs.configure("json", "INFO", stream, lambda kind, id_: names.get((kind, id_), ""))
    structlog.get_logger("x").info("port_muted", port="4f1c", network="9a", floating_ip="nobody knows it")
    logged = json.loads(stream.getvalue())
    assert (logged["port"], logged["port_name"], logged["network_name"]) == ("4f1c", "web1", "green")
    assert "floating_ip_name" not in logged


def test_what_is_logged_within_a_request_has_its_id(world: World) -> None:
    stream = io.StringIO()
    logs.configure("json", "INFO", stream)

    def away() -> int:
        structlog.get_logger("controller.store").error("database_away", reason="as the store says it")
        raise Unavailable("database_away", "it does not answer")

    world.store.list_networks = lambda **_: away()  # type: ignore[method-assign,assignment,misc]
    reply = world.call("GET", "/v1/networks")
    structlog.get_logger("x").info("afterwards")
    said, _, last = (json.loads(line) for line in stream.getvalue().splitlines()[-3:])
    assert reply.status == 503
    assert said["event"] == "database_away" and said["request_id"] == reply.headers["X-Request-Id"]
    assert last["event"] == "afterwards" and "request_id" not in last


def test_console_cannot_be_forged() -> None:
    stream = io.StringIO()
    logs.configure("console", "DEBUG", stream)
    structlog.get_logger("x").info("api_request", path="/x\nforged\u2028line\x1b[2J")
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b[2J" not in stream.getvalue()


def test_a_console_traceback_does_not_print_what_the_functions_held() -> None:
    """Printing a snapshot of a thousand ports took eight seconds, in which no switch and no client was served."""
    stream = io.StringIO()
    logs.configure("console", "INFO", stream)

    def fails() -> None:
        held = {"secret": "local value"}
        raise ValueError(str(len(held)))

    try:
        fails()
    except ValueError:
        structlog.get_logger("x").exception("broken")
    text = stream.getvalue()
    assert "ValueError: 1" in text and "in fails" in text
    assert "local value" not in text.replace('held = {"secret": "local value"}', "")
    assert len(text.splitlines()) < 15
