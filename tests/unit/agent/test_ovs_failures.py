"""What Open vSwitch could not make, told from what it has in its columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from agent import ovs_failures
from agent.config import AgentConfig, PhysicalNetwork
from agent.ovs_failures import RECONNECT_S, SETTLE_S, Host, OvsFailures, failures
from agent.report import LONGEST_PROBLEM, MOST_PROBLEMS, node_report
from agent.state import BridgeState, Columns, OvsState, PortState, Value
from controller.api.node_models import MAX_PROBLEM, MAX_PROBLEMS

CONFIG = AgentConfig(
    node="n1",
    datapath_id="0000020000000001",
    datapath_type="system",
    controllers=("tcp:192.0.2.1:6653",),
    api_urls=("http://192.0.2.1:8080",),
    api_token="t",
    physical_networks=(PhysicalNetwork("physnet1", "eth1"),),
)
WELL = Host(has_module=True, has_switch=True)
MADE: Columns = {"datapath_id": "0000020000000001", "datapath_type": "system", "datapath_version": "<unknown>"}
UNMADE: Columns = {"datapath_id": None, "datapath_type": "system", "datapath_version": ""}
OURS: Columns = {"external_ids": {"trunkline": "agent"}}
NO_DEVICE = "could not open network device {} (No such device)"

NO_PEER = "No usable peer 'int-physnet1' exists in 'system' datapath"


def state(
    bridges: Mapping[str, Columns] | None = None, interfaces: Mapping[str, Mapping[str, Value]] | None = None
) -> OvsState:
    """All interfaces but the bridges' own are in br-int; those of `uplink-` are the agent's."""
    made = {"br-int": MADE, "br-physnet1": MADE} if bridges is None else bridges
    own: dict[str, Columns] = {name: {"ofport": 65534 if it.get("datapath_id") else None} for name, it in made.items()}
    known = {**own, **(interfaces or {})}
    inside = {name: (name, *(known.keys() - own.keys())) if name == "br-int" else (name,) for name in made}
    ports = {
        port: PortState(port, bridge, (port,), OURS if port.startswith("uplink-") else {})
        for bridge, held in inside.items()
        for port in held
    }
    kept = {name: BridgeState(name, inside[name], columns=columns) for name, columns in made.items()}
    return OvsState(kept, ports, known, "3.5.0", datapath_types=frozenset({"system", "netdev"}))


def lines(state: OvsState, host: Host = WELL, config: AgentConfig = CONFIG) -> list[str]:
    return [line for _, line, _ in failures(config, state, lambda: host)]


def test_a_node_that_works_has_no_failures() -> None:
    assert lines(state(interfaces={"vm1": {"ofport": 5, "external_ids": {"iface-id": "p1"}}})) == []
    userspace = {**MADE, "datapath_type": "netdev", "datapath_version": "<built-in>"}
    assert lines(state({"br-int": userspace}), config=replace(CONFIG, datapath_type="netdev")) == []
    assert lines(OvsState()) == [], "what is not asked for yet has not failed"


@pytest.mark.parametrize(
    ("host", "cures"),
    [
        (Host(has_module=False, has_switch=True), ("modprobe openvswitch", "linux-image-", "datapath_type = netdev")),
        (WELL, ("systemctl restart openvswitch-switch", "ovs-vswitchd.log")),
        (Host(has_module=False, has_switch=False), ("ovs-vswitchd does not run", "systemctl restart")),
    ],
)
def test_bridges_without_a_datapath_are_one_line_with_the_cure(host: Host, cures: tuple[str, ...]) -> None:
    hidden = {"vm1": {"ofport": None, "error": None, "external_ids": {"iface-id": "p1"}}}
    (line,) = lines(state({"br-int": UNMADE, "br-physnet1": UNMADE}, hidden), host)
    assert line.startswith("Open vSwitch cannot make bridges br-int, br-physnet1: ")
    assert all(cure in line for cure in cures), line


def test_a_type_that_open_vswitch_does_not_know() -> None:
    (line,) = lines(
        state({"br-int": {**UNMADE, "datapath_type": "bogus"}}), config=replace(CONFIG, datapath_type="bogus")
    )
    assert "no datapath_type bogus, but netdev, system" in line


@pytest.mark.parametrize(("kind", "version"), [("system", "<built-in>"), ("netdev", "6.12.0")])
def test_what_is_left_from_another_type_is_no_bridge(kind: str, version: str) -> None:
    left = {**MADE, "datapath_type": kind, "datapath_version": version}
    (line,) = lines(state({"br-int": left}), config=replace(CONFIG, datapath_type=kind))
    assert "cannot make bridge br-int" in line


def test_interfaces_that_cannot_be_opened() -> None:
    found = lines(
        state(
            interfaces={
                "vm1": {"ofport": -1, "error": NO_DEVICE.format("vm1"), "external_ids": {"iface-id": "p1"}},
                "vm2": {"ofport": -1, "error": None, "external_ids": {"iface-id": "p2"}},
                "uplink-physnet1": {
                    "ofport": 65001,
                    "error": "No usable peer 'int-physnet1' exists in 'system' datapath.",
                },
                "strange": {"ofport": -1, "error": NO_DEVICE.format("strange"), "external_ids": {}},
                "fresh": {"ofport": None, "error": None, "external_ids": {"iface-id": "p3"}},
                "eth1": {"ofport": -1, "error": NO_DEVICE.format("eth1")},
                "br-int": {"ofport": -1, "error": "could not open network device br-int (Invalid argument)"},
            }
        )
    )
    assert found == [
        "bridge br-int has no device of its own: could not open network device br-int (Invalid argument); another "
        "device may have its name (ip link show br-int), or there is no /dev/net/tun (modprobe tun)",
        f"interface uplink-physnet1 of bridge br-int cannot be used: {NO_PEER}",
        f"interface vm1 of port p1 cannot be used: {NO_DEVICE.format('vm1')}; plug it in again, or take it off: "
        "ovs-vsctl del-port vm1",
        "interface vm2 of port p2 cannot be used: it could not be opened; plug it in again, or take it off: "
        "ovs-vsctl del-port vm2",
    ], "nothing of what another has put there, and nothing of what is about to be opened"


@pytest.mark.parametrize(
    ("error", "cure"),
    [
        (NO_DEVICE.format("eth1"), "physical_network of the agent's configuration"),
        ("could not add network device eth1 to ofproto (Device or resource busy)", "ip -d link show eth1"),
    ],
)
def test_a_nic_that_cannot_be_used(error: str, cure: str) -> None:
    ports = {"br-physnet1": PortState("br-physnet1", "br-physnet1", ("br-physnet1",))}
    ports["eth1"] = PortState("eth1", "br-physnet1", ("eth1",), OURS)
    bridges = {"br-physnet1": BridgeState("br-physnet1", ("br-physnet1", "eth1"), columns=MADE)}
    interfaces: dict[str, Columns] = {
        "br-physnet1": {"ofport": 65534},
        "eth1": {"ofport": -1, "error": error},
    }
    (line,) = lines(OvsState(bridges, ports, interfaces))
    assert line.startswith("device eth1 of physical network physnet1 cannot be used: ")
    assert cure in line


def test_a_failure_is_told_when_it_has_lasted_and_goes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(ovs_failures, "host", lambda _ovsdb: WELL)
    watch = OvsFailures(CONFIG, lambda: now)
    broken = state({"br-int": UNMADE})
    assert watch.keep(state()) == CONFIG.heartbeat_interval
    assert watch.keep(broken) == SETTLE_S and watch.problems == ()
    now += 1
    assert watch.keep(broken) == SETTLE_S - 1
    assert watch.keep(state()) == CONFIG.heartbeat_interval
    assert watch.keep(broken) == SETTLE_S, "it begins anew"
    now += SETTLE_S
    assert watch.keep(broken) == CONFIG.heartbeat_interval and len(watch.problems) == 1
    watch.keep(state())
    assert watch.problems == ()


def test_a_failure_whose_words_change_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    now, found = 100.0, replace(WELL, has_switch=False)
    monkeypatch.setattr(ovs_failures, "host", lambda _ovsdb: found)
    watch = OvsFailures(CONFIG, lambda: now)
    watch.keep(state())
    watch.keep(state({"br-int": UNMADE}))
    now, found = now + SETTLE_S, WELL
    watch.keep(state({"br-int": UNMADE, "br-physnet1": UNMADE}))
    (line,) = watch.problems
    assert line.startswith("Open vSwitch cannot make bridges br-int, br-physnet1: ") and "does not run" not in line


def test_what_the_agent_finds_when_it_starts_has_lasted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ovs_failures, "host", lambda _ovsdb: WELL)
    watch = OvsFailures(CONFIG, lambda: 100.0)
    watch.keep(state({"br-int": UNMADE}))
    assert len(watch.problems) == 1


def test_a_bridge_is_not_lost_for_a_restart_of_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """ovs-vswitchd writes its datapath_id again when it has noticed; its port number has stayed meanwhile."""
    now = 100.0
    monkeypatch.setattr(ovs_failures, "host", lambda _ovsdb: WELL)
    watch = OvsFailures(CONFIG, lambda: now)
    forgotten = state({"br-int": {**MADE, "datapath_id": None}}, {"br-int": {"ofport": 65534}})
    watch.keep(state())
    assert watch.keep(forgotten) == RECONNECT_S
    now += RECONNECT_S - 0.1
    watch.keep(forgotten)
    assert watch.problems == ()
    now += 0.1
    watch.keep(forgotten)
    assert any("cannot make bridge br-int" in line for line in watch.problems)


def test_many_are_few_lines_and_all_can_be_reported() -> None:
    error = "a\nb" + "x" * 2 * LONGEST_PROBLEM
    vms: dict[str, Columns] = {
        f"vm{n:02}": {"ofport": -1, "error": error, "external_ids": {"iface-id": f"p{n}"}} for n in range(60)
    }
    found = lines(state(interfaces=vms))
    assert len(found) == 9 and found[-1].startswith("52 more interfaces")
    told = node_report(CONFIG, OvsState(), "1", problems=[*found, *map(str, range(60))]).body()["problems"]
    assert isinstance(told, list) and len(told) == MOST_PROBLEMS <= MAX_PROBLEMS and LONGEST_PROBLEM <= MAX_PROBLEM
    assert all(each.isprintable() and len(each) <= LONGEST_PROBLEM for each in told)
