"""Which of several controllers a switch obeys: requests, their answers and what it says unasked, as OpenFlow 1.4 bytes.

OpenFlow 1.4 §7.3.10 (role request), §7.4.4 (role status), §6.3.6 (what a slave may do, and the generation_id).
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, NamedTuple

from flows.wire import header

_REQUEST, _REPLY, _STATUS = 24, 25, 30
_BODY: Final = struct.Struct("!I4xQ")  # of a status the padding begins with the reason
_SIZE: Final = 8 + _BODY.size
_NO_GENERATION: Final = 2**64 - 1

STALE: Final = (11, 0)
"""Error: a generation_id before the newest that the switch has seen (OFPRRFC_STALE)."""

IS_SLAVE: Final = (1, 10)
"""Error: who is a slave may change nothing (OFPBRC_IS_SLAVE)."""


class Role(IntEnum):
    """`EQUAL` is every controller that has not said otherwise."""

    NOCHANGE = 0
    EQUAL = 1
    MASTER = 2
    SLAVE = 3


class Held(NamedTuple):
    """The role that a controller has, and the newest generation_id that the switch has seen: None before the first."""

    role: Role
    generation: int | None


def request(role: Role, generation: int, xid: int) -> bytes:
    """`NOCHANGE` only asks, and its generation does not count."""
    return header(_REQUEST, _BODY.size, xid) + _BODY.pack(role, generation)


def parse(message: bytes) -> Held:
    """A role reply or a role status. Raises ValueError for a message that is cut or of another kind."""
    if message[1] not in (_REPLY, _STATUS) or len(message) < _SIZE:
        raise ValueError(f"not a role message: type {message[1]} of {len(message)} bytes")
    role, generation = _BODY.unpack_from(message, 8)
    return Held(Role(role), None if generation == _NO_GENERATION else generation)
