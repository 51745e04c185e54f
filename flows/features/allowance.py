"""Tables 60 and 61: what a port may cause the controller to do, so that no VM takes it from the others.

Every flow that hands a packet to the controller looks here first, but for mere reports; DNS in a table of its own. The
meter that is found drops the packet for whatever comes after it, which is therefore nothing but the controller: a
packet that also goes on has gone on before.
"""

from __future__ import annotations

from collections.abc import Iterator

from flows.ir import Action, Controller, Flow, Meter, MeterConfig, Resubmit, flow, matching
from flows.model import Network, Port
from flows.pipeline import (
    LOG_METER,
    LOG_PACKET_INS,
    PORT_DNS_QUERIES,
    PORT_FRAGMENTS,
    PORT_PACKET_INS,
    RELAY_METER,
    RELAY_PACKET_INS,
    RELAYED,
    SHARED_METER,
    SHARED_PACKET_INS,
    TOO_LARGE,
    TOO_LARGE_METER,
    TOO_LARGE_PACKET_INS,
    Priority,
    Reg,
    Table,
    dns_meter,
    fragment_meter,
    packet_in_meter,
)
from flows.rules import Rule
from flows.view import View

_WHOLE = 0xFFFF


def punt(max_len: int = _WHOLE) -> tuple[Action, ...]:
    """To the controller, if the port that the packet comes from still may. The last actions of their flow."""
    return (Resubmit(Table.ALLOWANCE), Controller(max_len))


def punt_question() -> tuple[Action, ...]:
    """The same, for a question to the resolver."""
    return (Resubmit(Table.DNS_ALLOWANCE), Controller(_WHOLE))


def report(max_len: int) -> tuple[Action, ...]:
    """To the controller, as far as reports of all kinds may go there; the packet itself goes on."""
    return (Controller(max_len, LOG_METER),)


def static() -> Iterator[Flow]:
    yield flow(Rule.ALLOWANCE_SHARED, Priority.MISS, (), Meter(SHARED_METER))
    # what neighbours say must be heard, however much else comes from outside
    too_large = matching(reg6=0, reg0=TOO_LARGE)
    yield flow(Rule.ALLOWANCE_SHARED, Priority.LOW, too_large, Meter(TOO_LARGE_METER))
    relayed = matching(reg6=0, reg0=RELAYED)
    yield flow(Rule.ALLOWANCE_SHARED, Priority.NORMAL, relayed, Meter(RELAY_METER))
    yield flow(Rule.DNS_ALLOWANCE_SHARED, Priority.MISS, (), Meter(SHARED_METER))


def static_meters() -> Iterator[MeterConfig]:
    yield MeterConfig(SHARED_METER, *SHARED_PACKET_INS, packets=True)
    yield MeterConfig(LOG_METER, *LOG_PACKET_INS, packets=True)
    yield MeterConfig(RELAY_METER, *RELAY_PACKET_INS, packets=True)
    yield MeterConfig(TOO_LARGE_METER, *TOO_LARGE_PACKET_INS, packets=True)


def port(view: View, network: Network, port: Port) -> Iterator[Flow]:
    seat = view.seat(port)
    assert seat is not None
    from_port = matching(**{Reg.SOURCE_PORT: port.key})
    yield flow(Rule.ALLOWANCE, Priority.NORMAL, from_port, Meter(packet_in_meter(seat.zone)), key=port.key)
    yield flow(Rule.DNS_ALLOWANCE, Priority.NORMAL, from_port, Meter(dns_meter(seat.zone)), key=port.key)


def port_meters(view: View, port: Port) -> Iterator[MeterConfig]:
    seat = view.seat(port)
    assert seat is not None
    yield MeterConfig(packet_in_meter(seat.zone), *PORT_PACKET_INS, packets=True)
    yield MeterConfig(dns_meter(seat.zone), *PORT_DNS_QUERIES, packets=True)
    yield MeterConfig(fragment_meter(seat.zone), *PORT_FRAGMENTS, packets=True)
