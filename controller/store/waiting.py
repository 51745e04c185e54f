"""How long PostgreSQL may be silent. Its driver would wait for ever, and with it whoever waits for that one."""

from __future__ import annotations

import time
from typing import Any, Final

import psycopg2
from psycopg2 import extensions

from controller.store.failures import NoAnswer

ANSWER_S: Final = 5.0
"""Seconds for which the database may be silent in the middle of anything but a long job."""


class Silent(psycopg2.OperationalError, NoAnswer):
    """Raised out of what was asked; psycopg2 has closed the connection then."""


class Patient(extensions.connection):
    """A connection whose every answer, also to the question whether one may connect, comes within `patience` seconds
    when `wait` is psycopg2's wait callback.
    """

    patience = ANSWER_S


class VeryPatient(Patient):
    """For what takes long, and is waited for: schema changes, restores."""

    patience = 3600.0


def wait(connection: Any) -> None:
    """psycopg2's wait callback under eventlet: others go on meanwhile. Raises Silent."""
    from eventlet.hubs import trampoline  # not for those who only use the store, such as the operator's commands

    patience = connection.patience if isinstance(connection, Patient) else ANSWER_S
    deadline = time.monotonic() + patience
    silent = Silent(f"the database did not answer for {patience:g} s")
    while (state := connection.poll()) != extensions.POLL_OK:
        left = deadline - time.monotonic()
        if left <= 0:
            raise silent
        reading, writing = state == extensions.POLL_READ, state == extensions.POLL_WRITE
        trampoline(connection.fileno(), read=reading or None, write=writing or None, timeout=left, timeout_exc=silent)
