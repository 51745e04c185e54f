"""The agent's loop: read, repair, report, wait until something changes or the heartbeat is due."""

from __future__ import annotations

import logging
import time

from agent import nics
from agent.config import AgentConfig
from agent.connections import Connections
from agent.errands import Errands
from agent.grants import Grants
from agent.host_address import HostAddresses
from agent.host_flows import HostFlows
from agent.installed import InstalledMarks
from agent.naming import Names
from agent.ovs_failures import OvsFailures
from agent.ovsdb import Ovsdb, OvsdbError
from agent.plan import plan
from agent.readiness import Readiness
from agent.reassembly import Reassembly
from agent.report import InterfacesReport, interfaces_report, node_report
from agent.reporter import Reporter
from agent.service_manager import ServiceManager
from agent.service_port import ServicePort
from agent.state import OvsState, marked
from agent.steps import AddPort, Confirm, DeletePort, Step
from agent.version import version
from agent.waker import Waker
from agent.wanted import SERVICE_DEVICE, WantedBridge, wanted, wanted_limits, wanted_ssl

LOG = logging.getLogger(__name__)

_RETRY_S = 0.5
_FAILING_S = 5.0  # so long rounds must fail until that is a problem of the node: a restart of Open vSwitch is none
# So many repairs in a row are a fight with another program over the same columns: then no more than one a second.
_FIGHT = 5
_FIGHT_PAUSE_S = 1.0
# Seconds between two looks at the host's addresses, and at whether Open vSwitch was restarted: where NAT shares one.
_ADDRESS_PAUSE_S = 1.0
_RESTART_PAUSE_S = 0.1
# ovs-vswitchd has done what it was asked by then, or is away, and begins with what it finds.
_LET_GO_S = 5.0


