"""The whole laboratory: a `with` builds it, and nothing is left when the `with` ends, however it ends."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from agent import namespaces
from controller.client import LONGEST_POLL, ApiError, Object
from controller.store import failures, upgrade
from etc.lab import netns
from etc.lab.capture import Capture
from etc.lab.control import ADMIN_TOKEN, DATABASE_ADDRESS, PROGRAM, Control, LabClient
from etc.lab.fabric import OUTSIDE_INTERFACE, QUIET, Fabric
from etc.lab.machine import HOME, PrefixInUse, RunDirectory, enlarge_receive_buffers
from etc.lab.node import Node
from etc.lab.openvswitch import datapath_type
from etc.lab.postgres import Postgres
from etc.lab.processes import in_parallel, stop_all, wait_until
from etc.lab.vm import Vm

CONVERGENCE_DEADLINE = 60.0
DATABASE = "trunkline"
CONFIRM_DEADLINE = 40.0
DEFAULT_PHYSICAL_NETWORKS = ("physnet1", "physnet-ext")


class Lab:
    """`nodes` nodes n1, n2, ...; `controller` false leaves out the controller and the agents: Open vSwitch alone.
    With `controllers`, which are names, those share a PostgreSQL that has a namespace of its own; those in `late` are
    not started, but the nodes know of them.

    `prefix` starts every namespace's name; two laboratories with different prefixes run side by side. `control_options`
    go into the controller's configuration, `agent_options` into [agent] of each agent's; `control_program` is what runs
    as controller (`Control`). `open_groups`: new security groups let in everything, by conntrack as ever. `tls`: see
    `Control`.
    """

    def __init__(
        self,
        prefix: str = "tl",
        *,
        nodes: int = 3,
        controller: bool = True,
        controllers: Sequence[str] = (),
        late: Collection[str] = (),
        physical_networks: Sequence[str] = DEFAULT_PHYSICAL_NETWORKS,
        external: str = "physnet-ext",
        projects: Iterable[str] = (),
        control_options: Mapping[str, Mapping[str, object]] | None = None,
        control_program: Sequence[str] = PROGRAM,
        agent_options: Mapping[str, object] | None = None,
        open_groups: bool = False,
        tls: bool = False,
        keep_files: bool = False,
    ) -> None:
        self.prefix = prefix
        self.keep_files = keep_files
        self.run_directory = RunDirectory(prefix)
        self.datapath = datapath_type()
        self.fabric = Fabric(prefix, physical_networks, external)
        self.postgres = self._postgres() if controllers else None
        url = None if self.postgres is None else self.postgres.url(DATABASE, str(DATABASE_ADDRESS.ip))
        self.controls = [
            Control(
                prefix,
                self.directory / f"ctl{number if number > 1 else ''}",
                tuple(projects),
                control_options,
                number=number,
                name=name,
                database_url=url,
                tls=tls,
                program=control_program,
            )
            for number, name in enumerate(controllers or ("ctl",), 1)
        ]
        self._asked = 0
        self._late = late
        for control in self.controls:
            control.all = self.controls
        self.nodes = [Node(prefix, n, self.directory / f"n{n}", self.datapath) for n in range(1, nodes + 1)]
        self.vms: dict[str, Vm] = {}
        self._with_controller = controller
        self._agent_options = dict(agent_options or {})
        self._open_groups = open_groups
        self._old_handlers: dict[signal.Signals, Any] = {}

    @property
    def directory(self) -> Path:
        """All files of this laboratory; it goes away at the end, unless something went wrong."""
        return self.run_directory.path

    def __enter__(self) -> Lab:
        self.run_directory.claim()
        self._catch_signals()
        try:
            sweep_namespaces(self.prefix)
            self.run_directory.empty()
            enlarge_receive_buffers()
            self._build()
        except BaseException as error:
            self._clean_up(keep_files=_is_failure(error))
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clean_up(keep_files=self.keep_files or _is_failure(error))

    # what is in it

    @property
    def control(self) -> Control:
        """The controller that is asked: the first one, unless `ask` has said otherwise."""
        return self.controls[self._asked]

    def ask(self, control: Control) -> None:
        self._asked = self.controls.index(control)

    @property
    def client(self) -> LabClient:
        """A new REST client with the administrator's token."""
        return self.control.client(ADMIN_TOKEN)

    def node(self, name: str) -> Node:
        """Raises KeyError."""
        return {node.name: node for node in self.nodes}[name]

    def outside_capture(self, match: str) -> Capture:
        """What reaches the outside world during a `with`; `match` as in pcap-filter(7)."""
        return Capture(self.fabric.outside, OUTSIDE_INTERFACE, match, self.directory / "out")

    # what to do with it

    def wait_connected(self, deadline: float = CONVERGENCE_DEADLINE) -> None:
        """Wait until the controller programs every node and knows its uplinks, and has its database."""
        client = self.client

        def missing() -> list[str]:
            try:
                known = {node["name"]: node for node in client.list_nodes()}
            except ApiError as error:
                if error.code != failures.AWAY:
                    raise
                return [error.code]
            return [node.name for node in self.nodes if not _is_live(known.get(node.name, {}), node)]

        wait_until(lambda: not missing(), deadline, lambda: f"not connected: {missing()}", interval=0.05)
        for node in self.nodes:
            node.ovs.require_datapath()

    def confirm(self, revision: int | None, deadline: float = CONFIRM_DEADLINE) -> None:
        """Wait until the nodes have confirmed a revision. Raises controller.client.Unconfirmed with their names."""
        self.client.wait_revision(revision or 0, min(deadline, LONGEST_POLL))

    def plug(self, name: str, node: Node, port: Object) -> Vm:
        """A new VM for a port; it has no address until a DHCP client runs in it."""
        vm = Vm(f"{self.prefix}-{name}", name, node, port, self.directory / "vm" / name)
        self.vms[name] = vm
        vm.plug()
        return vm

    def create_vm(
        self, name: str, node: Node, network_id: str, *, client: str | None = "udhcpc", **fields: object
    ) -> Vm:
        """A port and its VM with a DHCP client running; returns without waiting for the lease."""
        port = self.client.create_port({"network_id": network_id, "name": name, "hostname": name, **fields}).object
        assert port
        vm = self.plug(name, node, port)
        if client:
            vm.start_client(client)
        return vm

    def delete_vm(self, vm: Vm) -> None:
        """Remove the VM and its port."""
        vm.delete()
        self.vms.pop(vm.name, None)
        self.client.delete_port(vm.port["id"])

    # how it is built and taken down

    def _build(self) -> None:
        control = self.control if self._with_controller else None
        self.fabric.start()
        if control:
            control.start_network()
            for other in self.controls[1:]:
                other.join_network(control)
            if self.postgres is not None:
                self._start_database(self.postgres)
        starts: list[Callable[[], object]] = [partial(node.start, self.fabric, control) for node in self.nodes]
        starts += [each.start for each in self.controls if control and each.name not in self._late]
        in_parallel(starts)
        if control:
            if self._open_groups:
                for family in ("ipv4", "ipv6"):
                    self.client.create_default_rule({"direction": "ingress", "family": family})
            for node in self.nodes:
                node.start_agent(control, self._agent_options)

    def _postgres(self) -> Postgres:
        namespace = f"{self.prefix}-db"
        return Postgres(self.directory / "db", namespace=namespace, listen=[str(DATABASE_ADDRESS.ip)])

    def _start_database(self, server: Postgres) -> None:
        namespace = f"{self.prefix}-db"
        netns.create(namespace)
        netns.set_sysctl(namespace, QUIET)
        self.controls[0].connect(namespace, "db-mgmt", DATABASE_ADDRESS)
        server.start()
        upgrade(server.create_database(DATABASE))

    def _clean_up(self, *, keep_files: bool) -> None:
        with _signals_held():
            clients = [vm.client for vm in self.vms.values()]
            agents = [node.agent for node in self.nodes]
            servers = [control.process for control in self.controls]
            stop_all(process for process in (*clients, *agents, *servers) if process)
            if self.postgres is not None:
                self.postgres.destroy()
            for node in self.nodes:
                node.ovs.stop()
            sweep_namespaces(self.prefix)
            self.run_directory.release(keep=keep_files)
            for number, handler in self._old_handlers.items():
                signal.signal(number, handler)
            self._old_handlers.clear()

    def _catch_signals(self) -> None:
        """Let SIGTERM and SIGHUP end the `with` like any error. Only the main thread may say so."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) is signal.SIG_DFL:  # who handles it already, ends the `with` as well
                    self._old_handlers[number] = signal.signal(number, _leave)


def _is_failure(error: BaseException | None) -> bool:
    """Something to look at the logs for, rather than somebody's wish to stop."""
    return isinstance(error, Exception)


