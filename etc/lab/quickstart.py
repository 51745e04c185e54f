"""Trunkline on one machine: builds the laboratory, shows what works, and leaves it to you until Ctrl-C."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address

from rich.console import Console
from rich.table import Table

from controller.client import ClientError
from etc.lab.checks import Check, run_checks
from etc.lab.control import ADMIN_TOKEN, API_PORT
from etc.lab.fabric import FAR_HOST, FAR_HOST_IPV6, OUTSIDE_INTERFACE
from etc.lab.lab import Lab
from etc.lab.machine import PrefixInUse
from etc.lab.processes import CommandFailed, DeadlineMissed
from etc.lab.relay import LOOPBACK, Relay
from etc.lab.scenario import PROJECTS, Scenario, populate
from flows.pipeline import RESOLVER_ADDRESS

DATAPATHS = {
    "system": "the kernel datapath (module openvswitch)",
    "netdev": "the userspace datapath with userspace-tso",
}
RESOLVER = IPv4Address(RESOLVER_ADDRESS)
IN_GUEST = "TRUNKLINE_GUEST"
"""The environment has it inside etc/lab/guest/run."""

PLAIN_WIDTH = 130
"""Columns of the table when the output is no terminal."""

CONSOLE = Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 when everything passed, 1 when something failed, 2 when it could not start."""
    options = _parse(arguments)
    if os.geteuid() != 0:
        print("quickstart: network namespaces need root: run it as root", file=sys.stderr)
        return 2
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `quickstart &` begins with it ignored
    begun = time.monotonic()
    lab = Lab(options.prefix, nodes=options.nodes, projects=PROJECTS, keep_files=options.keep)
    CONSOLE.print(f"Open vSwitch: {DATAPATHS[lab.datapath]}")
    try:
        return _run(lab, options, begun)
    except PrefixInUse as error:
        print(f"quickstart: {error}; stop it first, or choose another --prefix", file=sys.stderr)
        return 2
    except (CommandFailed, DeadlineMissed, ClientError, OSError) as error:
        print(f"quickstart: {error}\nquickstart: the logs are kept in {lab.directory}", file=sys.stderr)
        print("quickstart: 0 passed, 1 failed")
        return 1
    except KeyboardInterrupt:
        return 130


def _run(lab: Lab, options: argparse.Namespace, begun: float) -> int:
    with ExitStack() as stack:
        with _step(f"controller, {options.nodes} nodes, rack switch and outside world"):
            stack.enter_context(lab)
        with _step("agents and switches connected"):
            lab.wait_connected()
        with _step("networks, ports and VMs"):
            scenario = populate(lab)
        with _step("checks"):
            checks = run_checks(lab, scenario)
        failed = sum(not check.passed for check in checks)
        lab.keep_files = lab.keep_files or bool(failed)
        _show(checks)
        if failed:
            CONSOLE.print(f"Logs: {lab.directory}")
        if not options.once and IN_GUEST in os.environ:
            CONSOLE.print("It ends here: a Linux guest has it, whose page and commands this machine does not reach.")
        elif not options.once:
            CONSOLE.print(_summary(checks))
            api = str(lab.control.address.ip), API_PORT
            relay = stack.enter_context(Relay(lab.control.namespace, api, API_PORT))
            _play(lab, scenario, relay.port)
    took = f" {time.monotonic() - begun:.1f} s in all." if options.once else ""
    CONSOLE.print(f"Everything is stopped and cleaned up.{took}")
    CONSOLE.print(_summary(checks))
    return 1 if failed else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="etc/quickstart", description=__doc__)
    parser.add_argument("--once", action="store_true", help="check everything, clean up, and say what passed")
    parser.add_argument("--nodes", type=int, default=3, choices=range(2, 10), metavar="2..9", help="default 3")
    parser.add_argument("--prefix", default="qs", help="start of the namespaces' names; default qs")
    parser.add_argument("--keep", action="store_true", help="keep logs and database when everything is stopped")
    return parser.parse_args(arguments)


@contextmanager
def _step(what: str) -> Iterator[None]:
    begun = time.monotonic()
    yield
    CONSOLE.print(f"  {what}: {time.monotonic() - begun:.1f} s")


def _show(checks: Sequence[Check]) -> None:
    table = Table("check", "VM", "what happened", "result")
    for index, check in enumerate(checks):
        last = index + 1 == len(checks) or checks[index + 1].topic != check.topic
        result = "[green]passed[/]" if check.passed else "[bold red]FAILED[/]"
        table.add_row(check.topic, check.subject, check.saw, result, end_section=last)
    CONSOLE.print(table)


def _summary(checks: Sequence[Check]) -> str:
    passed = sum(check.passed for check in checks)
    return f"quickstart: {passed} passed, {len(checks) - passed} failed"


def _play(lab: Lab, scenario: Scenario, page: int) -> None:
    """Say what there is to play with, and wait for Ctrl-C."""
    (vm, other), node = scenario.all_vms()[:2], lab.nodes[0]
    controller = lab.control.process.pid if lab.control.process else "-"
    name = scenario.full_name(other)
    CONSOLE.print(
        f"""
It is yours until Ctrl-C. All files: {lab.directory}
  the web page (docs/web.md)  http://{LOOPBACK}:{page}/   token: {ADMIN_TOKEN}
                              from elsewhere first: ssh -L {page}:{LOOPBACK}:{page} THIS-MACHINE
  the operator's command      {lab.directory}/trunkline status
                              {lab.directory}/trunkline port list
  a VM more                   {lab.directory}/trunkline port create vm --network blue
                              {lab.directory}/{node.name}/on trunkline plug vm --namespace {lab.prefix}-vm
                              ip netns exec {lab.prefix}-vm udhcpc -i eth0 -f -q
  inside a VM                 ip netns exec {vm.namespace} ping {FAR_HOST.ip}
                              ip netns exec {lab.prefix}-blue-{node.name} ping {FAR_HOST_IPV6}
  names                       ip netns exec {vm.namespace} busybox nslookup {name} {RESOLVER}
  what it is told of itself   ip netns exec {vm.namespace} curl -s http://169.254.169.254/latest/meta-data/
  the VMs                     {" ".join(each.namespace for each in lab.vms.values())}
  on a node                   {lab.directory}/{node.name}/on ovs-vsctl show
                              {lab.directory}/{node.name}/on ovs-ofctl -O OpenFlow14 dump-flows br-int
                              {lab.directory}/{node.name}/on ovs-appctl dpctl/dump-conntrack
  a floating IP               {lab.directory}/trunkline floating-ip create --pool public --project blue
                              {lab.directory}/trunkline floating-ip list
  security groups             {lab.directory}/trunkline security-group list
                              {lab.directory}/trunkline security-group show web --project blue
                              {lab.directory}/trunkline port counters blue-{node.name}
  outside, watching           ip netns exec {lab.fabric.outside} tcpdump -ni {OUTSIDE_INTERFACE}
  the REST API (docs/api.md)  ip netns exec {lab.control.namespace} \\
                              curl -H "Authorization: Bearer {ADMIN_TOKEN}" {lab.control.url}/v1
  without a controller        kill {controller}    then try again: all but DHCP, names, metadata and changes
  with one again              {lab.control.starter} &
""",
        markup=False,
        soft_wrap=True,
    )
    try:
        while True:
            signal.pause()
    except KeyboardInterrupt:
        CONSOLE.print("\nStopping.")


if __name__ == "__main__":
    sys.exit(main())
