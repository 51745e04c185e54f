"""One OpenFlow connection: Ryu's Datapath with a receive loop, a send loop and a watchdog of our own.

Ryu keeps what it does well, the handshake. What comes after it goes past Ryu's parser and event queue: packet_ins to
`Receiver.packet_in`, answers to `Receiver.answer`, raw. See compat.py for why.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping, MutableMapping
from socket import IPPROTO_TCP, SHUT_RDWR, TCP_NOTSENT_LOWAT
from typing import Any, Protocol

import structlog
from eventlet.event import Event
from ryu.controller import ofp_event
from ryu.controller.controller import Datapath
from ryu.controller.handler import CONFIG_DISPATCHER, DEAD_DISPATCHER, HANDSHAKE_DISPATCHER, MAIN_DISPATCHER
from ryu.lib import hub
from ryu.ofproto import ofproto_parser

from controller import receive
from controller.pki.identity import Kind
from controller.receive import BadMessage
from controller.session_outbox import Outbox
from controller.tls_stream import TlsStream

SESSION_XIDS = 0x80000000
"""Transaction ids from here up are the session's, those below are Ryu's."""

MOST_UNREAD = 16384
"""Bytes of answers that may wait for a peer that is not known to be a node's switch; with more it is hung up on."""

MOST_ECHO = 1024
"""Bytes of an echo request of such a peer: real ones are empty."""

_UNTRUSTED_READ_SIZE = 4096

_BATCH = 256
"""Messages handled before other green threads get a turn: a socket that always has data never yields by itself."""


class Receiver(Protocol):
    """Who gets the messages of a connection. Neither method may wait."""

    def packet_in(self, message: bytes) -> bytes | None:
        """Returns messages to send at once, or None."""
        ...

    def answer(self, kind: int, xid: int, message: bytes) -> None:
        """A barrier, bundle, role or multipart reply, a role status, or an error."""
        ...


