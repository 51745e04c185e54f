"""The agent's entry point: command line, logging, signals."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from agent import grants
from agent.config import AgentConfig, ConfigError, load
from agent.waker import Waker

LOG = logging.getLogger("agent")


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _set_up_logging(config: AgentConfig) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _JsonFormatter()
        if config.log_format == "json"
        else logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    logging.basicConfig(level=config.log_level, handlers=[handler])
    logging.getLogger("ovsdbapp").setLevel(logging.CRITICAL)  # what it has to say comes as an exception


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs until SIGTERM or SIGINT. SIGHUP: starts anew with the configuration as it is then, if that is valid."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    why = grants.ask()
    if why is not None:
        print(f"trunkline-agent: {why}", file=sys.stderr)
    try:
        config = load(arguments)
    except ConfigError as error:
        print(f"trunkline-agent: {error}", file=sys.stderr)
        return 2
    _set_up_logging(config)
    # This process uses native threads. The ovs package would load eventlet only to see that nothing is patched:
    # half a second and many megabytes on every node.
    sys.modules["eventlet"] = None  # type: ignore[assignment]
    from agent.attach.attachments import Attachments
    from agent.attach.cni import Cni
    from agent.attach.netavark import Netavark
    from agent.attach.server import PlugServer
    from agent.connections import Connections
    from agent.errands import Errands
    from agent.loop import Agent
    from agent.naming import Names
    from agent.readiness import Readiness
    from agent.relay.server import Relay
    from agent.reporter import Reporter
    from agent.service_manager import ServiceManager
    from agent.service_port import ServicePort

    waker, relay = Waker(), Relay(config)
    readiness = Readiness(config, waker.wake)
    names = Names(waker.wake)
    connections = Connections(config, waker.wake)
    reporter = Reporter(config, readiness, names, connections)
    attachments = Attachments(config, readiness)
    handlers = {"cni": Cni(config, attachments).handle, "netavark": Netavark(config, attachments).handle}
    plug_server = PlugServer(config.socket, handlers)
    manager = ServiceManager(os.environ)
    errands = Errands(config)
    service_port = ServicePort(config, relay)
    agent = Agent(config, waker, reporter, service_port, manager, readiness, names, errands, connections)
    ending = reloading = False

    def on_signal(number: int, frame: FrameType | None) -> None:
        """Only takes a note: whatever the main thread was in the middle of, it is in the middle of it still."""
        nonlocal ending, reloading
        if number == signal.SIGHUP:
            reloading = True
        else:
            ending = True
        agent.stop()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, on_signal)
    LOG.info("node %s, datapath-id %s", config.node, config.datapath_id)
    reporter.start()
    readiness.start()
    plug_server.start()
    relay.start()
    errands.start()
    manager.ready()
    agent.run()
    while reloading and not ending and not _is_valid(arguments):
        reloading = False
        agent.run()
    if ending or not reloading:
        manager.stopping()
    agent.close()
    plug_server.stop()
    errands.stop()
    relay.stop()
    readiness.stop()
    reporter.stop()
    if reloading and not ending:
        os.execv(sys.executable, sys.orig_argv)
    return 0


def _is_valid(arguments: Sequence[str]) -> bool:
    grants.ask()
    try:
        load(arguments)
    except ConfigError as error:
        LOG.error("configuration not taken over: %s", error)
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
