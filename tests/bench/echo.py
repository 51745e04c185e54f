"""Echo requests from inside a namespace, without ping's own start and clock."""

from __future__ import annotations

import itertools
import os
import select
import socket
import struct
import time

from etc.lab import netns

_REQUEST, _REPLY = 8, 0
_IP_HEADER = 20
_IDS = itertools.count(os.getpid())


class Echo:
    """A raw ICMP socket (RFC 792) in a namespace, towards one address."""

    def __init__(self, namespace: str, address: object) -> None:
        with netns.inside(namespace):
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self._socket.connect((str(address), 0))
        # one each: conntrack cannot tell apart what two addresses of one port are asked with one id
        self._id = next(_IDS) & 0xFFFF

    def __enter__(self) -> Echo:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def send(self, number: int) -> None:
        request = struct.pack("!BBHHH", _REQUEST, 0, 0, self._id, number & 0xFFFF) + bytes(48)
        total = sum(struct.unpack("!4H", request[:8]))
        total = (total & 0xFFFF) + (total >> 16)
        self._socket.send(request[:2] + struct.pack("!H", 0xFFFF - total) + request[4:])

    def answered(self, seconds: float) -> bool:
        """Whether a reply to any request of ours comes within the time."""
        end = time.perf_counter() + seconds
        while True:
            left = end - time.perf_counter()
            if not select.select([self._socket], [], [], max(left, 0))[0]:
                return False
            kind, _, _, id_ = struct.unpack_from("!BBHH", self._socket.recv(2048), _IP_HEADER)
            if (kind, id_) == (_REPLY, self._id):
                return True
