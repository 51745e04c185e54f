"""A laboratory in which commands of the documentation are run as they stand there.

What a page calls `trunkline`, `ovs-ofctl` and so on is found first in a directory of this world, where each leads to
the place that the page means: the machine of the operator, or node n1.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from unittest import mock

import pytest
import typer

from controller.cli.main import app
from etc.lab import netns
from etc.lab.control import ADMIN_TOKEN, PROJECT_ROOT
from etc.lab.lab import Lab
from etc.lab.processes import DeadlineMissed, interruptible, wait_until
from tests.docs_output import mismatch
from tests.docs_text import Command, is_kept
from tests.unit.nova.test_dump import DUMP

Step = str | Callable[["World"], None]
"""What is there before a command: arguments of `trunkline`, or something that no command does."""

PATIENCE_S = 2.0
"""After which Ctrl-C is pressed, where a page shows nothing to wait for and nothing is printed."""

DEADLINE_S = 120.0
_ENDLESS = re.compile(r"--(watch|follow)\b|\bcapture\b")
"""They go on until Ctrl-C, or for longer than a test has."""

_COMMENT = re.compile(r"\s#\s.*")
_PLAIN = re.compile(r"trunkline (?!plug |unplug )[^~|<>&;$*`\\]*$")
"""To that a shell does nothing but find the words."""

_UNDELIVERED = re.compile(r": (?:dropped|nobody answers)\b|^warning .* decides otherwise\b")
"""Where a page shows this of a trace, its exit status is 1."""

_SCRIPTS = {
    "trunkline": 'case "$1" in plug|unplug) exec {n1}/on trunkline "$@";; esac\nexec {lab}/trunkline "$@"',
    "trunkline-controller": 'shift\nexec {python} -m controller db --config-file {config} "$@"',
    "ovs-vsctl": 'exec {n1}/on {real} "$@"',
    "ovs-ofctl": 'exec {n1}/on {real} "$@"',
    "ovs-appctl": 'exec {n1}/on {real} "$@"',
    "curl": 'exec nsenter --net={control} {real} "$@"',
    # stand-ins: there is no MySQL and no screen, and there are no other machines
    "wireshark": "exec tcpdump -n -r -",
    "mysqldump": "exec cat {dump}",
    "scp": 'test -e "$2" && test "$#" = 3',
}
"""Where programs lead."""

_HARMLESS = frozenset(_SCRIPTS) | {"grep", "gzip", "jq", "tcpdump"}
_HARMLESS_ENTERED = frozenset({"exec:ip", "exec:ping", "exec:udhcpc"})
_REMOVED = re.compile(r"rm -r /etc/netns/[\w-]+")
_HARMLESS_ELSEWHERE = frozenset({"curl", "ip", "ovs-vsctl", "rm"})
"""In a network namespace of the laboratory."""

_LITERAL = re.compile(r"'[^']*'")
_QUOTED = re.compile(r"""'[^']*'|"[^"]*\"""")
_ANOTHER_COMMAND = re.compile(r"\$\(|`|[<>]\(")
_BACKGROUND = re.compile(r"(?<![&>])&(?!&)")
_ENTERED = re.compile(r"\bip netns exec \S+ +(\S+)")
_ONTO_THE_MACHINE = re.compile(r"(?:>|\s-o|--output)[\s=]*(?:[/~]|\S*\.\./)")
_MEANT = {
    r"(--namespace|netns exec) (web\d+)\b": r"\1 {prefix}-\2",
    r"netns (exec|delete) tl-service\b": r"netns \1 {service}",
    r"/etc/netns/tl-service\b": "/etc/netns/{service}",
    r"http://127\.0\.0\.1:8080": "{url}",
    r"/etc/trunkline/": "{directory}/etc/",
    r"/var/backups/": "{directory}/",
}
"""What pages call something, and what it is here."""


