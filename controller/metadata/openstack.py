"""OpenStack's tree, as Nova serves it: each version has what the one before had, and more."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable
from typing import Any, Final

from controller import injection
from controller.metadata.documents import BYTES, Document, as_json, text
from controller.metadata.machine import Machine

VERSIONS: Final = (
    "2012-08-10",
    "2013-04-04",
    "2013-10-17",
    "2015-10-15",
    "2016-06-30",
    "2016-10-06",
    "2017-02-22",
    "2018-08-27",
    "2020-10-14",
)
PASSWORD: Final = "password"

_SEED_BYTES = 512


def _key(name: str, key: str) -> dict[str, str]:
    return {"name": name, "type": "ssh", "data": key}


# field, the version that brought it, and what it is; None: left out
_META_DATA: Final[tuple[tuple[str, str, Callable[[Machine], Any]], ...]] = (
    ("uuid", "2012-08-10", lambda machine: machine.id),
    ("meta", "2012-08-10", lambda machine: dict(machine.given.meta) or None),
    ("public_keys", "2012-08-10", lambda machine: dict(machine.given.public_keys) or None),
    ("keys", "2012-08-10", lambda machine: [_key(*item) for item in machine.given.public_keys.items()] or None),
    ("hostname", "2012-08-10", lambda machine: machine.hostname),
    ("name", "2012-08-10", lambda machine: machine.name),
    ("launch_index", "2012-08-10", lambda machine: 0),
    ("availability_zone", "2012-08-10", lambda machine: machine.availability_zone),
    ("random_seed", "2013-04-04", lambda machine: base64.b64encode(secrets.token_bytes(_SEED_BYTES)).decode()),
    ("project_id", "2015-10-15", lambda machine: machine.project_id or ""),
    ("devices", "2016-06-30", lambda machine: []),
    ("dedicated_cpus", "2020-10-14", lambda machine: []),
)


def _meta_data(machine: Machine, at: int) -> Document:
    values = ((field, make(machine)) for field, since, make in _META_DATA if VERSIONS.index(since) <= at)
    return as_json({field: value for field, value in values if value is not None})


def _user_data(machine: Machine, _at: int) -> Document | None:
    return None if machine.given.user_data is None else Document(machine.given.user_data, BYTES)


# file, the version that brought it, and what it is; None: not of this machine
_FILES: Final[tuple[tuple[str, str, Callable[[Machine, int], Document | None]], ...]] = (
    ("meta_data.json", "2012-08-10", _meta_data),
    ("user_data", "2012-08-10", _user_data),
    (PASSWORD, "2013-04-04", lambda machine, at: text(machine.given.password or "")),
    ("vendor_data.json", "2013-10-17", lambda machine, at: as_json(machine.vendor_data)),
    ("network_data.json", "2015-10-15", lambda machine, at: as_json(injection.network_data(machine.interfaces))),
    (
        "vendor_data2.json",
        "2016-10-06",
        lambda machine, at: as_json({"static": machine.vendor_data} if machine.vendor_data else {}),
    ),
)


def file(machine: Machine, version: str, name: str) -> Document | None:
    """One of a version's files. `version` is one of VERSIONS."""
    at = VERSIONS.index(version)
    return next(
        (make(machine, at) for known, since, make in _FILES if known == name and VERSIONS.index(since) <= at), None
    )


def names(machine: Machine, version: str) -> tuple[str, ...]:
    """Of the files that a version has of a machine, in the order of its list. `version` is one of VERSIONS."""
    return tuple(name for name, _, _ in _FILES if file(machine, version, name) is not None)
