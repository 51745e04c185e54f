"""Which zones are full, as the datapath counts their connections."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent import connections
from agent.config import AgentConfig
from agent.connections import Connections, FullZone, Zones, full_zones
from agent.state import BridgeState, OvsState
from agent.vswitchd import CommandFailed

CONFIG = AgentConfig("n1", "0000020000000001", (), (), "", datapath_type="netdev")
STATE = OvsState({"br-int": BridgeState("br-int", ())})
ZONES = Zones(frozenset({1, 2}), frozenset({2}))


class Switch:
    """Answers like `ovs-appctl dpctl/ct-get-limits`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.counts: dict[int, int] = {}
        self.asked: list[str] = []
        self.used, self.most = 0, 100
        self.broken = False
        monkeypatch.setattr(connections, "control_socket", lambda _: Path("/run/ovs.ctl"))
        monkeypatch.setattr(connections, "command", self.command)

    def command(self, path: Path, method: str, *arguments: str, timeout: float) -> str:
        self.asked.append(" ".join((method, *arguments)))
        if self.broken:
            raise CommandFailed("no answer")
        if method in ("dpctl/ct-get-nconns", "dpctl/ct-get-maxconns"):
            self.asked.pop()
            return f"{self.used if method == 'dpctl/ct-get-nconns' else self.most}\n"
        zones = [int(zone) for zone in arguments[-1].removeprefix("zone=").split(",")]
        return "default limit=10\n" + "".join(f"zone={z},limit=10,count={self.counts.get(z, 0)}\n" for z in zones)


@pytest.fixture
def switch(monkeypatch: pytest.MonkeyPatch) -> Switch:
    return Switch(monkeypatch)


def test_a_zone_is_full_at_its_limit_until_it_has_room_for_more_than_a_few() -> None:
    assert full_zones({1: (10, 10), 2: (10, 9), 3: (0, 99)}, frozenset()) == (FullZone(1, 10),)
    assert full_zones({1: (10, 9), 2: (10, 9)}, frozenset({1})) == (FullZone(1, 10),)
    assert full_zones({1: (10, 8)}, frozenset({1})) == ()


def test_zones_are_asked_for_once_the_controller_has_named_them(switch: Switch) -> None:
    now, woken = [0.0], []
    kept = Connections(CONFIG, lambda: woken.append(1), lambda: now[0])
    assert kept.keep(STATE) == CONFIG.heartbeat_interval and not switch.asked
    kept.answered(ZONES)
    kept.answered(ZONES)
    assert woken == [1]
    switch.counts = {30001: 10}
    assert kept.keep(STATE) == 0.0, "what is new is reported at once"
    assert switch.asked == ["dpctl/ct-get-limits netdev@ovs-netdev zone=1,2,30001,30002,65001"]
    assert kept.full == (FullZone(30001, 10),)
    now[0] = 4.0
    assert kept.keep(STATE) == 6.0 and len(switch.asked) == 1
    now[0], switch.broken = 10.0, True
    kept.keep(STATE)
    assert kept.full == (FullZone(30001, 10),) and not kept.problems
    now[0] = 20.0
    kept.keep(STATE)
    assert not kept.problems, "a restart of the switch is none"
    now[0] = 30.0
    assert kept.keep(STATE) == 0.0
    assert kept.full == (FullZone(30001, 10),)
    assert (
        [line for line in kept.problems if "not counted" in line and "no answer" in line] == list(kept.problems) != []
    )
    now[0], switch.broken, switch.counts = 40.0, False, {}
    kept.keep(STATE)
    assert kept.full == () and not kept.problems


def test_a_table_that_is_nearly_full_is_a_problem(switch: Switch) -> None:
    now = [0.0]
    kept = Connections(CONFIG, lambda: None, lambda: now[0])
    kept.answered(ZONES)
    for used, told in ((89, False), (90, True), (100, True), (86, True), (84, False), (89, False)):
        switch.used, now[0] = used, now[0] + CONFIG.heartbeat_interval
        kept.keep(STATE)
        assert bool(kept.problems) == told, used


def test_the_kernels_table_is_read_where_it_has_one(
    switch: Switch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    paths = (tmp_path / "count", tmp_path / "max")
    monkeypatch.setattr(connections, "_KERNEL_TABLE", paths)
    now = [0.0]
    kept = Connections(replace(CONFIG, datapath_type="system"), lambda: None, lambda: now[0])
    kept.answered(ZONES)
    kept.keep(STATE)
    assert not kept.problems
    for most in (0, 100):  # 0: no limit
        assert not kept.problems
        for path, value in zip(paths, (95, most), strict=True):
            path.write_text(f"{value}\n")
        now[0] += CONFIG.heartbeat_interval
        kept.keep(STATE)
    (problem,) = kept.problems
    assert "room for 100" in problem and "net.netfilter.nf_conntrack_max" in problem
    switch.broken = True
    now[0] += CONFIG.heartbeat_interval
    kept.keep(STATE)
    assert kept.problems == (problem,), "the table is the kernel's own, and read without the switch"


def test_without_its_bridge_nothing_is_asked(switch: Switch) -> None:
    kept = Connections(CONFIG, lambda: None)
    kept.answered(ZONES)
    kept.keep(OvsState())
    assert not switch.asked


def test_both_zones_of_a_port_that_uses_no_snat_address_have_more_room() -> None:
    assert ZONES.with_more_room() == {2, 30002}
