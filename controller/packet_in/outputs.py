"""What a packet_in handler has sent: frames, each with the way it is to go, and flows that end by themselves."""

from __future__ import annotations

from typing import NamedTuple

from flows import wire
from flows.ir import Flow
from flows.pipeline import Reg, Table


class Output(NamedTuple):
    """Out of a port."""

    ofport: int
    frame: bytes

    def message(self) -> bytes:
        return wire.packet_out(self.ofport, self.frame)


class Copies(NamedTuple):
    """The same out of several ports."""

    ofports: tuple[int, ...]
    frame: bytes

    def message(self) -> bytes:
        return wire.packet_out_copies(self.ofports, self.frame)


class Resubmit(NamedTuple):
    """Again through the tables from one on, as a packet that is on a network, of a port if one is given.

    `router_key` and `flags` are what the tables before it would have put into their registers.
    """

    table: Table
    network_key: int
    frame: bytes
    port_key: int = 0
    router_key: int = 0
    flags: int = 0

    def message(self) -> bytes:
        registers = {
            Reg.NETWORK: self.network_key,
            Reg.SOURCE_PORT: self.port_key,
            Reg.ROUTER: self.router_key,
            Reg.FLAGS: self.flags,
        }
        known = {name: value for name, value in registers.items() if value}
        return wire.packet_out_resubmit(self.table, known, self.frame)


class Temporary(NamedTuple):
    """A flow that ends by itself."""

    flow: Flow
    seconds: int

    def message(self) -> bytes:
        return wire.encode_temporary(self.flow, self.seconds)


Outputs = tuple[Output | Resubmit | Temporary, ...]
