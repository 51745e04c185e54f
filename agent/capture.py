"""A capture: what passes the interface of one port, sent in parts to the controller that has asked for it.

Who may be looked at is a VM's interface in the integration bridge, by its iface-id: no card of the host, no uplink.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from agent import pcap
from agent.client import Client, ClientError
from agent.frame_filter import LOOKED_AT, BadFilter, FrameFilter
from agent.packet_socket import PacketSocket
from agent.state import NOTHING, OvsState, lookup, marked

LOG = logging.getLogger(__name__)

MOST_SECONDS: Final = 600
MOST_PACKETS: Final = 100_000
MOST_BYTES: Final = 64 << 20
"""Nobody gets more of one capture, whatever is asked for."""

_NUMBERS: Final = {
    "seconds": (1, MOST_SECONDS),
    "packets": (1, MOST_PACKETS),
    "snaplen": (14, 65535),
    "bytes": (1, MOST_BYTES),
}
_ID: Final = re.compile(r"[0-9a-f]{32}")
_IFACE_ID: Final = re.compile(r"[0-9A-Za-z-]{1,64}")
# such a device is one of the kernel's, which packet sockets see; those of DPDK are not
_KERNEL_TYPES: Final = frozenset({"", "system", "tap", "internal"})

_PART: Final = 32 << 10
_MOST_HELD: Final = 1 << 20
_BATCH: Final = 64
_GATHER_S: Final = 0.05
_HEARTBEAT_S: Final = 1.0
_BINARY: Final = "application/octet-stream"


class BadCapture(ValueError):
    """It cannot be begun; the text says why."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """It ends after `seconds`, or with so many `packets` or `bytes`; `snaplen` bytes of each packet are kept."""

    capture: str
    iface_id: str
    seconds: int
    packets: int
    snaplen: int
    bytes: int
    filter: FrameFilter

    @staticmethod
    def parse(arguments: Mapping[str, object]) -> Wanted:
        """Raises BadCapture."""
        if unknown := arguments.keys() - {"capture", "iface_id", "filter", *_NUMBERS}:
            raise BadCapture(f"no such argument: {', '.join(sorted(unknown))[:100]}")
        texts = {}
        for name, form in (("capture", _ID), ("iface_id", _IFACE_ID)):
            text = arguments.get(name)
            if not isinstance(text, str) or not form.fullmatch(text):
                raise BadCapture(f"{name} is not of the form {form.pattern}")
            texts[name] = text
        numbers = {}
        for name, (least, most) in _NUMBERS.items():
            number = arguments.get(name)
            if type(number) is not int or not least <= number <= most:
                raise BadCapture(f"{name} is a number from {least} to {most}")
            numbers[name] = number
        try:
            filter_ = FrameFilter.parse(arguments.get("filter", {}))
        except BadFilter as error:
            raise BadCapture(str(error)) from None
        return Wanted(
            texts["capture"],
            texts["iface_id"],
            numbers["seconds"],
            numbers["packets"],
            numbers["snaplen"],
            numbers["bytes"],
            filter_,
        )


def device_of(state: OvsState | None, bridge: str, iface_id: str) -> str:
    """The device of a VM's interface in the integration bridge. Raises BadCapture."""
    found = None if state is None else state.bridges.get(bridge)
    if state is None or found is None:
        raise BadCapture(f"there is no bridge {bridge}")
    candidates: list[tuple[int, str]] = []
    for port in (state.ports[name] for name in found.ports if name in state.ports):
        for name in () if marked(port.columns) else port.interfaces:
            columns = state.interfaces.get(name, NOTHING)
            ofport = columns.get("ofport")
            if lookup(columns, "external_ids", "iface-id") == iface_id and isinstance(ofport, int) and ofport > 0:
                candidates.append((ofport, name))
    if not candidates:
        raise BadCapture("its interface is not in Open vSwitch")
    _, device = min(candidates)  # which the port is bound by, too
    kind = state.interfaces[device].get("type")
    if kind not in _KERNEL_TYPES:
        raise BadCapture(f"interface {device} is of type {kind}, of which nothing can be seen")
    return device


