"""What the userspace datapath takes of fragments: said once to each Open vSwitch that starts."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from agent import reassembly
from agent.config import AgentConfig, PhysicalNetwork
from agent.reassembly import Reassembly
from agent.state import BridgeState, OvsState

STATE = OvsState({"br-int": BridgeState("br-int", columns={"datapath_type": "netdev"})})


def config(directory: Path, datapath_type: str = "netdev") -> AgentConfig:
    return AgentConfig(
        node="n1",
        datapath_id="0000020000000001",
        ovsdb=f"unix:{directory}/db.sock",
        datapath_type=datapath_type,
        controllers=("tcp:192.0.2.1:6653",),
        api_urls=("http://192.0.2.1:8080",),
        api_token="t",
        physical_networks=(PhysicalNetwork("lan", "eth0"),),
    )


@contextmanager
def switch(path: Path, error: str | None = None) -> Iterator[list[tuple[str, list[str]]]]:
    """A control socket, and what was said there. The reply comes in two parts."""
    heard: list[tuple[str, list[str]]] = []
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(str(path))
    server.listen()

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                with connection:
                    request = json.loads(connection.recv(4096))
                    heard.append((request["method"], request["params"]))
                    reply = json.dumps({"id": request["id"], "result": None if error else "", "error": error}).encode()
                    connection.sendall(reply[:9])
                    connection.sendall(reply[9:])

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield heard
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        path.unlink()
        thread.join()


SAID = [
    ("dpctl/ipf-set-min-frag", ["netdev@ovs-netdev", "v4", "400"]),
    ("dpctl/ipf-set-max-nfrags", ["netdev@ovs-netdev", "5000"]),
]


def test_it_is_said_once_to_each_that_starts(tmp_path: Path) -> None:
    kept = Reassembly(config(tmp_path))
    for pid in ("17", "18"):
        (tmp_path / "ovs-vswitchd.pid").write_text(f"{pid}\n")
        with switch(tmp_path / f"ovs-vswitchd.{pid}.ctl") as heard:
            assert [kept.keep(STATE), kept.keep(STATE)] == [10.0, 10.0]
            assert heard == SAID and not kept.problems


def test_without_a_pid_the_newest_socket_counts(tmp_path: Path) -> None:
    kept = Reassembly(config(tmp_path))
    with switch(tmp_path / "old-vswitchd.ctl") as old, switch(tmp_path / "vswitchd.ctl") as new:
        kept.keep(STATE)
        assert (old, new) == ([], SAID)


@pytest.mark.parametrize(
    ("datapath_type", "state"),
    [("system", STATE), ("netdev", OvsState()), ("netdev", OvsState({"br-int": BridgeState("br-int")}))],
)
def test_nothing_is_said_where_there_is_no_such_datapath(tmp_path: Path, datapath_type: str, state: OvsState) -> None:
    kept = Reassembly(config(tmp_path, datapath_type))
    with switch(tmp_path / "vswitchd.ctl") as heard:
        assert kept.keep(state) == 10.0 and not heard


def test_a_refusal_that_stays_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(reassembly.time, "monotonic", lambda: now)
    kept = Reassembly(config(tmp_path))
    assert kept.keep(STATE) == 0.5 and not kept.problems, "it may not have started yet"
    with switch(tmp_path / "vswitchd.ctl", error="no such\ndatapath"):
        now = 106.0
        assert kept.keep(STATE) == 10.0
        assert kept.problems == ("fragments below 1200 bytes are lost, and many at once: no such datapath",)
    with switch(tmp_path / "vswitchd.ctl") as heard:
        kept.keep(STATE)
        assert heard == SAID and not kept.problems


@pytest.fixture
def kernel_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What the kernel's settings are here."""
    settings = [tmp_path / "ipfrag_high_thresh", tmp_path / "nf_conntrack_frag6_high_thresh"]
    monkeypatch.setattr(reassembly, "_KERNEL_ROOM", tuple(settings))
    return settings


KERNEL = OvsState({"br-int": BridgeState("br-int", columns={"datapath_type": "system"})})


def test_the_kernel_gets_more_room_where_it_has_less(tmp_path: Path, kernel_room: list[Path]) -> None:
    ipv4, ipv6 = kernel_room
    ipv4.write_text("4194304\n")  # that of IPv6 comes with the module
    kept = Reassembly(config(tmp_path, "system"))
    assert kept.keep(KERNEL) == 10.0 and not kept.problems
    assert ipv4.read_text() == "33554432\n" and not ipv6.exists()
    ipv4.write_text("67108864\n")
    ipv6.write_text("4194304\n")
    kept.keep(KERNEL)
    assert (ipv4.read_text(), ipv6.read_text()) == ("67108864\n", "33554432\n")


def test_a_setting_of_the_kernel_that_cannot_be_written_is_a_problem(tmp_path: Path, kernel_room: list[Path]) -> None:
    kernel_room[0].mkdir()
    kept = Reassembly(config(tmp_path, "system"))
    kept.keep(KERNEL)
    (problem,) = kept.problems
    assert problem.startswith("one VM can fill the kernel's room for fragments: ")


def test_a_switch_that_hangs_holds_nothing_up_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reassembly, "_TIMEOUT_S", 0.05)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(tmp_path / "vswitchd.ctl"))
        server.listen()
        assert Reassembly(config(tmp_path)).keep(STATE) == 0.5
