"""Start, watch and stop processes: always by the pid that was started, never by name."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

STOP_DEADLINE = 5.0
"""Seconds a process gets to end after SIGTERM before SIGKILL."""

_PATIENCE = 0.05
"""How much longer a wait may get by asking less often, as a part of it."""

_LONGEST_INTERVAL = 0.25


class CommandFailed(RuntimeError):
    """A command ended with another status than 0; the text holds the command and all it said."""


class DeadlineMissed(TimeoutError):
    """A condition did not become true in time; the text says which."""


def run(
    args: Sequence[str],
    *,
    check: bool = True,
    merged: bool = False,
    deadline: float = 30.0,
    text: str | None = None,
    env: Mapping[str, str] | None = None,
) -> str:
    """Run a command to its end and return its standard output, `merged` with what it says of errors. `text` goes to its
    standard input.

    Raises CommandFailed unless `check` is false, and subprocess.TimeoutExpired after `deadline` seconds.
    """
    done = subprocess.run(
        args,
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if merged else subprocess.PIPE,
        text=True,
        timeout=deadline,
        env=None if env is None else dict(env),
        stdin=subprocess.DEVNULL if text is None else None,
        check=False,
    )
    if check and done.returncode:
        said = ((done.stderr or "") + done.stdout).strip()
        raise CommandFailed(f"{' '.join(args)}: exit status {done.returncode}: {said}")
    return done.stdout


def wait_until(
    condition: Callable[[], T | None],
    deadline: float = 10.0,
    what: str | Callable[[], str] = "",
    interval: float = 0.02,
) -> T:
    """Ask until the answer is true, and return it. Raises DeadlineMissed after `deadline` seconds.

    `what` is said then: a text, or what makes one, to say how things stand at that time. `interval` is in seconds; who
    has waited for long is asked less often, since asking takes time from what is waited for.
    """
    began = time.monotonic()
    end = began + deadline
    while True:
        answer = condition()
        if answer:
            return answer
        now = time.monotonic()
        if now > end:
            text = what() if callable(what) else what
            raise DeadlineMissed(f"not within {deadline:g} s: {text or condition}")
        time.sleep(max(interval, min((now - began) * _PATIENCE, _LONGEST_INTERVAL)))


def in_parallel(calls: Iterable[Callable[[], T]], workers: int = 8) -> list[T]:
    """Make all the calls at once, wait for all of them, then raise the first error if there was one."""
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(call) for call in calls]
    return [future.result() for future in futures]


@dataclass(frozen=True)
class Process:
    """A running child. Its output is in `log`."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.popen.pid

    def alive(self) -> bool:
        return self.popen.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens when the process has ended."""
        with contextlib.suppress(ProcessLookupError):
            self.popen.send_signal(number)

    def wait(self, deadline: float) -> int:
        """The exit status. Raises subprocess.TimeoutExpired."""
        return self.popen.wait(deadline)

    def stop(self, deadline: float = STOP_DEADLINE) -> int:
        """SIGTERM, and SIGKILL when that was not enough. Returns the exit status."""
        self.signal(signal.SIGTERM)
        try:
            return self.popen.wait(deadline)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """SIGKILL, as a crash."""
        self.signal(signal.SIGKILL)
        return self.popen.wait(STOP_DEADLINE)

    def tail(self, lines: int = 20) -> str:
        """The end of the log, for error messages."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return ""

    def wait_for(self, condition: Callable[[], object], deadline: float, what: str) -> None:
        """Wait until the process does what it was started for.

        Raises CommandFailed with the log's end when it dies meanwhile, or DeadlineMissed.
        """

        def ready_or_dead() -> bool:
            if not self.alive():
                raise CommandFailed(f"{self.name} ended with status {self.popen.returncode}:\n{self.tail()}")
            return bool(condition())

        wait_until(ready_or_dead, deadline, lambda: f"{what} ({self.name}, log {self.log}):\n{self.tail()}")


def interruptible(args: Sequence[str]) -> list[str]:
    """The command line of a child that SIGINT ends also when this process ignores it, and its children with it.

    A shell that is not interactive starts what runs in its background with SIGINT ignored.
    """
    return ["env", "--default-signal=INT", *args]


def start(
    name: str, args: Sequence[str], log: Path, *, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Process:
    """Start a process in a session of its own, so that Ctrl-C in the terminal reaches only the laboratory."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        popen = subprocess.Popen(
            args,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=cwd,
            start_new_session=True,
            env={**os.environ, **(env or {})},
        )
    return Process(name, popen, log)


def stop_all(processes: Iterable[Process], deadline: float = STOP_DEADLINE) -> None:
    """SIGTERM to all of them at once, then wait for each."""
    running = [process for process in processes if process.alive()]
    for process in running:
        process.signal(signal.SIGTERM)
    for process in running:
        process.stop(deadline)
