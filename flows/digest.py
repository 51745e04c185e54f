"""A 64-bit name for a set of flows: order-free, incremental, the same on every controller."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from flows.ir import Flow
from flows.wire import encode_add


def flow_digest(flow: Flow) -> int:
    return int.from_bytes(hashlib.blake2b(encode_add(flow), digest_size=8).digest())


def digest(flows: Iterable[Flow]) -> int:
    """XOR over the flows, so that one flow more or less is one XOR more."""
    value = 0
    for flow in flows:
        value ^= flow_digest(flow)
    return value
