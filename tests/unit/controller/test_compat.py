"""Each mending of Ryu and eventlet: the defect is still there without it, and gone with it. Each in its own process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
IMPORTABLE = """
from controller import compat
compat.quiet_deprecation()
compat.no_green_dns()
compat.already_handled()
"""


def python(code: str, deadline: float = 60.0) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "EVENTLET_NO_GREENDNS"}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True, text=True, timeout=deadline, cwd=ROOT, env=environment,
    )  # fmt: skip


def holds(code: str) -> None:
    done = python(code)
    assert done.returncode == 0, done.stderr


def fails(code: str, error: str) -> None:
    done = python(code)
    assert done.returncode != 0 and error in done.stderr, done.stderr or "the defect is gone: remove its mending"


def test_eventlet_warns_unless_told_not_to() -> None:
    code = "import warnings; warnings.simplefilter('always'); {}import eventlet"
    warned = subprocess.run([sys.executable, "-c", code.format("")], capture_output=True, text=True, cwd=ROOT)
    assert "Eventlet is deprecated" in warned.stderr
    quiet = code.format("from controller import compat; compat.quiet_deprecation(); ")
    silent = subprocess.run([sys.executable, "-c", quiet], capture_output=True, text=True, cwd=ROOT)
    assert "Eventlet is deprecated" not in silent.stderr


def test_eventlet_brings_its_own_resolver_unless_told_not_to() -> None:
    holds("import eventlet, sys; assert 'eventlet.support.greendns' in sys.modules")
    holds(
        "import sys; from controller import compat; compat.no_green_dns(); import eventlet\n"
        "assert 'eventlet.support.greendns' not in sys.modules"
    )


def test_threads_are_patched_before_anything_makes_a_lock() -> None:
    holds(
        "import threading, time\nfrom controller import compat\ncompat.install()\n"
        "import eventlet.patcher\n"
        "assert all(map(eventlet.patcher.is_monkey_patched, ('thread', 'socket', 'time', 'select', 'os')))\n"
        "compat.install()  # again is harmless\n"
    )


SILENT_DATABASE = """
import eventlet
eventlet.monkey_patch()
import socket
import psycopg2
from controller import compat
from controller.store.waiting import Patient, Silent
class Quick(Patient):
    patience = 0.2
listener = socket.create_server(("127.0.0.1", 0))
def connect():
    psycopg2.connect(host="127.0.0.1", port=listener.getsockname()[1], connection_factory=Quick)
"""


def test_psycopg_waits_for_ever_unless_told_how_long() -> None:
    waits = """
with eventlet.Timeout(2, False):
    connect()
    raise SystemExit("somebody has answered")
"""
    holds(SILENT_DATABASE + waits)
    gives_up = """
compat.answers_in_time()
try:
    with eventlet.Timeout(30):
        connect()
except Silent:
    raise SystemExit(0)
raise SystemExit("it has connected")
"""
    holds(SILENT_DATABASE + gives_up)


def test_two_processes_can_share_a_port_unless_it_is_exclusive() -> None:
    code = (
        "import eventlet\n"
        "free = eventlet.listen(('127.0.0.1', 0)); address = free.getsockname(); free.close()\n"
        "{}first = eventlet.listen(address); second = eventlet.listen(address)\n"
    )
    holds(code.format(""))
    fails(code.format("from controller import compat; compat.exclusive_ports(); compat.exclusive_ports()\n"), "in use")


def test_wsgi_cannot_be_imported_without_the_name_that_eventlet_lost() -> None:
    fails("import ryu.app.wsgi", "ALREADY_HANDLED")
    holds(IMPORTABLE + "import ryu.app.wsgi")


def test_ryu_cannot_be_imported_in_the_other_order() -> None:
    fails(IMPORTABLE + "import ryu.controller.controller", "partially initialized")
    holds(IMPORTABLE + "compat.circular_import()\nimport ryu.controller.controller")


ENDLESS = {
    "hello": "p.OFPHello.parser(dp, 5, 0, 16, 1, bytes.fromhex('05000010000000010001000000000010'))",
    "flow stats": "p.OFPMultipartReply.parser(dp, 5, 19, 72, 1, multipart(1, bytes(56)))",
    "table features": "p.OFPTableFeaturesStats.parser(bytes([0, 72]) + bytes(70), 0)",
    "instructions": "p.OFPFlowStats.parser(bytes([0, 64]) + bytes(46) + bytes.fromhex(match_and_instruction), 0)",
    "buckets": "p.OFPGroupDescStats.parser(bytes.fromhex('0018000000000001') + bytes(16), 0)",
    "port properties": "p.OFPPort.parser(bytes(4) + bytes([0, 48]) + bytes(34) + bytes([9, 9]) + bytes(6), 0)",
}
"""Parsed by Ryu, each takes for ever; some of them collect what they find meanwhile."""

PARSING = (
    IMPORTABLE
    + """