class Capture:
    """`run` once, in an event loop. Raises BadCapture when the device cannot be read."""

    def __init__(self, wanted: Wanted, device: str) -> None:
        self._wanted = wanted
        self._device = device
        try:
            self._socket = PacketSocket(device)
        except OSError as error:
            raise BadCapture(f"device {device} cannot be read: {error.strerror or error}") from error
        self._until = time.monotonic() + wanted.seconds
        self._held = bytearray(pcap.header(wanted.snaplen))
        self._news = asyncio.Event()
        self._reading = False
        self._packets = self._bytes = 0
        self._reason = ""

    async def run(self, client: Client, node: str) -> None:
        """To its end. What goes wrong on the way is in the log."""
        place = f"/v1/nodes/{quote(node, safe='')}/captures/{self._wanted.capture}"
        LOG.info("capture of port %s by device %s begins", self._wanted.iface_id, self._device)
        try:
            if await self._send(client, f"{place}/parts"):
                await _post(client, f"{place}/end", json.dumps(self._summary()).encode(), "application/json")
        except ClientError as error:
            self._reason = f"controller: {error}"
        finally:
            self._stop_reading()
            self._socket.close()
            why = self._reason or "given up"
            LOG.info("capture of port %s ends: %s, %s packets", self._wanted.iface_id, why, self._packets)

    async def _send(self, client: Client, path: str) -> bool:
        """False: nobody wants it any more. Raises ClientError."""
        self._read_on()
        part = b""
        while True:
            if not part:
                part = bytes(self._held[:_PART])
                del self._held[:_PART]
            answer = await _post(client, path, part, _BINARY)
            if not answer.get("wanted"):
                self._reason = "nobody wants it any more"
                return False
            if answer.get("taken"):
                part = b""
            self._read_on()
            if not part and not self._held:
                if self._reason:
                    return True
                await self._more()

    async def _more(self) -> None:
        """Waits for more to send, or until it is time to say that this is still here."""
        self._news.clear()
        left = self._until - time.monotonic()
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, min(left, _HEARTBEAT_S))):
                await self._news.wait()
        if not self._reason and self._held and len(self._held) < _PART:
            await asyncio.sleep(_GATHER_S)
        self._read_on()

    def _read_on(self) -> None:
        """Reads, unless the time is over or too much is held."""
        if not self._reason and time.monotonic() >= self._until:
            self._take()
            self._reason = self._reason or "seconds"
            self._stop_reading()
        if not self._reading and not self._reason and len(self._held) < _MOST_HELD:
            asyncio.get_running_loop().add_reader(self._socket.fileno(), self._take)
            self._reading = True

    def _stop_reading(self) -> None:
        if self._reading:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._reading = False

    def _take(self) -> None:
        """Some of what is there. When too much is held, the kernel keeps the rest, or drops and counts it."""
        wanted = self._wanted
        size = wanted.snaplen if wanted.filter.takes_all else max(wanted.snaplen, LOOKED_AT)
        try:
            for frame in self._socket.read(size, _BATCH):
                if wanted.filter.takes_all or wanted.filter.takes(frame.data):
                    record = pcap.record(frame.at, frame.length, frame.data[: wanted.snaplen])
                    self._held += record
                    self._packets += 1
                    self._bytes += len(record)
                if self._packets >= wanted.packets:
                    self._reason = "packets"
                    break
                if self._bytes >= wanted.bytes:
                    self._reason = "bytes"
                    break
        except OSError:
            self._reason = "interface_gone"
        if self._reason or len(self._held) >= _MOST_HELD:
            self._stop_reading()
        if self._held or self._reason:
            self._news.set()

    def _summary(self) -> dict[str, Any]:
        try:
            dropped = self._socket.dropped()
        except OSError:
            dropped = 0
        return {"packets": self._packets, "bytes": self._bytes, "dropped": dropped, "reason": self._reason}


async def _post(client: Client, path: str, body: bytes, content_type: str) -> dict[str, Any]:
    """Raises ClientError."""
    answer = await client.ask("POST", path, body, content_type)
    if answer.status == 404:
        return {}
    try:
        content = json.loads(answer.body)
    except ValueError:
        content = None
    if answer.status != 200 or not isinstance(content, dict):
        raise ClientError(f"{path}: status {answer.status}", answer.status)
    return content
