"""What `plug` and `unplug` ask of a port: as an operator or a project, or as the node that they run on.

A node's own token or certificate may ask for nothing but the ports that this node has or may take.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from controller.cli.errors import CliError, ExitCode
from controller.cli.session import Session, resolve
from controller.client import ApiError, Client, Object

FORBIDDEN = "forbidden"
UNKNOWN = "port_unknown"


class PlugPorts(Protocol):
    def get(self, port_id: str) -> Object: ...

    def mtu(self, port: Object) -> int: ...

    def is_expected(self, port: Object, node: str) -> bool:
        """Whether the port is about to move to the node, or has just moved away."""
        ...


@dataclass(frozen=True, slots=True)
class _Owners:
    client: Client

    def get(self, port_id: str) -> Object:
        return self.client.get_port(port_id)

    def mtu(self, port: Object) -> int:
        return int(self.client.get_network(port["network_id"])["mtu"])

    def is_expected(self, port: Object, node: str) -> bool:
        try:
            return any(binding["node"] == node for binding in self.client.list_port_bindings(port["id"]))
        except ApiError as error:
            if error.code == FORBIDDEN:  # a member sees no bindings, and moves no machines
                return False
            raise


@dataclass(frozen=True, slots=True)
class _Nodes:
    client: Client
    node: str

    def get(self, port_id: str) -> Object:
        return self.client.get_node_port(self.node, port_id)

    def mtu(self, port: Object) -> int:
        return int(port["mtu"])

    def is_expected(self, port: Object, node: str) -> bool:
        return bool(port["expected"])

    def find(self, reference: str) -> Object:
        try:
            return resolve("port", reference, self.get, lambda name: self.client.list_node_ports(self.node, name))
        except ApiError as error:
            if error.code != UNKNOWN:
                raise
            message = f"node {self.node} has no port {reference!r}: there is none, or it is another node's"
            raise ApiError(error.status, UNKNOWN, message) from None


def find(session: Session, reference: str, node: Callable[[], str | None]) -> tuple[PlugPorts, Object]:
    """The port by name or id, and how more is asked of it. `node`: what this machine's agent calls the node, asked only
    when the token is of no use otherwise. Raises CliError and ApiError.
    """
    try:
        return _Owners(session.client), session.port(reference)
    except ApiError as error:
        if error.code != FORBIDDEN:
            raise
        refusal = error
    name = node()
    if name is None:
        why = "Open vSwitch of this machine does not say which node it is: is the agent running?"
        raise CliError(f"{refusal}; {why}", ExitCode.REFUSED)
    ports = _Nodes(session.client, name)
    try:
        return ports, ports.find(reference)
    except ApiError as error:
        if error.code != FORBIDDEN:
            raise
        raise ApiError(error.status, error.code, f"{refusal.message}; as node {name}: {error.message}") from None
