"""The questions that the quickstart asks its network, each with what it saw."""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv6Address

from etc.lab import capture, probes
from etc.lab.capture import Seen
from etc.lab.fabric import FAR_HOST_IPV6, OUTSIDE_INTERFACE
from etc.lab.lab import Lab
from etc.lab.probes import Pinged
from etc.lab.processes import CommandFailed, DeadlineMissed, wait_until
from etc.lab.scenario import HTTP, IPV6, Scenario, give_floating_ip, give_web_group, group_ids, let_in
from etc.lab.vm import Configured, Vm
from flows.rules import Rule, cookie

OTHER_PORT = 8080
ICMP_ECHO_REQUEST = 8
LEASE_DEADLINE = 20.0
METADATA = "http://169.254.169.254"
METADATA_DEADLINE = 10.0
SHUT_WAIT = 0.8
OPEN_WAIT = 2.5
"""Seconds: TCP sends a SYN that was lost again after one (RFC 6298, 2.1), and a busy machine may lose the first."""
WORKERS = 6

# Distinct sizes tell the VMs' pings apart behind one address; ping's -s, and what the frame is longer.
FIRST_SIZE = 100
FRAME_OVERHEAD = 14 + 20 + 8

Outcome = tuple[bool, str]


@dataclass(frozen=True)
class Check:
    """`subject` is who was asked, `saw` what happened."""

    topic: str
    subject: str
    saw: str
    passed: bool


def run_checks(lab: Lab, scenario: Scenario) -> list[Check]:
    """All of them. A check that cannot be made has failed."""
    leases, checks = _leases(scenario)
    checks += _all("gateway", scenario.all_vms(), lambda vm: _gateway(vm, leases.get(vm.name)))
    checks += _across_nodes(lab, scenario)
    checks += _names(lab, scenario)
    checks += _outside(lab, scenario)
    checks += _ipv6(lab, scenario)
    blue, red = scenario.vms["blue"][lab.nodes[0].name], scenario.vms["red"][lab.nodes[1].name]
    checks += _all("metadata", (blue, red), partial(_metadata, lab, scenario))
    # from here on two VMs have other addresses outside
    addresses: dict[str, IPv4Address] = {}
    checks += _security_group(lab, blue, addresses)
    for vm in (blue, red):  # so that no security group hides what comes next
        let_in(lab, group_ids(vm)[0], {"protocol": "icmp"})
    checks += _floating_ips(lab, blue, red, addresses)
    checks += _isolation(lab, scenario)
    return checks


def _attempt(topic: str, subject: str, question: Callable[[], Outcome]) -> Check:
    try:
        passed, saw = question()
    except (CommandFailed, DeadlineMissed, OSError) as error:
        passed, saw = False, str(error).strip().splitlines()[0]
    return Check(topic, subject, saw, passed)


def _all(topic: str, vms: Iterable[Vm], question: Callable[[Vm], Outcome]) -> list[Check]:
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(lambda vm: _attempt(topic, _place(vm), lambda: question(vm)), vms))


def _place(vm: Vm) -> str:
    return f"{vm.name} on {vm.node.name}"


def _leases(scenario: Scenario) -> tuple[dict[str, Configured], list[Check]]:
    found: dict[str, Configured] = {}

    def lease(vm: Vm) -> Outcome:
        configured = found[vm.name] = vm.wait_configured(LEASE_DEADLINE)
        expected = configured.address.ip == vm.address
        mtu = f", MTU {configured.mtu}"
        wrong = "" if expected else f", but its port has {vm.address}"
        return expected, f"{configured.address} by DHCP, router {configured.router}{mtu}{wrong}"

    return found, _all("lease", scenario.all_vms(), lease)


def _gateway(vm: Vm, configured: Configured | None) -> Outcome:
    if configured is None or configured.router is None:
        return False, "no lease, no router"
    pinged = vm.ping(configured.router)
    return not pinged.lost, f"{configured.router}: {_count(pinged)}"


def _on_the_next_node(lab: Lab, scenario: Scenario, vm: Vm) -> Vm:
    """The VM of the same network there."""
    nodes = [node.name for node in lab.nodes]
    following = dict(zip(nodes, nodes[1:] + nodes[:1], strict=True))
    return next(vms for vms in scenario.vms.values() if vm in vms.values())[following[vm.node.name]]


def _names(lab: Lab, scenario: Scenario) -> list[Check]:
    def name(vm: Vm) -> Outcome:
        other = _on_the_next_node(lab, scenario, vm)
        found = vm.look_up(other.name)
        return found == {other.address}, f"{other.name} is {_list(sorted(found))}"

    return _all("names", scenario.all_vms(), name)


