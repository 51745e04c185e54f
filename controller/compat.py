"""Everything that is put in place of something in Ryu 4.34 and eventlet, one function per defect.

Call `install()` before anything else is imported; it may be called again. Nothing but this file changes Ryu or
eventlet. Where more than a guard is needed, what is put in is a class with a file of its own:

    listener.Listener       StreamServer ends when accept fails once, and spoils its TLS context: `one_listener`
    connection.Connection   Datapath reads twice for a message and parses each, its queue stalls all switches, its send
                            waits and then lies, a dead peer lingers: `serve_connections`
    receive.clean_hello     OFPHello.parser loops over an element without length: called by Connection

and two of Ryu's classes are not used at all: WSGIServer, which sends tracebacks to clients (`api/server.py`), and
DPSet, which closes a known switch for any newcomer (`api/stats.py`).

`python -m controller.compat ARGUMENTS` is Ryu's own `ryu-manager ARGUMENTS` on top of this: as it comes, ryu-manager
does not even start with a current eventlet. For Trunkline:

    python -m controller.compat --config-file trunkline-controller.conf controller.app
"""

from __future__ import annotations

import functools
import os
import struct
import sys
import warnings
from collections.abc import Callable
from typing import Any

# (class, classmethod, is the buffer read at an offset, format that ends with the length, least length)
_LENGTHS = (
    ("OFPAction", "parser", True, "!2xH", 8),
    ("OFPInstruction", "parser", True, "!2xH", 8),
    ("OFPBucket", "parser", True, "!H", 16),
    ("OFPPropBase", "parse", False, "!2xH", 4),
)


def install() -> None:
    """All of them but those that need an object of ours; in the order that they depend on each other."""
    quiet_deprecation()
    no_green_dns()
    green_standard_library()
    answers_in_time()
    exclusive_ports()
    already_handled()
    guard_lengths()
    guard_multipart()
    circular_import()
    one_listener()


def quiet_deprecation() -> None:
    """eventlet warns at every import that it is deprecated. It is what Ryu runs on; nothing can be done about it."""
    warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")


def no_green_dns() -> None:
    """eventlet brings a resolver of its own, which takes longest of all to import. Nothing here resolves names."""
    os.environ.setdefault("EVENTLET_NO_GREENDNS", "yes")


def green_standard_library() -> None:
    """ryu-manager patches threads last, after locks were made that then block the whole process. Once, first, all."""
    import eventlet
    import eventlet.patcher

    if not eventlet.patcher.is_monkey_patched("thread"):
        eventlet.monkey_patch()


def answers_in_time() -> None:
    """eventlet has psycopg2 wait for ever when PostgreSQL hangs, and with it all who wait for that one."""
    from psycopg2 import extensions

    from controller.store.waiting import wait

    extensions.set_wait_callback(wait)


def exclusive_ports() -> None:
    """eventlet.listen sets SO_REUSEPORT: a second controller would start, and take half of the connections."""
    import eventlet

    if not isinstance(eventlet.listen, functools.partial):
        eventlet.listen = functools.partial(eventlet.listen, reuse_port=False)


def already_handled() -> None:
    """ryu.app.wsgi, imported by every Ryu application, imports a name that eventlet 0.31 removed."""
    import eventlet.wsgi

    if not hasattr(eventlet.wsgi, "ALREADY_HANDLED"):
        eventlet.wsgi.ALREADY_HANDLED = None


def guard_lengths() -> None:
    """Ryu's parsers step by the length that an element claims, for ever if it is 0 (CVE-2024-34483 to 34489).

    Now a length below the element's least raises, and Ryu drops the message. Only answers to a reader of /stats get
    that far; a hello is rebuilt before (receive.clean_hello).
    """
    from ryu.ofproto import ofproto_v1_4_parser as parsers

    for class_name, method, at_offset, layout, least in _LENGTHS:
        owner = getattr(parsers, class_name)
        if class_name not in _guarded(parsers):
            original = getattr(owner, method).__func__
            setattr(owner, method, classmethod(_length_guard(original, at_offset, layout, least)))
            _guarded(parsers).add(class_name)


def _guarded(parsers: Any) -> set[str]:
    guarded: set[str] = parsers.__dict__.setdefault("_trunkline_guarded", set())
    return guarded


def _length_guard(original: Callable[..., Any], at_offset: bool, layout: str, least: int) -> Callable[..., Any]:
    @functools.wraps(original)
    def parse(cls: type, buf: bytes, offset: int = 0) -> Any:
        (length,) = struct.unpack_from(layout, buf, offset)
        if length < least or length > len(buf) - offset:
            raise ValueError(f"{cls.__name__}: length {length}")
        return original(cls, buf, offset) if at_offset else original(cls, buf)

    return parse


def guard_multipart() -> None:
    """The same in the entries of a multipart reply."""
    from ryu.ofproto import ofproto_v1_4_parser as parsers

    if "multipart" in _guarded(parsers):
        return
    for reply in set(parsers.OFPMultipartReply._STATS_MSG_TYPES.values()):
        body = reply.cls_stats_body_cls
        if f"body {body.__name__}" not in _guarded(parsers):
            body.parser = classmethod(_progress_guard(body.parser.__func__))
            _guarded(parsers).add(f"body {body.__name__}")
    _guarded(parsers).add("multipart")


def _progress_guard(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def parse(cls: type, buf: bytes, offset: int) -> Any:
        entry = original(cls, buf, offset)
        length = entry.length if hasattr(entry, "length") else entry.len
        if not isinstance(length, int) or length <= 0 or length > len(buf) - offset:
            raise ValueError(f"{cls.__name__}: length {length}")
        return entry

    return parse


def circular_import() -> None:
    """ryu.controller.controller and ryu.base.app_manager import each other, which works in one order only."""
    import ryu.base.app_manager  # noqa: F401


def one_listener() -> None:
    """Ryu's StreamServer dies when accept fails once, and takes its TLS arguments apart for the first connection."""
    from ryu.controller import controller

    from controller.listener import Listener

    controller.StreamServer = Listener


def serve_connections(factory: Callable[[Any, Any], None]) -> None:
    """Ryu's receive loop reads a message with two system calls and parses each; its queue of events blocks all switches
    when one application is slow; its `send` waits, and later says nothing. `factory` serves accepted sockets instead.

    Needed before Ryu's OpenFlow controller starts to listen.
    """
    from ryu.controller import controller

    controller.datapath_connection_factory = factory


def main() -> int:
    """ryu-manager."""
    install()
    from ryu.cmd import manager

    manager.main(args=sys.argv[1:], prog="ryu-manager")
    return 0


if __name__ == "__main__":
    sys.exit(main())
