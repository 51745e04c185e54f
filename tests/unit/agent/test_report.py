"""What is reported of a node's interfaces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from agent.config import AgentConfig, PhysicalNetwork
from agent.naming import Names
from agent.report import InterfaceReport, InterfacesReport, interfaces_report, node_report
from agent.state import NAMED_KEY, BridgeState, OvsState, PortState, Value
from agent.steps import NameInterface

CONFIG = AgentConfig(
    node="n1",
    datapath_id="0000020000000001",
    controllers=("tcp:192.0.2.1:6653",),
    api_urls=("http://192.0.2.1:8080",),
    api_token="t",
    physical_networks=(PhysicalNetwork("physnet1", "eth1"),),
    snat_addresses=(("physnet1", "203.0.113.11"),),
)


def state(interfaces: Mapping[str, Mapping[str, Value]], elsewhere: tuple[str, ...] = ()) -> OvsState:
    inside = tuple(name for name in interfaces if name not in elsewhere)
    bridges = {"br-int": BridgeState("br-int", inside), "br-other": BridgeState("br-other", elsewhere)}
    ports = {name: PortState(name, bridge.name, (name,)) for bridge in bridges.values() for name in bridge.ports}
    return OvsState(bridges, ports, interfaces, "3.5.0")


def vm(
    ofport: int | None, iface_id: str = "p1", mac: str | None = "02:00:00:00:00:01", attached: str | None = None
) -> dict[str, Value]:
    ids = {"iface-id": iface_id} | ({"attached-mac": attached} if attached else {})
    return {"ofport": ofport, "mac_in_use": mac, "external_ids": ids}


def test_what_counts_is_in_the_integration_bridge_with_an_iface_id_and_a_port_number() -> None:
    report = interfaces_report(
        CONFIG,
        state(
            {
                "vm1": vm(5, attached="FA:16:3E:00:00:01"),
                "unopened": vm(None, "p2"),
                "failed": vm(-1, "p3"),
                "nameless": {"ofport": 9, "external_ids": {}},
                "empty": vm(10, ""),
                "other": vm(6, "p4"),
                "uplink-physnet1": {"ofport": 65001, "external_ids": {}},
            },
            elsewhere=("other",),
        ),
    )
    assert report.interfaces == (InterfaceReport("p1", "vm1", 5, "fa:16:3e:00:00:01"),)
    assert report.uplinks == (("physnet1", 65001),)
    assert report.body(7) == {
        "serial": 7,
        "uplinks": {"physnet1": 65001},
        "interfaces": [{"iface_id": "p1", "name": "vm1", "ofport": 5, "mac": "fa:16:3e:00:00:01"}],
        "unclaimed": ["nameless"],
    }
    assert "unclaimed" not in interfaces_report(CONFIG, state({"vm1": vm(5)})).body(8)


def test_an_interface_keeps_being_asked_for_that_was_named_by_its_name() -> None:
    def named(iface_id: str, given: str) -> dict[str, Value]:
        return {**vm(5, iface_id), "external_ids": {"iface-id": iface_id, NAMED_KEY: given}}

    report = interfaces_report(CONFIG, state({"tap100i0": named("p1", "p1"), "tap101i0": named("p3", "p2")}))
    assert report.unclaimed == ("tap100i0",), "somebody else has said what tap101i0 is"
    assert [each.iface_id for each in report.interfaces] == ["p1", "p3"]
    strange = {"a/b": {"ofport": 9}, "br-int": {"ofport": 8}, "tl-service": {"ofport": 7}, "closed": {"ofport": None}}
    assert interfaces_report(CONFIG, state(strange)).unclaimed == ()


def test_what_is_written_on_an_interface_because_of_its_name() -> None:
    woken: list[None] = []
    names = Names(lambda: woken.append(None))
    before = state({"tap100i0": {"ofport": 5, "external_ids": {}}})
    report = interfaces_report(CONFIG, before)
    assert names.steps(before, report) == ()
    names.answered(report, {"tap100i0": "p1", "tap999i0": "p9"})
    names.answered(report, {"tap100i0": "p1"})
    assert names.steps(before, report) == (NameInterface("tap100i0", "p1"),) and len(woken) == 1
    after = state({"tap100i0": {"ofport": 5, "external_ids": {"iface-id": "p1", NAMED_KEY: "p1"}}})
    report = interfaces_report(CONFIG, after)
    assert report.unclaimed == ("tap100i0",) and names.steps(after, report) == ()
    names.answered(report, {})
    assert names.steps(after, report) == (NameInterface("tap100i0", None),)


def test_of_two_interfaces_with_one_iface_id_the_lower_ofport_wins() -> None:
    for order in (("a", "b", "c"), ("c", "b", "a")):
        ofports = {"a": 7, "b": 3, "c": 5}
        report = interfaces_report(CONFIG, state({name: vm(ofports[name]) for name in order}))
        assert [i.name for i in report.interfaces] == ["b"]
        assert len(report.duplicates) == 2


def test_a_mac_that_is_gone_for_a_moment_does_not_unbind() -> None:
    before = interfaces_report(CONFIG, state({"vm1": vm(5)}))
    assert interfaces_report(CONFIG, state({"vm1": vm(5, mac=None)}), before) == before
    assert interfaces_report(CONFIG, state({"vm1": vm(5, mac=None)})) == InterfacesReport()


def test_no_integration_bridge_is_an_empty_report() -> None:
    assert interfaces_report(CONFIG, OvsState()) == InterfacesReport()


def test_the_node() -> None:
    body = node_report(CONFIG, state({}), "1.2").body()
    assert body == {
        "datapath_id": "0000020000000001",
        "physical_networks": ["physnet1"],
        "snat_addresses": {"physnet1": "203.0.113.11"},
        "tunnel_address": None,
        "versions": {"agent": "1.2", "ovs": "3.5.0"},
        "datapath_type": "system",
        "problems": [],
    }
    assert node_report(replace(CONFIG, node="n2"), state({}), "1.2").body() == body
