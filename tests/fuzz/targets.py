"""Every parser of ours that the bytes of others reach, as a function of bytes that raises only where there is a fault.

`tests/fuzz/test_parsers.py` gives each a few hundred inputs, `tests/run fuzz` as many as there is time for.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from functools import cache
from io import StringIO
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from unittest.mock import patch

import h11
from oslo_config import cfg
from pydantic import TypeAdapter

from controller import compat

compat.already_handled()
compat.guard_lengths()
compat.guard_multipart()
compat.circular_import()

# ruff: noqa: E402
from ryu.base import app_manager
from ryu.controller.handler import CONFIG_DISPATCHER, HANDSHAKE_DISPATCHER, MAIN_DISPATCHER
from ryu.ofproto import ofproto_parser

from agent import config as agent_config
from agent.capture import BadCapture, Wanted
from agent.errands import Errand
from agent.frame_filter import LOOKED_AT, FrameFilter
from agent.ofproto_trace import BadPacket, command_of
from agent.relay import dns as relay_dns
from agent.relay import http as relay_http
from controller import config as controller_config
from controller import receive
from controller.api import (
    address_models,
    bindings,
    dns_models,
    floating_ip_models,
    network_models,
    node_models,
    port_metadata,
    port_models,
)
from controller.api import http as api_http
from controller.api import security_group_models as group_models
from controller.api.auth import Resource, Verb
from controller.api.credentials import parse_credentials
from controller.api.errors import ApiError
from controller.cli import address_plan
from controller.connection import Connection
from controller.dns import domain, message, reply, transfer_request, tsig, upstreams
from controller.dns.transfer import TransferServer
from controller.packet_in import (
    dhcp_options,
    dhcpv6_options,
    fragments,
    frames,
    icmp,
    icmpv6,
    nd,
    neighbours,
)
from controller.packet_in import dns as packet_in_dns
from controller.receive import BadMessage
from controller.store import dns_names
from flows import wire
from flows.explain import ofproto_trace
from flows.model import RecordType
from flows.pipeline import GATEWAY_MAC
from tests.fuzz import test_packet_in as punted
from tests.unit.dns import scene
from tests.unit.dns.cloud import snapshot
from tests.unit.dns.test_transfer import KEY, LAB, NOW, PLAIN, SETTINGS, SIGNED
from tests.unit.metadata.model import Cloud
from tests.unit.packet_in import wire6


@dataclass(frozen=True)
class Target:
    """`run` raises where there is a fault; `limit_s` seconds of the processor's are too many for 4 kB."""

    run: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    limit_s: float = 0.05


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


# OpenFlow


def _message(kind: int, body: bytes, xid: int = 1, version: int = 5) -> bytes:
    return receive.HEADER.pack(version, kind, 8 + len(body), xid) + body


HELLO = _message(0, bytes.fromhex("0001000800000020"))
FEATURES = _message(6, bytes(24), 2)
PACKET_IN = _message(
    10, bytes.fromhex("ffffffff002a01000000000000000001" + "0001000c8000000400000007" + "00000000" + "0000") + bytes(42)
)
FLOW_STATS = _message(19, bytes.fromhex("0001000000000000") + (56).to_bytes(2) + bytes(54), 3)
OPENFLOW = (
    HELLO,
    FEATURES,
    PACKET_IN,
    FLOW_STATS,
    HELLO + FEATURES + _message(19, bytes.fromhex("000d000000000000") + bytes(72), 3),
    _message(1, bytes(4)),
    _message(2, b"echo"),
    _message(21, b"", 0x80000001),
    _message(25, bytes(16), 0x80000002),
    _message(33, bytes(8), 0x80000003),
)


def split(data: bytes) -> None:
    """In pieces as the first byte says, and at once: the same messages come out, whole, unless one is refused."""
    step = 1 + (data[0] if data else 0)
    whole = _split([data])
    pieces = _split([data[at : at + step] for at in range(0, len(data), step)])
    assert whole is None or pieces in (None, whole)
    if whole:
        at = 0
        while at < len(whole):
            at += int.from_bytes(whole[at + 2 : at + 4])
        assert at == len(whole) and data.startswith(whole)


