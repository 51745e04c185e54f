"""What cannot be read is left out by name, so that one bad row stops nothing else, and told of until it is mended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from controller.store.engine import AnyRow
from controller.store.soundness import check
from controller.store.specs import Conflict, StoreError

T = TypeVar("T")

UNREADABLE_OBJECT: Final = "object_unreadable"
UNREADABLE: Final = (ArithmeticError, AttributeError, LookupError, StoreError, TypeError, ValueError)
"""What code raises that is given something else than it was promised."""


class ObjectName(NamedTuple):
    """`kind` as in the journal. A part of an object, like one rule of a group, has a kind of its own and is named after
    the object.
    """

    kind: str
    id: str


@dataclass(frozen=True, slots=True)
class Fault:
    """`name`: what people call the object, "" if that is not known. `because_of`: what it cannot be without."""

    why: str
    name: str = ""
    because_of: ObjectName | None = None


class Quarantine:
    """The objects that are left out, as of the last reading of each."""

    def __init__(self, faults: Mapping[ObjectName, Fault] | None = None) -> None:
        self._faults = dict(faults or {})

    def __contains__(self, of: ObjectName) -> bool:
        return of in self._faults

    def __iter__(self) -> Iterator[tuple[ObjectName, Fault]]:
        return iter(sorted(self._faults.items()))

    def __len__(self) -> int:
        return len(self._faults)

    def copy(self) -> Quarantine:
        return Quarantine(self._faults)

    def put(self, of: ObjectName, fault: Fault) -> None:
        self._faults[of] = fault

    def free(self, of: ObjectName) -> None:
        """It was read, or is gone."""
        self._faults.pop(of, None)

    def free_parts(self, kind: str, owner: str) -> None:
        for of in [of for of in self._faults if of.kind == kind and of.id.partition(" ")[0] == owner]:
            del self._faults[of]

    def worth_another_look(self) -> list[ObjectName]:
        """All but what waits for something else that is still here."""
        return [of for of, fault in self._faults.items() if fault.because_of not in self._faults]


class Reading:
    """One look at some objects (their `ids`, None: all) of a kind.

    With a `quarantine`, for the model: what cannot be used goes there. Without, for whoever asked: it is left out of a
    list, and asked for alone it is a Conflict `object_unreadable`.
    """

    def __init__(self, kind: str, ids: Sequence[str] | None, quarantine: Quarantine | None) -> None:
        self._kind = kind
        self._alone = ids is not None and len(ids) == 1
        self._quarantine = quarantine

    def objects(self, rows: Iterable[AnyRow], build: Callable[[AnyRow], T], column: str = "id") -> Iterator[T]:
        for row in rows:
            of = ObjectName(self._kind, str(row._mapping[column]))
            try:
                value = build(row)
                check(value)
            except UNREADABLE as error:
                why = describe(error)
                if self._quarantine is not None:
                    self._quarantine.put(of, Fault(why, str(row._mapping.get("name") or "")))
                elif self._alone:
                    raise Conflict(UNREADABLE_OBJECT, f"{of.kind} {of.id} cannot be used: {why}") from error
            else:
                if self._quarantine is not None:
                    self._quarantine.free(of)
                yield value

    def parts(
        self, rows: Iterable[AnyRow], build: Callable[[AnyRow], T], kind: str, owner: str, columns: Sequence[str]
    ) -> tuple[T, ...]:
        """Of one object, each of which it can do without."""
        if self._quarantine is not None:
            self._quarantine.free_parts(kind, owner)
        found = []
        for row in rows:
            try:
                value = build(row)
                check(value)
            except UNREADABLE as error:
                if self._quarantine is not None:
                    which = " ".join(str(row._mapping[column]) for column in columns)
                    self._quarantine.put(ObjectName(kind, f"{owner} {which}"), Fault(describe(error)))
            else:
                found.append(value)
        return tuple(found)


def describe(error: Exception) -> str:
    text = str(error)
    return text if isinstance(error, ValueError | StoreError) and text else f"{type(error).__name__}: {text}"