class World:
    """`place` is where commands are run that name none: on the machine of the operator if it is ""; a node, the router
    outside, or a VM of the laboratory. `token` is whose they are.
    """

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab = lab
        self.directory = directory
        self.place = ""
        self.token = ADMIN_TOKEN
        self.meant: dict[str, str] = {}
        self.stack = ExitStack()
        self._prelude: list[str] = []
        self._program = typer.main.get_command(app)
        self._own = set(netns.names(f"{lab.prefix}-"))
        self._furnish()

    def _furnish(self) -> None:
        for name in ("bin", "etc", ".ssh"):
            (self.directory / name).mkdir()
        (self.directory / ".ssh" / "id_ed25519.pub").write_text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGrx operator\n")
        (self.directory / "cloud-config.yaml").write_text("#cloud-config\n")
        places = {
            "n1": self.lab.nodes[0].directory,
            "lab": self.lab.directory,
            "config": self.lab.control.config_file,
            "control": netns.DIRECTORY / self.lab.control.namespace,
            "python": sys.executable,
            "dump": DUMP,
        }
        for name, text in _SCRIPTS.items():
            script = self.directory / "bin" / name
            script.write_text("#!/bin/sh\n" + text.format(real=shutil.which(name), **places) + "\n")
            script.chmod(0o755)

    # what is there before a command

    def prepare(self, *steps: Step) -> None:
        for step in steps:
            if not isinstance(step, str):
                step(self)
                continue
            status, _, errors = self._called(shlex.split(step), ADMIN_TOKEN)
            assert status == 0, f"{step}: {errors}"

    def clean(self) -> None:
        """Nothing is in the cloud but its nodes, and everybody is the operator again."""
        self.stack.close()
        self.place, self.token = "", ADMIN_TOKEN
        self.meant.clear()
        self._prelude.clear()
        lab, client = self.lab, self.lab.client
        for vm in list(lab.vms.values()):
            lab.delete_vm(vm)
        strangers = set(netns.names(f"{lab.prefix}-")) - self._own
        netns.delete(*strangers)
        for pool_member in client.list_floating_ips():
            client.delete_floating_ip(pool_member["id"])
        for pool in client.list_floating_ip_pools():
            client.delete_floating_ip_pool(pool["id"])
        for port in client.list_ports():
            client.delete_port(port["id"])
        for zone in client.list_dns_zones():
            client.delete_dns_zone(zone["id"])
        for network in sorted(client.list_networks(), key=lambda network: bool(network["external"])):
            if network["assignable"] and network["project_id"]:
                client.disassociate_network(network["id"])
            client.delete_network(network["id"])
        groups = [group["id"] for group in client.list_security_groups() if group["name"] != "default"]
        for rule in client.list_security_group_rules():
            if rule["security_group_id"] in groups:  # one may be about another group
                client.delete_security_group_rule(rule["id"])
        for group in groups:
            client.delete_security_group(group)

    # the commands

    def run(self, command: Command) -> str | None:
        """As the page says, and its output beside what the page shows. What was wrong, None when all was well."""
        line = self._here(command.line)
        if is_kept(command.line):
            self._prelude.append(line)
        elif not is_harmless(line, elsewhere=bool(self.place)):
            return "it might change the machine that tests run on: it needs a test with one of its own"
        script = "\n".join([*self._prelude, line])
        if _ENDLESS.search(command.line):
            return self._interrupted(script, command)
        if _PLAIN.match(_COMMENT.sub("", line)) and not self.place:
            status, printed, errors = self._called(shlex.split(line, comments=True)[1:], self.token)
        else:
            done = subprocess.run(
                self._shell(script), cwd=self.directory, env=self._environment(), capture_output=True, text=True,
                timeout=DEADLINE_S,
            )  # fmt: skip
            status, printed, errors = done.returncode, done.stdout, done.stderr
        if status != int(bool(command.shown and any(map(_UNDELIVERED.search, command.shown)))):
            return f"exit status {status}: {errors or printed}"
        wrong = None if command.shown is None else mismatch(command.shown, printed.splitlines())
        return wrong and f"{wrong}, in:\n{printed}"

    def _called(self, words: list[str], token: str) -> tuple[int, str, str]:
        """`trunkline` in this process, which takes a tenth of the time: its status, and what it has said."""
        out, errors = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, {**self._environment(), "TRUNKLINE_TOKEN": token}),
            contextlib.chdir(self.directory),
            netns.inside(self.lab.control.namespace),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(errors),
            pytest.raises(SystemExit) as ended,
        ):
            self._program.main(words, prog_name="trunkline")
        return int(ended.value.code or 0), out.getvalue(), errors.getvalue()

    def _interrupted(self, script: str, command: Command) -> str | None:
        """Ctrl-C after what the page shows has come, else after anything has; what has ended before was not endless."""
        printed = self.directory / "printed"
        with printed.open("w") as out:
            process = subprocess.Popen(
                interruptible(self._shell(script)), cwd=self.directory, env=self._environment(), stdout=out,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

        def lacks() -> str | None:
            text = printed.read_text()
            if process.poll() is not None or (text and not command.shown):
                return None
            return mismatch(command.shown, text.splitlines(), more=True) if command.shown else "anything"

        try:
            with suppress(DeadlineMissed):
                wait_until(lambda: lacks() is None, DEADLINE_S if command.shown else PATIENCE_S)
            ended, lacking = process.poll() is not None, lacks()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            process.wait(DEADLINE_S)
        text = printed.read_text()
        if ended or "Traceback" in text:
            return f"it has ended by itself, or badly: {text}"
        return f"{lacking}, in:\n{text}" if lacking and command.shown else None

    def _here(self, line: str) -> str:
        service = f"{self.lab.prefix}-{self.place or 'n1'}-service"
        for pattern, text in _MEANT.items():
            meant = text.format(
                prefix=self.lab.prefix, service=service, url=self.lab.control.url, directory=self.directory
            )
            line = re.sub(pattern, meant, line)
        for pattern, text in self.meant.items():
            line = re.sub(pattern, text, line)
        return line

    def _shell(self, script: str) -> list[str]:
        shell = ["bash", "-c", script]
        if not self.place:
            return shell
        node = next((node for node in self.lab.nodes if node.name == self.place), None)
        if node is not None:
            return [str(node.directory / "on"), *shell]
        vm = self.lab.vms.get(self.place)
        return netns.joined(self.lab.fabric.outside if vm is None else vm.namespace, shell)

    def _environment(self) -> dict[str, str]:
        path = [str(self.directory / "bin")] if not self.place else []
        return {
            **os.environ,
            "PATH": os.pathsep.join([*path, os.environ["PATH"]]),
            "HOME": str(self.directory),
            "PYTHONPATH": str(PROJECT_ROOT),
            "TRUNKLINE_URL": self.lab.control.url,
            "TRUNKLINE_TOKEN": self.token,
            "TRUNKLINE_PKI": str(self.directory / "etc" / "pki"),
        }


def is_harmless(line: str, *, elsewhere: bool = False) -> bool:
    """Whether root may run it where others work, too; `elsewhere`: in a network namespace of the laboratory, which has
    the machine's files.
    """
    text = _COMMENT.sub("", line)
    bare = _QUOTED.sub("", text)
    if _ANOTHER_COMMAND.search(_LITERAL.sub("", text)) or _BACKGROUND.search(bare):
        return False
    if _ONTO_THE_MACHINE.search(re.sub("[\"']", "", text)):
        return False
    parts = [part.strip() for part in re.split(r"\|\|?|&&|;", _ENTERED.sub(r"exec:\1", bare))]
    if any(part.startswith("rm ") and not _REMOVED.fullmatch(part) for part in parts):
        return False
    known = _HARMLESS_ELSEWHERE if elsewhere else _HARMLESS
    return {part.split()[0] for part in parts} <= known | _HARMLESS_ENTERED
