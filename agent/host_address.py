"""Which address a host has on a physical network's bridge, where that is to be the node's SNAT address as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from agent import nics
from agent.config import HOST, AgentConfig, PhysicalNetwork
from flows.pipeline import HOST_SNAT_PORTS

# Reported where the host has no address (RFC 7600: one that nobody has). With none at all reported the node would
# take another one, and what is beyond may let pass only the host's.
NOBODY = IPv4Address("192.0.0.8")


@dataclass(frozen=True, slots=True)
class HostChoice:
    """`named` is None when the bridge has only one address to choose."""

    network: PhysicalNetwork
    named: IPv4Address | None


def choices(config: AgentConfig) -> tuple[HostChoice, ...]:
    networks = {network.name: network for network in config.physical_networks}
    chosen = ((networks[name], choice.partition(":")) for name, choice in config.snat_addresses)
    return tuple(
        HostChoice(network, IPv4Address(address) if address else None)
        for network, (kind, _, address) in chosen
        if kind == HOST
    )


def choose(
    choice: HostChoice, present: Sequence[IPv4Address], before: IPv4Address | None
) -> tuple[IPv4Address | None, str | None]:
    """The address, if there is one, and what is wrong.

    An address that was in use stays so while there is doubt: connections would end with it.
    """
    name, bridge = choice.network.name, choice.network.bridge
    if choice.named is not None:
        absent = f"device {bridge} does not hold {choice.named}, which snat_address takes for the host's: nobody has it"
        return choice.named, None if choice.named in present else absent
    if len(present) == 1:
        return present[0], None
    if not present:
        return before, f"device {bridge} holds no IPv4 address: there is none for snat_address = {name}:{HOST}"
    held = ", ".join(map(str, present))
    several = f"device {bridge} holds {held}: say which is for NAT, snat_address = {name}:{HOST}:ADDRESS"
    return before if before in present else None, several


def overlap(given: range, kept: Sequence[range]) -> str | None:
    """What is wrong when the host itself may take ports that are for NAT."""
    first, last = HOST_SNAT_PORTS
    taken = (port for port in range(max(first, given.start), min(last + 1, given.stop)))
    if all(any(port in span for span in kept) for port in taken):
        return None
    return (
        f"the host takes ports {given.start}-{given[-1]} for its own connections, {first}-{last} are for NAT: "
        f"set net.ipv4.ip_local_port_range to end at {first - 1} or below, or keep them free by ip_local_reserved_ports"
    )


def _overlap_now() -> str | None:
    try:
        return overlap(*nics.local_ports())
    except OSError as error:
        return f"the ports that the host takes for its own connections cannot be read: {error}"


class HostAddresses:
    """Asks the kernel at each `read`. `problems` are of the last one, a line each."""

    def __init__(self, config: AgentConfig) -> None:
        self.choices = choices(config)
        self.problems: tuple[str, ...] = ()
        self._held: dict[str, IPv4Address] = {}

    def read(self) -> Mapping[str, IPv4Address]:
        """By physical network."""
        problems = []
        for choice in self.choices:
            name = choice.network.name
            address, problem = self._ask(choice, self._held.get(name))
            if address is not None:
                self._held[name] = address
            if problem:
                problems.append(problem)
        if self.choices and (problem := _overlap_now()):
            problems.append(problem)
        self.problems = tuple(problems)
        return dict(self._held)

    @staticmethod
    def _ask(choice: HostChoice, before: IPv4Address | None) -> tuple[IPv4Address | None, str | None]:
        """What cannot be asked now has not changed: the next read is the next chance."""
        try:
            present = nics.addresses(choice.network.bridge)
        except OSError as error:
            return choice.named or before, f"the addresses of {choice.network.bridge} cannot be read: {error}"
        return choose(choice, present, before)

    def to_report(self) -> dict[str, str]:
        """What to tell the controller, by physical network."""
        names = (choice.network.name for choice in self.choices)
        return {name: f"{HOST}:{self._held.get(name, NOBODY)}" for name in names}