def _split(pieces: list[bytes]) -> bytes | None:
    splitter = receive.Splitter()
    try:
        return b"".join([splitter.feed(piece) for piece in pieces])
    except BadMessage:
        return None


class _Brick:
    """Of Ryu's event system: nobody listens."""

    def send_event_to_observers(self, *_: object) -> None: ...

    def get_handlers(self, *_: object) -> list[Any]:
        return []


class _Socket:
    def setsockopt(self, *_: object) -> None: ...

    def settimeout(self, *_: object) -> None: ...

    def getpeername(self) -> tuple[str, int]:
        return "192.0.2.1", 1


class _Everything:
    """Somebody waits for every answer."""

    def get(self, *_: object) -> _Everything:
        return self

    def __contains__(self, _: object) -> bool:
        return True


class _Session:
    def packet_in(self, data: bytes) -> bytes | None:
        wire.parse_packet_in(data)
        return None

    def answer(self, kind: int, xid: int, data: bytes) -> None:
        for parse in (wire.parse_stamp_reply, wire.parse_meters_reply):
            with suppress(ValueError):
                parse(data)
        if kind == receive.ERROR:
            receive.error_of(data)
        elif kind == receive.MULTIPART_REPLY:
            receive.more_follows(data)
        elif kind == receive.BUNDLE_CONTROL:
            receive.bundle_control_type(data)


def connection(data: bytes) -> None:
    """A stream in every state of a connection."""
    for state in (HANDSHAKE_DISPATCHER, CONFIG_DISPATCHER, MAIN_DISPATCHER):
        delivered: list[Any] = []
        with patch.dict(app_manager.SERVICE_BRICKS, ofp_event=_Brick()):
            made = Connection(_Socket(), ("192.0.2.1", 1), _Everything(), delivered.append, {})  # type: ignore[arg-type]
        made.state, made.id = state, None if state == CONFIG_DISPATCHER else 7
        made.receiver = _Session() if state == MAIN_DISPATCHER else None
        with suppress(BadMessage):
            made._handle_all(receive.Splitter().feed(data))


TO_RYU = (receive.HELLO, receive.FEATURES_REPLY, receive.MULTIPART_REPLY, receive.ROLE_REPLY)


def ryu_messages(data: bytes) -> None:
    """What Ryu itself is given, with its defects guarded: it drops what it cannot read, and always comes back."""
    if not data:
        return
    kind, body = TO_RYU[data[0] % len(TO_RYU)], data[1:4000]
    whole = receive.HEADER.pack(5, kind, 8 + len(body), 1) + body
    with suppress(BadMessage):
        receive.check_length(kind, len(whole))
        if kind == receive.HELLO:
            whole = receive.clean_hello(whole)
        ofproto_parser.msg(_Peer(), whole[0], kind, len(whole), 1, whole)


class _Peer:
    """The datapath that Ryu's parsers ask for their constants."""

    def __init__(self) -> None:
        from ryu.ofproto import ofproto_v1_4, ofproto_v1_4_parser

        self.ofproto, self.ofproto_parser = ofproto_v1_4, ofproto_v1_4_parser


# frames of VMs

IPV4 = IPv4Address("10.0.0.5")


def parsed_frames(data: bytes) -> None:
    frames.parse_ethernet(data)
    for offset in (0, 14, 18):
        frames.parse_arp(data, offset)
        frames.parse_ipv4(data, offset)
        frames.parse_ipv4_header(data, offset)
        frames.parse_ipv6(data, offset)
        frames.parse_ipv6_header(data, offset)
    neighbours.parse_claim(data)
    nd.parse(data)
    nd.parse_claim(data)
    packet_in_dns.read(data)
    icmp.time_exceeded(data, IPV4, GATEWAY_MAC)
    icmpv6.time_exceeded(data, wire6.GATEWAY, GATEWAY_MAC)