def _across_nodes(lab: Lab, scenario: Scenario) -> list[Check]:
    def neighbour(vm: Vm) -> Outcome:
        other = _on_the_next_node(lab, scenario, vm)
        pinged = vm.ping(other.address)
        return not pinged.lost, f"{_place(other)}, {other.address}: {_count(pinged)}"

    return _all("own network", scenario.all_vms(), neighbour)


def _ipv6(lab: Lab, scenario: Scenario) -> list[Check]:
    """The guest's kernel makes its address by itself, of what the gateway advertises. Nothing is translated."""

    def reach(vm: Vm) -> Outcome:
        other = _on_the_next_node(lab, scenario, vm)
        found = [interface.ip for interface in vm.wait_ipv6(LEASE_DEADLINE).addresses]
        other.wait_ipv6(LEASE_DEADLINE)
        named = vm.look_up(other.name, version=6)
        if named != other.ipv6_addresses:
            return False, f"{other.name} is {_list(named)}"
        (target,) = named
        inside, outside = vm.ping(target), vm.ping(FAR_HOST_IPV6)
        saw = f"{_list(found)}; {other.name}, {target}: {_count(inside)}; {FAR_HOST_IPV6}: {_count(outside)}"
        return not inside.lost and not outside.lost, saw

    return _all("IPv6", [vm for name in IPV6 for vm in scenario.vms[name].values()], reach)


def _metadata(lab: Lab, scenario: Scenario, vm: Vm) -> Outcome:
    """What it is told of itself is its own name, and what it was given."""
    given = f"made for {vm.name}"
    fields = {"user_data": base64.b64encode(given.encode()).decode()}
    lab.confirm(lab.client.update_metadata(vm.port["id"], fields).revision)

    def told(path: str) -> str:
        return vm.execute("curl", "-s", "-f", "-m", "2", f"{METADATA}/latest/{path}", check=False)

    wait_until(lambda: told("user-data"), METADATA_DEADLINE, f"no answer from {METADATA}", interval=0.1)
    hostname, user_data = told("meta-data/hostname"), told("user-data")
    saw = f"{METADATA}: host name {hostname}, user data '{user_data}'"
    return (hostname, user_data) == (scenario.full_name(vm), given), saw


def _isolation(lab: Lab, scenario: Scenario) -> list[Check]:
    """Blue at red and red at blue, on one node and across nodes: no answer, and nothing arrives."""
    first, second = lab.nodes[0].name, lab.nodes[min(1, len(lab.nodes) - 1)].name
    blue, red = scenario.vms["blue"], scenario.vms["red"]
    pairs = [
        (blue[first], red[first], red[second]),
        (blue[first], red[second], red[first]),
        (red[first], blue[first], blue[second]),
        (red[first], blue[second], blue[first]),
    ]

    def check(pair: tuple[Vm, Vm, Vm]) -> Check:
        attacker, victim, _ = pair
        return _attempt("isolation", f"{_place(attacker)} at {_place(victim)}", partial(_attack, *pair))

    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(check, pairs))


def _attack(attacker: Vm, victim: Vm, neighbour: Vm) -> Outcome:
    """Ping through the gateway and ARP on the wire. The victim's own neighbour shows that the watching works."""
    with victim.capture("icmp or arp") as watched:
        pinged = attacker.ping(victim.address, count=2, wait=0.5)
        answering = attacker.arping(victim.address)
        neighbour.ping(victim.address, count=1)
        watched.wait_for(lambda frame: _is_echo(frame) and frame.src == neighbour.address, 3, "its neighbour's ping")
        foreign = watched.seen(lambda frame: _is_foreign(frame, attacker, victim, neighbour))
    passed = not pinged.answered and not answering and not foreign
    saw = f"{pinged.received} of {pinged.sent} pings answered, {len(answering)} ARP answers"
    return passed, f"{saw}, {len(foreign)} frames seen at the victim"


def _is_echo(frame: Seen) -> bool:
    return frame.protocol == capture.ICMP and frame.icmp_type == ICMP_ECHO_REQUEST


def _is_foreign(frame: Seen, attacker: Vm, victim: Vm, neighbour: Vm) -> bool:
    """From the attacker, or an echo request of anybody that the victim's network does not know."""
    known = {victim.address, neighbour.address}
    from_attacker = frame.eth_src == attacker.mac or frame.src == attacker.address
    return from_attacker or (_is_echo(frame) and frame.src not in known)


