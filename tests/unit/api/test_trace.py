"""POST /v1/trace: whom names mean, who is told what, and the shape of the answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from controller.api.gate import make_app
from controller.api.limits import AT_ONCE
from controller.api.trace_answers import LiveHop, shown
from controller.green import Turns
from controller.live_tracing import Answer
from controller.session_questions import NoAnswer
from controller.store.specs import LeaseRecord, Unavailable
from flows.compile import Program, compile_node
from flows.explain.probe import Probe
from flows.explain.trace import Finding, Severity, Trace, Verdict
from flows.segments import Kind
from tests.unit.api.world import World


@pytest.fixture
def cloud(world: World) -> World:
    """Two nodes and networks of project a, one of b with the same range, and a shared one."""
    for number in (1, 2):
        world.node(f"n{number}", number, physical_networks=["physnet1", "physnet-ext"])
    domain = {"dns_domain": "a.example"}
    blue = world.network(name="blue", project_id="a", subnets=[{"cidr": "10.20.0.0/24"}], **domain)
    green = world.network(name="green", project_id="a", subnets=[{"cidr": "10.21.0.0/24"}])
    red = world.network(name="red", project_id="b", subnets=[{"cidr": "10.20.0.0/24"}])
    hall = world.network(name="hall", shared=True, subnets=[{"cidr": "10.30.0.0/24"}])
    places: dict[str, list[dict[str, Any]]] = {"n1": [], "n2": []}
    for number, (name, network, project, node) in enumerate(
        (
            ("web1", blue, "a", "n1"),
            ("web2", blue, "a", "n2"),
            ("db1", green, "a", "n2"),
            ("secret", red, "b", "n2"),
            ("mine", hall, "a", "n1"),
            ("theirs", hall, "b", "n2"),
        )
    ):
        made = world.port(network["id"], name=name, hostname=name, project_id=project)
        places[node].append({"iface_id": made["id"], "ofport": 100 + number})
    world.port(blue["id"], name="nowhere", project_id="a")
    for node, interfaces in places.items():
        shown = {"serial": 1, "uplinks": {"physnet1": 65001}, "interfaces": interfaces}
        world.ok("PUT", f"/v1/nodes/{node}/interfaces", shown, "agent")
    return world


def trace(world: World, token: str = "admin", **body: Any) -> dict[str, Any]:
    found: dict[str, Any] = world.ok("POST", "/v1/trace", body, token)
    return found


def address_of(world: World, name: str) -> str:
    return str(world.ok("GET", f"/v1/ports?name={name}")["ports"][0]["fixed_ips"][0]["address"])


def test_from_port_to_port(cloud: World) -> None:
    answer = trace(cloud, "member-a", port="web1", to="web2", protocol="icmp")
    assert answer["verdict"] == "delivered" and "delivered to port web2 on n2" in answer["summary"]
    assert [hop["node"] for hop in answer["hops"]] == ["n1", "n2"]
    first, last = answer["hops"]
    web1 = cloud.ok("GET", "/v1/ports?name=web1")["ports"][0]
    assert first["in"] == {"kind": "port", "name": "web1", "id": web1["id"]}
    assert first["steps"][0] == {
        "table": 0,
        "table_name": "classify",
        "rule": "classify_port",
        "object": {"kind": "port", "id": web1["id"], "name": "web1"},
        "text": "it comes from port web1",
    }
    assert first["drop"] is last["drop"] is None
    assert [end["name"] for end in last["out"]] == ["web2"]
    assert answer["reply"]["verdict"] == "delivered" and answer["live"] is answer["reply"]["live"] is None
    assert answer["packet"]["protocol"] == "icmp" and answer["packet"]["to"] == address_of(cloud, "web2")
    # to a member the wire has no name
    assert (first["out"][0]["name"], last["in"]) == ("the wire", {"kind": "uplink", "name": "the wire", "id": None})
    assert trace(cloud, port="web1", to="web2")["hops"][0]["out"][0]["name"] == "physnet1"
    assert trace(cloud, port="web1", to="web2", reply=False)["reply"] is None


def told(verdict: Verdict, *severities: Severity, reply: Trace | None = None) -> Trace:
    return Trace(verdict, "", {}, tuple(Finding(one, "") for one in severities), reply=reply)


@pytest.mark.parametrize(
    ("it", "arrives"),
    [
        (told(Verdict.DELIVERED), True),
        (told(Verdict.ANSWERED), True),
        (told(Verdict.CONTROLLER), True),
        (told(Verdict.LEFT, reply=told(Verdict.DELIVERED)), True),
        (told(Verdict.DELIVERED, reply=told(Verdict.DROPPED)), False),
        (told(Verdict.LOST), False),
        (told(Verdict.LEFT, Severity.NOTE, Severity.ERROR), False),
        (told(Verdict.DELIVERED, Severity.WARNING), True),
    ],
)
def test_whether_it_arrives(it: Trace, arrives: bool) -> None:
    said = {None: True, True: True, False: False}
    assert shown(it)["arrives"] is arrives
    for agrees, well in said.items():
        hops = [live_hop(True), live_hop(agrees)]
        found = shown(it, hops, hops)
        assert found["arrives"] is (arrives and well)
        if it.reply is not None:
            assert found["reply"]["arrives"] is (it.reply.verdict.arrived and well)
            assert shown(it, None, hops)["arrives"] is (arrives and well)


def live_hop(agrees: bool | None) -> LiveHop:
    return {"node": "n1", "agrees": agrees, "text": "", "steps": [], "alike": 0, "actions": [], "outputs": []}


def test_a_name_is_what_the_vm_would_be_told(cloud: World) -> None:
    zone = cloud.ok("POST", "/v1/dns-zones", {"name": "lab.example", "project_id": "a"})["dns_zone"]
    for name, kind, data in (("db", "A", address_of(cloud, "db1")), ("alias", "CNAME", "web2.a.example.")):
        body = {"zone_id": zone["id"], "name": name, "type": kind, "data": data}
        cloud.ok("POST", "/v1/dns-records", body)
    for name, port in (("db.lab.example", "db1"), ("alias.lab.example", "web2"), ("web2.a.example", "web2")):
        assert trace(cloud, port="web1", to=name)["packet"]["to"] == address_of(cloud, port)
    refused = cloud.call("POST", "/v1/trace", {"port": "theirs", "to": "db.lab.example"})
    assert refused.refusal == (404, "target_unknown", "to")


def test_what_is_wrong_with_the_question_is_said(cloud: World) -> None:
    def refusal(token: str = "admin", **body: Any) -> tuple[int, str, str | None]:
        return cloud.call("POST", "/v1/trace", body, token).refusal

    assert refusal(to="192.0.2.1") == (400, "missing_field", "port")
    assert refusal(port="web1") == (400, "missing_field", "to")
    assert refusal(port="nobody", to="192.0.2.1") == (404, "port_unknown", "port")
    assert refusal(port="web1", to="nobody") == (404, "target_unknown", "to")
    assert refusal(port="web1", to="web2", protocol="icmpv6") == (409, "no_address", "to")
    assert refusal(port="web1", to="web2", destination_port=80) == (400, "invalid_field", "destination_port")
    assert refusal(port="web1", to="web2", protocol="tcp", icmp_type=8) == (400, "invalid_field", "icmp_type")
    assert refusal(port="web1", to="2001:db8::1", protocol="icmp") == (400, "invalid_field", "protocol")
    assert refusal(port="web1", to="192.0.2.1", from_address="2001:db8::1") == (400, "invalid_field", "from_address")
    assert refusal("member-a", port="web1", to="web2", live=True) == (403, "forbidden", "live")
    blue = cloud.ok("GET", "/v1/networks?name=blue")["networks"][0]["id"]
    cloud.port(blue, name="web2", project_id="a")
    assert refusal(port="web1", to="web2") == (409, "ambiguous", "to")
    assert refusal(port="web2", to="web1") == (409, "ambiguous", "port")


def test_other_projects_are_not_named(cloud: World) -> None:
    for name in ("secret", "theirs"):
        assert cloud.call("POST", "/v1/trace", {"port": name, "to": "192.0.2.1"}, "member-a").status == 404
        assert cloud.call("POST", "/v1/trace", {"port": "web1", "to": name}, "member-a").status == 404
    theirs = cloud.ok("GET", "/v1/ports?name=theirs")["ports"][0]
    assert cloud.call("POST", "/v1/trace", {"port": "web1", "to": theirs["id"]}, "member-a").status == 404
    body = {"port": "mine", "to": address_of(cloud, "theirs"), "protocol": "tcp", "destination_port": 80}
    reply = cloud.call("POST", "/v1/trace", body, "member-a")
    assert reply.json["verdict"] in ("delivered", "dropped")
    for hidden in ("theirs", theirs["id"], "physnet1"):
        assert hidden not in reply.data.decode()
    assert "theirs" in cloud.call("POST", "/v1/trace", body).data.decode()


def test_how_nodes_and_ports_are_is_said(cloud: World) -> None:
    answer = trace(cloud, port="web1", to="nowhere")
    assert answer["verdict"] == "lost"
    assert any("port nowhere is on no node" in one["text"] for one in answer["findings"])
    cloud.disconnected.add("n2")
    found = trace(cloud, port="web1", to="web2")["findings"]
    assert {"severity": "warning"}.items() <= next(one for one in found if "n2 is not connected" in one["text"]).items()
    assert any("never been given its address by DHCP" in one["text"] for one in found)


def test_live(cloud: World) -> None:
    asked: list[Mapping[str, Sequence[Probe]]] = []

    def live(answer: Callable[[str, Sequence[Probe]], Answer]) -> None:
        def ask(probes: Mapping[str, Sequence[Probe]]) -> dict[str, Answer]:
            asked.append(probes)
            return {node: answer(node, of_node) for node, of_node in probes.items()}

        cloud.services = replace(cloud.services, live_trace=ask, registry=CollectorRegistry())
        cloud.app = make_app(cloud.services)

    def of(answer: dict[str, Any]) -> list[tuple[str, bool | None]]:
        ways = (answer, answer["reply"] or {"live": []})
        return [(hop["node"], hop["agrees"]) for way in ways for hop in way["live"]]

    answer = trace(cloud, "reader", port="web1", to="web2", live=True)
    assert answer["live"] is None and "cannot ask the agents" in answer["findings"][-1]["text"]
    live(lambda node, probes: [_as_computed(probe) for probe in probes])
    answer = trace(cloud, port="web1", to="web2", live=True)
    assert of(answer) == [("n1", True), ("n2", True), ("n2", True), ("n1", True)]
    said = [hop["text"] for way in (answer, answer["reply"]) for hop in way["live"]]
    out = ["out by physnet1", "out by web2", "out by physnet1", "out by web1"]
    assert said == [f"decides the same: {text}" for text in out]
    (both,) = asked
    assert [(probe.in_port, probe.table) for probe in both["n2"] if probe.table == 0] == [(65001, 0), (101, 0)]
    assert both["n1"][0].in_port == 100 and both["n1"][0].fields["ip_proto"] == 1 and "size" not in both["n1"][0].fields
    assert [len(hop["outputs"]) for hop in answer["live"]] == [3, 2] and answer["live"][0]["actions"] == ["drop"] * 3
    first, second = (hop["steps"] for hop in answer["live"])
    assert first[0]["text"] == "it comes from port web1" and second[0]["rule"] == "classify_uplink"
    assert of(trace(cloud, port="web1", to="web2", live=True, reply=False)) == [("n1", True), ("n2", True)]
    live(lambda node, probes: ["Flow: icmp"] * len(probes) if node == "n2" else [_as_computed(it) for it in probes])
    answer = trace(cloud, port="web1", to="web2", live=True)
    assert of(answer) == [("n1", True), ("n2", False), ("n2", False), ("n1", True)]
    wrong = [one["text"] for one in answer["findings"] if "decides otherwise" in one["text"]]
    no_further = "it comes no further, and should come to classify_uplink (network blue) in table 0 (classify)"
    assert wrong[0] == f"the switch of n2 decides otherwise: {no_further}"
    assert wrong[1].startswith("the answer: the switch of n2 decides otherwise: ") and len(wrong) == 2
    assert answer["live"][1]["text"] == f"decides otherwise: {no_further}"
    live(lambda node, probes: NoAnswer("busy") if node == "n2" else [_as_computed(it) for it in probes])
    answer = trace(cloud, port="web1", to="web2", live=True)
    assert of(answer) == [("n1", True), ("n2", None), ("n2", None), ("n1", True)]
    assert [one["text"] for one in answer["findings"]][-1] == "the switch of n2 was asked in vain: busy"
    assert sum("asked in vain" in one["text"] for one in answer["findings"]) == 1
    nothing = {"agrees": None, "text": "was asked in vain: busy", "steps": [], "alike": 0, "actions": [], "outputs": []}
    assert answer["live"][1] == {"node": "n2", **nothing}
    live(lambda node, probes: [_as_computed(it) for it in probes[:3]])
    answer = trace(cloud, port="web1", to="web2", live=True)
    assert of(answer) == [("n1", True), ("n2", True), ("n2", None), ("n1", None)]
    assert answer["reply"]["live"][0]["text"] == "was not asked: too much of this comes to one node"
    answer = trace(cloud, port="nowhere", to="web1", live=True)
    assert answer["live"] is None and answer["findings"][-1]["text"] == "no switch was asked: the packet comes to none"


def test_live_says_how_far_it_was_asked(cloud: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.explain.probe.MOST_STRETCHES", 1)
    ask = lambda asked: {node: [_as_computed(it) for it in probes] for node, probes in asked.items()}  # noqa: E731
    cloud.app = make_app(replace(cloud.services, live_trace=ask, registry=CollectorRegistry()))
    answer = trace(cloud, port="web1", to="web2", live=True)
    assert answer["live"][0]["text"].endswith("(as far as it was asked: 2 more times it comes back from conntrack)")


def test_others_of_its_token_are_worked_on_while_it_waits_for_nodes(cloud: World) -> None:
    all_wait, answered = threading.Barrier(AT_ONCE + 1), threading.Event()

    def ask(asked: Mapping[str, Sequence[Probe]]) -> dict[str, Answer]:
        all_wait.wait(30)
        assert answered.wait(30)
        return dict.fromkeys(asked, NoAnswer("silent"))

    cloud.app = make_app(replace(cloud.services, live_trace=ask, registry=CollectorRegistry()))
    with ThreadPoolExecutor(AT_ONCE + 1) as pool:
        traces = [pool.submit(trace, cloud, port="web1", to="web2", live=True) for _ in range(AT_ONCE)]
        all_wait.wait(30)
        other = pool.submit(cloud.ok, "GET", "/v1/networks")
        try:
            assert other.result(10)["networks"]
        finally:
            answered.set()
        assert {one.result(30)["live"][0]["text"] for one in traces} == {"was asked in vain: silent"}


def _as_computed(probe: Probe) -> str:
    """What Open vSwitch would say."""
    lines = ['bridge("br-int")']
    for table, cookie, priority in probe.lookups:
        lines.append(f"{table:2}. " + ("No match." if cookie is None else f"priority {priority}, cookie {cookie:#x}"))
    lines += [f"    output:{port}" for port in probe.outputs]
    return "\n".join([*lines, "Datapath actions: drop"])


def test_others_get_their_turn() -> None:
    given: list[float] = []
    now = [0.0]
    turns = Turns(0.005, lambda: given.append(now[0]), lambda: now[0])
    for at in (0.001, 0.004, 0.006, 0.008, 0.020):
        now[0] = at
        turns()
    assert given == [0.006, 0.020]


def test_it_is_answered_without_a_database(cloud: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(**_filters: object) -> list[object]:
        raise Unavailable("database_unavailable", "no answer")

    monkeypatch.setattr(cloud.store, "list_leases", away)
    answer = trace(cloud, port="web1", to="web2")
    assert answer["verdict"] == "delivered"
    assert not any("DHCP" in one["text"] for one in answer["findings"])


def test_a_lease_of_this_very_second_counts(cloud: World) -> None:
    told: list[LeaseRecord] = []
    for name in ("web1", "web2"):
        port = cloud.ok("GET", f"/v1/ports?name={name}")["ports"][0]
        address = IPv4Address(port["fixed_ips"][0]["address"])
        told.append(LeaseRecord(port["id"], address, "bound", 1e9, 2e9))
    settled = replace(
        cloud.services, settle_leases=lambda: cloud.store.record_leases(told), registry=CollectorRegistry()
    )
    cloud.app = make_app(settled)
    assert trace(cloud, port="web1", to="web2")["findings"] == []


def test_it_goes_by_what_the_controller_has_computed(cloud: World) -> None:
    snapshot = cloud.services.snapshot()
    whole = compile_node(snapshot, "n1").segments
    halved = Program({key: segment for key, segment in whole.items() if key[0] is not Kind.PORT}, size=1)
    computed = replace(cloud.services, programs=lambda: (snapshot, {"n1": halved}), registry=CollectorRegistry())
    cloud.app = make_app(computed)
    answer = trace(cloud, port="web1", to="web2")
    assert (answer["verdict"], answer["hops"][0]["drop"]["rule"]) == ("dropped", "drop_unclassified")
    # of n2 nothing is known, so it is compiled
    assert trace(cloud, port="web2", to="web1")["hops"][0]["steps"][0]["rule"] == "classify_port"


def test_what_is_behind_the_floating_ip_of_another_project_is_not_told(cloud: World) -> None:
    """Threat 27: neither the address there, nor the MAC, also not in what the answer looks like."""
    pool = cloud.pool()
    far = cloud.network(name="far", project_id="b", subnets=[{"cidr": "10.77.0.0/24"}])
    cloud.port(far["id"], name="hidden", project_id="b")
    for node, name in (("n1", "web1"), ("n2", "hidden")):
        port = cloud.ok("GET", f"/v1/ports?name={name}")["ports"][0]
        uplinks = {"physnet1": 65001, "physnet-ext": 65002}
        body = {"serial": 2, "uplinks": uplinks, "interfaces": [{"iface_id": port["id"], "ofport": 200}]}
        cloud.ok("PUT", f"/v1/nodes/{node}/interfaces", body, "agent")
    secret = cloud.ok("GET", "/v1/ports?name=hidden")["ports"][0]
    rule = {"security_group_id": secret["security_groups"][0]["id"], "direction": "ingress", "protocol": "icmp"}
    cloud.ok("POST", "/v1/security-group-rules", rule, "member-b")
    port = cloud.ok("GET", "/v1/ports?name=web1")["ports"][0]
    cloud.floating_ip(pool["name"], "member-a", port_id=port["id"])
    theirs = cloud.floating_ip(pool["name"], "member-b", port_id=secret["id"])["address"]

    found = trace(cloud, "member-a", port="web1", to=theirs)
    assert found["verdict"] == found["reply"]["verdict"] == "delivered"
    assert found["reply"]["packet"]["from"] == theirs
    told = str(found)
    assert secret["mac"] not in told and f"{secret['fixed_ips'][0]['address']}'" not in told
    assert "translated to an address of its owner's" in told
    known = trace(cloud, "member-b", from_address="192.0.2.7", to=theirs)
    assert f"translated to {secret['fixed_ips'][0]['address']}" in str(known)
    refused = cloud.call("POST", "/v1/trace", {"from_address": "192.0.2.7", "to": theirs}, "member-a")
    assert refused.refusal == (403, "forbidden", "to")
    free = cloud.call("POST", "/v1/trace", {"from_address": "192.0.2.7", "to": "203.0.113.77"}, "member-a")
    assert free.refusal == refused.refusal and free.error["message"] == refused.error["message"]


@pytest.mark.parametrize("node", ["n1", "n2"])
def test_on_which_node_the_floating_ip_of_another_project_is_not_told(cloud: World, node: str) -> None:
    """Threat 27: also to a project that has a port on that node itself."""
    pool = cloud.pool()
    far = cloud.network(name="far", project_id="b", subnets=[{"cidr": "10.77.0.0/24"}])
    hidden = cloud.port(far["id"], name="hidden", project_id="b")
    group = {"security_group_id": hidden["security_groups"][0]["id"], "direction": "ingress", "protocol": "icmp"}
    cloud.ok("POST", "/v1/security-group-rules", group, "member-b")
    mine = cloud.ok("GET", "/v1/ports?name=web1")["ports"][0]
    own = cloud.port(mine["network_id"], name="own-on-n2", project_id="a")
    shown = {"n1": [mine["id"]], "n2": [own["id"]]}
    shown[node].append(hidden["id"])
    for name, ids in shown.items():
        interfaces = [{"iface_id": id_, "ofport": 200 + index} for index, id_ in enumerate(ids)]
        body = {"serial": 2, "uplinks": {"physnet1": 65001, "physnet-ext": 65002}, "interfaces": interfaces}
        cloud.ok("PUT", f"/v1/nodes/{name}/interfaces", body, "agent")
    cloud.floating_ip(pool["name"], "member-a", port_id=mine["id"])
    theirs = cloud.floating_ip(pool["name"], "member-b", port_id=hidden["id"])["address"]

    found = trace(cloud, "member-a", port="web1", to=theirs)
    assert found["verdict"] == "delivered"
    assert "delivered to a port of another project;" in found["summary"]
    assert "n2" not in str(found).replace("own-on-n2", "")
    assert {hop["node"] for hop in found["hops"]} <= {"n1", "another node"}
    # the owner and the administrator are told
    assert f"delivered to port hidden on {node}" in trace(cloud, to=theirs, port="web1")["summary"]
    assert node in trace(cloud, "member-b", from_address="192.0.2.7", to=theirs)["summary"]


def test_no_trace_says_which_addresses_others_have(cloud: World) -> None:
    """Threat 27: of addresses that cannot be reached all are alike, whether another project has them or not."""
    other = cloud.network(name="far", project_id="b", subnets=[{"cidr": "10.77.0.0/24"}])
    held = cloud.port(other["id"], project_id="b", fixed_ips=[{"address": "10.77.0.9"}])

    def told(token: str, to: str) -> str:
        answer = trace(cloud, token, port="web1", to=to)
        return str((answer["verdict"], answer["summary"], answer["findings"])).replace(to, "X")

    assert told("member-a", "10.77.0.9") == told("member-a", "10.77.0.8")
    assert told("member-a", "10.77.0.9") == told("member-a", "10.78.0.8")
    assert "no router in common" in told("admin", "10.77.0.9")
    # one of its own range that is nobody's, and in the same range of another project somebody's
    cloud.ok("DELETE", f"/v1/ports/{held['id']}")
    red = cloud.ok("GET", "/v1/networks?name=red")["networks"][0]["id"]
    cloud.port(red, project_id="b", fixed_ips=[{"address": "10.20.0.200"}])
    assert told("member-a", "10.20.0.200") == told("member-a", "10.20.0.201")
    assert "is no address of any port" in told("admin", "10.20.0.200")


def test_the_largest_frame_of_all_is_followed(cloud: World) -> None:
    assert trace(cloud, port="web1", to="web2", size=65535)["packet"]["size"] == 65535
    refused = cloud.call("POST", "/v1/trace", {"port": "web1", "to": "web2", "size": 65550})
    assert refused.refusal == (400, "invalid_field", "size")
