"""Floating IPs on real Open vSwitch: one address outside for one inside, whoever asks, and whatever IP protocol.

What a data plane must do by itself is tried with the controller running, stopped and restarted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from controller.client import ApiError, Object
from etc.lab import netns
from etc.lab.capture import ETHERTYPE_ARP, Capture
from etc.lab.fabric import OUTSIDE_INTERFACE, OUTSIDE_ROUTER, QUIET
from etc.lab.lab import Lab
from etc.lab.probes import LAST_ANSWER
from etc.lab.vm import Vm
from tests.netns.cloud import make_network, make_outside, make_vms, request, saw, udp, wait_outside, want
from tests.netns.floating import (
    KINDS,
    SECOND_INTERFACE,
    SECOND_POOL,
    SECOND_ROUTER,
    Place,
    answering,
    at,
    far,
    give,
    mac_of,
    make_pool,
    second_outside,
    take,
    talk,
    talks,
    wait_active,
)

pytestmark = pytest.mark.root

HARDWARE_ROUTER = "10.3.0.1"
ANYWHERE = "198.18.9.9"  # both the outside router and the hardware router have it
HOST_ADDRESS = "203.0.113.61"
NARROW = 1400

# the first has two; the other clients of it are there for each place, with and without one
WITH = ("a1", "peer-a1", "peer-a2", "peer-b1", "peer-b2", "hw-fip")
CLIENTS = {
    "same host": ("peer-a1", "plain-a1"),
    "other host": ("peer-a2", "plain-a2"),
    "other network, same host": ("peer-b1", "plain-b1"),
    "other network, other host": ("peer-b2", "plain-b2"),
}


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=2)


@pytest.fixture(scope="module")
def outside(lab: Lab) -> Iterator[dict[str, Object]]:
    """Two external networks on one wire, each with a pool."""
    flat = make_outside(lab)
    with second_outside(lab) as second:
        make_pool(lab, flat)
        make_pool(lab, second, "second", SECOND_POOL)
        yield {"flat": flat, "second": second}


@pytest.fixture(scope="module")
def hardware_router(lab: Lab) -> str:
    """A router on the flat segment of physnet1 that is not ours. Its namespace."""
    namespace = f"{lab.prefix}-hw"
    netns.create(namespace)
    netns.set_sysctl(namespace, {**QUIET, "ipv4/ip_forward": 1})
    lab.fabric.connect(namespace, "eth0", "physnet1", "hw")
    netns.configure(namespace, f"address add {HARDWARE_ROUTER}/24 dev eth0", f"address add {ANYWHERE}/32 dev lo")
    netns.configure(lab.fabric.outside, f"address add {ANYWHERE}/32 dev lo")
    return namespace


@pytest.fixture(scope="module")
def vms(lab: Lab, outside: dict[str, Object], hardware_router: str) -> dict[str, Vm]:
    """In the name are network and node."""
    networks = {
        "a": make_network(lab, "a", "10.20.0.0/24", segment=120),
        "b": make_network(lab, "b", "10.21.0.0/24", segment=121, gateway_mode="shared"),
    }
    hw = make_network(lab, "hw", "10.3.0.0/24", HARDWARE_ROUTER, gateway_mode="external")
    clients = [name for pair in CLIENTS.values() for name in pair]
    wanted = [want(name, lab.nodes[int(name[-1]) - 1], networks[name[-2]]) for name in ("a1", *clients)]
    wanted += [want(name, lab.nodes[0], hw) for name in ("hw-fip", "hw-plain")]
    vms = make_vms(lab, *wanted)
    wait_outside(lab, vms["plain-a1"], vms["plain-a2"])
    return vms


@pytest.fixture(scope="module")
def floating(lab: Lab, vms: dict[str, Vm]) -> dict[str, str]:
    """The floating IP of each VM that has one, and `second`, which a1 has, too."""
    found = {name: str(give(lab, vms[name])["address"]) for name in WITH}
    found["second"] = str(give(lab, vms["a1"], "second")["address"])
    wait_active(lab, *vms.values())
    return found


@pytest.fixture(scope="module")
def ready(vms: dict[str, Vm], floating: dict[str, str], controller: str) -> dict[str, Vm]:
    """The VMs, when all is set up, in each state of the controller."""
    return vms


# E7: one to one, both ways


@pytest.mark.parametrize("kind", KINDS)
def test_e7_one_to_one_both_ways(lab: Lab, ready: dict[str, Vm], floating: dict[str, str], kind: str) -> None:
    for name in ("a1", "peer-b2"):
        vm, address = at(ready[name]), floating[name]
        with lab.outside_capture("") as wire:
            assert talk(far(lab), vm, address, kind) == str(lab.fabric.far_host)
            assert talk(vm, far(lab), lab.fabric.far_host, kind) == address
            # three pieces each, both ways, and no packet so large
            count = 12 if kind == "fragments" else 4
            ours = saw(wire, lambda frame, address=address: address in (str(frame.src), str(frame.dst)), count)  # type: ignore[misc]
            assert max(frame.length for frame in ours) <= 1514
            macs = {frame.eth_src for frame in ours if str(frame.src) == address and frame.ethertype != ETHERTYPE_ARP}
            assert macs == {mac_of_running(lab, ready[name])}
            assert not wire.seen(lambda frame: str(frame.src).startswith("10."))


_macs: dict[str, str] = {}


def mac_of_running(lab: Lab, vm: Vm) -> str:
    """A node's MAC, also while nobody can be asked."""
    if vm.node.name not in _macs:
        _macs[vm.node.name] = mac_of(lab, vm.node)
    return _macs[vm.node.name]


