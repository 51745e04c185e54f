"""Reports to the controller over REST, from a thread of its own, so that a slow controller holds up no repair.

Level-triggered: every report is the whole truth of the node. What changes while one is under way goes with the next.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from dataclasses import dataclass
from urllib.parse import quote

from agent.client import Client, ClientError, delay_after
from agent.config import AgentConfig
from agent.connections import Connections, FullZone, Zones
from agent.naming import Names
from agent.readiness import Readiness
from agent.report import InterfacesReport, NodeReport

LOG = logging.getLogger(__name__)

_MAX_DELAY_S = 5.0
# The controller has forgotten this node, or has seen a higher serial of it: both are put right by registering again.
_REGISTER_AGAIN = frozenset({404, 409})
_UNKNOWN_FIELD = "unknown_field"


@dataclass(frozen=True, slots=True)
class _Truth:
    node: NodeReport
    interfaces: InterfacesReport
    full: tuple[FullZone, ...] = ()


class Reporter:
    """`submit` from any thread; nothing is sent before the first."""

    def __init__(
        self,
        config: AgentConfig,
        readiness: Readiness | None = None,
        names: Names | None = None,
        connections: Connections | None = None,
    ) -> None:
        """`readiness`, `names` and `connections` hear what is answered to each report of the interfaces."""
        self._readiness = readiness
        self._names = names
        self._connections = connections
        self._client = Client(config.api_urls, config.api_token, tls=config.tls)
        self._path = f"/v1/nodes/{quote(config.node, safe='')}"
        self._heartbeat = config.heartbeat_interval
        self._wakeup = threading.Condition()
        self._truth: _Truth | None = None
        self._stopping = False
        # The rest belongs to the thread.
        self._registered: NodeReport | None = None
        self._reported: InterfacesReport | None = None
        self._reported_full: tuple[FullZone, ...] = ()
        self._serial = 0
        self._failures = 0
        self._complaint = ""
        self._answers: dict[str, str] = {}
        self._problems: frozenset[str] = frozenset()
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; a request that is under way is not waited for longer than a second."""
        with self._wakeup:
            self._stopping = True
            self._wakeup.notify()
        self._thread.join(timeout=1.0)

    def submit(self, node: NodeReport, interfaces: InterfacesReport, full: tuple[FullZone, ...] = ()) -> None:
        """The truth as of now; reported at once if it differs from what the controller has."""
        truth = _Truth(node, interfaces, full)
        with self._wakeup:
            if truth != self._truth:
                self._truth = truth
                self._wakeup.notify()

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            self._report(runner)
            self._client.close()

    def _report(self, runner: asyncio.Runner) -> None:
        due = 0.0
        while (truth := self._next(due)) is not None:
            try:
                runner.run(self._send(truth))
            except Exception as error:  # a fault in here must not make the node fall silent for good
                delay = self._failed(error)
                with self._wakeup:
                    self._wakeup.wait_for(lambda: self._stopping, timeout=delay)
                due = 0.0
            else:
                self._succeeded()
                due = time.monotonic() + self._heartbeat

    def _next(self, due: float) -> _Truth | None:
        """What to send, as soon as it differs from what was sent or at `due` (monotonic seconds); None: the end."""
        with self._wakeup:
            while not self._stopping:
                left = due - time.monotonic()
                if self._truth is None:
                    self._wakeup.wait()
                elif left > 0 and self._is_reported(self._truth):
                    self._wakeup.wait(left)
                else:
                    return self._truth
            return None

    def _is_reported(self, truth: _Truth) -> bool:
        known = (self._registered, self._reported, self._reported_full)
        return (truth.node, truth.interfaces, truth.full) == known

    async def _send(self, truth: _Truth) -> None:
        try:
            await self._send_once(truth)
        except ClientError as error:
            if error.status not in _REGISTER_AGAIN:
                raise
            self._registered = None
            await self._send_once(truth)

    async def _send_once(self, truth: _Truth) -> None:
        if self._registered != truth.node:
            await self._client.put(self._path, truth.node.body())
            self._registered = truth.node
        # never from the beginning: a controller that hung may yet come to a report that is long out of date
        self._serial += 1
        full_zones = [{"zone": one.zone, "limit": one.limit} for one in truth.full]
        body = truth.interfaces.body(self._serial) | {"full_zones": full_zones}
        answer = await self._client.put(f"{self._path}/interfaces", body)
        self._reported, self._reported_full = truth.interfaces, truth.full
        problems = answer.get("problems")
        self._log_problems(frozenset(map(str, problems)) if isinstance(problems, list) else frozenset())
        ports = answer.get("ports")
        answers = {str(k): str(v) for k, v in ports.items()} if isinstance(ports, dict) else {}
        self._log_answers(answers)
        revision = answer.get("revision")
        if self._readiness is not None and isinstance(revision, int):
            self._readiness.answered(truth.interfaces, answers, revision)
        zones, wide = (answer.get(field) for field in ("zones", "wide_zones"))
        if self._connections is not None and isinstance(zones, list) and isinstance(wide, list):
            self._connections.answered(Zones(*(frozenset(map(int, each)) for each in (zones, wide))))
        claims = answer.get("claims")
        if self._names is not None and isinstance(claims, dict):
            self._names.answered(truth.interfaces, {str(k): str(v) for k, v in claims.items()})

    def _log_answers(self, answers: dict[str, str]) -> None:
        for iface_id, answer in answers.items():
            if answer != self._answers.get(iface_id):
                LOG.log(
                    logging.WARNING if answer.startswith("refused") else logging.INFO, "port %s: %s", iface_id, answer
                )
        self._answers = answers

    def _log_problems(self, problems: frozenset[str]) -> None:
        """Each once for as long as it stays."""
        for problem in sorted(problems - self._problems):
            LOG.warning("%s", problem)
        for problem in sorted(self._problems - problems):
            LOG.info("no longer: %s", problem)
        self._problems = problems

    def _failed(self, error: Exception) -> float:
        """Seconds to wait. The same complaint is logged once."""
        if str(error) != self._complaint:
            self._complaint = str(error)
            older = isinstance(error, ClientError) and error.code == _UNKNOWN_FIELD
            hint = "; the controller is older than this agent: upgrade controllers first" if older else ""
            LOG.warning("report failed: %s%s", error, hint, exc_info=not isinstance(error, ClientError))
        # A connection that had been kept alive may just have been closed by a controller that restarted.
        delay = delay_after(self._failures, _MAX_DELAY_S)
        self._failures += 1
        self._client.next_url()
        # Whoever answers next may be another controller, or the same one with an older database.
        self._registered = self._reported = None
        return delay

    def _succeeded(self) -> None:
        if self._failures:
            LOG.info("reports get through again")
        self._failures, self._complaint = 0, ""
