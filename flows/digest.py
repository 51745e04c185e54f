"""A 64-bit name for a set of flows: order-free, incremental, the same on every controller."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from flows.ir import Flow, MeterConfig
from flows.wire import encode_add, encode_meter


def flow_digest(flow: Flow) -> int:
    return int.from_bytes(hashlib.blake2b(encode_add(flow), digest_size=8).digest())


def meter_digest(meter: MeterConfig) -> int:
    return int.from_bytes(hashlib.blake2b(encode_meter(meter), digest_size=8).digest())


def digest(flows: Iterable[Flow], meters: Iterable[MeterConfig] = ()) -> int:
    """XOR over the flows and meters, so that one more or less is one XOR more."""
    value = 0
    for flow in flows:
        value ^= flow_digest(flow)
    for meter in meters:
        value ^= meter_digest(meter)
    return value
