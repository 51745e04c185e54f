"""What no flow knows of nodes and ports, but who explains must: given by whoever runs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from flows.model import FloatingIp, Port


@dataclass(frozen=True, slots=True)
class NodeCondition:
    """`state`: a session's, "live" when all is well. `unconfirmed_since`: the oldest revision that the node has not
    confirmed. `refused`: rule and object key of flows that its switch did not take. `not_compiled`: why segments of its
    program could not be made, each with kind and id.
    """

    state: str = "live"
    unconfirmed_since: int | None = None
    refused: tuple[tuple[str, int], ...] = ()
    not_compiled: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PortCondition:
    """`muted`: rule -> seconds for which the controller does not hear it about that. `leased`: whether it has ever been
    told its address by DHCP; None: not known. `binding_error`: why it is on no node.
    """

    muted: Mapping[str, int] = field(default_factory=dict)
    leased: bool | None = None
    binding_error: str | None = None


class Conditions(Protocol):
    def node(self, name: str) -> NodeCondition: ...

    def port(self, port: Port) -> PortCondition: ...

    def floating_ip(self, floating_ip: FloatingIp) -> bool:
        """Its node has confirmed that it answers for it."""
        ...


class _Fine:
    """Nothing is wrong anywhere."""

    def node(self, name: str) -> NodeCondition:
        return NodeCondition()

    def port(self, port: Port) -> PortCondition:
        return PortCondition()

    def floating_ip(self, floating_ip: FloatingIp) -> bool:
        return True


FINE: Final[Conditions] = _Fine()
