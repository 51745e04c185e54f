"""The DHCP server, message by message, read back by the independent decoder in wire.py."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from controller.packet_in import outcomes
from controller.packet_in.dhcp import Answer, DhcpServer, answer
from controller.packet_in.leases import LeaseState
from flows.model import FixedIp, GatewayMode, HostRoute, NetworkAddress, NetworkChange, Port, PortChange
from flows.snapshot import Snapshot
from tests.unit.packet_in import model, wire
from tests.unit.packet_in.wire import Message, Reply, ip, take_apart

ADDRESS = IPv4Address("10.0.0.5")
SERVER = IPv4Address("10.0.0.2")
WRONG = ip("10.0.0.77")
BROADCAST = 0x8000


def ask(message: Message, snapshot: Snapshot | None = None, mode: GatewayMode = GatewayMode.PER_HOST) -> Answer:
    held = snapshot or model.cloud()
    return answer(message.frame(), held.ports[f"port-{mode}"], held)


def reply_to(message: Message, snapshot: Snapshot | None = None, mode: GatewayMode = GatewayMode.PER_HOST) -> Reply:
    return take_apart(ask(message, snapshot, mode).frame)


def selecting(address: bytes = ADDRESS.packed, server: bytes = SERVER.packed) -> Message:
    return Message(type=wire.REQUEST, options=((50, address), (54, server)))


GOLDEN_OFFER = (
    "fa163e000001 02544c000001 0800"
    "4500 0148 0000 4000 4011 259f 0a000002 0a000005"
    "0043 0044 0134 0475"
    "02010600 12345678 0000 0000 00000000 0a000005 00000000 00000000 fa163e000001 00000000000000000000"
    + "00" * 192
    + "63825363 350102 36040a000002 330400015180 0104ffffff00 03040a000002 0c03776562 3a040000a8c0 3b0400012750 ff"
    + "00" * 15
)


def test_golden_offer() -> None:
    got = ask(Message(options=((55, bytes((1, 3, 12))),))).frame
    assert got == bytes.fromhex(GOLDEN_OFFER.replace(" ", ""))


def test_discover_is_offered() -> None:
    answered = ask(Message())
    assert answered.outcome == outcomes.DHCP_OFFER and answered.lease is None
    reply = take_apart(answered.frame)
    assert reply.type == wire.OFFER and reply.head == b"\x02\x01\x06\x00" and reply.ports == (67, 68)
    assert (reply.xid, reply.secs, reply.flags) == (0x12345678, 0, 0)
    assert (reply.yiaddr, reply.ciaddr, reply.giaddr) == (ADDRESS, wire.ZERO, wire.ZERO)
    assert reply.source == SERVER and reply.eth_source.hex() == "02544c000001"
    assert reply.chaddr == bytes.fromhex(model.MAC.replace(":", "")) + bytes(10)


def test_request_in_selecting_is_acknowledged() -> None:
    answered = ask(selecting())
    reply = take_apart(answered.frame)
    assert answered.outcome == outcomes.DHCP_ACK and reply.type == wire.ACK and reply.yiaddr == ADDRESS
    assert answered.lease == (ADDRESS, LeaseState.BOUND, 86400)


RENEW = Message(type=wire.REQUEST, ciaddr=ADDRESS, source=ADDRESS, destination=SERVER)
FROM_ELSEWHERE = IPv4Address("192.168.1.9")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        pytest.param(selecting(), outcomes.DHCP_ACK, id="selecting"),
        pytest.param(selecting(address=WRONG), outcomes.DHCP_NAK, id="selecting another address"),
        pytest.param(selecting(server=ip("10.0.0.9")), outcomes.DHCP_OTHER_SERVER, id="selecting another server"),
        pytest.param(selecting(WRONG, ip("10.0.0.9")), outcomes.DHCP_OTHER_SERVER, id="another server's address"),
        pytest.param(Message(type=wire.REQUEST, options=((50, ADDRESS.packed),)), outcomes.DHCP_ACK, id="init-reboot"),
        pytest.param(
            Message(type=wire.REQUEST, options=((50, WRONG),)), outcomes.DHCP_NAK, id="init-reboot, wrong address"
        ),
        pytest.param(
            Message(type=wire.REQUEST, options=((50, FROM_ELSEWHERE.packed),)),
            outcomes.DHCP_NAK,
            id="init-reboot, wrong network",
        ),
        pytest.param(RENEW, outcomes.DHCP_ACK, id="renewing"),
        pytest.param(RENEW.change(destination=wire.EVERYBODY), outcomes.DHCP_ACK, id="rebinding"),
        pytest.param(RENEW.change(options=((54, SERVER.packed),)), outcomes.DHCP_ACK, id="renewing with server id"),
        pytest.param(RENEW.change(options=((50, WRONG),)), outcomes.DHCP_ACK, id="renewing: ciaddr counts"),
        pytest.param(
            RENEW.change(ciaddr=FROM_ELSEWHERE, source=wire.ZERO), outcomes.DHCP_NAK, id="renewing, wrong address"
        ),
        pytest.param(
            RENEW.change(ciaddr=FROM_ELSEWHERE, source=FROM_ELSEWHERE), outcomes.SPOOFED_SOURCE, id="spoofed source"
        ),
        pytest.param(Message(type=wire.REQUEST), outcomes.DHCP_NO_STATE, id="asks for nothing"),
        pytest.param(
            Message(type=wire.REQUEST, options=((54, SERVER.packed),)), outcomes.DHCP_NO_STATE, id="server id only"
        ),
    ],
)
def test_request_states(message: Message, expected: str) -> None:
    answered = ask(message)
    assert answered.outcome == expected
    assert (answered.frame is not None) == (expected in (outcomes.DHCP_ACK, outcomes.DHCP_NAK))
    assert (answered.lease is not None) == (expected == outcomes.DHCP_ACK)


def test_nak_says_no_more_than_it_must() -> None:
    client_id = (61, b"\x01abcdef")
    message = Message(type=wire.REQUEST, options=((50, WRONG), client_id, (55, bytes((1, 3, 51)))))
    reply = reply_to(message)
    assert reply.type == wire.NAK and reply.codes == [53, 54, 61, 56]
    assert (reply.yiaddr, reply.ciaddr, reply.siaddr) == (wire.ZERO, wire.ZERO, wire.ZERO)
    assert reply.destination == wire.EVERYBODY and reply.eth_destination == b"\xff" * 6


def test_inform_gets_options_and_no_lease() -> None:
    message = Message(type=wire.INFORM, ciaddr=ADDRESS, source=ADDRESS, options=((55, bytes((51, 58, 3, 1))),))
    answered = ask(message)
    reply = take_apart(answered.frame)
    assert answered.outcome == outcomes.DHCP_INFORM and answered.lease is None
    assert reply.type == wire.ACK and reply.codes == [53, 54, 1, 3]
    assert reply.yiaddr == wire.ZERO and reply.ciaddr == ADDRESS and reply.destination == ADDRESS


@pytest.mark.parametrize(
    ("message", "state"),
    [
        (Message(type=wire.DECLINE, options=((50, ADDRESS.packed), (54, SERVER.packed))), LeaseState.DECLINED),
        (Message(type=wire.RELEASE, ciaddr=ADDRESS, source=ADDRESS, destination=SERVER), LeaseState.RELEASED),
    ],
)
def test_decline_and_release_are_events_without_reply(message: Message, state: LeaseState) -> None:
    answered = ask(message)
    assert answered.frame is None and answered.lease == (ADDRESS, state, 0)


@pytest.mark.parametrize(
    "message",
    [
        Message(type=wire.DECLINE, options=((50, WRONG),)),
        Message(type=wire.DECLINE),
        Message(type=wire.RELEASE, ciaddr=IPv4Address("10.0.0.77")),
        Message(type=wire.INFORM, ciaddr=IPv4Address("10.0.0.77")),
        Message(type=wire.INFORM),
    ],
)
def test_nothing_is_done_about_another_ports_address(message: Message) -> None:
    assert ask(message) == Answer(outcomes.DHCP_FOREIGN_ADDRESS)


@pytest.mark.parametrize(
    ("message", "ip_destination", "to_all"),
    [
        (Message(), ADDRESS, False),
        (Message(flags=BROADCAST), wire.EVERYBODY, True),
        (Message(ciaddr=IPv4Address("10.0.0.77")), ADDRESS, False),
        (RENEW, ADDRESS, False),
        (RENEW.change(flags=BROADCAST), ADDRESS, False),
        (selecting().change(flags=BROADCAST), wire.EVERYBODY, True),
    ],
)
def test_where_a_reply_goes(message: Message, ip_destination: IPv4Address, to_all: bool) -> None:
    reply = reply_to(message)
    assert reply.destination == ip_destination and reply.flags == message.flags
    assert reply.eth_destination == (b"\xff" * 6 if to_all else message.mac)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (Message(eth_source=b"\x02" * 6), outcomes.SPOOFED_SOURCE),
        (Message(source=IPv4Address("10.0.0.6")), outcomes.SPOOFED_SOURCE),
        (Message(chaddr=b"\x02" * 6), outcomes.DHCP_FOREIGN_CHADDR),
        (Message(giaddr=IPv4Address("10.0.0.9")), outcomes.DHCP_RELAYED),
        (Message(type=None), outcomes.DHCP_BOOTP),
        (Message(cookie=bytes(4)), outcomes.DHCP_BOOTP),
        (Message(type=None, options=((53, b""),)), outcomes.DHCP_BAD_OPTIONS),
        (Message(type=None, options=((53, b"\x01\x01"),)), outcomes.DHCP_BAD_OPTIONS),
        (Message(options=((50, b"\x0a"),)), outcomes.DHCP_BAD_OPTIONS),
        (Message(tail=b"\x0c\xff"), outcomes.DHCP_BAD_OPTIONS),
        (Message(tail=b"\x0c"), outcomes.DHCP_BAD_OPTIONS),
        (Message(options=((52, b"\x04"),)), outcomes.DHCP_BAD_OPTIONS),
        (Message(options=((52, b"\x01"),), file=b"\x0c\xff"), outcomes.DHCP_BAD_OPTIONS),
        (Message(type=wire.OFFER), outcomes.DHCP_BAD_TYPE),
        (Message(type=99), outcomes.DHCP_BAD_TYPE),
        (Message(op=2), outcomes.MALFORMED),
        (Message(htype=6), outcomes.MALFORMED),
        (Message(hlen=255), outcomes.MALFORMED),
        (Message(ports=(67, 67)), outcomes.MALFORMED),
        (Message(ports=(68, 68)), outcomes.MALFORMED),
        (Message(tail=bytes(60_000)), outcomes.MALFORMED),
    ],
)
def test_refusals_have_a_name(message: Message, expected: str) -> None:
    assert ask(message) == Answer(expected)
    assert expected in outcomes.ALL


@pytest.mark.parametrize(
    ("offset", "value", "what"),
    [
        (12, "86dd", "not IPv4"),
        (14, "65", "version 6"),
        (14, "44", "header of 16 bytes"),
        (14, "4f", "header longer than what follows"),
        (16, "ffff", "total length beyond the frame"),
        (16, "0030", "total length before the end of BOOTP"),
        (20, "2000", "first fragment"),
        (20, "0001", "later fragment"),
        (23, "06", "TCP"),
        (38, "ffff", "UDP length beyond the packet"),
        (38, "0000", "UDP length 0"),
    ],
)
def test_false_headers_are_dropped(offset: int, value: str, what: str) -> None:
    held = model.cloud()
    frame = bytearray(Message().frame())
    frame[offset : offset + len(value) // 2] = bytes.fromhex(value)
    assert answer(bytes(frame), held.ports["port-per_host"], held) == Answer(outcomes.MALFORMED), what


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(Message(tail=b""), id="no END"),
        pytest.param(Message(tail=bytes(64)), id="pad to the end"),
        pytest.param(Message(tail=b"\xff\x0c\xff\xff"), id="rubbish after END"),
        pytest.param(Message(options=((82, b"\x01\x04evil"),)), id="relay information from a VM"),
        pytest.param(Message(options=((12, b"../\xff\x00'\" "), (81, b"\xff" * 99))), id="rubbish as host name"),
        pytest.param(Message(sname=b"\xff" * 64, file=b"\xfe" * 128), id="rubbish as server and file name"),
        pytest.param(Message(ip_options=b"\x01" * 8), id="IP options"),
    ],
)
def test_odd_but_harmless_messages_are_offered(message: Message) -> None:
    reply = reply_to(message)
    assert reply.type == wire.OFFER and 82 not in reply.codes and reply.sname == b""


def test_options_may_come_in_pieces_and_in_other_fields() -> None:
    pieces = Message(options=((55, b"\x03"), (61, b"\x01"), (55, b"\x01\x1a")))
    assert reply_to(pieces).codes == [53, 54, 51, 61, 1, 3, 26, 58, 59]
    overloaded = Message(
        type=None,
        options=((52, b"\x03"), (55, b"\x1a")),
        file=b"\x35\x01\x03\x34\x01\x03\xff",
        sname=b"\x32\x04" + ADDRESS.packed + b"\x37\x01\x01\xff",
    )
    reply = reply_to(overloaded)
    assert reply.type == wire.ACK and reply.codes == [53, 54, 51, 26, 1, 58, 59]


def test_overloaded_fields_are_not_taken_from_an_earlier_message() -> None:
    held = model.cloud()
    port = held.ports["port-per_host"]
    server = DhcpServer()
    first = Message(type=None, options=((52, b"\x01"),), file=b"\x35\x01\x01\xff")
    second = first.change(file=b"\x35\x01\x03\x32\x04" + ADDRESS.packed + b"\xff")
    assert server.answer(first.frame(), port, held).outcome == outcomes.DHCP_OFFER
    assert server.answer(second.frame(), port, held).outcome == outcomes.DHCP_ACK


@pytest.mark.parametrize(
    ("mode", "server", "router"),
    [
        (GatewayMode.PER_HOST, "10.0.0.2", "10.0.0.2"),
        (GatewayMode.SHARED, "10.0.0.1", "10.0.0.1"),
        (GatewayMode.SINGLE, "10.0.0.1", "10.0.0.1"),
        (GatewayMode.EXTERNAL, "10.0.0.1", "10.0.0.1"),
        (GatewayMode.NONE, "169.254.169.253", None),
    ],
)
def test_server_and_router_by_gateway_mode(mode: GatewayMode, server: str, router: str | None) -> None:
    reply = reply_to(Message(), mode=mode)
    assert reply.option(54) == ip(server) and reply.source == IPv4Address(server)
    assert reply.option(3) == (b"" if router is None else ip(router))
    assert (3 in reply.codes) == (router is not None)


def test_each_subnet_has_its_router_mask_and_servers() -> None:
    """What is offered is the port's first address, with what belongs to the subnet of that one."""
    server = IPv4Address("10.9.0.53")
    second = model.subnet(id="s-second", cidr=IPv4Network("10.9.0.0/25"), dns_servers=(server,))
    network = model.network(subnets=(model.subnet(), second))
    addresses = (FixedIp("s-second", IPv4Address("10.9.0.7")), FixedIp("s-per_host", ADDRESS))
    gateways = tuple(NetworkAddress("net-per_host", IPv4Address(own)) for own in ("10.0.0.2", "10.9.0.2"))
    held = model.cloud((network,), (model.port(fixed_ips=addresses),), model.node(gateways=gateways))
    reply = take_apart(ask(Message(), held).frame)
    assert (reply.yiaddr, reply.source) == (IPv4Address("10.9.0.7"), IPv4Address("10.9.0.2"))
    assert (reply.option(1), reply.option(3)) == (ip("255.255.255.128"), ip("10.9.0.2"))
    assert reply.option(6) == server.packed
    other = model.cloud((network,), (model.port(fixed_ips=addresses[::-1]),), model.node(gateways=gateways))
    assert take_apart(ask(Message(), other).frame).option(3) == ip("10.0.0.2")
    # its node is no gateway there yet
    early = model.cloud((network,), (model.port(fixed_ips=addresses),), model.node(gateways=gateways[:1]))
    assert ask(Message(), early) == Answer(outcomes.NO_GATEWAY)


