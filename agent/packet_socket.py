"""What passes a network device, read beside it: a packet socket (packet(7)) sees a copy of each frame both ways.

It takes nothing from the device and changes nothing in Open vSwitch: what cannot be read in time is left out, and
counted by the kernel. With the process goes the socket, however the process ends.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

_ETH_P_ALL: Final = 0x0003
_SOL_PACKET: Final = 263
_STATISTICS: Final = 6
_AUXDATA: Final = 8
_TIMESTAMPNS: Final = 35
_RCVBUFFORCE: Final = 33
_BUFFER: Final = 4 << 20

# struct tpacket_auxdata: status, len, snaplen, mac, net, vlan_tci, vlan_tpid (linux/if_packet.h)
_AUX: Final = struct.Struct("=IIIHHHH")
_TAGGED: Final = 1 << 4
_TAG_TYPE_KNOWN: Final = 1 << 6
_DOT1Q: Final = 0x8100
_TIMESPEC: Final = struct.Struct("@ll")
_ANCILLARY: Final = socket.CMSG_SPACE(_AUX.size) + socket.CMSG_SPACE(_TIMESPEC.size)


@dataclass(frozen=True, slots=True)
class Frame:
    """`data` may be cut; `length` is that of the whole frame, `at` in nanoseconds since 1970."""

    at: int
    length: int
    data: bytes


class PacketSocket:
    """Raises OSError when the device is not in this network namespace. Does not wait."""

    def __init__(self, device: str) -> None:
        # it hears nothing before it is bound: protocol 0
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        try:
            self._socket.setblocking(False)
            with suppress(OSError):  # not our user namespace's to say
                self._socket.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, _BUFFER)
            self._socket.setsockopt(_SOL_PACKET, _AUXDATA, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, _TIMESTAMPNS, 1)
            self._socket.bind((device, _ETH_P_ALL))
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def read(self, size: int, most: int) -> Iterator[Frame]:
        """At most `most` frames of those that are there, up to `size` bytes of each. Raises OSError when the device
        has gone.
        """
        for _ in range(most):
            try:
                data, ancillary, _, _ = self._socket.recvmsg(size, _ANCILLARY)
            except BlockingIOError:
                return
            yield _frame(data, ancillary, size)

    def dropped(self) -> int:
        """Frames that were not read in time since this was last asked (PACKET_STATISTICS)."""
        told = self._socket.getsockopt(_SOL_PACKET, _STATISTICS, 8)
        _, dropped = struct.unpack("=II", told)
        return int(dropped)


def _frame(data: bytes, ancillary: list[tuple[int, int, bytes]], size: int) -> Frame:
    at, length = 0, len(data)
    for level, kind, told in ancillary:
        if (level, kind) == (_SOL_PACKET, _AUXDATA) and len(told) >= _AUX.size:
            status, length, _, _, _, tag, tag_type = _AUX.unpack_from(told)
            if status & _TAGGED:
                # the kernel takes a tag off the frame
                head = struct.pack("!HH", tag_type if status & _TAG_TYPE_KNOWN else _DOT1Q, tag)
                data, length = (data[:12] + head + data[12:])[:size], length + 4
        elif (level, kind) == (socket.SOL_SOCKET, _TIMESTAMPNS) and len(told) >= _TIMESPEC.size:
            seconds, nanoseconds = _TIMESPEC.unpack_from(told)
            at = seconds * 1_000_000_000 + nanoseconds
    return Frame(at or time.time_ns(), length, data)