def _is_live(reported: Object, node: Node) -> bool:
    # Not Open vSwitch's own is_connected: that is up to 5 s old.
    return reported.get("state") == "live" and set(reported.get("uplinks", ())) == set(node.nics)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Nobody's impatience interrupts the cleaning up."""
    signals = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def sweep_namespaces(prefix: str) -> None:
    """End every process in the namespaces of a prefix, and remove these and what /etc/netns has for them."""
    left = netns.names(f"{prefix}-")
    if left:
        netns.end_processes(left)
    netns.delete(*left, *namespaces.with_resolver(f"{prefix}-"))


def sweep(prefix: str) -> None:
    """Remove what a crashed or failed laboratory left behind, files included. Raises PrefixInUse when it is alive."""
    run_directory = RunDirectory(prefix)
    run_directory.claim()
    sweep_namespaces(prefix)
    run_directory.release(keep=False)


def sweep_all(base: str) -> None:
    """`sweep` for every prefix that `free_prefix(base)` can have given out; those that are alive are left alone."""
    for path in HOME.glob(f"{base}*"):
        if path.is_dir():
            with contextlib.suppress(PrefixInUse):
                sweep(path.name)


def free_prefix(base: str) -> str:
    """`base`, or base2, base3, ...: the first that is neither running nor has left files to look at."""
    return next(prefix for n in count(1) if not (HOME / (prefix := f"{base}{n if n > 1 else ''}")).exists())
