"""Of what engines say, what fits a port."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from agent.attach.specs import AttachError, Failure

_SEPARATORS = str.maketrans("_.", "--")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def label(text: str) -> str:
    """As a host name, "" when it cannot be one: of a container's name "_" and "." become "-"."""
    name = text.lower().translate(_SEPARATORS)
    return name if _LABEL.fullmatch(name) else ""


def table(of: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object within another one, empty when it is not there. Raises AttachError."""
    value = of.get(name)
    if value is not None and not isinstance(value, dict):
        raise AttachError(Failure.CONFIGURATION, f"{name}: must be an object")
    return value or {}


def tables(of: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """A list of objects, empty when it is not there. Raises AttachError."""
    value = of.get(name)
    if value is not None and not (isinstance(value, list) and all(isinstance(each, dict) for each in value)):
        raise AttachError(Failure.CONFIGURATION, f"{name}: must be a list of objects")
    return value or []


def strings(value: object, what: str) -> tuple[str, ...]:
    """A list of strings. Raises AttachError."""
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise AttachError(Failure.CONFIGURATION, f"{what}: must be a list of strings")
    return tuple(value)
