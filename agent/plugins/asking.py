"""A question to the agent by its socket. It imports little: these programs are to start fast."""

from __future__ import annotations

import json
import os
import socket

SOCKET = "/run/trunkline/agent.sock"
_PATIENCE_S = 90.0


class Unanswered(Exception):
    """The agent is not there, or has gone while it was asked."""


class NoToken(Exception):
    """A token file cannot be read; the text names it."""


def token(path: object) -> dict[str, object]:
    """What it adds to a request. It is the plugin's to read, which runs as root: the agent does not. Raises NoToken."""
    if not path:
        return {}
    try:
        with open(str(path), encoding="ascii") as file:
            return {"token": file.read()}
    except (OSError, UnicodeError) as error:
        raise NoToken(f"token file {path}: {error}") from None


def ask(path: str, request: dict[str, object], namespace: str = "") -> dict[str, object]:
    """The answer, with `result` or `error`. `namespace`: path of one whose file goes with it, "" for none.

    Raises Unanswered; OSError when the namespace cannot be opened.
    """
    file = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC) if namespace else -1
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_PATIENCE_S)
            try:
                connection.connect(path)
                text = json.dumps(request).encode()
                sent = socket.send_fds(connection, [text], [file]) if namespace else 0
                connection.sendall(text[sent:])
                connection.shutdown(socket.SHUT_WR)
                answer = b"".join(iter(lambda: connection.recv(65536), b""))
            except OSError as error:
                raise Unanswered(f"trunkline-agent at {path}: {error.strerror or error}") from None
    finally:
        if namespace:
            os.close(file)
    try:
        decoded = json.loads(answer)
    except ValueError:
        decoded = None
    if not isinstance(decoded, dict):
        raise Unanswered(f"trunkline-agent at {path} went away without an answer")
    return decoded
