"""The laws of the design on real Open vSwitch: the data plane does not need the controller, and loses nothing by it."""

from __future__ import annotations

import ast
import sqlite3
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import pytest

from etc.lab.lab import Lab
from etc.lab.node import Node
from etc.lab.processes import in_parallel, wait_until
from etc.lab.vm import Vm
from flows.pipeline import Table
from flows.rules import Rule, decode_cookie
from tests.netns.cloud import (
    ANYCAST_MAC,
    LEARNED,
    Installed,
    arp_frame,
    drops,
    installed,
    make_network,
    make_outside,
    make_vms,
    metric,
    program,
    request,
    resolve,
    saw,
    send_frames,
    tcp,
    udp_frame,
    unbroken,
    wait_dropped,
    wait_outside,
    want,
)

pytestmark = pytest.mark.root

FLOWS = Path(__file__).resolve().parents[2] / "flows"
PORTS = 100


@pytest.fixture(scope="module")
def vms(lab: Lab) -> dict[str, Vm]:
    """On each node a VM of each network: flat (shared), and a, b (one project, so routed). f1 is the one on n1."""
    make_outside(lab)
    networks = {
        "f": make_network(lab, "flat", "10.10.0.0/24", project_id=None, shared=True),
        "a": make_network(lab, "a", "10.20.0.0/24", segment=120),
        "b": make_network(lab, "b", "10.21.0.0/24", segment=121, gateway_mode="shared"),
    }
    places = product(networks.items(), enumerate(lab.nodes, 1))
    vms = make_vms(lab, *(want(f"{name}{number}", node, network) for (name, network), (number, node) in places))
    wait_outside(lab, *(vms[f"f{number}"] for number in (1, 2, 3)))
    return vms


# 1: the data plane outlives the control plane


def everything_works(lab: Lab, vms: dict[str, Vm], step: int) -> None:
    """Each VM with another partner in each step (0, 1, 2): across nodes, routed, its gateway, ARP, and out."""

    def check(vm: Vm) -> None:
        name, number = vm.name[0], int(vm.name[1])
        router = vm.configured().router  # type: ignore[union-attr]
        neighbour = vms[f"{name}{(number + step % 2) % 3 + 1}"]
        partners = {"gateway": router, neighbour.name: neighbour.address, "out": lab.fabric.far_host}
        if name != "f":
            routed = vms[f"{'b' if name == 'a' else 'a'}{(number + step) % 3 + 1}"]
            partners[routed.name] = routed.address
        assert {partner: vm.ping(address, count=2).lost for partner, address in partners.items()} == dict.fromkeys(
            partners, 0
        ), vm.name
        assert resolve(vm, router, neighbour.address) == {
            str(router): [ANYCAST_MAC],
            str(neighbour.address): [neighbour.mac],
        }
        with tcp(vm.namespace, vm.address) as connection:
            connection.connect((str(lab.fabric.far_host), 7000))

    with tcp(lab.fabric.far, port=7000) as server:
        server.listen(64)
        in_parallel(((lambda vm=vm: check(vm)) for vm in vms.values()), len(vms))


def test_threat_38_the_data_plane_goes_on_without_a_controller(lab: Lab, vms: dict[str, Vm]) -> None:
    everything_works(lab, vms, 0)
    lab.control.stop()
    try:
        assert not lab.control.healthy()
        everything_works(lab, vms, 1)
    finally:
        lab.control.start()
    lab.wait_connected()
    everything_works(lab, vms, 2)


# 2: no change and no restart loses a packet


def paths(lab: Lab, vms: dict[str, Vm]) -> list[tuple[Vm, object]]:
    """Switched, routed, and out."""
    return [(vms["f1"], vms["f2"].address), (vms["a2"], vms["b3"].address), (vms["a3"], lab.fabric.far_host)]


def test_threat_37_a_killed_controller_loses_no_packet_and_sends_no_flow(lab: Lab, vms: dict[str, Vm]) -> None:
    before = [program(node) for node in lab.nodes]
    with unbroken(*paths(lab, vms)):
        lab.control.restart(kill=True)
        lab.wait_connected()
    assert metric(lab, "trunkline_sessions_total") == len(lab.nodes)
    assert metric(lab, "of_flowmsgs_sent_total") == 0
    assert [program(node) for node in lab.nodes] == before