import signal, struct
compat.circular_import()
from ryu.ofproto import ofproto_v1_4_parser as p
from ryu.ofproto.ofproto_protocol import ProtocolDesc

class Endless(Exception):
    pass

def stop(number, frame):
    raise Endless

def multipart(kind, body):
    return struct.pack("!BBHIHH4x", 5, 19, 16 + len(body), 1, kind, 0) + body

def says(call):  # after so much time of the processor, however busy it is
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.3)
    try:
        return f"parsed: {eval(call)}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)

dp = ProtocolDesc(version=5)
match_and_instruction = "00010004000000000004000000000000"
signal.signal(signal.SIGVTALRM, stop)
"""
)


def test_threat_22_a_length_of_zero_loops_for_ever_unless_it_is_refused() -> None:
    holds(PARSING + f"said = {{name: says(call) for name, call in {ENDLESS}.items()}}\n"
          "assert set(said.values()) == {'Endless: '}, said")  # fmt: skip
    guarded = {name: call for name, call in ENDLESS.items() if name != "hello"}  # which Ryu's parser never gets
    mended = "compat.guard_lengths()\ncompat.guard_multipart()\n" * 2
    holds(PARSING + mended + f"said = {{name: says(call) for name, call in {guarded}.items()}}\n"
          "assert all(one.startswith('ValueError: ') and 'length' in one for one in said.values()), said")  # fmt: skip


def test_a_sound_message_still_passes_the_guards() -> None:
    holds(
        IMPORTABLE
        + "compat.circular_import(); compat.guard_lengths(); compat.guard_multipart()\n"
        + "import struct\n"
        + "from ryu.ofproto import ofproto_v1_4_parser as p\n"
        + "from ryu.ofproto.ofproto_protocol import ProtocolDesc\n"
        + "from flows.wire import encode_add\n"
        + "from flows.ir import *\nfrom flows.rules import Rule\n"
        + "made = flow(Rule.CLASSIFY_PORT, 100, matching(in_port=3), SetField('reg6', 1), Goto(4), key=7)\n"
        + "mod = encode_add(made)\n"
        + "entry = struct.pack('!HBxIIHHHH4xQQQ', len(mod), 0, 0, 0, 100, 0, 0, 0, made.cookie, 0, 0) + mod[48:]\n"
        + "reply = struct.pack('!BBHIHH4x', 5, 19, 16 + len(entry), 1, 1, 0) + entry\n"
        + "stats = p.OFPMultipartReply.parser(ProtocolDesc(version=5), 5, 19, len(reply), 1, reply)\n"
        + "assert stats.body[0].cookie == made.cookie and len(stats.body[0].instructions) == 2, stats\n"
    )


def test_ryus_listener_is_replaced() -> None:
    holds(
        "from controller import compat; compat.install()\n"
        "from ryu.controller import controller\n"
        "from controller.listener import Listener\n"
        "import inspect\n"
        "assert controller.StreamServer is Listener\n"
        "source = inspect.getsource(controller.OpenFlowController.server_loop)\n"
        "assert 'StreamServer(' in source and 'datapath_connection_factory)' in source\n"
        "compat.serve_connections(print)\n"
        "assert controller.datapath_connection_factory is print\n"
    )


def test_ryus_listener_ends_when_accept_fails_and_ours_does_not() -> None:
    code = (
        "from controller import compat; compat.install()\n"
        "import eventlet, errno\n"
        "from ryu.lib.hub import StreamServer\nfrom controller.listener import Listener\n"
        "got = []\n"
        "class Broken:\n"
        "    def __init__(self, server): self.server, self.failures = server, 1\n"
        "    def accept(self):\n"
        "        if self.failures: self.failures -= 1; raise OSError(errno.EMFILE, 'too many files')\n"
        "        return self.server.accept()\n"
        "made = {}(('127.0.0.1', 0), lambda socket, address: got.append(address))\n"
        "made.server = Broken(made.server)\n"
        "thread = eventlet.spawn(made.serve_forever)\n"
        "eventlet.sleep(0)\n"
        "eventlet.connect(made.server.server.getsockname())\n"
        "with eventlet.Timeout(30, False):\n"
        "    while not got and not thread.dead: eventlet.sleep(0.01)\n"
        "assert got\n"
    )
    fails(code.format("StreamServer"), "OSError")
    holds(code.format("Listener"))


def test_what_connection_replaces_is_still_what_ryu_calls() -> None:
    holds(
        "from controller import compat; compat.install()\n"
        "import inspect\n"
        "from ryu.controller.controller import Datapath\nfrom controller.connection import Connection\n"
        "replaced = {'_recv_loop', '_send_loop', '_echo_request_loop', 'send', 'close', 'set_xid'}\n"
        "assert all(name in Datapath.__dict__ and name in Connection.__dict__ for name in replaced)\n"
        "serve = inspect.getsource(Datapath.serve)\n"
        "assert all(f'self.{name}' in serve for name in ('_recv_loop()', '_send_loop', '_echo_request_loop'))\n"
    )
