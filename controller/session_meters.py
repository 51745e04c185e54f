"""The meters of one switch. They cannot be in a bundle: they come before the flows that use them, and go after them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from controller.session_bundle import Conversation
from flows import wire
from flows.ir import MeterConfig
from flows.pipeline import METERS

# OpenFlow 1.4 §7.5.4.15: (type, code)
_EXISTS: Final = (12, 2)
_UNKNOWN: Final = (12, 3)

Errors = Mapping[int, tuple[int, int]]  # of a meter's id


class Meters:
    """What the switch holds, as far as this session knows."""

    def __init__(self, talk: Conversation) -> None:
        self._talk = talk
        self._there: set[int] = set()

    def assume(self, ids: Iterable[int]) -> None:
        """The switch holds what it should, its stamp says. It may hold one more, that an interrupted change left."""
        self._there = set(ids)

    def ask(self) -> set[int]:
        """The meters of ours that the switch holds. Raises SessionEnd."""
        self._there = self._talk.meters() & set(METERS)
        return set(self._there)

    def put(self, meters: Collection[MeterConfig]) -> Errors:
        """Adds those that are not there and modifies the others, live. Returns what the switch refuses."""
        if not meters:
            return {}
        modified = {meter.id for meter in meters if meter.id in self._there}
        errors = self._send(meters, modified, unstamp=bool(modified))
        # the switch knows better
        others = [meter for meter in meters if errors.get(meter.id) in (_EXISTS, _UNKNOWN)]
        if others:
            wrong = {meter.id for meter in others}
            errors = {id_: error for id_, error in errors.items() if id_ not in wrong}
            errors |= self._send(others, wrong - modified, unstamp=True)
        self._there |= {meter.id for meter in meters} - errors.keys()
        return errors

    def _send(self, meters: Collection[MeterConfig], modified: Collection[int], *, unstamp: bool) -> Errors:
        """A modified meter is in force at once, and a new stamp only later: between them none must be there, or else
        a change that is interrupted, and then taken back, would not be noticed.
        """
        messages = [wire.encode_meter(meter, modify=meter.id in modified) for meter in meters]
        return dict(self._talk.meter_mods([meter.id for meter in meters], messages, unstamp=unstamp))

    def remove(self, ids: Collection[int]) -> Errors:
        """Deletes meters that no flow uses any more: one that did would go, too."""
        gone = [id_ for id_ in ids if id_ in self._there]
        if not gone:
            return {}
        self._there.difference_update(gone)
        return self._talk.meter_mods(gone, [wire.delete_meter(id_) for id_ in gone])
