"""The agent's plan: applying it gives what is wanted, once, and never leaves br-int without a controller."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import AgentConfig, PhysicalNetwork, Tls
from agent.plan import Plan, plan
from agent.state import BridgeState, ControllerState, DatapathState, OvsState, PortState, Value, lookup, marked
from agent.steps import (
    AddBridge,
    AddController,
    AddPort,
    DeleteController,
    DeletePort,
    SetBridge,
    SetController,
    SetInterface,
    SetLimits,
    SetPrefixes,
    SetSsl,
    Setting,
    Step,
)
from agent.wanted import wanted, wanted_limits, wanted_ssl
from flows.pipeline import Table

OURS: dict[str, Value] = {"external_ids": {"trunkline": "agent"}}
CONFIG = AgentConfig(
    node="n1",
    datapath_id="0000020000000001",
    controllers=("tcp:192.0.2.1:6653",),
    api_urls=("http://192.0.2.1:8080",),
    api_token="t",
    physical_networks=(PhysicalNetwork("physnet1", "eth1"), PhysicalNetwork("physnet2", None)),
    datapath_type="netdev",
)

_ids = count(1)


def merged(columns: Mapping[str, Value], settings: Iterable[Setting]) -> dict[str, Value]:
    result = dict(columns)
    for setting in settings:
        if setting.key is None:
            result[setting.column] = setting.value
        else:
            present = result.get(setting.column) or {}
            assert isinstance(present, Mapping) and isinstance(setting.value, str)
            result[setting.column] = {**present, setting.key: setting.value}
    return result


def after(state: OvsState, step: Step) -> OvsState:
    """What OVSDB would hold after the step; refuses what OVSDB would refuse."""
    bridges, ports, interfaces = dict(state.bridges), dict(state.ports), dict(state.interfaces)

    def add_port(bridge: str, name: str, settings: Iterable[Setting]) -> None:
        assert name not in ports and name not in interfaces, f"{name} exists"
        ports[name] = PortState(name, bridge, (name,), OURS)
        interfaces[name] = merged({}, settings)
        bridges[bridge] = replace(bridges[bridge], ports=(*bridges[bridge].ports, name))

    def set_controllers(bridge: str, controllers: Iterable[ControllerState]) -> None:
        bridges[bridge] = replace(bridges[bridge], controllers=tuple(controllers))

    match step:
        case AddBridge(name, settings):
            assert name not in bridges
            bridges[name] = BridgeState(name, (), (), merged({}, settings))
            add_port(name, name, (Setting("type", "internal"),))
        case SetBridge(name, settings):
            bridges[name] = replace(bridges[name], columns=merged(bridges[name].columns, settings))
        case DeletePort(bridge, name):
            assert marked(ports[name].columns), "deletes what is not ours"
            for interface in ports.pop(name).interfaces:
                del interfaces[interface]
            bridges[bridge] = replace(bridges[bridge], ports=tuple(x for x in bridges[bridge].ports if x != name))
        case AddPort(bridge, name, settings):
            add_port(bridge, name, settings)
        case SetInterface(name, settings):
            interfaces[name] = merged(interfaces[name], settings)
        case AddController(bridge, target, settings):
            row = ControllerState(f"new-{next(_ids)}", merged({**OURS, "target": target}, settings))
            set_controllers(bridge, (*bridges[bridge].controllers, row))
        case SetController(bridge, row_id, settings):
            set_controllers(
                bridge,
                (
                    replace(c, columns=merged(c.columns, settings)) if c.id == row_id else c
                    for c in bridges[bridge].controllers
                ),
            )
        case DeleteController(bridge, row_id):
            gone = [c for c in bridges[bridge].controllers if c.id == row_id]
            assert gone and marked(gone[0].columns), "deletes what is not ours"
            set_controllers(bridge, (c for c in bridges[bridge].controllers if c.id != row_id))
        case SetSsl(settings):
            assert state.ssl is None or marked(state.ssl), "not ours"
            return replace(state, ssl=merged(OURS if state.ssl is None else state.ssl, settings))
        case SetLimits(name, default, zones, stale):
            held = (state.datapaths or {}).get(name, DatapathState())
            kept = {zone: limit for zone, limit in held.zone_limits.items() if zone not in stale}
            made = dict(zones).keys() - held.zone_limits.keys()
            limited = DatapathState(default, {**kept, **dict(zones)}, (held.ours | made) - set(stale))
            return replace(state, datapaths={**(state.datapaths or {}), name: limited})
        case SetPrefixes(bridge, tables):
            bridges[bridge] = replace(bridges[bridge], prefixes={**bridges[bridge].prefixes, **dict(tables)})
    return replace(state, bridges=bridges, ports=ports, interfaces=interfaces)


def applied(state: OvsState, steps: Iterable[Step]) -> OvsState:
    for step in steps:
        state = after(state, step)
    return state


def settled(config: AgentConfig = CONFIG) -> OvsState:
    return applied(OvsState(), plan(wanted(config), OvsState()).steps)


def targets(state: OvsState, bridge: str = "br-int") -> list[str]:
    return sorted(str(lookup(c.columns, "target")) for c in state.bridges[bridge].controllers)


def test_a_bare_node_gets_everything() -> None:
    state = settled()
    assert set(state.bridges) == {"br-int", "br-physnet1", "br-physnet2"}
    integration = state.bridges["br-int"].columns
    assert integration["fail_mode"] == "secure" and integration["datapath_type"] == "netdev"
    assert integration["protocols"] == frozenset({"OpenFlow14"})
    assert integration["other_config"] == {"datapath-id": "0000020000000001", "disable-in-band": "true"}
    assert integration["external_ids"] == {"trunkline": "agent", "trunkline-node": "n1"}
    assert state.bridges["br-physnet1"].columns["fail_mode"] == "standalone"
    assert set(state.bridges["br-physnet1"].ports) == {"br-physnet1", "eth1", "int-physnet1"}
    assert state.interfaces["uplink-physnet1"]["ofport_request"] == 65001
    assert state.interfaces["uplink-physnet2"]["ofport_request"] == 65002
    for one, other in (("uplink-physnet1", "int-physnet1"), ("uplink-physnet2", "int-physnet2")):
        assert lookup(state.interfaces[one], "options", "peer") == other
        assert lookup(state.interfaces[other], "options", "peer") == one
    (controller,) = state.bridges["br-int"].controllers
    assert controller.columns["max_backoff"] == 1000 and controller.columns["inactivity_probe"] == 10000
    assert controller.columns["connection_mode"] == "out-of-band"


def test_a_second_plan_is_empty() -> None:
    assert plan(wanted(CONFIG), settled()) == Plan()


def test_foreign_entries_of_a_map_stay() -> None:
    state = settled()
    bridge = state.bridges["br-int"]
    columns = {**bridge.columns, "other_config": {"datapath-id": "x", "mac-table-size": "9000"}}
    state = replace(state, bridges={**state.bridges, "br-int": replace(bridge, columns=columns)})
    state = applied(state, plan(wanted(CONFIG), state).steps)
    assert lookup(state.bridges["br-int"].columns, "other_config", "mac-table-size") == "9000"
    assert lookup(state.bridges["br-int"].columns, "other_config", "datapath-id") == CONFIG.datapath_id


def test_one_controller_for_another_is_changed_in_its_row() -> None:
    state = settled()
    (row,) = state.bridges["br-int"].controllers
    config = replace(CONFIG, controllers=("tcp:192.0.2.9:6653",))
    (step,) = plan(wanted(config), state).steps
    assert isinstance(step, SetController) and step.id == row.id
    assert targets(after(state, step)) == ["tcp:192.0.2.9:6653"]


def test_a_controller_of_somebody_else_stays_and_is_named() -> None:
    state = settled()
    bridge = state.bridges["br-int"]
    foreign = ControllerState("f", {"target": "ptcp:6700:127.0.0.1", "external_ids": {}})
    state = replace(
        state, bridges={**state.bridges, "br-int": replace(bridge, controllers=(*bridge.controllers, foreign))}
    )
    made = plan(wanted(CONFIG), state)
    assert made.steps == () and "ptcp:6700" in made.problems[0]


def test_a_nic_with_addresses_is_left_alone() -> None:
    made = plan(wanted(CONFIG), OvsState(), addressed=frozenset({"eth1"}))
    assert not any(isinstance(step, AddPort) and step.name == "eth1" for step in made.steps)
    assert "eth1 holds addresses" in made.problems[0]


def test_a_nic_in_a_bond_counts_as_there() -> None:
    state = settled()
    bond = PortState("bond0", "br-physnet1", ("eth1", "eth9"))
    ports = {name: port for name, port in state.ports.items() if name != "eth1"} | {"bond0": bond}
    assert plan(wanted(CONFIG), replace(state, ports=ports)) == Plan()


def test_a_nic_in_a_foreign_bridge_is_named_and_left() -> None:
    bridge = BridgeState("br0", ("br0", "eth1"))
    state = OvsState({"br0": bridge}, {n: PortState(n, "br0", (n,)) for n in bridge.ports}, {"br0": {}, "eth1": {}})
    made = plan(wanted(CONFIG), state)
    assert any("eth1 belongs into br-physnet1, but is in br0" in problem for problem in made.problems)
    assert not any(isinstance(step, DeletePort) for step in made.steps)


def test_our_nic_moves_when_its_physical_network_is_renamed() -> None:
    config = replace(CONFIG, physical_networks=(PhysicalNetwork("renamed", "eth1"),))
    state = settled()
    state = applied(state, plan(wanted(config), state).steps)
    assert state.ports["eth1"].bridge == "br-renamed"
    assert {"uplink-physnet1", "int-physnet1", "uplink-physnet2"}.isdisjoint(state.ports)
    assert "br-physnet1" in state.bridges  # it may hold the host's address
    assert plan(wanted(config), state) == Plan()


def test_a_bridge_whose_name_is_a_port_is_named() -> None:
    state = OvsState(
        {"br0": BridgeState("br0", ("br-int",))}, {"br-int": PortState("br-int", "br0", ("br-int",))}, {"br-int": {}}
    )
    made = plan(wanted(CONFIG), state)
    assert "br-int cannot be made" in made.problems[0]
    assert not any(getattr(step, "bridge", getattr(step, "name", "")) == "br-int" for step in made.steps)


def test_a_patch_port_of_somebody_else_is_not_changed() -> None:
    state = settled()
    ports = {**state.ports, "uplink-physnet1": replace(state.ports["uplink-physnet1"], columns={})}
    interfaces = {**state.interfaces, "uplink-physnet1": {"type": "internal"}}
    made = plan(wanted(CONFIG), replace(state, ports=ports, interfaces=interfaces))
    assert made.steps == () and "uplink-physnet1" in made.problems[0]


_NAMES = st.sampled_from(["a", "b", "c", "d"])
_CONFIGS = st.builds(
    lambda names, hosts, datapath: replace(
        CONFIG,
        controllers=tuple(f"tcp:{host}:6653" for host in hosts),
        datapath_type=datapath,
        physical_networks=tuple(PhysicalNetwork(name, nic) for name, nic in names),
    ),
    st.lists(
        st.tuples(_NAMES, st.none() | st.sampled_from(["eth1", "eth2", "eth3"])),
        max_size=3,
        unique_by=(lambda t: t[0], lambda t: t[1] or object()),
    ),
    st.lists(
        st.sampled_from(["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"]), min_size=1, max_size=3, unique=True
    ),
    st.sampled_from(["system", "netdev"]),
)


@given(st.data())
def test_any_change_of_configuration_and_any_damage_is_put_right(data: st.DataObject) -> None:
    state = settled(data.draw(_CONFIGS))
    for name in data.draw(st.lists(st.sampled_from(sorted(state.ports)), unique=True)):
        port = state.ports[name]
        if name == port.bridge:
            continue
        if data.draw(st.booleans()):  # somebody has deleted the port
            bridge = state.bridges[port.bridge]
            state = OvsState(
                {**state.bridges, port.bridge: replace(bridge, ports=tuple(x for x in bridge.ports if x != name))},
                {k: v for k, v in state.ports.items() if k != name},
                {k: v for k, v in state.interfaces.items() if k != name},
            )
        else:  # or has changed its interface
            state = replace(state, interfaces={**state.interfaces, name: {"type": "", "options": {"peer": "x"}}})
    config = data.draw(_CONFIGS)
    bridges = wanted(config)
    made = plan(bridges, state)
    had_controllers = bool(state.bridges["br-int"].controllers)
    for step in made.steps:
        state = after(state, step)
        if "br-int" in state.bridges and had_controllers:
            assert state.bridges["br-int"].controllers, "br-int lost its last controller"
    assert targets(state) == sorted(config.controllers)
    assert plan(bridges, state).steps == ()
    for bridge in bridges:
        assert {port.name for port in bridge.ports} <= set(state.bridges[bridge.name].ports)
        columns = [(state.bridges[bridge.name].columns, bridge.settings)]
        columns += [(state.interfaces[port.name], port.settings) for port in bridge.ports]
        for present, settings in columns:
            assert all(lookup(present, s.column, s.key) == s.value for s in settings)


@pytest.mark.parametrize("first", [1, 2, 3])
@pytest.mark.parametrize("second", [1, 2, 3])
def test_no_number_of_controllers_passes_through_none(first: int, second: int) -> None:
    state = settled(replace(CONFIG, controllers=tuple(f"tcp:192.0.2.{i}:6653" for i in range(first))))
    config = replace(CONFIG, controllers=tuple(f"tcp:192.0.2.{i}:6653" for i in range(100, 100 + second)))
    for step in plan(wanted(config), state).steps:
        state = after(state, step)
        assert state.bridges["br-int"].controllers
    assert targets(state) == sorted(config.controllers)


def limited(state: OvsState, config: AgentConfig = CONFIG, wide: frozenset[int] | None = None) -> Plan:
    return plan(wanted(config), state, limits=wanted_limits(config, wide))


def test_connections_are_limited_once_and_what_others_limit_stays() -> None:
    theirs = {7: 3, 65001: 9}
    state = replace(settled(), datapaths={"netdev": DatapathState(5, theirs), "system": DatapathState()})
    made = limited(state)
    limits = SetLimits("netdev", CONFIG.snat_share, ((65001, CONFIG.snat_conntrack_limit),), keep_others=True)
    assert made.steps == (limits,)
    after = applied(state, made.steps)
    assert limited(after) == Plan()
    assert after.datapaths == {
        "netdev": DatapathState(CONFIG.snat_share, {7: 3, 65001: CONFIG.snat_conntrack_limit}),
        "system": DatapathState(),
    }


def test_zones_of_ports_that_use_no_snat_address_have_more_room_for_as_long_as_they_do() -> None:
    state = replace(settled(), datapaths={"netdev": DatapathState(5, {7: 3})})
    known = applied(state, limited(state, wide=frozenset({4, 30004})).steps)
    assert known.datapaths is not None
    assert known.datapaths["netdev"].zone_limits == {7: 3, 4: 65536, 30004: 65536, 65001: 1048576}
    assert limited(known, wide=frozenset({4, 30004})) == Plan()
    # an agent that has just started has not heard of them
    assert limited(known) == Plan()
    later = applied(known, limited(known, wide=frozenset({5})).steps)
    assert later.datapaths and later.datapaths["netdev"].zone_limits == {7: 3, 5: 65536, 65001: 1048576}


@pytest.mark.parametrize(
    ("options", "share"),
    [
        ({}, 16384),
        ({"snat_share": 0}, 65536),
        ({"conntrack_limit": 500}, 500),
        ({"conntrack_limit": 0}, 16384),
        ({"conntrack_limit": 0, "snat_share": 0}, 0),
        ({"snat_addresses": (("physnet1", "host"),)}, 1024),
        ({"snat_addresses": (("physnet1", "host:203.0.113.9"),), "snat_share": 100}, 100),
        ({"snat_addresses": (("physnet1", "203.0.113.9"),)}, 16384),
    ],
)
def test_the_share_of_a_port(options: dict[str, Any], share: int) -> None:
    config = replace(CONFIG, **options)
    limits = wanted_limits(config, frozenset({4}))
    assert limits.default == share
    assert dict(limits.zones).get(4, share) == config.conntrack_limit


def test_tables_with_many_addresses_are_told_so_and_others_left_alone() -> None:
    state = settled()
    ours = state.bridges["br-int"].prefixes
    assert {"ct_nw_src", "ct_nw_dst"} <= ours[Table.RULES]
    theirs = {7: frozenset({"tun_id"}), Table.RULES: frozenset({"ip_src"})}
    changed = replace(state, bridges={**state.bridges, "br-int": replace(state.bridges["br-int"], prefixes=theirs)})
    assert applied(changed, plan(wanted(CONFIG), changed).steps).bridges["br-int"].prefixes == {**ours, 7: theirs[7]}


@pytest.mark.parametrize("held", [DatapathState(5), DatapathState(16384), DatapathState(16384, {65001: 65536})])
def test_each_limit_is_put_right(held: DatapathState) -> None:
    assert len(limited(replace(settled(), datapaths={"netdev": held})).steps) == 1


def test_no_limit_wanted() -> None:
    """0 is any number of connections, and so is nothing; an earlier limit goes."""
    config = replace(CONFIG, conntrack_limit=0, snat_share=0, snat_conntrack_limit=0)
    assert limited(settled(config), config) == Plan()
    before = applied(settled(), limited(settled()).steps)
    after = applied(before, limited(before, config).steps)
    assert after.datapaths == {"netdev": DatapathState(0, {65001: 0}, frozenset({65001}))}


def test_an_open_vswitch_without_limits_is_told_of() -> None:
    old = replace(settled(), datapaths=None)
    assert limited(old).steps == () and len(limited(old).problems) == 1
    assert limited(old, replace(CONFIG, conntrack_limit=0, snat_share=0, snat_conntrack_limit=0)) == Plan()


FILES = Tls("/t/certificate.pem", "/t/key.pem", "/t/ca.pem", "/t/api-ca.pem")
SSL: dict[str, Value] = {"certificate": FILES.certificate, "private_key": FILES.key, "ca_cert": FILES.ca}


def ssl_steps(state: OvsState, config: AgentConfig) -> Plan:
    made = plan((), state, ssl=wanted_ssl(config))
    for step in made.steps:
        state = after(state, step)
    assert plan((), state, ssl=wanted_ssl(config)).steps == ()
    return made


def test_open_vswitch_gets_the_files_of_tls() -> None:
    config = replace(CONFIG, tls=FILES)
    (added,) = ssl_steps(OvsState(), config).steps
    assert isinstance(added, SetSsl) and len(added.settings) == 3
    other = {**OURS, **SSL, "ca_cert": "/old/ca.pem"}
    assert ssl_steps(OvsState(ssl=other), config).steps == (SetSsl((Setting("ca_cert", FILES.ca),)),)
    assert ssl_steps(OvsState(ssl=other), CONFIG).steps == (), "nothing is taken away"


def test_what_another_has_set_for_tls_stays() -> None:
    config = replace(CONFIG, tls=FILES)
    assert ssl_steps(OvsState(ssl=dict(SSL)), config) == Plan()
    made = ssl_steps(OvsState(ssl={**SSL, "private_key": "/theirs"}), config)
    assert made.steps == () and "private_key should be /t/key.pem" in made.problems[0]


def test_tls_is_there_before_the_controllers_that_need_it() -> None:
    config = replace(CONFIG, tls=FILES, controllers=("ssl:192.0.2.1:6653",))
    steps = plan(wanted(config), OvsState(), ssl=wanted_ssl(config)).steps
    kinds = [type(step) for step in steps]
    assert kinds.index(SetSsl) < kinds.index(AddController)


def test_threat_26_a_hosts_own_traffic_never_depends_on_a_controller() -> None:
    """Only what a controller programs drops all that it has no flow for, and no NIC is ever in there."""
    secure = [b for b in wanted(CONFIG) if Setting("fail_mode", "secure") in b.settings]
    assert [bridge.name for bridge in secure] == ["br-int"] == [b.name for b in wanted(CONFIG) if b.controllers]
    nics = {network.nic for network in CONFIG.physical_networks}
    assert not nics & {port.name for port in secure[0].ports}
    # and one that holds the address by which the host is managed is left alone
    steps = plan(wanted(CONFIG), OvsState(), addressed={"eth1"}).steps
    assert not any(isinstance(step, AddPort) and step.name == "eth1" for step in steps)