class Connection(Datapath):  # type: ignore[misc]
    """`stats_waiters` and `deliver` are the way of Ryu's own statistics requests back to who asked.

    `certified` is the node that the peer's certificate stands for, None on a plain connection.
    """

    def __init__(
        self,
        socket: Any,
        address: Any,
        stats_waiters: Mapping[int, Mapping[int, Any]],
        deliver: Callable[[Any], object],
        counters: MutableMapping[str, int],
        proven: Callable[[], object] = lambda: None,
    ) -> None:
        """`proven` is called at the end of the handshake."""
        self.xid: int
        self.state: str | None
        self.outbox = Outbox()
        self.receiver: Receiver | None = None
        self.heard_at = time.monotonic()  # when the last bytes came
        self.certified = certified_node(socket)
        self.trusted = False
        self._probes: dict[int, Event] = {}
        self._changes: deque[str] = deque()
        self._stats_waiters = stats_waiters
        self._deliver = deliver
        self._counters = counters
        self._proven = proven
        self._log = structlog.get_logger().bind(peer=str(address))
        super().__init__(socket, address)
        self.socket.setsockopt(IPPROTO_TCP, TCP_NOTSENT_LOWAT, MOST_UNREAD)  # what it does not read, the kernel keeps

    # its states

    def trust(self) -> None:
        """It is a node's switch: much may be on its way to it."""
        self.trusted = True
        with contextlib.suppress(OSError):
            self.socket.setsockopt(IPPROTO_TCP, TCP_NOTSENT_LOWAT, 0)

    def set_state(self, state: str) -> None:
        """Never waits, and what is dead stays dead.

        Ryu's own puts an event into a queue of 128, which waits when that is full: for ever where the caller is who
        empties it, as the registry is that hangs up on one of many who come at once.
        """
        if state == self.state or self.state == DEAD_DISPATCHER:
            return
        self.state = state
        if state == MAIN_DISPATCHER:
            self._proven()
        self._changes.append(state)
        if len(self._changes) == 1:
            hub.spawn(self._tell)

    def _tell(self) -> None:
        """Of each change in turn, to whoever listens."""
        while self._changes:
            event = ofp_event.EventOFPStateChange(self)
            event.state = self._changes[0]
            self.ofp_brick.send_event_to_observers(event, event.state)
            self._changes.popleft()

    # sending

    def send(self, buf: bytes, close_socket: bool = False) -> bool:
        """Ryu's way in. Never waits. False when the connection is closed."""
        accepted = self.outbox.put(bytes(buf))
        if close_socket:
            self.outbox.close()
        return accepted

    def write(self, data: bytes) -> bool:
        """`send` for large amounts: waits while much is on its way. False when the connection is closed."""
        return self.outbox.wait_for_room() and self.outbox.put(data)

    def set_xid(self, msg: Any) -> int:
        self.xid = (self.xid + 1) & (SESSION_XIDS - 1)
        msg.set_xid(self.xid)
        return self.xid

    def _send_loop(self) -> None:
        """One for each switch. A switch that takes nothing for `socket_timeout` seconds is as good as dead."""
        try:
            while data := self.outbox.take():
                self.socket.sendall(data)
            self._close_write()
        except (OSError, EOFError) as error:
            self._log.info("openflow_send_failed", error=str(error))
            self.close()
        finally:
            self.outbox.discard()

    def close(self) -> None:
        """Ends both loops at once, also when the peer does not hang up."""
        self.outbox.close()
        with contextlib.suppress(OSError, EOFError):  # the peer may have been first
            self.socket.shutdown(SHUT_RDWR)
        self.set_state(DEAD_DISPATCHER)
        for probe in self._probes.values():
            _settle(probe, False)

    # receiving

    def _recv_loop(self) -> None:
        splitter = receive.Splitter()
        turn = _BATCH
        try:
            while self.state != DEAD_DISPATCHER:
                try:
                    data = self.socket.recv(receive.READ_SIZE if self.trusted else _UNTRUSTED_READ_SIZE)
                except TimeoutError:
                    continue
                if not data:
                    break
                self.heard_at = time.monotonic()
                turn -= 1 + self._handle_all(splitter.feed(data))
                if turn <= 0:
                    turn = _BATCH
                    hub.sleep(0)
                if self.trusted:
                    self.outbox.wait_for_room()  # who does not read our answers is not read either
                else:
                    self._demand_reading()
        except BadMessage as error:
            self._count("openflow_bad_messages")
            self._log.warning("openflow_bad_message", error=str(error))
        except (OSError, EOFError):
            pass

    def _demand_reading(self) -> None:
        """Ends the connection to a peer that does not take its answers."""
        hub.sleep(0)  # for the send loop
        if self.outbox.size > MOST_UNREAD:
            self._count("openflow_unread_answers")
            self._log.warning("openflow_unread_answers")
            self.close()

    def _handle_all(self, data: bytes) -> int:
        """Handles whole messages and sends what answers them in one piece. Returns how many there were."""
        replies: list[bytes] = []
        offset, count, size = 0, 0, len(data)
        while offset < size:
            end = offset + (data[offset + 2] << 8 | data[offset + 3])
            message = data[offset:end]
            offset = end
            count += 1
            kind = message[1]
            if kind == receive.PACKET_IN and self.receiver is not None and message[0] == receive.VERSION:
                reply = self.receiver.packet_in(message)
            else:
                reply = self._handle(kind, message)
            if reply is not None:
                replies.append(reply)
        if replies:
            self.outbox.put(replies[0] if len(replies) == 1 else b"".join(replies))
        return count

    def _handle(self, kind: int, message: bytes) -> bytes | None:
        """Anything but a packet_in of a switch that is known. Raises BadMessage when it breaks the protocol."""
        if message[0] not in receive.VERSIONS:
            raise BadMessage(f"version {message[0]:#04x}")
        if kind not in receive.MINIMUM:
            self._count("openflow_ignored_messages")
            return None
        receive.check_length(kind, len(message))
        if kind == receive.HELLO:
            if self.state == HANDSHAKE_DISPATCHER:
                self._to_ryu(receive.clean_hello(message))
            return None
        if self.state == HANDSHAKE_DISPATCHER and kind not in _BEFORE_HELLO:
            raise BadMessage(f"message type {kind} before hello")
        if message[0] != receive.VERSION and kind != receive.ERROR:
            raise BadMessage(f"version {message[0]:#04x} after hello")
        if kind == receive.ECHO_REQUEST:
            if not self.trusted and len(message) > MOST_ECHO:
                raise BadMessage(f"echo request of {len(message)} bytes from an unknown switch")
            return receive.echo_reply(message)
        xid = int.from_bytes(message[4:8])
        if kind == receive.ECHO_REPLY:
            self.acknowledge_echo_reply(xid)
        elif self.state == CONFIG_DISPATCHER:
            self._handshake(kind, message)
        elif xid < SESSION_XIDS and kind != receive.ROLE_STATUS:
            self._foreign(kind, xid, message)
        elif self.receiver is not None:
            self.receiver.answer(kind, xid, message)
        return None

    def _handshake(self, kind: int, message: bytes) -> None:
        if kind == receive.FEATURES_REPLY and self.id is None:
            self._to_ryu(receive.clean_features(message))
        elif kind == receive.MULTIPART_REPLY and self.id is not None:
            if int.from_bytes(message[8:10]) == receive.MULTIPART_PORT_DESC:
                self._to_ryu(receive.empty_port_desc(message))
        elif kind == receive.ERROR:
            self._count("openflow_errors")
            self._log.warning("openflow_handshake_error", error=receive.error_of(message))

    def _foreign(self, kind: int, xid: int, message: bytes) -> None:
        """An answer to something that Ryu asked: parsed by Ryu, and only if somebody waits for it."""
        if kind == receive.ERROR:
            self._count("openflow_errors")
            self._log.warning("openflow_error", error=receive.error_of(message))
        elif kind in (receive.MULTIPART_REPLY, receive.ROLE_REPLY) and xid in self._stats_waiters.get(self.id, {}):
            parsed = ofproto_parser.msg(self, receive.VERSION, kind, len(message), xid, message)
            if parsed is not None:
                self._deliver(parsed)

    def _to_ryu(self, message: bytes) -> None:
        """Through Ryu's parser and its handshake handlers, as its own receive loop would."""
        version, kind, length, xid = receive.HEADER.unpack_from(message)
        parsed = ofproto_parser.msg(self, version, kind, length, xid, message)
        if parsed is None:
            raise BadMessage(f"message type {kind} that Ryu cannot read")
        event = ofp_event.ofp_msg_to_ev(parsed)
        self.ofp_brick.send_event_to_observers(event, self.state)
        for handler in self.ofp_brick.get_handlers(event, self.state):
            handler(event)

    # watching

    def _echo_request_loop(self) -> None:
        """Closes a connection that does not finish its handshake within two intervals, or misses its echo replies."""
        hub.sleep(self.echo_request_interval)
        if self.state != MAIN_DISPATCHER:
            hub.sleep(self.echo_request_interval)
        if self.state != MAIN_DISPATCHER:
            self._count("openflow_handshake_timeouts")
            self._log.warning("openflow_handshake_timeout")
            self.close()
        while self.state == MAIN_DISPATCHER:
            if len(self.unreplied_echo_requests) >= self.max_unreplied_echo_requests:
                self._count("openflow_echo_timeouts")
                self._log.warning("openflow_echo_timeout", datapath_id=f"{self.id:016x}")
                self.close()
                break
            request = self.ofproto_parser.OFPEchoRequest(self)
            self.unreplied_echo_requests.append(self.set_xid(request))
            self.send_msg(request)
            hub.sleep(self.echo_request_interval)

    def answers(self, timeout_s: float) -> bool:
        """Asks for an echo, and waits for it. False when none comes within so many seconds, or the connection ends."""
        request = self.ofproto_parser.OFPEchoRequest(self)
        xid = self.set_xid(request)
        probe = self._probes[xid] = Event()
        try:
            self.send_msg(request)
            if self.outbox.closed:
                return False
            heard = probe.wait(timeout_s)
            if heard is None:
                hub.sleep(0)  # was it us who were held up? Then the reply is there, and is read now
                heard = probe.ready() and probe.wait()
            return bool(heard)
        finally:
            del self._probes[xid]

    def acknowledge_echo_reply(self, xid: int) -> None:
        super().acknowledge_echo_reply(xid)
        if xid in self._probes:
            _settle(self._probes[xid], True)

    def _count(self, name: str) -> None:
        self._counters[name] = self._counters.get(name, 0) + 1


def _settle(probe: Event, answered: bool) -> None:
    if not probe.ready():
        probe.send(answered)


def certified_node(socket: Any) -> str | None:
    """The node that a TLS peer's certificate is for."""
    peer = socket.peer if isinstance(socket, TlsStream) else None
    return peer.name if peer is not None and peer.kind is Kind.NODE else None


_BEFORE_HELLO = frozenset({receive.ERROR, receive.ECHO_REQUEST, receive.ECHO_REPLY})
