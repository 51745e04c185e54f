"""Attachments as container engines name them, and the socket by which they ask."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from agent.attach.cni import _expected, _result, _wanted
from agent.attach.names import label
from agent.attach.netavark import _status_block
from agent.attach.server import PlugServer
from agent.attach.specs import Address, Attached, AttachError, Attachment, Failure, Owner, Route, Wanted
from agent.plugins import asking, cni, netavark

OWNER = Owner("cni", "podnet", "n1")
ATTACHED = Attached(
    "port-1",
    "fa:16:3e:00:00:01",
    1450,
    "tlport-1",
    "02:00:00:00:00:01",
    (Address("10.0.0.5/24", "10.0.0.1"), Address("2001:db8::5/64", None)),
    (Route("0.0.0.0/0", "10.0.0.1"), Route("10.9.0.0/16", "10.0.0.7")),
    ("10.0.0.1",),
    ("blue.example",),
)


def test_plugins_ask_where_the_agent_listens() -> None:
    """The sample is made from the options."""
    assert f"\n#socket = {asking.SOCKET}\n" in Path("etc/trunkline-agent.conf.sample").read_text()


def test_names_are_of_one_attachment() -> None:
    assert Attachment(OWNER, "c1", "eth0").name == "cni:podnet:n1:c1:eth0"
    assert not Attachment(Owner("cni", "podnet", "n10"), "c1", "eth0").name.startswith(OWNER.prefix)
    with pytest.raises(AttachError, match="255"):
        _ = Attachment(OWNER, "c" * 250, "eth0").name


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("web-1", "web-1"), ("Web", "web"), ("gallant_wozniak", "gallant-wozniak"), ("-a", ""), ("a.b", "a-b"), ("", "")],
)
def test_only_what_a_host_can_be_called(name: str, wanted: str) -> None:
    assert label(name) == wanted


def test_what_a_configuration_wants() -> None:
    conf: dict[str, Any] = {
        "securityGroups": ["web"],
        "runtimeConfig": {"ips": ["10.0.0.9/24"], "mac": "02:00:00:00:00:09"},
    }
    assert _wanted("net", conf, "IgnoreUnknown=1;K8S_POD_NAME=web-1") == Wanted(
        "net", "web-1", ("10.0.0.9",), "02:00:00:00:00:09", ("web",)
    )
    assert _wanted("net", {}, "IP=10.0.0.8;MAC=02:00:00:00:00:08") == Wanted(
        "net", "", ("10.0.0.8",), "02:00:00:00:00:08", None
    )
    for wrong in (
        {"ipam": {"type": "dhcp"}},
        {"securityGroups": "web"},
        {"prevResult": {"ips": []}},
        {"args": []},
        {"args": {"cni": "x"}},
        {"runtimeConfig": {"ips": [1]}},
        {"runtimeConfig": "x"},
    ):
        with pytest.raises(AttachError) as refused:
            _wanted("net", wrong, "")
        assert refused.value.failure is Failure.CONFIGURATION


@pytest.mark.parametrize("version", cni.VERSIONS)
def test_the_result_of_each_version(version: str) -> None:
    result = _result(ATTACHED, "eth0", "/run/netns/c1", {"cniVersion": version})
    assert result["cniVersion"] == version
    inside = {"name": "eth0", "mac": ATTACHED.mac, "sandbox": "/run/netns/c1"}
    assert result["interfaces"][1] == inside | ({"mtu": 1450} if version == "1.1.0" else {})
    assert result["ips"][0]["gateway"] == "10.0.0.1" and "gateway" not in result["ips"][1]
    assert [ip.get("version") for ip in result["ips"]] == (["4", "6"] if version == "0.4.0" else [None, None])
    assert result["routes"][1] == {"dst": "10.9.0.0/16", "gw": "10.0.0.7"}
    assert result["dns"] == {"nameservers": ["10.0.0.1"], "search": ["blue.example"]}
    assert [each.cidr for each in _expected(result, "eth0")] == ["10.0.0.5/24", "2001:db8::5/64"]


@pytest.mark.parametrize(
    "previous",
    [
        {},
        {"interfaces": [1]},
        {"interfaces": [{"name": "eth0"}]},
        {"interfaces": [{"name": "eth0", "sandbox": "x"}], "ips": [{"interface": 0, "address": "x"}]},
        {"interfaces": [{"name": "eth0", "sandbox": "x"}], "ips": "x"},
    ],
)
def test_a_previous_result_that_is_none(previous: dict[str, Any]) -> None:
    with pytest.raises(AttachError) as refused:
        _expected(previous, "eth0")
    assert refused.value.failure is Failure.CONFIGURATION


def test_what_podman_is_told() -> None:
    assert _status_block(ATTACHED, "eth1") == {
        "dns_search_domains": ["blue.example"],
        "dns_server_ips": ["10.0.0.1"],
        "interfaces": {
            "eth1": {
                "mac_address": ATTACHED.mac,
                "subnets": [{"ipnet": "10.0.0.5/24", "gateway": "10.0.0.1"}, {"ipnet": "2001:db8::5/64"}],
            }
        },
    }


# the socket

USERS = (os.geteuid(),)
"""For tests that need not be root's."""


@pytest.fixture
def asked() -> list[tuple[Mapping[str, Any], str | None]]:
    return []


