"""Directories as EC2's metadata has them, and what is found in one by a path."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
BYTES = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Document:
    body: bytes
    content_type: str = TEXT


@dataclass(frozen=True, slots=True)
class Directory:
    """`label`: what the list that it is in says after its name instead of a slash, as of public keys: `0=NAME`."""

    entries: Mapping[str, Content] = field(default_factory=dict)
    label: str = ""


Content: TypeAlias = Document | Directory


def text(value: object) -> Document:
    return Document(str(value).encode())


def lines(names: Sequence[str]) -> Document:
    return text("\n".join(names))


def as_json(value: Any) -> Document:
    return Document(json.dumps(value).encode(), JSON)


def find(directory: Directory, path: Sequence[str]) -> Document | None:
    """What is there: a directory as the list of its entries."""
    found: Content = directory
    for part in path:
        entry = found.entries.get(part) if isinstance(found, Directory) else None
        if entry is None:
            return None
        found = entry
    if isinstance(found, Document):
        return found
    return lines([_listed(name, found.entries[name]) for name in sorted(found.entries)])


def _listed(name: str, content: Content) -> str:
    if isinstance(content, Document):
        return name
    return f"{name}={content.label}" if content.label else f"{name}/"