def test_e7_a_closed_port_is_heard_of_in_both_directions(
    lab: Lab, ready: dict[str, Vm], floating: dict[str, str]
) -> None:
    vm = ready["a1"]
    for here, target in ((at(vm), str(lab.fabric.far_host)), (far(lab), floating["a1"])):
        with Capture(here.namespace, "eth0", "icmp", lab.directory / "errors") as heard:
            with udp(here.namespace, here.address) as sock:
                sock.connect((target, 7))
                sock.send(b"anybody?")
                with pytest.raises(ConnectionRefusedError):
                    sock.recv(100)
            (error,) = saw(heard, lambda frame: frame.icmp_type == 3)
        assert (str(error.src), error.dst) == (target, here.address)


@pytest.fixture
def narrow(lab: Lab) -> Iterator[None]:
    """The way from the outside router to the host behind it takes less than the others do."""
    for mtu, namespace, interface in ((NARROW, lab.fabric.far, "eth0"), (NARROW, lab.fabric.outside, "far0")):
        netns.configure(namespace, f"link set {interface} mtu {mtu}")
    yield
    for namespace, interface in ((lab.fabric.far, "eth0"), (lab.fabric.outside, "far0")):
        netns.configure(namespace, f"link set {interface} mtu 1500")


def test_e7_path_mtu_is_discovered_through_it(
    lab: Lab, ready: dict[str, Vm], floating: dict[str, str], narrow: None
) -> None:
    vm = ready["a1"]
    vm.execute("ip", "route", "flush", "cache")
    with vm.capture("icmp") as heard:
        too_big = ["ping", "-n", "-c1", "-W5", "-Mdo", "-s", str(NARROW - 28 + 1), str(lab.fabric.far_host)]
        assert f"mtu = {NARROW}" in vm.execute(*too_big, check=False)
        errors = saw(heard, lambda frame: frame.icmp_type == 3)
    assert {(frame.src, frame.dst) for frame in errors} == {(OUTSIDE_ROUTER.ip, vm.address)}
    assert f"mtu {NARROW}" in vm.execute("ip", "route", "get", str(lab.fabric.far_host))
    vm.execute("ip", "route", "flush", "cache")


def test_e7_one_node_answers_for_each(lab: Lab, ready: dict[str, Vm], floating: dict[str, str]) -> None:
    for name in WITH:
        assert answering(lab, floating[name], patience=LAST_ANSWER) == [mac_of_running(lab, ready[name])], name


def test_e7_the_host_itself_reaches_it(lab: Lab, ready: dict[str, Vm], floating: dict[str, str]) -> None:
    """The node's own stack, with an address of its own on the external network: both nodes' VMs."""
    node, bridge = lab.nodes[0], f"br-{lab.fabric.external}"
    netns.configure(node.namespace, f"link set {bridge} up", f"address replace {HOST_ADDRESS}/24 dev {bridge}")
    host = Place(node.namespace, HOST_ADDRESS)  # type: ignore[arg-type]
    for name in ("a1", "peer-a2"):
        for kind in ("tcp", "icmp"):
            assert talk(host, at(ready[name]), floating[name], kind) == HOST_ADDRESS


def test_e7_two_floating_ips_of_one_address(lab: Lab, ready: dict[str, Vm], floating: dict[str, str]) -> None:
    """Both lead in, also at once; what the VM begins comes from the older."""
    vm = at(ready["a1"])
    both = [floating["a1"], floating["second"]]
    for kind in ("tcp", "udp", "icmp"):
        assert talks(*((far(lab), vm, address, kind) for address in both)) == [str(lab.fabric.far_host)] * 2
        assert talk(vm, far(lab), lab.fabric.far_host, kind) == floating["a1"]


