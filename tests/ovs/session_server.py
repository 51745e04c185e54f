"""A controller of sessions alone: real connections, flows made up by the test instead of compiled.

Run as `python -m tests.ovs.session_server PORT [DIRECTORY]`, with TLS by the files in DIRECTORY, and commands as JSON
lines on standard input; each is answered by a line of JSON: {"flows": [[key, good], ...]} sets the program, with
"meters": [[id, rate, burst, key], ...] too, {"state": true} only asks, {"forget": [[zone, end or null, address], ...]}
has conntrack forget, {"send": [table, network, frame]} resubmits a frame. The answer is about n1, or the node in
"node". It ends with its input.
"""

from __future__ import annotations

from controller import compat

compat.install()

# ruff: noqa: E402
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import eventlet
from ryu import cfg
from ryu.base import app_manager
from ryu.controller import ofp_event
from ryu.controller.handler import DEAD_DISPATCHER, MAIN_DISPATCHER, set_ev_cls

from controller import logs, session_registry
from controller.connection_factory import ConnectionFactory
from controller.forgetting import End, Forget, Owed
from controller.packet_in import outputs
from controller.pki.directory import CA, CERTIFICATE, CRL, KEY
from controller.session_counters import Counters
from controller.session_mailbox import Work
from controller.session_registry import SessionRegistry
from controller.tls_context import ServerTls
from controller.tls_settings import TlsSettings
from flows.compile import Program, Segment
from flows.diff import diff
from flows.digest import digest
from flows.ir import Flow, Meter, MeterConfig, Output, SetField, flow, matching
from flows.pipeline import Priority, Table
from flows.rules import Rule
from flows.segments import Kind

DATAPATH_ID = 0x77
NODES = {DATAPATH_ID: "n1", 0x78: "n2"}


def made_up(key: int, good: bool, meter: tuple[Meter, ...]) -> Flow:
    """A flow of about the size of ours. The bad one sets an IPv4 field without matching IPv4: OpenFlow forbids it."""
    fields: dict[str, int] = {"metadata": 7, "eth_dst": key}
    if good:
        fields |= {"eth_type": 0x0800, "ip_src": 0x0A000000 + key}
    actions = *meter, SetField("ip_dst", key), SetField("reg7", key), SetField("eth_src", 2), Output(1)
    return flow(Rule.L2_LOCAL, Priority.LOCAL, matching(**fields), *actions, key=key)


class Programs:
    def __init__(self) -> None:
        self.program = self._program((), ())
        self.revision = 1
        self.confirmed_revision = 0
        self.owed = Owed()
        self.wanted_now: list[tuple[int, bool]] = []

    @staticmethod
    def _program(flows: tuple[Flow, ...], meters: tuple[MeterConfig, ...]) -> Program:
        value = digest(flows, meters)
        return Program({(Kind.STATIC, ""): Segment(flows, value, meters)}, value, len(flows))

    def change(self, wanted: list[tuple[int, bool]], metered: list[tuple[int, int, int, int]]) -> Work:
        """`metered`: meters as id, rate, burst and the key of the flow that uses it."""
        before, self.wanted_now = self.program, wanted
        used = {key: (Meter(id_),) for id_, _, _, key in metered}
        self.program = self._program(
            tuple(made_up(key, good, used.get(key, ())) for key, good in wanted),
            tuple(MeterConfig(id_, rate, burst) for id_, rate, burst, _ in metered),
        )
        self.revision += 1
        after = self.program
        delta = diff(
            before.flows(),
            after.flows(),
            after.digest,
            meters_installed=before.meters(),
            meters_desired=after.meters(),
        )
        return Work(delta, self.revision)

    def node_of(self, datapath_id: int) -> str | None:
        return NODES.get(datapath_id)

    def wanted(self, node: str) -> tuple[Program, int]:
        return self.program, self.revision

    def confirmed(self, node: str, revision: int, unclaimed: int | None = None, *, whole: bool = False) -> None:
        self.confirmed_revision = revision

    def to_forget(self, node: str, revision: int) -> list[Forget]:
        return self.owed.due(node, revision)

    def forgotten(self, node: str, what: Sequence[Forget], revision: int) -> None:
        self.owed.done(node, what, revision)


class Echo:
    """Answers every packet_in with its frame."""

    def handle(self, cookie: int, in_port: int, frame: bytes) -> outputs.Outputs:
        return (outputs.Output(in_port, frame),)


def _tls() -> ServerTls | None:
    if len(sys.argv) < 3:
        return None
    place = Path(sys.argv[2])
    return ServerTls(TlsSettings(place / CERTIFICATE, place / KEY, place / CA, place / CRL))


class SessionServer(app_manager.RyuApp):  # type: ignore[misc]
    OFP_VERSIONS = [5]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.counters = Counters()
        self.programs = Programs()
        self.registry = SessionRegistry(self.programs, lambda _node: Echo(), self.counters)  # type: ignore[arg-type, return-value]
        compat.serve_connections(ConnectionFactory({}, print, self.counters.events, _tls()))

    def start(self) -> None:
        super().start()
        eventlet.spawn(self._commands)

    @set_ev_cls(ofp_event.EventOFPStateChange, [MAIN_DISPATCHER, DEAD_DISPATCHER])  # type: ignore[untyped-decorator]
    def switch_changed(self, event: Any) -> None:
        if event.state == MAIN_DISPATCHER:
            self.registry.connected(event.datapath)
        else:
            self.registry.disconnected(event.datapath)

    def _commands(self) -> None:
        stream = eventlet.greenio.GreenPipe(sys.stdin.fileno(), "rb")
        while line := stream.readline():
            command = json.loads(line)
            seconds = 0.0
            if "forget" in command:
                what = [Forget(zone, End(end), address) for zone, end, address in command["forget"]]
                self.programs.owed.add("n1", what, self.programs.revision + 1)
                command["flows"] = command.get("flows", self.programs.wanted_now)
            if "send" in command:
                table, network, frame = command["send"]
                self.registry.send("n1", outputs.Resubmit(Table(table), network, bytes.fromhex(frame)))
            if "flows" in command:
                work = self.programs.change(command["flows"], command.get("meters", []))
                started = time.monotonic()
                self.registry.deliver("n1", DATAPATH_ID, work)
                while self.registry.of_node("n1") and self.programs.confirmed_revision < work.revision:
                    eventlet.sleep(0.001)
                seconds = time.monotonic() - started
            name = command.get("node", "n1")
            node = self.counters.node(name)
            answer = {
                **self.registry.describe(name),
                "confirmed": self.programs.confirmed_revision,
                "flow_mods": node.flow_mods,
                "meter_mods": node.meter_mods,
                "resyncs": node.resyncs,
                "connections": node.connections,
                "parked": self.registry.parked(),
                "events": self.counters.events,
                "seconds": seconds,
            }
            print(json.dumps(answer), flush=True)
        sys.exit(0)


if __name__ == "__main__":
    logs.configure()
    cfg.CONF([], project="session_server")
    cfg.CONF.set_override("ofp_listen_host", "127.0.0.1")
    cfg.CONF.set_override("ofp_tcp_listen_port", int(sys.argv[1]))
    cfg.CONF.set_override("echo_request_interval", 2.0)
    cfg.CONF.set_override("maximum_unreplied_echo_requests", 3)
    session_registry.PROBE = 3.0  # type: ignore[misc]  # a switch on a busy machine lives, too
    app_manager.AppManager.run_apps(["tests.ovs.session_server"])