def test_no_answer_before_there_is_something_to_say() -> None:
    cases = [
        (model.cloud(node_=model.node(gateways=())), outcomes.NO_GATEWAY),
        (model.cloud(networks=(model.network(dhcp=False),)), outcomes.DHCP_DISABLED),
        (model.cloud(ports=(model.port(fixed_ips=()),)), outcomes.NO_ADDRESS),
        (model.cloud(ports=(model.port(fixed_ips=(FixedIp("gone", ADDRESS),)),)), outcomes.NO_ADDRESS),
        (model.cloud(ports=(model.port(binding=None),)), outcomes.UNKNOWN_OBJECT),
        (model.cloud(ports=(model.port(network_id="gone"),)), outcomes.UNKNOWN_OBJECT),
    ]
    for held, expected in cases:
        assert ask(Message(), held) == Answer(expected)


class TestTemplates:
    """What is prepared is used again, and never after what it was made from has changed."""

    @staticmethod
    def yiaddr(server: DhcpServer, port: Port, held: Snapshot) -> IPv4Address:
        return take_apart(server.answer(Message().frame(), port, held).frame).yiaddr

    def test_each_transaction_gets_its_own_id_and_checksum(self) -> None:
        held, server = model.cloud(), DhcpServer()
        for xid in (0, 1, 0xFFFF, 0x10000, 0xFFFFFFFF, 0xDEADBEEF, *range(0x51440000, 0x51450000, 977)):
            message = Message(xid=xid, flags=BROADCAST)
            assert take_apart(server.answer(message.frame(), held.ports["port-per_host"], held).frame).xid == xid

    def test_every_object_counts(self) -> None:
        held, server = model.cloud(), DhcpServer()
        port = held.ports["port-per_host"]
        assert self.yiaddr(server, port, held) == ADDRESS
        moved = replace(port, fixed_ips=(FixedIp("s-per_host", IPv4Address("10.0.0.6")),))
        assert self.yiaddr(server, moved, model.cloud(ports=(moved,))) == IPv4Address("10.0.0.6")
        other = model.node(gateways=(NetworkAddress("net-per_host", IPv4Address("10.0.0.3")),))
        frame = server.answer(Message().frame(), port, model.cloud(ports=(port,), node_=other)).frame
        assert take_apart(frame).option(3) == ip("10.0.0.3")
        short = model.cloud(networks=(model.network(lease_time=60),), ports=(port,))
        assert take_apart(server.answer(Message().frame(), port, short).frame).option(51) == b"\0\0\0\x3c"
        closed = model.cloud(networks=(model.network(dhcp=False),), ports=(port,))
        assert server.answer(Message().frame(), port, closed).outcome == outcomes.DHCP_DISABLED

    def test_what_is_kept_is_bounded(self) -> None:
        held, server = model.cloud(), DhcpServer(capacity=2)
        for mode in model.MODES:
            port = held.ports[f"port-{mode}"]
            for number in range(50):
                asked = Message(flags=number, options=((61, bytes(3)),)).frame()
                assert server.answer(asked, port, held).outcome == outcomes.DHCP_OFFER
        assert len(server._templates) == 2
        assert all(len(template.prepared) <= 8 for template in server._templates.values())