@pytest.fixture
def path(tmp_path: Path, asked: list[tuple[Mapping[str, Any], str | None]]) -> Iterator[str]:
    def handle(request: Mapping[str, Any], namespace: str | None) -> dict[str, Any] | None:
        if request["command"] == "refuse":
            raise AttachError(Failure.TRY_LATER, "not now")
        if request["command"] == "fail":
            raise RuntimeError("a fault")
        asked.append((request, namespace and os.readlink(namespace)))
        return {"said": request["command"]}

    path = str(tmp_path / "run" / "agent.sock")
    server = PlugServer(path, {"cni": handle}, USERS)
    server.start()
    yield path
    server.stop()
    assert not Path(path).exists()


def test_a_request_and_its_namespace(path: str, asked: list[tuple[Mapping[str, Any], str | None]]) -> None:
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    request = {"plugin": "cni", "command": "x" * 200_000}
    before = len(os.listdir("/proc/self/fd"))
    assert asking.ask(path, request, "/proc/self/ns/net") == {"result": {"said": request["command"]}}
    assert asked == [(request, os.readlink("/proc/self/ns/net"))]
    assert asking.ask(path, {"plugin": "cni", "command": "GC"}) == {"result": {"said": "GC"}}
    assert asked[1][1] is None
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_refusals(path: str) -> None:
    assert asking.ask(path, {"plugin": "cni", "command": "refuse"}) == {"error": {"code": 11, "msg": "not now"}}
    assert asking.ask(path, {"plugin": "cni", "command": "fail"})["error"] == {
        "code": 102,
        "msg": "internal error: see the agent's log",
    }
    assert "no known plugin" in str(asking.ask(path, {"plugin": "docker"}))
    with pytest.raises(FileNotFoundError):
        asking.ask(path, {"plugin": "cni"}, "/none/such")
    with pytest.raises(asking.Unanswered, match="No such file"):
        asking.ask(path + "x", {"plugin": "cni"})


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"[" * 100_000, b"\xff"])
def test_what_is_no_request(path: str, text: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(path)
        connection.sendall(text)
        connection.shutdown(socket.SHUT_WR)
        answer = json.loads(b"".join(iter(lambda: connection.recv(65536), b"")))
    assert answer["error"]["code"] == Failure.DECODING


def test_who_draws_it_out_or_sends_many_files_is_refused(
    path: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with socket.socket(socket.AF_UNIX) as connection, open("/dev/null") as file:
        connection.connect(path)
        for _ in range(2):
            socket.send_fds(connection, [b" "], [file.fileno()])
        answer = json.loads(b"".join(iter(lambda: connection.recv(65536), b"")))
    assert "one file at most" in answer["error"]["msg"]
    monkeypatch.setattr("agent.attach.server._REQUEST_S", 0.05)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(b"{")
        answer = json.loads(b"".join(iter(lambda: connection.recv(65536), b"")))
    assert answer["error"]["code"] == Failure.DECODING and "in time" in answer["error"]["msg"]
    assert "Traceback" not in caplog.text and len(os.listdir("/proc/self/fd")) <= before + 1


def test_many_at_once(path: str) -> None:
    answers: list[dict[str, object]] = []
    threads = [
        threading.Thread(target=lambda: answers.append(asking.ask(path, {"plugin": "cni", "command": "ADD"})))
        for _ in range(60)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert answers == [{"result": {"said": "ADD"}}] * 60


def test_an_agent_that_is_alive_keeps_its_socket(path: str, caplog: pytest.LogCaptureFixture) -> None:
    second = PlugServer(path, {}, USERS)
    second.start()
    assert "another agent listens there" in caplog.text
    second.stop()
    assert asking.ask(path, {"plugin": "cni", "command": "GC"}) == {"result": {"said": "GC"}}


def test_a_socket_that_was_left_is_taken_over(tmp_path: Path) -> None:
    path = str(tmp_path / "agent.sock")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    server = PlugServer(path, {"cni": lambda request, namespace: None}, USERS)
    server.start()
    assert asking.ask(path, {"plugin": "cni"}) == {"result": None}
    server.stop()


def test_who_is_not_root_is_refused(tmp_path: Path) -> None:
    """Whoever may open the socket; the agent's own user is one of those."""
    path = str(tmp_path / "agent.sock")
    server = PlugServer(path, {"cni": lambda request, namespace: None}, (os.geteuid() + 1,))
    server.start()
    with socket.socket(socket.AF_UNIX) as connection:  # it is refused before it has said anything
        connection.settimeout(20)
        connection.connect(path)
        answer = json.loads(b"".join(iter(lambda: connection.recv(65536), b"")))
    assert answer["error"] == {"code": Failure.HERE, "msg": "only root may ask"}
    server.stop()


# podman's side


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["info"], 0, {"version": version("trunkline"), "api_version": "1.0.0"}),
        (["create"], 0, {"name": "podnet", "options": {"network": "blue"}}),
        (["setup"], 1, {"error": "it is called with info, create, setup NETNS or teardown NETNS"}),
    ],
)
def test_the_verbs_of_netavark(
    arguments: list[str], status: int, said: object, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps({"name": "podnet", "options": {"network": "blue"}})))
    assert netavark.main(arguments) == status
    assert json.loads(capsys.readouterr().out) == said


def test_an_option_that_there_is_not(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps({"name": "podnet", "options": {"networc": "blue"}})))
    assert netavark.main(["create"]) == 1
    assert "networc" in json.loads(capsys.readouterr().out)["error"]
