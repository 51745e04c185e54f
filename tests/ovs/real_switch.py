"""A private Open vSwitch whose interfaces exist only inside it (datapath_type=dummy): frames go in by a command and
come out into files. It forwards with the userspace datapath and its conntrack, and needs neither root nor namespaces.
"""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from etc.lab.openvswitch import OPENFLOW, SCHEMA, START_DEADLINE
from etc.lab.processes import Process, run, start, stop_all
from flows.diff import diff
from flows.ir import Flow, MeterConfig, meters_used
from flows.packet import Packet
from flows.wire import encode_add, encode_delete, encode_meter
from tests.ovs import management
from tests.ovs.frames import decode, encode

_FRAME_DEADLINE = 5.0
_PCAP_HEADER = 24
_PCAP_RECORD = 16
# a lookup in the output of ofproto/trace; a cookie of 0 is not shown
_STEP = re.compile(r"^ *(?P<table>\d+)\. (?:No match|.*?(?:, cookie (?P<cookie>0x[0-9a-f]+))?$)", re.MULTILINE)


class RealSwitch:
    """One bridge, br-int, with `ofports` and `flows`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.process: Process | None = None
        self._control: socket.socket | None = None
        self._seen: dict[int, int] = {}

    @staticmethod
    @contextmanager
    def running(ofports: Iterable[int], flows: Iterable[Flow]) -> Iterator[RealSwitch]:
        with tempfile.TemporaryDirectory(prefix="ovs-") as name:
            switch = RealSwitch(Path(name))
            with switch._daemons():
                switch._ports(ofports)
                switch.load(flows)
                yield switch

    @contextmanager
    def _daemons(self) -> Iterator[None]:
        files = self.directory
        database = f"unix:{files}/db.sock"
        env = {f"OVS_{kind}DIR": str(files) for kind in ("RUN", "LOG", "DB", "SYSCONF")}
        run(["ovsdb-tool", "create", f"{files}/conf.db", str(SCHEMA)])
        processes = []
        try:
            quiet = ["-vconsole:off", "-vsyslog:off"]
            server = start(
                "ovsdb-server",
                [
                    "ovsdb-server",
                    f"{files}/conf.db",
                    f"--remote=p{database}",
                    f"--unixctl={files}/ovsdb.ctl",
                    f"--log-file={files}/ovsdb.log",
                    *quiet,
                ],
                files / "ovsdb.out",
                env=env,
            )
            processes.append(server)
            server.wait_for((files / "db.sock").is_socket, START_DEADLINE, "no database socket")
            self.vsctl("--no-wait", "init")
            switch = start(
                "ovs-vswitchd",
                [
                    "ovs-vswitchd",
                    database,
                    f"--unixctl={files}/vswitchd.ctl",
                    "--enable-dummy=override",
                    "--disable-system",
                    f"--log-file={files}/vswitchd.log",
                    *quiet,
                ],
                files / "vswitchd.out",
                env=env,
            )
            processes.append(switch)
            self.process = switch
            switch.wait_for(self._connected, START_DEADLINE, "no control socket")
            yield
        finally:
            if self._control is not None:
                self._control.close()
            stop_all(reversed(processes))

    def _connected(self) -> bool:
        control = socket.socket(socket.AF_UNIX)
        control.settimeout(START_DEADLINE)
        try:
            control.connect(str(self.directory / "vswitchd.ctl"))
        except OSError:
            control.close()
            return False
        self._control = control
        return True

    def vsctl(self, *args: str) -> str:
        return run(["ovs-vsctl", f"--db=unix:{self.directory}/db.sock", "--timeout=20", *args], env=dict(os.environ))

    def _ports(self, ofports: Iterable[int]) -> None:
        made = ["add-br", "br-int", "--", "set", "Bridge", "br-int", "datapath_type=dummy", "fail_mode=secure"]
        made += [f"protocols={OPENFLOW}"]
        for ofport in ofports:
            capture = self.directory / f"p{ofport}.pcap"
            made += ["--", "add-port", "br-int", f"p{ofport}", "--", "set", "Interface", f"p{ofport}", "type=dummy"]
            made += [f"ofport_request={ofport}", f"options:tx_pcap={capture}"]
            self._seen[ofport] = _PCAP_HEADER
        self.vsctl(*made)

    def replace(self, before: Iterable[Flow], after: Iterable[Flow]) -> None:
        """Other flows; what conntrack knows stays."""
        delta = diff(before, after, 0)
        messages = [*map(encode_delete, delta.deletes), *map(encode_add, delta.upserts)]
        management.send(self.directory / "br-int.mgmt", messages)
        self.forget_cached()

    def load(self, flows: Iterable[Flow]) -> None:
        """Raises ValueError with the flow that the switch refuses."""
        sent = list(flows)
        # wide ones: the simulator knows no time
        used = {meter for flow in sent for meter in meters_used(flow)}
        meters = [MeterConfig(id_, 1_000_000, 1_000_000, packets=True) for id_ in sorted(used)]
        management.load(self.directory / "br-int.mgmt", sent, meters)

    def limit(self, meter: MeterConfig) -> None:
        """A meter as it is meant; all are wide at first."""
        management.send(self.directory / "br-int.mgmt", [encode_meter(meter, modify=True)])

    def exceeded(self, meter: int) -> int:
        """Packets that a meter has dropped."""
        line = ["ovs-ofctl", "-O", "OpenFlow14", "meter-stats", f"unix:{self.directory}/br-int.mgmt", f"meter={meter}"]
        counted = re.search(r"^0: packet_count:(\d+)", run(line), re.MULTILINE)
        assert counted
        return int(counted[1])

    def command(self, method: str, *params: str) -> str:
        """What ovs-appctl(8) does: a JSON-RPC request on the control socket."""
        assert self._control is not None
        self._control.sendall(json.dumps({"id": 0, "method": method, "params": params}).encode())
        text = ""
        while True:
            text += self._control.recv(1 << 16).decode()
            try:
                answer = json.loads(text)
            except json.JSONDecodeError:
                continue
            if answer["error"]:
                raise RuntimeError(f"{method} {params}: {answer['error']}")
            return str(answer["result"])

    def forget_cached(self) -> None:
        """Decide anew for each kind of packet: after a learn, the cache of the datapath is old for half a second."""
        self.command("revalidator/purge")

    def receive(self, made: Packet, in_port: int, expected: int = 0) -> list[tuple[int, Packet]]:
        """What comes out of which port. Waits for `expected` frames, or until it is clear that they will not come."""
        return self.receive_many([made], in_port, expected)

    def receive_many(self, made: Iterable[Packet], in_port: int, expected: int) -> list[tuple[int, Packet]]:
        """The same for frames that come at once: 100 at most, more do not fit into the queue."""
        self.command("netdev-dummy/receive", f"p{in_port}", *(encode(one).hex() for one in made))
        seen: list[tuple[int, Packet]] = []
        deadline = time.monotonic() + _FRAME_DEADLINE
        # each command waits for a turn of the main loop, which forwards what is queued
        turns = 3
        while turns > 0 or (len(seen) < expected and time.monotonic() < deadline):
            self.command("version")
            seen += [(ofport, decode(frame)) for ofport in sorted(self._seen) for frame in self.new_frames(ofport)]
            turns -= 1
        return seen

    def new_frames(self, ofport: int) -> Iterator[bytes]:
        with (self.directory / f"p{ofport}.pcap").open("rb") as capture:
            capture.seek(self._seen[ofport])
            data = capture.read()
        while len(data) >= _PCAP_RECORD:
            end = _PCAP_RECORD + struct.unpack_from("=8xI", data)[0]
            if len(data) < end:  # it is being written
                return
            self._seen[ofport] += end
            yield data[_PCAP_RECORD:end]
            data = data[end:]

    def steps(self, made: Packet, in_port: int) -> list[tuple[int, int | None]]:
        """(table, cookie of the flow or None for a miss) of each lookup, as ofproto/trace tells."""
        traced = self.command("ofproto/trace", "br-int", f"in_port={in_port}", encode(made).hex())
        for ofport in self._seen:  # from where a frame is measured, a trace of it does send it (check_pkt_len)
            list(self.new_frames(ofport))
        found = _STEP.finditer(traced)
        return [(int(step["table"]), int(step["cookie"], 16) if step["cookie"] else None) for step in found]