class TestSingleDefaultGateway:
    """Golden of nova-network's own tests: NW-0,3,192.168.0.1 and NW-3,3 (C5)."""

    ASKED = Message(options=((55, bytes((1, 3, 121))),))

    @classmethod
    def routers(cls, server: DhcpServer, held: Snapshot) -> dict[int, bytes]:
        """Option 3 of each port, by key."""
        answers = {port.key: server.answer(cls.ASKED.frame(), port, held).frame for port in held.ports.values()}
        return {key: take_apart(frame).option(3) for key, frame in answers.items()}

    @staticmethod
    def machine(**devices: str) -> Snapshot:
        """Ports 10 to 12 (modes per_host, shared and single) with these device ids."""
        modes = {f"p{10 + index}": mode for index, mode in enumerate(model.MODES)}
        ports = tuple(model.port(modes[name], device_id=device, project_id="a") for name, device in devices.items())
        return model.cloud(ports=ports)

    def test_only_the_first_port_of_a_machine_leads_out(self) -> None:
        held = self.machine(p10="vm", p11="vm", p12="other")
        assert self.routers(DhcpServer(single_default_gateway=True), held) == {
            10: SERVER.packed, 11: b"", 12: ip("10.0.0.1"), 13: ip("10.0.0.1"), 14: b"",
        }  # fmt: skip
        assert self.routers(DhcpServer(), held)[11] == ip("10.0.0.1")

    def test_ports_of_no_machine_are_not_of_one(self) -> None:
        routers = self.routers(DhcpServer(single_default_gateway=True), self.machine(p10="", p11=""))
        assert routers[10] and routers[11]

    def test_nor_are_those_of_two_projects(self) -> None:
        held = self.machine(p10="vm", p11="vm")
        theirs = replace(held.ports["port-per_host"], project_id="b")
        routers = self.routers(DhcpServer(single_default_gateway=True), held.apply(2, [PortChange(theirs.id, theirs)]))
        assert routers[10] and routers[11]

    def test_the_next_one_leads_out_when_the_first_is_gone(self) -> None:
        server, held = DhcpServer(single_default_gateway=True), self.machine(p10="vm", p11="vm")
        assert self.routers(server, held)[11] == b""
        assert self.routers(server, held.apply(2, [PortChange("port-per_host", None)]))[11] == ip("10.0.0.1")

    def test_routes_are_given_without_the_default_one(self) -> None:
        held = self.machine(p10="vm", p11="vm")
        routes = (HostRoute(IPv4Network("172.16.0.0/12"), IPv4Address("10.0.0.9")),)
        mode = GatewayMode.SHARED
        network = model.network(mode, subnets=(model.subnet(mode, host_routes=routes),))
        held = held.apply(2, [NetworkChange(network.id, network)])
        server = DhcpServer(single_default_gateway=True)
        reply = take_apart(server.answer(self.ASKED.frame(), held.ports["port-shared"], held).frame)
        assert reply.codes == [53, 54, 51, 1, 121, 58, 59] and reply.option(121) == bytes.fromhex("0cac100a000009")
        assert reply.option(54) == ip("10.0.0.1")  # it is still its server