def test_ports_that_come_and_go_lose_no_packet_of_others(lab: Lab, vms: dict[str, Vm]) -> None:
    before = [program(node) for node in lab.nodes]
    network = vms["a1"].port["network_id"]
    ids = [str(uuid.uuid4()) for _ in range(PORTS)]
    with unbroken(*paths(lab, vms)):
        for index, node in enumerate(lab.nodes):
            plug_plain(node, ids[index :: len(lab.nodes)])
        _, revision = lab.client.create_ports([{"id": id_, "network_id": network, "project_id": "blue"} for id_ in ids])
        wait_until(
            lambda: sum(port["status"] == "active" for port in lab.client.list_ports(network_id=network)) == PORTS + 3,
            20,
            "the ports are not served",
        )
        lab.confirm(revision)
        assert all(len(program(node)) > len(old) + PORTS for node, old in zip(lab.nodes, before, strict=True))
        for id_ in ids:
            lab.confirm(lab.client.delete_port(id_).revision)
        assert [program(node) for node in lab.nodes] == before
    for index, node in enumerate(lab.nodes):
        unplug_plain(node, ids[index :: len(lab.nodes)])


def plug_plain(node: Node, ids: list[str]) -> None:
    """Interfaces with nothing behind them: patch ports without a peer."""
    commands = [
        [
            "--",
            "add-port",
            "br-int",
            f"p{id_[:12]}",
            "--",
            "set",
            "Interface",
            f"p{id_[:12]}",
            "type=patch",
            f"options:peer=x{id_[:12]}",
            f"external_ids:iface-id={id_}",
        ]
        for id_ in ids
    ]
    node.ovs.vsctl(*sum(commands, [])[1:])


def unplug_plain(node: Node, ids: list[str]) -> None:
    node.ovs.vsctl(*sum((["--", "del-port", "br-int", f"p{id_[:12]}"] for id_ in ids), [])[1:])


# 3: no database on the packet path


def test_threat_35_dhcp_goes_on_while_the_database_is_locked(lab: Lab, vms: dict[str, Vm]) -> None:
    vm = vms["a1"]
    address = vm.configured()
    database = sqlite3.connect(lab.control.directory / "trunkline.db", isolation_level=None)
    database.execute("BEGIN EXCLUSIVE")
    try:
        vm.stop_client()
        vm.execute("ip", "address", "flush", "dev", "eth0")
        assert vm.configured() is None
        vm.start_client()
        assert vm.wait_configured(5) == address
        vm.wait_renewed()
        with ThreadPoolExecutor(1) as pool:
            fields = {"network_id": vm.port["network_id"], "name": "late", "project_id": "blue"}
            late = pool.submit(lab.client.create_port, fields)
            assert vm.ping(vms["a2"].address).answered
            assert not late.done()  # the database was locked indeed
            database.execute("ROLLBACK")
            port = late.result(10).object
    finally:
        database.close()
    assert port
    lab.client.delete_port(port["id"])


# 4: flows/ is pure

PURE = {
    "__future__",
    "abc",
    "collections",
    "collections.abc",
    "dataclasses",
    "enum",
    "functools",
    "hashlib",
    "ipaddress",
    "itertools",
    "operator",
    "re",
    "struct",
    "types",
    "typing",
}


def test_only_a_bundle_carries_flows() -> None:
    """No flow is sent from an event handler: nothing but session_bundle.py makes flow-mods."""
    flow_mods = {"encode_add", "encode_delete", "delete_ours", "delete_stamp", "bundle_add"}
    users = {
        path.name
        for path in (FLOWS.parent / "controller").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr in flow_mods
        or isinstance(node, ast.Name)
        and node.id in flow_mods
    }
    assert users == {"session_bundle.py"}


@pytest.mark.parametrize("path", sorted(FLOWS.rglob("*.py")), ids=lambda path: str(path.relative_to(FLOWS)))
def test_flows_is_pure(path: Path) -> None:
    tree = ast.parse(path.read_text())
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(str(node.module))
    foreign = {name for name in imported if name not in PURE and name.partition(".")[0] != "flows"}
    assert {name for name in foreign if not name.startswith("ryu.ofproto")} == set()
    assert not foreign or path.parent == FLOWS / "wire"
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert called & {"open", "input", "__import__", "exec", "eval"} == set()


# 5: there is no uninstall code, and still nothing is left