def _outside(lab: Lab, scenario: Scenario) -> list[Check]:
    """Reach a host one router behind the external network; the source address is read off the wire out there."""
    vms = scenario.all_vms()
    sizes = {vm.name: FIRST_SIZE + index for index, vm in enumerate(vms)}
    target = lab.fabric.far_host
    enter = threading.Lock()

    with lab.outside_capture(f"icmp and dst host {target}") as watched:

        def reach(vm: Vm) -> Outcome:
            pinged = vm.ping(target, count=2, size=sizes[vm.name])
            with enter:
                frames = watched.seen(lambda frame: frame.length == sizes[vm.name] + FRAME_OVERHEAD)
            sources = sorted({frame.src for frame in frames if frame.src})
            passed = not pinged.lost and sources == [vm.node.snat_address]
            return passed, f"{target}: {_count(pinged)}, seen there as {_list(sources)}"

        return _all("outside", vms, reach)


def _security_group(lab: Lab, vm: Vm, addresses: dict[str, IPv4Address]) -> list[Check]:
    """A VM with a floating IP: nothing comes in from outside, until it is in a group that says what may."""
    far = lab.fabric.far

    def asked(*open_ports: int) -> tuple[list[int], Pinged]:
        address = addresses[vm.name]
        waits = {port: OPEN_WAIT if port in open_ports else SHUT_WAIT for port in (HTTP, OTHER_PORT)}
        answered = [port for port, wait in waits.items() if probes.connects(far, address, port, wait=wait)]
        return answered, probes.ping(probes.into(far), address, wait=0.5)

    def refused() -> Outcome:
        addresses[vm.name] = give_floating_ip(lab, vm)
        before = _refused(vm)
        answered, pinged = asked()
        if answered or pinged.answered:
            return False, _said(answered, pinged)
        expected = pinged.sent + 2
        counted = wait_until(lambda: found if (found := _refused(vm) - before) >= expected else 0, 5, "a counted drop")
        return True, _said(answered, pinged) + f"; {counted} counted as drop_ingress"

    def let_in_by_web() -> Outcome:
        give_web_group(lab, vm)
        answered, pinged = asked(HTTP)
        return answered == [HTTP] and not pinged.lost, _said(answered, pinged)

    def _said(answered: list[int], pinged: Pinged) -> str:
        ports = ", ".join(f"port {port} {'open' if port in answered else 'shut'}" for port in (HTTP, OTHER_PORT))
        return f"{addresses[vm.name]} from {lab.fabric.far_host}: ping {_count(pinged)}, {ports}"

    with probes.listening(vm.namespace, HTTP, OTHER_PORT):
        return [
            _attempt("security group", f"{_place(vm)}: default", refused),
            _attempt("security group", f"{_place(vm)}: default, web", let_in_by_web),
        ]


def _refused(vm: Vm) -> int:
    """Packets that no security group of the VM has let in, as its node counts them."""
    name = f"cookie={cookie(Rule.DROP_INGRESS, vm.port['key']):#x}/-1"
    dump = vm.node.ovs.ofctl("dump-flows", "br-int", name)
    return sum(int(count) for count in re.findall(r"n_packets=(\d+)", dump))


def _floating_ips(lab: Lab, blue: Vm, red: Vm, addresses: dict[str, IPv4Address]) -> list[Check]:
    """One VM of each project, on different nodes: reached from outside, seen outside, and by each other."""

    def reached(vm: Vm) -> Outcome:
        if vm.name not in addresses:
            addresses[vm.name] = give_floating_ip(lab, vm)
        address = addresses[vm.name]
        pinged = probes.ping(probes.into(lab.fabric.far), address)
        owners = probes.arping(probes.into(lab.fabric.outside), OUTSIDE_INTERFACE, address)
        saw = f"{address} from {lab.fabric.far_host}: {_count(pinged)}, {len(owners)} node answers ARP"
        return not pinged.lost and len(owners) == 1, saw

    def seen(vm: Vm, target: IPv4Address, watched: capture.Capture) -> Outcome:
        pinged = vm.ping(target)
        sources = sorted({frame.src for frame in watched.seen(_is_echo) if frame.src})
        passed = not pinged.lost and sources == [addresses[vm.name]]
        return passed, f"{target}: {_count(pinged)}, seen there as {_list(sources)}"

    checks = [_attempt("floating IP", _place(vm), partial(reached, vm)) for vm in (blue, red)]
    if len(addresses) < len(checks):
        return checks
    with lab.outside_capture(f"icmp and dst host {lab.fabric.far_host}") as watched:
        checks.append(_attempt("floating IP", _place(blue), partial(seen, blue, lab.fabric.far_host, watched)))
    with red.capture("icmp") as watched:
        checks.append(
            _attempt("floating IP", f"{_place(blue)} to red's", partial(seen, blue, addresses[red.name], watched))
        )
    return checks


def _list(addresses: Iterable[IPv4Address | IPv6Address]) -> str:
    return ", ".join(map(str, addresses)) or "nobody"


def _count(pinged: Pinged) -> str:
    time = "" if pinged.average_ms is None else f", {pinged.average_ms:.1f} ms"
    return f"{pinged.received} of {pinged.sent} answered{time}"
