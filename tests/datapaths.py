"""Which tests run on the kernel's datapath as well."""

from __future__ import annotations

from pathlib import Path

from etc.lab.openvswitch import asked_datapath

KERNEL_DIRECTORIES = ("netns", "ovs", "ha", "faults")
"""Directories of tests/ that run on both datapaths, but for what LEFT_OUT names. tests/run reads them from here."""

_CONTROL = "about the controller and its database; no packet's way differs"
_PROGRAMS = "about a program that plugs; what is plugged is in test_plugging and test_networks"
_COMMANDS = "about the text of commands"
_CHANNEL = "about the control channel"
_DUMMY = "on Open vSwitch's datapath for tests, dummy: a RealSwitch"

LEFT_OUT: dict[str, str] = {
    "faults/test_controller.py": _CONTROL,
    "ha/test_errands.py": _CONTROL,
    "ha/test_old_states.py": _CONTROL,
    "netns/test_audit.py": _CONTROL,
    "netns/test_cni.py": _PROGRAMS,
    "netns/test_database_away.py": _CONTROL,
    "netns/test_dhcp_golden.py": "about the bytes of answers, which the controller writes",
    "netns/test_docs.py": _COMMANDS,
    "netns/test_import_nova.py": _CONTROL,
    "netns/test_monitoring.py": _CONTROL,
    "netns/test_podman.py": _PROGRAMS,
    "netns/test_readme.py": _COMMANDS,
    "netns/test_tls.py": _CHANNEL,
    "ovs/test_errands.py": "about the agent and the controller",
    "ovs/test_floating_ips_agree.py": _DUMMY,
    "ovs/test_hostile_peers.py": _CHANNEL,
    "ovs/test_ipv6_agrees.py": _DUMMY,
    "ovs/test_live_answers.py": _DUMMY,
    "ovs/test_migration_agrees.py": _DUMMY,
    "ovs/test_security_groups_agree.py": _DUMMY,
    "ovs/test_simulator_agrees.py": _DUMMY,
    "ovs/test_single_gateway_agrees.py": _DUMMY,
    "ovs/test_spelling.py": "about how ofproto/trace reads and writes packets",
    "ovs/test_tls.py": _CHANNEL,
    "ovs/test_wire.py": "about the bytes of messages",
}
"""File below tests/, and why the kernel's datapath would show nothing new."""

_CONNTRACK = "conntrack, NAT and fragments are another program's"
_METERS = "meters, tc and queues are the kernel's"
_HEADERS = "the kernel's actions write other fields of a header, and tc the rest"
_BRIDGES = "its bridges, ports and tc filters are the kernel's"
_RESTARTS = "the kernel goes on while ovs-vswitchd is down"

EACH_RUN: dict[str, str] = {
    "netns/test_faults.py": _RESTARTS,
    "netns/test_floating_ips.py": _CONNTRACK,
    "netns/test_host_address.py": _CONNTRACK,
    "netns/test_ipv6.py": _HEADERS,
    "netns/test_ipv6_next_hop.py": _HEADERS,
    "netns/test_laws.py": _RESTARTS,
    "netns/test_migration.py": _CONNTRACK,
    "netns/test_nat.py": _CONNTRACK,
    "netns/test_next_hop.py": _HEADERS,
    "netns/test_open_connections.py": _CONNTRACK,
    "netns/test_port_forwardings.py": _CONNTRACK,
    "netns/test_qos.py": _METERS,
    "netns/test_security_group_rules.py": _CONNTRACK,
    "netns/test_security_groups.py": _CONNTRACK,
    "netns/test_shares.py": _CONNTRACK,
    "netns/test_sizes.py": _CONNTRACK,
    "netns/test_threats_forwardings.py": _CONNTRACK,
    "netns/test_threats_icmp_errors.py": _CONNTRACK,
    "netns/test_threats_live_security.py": _CONNTRACK,
    "ovs/test_agent.py": _BRIDGES,
    "ovs/test_ovs_failures.py": _RESTARTS,
    "ovs/test_service_port.py": _HEADERS,
    "ovs/test_session.py": _RESTARTS,
}
"""File below tests/ that each run of all tests runs on the kernel's datapath too, and what differs there. Others in
KERNEL_DIRECTORIES run there when asked for, as all of them take 40 minutes in a guest.
"""


def left_out(path: Path) -> bool:
    """True if a file of tests/ does not run on the datapath that is asked for."""
    return asked_datapath() == "kernel" and str(path.relative_to(Path(__file__).parent)) in LEFT_OUT
