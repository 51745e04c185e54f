"""Notices when eventlet's hub does not run: then no switch is answered, no VM and no request.

A green thread beats; a native one, which runs whatever the hub does, looks at the beats and writes down where the hub
is stuck, once for each time. When it is stuck for good, systemd's watchdog ends the process:
its beats are the hub's, too.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import FrameType
from typing import Any, Final

import eventlet
import structlog
from eventlet import patcher
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from agent.service_manager import ServiceManager

BEAT: Final = 0.05
BLOCKED: Final = 0.5
"""Seconds between two beats, and those without one after which the hub is blocked."""

_BUCKETS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_DEEPEST: Final = 40
_SHOWN: Final = 80
# local variables that say what the code is at, the nearest to the hang first
_TELLING: Final = ("port", "network", "node", "floating_ip", "group", "zone", "change", "name", "path")


def _write(line: str) -> None:
    """Past the logging, whose locks are the hub's."""
    os.write(2, line.encode())


class HubWatch(Collector):
    """`write` gets the line about a hub that is stuck, from the native thread."""

    def __init__(
        self,
        manager: ServiceManager,
        *,
        form: str = "console",
        blocked_s: float = BLOCKED,
        write: Callable[[str], object] = _write,
    ) -> None:
        self._manager = manager
        self._form = form
        self._blocked_s = blocked_s
        self._write = write
        self._beaten = time.monotonic()
        self._told = self._beaten  # the beat after which the thread has last found the hub stuck
        self._counts = [0] * (len(_BUCKETS) + 1)
        self._total = 0.0
        self._running = False

    def start(self) -> None:
        """From the hub's own thread, which is the one that is watched."""
        native = patcher.original("threading")
        self._running = True
        self._beaten = time.monotonic()
        eventlet.spawn(self._beat)
        native.Thread(target=self._look, args=(native.get_ident(),), name="hub-watch", daemon=True).start()

    def stop(self) -> None:
        self._running = False

    def collect(self) -> Iterator[HistogramMetricFamily]:
        name = "trunkline_hub_blocked_seconds"
        text = "How long the hub was late for its next turn, where that was more than a tenth of a second."
        buckets: list[tuple[str, float]] = []
        count = 0
        for bound, times in zip((*map(str, _BUCKETS), "+Inf"), self._counts, strict=True):
            count += times
            buckets.append((bound, count))
        yield HistogramMetricFamily(name, text, buckets=buckets, sum_value=self._total)

    # green

    def _beat(self) -> None:
        period = self._manager.watchdog_s
        due = 0.0
        while self._running:
            eventlet.sleep(BEAT)
            now = time.monotonic()
            self._was_late(now - self._beaten - BEAT)
            self._beaten = now
            if period is not None and now >= due:
                self._manager.alive()
                due = now + period / 3

    def _was_late(self, seconds: float) -> None:
        if seconds < _BUCKETS[0]:
            return
        self._total += seconds
        self._counts[next((at for at, bound in enumerate(_BUCKETS) if seconds <= bound), -1)] += 1
        if seconds >= self._blocked_s:
            structlog.get_logger().warning("hub_was_blocked", seconds=round(seconds, 2))

    # native: nothing here may touch what is green, and that is also the logging

    def _look(self, hub_thread: int) -> None:
        pause = patcher.original("time").sleep
        while self._running:
            pause(self._blocked_s / 4)
            beaten = self._beaten
            seconds = time.monotonic() - beaten
            if seconds > self._blocked_s + BEAT and self._told != beaten:
                self._told = beaten
                frame = sys._current_frames().get(hub_thread)
                if frame is not None:
                    with suppress(OSError):  # stderr takes nothing now: the next time, maybe
                        self._write(self._line(seconds, frame))

    def _line(self, seconds: float, frame: FrameType) -> str:
        stack: list[str] = []
        at = ""
        inner: FrameType | None = frame
        while inner is not None and len(stack) < _DEEPEST:
            stack.append(f"{inner.f_code.co_filename}:{inner.f_lineno} {inner.f_code.co_name}")
            at = at or _object_of(inner)
            inner = inner.f_back
        if self._form == "json":
            fields = {"event": "hub_blocked", "level": "error", "seconds": round(seconds, 2), "object": at}
            return json.dumps({**fields, "stack": stack}) + "\n"
        return f"hub_blocked seconds={seconds:.2f} object={at or '-'}\n" + "".join(f"    {line}\n" for line in stack)


def _object_of(frame: FrameType) -> str:
    """What a frame is at, if one of its variables says so."""
    for name in _TELLING:
        value = frame.f_locals.get(name)
        shown = value if isinstance(value, str) else _identity(value)
        if shown:
            return f"{name} {shown[:_SHOWN]!r}"
    return ""


def _identity(value: Any) -> str:
    for attribute in ("name", "id"):
        with suppress(Exception):  # a variable may be anything
            found = getattr(value, attribute, None)
            if isinstance(found, str) and found:
                return found
    return ""
