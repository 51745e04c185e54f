"""Laws of the compiler, over random clouds and random edits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.compile import Program, Shared, compile_node, recompile
from flows.diff import Delta, diff
from flows.digest import digest
from flows.ir import Conjunction, Ct, Flow, FlowKey, Goto, MeterConfig, Restart, Resubmit, meters_used
from flows.model import (
    AddressPair,
    Bandwidth,
    Binding,
    Change,
    DatapathType,
    Direction,
    FixedIp,
    FloatingIpChange,
    GatewayMode,
    Ipv6FixedIp,
    Ipv6Mode,
    Migration,
    MigrationPhase,
    Neighbour,
    Network,
    NetworkAddress,
    NetworkChange,
    NetworkKind,
    NodeChange,
    OwnAddress,
    PortChange,
    PortForwarding,
    ProviderRule,
    ProviderRuleChange,
    Qos,
    SecurityGroupChange,
    Service,
    SnatAddress,
    StaticRoute,
)
from flows.pipeline import LOG_METER
from flows.rules import Rule, decode_cookie
from flows.segments import Kind
from flows.snapshot import Snapshot
from tests.ipv6_world import PREFIXES, ROUTER, ipv6_cloud, ipv6_rule, ipv6_subnet, with_address, with_subnet
from tests.world import (
    EXTERNAL,
    NODES,
    cloud,
    egress,
    filtered,
    floating_ip,
    networks,
    node,
    port,
    rule,
    security_group,
    subnet,
)

SECOND = replace(
    networks()[-1],
    id="net-second",
    key=10,
    name="second",
    kind=NetworkKind.VLAN,
    segment=200,
    subnets=(subnet("198.18.64.0/24", "198.18.64.1"),),
)
NETWORKS = {net.id: net for net in (*networks(), SECOND)}
PORTS = {f"port-{key}": (key, net) for key, net in enumerate(list(NETWORKS.values()) * 2, start=50)}


SINGLE_SUBNETS = {net.id: subnet(str(net.subnets[0].cidr), f"{net.subnets[0].cidr[254]}") for net in networks()[:4]}
# what a network may have beside its first subnet
LATER = {
    net.id: [subnet(f"10.{100 + net.key}.0.0/24", f"10.{100 + net.key}.0.1"), subnet(f"10.{150 + net.key}.0.0/24")]
    for net in NETWORKS.values()
}
ROUTES = [
    (StaticRoute(IPv4Network("10.99.0.0/16"), IPv4Address(next_hop)),) if next_hop else ()
    for next_hop in (None, "10.20.0.51", "10.20.0.99")
]
RELAYS = (IPv4Address("203.0.113.1"), IPv4Address("10.99.0.1"))
EXEMPT = [(), (IPv4Network("198.51.100.0/25"),)]


VIRTUAL = AddressPair(IPv4Network("10.20.0.99"), "00:00:5e:00:01:07")
HOLDERS = (51, 53)  # of blue, and of red: an address has one holder on a network
QOS = [
    Qos(),
    Qos(egress=Bandwidth(10_000, 2000), dscp=46),
    Qos(Bandwidth(10_000, 4000), Bandwidth(5000, 2000)),
    Qos(dscp=0),
]


@st.composite
def floating_ips(draw: st.DrawFn) -> Change:
    key = draw(st.integers(1, 4))
    id_ = floating_ip(key).id
    outside = draw(st.sampled_from([EXTERNAL, SECOND.id]))
    kind = draw(st.sampled_from(["gone", "free", "associated", "associated", "forwarding"]))
    if kind == "gone":
        return FloatingIpChange(id_, None)
    led_to = [port(*PORTS[port_id], PORTS[port_id][0], None) for port_id in draw(st.permutations(sorted(PORTS)))[:3]]
    if kind == "free":
        return FloatingIpChange(id_, floating_ip(key))
    if kind == "associated":
        return FloatingIpChange(id_, replace(floating_ip(key, led_to[0]), network_id=outside))
    forwardings = tuple(
        PortForwarding(
            f"forwarding-{key}-{index}",
            10 * key + index,
            draw(st.sampled_from([6, 17])),
            1000 * index,
            1000 * index + draw(st.integers(0, 5)),
            one.id,
            one.fixed_ips[0].address,
            draw(st.sampled_from([22, 1000, 1000 * index])),
        )
        for index, one in enumerate(led_to, start=1)
    )
    return FloatingIpChange(id_, replace(floating_ip(key), network_id=outside, port_forwardings=forwardings))


GROUPS = ("group-1", "group-2", "group-3")
REMOTES = (None, "10.20.0.0/16", "10.20.0.0/24", "10.20.0.51/32", *GROUPS)
SERVICES = ((), (6,), (6, 80), (6, 80, 443), (17, 53), (1,), (47,))
IPV6_REMOTES = (None, "2001:db8:20::/64", "2001:db8::/32", *GROUPS)
IPV6_SERVICES = ((), (6, 80), (58,))


@st.composite
def groups(draw: st.DrawFn) -> Change:
    key = draw(st.integers(1, 3))
    made = draw(
        st.lists(st.tuples(st.sampled_from([rule, egress]), st.sampled_from(SERVICES), st.sampled_from(REMOTES)))
    )
    rules = tuple(
        make(100 * key + index, *service, remote=remote) for index, (make, service, remote) in enumerate(made, start=1)
    )
    over_ipv6 = draw(st.lists(st.tuples(st.sampled_from(IPV6_SERVICES), st.sampled_from(IPV6_REMOTES))))
    rules += tuple(
        ipv6_rule(100 * key + 50 + index, *service, remote=remote, direction=draw(st.sampled_from(list(Direction))))
        for index, (service, remote) in enumerate(over_ipv6)
    )
    flags = {name: draw(st.booleans()) for name in ("stateful", "log_accepted", "log_dropped")}
    return SecurityGroupChange(f"group-{key}", security_group(key, *rules, **flags))


@st.composite
def provider_rules(draw: st.DrawFn) -> Change:
    key = draw(st.integers(1, 3))
    service = Service(*draw(st.sampled_from([(), (6,), (6, 80, 80), (6, 443, 443)])))
    cidr = IPv4Network(draw(st.sampled_from(["0.0.0.0/0", "198.51.100.0/24"])))
    made = ProviderRule(f"provider-{key}", key, cidr, service, draw(st.sampled_from([None, *Direction])))
    return ProviderRuleChange(made.id, draw(st.sampled_from([None, made])))


@st.composite
def edits(draw: st.DrawFn) -> Change:
    kind = draw(
        st.sampled_from(["port", "port", "port", "floating_ip", "floating_ip", "network", "node", "group", "provider"])
    )
    if kind == "group":
        change: Change = draw(groups())
        return change
    if kind == "provider":
        change = draw(provider_rules())
        return change
    if kind == "floating_ip":
        change = draw(floating_ips())
        return change
    if kind == "port":
        id_ = draw(st.sampled_from(sorted(PORTS)))
        key, net = PORTS[id_]
        if draw(st.booleans()):
            return PortChange(id_, None)
        made = port(key, net, key, draw(st.sampled_from([None, *NODES])))
        made = replace(made, qos=draw(st.sampled_from(QOS)))
        if net.id in PREFIXES and draw(st.booleans()):
            made = with_address(made, with_subnet(net))
        more = [FixedIp(one.id, one.cidr[key]) for one in LATER[net.id] if draw(st.booleans())]
        made = replace(made, fixed_ips=(*made.fixed_ips, *more))
        if made.binding is not None and draw(st.booleans()):
            made = replace(made, binding=Binding(made.binding.node, 300 + key, 900 + key))
        if made.binding is not None and draw(st.booleans()):
            phase = draw(st.sampled_from(list(MigrationPhase)))
            node_name = draw(st.sampled_from([name for name in NODES if name != made.binding.node]))
            made = replace(made, migration=Migration(phase, Binding(node_name, 500 + key, 700 + key)))
        of_groups = st.lists(st.sampled_from(GROUPS), unique=True).map(lambda ids: tuple(sorted(ids)))
        made = replace(made, security_groups=draw(st.one_of(st.none(), of_groups)))
        if draw(st.booleans()):
            made = replace(
                made,
                port_security=draw(st.booleans()),
                address_pairs=(pair := draw(st.sampled_from([AddressPair(VIRTUAL.cidr, made.mac), VIRTUAL])),),
                held=draw(st.sampled_from([(), (OwnAddress(pair.cidr.network_address, pair.mac),)]))
                if key in HOLDERS
                else (),
            )
        return PortChange(id_, made)
    if kind == "network":
        net = NETWORKS[draw(st.sampled_from(sorted(NETWORKS)))]
        edited = replace(
            net,
            subnets=(*net.subnets, *(one for one in LATER[net.id] if draw(st.booleans()))),
            gateway_mode=draw(st.sampled_from(list(GatewayMode))),
            dhcp=draw(st.booleans()),
            arp_responder=draw(st.booleans()),
            mtu=draw(st.sampled_from([1300, 1400, 1500])),
            routes=draw(st.sampled_from(ROUTES)),
            snat_exempt=draw(st.sampled_from(EXEMPT)),
            force_snat=draw(st.sampled_from(EXEMPT)),
            own_snat_address=draw(st.booleans()),
            dhcp_relays=draw(st.sampled_from([(), RELAYS[:1], RELAYS])),
            external_network_id=draw(st.sampled_from([None, EXTERNAL])),
            allow_same_net_traffic=draw(st.booleans()),
        )
        if net.id in PREFIXES:
            made_subnet = ipv6_subnet(PREFIXES[net.id], draw(st.sampled_from(list(Ipv6Mode))))
            without_gateway = replace(made_subnet, gateway=None)
            edited = replace(edited, ipv6_subnets=draw(st.sampled_from([(), (made_subnet,), (without_gateway,)])))
        if edited.single:
            way_out = draw(st.sampled_from([None, *NODES]))
            single = SINGLE_SUBNETS.get(net.id, net.subnets[0])
            edited = replace(edited, gateway_node=way_out, subnets=(single, *edited.subnets[1:]))
        return NetworkChange(net.id, edited)
    name = draw(st.sampled_from(NODES))
    if draw(st.integers(0, 5)) == 0:
        return NodeChange(name, None)
    made_node = node(name)
    of_later = (
        NetworkAddress(held.network_id, one.cidr[made_node.key])
        for held in made_node.gateways
        for one in LATER[held.network_id]
    )
    gateways = tuple(held for held in (*made_node.gateways, *of_later) if draw(st.booleans()))
    heard = (
        Neighbour(EXTERNAL, IPv4Address("203.0.113.1"), "02:00:00:00:00:ee"),
        Neighbour(EXTERNAL, ROUTER, "02:00:00:00:00:ef"),
    )
    neighbours = draw(st.sampled_from([(), heard[:1], heard]))
    held = SnatAddress(EXTERNAL, IPv4Address("203.0.113.77"), host=draw(st.booleans()))
    own = SnatAddress(EXTERNAL, IPv4Address("203.0.113.78"), "net-blue")
    snat = draw(st.sampled_from([(), (held,), (held, own)]))
    uplinks = draw(st.sampled_from([made_node.uplinks, made_node.uplinks[:1], ()]))
    edited_node = replace(made_node, gateways=gateways, neighbours=neighbours, snat_addresses=snat, uplinks=uplinks)
    return NodeChange(name, replace(edited_node, datapath_type=draw(st.sampled_from(DatapathType))))


scripts = st.lists(st.lists(edits(), min_size=1, max_size=3), min_size=1, max_size=8)


def _coalesced(changes: Iterable[Change]) -> list[Change]:
    """The last change of each object, as the journal gives them."""
    last: dict[tuple[type, str], Change] = {}
    for change in changes:
        last[(type(change), change.id)] = change
    return list(last.values())


def _apply(installed: dict[FlowKey, Flow], delta: Delta) -> None:
    for flow in delta.deletes:
        assert flow.key in installed, "a delete of what is not there"
        del installed[flow.key]
    for flow in delta.upserts:
        installed[flow.key] = flow


@cache
def _base() -> Snapshot:
    return ipv6_cloud().apply(1, [NetworkChange(SECOND.id, SECOND)])


@cache
def _base_programs() -> dict[str, Program]:
    return {name: compile_node(_base(), name) for name in NODES}


def _apply_meters(installed: dict[int, MeterConfig], delta: Delta) -> None:
    for id_ in delta.gone_meters:
        del installed[id_]
    for meter in delta.meters:
        installed[meter.id] = meter


@settings(max_examples=40, deadline=None)
@given(scripts)
def test_incremental_is_full(script: list[list[Change]]) -> None:
    snapshot = _base()
    programs = dict(_base_programs())
    installed = {name: {flow.key: flow for flow in program.flows()} for name, program in programs.items()}
    meters = {name: {meter.id: meter for meter in program.meters()} for name, program in programs.items()}
    for step, edit in enumerate(script, start=2):
        changes = _coalesced(edit)
        after = snapshot.apply(step, changes)
        shared: Shared = {}  # what nodes have in common may not make any of them other than it is alone
        for name in NODES:
            programs[name], delta = recompile(programs[name], snapshot, after, changes, name, shared)
            _apply(installed[name], delta)
            _apply_meters(meters[name], delta)
            whole = compile_node(after, name) if name in after.nodes else Program()
            assert set(installed[name].values()) == set(whole.flows())
            assert programs[name].digest == whole.digest == delta.digest
            assert set(meters[name].values()) == set(whole.meters())
            assert len(programs[name]) == len(whole) == len(installed[name])
            assert not whole.failures, whole.failures
        snapshot = after
    for program in programs.values():
        assert program.digest == digest(program.flows(), program.meters())


@settings(max_examples=50, deadline=None)
@given(scripts)
def test_edit_then_revert_is_identity(script: list[list[Change]]) -> None:
    before = _base()
    changes = _coalesced(change for edit in script for change in edit)
    after = before.apply(2, changes)
    back = after.changes_to(before)
    reverted = after.apply(1, back)
    assert reverted == before
    for name in NODES:
        program = _base_programs()[name]
        there, forth = recompile(program, before, after, changes, name)
        again, home = recompile(there, after, reverted, back, name)
        assert again.digest == program.digest
        assert {flow.key for flow in forth.upserts} >= {flow.key for flow in home.deletes}


@settings(max_examples=50, deadline=None)
@given(scripts)
def test_flows_are_well_formed(script: list[list[Change]]) -> None:
    snapshot = _base().apply(2, _coalesced(change for edit in script for change in edit))
    for name in snapshot.nodes:
        program = compile_node(snapshot, name)
        flows = list(program.flows())
        assert len({flow.key for flow in flows}) == len(flows), "two flows with one identity"
        meters = [meter.id for meter in program.meters()]
        used = {meter for flow in flows for meter in meters_used(flow)}
        used.add(LOG_METER)  # there even while nothing is reported
        assert used == set(meters) and len(used) == len(meters), "a meter that is missing, not used, or there twice"
        tables = {flow.table for flow in flows}
        for flow in flows:
            decoded = decode_cookie(flow.cookie)
            assert decoded is not None and decoded[0].table == flow.table
            assert decoded[0].drop == (not flow.actions)
            for action in flow.actions:
                if isinstance(action, (Goto, Ct, Restart)):
                    assert action.table is None or action.table in tables, f"{decoded[0].name} leads to an empty table"
                elif isinstance(action, Resubmit):
                    assert action.table > flow.table
        _assert_no_ambiguity(flows)


def _assert_no_ambiguity(flows: list[Flow]) -> None:
    """No packet matches two flows of one table and priority, unless both do the same or are clauses."""
    by_place: dict[tuple[int, int], list[Flow]] = {}
    for flow in flows:
        by_place.setdefault((flow.table, flow.priority), []).append(flow)
    for group in by_place.values():
        for index, one in enumerate(group):
            for other in group[index + 1 :]:
                clauses = _is_clause(one) and _is_clause(other)
                assert clauses or one.actions == other.actions or not _overlap(one, other), (one, other)


def _is_clause(flow: Flow) -> bool:
    return any(isinstance(action, Conjunction) for action in flow.actions)


def _overlap(one: Flow, other: Flow) -> bool:
    theirs = {name: (value, mask) for name, value, mask in other.match}
    for name, value, mask in one.match:
        if name not in theirs:
            continue
        their_value, their_mask = theirs[name]
        common = (-1 if mask is None else mask) & (-1 if their_mask is None else their_mask)
        if (value ^ their_value) & common:
            return False
    return True


def test_diff_reaches_its_target() -> None:
    snapshot = cloud()
    one, two = (list(compile_node(snapshot, name).flows()) for name in ("n1", "n2"))
    installed = {flow.key: flow for flow in one}
    _apply(installed, diff(one, two, digest(two)))
    assert set(installed.values()) == set(two)


def test_a_port_costs_at_most_25_flows_however_many_there_are() -> None:
    def snapshot(count: int) -> Snapshot:
        net = NETWORKS["net-blue"]
        ports = [port(key, net, key % 250 + 1, NODES[key % 3], 100 + key) for key in range(1, count + 1)]
        base = Snapshot.build(1, networks(), ports, [node(name) for name in NODES])
        return filtered(base, security_group(1, egress(1), rule(2, 6, 22)))

    small, large = (compile_node(snapshot(count), "n1") for count in (30, 240))
    per_port = (len(large) - len(small)) / 70
    assert per_port <= 25


def test_a_bad_port_stops_no_other() -> None:
    base = cloud()
    bad = replace(port(77, NETWORKS["net-blue"], 77, "n1"), mac="not a MAC")
    changes = [PortChange(bad.id, bad), PortChange("port-78", port(78, NETWORKS["net-blue"], 78, "n1"))]
    after = base.apply(2, changes)
    program, delta = recompile(compile_node(base, "n1"), base, after, changes, "n1")
    assert list(program.failures) == [(Kind.PORT, bad.id)]
    assert any(flow.cookie & 0xFFFFFFFF == 78 for flow in delta.upserts)
    whole = compile_node(after, "n1")
    assert (whole.digest, whole.failures) == (program.digest, program.failures)
    mended = [PortChange(bad.id, port(77, NETWORKS["net-blue"], 77, "n1"))]
    program, _ = recompile(program, after, after.apply(3, mended), mended, "n1")
    assert not program.failures


@pytest.mark.parametrize("edit", [None, {"key": 77}])
def test_what_hands_on_follows_the_node_that_it_hands_on_to(edit: dict[str, int] | None) -> None:
    base = cloud()
    here, there = base.ports["port-20"], base.ports["port-21"]
    assert [one.binding.node for one in (here, there) if one.binding is not None] == ["n1", "n2"]
    forwarded = tuple(
        PortForwarding(one.id, key, 6, 2000 + key, 2000 + key, one.id, one.fixed_ips[0].address, 22)
        for key, one in enumerate((here, there), start=1)
    )
    before = base.apply(2, [FloatingIpChange("f", replace(floating_ip(2), id="f", port_forwardings=forwarded))])
    change = NodeChange("n2", None if edit is None else replace(base.nodes["n2"], key=edit["key"]))
    after = before.apply(3, [change])
    program, delta = recompile(compile_node(before, "n1"), before, after, [change], "n1")
    assert delta and program.digest == compile_node(after, "n1").digest


@pytest.mark.parametrize(
    ("changed", "mtu"), [(EXTERNAL, 1400), (SECOND.id, 1400), ("net-red", 1400), ("net-blue", 9000)]
)
def test_sizes_follow_the_mtu_of_every_network_that_they_compare(changed: str, mtu: int) -> None:
    """Floating IPs and forwardings of another external network, a network with carrier addresses, two of one router."""
    base = _base()
    owner, led = base.ports["port-20"], base.ports["port-30"]
    forwarding = PortForwarding("led", 1, 6, 2000, 2000, led.id, led.fixed_ips[0].address, 22)
    held = [replace(floating_ip(1, owner), network_id=SECOND.id)]
    held.append(replace(floating_ip(2), network_id=SECOND.id, port_forwardings=(forwarding,)))
    before = base.apply(2, [FloatingIpChange(one.id, one) for one in held])
    change = NetworkChange(changed, replace(before.networks[changed], mtu=mtu))
    after = before.apply(3, [change])
    program, delta = recompile(compile_node(before, "n1"), before, after, [change], "n1")
    assert delta and program.digest == compile_node(after, "n1").digest


def worlds_of_every_rule() -> list[Snapshot]:
    """Clouds in which each rule has a flow on n1, but for those of flows that are not compiled."""
    base = ipv6_cloud()
    shared, external = base.networks["net-blue"], base.networks[EXTERNAL]
    here, there = base.ports["port-20"], base.ports["port-21"]
    next_hop = here.fixed_ips[0].address
    n1 = base.nodes["n1"]
    host = replace(n1, snat_addresses=(replace(n1.snat_addresses[0], host=True),))
    forwarded = tuple(
        PortForwarding(one.id, key, 6, 2000 + key, 2000 + key, one.id, one.fixed_ips[0].address, 22)
        for key, one in enumerate((here, there), start=1)
    )
    changes = {"snat_exempt": EXEMPT[1], "force_snat": EXEMPT[1], "routes": (StaticRoute(EXEMPT[1][0], next_hop),)}
    lifted = replace(shared, gateway_mode=GatewayMode.EXTERNAL, **changes)  # type: ignore[arg-type]
    associated = FloatingIpChange(floating_ip(1).id, floating_ip(1, here))
    by_second = FloatingIpChange(floating_ip(1).id, replace(floating_ip(1, here), network_id=SECOND.id))
    to_both = FloatingIpChange("f", replace(floating_ip(2), id="f", port_forwardings=forwarded))
    on_kernel = NodeChange("n1", replace(n1, datapath_type=DatapathType.SYSTEM))
    return [
        base.apply(2, [on_kernel, to_both]),
        base.apply(2, [NetworkChange(shared.id, replace(shared, **changes))]),  # type: ignore[arg-type]
        base.apply(2, [NetworkChange(shared.id, lifted), associated]),
        base.apply(2, [NetworkChange(external.id, replace(external, mtu=1400)), NodeChange("n1", host)]),
        base.apply(2, [to_both]),
        base.apply(2, [NetworkChange(shared.id, replace(shared, mtu=1400))]),
        base.apply(2, [NetworkChange(SECOND.id, replace(SECOND, mtu=1400)), by_second]),
        base,
        replace(base, drop_private=True),
        base.apply(2, [NetworkChange(shared.id, replace(shared, arp_responder=True))]),
        base.apply(2, [PortChange("port-99", port(99, NETWORKS[EXTERNAL], 99, "n1"))]),
        base.apply(2, list(_moving())),
        *_policed(base),
        *_over_ipv6(base),
        base.apply(2, [NetworkChange(shared.id, replace(shared, dhcp_relays=RELAYS))]),
        base.apply(2, [PortChange(here.id, replace(here, qos=QOS[2]))]),
        base.apply(2, [PortChange(here.id, replace(here, address_pairs=(VIRTUAL,)))]),
        *(base.apply(2, [NetworkChange(shared.id, _single(way_out))]) for way_out in ("n1", "n2")),
    ]


def test_every_rule_is_used() -> None:
    """A rule that no flow carries is a promise that is not kept."""
    seen = set()
    for snapshot in worlds_of_every_rule():
        for flow in compile_node(snapshot, "n1").flows():
            decoded = decode_cookie(flow.cookie)
            assert decoded is not None
            seen.add(decoded[0])
    learned = {Rule.LEARNED_NEXT_HOP, Rule.LEARNED_NEIGHBOUR, Rule.LEARNED_AWAKE}
    muted = {rule for rule in Rule if rule.name.startswith("DROP_FLOOD_")}
    by_meters = {Rule.DROP_FRAGMENTS}
    assert set(Rule) - seen == {Rule.STAMP, *learned, *muted, *by_meters}


def _over_ipv6(base: Snapshot) -> Iterator[Snapshot]:
    here, there = base.networks["net-blue"], base.ports["port-20"]
    router = replace(there, ipv6_addresses=(Ipv6FixedIp("subnet", IPv6Address("2001:db8:20::1")),))
    by_router = replace(here, gateway_mode=GatewayMode.EXTERNAL)
    yield base.apply(2, [NetworkChange(here.id, by_router), PortChange(there.id, router)])
    yield base.apply(
        2, [NetworkChange(here.id, replace(here, ipv6_subnets=(with_subnet(here, Ipv6Mode.SLAAC)).ipv6_subnets))]
    )
    yield base.apply(2, [PortChange(there.id, replace(there, port_security=False, qos=QOS[2]))])


def _single(gateway_node: str | None) -> Network:
    net = NETWORKS["net-blue"]
    return replace(net, gateway_mode=GatewayMode.SINGLE, gateway_node=gateway_node, subnets=(SINGLE_SUBNETS[net.id],))


@pytest.mark.parametrize("edit", [None, {"key": 77}, {"uplinks": ()}])
def test_a_network_follows_the_node_that_is_its_way_out(edit: dict[str, object] | None) -> None:
    base = cloud()
    before = base.apply(2, [NetworkChange("net-blue", _single("n2"))])
    change = NodeChange("n2", None if edit is None else replace(base.nodes["n2"], **edit))  # type: ignore[arg-type]
    after = before.apply(3, [change])
    program, delta = recompile(compile_node(before, "n1"), before, after, [change], "n1")
    assert delta and program.digest == compile_node(after, "n1").digest


def _policed(base: Snapshot) -> Iterator[Snapshot]:
    services = (egress(1), egress(2, 6, 80, remote="group-1"), rule(3), rule(4, 6, 22, remote="group-1"))
    for flags in ({"log_accepted": True, "log_dropped": True}, {}):
        yield filtered(base, security_group(1, *services, **flags))
    moving = base.apply(2, list(_moving()))
    yield filtered(moving, security_group(1, *services))
    trusted = replace(base.ports["port-20"], port_security=False)
    yield base.apply(2, [PortChange(trusted.id, trusted)])
    dropped = ProviderRule("p", 1, IPv4Network("198.51.100.0/24"), Service(6, 80, 80))
    yield base.apply(2, [ProviderRuleChange("p", dropped)])


def _moving() -> Iterator[PortChange]:
    """VMs that n1 gives away, expects, has given away and has got, two of them on an external network."""
    here, there = Binding("n1", 301, 901), Binding("n2", 302, 902)
    for key, (phase, binding, other) in enumerate(product(MigrationPhase, *[(here, there)] * 2), start=60):
        if binding != other:
            for net in (NETWORKS["net-blue"], NETWORKS[EXTERNAL]):
                made = port(key + net.key * 10, net, key, "n1")
                yield PortChange(made.id, replace(made, binding=binding, migration=Migration(phase, other)))
