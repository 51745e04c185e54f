"""Typer 0.29 has pydantic turn each value into what its parameter is, a missing one too, and to load that takes a
quarter of the time of a command. Here a value that is plain text, or is right as it is, goes without; all others, and
with them all that is refused, go to typer as before.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, get_args, get_origin

import typer.core
from typer._coercion import RuntimeParam, TypeDescriptor, build_runtime_param

_OTHER: Final = object()


def install() -> None:
    """Call it before a command is run; again does nothing more."""
    typer.core.build_runtime_param = _sparing  # type: ignore[attr-defined]


def _sparing(descriptor: TypeDescriptor) -> RuntimeParam:
    return _Sparing(descriptor.parameter_info, descriptor.annotation, descriptor)


@dataclass(frozen=True)
class _Sparing(RuntimeParam):
    """`_coerce_value` is for what is not None."""

    descriptor: TypeDescriptor

    def _coerce_value(self, value: Any, param: Any, ctx: Any) -> Any:
        plain = self.descriptor.parameter_info.parser is None and not self.descriptor.is_path
        found = _right(value, self.annotation) if plain else _OTHER
        if found is not _OTHER:
            return found
        return build_runtime_param(self.descriptor)._coerce_value(value, param=param, ctx=ctx)


def _right(value: Any, annotation: Any) -> Any:
    """As the parameter has it, or _OTHER."""
    if get_origin(annotation) is list and isinstance(value, list | tuple):
        items = [_right(item, *get_args(annotation)) for item in value]
        return _OTHER if _OTHER in items else items
    if not isinstance(annotation, type):
        return _OTHER
    if isinstance(value, annotation):
        return value
    if issubclass(annotation, Enum):
        return next((member for member in annotation if member.value == value), _OTHER)
    return _OTHER
