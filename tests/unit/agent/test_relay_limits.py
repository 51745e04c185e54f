"""What one VM may take of the relay, and what is asked of a controller at a time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from agent.client import Answer, ClientError
from agent.config import AgentConfig
from agent.relay.limits import Admission, Rate
from agent.relay.server import Relay, Service
from agent.relay.upstream import Away, Upstream

FINE = Answer(200, "text/plain", b"fine")
CONFIG = AgentConfig("n1", "1" * 16, ("tcp:192.0.2.1:6653",), ("http://192.0.2.1",), "t")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class FakeClient:
    """Answers by `say`, which may raise."""

    say: Callable[[str], Answer]
    wait: Callable[[str], Awaitable[object]] | None = None
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    turns: int = 0

    @property
    def url(self) -> str:
        return f"http://controller{self.turns}"

    async def ask(
        self, method: str, path: str, body: bytes | None = None, content_type: str = "", most: int | None = None
    ) -> Answer:
        self.asked.append((self.url, method, path))
        if self.wait is not None:
            await self.wait(path)
        return self.say(path)

    def next_url(self, failed: str | None = None) -> None:
        self.turns += 1

    def close(self) -> None:
        pass


def away(path: str) -> Answer:
    raise ClientError("refused")


def test_connections_are_bounded_for_each_port_and_in_all() -> None:
    admission = Admission(of_one=2, in_all=5)
    assert [admission.enter(1) for _ in range(3)] == [True, True, False]
    assert [admission.enter(2), admission.enter(2), admission.enter(3), admission.enter(4)] == [True, True, True, False]
    admission.leave(1)
    assert [admission.enter(4), admission.enter(1)] == [True, False]


def test_a_rate_lets_a_burst_pass_and_then_so_many_a_second() -> None:
    clock = Clock()
    rate = Rate(10, 3, clock)
    assert [rate.take(1, 1.0) for _ in range(4)] == [0.0, 0.0, 0.0, pytest.approx(0.1)]
    assert rate.take(2, 0.0) == 0.0, "another port has its own"
    assert rate.take(1, 0.15) is None and rate.take(1, 0.25) == pytest.approx(0.2)
    clock.now += 10
    assert [rate.take(1, 0.0) for _ in range(4)] == [0.0, 0.0, 0.0, None]
    assert Rate(0, 1).take(1, 0.0) == 0.0


def test_ports_that_ask_no_more_are_forgotten() -> None:
    clock = Clock()
    rate = Rate(1, 1, clock)
    for key in range(5000):
        rate.take(key, 1.0)
        clock.now += 0.01
    assert len(rate._buckets) < 1200


def ask(upstream: Upstream, key: int = 1, path: str = "x") -> Answer | None:
    async def one() -> Answer | None:
        try:
            return await upstream.metadata(key, "GET", path, None, "")
        except Away:
            return None

    return asyncio.run(one())


def test_the_path_is_of_the_node_and_the_port() -> None:
    client = FakeClient(lambda path: FINE)
    assert ask(Upstream(client, "/v1/nodes/n1"), 22, "latest/") == FINE
    assert client.asked == [("http://controller0", "GET", "/v1/nodes/n1/metadata/22/latest/")]


def test_another_controller_is_asked_and_then_nobody_for_a_second() -> None:
    clock, client = Clock(), FakeClient(away)
    upstream = Upstream(client, "", clock=clock)
    assert ask(upstream) is None
    assert [url for url, _, _ in client.asked] == ["http://controller0", "http://controller1"]
    clock.now += 0.9
    assert ask(upstream) is None and len(client.asked) == 2
    clock.now += 0.2
    client.say = lambda path: FINE
    assert ask(upstream) == FINE


def test_what_is_not_to_be_done_twice_is_asked_once() -> None:
    client = FakeClient(away)
    upstream = Upstream(client, "")
    with pytest.raises(Away):
        asyncio.run(upstream.metadata(1, "POST", "password", b"x", ""))
    assert len(client.asked) == 1


def test_who_takes_too_long_is_not_asked_again_and_the_others_are_asked_as_ever() -> None:
    """A VM may ask for a name that takes long to be found."""

    def slow(path: str) -> Answer:
        if "/metadata/1/" in path:
            raise ClientError("timed out", slow=True)
        return FINE

    client = FakeClient(slow)
    upstream = Upstream(client, "")
    assert ask(upstream) is None and len(client.asked) == 1
    assert ask(upstream, key=2) == FINE


def test_an_answer_that_is_too_long_is_of_one_vm_alone() -> None:
    """What its owner has given it may be as much as he likes."""

    def long(path: str) -> Answer:
        if "/metadata/1/" in path:
            raise ClientError("more than 1048576 bytes", 200)
        return FINE

    client = FakeClient(long)
    upstream = Upstream(client, "")
    assert ask(upstream) is None and len(client.asked) == 1 and client.turns == 0
    assert ask(upstream, key=2) == FINE


def test_a_token_that_is_not_known_is_not_the_vms_business() -> None:
    assert ask(Upstream(FakeClient(lambda path: Answer(401, "", b"who are you")), "")) is None


def test_one_port_that_asks_a_lot_does_not_keep_others_waiting() -> None:
    """Of its many requests two are under way, and the others' go first."""

    async def scenario() -> None:
        let_go = asyncio.Event()

        async def slow(path: str) -> None:
            if "/metadata/1/" in path:
                await let_go.wait()

        client = FakeClient(lambda path: FINE, slow)
        upstream = Upstream(client, "")
        greedy = [asyncio.create_task(upstream.metadata(1, "GET", "x", None, "")) for _ in range(80)]
        await asyncio.sleep(0)
        others = [upstream.metadata(key, "GET", "x", None, "") for key in range(2, 50)]
        try:
            assert await asyncio.wait_for(asyncio.gather(*others), 5) == [FINE] * 48
            assert sum("/metadata/1/" in path for _, _, path in client.asked) == 2
        finally:
            let_go.set()
            await asyncio.gather(*greedy)

    asyncio.run(scenario())


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_who_has_no_carrier_address_is_not_talked_to(address: str) -> None:
    """Nothing but the flows can give one."""
    relay = Relay(CONFIG, FakeClient(lambda path: FINE))
    relay.start()
    try:
        listening = socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        relay.listen({Service.METADATA: listening})
        there = (address, listening.getsockname()[1])
        with pytest.raises(ConnectionResetError), socket.create_connection(there, 5) as connection:
            connection.recv(1)
    finally:
        relay.stop()