class Agent:
    """One node. `step` is one round of the loop; `run` repeats it until `stop`."""

    def __init__(
        self,
        config: AgentConfig,
        waker: Waker,
        reporter: Reporter,
        service_port: ServicePort,
        manager: ServiceManager | None = None,
        readiness: Readiness | None = None,
        names: Names | None = None,
        errands: Errands | None = None,
        connections: Connections | None = None,
    ) -> None:
        self._names = names
        self._readiness = readiness
        self._marks = InstalledMarks()
        self._errands = errands
        self._manager = manager or ServiceManager({})
        self._config = config
        self._waker = waker
        self._reporter = reporter
        self._bridges: tuple[WantedBridge, ...] = wanted(config)
        self._connections = connections or Connections(config, waker.wake)
        self._ssl = wanted_ssl(config)
        self._nics = frozenset(network.nic for network in config.physical_networks if network.nic)
        self._host_addresses = HostAddresses(config)
        self._host_flows = HostFlows(config, self._host_addresses.choices)
        self._reassembly = Reassembly(config)
        self._ovs_failures = OvsFailures(config)
        self._service_port = service_port
        self._version = version()
        self._grants = Grants(config)
        self._ovsdb: Ovsdb | None = None
        self._interfaces = InterfacesReport()
        self._nics_up = False
        self._repairs = 0
        self._not_before = 0.0
        self._letting_go = 0.0
        self._state: OvsState | None = None
        self._problems: frozenset[str] | None = None  # None until a first look has found what there is
        self._failure = ""  # of the last round
        self._failing_since = 0.0
        self._logged: frozenset[str] = frozenset()
        self._stopping = False

    def stop(self) -> None:
        """Safe in a signal handler. The data plane stays as it is."""
        self._stopping = True
        self._waker.wake()

    def run(self) -> None:
        """Returns after `stop`, and can be called again."""
        while not self._stopping:
            try:
                delay = self.step()
                self._failed("")
            except (OvsdbError, OSError) as error:  # such as no file descriptor left to ask the kernel with
                self._failed(str(error))
                delay = _RETRY_S
            self._manager.alive()
            if not self._stopping:
                self._wait(delay)
        self._stopping = False

    def _failed(self, failure: str) -> None:
        """The last round failed, or did not (""). One that fails for long is reported, with the last known state."""
        if not failure and not self._failure:
            return
        if not self._failure:
            self._failing_since = time.monotonic()
        self._failure = failure
        self._log_problems()
        if self._state is not None:
            self._report(self._state)

    def _wait(self, seconds: float) -> None:
        shares = bool(self._host_addresses.choices)
        limit = self._manager.watchdog_s
        pause = _RESTART_PAUSE_S if shares else min(seconds, self._grants.look_again or seconds)
        if limit is not None:
            pause = min(pause, limit / 3)
        end = time.monotonic() + (min(seconds, _ADDRESS_PAUSE_S) if shares else seconds)
        while True:
            left = end - time.monotonic()
            if self._waker.wait(min(left, pause)) or left <= 0 or self._grants.lacking():
                return
            if shares and self._host_flows.restarted():
                return
            self._manager.alive()

    def close(self) -> None:
        if self._ovsdb is not None:
            self._ovsdb.close()

    def step(self) -> float:
        """One round; returns the seconds to wait at most. Raises OvsdbError when OVSDB does not take it."""
        self._grants.keep()
        if self._ovsdb is None:
            self._ovsdb = Ovsdb(self._config.ovsdb, self._waker.wake)
            LOG.info("connected to %s", self._config.ovsdb)
        state = self._ovsdb.read()
        # First what matters for a new interface, then the repair, which is rare.
        held = self._host_addresses.read()
        self._state = state  # known with the host's addresses: a failure may be reported with it
        self._report(state)
        self._mark(self._ovsdb, state)
        if self._errands is not None:
            self._errands.submit(state)
        delay = min(
            self._host_flows.keep(state, held),
            self._reassembly.keep(state),
            self._service_port.keep(state),
            self._connections.keep(state),
            self._ovs_failures.keep(state),
        )
        return min(delay, self._repair(self._ovsdb, state))

    def _report(self, state: OvsState) -> None:
        interfaces = interfaces_report(self._config, state, self._interfaces)
        for line in set(interfaces.duplicates) - set(self._interfaces.duplicates):
            LOG.warning("%s", line)
        self._interfaces = interfaces
        failing = bool(self._failure) and time.monotonic() - self._failing_since >= _FAILING_S
        if self._problems is None and not failing:  # the controller would take the node's problems for gone
            return
        problems = (self._problems or frozenset()) | ({self._failure} if failing else frozenset())
        hosts = self._host_addresses.to_report()
        node = node_report(self._config, state, self._version, hosts, problems)
        self._reporter.submit(node, interfaces, self._connections.full)

    def _mark(self, ovsdb: Ovsdb, state: OvsState) -> None:
        """What is written on the interfaces of VMs, once for each news of the controller."""
        steps: list[Step] = []
        if self._readiness is not None:
            now_ms = round(time.time() * 1000)
            steps += self._marks.steps(state, self._interfaces, self._readiness.verdicts(), now_ms)
        if self._names is not None:
            named = self._names.steps(state, self._interfaces)
            for step in named:
                LOG.info("%s", step)
            steps += named
        if steps:
            ovsdb.apply(steps)

    def _repair(self, ovsdb: Ovsdb, state: OvsState) -> float:
        if self._let_go(ovsdb, state):
            return 0.0
        waits = self._letting_go - time.monotonic()
        if waits > 0 and not state.confirmed:
            return waits
        outside = self._nics - state.interfaces.keys()
        zones = self._connections.zones
        limits = wanted_limits(self._config, None if zones is None else zones.with_more_room())
        difference = plan(self._bridges, state, nics.addressed(outside), limits, self._ssl)
        about_host = (*self._host_addresses.problems, *self._host_flows.problems)
        keepers = (ovsdb, self._reassembly, self._service_port, self._connections, self._ovs_failures)
        others = (problem for keeper in keepers for problem in keeper.problems)
        self._report_problems(state, frozenset((*difference.problems, *about_host, *others)))
        if not difference.steps:
            self._repairs = 0
            self._bring_up(self._nics & state.interfaces.keys())
            return self._config.heartbeat_interval
        pause = self._not_before - time.monotonic()
        if pause > 0:
            return pause
        self._repairs += 1
        if self._repairs > _FIGHT:
            LOG.warning("another program keeps changing what the agent sets")
            self._not_before = time.monotonic() + _FIGHT_PAUSE_S
        for step in difference.steps:
            LOG.info("%s", step)
        if any(isinstance(step, AddPort) and step.name in self._nics for step in difference.steps):
            self._nics_up = False
        ovsdb.apply(difference.steps)
        return 0.0

    def _let_go(self, ovsdb: Ovsdb, state: OvsState) -> bool:
        """Of a device that has been made anew: the userspace datapath holds on to the one that was there before.

        True: nothing is to be added before ovs-vswitchd confirms. A port that goes and comes in one is no change to it.
        """
        held = state.ports.get(SERVICE_DEVICE)
        lets_go = False
        if self._service_port.replaced and held is not None and marked(held.columns):
            ovsdb.apply((DeletePort(held.bridge, held.name), Confirm()))
            self._letting_go = time.monotonic() + _LET_GO_S
            lets_go = True
        self._service_port.replaced = False
        return lets_go

    def _bring_up(self, present: frozenset[str]) -> None:
        """Once for each start or repair: an operator who sets a NIC down later has a reason."""
        if not self._nics_up:
            self._nics_up = True
            for device in sorted(present):
                if not nics.bring_up(device):
                    LOG.warning("device %s cannot be set up", device)

    def _report_problems(self, state: OvsState, problems: frozenset[str]) -> None:
        if problems != self._problems:
            self._problems = problems
            self._log_problems()
            self._report(state)

    def _log_problems(self) -> None:
        """Each once for as long as it stays."""
        problems = (self._problems or frozenset()) | ({self._failure} if self._failure else frozenset())
        for problem in sorted(problems - self._logged):
            LOG.warning("%s", problem)
        for problem in sorted(self._logged - problems):
            LOG.info("no longer: %s", problem)
        self._logged = problems
