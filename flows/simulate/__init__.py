"""What a switch that holds some flows would do with a packet: an interpreter with Open vSwitch's semantics.

For tests, and to explain to an operator where a packet goes. tests/ovs/test_simulator_agrees.py holds it to the real
one. What a switch remembers between packets (connections, learned flows) is a value: `receive` takes it and its result
has the next one, so nothing here changes.
"""

from __future__ import annotations

from flows.simulate.lookup import Switch, Tables, together
from flows.simulate.results import Drop, Fields, Punt, Reason, Result, Sent, State, Step, Stretch, step_of

__all__ = [
    "Drop",
    "Fields",
    "Punt",
    "Reason",
    "Result",
    "Sent",
    "State",
    "Step",
    "Stretch",
    "Switch",
    "Tables",
    "step_of",
    "together",
]
