"""Exit codes, and how an error becomes one line on stderr and one of them."""

from __future__ import annotations

from enum import IntEnum

from controller.cli.render import clean
from controller.client import ApiError, ClientError, Unconfirmed, Unreachable


class ExitCode(IntEnum):
    OK = 0
    REFUSED = 1
    USAGE = 2
    UNREACHABLE = 3
    WAIT_TIMED_OUT = 4
    INTERRUPTED = 130


class CliError(Exception):
    """A command cannot go on. `message` is one line."""

    def __init__(self, message: str, exit_code: ExitCode) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def explain(error: CliError | ClientError) -> tuple[str, ExitCode]:
    """The line to print and the code to exit with. The line holds no control characters: names are other people's."""
    match error:
        case CliError():
            line, code = str(error), error.exit_code
        case ApiError():
            line, code = _refusal(error), ExitCode.REFUSED
        case Unconfirmed():
            missing = ", ".join(error.missing) or "unknown"
            line = f"written, but revision {error.revision} is not confirmed yet; missing nodes: {missing}"
            code = ExitCode.WAIT_TIMED_OUT
        case Unreachable():
            line, code = f"no answer from {error}", ExitCode.UNREACHABLE
        case _:
            line, code = str(error), ExitCode.REFUSED
    return clean(line), code


def _refusal(error: ApiError) -> str:
    notes = [f"{error.status} {error.code}"]
    if error.field:
        notes.append(f"field {error.field}")
    if error.request_id:
        notes.append(f"request {error.request_id}")
    return f"{error.message} ({', '.join(notes)})"
