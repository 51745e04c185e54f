"""Which tests run on the kernel's datapath as well."""

from __future__ import annotations

from pathlib import Path

from etc.lab.openvswitch import asked_datapath

KERNEL_DIRECTORIES = ("netns", "ovs", "ha", "faults")
"""Directories of tests/ that run on both datapaths, but for what LEFT_OUT names. tests/run reads them from here."""

_CONTROL = "about the controller and its database; no packet's way differs"
_PROGRAMS = "about a program that plugs; what is plugged is in test_plugging and test_networks"

LEFT_OUT: dict[str, str] = {
    "netns/test_audit.py": _CONTROL,
    "netns/test_cni.py": _PROGRAMS,
    "netns/test_database_away.py": _CONTROL,
    "netns/test_dhcp_golden.py": "about the bytes of answers, which the controller writes",
    "netns/test_docs.py": "about the text of commands",
    "netns/test_import_nova.py": _CONTROL,
    "netns/test_monitoring.py": _CONTROL,
    "netns/test_podman.py": _PROGRAMS,
    "netns/test_readme.py": "about the text of commands",
    "netns/test_tls.py": "about the control channel",
    "ovs/test_tls.py": "about the control channel",
    "ovs/test_errands.py": "about the agent and the controller",
    "ovs/test_spelling.py": "about how ofproto/trace reads and writes packets",
}
"""File below tests/, and why the kernel's datapath would show nothing new."""


def left_out(path: Path) -> bool:
    """True if a file of tests/ does not run on the datapath that is asked for."""
    return asked_datapath() == "kernel" and str(path.relative_to(Path(__file__).parent)) in LEFT_OUT