# E8: to its own


@pytest.mark.parametrize("name", ["a1", "peer-b2", "hw-fip"])
def test_e8_a_vm_reaches_itself_by_its_own(ready: dict[str, Vm], floating: dict[str, str], name: str) -> None:
    vm = at(ready[name])
    assert [talk(vm, vm, floating[name], kind) for kind in ("tcp", "udp", "icmp")] == [floating[name]] * 3


# E9: to another VM's


@pytest.mark.parametrize("kind", ["tcp", "icmp"])
@pytest.mark.parametrize("place", CLIENTS)
def test_e9_between_vms_each_is_seen_as_outside(
    lab: Lab, ready: dict[str, Vm], floating: dict[str, str], place: str, kind: str
) -> None:
    """Who has a floating IP is seen with it, who has none with its node's SNAT address: wherever both are."""
    server, target = at(ready["a1"]), floating["a1"]
    owner, plain = CLIENTS[place]
    seen = [talk(at(ready[name]), server, target, kind) for name in (owner, plain)]
    assert seen == [floating[owner], str(ready[plain].node.snat_address)]
    # and the other way round
    assert talk(server, at(ready[owner]), floating[owner], kind) == floating["a1"]


def test_e9_the_fixed_address_stays_as_it_is(ready: dict[str, Vm]) -> None:
    for name in ("peer-a1", "peer-a2", "peer-b2"):
        assert talk(at(ready[name]), at(ready["a1"]), ready["a1"].address, "tcp") == str(ready[name].address)


# E10: with a router of the operator's


def test_e10_with_an_external_gateway_only_the_owner_leaves_by_us(
    lab: Lab, ready: dict[str, Vm], floating: dict[str, str], hardware_router: str
) -> None:
    owner, plain = ready["hw-fip"], ready["hw-plain"]
    assert {str(vm.configured().router) for vm in (owner, plain)} == {HARDWARE_ROUTER}  # type: ignore[union-attr]
    with Capture(hardware_router, "eth0", "icmp", lab.directory) as by_router, lab.outside_capture("icmp") as by_us:
        assert not owner.ping(ANYWHERE, count=2).lost
        assert not plain.ping(ANYWHERE, count=2).lost
        assert {str(frame.src) for frame in saw(by_router, request, 2)} == {str(plain.address)}
        assert {str(frame.src) for frame in saw(by_us, request, 2)} == {floating["hw-fip"]}
    for kind in ("tcp", "udp", "fragments"):
        assert talk(far(lab), at(owner), floating["hw-fip"], kind) == str(lab.fabric.far_host)
        assert talk(at(owner), far(lab), lab.fabric.far_host, kind) == floating["hw-fip"]
        # on their own segment nobody is in between
        assert talk(at(plain), at(owner), owner.address, kind) == str(plain.address)


# F1: pools on two networks


def test_f1_each_pool_answers_on_its_own_vlan_alone(lab: Lab, ready: dict[str, Vm], floating: dict[str, str]) -> None:
    mac = mac_of_running(lab, ready["a1"])
    for name, own, other in (
        ("second", SECOND_INTERFACE, OUTSIDE_INTERFACE),
        ("peer-a1", OUTSIDE_INTERFACE, SECOND_INTERFACE),
    ):
        assert answering(lab, floating[name], interface=own, patience=LAST_ANSWER) == [mac]
        assert answering(lab, floating[name], interface=other) == []
    outer = Place(lab.fabric.outside, SECOND_ROUTER)  # type: ignore[arg-type]
    assert talk(outer, at(ready["a1"]), floating["second"], "tcp") == str(outer.address)


def test_f1_unknown_and_exhausted_pools_are_refused(lab: Lab, vms: dict[str, Vm], outside: dict[str, Object]) -> None:
    make_pool(lab, outside["flat"], "tiny", "203.0.113.190-203.0.113.190")
    last = take(lab, "tiny")
    for pool, expected in (("nowhere", (404, "floating_ip_pool_unknown")), ("tiny", (409, "pool_exhausted"))):
        with pytest.raises(ApiError) as refused:
            take(lab, pool)
        assert (refused.value.status, refused.value.code) == expected
    assert [one["id"] for one in lab.client.list_floating_ips(pool="tiny")] == [last["id"]]
    assert {one["name"]: one["used"] for one in lab.client.list_floating_ip_pools()}["tiny"] == 1