def captured_frames(data: bytes) -> None:
    """What a VM sends while its port is captured."""
    for given in ({"port": 80}, {"protocol": 6, "address": "2001:db8::1"}, {"address": "10.0.0.1"}):
        FrameFilter.parse(given).takes(data[:LOOKED_AT])


def errands(data: bytes) -> None:
    """What a controller that has been taken over asks an agent to do."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return
    with suppress(ValueError):
        Errand.parse(found)
    if isinstance(found, dict):
        with suppress(BadCapture):
            Wanted.parse(found)
        with suppress(BadPacket):
            command_of("br-int", found)


def switch_traces(data: bytes) -> None:
    """What an agent that has been taken over says of a packet that its switch was asked about."""
    ofproto_trace.parse(data.decode(errors="replace"))


def options(data: bytes) -> None:
    cut = data[0] if data else 0
    dhcp_options.read(data[cut:], data[:cut], data[: cut // 2])
    dhcpv6_options.read(data)


def fragmented(data: bytes) -> None:
    """Of what `frames` has found to be a datagram: no part is longer than it may be, and none is lost."""
    found = frames.parse_ipv4(data, 0)
    if found is None:
        return
    datagram = data[: int.from_bytes(data[2:4])]
    for mtu in (68, 576, 1500):
        parts = fragments.fragments(datagram, mtu)
        assert all(len(part) <= max(mtu, len(datagram)) for part in parts)
    fragments.without_fragment(datagram)
    fragments.with_ttl(datagram, 1)


# names

QUESTIONS = (
    scene.question("web1.cloud.example", size=1232),
    scene.question("5.0.0.10.in-addr.arpa", "PTR"),
    scene.question("lab.example", "AXFR"),
)
ASKED = scene.query("www.example.org")


def dns_question(data: bytes) -> None:
    read = message.read(data)
    if isinstance(read, message.Query):
        for rcode in message.Rcode:
            message.respond(read, rcode, limit=message.udp_limit(read, 1232))
        domain.text(read.name)
        domain.reversed_range(read.name)
        list(domain.suffixes(read.name))
    relay_dns.server_failure(data)


def dns_reply(data: bytes) -> None:
    """From a server that is asked: with the right id and question in front, or as it is."""
    head = b"\x12\x34\x81\x80\0\1"
    for whole in (data, head + data[:6].ljust(6, b"\0") + ASKED.asked + data[6:]):
        if reply.belongs(whole, b"\x12\x34", ASKED):
            with suppress(reply.Truncated, reply.Unusable):
                found = reply.parse(whole, ASKED)
                found.sections(5)


@cache
def _transfer_server() -> TransferServer:
    made = TransferServer(SETTINGS, lambda: snapshot(LAB))
    made.look()
    return made


def transfer(data: bytes) -> None:
    for secondary in (PLAIN, SIGNED):
        for stream in (False, True):
            for answer in _transfer_server().replies(data, secondary, stream=stream):
                assert len(answer) <= 65535
    with suppress(transfer_request.Malformed, tsig.BadSignature):
        tsig.verify(data, transfer_request.parse(data), KEY, NOW)


def dns_texts(data: bytes) -> None:
    text = _text(data)
    upstreams.parse_resolv_conf(text)
    for parse in (upstreams.parse_server, tsig.parse_key, domain.wire, dns_names.zone_name):
        with suppress(ValueError):
            parse(text)
    with suppress(ValueError):
        upstreams.parse_servers(text.split(","))
    for kind in RecordType:
        with suppress(ValueError):
            dns_names.normal_data(kind, text)
        with suppress(ValueError):
            dns_names.whole_name(text, "lab.example", kind)


# the relay


class _Stream:
    """What a VM has sent, and then nothing more."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.sent = b""

    async def read(self) -> bytes:
        data, self._data = self._data, b""
        return data

    async def read_exactly(self, size: int) -> bytes:
        data, self._data = self._data[:size], self._data[size:]
        if len(data) < size:
            raise asyncio.IncompleteReadError(data, size)
        return data

    async def write(self, data: bytes, _deadline: float) -> None:
        self.sent += data

    async def finish(self) -> None: ...


