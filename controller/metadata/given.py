"""What machines were given, remembered: the database is asked once for each revision of it."""

from __future__ import annotations

import json
from typing import Final, Protocol

from controller.store.metadata_specs import MachineMetadata
from flows.model import Port

MOST_BYTES: Final = 64 << 20
"""Of user data and vendor data that are remembered. The least recently asked for make room."""

_SMALL: Final = 1024
_NOTHING: Final = MachineMetadata()


class Source(Protocol):
    """The part of the store that is needed here."""

    def load_metadata(self, project_id: str | None, machine_id: str) -> MachineMetadata | None: ...


class Given:
    """A port says which revision is true of its machine, and only that is answered: who has what somebody else had
    before (an address, a key, a device_id) is never told of it.
    """

    def __init__(self, source: Source, most_bytes: int = MOST_BYTES) -> None:
        self._source = source
        self._most = most_bytes
        self._known: dict[tuple[str | None, str], tuple[MachineMetadata, int]] = {}
        self._bytes = 0

    def of(self, port: Port) -> MachineMetadata:
        """Raises what the store raises where the database has to be asked and does not answer."""
        if port.metadata is None:
            return _NOTHING
        machine = (port.project_id, port.machine_id)
        entry = self._known.pop(machine, None)
        if entry is None or entry[0].revision != port.metadata:
            self._bytes -= 0 if entry is None else entry[1]
            found = self._source.load_metadata(*machine) or _NOTHING
            # meanwhile somebody else may have asked for it, too
            self._bytes -= self._known.pop(machine, (_NOTHING, 0))[1]
            entry = (found, _size(found))
            self._bytes += entry[1]
        self._known[machine] = entry
        while self._bytes > self._most and len(self._known) > 1:
            self._bytes -= self._known.pop(next(iter(self._known)))[1]
        return entry[0]


def _size(metadata: MachineMetadata) -> int:
    """About so many bytes."""
    return _SMALL + len(metadata.user_data or b"") + len(json.dumps(metadata.vendor_data))