def test_what_is_deleted_leaves_nothing_behind(lab: Lab, vms: dict[str, Vm]) -> None:
    before = [program(node) for node in lab.nodes]
    networks = [
        make_network(lab, "gone-flat", "10.40.0.0/24", physical_network="physnet-ext", segment=140),
        make_network(lab, "gone-arp", "10.41.0.0/24", segment=141, arp_responder=True, gateway_mode="shared"),
        # a range of another project: with a carrier address for each port
        make_network(lab, "gone-same", "10.20.0.0/24", segment=142, project_id="red"),
    ]
    made = make_vms(
        lab,
        *(
            want(f"g{index}{number}", node, network)
            for (index, network), (number, node) in product(enumerate(networks), enumerate(lab.nodes[:2], 1))
        ),
    )
    assert not made["g01"].ping(made["g12"].address).lost
    assert not made["g21"].ping(lab.fabric.far_host).lost
    assert [program(node) for node in lab.nodes[:2]] != before[:2]
    in_parallel((lambda vm=vm: lab.delete_vm(vm)) for vm in made.values())
    for network in networks:
        revision = lab.client.delete_network(network["id"]).revision
    lab.confirm(revision)
    assert [program(node) for node in lab.nodes] == before


# 7: a drop has a name


def test_each_drop_has_a_name_and_each_table_an_end(lab: Lab, vms: dict[str, Vm]) -> None:
    for node in lab.nodes:
        flows = installed(node)
        for flow in flows:
            if flow.table == Table.STAMP:
                continue
            rule = decode_cookie(flow.cookie)
            assert rule, f"{flow} has no name"
            assert (rule[0].table, rule[0].drop) == (flow.table, flow.actions == "drop"), flow
        used = {flow.table for flow in flows}
        looked_up = {Table.ANSWERS, Table.RULES}
        assert used == set(Table) - set(LEARNED) - {Table.ACTIVATION, Table.WAITING}  # no VM is on its way
        ends = {flow.table for flow in flows if flow.priority == 0 and not flow.match}
        # to the first only ports come, and each has an end of its own; from the others every packet comes back. To
        # ND_ANSWER comes only what its flows are about, but on the kernel's datapath, where they are of ports
        without_end = {Table.PORT_SECURITY, Table.TEACH, Table.FLOOD_PART, *looked_up}
        assert used - ends - {Table.ND_ANSWER} == without_end
        of_port = {rule: {flow.cookie & 0xFFFFFFFF for flow in flows if _is(flow, rule)} for rule in EACH_PORTS}
        assert of_port[Rule.DROP_SPOOFED] == of_port[Rule.CLASSIFY_PORT] != set()


EACH_PORTS = (Rule.CLASSIFY_PORT, Rule.DROP_SPOOFED)


def _is(flow: Installed, rule: Rule) -> bool:
    return decode_cookie(flow.cookie) == (rule, flow.cookie & 0xFFFFFFFF)


SPOOFED: dict[str, Callable[[Vm, Vm], bytes]] = {
    "mac": lambda vm, other: udp_frame(vm, other.address, eth_dst=other.mac, eth_src=other.mac),
    "ip": lambda vm, other: udp_frame(vm, other.address, eth_dst=other.mac, source="10.20.0.250"),
    "arp": lambda vm, other: arp_frame(vm, other.address, sender="10.20.0.250"),
    "arp mac": lambda vm, other: arp_frame(vm, other.address, sender_mac=other.mac),
}


@pytest.mark.parametrize("lie", SPOOFED)
def test_a_spoofed_frame_counts_for_its_drop_alone(lab: Lab, vms: dict[str, Vm], lie: str) -> None:
    vm, other = vms["a1"], vms["a2"]
    before = drops(vm.node)
    with other.capture("") as watched:
        send_frames(vm, SPOOFED[lie](vm, other), 5)
        assert not vm.ping(other.address, count=1).lost  # what was sent before would have been there by now
        wait_dropped(vm.node, before, Rule.DROP_SPOOFED, 5, vm.port["key"])
        saw(watched, lambda frame: request(frame) and frame.eth_src == vm.mac)
        assert not watched.seen(lambda frame: frame.eth_src == other.mac and frame.eth_dst == other.mac)
        assert not watched.seen(lambda frame: str(frame.src) == "10.20.0.250")
    # the nodes ask for their next hop now and then, which each other node hears and drops
    dropped = {rule: count for rule, count in (drops(vm.node) - before).items() if rule[0] is not Rule.DROP_EXTERNAL}
    assert dropped == {(Rule.DROP_SPOOFED, vm.port["key"]): 5}