class _Rate:
    def take(self, _key: int, _longest: float) -> float:
        return 0.0


class _Upstream:
    async def metadata(self, *_: object) -> relay_http.Answer:
        return relay_http.Answer(200, "text/plain", b"x", None)

    async def dns(self, *_: object) -> relay_http.Answer:
        return relay_http.Answer(200, "", bytes(12), None)


def relay_of_http(data: bytes) -> None:
    with suppress(h11.RemoteProtocolError):
        asyncio.run(relay_http.Http(_Upstream(), _Rate()).serve(_Stream(data), 1))  # type: ignore[arg-type]
    with suppress(relay_http.Refused):
        relay_http.upstream_path(data)


def relay_of_dns(data: bytes) -> None:
    asyncio.run(relay_dns.Dns(_Upstream(), _Rate()).serve(_Stream(data), 1))  # type: ignore[arg-type]


METADATA = Cloud()


def metadata(data: bytes) -> None:
    path, _, body = data.partition(b"\0")
    text = path.decode("latin-1")
    METADATA.ask(text)
    METADATA.ask(text, body=body)


# the API and the command line

ADAPTERS: tuple[TypeAdapter[Any], ...] = tuple(
    value
    for module in (
        address_models,
        bindings,
        dns_models,
        floating_ip_models,
        group_models,
        network_models,
        node_models,
        port_metadata,
        port_models,
    )
    for value in vars(module).values()
    if isinstance(value, TypeAdapter)
)


def json_body(data: bytes) -> None:
    with suppress(ApiError):
        api_http.check_size(data, many=False)
        for adapter in ADAPTERS:
            request = api_http.Request(Resource.PORT, Verb.CREATE, "/", {}, {}, (adapter,), data, None, "1", {})
            with suppress(ApiError):
                request.parse(adapter)


def http_heads(data: bytes) -> None:
    text = data.decode("latin-1")
    with suppress(ApiError):
        api_http.parse_query(text)
    for encoding, lengths in ((None, [text]), (text, []), (None, text.split(","))):
        with suppress(ApiError):
            api_http.body_length(encoding, lengths)


def plan(data: bytes) -> None:
    for format_ in address_plan.PlanFormat:
        found = address_plan.read(_text(data), format_)
        assert all(entry.line > 0 for entry in found.entries) and all(one.message for one in found.mistakes)


def tokens(data: bytes) -> None:
    with suppress(ValueError):
        parse_credentials(_text(data).split("\n"))


def configuration(data: bytes) -> None:
    """A file for both programs."""
    with tempfile.NamedTemporaryFile() as file, redirect_stderr(StringIO()):
        file.write(data)
        file.flush()
        with suppress(agent_config.ConfigError):
            agent_config.load(["--config-file", file.name])
        with suppress(SystemExit):
            controller_config.load(["--config-file", file.name], cfg.ConfigOpts())


