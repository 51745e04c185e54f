"""`trunkline plug` and `unplug`: what they hand to the agent's plugging, which has tests of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent import namespaces, plugging
from controller.cli import plug as plug_command
from tests.unit.cli.stub import NETWORK_ID, PORT_ID, Request, Stub, network, port, refusal

Calls = list[tuple[Any, ...]]


@pytest.fixture
def calls(stub: Stub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Calls:
    """What would have been done to this machine."""
    stub.on("GET /v1/ports", (200, {"ports": [port(device_id="machine-7")]}))
    stub.on(f"GET /v1/ports/{PORT_ID}", (200, {"port": port()}))
    stub.on(f"GET /v1/networks/{NETWORK_ID}", (200, {"network": network()}))
    made: Calls = []

    def fake_plug(wanted: plugging.PlugPort, **how: Any) -> plugging.Plugged:
        made.append(("plug", wanted, how))
        return plugging.Plugged("tlaaaaaaaa-bb", True)

    def fake_unplug(port_id: str, **how: Any) -> bool:
        made.append(("unplug", port_id, how))
        return True

    monkeypatch.setattr(plugging, "plug", fake_plug)
    monkeypatch.setattr(plugging, "unplug", fake_unplug)
    monkeypatch.setattr(namespaces, "_ip", lambda *arguments: made.append(("ip", *arguments)))
    monkeypatch.setattr(namespaces, "DIRECTORY", tmp_path)  # also hides the mounts of this machine
    monkeypatch.setattr(namespaces, "FILES", tmp_path / "etc")
    (tmp_path / "there").touch()
    return made


def test_plug_makes_a_namespace_called_like_the_port(run: Any, calls: Calls) -> None:
    answer = json.loads(run("plug", "vm1", "-o", "json").stdout)
    wanted = plugging.PlugPort(id=PORT_ID, mac="02:00:00:00:00:05", mtu=1450, vm_id="machine-7")
    assert calls == [("ip", "netns", "add", "vm1"), ("plug", wanted, {"kind": "veth", "namespace": "vm1"})]
    assert answer == {
        "id": PORT_ID,
        "name": "vm1",
        "ifname": "tlaaaaaaaa-bb",
        "namespace": "vm1",
        "mac": "02:00:00:00:00:05",
        "fixed_ips": ["10.0.1.5"],
        "changed": True,
    }


def test_plug_with_everything(run: Any, calls: Calls) -> None:
    result = run(
        "plug", PORT_ID, "--namespace=there", "--ifname=vm1", "--guest-ifname=lan0", "--bridge=br-x",
        "--ovsdb=unix:/run/x.sock",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert [call[2] for call in calls] == [
        {"kind": "veth", "namespace": "there", "ifname": "vm1", "guest_ifname": "lan0", "bridge": "br-x",
         "ovsdb": "unix:/run/x.sock"}
    ]  # fmt: skip


def test_plug_tap(run: Any, calls: Calls) -> None:
    assert run("plug", "vm1", "--tap").exit_code == 0
    assert [call[2] for call in calls] == [{"kind": "tap", "namespace": None}]


@pytest.mark.parametrize(
    "arguments", [["--tap", "--namespace", "x"], ["--tap", "--guest-ifname", "x"], ["--namespace", "../x"]]
)
def test_plug_usage(run: Any, calls: Calls, arguments: list[str]) -> None:
    result = run("plug", "vm1", *arguments)
    assert (result.exit_code, len(result.stderr.splitlines()), calls) == (2, 1, [])


def test_a_port_name_that_is_no_namespace_name(stub: Stub, run: Any, calls: Calls) -> None:
    stub.on("GET /v1/ports", (200, {"ports": [port(name="-x /y")]}))
    result = run("plug", "vm1")
    assert (result.exit_code, calls) == (2, [])
    assert "give --namespace" in result.stderr


def test_what_is_in_the_way_is_said(run: Any, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise plugging.PlugError("Open vSwitch has no bridge br-int")

    monkeypatch.setattr(plugging, "plug", refuse)
    monkeypatch.setattr(plugging, "unplug", refuse)
    for command in ("plug", "unplug"):
        result = run(command, "vm1")
        assert (result.exit_code, result.stderr) == (1, "trunkline: Open vSwitch has no bridge br-int\n")


def test_a_refused_plug_leaves_no_namespace_it_made(
    run: Any, calls: Calls, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise plugging.NoSwitch("Open vSwitch at unix:/none: database connection failed")

    monkeypatch.setattr(plugging, "plug", refuse)
    result = run("plug", "vm1")
    assert result.exit_code == 1 and "run it on the node, or give --ovsdb" in result.stderr
    assert calls == [("ip", "netns", "add", "vm1"), ("ip", "netns", "delete", "vm1")]
    assert not (tmp_path / "etc" / "vm1").exists()
    calls.clear()
    assert run("plug", "vm1", "--namespace", "there").exit_code == 1
    assert calls == []  # it was somebody else's


def test_plug_waits_until_the_port_is_active(stub: Stub, run: Any, calls: Calls) -> None:
    statuses = iter(["unbound", "bound", "active"])

    def reply(request: Request) -> tuple[int, Any]:
        return 200, {"port": port(status=next(statuses))}

    stub.on(f"GET /v1/ports/{PORT_ID}", reply)
    assert run("plug", "vm1", "--wait").exit_code == 0
    assert next(statuses, None) is None


def test_plug_wait_timed_out(stub: Stub, run: Any, calls: Calls) -> None:
    stub.on(f"GET /v1/ports/{PORT_ID}", (200, {"port": port(status="bound")}))
    result = run("plug", "vm1", "--wait", "--timeout", "0")
    assert (result.exit_code, result.stderr) == (4, "trunkline: plugged, but the port is still 'bound'\n")


def test_plug_ends_with_the_reason_of_a_refusal(stub: Stub, run: Any, calls: Calls) -> None:
    why = "node n1 has no physical network 'physnet1'"
    replies = iter([port(status="unbound"), port(status="unbound", binding_error=why)])
    stub.on(f"GET /v1/ports/{PORT_ID}", lambda _: (200, {"port": next(replies)}))
    result = run("plug", "vm1", "--wait")
    assert (result.exit_code, result.stderr) == (1, f"trunkline: plugged, but the port is refused: {why}\n")


def test_a_reason_from_before_has_a_moment_to_go(
    stub: Stub, run: Any, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = port(status="unbound", binding_error="the port is scheduled on n2, but its interface is on n1")
    stub.on("GET /v1/ports", (200, {"ports": [refused]}))
    replies = iter([refused, port(status="bound"), port()])
    stub.on(f"GET /v1/ports/{PORT_ID}", lambda _: (200, {"port": next(replies)}))
    assert run("plug", "vm1", "--wait").exit_code == 0
    monkeypatch.setattr(plug_command, "STALE_ERROR_S", 0.1)
    stub.on(f"GET /v1/ports/{PORT_ID}", (200, {"port": refused}))
    result = run("plug", "vm1", "--wait")
    assert result.exit_code == 1 and "scheduled on n2" in result.stderr


@pytest.mark.parametrize("elsewhere", ["n2", "n1"])
def test_a_port_that_another_node_serves_is_refused_here(
    stub: Stub, run: Any, calls: Calls, monkeypatch: pytest.MonkeyPatch, elsewhere: str
) -> None:
    monkeypatch.setattr(plugging, "plug", lambda *_, **__: plugging.Plugged("tl", True, "n1"))
    monkeypatch.setattr(plug_command, "STALE_ERROR_S", 0.1)
    found = port(binding={"node": elsewhere, "ofport": 3, "zone": 9})
    stub.on("GET /v1/ports", (200, {"ports": [found]}))
    stub.on(f"GET /v1/ports/{PORT_ID}", (200, {"port": found}))
    stub.on(f"GET /v1/ports/{PORT_ID}/bindings", (403, refusal("forbidden", "not for members")))
    result = run("plug", "vm1", "--wait")
    if elsewhere == "n1":
        assert result.exit_code == 0
    else:
        assert (result.exit_code, result.stderr) == (1, "trunkline: plugged, but the port is refused: bound to n2\n")


def test_a_port_that_is_to_move_here_may_be_elsewhere(
    stub: Stub, run: Any, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugging, "plug", lambda *_, **__: plugging.Plugged("tl", True, "n2"))
    bindings = [{"node": "n1", "status": "active", "ofport": 3}, {"node": "n2", "status": "prepared", "ofport": 4}]
    stub.on(f"GET /v1/ports/{PORT_ID}/bindings", (200, {"bindings": bindings}))
    assert run("plug", "vm1", "--wait").exit_code == 0


def test_unplug_of_a_deleted_port_tells_the_way(stub: Stub, run: Any, calls: Calls) -> None:
    stub.on("GET /v1/ports", (200, {"ports": []}))
    result = run("unplug", "vm1")
    assert (result.exit_code, calls) == (1, []) and "is unplugged by its id" in result.stderr


FORBIDDEN = (403, refusal("forbidden", "the role of this token may not list port"))
OF_N1 = f"GET /v1/nodes/n1/ports/{PORT_ID}"


@pytest.fixture
def as_n1(stub: Stub, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> Calls:
    """With the token of node n1, whose Open vSwitch says that it is that."""
    for path in ("ports", f"ports/{PORT_ID}", f"networks/{NETWORK_ID}", f"ports/{PORT_ID}/bindings"):
        stub.on(f"GET /v1/{path}", FORBIDDEN)

    def node_of(**how: Any) -> str:
        calls.append(("node_of", how))
        return "n1"

    def fake_plug(wanted: plugging.PlugPort, **_: Any) -> plugging.Plugged:
        calls.append(("plug", wanted))
        return plugging.Plugged("tl", True, "n1")

    monkeypatch.setattr(plugging, "node_of", node_of)
    monkeypatch.setattr(plugging, "plug", fake_plug)
    told = {**port(binding=None, status="unbound"), "mtu": 1450, "expected": False}
    stub.on("GET /v1/nodes/n1/ports", (200, {"ports": [told]}))
    stub.on(OF_N1, (200, {"port": {**told, "binding": {"node": "n1"}, "status": "active"}}))
    return calls


def test_plug_with_the_nodes_own_token(stub: Stub, run: Any, as_n1: Calls) -> None:
    assert run("plug", "vm1", "--namespace=there", "--ovsdb=unix:/run/x.sock", "--wait").exit_code == 0
    wanted = plugging.PlugPort(id=PORT_ID, mac="02:00:00:00:00:05", mtu=1450)
    assert as_n1 == [("node_of", {"ovsdb": "unix:/run/x.sock"}), ("plug", wanted)]
    assert [request.path for request in stub.requests] == ["/v1/ports", "/v1/nodes/n1/ports", OF_N1.split()[1]]
    as_n1.clear()
    assert run("unplug", "vm1").exit_code == 0
    assert as_n1 == [("node_of", {}), ("unplug", PORT_ID, {"namespace": None})]


def test_a_port_that_becomes_another_nodes_while_its_node_waits(stub: Stub, run: Any, as_n1: Calls) -> None:
    stub.on(OF_N1, (404, refusal("port_unknown", "none")))
    result = run("plug", "vm1", "--wait")
    assert result.exit_code == 1
    assert "plugged, but the port is refused: it is deleted, or another node's" in result.stderr


def test_plug_of_another_nodes_port_with_the_nodes_own_token(stub: Stub, run: Any, as_n1: Calls) -> None:
    stub.on("GET /v1/nodes/n1/ports", (200, {"ports": []}))
    stub.on(OF_N1, (404, refusal("port_unknown", "none")))
    for reference in ("vm1", PORT_ID):
        result = run("plug", reference)
        assert result.exit_code == 1 and f"node n1 has no port {reference!r}" in result.stderr
        assert "another node's" in result.stderr
    assert [call for call in as_n1 if call[0] != "node_of"] == []


def test_plug_with_a_token_that_may_not(stub: Stub, run: Any, as_n1: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    stub.on("GET /v1/nodes/n1/ports", (403, refusal("forbidden", "the token is that of another node's agent")))
    result = run("plug", "vm1")
    assert result.exit_code == 1 and "may not list port; as node n1: the token is that of another" in result.stderr
    monkeypatch.setattr(plugging, "node_of", lambda **_: None)
    result = run("plug", "vm1")
    assert result.exit_code == 1 and "may not list port" in result.stderr and "agent running?" in result.stderr


def test_unplug_by_id_needs_no_server(stub: Stub, run: Any, calls: Calls) -> None:
    answer = json.loads(run("unplug", PORT_ID, "-o", "json").stdout)
    assert answer == {"id": PORT_ID, "namespace": None, "changed": True}
    assert calls == [("unplug", PORT_ID, {"namespace": None})]
    assert stub.requests == []


def test_unplug_deletes_the_namespace_only_when_asked(run: Any, calls: Calls) -> None:
    assert run("unplug", "vm1", "--namespace", "there").exit_code == 0
    assert run("unplug", "vm1", "--namespace", "there", "--delete-namespace").exit_code == 0
    assert [call[:2] for call in calls] == [("unplug", PORT_ID), ("unplug", PORT_ID), ("ip", "netns")]
    assert run("unplug", "vm1", "--delete-namespace").exit_code == 2


@pytest.mark.parametrize(
    ("tags", "private"), [("shared:1 ", False), ("master:1 ", True), ("shared:2 master:1 ", False), ("", False)]
)
def test_a_mount_that_nobody_else_sees(tags: str, private: bool) -> None:
    root = "27 1 254:0 / / rw,relatime master:9 - ext4 /dev/vda rw\n"
    assert namespaces.is_private(f"{root}42 27 254:0 /run/netns /run/netns rw {tags}- ext4 /dev/vda rw\n") is private
    assert not namespaces.is_private(root)


def test_a_namespace_has_a_resolver_file_of_its_own(run: Any, calls: Calls, tmp_path: Path) -> None:
    """Else a DHCP client run by `ip netns exec` writes the machine's own /etc/resolv.conf."""
    assert run("plug", "vm1").exit_code == 0
    own = tmp_path / "etc" / "vm1" / "resolv.conf"
    assert own.read_text() == ""
    (tmp_path / "vm1").touch()  # what `ip netns add` makes
    assert run("unplug", "vm1", "--namespace", "vm1", "--delete-namespace").exit_code == 0
    assert not own.parent.exists()
