"""What every table does to get a frame out to the wire, and with what it comes from there."""

from __future__ import annotations

from flows.ir import Action, Goto, OutputInPort, PopVlan, PushVlan, SetField
from flows.model import Network, NetworkKind
from flows.pipeline import UPLINK_PORT, Reg, Table

TO_UPLINK: tuple[Action, ...] = (SetField(Reg.TARGET_PORT, UPLINK_PORT), Goto(Table.OUTPUT))
"""To the uplink of the network that the packet is on by now."""


def untagged(network: Network) -> tuple[Action, ...]:
    """Takes off the tag that the network's frames carry on an uplink."""
    return (PopVlan(),) if network.kind is NetworkKind.VLAN else ()


def tag_on(network: Network) -> tuple[Action, ...]:
    """Puts on the tag that the network's frames carry on an uplink."""
    if network.kind is NetworkKind.VLAN:
        assert network.segment is not None
        return (PushVlan(network.segment),)
    return ()


def tagged_back(network: Network) -> tuple[Action, ...]:
    """Back to the uplink it came from, under the network's tag."""
    return (*tag_on(network), OutputInPort())