SAMPLES = Path(__file__).resolve().parents[2] / "etc"
CSV = b"kind,network,address,mac\nport,net,10.0.0.5,02:00:00:00:00:01\nreserved,net,10.0.0.9-10.0.0.12,\n"
YAML = b"networks:\n  net:\n    reserved: [10.0.0.9, 10.0.0.2-10.0.0.3]\n    ports:\n    - {address: 10.0.0.5}\n"
BODIES: tuple[dict[str, Any], ...] = (
    {"name": "a", "kind": "vlan", "physical_network": "physnet1", "subnets": [{"cidr": "10.0.0.0/24"}]},
    {"network_id": "n", "fixed_ips": [{"address": "10.0.0.5"}], "dhcp_options": [{"code": 66, "value": "x"}]},
    {"security_group_id": "g", "direction": "ingress", "protocol": "tcp", "ports": {"first": 1, "last": 9}},
    {"serial": 1, "uplinks": {"physnet1": 1}, "interfaces": [{"iface_id": "p", "ofport": 1}]},
    {"public_keys": {"k": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5"}, "user_data": "I2Nsb3VkLWNvbmZpZw==", "meta": {"a": "b"}},
    {"zone_id": "z", "name": "www", "type": "SRV", "data": "0 0 443 www.example.org"},
)
GET = b"GET /latest/meta-data/?x HTTP/1.1\r\nHost: 169.254.169.254\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n"
POST = b"POST /openstack/latest/password HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"


def _framed(*messages: bytes) -> bytes:
    return b"".join(len(each).to_bytes(2) + each for each in messages)


def _signed() -> bytes:
    return tsig.sign(QUESTIONS[2], KEY, NOW)[0]


def _datagrams() -> Iterator[bytes]:
    for seed in punted.SEEDS:
        yield seed[14:]


ERRANDS = (
    {"id": "00", "kind": "ofproto_trace", "arguments": {}},
    {"in_port": 1, "table": 54, "fields": {"eth_type": 2048, "ip_proto": 6, "tcp_dst": 80, "ct_state": 33}},
    {"capture": "0" * 32, "iface_id": "a-1", "seconds": 1, "packets": 1, "snaplen": 64, "bytes": 9, "filter": {}},
)
SWITCH_TRACE = b"""Flow: ip,in_port=2,vlan_tci=0x0000,dl_src=fa:16:3e:f7:7b:1c,nw_src=10.1.0.3,reg7=0x2

bridge("br-int")
 0. in_port=2, priority 100, cookie 0x5400000100000001
    ct(commit,nat(src=203.0.113.11:1024-65535))
    output:65001
            bridge("br-physnet1")
                 0. priority 0
 4. No match.
Final flow: unchanged
Datapath actions: drop
recirc(0x6) - resume"""
TARGETS: dict[str, Target] = {
    "openflow_splitter": Target(split, OPENFLOW),
    "openflow_connection": Target(connection, OPENFLOW),
    "openflow_ryu": Target(ryu_messages, tuple(bytes((n,)) + each[8:] for n in range(4) for each in OPENFLOW)),
    "packet_in": Target(wire.parse_packet_in, (PACKET_IN,)),
    "punted_frame": Target(punted.feed, punted.SEEDS, limit_s=1.0),  # twenty handlers, three times each
    "frame": Target(parsed_frames, punted.SEEDS),
    "captured_frame": Target(captured_frames, punted.SEEDS),
    "errand": Target(errands, tuple(json.dumps(one).encode() for one in ERRANDS)),
    "switch_trace": Target(switch_traces, (SWITCH_TRACE, SWITCH_TRACE.replace(b"unchanged", b"dl_vlan=7,nw_ttl=9"))),
    "dhcp_options": Target(options, (b"\x35\x01\x01\x37\x03\x01\x03\x06\xff", b"\x34\x01\x03\x35\x01\x03")),
    "fragments": Target(fragmented, tuple(_datagrams())),
    "dns_question": Target(dns_question, QUESTIONS),
    "dns_reply": Target(dns_reply, (bytes.fromhex("000100000000c00c000100010000003c0004c0000201"),)),
    "dns_transfer": Target(transfer, (QUESTIONS[2], _signed())),
    "dns_text": Target(
        dns_texts, (b"192.0.2.1#53", b"/lab.example/192.0.2.1", b"nameserver 2001:db8::1\n", b"0 1 2 a.b")
    ),
    "relay_http": Target(relay_of_http, (GET, POST)),
    "relay_dns": Target(relay_of_dns, (_framed(*QUESTIONS),)),
    "metadata": Target(
        metadata, (b"latest/meta-data/", b"openstack/latest/meta_data.json", b"openstack/latest/password\0x")
    ),
    "json_body": Target(json_body, tuple(json.dumps(body).encode() for body in BODIES), limit_s=0.2),
    "http_head": Target(http_heads, (b"limit=5&marker=x", b"chunked", b"12")),
    "address_plan": Target(plan, (CSV, YAML), limit_s=2.0),
    "tokens": Target(tokens, (b"admin:secret-token\nmember:other-token:blue",)),
    "configuration": Target(
        configuration, tuple(path.read_bytes()[:2000] for path in sorted(SAMPLES.glob("*.sample"))), limit_s=1.0
    ),
}
